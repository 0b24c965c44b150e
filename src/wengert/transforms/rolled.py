"""Loops inside of `jvp` and `vmap`, for a capture that makes one loop of them: on the level of the capture.

What is carried, read and emitted inside of these transforms is made of values of the capture: of a value and its
tangent, of those of all examples. Taken apart, they are what another loop carries, whose step puts them together, takes
the step, and takes apart what comes of it. Which tangents there are, and what differs between examples, is found by
trying: what is carried must be made of as much as a step makes of it.
"""

# The slots of Tensor are this package's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core import boxing, capturing
from ..core.batching import BatchTrace
from ..core.forward import ForwardTrace
from ..core.tracing import is_tracer, open_traces
from .levels import Form, apart, leading_axes, together

_TRIES = 6
"""How often what is carried may turn out to be made of more: each transform adds a part or two."""


class Another(BaseException):
    """What a step carries on is made of more than what it began with. No error: users' functions must not catch it."""

    def __init__(self, forms: list[Form]) -> None:
        super().__init__()
        self.forms = forms


class OnTape(BaseException):
    """A step is recorded on a tape further in than the capture."""


class Apart:
    """A loop on the parts of what another one carries, reads and emits; it has what a capture asks of a loop.

    Args:
        loop: the loop inside of transforms.
        level: that of the capture.
        forms: how what is carried is made of parts.
    """

    checkpoints = None

    def __init__(self, loop: Any, level: int, forms: list[Form]) -> None:
        self.loop = loop
        self.level = level
        self.forms = forms
        self.function, self.name, self.described = loop.function, loop.name, loop.described
        self.length, self.reverse = loop.length, loop.reverse
        self.init, _ = apart([_widened(x, form) for x, form in zip(loop.init, forms)], level)
        parts, self._x_forms = apart(loop.xs, level)
        axes = leading_axes(self._x_forms)
        self.xs = [boxing.operations.moveaxis(x, n, 0) if n else x for x, n in zip(parts, axes)]
        self._y_forms: list[Form] = []

    def step(self, number: Any, carried: Sequence[Any], mask: None, read: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Run a step; return the parts of what is carried on, and of what is emitted."""
        made, emitted = self.loop.step(number, together(self.forms, carried), mask, together(self._x_forms, read))
        if any([_is_on_tape(value, self.level) for value in (*made, *emitted)]):
            raise OnTape
        forms = [_wider(form, _form_of(x, self.level)) for form, x in zip(self.forms, made)]
        if forms != self.forms:
            raise Another(forms)
        parts, _ = apart([_widened(x, form) for x, form in zip(made, forms)], self.level)
        y_parts, self._y_forms = apart(emitted, self.level)
        return parts, y_parts

    def put_together(self, ends: Sequence[Any], stacks: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Return what is carried in the end, and what was emitted, of their parts."""
        axes = leading_axes(self._y_forms)
        stacks = [boxing.operations.moveaxis(y, 0, n) if n else y for y, n in zip(stacks, axes)]
        return together(self.forms, ends), together(self._y_forms, stacks)


def rolled(capture: Any, loop: Any) -> tuple[list[Any], list[Any]] | None:
    """Have a capture make one loop of a loop; return what `bounded.run` returns, or None: it is to be run by steps.

    Raises:
        OnTape: something is on the tape of a transform further in than the capture.
    """
    level, traces = capture.level, open_traces()
    if capture not in traces:
        return None
    further_in = traces[traces.index(capture) + 1 :]
    if not further_in:
        return capture.loop(loop)
    if loop.length is None or not all([type(trace) in (ForwardTrace, BatchTrace) for trace in further_in]):
        return None
    if any([_is_on_tape(value, level) for value in (*loop.init, *loop.xs)]):
        raise OnTape
    forms = [_form_of(value, level) for value in loop.init]
    for _ in range(_TRIES):
        lowered = Apart(loop, level, forms)
        try:
            found = capture.loop(lowered)
        except Another as wider:
            forms = wider.forms
            continue
        return None if found is None else lowered.put_together(*found)
    return None


def rolled_if_possible(capture: Any, loop: Any) -> tuple[list[Any], list[Any]] | None:
    """Return the same, or None where something is on a tape further in."""
    try:
        return None if capture is None else rolled(capture, loop)
    except OnTape:
        return None


capturing.loop_inside = rolled_if_possible


def _is_on_tape(value: Any, level: int) -> bool:
    """Return whether a value, or a part of it, has a Node on a level further in."""
    if not is_tracer(value) or value._state.trace.level <= level:
        return False
    return value._node is not None or any([_is_on_tape(part, level) for part in value._state.parts()])


def _form_of(value: Any, level: int) -> Form:
    return apart([value], level)[1][0]


def _wider(one: Form, other: Form) -> Form:
    """Return the form of what has all that values of two forms have."""
    if one is None or other is None:
        return one if other is None else other
    (trace, kind, children), (other_trace, other_kind, others) = one, other
    if trace is not other_trace:
        # A value of a transform further out is a constant to the one further in.
        if trace.level > other_trace.level:
            return trace, kind, (_wider(children[0], other), *children[1:])
        return other_trace, other_kind, (_wider(others[0], one), *others[1:])
    count = max(len(children), len(others))
    both = [
        _wider(children[i] if i < len(children) else None, others[i] if i < len(others) else None) for i in range(count)
    ]
    return trace, other_kind if kind is None else kind, tuple(both)


def _widened(value: Any, form: Form) -> Any:
    """Return a value that is made as a form says: with tangents of zero, and once for each example, if need be."""
    if form is None:
        return value
    trace, kind, children = form
    is_own = is_tracer(value) and value._state.trace is trace
    parts = list(value._state.parts()) if is_own else [value]
    if len(parts) < len(children):
        parts.append(boxing.operations.zeros_like(parts[0]))
    if kind is not None and (not is_own or value._state.form is None):
        parts = [trace.repeated(part) for part in parts]
    return trace.assembled(kind, [_widened(part, child) for part, child in zip(parts, children, strict=True)])


__all__ = ["rolled"]
