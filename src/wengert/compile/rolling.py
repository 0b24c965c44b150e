"""Loops in a capture: the function of a step runs a few times, and stands in the graph as the body of one loop.

A step runs on tracers that have no values, twice: if both runs do the same, so would all others. What Python may not
see in a loop (values, random numbers that are drawn, writes to what lies outside) is noticed before it is done; such a
loop is captured step by step, as a loop of Python's is. How it is pulled back is in `rolling_pull`.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import boxing
from ..core.recording import is_recording
from ..core.step_numbers import Unrollable
from ..core.step_sweeps import ENTRY, led_through, sources_of, walk_back
from ..core.tape import Leaf, Node, argument_node, location, make_node, next_sequence, projection
from ..core.tracing import Several
from ..declare import packing
from .graph import Equation, Graph, Value
from .loops import Form, end_of, free_values, loop_equation
from .reach import Reach
from .rolling_equations import alike, split
from .rolling_pull import ROLLED, Rolled
from .rolling_steps import is_steady
from .ties import broken

if TYPE_CHECKING:
    from .capture import CaptureTrace

FEW = 8
"""Loops of fewer steps are captured step by step: more can be fused then."""
_KINDS = frozenset("fiub")


class Trial(NamedTuple):
    """One run of a step.

    Attributes:
        entered: what went in, carried and read: tracers without values, on Nodes of their own if they are tracked.
        made: what is carried on, then what is emitted.
        nodes: of what went in; None for what is not tracked.
        met: Nodes of the step.
        strays: Nodes that it closes over.
        proxies: Nodes in the place of these.
        equations: what it did.
        expected: booleans that must be true.
    """

    entered: list[Any]
    made: list[Any]
    nodes: list[Node | None]
    met: set[Node]
    strays: list[Node]
    proxies: list[Node]
    equations: list[Equation]
    expected: list[Value]


class OperationLoop:
    """A loop that an operation is; it has what `transforms.looping.Loop` has for one of the user's."""

    checkpoints = None
    reverse = False

    def __init__(self, function: Callable[..., Any], init: list[Any], xs: list[Any], name: str) -> None:
        self.function = function
        self.init, self.xs = init, xs
        self.name = self.described = name
        self.length = len(xs[0])

    def step(self, _number: Any, carried: list[Any], _mask: None, read: list[Any]) -> tuple[Any, Any]:
        """Return what a step carries on, and what it emits."""
        return self.function(carried, read)


def roll(trace: CaptureTrace, loop: Any) -> tuple[list[Any], list[Any]] | None:
    """Capture a loop as one equation; return what `bounded.run` returns, or None: it is to be run step by step."""
    if loop.checkpoints is not None or not can_be_rolled(loop):
        return None
    outside = list(trace.arguments((*loop.init, *loop.xs), loop.name))
    if not all([_fits(tensor, trace) for tensor in outside]):
        return None
    trial = tried(trace, _Trials(trace, loop, outside).settled)
    return None if trial is None else _written(trace, loop, outside, trial)


def can_be_rolled(loop: Any) -> bool:
    """Return whether a loop's step may be run to see whether it stands for all."""
    return loop.length is not None and loop.length >= FEW and is_steady(loop.function)


def tried(trace: CaptureTrace, run: Callable[[], Any]) -> Any:
    """Return what a run of steps that may stand for all returns, and forget what they did; None if they may not."""
    begin, expected = len(trace.equations), len(trace.expected)
    try:
        with trace.rolled(), packing.suspended():  # a checkpoint around counts what is recorded, and not trials
            return run()
    except Unrollable:
        return None
    finally:
        del trace.equations[begin:], trace.expected[expected:]


def _fits(tensor: Any, trace: CaptureTrace) -> bool:
    return trace.follows(tensor) and bool(tensor.size) and tensor.dtype.kind in _KINDS


