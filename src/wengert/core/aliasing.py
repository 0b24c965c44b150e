"""NumPy's aliasing, kept by the writes alone: which Tensors are views of which, and when a buffer may be written.

A view knows its base and the steps that lead from one to the other. A base knows its live views, weakly. A buffer that
anybody else still holds (the tape above all, or an array handed out by `numpy()`) is copied before it is written, and
the live views move along. Who holds a buffer is read off its reference count, so that recording pays nothing.

Memory is one thing, history another. A view shares the history of its *root*: the base, unless a `detach()` (or a
`requires_grad_()` on a view) lies between. Such a Tensor is a root of its own: it shares the memory and none of the
history. What is written through one root is a constant to the others, and a leaf among them stays a leaf.

A view of a small part of a large base gets memory of its own: what the tape keeps of it then does not pin the whole
base, and a loop that fills an array row by row while reading earlier rows stays linear. Writes keep it coherent.
"""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from .. import backend
from ..backend.numpy import editable_region, positions_of, region_of
from ..typing import Array, Params
from . import boxing
from .primitive import NONDIFFERENTIABLE, Primitive
from .tape import Leaf, make_node

Steps = tuple[tuple[Primitive, Params], ...]
Extent = tuple[int, int]
"""First byte and end of a region, counted from the first element of the base."""

NOWHERE: Extent = (0, 0)
_SMALL_PART = 8
"""A view of at most one part in this many of its base's bytes gets memory of its own."""


class View:
    """What makes a Tensor a view.

    Attributes:
        base: the Tensor whose memory it is.
        steps: the view operations that lead from the base here.
        root: the Tensor whose history it shares; None if it is a root itself.
        origin: how many of the steps lead to the root.
        extent: where in the base's memory it lies; None until a write has asked.
        supposed: whether it may be a copy after all, as a reshape is of what lies otherwise than was taken for granted.
    """

    __slots__ = ("base", "extent", "origin", "root", "steps", "supposed")

    def __init__(self, base: Any, steps: Steps, root: Any, origin: int) -> None:
        self.base = base
        self.steps = steps
        self.root = root
        self.origin = origin
        self.extent: Extent | None = None
        self.supposed = False


class Viewed:
    """What makes a Tensor a base: weak references to its views; dead ones are swept out when the list doubles.

    Attributes:
        views: all of them, older ones first.
        has_roots: whether there may be roots among them.
        doubtful: tracers that were taken for copies and may be views of this one, as it lies in memory.
        perhaps: what this one is if it is such a view.
    """

    __slots__ = ("doubtful", "has_roots", "limit", "perhaps", "views")

    def __init__(self) -> None:
        self.views: list[Any] = []
        self.limit = 8
        self.has_roots = False
        self.doubtful: list[Any] = []
        self.perhaps: View | None = None

    def add(self, view: Any) -> None:
        """Register one more view."""
        self.views.append(weakref.ref(view))
        if len(self.views) > self.limit:
            self.views = [reference for reference in self.views if reference() is not None]
            self.limit = max(8, 2 * len(self.views))
            self.has_roots = any([place_of(view).root is None for view in self.live()])

    def live(self) -> Iterator[Any]:
        """Iterate over the views that still exist, older ones first."""
        for reference in self.views:
            view = reference()
            if view is not None:
                yield view


def alias_of(tensor: Any) -> View | Viewed | None:
    """Return a Tensor's part in an aliasing family, or None (the slot is unset until it is needed)."""
    alias = getattr(tensor, "_alias", None)
    return alias.family if type(alias) is boxing.Loan else alias


def _set_alias(tensor: Any, alias: View | Viewed) -> None:
    if type(tensor) is boxing.BorrowedTensor:
        tensor._alias.family = alias
    else:
        tensor._alias = alias


def family(tensor: Any) -> tuple[Any, Steps]:
    """Return (base, steps) of any Tensor; its own base without steps if it is not a view."""
    alias = alias_of(tensor)
    return (alias.base, alias.steps) if type(alias) is View else (tensor, ())


def history(tensor: Any) -> tuple[Any, Steps]:
    """Return (root, steps) of any Tensor: whose history it shares, and how it comes of it."""
    alias = alias_of(tensor)
    if type(alias) is not View or alias.root is None:
        return tensor, ()
    return alias.root, alias.steps[alias.origin :]


def is_alone(tensor: Any) -> bool:
    """Return whether a Tensor neither is a view nor has any that are alive."""
    alias = alias_of(tensor)
    if alias is None:
        return True
    if type(alias) is View:
        return False
    for reference in alias.views:  # type: ignore[union-attr]
        if reference() is not None:
            return False
    alias.views.clear()  # type: ignore[union-attr]
    return True


def is_stretched(tensor: Any) -> bool:
    """Return whether a Tensor is a view in which elements of its base may come again."""
    alias = alias_of(tensor)
    return type(alias) is View and any([primitive.name == "stretch" for primitive, _ in alias.steps])


