"""Sweeps of loops that are loops like the user's: on the tape, to be differentiated again, or inside of transforms.

A loop goes the other way, whose step runs that of the first one again, on the tape, and sweeps it. To be differentiated
it sweeps with a record, and the first loop is run once more, to emit what goes into its steps: so both have a gradient,
by the same means as any loop. If cotangents are of many examples, each step's sweep is.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import boxing, capturing
from ..core.backward import zeros_for
from ..core.recording import set_recording
from ..core.step_sweeps import as_leaves, swept_again
from ..core.tape import Node
from ..core.vspace import added, densify

if TYPE_CHECKING:
    from .rolling_pull import Rolled


class _Aside:
    """A loop beside one of a capture: of the same function, as long, over what it says itself."""

    checkpoints = None
    init: list[Any]
    xs: list[Any]

    def __init__(self, rolled: Rolled, reverse: bool) -> None:
        loop = self.loop = rolled.loop
        self.function, self.name, self.described = loop.function, loop.name, loop.described
        self.length, self.reverse, self.count = rolled.form.length, reverse, rolled.count


class _Emitting(_Aside):
    """The loop itself, which emits what is carried into each step."""

    def __init__(self, rolled: Rolled, entered: Sequence[Any]) -> None:
        super().__init__(rolled, rolled.loop.reverse)
        self.init, self.xs = list(entered[: self.count]), list(entered[self.count :])

    def step(self, number: Any, carried: Sequence[Any], _mask: None, read: Sequence[Any]) -> tuple[Any, Any]:
        """Run a step; return what is carried on, and what was carried into it."""
        made, _ = self.loop.step(number, carried, None, read)
        return made, list(carried)


class _Sweeping(_Aside):
    """The sweep, step by step: carries cotangents of what the loop carries, and sums for what it closes over.

    Args:
        rolled: the loop.
        states, read: what goes into its steps, stacked.
        bars: cotangents of the loop's results, by place.
        masked: whether these may hold zeros that must stay zeros.
        recorded: whether it will be differentiated.
    """

    def __init__(
        self,
        rolled: Rolled,
        states: Sequence[Any],
        read: Sequence[Any],
        bars: dict[int, Any],
        *,
        masked: bool,
        recorded: bool,
    ) -> None:
        super().__init__(rolled, not rolled.loop.reverse)
        trial = rolled.trial
        self.closures, self.recorded = trial.strays, recorded
        self.masked = masked or any([met.primitive.masks for met in trial.met])
        self.nodes = trial.nodes
        self.tracked = [i for i in range(self.count) if trial.nodes[i] is not None]
        self.read = [i for i in range(len(read)) if trial.nodes[self.count + i] is not None]
        self.emitted = sorted([i for i in bars if i >= self.count])
        begins = [bars.get(i) for i in self.tracked]
        likes = [trial.entered[i] for i in self.tracked]
        self.init = [_cotangent(bar, like.shape, like.dtype) for bar, like in zip(begins, likes)]
        self.init += [zeros_for(closure.shape, closure.dtype) for closure in self.closures]
        self.xs = [*states, *read, *[_cotangent(bars[i], (), None) for i in self.emitted]]

    def step(self, number: Any, carried: Sequence[Any], _mask: None, read: Sequence[Any]) -> tuple[Any, Any]:
        """Pull cotangents through a step, on the tape."""
        count, end = self.count, len(read) - len(self.emitted)
        values = read[:end]

        def run(nodes: Sequence[Node | None]) -> list[Node | None]:
            entered = [x if node is None else boxing.with_node(x, node) for x, node in zip(values, nodes)]
            made, emitted = self.loop.step(number, entered[:count], None, entered[count:])
            return [tensor._node for tensor in (*made, *emitted)]

        bars = dict(zip(self.tracked, carried)) | dict(zip(self.emitted, read[end:]))
        parents = [value._node for value in values] if self.recorded else self.nodes
        modes = {"recorded": self.recorded, "masked": self.masked}
        found = swept_again(run, values, parents, self.closures, bars, **modes)
        new = [_cotangent(found[i], values[i].shape, values[i].dtype) for i in self.tracked]
        totals = carried[len(self.tracked) :]
        sums = [total if bar is None else added(total, densify(bar)) for total, bar in zip(totals, found[end:])]
        stacks = [_cotangent(found[count + i], values[count + i].shape, values[count + i].dtype) for i in self.read]
        return [*new, *sums], stacks

    def cotangents(self, found: tuple[list[Any], list[Any]], wanted: Sequence[Node | None]) -> tuple[Any, ...]:
        """Return what has come of it: of what the loop began with, read and closes over, in the order of its inputs."""
        ends, stacks = found
        every: dict[int, Any] = dict(zip(self.tracked, ends))
        every |= {self.count + i: stack for i, stack in zip(self.read, stacks)}
        every |= dict(enumerate(ends[len(self.tracked) :], len(self.nodes)))
        return tuple([None if node is None else every.get(i) for i, node in enumerate(wanted)])


def _cotangent(bar: Any, shape: Any, dtype: Any) -> Any:
    if bar is None:
        return zeros_for(shape, dtype)
    dense = densify(bar)
    return boxing.box(dense) if isinstance(dense, np.ndarray) else dense


def pulled_as_loops(rolled: Rolled, node: Any, bars: dict[int, Any], masked: bool) -> tuple[Any, ...] | None:
    """Return cotangents of what a loop began with, read and closes over, on the tape; None: it is to go by steps.

    Args:
        rolled: the loop.
        node: its Node, with None in the place of inputs whose cotangents are not wanted.
        bars: cotangents of its results, by place.
        masked: whether these may hold zeros that must stay zeros.
    """
    trial, trace, inputs = rolled.trial, rolled.trace, node.whole.inputs
    entered = [x if of is None else boxing.with_node(x, of) for x, of in zip(rolled.outside, inputs)]
    before = set_recording(True)
    try:
        with as_leaves(trial.strays):
            found = trace.loop(_Emitting(rolled, entered))
            if found is None:
                return None
            read = entered[rolled.count :]
            sweeping = _Sweeping(rolled, found[1], read, bars, masked=masked, recorded=True)
            places = [*sweeping.tracked, *[rolled.count + i for i in sweeping.read]]
            if any([sweeping.xs[i]._node is None for i in places]):
                return None
            found = trace.loop(sweeping)
    finally:
        set_recording(before)
    return None if found is None else sweeping.cotangents(found, rolled.connected(node.inputs, bars))


def pulled_inside(rolled: Rolled, node: Any, bars: dict[int, Any], masked: bool) -> tuple[Any, ...] | None:
    """Return the same of cotangents that are values of transforms further in than the loop, off the tape."""
    trace, entered = rolled.trace, rolled.trial.entered[: rolled.count]
    states = [trace.tracer(None, rolled.stack_of(tensor._state.value)) for tensor in entered]
    read = rolled.outside[rolled.count :]
    sweeping = _Sweeping(rolled, states, read, bars, masked=masked, recorded=False)
    found = capturing.loop_inside(trace, sweeping)
    return None if found is None else sweeping.cotangents(found, rolled.connected(node.inputs, bars))


__all__ = ["pulled_as_loops", "pulled_inside"]
