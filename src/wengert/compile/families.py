"""Which arguments share memory with each other, or with what a function closes over.

A program reads every input where it lies and writes at the end. So where it writes, it is good only for arguments that
share memory in the same way as those that it was captured with.
"""

# The slots of Tensor are read here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..core import boxing
from ..core.aliasing import View, alias_of, family


class Families:
    """How the arguments of the captured call shared memory.

    Args:
        places: which of the arguments a program reads.
        closed_over: Tensors that it reads besides.
        arguments: what the arguments were.
    """

    def __init__(self, places: Iterable[int], closed_over: Sequence[Any], arguments: Sequence[Any]) -> None:
        self._places = [place for place in places if isinstance(arguments[place], boxing.Tensor)]
        self._closed_over = list(closed_over)
        self._ids = {id(tensor) for tensor in closed_over}
        self._bases = {id(family(tensor)[0]) for tensor in closed_over}
        self._pattern = self._pattern_of(arguments)

    def fit(self, arguments: Sequence[Any]) -> bool:
        """Return whether arguments share memory as those of the captured call did."""
        shares = bool(self._pattern)
        for place in self._places:
            argument = arguments[place]
            if id(argument) in self._ids:
                return False
            shares = shares or getattr(argument, "_alias", None) is not None
        return not shares or self._pattern_of(arguments) == self._pattern

    def _pattern_of(self, arguments: Sequence[Any]) -> list[Any]:
        members: dict[int, list[Any]] = {}
        for place in self._places:
            base, steps = family(arguments[place])
            members.setdefault(id(base), []).append((place, steps, _origin_of(arguments[place])))
        # A family of one, whose base is not read by itself, is as good as a Tensor alone.
        return [
            (key if key in self._bases else None, found)
            for key, found in members.items()
            if len(found) > 1 or key in self._bases
        ]


def _origin_of(tensor: Any) -> Any:
    alias = alias_of(tensor)
    return (alias.root is None, alias.origin) if type(alias) is View else None


__all__ = ["Families"]
