"""`vmap`: one call of a function on many examples at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

import numpy as np

from ..core import boxing, pytree
from ..core.batching import BatchTrace, Randomness
from ..core.tracing import snapshot
from ..errors import ShapeError, StructureError
from ..tensor import tracer as tracer
from ..typing import PyTree
from .shared import as_tensor, described, named, parameter_name


def vmap(
    function: Callable[..., Any],
    in_axes: PyTree = 0,
    out_axes: PyTree = 0,
    *,
    axis_size: int | None = None,
    randomness: Randomness = "error",
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that maps a function over an axis of its arguments: one run on all examples, no loop.

    The function is written for a single example, and does not see the mapped axis. A branch of Python's on a value that
    differs from example to example is refused.

    Args:
        function: takes and returns any nesting of Tensors, for one example.
        in_axes: which axis of each argument holds the examples; None for arguments that are the same for all. One
            integer for all arguments, or a tuple with an entry for each: an integer, None, or a nesting of them that
            follows the argument as far as it goes. Arguments given by keyword are mapped along their first axes.
        out_axes: where the examples are to be in the results, likewise; None for what does not differ.
        axis_size: how many examples there are; only needed where no argument is mapped.
        randomness: what random numbers drawn inside are: "error", "different" for every example, or the "same".
        chunk_size: map over at most so many examples at once, to bound memory.

    Returns:
        The mapped function.

    Raises:
        ShapeError: mapped axes have different extents, or an argument lacks the axis.
        StructureError: in_axes or out_axes do not follow the arguments or the results.
        MappedValueError: Python code depends on a value that differs between examples.

    >>> import wengert as wg
    >>> wg.vmap(wg.dot)(wg.tensor([[1.0, 2.0], [3.0, 4.0]]), wg.ones((2, 2))).tolist()
    [3.0, 7.0]

    Gradients for each example, parameters being the same for all:

    >>> loss = lambda w, x: (w * x).sum() ** 2
    >>> wg.vmap(wg.grad(loss), in_axes=(None, 0))(wg.tensor(2.0), wg.tensor([1.0, 3.0])).tolist()
    [4.0, 36.0]
    """
    if randomness not in get_args(Randomness):
        raise ValueError(f'vmap: randomness must be "error", "different" or "same", not {randomness!r}')
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"vmap: chunk_size must be a positive number of examples, not {chunk_size}")

    def mapped(*args: Any, **kwargs: Any) -> Any:
        arguments = _Arguments(function, args, kwargs, in_axes, axis_size)
        if chunk_size is None or chunk_size >= arguments.size:
            return _run(function, arguments, out_axes, randomness)
        chunks = [
            _run(function, arguments.part(begin, begin + chunk_size), out_axes, randomness)
            for begin in range(0, arguments.size, chunk_size)
        ]
        return _joined(chunks, out_axes)

    return named(mapped, function, "vmap")


class _Arguments:
    """What a mapped function is called with: leaves, and which axis of each is mapped."""

    def __init__(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], in_axes: PyTree, axis_size: int | None
    ) -> None:
        self.function = function
        self.leaves, self.structure = pytree.flatten((args, kwargs))
        self.axes = self._spread(args, kwargs, in_axes)
        sizes: dict[int, int] = {}
        for i, axis in enumerate(self.axes):
            if axis is not None:
                self.leaves[i], self.axes[i] = self._with_axis(i, axis)
                sizes[i] = self.leaves[i].shape[self.axes[i]]
        self.size = self._size(sizes, axis_size)

    def part(self, begin: int, end: int) -> _Arguments:
        """Return the arguments of some of the examples."""
        made = _Arguments.__new__(_Arguments)
        made.function, made.structure, made.axes = self.function, self.structure, self.axes
        end = min(end, self.size)
        made.leaves = [
            leaf if axis is None else leaf[(slice(None),) * axis + (slice(begin, end),)]
            for leaf, axis in zip(self.leaves, self.axes)
        ]
        made.size = end - begin
        return made

    def _spread(self, args: tuple[Any, ...], kwargs: dict[str, Any], in_axes: PyTree) -> list[Any]:
        if isinstance(in_axes, list):
            in_axes = tuple(in_axes)
        if isinstance(in_axes, tuple) and len(in_axes) != len(args):
            raise StructureError(
                f"vmap: in_axes has {len(in_axes)} entries, but {described(self.function)} was called with {len(args)} "
                "positional arguments; each needs one (arguments given by keyword are mapped along their first axes)"
            )
        positional, keywords = self.structure.children
        axes = positional.spread(in_axes, "vmap: in_axes")
        for i, axis in enumerate(axes):
            if axis is not None and not _is_integer(axis):
                raise TypeError(f"vmap: in_axes must hold integers and None; for {self.path(i)} it holds {axis!r}")
        return [*axes, *[0] * keywords.count]

    def path(self, i: int) -> str:
        """Return the name of a leaf, for messages."""
        positional, keywords = self.structure.children
        begin = 0
        for number, child in enumerate(positional.children):
            if i < begin + child.count:
                return child.paths(parameter_name(self.function, number))[i - begin]
            begin += child.count
        return keywords.paths("kwargs")[i - begin]

    def _with_axis(self, i: int, axis: int) -> tuple[Any, int]:
        """Return a leaf as a Tensor, and its mapped axis counted from the front."""
        leaf = as_tensor(self.leaves[i], "vmap", partial(self.path, i))
        if not -leaf.ndim <= axis < leaf.ndim:
            raise ShapeError(
                f"vmap: {self.path(i)} has shape {leaf.shape}, so it has no axis {axis} to map over; in_axes=None "
                "passes an argument on as it is, the same for all examples"
            )
        return leaf, axis % leaf.ndim

    def _size(self, sizes: dict[int, int], axis_size: int | None) -> int:
        known = set(sizes.values())
        if axis_size is not None:
            known.add(axis_size)
        if len(known) > 1:
            listed = "; ".join(
                f"{self.path(i)} has {size} (axis {self.axes[i]} of shape {self.leaves[i].shape})"
                for i, size in sizes.items()
            )
            asked = "" if axis_size is None else f"; axis_size is {axis_size}"
            raise ShapeError(f"vmap: mapped axes must all have the same extent: {listed}{asked}")
        if not known:
            raise ShapeError(
                f"vmap: no argument of {described(self.function)} is mapped, so the number of examples is unknown; "
                "give in_axes an integer for at least one, or pass axis_size"
            )
        return known.pop()


