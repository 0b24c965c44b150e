"""Asking the tape for gradients: seeds in, gradients out. Every face of the engine ends here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import backend
from ..errors import DTypeError, GradientError, ShapeError
from ..typing import Shape
from . import boxing, capturing
from .aliasing import is_stretched
from .node_hooks import finish_sweep, per_sweep
from .reach import Route, Span, route_between
from .recording import is_recording, set_recording
from .tape import Leaf, Node, Swept, finish_leaves, location, retained, sweep
from .tracing import is_tracer
from .vspace import densify

Seed = tuple[Node, Any]


def seed_of(node: Node | None, gradient: Any, output: Any, *, name: str = "backward") -> tuple[Any, bool]:
    """Return (seed as a raw array or Tensor, whether it may hold zeros that must stay zeros) for an output on a Node.

    Raises:
        GradientError: the output is untracked, or not a scalar while no seed is given.
        ShapeError, DTypeError: the seed does not fit the output.
    """
    if node is None:
        if is_tracer(output):
            raise _on_no_tape_here(output, name)
        raise GradientError(
            f"{name}: this Tensor of shape {output.shape} and dtype {output.dtype} is not on the tape: nothing that it "
            "was computed from requires grad, or it was computed under no_grad(), detached, or converted to an "
            "integer. Make the inputs with requires_grad=True, or watch them"
        )
    if gradient is None:
        if any([extent != 1 for extent in node.shape]):
            raise GradientError(
                f"{name}: the Tensor of shape {node.shape} made at {location(node)} is not a scalar, so it needs a "
                f"seed: pass a Tensor of shape {node.shape} as its gradient, or reduce it first, say with .sum()"
            )
        return np.ones(node.shape, node.dtype), False
    if not isinstance(gradient, boxing.Tensor):
        gradient = boxing.operations.tensor(gradient)
        if gradient.dtype != node.dtype and gradient.dtype.kind in "biuf":
            gradient = boxing.operations.astype(gradient, node.dtype)
    elif type(gradient) is boxing.BorrowedTensor:
        gradient.become_owner()
    if gradient.shape != node.shape:
        raise ShapeError(
            f"{name}: the seed has shape {gradient.shape}, but the Tensor made at {location(node)} has shape "
            f"{node.shape}"
        )
    if gradient.dtype != node.dtype:
        raise DTypeError(
            f"{name}: the seed has dtype {gradient.dtype}, but the Tensor made at {location(node)} has dtype "
            f"{node.dtype}; convert the seed with .astype({str(node.dtype)!r})"
        )
    return gradient, node.shape != ()


def _on_no_tape_here(output: Any, name: str) -> GradientError:
    trace = output._state.trace
    return GradientError(
        f"{name}: the Tensor of shape {output.shape} made at {location(output._state)} is not on a tape of "
        f"{trace.name}({trace.described}): nothing that it was computed from began to require grad inside of that "
        "function. Take gradients inside with wg.grad, or with requires_grad_() on a Tensor of the function; for "
        "those with respect to Tensors from outside, call backward() on what the transformed function returns"
    )


class Seeding:
    """What a sweep begins with.

    Attributes:
        pairs: pairs of a Node and its seed: raw arrays, or Tensors.
        traced: whether the sweep must compute on Tensors even if it is not recorded, since tracers are met.
        masked: whether the seeds may hold zeros that must stay zeros.
    """

    __slots__ = ("masked", "pairs", "traced")

    def __init__(self, pairs: list[Seed], traced: bool, masked: bool) -> None:
        self.pairs = pairs
        self.traced = traced
        self.masked = masked


def seeds_of(outputs: Sequence[Any], gradients: Sequence[Any], tracked: bool, name: str = "backward") -> Seeding:
    """Return what a sweep from the outputs begins with, given a seed (or None) for each."""
    seeds: list[tuple[Node, Any]] = []
    masked = traced = False
    for output, gradient in zip(outputs, gradients):
        node = output._node
        seed, may_hold_zeros = seed_of(node, gradient, output, name=name)
        masked = masked or may_hold_zeros
        traced = traced or is_tracer(output) or is_tracer(seed)
        seeds.append((node, seed))
    return Seeding(settled_seeds(seeds, tracked or traced), traced, masked)


def settled_seeds(seeds: Sequence[tuple[Node, Any]], boxed: bool) -> list[Seed]:
    """Return seeds as Tensors, or as raw arrays."""
    settled: list[Seed] = []
    for node, seed in seeds:
        if isinstance(seed, boxing.Tensor) is not boxed:
            seed = boxing.box(seed) if boxed else boxing.data_of(seed)
        settled.append((node, seed))
    return settled


def input_node(x: Any, name: str, what: str = "an input") -> Node:
    """Return the Node of an input that gradients are wanted for.

    Raises:
        GradientError: it is not tracked.
    """
    if not isinstance(x, boxing.Tensor):
        raise GradientError(f"{name}: gradients can be had for Tensors, but {what} is of type {type(x).__name__}")
    if x._node is None:
        raise GradientError(
            f"{name}: {what} (shape {x.shape}, dtype {x.dtype}) is not on the tape, so nothing is known to have been "
            "computed from it; call requires_grad_() on it before it is used"
        )
    if capturing.engaged:
        capturing.bring(x)
    return x._node


# ---------------------------------------------------------------------- into .grad


def accumulate_gradients(
    outputs: Sequence[Any],
    gradients: Sequence[Any],
    *,
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Any] | None = None,
    name: str = "backward",
) -> None:
    """Sweep from the outputs and add into `.grad` of the leaves (or of `inputs` alone): all or, on error, nothing."""
    seeding = seeds_of(outputs, gradients, create_graph, name)
    targets: frozenset[Node] = frozenset()
    route: Route | None = None
    wanted: dict[Node, Any] = {}
    if inputs is not None:
        wanted = {input_node(x, name, f"inputs[{i}]"): x for i, x in enumerate(inputs)}
        if not wanted:
            raise GradientError(
                f"{name}: inputs is empty, so there is nothing to accumulate into; leave it out for all leaves"
            )
        targets = frozenset(wanted)
        _note_beginning(seeding, targets)
        route, _ = route_between([node for node, _ in seeding.pairs], targets)
    before = _set_mode(create_graph, seeding.traced)
    retaining, gathering = retained.set([]), per_sweep.set({})
    try:
        found = sweep(
            seeding.pairs,
            retain=retain_graph,
            tracked=create_graph,
            traced=seeding.traced,
            masked=seeding.masked,
            targets=targets,
            route=route,
        )
        finish_leaves(found)
        finish_sweep()
        _note_end(found)
        deliveries = _deliveries(found, wanted)
        if not create_graph and capturing.engaged:
            deliveries = [(node, x, _off_tape_of_capture(bar, outputs)) for node, x, bar in deliveries]
    finally:
        retained.reset(retaining)
        per_sweep.reset(gathering)
        set_recording(before)
    for _, tensor, gradient in deliveries:
        tensor.grad = gradient
    for node, tensor, _ in deliveries:
        hooks = node.after_accumulate if isinstance(node, Leaf) else None
        for hook in list(hooks.values()) if hooks else ():
            hook(tensor)


def _note_beginning(seeding: Seeding, targets: frozenset[Node]) -> None:
    """Let a capture know where a sweep begins, and what for."""
    if capturing.engaged and (capture := capturing.current()) is not None:
        capture.begin_of_sweep([node for node, _ in seeding.pairs], list(targets))


def _note_end(found: Swept) -> None:
    """Let a capture know what a sweep ends with."""
    if capturing.engaged and (capture := capturing.current()) is not None:
        capture.end_of_sweep([*found.leaves.values(), *found.targets.values()])


def _set_mode(tracked: bool, traced: bool) -> Any:
    """Set recording for a sweep: over tracers, tapes further out go on as they were; return what it was."""
    return set_recording(True if tracked else is_recording() if traced else False)


def _deliveries(found: Swept, wanted: dict[Node, Any]) -> list[tuple[Node, Any, Any]]:
    """Return (Node, Tensor, new `.grad`) for all that was found: for leaves, chosen inputs, and to be retained."""
    arrived: list[tuple[Node, Any, Any]] = []
    seen = {id(tensor) for tensor in wanted.values()}
    for node, tensor, bar in retained.get() or ():
        if id(tensor) not in seen:  # a Tensor that was written in place has several Nodes: the youngest comes first
            seen.add(id(tensor))
            arrived.append((node, tensor, bar))
    for leaf, bar in found.leaves.items():
        tensor = wanted.get(leaf) if wanted else leaf.tensor_reference()
        if tensor is not None and tensor._node is not None:  # it may have stopped requiring grad
            arrived.append((leaf, tensor, bar))
    arrived.extend([(node, wanted[node], bar) for node, bar in found.targets.items()])
    return [(node, tensor, _added(tensor.grad, bar)) for node, tensor, bar in arrived]


def _off_tape_of_capture(gradient: Any, outputs: Sequence[Any]) -> Any:
    """Return a gradient as a sweep on the ground leaves it, where a capture stands in for the ground."""
    capture = capturing.current()
    if capture is None or gradient._node is None or not all(map(capture.follows, (gradient, *outputs))):
        return gradient
    return boxing.with_node(gradient, None)


def _added(existing: Any, bar: Any) -> Any:
    """Return the new `.grad`: the sum with what was there, in memory of its own."""
    if isinstance(bar, boxing.Tensor):
        return bar.clone() if existing is None else existing + bar  # two leaves may have been given the same Tensor
    if existing is None:
        return boxed_gradient(bar)
    if existing._node is not None:
        return existing.detach() + boxing.box(bar)
    return boxing.box(np.asarray(backend.namespace_of(bar).add(boxing.data_of(existing), bar)))


def boxed_gradient(bar: Any) -> Any:
    """Return a cotangent as a Tensor, its elements in memory (not one number that is stretched)."""
    if isinstance(bar, boxing.Tensor):
        return _unstretched(bar) if is_stretched(bar) else bar
    bar = densify(bar)
    if not isinstance(bar, np.ndarray):
        return boxing.box(np.asarray(bar))
    return boxing.box(bar.copy() if bar.base is not None and 0 in bar.strides else bar)


def _unstretched(bar: Any) -> Any:
    """Return a copy, on the tape if the cotangent is."""
    before = set_recording(True) if bar._node is not None else is_recording()
    try:
        return bar.clone()
    finally:
        set_recording(before)


# ---------------------------------------------------------------------- into the caller's hands


def cotangents(
    seeds: Iterable[Seed],
    nodes: Sequence[Node | None],
    route: Route | None,
    *,
    retain: bool,
    tracked: bool,
    masked: bool | None,
    traced: bool = False,
) -> list[Any]:
    """Sweep from the seeds along a route; return a Tensor (or None) for each of the Nodes. No `.grad` is touched."""
    targets = frozenset([node for node in nodes if node is not None])
    if not targets:
        return [None] * len(nodes)
    before = _set_mode(tracked, traced)
    retaining, gathering = retained.set(None), per_sweep.set({})
    try:
        found = sweep(seeds, retain=retain, tracked=tracked, traced=traced, masked=masked, targets=targets, route=route)
        finish_leaves(found)
        finish_sweep()
        _note_end(found)
    finally:
        retained.reset(retaining)
        per_sweep.reset(gathering)
        set_recording(before)
    bars: dict[Node, Any] = {**found.leaves, **found.targets}
    return [boxed_gradient(bars[node]) if node in bars else None for node in nodes]  # type: ignore[index]


def gradients_of(
    outputs: Sequence[Any],
    nodes: Sequence[Node | None],
    gradients: Sequence[Any],
    *,
    retain_graph: bool,
    create_graph: bool,
    name: str,
    spans: Sequence[Span] = (),
    refuse_unused: Callable[[frozenset[Node]], None] | None = None,
) -> list[Any]:
    """Return the gradients (Tensors, or None where unconnected) with respect to Nodes; touch no `.grad`.

    Where spans are given, only what was recorded during one of them counts. `refuse_unused` is told of Nodes that no
    output depends on, before the sweep begins.
    """
    seeding = seeds_of(outputs, gradients, create_graph, name)
    seeds = seeding.pairs
    targets = frozenset([node for node in nodes if node is not None])
    if not spans:  # what is older than a span is not followed in any case
        _note_beginning(seeding, targets)
    route, lost = route_between([node for node, _ in seeds], targets, spans)
    if lost and refuse_unused is not None:
        refuse_unused(lost)
    return cotangents(
        seeds,
        nodes,
        route,
        retain=retain_graph,
        tracked=create_graph,
        masked=seeding.masked,
        traced=seeding.traced,
    )


def zeros_for(shape: Shape, dtype: Any) -> Any:
    """Return a gradient that is zero."""
    return boxing.box(np.zeros(shape, dtype))
