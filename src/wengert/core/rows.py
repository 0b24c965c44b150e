"""Gradients under many seeds in one sweep: what Jacobians are made of.

The seeds are mapped over, as by `vmap`: every operation of the sweep runs once, on all of them.
"""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..typing import Shape
from . import boxing
from .backward import cotangents, gradients_of
from .batching import BatchTrace
from .reach import Span, route_between
from .tape import Node, location
from .tracing import snapshot

_BYTES_AT_ONCE = 1 << 26
"""Seeds are swept in chunks of this size: cotangents of the outputs of one chunk are about as large."""

Basis = tuple[int, Callable[[int, int], np.ndarray]]
"""(How many seeds there are, a function that makes those from the first up to the second number, stacked)."""


def one_for_each_element(shape: Shape, dtype: Any) -> Basis:
    """Return seeds that pick the elements of an output one by one."""
    size = math.prod(shape)

    def pick(begin: int, end: int) -> np.ndarray:
        seeds = np.zeros((end - begin, size), dtype)
        seeds[np.arange(end - begin), np.arange(begin, end)] = 1
        return seeds.reshape(end - begin, *shape)

    return size, pick


def one_for_each_inner_element(shape: Shape, dtype: Any) -> Basis:
    """Return seeds that pick the elements of one example, in every example of a batch at once."""
    size = math.prod(shape[1:])

    def pick(begin: int, end: int) -> np.ndarray:
        seeds = np.zeros((end - begin, shape[0], size), dtype)
        seeds[np.arange(end - begin), :, np.arange(begin, end)] = 1
        return seeds.reshape(end - begin, *shape)

    return size, pick


def stacked_gradients(
    output: Any,
    nodes: Sequence[Node | None],
    basis: Basis,
    *,
    name: str,
    retain_graph: bool,
    create_graph: bool,
    spans: Sequence[Span] = (),
) -> list[Any]:
    """Return, for each Node, the gradients under every seed of a basis, stacked in front (None where unconnected).

    Args:
        output: the Tensor that is differentiated.
        nodes: what it is differentiated with respect to.
        basis: seeds of the output's shape.
        name: what the user called, for messages.
        retain_graph: keep the tape.
        create_graph: record the sweep.
        spans: only what was recorded during one of these spans counts, if there are any.
    """
    targets = frozenset([node for node in nodes if node is not None])
    route, _ = route_between([output._node], targets, spans)
    count, seeds_between = basis
    at_once = max(1, _BYTES_AT_ONCE // max(1, output.size * output.dtype.itemsize))
    parts: list[list[Any]] = [[] for _ in nodes]
    for begin in range(0, max(count, 1), at_once):
        end = min(begin + at_once, count)
        trace = BatchTrace(name, "the seeds", end - begin)
        with trace:
            seed = trace.mapped(boxing.box(seeds_between(begin, end)))
            keep = retain_graph or end < count
            bars = cotangents(
                [(output._node, seed)],
                nodes,
                route,
                retain=keep,
                tracked=create_graph,
                masked=True,
                traced=True,
            )
            for part, bar in zip(parts, bars):
                part.append(_taken_out(bar, trace))
    return [_joined(part) for part in parts]


def _joined(parts: list[Any]) -> Any:
    if any([part is None for part in parts]):
        return None
    return parts[0] if len(parts) == 1 else boxing.operations.concatenate(parts, axis=0)


def _taken_out(bar: Any, trace: BatchTrace) -> Any:
    """Return the cotangents under all seeds, stacked in front; None where there are none."""
    if bar is None:
        return None
    value, axis = trace.apart(bar)
    return trace.repeated(value) if axis is None else value


def batched_gradients_of(
    outputs: Sequence[Any], nodes: Sequence[Node | None], gradients: Sequence[Any], *, name: str, **options: Any
) -> list[Any]:
    """Do what `core.backward.gradients_of` does for seeds that are stacked along a first axis, in one sweep.

    Raises:
        ShapeError: a seed is missing, or the seeds are not of one number.
    """
    sizes: set[int] = set()
    stacked: list[Any] = []
    for output, gradient in zip(outputs, gradients):
        seed = (
            gradient if isinstance(gradient, boxing.Tensor) or gradient is None else boxing.operations.tensor(gradient)
        )
        if seed is None or not seed.ndim:
            made = "" if output._node is None else f" made at {location(output._node)}"
            raise ShapeError(
                f"{name}: with is_grads_batched=True every output needs a stack of seeds; for that of shape "
                f"{output.shape}{made} pass an array of shape (number of seeds, *{output.shape})"
            )
        sizes.add(seed.shape[0])
        stacked.append(snapshot(seed))
    if len(sizes) != 1:
        raise ShapeError(f"{name}: there must be as many seeds for each output, but there are {sorted(sizes)}")
    trace = BatchTrace(name, "the seeds", sizes.pop())
    with trace:
        found = gradients_of(outputs, nodes, [trace.mapped(seed) for seed in stacked], name=name, **options)
        return [_taken_out(bar, trace) for bar in found]
