"""From the library's primitives of convolution and pooling to kernels: which ones, on which operands.

All operands are contiguous. Primitives of one axis are those of two axes with a single row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...typing import Shape
from ..kernels import Kernel
from ..nests import Access, Counter
from ..scalar_ir import DType
from .convolution import convolution_kernel, input_gradient_kernel, packing_of_input_gradient, packing_of_output
from .convolution_geometry import Convolution, Pair
from .convolution_product import After
from .convolution_rounding import packed_length, rounds_input_gradient, rounds_output
from .convolution_weights import total_kernel, weight_gradient_kernel
from .convolution_weights_plan import weight_chunks
from .machine import Machine
from .pooling import (
    Pooling,
    max_pool_kernel,
    max_pool_take_kernel,
    max_pool_transpose_kernel,
    sum_pool_kernel,
    sum_pool_transpose_kernel,
)
from .recipes import Recipe

POOLING: dict[str, Callable[[Pooling, Machine], Kernel]] = {
    "max_pool": max_pool_kernel,
    "max_pool_transpose": max_pool_transpose_kernel,
    "max_pool_take": max_pool_take_kernel,
    "sum_pool": sum_pool_kernel,
    "sum_pool_transpose": sum_pool_transpose_kernel,
}


class Steps(NamedTuple):
    """Kernels to run one after the other.

    Attributes:
        recipes: what to run.
        operands: which operands each has: places among the primitive's inputs, its output, and then the temporary.
        temporary: elements of memory, of the output's dtype, that the kernels share beyond these; 0 for none.
    """

    recipes: tuple[Recipe, ...]
    operands: tuple[tuple[int, ...], ...]
    temporary: int = 0


def steps_for(
    name: str, shapes: Sequence[Shape], dtype: DType, params: Mapping[str, Any], narrow: bool = False
) -> Steps | None:
    """Return what computes a primitive; None if there are no kernels for it.

    Args:
        name: of the primitive.
        shapes: of its inputs.
        dtype: of its inputs and its output.
        params: its static parameters.
        narrow: whether factors are rounded to bfloat16 where that is worth it.
    """
    rank = len(shapes[0]) - 2
    if dtype.kind != "f" or dtype.itemsize not in (4, 8) or rank not in (1, 2):
        return None
    if 0 in [extent for shape in shapes for extent in shape] or 0 in params.get("extents", ()):
        return None
    if name == "convolve":
        shape = _convolution(shapes[0], shapes[1], dtype, params)._replace(narrow=narrow)
        made = Recipe(convolution_kernel, (shape, None))
        return _packed(packing_of_output, made, shape) if rounds_output(shape) else Steps((made,), ((0, 1, 2),))
    if name == "convolve_transpose_x":
        images = (shapes[0][0], shapes[1][1] * params["groups"], *params["extents"])
        shape = _convolution(images, shapes[1], dtype, params)._replace(narrow=narrow)
        made = Recipe(input_gradient_kernel, (shape,))
        rounds = rounds_input_gradient(shape)
        return _packed(packing_of_input_gradient, made, shape) if rounds else Steps((made,), ((0, 1, 2),))
    if name == "convolve_transpose_weight":
        kernels = (shapes[0][1], shapes[1][1] // params["groups"], *params["kernel"])
        return _weight_steps(_convolution(shapes[1], kernels, dtype, params)._replace(narrow=narrow))
    if name not in POOLING:
        return None
    images = shapes[-1]
    extents = params["extents"] if name == "sum_pool_transpose" else images[2:]
    pooling = Pooling(
        images[0] * images[1],
        _pair(extents, 1),
        _pair(params["window"], 1),
        _pair(params["stride"], 1),
        _padding(params["padding"]),
        _pair(params["dilation"], 1),
        dtype,
    )
    return Steps((Recipe(POOLING[name], (pooling,)),), (tuple(range(len(shapes) + 1)),))


def _packed(packing: Callable[..., Kernel], made: Recipe, shape: Convolution) -> Steps:
    """Return the steps of a convolution by weights that are packed before."""
    return Steps((Recipe(packing, (shape,)), made), ((1, 3), (0, 3, 2)), packed_length(shape))


def fused_convolution(
    shapes: Sequence[Shape], dtype: DType, params: Mapping[str, Any], after: After, narrow: bool = False
) -> Recipe:
    """Return the kernel of `convolve` and of what is done with its elements before they are stored.

    If there is another step before in `steps_for`, it takes what that makes in place of the weights.

    Args:
        shapes, dtype, params, narrow: as for `steps_for`, which must have steps for them.
        after: what is done; its accesses have strides for each axis of the convolution's output.
    """
    shape = _convolution(shapes[0], shapes[1], dtype, params)._replace(narrow=narrow)
    if len(shapes[0]) == 3:
        inputs = {name: _with_row(source) for name, source in after.inputs.items()}
        stores = [store._replace(target=_with_row(store.target)) for store in after.stores]
        after = after._replace(inputs=inputs, stores=tuple(stores))
    return Recipe(convolution_kernel, (shape, after))


def _with_row(source: Any) -> Any:
    """Return the same for an output with an axis for the single row."""
    if isinstance(source, Counter):
        return Counter(source.axis + (source.axis > 1))
    assert isinstance(source, Access)
    return source._replace(strides=(*source.strides[:2], 0, *source.strides[2:]))


def _weight_steps(shape: Convolution) -> Steps:
    size, chunks = shape.filters * shape.depth * shape.window[0] * shape.window[1], weight_chunks(shape)
    first = Recipe(weight_gradient_kernel, (shape,))
    if chunks == 1:
        return Steps((first,), ((1, 0, 2),))
    total = Recipe(total_kernel, (size, chunks, shape.dtype))
    return Steps((first, total), ((1, 0, 3), (3, 2)), chunks * size)


def _convolution(images: Shape, kernels: Shape, dtype: DType, params: Mapping[str, Any]) -> Convolution:
    return Convolution(
        images[0],
        images[1],
        _pair(images[2:], 1),
        kernels[0],
        _pair(kernels[2:], 1),
        _pair(params["stride"], 1),
        _padding(params["padding"]),
        _pair(params["dilation"], 1),
        params["groups"],
        dtype,
    )


def _pair(numbers: Sequence[int], first: int) -> Pair:
    """Return numbers for two axes; for one axis, with a first one for the single row."""
    return (first, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _padding(widths: Sequence[tuple[int, int]]) -> tuple[Pair, Pair]:
    return ((0, 0), widths[0]) if len(widths) == 1 else (widths[0], widths[1])
