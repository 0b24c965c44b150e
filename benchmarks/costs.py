"""Measure what transforms and loops cost, in runs of the function and in memory: `python -m benchmarks.costs`.

The guides quote these figures. No rival takes part: the question is which of several ways to a derivative to take. A
full run keeps its tables in `benchmarks/results/costs.md`.
"""

from __future__ import annotations

import argparse
import sys
import tracemalloc
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

import wengert as wg
from benchmarks import harness, machine
from benchmarks.report import format_bytes, format_seconds, markdown_row
from benchmarks.suite import RESULTS
from benchmarks.works import pendulum_chain
from wengert.transforms.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Table = tuple[str, Sequence[str], list[list[str]]]

REPETITIONS = 7
SMALL, LARGE = 10, 100_000
OPERATIONS, ELEMENTS = 40, 1 << 17
STEPS = (50, 500, 5000)
KEPT = (None, 20, 5)

NOTE = """\
Medians, in float64, with default threads. Runs of f are of Tensors that nobody differentiates, in turn with what is
measured. Peaks are those of `tracemalloc`."""


def ratios(work: Callable[[], object], run: Callable[[], object], repetitions: int = REPETITIONS) -> float:
    """Return how many runs of a function a piece of work takes."""
    loops = harness.calibrated(work), harness.calibrated(run)
    return harness.in_turn(loops[0].sample, loops[1].sample, repetitions).ratio


def peak(work: Callable[[], object]) -> int:
    """Return how many bytes a piece of work holds at most, beyond what was held before."""
    work()
    tracemalloc.start()
    work()
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held


def half_square(y: wg.Tensor) -> wg.Tensor:
    """Half the square of a scalar: a loss for the Gauss-Newton matrix."""
    return 0.5 * y * y


def ways(function: Callable[..., Any], x: wg.Tensor, v: wg.Tensor) -> dict[str, Callable[[], object]]:
    """Return the ways to derivatives of a scalar function."""
    push, pull = wg.linearize(function, x)[1], wg.vjp(function, x)[1]
    one = wg.tensor(1.0)
    return {
        "`wg.grad(f)(x)`": partial(wg.grad(function), x),
        "`wg.value_and_grad(f)(x)`": partial(wg.value_and_grad(function), x),
        "`wg.jvp(f, (x,), (v,))`": partial(wg.jvp, function, (x,), (v,)),
        "`wg.linearize(f, x)`": partial(wg.linearize, function, x),
        "its map, once": partial(push, v),
        "`wg.vjp(f, x)`": partial(wg.vjp, function, x),
        "its pullback, once": partial(pull, one),
        "`wg.hvp(f, x, v)`": partial(wg.hvp, function, x, v),
        "`wg.gauss_newton_vp(f, loss, x, v)`": partial(wg.gauss_newton_vp, function, half_square, x, v),
        **orders(function, x, v),
    }


def orders(function: Callable[..., Any], x: wg.Tensor, v: wg.Tensor) -> dict[str, Callable[[], object]]:
    """Return the three orders of modes that multiply a Hessian by a vector."""
    return {
        "forward over reverse": lambda: wg.jvp(wg.grad(function), (x,), (v,)),
        "reverse over forward": lambda: wg.grad(lambda x: wg.jvp(function, (x,), (v,))[1])(x),
        "reverse over reverse": lambda: wg.grad(lambda x: wg.sum(wg.grad(function)(x) * v))(x),
    }


def transforms() -> Table:
    """Measure every way to a derivative of the energy of a chain of pendulums, of few variables and of many."""
    function = partial(pendulum_chain, wg)
    columns: list[list[float]] = []
    names: Sequence[str] = ()
    for size in (SMALL, LARGE):
        rng = np.random.default_rng(0)
        x, v = (wg.tensor(rng.uniform(-1, 1, size)) for _ in range(2))
        works = ways(function, x, v)
        names = tuple(works)
        columns.append([ratios(work, partial(function, x)) for work in works.values()])
    rows = [[name, *(f"{ratio:.1f}" for ratio in line)] for name, *line in zip(names, *columns, strict=True)]
    return "In runs of f, the energy of a chain of pendulums", ("", f"{SMALL} variables", f"{LARGE:,} variables"), rows


def matrices() -> Table:
    """Measure whole matrices in runs of the function."""
    rng = np.random.default_rng(0)
    x = wg.tensor(rng.uniform(-1, 1, 200))

    def chain(x: wg.Tensor) -> wg.Tensor:
        for _ in range(20):
            x = wg.sin(x) * 1.01 + 0.1
        return x

    energy = partial(pendulum_chain, wg)
    few = x[:100].detach()
    works = {
        "`jacrev`: 200 to 200 numbers, 60 operations": (partial(wg.jacrev(chain), x), partial(chain, x)),
        "`jacfwd`: the same": (partial(wg.jacfwd(chain), x), partial(chain, x)),
        "`hessian`: pendulums, 100 variables": (partial(wg.hessian(energy), few), partial(energy, few)),
    }
    rows = [[name, f"{ratios(*pair):.1f}"] for name, pair in works.items()]
    return "Whole matrices", ("", "runs of f"), rows


