"""Numbers of steps as operands: in place of a number of Python's, an array that each step has its own entry of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dispatch import default_scalar
from ..core.primitive import REGISTRY
from ..core.step_numbers import StepNumber, Unrollable
from .expand_builder import elementwise_dtype, is_elementwise

_NUMBERS = (bool, int, float, complex)


def with_numbers(args: tuple[Any, ...], name: str) -> tuple[Any, ...]:
    """Return the arguments of an operation with arrays in place of numbers of steps.

    They have the dtype to which the operation converts a number of Python's that it is given in their place.
    """
    if name not in REGISTRY or not is_elementwise(REGISTRY[name]):
        raise Unrollable("an operation that wants a number")
    keys = [arg.values[0] if type(arg) is StepNumber else _dtype_or_number(arg) for arg in args]
    dtypes = [key for key in keys if isinstance(key, np.dtype)]
    if not dtypes and len(args) > 1:
        raise Unrollable("an operation on numbers alone")
    told = [_dtype_of(key, dtypes) if type(arg) is StepNumber else key for arg, key in zip(args, keys)]
    if _made_of(name, told) != _made_of(name, keys if dtypes else [default_scalar(key).dtype for key in keys]):
        raise Unrollable("a number that counts as one of Python's")
    return tuple([arg.as_number(dtype) if type(arg) is StepNumber else arg for arg, dtype in zip(args, told)])


def _dtype_of(value: Any, dtypes: list[Any]) -> Any:
    if type(value) is bool:
        return np.dtype(bool)
    return np.result_type(*dtypes, value) if dtypes else default_scalar(value).dtype


def _dtype_or_number(arg: Any) -> Any:
    return arg if type(arg) in _NUMBERS else np.dtype(getattr(arg, "dtype", None) or np.asarray(arg).dtype)


def _made_of(name: str, keys: list[Any]) -> Any:
    return elementwise_dtype(REGISTRY[name], tuple(keys), tuple(map(type, keys)))


__all__ = ["with_numbers"]
