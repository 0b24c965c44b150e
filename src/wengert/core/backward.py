"""Asking the tape for gradients: seeds in, gradients out. Every face of the engine ends here."""

# The slots of Tensor and the frames of the interpreter are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend
from ..errors import DTypeError, GradientError, ShapeError
from . import boxing
from .recording import set_recording
from .tape import Leaf, Node, finish_leaves, location, sweep


def seed_of(output: Any, gradient: Any, *, name: str = "backward") -> tuple[Any, bool]:
    """Return (seed as a raw array or tracked Tensor, whether it may hold zeros that must stay zeros).

    Raises:
        GradientError: the output is untracked, or not a scalar while no seed is given.
        ShapeError, DTypeError: the seed does not fit the output.
    """
    node = output._node
    if node is None:
        raise GradientError(
            f"{name}: this Tensor of shape {output.shape} and dtype {output.dtype} is not on the tape: nothing that it was "
            "computed from requires grad, or it was computed under no_grad(), detached, or converted to an integer. "
            "Make the inputs with requires_grad=True, or watch them"
        )
    if gradient is None:
        if output.size != 1:
            raise GradientError(
                f"{name}: the Tensor of shape {output.shape} made at {location(node)} is not a scalar, so it needs a seed: "
                f"pass gradient=, a Tensor of shape {output.shape}, or reduce it first, for example with .sum()"
            )
        return np.ones(node.shape, node.dtype), False
    if not isinstance(gradient, boxing.Tensor):
        gradient = boxing.operations.asarray(gradient)
        if gradient.dtype != node.dtype and gradient.dtype.kind in "biuf":
            gradient = boxing.operations.astype(gradient, node.dtype)
    if gradient.shape != node.shape:
        raise ShapeError(
            f"{name}: the seed has shape {gradient.shape}, but the Tensor made at {location(node)} has shape {node.shape}"
        )
    if gradient.dtype != node.dtype:
        raise DTypeError(
            f"{name}: the seed has dtype {gradient.dtype}, but the Tensor made at {location(node)} has dtype {node.dtype}; "
            f"convert the seed with .astype({str(node.dtype)!r})"
        )
    return gradient, node.shape != ()


def _start(outputs: Sequence[Any], gradients: Sequence[Any], tracked: bool, name: str) -> tuple[list[Any], bool]:
    seeds: list[Any] = []
    masked = False
    for output, gradient in zip(outputs, gradients):
        seed, may_hold_zeros = seed_of(output, gradient, name=name)
        masked = masked or may_hold_zeros
        boxed = isinstance(seed, boxing.Tensor)
        if tracked:
            seed = seed if boxed else boxing.box(seed)
        elif boxed:
            seed = boxing.data_of(seed)
        seeds.append((output._node, seed))
    return seeds, masked


def accumulate_gradients(
    outputs: Sequence[Any],
    gradients: Sequence[Any],
    *,
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Any] | None = None,
    name: str = "backward",
) -> None:
    """Sweep from the outputs and add into `.grad` of the leaves (or of `inputs` alone); all of it or, on error, nothing."""
    seeds, masked = _start(outputs, gradients, create_graph, name)
    wanted: dict[Node, Any] | None = None
    if inputs is not None:
        wanted = {input_node(x, name): x for x in inputs}
    targets = frozenset(n for n in wanted if not isinstance(n, Leaf)) if wanted else frozenset()
    before = set_recording(create_graph)
    try:
        found = sweep(seeds, retain=retain_graph, tracked=create_graph, masked=masked, targets=_floor(wanted, targets))
        finish_leaves(found)
        arrived = {**found.leaves, **{n: found.targets[n] for n in targets if n in found.targets}}
        deliveries: list[tuple[Any, Any, Any]] = []
        for node, bar in arrived.items():
            if wanted is not None and node not in wanted:
                continue
            tensor = wanted[node] if wanted is not None else node.tensor_reference()
            if tensor is not None:
                deliveries.append((node, tensor, _added(tensor.grad, bar)))
    finally:
        set_recording(before)
    for _, tensor, gradient in deliveries:
        tensor.grad = gradient
    for node, tensor, _ in deliveries:
        hooks = getattr(node, "after_accumulate", None)
        for hook in list(hooks.values()) if hooks else ():
            hook(tensor)


def _floor(wanted: dict[Node, Any] | None, targets: frozenset[Node]) -> frozenset[Node]:
    """Stop early only if no leaf is wanted: a leaf may be reached by the oldest Node of all."""
    if wanted is None or not targets or any(isinstance(node, Leaf) for node in wanted):
        return frozenset() if not targets else targets
    return targets


def input_node(x: Any, name: str) -> Node:
    """Return the Node of an input that gradients are wanted for.

    Raises:
        GradientError: it is not tracked.
    """
    if not isinstance(x, boxing.Tensor):
        raise GradientError(f"{name}: gradients can be had for Tensors, not for {type(x).__name__}")
    if x._node is None:
        raise GradientError(
            f"{name}: an input of shape {x.shape} does not require grad; call requires_grad_() on it before it is used"
        )
    return x._node


def _added(existing: Any, bar: Any) -> Any:
    """Return the new `.grad`: the sum with what was there, in memory of its own."""
    if isinstance(bar, boxing.Tensor):
        return bar if existing is None else existing + bar
    if existing is None:
        if not isinstance(bar, np.ndarray):
            return boxing.box(np.asarray(bar))
        return boxing.box(bar.copy() if bar.base is not None and 0 in bar.strides else bar)
    if existing._node is not None:
        return existing.detach() + boxing.box(bar)
    return boxing.box(np.asarray(backend.namespace_of(bar).add(boxing.data_of(existing), bar)))


def gradients_of(
    outputs: Sequence[Any],
    inputs: Sequence[Node],
    gradients: Sequence[Any],
    *,
    retain_graph: bool,
    create_graph: bool,
    name: str,
) -> list[Any]:
    """Return the gradients (Tensors, or None where unconnected) with respect to the Nodes of `inputs`; touch no `.grad`."""
    seeds, masked = _start(outputs, gradients, create_graph, name)
    targets = frozenset(inputs)
    before = set_recording(create_graph)
    try:
        found = sweep(seeds, retain=retain_graph, tracked=create_graph, masked=masked, targets=targets)
        finish_leaves(found)
    finally:
        set_recording(before)
    answers: list[Any] = []
    for node in inputs:
        bar = found.leaves.get(node) if isinstance(node, Leaf) else found.targets.get(node)  # type: ignore[call-overload]
        answers.append(bar if bar is None or isinstance(bar, boxing.Tensor) else _added(None, bar))
    return answers