def memory() -> Table:
    """Measure what the orders hold at most for each operation of a long chain."""

    def chain(x: wg.Tensor) -> wg.Tensor:
        for _ in range(OPERATIONS):
            x = wg.sin(x)
        return wg.sum(x)

    x, v = (wg.tensor(np.linspace(low, 1.0, ELEMENTS)) for low in (0.1, 0.2))
    works = {**orders(chain, x, v), "`wg.hvp(f, x, v)`": partial(wg.hvp, chain, x, v)}
    held = [[name, f"{peak(work) / (OPERATIONS * 8 * ELEMENTS):.1f}"] for name, work in works.items()]
    return f"Held at most: {OPERATIONS} sines of {ELEMENTS:,} elements", ("", "arrays for each operation"), held


def looped(x: wg.Tensor, steps: int, body: Callable[..., Any], **options: Any) -> wg.Tensor:
    """Carry a vector through so many steps; return its sum."""
    return wg.while_loop(lambda carry: carry[0] < steps, body, (wg.tensor(0), x), **options)[1].sum()


def loop_memory() -> Table:
    """Count the runs of a loop's body for value and gradient, and what they hold, with and without kept states."""
    x = wg.tensor(np.full(100_000, 0.5))
    runs = 0

    def body(carry: Any) -> Any:
        nonlocal runs
        runs += 1
        return carry[0] + 1, wg.sin(carry[1]) * 1.01

    rows: list[list[str]] = []
    for steps in STEPS:
        row = [f"{steps}"]
        for kept in KEPT:
            if kept is None and steps == STEPS[-1]:
                row.append("")
                continue
            gradient = wg.grad(partial(looped, steps=steps, body=body, checkpoints=kept))
            held = peak(partial(gradient, x))
            runs = 0
            gradient(x)
            row.append(f"{runs / steps:.1f} runs, {format_bytes(held)}")
        rows.append(row)
    heads = ("steps", "plain tape (`checkpoints=None`)", "20 kept states (the default)", "5 kept states")
    return "Loops: runs of the body for each step, and the peak, for a vector of 100,000 numbers", heads, rows


def loop_time() -> Table:
    """Measure a loop of small steps in value and gradient, as a loop of Python's and as `while_loop`."""
    x, steps = wg.tensor(np.linspace(0.1, 1.0, 100)), 500

    def step(y: wg.Tensor) -> wg.Tensor:
        return wg.sin(y * 1.01) + 0.1 * y

    def plain(x: wg.Tensor) -> wg.Tensor:
        for _ in range(steps):
            x = step(x)
        return x.sum()

    def body(carry: Any) -> Any:
        return carry[0] + 1, step(carry[1])

    gradients: dict[str, Callable[..., Any]] = {"a loop of Python's": wg.grad(plain)}
    for kept in KEPT[:2]:
        gradients[f"`while_loop`, `checkpoints={kept}`"] = wg.grad(
            partial(looped, steps=steps, body=body, checkpoints=kept)
        )
    samplers = [harness.calibrated(partial(gradient, x)).sample for gradient in gradients.values()]
    medians = harness.medians_in_turn(samplers, REPETITIONS)
    rows = [[name, format_seconds(seconds / steps)] for name, seconds in zip(gradients, medians, strict=True)]
    return "Loops: a step of four operations on 100 numbers, in value and gradient", ("", "time for each step"), rows


def fingerprints() -> Table:
    """Measure how fast fingerprints of an array are taken."""
    array = np.random.default_rng(0).uniform(-1, 1, 1 << 19)
    into = np.empty_like(array)
    works: dict[str, Callable[[], object]] = {
        "CRC-32": partial(zlib.crc32, array.data),
        "Adler-32": partial(zlib.adler32, array.data),
        "Wengert's: integer sums of columns and rows, then CRC-32 of these": partial(fingerprint, array),
        "for comparison: `exp` in NumPy": partial(np.exp, array, into),
        "for comparison: `x * x` in NumPy": partial(np.multiply, array, array, into),
    }
    samplers = [harness.calibrated(work).sample for work in works.values()]
    medians = harness.medians_in_turn(samplers, REPETITIONS)
    rows = [[name, f"{array.nbytes / s / 1e9:.0f}"] for name, s in zip(works, medians, strict=True)]
    return "Fingerprints of 4 MB", ("", "GB/s"), rows


TABLES: dict[str, Callable[[], Table]] = {
    made.__name__: made for made in (transforms, matrices, memory, loop_memory, loop_time, fingerprints)
}


def markdown(tables: Iterable[Table], facts: dict[str, str]) -> str:
    """Return the whole report as a page."""
    lines = ["# What transforms and loops cost", "", "Written by `python -m benchmarks.costs`.", ""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items()]
    for title, heads, rows in tables:
        rule = ["---", *["---:"] * (len(heads) - 1)]
        lines += ["", f"## {title}", "", markdown_row(heads), markdown_row(rule), *(markdown_row(row) for row in rows)]
    return "\n".join([*lines, "", NOTE]) + "\n"


def main() -> int:
    """Measure, print, and keep the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--only", choices=TABLES, action="append", help="leave out the other tables")
    parser.add_argument("--output", type=Path, help="where to keep the tables")
    options = parser.parse_args()
    wg.set_default_dtype("float64")
    facts = machine.describe(["wengert"])
    tables: list[Table] = []
    with Console(stderr=True).status("") as status:
        for name in options.only or TABLES:
            status.update(name)
            tables.append(TABLES[name]())
    page = markdown(tables, facts)
    print(page, end="")
    output = options.output or (None if options.only else RESULTS / "costs.md")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
