"""The general dispatcher: every call that the fast path leaves comes here.

It picks the innermost transform among the arguments (tracers know their trace), lifts arrays, numbers and sequences,
computes, and records. The fast paths of `declare.fastpath` are this function with everything but exact Tensors and
Python scalars taken out.
"""

# The slots of Tensor and the frames of the interpreter are this layer's business.
# pyright: reportPrivateUsage=false

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .. import backend
from ..config import settings
from ..errors import DTypeError, ShapeError, WengertError
from . import boxing, capturing, native
from .aliasing import may_copy, register
from .primitive import NONDIFFERENTIABLE, Primitive
from .recording import is_recording
from .tape import Node, make_node, projection, user_frame
from .tracing import Several, Trace, leaked, record

_SCALARS = frozenset((bool, int, float, complex))
_ARRAYS: Any = (np.ndarray, np.generic)
_SEQUENCES: Any = (list, tuple)
_UNTRACKED = (None, None)
NO_PARAMS: dict[str, Any] = {}


def lift(value: Any, name: str, floating: Any = None) -> Any:
    """Return raw data for an argument that is not a Tensor: arrays and numbers as they are, sequences as arrays."""
    kind: Any = type(value)
    if kind is np.ndarray or kind in _SCALARS:
        return value
    if isinstance(value, _ARRAYS):
        return value
    if isinstance(value, _SEQUENCES):
        return from_sequence(value, name, floating)
    if hasattr(value, "__array_namespace__") or hasattr(value, "__cuda_array_interface__"):
        return value
    if hasattr(value, "__array__"):
        return np.asarray(value)
    raise DTypeError(f"{name}: an argument of type {kind.__name__} is neither a Tensor, an array nor a number")


def from_sequence(value: Any, name: str, floating: Any = None) -> np.ndarray:
    """Convert nested sequences of Python numbers to an array of the dtype `floating` (floats) or NumPy's (integers)."""
    if _holds_tensor(value):
        return boxing.operations.stack([boxing.operations.asarray(item) for item in value])
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name}: the nested sequence has rows of different lengths: {error}") from None
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"{name}: a sequence of {array.dtype} is not numeric")
    if array.dtype == np.float64 and not _holds_array(value):
        array = array.astype(settings.default_dtype if floating is None or floating.kind != "f" else floating)
    return array


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, _SEQUENCES) and any(isinstance(v, boxing.Tensor) or _holds_tensor(v) for v in value)


def _holds_array(value: Any) -> bool:
    if isinstance(value, _SEQUENCES):
        return any(_holds_array(v) for v in value)
    return isinstance(value, _ARRAYS)


def bind(primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any] = NO_PARAMS) -> Any:
    """Apply a primitive to arguments of any kind: the single choke point of everything off the fast path."""
    if capturing.engaged and (capture := capturing.current()) is not None:
        args = capture.arguments(args, primitive.name)
    tensor_type = boxing.Tensor
    if len(args) == 1 and type(args[0]) is tensor_type:
        return _bind_one(primitive, args[0], params)
    if len(args) == 2 and type(args[0]) is tensor_type and type(args[1]) is tensor_type:
        return _bind_two(primitive, args[0], args[1], params)
    tracer_type = boxing.Tracer
    innermost = None
    for arg in args:
        if type(arg) is tracer_type:
            trace = arg._state.trace
            if innermost is None or trace.level > innermost.level:
                innermost = trace
    if innermost is not None:
        return _bind_traced(innermost, primitive, args, params)
    data: list[Any] = []
    nodes: list[Any] = []
    for arg in args:
        if type(arg) is tensor_type:
            data.append(arg._data)
            nodes.append(arg._node)
        elif type(arg) is boxing.BorrowedTensor:
            data.append(arg._alias.array)
            nodes.append(None)
        else:
            if isinstance(arg, tensor_type):  # what a capture of the compiler follows, which knows nothing but its own
                return arg.trace.process(primitive, args, params)
            raw = lift(arg, primitive.name)
            if isinstance(raw, tensor_type):
                return bind(primitive, tuple([lift_sequence(a, primitive.name) for a in args]), params)
            data.append(raw)
            nodes.append(None)
    return execute(primitive, args, tuple(data), tuple(nodes), params)


def bind_unary(primitive: Primitive, x: Any) -> Any:
    """Apply an elementwise operation to one argument that is no exact Tensor."""
    if capturing.engaged:
        return bind(primitive, (x,))
    if type(x) is boxing.Tracer:
        trace = x._state.trace
        out = trace.quick(primitive, x)
        if out is not None:
            if x._node is not None and is_recording():
                return record(trace, primitive, (x,), out, NO_PARAMS)
            return out
    return bind(primitive, (x,))


