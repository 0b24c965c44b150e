"""What basic keys select: regions of arrays, with a start and a step along each axis."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np


class Region(NamedTuple):
    """What a basic key selects: for each axis of the source, a start, a step, and the axis of the result (or None)."""

    starts: tuple[int, ...]
    steps: tuple[int, ...]
    axes: tuple[int | None, ...]
    shape: tuple[int, ...]


def region_of(key: Any, shape: tuple[int, ...]) -> Region | None:
    """Return the region that a key of integers, slices, Ellipsis and None selects, or None if it holds arrays."""
    spelled: list[Any] = []
    for part in key:
        if type(part) is slice:
            spelled.append((part.start, part.stop, part.step))
        elif isinstance(part, (np.ndarray, list, tuple, bool, np.bool_)):
            return None
        else:
            spelled.append(part)
    return _selected(tuple(spelled), shape)


@lru_cache(4096)
def _selected(spelled: tuple[Any, ...], shape: tuple[int, ...]) -> Region:
    """Return the region of a key whose slices are spelled as tuples, which can be looked up."""
    parts = [slice(*part) if type(part) is tuple else part for part in spelled]
    taken = sum([part is not None and part is not Ellipsis for part in parts])
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    starts: list[int] = []
    steps: list[int] = []
    axes: list[int | None] = []
    out: list[int] = []
    for part in parts:
        if part is None:
            out.append(1)
            continue
        selected = [slice(None)] * (len(shape) - taken) if part is Ellipsis else [part]
        for one in selected:
            extent = shape[len(starts)]
            if isinstance(one, slice):
                start, stop, step = one.indices(extent)
                axes.append(len(out))
                out.append(len(range(start, stop, step)))
            else:
                start, step = int(one) % extent if extent else 0, 1
                axes.append(None)
            starts.append(start)
            steps.append(step)
    return Region(tuple(starts), tuple(steps), tuple(axes), tuple(out))
