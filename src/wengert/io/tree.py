"""Nested structures as a flat dict of arrays and a description in JSON, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

import wengert as wg
from wengert import Tensor
from wengert.errors import CheckpointError

Arrays = dict[str, np.ndarray]
_ARRAYS = (Tensor, np.ndarray, np.generic)


def flatten(tree: Any) -> tuple[Arrays, str | None]:
    """Return the arrays by dotted key, and what else the tree is in JSON; None for a flat dict, which needs no more.

    Raises:
        CheckpointError: the tree holds something that is no array, number, string or None, or keys that clash.
    """
    arrays: Arrays = {}
    description = _describe(tree, "", arrays)
    if isinstance(tree, Mapping) and all(
        isinstance(value, (Tensor, np.ndarray, np.generic)) for value in tree.values()
    ):
        return arrays, None
    return arrays, json.dumps(description, separators=(",", ":"))


def _describe(node: Any, path: str, arrays: Arrays) -> Any:
    if isinstance(node, _ARRAYS):
        key = path or "value"
        if key in arrays:
            raise CheckpointError(f"save: two arrays would have the key {key!r}; rename one: dots join nested names")
        arrays[key] = np.asarray(node._raw() if isinstance(node, Tensor) else node)
        return {"array": key}
    if node is None or isinstance(node, (bool, int, float, str)):
        return {"value": node}
    if isinstance(node, Mapping):
        for key in node:
            if not isinstance(key, str):
                raise CheckpointError(f"save: keys of dicts must be strings, and {path or 'the top'} has {key!r}")
        return {"dict": {key: _describe(value, _joined(path, key), arrays) for key, value in node.items()}}
    if isinstance(node, (list, tuple)):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [_describe(value, _joined(path, str(i)), arrays) for i, value in enumerate(node)]}
    raise CheckpointError(
        f"save: {path or 'the tree'} is of type {type(node).__name__}; a checkpoint holds Tensors, arrays, numbers, "
        "strings and None in dicts with string keys, lists and tuples"
    )


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def unflatten(arrays: dict[str, Tensor], description: str | None) -> Any:
    """Return the tree that `flatten` was given; a description of another origin is an error.

    Raises:
        ValueError: the description is none, or speaks of arrays that are not there.
    """
    if description is None:
        return arrays
    return _build(json.loads(description), arrays)


def _build(node: Any, arrays: dict[str, Tensor]) -> Any:
    if not isinstance(node, dict) or len(node) != 1:
        raise ValueError("its description of the tree is damaged")
    ((kind, content),) = node.items()
    if kind == "array" and isinstance(content, str) and content in arrays:
        return arrays[content]
    if kind == "value" and (content is None or isinstance(content, (bool, int, float, str))):
        return content
    if kind == "dict" and isinstance(content, dict):
        return {key: _build(value, arrays) for key, value in content.items()}
    if kind in ("list", "tuple") and isinstance(content, list):
        built = [_build(value, arrays) for value in content]
        return tuple(built) if kind == "tuple" else built
    raise ValueError("its description of the tree is damaged")


def as_tensor(array: np.ndarray) -> Tensor:
    """Copy an array that belongs to a file into a Tensor."""
    return wg.tensor(array)
