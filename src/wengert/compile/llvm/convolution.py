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
from .convolution_rounding import (
    packing_kernel,
    rounds_input_gradient,
    rounds_output,
    with_packed_weights,
)
from .machine import Machine
from .products import product_kernel


def convolution_kernel(shape: Convolution, after: After | None, machine: Machine) -> Kernel:
    """Return the kernel of a convolution.

    Operands: input, weights (packed, if it rounds), output, or what `after` says.
    """
    dtype = float_dtype(shape.dtype)
    after = after or _plain(shape)
    if is_pointwise(shape):
        product = pointwise_product("convolution", shape, after, transpose=False)
        if product:
            return product_kernel(product, machine)
    parts, name = [_correlation(shape, after)], "convolution"
    if rounds_output(shape):
        parts, name = with_packed_weights(parts, machine), "convolution_bfloat16"
    return correlation_kernel(name, parts, dtype, machine, shape.flops)


def packing_of_output(shape: Convolution, machine: Machine) -> Kernel:
    """Return the kernel that packs a convolution's weights for `convolution_kernel`. Operands: weights, packed."""
    return packing_kernel([_correlation(shape, _plain(shape))], machine)


def _plain(shape: Convolution) -> After:
    rows, columns = shape.out
    size = rows * columns
    return stored(Access(2, 0, (shape.filters * size, size, columns, 1)), 3, shape.dtype)


def _correlation(shape: Convolution, after: After) -> Correlation:
    taps = shape.taps
    grid, fold = shape.grid
    parts = along_parts(after, grid[1]) if fold else None
    if parts is None:
        grid, fold = shape.out, 0
    return Correlation(
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


def input_gradient_kernel(shape: Convolution, machine: Machine) -> Kernel:
    """Return the kernel of a convolution's gradient by its input.

    Operands: output's cotangent, weights (packed, if it rounds), gradient. Input elements whose places leave the same
    remainders by the strides meet the same taps: for them it is a correlation of the cotangent, without strides.
    """
    dtype = float_dtype(shape.dtype)
    rows, columns = shape.image
    if is_pointwise(shape) and not _is_long_line(shape):
        target = Access(2, 0, (shape.channels * rows * columns, rows * columns, columns, 1))
        after = stored(target, 3, dtype)
        product = pointwise_product("convolution_input", shape, after, transpose=True)
        if product:
            return product_kernel(product, machine)
    parts, name = _gradient_parts(shape), "convolution_input"
    if rounds_input_gradient(shape):
        parts, name = with_packed_weights(parts, machine), "convolution_input_bfloat16"
    return correlation_kernel(name, parts, dtype, machine, shape.flops)


def packing_of_input_gradient(shape: Convolution, machine: Machine) -> Kernel:
    """Return the kernel that packs a convolution's weights for `input_gradient_kernel`. Operands: weights, packed."""
    return packing_kernel(_gradient_parts(shape), machine)


def _is_long_line(shape: Convolution) -> bool:
    return shape.is_line and shape.stride == (1, 1) and parts_of(shape.image) != shape.image


def _gradient_parts(shape: Convolution) -> list[Correlation]:
    if _is_long_line(shape):
        return [_line_gradient(shape)]
    dtype, parts = shape.dtype, []
    count = shape.window[0] * shape.window[1]
    rows, columns = shape.image
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
    return parts


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
