"""Hessian-vector products as programs: both sweeps over a tape of large arrays, compiled as one.

Eagerly, the gradient of a function is recorded as it is swept, operation by operation, and then swept itself. What both
sweeps do follows from the function's own tape alone. So a program does both: from the residuals and the vector to the
product, without the gradient ever being in memory. Everything else is as in `eager_sweeps`.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.reach import route_to
from ..core.reach import survey as walk
from ..core.recording import set_recording
from ..core.tape import Node, sweep
from ..core.vspace import densify
from .capture import CaptureTrace
from .eager import OFF, Accounts, Unkeyed, attempt, raises_floating_point_errors, tariff
from .eager_sweeps import ELEMENT, MOST_FAILURES, Route, Survey, captured, tracer_of, twins_of
from .llvm.machine import Machine

accounts = Accounts()
_SWEEPS = 3
"""How many times as much as a sweep both cost to compile, and save."""


def multiplied(
    seed: tuple[Node, np.ndarray],
    nodes: Sequence[Node | None],
    directions: Sequence[np.ndarray | None],
    route: Route | None,
) -> list[Any] | None:
    """Return the Hessian of the value that a Node stands for, times a vector; None where it is another's turn.

    Args:
        seed: the Node of the value, and a one.
        nodes: those of the arguments.
        directions: the vector, an array for each of them, or None.
        route: the Nodes between, see `core.reach`.

    Returns:
        An array for each of the arguments' Nodes, or None for zero.
    """
    targets = frozenset([node for node in nodes if node is not None])
    try:
        survey = Survey([seed], targets, route)
        numbers = [None if v is None else survey.number_of(v) for v in directions]
    except Unkeyed:
        return None
    key = (survey.key, tuple([None if node is None else survey.places.get(node) for node in nodes]), tuple(numbers))
    account = accounts.of(key, lambda: survey.work * ELEMENT * _SWEEPS)
    program = account.program
    if program is None:
        if not account.matures(tariff.node * len(survey.nodes) * _SWEEPS):
            return None
        program = account.program = attempt(lambda machine: _captured(machine, survey, seed, nodes, directions, route))
    if program is OFF or raises_floating_point_errors():
        return None
    products = program.finite(survey)
    if products is None:
        if program.failures >= MOST_FAILURES:
            account.program = OFF
        return None
    found = {place: product for place, product in zip(program.ends, products)}
    return [None if node is None else found.get(place) for place, node in enumerate(nodes)]


def _captured(
    machine: Machine,
    survey: Survey,
    seed: tuple[Node, np.ndarray],
    nodes: Sequence[Node | None],
    directions: Sequence[np.ndarray | None],
    route: Route | None,
) -> Any:
    """Sweep a copy of a tape over tracers, recording, and pull a vector back through that."""
    if not all([end in nodes for end in survey.ends]):
        return OFF

    def run(trace: CaptureTrace) -> list[tuple[int, Any]]:
        tracers = [tracer_of(trace, array, axes) for array, axes in zip(survey.arrays, survey.orders)]
        twins, way = twins_of(survey, tracers, route)
        places = [survey.places.get(node) if node is not None else None for node in nodes]
        arguments = [None if place is None else twins[place] for place in places]
        targets = frozenset([twin for twin in arguments if twin is not None])
        pair = (twins[survey.places[seed[0]]], tracers[survey.numbers[id(seed[1])]])
        set_recording(True)
        first = sweep([pair], retain=True, tracked=True, masked=None, targets=targets, route=way)
        set_recording(False)
        pairs: list[Any] = []
        for twin, direction in zip(arguments, directions):
            gradient: Any = None if twin is None else densify(first.targets.get(twin))
            if direction is not None and getattr(gradient, "_node", None) is not None:
                pairs.append((gradient._node, tracers[survey.numbers[id(direction)]]))
        met, _ = walk([node for node, _ in pairs], targets, 0)
        second = sweep(
            pairs, retain=True, traced=True, masked=None, targets=targets, route=route_to(targets, met)
        ).targets
        return [(i, densify(second[twin])) for i, twin in enumerate(arguments) if twin in second]

    return captured(machine, "product", run)


__all__ = ["accounts", "multiplied"]
