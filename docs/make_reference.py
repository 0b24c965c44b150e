"""Writes docs/reference/operations.md from the declarations themselves: one line for every operation."""

from __future__ import annotations

import sys
from pathlib import Path

import wengert as wg
from wengert.core.primitive import REGISTRY

PAGE = Path(__file__).parent / "reference" / "operations.md"
HEADER = """# Operations

Written by `make docs` from the declarations in `src/wengert/ops`; a test keeps it up to date. The kind says what is
derived: an elementwise operation is declared by its partials, a linear one by its transpose, a reduction by its partial
with respect to each element; both modes, any order and batching follow. Every line is checked by the generated suite.

"""


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split()).replace("|", "\\|")


def _points(special: object) -> str:
    points = []
    for point in special or ():  # type: ignore[attr-defined]
        at = ", ".join(f"{v:g}" for v in point.point)
        slopes = ", ".join("-" if p is None else f"{p:g}" for p in point.partials)
        points.append(f"at {at}: {point.out:g}, slope {slopes}")
    return "; ".join(points)


def page() -> str:
    """Return the whole page."""
    lines = [
        HEADER,
        "## Primitives\n",
        "| operation | kind | what it computes | declared at special points |",
        "|---|---|---|---|",
    ]
    for primitive in sorted(REGISTRY, key=lambda p: p.name):
        points = _points(primitive.special)
        lines.append(f"| `{primitive.name}` | {primitive.kind} | {_sentence(primitive.call.__doc__)} | {points} |")
    public = sorted(
        name
        for name in wg.__all__
        if name not in REGISTRY
        and callable(getattr(wg, name))
        and getattr(getattr(wg, name), "__module__", "").startswith("wengert")
    )
    lines += ["\n## Functions made of them\n", "| function | what it computes |", "|---|---|"]
    lines += [f"| `wg.{name}` | {_sentence(getattr(wg, name).__doc__)} |" for name in public]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
