"""Measure `wg.compile` beside PyTorch eager, `torch.compile` and `jax.jit`: `python -m benchmarks.compiled`.

A full run keeps its tables in `benchmarks/results/compiled.md`, row by row. It takes twenty minutes or more, most of
which goes to `torch.compile`; `--without pytorch_compile` leaves that out, `--section` and `--only` choose parts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console

from benchmarks import contest, fresh, machine
from benchmarks.contest import Contest, Standing
from benchmarks.engines import (
    JAX_STEPS,
    PYTORCH_AUTOCAST,
    PYTORCH_STEPS,
    TORCH_COMPILE,
    WENGERT_BFLOAT16,
    WENGERT_COMPILE,
    WENGERT_STEPS,
    Engine,
)
from benchmarks.keeping import PATIENCE, Keeper
from benchmarks.measurement import reported
from benchmarks.models import MANY, SMALL
from benchmarks.report import Section, format_bytes, format_seconds, ways_lines
from benchmarks.suite import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

RIVALS = (PYTORCH_STEPS, TORCH_COMPILE, JAX_STEPS)
ENTRANTS = (WENGERT_COMPILE, WENGERT_STEPS, *RIVALS)
TITLES = {
    "mlp-small": "MLP 64-32-10, batch 32, step of Adam",
    "mlp-medium": "MLP 784-256-10, batch 64, step of Adam",
    "mlp-large": "MLP 784-1024-1024-10, batch 128, step of Adam",
    "cnn": "CNN on 28 x 28, 16 and 32 channels, batch 64, step of Adam",
    "gpt": "GPT, 4 layers, 128 wide, 64 tokens, batch 16, step of Adam",
    "chain": "300 operations on 10 float64 elements, gradient",
    "lstm": "LSTM 64-128, 50 steps, batch 32, step of Adam",
    "gmm": "Gaussian mixture of ADBench, 1,000 points, 25 components, float64, gradient",
    "heat": "Heat equation, 512 x 512, 50 steps, gradient of the first field",
    "hvp": "Hessian-vector product, MLP 784-256-10, batch 64",
    "elementwise": "12 operations on 1,000,000 float32 elements, gradient",
}
COMPILED_LIMITS = {
    **{"mlp-small": 0.25, "mlp-medium": 0.5, "mlp-large": 0.8, "cnn": 0.45, "gpt": 0.6},
    **{"chain": 0.15, "lstm": 0.5, "gmm": 0.5, "heat": 0.5, "hvp": 0.5},
}
EAGER_LIMITS = {"elementwise": 0.8, "gpt": 1.0, "cnn": 0.8}
AUTOCAST_LIMITS = {"mlp-large": 0.8, "cnn": 0.8, "gpt": 0.8}
NARROW_LIMIT = 0.5
FIRST_CALL_LIMIT, MEMORY_LIMIT, OVERHEAD_LIMIT = 0.3, 0.8, 15e-6
FRESH_REPETITIONS = 3
# A first call of torch.compile takes up to minutes; its spread is small beside its distance from the others.
SLOW_REPETITIONS = 1

STEPS_NOTE = """\
Ratio: Wengert's median over that of the best rival, which is in bold. Spread: the quartiles of the ratios of the
rounds. Target: the limit times the best rival's median. All engines run in turn in one process, in repetitions of at
least 40 ms, with default threads, the cycle collector on, from the same weights and data. Before anything is timed, the
losses of 10 steps are compared with those of a run in float64, and gradients with PyTorch's; `benchmarks/agreement.py`
derives how far rounding may take them. Where a library has several ways to write a piece of work, all are timed, and
the table has the fastest. JAX's state is donated. Compilation is not in these figures."""
EAGER_NOTE = "Ratio: Wengert's median, uncompiled, over that of PyTorch eager; otherwise as above."
NARROW_NOTE = """\
`wg.compile(..., compute_dtype=wg.bfloat16)` beside PyTorch eager with `torch.autocast`, and beside itself in float32,
in the same rounds. Losses are compared with PyTorch's in float64, too; how far they may be from them follows from
PyTorch's with autocast. The second limit is for processors that multiply tiles of bfloat16 (AMX). Those that multiply
pairs (AVX512_BF16) do at most twice as many multiply-adds as in float32, and memory is no faster."""
FIRST_NOTE = """\
Each engine and work in a fresh process with empty caches, in the first of its ways: the first three calls, less what
two cost once all is made, so that work put off to a later call counts. Ratio: to `jax.jit`. One sample of
`torch.compile`, the median of three of the others. From the second call on, Wengert compiles the code of small programs
once more, better, in the background: of that only what it takes away from those calls is in here."""
MEMORY_NOTE = """\
The most that was resident in those processes, over ten calls; processes that a compiler starts are not in it."""
BEYOND_NOTE = """\
The same less what was resident once the library was imported: data, and all that is loaded or compiled on first use."""
OVERHEAD_NOTE = f"""\
A step of SGD on {MANY} parameters of {SMALL} elements. What the kernels take of it is put at the time of the same step
on one parameter of {MANY * SMALL:,} elements, less that on a single element, which is what a call takes. Kernels for
many arrays do no less than those for one, so that what remains is, if anything, too much."""


