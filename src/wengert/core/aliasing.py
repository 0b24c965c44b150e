"""NumPy's aliasing, kept by the writes alone: which Tensors are views of which, and when a buffer may be written.

A view knows its base and the steps that lead from one to the other. A base knows its live views, weakly. A buffer that
anybody else still holds (the tape above all, or an array handed out by `numpy()`) is copied before it is written, and
the live views move along. Who holds a buffer is read off its reference count, so that recording pays nothing.

A view of a small part of a large base gets memory of its own: what the tape keeps of it then does not pin the whole
base, and a loop that fills an array row by row while reading earlier rows stays linear. Writes keep it coherent.
"""

# The slots of Tensor and the frames of the interpreter are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from sys import getrefcount
from typing import Any

import numpy as np

from .. import backend
from ..errors import GradientError
from ..typing import Array, Params
from . import boxing
from .primitive import NONDIFFERENTIABLE, Primitive
from .recording import set_recording
from .tape import Leaf, make_node

Steps = tuple[tuple[Primitive, Params], ...]
_SMALL_PART = 8
"""A view of at most one part in this many of its base's bytes gets memory of its own."""


class View:
    """What makes a Tensor a view: its base, and the operations that lead from the base to it."""

    __slots__ = ("base", "steps")

    def __init__(self, base: Any, steps: Steps) -> None:
        self.base = base
        self.steps = steps


class Viewed:
    """What makes a Tensor a base: weak references to its views; dead ones are swept out when the list doubles."""

    __slots__ = ("limit", "views")

    def __init__(self) -> None:
        self.views: list[Any] = []
        self.limit = 8

    def add(self, view: Any) -> None:
        """Register one more view."""
        self.views.append(weakref.ref(view))
        if len(self.views) > self.limit:
            self.views = [reference for reference in self.views if reference() is not None]
            self.limit = max(8, 2 * len(self.views))

    def live(self) -> Iterator[Any]:
        """Iterate over the views that still exist."""
        for reference in self.views:
            view = reference()
            if view is not None:
                yield view


def alias_of(tensor: Any) -> View | Viewed | None:
    """Return a Tensor's part in an aliasing family, or None (the slot is unset until it is needed)."""
    try:
        return tensor._alias
    except AttributeError:
        return None


def family(tensor: Any) -> tuple[Any, Steps]:
    """Return (base, steps) of any Tensor; its own base without steps if it is not a view."""
    alias = alias_of(tensor)
    return (alias.base, alias.steps) if type(alias) is View else (tensor, ())


def register(view: Any, source: Any, primitive: Primitive, params: Params) -> None:
    """Register the result of a view operation on `source`."""
    base, steps = family(source)
    steps = (*steps, (primitive, params))
    if source is not base and source._data.base is not base._data and not _is_view_of(base, steps):
        return  # the source has memory of its own; NumPy would have copied here
    view._alias = View(base, steps)
    viewed = alias_of(base)
    if type(viewed) is not Viewed:
        viewed = base._alias = Viewed()
    viewed.add(view)
    if view._data.nbytes * _SMALL_PART <= base._data.nbytes:
        view._data = view._data.copy()


def _is_view_of(base: Any, steps: Steps) -> bool:
    return np.may_share_memory(region_of(base._data, steps), base._data)


def _references(tensor: Any) -> int:
    return getrefcount(tensor._data)


class _Blank:
    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = np.zeros(1)


def _references_of_an_unshared_buffer() -> int:
    return _references(_Blank())


_UNSHARED = _references_of_an_unshared_buffer()


def is_private(base: Any) -> bool:
    """Return whether nobody but the base and its registered views holds the base's buffer."""
    if type(base._data) is not np.ndarray or base._data.base is not None or not base._data.flags.writeable:
        return False
    sharing = 0
    alias = alias_of(base)
    if type(alias) is Viewed:
        for view in alias.live():
            if view._data.base is base._data:
                sharing += 1
                if _references(view) != _UNSHARED:
                    return False
    return _references(base) == _UNSHARED + sharing


def make_writable(base: Any) -> bool:
    """Give the base a buffer that may be written, copying it if anybody else holds it; return whether it moved."""
    if is_private(base):
        return False
    base._data = np.array(base._data, order="K", copy=True)
    return True


def region_of(data: Array, steps: Steps) -> Array:
    """Follow the steps of a view on raw data."""
    for primitive, params in steps:
        data = primitive.impl(backend.numpy, data, **params)
    return data


def refresh_views(base: Any, moved: bool) -> None:
    """After a write to the base: lead every live view to the new values, and record again how it comes of the base."""
    alias = alias_of(base)
    if type(alias) is not Viewed:
        return
    for view in alias.live():
        shares = not moved and view._data.base is base._data
        data, node = base._data, base._node
        for primitive, params in view._alias.steps:
            out = primitive.impl(backend.numpy, data, **params)
            if node is not None and primitive.kind != NONDIFFERENTIABLE:
                saved = primitive.rules["plan"].gather((data,), (node,), out)
                node = make_node(primitive, (node,), saved, out, params)
            else:
                node = None
            data = out
        if node is not None or not isinstance(view._node, Leaf):
            view._node = node
        if not shares:
            view._data = data.copy() if data.nbytes * _SMALL_PART <= base._data.nbytes else data


def update_buffers(tensors: Sequence[Any], update: Callable[[list[np.ndarray]], None]) -> None:
    """Let `update(arrays)` change the values of leaves and untracked Tensors in place, off the tape.

    The arrays are writable and private while `update` runs: what the tape keeps stays as it was, and views follow.
    The Tensors must be distinct. All are made ready before the first is written, so that running out of memory changes nothing.

    Raises:
        GradientError: a Tensor was computed from something tracked; nothing is changed.
    """
    arrays: list[np.ndarray] = []
    closing: list[Callable[[], None]] = []
    for tensor in tensors:
        # What an optimiser meets in every step, in line: a buffer that nobody else has ever seen or still holds.
        if getattr(tensor, "_alias", None) is None and getrefcount(tensor._data) == _UNSHARED:
            data, node = tensor._data, tensor._node
            if (
                (node is None or type(node) is Leaf)
                and type(data) is np.ndarray
                and data.base is None
                and data.flags.writeable
            ):
                arrays.append(data)
                continue
        array, close = _open(tensor)
        arrays.append(array)
        closing.append(close)
    try:
        update(arrays)
    finally:
        for close in closing:
            close()


def _open(tensor: Any) -> tuple[np.ndarray, Callable[[], None]]:
    """Return an array that may be written in place of the Tensor's, and what to call afterwards."""
    if not tensor.is_leaf:
        raise GradientError("update_buffer: only leaves and untracked Tensors can be changed off the tape")
    if type(tensor) is boxing.BorrowedTensor:
        tensor.become_owner()
    base, _ = family(tensor)
    if base is not tensor:
        fresh = np.array(tensor._data)
        return fresh, partial(_write_through, tensor, fresh)
    if not isinstance(tensor._data, np.ndarray):
        tensor._data = np.array(tensor._data)
    moved = make_writable(tensor)
    return tensor._data, partial(refresh_views, tensor, moved)


def _write_through(view: Any, fresh: np.ndarray) -> None:
    """Write new values into the region of its base that a view stands for, off the tape."""
    node, view._node = view._node, None
    before = set_recording(False)
    try:
        boxing.operations.overwrite(view, fresh, "update_buffer")
    finally:
        set_recording(before)
        view._node = node
