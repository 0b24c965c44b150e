"""Batching rules that follow from the kind of an operation: rank alignment, and moving the mapped axis to the front."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.primitive import Primitive
from ..typing import Rule


def _ndim(value: Any) -> int:
    return value.ndim if hasattr(value, "ndim") else 0


def to_front(xp: Any, value: Any, axis: int | None) -> Any:
    """Move the mapped axis to the front (values that are not mapped pass through)."""
    return value if axis is None or axis == 0 else xp.moveaxis(value, axis, 0)


def batch_size(args: tuple[Any, ...], axes: tuple[Any, ...]) -> int:
    """Return the extent of the mapped axis."""
    for value, axis in zip(args, axes):
        if axis is not None:
            return value.shape[axis]
    raise ValueError("a batching rule was called without a mapped argument")


def batch_elementwise(xp: Any, args: tuple[Any, ...], axes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Align ranks so that broadcasting pairs the mapped axis (in front) with itself alone."""
    rank = max([_ndim(value) - (axis is not None) for value, axis in zip(args, axes)])
    aligned: list[Any] = []
    for value, axis in zip(args, axes):
        if axis is not None:
            value = to_front(xp, value, axis)
            missing = rank - (value.ndim - 1)
            if missing:
                value = xp.reshape(value, (value.shape[0],) + (1,) * missing + value.shape[1:])
        aligned.append(value)
    return tuple(aligned)


def all_in_front(xp: Any, args: tuple[Any, ...], axes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give every argument the mapped axis in front, repeating (without copying) those that lack it."""
    size = batch_size(args, axes)
    return tuple(
        [
            xp.broadcast_to(xp.asarray(value), (size, *_shape(value))) if axis is None else to_front(xp, value, axis)
            for value, axis in zip(args, axes)
        ]
    )


def _shape(value: Any) -> tuple[int, ...]:
    return value.shape if hasattr(value, "shape") else ()


def from_batched(primitive: Primitive, batched: Rule) -> Callable[..., tuple[Any, Any]]:
    """Make a batching rule of `batched(xp, *arrays, **params)`, which gets and returns the mapped axis in front."""

    def batch(xp: Any, args: tuple[Any, ...], axes: tuple[Any, ...], params: dict[str, Any]) -> tuple[Any, Any]:
        arrays = (to_front(xp, args[0], axes[0]),) if len(args) == 1 else all_in_front(xp, args, axes)
        out = batched(xp, *arrays, **params)
        return out, (0,) * len(out) if primitive.multiple else 0

    return batch