def other_roots(base: Any, root: Any) -> list[Any]:
    """Return the Tensors that share the base's memory and have histories of their own, but for `root`."""
    others = [] if base is root else [base]
    alias = alias_of(base)
    if type(alias) is Viewed and alias.has_roots:
        others.extend([view for view in alias.live() if place_of(view).root is None and view is not root])
    return others


def place_of(view: Any) -> View:
    """Return what makes a view one."""
    alias: Any = alias_of(view)
    return alias


def register(view: Any, source: Any, primitive: Primitive, params: Params) -> None:
    """Register the result of a view operation on `source`."""
    base, steps = family(source)
    detached = primitive.kind == NONDIFFERENTIABLE
    if not detached:
        steps = (*steps, (primitive, params))
    place = _place(source, base, steps, detached)
    if type(base) is boxing.Tracer and any([may_copy(step) for step, _ in steps]):
        place.supposed = base._state.layout is None
    is_open = not detached and (source is not base or type(source) is boxing.Tracer)
    if is_open and _is_copy(view, source, primitive, params, place):
        # The source has memory of its own, or NumPy would have copied here; unless the base lies as nobody knows yet.
        if place.supposed and may_copy(primitive):
            _doubt(view, place)
        return
    enter(view, place)
    if type(view) is boxing.Tensor:
        view._data = _own_or_shared(view._data, base)


def _place(source: Any, base: Any, steps: Steps, detached: bool) -> View:
    root = None if detached else history(source)[0]
    origin = len(steps) if detached else 0 if source is base else place_of(source).origin
    return View(base, steps, root, origin)


def _viewed(base: Any) -> Viewed:
    alias: Any = alias_of(base)
    if alias is None:
        alias = Viewed()
        _set_alias(base, alias)
    return alias


def enter(view: Any, place: View) -> None:
    """Make a Tensor a view."""
    _set_alias(view, place)
    alias = _viewed(place.base)
    alias.has_roots |= place.root is None
    alias.add(view)


def _doubt(copy: Any, place: View) -> None:
    """Take note that what looks like a copy may be a view: `doubts.settle` finds out, when that matters."""
    _viewed(copy).perhaps = place
    _viewed(place.base).doubtful.append(weakref.ref(copy))


def may_copy(primitive: Primitive) -> bool:
    """Return whether an operation that gives views copies what lies otherwise than it needs: a reshape alone does."""
    return primitive.name == "reshape_to"


def _own_or_shared(data: Array, base: Any) -> Array:
    if data.nbytes * _SMALL_PART > boxing.data_of(base).nbytes:
        return data
    if any([stride == 0 and extent > 1 for extent, stride in zip(data.shape, data.strides)]):
        return data  # a copy would not be repeated, so that what is a view of this would not be one of the copy
    return data.copy(order="K")


def _is_copy(view: Any, source: Any, primitive: Primitive, params: Params, place: View) -> bool:
    base = place.base
    if type(source) is not boxing.Tracer:
        data = boxing.data_of(base)
        return boxing.data_of(source).base is not data and not shares_memory(data, place.steps)
    if may_copy(primitive):
        # What a reshape copies depends on strides: where those are not known, as if the base were contiguous.
        layout = base._state.layout if type(base) is boxing.Tracer else None
        return not shares_memory(np.zeros(base.shape, np.bool_) if layout is None else layout, place.steps)
    # NumPy's y[0, 0] is a number, its y[0, 0, ...] a view.
    return not view.shape and not shares_memory(np.zeros(source.shape, np.bool_), ((primitive, params),))


def shares_memory(data: Array, steps: Steps) -> bool:
    """Return whether steps from an array, as it lies, lead to a part of its memory, and to no copy."""
    owner = region_of(data, steps).base
    return owner is not None and (owner is data or owner is data.base)


def extent_of(region: Array, base: Any) -> Extent:
    """Return where in the memory of its base a region lies."""
    start = region.__array_interface__["data"][0] - base._data.__array_interface__["data"][0]
    end = start + region.itemsize
    for extent, stride in zip(region.shape, region.strides):
        if not extent:
            return NOWHERE
        if stride < 0:
            start += (extent - 1) * stride
        else:
            end += (extent - 1) * stride
    return (start, end)


# Who holds a buffer.


def _references(tensor: Any) -> int:
    return getrefcount(tensor._data)


class _Blank:
    __slots__ = ("_data",)


def _references_of_an_unshared_buffer() -> int:
    blank = _Blank()
    blank._data = np.zeros(1)
    return _references(blank)


_UNSHARED = _references_of_an_unshared_buffer()


def is_private(base: Any) -> bool:
    """Return whether nobody but the base and its registered views holds the base's buffer."""
    if type(base) is not boxing.Tensor or type(base._data) is not np.ndarray:
        return False
    if base._data.base is not None or not base._data.flags.writeable:
        return False
    if _references(base) == _UNSHARED:
        return True
    sharing = 0
    alias = alias_of(base)
    if type(alias) is Viewed:
        for view in alias.live():
            if type(view) is boxing.Tensor and view._data.base is base._data:
                sharing += 1
                if _references(view) != _UNSHARED:
                    return False
    return _references(base) == _UNSHARED + sharing


