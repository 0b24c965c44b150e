"""Paths: what one captured run of a function has become, ready to be run again."""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from sys import getrefcount
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..core import boxing
from ..core.aliasing import _UNSHARED as UNSHARED
from ..core.aliasing import Steps
from ..core.pytree import Structure
from ..core.tape import Leaf
from ..core.updating import open_buffer
from .backends import Interpreted, prepare
from .binding import UNBOUND, Binding, bind
from .capture import Captured, CaptureTrace
from .derivative import Again, Call, Derivative, put_on_tape
from .effects import Effects
from .executable import Executable
from .families import Families
from .graph import Graph, Value
from .results import Result, assembled
from .sources import ArgumentSource, ArraySource, Changed, DrawSource, GradientSource, Source, TensorSource
from .ties import Tie, broken, checker


class Check(NamedTuple):
    """A value that must pass a test before anything is done.

    Attributes:
        place: which input it is seen in, or None: the graph computes it.
        graph: computes it.
        steps: the views that lead from there to what is tested.
        test: raises if the values will not do.
        is_expected: whether the program sees by itself if it would raise.
    """

    place: int | None
    graph: Graph
    steps: Steps
    test: Callable[[np.ndarray], None]
    is_expected: bool

    def demand(self, array: np.ndarray) -> None:
        """Test what is seen in an array."""
        for primitive, params in self.steps:
            array = primitive.impl(backend.numpy, array, **params)
        self.test(array)


class GradientRead(NamedTuple):
    """A `.grad` that a function has read, and what a program depends on of it.

    Attributes:
        owner: finds the Tensor whose gradient it is.
        was_absent: whether it was None.
        was_untracked: whether it was off the tape.
        other_way: how it is found other than by asking its owner; None if there is no other way.
    """

    owner: Source
    was_absent: bool
    was_untracked: bool
    other_way: Source | None

    @classmethod
    def of(cls, owner: Source, gradient: Any, trace: CaptureTrace) -> GradientRead:
        """Return what to take down of a gradient as it was before the captured run."""
        if gradient is None:
            return cls(owner, True, True, None)
        found = trace.source_of(gradient)
        is_by_owner = type(found) is GradientSource and found.owner is owner
        return cls(owner, False, gradient._node is None, None if is_by_owner else found)


_MOST_UNBOUND = 8
"""Bindings in a row that came to nothing before a path makes no more."""


