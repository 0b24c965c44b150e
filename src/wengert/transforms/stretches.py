"""Loops that keep few states, for a capture that makes one loop of them: stretches of steps, which a sweep does again.

The outer loop keeps what goes into each stretch; what the steps of a stretch come to is computed once more on the way
back. So as many states are in memory as there are stretches, and as a stretch has steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from ..core import boxing
from .looping import Loop

Runner = Callable[[Loop], tuple[list[Any], list[Any]]]
FEWEST = 8
"""Stretches, and steps of one, that a loop has at least: fewer are no loop in a capture."""


class Stretches:
    """The loop of the stretches of another one; it has what a capture asks of a loop.

    Args:
        capture: runs stretches as what is done again.
        loop: the other one.
        length: how many stretches there are.
        run: runs a loop.

    Attributes:
        whole: how many steps all stretches have together.
        rest: where those that are left begin among what is read.
    """

    checkpoints = None
    index = Loop.index
    read = Loop.read

    def __init__(self, capture: Any, loop: Loop, length: int, run: Runner) -> None:
        assert loop.length is not None
        self._capture, self._loop, self._run = capture, loop, run
        self.function, self.name, self.described = loop.function, loop.name, loop.described
        self.init, self.likes, self.reverse = loop.init, loop.likes, loop.reverse
        self.length = length
        self._width = loop.length // length
        self.whole = self._width * length
        begin = loop.length - self.whole if loop.reverse else 0
        self.rest = 0 if loop.reverse else self.whole
        parts = [x[begin : begin + self.whole] for x in loop.xs]
        self.xs = [boxing.operations.reshape(x, (length, self._width, *x.shape[1:])) for x in parts]

    def goes_on(self, step: int, _leaves: Sequence[Any], _mask: Any) -> tuple[bool, Any]:
        """Return (whether there is a stretch to run, None)."""
        return step < self.length, None

    def step(self, _number: Any, carried: Sequence[Any], _mask: None, read: Sequence[Any]) -> tuple[Any, Any]:
        """Run a stretch; return what it carries on, and all that its steps emit."""
        return self._capture.done_again(lambda: self.part(carried, read, self._width))

    def part(self, carried: Sequence[Any], read: Sequence[Any], length: int) -> tuple[list[Any], list[Any]]:
        """Run so many steps on what is carried and read."""
        part = copy.copy(self._loop)
        part.init, part.xs = list(carried), list(read)
        part.length, part.checkpoints = length, None
        found = self._run(part)
        self._loop.y_structure = part.y_structure
        return found

    def flat(self, stacks: Sequence[Any]) -> list[Any]:
        """Return what was emitted, stacked by stretches, as one stack of all steps."""
        return [boxing.operations.reshape(y, (self.whole, *y.shape[2:])) for y in stacks]


def has_stretches(loop: Loop) -> bool:
    """Return whether a loop with checkpoints is long enough for stretches that are loops, as it is itself."""
    return loop.length is not None and loop.length >= FEWEST**2


def in_stretches(capture: Any, loop: Loop, as_one: Callable[..., Any], run: Runner) -> Any:
    """Return what `bounded.run` returns for a loop with checkpoints; None: it is to be run by steps."""
    assert loop.length is not None and loop.checkpoints is not None
    length = min(max(loop.checkpoints, FEWEST), loop.length // FEWEST)
    outer = Stretches(capture, loop, length, run)
    found = as_one(capture, outer)
    if found is None:
        return None
    carried, emitted = found[0], outer.flat(found[1])
    left = loop.length - outer.whole
    if left:
        carried, more = outer.part(carried, [x[outer.rest : outer.rest + left] for x in loop.xs], left)
        pairs = [pair[::-1] if loop.reverse else pair for pair in zip(emitted, more, strict=True)]
        emitted = [boxing.operations.concatenate(pair, axis=0) for pair in pairs]
    return carried, emitted


__all__ = ["has_stretches", "in_stretches"]
