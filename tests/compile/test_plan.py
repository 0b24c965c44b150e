"""The memory plan: what is needed at the same time lies apart, and what is not shares memory."""

from __future__ import annotations

import numpy as np
import pytest

from wengert.compile.graph import Value
from wengert.compile.lower import Step
from wengert.compile.plan import ALIGNMENT, Plan, plan_memory


def lines(count: int) -> Value:
    """Return an array of so many aligned pieces of memory."""
    return Value((count * ALIGNMENT // 4,), np.dtype(np.float32))


def steps_of(lives: list[tuple[Value, int, int]]) -> list[Step]:
    """Return steps that write arrays first and read them last at given places."""
    last = max([end for _, _, end in lives])
    return [
        Step(
            None,
            (),
            frozenset([value for value, _, end in lives if end == place]),
            tuple([value for value, begin, _ in lives if begin == place]),
        )
        for place in range(last + 1)
    ]


def planned(lives: list[tuple[Value, int, int]]) -> Plan:
    return plan_memory(steps_of(lives), [value for value, _, _ in lives])


def test_tightest_gap_is_taken() -> None:
    first, wide, between, narrow, last, later = [lines(count) for count in (10, 9, 8, 7, 6, 5)]
    plan = planned([(first, 0, 9), (wide, 0, 2), (between, 0, 9), (narrow, 0, 1), (last, 0, 9), (later, 4, 5)])
    assert [plan.offsets[value] for value in (first, wide, between, narrow, last)] == [
        count * ALIGNMENT for count in (0, 10, 19, 27, 34)
    ]
    assert plan.offsets[later] == plan.offsets[narrow]
    assert plan.size == 40 * ALIGNMENT


@pytest.mark.parametrize("seed", range(12))
def test_what_is_needed_at_the_same_time_lies_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lives: list[tuple[Value, int, int]] = []
    for _ in range(60):
        begin = int(rng.integers(30))
        lives.append((lines(int(rng.integers(1, 9))), begin, begin + int(rng.integers(1, (3, 20)[seed % 2]))))
    plan = planned(lives)
    spans = [(plan.offsets[value], plan.offsets[value] + value.nbytes, begin, end) for value, begin, end in lives]
    for place, (low, high, begin, end) in enumerate(spans):
        assert low % ALIGNMENT == 0
        assert 0 <= low < high <= plan.size
        for other_low, other_high, other_begin, other_end in spans[:place]:
            apart = high <= other_low or other_high <= low
            assert apart or end < other_begin or other_end < begin
    busiest = max([sum([v.nbytes for v, begin, end in lives if begin <= place <= end]) for place in range(50)])
    assert busiest <= plan.size <= 1.5 * busiest
