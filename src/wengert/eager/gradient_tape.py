"""`GradientTape`: gradients of what was computed during a `with` block, with TensorFlow's rules.

The engine records by linking Nodes, so a tape keeps no list of operations: it remembers when it was recording, as spans
of the Nodes' sequence numbers, and what it watched. What was recorded outside of its spans is a constant to it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import inf
from typing import Any, Literal

import numpy as np

from ..core import boxing, capturing, pytree
from ..core.backward import gradients_of, seed_of, zeros_for
from ..core.recording import is_recording, observers, set_observers, set_recording
from ..core.rows import Basis, one_for_each_element, one_for_each_inner_element, stacked_gradients
from ..core.tape import Leaf, Node, location, next_sequence
from ..core.tracing import comes_of_something_tracked, is_tracer
from ..core.watching import lend, take_off, used_leaves
from ..errors import DTypeError, GradientError, ShapeError, StructureError
from ..tensor import tracer as tracer
from ..typing import PyTree, Shape

Unconnected = Literal["none", "zero"]


class GradientTape:
    """Remembers when it was recording, and returns gradients of what was computed then.

    Tensors that require grad are watched by themselves, others where `watch` is called. Without `persistent=True`, a
    tape gives one set of gradients, and frees what was recorded as it goes.

    Args:
        persistent: keep the record, for any number of gradients.
        watch_accessed_variables: watch Tensors that require grad without being told to.

    >>> import wengert as wg
    >>> x = wg.tensor(3.0)
    >>> with wg.GradientTape() as tape:
    ...     tape.watch(x)
    ...     y = x * x
    >>> tape.gradient(y, x)
    Tensor(6., dtype=float32)

    Tapes nest, for derivatives of any order:

    >>> with wg.GradientTape() as outer:
    ...     outer.watch(x)
    ...     with wg.GradientTape() as inner:
    ...         inner.watch(x)
    ...         y = x * x * x
    ...     slope = inner.gradient(y, x)
    >>> outer.gradient(slope, x)
    Tensor(18., dtype=float32)
    """

    def __init__(self, persistent: bool = False, watch_accessed_variables: bool = True) -> None:
        self._persistent = persistent
        self._watch_accessed = watch_accessed_variables
        self._clear()

    def _clear(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._watched: dict[int, tuple[Any, Node]] = {}
        self._lent: list[Node] = []
        self._recording = False
        self._spent_by = ""
        self._neighbours: weakref.WeakSet[GradientTape] = weakref.WeakSet()

    # ------------------------------------------------------------------ recording

    def __enter__(self) -> GradientTape:
        if self._recording:
            raise GradientError(
                "GradientTape: this tape is recording already; a `with` block of its own needs another tape"
            )
        if self._spent_by:
            self._clear()
        self._start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop()

    def _start(self) -> None:
        for other in observers():
            if isinstance(other, GradientTape):
                self._neighbours.add(other)
                other._neighbours.add(self)
        self._resume()
        for tensor, node in self._watched.values():
            lend(tensor, node, self._lent)

    def _stop(self) -> None:
        if self._recording:
            self._pause()
        lent, self._lent = self._lent, []
        with ExitStack() as stack:  # where one fails, the others are taken off all the same
            for leaf in reversed(lent):
                stack.callback(take_off, leaf)

    def _resume(self) -> None:
        set_observers((*observers(), self))
        self._recording = True
        self._spans.append((next_sequence(), inf))

    def _pause(self) -> None:
        set_observers(tuple([observer for observer in observers() if observer is not self]))
        self._recording = False
        self._spans[-1] = (self._spans[-1][0], next_sequence())

    def reset(self) -> None:
        """Forget everything, what is watched included; go on recording if it was recording.

        >>> import wengert as wg
        >>> x = wg.tensor(3.0)
        >>> with wg.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        ...     tape.reset()
        ...     tape.watch(x)
        ...     z = x * x
        >>> tape.gradient(z, x).item()
        6.0
        """
        recording = self._recording
        self._stop()
        self._clear()
        if recording:
            self._start()

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Record nothing on this tape during a `with` block; other tapes go on.

        Raises:
            GradientError: the tape is not recording.
        """
        if not self._recording:
            raise GradientError("stop_recording: this tape is not recording, so there is nothing to stop")
        self._pause()
        before = set_recording(is_recording() and bool(observers()))
        try:
            yield
        finally:
            set_recording(before)
            if not self._spent_by:
                self._resume()

    def watch(self, tensor: PyTree) -> None:
        """Watch a Tensor (or all Tensors of a nesting), so that gradients with respect to it can be had.

        They are with respect to the values that it has now, also if it is written to later.

        Raises:
            GradientError: the tape is not recording.
            DTypeError: it is no Tensor, or not a floating one.
        """
        if not self._recording:
            raise GradientError("watch: this tape is not recording; call watch inside of its `with` block")
        leaves, structure = pytree.flatten(tensor)
        for i, leaf in enumerate(leaves):
            if not isinstance(leaf, boxing.Tensor):
                path = structure.paths("the argument")[i]
                raise DTypeError(f"watch: {path} is of type {type(leaf).__name__}; only Tensors can be watched")
            lend(leaf, None, self._lent)
            self._watched[id(leaf)] = (leaf, leaf._node)

    def watched_variables(self) -> tuple[Any, ...]:
        """Return the leaves that this tape knows: those watched, and those that require grad and were used.

        The used ones are found by looking through all Nodes that are alive, which takes a while in a large program.
        """
        leaves = [node for _, node in self._watched.values() if isinstance(node, Leaf)]
        if self._watch_accessed:
            leaves += used_leaves(self._spans)
        tensors = [leaf.tensor_reference() for leaf in dict.fromkeys(leaves)]
        return tuple([tensor for tensor in tensors if tensor is not None])

    # ------------------------------------------------------------------ gradients

    def gradient(
        self,
        target: PyTree,
        sources: PyTree,
        output_gradients: PyTree = None,
        unconnected_gradients: Unconnected = "none",
    ) -> Any:
        """Return the gradient of the (sum of the) target with respect to the sources.

        The gradient is recorded itself, and so can be differentiated, if another tape is recording meanwhile, or this
        one is and is persistent.

        Args:
            target: a Tensor, or any nesting of them, whose gradients are added up.
            sources: Tensors, in any nesting.
            output_gradients: a seed for each Tensor of the target (default: ones).
            unconnected_gradients: "none" or "zero": what a source gets that the target doesn't depend on.

        Returns:
            Tensors (or None) nested as the sources are.

        Raises:
            GradientError: a second gradient from a tape that isn't persistent, or a source that isn't watched.
            DTypeError: a target or a source isn't a Tensor.
        """
        self._begin("gradient", unconnected_gradients)
        targets, seeds = _targets_and_seeds(target, output_gradients)
        nodes, leaves, structure = self._sources(sources, "gradient")
        if self._recording and not self._persistent:
            self._stop()
        create = self._is_observed()
        tracked = [(out, seed) for out, seed in zip(targets, seeds) if out._node is not None]
        gradients = gradients_of(
            [out for out, _ in tracked],
            nodes,
            [boxing.box(np.ones(out.shape, out.dtype)) if seed is None else seed for out, seed in tracked],
            retain_graph=self._retains(create),
            create_graph=create,
            name="GradientTape.gradient",
            spans=self._spans,
        )
        self._spend("gradient")
        if unconnected_gradients == "zero":
            gradients = [zeros_for(x.shape, x.dtype) if g is None else g for x, g in zip(leaves, gradients)]
        return structure.unflatten(gradients)

    def jacobian(self, target: Any, sources: PyTree, unconnected_gradients: Unconnected = "none") -> Any:
        """Return the derivative of every element of the target with respect to every element of the sources.

        Returns:
            Tensors of shape `target.shape + source.shape` (or None), nested as the sources are.

        Raises:
            GradientError: the tape is still recording, or isn't persistent and was used already.
            DTypeError: the target or a source isn't a Tensor.

        >>> import wengert as wg
        >>> x = wg.tensor([1.0, 2.0])
        >>> with wg.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.jacobian(y, x)
        Tensor([[2., 0.],
                [0., 4.]], dtype=float32)
        """
        self._begin("jacobian", unconnected_gradients)
        self._demand_stopped("jacobian")
        _demand_target(target, "jacobian", "the target")
        nodes, leaves, structure = self._sources(sources, "jacobian")
        columns = self._columns(target, nodes, one_for_each_element(target.shape, target.dtype))
        self._spend("jacobian")
        return structure.unflatten(
            [
                _shaped(column, (*target.shape, *x.shape), x.dtype, unconnected_gradients)
                for x, column in zip(leaves, columns)
            ]
        )

    def batch_jacobian(self, target: Any, source: Any, unconnected_gradients: Unconnected = "none") -> Any:
        """Return the Jacobian of each example of a batch: `jacobian[b] = d target[b] / d source[b]`.

        Examples are along the first axis; `target[b]` must depend on no other example than `source[b]`, which is not
        checked. One sweep serves all elements of an example.

        Returns:
            A Tensor of shape `(batch, *target.shape[1:], *source.shape[1:])`, or None.

        Raises:
            GradientError: the tape is still recording, or isn't persistent and was used already.
            ShapeError: target and source don't have the same number of examples.
            DTypeError: one of them isn't a Tensor.

        >>> import wengert as wg
        >>> x = wg.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> with wg.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = (x * x).sum(axis=1)
        >>> tape.batch_jacobian(y, x)
        Tensor([[2., 4.],
                [6., 8.]], dtype=float32)
        """
        self._begin("batch_jacobian", unconnected_gradients)
        self._demand_stopped("batch_jacobian")
        _demand_target(target, "batch_jacobian", "the target")
        nodes, (x,), _ = self._sources(_demand_target(source, "batch_jacobian", "the source"), "batch_jacobian")
        if not target.ndim or not x.ndim or target.shape[0] != x.shape[0]:
            raise ShapeError(
                "batch_jacobian: target and source must have the same number of examples along their first axis, but "
                f"have shapes {target.shape} and {x.shape}"
            )
        batch, inner = target.shape[0], target.shape[1:]
        (column,) = self._columns(target, nodes, one_for_each_inner_element(target.shape, target.dtype))
        self._spend("batch_jacobian")
        shape = (batch, *inner, *x.shape[1:])
        if column is None:
            return _shaped(None, shape, x.dtype, unconnected_gradients)
        return boxing.operations.reshape(boxing.operations.moveaxis(column, 0, 1), shape)

    def _columns(self, target: Any, nodes: Sequence[Node | None], basis: Basis) -> list[Any]:
        if target._node is None:
            return [None] * len(nodes)
        create = self._is_observed()
        return stacked_gradients(
            target,
            nodes,
            basis,
            name="GradientTape",
            retain_graph=self._retains(create),
            create_graph=create,
            spans=self._spans,
        )

    # ------------------------------------------------------------------ what is asked before and noted after

    def _begin(self, name: str, unconnected: str) -> None:
        if self._spent_by:
            raise GradientError(
                f"{name}: this GradientTape has given its one set of gradients already, by {self._spent_by}(). Make it "
                "with GradientTape(persistent=True) to ask it more than once"
            )
        if not self._spans:
            raise GradientError(
                f"{name}: this GradientTape has recorded nothing; compute the target in its `with` block"
            )
        if unconnected not in ("none", "zero"):
            raise ValueError(f"{name}: unconnected_gradients must be 'none' or 'zero', not {unconnected!r}")

    def _demand_stopped(self, name: str) -> None:
        if self._recording:
            raise GradientError(
                f"{name}: this tape is still recording, and would record every sweep; call {name}() after its `with` "
                "block, or inside of `with tape.stop_recording():`"
            )

    def _spend(self, name: str) -> None:
        if not self._persistent:
            self._spent_by = name

    def _is_observed(self) -> bool:
        """Return whether somebody records what is computed now: the gradient is then recorded too."""
        return capturing.is_observed()

    def _retains(self, create_graph: bool) -> bool:
        """Return whether another tape, or a later gradient of this one, may need what was recorded."""
        return self._persistent or create_graph or any(not tape._spent_by for tape in self._neighbours)

    def _sources(self, sources: PyTree, name: str) -> tuple[list[Node | None], list[Any], pytree.Structure]:
        """Return (the Node of each source, None if it was never on the tape, the sources, their structure)."""
        leaves, structure = pytree.flatten(sources)
        nodes: list[Node | None] = []
        for i, leaf in enumerate(leaves):
            if not isinstance(leaf, boxing.Tensor):
                path = structure.paths("the source")[i]
                raise DTypeError(f"{name}: {path} is of type {type(leaf).__name__}, not a Tensor")
            if id(leaf) in self._watched:
                nodes.append(self._watched[id(leaf)][1])
                continue
            if not self._watch_accessed and (leaf._node is None or isinstance(leaf._node, Leaf)):
                path = structure.paths("the source")[i]
                made = "" if leaf._node is None else f", made at {location(leaf._node)},"
                raise GradientError(
                    f"{name}: {path} (shape {leaf.shape}){made} is not watched: the tape was made with "
                    "watch_accessed_variables=False, so call tape.watch() on it before it is used"
                )
            nodes.append(leaf._node)
        return nodes, leaves, structure