@dataclass(frozen=True)
class Choice:
    """What of all is measured, and how often."""

    works: Sequence[str]
    repetitions: int
    tell: Callable[[str], None]
    without: Sequence[str] = ()
    patience: float = PATIENCE

    def of(self, names: Iterable[str]) -> list[str]:
        """Return the names that are wanted."""
        return [name for name in names if name in self.works]

    def among(self, engines: Sequence[Engine]) -> tuple[Engine, ...]:
        """Return the engines that are wanted."""
        return tuple(engine for engine in engines if engine.module not in self.without)


Progress: TypeAlias = "Iterator[list[Section]]"
"""The tables of a part as they grow: yielded after every row, the whole of it at last."""


def _timed(choice: Choice, limits: dict[str, float], title: str, note: str, engines: tuple[Engine, ...]) -> Progress:
    """Time works; the first engine is set beside those that are rivals of it."""
    engines = choice.among(engines)
    subject, *rest = engines
    rivals = tuple(engine for engine in rest if engine in RIVALS)
    others = tuple(engine for engine in rest if engine not in RIVALS)
    section = Section(title, [*contest.HEADS, *(engine.title for engine in engines)], [], note)
    for name in choice.of(limits):
        choice.tell(f"{title}: {TITLES[name]}")
        entry = Contest(TITLES[name], limits[name], name, subject, rivals, others, seconds=choice.patience)
        standing = entry.run(choice.repetitions)
        section.rows.append(standing.cells(engines))
        section.lines += ways_lines([standing])
        yield [section]


def steps(choice: Choice) -> Progress:
    """Time compiled works beside all rivals."""
    return _timed(choice, COMPILED_LIMITS, "Compiled", STEPS_NOTE, ENTRANTS)


def eager(choice: Choice) -> Progress:
    """Time uncompiled works beside PyTorch eager."""
    return _timed(choice, EAGER_LIMITS, "Eager", EAGER_NOTE, (WENGERT_STEPS, PYTORCH_STEPS))


def narrow(choice: Choice) -> Progress:
    """Time products in bfloat16: beside PyTorch's, and beside float32."""
    engines = (WENGERT_BFLOAT16, PYTORCH_AUTOCAST, WENGERT_COMPILE)
    heads = [*contest.HEADS, *(engine.title for engine in engines)]
    section = Section("Products and convolutions in bfloat16", heads, [], NARROW_NOTE)
    for name in choice.of(AUTOCAST_LIMITS):
        choice.tell(f"bfloat16: {TITLES[name]}")
        entry = Contest(
            TITLES[name], AUTOCAST_LIMITS[name], name, WENGERT_BFLOAT16, (PYTORCH_AUTOCAST,), (WENGERT_COMPILE,)
        )
        standing = entry.run(choice.repetitions)
        beside = replace(standing, title=f"{TITLES[name]}, to float32", limit=NARROW_LIMIT)
        section.rows.append(standing.cells(engines))
        section.rows.append(beside.against(WENGERT_BFLOAT16, (WENGERT_COMPILE,)).cells(engines))
        section.lines += ways_lines([standing])
        yield [section]


