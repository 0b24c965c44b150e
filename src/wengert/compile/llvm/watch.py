"""Whether many objects are as they were: one native look at words of memory in place of as many steps of Python.

A compiled training step must know, before each run, that hundreds of Tensors still hold the arrays that it was bound
to, and that nobody else holds these. CPython keeps both where they can be read: an attribute in a slot is a pointer at
a fixed distance from its object's address, and an object's reference count is the object's first word. Where that
cannot be relied on (another interpreter, one without the GIL), `words_of` says so, and callers go the long way.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Callable, Sequence
from functools import cache
from types import CellType
from typing import Any

import numpy as np

from ..kernels import Kernel
from .builtins import ANSWER, are_possible, builtin
from .compiling import begin_kernels, compile_for_good, module_of

_WORD = 8
_COUNT = 0xFFFF_FFFF
"""The bits of the first word that count references; newer interpreters keep flags in the others."""

_CONTENT = 2 * _WORD
"""How far from its address a cell, a variable of an enclosing function, has the address of what it holds."""
_LENGTH = 2 * _WORD
"""How far from its address a list has its length, which is followed by the address of its objects' addresses."""
_ALL = 0xFFFF_FFFF_FFFF_FFFF

_SOURCE = f"""
{ANSWER}
define ptr @NAME(ptr %self, ptr %nothing) {{
entry:
  %words = call ptr @words(ptr %self)
  %rows.place = getelementptr ptr, ptr %words, i64 2
  %rows = load ptr, ptr %rows.place
  %end.place = getelementptr ptr, ptr %words, i64 3
  %end = load i64, ptr %end.place
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %agrees ]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %look, label %done
look:
  %first = mul i64 %i, 3
  %at = getelementptr i64, ptr %rows, i64 %first
  %address = load ptr, ptr %at
  %second = getelementptr i64, ptr %at, i64 1
  %mask = load i64, ptr %second
  %third = getelementptr i64, ptr %at, i64 2
  %expected = load i64, ptr %third
  %word = load i64, ptr %address
  %masked = and i64 %word, %mask
  %same = icmp eq i64 %masked, %expected
  br i1 %same, label %agrees, label %done
agrees:
  %next = add i64 %i, 1
  br label %loop
done:
  %verdict = phi i1 [ true, %loop ], [ false, %look ]
  %answer = call ptr @answer(ptr %words, i1 %verdict)
  ret ptr %answer
}}
"""


@cache
def _kernel() -> Kernel:
    name = f"watch_{hashlib.sha256(_SOURCE.encode()).hexdigest()[:16]}"
    return Kernel(name, _SOURCE.replace("NAME", name), (), 1, 1)


def prepare() -> None:
    """Begin to compile the native code, in the background."""
    begin_kernels([_kernel()])


@cache
def _look() -> int:
    """Return the address of the native code."""
    return compile_for_good(module_of([_kernel()]))[_kernel().name]


