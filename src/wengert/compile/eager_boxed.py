"""Sweeps under transforms as programs: what a sweep does to values with tangents, or to many at once.

Under `jvp` and `vmap` the tape keeps boxes: a value and its tangent, or values that are stacked, in any nesting. Which
transforms are at work, and how boxes are made of arrays, belongs to the key. A program is captured by sweeping a copy
of the tape under transforms like them, with tracers in the boxes; it gives back the arrays that cotangents are made of.
Everything else is as in `eager_sweeps`.
"""

# The slots of Tensor are this module's business.

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from ..core import boxing, capturing
from ..core.batching import BatchTrace
from ..core.forward import ForwardTrace
from ..core.recording import UNTAPED, is_recording, set_recording
from ..core.tape import Leaf, Node, Swept, sweep
from ..core.tracing import Trace, open_traces
from ..core.vspace import densify
from .capture import CaptureTrace
from .eager import OFF, Accounts, Unkeyed, attempt, frozen, tariff
from .eager_sweeps import (
    ELEMENT,
    MOST_FAILURES,
    MOST_NODES,
    Arrays,
    Route,
    by_age,
    captured,
    free,
    inputs_of,
    needed,
    tracer_of,
    trusted,
    twins_of,
)
from .llvm.machine import Machine

accounts = Accounts()
_LARGE = 1 << 13
"""Elements that Nodes keep on average, or the sweep is left to NumPy."""
_SWEEPS = 2
"""How many times as much as a sweep over arrays one over boxes costs to compile."""


class _Survey(Arrays):
    """A tape of boxes as a program sees it.

    Attributes:
        nodes, ends, places, key: as of `eager_sweeps.Survey`.
        traces: the transforms that are at work, the outermost first.
    """

    __slots__ = ("ends", "key", "nodes", "places", "traces")

    def __init__(self, seeds: Sequence[Any], targets: frozenset[Node], route: Route | None) -> None:
        super().__init__()
        self.traces: tuple[Trace, ...] = open_traces()
        self.nodes, self.ends = _met(seeds, route)
        if not all([end.primitive is None or end in targets for end in self.ends]):
            raise Unkeyed
        self.places = places = {node: place for place, node in enumerate([*self.nodes, *self.ends])}
        parts: list[Any] = [tuple([_kind_of(trace) for trace in self.traces])]
        parts.append(tuple([(places[node], self.form_of(bar)) for node, bar in seeds]))
        parts.append(tuple([place for node, place in places.items() if node in targets]))
        for node in self.nodes:
            parents = tuple([None if parent is None else places[parent] for parent in inputs_of(node, route) or ()])
            params = getattr(node, "params", None)  # the fast path leaves it out
            static = frozen(params) if params else ()
            parts.append((node.primitive, parents, static, node.dtype, self.form_of(needed(node)), node.shape))
        parts.extend([(type(end), end.shape, end.dtype) for end in self.ends])
        if self.work < _LARGE * len(self.nodes):
            raise Unkeyed
        self.key = tuple(parts)

    def form_of(self, value: Any) -> Any:
        """Return how a value is made of arrays that have numbers here."""
        kind: Any = type(value)
        if kind is tuple:
            return tuple([self.form_of(item) for item in value])
        if kind is boxing.Tracer:
            state = value._state
            if state.trace not in self.traces:
                raise Unkeyed
            _demand_untaped(value)
            return self.traces.index(state.trace), state.form, tuple([self.form_of(part) for part in state.parts()])
        if kind is boxing.Tensor:
            _demand_untaped(value)
            return self.number_of(value._data)
        if isinstance(value, (np.ndarray, np.generic)):
            return self.number_of(value)
        return frozen(value)

    def over(self, value: Any, tracers: Sequence[Any], traces: Sequence[Trace]) -> Any:
        """Return a value like another one, with tracers in the place of its arrays, under transforms like its own."""
        kind: Any = type(value)
        if kind is tuple:
            return tuple([self.over(item, tracers, traces) for item in value])
        if kind is boxing.Tracer:
            state = value._state
            parts = [self.over(part, tracers, traces) for part in state.parts()]
            return traces[self.traces.index(state.trace)].assembled(state.form, parts)
        if kind is boxing.Tensor:
            return tracers[self.numbers[id(value._data)]]
        return tracers[self.numbers[id(value)]] if isinstance(value, (np.ndarray, np.generic)) else value


def _kind_of(trace: Trace) -> Any:
    if type(trace) is ForwardTrace:
        return ForwardTrace
    if type(trace) is BatchTrace:
        return BatchTrace, trace.size
    raise Unkeyed


