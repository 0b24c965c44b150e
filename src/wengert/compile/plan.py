"""The memory plan: where in one arena each array lives, so that arrays that are never needed together share memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from .graph import Value
from .lower import Step

ALIGNMENT = 64
NOWHERE = 1 << 62


class Lifetime(NamedTuple):
    """The steps between which an array is needed, both included, and how many bytes it takes."""

    value: Value
    first: int
    last: int
    size: int


class Part(NamedTuple):
    """Where an array is that lies within another: in which, and how many bytes from its beginning."""

    whole: Value
    offset: int


class Plan(NamedTuple):
    """Offsets of arrays in the arena, and its size, in bytes."""

    offsets: dict[Value, int]
    size: int


def plan_memory(
    steps: Sequence[Step],
    wanted: Iterable[Value],
    kept: Iterable[Value] = (),
    parts: Mapping[Value, Part] = MappingProxyType({}),
) -> Plan:
    """Place arrays in an arena.

    Args:
        steps: of the program, in order.
        wanted: the arrays to place.
        kept: those among them that are needed until the end.
        parts: those that lie within others of them.
    """
    lifetimes = _lifetimes(steps, set(wanted), set(kept))
    lent = _with_parts(lifetimes, parts)
    joined = _joined(steps, lifetimes, lent)
    offsets: dict[Value, int] = {}
    taken = _Taken(len(joined))
    size = 0
    for lives in sorted(joined, key=_by_size):
        first, last = min([life.first for life in lives]), max([life.last for life in lives])
        extent = max([life.size for life in lives])
        offset = taken.best_gap(first, last, extent)
        taken.add(offset, offset + extent, first, last)
        size = max(size, offset + extent)
        offsets.update({life.value: offset for life in lives})
    offsets.update({value: offsets[part.whole] + part.offset for value, part in lent.items()})
    return Plan(offsets, size)


def _lifetimes(steps: Sequence[Step], wanted: set[Value], kept: set[Value]) -> dict[Value, Lifetime]:
    uses: dict[Value, tuple[int, int]] = {}
    for place, step in enumerate(steps):
        for value in (*step.writes, *step.reads):
            if value in wanted:
                known = uses.get(value)
                uses[value] = (place if known is None else known[0]), place
    lifetimes: dict[Value, Lifetime] = {}
    for value, (first, last) in uses.items():
        size = -(-max(value.nbytes, 1) // ALIGNMENT) * ALIGNMENT
        lifetimes[value] = Lifetime(value, first, len(steps) if value in kept else last, size)
    return lifetimes


def _with_parts(lifetimes: dict[Value, Lifetime], parts: Mapping[Value, Part]) -> dict[Value, Part]:
    """Let arrays with parts live from the first use of any to the last of all; return the parts that there are."""
    lent = {value: part for value, part in parts.items() if value in lifetimes and part.whole in lifetimes}
    for value, (whole, _) in lent.items():
        both = lifetimes[value], lifetimes[whole]
        first, last = min([life.first for life in both]), max([life.last for life in both])
        lifetimes[whole] = lifetimes[whole]._replace(first=first, last=last)
    return lent


def _joined(
    steps: Sequence[Step], lifetimes: dict[Value, Lifetime], lent: Mapping[Value, Part]
) -> list[list[Lifetime]]:
    """Join arrays with those whose memory they may take over, as they are needed no longer."""
    chain: dict[Value, list[Lifetime]] = {value: [life] for value, life in lifetimes.items() if value not in lent}
    for place, step in enumerate(steps):
        taken: set[Value] = set()
        for out, value in step.in_place:
            mine, theirs = lifetimes.get(out), lifetimes.get(value)
            if mine is None or theirs is None or value in taken or out in lent or value in lent:
                continue
            if chain[out] is chain[value]:
                continue
            if mine.first == place and theirs.last == place and len(chain[out]) == 1:
                taken.add(value)
                chain[value].append(mine)
                chain[out] = chain[value]
    return list({id(lives): lives for lives in chain.values()}.values())


def _by_size(lives: list[Lifetime]) -> tuple[int, int]:
    return -max([life.size for life in lives]), min([life.first for life in lives])


class _Taken:
    """Parts of the arena that are taken, in order of their offsets, and from which step to which."""

    def __init__(self, most: int) -> None:
        self._parts = np.zeros((4, most), np.int64)
        self._count = 0

    def add(self, begin: int, end: int, first: int, last: int) -> None:
        """Add a part."""
        parts, count = self._parts, self._count
        place = int(parts[0, :count].searchsorted(begin))
        parts[:, place + 1 : count + 1] = parts[:, place:count].copy()
        parts[:, place] = begin, end, first, last
        self._count += 1

    def best_gap(self, first: int, last: int, extent: int) -> int:
        """Return the offset of the tightest gap among the parts that are taken between two steps."""
        begin, end, born, dead = self._parts[:, : self._count]
        busy = ((born <= last) & (dead >= first)).nonzero()[0]
        if not busy.size:
            return 0
        edges = np.maximum.accumulate(end[busy])
        gaps = begin[busy]
        gaps[1:] -= edges[:-1]
        gaps[gaps < extent] = NOWHERE
        place = int(gaps.argmin())
        if gaps[place] == NOWHERE:
            return int(edges[-1])
        return int(edges[place - 1]) if place else 0
