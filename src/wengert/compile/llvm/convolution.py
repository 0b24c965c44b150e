"""Kernels of convolutions: the output, with what follows it, and both gradients.

Inputs are batch x channels x rows x columns, weights filters x channels of a group x rows x columns. A convolution of
one axis is one of two axes with a single row. See `convolution_product` for how output and input gradient are computed,
and `convolution_weights` for the gradient of the weights.
"""

from __future__ import annotations

from ..kernels import Kernel
from .convolution_code import Code, float_dtype
from .convolution_geometry import Convolution, Tap, window_taps
from .convolution_product import Correlation, Epilogue, correlation_kernel
from .machine import Machine


def convolution_kernel(shape: Convolution, machine: Machine, epilogue: Epilogue | None = None) -> Kernel:
    """Return the kernel of a convolution. Operands: input, weights, what the epilogue needs, output."""
    taps = window_taps(shape)
    part = Correlation(
        taps,
        shape.batch,
        shape.groups,
        shape.depth,
        shape.breadth,
        shape.image,
        shape.stride,
        shape.out,
        (shape.breadth * shape.depth * len(taps), shape.depth * len(taps), len(taps)),
        shape.out,
        (0, 0),
        (1, 1),
    )
    return correlation_kernel("convolution", (part,), Code(float_dtype(shape.dtype), machine), shape.flops, epilogue)


def input_gradient_kernel(shape: Convolution, machine: Machine) -> Kernel:
    """Return the kernel of a convolution's gradient by its input. Operands: output's cotangent, weights, gradient.

    Input elements whose places leave the same remainders by the strides meet the same taps: for them the gradient is a
    correlation of the cotangent, without strides.
    """
    parts = []
    taps_count = shape.window[0] * shape.window[1]
    for row_phase in range(min(shape.stride[0], shape.image[0])):
        for column_phase in range(min(shape.stride[1], shape.image[1])):
            first = (row_phase, column_phase)
            grid = [-(-(extent - phase) // step) for extent, phase, step in zip(shape.image, first, shape.stride)]
            part = Correlation(
                _phase_taps(shape, row_phase, column_phase),
                shape.batch,
                shape.groups,
                shape.breadth,
                shape.depth,
                shape.out,
                (1, 1),
                (grid[0], grid[1]),
                (shape.breadth * shape.depth * taps_count, taps_count, shape.depth * taps_count),
                shape.image,
                first,
                shape.stride,
            )
            parts.append(part)
    code = Code(float_dtype(shape.dtype), machine)
    return correlation_kernel("convolution_input", tuple(parts), code, shape.flops)


def _phase_taps(shape: Convolution, row_phase: int, column_phase: int) -> tuple[Tap, ...]:
    """Return where the input elements of a phase find the cotangents that they contributed to."""
    taps = []
    for tap in window_taps(shape):
        row, column = row_phase - tap.row, column_phase - tap.column
        if row % shape.stride[0] == 0 and column % shape.stride[1] == 0:
            taps.append(Tap(row // shape.stride[0], column // shape.stride[1], tap.weight))
    return tuple(taps)
