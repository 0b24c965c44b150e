"""How loops that are one equation are pulled back: the sweep of a step is the body of a loop that goes the other way.

What the sweep needs of the steps becomes one more thing that they emit: it is asked for when a sweep comes, so that
loops of which nobody wants the gradient keep nothing.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import boxing
from ..core.primitive import OPAQUE, Primitive
from ..core.recording import set_recording
from ..core.step_numbers import Unrollable
from ..core.step_sweeps import places_of, reached, swept_again, swept_between
from ..core.tape import Node
from ..core.vspace import densify
from .graph import Equation, Graph, Value
from .loops import Form, free_values, loop_equation, stacked_shape
from .residuals import parted
from .rolling_again import pulled_as_loops, pulled_inside
from .rolling_equations import split

if TYPE_CHECKING:
    from .capture import CaptureTrace
    from .rolling import Trial


class Rolled:
    """A loop of a capture, and what it takes to pull cotangents through it.

    Args:
        trace: the capture.
        loop: the loop.
        outside: what it began with and what it reads, tracers.
        trial: the run of a step that stands for all.
        equation: the loop's; it gets one more output for everything that a sweep needs.
        equations: what each step does.
    """

    def __init__(
        self,
        trace: CaptureTrace,
        loop: Any,
        outside: Sequence[Any],
        trial: Trial,
        equation: Equation,
        equations: Sequence[Equation],
    ) -> None:
        self.trace, self.loop, self.trial = trace, loop, trial
        self.outside = list(outside)
        self.equation, self.equations = equation, equations
        self.count = len(loop.init)
        self._kept: dict[Value, Value] = {}

    @property
    def form(self) -> Form:
        """What the loop is now."""
        return self.equation.params["form"]

    def pulled(self, wanted: Sequence[Node | None], bars: dict[int, Any], masked: bool) -> tuple[Any, ...]:
        """Return cotangents of what the loop began with, what it read, and what it closes over; None if not wanted."""
        trace = self.trace
        begin = len(trace.equations)
        sweep = _Sweep(self, wanted, bars)
        with trace.rolled() as unguarded:
            try:
                sweep.run(masked)
            finally:
                equations = trace.equations[begin:]
                del trace.equations[begin:]
        if unguarded:
            trace.guard_was_left_out(None)
        return sweep.written(equations)

    def connected(self, inputs: Sequence[Node | None], bars: dict[int, Any]) -> list[Node | None]:
        """Return those of the Nodes that the loop's results are on whose gradient there is, given cotangents."""
        trial = self.trial
        sources = places_of([tensor._node for tensor in trial.made], [*trial.nodes, *trial.proxies])
        found = reached(sources, self.count, self.form.length, bars)
        return [node if place in found else None for place, node in enumerate(inputs)]

    def stack_of(self, value: Value) -> Value:
        """Return the array of what a value of a step was in all steps."""
        known = self._kept.get(value)
        if known is not None:
            return known
        entered = [tensor._state.value for tensor in self.trial.entered]
        form, trace = self.form, self.trace
        if value in entered[: self.count]:
            stack = trace.apply("index", self.equation.outputs[entered.index(value)], key=(form.into,))
        elif value in entered:
            stack = self.outside[entered.index(value)]._state.value
        else:
            stack = Value(stacked_shape(value, form), value.dtype, where=value.where)
            body = Graph(form.body.name, form.body.inputs, form.body.equations, [*form.body.outputs, value])
            self.equation.params = {"form": form._replace(body=body)}
            self.equation.outputs = (*self.equation.outputs, stack)
            trace.note_maker(self.equation)
        self._kept[value] = stack
        return stack

    def pulled_by_steps(self, node: Any, bars: dict[int, Any], masked: bool) -> tuple[Any, ...]:
        """Return the same cotangents, on the tape if they belong there: the loop is run and recorded step by step."""

        def run(nodes: Sequence[Node | None]) -> list[Node | None]:
            entered = [x if of is None else boxing.with_node(x, of) for x, of in zip(self.outside, nodes)]
            return [result._node for result in self._step_by_step(entered)]

        parents, modes = node.whole.inputs[: len(self.outside)], {"recorded": node.recorded, "masked": masked}
        return tuple(swept_again(run, self.outside, parents, self.trial.strays, bars, **modes))

    def _step_by_step(self, entered: Sequence[Any]) -> list[Any]:
        """Run the loop; return what it returns."""
        carried, xs = list(entered[: self.count]), entered[self.count :]
        emitted: dict[int, list[Any]] = {}
        for number, place in enumerate(self.form.places()):
            step = [boxing.with_node(tensor, tensor._node) for tensor in carried], None, [x[place] for x in xs]
            carried, emitted[place] = self.loop.step(number, *step)
        columns = zip(*[emitted[place] for place in sorted(emitted)])
        return [*carried, *[boxing.operations.stack(list(column)) for column in columns]]


