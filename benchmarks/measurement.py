"""A row of a table: an engine is set up and seen to do the work right, then timed beside the others."""

from __future__ import annotations

import functools
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import harness
from benchmarks.engines import PYTORCH, WENGERT, Engine, NotInstalled, NotOffered
from benchmarks.keeping import OutOfPatience
from benchmarks.report import Row, format_seconds
from benchmarks.works import WORKS, Function, Job, Network, Training, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LEARNING_STEPS = 30
CHOICE_REPETITIONS = 7
NUMPY = Engine("NumPy", "", "numpy")


@dataclass(frozen=True)
class Prepared:
    """An engine ready to be measured.

    `sample` takes one sample: seconds, or bytes. `ways` are the ways of writing the work that were tried, with the
    median of each; the sample is of the fastest.
    """

    sample: Callable[[], float]
    ways: dict[str, float] = field(default_factory=dict)


def timed(name: str, engine: Engine) -> Prepared:
    """Set a piece of work up in every way that the engine has, see that each is right, and time the fastest."""
    work = WORKS[name]
    ways = engine.ways(work)
    for job in ways:
        results = job.result()
        if not isinstance(work, Training):
            _demand_agreement(f"{engine.title} {job.way}", results, work)
            continue
        for _ in range(LEARNING_STEPS):
            job.run()
        if not job.result()[0] < results[0]:
            raise ArithmeticError(f"{engine.title} trains, but its loss does not fall")
    return fastest(ways)


def fastest(ways: Sequence[Job]) -> Prepared:
    """Time the Jobs of one piece of work in turn, and choose the fastest."""
    samplers = [harness.calibrated(job.run).sample for job in ways]
    if len(samplers) == 1:
        return Prepared(samplers[0], {})
    medians = harness.medians_in_turn(samplers, CHOICE_REPETITIONS)
    best = medians.index(min(medians))
    return Prepared(samplers[best], {job.way: median for job, median in zip(ways, medians, strict=True)})


def _demand_agreement(name: str, results: Sequence[np.ndarray], work: Work) -> None:
    try:
        expected = _expected(work)
    except NotInstalled:
        return
    for mine, theirs in zip(results, expected, strict=True):
        tolerance = 1e-9 if theirs.dtype == np.float64 else 1e-3
        scale = np.abs(theirs).max()
        try:
            np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * scale, strict=True)
        except AssertionError as error:
            raise ArithmeticError(f"{name}: {error}") from None


@functools.cache
def _expected(work: Function | Network) -> list[np.ndarray]:
    return PYTORCH.build(work).result()


@dataclass(frozen=True)
class Measurement:
    """One row of a table. `prepare` sets an engine up."""

    title: str
    limit: float | None
    prepare: Callable[[Engine], Prepared]
    style: Callable[[float], str] = format_seconds
    repetitions: int = 25
    reference_repetitions: int = 7
    baseline: Engine = PYTORCH

    def run(self, references: Iterable[Engine], repetitions: int | None = None) -> Row:
        """Measure Wengert and the baseline in turn, then every other engine alone."""
        row = Row(self.title, self.limit)
        samplers: dict[Engine, Callable[[], float]] = {}
        for engine in (WENGERT, self.baseline):
            with reported(row.figures, engine):
                samplers[engine] = self._sampler(engine, row)
        if len(samplers) == 2:
            with reported(row.figures, WENGERT):
                self._compare(row, samplers.pop(WENGERT), samplers.pop(self.baseline), repetitions or self.repetitions)
        alone = [*samplers, *(engine for engine in (PYTORCH, *references) if engine is not self.baseline)]
        for engine in alone:
            with reported(row.figures, engine):
                sampler = samplers.get(engine) or self._sampler(engine, row)
                median = harness.median(sampler, repetitions or self.reference_repetitions)
                row.figures[engine.title] = self.style(median)
        return row

    def _sampler(self, engine: Engine, row: Row) -> Callable[[], float]:
        prepared = self.prepare(engine)
        if prepared.ways:
            row.ways[engine.title] = {way: self.style(median) for way, median in prepared.ways.items()}
        return prepared.sample

    def _compare(self, row: Row, subject: Callable[[], float], baseline: Callable[[], float], repetitions: int) -> None:
        row.comparison = harness.in_turn(subject, baseline, repetitions)
        mine, theirs = (self.style(median) for median in row.comparison.medians)
        row.figures.update({WENGERT.title: mine, self.baseline.title: theirs})
        if self.baseline is NUMPY:
            row.title += f" ({theirs} for NumPy)"


@contextmanager
def reported(figures: dict[str, str], engine: Engine) -> Iterator[None]:
    """Enter why an engine has no figure: one engine's trouble is no other's."""
    try:
        yield
    except NotInstalled:
        figures[engine.title] = "not installed"
    except NotOffered:
        figures[engine.title] = "not offered"
    except OutOfPatience:
        figures[engine.title] = "took too long"
    except ArithmeticError as error:
        print(error, file=sys.stderr)
        figures[engine.title] = "wrong result"
    except Exception:
        traceback.print_exc()
        figures[engine.title] = "failed"
