"""Measure what derivatives cost beside the function itself, as inputs grow: `python -m benchmarks.cheap_gradient`.

The cheap gradient principle (W. Baur and V. Strassen, 1983; A. Griewank, 1989): all partial derivatives of a scalar
function together take at most about four times the function's operations, however many inputs there are. Forward mode
takes one run for each input. A full run keeps its table in `benchmarks/results/cheap-gradient.md` and, where matplotlib
is installed, a picture in `docs/pictures/cheap-gradient.png`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

import wengert as wg
from benchmarks import harness, machine
from benchmarks.report import format_seconds, markdown_row
from benchmarks.suite import RESULTS
from benchmarks.works import pendulum_chain, rosenbrock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "cheap-gradient.png"
FUNCTIONS = {"pendulum-chain": pendulum_chain, "rosenbrock": rosenbrock}
SIZES = tuple(10**power for power in range(1, 8))
LIMIT = 4.0
REPETITIONS = 11
# Fewer where a single run takes long, but never fewer than this.
FEWEST_REPETITIONS = 3
LONGEST = 20.0
# Forward mode over all inputs is run where it takes no longer than this, in seconds; above, it is one jvp times n.
FORWARD_PATIENCE = 10.0

HEADS = (
    "inputs",
    "function",
    "gradient",
    "gradient / function",
    "Hessian-vector product",
    "product / gradient",
    "one jvp",
    "forward mode, all inputs",
)
NOTE = f"""\
Medians of float64 runs. The function is evaluated on Tensors that nobody differentiates; the gradient is `wg.grad`, and
its time has the function's own run in it; the product is `wg.hvp`, with the gradient's run in it. Each pair of a ratio
is run in turn, in repetitions of at least 20 ms, with default threads, the cycle collector on. ✓ and ✗: under {LIMIT:g}
or not. Forward mode is one `wg.jvp` for each input. Where it begins with ≈ it was not run: it is the time of one jvp,
measured, times the number of inputs."""


@dataclass(frozen=True)
class Costs:
    """What was measured for one number of inputs, in seconds. `all_forward` is an estimate unless `forward_was_run`."""

    inputs: int
    gradient: harness.Comparison
    product: harness.Comparison
    jvp: float
    all_forward: float
    forward_was_run: bool

    @property
    def function_median(self) -> float:
        """The function's own time."""
        return self.gradient.medians[1]

    def cells(self) -> list[str]:
        """Return the text of every column."""
        forward = format_seconds(self.all_forward)
        return [
            f"{self.inputs:,}",
            format_seconds(self.function_median),
            format_seconds(self.gradient.medians[0]),
            _marked(self.gradient.ratio),
            format_seconds(self.product.medians[0]),
            _marked(self.product.ratio),
            format_seconds(self.jvp),
            forward if self.forward_was_run else f"≈ {forward}",
        ]


def _marked(ratio: float) -> str:
    return f"{ratio:.2f} {'✓' if ratio < LIMIT else '✗'}"


def measure(function: Callable[..., Any], inputs: int) -> Costs:
    """Measure a scalar function of so many inputs, and its derivatives."""
    rng = np.random.default_rng(0)
    x, v = (wg.tensor(rng.uniform(-1, 1, inputs)) for _ in range(2))
    of_tensors = partial(function, wg)
    _demand_agreement(of_tensors, x, v)
    run, gradient, product, jvp = (
        harness.calibrated(work)
        for work in (
            partial(of_tensors, x),
            partial(wg.grad(of_tensors), x),
            partial(wg.hvp, of_tensors, x, v),
            partial(wg.jvp, of_tensors, (x,), (v,)),
        )
    )
    one_jvp = harness.median(jvp.sample, _repetitions(jvp))
    forward_is_run = one_jvp * inputs <= FORWARD_PATIENCE
    all_inputs = harness.Loop(partial(forward_gradient, of_tensors, x), 1)
    return Costs(
        inputs,
        harness.in_turn(gradient.sample, run.sample, _repetitions(gradient)),
        harness.in_turn(product.sample, gradient.sample, _repetitions(product)),
        one_jvp,
        harness.median(all_inputs.sample, FEWEST_REPETITIONS) if forward_is_run else one_jvp * inputs,
        forward_is_run,
    )


def forward_gradient(function: Callable[..., Any], x: wg.Tensor) -> np.ndarray:
    """Return the gradient by forward mode: one derivative along each coordinate."""
    gradient = np.empty(x.shape)
    for i in range(x.size):
        direction = np.zeros(x.shape)
        direction[i] = 1.0
        gradient[i] = wg.jvp(function, (x,), (wg.asarray(direction),))[1].item()
    return gradient


