"""Chains: jobs between which threads need not wait for each other, since each keeps to its own rows.

A recurrence over a batch is many small jobs, each of which computes rows from the same rows of what was computed
before. If a thread takes the same rows in all of them, it reads nothing that another one writes, and what it reads is
in its own cache. Such jobs are one segment of a program, and a thread's share of all of them is one piece of work.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from ..kernels import Job

ARENA = 0
"""The base that jobs of chains may write to: arrays that are given by address may have memory in common."""
MOST_LINKS = 16
"""Jobs in a chain at most: threads that come late, or lose their core, find something to do at the next one."""

Piece = tuple[int, int, int, bool]
"""The first byte of a part of memory, the one after its last, whose share it is, and whether that writes to it."""


class Chain:
    """Jobs that follow each other, all divided among as many shares.

    Args:
        shares: how many.
    """

    def __init__(self, shares: int) -> None:
        self.shares = shares
        self.length = 0
        self._pieces: dict[int, list[Piece]] = {}
        self._longest: dict[int, int] = {}
        self._seen: set[tuple[int, Piece]] = set()

    def admits(self, job: Job) -> bool:
        """Add a job if no share of it, or of those before, touches what another share writes. Returns whether it may.

        After a refusal, the chain is of no use any more.
        """
        if not job.kernel.spans or self.length == MOST_LINKS:
            return False
        for base, piece in _pieces(job, self.shares):
            if piece[3] and base != ARENA:
                return False
            if (base, piece) in self._seen:
                continue
            if self._collides(base, piece):
                return False
            self._seen.add((base, piece))
            insort(self._pieces.setdefault(base, []), piece)
            self._longest[base] = max(self._longest.get(base, 0), piece[1] - piece[0])
        self.length += 1
        return True

    def _collides(self, base: int, piece: Piece) -> bool:
        """Whether another share writes what a piece touches, or touches what it writes."""
        begin, end, share, writes = piece
        held = self._pieces.get(base, [])
        for at in range(bisect_left(held, (begin - self._longest.get(base, 0),)), len(held)):
            first, last, other, written = held[at]
            if first >= end:
                return False
            if last > begin and other != share and (writes or written):
                return True
        return False


def _pieces(job: Job, shares: int) -> list[tuple[int, Piece]]:
    """Return what each share of a job touches, as bases and pieces."""
    units, found = job.kernel.units, list[tuple[int, Piece]]()
    for span in job.kernel.spans:
        base, offset = job.operands[span.operand]
        for share in range(shares):
            first = units * share // shares // span.per
            last = (units * (share + 1) // shares - 1) // span.per
            edges = offset + span.low + span.pitch * first, offset + span.low + span.pitch * last
            found.append((base, (min(edges), max(edges) + span.extent, share, span.writes)))
    return found


def linked(jobs: Sequence[Job], shares: Sequence[int], pieces: Sequence[int]) -> list[list[int]]:
    """Return the numbers of jobs in groups that are one segment each: chains, and jobs by themselves.

    Args:
        jobs: in the order in which they run.
        shares: among how many threads each is worth dividing; a chain, among as many as its first job.
        pieces: in how many pieces each of these would be done; in chains, it is one.
    """
    groups: list[list[int]] = []
    chain: Chain | None = None
    for number, job in enumerate(jobs):
        is_fit = pieces[number] == 1 and job.kernel.units > 0
        # A job that is not worth so many threads is divided all the same: nobody waits for its parts.
        if is_fit and chain is not None and chain.shares >= shares[number] and chain.admits(job):
            groups[-1].append(number)
            continue
        groups.append([number])
        chain = Chain(shares[number]) if is_fit and shares[number] > 1 else None
        if chain is not None and not chain.admits(job):
            chain = None
    return groups
