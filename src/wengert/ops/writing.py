"""Writing in place: `x[i] = v`, `x += y`, `out=`, seen by the base and all of its views, spoiling no gradient.

A write is one operation on the tape, `write_region`: the root as it was and the value go in, the root as it is comes
out, and every live view that overlaps is recorded again. Where nothing is tracked, `x += y` runs in place in NumPy.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import _getframe
from typing import Any

import numpy as np

from ..core import boxing, capturing
from ..core.aliasing import (
    NOWHERE,
    Steps,
    alias_of,
    extent_of,
    family,
    history,
    is_alone,
    is_private,
    lead_views,
    make_writable,
    other_roots,
    record_write,
    region_of,
)
from ..core.dispatch import explain, lift
from ..core.doubts import settle
from ..core.recording import is_recording
from ..core.tape import Leaf, user_frame
from ..core.traced_writing import write_traced
from ..errors import DTypeError, ShapeError
from ..typing import Array, Shape
from . import mapped_keys
from .indexing import Key, canonical_key, is_plain_key

_EVERYTHING: Key = (Ellipsis,)


def setitem(x: Any, key: Any, value: Any) -> None:
    """Write `x[key] = value`, seen by the base and all views of `x`; earlier gradients are never spoiled.

    Raises:
        IndexError: a part of the key is out of range or no index.
        ShapeError: the value does not broadcast to the region.
        DTypeError: a tracked value would be cut off by an integer array.
    """
    if capturing.engaged:
        capturing.bring(x)
    if mapped_keys.holds_mapped(key):
        overwrite(x, mapped_keys.write(x, key, value), "setitem")
        return
    canonical = (key,) if is_plain_key(key) else canonical_key(key, x.shape)[0]
    if not _write_alone(x, canonical, value):
        write(x, canonical, value, "setitem")


def overwrite(x: Any, value: Any, name: str) -> Any:
    """Replace the whole of `x` in place (`copy_`, `out=x`); return `x`."""
    if capturing.engaged:
        capturing.bring(x)
    if not _write_alone(x, _EVERYTHING, value):
        write(x, _EVERYTHING, value, name)
    return x


def _write_alone(target: Any, key: Key, value: Any) -> bool:
    """Do all that a write is where nobody else is concerned: no view, no tape. Return whether that was done."""
    if type(target) is not boxing.Tensor or target._node is not None or not is_alone(target):
        return False
    if type(value) is boxing.Tensor and value._node is None:
        value = value._data
    elif type(value) is not float and type(value) is not int:
        return False
    if not is_private(target):
        return False
    try:
        target._data[key] = value
    except Exception:
        return False  # `write` meets the error again, and explains it
    return True


def write(target: Any, key: Key, value: Any, name: str) -> None:
    """Write a value into the region of `target` that a canonical key selects."""
    if not isinstance(value, boxing.Tensor):
        value = lift(value, name, floating=target.dtype)
        if not isinstance(value, boxing.Tensor):
            value = boxing.borrow(np.asarray(value))
    if not _is_plain(value) or not _is_plain(target):
        if capturing.engaged and (capture := capturing.current()) is not None:
            capture.note_written(family(target)[0])
        settle(family(target)[0])
        _check_dtypes(target, value, name)
        _check_region(target, key, value, name)
        write_traced(target, key, value, name)
        return
    _check_dtypes(target, value, name)
    base, steps = family(target)
    if _is_same_region(base, steps, key, target, value):
        return
    data = boxing.data_of(value)[...]  # an array: of a number that is NaN, NumPy refuses to make an integer
    moved = make_writable(base)
    region = region_of(base._data, steps)
    try:
        region[key if _holds_array(key) else _as_region(key)] = data
    except Exception as error:
        lead_views(base, moved, NOWHERE)
        raise _explain_write(error, data, region, key, steps, name) from None
    changed = record_write(target, value._node, data, key, is_recording())
    _lead_views(base, moved, region, key, changed)


def _lead_views(base: Any, moved: bool, region: Array, key: Key, changed: Sequence[Any] = ()) -> None:
    if not is_alone(base):
        lead_views(base, moved, extent_of(region if _holds_array(key) else region[_as_region(key)], base), changed)


def _is_plain(tensor: Any) -> bool:
    return type(tensor) is boxing.Tensor or type(tensor) is boxing.BorrowedTensor


def _is_same_region(base: Any, steps: Steps, key: Key, target: Any, value: Any) -> bool:
    """Return whether the value is the very region that is to be written: what Python does last in `x[i] += y`."""
    value_base, value_steps = family(value)
    root = history(target)[0]
    if value_base is not base or history(value)[0] is not root or _holds_array(key):
        return False
    if (root._node is not None and is_recording() == isinstance(root._node, Leaf)) or other_roots(base, root):
        return False  # a history changes: a leaf is no longer one, or what was computed becomes a constant
    data = boxing.data_of(base)
    source = region_of(data, value_steps)
    region = region_of(data, steps)[_as_region(key)]
    return region.flags.writeable and source.__array_interface__ == region.__array_interface__


def _holds_array(key: Key) -> bool:
    return any([isinstance(part, np.ndarray) for part in key])


def _as_region(key: Key) -> Key:
    """Return a basic key that selects the same as an array, even where a number would come out."""
    return key if any([part is Ellipsis for part in key]) else (*key, Ellipsis)


def _check_region(target: Any, key: Key, value: Any, name: str) -> None:
    """Raise what a write would raise whose target has memory: a tracer has none that would refuse it."""
    base, steps = family(target)
    region = region_of(np.empty(base.shape, np.bool_), steps)
    if not region.flags.writeable:
        raise _read_only(steps, name)
    room = region[key if _holds_array(key) else _as_region(key)].shape
    leading = max(0, len(value.shape) - len(room))  # axes of one element, which NumPy passes over
    fits = all([extent == 1 for extent in value.shape[:leading]])
    pairs = zip(reversed(value.shape[leading:]), reversed(room))
    if not fits or not all([extent in (1, free) for extent, free in pairs]):
        raise _too_large(value.shape, room, name)


def _read_only(steps: Steps, name: str) -> ValueError:
    made = " of ".join([primitive.name for primitive, _ in reversed(steps)])
    return ValueError(
        f"{name}: this Tensor is a read-only view ({made}): several of its elements are the same memory, so that "
        "a write to one would change others. Write to a copy: x.clone()"
    )


def _too_large(shape: Shape, room: Shape, name: str) -> ShapeError:
    return ShapeError(f"{name}: a value of shape {shape} does not fit the region of shape {room} that it is written to")


def _explain_write(error: Exception, data: Any, region: Any, key: Key, steps: Steps, name: str) -> Exception:
    if not region.flags.writeable:
        return _read_only(steps, name)
    if isinstance(error, ValueError):
        return _too_large(data.shape, np.broadcast_to(np.empty(()), region.shape)[key].shape, name)
    if isinstance(error, TypeError):
        return DTypeError(
            f"{name}: a value of dtype {data.dtype} cannot be written to a Tensor of dtype {region.dtype}"
        )
    return error


def _check_dtypes(target: Any, value: Any, name: str) -> None:
    if value._node is not None and target.dtype.kind not in "fc" and is_recording():
        raise DTypeError(
            f"{name}: a tracked {value.dtype} value would be rounded to {target.dtype} and lose its gradient; make the "
            "target a floating Tensor, or detach() the value"
        )


# Operators in place.


def update(x: Any, operation: Callable[[Any, Any], Any], other: Any, name: str) -> Any:
    """Compute `x op= other`: the result is written into x, through all views; a number of NumPy's is rebound instead.

    Raises:
        ShapeError: the result does not have the shape of x.
        DTypeError: the result does not fit the dtype of x.
    """
    if capturing.engaged:
        capturing.bring(x)
    if compute_into(x, operation, (x, other), name):
        return x
    out = operation(x, other)
    if not isinstance(out, boxing.Tensor) or _is_number(x):
        return out
    if not np.can_cast(out.dtype, x.dtype, "same_kind"):
        raise _does_not_fit(out.dtype, x.dtype, name)
    if out.shape != x.shape:
        raise ShapeError(
            f"{name}: the result of shape {out.shape} does not fit in place into a Tensor of shape {x.shape}"
        )
    if not _adopt(x, out):
        overwrite(x, out, name)
    return x


def _is_number(x: Any) -> bool:
    """Return whether what a Tensor boxes is a number of NumPy's, or will be when a compiled function runs."""
    if _is_plain(x):
        return isinstance(boxing.data_of(x), np.generic)
    # A number that something is a view of has become an array.
    return type(x) is boxing.Tracer and getattr(x._state, "is_number", False) and alias_of(x) is None


