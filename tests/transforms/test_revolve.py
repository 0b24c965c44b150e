"""Schedules for reversing chains: optimal where the length is known, near it elsewhere, always within the slots."""

from __future__ import annotations

from functools import cache
from math import comb

import pytest

from wengert.transforms.revolve import Online, fewest_advances, positions, reach, repeats_for, reversal, split


@cache
def by_dynamic_programming(steps: int, slots: int) -> int:
    if steps <= 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    return min(
        to + by_dynamic_programming(steps - to, slots - 1) + by_dynamic_programming(to, slots) for to in range(1, steps)
    )


def executed(kept: list[int], steps: int, slots: int) -> tuple[int, list[int]]:
    """Carry out a reversal; return (steps run to get to others, states in memory at the worst)."""
    memory = {*kept}
    assert len(memory) <= slots
    current: int | None = None
    advances, expected, worst = 0, steps - 1, len(memory)
    for action in reversal(kept, steps, slots):
        if action.kind == "restore":
            assert action.at in memory
            current = action.at
        elif action.kind == "advance":
            assert current == action.at < action.to
            advances += action.to - action.at
            current = action.to
        elif action.kind == "keep":
            assert current == action.at
            memory.add(action.at)
            worst = max(worst, len(memory))
        elif action.kind == "drop":
            memory.remove(action.at)
        else:
            assert action.kind == "reverse" and current == action.at == expected
            expected -= 1
    assert expected == -1
    assert memory == {0}
    return advances, [worst]


@pytest.mark.parametrize("slots", range(1, 9))
def test_known_lengths_are_reversed_with_the_fewest_steps(slots: int) -> None:
    for steps in range(1, 61):
        optimum = by_dynamic_programming(steps, slots)
        assert fewest_advances(steps, slots) == optimum
        kept = positions(steps, slots)
        advances, (worst,) = executed(kept, steps, slots)
        assert worst <= slots
        # What the first sweep has done already, up to the last state that it kept, is not done again.
        assert kept[-1] + advances == optimum


def test_the_closed_form() -> None:
    assert reach(3, 2) == comb(5, 2)
    assert repeats_for(10, 3) == 2 and repeats_for(11, 3) == 3
    for slots in range(2, 7):
        for steps in range(2, 200):
            repeats = repeats_for(steps, slots)
            assert reach(slots, repeats - 1) < steps <= reach(slots, repeats)
            to = split(steps, slots)
            assert 1 <= to < steps
            assert fewest_advances(steps, slots) == to + fewest_advances(steps - to, slots - 1) + fewest_advances(
                to, slots
            )


def kept_online(steps: int, slots: int) -> list[int]:
    schedule, kept = Online(slots), {0}
    for state in range(1, steps):
        room = schedule.meet(state)
        kept.add(state)
        if room is not None:
            kept.remove(room)
        assert len(kept) <= slots and 0 in kept
    return sorted(kept)


@pytest.mark.parametrize("slots", [2, 3, 5, 10, 20])
def test_unknown_lengths_cost_little_more(slots: int) -> None:
    for steps in [*range(1, 130), 231, 500, 1771, 5000]:
        kept = kept_online(steps, slots)
        advances, (worst,) = executed(kept, steps, slots)
        assert worst <= slots
        optimum = fewest_advances(steps, slots)
        run = kept[-1] + advances
        assert optimum <= run <= 1.5 * optimum + 1
        # The guide promises this much of all runs, those that are reversed included.
        assert run + steps <= 1.3 * (optimum + steps)


def test_one_slot() -> None:
    assert kept_online(6, 1) == [0]
    assert executed([0], 6, 1)[0] == 15


def test_long_chains_need_no_deep_recursion() -> None:
    advances, _ = executed(positions(100_000, 400), 100_000, 400)
    assert advances < 3 * 100_000
