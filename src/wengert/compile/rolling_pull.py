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
from ..core.recording import observers, set_recording
from ..core.tape import Node
from ..core.tracing import open_traces
from ..core.vspace import densify
from ..transforms.looping import Loop
from ..transforms.replay import Stage, pull_by_unrolling, swept_between
from .graph import Equation, Graph, Value
from .loops import Form, free_values, loop_equation, stacked_shape
from .residuals import parted
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
        loop: Loop,
        outside: Sequence[Any],
        trial: Trial,
        equation: Equation,
        equations: Sequence[Equation],
    ) -> None:
        self.trace, self.loop, self.trial = trace, loop, trial
        self.outside = list(outside)
        self.equation, self.equations = equation, equations
        self.count = len(loop.init)
        self.steps = loop.length
        self.traces, self.observed, self.programs = open_traces(), bool(observers()), 0
        self._kept: dict[Value, Value] = {}

    @property
    def form(self) -> Form:
        """What the loop is now."""
        return self.equation.params["form"]

    def pulled(self, wanted: Sequence[Node | None], bars: dict[int, Any], masked: bool) -> tuple[Any, ...]:
        """Return cotangents of what the loop began with, what it read, and what it closes over; None if not wanted."""
        trace = self.trace
        begin = len(trace.equations)
        with trace.rolled():
            sweep = _Sweep(self, wanted, bars)
            sweep.run(masked)
            equations = trace.equations[begin:]
            del trace.equations[begin:]
        return sweep.written(equations)

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

    # What a derivative of the gradient asks for, where the loop is run step by step: see `replay.pull_by_unrolling`.

    @property
    def level(self) -> int:
        """The level of the tape that the loop is on."""
        return self.trace.level

    @property
    def closures(self) -> list[Node]:
        """The Nodes of what the function closes over."""
        return self.trial.strays

    @property
    def kept(self) -> dict[int, Stage]:
        """What the loop began with, off the tape."""
        return {0: Stage([boxing.with_node(t, None) for t in self.outside[: self.count]], None, [])}

    def compared(self, *_step: Any) -> None:
        """See nothing to compare: the steps of a capture are all alike."""


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
        self.is_unguarded = False

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
        before, unguarded = set_recording(False), trace.exchange_unguarded([])
        try:
            found = swept_between(self.seeds, targets, (), retain=True, traced=True, masked=masked)
        finally:
            set_recording(before)
            self.is_unguarded = bool(trace.exchange_unguarded(unguarded))
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
        if self.is_unguarded:
            trace.guard_was_left_out(None)
        carried = {**self.carried, **self.sums}
        ends = [*[out for _, out in carried.values()], *self.emitted.values()]
        if not ends:
            return (None,) * len(self.wanted)
        kept, steps = parted(rolled.equations, equations, ends)
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
    if node.recorded:
        return pull_by_unrolling(rolled, node, out_bar, masked)  # type: ignore[arg-type]
    return rolled.pulled(node.inputs, out_bar.bars, masked)


def _primitive(masks: bool) -> Primitive:
    primitive = Primitive("loop_of_capture", OPAQUE, _not_computed)
    primitive.multiple, primitive.masks = True, masks
    primitive.pull = primitive.pull_masked = primitive.pull_tracked = _pull
    return primitive


ROLLED = {masks: _primitive(masks) for masks in (False, True)}
"""What loops are on the tape, by whether the derivative of a step drops elements."""


__all__ = ["ROLLED", "Rolled"]
