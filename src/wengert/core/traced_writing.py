"""Writing in place where a transform is at work: a tracer has no memory, so a write makes it another value.

As everywhere, the write is the operation `write_region` of what the base was and the value; the base becomes its
result, for all who hold it, and the live views are taken of it anew. A Tensor from further out becomes a tracer when a
tracer is written into it; should it outlive the transform, the trace decides what is left of it.
"""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any

from ..errors import DTypeError, GradientError
from . import boxing, capturing
from .aliasing import Steps, View, Viewed, alias_of, begin_history, family, history, place_of, renew_history
from .dispatch import bind
from .recording import is_recording, set_recording
from .tape import Leaf, location
from .tracing import is_followed, is_tracer, snapshot


def write_traced(target: Any, key: Any, value: Any, name: str) -> None:
    """Write a value into the region of `target` that a canonical key selects; one of the two is a tracer."""
    if is_tracer(value) and is_followed(value) and target.dtype.kind not in "fc" and is_recording() is not False:
        raise DTypeError(
            f"{name}: a {value.dtype} value that is differentiated would be rounded to {target.dtype} and lose its "
            "derivative; make the target a floating Tensor, or detach() the value"
        )
    base, base_steps = family(target)
    root, steps = history(target)
    for tensor in (base, root):
        if type(tensor) is boxing.BorrowedTensor:
            tensor.become_owner()
    if root is base:
        _rewrite(base, base_steps, key, value)
    else:
        if base._node is not None and not isinstance(base._node, Leaf):
            raise GradientError(
                f"{name}: a detached view of the Tensor made at {location(base._node)} cannot be written while a "
                "transform follows the value; write to the Tensor itself under no_grad(), or to a clone()"
            )
        _rewrite(base, base_steps, key, _constant(value))
        _rewrite(root, steps, key, value)
    before = is_recording()
    if before is False:
        set_recording(True)  # what stays unwritten keeps its history in views, too
    try:
        _renew_views(base, root)
    finally:
        set_recording(before)


def _rewrite(tensor: Any, steps: Steps, key: Any, value: Any) -> None:
    """Make a base, or a root, what it is after a write."""
    leaf = tensor._node if isinstance(tensor._node, Leaf) else None
    before = is_recording()
    former = snapshot(tensor)
    if before is False and leaf is None:
        # Off the tape a write is one of a constant; what stays unwritten keeps its history.
        value = _constant(value)
        set_recording(True)
    try:
        written = bind(boxing.operations.write_region.primitive, (former, value), {"steps": steps, "key": key})
    finally:
        set_recording(before)
    _become(tensor, former, written)
    if before is False and leaf is not None:
        _stay_leaf(tensor, leaf)


def _constant(value: Any) -> Any:
    """Return what a value is off the tape; it is not made the base of a view: a number of NumPy's stays one."""
    return boxing.operations.detach(snapshot(value))


def _become(tensor: Any, former: Any, value: Any) -> None:
    if is_tracer(value) and (not is_tracer(former) or former._state.trace is not value._state.trace):
        value._state.trace.note_conversion(tensor, former)
    boxing.become(tensor, value)


def _stay_leaf(tensor: Any, leaf: Leaf) -> None:
    tensor._node = leaf
    if is_tracer(tensor):
        tensor._state.trace.note_renewed(tensor, leaf)


def _renew_views(base: Any, written_root: Any) -> None:
    alias = alias_of(base)
    if type(alias) is not Viewed:
        return
    for view in list(alias.live()):
        if view is not written_root:
            _renew(view)


def _renew(view: Any) -> None:
    """Make a view what its base, or its root, has there now."""
    place: View = place_of(view)
    leaf = view._node if isinstance(view._node, Leaf) else None
    source, steps = (place.base, place.steps) if place.root is None else (place.root, place.steps[place.origin :])
    value = _taken(snapshot(source), steps)
    if place.root is None:
        value = boxing.operations.detach(value)
    if type(view) is boxing.BorrowedTensor:
        view.become_owner()
    _become(view, snapshot(view), value)
    if leaf is not None:
        _stay_leaf(view, leaf)


def start_history(tensor: Any) -> None:
    """Make a Tensor of any level that has become a leaf (or stopped being one) a root; views of it follow."""
    begin_history(tensor, _follow if type(tensor) is boxing.Tracer else renew_history)


def _follow(view: Any) -> None:
    """Give a view the history that its root has now: that of what is taken of it in the same way."""
    place: View = place_of(view)
    if place.root._node is None:
        view._node = None
        return
    before = is_recording()
    set_recording(True)
    try:
        value = _taken(snapshot(place.root), place.steps[place.origin :])
    finally:
        set_recording(before)
    trace = value._state.trace
    if capturing.engaged:
        capturing.bring(view)
    if not is_tracer(view) or view._state.trace is not trace:
        trace.adopt(view)
    view._node = value._node
    trace.note_recorded(view, view._node)


def _taken(value: Any, steps: Steps) -> Any:
    """Return what a view that is made in some steps has of a Tensor."""
    for primitive, params in steps:
        value = bind(primitive, (value,), params)
    return value


__all__ = ["start_history", "write_traced"]