def _does_not_fit(dtype: Any, target: Any, name: str) -> DTypeError:
    return DTypeError(
        f"{name}: the result has dtype {dtype}, which does not fit in place into a Tensor of dtype {target}; "
        f"write x = x ... or convert x with .astype({str(dtype)!r}) first"
    )


def compute_into(target: Any, operation: Any, inputs: Sequence[Any], name: str) -> bool:
    """Let a universal function of NumPy's write straight into the memory of `target`; return whether that can be done.

    It can where nothing is recorded and the memory need not be copied first.
    """
    if capturing.engaged:
        capturing.bring(target)
    kernel = getattr(operation, "kernel", None)
    if not isinstance(kernel, np.ufunc) or not _is_plain(target) or isinstance(boxing.data_of(target), np.generic):
        return False
    recording = is_recording()
    raws: list[Any] = []
    for x in inputs:
        if not isinstance(x, boxing.Tensor):
            x = lift(x, name, floating=target.dtype)
        if isinstance(x, boxing.Tensor) and (not _is_plain(x) or (recording and x._node is not None)):
            return False
        raws.append(x)
    base, steps = family(target)
    root = history(target)[0]
    if root._node is not None and (recording or not isinstance(root._node, Leaf)):
        return False
    private = is_private(base)
    if not (steps or private) or other_roots(base, root):
        return False
    moved = not private and make_writable(base)
    region = region_of(base._data, steps)
    raws = [region if x is target else boxing.data_of(x) if isinstance(x, boxing.Tensor) else x for x in raws]
    try:
        kernel(*raws, out=region)
    except Exception as error:
        lead_views(base, moved, NOWHERE)
        raise (
            _explain_update(region, raws, error, name) if region.flags.writeable else _read_only(steps, name)
        ) from None
    _lead_views(base, moved, region, _EVERYTHING)
    return True