def _targets_and_seeds(target: PyTree, output_gradients: PyTree) -> tuple[list[Any], list[Any]]:
    targets, structure = pytree.flatten(target)
    if len(targets) == 1:
        _demand_target(targets[0], "gradient", structure.paths("the target")[0])
    else:
        for tensor, path in zip(targets, structure.paths("the target")):
            _demand_target(tensor, "gradient", path)
    if output_gradients is None:
        return targets, [None] * len(targets)
    try:
        return targets, structure.flatten_like(output_gradients, "output_gradients")
    except StructureError as error:
        raise StructureError(f"gradient: output_gradients must be nested as the target is: {error}") from None


def _refuse_target_from_further_out(target: Any) -> None:
    """Refuse a target that a transform follows and that comes of something tracked, but not on this level's tape."""
    if is_tracer(target) and target._node is None and comes_of_something_tracked(target):
        seed_of(None, None, target, name="GradientTape.gradient")


def _demand_target(target: Any, name: str, what: str) -> Any:
    if not isinstance(target, boxing.Tensor):
        raise DTypeError(f"{name}: {what} is of type {type(target).__name__}, not a Tensor")
    if target.dtype.kind not in "fc":
        raise DTypeError(f"{name}: {what} has dtype {target.dtype}; integers and booleans have no gradient")
    _refuse_target_from_further_out(target)
    return target


def _shaped(column: Any, shape: Shape, dtype: Any, unconnected: Unconnected) -> Any:
    if column is None:
        return zeros_for(shape, dtype) if unconnected == "zero" else None
    return boxing.operations.reshape(column, shape)


__all__ = ["GradientTape"]
