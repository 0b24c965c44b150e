"""A row of a table for which all engines are timed in turn, and one is set beside the best of some others."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks import harness
from benchmarks.agreement import demand_agreement
from benchmarks.keeping import PATIENCE, patience
from benchmarks.measurement import Prepared, fastest, reported
from benchmarks.models import COMPILED_WORKS
from benchmarks.report import DASH, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.engines import Engine

REPETITIONS = 15


@dataclass
class Standing:
    """What came of one contest.

    `samples` has every engine's figures, those of one place taken in the same round; `figures`, a cell for each
    engine that has none; `ways`, the medians of all ways of writing the work, where there are several.
    """

    title: str
    limit: float | None
    subject: Engine
    rivals: Sequence[Engine]
    style: Callable[[float], str] = format_seconds
    samples: dict[Engine, list[float]] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    ways: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def best(self) -> Engine | None:
        """The rival with the least median."""
        present = [rival for rival in self.rivals if rival in self.samples]
        return min(present, key=self.median, default=None)

    def median(self, engine: Engine) -> float:
        """Return an engine's median."""
        return statistics.median(self.samples[engine])

    @property
    def comparison(self) -> harness.Comparison | None:
        """The subject and the best rival, round by round."""
        best = self.best
        if best is None or self.subject not in self.samples:
            return None
        return harness.Comparison(tuple(self.samples[self.subject]), tuple(self.samples[best]))

    @property
    def kept(self) -> bool | None:
        """Whether the ratio is within its limit; None where either is missing."""
        comparison = self.comparison
        return None if comparison is None or self.limit is None else comparison.ratio <= self.limit

    def against(self, subject: Engine, rivals: Sequence[Engine]) -> Standing:
        """Return how another engine did beside others, in the same rounds."""
        return replace(self, subject=subject, rivals=rivals)

    def summary(self, engines: Sequence[Engine]) -> list[str]:
        """Return the text of the columns: work, ratio, limit, and a figure for each engine."""
        comparison, best = self.comparison, self.best
        mark = {True: " ✓", False: " ✗", None: ""}[self.kept]
        ratio = DASH if comparison is None else f"{comparison.ratio:.2f}{mark}"
        limit = DASH if self.limit is None else f"{self.limit:g}"
        return [self.title, ratio, limit, *(self._figure(engine, best) for engine in engines)]

    def cells(self, engines: Sequence[Engine]) -> list[str]:
        """Return the same with two more columns after the limit: the spread of the ratio, and the target."""
        spread = target = DASH
        if (comparison := self.comparison) is not None:
            spread = "{:.2f} to {:.2f}".format(*comparison.spread)
        if (best := self.best) is not None and self.limit is not None:
            target = self.style(self.limit * self.median(best))
        title, ratio, limit, *figures = self.summary(engines)
        return [title, ratio, limit, spread, target, *figures]

    def _figure(self, engine: Engine, best: Engine | None) -> str:
        if engine not in self.samples:
            return self.figures.get(engine.title, DASH)
        figure = self.style(self.median(engine))
        return f"**{figure}**" if engine is best else figure


SUMMARY_HEADS = ("work", "ratio", "limit")
HEADS = (*SUMMARY_HEADS, "spread", "target")


def prepared(name: str, engine: Engine) -> Prepared:
    """Set a compiled work up in every way that the engine has, see that each is right, and choose the fastest."""
    work = COMPILED_WORKS[name]
    ways = engine.ways(work)
    for job in ways:
        demand_agreement(f"{engine.title} {job.way}".strip(), job, work, engine.is_narrow)
    return fastest(ways)


@dataclass(frozen=True)
class Contest:
    """A piece of work, and who does it: the subject, the rivals that it is set beside, and others for comparison.

    `prepare` sets the work of that name up for an engine, which may take that long, `seconds`.
    """

    title: str
    limit: float | None
    work: str
    subject: Engine
    rivals: tuple[Engine, ...]
    others: tuple[Engine, ...] = ()
    prepare: Callable[[str, Engine], Prepared] = prepared
    seconds: float = PATIENCE

    def run(self, repetitions: int = REPETITIONS) -> Standing:
        """Set every engine up, see that it is right, and time its fastest way in turn with the others'."""
        standing = Standing(self.title, self.limit, self.subject, self.rivals)
        samplers: dict[Engine, Callable[[], float]] = {}
        for engine in (self.subject, *self.others, *self.rivals):
            with reported(standing.figures, engine), patience(self.seconds):
                chosen = self.prepare(self.work, engine)
                samplers[engine] = chosen.sample
                if chosen.ways:
                    standing.ways[engine.title] = {way: format_seconds(m) for way, m in chosen.ways.items()}
        for _ in range(repetitions):
            for engine, sampler in samplers.items():
                standing.samples.setdefault(engine, []).append(sampler())
        return standing
