"""What a compiled function returns, leaf by leaf, and where each leaf comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Result(NamedTuple):
    """A leaf of what the function returns: an output of the program, a Tensor of outside ("held"), an
    argument by its place, an earlier leaf by its place ("same"), a copy of an array, or any other object.
    """

    kind: str
    what: Any


def assembled(plans: Sequence[Result], outputs: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Return the leaves of the result, given the outputs of the program in order, and the arguments."""
    made = iter(outputs)
    leaves: list[Any] = []
    for kind, what in plans:
        if kind == "output":
            leaves.append(next(made))
        elif kind == "argument":
            leaves.append(arguments[what])
        elif kind == "held":
            leaves.append(what.holder(arguments))
        elif kind == "copy":
            leaves.append(what.copy())
        else:
            leaves.append(leaves[what] if kind == "same" else what)
    return leaves