def _demand_agreement(function: Callable[..., Any], x: wg.Tensor, v: wg.Tensor) -> None:
    """See that forward mode, reverse mode and differences of gradients say the same."""
    gradient = wg.grad(function)
    along = float(np.vdot(gradient(x).numpy(), v.numpy()))
    np.testing.assert_allclose(wg.jvp(function, (x,), (v,))[1].item(), along, rtol=1e-9)
    step = 1e-6
    difference = (gradient(x + step * v).numpy() - gradient(x - step * v).numpy()) / (2 * step)
    np.testing.assert_allclose(wg.hvp(function, x, v).numpy(), difference, rtol=1e-5, atol=1e-5)


def _repetitions(loop: harness.Loop) -> int:
    seconds = loop.sample() * loop.count
    return max(FEWEST_REPETITIONS, min(REPETITIONS, int(LONGEST / seconds)))


def markdown(rows: Sequence[Costs], name: str, function: Callable[..., Any], facts: Mapping[str, str]) -> str:
    """Return the whole report as a page."""
    described = " ".join((function.__doc__ or "").split())
    lines = [
        "# The cheap gradient",
        "",
        "Written by `python -m benchmarks.cheap_gradient`.",
        "",
        f"The function is `{name}`. {described}",
        "",
        *(f"- {fact_name}: {fact}" for fact_name, fact in facts.items()),
        "",
        markdown_row(HEADS),
        markdown_row(["---:"] * len(HEADS)),
        *(markdown_row(row.cells()) for row in rows),
        "",
        NOTE,
    ]
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Costs], path: Path) -> bool:
    """Draw times and ratios against the number of inputs; return False where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return False
    sizes = [row.inputs for row in rows]
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    times, ratios = figure.subplots(1, 2, width_ratios=(3, 2))

    run = [row for row in rows if row.forward_was_run]
    # The dashes begin where the measured line ends.
    estimated = [*run[-1:], *(row for row in rows if not row.forward_was_run)]
    colour = "#c44e52"
    times.plot(
        [r.inputs for r in run], [r.all_forward for r in run], "o-", color=colour, label="gradient, forward mode"
    )
    times.plot(
        [r.inputs for r in estimated],
        [r.all_forward for r in estimated],
        "o--",
        color=colour,
        markerfacecolor="white",
        label="the same, extrapolated: n × one jvp",
    )
    products = [row.product.medians[0] for row in rows]
    gradients = [row.gradient.medians[0] for row in rows]
    times.plot(sizes, products, "^-", color="#8172b3", label="Hessian-vector product")
    times.plot(sizes, gradients, "s-", color="#4c72b0", label="gradient, reverse mode")
    times.plot(sizes, [row.function_median for row in rows], "D-", color="#404040", label="the function")
    times.set(xscale="log", yscale="log", xlabel="inputs n", ylabel="seconds", title="Time")
    times.legend(frameon=False)

    ratios.plot(sizes, [row.product.ratio for row in rows], "^-", color="#8172b3", label="product / gradient")
    ratios.plot(sizes, [row.gradient.ratio for row in rows], "s-", color="#4c72b0", label="gradient / function")
    ratios.axhline(LIMIT, color="#808080", linestyle=":", label=f"limit: {LIMIT:g}")
    ratios.set(xscale="log", xlabel="inputs n", title="Ratio")
    ratios.set_ylim(bottom=0)
    ratios.legend(frameon=False, loc="lower left")

    for axes in (times, ratios):
        axes.grid(color="#e6e6e6", which="major")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return True


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cheap_gradient", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument("--function", choices=FUNCTIONS, default="pendulum-chain")
    parser.add_argument("--largest", type=int, default=SIZES[-1], metavar="N", help="leave out more inputs than this")
    parser.add_argument("--output", type=Path, help="where to keep the table")
    parser.add_argument("--picture", type=Path, help="where to keep the picture")
    return parser.parse_args()


def main() -> int:
    """Measure, print, and keep the table and the picture."""
    options = arguments()
    function = FUNCTIONS[options.function]
    facts = machine.describe(["wengert"])
    sizes = [size for size in SIZES if size <= options.largest]
    rows: list[Costs] = []
    with Console(stderr=True).status("") as status:
        for size in sizes:
            status.update(f"{size:,} inputs")
            rows.append(measure(function, size))
    page = markdown(rows, options.function, function, facts)
    print(page, end="")
    full = sizes == list(SIZES) and options.function == "pendulum-chain"
    output = options.output or (RESULTS / "cheap-gradient.md" if full else None)
    picture = options.picture or (PICTURE if full else None)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(page, encoding="utf-8")
    if picture is not None and not draw(rows, picture):
        print("matplotlib is not installed: no picture was drawn", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
