"""What leads where on the tape: the walks before a sweep that is only to reach some Nodes.

A sweep for chosen targets need not compute cotangents that end elsewhere. `survey` finds what lies between the outputs
and the targets, and whether anything else is met; only then is a `route` worked out, which says for each Node which of
its inputs lead to a target. A plain `backward()` comes by none of this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from operator import attrgetter

from .tape import Leaf, Node, is_freed

Route = Mapping[Node, tuple[Node | None, ...]]
Span = tuple[float, float]
"""Sequence numbers [first, end) of the Nodes that somebody recorded."""

_sequence = attrgetter("sequence")


def survey(outputs: Iterable[Node], targets: Collection[Node], floor: float) -> tuple[set[Node], set[Node]]:
    """Walk back from the outputs; return (the Nodes met, the strays among the edges of the walk).

    Strays are Nodes older than `floor`, and leaves, that are not targets. The walk doesn't go on from them, nor are
    they among the Nodes met. It visits each Node and each edge once.
    """
    met: set[Node] = set()
    strays: set[Node] = set()
    stack: list[Node] = []

    def meet(node: Node) -> None:
        if (node.sequence < floor or isinstance(node, Leaf)) and node not in targets:
            strays.add(node)
        elif node not in met:
            met.add(node)
            stack.append(node)

    for node in outputs:
        meet(node)
    while stack:
        for parent in stack.pop().inputs:
            if parent is None or parent in met:
                continue
            if parent.sequence < floor or parent.primitive is None:
                meet(parent)
            else:
                met.add(parent)
                stack.append(parent)
    return met, strays


def route_to(goals: Collection[Node], met: Iterable[Node], spans: Sequence[Span] = ()) -> Route:
    """Return which of the Nodes met lead to a goal, and through which inputs (None in the place of the others).

    A Node that gave up its inputs to an earlier sweep may have led to any older goal: it stays, and a sweep that gets
    there says so. Where spans are given, Nodes outside of all of them lead nowhere.
    """
    useful = set(goals)
    oldest = min(map(_sequence, goals), default=inf)
    route: dict[Node, tuple[Node | None, ...]] = {}
    for node in sorted(met, key=_sequence):
        if spans and not any(first <= node.sequence < end for first, end in spans):
            continue
        inputs = node.inputs
        blind = [parent is not None and parent not in useful for parent in inputs]
        if True in blind:
            inputs = tuple([None if hidden else parent for hidden, parent in zip(blind, inputs)])
        if any(inputs) or (not inputs and node.sequence > oldest and is_freed(node)):
            route[node] = inputs
            useful.add(node)
    return route


def route_between(
    outputs: Collection[Node], targets: frozenset[Node], spans: Sequence[Span] = ()
) -> tuple[Route | None, frozenset[Node]]:
    """Return (the route from the outputs to the targets, the targets that no output depends on).

    The route is None if every Node on the way leads to a target anyway. Behind a Node that an earlier sweep has freed
    there is no seeing, so where one was met, no target counts as one that nothing depends on.
    """
    floor = min(map(_sequence, targets), default=inf)
    all_recorded = not spans
    if spans:
        floor = max(floor, spans[0][0])
        all_recorded = len(spans) == 1 and all(node.sequence < spans[0][1] for node in outputs)
    met, strays = survey(outputs, targets, floor)
    lost = targets - met
    if lost and any(not node.inputs and is_freed(node) for node in met):
        lost = frozenset[Node]()
    if all_recorded and not strays and not any(map(is_freed, targets)):
        return None, lost
    return route_to(targets, met, spans), lost


__all__ = ["Route", "Span", "route_between", "route_to", "survey"]
