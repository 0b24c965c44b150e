"""What a compiled function consists of, for people: programs, why each was made, kernels, bytes, times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .graph import Equation

LONG = 50_000
"""Operations of a program from which on whoever waits for it is told why: some five seconds."""


def reason_for_length(equations: Sequence[Equation]) -> str:
    """Return why a program is so long that making it takes seconds, and what to do; empty if it is not."""
    if len(equations) < LONG:
        return ""
    (line, count), *_ = Counter([equation.outputs[0].where for equation in equations]).most_common(1)
    return (
        f"{len(equations):,} operations are made into one program, which takes about {len(equations) / 1e4:.0f} "
        f"seconds; {count:,} of them are of {line}. Loops of Python's are followed step by step; wg.scan is "
        "one loop whatever its length, if its steps need nothing of Python. Else compile what a loop repeats, "
        "wg.scan(wg.compile(body), ...), or train on shorter pieces"
    )


@dataclass
class KernelReport:
    """One kernel of a program, or one operation that the host computes.

    Attributes:
        name: of the kernel: what is fused in it, and a digest of its code; or "host: " and an operation.
        runs: how often the program runs it.
        flops, moved: arithmetic operations, and bytes read and written at least, of all runs together.
        seconds: time of all runs together, in one run of the program; None if it was not taken.
    """

    name: str
    runs: int = 0
    flops: int = 0
    moved: int = 0
    seconds: float | None = None


@dataclass
class ProgramReport:
    """One program of a compiled function.

    Attributes:
        number: which one, counted from 1 in the order in which they were made.
        reason: why it was made.
        arguments: what it is for.
        operations: how many operations the function did.
        capture_seconds, compile_seconds: what it took to run the function on tracers, and to make the program.
        kernels: what it runs.
        questions: lines of the user's code that ask for values, and what the answers were on this path.
    """

    number: int
    reason: str
    arguments: str
    operations: int
    capture_seconds: float
    compile_seconds: float
    kernels: list[KernelReport] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = (
            f"program {self.number}, for ({self.arguments}): {self.reason}\n"
            f"  {self.operations} operations, captured in {1e3 * self.capture_seconds:.1f} ms; "
            f"{sum([kernel.runs for kernel in self.kernels])} runs of {len(self.kernels)} kernels, made in "
            f"{1e3 * self.compile_seconds:.1f} ms"
        )
        return "\n".join([head, *[f"  on the path where {question}" for question in self.questions], *self._table()])

    def _table(self) -> list[str]:
        width = max([6, *[len(kernel.name) for kernel in self.kernels]])
        lines = [f"  {'kernel':{width}}  runs     Mflop        kB        us"]
        for kernel in sorted(self.kernels, key=_cost, reverse=True):
            time = "-" if kernel.seconds is None else f"{1e6 * kernel.seconds:.1f}"
            lines.append(
                f"  {kernel.name:{width}}  {kernel.runs:4d}  {kernel.flops / 1e6:8.2f}  {kernel.moved / 1e3:8.1f}  "
                f"{time:>8}"
            )
        return lines


def _cost(kernel: KernelReport) -> tuple[float, int]:
    return (kernel.seconds or 0.0, kernel.moved)


@dataclass
class Explanation:
    """What a compiled function consists of; printed, it is a report to read.

    Attributes:
        name: of the function.
        programs: its programs, in the order in which they were made.
        notes: what else there is to say: why it is run as it is, if it is; how often it was.
    """

    name: str
    programs: list[ProgramReport]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        count = len(self.programs)
        lines = [f"compile({self.name}): {count} program{'' if count == 1 else 's'}"]
        return "\n".join([*lines, *self.notes, *map(str, self.programs)])


def merged(entries: Sequence[tuple[str, int, int, float | None]]) -> list[KernelReport]:
    """Return one report for each name of (name, flops, bytes moved, seconds or None) of runs of kernels."""
    reports: dict[str, KernelReport] = {}
    for name, flops, moved, seconds in entries:
        report = reports.setdefault(name, KernelReport(name))
        report.runs += 1
        report.flops += flops
        report.moved += moved
        if seconds is not None:
            report.seconds = (report.seconds or 0.0) + seconds
    return list(reports.values())


def described(kinds: Sequence[Any]) -> str:
    """Return what a program is for, as it is written in `explain`: `float32[64, 784]`, or the value of a static one."""
    return ", ".join(map(str, kinds))