def make_writable(base: Any) -> bool:
    """Give the base a buffer that may be written, copying it if anybody else holds it; return whether it moved."""
    if is_private(base):
        return False
    if type(base) is boxing.BorrowedTensor:
        base.become_owner()
    else:
        base._data = np.array(base._data, order="K", copy=True)
    return True


# What a write makes known.


def lead_views(base: Any, moved: bool, written: Extent | None, changed: Sequence[Any] = ()) -> None:
    """After a write to the base's memory: lead the live views to it, and record again how they come of their roots.

    Args:
        base: the Tensor whose memory was written.
        moved: whether the memory is new.
        written: what part of it was written (None: all); views that lie elsewhere keep their values and their history.
        changed: the roots that got a new history.
    """
    alias = alias_of(base)
    if type(alias) is not Viewed:
        return
    for view in alias.live():
        place = place_of(view)
        if moved or place.extent is None:
            place.extent = extent_of(region_of(base._data, place.steps), base)
        first, end = place.extent
        overlaps = written is None or (first < written[1] and written[0] < end)
        if moved or (overlaps and view._data.base is not base._data):
            _lead(view, place)
        if overlaps and changed and any([place.root is root for root in changed]):
            view._node = _recorded_view(place)


def _lead(view: Any, place: View) -> None:
    if type(view) is boxing.BorrowedTensor:
        view.become_owner()
    view._data = _own_or_shared(region_of(place.base._data, place.steps), place.base)


def _recorded_view(place: View) -> Any:
    node = place.root._node
    if node is None:
        return None
    data = region_of(boxing.data_of(place.base), place.steps[: place.origin])
    for primitive, params in place.steps[place.origin :]:
        out = primitive.impl(backend.numpy, data, **params)
        node = make_node(primitive, (node,), primitive.rules["plan"].gather((data,), (node,), out), out, params)
        data = out
    return node


def begin_history(tensor: Any, renew: Callable[[Any], None]) -> None:
    """Make a Tensor that has become a leaf (or stopped being one) a root; the views taken of it follow, by `renew`."""
    alias = alias_of(tensor)
    if alias is None:
        return
    former, _ = history(tensor)
    base, steps = family(tensor)
    if type(alias) is View:
        alias.root, alias.origin = None, len(steps)
    viewed: Any = alias_of(base)
    viewed.has_roots |= base is not tensor
    for view in list(viewed.live()):
        place = place_of(view)
        if place.root is former and view is not tensor and starts_with(place.steps, steps):
            if type(view) is boxing.BorrowedTensor:
                view.become_owner()
            place.root, place.origin = tensor, len(steps)
            renew(view)


def renew_history(view: Any) -> None:
    """Give a view the history that its root has now."""
    view._node = _recorded_view(place_of(view))


def starts_with(steps: Steps, beginning: Steps) -> bool:
    """Return whether some steps begin with others: the very same ones."""
    return len(steps) >= len(beginning) and all([one is other for one, other in zip(steps, beginning)])


def record_write(target: Any, value_node: Any, data: Array, key: Any, recording: bool) -> list[Any]:
    """Record a write that has happened to `target[key]`; return the roots that have a new history.

    The root of the target remembers the value. To the others, and to all off the tape, it is a constant; but a leaf
    stays a leaf: what is written to it off the tape is its new value.
    """
    base, base_steps = family(target)
    root, steps = history(target)
    changed: list[Any] = []
    if recording or not isinstance(root._node, Leaf):
        _append(root, value_node if recording else None, data, steps, key, changed)
    for other in other_roots(base, root):
        if other._node is None or isinstance(other._node, Leaf):
            continue
        written = positions_of(base.shape, base_steps)[key]
        overlap = np.asarray(np.isin(positions_of(base.shape, family(other)[1]), written))
        if overlap.any():
            _append(other, None, np.zeros(()), (), overlap.nonzero() if overlap.ndim else (Ellipsis,), changed)
    return changed


def _append(root: Any, value_node: Any, data: Array, steps: Steps, key: Any, changed: list[Any]) -> None:
    if root._node is None and value_node is None:
        return
    primitive = boxing.operations.write_region.primitive
    values = boxing.data_of(root)
    nodes = (root._node, value_node)
    saved = primitive.rules["plan"].gather((values, data), nodes, values)
    root._node = make_node(primitive, nodes, saved, values, {"steps": steps, "key": key})
    changed.append(root)


__all__ = [
    "NOWHERE",
    "Extent",
    "Steps",
    "View",
    "Viewed",
    "alias_of",
    "begin_history",
    "editable_region",
    "enter",
    "extent_of",
    "family",
    "history",
    "is_alone",
    "is_private",
    "is_stretched",
    "lead_views",
    "make_writable",
    "may_copy",
    "other_roots",
    "positions_of",
    "record_write",
    "region_of",
    "register",
    "renew_history",
    "shares_memory",
]
