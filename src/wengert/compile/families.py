"""Which arguments share memory with each other, or are, or share memory with, what a function closes over.

A program reads every input where it lies and writes at the end. So where it writes, or returns views, it is good only
for arguments that share memory in the same way as those that it was captured with. And a Tensor that the function
reaches by itself and is given, too, is one variable, not two: gradients with respect to it are sums, and `x is w`.
"""

# The slots of Tensor are read here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from ..core import boxing
from ..core.aliasing import View, Viewed, alias_of, family


class Families:
    """How the arguments of the captured call shared memory.

    Args:
        places: which of the arguments a program reads.
        closed_over: Tensors that it reads besides.
        arguments: what the arguments were.
        writes: whether the program writes to Tensors.
    """

    def __init__(
        self, places: Iterable[int], closed_over: Sequence[Any], arguments: Sequence[Any], writes: bool
    ) -> None:
        self._places = [place for place in places if isinstance(arguments[place], boxing.Tensor)]
        self._closed_over = list(closed_over)
        self._bases = {id(family(tensor)[0]) for tensor in closed_over}
        self._pattern = self._pattern_of(arguments)
        self._compares = bool(self._places) and (writes or bool(self._pattern))
        self._apart: list[int] = []
        self._outside: dict[int, weakref.ref[Any]] = {}

    def keep_apart(self, places: Iterable[int], outside: Iterable[Any], arguments: Sequence[Any]) -> None:
        """Let the arguments at some places be none of these Tensors."""
        self._apart = [place for place in places if isinstance(arguments[place], boxing.Tensor)]
        self._outside = {id(tensor): weakref.ref(tensor) for tensor in outside} if self._apart else {}

    @property
    def has_something_to_see(self) -> bool:
        """Whether there is anything that `fit` could find."""
        return self._compares or bool(self._outside)

    def fit(self, arguments: Sequence[Any]) -> bool:
        """Return whether arguments share memory as those of the captured call did, and are Tensors of their own."""
        outside = self._outside
        if outside:
            for place in self._apart:
                known = outside.get(id(arguments[place]))
                if known is not None and known() is arguments[place]:
                    return False
        if not self._compares:
            return True
        shares = bool(self._pattern)
        for place in self._places:
            alias = getattr(arguments[place], "_alias", None)
            if alias is not None:
                # One that only has views is as good as a Tensor alone, unless one of them is closed over.
                shares = shares or type(alias) is not Viewed or id(arguments[place]) in self._bases
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
