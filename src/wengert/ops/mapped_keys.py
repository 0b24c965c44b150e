"""Indexing by positions that differ from example to example under `vmap`: `x[i]` where i is mapped.

A key of static parts is a parameter of an operation. Mapped positions have to be an argument: they are turned into
positions along one axis, for `take` to read and `put_along_axis` to write.
"""

# Parts of a key may be anything.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import builtins
from functools import partial
from math import prod
from typing import Any

import numpy as np

from ..core import boxing, capturing
from ..core.tracing import is_tracer
from ..typing import Shape

_ALL = builtins.slice(None)


def holds_mapped(key: Any) -> bool:
    """Return whether a key has a part that a transform follows and that stands for several values."""
    parts: tuple[Any, ...] = key if type(key) is tuple else (key,)
    if capturing.engaged:
        for part in parts:
            if isinstance(part, boxing.Tensor):
                capturing.bring(part)
    return any([is_tracer(part) and part._state.varies for part in parts])


def _spelled_out(key: Any, ndim: int) -> list[Any]:
    """Return the parts of a key without an Ellipsis, one for each axis (and None for each new one)."""
    parts: list[Any] = list(key) if isinstance(key, tuple) else [key]
    for part in parts:
        if getattr(part, "dtype", None) == np.bool_ and capturing.engaged and capturing.current() is not None:
            raise IndexError(
                "a mask of values that are known only when a compiled function runs cannot be a key: the shape of the "
                "result would depend on them. Use wg.where, or index outside of the compiled function"
            )
        if getattr(part, "dtype", None) == np.bool_ or isinstance(part, (bool, list)):
            raise IndexError(
                "a key with positions that differ from example to example under vmap may hold integers, slices, None, "
                "Ellipsis and integer Tensors, but no lists and no masks: a mask would give examples of different "
                "shapes. Use wg.where, or wg.take_along_axis"
            )
    named = builtins.sum([part is not None and part is not Ellipsis for part in parts])
    if named > ndim:
        raise IndexError(f"too many indices: {named} for an array of {ndim} axes")
    ellipses = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index can only have a single Ellipsis")
    place = ellipses[0] if ellipses else len(parts)
    return parts[:place] + [_ALL] * (ndim - named) + parts[place + 1 :]


def _is_advanced(part: Any) -> bool:
    return part is not None and not isinstance(part, builtins.slice)


def read(x: Any, key: Any) -> Any:
    """Read `x[key]`, where positions are mapped, with NumPy's rules."""
    xp = boxing.operations
    parts = _spelled_out(key, x.ndim)
    basic = x[tuple([_ALL if _is_advanced(part) else part for part in parts])]
    # After the basic part every remaining part stands for one axis of the result.
    places = [i for i, part in enumerate(parts) if _is_advanced(part)]
    extents = [basic.shape[i] for i in places]
    positions = _joint_positions([xp.asarray(parts[i]) for i in places], extents)
    front = xp.moveaxis(basic, tuple(places), tuple(builtins.range(len(places))))
    rest = front.shape[len(places) :]
    taken = xp.take(xp.reshape(front, (prod(extents), *rest)), positions, axis=0)
    adjacent = places == list(builtins.range(places[0], places[0] + len(places)))
    if not adjacent or not positions.ndim or not places[0]:
        return taken
    index_axes = tuple(builtins.range(positions.ndim))
    return xp.moveaxis(taken, index_axes, tuple([places[0] + i for i in index_axes]))


def _joint_positions(indices: list[Any], extents: list[int]) -> Any:
    """Return positions along the joined axes for positions along each of them."""
    xp = boxing.operations
    joint: Any = None
    for index, extent in zip(indices, extents):
        if index.dtype.kind not in "iu":
            raise IndexError(f"an index must hold integers, not {index.dtype}")
        capturing.examine(index, partial(_check_range, extent))
        forward = xp.where(xp.less(index, 0), index + extent, index)
        joint = forward if joint is None else joint * extent + forward
    return joint


def _check_range(extent: int, raw: Any) -> None:
    if raw.size and (raw.min() < -extent or raw.max() >= extent):
        raise IndexError(
            f"positions from {raw.min()} to {raw.max()} are out of bounds for an axis with {extent} elements"
        )


def write(x: Any, key: Any, value: Any) -> Any:
    """Return `x` with `value` written at `x[key]`, where positions are mapped; the last write to a position wins."""
    xp = boxing.operations
    shape: Shape = x.shape
    everywhere = boxing.box(np.arange(prod(shape)).reshape(shape))
    positions = read(everywhere, key)
    written = xp.broadcast_to(xp.astype(xp.asarray(value), x.dtype, copy=False), positions.shape)
    flat = xp.put_along_axis(xp.reshape(x, (-1,)), xp.reshape(positions, (-1,)), xp.reshape(written, (-1,)), axis=0)
    return xp.reshape(flat, shape)


__all__ = ["holds_mapped", "read", "write"]
