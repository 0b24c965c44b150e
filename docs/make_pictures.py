"""Draw the pictures of the guides: `python docs/make_pictures.py` writes them to `docs/pictures`.

Two are drawn by hand. The third is measured: what a chain of operations keeps in memory while it is differentiated.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

import wengert as wg

PICTURES = Path(__file__).resolve().parent / "pictures"
# The palette of Okabe and Ito, which colour-blind readers can tell apart, with a purple that is dark enough for text.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#5F6368"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
OPERATIONS = 40
ELEMENTS = 1 << 17


def canvas(width: float, height: float) -> tuple[Any, Any]:
    """Return (figure, axes) without frame, in which a unit is a tenth of an inch."""
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 10 * width)
    axes.set_ylim(0, 10 * height)
    axes.axis("off")
    return figure, axes


def band(axes: Any, x: float, y: float, width: float, height: float, colour: str) -> None:
    """Draw the background of a level."""
    shape = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0,rounding_size=1.2", facecolor=colour, alpha=0.09, edgecolor="none"
    )
    axes.add_patch(shape)


def cell(axes: Any, x: float, y: float, width: float, height: float, text: str, colour: str, fill: float = 0.0) -> None:
    """Draw a box with text in it."""
    axes.add_patch(Rectangle((x, y), width, height, facecolor="white", edgecolor="none"))
    axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, alpha=fill, edgecolor="none"))
    axes.add_patch(Rectangle((x, y), width, height, facecolor="none", edgecolor=colour, linewidth=1.4))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color="black", fontsize=10.5)


def pair(axes: Any, x: float, y: float, value: str, tangent: str, width: float = 10.4) -> None:
    """Draw a tracer of forward mode: a value and its tangent."""
    cell(axes, x, y, width / 2, 3.4, value, BLUE, 0.12)
    cell(axes, x + width / 2, y, width / 2, 3.4, tangent, ORANGE, 0.16)


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], colour: str, dashed: bool = False) -> None:
    """Draw an arrow."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=13,
            linewidth=1.5,
            color=colour,
            linestyle="--" if dashed else "-",
            shrinkA=0,
            shrinkB=0,
        )
    )


def note(axes: Any, x: float, y: float, text: str, colour: str = "black", **options: Any) -> None:
    """Write text."""
    axes.text(x, y, text, color=colour, **{"ha": "left", "va": "center", "fontsize": 10.5, **options})


def draw_levels() -> Any:
    """Draw `jvp(grad(f))`: a tape that is made of pairs."""
    figure, axes = canvas(9.6, 5.6)
    band(axes, 2, 20.5, 92, 33.5, BLUE)
    note(axes, 4, 51.3, "level of jvp", BLUE, fontweight="bold", fontsize=12)
    note(axes, 20, 51.3, "every Tensor is a pair (value, tangent); on this level lies the tape of grad", GREY)
    columns = (22.0, 48.0, 74.0)
    above, below = 42.0, 26.5
    note(axes, 4, above + 1.7, "run of f,\nrecorded", GREY)
    for x, value, tangent in zip(columns, (r"$x$", r"$y$", r"$z$"), (r"$v$", r"$\dot y$", r"$\dot z$")):
        pair(axes, x, above, value, tangent)
    for x, operation in zip(columns, ("y = sin(x)", "z = sum(x y)")):
        arrow(axes, (x + 11.0, above + 1.7), (x + 25.4, above + 1.7), GREY)
        note(axes, x + 18.2, above + 3.6, operation, ha="center")
    note(axes, 4, below + 1.7, "sweep of\nthe tape", GREY)
    for x, value, tangent in zip(columns, (r"$\bar x$", r"$\bar y$", "1"), (r"$\dot{\bar x}$", r"$\dot{\bar y}$", "0")):
        pair(axes, x, below, value, tangent)
    for x, factor in zip(columns, (r"times cos(x), plus y", r"times x")):
        arrow(axes, (x + 25.4, below + 1.7), (x + 11.0, below + 1.7), GREEN)
        note(axes, x + 18.2, below - 1.5, factor, ha="center")
    for x in columns[:2]:
        arrow(axes, (x + 18.2, above + 0.9), (x + 18.2, below + 2.6), GREEN, dashed=True)
        note(axes, x + 19.2, (above + below + 3.4) / 2, "the tape keeps\npairs, too", GREEN, fontsize=10)
    band(axes, 2, 2, 92, 13.5, GREY)
    note(axes, 4, 12.8, "ground", GREY, fontweight="bold", fontsize=12)
    note(axes, 31, 12.8, "plain arrays, and a tape of the ground's own", GREY)
    note(axes, 4, 6.2, "goes in", GREY)
    pair(axes, columns[0], 4.5, r"$x$", r"$v$")
    note(axes, 67, 6.2, "comes out", GREY, ha="right")
    pair(axes, 69.0, 4.5, r"$\nabla f(x)$", r"$H\,v$", width=20.4)
    arrow(axes, (columns[0] + 5.2, 8.4), (columns[0] + 5.2, 20.0), GREY)
    arrow(axes, (79.2, 20.0), (79.2, 8.4), GREY)
    return figure


