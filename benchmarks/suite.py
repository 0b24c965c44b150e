"""A table as a program: its command line, the run through its rows, and the page that keeps it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks import machine
from benchmarks.report import Layout, Row, markdown, terminal_table, ways_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.measurement import Measurement

RESULTS = Path(__file__).resolve().parent / "results"
PAGE_WIDTH = 180


@dataclass(frozen=True)
class Suite:
    """Measurements that make one table. A run of them all is kept in `benchmarks/results`, in the file named."""

    program: str
    description: str
    layout: Layout
    measurements: Mapping[str, Measurement]
    file: str

    def main(self) -> int:
        """Measure, print and keep the table; return 1 if any ratio is missing."""
        options = self._arguments()
        facts = machine.describe(dict.fromkeys(engine.library for engine in self.layout.engines))
        console = Console()
        if not console.is_terminal:
            console = Console(width=PAGE_WIDTH)
        rows: list[Row] = []
        with Console(stderr=True).status("") as status:
            for name in options.only or self.measurements:
                status.update(self.measurements[name].title)
                rows.append(self.measurements[name].run(self.layout.references, options.repetitions))
        console.print(terminal_table(self.layout, rows))
        console.print("\n".join(ways_lines(rows)), highlight=False)
        console.print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), highlight=False)
        console.print(self.layout.note, highlight=False)
        output = options.output or (None if options.only else RESULTS / self.file)
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(markdown(self.layout, rows, facts, f"python -m {self.program}"), encoding="utf-8")
        return 1 if any(row.comparison is None for row in rows) else 0

    def _arguments(self) -> argparse.Namespace:
        """Read the command line."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.program}", description=self.description)
        names = self.measurements
        parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
        parser.add_argument("--repetitions", type=int, metavar="N", help="samples of each engine in each row")
        parser.add_argument("--output", type=Path, help="where to keep the table")
        return parser.parse_args()
