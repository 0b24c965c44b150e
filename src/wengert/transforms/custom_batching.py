"""Batching of a user's own operation: by its rule, by what it says of itself, or in a loop over the examples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import boxing, pytree
from ..core.dispatch import here
from ..declare.batching import batch_size, to_front
from ..errors import BatchLoopWarning, DeclarationError, DTypeError, ShapeError, StructureError
from .custom_calls import Call
from .written_rules import WrittenRule

LOOP, ELEMENTWISE, LEADING = "loop", "elementwise", "leading"
WAYS = (LOOP, ELEMENTWISE, LEADING)

Apply = Callable[[Sequence[Any], Call], tuple[Any, ...]]
"""Calls the operation itself on arrays."""


def checked_way(way: Any, name: str) -> str | None:
    """Return what `batch=` was given, if it means anything."""
    if way is not None and way not in WAYS:
        raise DeclarationError(
            f"primitive: batch={way!r} of {name} is none of {', '.join(map(repr, WAYS))}; a rule of your own is added "
            f"with @{name}.defbatch"
        )
    return way


def batch_elementwise(apply: Apply, args: Sequence[Any], axes: Sequence[Any], call: Call) -> tuple[Any, ...]:
    """Batch a function of single elements: all arrays are broadcast to one shape, the mapped axis in front."""
    xp = boxing.operations
    size = batch_size(tuple(args), tuple(axes))
    inner = np.broadcast_shapes(*[_shape_within(arg, axis) for arg, axis in zip(args, axes)])
    aligned: list[Any] = []
    for arg, axis in zip(args, axes):
        if not hasattr(arg, "shape"):
            aligned.append(arg)
            continue
        array = to_front(xp, xp.asarray(arg), axis)
        if axis is not None:
            missing = len(inner) - (array.ndim - 1)
            array = xp.reshape(array, (size, *(1,) * missing, *array.shape[1:]))
        aligned.append(xp.broadcast_to(array, (size, *inner)))
    return apply(aligned, call)


def _shape_within(arg: Any, axis: int | None) -> tuple[int, ...]:
    shape = tuple(getattr(arg, "shape", ()))
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]


def batch_leading(apply: Apply, args: Sequence[Any], axes: Sequence[Any], call: Call) -> tuple[Any, ...]:
    """Batch a function that takes any number of leading axes, the same ones in all its arrays."""
    return apply(_everywhere(args, axes), call)


def _everywhere(args: Sequence[Any], axes: Sequence[Any]) -> list[Any]:
    """Give every array the mapped axis in front, repeating (without copying) those that lack it."""
    xp, size = boxing.operations, batch_size(tuple(args), tuple(axes))
    repeated: list[Any] = []
    for arg, axis in zip(args, axes):
        if axis is not None:
            repeated.append(to_front(xp, arg, axis))
        elif hasattr(arg, "shape"):
            repeated.append(xp.broadcast_to(boxed(arg), (size, *arg.shape)))
        else:
            repeated.append(arg)
    return repeated


def batch_by_rule(rule: WrittenRule, args: Sequence[Any], axes: Sequence[Any], call: Call) -> tuple[Any, ...]:
    """Batch by a written rule, which gets mapped axes in front and returns them there."""
    xp, parameters = boxing.operations, call.parameters
    size = batch_size(tuple(args), tuple(axes))
    everywhere = _everywhere(args, axes)
    in_front = [to_front(xp, boxed(arg), axis) for arg, axis in zip(args, axes)]
    front = [None if axis is None else 0 for axis in axes]

    def lookup(name: str) -> Any:
        if name == "axis_size":
            return size
        if name not in parameters.names:
            return call.value(parameters.names.index(name.removesuffix("_axis")), front, others=False)
        asked = f"{name}_axis" in rule.names
        return call.value(parameters.names.index(name), in_front if asked else everywhere)

    leaves, call.out_structure = pytree.flatten(rule.run(lookup))
    paths = call.out_structure.paths("out")
    outs: list[Any] = []
    for leaf, path in zip(leaves, paths):
        if not hasattr(leaf, "dtype"):
            raise DTypeError(f"{rule} returned a {type(leaf).__name__} as {path}; expected an array")
        out = leaf if isinstance(leaf, boxing.Tensor) else boxing.box(np.array(leaf))
        if out.shape[:1] != (size,):
            raise ShapeError(
                f"{rule} returned {path} of shape {out.shape}; expected the {size} results stacked along the first axis"
            )
        outs.append(out)
    return tuple(outs)


def batch_in_loop(apply: Apply, args: Sequence[Any], axes: Sequence[Any], call: Call) -> tuple[Any, ...]:
    """Batch by calling the operation for each example in turn."""
    size = batch_size(tuple(args), tuple(axes))
    name = call.parameters.name
    if not size:
        raise ShapeError(
            f"{name}: there are no examples to map over, so a loop over them cannot know what it returns; add "
            f"@{name}.defbatch"
        )
    columns: list[list[Any]] = []
    structure: pytree.Structure | None = None
    for i in range(size):
        outs = apply([example(arg, axis, i) for arg, axis in zip(args, axes)], call)
        if structure is None:
            structure, columns = call.out_structure, [[] for _ in outs]
        shapes = [column[0].shape for column in columns if column]
        if call.out_structure != structure or (shapes and shapes != [y.shape for y in outs]):
            raise StructureError(
                f"{name}: mapped over {size} examples, it returns results of another nesting or shape for example {i} "
                "than for the first, so they cannot be stacked"
            )
        for column, y in zip(columns, outs):
            column.append(y)
    return tuple([boxing.operations.stack(column) for column in columns])


def boxed(arg: Any) -> Any:
    """Return arrays as Tensors; Python floats stay."""
    return boxing.operations.asarray(arg) if hasattr(arg, "dtype") else arg


def example(arg: Any, axis: int | None, i: int) -> Any:
    """Return one of the values that a mapped argument holds."""
    return arg if axis is None else boxing.operations.getitem(arg, (slice(None),) * axis + (i,))


def warn_of_loop(name: str) -> None:
    """Say that there is no batching rule."""
    warnings.warn(
        f"{name} has no batching rule, so vmap calls it for one example after the other ({here()}). Add "
        f'@{name}.defbatch, or say wg.primitive(batch="elementwise") or batch="leading" if that is what it is, or '
        'batch="loop" if a loop is meant',
        BatchLoopWarning,
        stacklevel=2,
    )


__all__ = [
    "ELEMENTWISE",
    "LEADING",
    "LOOP",
    "batch_by_rule",
    "batch_elementwise",
    "batch_in_loop",
    "batch_leading",
    "boxed",
    "checked_way",
    "example",
    "warn_of_loop",
]
