"""Measure Wengert beside PyTorch and print one table: `python -m benchmarks.run`.

A full run keeps its table in `benchmarks/results/latest.md`.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from benchmarks import harness, machine
from benchmarks.engines import PYTORCH, REFERENCES, WENGERT, Engine, NotInstalled
from benchmarks.processes import import_seconds, training_bytes
from benchmarks.report import NOTE, Row, format_bytes, format_seconds, markdown, terminal_table
from benchmarks.works import WORKS, Chain, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Takes one sample: seconds, or bytes.
    Sampler = Callable[[], float]

RESULTS = Path(__file__).resolve().parent / "results" / "latest.md"
PAGE_WIDTH = 180
LEARNING_STEPS = 30
NUMPY = Engine("NumPy", "", "numpy")


# What a sample is


def timed(name: str, engine: Engine) -> Sampler:
    """Set a piece of work up, see that it is done right, and return what times it."""
    work = WORKS[name]
    job = engine.build(work)
    results = job.result()
    if isinstance(work, Chain):
        _demand_agreement(engine, results, work)
    else:
        for _ in range(LEARNING_STEPS):
            job.run()
        if not job.result()[0] < results[0]:
            raise ArithmeticError(f"{engine.title} trains, but its loss does not fall")
    return harness.calibrated(job.run).sample


def _demand_agreement(engine: Engine, results: list[np.ndarray], work: Work) -> None:
    try:
        expected = PYTORCH.build(work).result()
    except NotInstalled:
        return
    for mine, theirs in zip(results, expected, strict=True):
        tolerance = 1e-9 if theirs.dtype == np.float64 else 1e-3
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance, err_msg=engine.title)


def imported(isolated: bool, engine: Engine) -> Sampler:
    """Return what times a fresh interpreter that imports a library."""
    return _tried(engine, partial(import_seconds, engine.library, isolated=isolated))


def weighed(engine: Engine) -> Sampler:
    """Return what weighs the peak of memory of training in a fresh process."""
    return _tried(engine, partial(training_bytes, engine))


def _tried(engine: Engine, sample: Sampler) -> Sampler:
    # The first process may read from disk and compile to bytecode what every later one finds at hand.
    engine.demand()
    sample()
    return sample


# What a row is


@dataclass(frozen=True)
class Measurement:
    """One row of the table. `prepare` sets an engine up, and returns what takes a sample of it."""

    title: str
    limit: float | None
    prepare: Callable[[Engine], Sampler]
    style: Callable[[float], str] = format_seconds
    repetitions: int = 25
    reference_repetitions: int = 7
    baseline: Engine = PYTORCH

    def run(self, repetitions: int | None = None) -> Row:
        """Measure Wengert and the baseline in turn, then every other engine alone."""
        row = Row(self.title, self.limit)
        samplers: dict[Engine, Sampler] = {}
        for engine in (WENGERT, self.baseline):
            with reported(row, engine):
                samplers[engine] = self.prepare(engine)
        if len(samplers) == 2:
            with reported(row, WENGERT):
                self._compare(row, samplers.pop(WENGERT), samplers.pop(self.baseline), repetitions or self.repetitions)
        alone = [*samplers, *(engine for engine in (PYTORCH, *REFERENCES) if engine is not self.baseline)]
        for engine in alone:
            with reported(row, engine):
                sampler = samplers.get(engine) or self.prepare(engine)
                median = harness.median(sampler, repetitions or self.reference_repetitions)
                row.figures[engine.title] = self.style(median)
        return row

    def _compare(self, row: Row, subject: Sampler, baseline: Sampler, repetitions: int) -> None:
        row.comparison = harness.in_turn(subject, baseline, repetitions)
        mine, theirs = (self.style(median) for median in row.comparison.medians)
        row.figures.update({WENGERT.title: mine, self.baseline.title: theirs})
        if self.baseline is NUMPY:
            row.title += f" ({theirs} for NumPy)"


@contextmanager
def reported(row: Row, engine: Engine) -> Iterator[None]:
    """Enter why an engine has no figure: one engine's trouble is no other's."""
    try:
        yield
    except NotInstalled:
        row.figures[engine.title] = "not installed"
    except Exception:
        traceback.print_exc()
        row.figures[engine.title] = "failed"


CHAIN = "300 operations on 10 float64 elements"
MEASUREMENTS: dict[str, Measurement] = {
    "chain": Measurement(f"{CHAIN}, forward and backward", 0.55, partial(timed, "chain")),
    "chain-forward": Measurement(f"{CHAIN}, forward under no_grad", 0.5, partial(timed, "chain-forward")),
    "mlp-small": Measurement("MLP 64-32-10, batch 32, step of Adam", 0.6, partial(timed, "mlp-small")),
    "mlp-medium": Measurement("MLP 784-256-10, batch 64, step of Adam", 1.0, partial(timed, "mlp-medium")),
    "elementwise": Measurement(
        "12 operations on 1,000,000 float32 elements, forward and backward", 1.6, partial(timed, "elementwise")
    ),
    "import": Measurement(
        "`import` in a fresh process", 1.3, partial(imported, False), reference_repetitions=3, baseline=NUMPY
    ),
    "import-isolated": Measurement(
        "`import` in a fresh process, isolated (`-I`)",
        None,
        partial(imported, True),
        reference_repetitions=3,
        baseline=NUMPY,
    ),
    "memory": Measurement(
        "MLP 784-1024-1024-10, batch 128, 5 steps of Adam: peak memory",
        1.0,
        weighed,
        format_bytes,
        repetitions=5,
        reference_repetitions=3,
    ),
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--repetitions", type=int, metavar="N", help="samples of each engine in each row")
    parser.add_argument("--output", type=Path, help="where to keep the table")
    return parser.parse_args()


def main() -> int:
    """Measure, print and keep the table; return 1 if any ratio is missing."""
    options = arguments()
    names = options.only or list(MEASUREMENTS)
    facts = machine.describe()
    console = Console()
    if not console.is_terminal:
        console = Console(width=PAGE_WIDTH)
    rows: list[Row] = []
    with Console(stderr=True).status("") as status:
        for name in names:
            status.update(MEASUREMENTS[name].title)
            rows.append(MEASUREMENTS[name].run(options.repetitions))
    console.print(terminal_table(rows))
    console.print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), highlight=False)
    console.print(NOTE, highlight=False)
    output = options.output or (None if options.only else RESULTS)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(markdown(rows, facts, "python -m benchmarks.run"), encoding="utf-8")
    return 1 if any(row.comparison is None for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
