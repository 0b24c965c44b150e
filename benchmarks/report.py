"""The table: for a person at a terminal, and in Markdown to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rich.table import Table
from rich.text import Text

from benchmarks.engines import PYTORCH, WENGERT, Engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.harness import Comparison

DASH = "–"
MEASURED = ("work", "ratio", "limit", "spread")


@dataclass(frozen=True)
class Layout:
    """What a table says besides its figures, and which engines it has beside Wengert and PyTorch."""

    title: str
    references: tuple[Engine, ...]
    note: str

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Every engine that has a column, in order."""
        return WENGERT, PYTORCH, *self.references

    @property
    def columns(self) -> list[str]:
        """The heads of the columns."""
        return [*MEASURED, *(engine.title for engine in self.engines)]


@dataclass
class Row:
    """One line of the table.

    Per engine, `figures` holds a formatted median, or the reason why there is none; `ways`, those of every way of
    writing the work, where there are several.
    """

    title: str
    limit: float | None
    comparison: Comparison | None = None
    figures: dict[str, str] = field(default_factory=dict)
    ways: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def kept(self) -> bool | None:
        """Whether the ratio is within its limit; None where there is no limit or no ratio."""
        if self.limit is None or self.comparison is None:
            return None
        return self.comparison.ratio <= self.limit

    def cells(self, layout: Layout) -> list[str]:
        """Return the text of every column."""
        mark = {True: " ✓", False: " ✗", None: ""}[self.kept]
        ratio = spread = DASH
        if self.comparison is not None:
            ratio = f"{self.comparison.ratio:.2f}{mark}"
            spread = "{:.2f} to {:.2f}".format(*self.comparison.spread)
        limit = DASH if self.limit is None else f"{self.limit:g}"
        return [self.title, ratio, limit, spread, *(self.figures.get(engine.title, DASH) for engine in layout.engines)]


def format_seconds(seconds: float) -> str:
    """Format a duration to three significant digits."""
    return _scaled(seconds, [("days", 86400.0), ("h", 3600.0), ("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)])


def format_bytes(count: float) -> str:
    """Format an amount of memory to three significant digits."""
    return _scaled(count, [("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)])


def _scaled(value: float, units: list[tuple[str, float]]) -> str:
    name, size = next(((name, size) for name, size in units if value >= size), units[-1])
    scaled = value / size
    digits = max(0, 2 - math.floor(math.log10(scaled))) if scaled > 0 else 0
    return f"{scaled:.{digits}f} {name}"


def terminal_table(layout: Layout, rows: Iterable[Row]) -> Table:
    """Lay the rows out for a terminal, limits kept in green and limits missed in red."""
    table = Table(*layout.columns, title=layout.title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        style = {True: "bold green", False: "bold red", None: ""}[row.kept]
        title, ratio, *others = row.cells(layout)
        table.add_row(title, Text(ratio, style=style), *others)
    return table


def markdown(layout: Layout, rows: Sequence[Row], facts: Mapping[str, str], command: str) -> str:
    """Return the whole report as a page."""
    lines = [
        f"# {layout.title}",
        "",
        f"Written by `{command}`.",
        "",
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        "",
        markdown_row(layout.columns),
        markdown_row(["---", *["---:"] * (len(layout.columns) - 1)]),
        *(markdown_row(row.cells(layout)) for row in rows),
        "",
        layout.note,
    ]
    if ways := ways_lines(rows):
        lines += ["", "## Ways", "", *ways]
    return "\n".join(lines) + "\n"


@dataclass
class Section:
    """A table of the page, with what is said below it."""

    title: str
    heads: Sequence[str]
    rows: list[list[str]]
    note: str
    lines: list[str] = field(default_factory=list)

    def markdown(self) -> list[str]:
        """Return the lines of the page."""
        rule = ["---", *["---:"] * (len(self.heads) - 1)]
        table = [markdown_row(self.heads), markdown_row(rule), *map(markdown_row, self.rows)]
        return ["", f"## {self.title}", "", *table, "", self.note, *([""] if self.lines else []), *self.lines]


def page(title: str, command: str, facts: Mapping[str, str], sections: Iterable[Section]) -> str:
    """Return a report of several tables as a page."""
    lines = [f"# {title}", "", f"Written by `{command}`.", "", *(f"- {name}: {fact}" for name, fact in facts.items())]
    for section in sections:
        lines += section.markdown()
    return "\n".join(lines) + "\n"


class Tried(Protocol):
    """What has a title, and the medians of all ways that an engine has of writing the work."""

    title: str
    ways: dict[str, dict[str, str]]


def ways_lines(rows: Iterable[Tried]) -> list[str]:
    """List in which ways the engines that have several did each piece of work, and what each way took."""
    lines: list[str] = []
    for row in rows:
        if row.ways:
            lines.append(f"- {row.title}")
        for engine, ways in row.ways.items():
            lines.append(f"  - {engine}: {', '.join(f'{way} {median}' for way, median in ways.items())}")
    return lines


def markdown_row(cells: Iterable[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
