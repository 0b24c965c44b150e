"""Paths: what one captured run of a function has become, ready to be run again; and what a run leaves behind."""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from sys import getrefcount
from typing import Any, NamedTuple

import numpy as np

from ..core import boxing
from ..core.aliasing import _UNSHARED as UNSHARED
from ..core.pytree import Structure, flatten
from ..core.recording import set_recording
from ..core.tracing import leaked
from ..core.updating import open_buffer
from .backends import prepare
from .capture import Brought, Captured, CaptureTrace
from .derivative import Call, Derivative, put_on_tape
from .graph import Graph, Value
from .interpret import interpret
from .sources import ArgumentSource, ArraySource, Changed, CompileError, DrawSource, Source, TensorSource


class Result(NamedTuple):
    """A leaf of what the function returns: an output of the program, a Tensor of outside, or any other object."""

    kind: str
    what: Any


class Effects(NamedTuple):
    """What a run does beside returning: Tensors that are written, and gradients that are set (None: taken away)."""

    writes: list[tuple[Source, Value]]
    states: list[tuple[np.ndarray, Value]]
    gradients: list[tuple[Source, Value | None]]


def settle(
    trace: CaptureTrace, result: Any, arguments: dict[int, Any]
) -> tuple[list[Any], list[Result], Structure, Effects]:
    """End a captured run: make every Tensor what it is now; return the leaves of the result, their plans, their
    structure, and what else was done.

    `arguments` has the arguments themselves by the ids of what the function was given for them.
    """
    leaves, structure = flatten(result)
    held = {id(brought.tensor): brought for brought in trace.brought}
    plans = [_plan(trace, leaf, held) for leaf in leaves]
    effects = Effects([], [], [])
    finals: list[Callable[[], None]] = []
    for brought in trace.brought:
        _note_gradient(trace, brought, held, effects, finals)
        _note_value(trace, brought, effects, finals)
    for array, cell in trace.states:
        final = cell.tensor._state
        if final.value is not trace.array(array)._state.value:
            effects.states.append((array, final.value))
            finals.append(partial(np.copyto, array, _own(final.raw)))
    outcomes = [
        boxing.box(_own(leaf._state.raw)) if plan.kind == "output" else arguments.get(id(leaf), leaf)
        for leaf, plan in zip(leaves, plans)
    ]
    for brought in trace.brought:
        if type(brought.tensor) is boxing.Tracer:
            node = brought.tensor._node if brought.fresh else brought.node
            boxing.become(brought.tensor, boxing.box(brought.data, node))
    before = set_recording(False)
    try:
        for final in finals:
            final()
    finally:
        set_recording(before)
    for action in trace.afterwards:
        action()
    for say, states in trace.reports:
        say(*[boxing.box(state.raw) if isinstance(state, Captured) else state for state in states])
    return outcomes, plans, structure, effects


def _plan(trace: CaptureTrace, leaf: Any, held: dict[int, Brought]) -> Result:
    if not isinstance(leaf, boxing.Tensor):
        return Result("object", leaf)
    brought = held.get(id(leaf))
    if brought is not None and not brought.fresh:
        return Result("held", brought.source)
    if type(leaf) is boxing.Tracer:
        if leaf._state.trace is not trace:
            raise leaked(leaf._state)
        return Result("output", leaf._state.value)
    source = trace.source_of(leaf)
    return Result("held", source) if source is not None else Result("output", trace.constant(leaf))


def _note_gradient(
    trace: CaptureTrace, brought: Brought, held: dict[int, Brought], effects: Effects, finals: list[Any]
) -> None:
    tensor = brought.tensor
    gradient = getattr(tensor, "_grad", None)
    if gradient is brought.gradient and not brought.gradient_was_set:
        return
    if brought.fresh:
        if type(gradient) is boxing.Tracer and id(gradient) not in held:
            finals.append(_becoming(gradient, gradient._state.raw))
        return
    assert brought.source is not None
    if gradient is None:
        effects.gradients.append((brought.source, None))
        return
    if type(gradient) is not boxing.Tracer:
        trace.bring(gradient)
    if gradient._state.trace is not trace:
        raise CompileError(f"wg.compile({trace.described}): a gradient that was set belongs to another transform")
    effects.gradients.append((brought.source, gradient._state.value))
    if id(gradient) not in held:
        finals.append(_becoming(gradient, gradient._state.raw))


