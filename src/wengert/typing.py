"""Names for the types that signatures speak of; imports NumPy for annotations alone."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A raw array: `numpy.ndarray`, a NumPy scalar, or an array of another backend."""
ArrayLike: TypeAlias = Any
"""Whatever `wg.asarray` accepts: a Tensor, an array, a Python number, nested sequences of them."""
Namespace: TypeAlias = ModuleType | Any
"""An array namespace (`xp`): raw NumPy functions, the library's own operations, or the compiler's scalar IR."""
Shape: TypeAlias = tuple[int, ...]
Axis: TypeAlias = int | tuple[int, ...] | None
DType: TypeAlias = "np.dtype[Any]"
DTypeLike: TypeAlias = Any
PyTree: TypeAlias = Any
"""A leaf, or nested tuples, lists, dicts, named tuples and `None` of leaves."""
Params: TypeAlias = dict[str, Any]
Rule: TypeAlias = Callable[..., Any]

__all__ = ["Array", "ArrayLike", "Axis", "DType", "DTypeLike", "Namespace", "Params", "PyTree", "Rule", "Shape"]