def _is_integer(axis: Any) -> bool:
    return isinstance(axis, (int, np.integer)) and not isinstance(axis, bool)


def _run(function: Callable[..., Any], arguments: _Arguments, out_axes: PyTree, randomness: Randomness) -> Any:
    trace = BatchTrace("vmap", described(function), arguments.size, randomness)
    with trace:
        entered = [
            snapshot(leaf) if axis is None else trace.mapped(_in_front(leaf, axis))
            for leaf, axis in zip(arguments.leaves, arguments.axes)
        ]
        args, kwargs = arguments.structure.unflatten(entered)
        del entered
        outputs, form = pytree.flatten(function(*args, **kwargs))
        del args, kwargs
        axes = _spread_out(out_axes, form)
        for i, out in enumerate(outputs):
            outputs[i] = _taken_out(out, axes[i], trace, partial(_path, form, i))
        out = None
    return form.unflatten(outputs)


def _spread_out(out_axes: PyTree, form: pytree.Structure) -> list[Any]:
    """Return an axis for each leaf of the results; a list serves for a tuple."""
    if isinstance(out_axes, list) and form == pytree.tuple_of(form.children):
        out_axes = tuple(out_axes)
    return form.spread(out_axes, "vmap: out_axes")


def _path(structure: pytree.Structure, i: int) -> str:
    return structure.paths("its output")[i]


def _in_front(leaf: Any, axis: int) -> Any:
    return snapshot(leaf if axis == 0 else boxing.operations.moveaxis(leaf, axis, 0))


def _taken_out(out: Any, axis: Any, trace: BatchTrace, where: Callable[[], str]) -> Any:
    """Return a result with the examples along an axis, as it is seen from outside."""
    if axis is not None and not _is_integer(axis):
        raise TypeError(f"vmap: out_axes must hold integers and None; for {where()} it holds {axis!r}")
    out = as_tensor(out, f"vmap of {trace.described}", where)
    value, place = trace.apart(out)
    if axis is None:
        if place is not None:
            raise ShapeError(
                f"vmap: {where()} of {trace.described} differs from example to example, so out_axes must say where the "
                "examples go; None is for results that are the same for all"
            )
        return value
    if place is None:
        value = trace.repeated(value)
    if not -value.ndim <= axis < value.ndim:
        raise ShapeError(
            f"vmap: {where()} of {trace.described} has {value.ndim} axes with that of the examples, so out_axes cannot "
            f"be {axis}"
        )
    return value if axis % value.ndim == 0 else boxing.operations.moveaxis(value, 0, axis)


def _joined(chunks: Sequence[PyTree], out_axes: PyTree) -> PyTree:
    first, form = pytree.flatten(chunks[0])
    axes = _spread_out(out_axes, form)
    columns = zip(*[pytree.flatten(chunk)[0] for chunk in chunks])
    return form.unflatten(
        [
            leaf if axis is None else boxing.operations.concatenate(column, axis=axis)
            for leaf, axis, column in zip(first, axes, columns)
        ]
    )


__all__ = ["vmap"]
