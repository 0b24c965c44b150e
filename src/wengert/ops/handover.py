"""Between Tensors and NumPy's arrays: results go into `out`, values to NumPy, and gradients are not lost on the way."""

# What NumPy hands over may be of any type.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core import boxing
from ..core.recording import is_recording
from ..core.tracing import is_followed, made_at
from ..errors import DTypeError, GradientError, NotDifferentiableError, ShapeError
from .creation import asarray
from .writing import overwrite

_VALUE_FREE = frozenset(("zeros_like", "ones_like", "empty_like"))
"""Functions whose result does not depend on the values, so that no gradient can be lost."""


def deliver(result: Any, out: Any, casting: Any, name: str) -> Any:
    """Write a result into what was given as `out`, and return that."""
    if result is out:
        return out
    result = asarray(result)
    if not np.can_cast(result.dtype, out.dtype, casting):
        raise DTypeError(f"{name}: cannot cast the result from {result.dtype} to the {out.dtype} of out by {casting!r}")
    if not _broadcasts_to(result.shape, tuple(out.shape)):
        raise ShapeError(f"{name}: a result of shape {result.shape} does not fit an out of shape {tuple(out.shape)}")
    if isinstance(out, boxing.Tensor):
        return overwrite(out, result, name)
    refuse_array(out, (result,), name)
    np.copyto(out, host(result), casting=casting)
    return out


def _broadcasts_to(shape: Any, target: Any) -> bool:
    aligned = zip(reversed(shape), reversed(target))
    return len(shape) <= len(target) and all([extent in (1, wanted) for extent, wanted in aligned])


def refuse_array(target: Any, values: Any, name: str) -> None:
    if is_tracked(values):
        raise GradientError(
            f"{name}: a tracked result cannot be written into a NumPy array, where its gradient would silently end. "
            "Make the target a Tensor, as in wg.asarray(array), or detach() the values"
        )


def on_the_host(function: Any, name: str, args: Any, kwargs: Any, reason: str) -> Any:
    """Let NumPy compute on the values, unless that would lose a gradient."""
    result = function(*host(args), **host(kwargs))
    if _holds_floating(result) and is_tracked((args, kwargs)) and function.__name__ not in _VALUE_FREE:
        raise cannot(name, reason, (args, kwargs))
    return _boxed(result)


def cannot(name: str, reason: str, values: Any) -> NotDifferentiableError:
    culprit = next(_tracked(values))
    return NotDifferentiableError(
        f"{name} cannot be differentiated: {reason}, so that the result would silently leave the tape, on which the "
        f"Tensor made at {made_at(culprit)} is. Detach the argument if a constant is meant, or compose the "
        "function of operations that have derivatives"
    )


def _tensors_in(value: Any) -> Iterable[Any]:
    if isinstance(value, boxing.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors_in(item)
    elif isinstance(value, dict):
        yield from _tensors_in(list(value.values()))


def _tracked(values: Any) -> Any:
    return iter([tensor for tensor in _tensors_in(values) if is_followed(tensor)])


def is_tracked(values: Any) -> bool:
    return is_recording() and next(_tracked(values), None) is not None


def host(value: Any) -> Any:
    """Replace Tensors by their values, however deeply nested."""
    if isinstance(value, boxing.Tensor):
        return value.detach().numpy()
    if isinstance(value, (list, tuple)):
        return type(value)([host(item) for item in value])
    if isinstance(value, dict):
        return {key: host(item) for key, item in value.items()}
    return value


def _holds_floating(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any([_holds_floating(item) for item in value])
    return isinstance(value, (float, complex)) or getattr(getattr(value, "dtype", None), "kind", "") in tuple("fc")


def _boxed(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return boxing.box(value) if value.dtype.kind in "biufc" else value
    if type(value) in (list, tuple):
        return type(value)([_boxed(item) for item in value])
    return value