class _Trials:
    """Runs a step until it is known what is tracked, and that another run does the same."""

    def __init__(self, trace: CaptureTrace, loop: Any, outside: Sequence[Any]) -> None:
        self.trace = trace
        self.loop = loop
        self.carried, self.read = outside[: len(loop.init)], outside[len(loop.init) :]
        self.records = is_recording() is True
        self.start = next_sequence()

    def settled(self) -> Trial:
        """Return a run that stands for all steps."""
        reach = Reach([self.loop.function])
        ties = reach.ties(())
        guess = [self.records and tensor.dtype.kind == "f" for tensor in self.carried]
        first = self._run(guess, ())
        tracked = self._tracked(first)
        if tracked != guess:
            first = self._run(tracked, ())
        second = self._run(tracked, first.strays)
        pairs = [(a._state.value, b._state.value) for a, b in zip(_all(first), _all(second), strict=True)]
        if first.strays != second.strays or not alike(first.equations, second.equations, pairs):
            raise Unrollable("two steps do different things")
        if broken(ties) or reach.unsteady():
            raise Unrollable("a step changes what the next one reads")
        return second

    def _run(self, tracked: Sequence[bool], closures: Sequence[Node]) -> Trial:
        trace, loop = self.trace, self.loop
        begin, expected = len(trace.equations), len(trace.expected)
        # A sweep takes Nodes by age, so what stands in for something older must be older than the step.
        proxies = {closure: argument_node(None, closure) for closure in closures}
        floor = next_sequence()
        carried = [self._entry(t.shape, t.dtype, wanted) for t, wanted in zip(self.carried, tracked)]
        read = [self._entry(t.shape[1:], t.dtype, self.records and t._node is not None) for t in self.read]
        leaves, emitted = loop.step(None, carried, None, read)
        made = list(trace.arguments((*leaves, *emitted), loop.name))
        nodes = [tensor._node for tensor in (*carried, *read)]
        met, strays = walk_back([t._node for t in made if t._node is not None], {n for n in nodes if n}, floor)
        if not all([tensor.size and tensor.dtype.kind in _KINDS for tensor in made]):
            raise Unrollable("no arrays for kernels")
        if any([stray.sequence > self.start or _is_gone(stray) for stray in strays]):
            raise Unrollable("a step makes leaves")
        led_through(met, proxies)
        made = [boxing.with_node(t, proxies.get(t._node, t._node)) for t in made]
        equations, conditions = trace.equations[begin:], trace.expected[expected:]
        del trace.equations[begin:], trace.expected[expected:]
        ordered = sorted(strays, key=_by_sequence)
        stand_ins = [proxies[stray] for stray in ordered if stray in proxies]
        return Trial([*carried, *read], made, nodes, met, ordered, stand_ins, equations, conditions)

    def _entry(self, shape: Any, dtype: Any, tracked: bool) -> Any:
        tensor = self.trace.tracer(None, Value(shape, dtype))
        if tracked:
            tensor._node = make_node(ENTRY, (), (), tensor, {})
        return tensor

    def _tracked(self, trial: Trial) -> list[bool]:
        """Return which of what is carried is tracked in some step: what comes of something that is."""
        entries = trial.nodes[: len(self.carried)]
        always = {*trial.strays, *[node for node in trial.nodes[len(self.carried) :] if node is not None]}
        sources = [
            set[Node]() if made._node is None else sources_of(made._node, {*always, *[n for n in entries if n]})
            for made in trial.made[: len(self.carried)]
        ]
        tracked = [tensor._node is not None and self.records for tensor in self.carried]
        while True:
            live = always | {node for node, is_tracked in zip(entries, tracked) if is_tracked and node is not None}
            more = [t or not live.isdisjoint(found) for t, found in zip(tracked, sources)]
            if more == tracked:
                return tracked
            tracked = more


def _all(trial: Trial) -> list[Any]:
    return [*trial.entered, *trial.made]


def _by_sequence(node: Node) -> int:
    return node.sequence


def _is_gone(node: Node) -> bool:
    """Whether a leaf has outlived its Tensor."""
    return isinstance(node, Leaf) and node.tensor_reference() is None


# ---------------------------------------------------------------------- the equation


def _written(trace: CaptureTrace, loop: Any, outside: Sequence[Any], trial: Trial) -> tuple[list[Any], list[Any]]:
    """Write the loop down; return what is carried in the end and what was emitted."""
    count = len(loop.init)
    entered = [tensor._state.value for tensor in trial.entered]
    made = [tensor._state.value for tensor in trial.made]
    fixed, varying = split(trial.equations, entered)
    for equation in fixed:
        trace.append(equation)
    outputs = [*made, *trial.expected]
    shared = [value for value in free_values(varying, outputs) if value not in set(entered)]
    body = Graph(loop.described, [*shared, *entered], varying, outputs)
    assert loop.length is not None
    form = Form(body, len(shared), count, loop.length, loop.reverse, (True,) * count)
    where = location(trial.made[0]._state) if trial.made else ""
    operands = [*shared, *[tensor._state.value for tensor in outside]]
    equation = loop_equation(form, operands, [end_of(form, i, where) for i in range(count)], where)
    trace.append(equation)
    index = partial(trace.apply, "index")
    ends = [index(value, key=(form.last,)) for value in equation.outputs[:count]]
    stacks = list(equation.outputs[count : len(made)])
    for value in equation.outputs[len(made) :]:
        trace.expected.append(trace.apply("all_over", value, axis=tuple(range(len(value.shape))), keepdims=False))
    for i, value in enumerate(made[count:]):
        if value in made[:count]:  # a step emits what it carries on: the history has it
            stacks[i] = index(equation.outputs[made.index(value)], key=(form.out_of,))
    results = [trace.tracer(None, value) for value in (*ends, *stacks)]
    if any([tensor._node is not None for tensor in trial.made]):
        parents = (*[tensor._node for tensor in outside], *trial.strays)
        rolled = Rolled(trace, loop, outside, trial, equation, varying)
        masks = any([node.primitive.masks for node in trial.met])
        node = make_node(ROLLED[masks], parents, rolled, Several(results), {})
        trace.taped.update(equation.outputs)
        for i, (result, inner) in enumerate(zip(results, trial.made)):
            if inner._node is not None:
                result._node = projection(node, i, result)
                trace.note_recorded(result, node)
    return results[:count], results[count:]


__all__ = ["can_be_rolled", "roll", "tried"]