def _demand_untaped(value: Any) -> None:
    """Refuse what is recorded further out: what is computed from it has to be recorded, too."""
    if value._node is not None and is_recording():
        raise Unkeyed


def _met(seeds: Sequence[Any], route: Route | None) -> tuple[list[Node], list[Node]]:
    """Return the Nodes to pull through, the youngest first, and those at which the sweep ends."""
    met: dict[Node, Any] = {}
    ends: dict[Node, Any] = {}
    stack = [node for node, _ in seeds]
    while stack:
        node = stack.pop()
        if node in met or node in ends:
            continue
        inputs = inputs_of(node, route)
        if inputs is None or isinstance(node, Leaf):
            ends[node] = None
            continue
        if type(node) is not Node or node.primitive not in trusted() or len(met) >= MOST_NODES:
            raise Unkeyed
        met[node] = None
        stack.extend([parent for parent in inputs if parent is not None])
    if not all([node in met for node, _ in seeds]):
        raise Unkeyed
    return sorted(met, key=by_age, reverse=True), list(ends)


def swept(seeds: Sequence[Any], retain: bool, targets: frozenset[Node], route: Route | None) -> Swept | None:
    """Do a sweep over boxes; return what it found, or None if it is to be done Node by Node."""
    if capturing.engaged or is_recording() is False:
        return None
    try:
        survey = _Survey(seeds, targets, route)
    except Unkeyed:
        return None
    account = accounts.of(survey.key, lambda: survey.work * ELEMENT * _SWEEPS)
    program = account.usable(
        tariff.node * len(survey.nodes) * _SWEEPS,
        lambda: attempt(lambda machine: _made(machine, survey, seeds, targets, route)),
    )
    if program is None:
        return None
    sweep_program, forms = program
    arrays = sweep_program.finite(survey)
    if arrays is None:
        if sweep_program.failures >= MOST_FAILURES:
            account.retire()
        return None
    order = [*survey.nodes, *survey.ends]
    found = Swept()
    for place, form in forms:
        node = order[place]
        bar = _assembled(form, arrays, survey.traces)
        if node.primitive is None:
            found.leaves[node] = bar
        else:
            found.targets[node] = bar
    if not retain:
        free(survey.nodes, bool(targets))
    return found


def _assembled(form: Any, arrays: Sequence[np.ndarray], traces: Sequence[Trace]) -> Any:
    """Return a box of arrays, given their numbers."""
    if type(form) is int:
        return boxing.box(arrays[form])
    level, state_form, parts = form
    return traces[level].assembled(state_form, [_assembled(part, arrays, traces) for part in parts])


def _made(
    machine: Machine, survey: _Survey, seeds: Sequence[Any], targets: frozenset[Node], route: Route | None
) -> Any:
    """Sweep a copy of a tape under transforms like those at work; return (the program, how cotangents are made)."""
    forms: list[tuple[int, Any]] = []

    def run(trace: CaptureTrace) -> list[tuple[int, Any]]:
        tracers = [tracer_of(trace, array, axes) for array, axes in zip(survey.arrays, survey.orders)]
        traces = [_like(other) for other in survey.traces]
        set_recording(UNTAPED)  # tangents pass
        with ExitStack() as stack:
            for other in traces:
                stack.enter_context(other)
            twins, way = twins_of(survey, lambda saved: survey.over(saved, tracers, traces), route)
            place_of = {twin: place for place, twin in enumerate(twins)}
            pairs = [(twins[survey.places[node]], survey.over(bar, tracers, traces)) for node, bar in seeds]
            wanted = frozenset([twins[survey.places[node]] for node in targets if node in survey.places])
            found = sweep(pairs, retain=True, traced=True, masked=None, targets=wanted, route=way)
            parts: list[tuple[int, Any]] = []
            for twin, bar in {**found.leaves, **found.targets}.items():
                forms.append((place_of[twin], _apart(densify(bar), traces, parts)))
        return parts

    program = captured(machine, "sweep", run)
    return OFF if program is OFF else (program, forms)


def _like(trace: Trace) -> Any:
    if isinstance(trace, BatchTrace):
        return BatchTrace(trace.name, trace.described, trace.size)
    return ForwardTrace(trace.name, trace.described)


def _apart(value: Any, traces: Sequence[Trace], parts: list[tuple[int, Any]]) -> Any:
    """Return how a box is made of parts, which are put down with their numbers."""
    if type(value) is boxing.Tracer and value._state.trace in traces:
        state = value._state
        return traces.index(state.trace), state.form, [_apart(part, traces, parts) for part in state.parts()]
    parts.append((len(parts), value))
    return len(parts) - 1


__all__ = ["accounts", "swept"]
