"""Arguments that are other numbers in every call: each makes a program, which pays only if it is called again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from .paths import Path

_MOST = 16
"""Programs for different numbers, hardly any of which was called again, after which no more are made."""
_MOST_PATHS = 24
"""Programs for one kind of arguments after which a function that keeps changing is run as it is."""
_MOST_CONTENTS = 4
"""Programs for different contents of NumPy's arrays after which a function that writes to them is run as it is."""
_NUMBERS = (int, float, complex)


class Variants:
    """The programs of a function that are for arguments of the same kinds, but for the values of numbers."""

    __slots__ = ("_endless",)

    def __init__(self) -> None:
        self._endless: set[Hashable] = set()

    def reason_against(self, key: Sequence[Any], programs: Mapping[Any, Sequence[Path]]) -> str | None:
        """Return why no program should be made for a key, empty if that has been said before; None if one should be."""
        family = _family(key)
        if family is None or family in self._endless:
            return None if family is None else ""
        related = [path for other, paths in list(programs.items()) if _family(other) == family for path in paths]
        if len(related) < _MOST or sum([path.runs for path in related]) >= 2 * len(related):
            return None
        self._endless.add(family)
        numbers = ", ".join([repr(kind[1]) for kind in key if _is_number(kind)])
        return (
            f"a number that it is given is another one in nearly every call (now {numbers}), which takes a program "
            "each. Pass wg.tensor(number) in its place"
        )


def changes_too_often(paths: Sequence[Path]) -> str:
    """Return why a function that has these programs gets no more of them, or nothing."""
    if len(paths) >= _MOST_PATHS:
        return f"it has changed {len(paths)} times what it does for arguments of the same kind"
    rewritten = [array for path in paths if (array := path.array_rewritten()) is not None]
    if len(rewritten) < _MOST_CONTENTS:
        return ""
    return (
        f"a NumPy array of shape {rewritten[0].shape} that it closes over is written to again and again, which takes a "
        "program each time, since NumPy may have read it. Pass it as an argument, or make it a Tensor before "
        "(wg.asarray(array) shares its memory)"
    )


def _is_number(kind: Any) -> bool:
    return type(kind) is tuple and len(kind) > 1 and kind[0] in _NUMBERS


def _family(key: Sequence[Any]) -> Hashable:
    """Return what keys have in common that differ in numbers alone; None of one without numbers."""
    family = tuple([kind[0] if _is_number(kind) else kind for kind in key])
    return None if family == tuple(key) else family
