"""Measure Wengert beside PyTorch and print one table: `python -m benchmarks.run`.

A full run keeps its table in `benchmarks/results/latest.md`.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.engines import HIPS, JAX_JIT, MYGRAD, Engine
from benchmarks.measurement import NUMPY, Measurement, Prepared, timed
from benchmarks.processes import import_seconds, training_bytes
from benchmarks.report import Layout, format_bytes
from benchmarks.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Callable

NOTE = """\
Ratio: Wengert's median over PyTorch's (over NumPy's for `import`). Spread: the quartiles of the ratios of the pairs.
The two are run in turn in one process, in repetitions of at least 40 ms, with default threads, the cycle collector on.
An import is timed in a fresh process, from its start to its end. Peak memory is what a fresh process adds, over a few
steps, to what is resident once the library is loaded and has trained a tiny model. Other columns are medians."""


def imported(isolated: bool, engine: Engine) -> Prepared:
    """Return what times a fresh interpreter that imports a library."""
    return _tried(engine, partial(import_seconds, engine.library, isolated=isolated))


def weighed(engine: Engine) -> Prepared:
    """Return what weighs the peak of memory of training in a fresh process."""
    return _tried(engine, partial(training_bytes, engine))


def _tried(engine: Engine, sample: Callable[[], float]) -> Prepared:
    # The first process may read from disk and compile to bytecode what every later one finds at hand.
    engine.demand()
    sample()
    return Prepared(sample)


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


SUITE = Suite(
    "benchmarks.run",
    "Measure Wengert beside PyTorch.",
    Layout("Wengert against PyTorch, eager", (HIPS, MYGRAD, JAX_JIT), NOTE),
    MEASUREMENTS,
    "latest.md",
)

if __name__ == "__main__":
    sys.exit(SUITE.main())
