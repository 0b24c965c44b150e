"""Values of any level, taken apart into the Tensors of one level, and put together again.

Inside of transforms a value is a tracer that boxes others, further out, down to the ground. A tape may lie on any of
these levels. Whoever works with one of the tapes needs the parts of a value that are on its level.
"""

# The slots of Tensor are this package's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..core import boxing
from ..core.batching import Mapped
from ..core.tracing import Trace, is_tracer, snapshot

Form = Any
"""How a value is made of its parts: None for the part itself, or (trace, form of its state, forms of the parts)."""


def level_of(trace: Trace | None) -> int:
    """Return the level of a trace; 0 is the ground."""
    return 0 if trace is None else trace.level


def taken_apart(value: Any, level: int, parts: list[Any]) -> Form:
    """Append the parts of a value that are on a level, or further out, to a list; return its form."""
    if not is_tracer(value) or value._state.trace.level <= level:
        parts.append(value)
        return None
    state = value._state
    return state.trace, state.form, tuple([taken_apart(part, level, parts) for part in state.parts()])


def apart(values: Sequence[Any], level: int) -> tuple[list[Any], list[Form]]:
    """Return (the parts of several values that are on a level, the forms of the values)."""
    parts: list[Any] = []
    forms = [taken_apart(value, level, parts) for value in values]
    return parts, forms


def together(forms: Sequence[Form], parts: Sequence[Any]) -> list[Any]:
    """Put values together from their parts."""
    rest = iter(parts)
    return [_assembled(form, rest) for form in forms]


def _assembled(form: Form, rest: Iterator[Any]) -> Any:
    if form is None:
        return next(rest)
    trace, kind, children = form
    return trace.assembled(kind, [_assembled(child, rest) for child in children])


def leading_axes(forms: Sequence[Form]) -> list[int]:
    """Return, for each part, how many axes of examples it has in front of those that its value shows."""
    return [axes for form in forms for axes in _leading(form, 0)]


def _leading(form: Form, outer: int) -> list[int]:
    if form is None:
        return [outer]
    _, kind, children = form
    return [axes for child in children for axes in _leading(child, outer + (kind is not None))]


def tapes_of(value: Any, found: set[Trace | None]) -> None:
    """Add the levels on whose tapes a value, or what it is made of, has a Node: traces, None for the ground."""
    if is_tracer(value):
        if value._node is not None:
            found.add(value._state.trace)
        for part in value._state.parts():
            tapes_of(part, found)
    elif value._node is not None:
        found.add(None)


def off_the_tape(values: Sequence[Any], level: int) -> list[Any]:
    """Return the values in boxes of their own, without Nodes on the tape of a level."""
    if level == 0 and not any(map(is_tracer, values)):
        return [snapshot(value, keep_node=False) for value in values]
    parts, forms = apart(values, level)
    return together(forms, [snapshot(part, keep_node=False) for part in parts])


def differs(value: Any) -> bool:
    """Return whether a value may differ between the examples of some `vmap`."""
    while type(value) is boxing.Tracer:
        state = value._state
        if isinstance(state, Mapped) and state.axis is not None:
            return True
        value = state.parts()[0]
    return False


__all__ = ["Form", "apart", "differs", "leading_axes", "level_of", "off_the_tape", "tapes_of", "together"]