def _note_value(trace: CaptureTrace, brought: Brought, effects: Effects, finals: list[Any]) -> None:
    tensor = brought.tensor
    state = tensor._state
    if state.value is brought.value:
        return
    if brought.fresh:
        brought.data = _own(state.raw)
        return
    if tensor._node is not brought.inner:
        raise CompileError(
            f"wg.compile({trace.described}): a tracked value was written into a Tensor that was made outside of the "
            "function, so that its history would go on through the compiled code. Return the value instead, or write "
            "it under wg.no_grad()"
        )
    assert brought.source is not None
    effects.writes.append((brought.source, state.value))
    raw = state.raw

    def write() -> None:
        boxing.operations.overwrite(tensor, boxing.box(raw), "compile")

    finals.append(write)


def _becoming(tensor: Any, raw: np.ndarray) -> Callable[[], None]:
    def become() -> None:
        boxing.become(tensor, boxing.box(_own(raw)))

    return become


def _own(raw: np.ndarray) -> np.ndarray:
    """Return values in memory that nothing else shares."""
    return raw.copy()


class Path:
    """A program for one way through a function, with all that has to be done around a run of it.

    Attributes:
        graph: the whole of what is computed: decisions are not in it.
        decisions: for each value that Python code depended on: a program that computes it, and what it was.
    """

    def __init__(
        self,
        trace: CaptureTrace,
        plans: list[Result],
        structure: Structure,
        effects: Effects,
        derivative: Derivative | None,
    ) -> None:
        self.structure = structure
        self.plans = plans
        self.effects = effects
        self.numbers = trace.numbers
        self.afterwards = trace.afterwards
        self.conditions = list(trace.conditions)
        self.absent = [
            (b.source, b.gradient is None) for b in trace.brought if b.gradient_was_read and b.source is not None
        ]
        inputs = list(trace.inputs)
        self.sources = [trace.inputs[value] for value in inputs]
        places = {id(source): place for place, source in enumerate(self.sources)}
        outputs: list[Value] = [plan.what for plan in plans if plan.kind == "output"]
        self.written = [(source, places[id(source)]) for source, _ in effects.writes]
        set_values = [value for _, value in effects.gradients if value is not None]
        arrays = {id(source.array): place for place, source in enumerate(self.sources) if type(source) is ArraySource}
        state_places = [arrays[id(array)] for array, _ in effects.states]
        residuals = [] if derivative is None else derivative.residuals
        self.derivative = derivative
        self.owned = [type(source) in (TensorSource, ArgumentSource, DrawSource) for source in self.sources]
        self.tracked = [] if derivative is None else [places[id(source)] for source in derivative.inputs]
        on_tape = {} if derivative is None else {value: i for i, value in enumerate(derivative.outputs)}
        self.on_tape = [on_tape.get(value) for value in outputs]
        reported = [[s.value if isinstance(s, Captured) else s for s in states] for _, states in trace.reports]
        shown = [value for values in reported for value in values if isinstance(value, Value)]
        self.reports = list(zip([say for say, _ in trace.reports], reported))
        self.counts = (len(outputs), len(set_values), len(residuals))
        set_values = [*set_values, *residuals, *shown]
        homes = [None] * (len(outputs) + len(set_values)) + [place for _, place in self.written] + state_places
        name = trace.described
        values = [
            *outputs,
            *set_values,
            *[value for _, value in effects.writes],
            *[value for _, value in effects.states],
        ]
        self.graph = Graph(name, inputs, trace.equations, values, homes).without_dead_code()
        self.graph.verify()
        self.questions = [
            (Graph(f"{name}, asked at {where}", inputs, trace.equations, [value]).without_dead_code(), expected)
            for value, expected, where in trace.decisions
        ]
        known = {value: place for place, value in enumerate(inputs)}
        self.checks = [
            (known.get(value), Graph(name, inputs, trace.equations, [value]).without_dead_code(), check)
            for value, check in trace.checks
            if value.constant is None
        ]
        self.same: list[tuple[int, Any]] = []
        self.draws = any([type(source) is DrawSource for source in self.sources])
        self.program: Any = None
        self.asking: list[Any] = []

    def prepare(self) -> None:
        """Compile."""
        self.program = prepare(self.graph)
        self.asking = [prepare(graph) for graph, _ in self.questions]
        self.checking = [None if place is not None else prepare(graph) for place, graph, _ in self.checks]
        self.pulling = None if self.derivative is None else prepare(self.derivative.pullback)

    def check(self, arguments: Sequence[Any]) -> None:
        """Make sure that the program is for how things are now.

        Raises:
            Changed: it is not.
        """
        for place, tensor in self.same:
            if arguments[place] is not tensor:
                raise Changed("which argument is a Tensor that the function closes over, too")
        for condition in self.conditions:
            if not condition():
                raise Changed("what the function closes over")
        for source, was_absent in self.absent:
            if (source.holder(arguments).grad is None) is not was_absent:
                raise Changed("whether there are gradients already")

    def run(self, arguments: Sequence[Any]) -> Any:
        """Run the program; return what the function returns.

        Raises:
            Changed: the program is for another state of things, or another path; nothing has been done.
        """
        self.check(arguments)
        for numbers in self.numbers:
            numbers.refresh()
        arrays = [source.fetch(arguments) for source in self.sources]
        for program, (_, expected) in zip(self.asking, self.questions):
            if program.run(arrays)[0] != expected:
                raise Changed("a decision")
        for program, (place, _, check) in zip(self.checking, self.checks):
            check(arrays[place] if place is not None else program.run(arrays)[0])
        closing: list[Callable[[], None]] = []
        for source, place in self.written:
            arrays[place], close = _writable(source.holder(arguments))
            if close is not None:
                closing.append(close)
        try:
            outs = self.program.run(arrays)
        finally:
            for close in closing:
                close()
        return self._finish(arguments, arrays, outs)

    def _finish(self, arguments: Sequence[Any], arrays: list[np.ndarray], outs: list[np.ndarray]) -> Any:
        boxes = [boxing.box(out) for out in outs[: self.counts[0]]]
        if self.derivative is not None:
            first = self.counts[0] + self.counts[1]
            self.put_on_tape(arguments, arrays, boxes, outs[first : first + self.counts[2]])
        made = iter(boxes)
        given = iter(outs[self.counts[0] :])
        leaves: list[Any] = []
        for kind, what in self.plans:
            if kind == "output":
                leaves.append(next(made))
            else:
                leaves.append(what.holder(arguments) if kind == "held" else what)
        for source, value in self.effects.gradients:
            source.holder(arguments)._grad = None if value is None else boxing.box(next(given))
        for action in self.afterwards:
            action()
        if self.reports:
            shown = iter(outs[sum(self.counts) :])
            for say, values in self.reports:
                say(*[boxing.box(next(shown)) if isinstance(value, Value) else value for value in values])
        return self.structure.unflatten(leaves)


    def first_run(self, arguments: Sequence[Any], boxes: list[Any], raws: dict[Value, np.ndarray]) -> None:
        """Put what the captured run has returned onto the tape."""
        assert self.derivative is not None
        arrays = [raws[value] for value in self.graph.inputs]
        kept = Graph(self.graph.name, self.graph.inputs, self.graph.equations, self.derivative.residuals)
        self.put_on_tape(arguments, arrays, boxes, interpret(kept.without_dead_code(), arrays))

    def put_on_tape(
        self, arguments: Sequence[Any], arrays: list[np.ndarray], boxes: list[Any], residuals: list[np.ndarray]
    ) -> None:
        """Give the results of a run their Nodes, which keep what went in, and the residuals."""
        assert self.derivative is not None
        owned = [array if owns else array.copy() for array, owns in zip(arrays, self.owned)]
        call = Call(self.graph, self.derivative, self.tracked, self.pulling, owned, residuals)
        ordered = [None] * len(self.derivative.outputs)
        for place, made in zip(self.on_tape, boxes):
            if place is not None:
                ordered[place] = made
        put_on_tape(call, [self.sources[place].holder(arguments) for place in self.tracked], ordered)


def _writable(tensor: Any) -> tuple[np.ndarray, Callable[[], None] | None]:
    """Return an array with the Tensor's values that may be written in its place, and what to call afterwards."""
    if (
        type(tensor) is boxing.Tensor
        and getattr(tensor, "_alias", None) is None
        and getrefcount(tensor._data) == UNSHARED + 1  # the list of arrays to run on has it
    ):
        data = tensor._data
        if type(data) is np.ndarray and data.base is None and data.flags.writeable:
            return data, None
    return open_buffer(tensor)


__all__ = ["Effects", "Path", "Result", "settle"]
