"""NumPy's own functions on Tensors: `np.sin(t)`, `np.concatenate([t, u])`, `np.add(t, u, out=v)` stay on the tape.

A function of NumPy's is answered by the operation of the same name, with arguments matched by name and position. Where
there is no such operation, NumPy computes on the values: if nothing is tracked, or if the result holds no floating
numbers, no gradient is lost by that; otherwise it is refused.
"""

# What NumPy hands over may be of any type.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from ..core import boxing
from ..errors import DTypeError, ShapeError
from .creation import asarray, astype
from .handover import cannot, deliver, host, is_tracked, on_the_host, refuse_array
from .indexing import canonical_key
from .writing import compute_into, overwrite, setitem

_ALIASES = {"amax": "max", "amin": "min", "around": "round", "conjugate": "conj", "copy": "clone"}
_PARAMETERS = {"a_min": "min", "a_max": "max"}
_MODULES = ("numpy", "numpy.linalg")
_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
    "logaddexp": "logsumexp",
}
_SCANS = {"add": "cumsum", "multiply": "cumprod"}
_NEUTRAL = {"maximum": -np.inf, "minimum": np.inf, "logaddexp": -np.inf}
_WRITING = {
    "copyto": "src",
    "fill_diagonal": "val",
    "place": "vals",
    "put": "v",
    "put_along_axis": "values",
    "putmask": "values",
}
"""Functions that write into their first argument, with the name of the argument that is written."""
_NO_VALUE: Any = np._NoValue  # type: ignore[attr-defined]


def _is_set(value: Any) -> bool:
    return value is not None and value is not _NO_VALUE


class _Unsupported(Exception):
    """The operation of that name does not take an argument that was given."""


# ---------------------------------------------------------------------- universal functions


