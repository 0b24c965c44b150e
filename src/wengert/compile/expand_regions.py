"""Expansion of regions with gaps: what `x[::2]` pulls back to, and what is written there."""

from __future__ import annotations

from typing import Any

import numpy as np

from .expand_builder import Builder
from .graph import Value
from .lower_regions import Region, region_of

MOST_MASKED = 1 << 20
"""Up to so many elements, which of them a write leaves alone is kept as a constant."""


def has_gaps(region: Region) -> bool:
    """Whether a region skips elements along some axis."""
    pairs = zip(region.steps, region.axes)
    return any([axis is not None and abs(step) > 1 and region.shape[axis] > 1 for step, axis in pairs])


def embed(b: Builder, x: Value, *, shape: tuple[int, ...], key: Any) -> Value | None:
    """Spread an array out along each axis with gaps, zeros between its elements, and put the result in its place."""
    region = region_of(key, shape)
    if region is None or not has_gaps(region) or x.shape != region.shape or not x.size:
        return None
    parts: list[Any] = []
    for start, step, axis in zip(region.starts, region.steps, region.axes):
        if axis is None:
            parts.append(start)
            continue
        count = region.shape[axis]
        if step < 0:
            x = b.call("reverse", x, axis=(axis,))
            start += step * (count - 1)
        if abs(step) > 1 and count > 1:
            x = _spread(b, x, axis, abs(step))
        parts.append(slice(start, start + x.shape[axis]))
    # What is None in the key is an axis of one element, which the region has and the whole has not.
    kept = [axis for axis in region.axes if axis is not None]
    x = b.reshape(x, tuple([x.shape[axis] for axis in kept]))
    return b.call("embed", x, shape=shape, key=tuple(parts))


def _spread(b: Builder, x: Value, axis: int, step: int) -> Value:
    """Put zeros between neighbours along an axis."""
    count = x.shape[axis]
    room = b.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
    widths = tuple([(0, step - 1 if i == axis + 1 else 0) for i in range(len(room.shape))])
    wide = b.reshape(
        b.call("pad_constant", room, 0, widths=widths), (*x.shape[:axis], count * step, *x.shape[axis + 1 :])
    )
    key = (*(slice(None),) * axis, slice(0, (count - 1) * step + 1))
    return b.call("index", wide, key=key)


def write_region(b: Builder, x: Value, value: Any, *, steps: Any, key: Any) -> Value | None:
    """Choose, by a mask, between what is there and what is written."""
    region = None if steps or not isinstance(x, Value) else region_of(key, x.shape)
    if region is None or not has_gaps(region) or x.size > MOST_MASKED or not isinstance(value, Value):
        return None
    if len(value.shape) > len(region.shape):
        return None
    written = b.cast(value, x.dtype)
    if value.shape != region.shape:
        written = b.call("stretch", written, shape=region.shape)
    placed = embed(b, written, shape=x.shape, key=key)
    if placed is None:
        return None
    mask = np.zeros(x.shape, np.bool_)
    mask[key] = True
    return b.call("where", Value(mask.shape, mask.dtype, mask), placed, x)
