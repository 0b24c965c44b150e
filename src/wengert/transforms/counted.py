"""Loops whose steps are told their number, and what a capture that makes one loop of them has to know of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ..core import pytree
from ..core.recording import UNTAPED, set_recording
from ..core.step_numbers import Asking, Request, StepNumber, Told
from ..core.tracing import snapshot
from ..typing import PyTree
from .looping import Loop


class Counted(Loop):
    """A loop whose function is given the number of a step.

    Attributes:
        lower: the first number.
        requests: what steps ask for that depends on their number, which is what they read; None where they are told.
    """

    lower = 0
    requests: Sequence[Request] | None = None
    _numbers: range

    def call(self, step: Any, carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        """Call the function of a step; return (what it carries on, None)."""
        if type(step) is StepNumber:
            number: Any = step
        elif self.requests is None:
            number = self.lower + step
        else:
            number = StepNumber(self._numbers, Told(self.requests, x))
        return self.function(number, carry), None

    def as_read(self, capture: Any) -> Loop | None:
        """Return a loop like this one that reads what depends on a step's number; None: its steps have to be told."""
        if self.requests is not None:
            return self
        assert self.length is not None
        self._numbers = range(self.lower, self.lower + self.length)
        first = capture.try_steps(self, self._asked)
        if first is None:
            return None
        # What a step has made by itself is not there before the loop: it is another Tensor in another run.
        requests = capture.try_steps(self, self._asked) if first else first
        if requests is None or requests.keys() != first.keys():
            return None
        reading = copy.copy(self)
        reading.requests = list(requests.values())
        reading.xs = [snapshot(request.stack()) for request in reading.requests]
        reading.xs_structure = pytree.flatten(reading.xs)[1]
        return reading

    def _asked(self) -> dict[Any, Request]:
        """Return what a step asks for."""
        asking = Asking()
        before = set_recording(UNTAPED)
        try:
            number: Any = StepNumber(self._numbers, asking)
            self.step(number, self.init, None, [])
        finally:
            set_recording(before)
        return asking.requests


__all__ = ["Counted"]