def draw_mapped() -> Any:
    """Draw `vmap`: one value is seen, a stack is held."""
    figure, axes = canvas(9.6, 4.4)
    band(axes, 2, 23.5, 92, 18.5, ORANGE)
    note(axes, 4, 39.3, "what the function sees", ORANGE, fontweight="bold", fontsize=12)
    band(axes, 2, 2, 92, 19.5, BLUE)
    note(axes, 4, 18.8, "what is held, and computed with", BLUE, fontweight="bold", fontsize=12)
    side = 2.6
    seen = ((8.0, 3, "x", "(3,)"), (41.0, 2, "y = x @ w", "(2,)"), (74.0, 0, "z = sum(y)", "()"))
    for x, count, name, shape in seen:
        for i in range(max(count, 1)):
            cell(axes, x + i * side, 29.5, side, side, "", ORANGE, 0.25)
        middle = x + max(count, 1) * side / 2
        note(axes, middle, 34.2, name, ha="center")
        note(axes, middle, 26.8, f"shape {shape}", GREY, ha="center", fontsize=10)
    held = ((8.0, 3, "x: (4, 3)"), (41.0, 2, "y: (4, 2)"), (74.0, 1, "z: (4,)"))
    for x, count, shape in held:
        for i in range(count):
            for j in range(4):
                cell(axes, x + i * side, 6.0 + j * side * 0.95, side, side * 0.95, "", BLUE, 0.12 if j < 3 else 0.4)
        note(axes, x + count * side / 2, 3.9, shape, GREY, ha="center", fontsize=10)
    for y, first, second, colour in (
        (30.8, "matmul", "sum", ORANGE),
        (11.0, "one matmul\nfor all", "one sum\nalong the last axis", BLUE),
    ):
        arrow(axes, (19.0, y), (38.0, y), colour)
        arrow(axes, (50.0, y), (71.0, y), colour)
        rise = 1.8 if colour == ORANGE else 2.9
        note(axes, 28.5, y + rise, first, ha="center", fontsize=10)
        note(axes, 60.5, y + rise, second, ha="center", fontsize=10)
    note(axes, 28.5, 8.0, "w: (3, 2), held as it is:\nthe same for all", GREY, ha="center", fontsize=10)
    return figure


def chain(x: Any) -> Any:
    """Apply as many operations as `OPERATIONS` says."""
    for _ in range(OPERATIONS):
        x = wg.sin(x)
    return wg.sum(x)


def gradient_of_gradient(x: Any, v: Any) -> Any:
    """Multiply the Hessian by a vector the long way: reverse over reverse."""
    return wg.grad(lambda z: wg.sum(wg.grad(chain)(z) * v))(x)


def watched(run: Callable[[], Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return (seconds, bytes of arrays) at every call and return of a function during a run."""
    run()
    samples: list[tuple[float, int]] = []

    def sample(*_event: object) -> None:
        samples.append((perf_counter(), tracemalloc.get_traced_memory()[0]))

    tracemalloc.start()
    sample()
    sys.setprofile(sample)
    try:
        run()
        sample()
    finally:
        sys.setprofile(None)
        tracemalloc.stop()
    seconds, sizes = np.array(samples, dtype=np.float64).T
    return seconds - seconds[0], sizes - sizes[0]


def draw_memory() -> Any:
    """Measure and draw what is held, and for how long, in each mode."""
    x = wg.tensor(np.linspace(-1, 1, ELEMENTS))
    v = wg.ones_like(x)
    runs: list[tuple[str, Callable[[], Any], str]] = [
        ("forward: jvp(f)", lambda: wg.jvp(chain, (x,), (v,)), ORANGE),
        ("reverse: grad(f)", lambda: wg.grad(chain)(x), BLUE),
        ("forward over reverse: jvp of grad(f)", lambda: wg.jvp(wg.grad(chain), (x,), (v,)), GREEN),
        ("reverse over reverse: grad of grad(f) · v", lambda: gradient_of_gradient(x, v), PINK),
    ]
    unit = min(watched(lambda: chain(x))[0][-1] for _ in range(5))
    curves = [(name, *min([watched(run) for _ in range(5)], key=_duration), colour) for name, run, colour in runs]
    figure, rows = plt.subplots(len(runs), 1, figsize=(9.6, 6.6), sharex=True, sharey=True, layout="constrained")
    for axes, (name, seconds, sizes, colour) in zip(rows, curves):
        held = sizes / (OPERATIONS * ELEMENTS * 8)
        times = seconds / unit
        axes.fill_between(times, held, color=colour, alpha=0.25, linewidth=0)
        axes.plot(times, held, color=colour, linewidth=1.6)
        axes.plot([times[-1]] * 2, [0, 0.35], color=colour, linewidth=1.6)
        axes.text(times[-1] + 0.05, 0.25, f"{times[-1]:.1f}", color=colour, fontsize=11)
        axes.set_title(name, loc="left", color=colour, fontsize=11.5, fontweight="bold")
        axes.set_ylim(0, 3.4)
        axes.set_yticks([0, 1, 2, 3])
        axes.grid(axis="y", color=GREY, alpha=0.25)
    rows[-1].set_xlim(0, max(curve[1][-1] for curve in curves) / unit + 0.5)
    rows[-1].set_xlabel("time, in runs of f")
    figure.supylabel("arrays held, per operation of f", fontsize=11)
    return figure


def _duration(curve: tuple[np.ndarray, np.ndarray]) -> float:
    return float(curve[0][-1])


def main() -> None:
    """Draw all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with plt.rc_context(STYLE):
        for name, draw in (("levels", draw_levels), ("vmap", draw_mapped), ("memory", draw_memory)):
            draw().savefig(PICTURES / f"{name}.png", dpi=150)
            plt.close("all")


if __name__ == "__main__":
    main()