def bind_binary(primitive: Primitive, x: Any, y: Any) -> Any:
    """Apply an elementwise operation to two arguments that are not both exact Tensors or numbers."""
    if capturing.engaged:
        return bind(primitive, (x, y))
    tracer_type = boxing.Tracer
    if type(x) is tracer_type:
        trace = x._state.trace
        if type(y) is tracer_type and y._state.trace is not trace:
            other = y._state.trace
            trace = trace if trace.level > other.level else other
    elif type(y) is tracer_type:
        trace = y._state.trace
    else:
        return bind(primitive, (x, y))
    out = trace.quick_binary(primitive, x, y)
    if out is None:
        return bind(primitive, (x, y))
    if _is_taped(x, trace) or _is_taped(y, trace):
        return record(trace, primitive, (x, y), out, NO_PARAMS) if is_recording() else out
    return out


def _is_taped(arg: Any, trace: Trace) -> bool:
    return type(arg) is boxing.Tracer and arg._node is not None and arg._state.trace is trace


def _bind_traced(trace: Trace, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """Apply a primitive where `trace` is the innermost one among the arguments."""
    if not trace.is_open:
        raise leaked(next(arg._state for arg in args if type(arg) is boxing.Tracer and arg._state.trace is trace))
    taped = False
    for arg in args:
        kind: Any = type(arg)
        if kind is boxing.Tracer:
            taped = taped or (arg._node is not None and arg._state.trace is trace)
        elif kind is not boxing.Tensor and kind not in _SCALARS and kind is not boxing.BorrowedTensor:
            return bind(primitive, tuple([_as_tensor(a, primitive.name) for a in args]), params)
    out = trace.process(primitive, args, params)
    if taped and is_recording() and primitive.kind != NONDIFFERENTIABLE:
        out = record(trace, primitive, args, out, params)
    if primitive.view and type(args[0]) is boxing.Tracer:
        if may_copy(primitive):
            trace.note_reshaped(args[0], out)
        if not _is_copied(out, args[0]):
            register(out, args[0], primitive, params)
    return out


def _is_copied(out: Any, source: Any) -> bool:
    """Return whether a view operation has made a copy of a tracer, as a reshape does of what lies transposed."""
    made, data = out._state.example if type(out) is boxing.Tracer else None, source._state.example
    if made is None or data is None or made is data:
        return False
    return made.base is None or not (made.base is data or made.base is data.base)


def _as_tensor(value: Any, name: str) -> Any:
    """Return a Tensor for an array or a sequence; numbers and Tensors pass."""
    if isinstance(value, boxing.Tensor) or type(value) in _SCALARS:
        return value
    raw = lift(value, name)
    if isinstance(raw, boxing.Tensor):
        return raw
    return boxing.borrow(raw) if isinstance(raw, np.ndarray) else boxing.box(np.asarray(raw))


def _bind_one(primitive: Primitive, x: Any, params: dict[str, Any]) -> Any:
    """Do what `bind` does for the one argument that nearly all structured operations have: an exact Tensor."""
    data = x._data
    if type(data) is not np.ndarray or primitive.multiple:
        return execute(primitive, (x,), (data,), (x._node,), params)
    out = native.computed(primitive, (data,), params) if data.size >= native.smallest else None
    if out is None:
        try:
            out = primitive.impl(backend.numpy, data, **params)
        except Exception as error:
            raise explain(primitive.name, (data,), error) from error
    tensor = boxing.Tensor()
    tensor._data = out
    node = x._node
    if node is not None and is_recording() and primitive.kind != NONDIFFERENTIABLE and out.dtype.kind in "fc":
        tensor._node = make_node(primitive, (node,), primitive.rules["plan"].gather_one(data, out), out, params)
    else:
        tensor._node = None
    if primitive.view and (base := getattr(out, "base", None)) is not None and (base is data or base is data.base):
        register(tensor, x, primitive, params)
    return tensor


def _bind_two(primitive: Primitive, x: Any, y: Any, params: dict[str, Any]) -> Any:
    """Do what `bind` does for two exact Tensors."""
    x_data, y_data, nodes = x._data, y._data, (x._node, y._node)
    if type(x_data) is not np.ndarray or primitive.multiple:
        return execute(primitive, (x, y), (x_data, y_data), nodes, params)
    out = None
    if x_data.size >= native.smallest or y_data.size >= native.smallest:
        out = native.computed(primitive, (x_data, y_data), params)
    if out is None:
        try:
            out = primitive.impl(backend.numpy, x_data, y_data, **params)
        except Exception as error:
            raise explain(primitive.name, (x_data, y_data), error) from error
    tensor = boxing.Tensor()
    tensor._data = out
    if nodes != _UNTRACKED and is_recording() and primitive.kind != NONDIFFERENTIABLE and out.dtype.kind in "fc":
        saved = primitive.rules["plan"].gather((x_data, y_data), nodes, out)
        tensor._node = make_node(primitive, nodes, saved, out, params)
    else:
        tensor._node = None
    return tensor


def lift_sequence(value: Any, name: str) -> Any:
    """Lift sequences that hold Tensors to Tensors; everything else stays."""
    return from_sequence(value, name) if isinstance(value, _SEQUENCES) else value


def execute(
    primitive: Primitive, args: tuple[Any, ...], data: tuple[Any, ...], nodes: tuple[Any, ...], params: dict[str, Any]
) -> Any:
    """Compute a primitive on raw data and record it if an input is tracked."""
    record = False
    for node in nodes:
        if node is not None:
            record = is_recording() and primitive.kind != NONDIFFERENTIABLE
            break
    if record:
        data = own(primitive, args, data)
    elif all([type(value) in _SCALARS for value in data]):
        data = tuple([default_scalar(value) for value in data])
    xp = backend.numpy if data and type(data[0]) is np.ndarray else _namespace(data)
    if primitive.view:
        data = (_as_array(args[0], data[0]),)
    out = None
    for value in data:
        if type(value) is np.ndarray and value.size >= native.smallest:
            out = native.computed(primitive, data, params)
            break
    if out is None:
        try:
            out = primitive.impl(xp, *data, **params)
        except Exception as error:
            raise explain(primitive.name, data, error) from error
    if primitive.multiple:
        return _box_outputs(primitive, data, nodes, out, params, record)
    if not hasattr(out, "dtype"):
        out = np.asarray(out)
    node = None
    if record and out.dtype.kind in "fc":
        node = make_node(primitive, nodes, primitive.rules["plan"].gather(data, nodes, out), out, params)
    if not primitive.view or type(out) is not np.ndarray:
        return boxing.box(out, node)
    return _box_view(primitive, args[0], data[0], out, node, params)


def _as_array(tensor: Any, value: Any) -> Any:
    """Turn a NumPy scalar into a 0-d array before a view of it is taken, so that both share memory."""
    if isinstance(value, np.generic):
        value = np.asarray(value)
        if type(tensor) is boxing.Tensor:
            tensor._data = value
    return value


def _box_view(primitive: Primitive, source: Any, data: Any, out: Any, node: Node | None, params: dict[str, Any]) -> Any:
    shares = out is data or (out.base is not None and (out.base is data or out.base is data.base))
    borrowed = shares and type(source) is not boxing.Tensor
    view = boxing.borrow(out) if borrowed else boxing.box(out, node)
    if shares and isinstance(source, boxing.Tensor):
        register(view, source, primitive, params)
    return view


def _namespace(data: tuple[Any, ...]) -> Any:
    for value in data:
        if hasattr(value, "dtype"):
            return backend.namespace_of(value)
    return backend.numpy


def own(primitive: Primitive, args: tuple[Any, ...], data: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy what the tape would keep but somebody else could still write to: bare arrays and borrowed Tensors."""
    owned: list[Any] = []
    for i, (arg, value) in enumerate(zip(args, data)):
        name = primitive.arguments[0 if primitive.variadic else i]
        if name in primitive.residuals and type(value) is np.ndarray:
            if type(arg) is boxing.BorrowedTensor:
                arg.become_owner()
                value = arg._data
            elif not isinstance(arg, boxing.Tensor):
                value = value.copy()
        owned.append(value)
    return tuple(owned)


def default_scalar(value: Any) -> Any:
    """Give a Python number that met no array the default dtype of its kind."""
    return np.asarray(value, settings.default_dtype) if type(value) is float else np.asarray(value)


def _box_outputs(
    primitive: Primitive, data: tuple[Any, ...], nodes: tuple[Any, ...], outs: Any, params: dict[str, Any], record: bool
) -> tuple[Any, ...]:
    if not record:
        return tuple([boxing.box(out) for out in outs])
    saved = primitive.rules["plan"].gather(data, nodes, outs)
    whole = make_node(primitive, nodes, saved, Several(outs), params)
    return tuple([boxing.box(out, projection(whole, i, out)) for i, out in enumerate(outs)])


def here() -> str:
    """Return "file:line" of the innermost line of user code."""
    frame = user_frame(sys._getframe(1))
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def explain(name: str, data: tuple[Any, ...], error: Exception) -> Exception:
    """Turn an array library's error into one that names the operation and the shapes or dtypes that did not fit."""
    context = error.__context__
    if isinstance(context, AttributeError) and context.name == "_data":
        # By this the fast path noticed that it was not its turn; in a traceback it would only puzzle.
        error.__context__ = None
    if isinstance(error, WengertError):
        return error
    arrays = [value for value in data if hasattr(value, "shape")]
    shapes = " and ".join(str(value.shape) for value in arrays)
    if isinstance(error, TypeError):
        dtypes = " and ".join(str(value.dtype) for value in arrays)
        return DTypeError(f"{name}: cannot be computed on dtype {dtypes}: {_first_line(error)}")
    if isinstance(error, np.exceptions.AxisError):
        return error
    if isinstance(error, ValueError):
        if "broadcast" in str(error):
            return ShapeError(
                f"{name}: shapes {shapes} do not broadcast together; aligned from the right, the extents "
                "of every axis must be equal, or one of them 1"
            )
        return ShapeError(f"{name}: shapes {shapes} do not fit: {_first_line(error)}")
    return error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