class Path:
    """A program for one way through a function, with all that has to be done around a run of it.

    Attributes:
        graph: the whole of what is computed: decisions are not in it.
        decisions: for each value that Python code depended on: a program that computes it, and what it was.
        runs: how often it was asked for.
    """

    def __init__(
        self,
        trace: CaptureTrace,
        plans: list[Result],
        structure: Structure,
        effects: Effects,
        derivative: Derivative | None,
        again: Again,
    ) -> None:
        self.structure = structure
        self.operations = len(trace.equations)
        self.raws = trace.raws
        self.plans = plans
        self.effects = effects
        self.derivative = derivative
        self.again = again
        self.numbers = trace.numbers
        self.afterwards = trace.afterwards
        self.sources = list(trace.inputs.values())
        self.conditional = False
        self.graph = self._whole(trace)
        self._pose_questions(trace)
        self._note_state(trace)
        self.binding: Binding | None = None
        self.unbound = 0
        self.runs = 0
        self.program: Any = None
        self.asking: list[Any] = []

    def _whole(self, trace: CaptureTrace) -> Graph:
        """Return the graph of all that a run computes: results, gradients, residuals, what is shown and written."""
        derivative, effects = self.derivative, self.effects
        places = {id(source): place for place, source in enumerate(self.sources)}
        arrays = {id(source.array): place for place, source in enumerate(self.sources) if type(source) is ArraySource}
        results: list[Value] = [plan.what for plan in self.plans if plan.kind == "output"]
        gradients = [value for _, value in effects.gradients if value is not None]
        residuals = [] if derivative is None else derivative.residuals
        reported = [[s.value if isinstance(s, Captured) else s for s in states] for _, states in trace.reports]
        self.reports = list(zip([say for say, _ in trace.reports], reported))
        shown = [value for values in reported for value in values if isinstance(value, Value)]
        self.counts = (len(results), len(gradients), len(residuals))
        self.written = [(source, places[id(source)]) for source, _ in effects.writes]
        self.tracked = [] if derivative is None else [places[id(source)] for source in derivative.inputs]
        self.on_tape: list[int | None] = [] if derivative is None else derivative.places
        values = [*results, *gradients, *residuals, *shown]
        homes: list[int | None] = [None] * len(values)
        values += [value for _, value in (*effects.writes, *effects.states)]
        homes += [place for _, place in self.written] + [arrays[id(array)] for array, _ in effects.states]
        condition = trace.condition()
        if condition is not None:
            self.conditional = True
            values.append(condition)
            homes.append(None)
        graph = Graph(trace.described, list(trace.inputs), trace.equations, values, homes).without_dead_code()
        graph.verify()
        return graph

    def _pose_questions(self, trace: CaptureTrace) -> None:
        """Make programs of what Python code depended on, and of what must pass a check before anything is done."""
        inputs, name = list(trace.inputs), trace.described

        def part(name: str, value: Value) -> Graph:
            return Graph(name, inputs, trace.equations, [value]).without_dead_code()

        self.questions = [
            (part(f"{name}, asked at {where}", value), expected) for value, expected, where in trace.decisions
        ]
        known = {value: place for place, value in enumerate(inputs)}
        self.checks = [
            Check(known.get(value), part(name, value), steps, test, is_expected)
            for value, steps, test, is_expected in trace.checks
            if value.constant is None
        ]

    def _note_state(self, trace: CaptureTrace) -> None:
        """Take down what the program depends on besides values."""
        self.conditions = list(trace.conditions)
        self.ties: list[Tie] = []
        self.unchanged: Callable[[], bool] | None = None
        self.restless: set[int] = set()
        self.gradients_read = [
            GradientRead.of(b.source, b.gradient, trace)
            for b in trace.brought
            if b.gradient_was_read and b.source is not None
        ]
        self.owned = [type(source) in (TensorSource, ArgumentSource, DrawSource) for source in self.sources]
        self.tracking = [
            (s.tensor, s.tensor._node is None, _hooks_on(s.tensor)) for s in self.sources if isinstance(s, TensorSource)
        ]
        self.cuts = list(trace.cuts)
        self.origins = list(dict.fromkeys(trace.origins))
        self.depends_on_layout = trace.depends_on_layout
        self.layouts: list[Any] = []
        self.same: list[tuple[int, Any]] = []
        self.families: Families | None = None
        self.gradient_families: Families | None = None
        self.draws = any([type(source) is DrawSource for source in self.sources])

    def tie(self, ties: list[Tie]) -> None:
        """Let the program be good only as long as ties hold."""
        self.ties = ties
        self.unchanged = checker(ties)
        self.conditions.append(self.unchanged)

    def array_rewritten(self) -> np.ndarray | None:
        """Return an array of NumPy's that held something else when the program was made, if there is one."""
        return next((tie.container for tie in self.ties if tie.kind == "array" and not tie.holds()), None)

    def watch_arguments(self, arguments: Sequence[Any], outside: Iterable[Any]) -> None:
        """Make sure that arguments are none of the Tensors `outside` of them that the function can reach.

        Where the program writes, or arguments share memory in the captured call, they must share it in the same way.
        """
        places = [source.place for source in self.sources if type(source) is ArgumentSource]
        closed_over = [source.tensor for source in self.sources if isinstance(source, TensorSource)]
        same = {place for place, _ in self.same}
        others = [place for place in range(len(arguments)) if place not in same]
        effects = self.effects
        writes = bool(effects.writes or effects.gradients or effects.kept)
        families = Families(places, closed_over, arguments, writes)
        families.keep_apart(others, [*outside, *closed_over], arguments)
        if families.has_something_to_see:
            self.families = families
        if any([not read.was_absent for read in self.gradients_read]):
            everything = [*arguments, *[read.owner.holder(arguments).grad for read in self.gradients_read]]
            families = Families([*places, *range(len(arguments), len(everything))], closed_over, everything, writes)
            self.gradient_families = families if families.has_something_to_see else None

    def prepare(self, narrow: bool = False) -> None:
        """Compile; with `narrow`, products are of bfloat16 factors, but not those that Python code depends on."""
        self.program = prepare(self.graph, self.conditional, narrow)
        self.asking = [prepare(graph) for graph, _ in self.questions]
        self.checking = [None if check.place is not None else prepare(check.graph) for check in self.checks]
        pulled = self.derivative
        self.pulling = None if pulled is None else prepare(pulled.pullback, pulled.conditional, narrow)
        self.programs = [p for p in (self.program, *self.asking, *self.checking) if p is not None]

    def answers(self) -> list[str]:
        """Return, for people, what Python code asked on this path, where, and what it was told."""
        return [f"{graph.name.partition(', asked at ')[2]} asked and got {value}" for graph, value in self.questions]

    def kernels(self) -> list[tuple[str, int, int, float | None]]:
        """Return name, arithmetic operations, bytes moved and seconds (if they were taken) of what a run runs."""
        entries: list[tuple[str, int, int, float | None]] = []
        for program in (self.program, self.pulling):
            if isinstance(program, Executable):
                entries += program.kernels()
        return entries

    def time_next_run(self) -> None:
        """Have the kernels of the next run timed."""
        for program in (self.program, self.pulling):
            if isinstance(program, Executable):
                program.timed = True

    def check(self, arguments: Sequence[Any]) -> None:
        """Make sure that the program is for how things are now.

        Raises:
            Changed: it is not.
        """
        for place, tensor in self.same:
            if arguments[place] is not tensor:
                raise Changed("which argument is a Tensor that the function closes over, too")
        if self.families is not None and not self.families.fit(arguments):
            raise Changed("which arguments share memory")
        for condition in self.conditions:
            if not condition():
                raise Changed(broken(self.ties) or "what the function closes over")
        for tensor, was_untracked, hooks in self.tracking:
            if (tensor._node is None) is not was_untracked:
                raise Changed("which Tensors require grad")
            if not was_untracked and _hooks_on(tensor) != hooks:
                raise Changed("the hooks on a Tensor")
        if not all([origin.holds(arguments) for origin in self.origins]):
            raise Changed("which Tensors are leaves, or what the others were made by")
        if any([cut.hides_something(arguments) for cut in self.cuts]):
            raise Changed("what the arguments were computed from")
        if self.gradients_read:
            self._check_gradients(arguments)

    def _check_gradients(self, arguments: Sequence[Any]) -> None:
        """Make sure that there are gradients where there were some, and that they are not used in other ways."""
        others = {id(source.tensor) for source in self.sources if isinstance(source, TensorSource)}
        others.update([id(arguments[source.place]) for source in self.sources if type(source) is ArgumentSource])
        gradients = [owner.holder(arguments).grad for owner, *_ in self.gradients_read]
        for gradient, (_, was_absent, was_untracked, other_way) in zip(gradients, self.gradients_read):
            if (gradient is None) is not was_absent:
                raise Changed("whether there are gradients already")
            if gradient is None:
                continue
            if (gradient._node is None) is not was_untracked:
                raise Changed("which gradients are on the tape")
            if other_way is None and id(gradient) in others:
                raise Changed("which gradients are other Tensors, too")
            if other_way is not None and other_way.holder(arguments) is not gradient:
                raise Changed("which gradients are other Tensors, too")
            others.add(id(gradient))
        if self.gradient_families is not None and not self.gradient_families.fit([*arguments, *gradients]):
            raise Changed("which gradients share memory")

    def run(self, arguments: Sequence[Any], raws: dict[Value, np.ndarray] | None = None) -> Any:
        """Run the program; return what the function returns.

        Args:
            arguments: the leaves of the function's arguments.
            raws: for the run that follows the capture, what the inputs were there: nothing is drawn or asked again.

        Raises:
            Changed: the program is for another state of things, or another path; nothing has been done.
        """
        self.runs += 1
        outcome = self.run_bound(arguments)
        if outcome is not UNBOUND:
            return outcome
        if raws is None:
            self.check(arguments)
        if not all([numbers.refresh() for numbers in self.numbers]):
            raise Changed("the kind of step that an optimiser takes")
        arrays = [
            source.fetch(arguments) if raws is None or type(source) is not DrawSource else raws[value]
            for source, value in zip(self.sources, self.graph.inputs)
        ]
        if self.depends_on_layout:
            layouts = [_layout(array) for array in arrays]
            if raws is None and layouts != self.layouts:
                raise Changed("how the values lie in memory")
            self.layouts = layouts
        if raws is None:
            self._ask(arrays)
        closing: list[Callable[[], None]] = []
        for source, place in self.written:
            held = 1 + sum([program.holds(place, arrays[place]) for program in self.programs])
            arrays[place], close = _writable(source.holder(arguments), held)
            if close is not None:
                closing.append(close)
        kept = arrays
        if self.derivative is not None:
            # The tape keeps what went in, not what the program writes in its place.
            written = {home for home in self.graph.homes if home is not None}
            kept = [array.copy() if place in written else array for place, array in enumerate(arrays)]
        try:
            outs = self.program.run(arrays)
        finally:
            for close in closing:
                close()
        answer = self._finish(arguments, kept, outs)
        del kept
        if raws is None and not closing and self.unbound < _MOST_UNBOUND:
            del outs
            self.binding = bind(self, arrays)
        return answer

    def run_bound(self, arguments: Sequence[Any]) -> Any:
        """Do the same if that can be done on the very objects of the last run; return UNBOUND if it cannot be."""
        binding, self.binding = self.binding, None  # another thread goes the long way meanwhile
        if binding is None:
            return UNBOUND
        outcome = binding.run(arguments)
        if outcome is UNBOUND:
            changed = binding.containers_changed()
            self.restless |= changed
            self.unbound += not changed
        else:
            self.binding, self.unbound = binding, 0
        return outcome

    def _ask(self, arrays: list[np.ndarray]) -> None:
        for program, (_, expected) in zip(self.asking, self.questions):
            if program.run(arrays)[0] != expected:
                raise Changed("a decision")
        for program, check in zip(self.checking, self.checks):
            check.demand(arrays[check.place] if program is None else program.run(arrays)[0])  # type: ignore[index]

    def _finish(self, arguments: Sequence[Any], arrays: list[np.ndarray], outs: list[np.ndarray]) -> Any:
        results, gradients, residuals = self.counts
        boxes = [boxing.box(out) for out in outs[:results]]
        if self.derivative is not None:
            first = results + gradients
            self.put_on_tape(arguments, arrays, boxes, outs[first : first + residuals])
        leaves = assembled(self.plans, boxes, arguments)
        given = iter(outs[results:])
        for source, value in self.effects.gradients:
            source.holder(arguments)._grad = None if value is None else boxing.box(next(given))
        if self.effects.kept:
            self._give_gradients(leaves, arguments)
        for action in self.afterwards:
            action()
        shown = iter(outs[sum(self.counts) :])
        for say, values in self.reports:
            say(*[boxing.box(next(shown)) if isinstance(value, Value) else value for value in values])
        return self.structure.unflatten(leaves[: self.structure.count])

    def _give_gradients(self, leaves: Sequence[Any], arguments: Sequence[Any]) -> None:
        """Let Tensors have leaves for gradients: an array among the arguments as one Tensor over its memory."""
        lent: dict[int, Any] = {}
        for source, place in self.effects.kept:
            leaf = leaves[place]
            if type(leaf) is np.ndarray:
                leaf = lent.setdefault(id(leaf), boxing.borrow(leaf))
            source.holder(arguments)._grad = leaf

    def redo(self, arguments: Sequence[Any]) -> Any:
        """Do what the captured run has done, without native code; return what the function returns."""
        self.program = Interpreted(self.graph, self.conditional)
        derivative = self.derivative
        self.pulling = None if derivative is None else Interpreted(derivative.pullback, derivative.conditional)
        self.programs = [self.program]
        return self.run(arguments, self.raws)

    def put_on_tape(
        self, arguments: Sequence[Any], arrays: list[np.ndarray], boxes: list[Any], residuals: list[np.ndarray]
    ) -> None:
        """Give the results of a run their Nodes, which keep what went in, and the residuals."""
        assert self.derivative is not None
        owned = [
            array
            if owns and not (type(source) is ArgumentSource and _is_lent(arguments[source.place]))
            else array.copy()
            for array, owns, source in zip(arrays, self.owned, self.sources)
        ]
        call = Call(self.graph, self.derivative, self.tracked, self.pulling, owned, residuals, self.again)
        ordered = [None] * len(self.derivative.outputs)
        for place, made in zip(self.on_tape, boxes):
            if place is not None:
                ordered[place] = made
        put_on_tape(call, [self.sources[place].holder(arguments) for place in self.tracked], ordered)


def _layout(array: np.ndarray) -> Any:
    """Return what is equal for arrays of one shape that are reshaped alike."""
    return None if array.flags.c_contiguous else array.strides


def _hooks_on(tensor: Any) -> list[Any] | None:
    node = tensor._node
    if not isinstance(node, Leaf) or not (node.hooks or node.after_accumulate):
        return None
    return [*(node.hooks or {}).values(), None, *(node.after_accumulate or {}).values()]


def _is_lent(argument: Any) -> bool:
    """Return whether somebody else may write to the memory of an argument."""
    return type(argument) is not boxing.Tensor


def _writable(tensor: Any, held: int) -> tuple[np.ndarray, Callable[[], None] | None]:
    """Return an array with the Tensor's values that may be written in its place, and what to call afterwards.

    `held` is how many references to the array the caller has.
    """
    if (
        type(tensor) is boxing.Tensor
        and getattr(tensor, "_alias", None) is None
        and getrefcount(tensor._data) == UNSHARED + held
    ):
        data = tensor._data
        if type(data) is np.ndarray and data.base is None and data.flags.writeable:
            return data, None
    return open_buffer(tensor)


__all__ = ["Path"]
