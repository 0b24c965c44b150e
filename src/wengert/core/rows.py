"""Gradients under many seeds: what Jacobians are made of. One sweep for each seed, until there is a batched sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..typing import Shape
from . import boxing
from .backward import cotangents, zeros_for
from .reach import Span, route_between
from .tape import Node

Basis = Sequence[Callable[[], np.ndarray]]
"""Makers of raw seeds, so that only one of them need exist at a time."""


def one_for_each_element(shape: Shape, dtype: Any) -> Basis:
    """Return seeds that pick the elements of an output one by one."""

    def pick(i: int) -> np.ndarray:
        seed = np.zeros(shape, dtype)
        seed.reshape(-1)[i] = 1
        return seed

    return [partial(pick, i) for i in range(int(np.prod(shape)))]


def one_for_each_inner_element(shape: Shape, dtype: Any) -> Basis:
    """Return seeds that pick the elements of one example, in every example of a batch at once."""

    def pick(i: int) -> np.ndarray:
        seed = np.zeros(shape, dtype)
        seed.reshape(shape[0], -1)[:, i] = 1
        return seed

    return [partial(pick, i) for i in range(int(np.prod(shape[1:])))]


def stacked_gradients(
    output: Any,
    nodes: Sequence[Node | None],
    basis: Basis,
    *,
    retain_graph: bool,
    create_graph: bool,
    spans: Sequence[Span] = (),
) -> list[Any]:
    """Return, for each Node, the gradients under every seed of a basis, stacked in front (None where unconnected).

    Args:
        output: the Tensor that is differentiated.
        nodes: what it is differentiated with respect to.
        basis: seeds of the output's shape.
        retain_graph: keep the tape.
        create_graph: record the sweeps.
        spans: only what was recorded during one of these spans counts, if there are any.
    """
    targets = frozenset([node for node in nodes if node is not None])
    route, _ = route_between([output._node], targets, spans)
    columns: list[Any] = [None] * len(nodes)
    for row, seed in enumerate(basis):
        keep = retain_graph or row + 1 < len(basis)
        raw = seed()
        pair = (output._node, boxing.box(raw) if create_graph else raw)
        bars = cotangents([pair], nodes, route, retain=keep, tracked=create_graph, masked=True)
        for i, (node, bar) in enumerate(zip(nodes, bars)):
            if node is None or bar is None:
                continue
            if columns[i] is None:
                columns[i] = _Column(len(basis), node)
            columns[i].put(row, bar, create_graph)
    return [None if column is None else column.stacked(create_graph) for column in columns]


class _Column:
    """The gradients with respect to one Node under the seeds of a basis: one array, or Tensors if they are tracked."""

    __slots__ = ("array", "node", "rows")

    def __init__(self, count: int, node: Node) -> None:
        self.node = node
        self.rows: list[Any] = [None] * count
        self.array: Any = None

    def put(self, row: int, bar: Any, tracked: bool) -> None:
        if tracked:
            self.rows[row] = bar
            return
        data = boxing.data_of(bar)
        if self.array is None:
            self.array = np.zeros((len(self.rows), *self.node.shape), self.node.dtype)
        self.array[row] = data

    def stacked(self, tracked: bool) -> Any:
        if not tracked:
            return boxing.box(self.array)
        zero = zeros_for(self.node.shape, self.node.dtype)
        return boxing.operations.stack([zero if bar is None else bar for bar in self.rows])