class _Sweep:
    """One sweep through a loop."""

    def __init__(self, rolled: Rolled, wanted: Sequence[Node | None], bars: dict[int, Any]) -> None:
        self.rolled, self.wanted, self.bars = rolled, wanted, bars
        self.trace, self.trial = rolled.trace, rolled.trial
        self.seeds: list[tuple[Node, Any]] = []
        self.carried: dict[int, tuple[Value, Value]] = {}
        self.read: dict[int, Value] = {}
        self.sums: dict[int, tuple[Value, Value]] = {}
        self.emitted: dict[int, Value] = {}

    def _seed(self, tensor: Any) -> Value:
        value = Value(tensor.shape, tensor.dtype)
        self.seeds.append((tensor._node, self.trace.tracer(None, value)))
        return value

    def run(self, masked: bool) -> None:
        """Sweep one step."""
        rolled, trace, trial = self.rolled, self.trace, self.trial
        count = rolled.count
        seeds: dict[int, Value] = {}
        for i, tensor in enumerate(trial.made):
            if tensor._node is not None and (i < count or i in self.bars):
                seeds[i] = self._seed(tensor)
        self.read = {i: seed for i, seed in seeds.items() if i >= count}
        targets = [*trial.nodes, *trial.proxies]
        masked = masked or any([node.primitive.masks for node in trial.met])
        before = set_recording(False)
        try:
            found = swept_between(self.seeds, targets, (), retain=True, traced=True, masked=masked)
        finally:
            set_recording(before)
        for i, node in enumerate(trial.nodes):
            bar = None if node is None else found.get(node)
            if i < count and node is not None:
                self.carried[i] = seeds.get(i) or Value(node.shape, node.dtype), self._value(bar, node)
            elif bar is not None and self.wanted[i] is not None:
                self.emitted[i] = self._value(bar, trial.entered[i])
        for i, proxy in enumerate(trial.proxies, len(trial.nodes)):
            if proxy in found and self.wanted[i] is not None:
                total = trace.tracer(None, Value(proxy.shape, proxy.dtype))
                before = set_recording(False)
                try:
                    more = boxing.operations.add(total, densify(found[proxy]))
                finally:
                    set_recording(before)
                self.sums[i] = total._state.value, more._state.value

    def _value(self, bar: Any, like: Any) -> Value:
        tensor = np.zeros(like.shape, like.dtype) if bar is None else densify(bar)
        (tensor,) = self.trace.arguments((boxing.box(tensor) if isinstance(tensor, np.ndarray) else tensor,), "a sweep")
        return tensor._state.value

    def written(self, equations: Sequence[Equation]) -> tuple[Any, ...]:
        """Write the loop of the sweep down; return the cotangents that it ends with."""
        rolled, trace = self.rolled, self.trace
        carried = {**self.carried, **self.sums}
        ends = [*[out for _, out in carried.values()], *self.emitted.values()]
        if not ends:
            return (None,) * len(self.wanted)
        kept, steps = parted(rolled.equations, equations, ends, trace.repeated)
        own = {value for value, _ in carried.values()} | set(self.read.values())
        of_steps = {tensor._state.value for tensor in self.trial.entered} | set(kept)
        fixed, varying = split(steps, own | of_steps)
        for equation in fixed:
            trace.append(equation)
        free = free_values(varying, ends)
        reads = [value for value in free if value in of_steps]
        shared = [value for value in free if value not in of_steps and value not in own]
        inputs = [*shared, *[value for value, _ in carried.values()], *reads, *self.read.values()]
        body = Graph(f"{rolled.form.body.name} pulled back", inputs, varying, ends)
        form = Form(
            body, len(shared), len(carried), rolled.form.length, not rolled.form.reverse, (False,) * len(carried)
        )
        begins = [self._begin(i, value) for i, (value, _) in carried.items()]
        operands = [
            *shared,
            *begins,
            *[rolled.stack_of(value) for value in reads],
            *[self._value(self.bars[i], None) for i in self.read],
        ]
        where = self.rolled.equation.outputs[0].where
        totals = [Value(value.shape, value.dtype, where=where) for value, _ in carried.values()]
        equation = loop_equation(form, operands, totals, where)
        trace.append(equation)
        found = dict(zip([*carried, *self.emitted], equation.outputs))
        return tuple(
            [
                None if node is None or i not in found else trace.tracer(None, found[i])
                for i, node in enumerate(self.wanted)
            ]
        )

    def _begin(self, i: int, value: Value) -> Value:
        """Return what is carried into the sweep's first step: a cotangent of the loop's results, or zeros."""
        return self._value(self.bars.get(i) if i < self.rolled.count else None, value)


def _not_computed(*_args: Any, **_params: Any) -> Any:
    raise NotImplementedError("a loop of a capture is an equation of its own, not an operation on Tensors")


def _pull(node: Any, out_bar: Any, masked: bool = False) -> tuple[Any, ...]:
    rolled: Rolled = node.whole.saved
    # Cotangents of a transform further in (of many examples, say) stand for more than one value of the capture.
    are_own = all([type(bar) is not boxing.Tracer or rolled.trace.follows(bar) for bar in out_bar.bars.values()])
    if not node.recorded and are_own:
        try:
            return rolled.pulled(rolled.connected(node.inputs, out_bar.bars), out_bar.bars, masked)
        except Unrollable:
            pass
    found = None
    if node.recorded == are_own:
        found = (pulled_as_loops if are_own else pulled_inside)(rolled, node, out_bar.bars, masked)
    return rolled.pulled_by_steps(node, out_bar.bars, masked) if found is None else found


def _primitive(masks: bool) -> Primitive:
    primitive = Primitive("loop_of_capture", OPAQUE, _not_computed)
    primitive.multiple, primitive.masks = True, masks
    primitive.pull = primitive.pull_masked = primitive.pull_tracked = _pull
    return primitive


ROLLED = {masks: _primitive(masks) for masks in (False, True)}
"""What loops are on the tape, by whether the derivative of a step drops elements."""


__all__ = ["ROLLED", "Rolled"]