def fresh_runs(choice: Choice) -> Progress:
    """Measure first calls and peaks of memory, each in a process of its own."""
    entrants, rivals = choice.among(ENTRANTS), choice.among(RIVALS)
    heads = [*contest.SUMMARY_HEADS, *(engine.title for engine in entrants)]
    notes = {"First calls": FIRST_NOTE, "Peak memory": MEMORY_NOTE, "Memory beyond the library": BEYOND_NOTE}
    sections = {title: Section(title, heads, [], note) for title, note in notes.items()}
    for name in choice.of(COMPILED_LIMITS):
        seconds = Standing(TITLES[name], FIRST_CALL_LIMIT, WENGERT_COMPILE, (JAX_STEPS,))
        peaks, added = (
            Standing(TITLES[name], limit, WENGERT_COMPILE, rivals, format_bytes) for limit in (MEMORY_LIMIT, None)
        )
        for engine in entrants:
            choice.tell(f"Fresh process: {engine.title}, {TITLES[name]}")
            with reported(seconds.figures, engine):
                runs = [fresh.first_run(engine, name, choice.patience) for _ in range(_fresh_repetitions(engine))]
                seconds.samples[engine] = [run.seconds for run in runs]
                peaks.samples[engine] = [float(run.peak) for run in runs]
                added.samples[engine] = [float(run.added) for run in runs]
        peaks.figures = added.figures = seconds.figures
        for section, standing in zip(sections.values(), (seconds, peaks, added), strict=True):
            section.rows.append(standing.summary(entrants))
        yield list(sections.values())


def _fresh_repetitions(engine: Engine) -> int:
    return SLOW_REPETITIONS if engine is TORCH_COMPILE else FRESH_REPETITIONS


def overhead(choice: Choice) -> Progress:
    """Measure what a call with many parameters costs beyond its kernels."""
    rows: list[list[str]] = []
    names = ("many-parameters", "one-parameter", "one-tiny")
    standings: dict[str, Standing] = {}
    for name in names:
        choice.tell(f"Cost of a call: {name}")
        rivals = choice.among(RIVALS)
        entry = Contest(name, None, name, WENGERT_COMPILE, rivals, (WENGERT_STEPS,), seconds=choice.patience)
        standings[name] = entry.run(choice.repetitions)
    for engine in choice.among(ENTRANTS):
        measured = [standing.samples.get(engine) for standing in standings.values()]
        if any(samples is None for samples in measured):
            rows.append([engine.title, *["–"] * len(names), standings[names[0]].figures.get(engine.title, "–")])
            continue
        many, one, tiny = (statistics.median(samples or []) for samples in measured)
        beyond = max(many - max(one - tiny, 0.0), 0.0)
        mark = (" ✓" if beyond <= OVERHEAD_LIMIT else " ✗") if engine is WENGERT_COMPILE else ""
        rows.append([engine.title, *map(format_seconds, (many, one, tiny)), format_seconds(beyond) + mark])
    heads = (
        "engine",
        f"{MANY} parameters",
        "one parameter, as many elements",
        "one element",
        f"beyond the kernels (limit {format_seconds(OVERHEAD_LIMIT)})",
    )
    yield [Section("Cost of a call", heads, rows, OVERHEAD_NOTE, ways_lines([standings[names[0]]]))]


SECTIONS: dict[str, Callable[[Choice], Progress]] = {
    "steps": steps,
    "eager": eager,
    "bfloat16": narrow,
    "fresh": fresh_runs,
    "overhead": overhead,
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--section", action="append", choices=SECTIONS, help="leave out the other tables")
    parser.add_argument("--only", action="append", choices=TITLES, metavar="NAME", help=", ".join(TITLES))
    parser.add_argument(
        "--without", action="append", default=[], choices=[engine.module for engine in RIVALS], help="leave out a rival"
    )
    parser.add_argument("--repetitions", type=int, default=contest.REPETITIONS, metavar="N", help="rounds of each row")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="S", help="seconds to set an engine up")
    parser.add_argument("--output", type=Path, help="where to keep the tables")
    return parser.parse_args()


def main() -> int:
    """Measure, print, and keep the tables."""
    options = arguments()
    if machine.is_busy():
        print(
            "Others are at work on this machine: threads that spin wait for them, and figures tell little.",
            file=sys.stderr,
        )
    facts = machine.describe(("wengert", "llvmlite", "torch", "jax", "jaxlib"))
    part = options.only or options.section or options.without
    output = options.output or (None if part else RESULTS / "compiled.md")
    keeper = Keeper("Compiled: Wengert against PyTorch, torch.compile and JAX", _command(options), facts, output)
    done: list[Section] = []
    with Console(stderr=True).status("") as status:
        choice = Choice(
            options.only or tuple(TITLES), options.repetitions, status.update, options.without, options.patience
        )
        for name in options.section or SECTIONS:
            current: list[Section] = []
            for current in SECTIONS[name](choice):
                keeper.keep([*done, *current])
            done += current
    keeper.finish(done)
    return 0


def _command(options: argparse.Namespace) -> str:
    """Return the command that measures the same."""
    words = ["python -m benchmarks.compiled"]
    for option in ("section", "only", "without"):
        words += [f"--{option} {value}" for value in getattr(options, option) or ()]
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
