"""Draws the pictures of docs/guide/nesting.md: `python docs/make_pictures.py` (needs matplotlib)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PICTURES = Path(__file__).parent / "pictures"
# Colours of M. Okabe and K. Ito, which people tell apart however they see them.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
plt.rcParams.update({"font.size": 12, "font.family": "DejaVu Sans"})


def canvas(width: float, height: float) -> tuple[Any, Any]:
    figure, axes = plt.subplots(figsize=(width, height))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    return figure, axes


def box(axes: Any, x: float, y: float, width: float, height: float, text: str, colour: str, **style: Any) -> None:
    shape = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.08", facecolor=colour + "1A", edgecolor=colour
    )
    axes.add_patch(shape)
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", **style)


def arrow(axes: Any, begin: tuple[float, float], end: tuple[float, float], colour: str = GREY) -> None:
    axes.add_patch(FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=14, color=colour, linewidth=1.4))


def save(figure: Any, name: str) -> None:
    figure.savefig(PICTURES / f"{name}.png", dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def levels() -> None:
    figure, axes = canvas(10, 4.6)
    axes.text(0.1, 4.3, "wg.jvp(wg.grad(f), (x,), (v,))", family="monospace", fontsize=13)
    box(axes, 0.1, 2.5, 9.7, 1.5, "", BLUE)
    axes.text(0.3, 3.72, "the level of jvp", color=BLUE)
    box(axes, 0.1, 0.2, 9.7, 1.9, "", GREEN)
    axes.text(9.6, 0.28, "the ground: exact Tensors over arrays", color=GREEN, ha="right")
    for i, name in enumerate(["x", "y = f(x)", "gradient"]):
        left = 0.5 + 3.2 * i
        box(axes, left, 2.75, 2.2, 0.7, f"tracer {name}", BLUE)
        box(axes, left, 0.75, 1.0, 0.8, "value", GREEN)
        box(axes, left + 1.2, 0.75, 1.0, 0.8, "tangent", ORANGE)
        arrow(axes, (left + 0.7, 2.72), (left + 0.5, 1.61))
        arrow(axes, (left + 1.5, 2.72), (left + 1.7, 1.61))
    arrow(axes, (2.75, 3.1), (3.65, 3.1), BLUE)
    axes.text(3.2, 3.25, "tape", ha="center", color=BLUE)
    arrow(axes, (5.95, 3.1), (6.85, 3.1), BLUE)
    axes.text(6.4, 3.25, "sweep", ha="center", color=BLUE)
    save(figure, "nesting-levels")


def modes() -> None:
    figure, axes = canvas(10, 3.4)
    rows = [
        ("forward: jvp", "values and tangents, left to right; nothing is kept", 0.18, BLUE),
        ("reverse: grad", "values left to right, kept; cotangents right to left", 0.55, GREEN),
        ("forward over reverse: jvp of grad", "the same with tangents beside everything", 0.8, ORANGE),
    ]
    for i, (name, what, memory, colour) in enumerate(rows):
        y = 2.5 - i
        axes.text(0.1, y + 0.32, name, fontsize=12, color=colour)
        axes.text(0.1, y - 0.02, what, fontsize=10, color=GREY)
        for k in range(5):
            left = 5.2 + 0.9 * k
            box(axes, left, y, 0.55, 0.5, "", colour)
            if k < 4:
                if i != 1:
                    arrow(axes, (left + 0.58, y + 0.25), (left + 0.87, y + 0.25), colour)
                else:
                    arrow(axes, (left + 0.58, y + 0.36), (left + 0.87, y + 0.36), colour)
                    arrow(axes, (left + 0.87, y + 0.13), (left + 0.58, y + 0.13), colour)
            if i == 2 and k < 4:
                arrow(axes, (left + 0.87, y + 0.08), (left + 0.58, y + 0.08), colour)
            if memory > 0.2:
                axes.plot([left + 0.1, left + 0.45], [y - 0.09, y - 0.09], color=colour, linewidth=2 if i == 1 else 4)
    axes.text(7.2, 0.02, "lines under boxes: what stays in memory", fontsize=10, color=GREY, ha="center")
    save(figure, "nesting-modes")


def mapped() -> None:
    figure, axes = canvas(10, 3.0)
    axes.text(0.1, 2.7, "wg.vmap(f)(xs)", family="monospace", fontsize=13)
    box(axes, 0.3, 0.7, 3.2, 1.2, "f sees one vector\nof shape (3,)", BLUE)
    arrow(axes, (3.6, 1.3), (5.0, 1.3))
    axes.text(4.3, 1.45, "holds", ha="center", color=GREY)
    for row in range(4):
        for column in range(3):
            box(axes, 5.3 + 0.62 * column, 1.85 - 0.5 * row, 0.5, 0.38, "", GREEN)
    axes.text(6.2, 2.45, "shape (4, 3)", ha="center", color=GREEN)
    axes.text(7.4, 1.5, "the axis of the examples:\nevery operation runs once,\non all rows", va="center", color=GREY)
    arrow(axes, (5.1, 2.2), (5.1, 0.35), ORANGE)
    save(figure, "nesting-vmap")


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    levels()
    modes()
    mapped()
