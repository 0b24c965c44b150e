"""When to keep, restore and run again: schedules for reversing a chain of steps with few states in memory.

A chain leads from state 0 to state `steps`; step i leads from state i to state i + 1. To reverse step i, state i must
be at hand. With `slots` states kept at a time (state 0 among them), the others are computed again from kept ones.

If the number of steps is known, binomial checkpointing is optimal: A. Griewank and A. Walther, "Algorithm 799:
Revolve", ACM TOMS 26 (2000). If it is not known until the chain ends, states are kept and dropped on the way as in
Q. Wang, P. Moin and G. Iaccarino, "Minimal repetition dynamic checkpointing algorithm for unsteady adjoint
calculation", SIAM J. Sci. Comput. 31 (2009); within the intervals between what is then left, the reversal is again
binomial.

Nothing here knows what a state is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import comb, inf
from typing import Literal, NamedTuple


class Action(NamedTuple):
    """One thing to do in a reversal.

    Attributes:
        kind: "restore" makes the kept state `at` the current one; "advance" runs the steps up to state `to`; "keep"
            keeps the current state, which is `at`; "drop" drops the kept state `at`; "reverse" reverses step `at`,
            whose state is the current one.
        at: the state or step it is about.
        to: the state to advance to.
    """

    kind: Literal["restore", "advance", "keep", "drop", "reverse"]
    at: int
    to: int = 0


def reach(slots: int, repeats: int) -> int:
    """Return how many steps can be reversed if each is run at most `repeats` times to get to others, and no more.

    >>> from wengert.transforms.revolve import reach
    >>> reach(3, 2)
    10
    """
    return comb(slots + repeats, slots) if repeats >= 0 else 0


def repeats_for(steps: int, slots: int) -> int:
    """Return how often some step must be run to get to others, at the least, to reverse so many."""
    repeats = 0
    while reach(slots, repeats) < steps:
        repeats += 1
    return repeats


def fewest_advances(steps: int, slots: int) -> int:
    """Return the number of steps to be run, at the least, to get to every state once, from the last to the first.

    The first sweep over all but the last step is among them; running a step in order to reverse it is not.

    >>> from wengert.transforms.revolve import fewest_advances
    >>> [fewest_advances(5, slots) for slots in (1, 2, 5)]
    [10, 6, 4]
    """
    if steps <= 1:
        return 0
    repeats = repeats_for(steps, slots)
    return repeats * steps - comb(slots + repeats, slots + 1)


def split(steps: int, slots: int) -> int:
    """Return how far to advance before the next state is kept, if there are two slots or more."""
    repeats = repeats_for(steps, slots)
    return min(reach(slots, repeats - 1), steps - reach(slots - 1, repeats - 1))


def positions(steps: int, slots: int) -> list[int]:
    """Return the states to keep in the first sweep over a chain of known length.

    >>> from wengert.transforms.revolve import positions
    >>> positions(10, 3)
    [0, 4, 7]
    """
    kept = [0]
    while len(kept) < slots and steps - kept[-1] > 1:
        kept.append(kept[-1] + split(steps - kept[-1], slots - len(kept) + 1))
    return kept


def reversal(kept: Sequence[int], steps: int, slots: int) -> Iterator[Action]:
    """Yield what to do to reverse a whole chain, after a first sweep that left these states kept (0 among them)."""
    end = steps
    for count in range(len(kept), 0, -1):
        begin = kept[count - 1]
        if end > begin:
            yield from _interval(begin, end, slots - count + 1)
        if count > 1:
            yield Action("drop", begin)
        end = begin


def _interval(begin: int, end: int, slots: int) -> Iterator[Action]:
    """Reverse the steps of an interval whose first state is kept, in one of the slots."""
    while end > begin:
        yield Action("restore", begin)
        if end - begin == 1:
            yield Action("reverse", begin)
            return
        if slots == 1:
            yield Action("advance", begin, end - 1)
            yield Action("reverse", end - 1)
            end -= 1
            continue
        middle = begin + split(end - begin, slots)
        yield Action("advance", begin, middle)
        yield Action("keep", middle)
        yield from _interval(middle, end, slots - 1)
        yield Action("drop", middle)
        end = middle


class Online:
    """Decides which states to keep while a chain runs on that nobody knows the end of.

    Every state is kept as it is met. If there is no slot for it, a kept one makes room that has a later one of a higher
    level; if there is none such, the newest one does, and passes on its level plus one.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._kept: list[tuple[int, float]] = [(0, inf)]

    def meet(self, state: int) -> int | None:
        """Take note of the next state; return the one that makes room for it: none, a kept one, or itself."""
        if len(self._kept) < self.slots:
            self._kept.append((state, 0))
            return None
        if self.slots == 1:
            return state
        highest = -1.0
        for place in range(len(self._kept) - 1, 0, -1):
            _, level = self._kept[place]
            if level < highest:
                self._kept.append((state, 0))
                return self._kept.pop(place)[0]
            highest = max(highest, level)
        newest, level = self._kept.pop()
        self._kept.append((state, level + 1))
        return newest


__all__ = [
    "Action",
    "Online",
    "fewest_advances",
    "positions",
    "reach",
    "repeats_for",
    "reversal",
    "split",
]
