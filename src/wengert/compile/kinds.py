"""Kinds of arguments: what a program depends on of them, besides the elements of arrays."""

# The slots of Tensor are read here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import boxing
from .captured import is_own_leaf

_ARRAYS = (boxing.Tensor, np.ndarray)
_PLAIN: tuple[type, ...] = (bool, int, float, complex, str, bytes, type(None), np.dtype, type)


def kind_of(leaf: Any) -> Any:
    """Return what a program depends on of an argument: shape and dtype of arrays, anything else as it is."""
    kind: Any = type(leaf)
    if kind is boxing.Tensor:
        data = leaf._data
        return (data.shape, data.dtype, None if leaf._node is None else _kind_of_history(leaf))
    if kind is np.ndarray:
        return (leaf.shape, leaf.dtype)
    if kind is boxing.BorrowedTensor:
        return (leaf.shape, leaf.dtype, None)
    if not isinstance(leaf, _PLAIN):
        return (kind, id(leaf))
    return (kind, leaf) if leaf else (kind, leaf, repr(leaf))  # -0.0 equals 0.0


def _kind_of_history(tensor: Any) -> Any:
    """Return what a program depends on of the history of an argument: leaf or not, and the hooks of leaves."""
    if not is_own_leaf(tensor):
        return "computed"
    node = tensor._node
    return tuple(map(id, (node.hooks or {}).values())) + tuple(map(id, (node.after_accumulate or {}).values()))


def repeated(leaves: Sequence[Any]) -> Any:
    """Return which Tensors and arrays are given more than once; None where none is, as nearly always."""
    places: dict[int, int] = {}
    pattern = [places.setdefault(id(leaf), i) for i, leaf in enumerate(leaves) if isinstance(leaf, _ARRAYS)]
    return None if len(places) == len(pattern) else tuple(pattern)


def shown(leaf: Any) -> str:
    """Return how a report speaks of an argument."""
    if isinstance(leaf, _ARRAYS):
        return f"{leaf.dtype}[{', '.join(map(str, leaf.shape))}]"
    return repr(leaf) if isinstance(leaf, _PLAIN) else f"a {type(leaf).__name__}"


__all__ = ["kind_of", "repeated", "shown"]
