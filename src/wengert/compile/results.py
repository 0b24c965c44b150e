"""What a compiled function returns, leaf by leaf, and where each leaf comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Result(NamedTuple):
    """A leaf of what the function returns: an output of the program, a Tensor of outside, an argument, or any other object."""

    kind: str
    what: Any


def found(plan: Result, arguments: Sequence[Any]) -> Any:
    """Return a leaf of the result that no program makes."""
    if plan.kind == "argument":
        return arguments[plan.what]
    return plan.what.holder(arguments) if plan.kind == "held" else plan.what
