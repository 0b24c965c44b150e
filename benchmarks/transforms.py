"""Measure Wengert's transforms beside PyTorch's: `python -m benchmarks.transforms`.

Eagerly they are set beside `torch.func`; through `wg.compile`, beside the fastest that PyTorch has, `torch.compile`
included. A full run takes ten minutes, most of which goes to `torch.compile`, and keeps its tables in
`benchmarks/results/transforms.md`, row by row.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import contest, machine
from benchmarks.contest import Contest, Standing
from benchmarks.engines import (
    HIPS,
    JAX_EAGER,
    JAX_JIT,
    PYTORCH,
    TORCH_COMPILE,
    TORCH_FUNC,
    WENGERT,
    WENGERT_COMPILE,
    Engine,
)
from benchmarks.keeping import PATIENCE, Keeper
from benchmarks.measurement import timed
from benchmarks.report import Section, ways_lines
from benchmarks.suite import RESULTS

EAGER_RIVALS, COMPILED_RIVALS = (TORCH_FUNC,), (PYTORCH, TORCH_COMPILE)
EAGER = (WENGERT, TORCH_FUNC, PYTORCH, HIPS, JAX_EAGER)
COMPILED = (WENGERT_COMPILE, WENGERT, PYTORCH, TORCH_COMPILE, JAX_JIT)
OTHERS = (WENGERT, TORCH_FUNC, HIPS, JAX_EAGER, JAX_JIT)
TITLES = {
    "hvp": "Hessian-vector product, MLP 784-256-10, batch 64, float32",
    "hessian": "Hessian of the Rosenbrock function of 100 variables, float64",
    "jacobian": "Jacobian of a map from 200 to 200 through 20 operations, float64",
    "per-sample": "Per-sample gradients, MLP 784-256-10, batch 256, float32",
    "vmap": "vmap of 50 operations over 1,000 vectors of 10, float64",
    "jvp": "jvp of 300 operations on 10 float64 elements",
}
LIMITS = {"hvp": 0.9, "hessian": 0.5, "jacobian": 0.6, "per-sample": 0.9, "vmap": 0.5, "jvp": 0.5}
COMMAND = "python -m benchmarks.transforms"
EAGER_NOTE = """\
Ratio: the median of Wengert, uncompiled, over that of torch.func, PyTorch's transforms, in bold. Spread: the quartiles
of the ratios of the rounds. Target: the limit times torch.func's median. All engines, those of the next table too, run
in turn in one process, in repetitions of at least 40 ms, with default threads, the cycle collector on. Where a library
has several ways to write a piece of work, all are timed, and the table has the fastest; the ways are listed at the end.
The column PyTorch has its fastest way of all, those that are no transforms of functions included. Each result is
checked against PyTorch's before anything is timed."""
COMPILED_NOTE = """\
Ratio: the median of the same functions in `wg.compile` over that of the best of PyTorch's ways, in bold: `torch.func`,
what is in PyTorch beside it, and `torch.func` in `torch.compile`. From the same rounds as above. Compilation is in
none of these figures. Wrong result: what it computes is not what PyTorch computes eagerly, so that it is not timed."""


def measure(name: str, repetitions: int, seconds: float = PATIENCE) -> tuple[Standing, Standing]:
    """Run one piece of work by all engines; return how eager and how compiled transforms did."""
    entry = Contest(TITLES[name], LIMITS[name], name, WENGERT_COMPILE, COMPILED_RIVALS, OTHERS, timed, seconds)
    compiled = entry.run(repetitions)
    return compiled.against(WENGERT, EAGER_RIVALS), compiled


def sections(pairs: list[tuple[Standing, Standing]]) -> list[Section]:
    """Return the two tables and the list of ways."""
    eager = _section("Eager", [eager for eager, _ in pairs], EAGER, EAGER_NOTE)
    compiled = _section("Compiled", [compiled for _, compiled in pairs], COMPILED, COMPILED_NOTE)
    compiled.lines = ["## Ways", "", *ways_lines([compiled for _, compiled in pairs])]
    return [eager, compiled]


def _section(title: str, standings: list[Standing], engines: tuple[Engine, ...], note: str) -> Section:
    heads = [*contest.HEADS, *(engine.title for engine in engines)]
    return Section(title, heads, [standing.cells(engines) for standing in standings], note)


def main() -> int:
    """Measure, print, and keep the tables; return 1 if any ratio is missing."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split(":")[0])
    parser.add_argument("--only", action="append", choices=TITLES, metavar="NAME", help=", ".join(TITLES))
    parser.add_argument("--repetitions", type=int, default=contest.REPETITIONS, metavar="N", help="rounds of each row")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="S", help="seconds to set a row up")
    parser.add_argument("--output", type=Path, help="where to keep the tables")
    options = parser.parse_args()
    facts = machine.describe(("wengert", "llvmlite", "torch", "autograd", "jax", "jaxlib"))
    output = options.output or (None if options.only else RESULTS / "transforms.md")
    keeper = Keeper("Wengert's transforms against PyTorch's", COMMAND, facts, output)
    pairs: list[tuple[Standing, Standing]] = []
    with Console(stderr=True).status("") as status:
        for name in options.only or TITLES:
            status.update(TITLES[name])
            pairs.append(measure(name, options.repetitions, options.patience))
            keeper.keep(sections(pairs))
    keeper.finish(sections(pairs))
    return 1 if any(standing.comparison is None for pair in pairs for standing in pair) else 0


if __name__ == "__main__":
    sys.exit(main())
