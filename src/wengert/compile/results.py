"""What a compiled function returns, leaf by leaf, and where each leaf comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import boxing
from ..core.aliasing import Steps, View, alias_of
from ..core.dispatch import bind
from ..core.pytree import Structure


class Result(NamedTuple):
    """A leaf of what the function returns.

    An output of the program ("output", its Value), a Tensor of outside ("held", its Source), an argument ("argument",
    its place), a Tensor over memory of others ("lent", a Lent or a Source), an earlier leaf ("same", its place), a view
    ("view", a Viewed), a copy of an array ("copy"), or any other object ("object").
    """

    kind: str
    what: Any


class Lent:
    """An array of NumPy's in whose memory leaves lie.

    Attributes:
        is_shared: whether anybody else has it, and may write to it.
    """

    __slots__ = ("array", "is_shared")

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.is_shared = True


class Viewed(NamedTuple):
    """How a leaf is a view: of a Tensor of outside (its Source), an array (a Lent) or another leaf (its place).

    Attributes:
        detached: whether it shares no more than memory.
    """

    base: Any
    steps: Steps
    detached: bool

    def of(self, base: Any) -> Any:
        """Take the view of a Tensor."""
        for primitive, params in self.steps:
            base = bind(primitive, (base,), params)
        return boxing.operations.detach(base) if self.detached else base


def viewed_in(leaf: Any) -> tuple[Any, Viewed] | None:
    """Return (what a Tensor is a view of, how); None if it is not one."""
    alias = alias_of(leaf)
    if type(alias) is not View:
        return None
    return alias.base, Viewed(None, alias.steps, alias.root is not alias.base)


def shared_bases(leaves: Sequence[Any], is_outside: Callable[[Any], bool]) -> list[Any]:
    """Return what several leaves are views of, and is none itself: as they share its memory, it has to be made."""
    visible = {id(leaf) for leaf in leaves}
    counts: dict[int, tuple[Any, int]] = {}
    for leaf in {id(leaf): leaf for leaf in leaves if type(leaf) is boxing.Tracer}.values():
        base, _ = viewed_in(leaf) or (None, None)
        if type(base) is boxing.Tracer and id(base) not in visible and not is_outside(base):
            counts[id(base)] = (base, counts.get(id(base), (base, 0))[1] + 1)
    return [base for base, count in counts.values() if count > 1]


def assembled(plans: Sequence[Result], outputs: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """Return the leaves of the result, given the outputs of the program in order, and the arguments."""
    made = iter(outputs)
    lent: dict[int, Any] = {}
    leaves: list[Any] = []
    for kind, what in plans:
        if kind == "output":
            leaves.append(next(made))
        elif kind == "argument":
            leaves.append(arguments[what])
        elif kind == "held":
            leaves.append(what.holder(arguments))
        elif kind == "lent":
            leaves.append(_tensor_of(what, arguments, lent))
        elif kind == "copy":
            leaves.append(what.copy())
        else:
            leaves.append(what)
    for place, (kind, what) in enumerate(plans):
        if kind == "view":
            is_leaf = isinstance(what.base, int)
            leaves[place] = what.of(leaves[what.base] if is_leaf else _tensor_of(what.base, arguments, lent))
    for place, (kind, what) in enumerate(plans):
        if kind == "same":
            leaves[place] = leaves[what]
    return leaves


def _tensor_of(lender: Any, arguments: Sequence[Any], lent: dict[int, Any]) -> Any:
    """Return the Tensor whose memory a leaf lies in; where that is an array of NumPy's, one for each run."""
    found = lender.array if type(lender) is Lent else lender.holder(arguments)
    if type(found) is not np.ndarray:
        return found
    known = lent.get(id(lender))
    if known is None:
        is_own = type(lender) is Lent and not lender.is_shared
        known = lent[id(lender)] = boxing.box(found.copy()) if is_own else boxing.borrow(found)
    return known


def joiner(structure: Structure) -> Callable[[list[Any]], Any]:
    """Return what puts leaves together, as quickly as Python can where the structure is one of tuples."""
    places = iter(range(structure.count))

    def spelled(part: Structure) -> str | None:
        if part.kind is None:
            return f"leaves[{next(places)}]"
        if part.kind.name != "a tuple":
            return None
        inner = [spelled(child) for child in part.children]
        return None if None in inner else f"({''.join([f'{text}, ' for text in inner])})"

    text = spelled(structure)
    if text is None:
        count = structure.count
        return lambda leaves: structure.unflatten(leaves[:count])
    made: dict[str, Any] = {}
    exec(f"def joined(leaves):\n    return {text}\n", made)
    return made["joined"]
