"""Derivatives of higher order and Jacobians as programs: several sweeps over one tape, compiled as one.

Eagerly, a gradient that is to be differentiated is recorded as it is swept, operation by operation, and then swept
itself; the rows of a Jacobian are swept as one, boxed. What such sweeps do follows from the function's own tape alone.
So a program does all of them: from residuals to the second derivatives, say, without the gradient ever being in memory.
Everything else is as in `eager_sweeps`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ..core.tape import Node
from .capture import CaptureTrace
from .eager import OFF, Accounts, Unkeyed, attempt, tariff
from .eager_sweeps import ELEMENT, MOST_FAILURES, Route, Survey, captured, tracer_of, twins_of
from .llvm.machine import Machine

accounts = Accounts()
_SWEEPS = 3
"""How many times as much as a sweep they cost to compile."""
_NODE = 3e-5
"""Seconds that are saved for each Node in what Python does for it."""
_ROWS_OF = 1 << 10
"""Elements that rows of Nodes have on average, or NumPy is as quick: what is boxed costs more than what is raw."""

Derive = Callable[[list[Node], list["Node | None"], list[Any], Any], list[Any]]


def derived(
    rule: Hashable,
    outputs: Sequence[Node],
    nodes: Sequence[Node | None],
    extras: Sequence[np.ndarray | None],
    route: Route | None,
    rows: int,
    derive: Derive,
) -> list[np.ndarray | None] | None:
    """Return what `derive` makes of a tape, natively; None where it is another's turn.

    Args:
        rule: what `derive` depends on beside the tape.
        outputs: the Nodes that sweeps begin at.
        nodes: those of the arguments.
        extras: arrays that it is given, too.
        route: the Nodes between, see `core.reach`.
        rows: how many cotangents are pulled back at once.
        derive: takes twins of the outputs and of the arguments, tracers of the extras, and the route between the
            twins; returns Tensors, or None for zero.
    """
    targets = frozenset([node for node in nodes if node is not None])
    try:
        survey = Survey([(node, None) for node in outputs], targets, route, None if rows == 1 else _ROWS_OF / rows)
        numbers = [None if extra is None else survey.number_of(extra) for extra in extras]
    except Unkeyed:
        return None
    places = survey.places
    key = (rule, survey.key, tuple([None if node is None else places.get(node) for node in nodes]), tuple(numbers))
    count = len(survey.nodes)
    account = accounts.of(key, lambda: survey.work * rows * ELEMENT + count * _NODE)
    program = account.usable(
        tariff.node * count * _SWEEPS,
        lambda: attempt(_Task(survey, outputs, nodes, extras, route, derive).program),
    )
    if program is None:
        return None
    found = program.finite(survey)
    if found is None:
        if program.failures >= MOST_FAILURES:
            account.retire()
        return None
    results: list[np.ndarray | None] = [None] * (max(program.ends, default=-1) + 1)
    for place, array in zip(program.ends, found):
        results[place] = array
    return results


class _Task:
    """What there is to compile."""

    def __init__(
        self,
        survey: Survey,
        outputs: Sequence[Node],
        nodes: Sequence[Node | None],
        extras: Sequence[np.ndarray | None],
        route: Route | None,
        derive: Derive,
    ) -> None:
        self.survey = survey
        self.outputs = outputs
        self.nodes = nodes
        self.extras = extras
        self.route = route
        self.derive = derive

    def program(self, machine: Machine) -> Any:
        """Have everything derived from a copy of the tape, over tracers; return what that did as a program."""
        if not all([end in self.nodes for end in self.survey.ends]):
            return OFF
        return captured(machine, "derivatives", self._run)

    def _run(self, trace: CaptureTrace) -> list[tuple[int, Any]]:
        survey = self.survey
        tracers = [tracer_of(trace, array, axes) for array, axes in zip(survey.arrays, survey.orders)]
        twins, way = twins_of(survey, survey.over(tracers), self.route)
        places = survey.places
        arguments = [None if node not in places else twins[places[node]] for node in self.nodes]
        extras = [None if extra is None else tracers[survey.numbers[id(extra)]] for extra in self.extras]
        results = self.derive([twins[places[node]] for node in self.outputs], arguments, extras, way)
        return [(place, result) for place, result in enumerate(results) if result is not None]


__all__ = ["accounts", "derived"]