def array_ufunc(self: Any, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """Answer NumPy's ufunc protocol with the operation of the same name."""
    out = kwargs.pop("out", ())
    if any([_is_foreign(value) for value in (*inputs, *out)]):
        return NotImplemented
    if method == "at":
        return _at(ufunc, *inputs)
    operation = _operation_of(ufunc.__name__)
    answer = _METHODS[method]
    try:
        if operation is None:
            raise _Unsupported(f"np.{ufunc.__name__} has no operation of that name")
        result = answer(ufunc, operation, inputs, dict(kwargs), out)
    except _Unsupported as reason:
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        result = on_the_host(getattr(ufunc, method), f"np.{name}", inputs, kwargs, str(reason))
    if not out:
        return result
    if ufunc.nout == 1:
        return deliver(result, out[0], kwargs.get("casting", "same_kind"), f"np.{ufunc.__name__}")
    return tuple([r if o is None else deliver(r, o, "same_kind", f"np.{ufunc.__name__}") for r, o in zip(result, out)])


def _is_foreign(value: Any) -> bool:
    """Return whether another library wants to answer NumPy's protocol for this value."""
    if value is None or isinstance(value, (boxing.Tensor, np.ndarray, np.generic)):
        return False
    return getattr(type(value), "__array_ufunc__", None) is not None


def _operation_of(name: str) -> Any:
    operations = boxing.operations
    operation = getattr(operations, name, None) or getattr(operations, _ALIASES.get(name, ""), None)
    return operation if callable(operation) else None


def _call(ufunc: Any, operation: Any, inputs: Any, kwargs: dict[str, Any], out: Any) -> Any:
    mask = kwargs.pop("where", True)
    dtype, signature = kwargs.pop("dtype", None), kwargs.pop("signature", kwargs.pop("sig", None))
    casting = kwargs.pop("casting", "same_kind")
    if unknown := [name for name in kwargs if name not in ("order", "subok")]:
        raise _Unsupported(f"the argument {unknown[0]!r} is not supported")
    if dtype is not None or signature is not None or casting != "same_kind":
        inputs = _in_loop_dtypes(ufunc, inputs, dtype, signature, casting)
    if mask is True:
        if len(out) == 1 and isinstance(out[0], boxing.Tensor) and casting == "same_kind":
            if compute_into(out[0], operation, inputs, f"np.{ufunc.__name__}"):
                return out[0]
        return operation(*inputs)
    with np.errstate(all="ignore"):
        result = operation(*inputs)
    if ufunc.nout > 1:
        raise _Unsupported("where= is not supported for several results")
    before = out[0] if out else boxing.operations.zeros_like(result)
    if isinstance(before, np.ndarray) and result.dtype != before.dtype:
        result = astype(result, before.dtype)
    return boxing.operations.where(mask, result, before)


def _in_loop_dtypes(ufunc: Any, inputs: Any, dtype: Any, signature: Any, casting: str) -> list[Any]:
    """Convert the inputs to the dtypes that NumPy would compute in."""
    if signature is None:
        signature = (None,) * ufunc.nin + (None if dtype is None else np.dtype(dtype),) * ufunc.nout
    given = [type(x) if type(x) in (int, float, complex) else asarray(x).dtype for x in inputs]
    resolved = ufunc.resolve_dtypes((*given, *(None,) * ufunc.nout), signature=signature, casting=casting)
    return [
        x if type(x) in (int, float, complex) and kind.kind in "iu" else astype(x, kind, copy=False)
        for x, kind in zip(inputs, resolved)
    ]


def _reduce(ufunc: Any, operation: Any, inputs: Any, kwargs: dict[str, Any], out: Any) -> Any:
    name = _REDUCTIONS.get(ufunc.__name__)
    x = asarray(inputs[0])
    options = {"axis": 0, **dict(zip(("axis", "dtype", "out", "keepdims"), inputs[1:])), **kwargs}
    keepdims = bool(options.get("keepdims", False))
    dtype, initial, where = options.get("dtype"), options.get("initial"), options.get("where", True)
    if dtype is not None:
        x = astype(x, dtype, copy=False)
    if where is not True:
        neutral = _NEUTRAL.get(ufunc.__name__, ufunc.identity)
        if neutral is None:
            raise _Unsupported("where= is not supported for this reduction")
        x = boxing.operations.where(where, x, neutral)
    if name is None:
        result = _fold(operation, x, options["axis"], keepdims, ufunc.__name__)
    else:
        result = getattr(boxing.operations, name)(x, axis=options["axis"], keepdims=keepdims)
    return operation(result, initial) if _is_set(initial) else result


def _fold(operation: Any, x: Any, axis: Any, keepdims: bool, name: str) -> Any:
    if axis is None and x.ndim == 1:
        axis = 0
    if isinstance(axis, tuple) and len(axis) == 1:
        axis = axis[0]
    if not isinstance(axis, int):
        raise ShapeError(f"np.{name}.reduce: the order matters, so it can be reduced along one axis alone, not {axis}")
    *_, last = _partial_results(operation, boxing.operations.moveaxis(x, axis, 0))
    return boxing.operations.expand_dims(last, axis) if keepdims else last


def _partial_results(operation: Any, rows: Any) -> Iterable[Any]:
    if not rows.shape[0]:
        raise ShapeError("an empty axis cannot be reduced by an operation without a neutral element")
    partial = rows[0]
    yield partial
    for i in range(1, rows.shape[0]):
        partial = operation(partial, rows[i])
        yield partial


def _accumulate(ufunc: Any, operation: Any, inputs: Any, kwargs: dict[str, Any], out: Any) -> Any:
    x, axis = asarray(inputs[0]), kwargs.get("axis", inputs[1] if len(inputs) > 1 else 0)
    if (dtype := kwargs.get("dtype")) is not None:
        x = astype(x, dtype, copy=False)
    scan = getattr(boxing.operations, _SCANS.get(ufunc.__name__, ""), None)
    if scan is not None:
        return scan(x, axis=axis)
    rows = boxing.operations.moveaxis(x, axis, 0)
    return boxing.operations.stack(list(_partial_results(operation, rows)), axis=axis)


def _outer(ufunc: Any, operation: Any, inputs: Any, kwargs: dict[str, Any], out: Any) -> Any:
    x, y = [asarray(value) for value in inputs]
    return _call(ufunc, operation, (x.reshape(x.shape + (1,) * y.ndim), y), kwargs, out)


def _reduceat(ufunc: Any, operation: Any, inputs: Any, kwargs: dict[str, Any], out: Any) -> Any:
    x, starts = asarray(inputs[0]), np.asarray(host(inputs[1]))
    axis = kwargs.pop("axis", 0)
    rows = boxing.operations.moveaxis(x, axis, 0)
    ends = [*starts[1:], rows.shape[0]]
    parts = [
        _reduce(ufunc, operation, (rows[i:j],), dict(kwargs), ()) if i < j else rows[int(i)]
        for i, j in zip(starts, ends)
    ]
    return boxing.operations.stack(parts, axis=axis)


_METHODS: dict[str, Callable[..., Any]] = {
    "__call__": _call,
    "reduce": _reduce,
    "accumulate": _accumulate,
    "outer": _outer,
    "reduceat": _reduceat,
}


def _at(ufunc: Any, target: Any, key: Any, value: Any = None) -> None:
    """Apply a function in place at positions; where positions repeat, it is applied again and again."""
    name = f"np.{ufunc.__name__}.at"
    if not isinstance(target, boxing.Tensor):
        refuse_array(target, (key, value), name)
        ufunc.at(target, *host((key,) if value is None else (key, value)))
        return
    operation = _operation_of(ufunc.__name__)
    if operation is None:
        if is_tracked((target, value)):
            raise cannot(name, f"np.{ufunc.__name__} has no operation of that name", (target, value))
        operation = ufunc
    canonical, basic = canonical_key(key, target.shape)
    if basic:
        setitem(target, key, operation(target[key]) if value is None else operation(target[key], value))
        return
    positions = np.arange(target.size).reshape(target.shape)[canonical]
    flat = positions.ravel()
    values = None if value is None else boxing.operations.broadcast_to(asarray(value), positions.shape).reshape(-1)
    for chosen in _rounds(flat):
        where = np.unravel_index(flat[chosen], target.shape)
        old = target[where]
        setitem(target, where, operation(old) if values is None else operation(old, values[chosen]))


def _rounds(positions: np.ndarray) -> Iterable[np.ndarray]:
    """Split repeated positions into rounds without repetition: first all first occurrences, then all second ones."""
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if ordered.size else np.zeros(0, int)
    counts = np.diff(np.r_[starts, ordered.size])
    occurrence = np.arange(ordered.size) - np.repeat(starts, counts)
    for i in range(counts.max(initial=0)):
        yield order[occurrence == i]


# ---------------------------------------------------------------------- other functions


def array_function(self: Any, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Answer NumPy's function protocol with the operation of the same name."""
    if not all([issubclass(kind, (boxing.Tensor, np.ndarray)) for kind in types]):
        return NotImplemented
    name = function.__name__
    shown = f"{function.__module__.replace('numpy', 'np', 1)}.{name}"
    if name in _WRITING and function.__module__ == "numpy":
        return _write_as(function, shown, args, kwargs)
    out = kwargs.get("out")
    try:
        operation = _operation_of(name) if function.__module__ in _MODULES else None
        if function in _DIFFERENT:
            operation = _DIFFERENT[function]
        if operation is None:
            raise _Unsupported(f"{shown} has no operation of that name")
        positional, named, out = _matched(function, operation, args, kwargs)
        result = operation(*positional, **named)
    except _Unsupported as reason:
        result = on_the_host(function, shown, args, {k: v for k, v in kwargs.items() if k != "out"}, str(reason))
    return result if out is None else deliver(result, out[0] if type(out) is tuple else out, "same_kind", shown)


def _matrix_diagonal(x: Any, offset: int = 0) -> Any:
    return boxing.operations.diagonal(x, offset, -2, -1)


def _matrix_trace(x: Any, offset: int = 0, dtype: Any = None) -> Any:
    return boxing.operations.sum(_matrix_diagonal(x, offset), axis=-1, dtype=dtype)


_DIFFERENT = {np.linalg.diagonal: _matrix_diagonal, np.linalg.trace: _matrix_trace}
"""Functions that differ from the operation of the same name."""


@cache
def _parameters(function: Any) -> dict[str, inspect.Parameter] | None:
    """Return the parameters of a function of NumPy's, or of an operation, by name; None if it does not say."""
    primitive = getattr(function, "primitive", None)
    if primitive is not None and not primitive.variadic:
        kinds = {name: inspect.Parameter.POSITIONAL_ONLY for name in primitive.arguments}
        kinds.update({name: inspect.Parameter.KEYWORD_ONLY for name in primitive.parameters})
        return {name: inspect.Parameter(name, kind) for name, kind in kinds.items()}
    try:
        return dict(inspect.signature(function).parameters)
    except ValueError:
        return None


def _matched(function: Any, operation: Any, args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any], Any]:
    """Match a call of NumPy's to an operation's parameters: by name, else by position where both names are unknown.

    Returns:
        Positional arguments, named arguments, and what was given as `out`.
    """
    theirs, ours = _parameters(function), _parameters(operation)
    if theirs is None or ours is None:
        named = dict(kwargs)
        return list(args), named, named.pop("out", None)
    bound = inspect.signature(function).bind(*args, **kwargs)
    parameters = list(ours.values())
    known = set(ours)
    positional: list[Any] = []
    named, out = {}, None
    for place, (name, parameter) in enumerate(theirs.items()):
        if name not in bound.arguments:
            continue
        value = bound.arguments[name]
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(value)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named.update({_known(_PARAMETERS.get(str(n), str(n)), known): v for n, v in value.items()})
        elif name == "out":
            out = value
        elif name in known or _PARAMETERS.get(name) in known:
            named[name if name in known else _PARAMETERS[name]] = value
        elif place < len(parameters) and parameters[place].name not in theirs:
            named[parameters[place].name] = value
        elif value is not parameter.default and _is_set(value):
            raise _Unsupported(f"the argument {name!r} is not supported")
    named = {name: value for name, value in named.items() if value is not _NO_VALUE}
    return *_in_places(parameters, positional, named), out


def _known(name: str, known: set[str]) -> str:
    if name not in known:
        raise _Unsupported(f"the argument {name!r} is not supported")
    return name


def _in_places(
    parameters: list[inspect.Parameter], positional: list[Any], named: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Turn arguments that can only be given by position into positional ones; complain of missing ones."""
    named = dict(named)
    if not positional:
        for parameter in parameters:
            if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY or parameter.name not in named:
                break
            positional = [*positional, named.pop(parameter.name)]
        for parameter in parameters[len(positional) :]:
            required = parameter.default is inspect.Parameter.empty
            variable = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            if required and not variable and parameter.name not in named:
                raise _Unsupported(f"it is not supported without {parameter.name!r}")
    return positional, named


def _write_as(function: Any, shown: str, args: Any, kwargs: Any) -> None:
    """Do what a writing function of NumPy's does: it is run on positions, and the write it amounts to is made."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    target = next(iter(bound.arguments.values()))
    name = _WRITING[function.__name__]
    value = bound.arguments[name]
    if not isinstance(target, boxing.Tensor):
        refuse_array(target, args, shown)
        function(*host(args), **host(kwargs))
        return
    casting = bound.arguments.get("casting", "same_kind" if function is np.copyto else "unsafe")
    source = asarray(value)
    if not isinstance(value, (int, float)) and not np.can_cast(source.dtype, target.dtype, casting):
        raise DTypeError(f"{shown}: cannot cast {source.dtype} to {target.dtype} by the rule {casting!r}")
    if function is np.copyto and bound.arguments.get("where", True) is True:
        overwrite(target, value, shown)
        return
    marks = np.full(target.shape, -1, np.intp)
    arguments = {key: host(argument) for key, argument in bound.arguments.items()}
    arguments[next(iter(arguments))] = marks
    arguments[name] = np.arange(source.size).reshape(source.shape)
    if function is np.copyto:
        np.copyto(marks, arguments["src"], where=arguments["where"])
    else:
        function(*arguments.values())
    written = (marks >= 0).nonzero()
    setitem(target, written, source.reshape(-1)[marks[written]])