def _explain_update(region: Any, raws: Sequence[Any], error: Exception, name: str) -> Exception:
    if isinstance(error, TypeError):
        return _does_not_fit(np.result_type(*raws), region.dtype, name)
    if "non-broadcastable output" in str(error):
        shape = np.broadcast_shapes(*[np.shape(raw) for raw in raws])
        return ShapeError(
            f"{name}: the result of shape {shape} does not fit in place into a Tensor of shape {region.shape}"
        )
    return explain(name, tuple([np.asarray(raw) for raw in raws]), error)


def _owns_memory(out: Any) -> bool:
    """Return whether a result has a buffer of its own, which the tape may hold too: the next write would copy it."""
    data = out._data
    return type(data) is np.ndarray and data.base is None and data.flags.writeable


def _adopt(x: Any, out: Any) -> bool:
    """Make a fresh result the memory and the history of x, where x is a base; return whether that can be done."""
    base, steps = family(x)
    if type(x) is not boxing.Tensor or type(out) is not boxing.Tensor or steps or base is not x or other_roots(x, x):
        return False
    if out.dtype != x.dtype or not _owns_memory(out) or (x._node is not None and not is_recording()):
        return False
    if out._node is not None:
        frame = user_frame(_getframe(2))
        out._node.code, out._node.instruction = frame.f_code, frame.f_lasti
    elif x._node is not None:
        return False
    x._data, x._node = out._data, out._node
    lead_views(x, True, None, (x,))
    return True