@cache
def slot_offset(kind: type, name: str) -> int | None:
    """Return how far from an object's address its slot of a name is; None if that cannot be found out."""
    if not are_possible():
        return None
    sought = object()
    holder: Any = object.__new__(kind)
    setattr(holder, name, sought)
    words = _read(id(holder), kind.__basicsize__ // _WORD)
    places = [i for i, word in enumerate(words) if word == id(sought)]
    if len(places) != 1 or _read(id(sought), 1)[0] & _COUNT != sys.getrefcount(sought) - 1:
        return None
    delattr(holder, name)
    return places[0] * _WORD if _read(id(holder) + places[0] * _WORD, 1)[0] == 0 else None


_VERSIONED = ((3, 11), (3, 12))
"""Versions of Python whose dicts are known to have a number that is new after each change (PEP 509, 699).

In 3.13 some changes of an object's attributes leave it as it is, which no trial of one object shows.
"""


@cache
def version_offset() -> int | None:
    """Return how far from a dict's address that number is; None if there is none, or it does not do what it should."""
    if not are_possible() or sys.version_info[:2] not in _VERSIONED:
        return None
    offset = 3 * _WORD
    return offset if _versions_tell_changes(offset) else None


class _Sample:
    """Something with attributes, to try changes on."""

    a: Any


def _versions_tell_changes(offset: int) -> bool:
    """Try in which ways a dict, and the dict of an object, can be changed, and whether the number says so."""
    sample = _Sample()
    sample.__dict__.update(a=1, b=object())
    changes: tuple[Callable[[dict[str, Any]], Any], ...] = (
        lambda d: d.update(a=object()),
        lambda d: d.__setitem__("a", object()),
        lambda d: d.__setitem__("c", 1),
        lambda d: d.__delitem__("c"),
        lambda d: d.setdefault("c", 1),
        lambda d: d.pop("c"),
        lambda d: d.__ior__({"c": 2}),
        lambda d: d.popitem(),
        lambda d: d.clear(),
    )
    for tried in ({"a": 1, "b": object()}, sample.__dict__):
        for change in changes:
            before = _read(id(tried) + offset, 1)
            change(tried)
            if _read(id(tried) + offset, 1) == before:
                return False
    held = sample.__dict__
    for number in range(64):  # often enough for the interpreter to have its own quick ways
        before = _read(id(held) + offset, 1)
        sample.a = number + 1000
        if number % 3 == 0:
            del sample.a
        if _read(id(held) + offset, 1) == before:
            return False
    before = _read(id(held) + offset, 1)
    _ = held.get("a"), len(held), list(held.items())
    return _read(id(held) + offset, 1) == before


@cache
def layouts_are_known() -> bool:
    """Return whether lists and cells are laid out as they have been for decades."""
    sample = [object(), object(), object()]
    length, begin = _read(id(sample) + _LENGTH, 2)
    cell = CellType(sample)
    return (
        are_possible()
        and length == len(sample)
        and _read(begin, length) == [id(item) for item in sample]
        and _read(id(cell) + _CONTENT, 1)[0] == id(sample)
    )


def _content_of(held: Any) -> Any:
    """Return what a cell holds; None for an empty one, and for all else."""
    try:
        return held.cell_contents if type(held) is CellType else None
    except ValueError:
        return None


def _words_of(held: Any) -> list[tuple[int, int, int]]:
    """Return what is to be watched of a dict, a list or a cell.

    What comes first tells whether the addresses that come later are still the list's: a look ends where it differs.
    """
    if isinstance(held, dict):
        address = id(held) + (version_offset() or 0)
        return [(address, _ALL, _read(address, 1)[0])]
    if isinstance(held, CellType):
        return [(id(held) + _CONTENT, _ALL, _read(id(held) + _CONTENT, 1)[0])]
    length, begin = _read(id(held) + _LENGTH, 2)
    places = [
        (begin + _WORD * number, _ALL, word) for number, word in enumerate(_read(begin, length) if length else [])
    ]
    return [(id(held) + _LENGTH + _WORD, _ALL, begin), (id(held) + _LENGTH, _ALL, length), *places]


def _differs(word: tuple[int, int, int]) -> bool:
    address, mask, expected = word
    return _read(address, 1)[0] & mask != expected


def _read(address: int, count: int) -> list[int]:
    return list((ctypes.c_uint64 * count).from_address(address))


class Watch:
    """Words of memory that must stay what they are: slots of objects, and counts of references.

    The objects must be kept alive by the owner of the Watch.
    """

    def __init__(self) -> None:
        self._words: list[tuple[int, int, int]] = []
        self._kept: list[Any] = []
        self._containers: list[tuple[Any, int, int]] = []

    def slots(self, holders: Sequence[Any], kind: type, names: Sequence[str]) -> bool:
        """Watch slots of objects of a class, as they are now; return False if that cannot be done here."""
        offsets = [slot_offset(kind, name) for name in names]
        if None in offsets:
            return False
        addresses = [id(holder) + offset for holder in holders for offset in offsets if offset is not None]
        self._words += [(address, _ALL, _read(address, 1)[0]) for address in addresses]
        return True

    def counts(self, objects: Sequence[Any], expected: int) -> None:
        """Watch that there are so many references to each of some objects."""
        self._words += [(id(thing), _COUNT, expected) for thing in objects]

    def containers(self, containers: Sequence[Any]) -> bool:
        """Watch that dicts, lists and cells hold the very objects that they do; return False if that is not possible.

        What lists and cells hold is kept alive, so that nothing else comes to be where it was.
        """
        if not layouts_are_known() or (version_offset() is None and any([isinstance(c, dict) for c in containers])):
            return False
        for held in containers:
            first = len(self._words)
            self._words += _words_of(held)
            self._kept.append(tuple(held) if isinstance(held, list) else _content_of(held))
            self._containers.append((held, first, len(self._words)))
        return True

    def changed(self) -> list[Any]:
        """Return the containers among those watched that have changed."""
        return [held for held, first, end in self._containers if any(map(_differs, self._words[first:end]))]

    def begin(self) -> Callable[[], Any]:
        """Return a function that says whether everything is as it was."""
        table = np.array(self._words, np.uint64).reshape(-1, 3)
        return builtin(_look(), "watch", (table.ctypes.data, len(table)), table)
