"""Changing the values of leaves off the tape: how optimisers write parameters, and layers their running statistics."""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from sys import getrefcount
from typing import Any

import numpy as np

from ..errors import GradientError
from . import boxing, capturing
from .aliasing import _UNSHARED as UNSHARED
from .aliasing import family, lead_views, make_writable, record_write
from .recording import set_recording
from .tape import Leaf, location
from .tracing import is_tracer


def update_buffers(tensors: Sequence[Any], update: Callable[[list[np.ndarray]], None]) -> None:
    """Let `update(arrays)` change the values of leaves and untracked Tensors in place, off the tape.

    The arrays are writable and private while `update` runs: what the tape keeps stays as it was, and views follow.
    The Tensors must be distinct. All are made ready before the first is written, so that running out of memory changes
    nothing.

    Raises:
        GradientError: a Tensor was computed from something tracked; nothing is changed.
    """
    if capturing.engaged and (capture := capturing.current()) is not None:
        capture.update(tensors, update)
        return
    arrays: list[np.ndarray] = []
    closing: list[Callable[[], None]] = []
    for tensor in tensors:
        # What an optimiser meets in every step, in line: a buffer without views, which nobody else holds.
        if (
            type(tensor) is boxing.Tensor
            and getattr(tensor, "_alias", None) is None
            and getrefcount(tensor._data) == UNSHARED
        ):
            data, node = tensor._data, tensor._node
            if (
                (node is None or type(node) is Leaf)
                and type(data) is np.ndarray
                and data.base is None
                and data.flags.writeable
            ):
                arrays.append(data)
                continue
        array, close = open_buffer(tensor)
        arrays.append(array)
        closing.append(close)
    try:
        update(arrays)
    finally:
        for close in closing:
            close()


def open_buffer(tensor: Any) -> tuple[np.ndarray, Callable[[], None]]:
    """Return an array that may be written in place of the Tensor's, and what to call afterwards."""
    if is_tracer(tensor):
        trace = tensor._state.trace
        raise GradientError(
            f"a Tensor that {trace.name}({trace.described}) follows has no memory that could be changed off the tape, "
            "as optimisers and running statistics do. Inside of a transform compute new values instead, for example "
            "p - rate * gradient, and return or carry them along"
        )
    if not isinstance(tensor, boxing.Tensor) or not tensor.is_leaf:
        place = f", not the one made at {location(tensor._node)}" if isinstance(tensor, boxing.Tensor) else ""
        raise GradientError(f"only leaves and untracked Tensors can be changed off the tape{place}")
    if type(tensor) is boxing.BorrowedTensor:
        tensor.become_owner()
    base, _ = family(tensor)
    if base is not tensor:
        fresh = np.array(tensor._data)
        return fresh, partial(_write_through, tensor, fresh)
    _as_array(tensor)
    moved = make_writable(tensor)
    return tensor._data, partial(_make_known, tensor, moved)


def _as_array(tensor: Any) -> None:
    """Turn a NumPy scalar into an array of no axes, which can be written."""
    data: Any = tensor._data
    if type(data) is not np.ndarray:
        tensor._data = np.array(data)


def _make_known(base: Any, moved: bool) -> None:
    changed = record_write(base, None, np.zeros(()), (Ellipsis,), False)
    lead_views(base, moved, None, changed)


def _write_through(view: Any, fresh: np.ndarray) -> None:
    """Write new values into the region of its base that a view stands for, off the tape."""
    before = set_recording(False)
    try:
        boxing.operations.overwrite(view, fresh, "update_buffer")
    finally:
        set_recording(before)
