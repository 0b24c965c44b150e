"""Paired timing: two pieces of work in turn, in one process, so that what disturbs one disturbs the other as much."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# A repetition is a loop at least this long, in seconds: far above the clock's resolution and a scheduler's slice.
REPETITION = 0.04
# The share of a repetition that runs before the clock: caches, the clock rate and the other cores are another engine's
# until then, and a training loop that runs for hours meets none of that.
UNTIMED = 0.25
WARM_UP = 0.2
# Idle workers of a thread pool spin for a while before they sleep (OpenBLAS's for tens of milliseconds), on the cores
# that the next measurement needs. Waiting them out is part of measuring one library beside another.
SETTLE = 0.04


@dataclass(frozen=True)
class Comparison:
    """Samples of two measurements taken in turn: seconds of a single run, or bytes."""

    subject: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The subject's median over the baseline's."""
        mine, theirs = self.medians
        return mine / theirs

    @property
    def medians(self) -> tuple[float, float]:
        """The subject's median and the baseline's."""
        return statistics.median(self.subject), statistics.median(self.baseline)

    @property
    def spread(self) -> tuple[float, float]:
        """The first and third quartile of the ratios of the pairs."""
        ratios = [mine / theirs for mine, theirs in zip(self.subject, self.baseline, strict=True)]
        if len(ratios) == 1:
            return ratios[0], ratios[0]
        lower, _, upper = statistics.quantiles(ratios, n=4, method="inclusive")
        return lower, upper


@dataclass(frozen=True)
class Loop:
    """A piece of work and how many times it runs in one repetition."""

    run: Callable[[], object]
    count: int

    def sample(self) -> float:
        """Time one repetition; return the seconds of a single run.

        The cycle collector stays on, as it is for users, but starts clean: each pays for its own garbage alone.
        """
        gc.collect()
        time.sleep(SETTLE)
        for _ in range(max(1, round(UNTIMED * self.count))):
            self.run()
        start = time.perf_counter()
        for _ in range(self.count):
            self.run()
        return (time.perf_counter() - start) / self.count


def calibrated(run: Callable[[], object]) -> Loop:
    """Warm the work up, and choose a loop count that makes a repetition last long enough."""
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP:
        run()
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            run()
        elapsed = time.perf_counter() - start
        if elapsed >= REPETITION:
            return Loop(run, count)
        count = max(count + 1, round(1.2 * count * REPETITION / max(elapsed, 1e-9)))


def in_turn(subject: Callable[[], float], baseline: Callable[[], float], repetitions: int) -> Comparison:
    """Take samples of two measurements in turn."""
    pairs = [(subject(), baseline()) for _ in range(repetitions)]
    return Comparison(tuple(mine for mine, _ in pairs), tuple(theirs for _, theirs in pairs))


def median(sample: Callable[[], float], repetitions: int) -> float:
    """Take samples of one measurement; return their median."""
    return statistics.median([sample() for _ in range(repetitions)])


def medians_in_turn(samplers: Sequence[Callable[[], float]], repetitions: int) -> list[float]:
    """Take samples of several measurements in turn; return the median of each."""
    rounds = [[sample() for sample in samplers] for _ in range(repetitions)]
    return [statistics.median(samples) for samples in zip(*rounds, strict=True)]
