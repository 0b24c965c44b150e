"""Kernels of convolutions: the output, with what follows it, and both gradients.

Inputs are batch x channels x rows x columns, weights filters x channels of a group x rows x columns. A convolution of
one axis is one of two axes with a single row. See `convolution_product` for how output and input gradient are computed,
and `convolution_weights` for the gradient of the weights.
"""

from __future__ import annotations

from ..kernels import Kernel
from ..nests import Access
from .convolution_code import float_dtype
from .convolution_geometry import Convolution, Tap, parts_of
from .convolution_pointwise import is_pointwise, pointwise_product
from .convolution_product import After, Correlation, along_parts, correlation_kernel, stored
from .machine import Machine
from .products import product_kernel


def convolution_kernel(shape: Convolution, after: After | None, machine: Machine) -> Kernel:
    """Return the kernel of a convolution. Operands: input, weights, output, or what `after` says."""
    dtype = float_dtype(shape.dtype)
    taps = shape.taps
    rows, columns = shape.out
    size = rows * columns
    target = Access(2, 0, (shape.filters * size, size, columns, 1))
    after = after or stored(target, 3, dtype)
    if is_pointwise(shape):
        product = pointwise_product("convolution", shape, after, transpose=False)
        if product:
            return product_kernel(product, machine)
    grid, fold = shape.grid
    parts = along_parts(after, grid[1]) if fold else None
    if parts is None:
        grid, fold = shape.out, 0
    part = Correlation(
        taps,
        shape.batch,
        shape.groups,
        shape.depth,
        shape.breadth,
        shape.image,
        shape.stride,
        grid,
        (shape.breadth * shape.depth * len(taps), shape.depth * len(taps), len(taps)),
        parts or after,
        fold,
    )
    return correlation_kernel("convolution", [part], dtype, machine, shape.flops)


def input_gradient_kernel(shape: Convolution, machine: Machine) -> Kernel:
    """Return the kernel of a convolution's gradient by its input. Operands: output's cotangent, weights, gradient.

    Input elements whose places leave the same remainders by the strides meet the same taps: for them the gradient is a
    correlation of the cotangent, without strides.
    """
    dtype = float_dtype(shape.dtype)
    count = shape.window[0] * shape.window[1]
    rows, columns = shape.image
    if shape.is_line and shape.stride == (1, 1) and parts_of(shape.image) != shape.image:
        return correlation_kernel("convolution_input", [_line_gradient(shape)], dtype, machine, shape.flops)
    if is_pointwise(shape):
        target = Access(2, 0, (shape.channels * rows * columns, rows * columns, columns, 1))
        after = stored(target, 3, dtype)
        product = pointwise_product("convolution_input", shape, after, transpose=True)
        if product:
            return product_kernel(product, machine)
    parts = []
    for row_phase in range(min(shape.stride[0], rows)):
        for column_phase in range(min(shape.stride[1], columns)):
            strides = (shape.channels * rows * columns, rows * columns, shape.stride[0] * columns, shape.stride[1])
            part = Correlation(
                _phase_taps(shape, row_phase, column_phase),
                shape.batch,
                shape.groups,
                shape.breadth,
                shape.depth,
                shape.out,
                (1, 1),
                (-(-(rows - row_phase) // shape.stride[0]), -(-(columns - column_phase) // shape.stride[1])),
                (shape.breadth * shape.depth * count, count, shape.depth * count),
                stored(Access(2, row_phase * columns + column_phase, strides), 3, dtype),
                0,
                column_phase + 1 if shape.stride[1] == 2 <= columns else 0,
                columns,
            )
            parts.append(part)
    return correlation_kernel("convolution_input", parts, dtype, machine, shape.flops)


def _line_gradient(shape: Convolution) -> Correlation:
    """Return the gradient of a single long row, in parts."""
    count, length = shape.window[1], shape.image[1]
    grid = parts_of(shape.image)
    target = Access(2, 0, (shape.channels * length, length, grid[1], 1))
    return Correlation(
        _phase_taps(shape, 0, 0),
        shape.batch,
        shape.groups,
        shape.breadth,
        shape.depth,
        shape.out,
        (1, 1),
        grid,
        (shape.breadth * shape.depth * count, count, shape.depth * count),
        stored(target, 3, shape.dtype),
        grid[1],
    )


def _phase_taps(shape: Convolution, row_phase: int, column_phase: int) -> tuple[Tap, ...]:
    """Return where the input elements of a phase find the cotangents that they contributed to."""
    taps = []
    for tap in shape.taps:
        row, column = row_phase - tap.row, column_phase - tap.column
        if row % shape.stride[0] == 0 and column % shape.stride[1] == 0:
            taps.append(Tap(row // shape.stride[0], column // shape.stride[1], tap.weight))
    return tuple(taps)
