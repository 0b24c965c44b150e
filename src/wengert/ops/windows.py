"""What convolution and pooling share: how users write windows, made canonical, and the errors where they do not fit.

Canonical are tuples with an entry for each axis that windows move along; paddings are pairs (before, after).
"""

# What users write is Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import DTypeError, ShapeError
from ..typing import Array, Namespace, Shape
from .shaping import expand_dims, reshape

Widths = tuple[tuple[int, int], ...]


class Geometry(NamedTuple):
    """Where windows are put to: extents of a window, and how they move."""

    window: Shape
    stride: Shape
    padding: Widths
    dilation: Shape

    def moves(self) -> dict[str, Any]:
        """Return all but the window, as static parameters."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}


def per_axis(value: Any, rank: int, name: str, what: str, least: int = 1) -> Shape:
    """Return a number for each axis, given one number or a sequence of them.

    Raises:
        ShapeError: it is neither, or a number is too small.
    """
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    try:
        numbers = tuple([operator.index(n) for n in given])
    except TypeError:
        numbers = ()
    if len(numbers) != rank or min(numbers) < least:
        raise ShapeError(
            f"{name}: {what} is an integer of {least} or more, or {_sequence_of(rank)} of such, not {value!r}"
        )
    return numbers


def _sequence_of(rank: int) -> str:
    return "a sequence of one" if rank == 1 else f"a tuple of {rank}"


def widths(value: Any, rank: int, geometry: Geometry, name: str) -> Widths:
    """Return pairs of widths for each axis, given "same", "valid", a number, a number or a pair for each axis.

    Raises:
        ShapeError: it is none of them, or "same" does not go with the stride.
    """
    if isinstance(value, str):
        if value == "valid":
            return ((0, 0),) * rank
        if value != "same":
            raise ShapeError(f'{name}: padding is "same", "valid", a number, or one for each axis, not {value!r}')
        if max(geometry.stride) > 1:
            raise ShapeError(
                f'{name}: padding "same" keeps the extents, which a stride of {geometry.stride} does not; give the '
                "padding in numbers"
            )
        totals = [d * (k - 1) for d, k in zip(geometry.dilation, geometry.window)]
        return tuple([(total // 2, total - total // 2) for total in totals])
    if isinstance(value, (tuple, list)) and any([isinstance(v, (tuple, list)) for v in value]):
        pairs = [per_axis(v, 2, name, "a pair of paddings", least=0) for v in value]
        if len(pairs) != rank:
            raise ShapeError(f"{name}: padding {value!r} has {len(pairs)} pairs, and windows move along {rank} axes")
        return tuple([(low, high) for low, high in pairs])
    return tuple([(n, n) for n in per_axis(value, rank, name, "padding", least=0)])


def geometry_of(window: Shape, stride: Any, padding: Any, dilation: Any, name: str) -> Geometry:
    """Return how windows move, in canonical form.

    Raises:
        ShapeError: a setting is not one for the axes that windows move along.
    """
    rank = len(window)
    bare = Geometry(window, per_axis(stride, rank, name, "stride"), (), per_axis(dilation, rank, name, "dilation"))
    return bare._replace(padding=widths(padding, rank, bare, name))


def demand_places(extents: Shape, geometry: Geometry, name: str) -> None:
    """Refuse windows that are larger than the image with its border.

    Raises:
        ShapeError: naming both.
    """
    reach = tuple([d * (k - 1) + 1 for d, k in zip(geometry.dilation, geometry.window)])
    padded = tuple([n + low + high for n, (low, high) in zip(extents, geometry.padding)])
    if any([r > n for r, n in zip(reach, padded)]):
        spread = f" (of {geometry.window}, with dilation {geometry.dilation})" if reach != geometry.window else ""
        border = f" (of {extents}, with padding {geometry.padding})" if padded != extents else ""
        raise ShapeError(
            f"{name}: windows of {reach}{spread} are larger than the image of {padded}{border}; use smaller windows or "
            "more padding"
        )


def places_of(extents: Shape, window: Shape, moves: Mapping[str, Any]) -> Shape:
    """Return how many places a window is put to along each axis."""
    strides, paddings, dilations = moves["stride"], moves["padding"], moves["dilation"]
    return tuple(
        [
            (extent + low + high - dilation * (size - 1) - 1) // stride + 1
            for extent, size, stride, (low, high), dilation in zip(extents, window, strides, paddings, dilations)
        ]
    )


def batch_of_images(x: Any, rank: int, name: str) -> tuple[Any, bool]:
    """Return images as (count, channels, *extents), and whether there was one alone, without the first axis.

    Raises:
        ShapeError: the array has another number of axes.
    """
    if x.ndim == rank + 2:
        return x, False
    if x.ndim == rank + 1:
        return expand_dims(x, 0), True
    axes = ("length", "height, width", "depth, height, width")[rank - 1]
    raise ShapeError(
        f"{name}: x has shape {x.shape}; it must have {rank + 2} axes (count, channels, {axes}), or {rank + 1} for one "
        "image alone"
    )


def without_count(out: Any, single: bool) -> Any:
    """Undo what `batch_of_images` did."""
    return reshape(out, out.shape[1:]) if single else out


def demand_numbers(x: Any, name: str, kinds: str = "iufc") -> Any:
    """Refuse booleans, and other kinds of numbers than those named.

    Raises:
        DTypeError: naming the dtype.
    """
    if x.dtype.kind not in kinds:
        raise DTypeError(f"{name}: cannot be computed on dtype {x.dtype}")
    return x


def pooling_geometry(
    extents: Shape, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, name: str
) -> Geometry:
    """Return how windows move, with more padding behind where a last, incomplete window counts too.

    Raises:
        ShapeError: the windows do not fit.
    """
    window = per_axis(kernel, len(extents), name, "kernel_size")
    geometry = geometry_of(window, kernel if stride is None else stride, padding, dilation, name)
    if any([2 * n > k for k, pair in zip(window, geometry.padding) for n in pair]) and padding != "same":
        raise ShapeError(
            f"{name}: padding {geometry.padding} is more than half of the windows of {window}, so that some would lie "
            "in it altogether; use less padding"
        )
    if ceil_mode:
        geometry = _with_incomplete(extents, geometry)
    demand_places(extents, geometry, name)
    return geometry


def _with_incomplete(extents: Shape, geometry: Geometry) -> Geometry:
    """Add so much padding behind that a last window which is not complete has room."""
    wider: list[tuple[int, int]] = []
    for n, k, s, (low, high), d in zip(extents, geometry.window, geometry.stride, geometry.padding, geometry.dilation):
        free = n + low + high - d * (k - 1) - 1
        places = -(-free // s) + 1
        if (places - 1) * s >= n + low:  # the window would begin behind the array
            places -= 1
        wider.append((low, high + max(0, (places - 1) * s - free)))
    return geometry._replace(padding=tuple(wider))


def join_count(xp: Namespace, x: Array) -> Array:
    """Make one axis of the mapped axis and the count behind it."""
    return xp.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def split_count(xp: Namespace, out: Array, size: int, count: int) -> Array:
    """Undo `join_count`."""
    return xp.reshape(out, (size, count, *out.shape[1:]))
