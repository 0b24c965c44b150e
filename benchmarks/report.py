"""The table: for a person at a terminal, and in Markdown to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from benchmarks.engines import PYTORCH, REFERENCES, WENGERT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.harness import Comparison

DASH = "–"
COLUMNS = ["work", "ratio", "limit", "spread", *(engine.title for engine in (WENGERT, PYTORCH, *REFERENCES))]
NOTE = """\
Ratio: Wengert's median over PyTorch's (over NumPy's for `import`). Spread: the quartiles of the ratios of the pairs.
The two are run in turn in one process, in repetitions of at least 20 ms, with default threads, the cycle collector on.
An import is timed in a fresh process, from its start to its end. Peak memory is what a fresh process adds, over a few
steps, to what is resident once the library is loaded and has trained a tiny model. Other columns are medians."""


@dataclass
class Row:
    """One line of the table. `figures` holds a formatted median, or the reason why there is none, per engine."""

    title: str
    limit: float | None
    comparison: Comparison | None = None
    figures: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> bool | None:
        """Whether the ratio is within its limit; None where there is no limit or no ratio."""
        if self.limit is None or self.comparison is None:
            return None
        return self.comparison.ratio <= self.limit

    def cells(self) -> list[str]:
        """Return the text of every column."""
        mark = {True: " ✓", False: " ✗", None: ""}[self.kept]
        ratio = spread = DASH
        if self.comparison is not None:
            ratio = f"{self.comparison.ratio:.2f}{mark}"
            spread = "{:.2f} to {:.2f}".format(*self.comparison.spread)
        limit = DASH if self.limit is None else f"{self.limit:g}"
        return [self.title, ratio, limit, spread, *(self.figures.get(title, DASH) for title in COLUMNS[4:])]


def format_seconds(seconds: float) -> str:
    """Format a duration to three significant digits."""
    return _scaled(seconds, [("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)])


def format_bytes(count: float) -> str:
    """Format an amount of memory to three significant digits."""
    return _scaled(count, [("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)])


def _scaled(value: float, units: list[tuple[str, float]]) -> str:
    name, size = next(((name, size) for name, size in units if value >= size), units[-1])
    scaled = value / size
    digits = max(0, 2 - math.floor(math.log10(scaled))) if scaled > 0 else 0
    return f"{scaled:.{digits}f} {name}"


def terminal_table(rows: Iterable[Row]) -> Table:
    """Lay the rows out for a terminal, limits kept in green and limits missed in red."""
    table = Table(*COLUMNS, title="Wengert against PyTorch, eager", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        style = {True: "bold green", False: "bold red", None: ""}[row.kept]
        title, ratio, *others = row.cells()
        table.add_row(title, Text(ratio, style=style), *others)
    return table


def markdown(rows: Iterable[Row], facts: Mapping[str, str], command: str) -> str:
    """Return the whole report as a page."""
    lines = [
        "# Wengert against PyTorch, eager",
        "",
        f"Written by `{command}`.",
        "",
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        "",
        _markdown_row(COLUMNS),
        _markdown_row(["---", *["---:"] * (len(COLUMNS) - 1)]),
        *(_markdown_row(row.cells()) for row in rows),
        "",
        NOTE,
    ]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
