"""Measure what derivatives cost beside the function itself, as inputs grow: `python -m benchmarks.cheap_gradient`.

The cheap gradient principle (W. Baur and V. Strassen, 1983; A. Griewank, 1989): all partial derivatives of a scalar
function together take at most about four times the function's operations, however many inputs there are. Forward mode
takes one run for each input. A full run takes about four minutes, says each row when it is measured, and keeps its
tables in `benchmarks/results/cheap-gradient.md` and, where matplotlib is installed, a picture in
`docs/pictures/cheap-gradient.png`. What is broken off leaves its rows beside that, in `cheap-gradient.partial.md`.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

import wengert as wg
from benchmarks import harness, machine
from benchmarks.keeping import Keeper
from benchmarks.report import Section, format_seconds
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
LONGEST = 8.0
# Forward mode over all inputs is run where it takes no longer than this, in seconds; above, it is one jvp times n.
FORWARD_PATIENCE = 5.0

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
Medians of float64 runs. The function is evaluated on Tensors that nobody differentiates; the gradient is `wg.grad`,
and its time has the function's own run in it; the product is `wg.hvp`, with the gradient's run in it. Each pair of a
ratio is run in turn, in repetitions of at least 40 ms, with default threads, the cycle collector on. ✓ and ✗: under
{LIMIT:g} or not. Forward mode is one `wg.jvp` for each input, all of them run once. Where it begins with ≈ it was not
run: it is the time of one jvp, measured, times the number of inputs."""
NOTES = {
    "Eager": NOTE,
    "Compiled": "The same, each of the four in `wg.compile` by itself, the function too; compilation is in no figure.",
}
COMMAND = "python -m benchmarks.cheap_gradient"


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

    def summary(self) -> str:
        """Return the ratios in short, for who waits."""
        gradient, product = _marked(self.gradient.ratio), _marked(self.product.ratio)
        return f"{self.inputs:,} inputs: gradient / function {gradient}, product / gradient {product}"


def _marked(ratio: float) -> str:
    return f"{ratio:.2f} {'✓' if ratio < LIMIT else '✗'}"


@dataclass(frozen=True)
class Works:
    """A scalar function of a vector and its derivatives, as they are or compiled."""

    function: Callable[[wg.Tensor], wg.Tensor]
    gradient: Callable[[wg.Tensor], wg.Tensor]
    product: Callable[[wg.Tensor, wg.Tensor], wg.Tensor]
    jvp: Callable[[Any, Any], tuple[wg.Tensor, wg.Tensor]]


def works(function: Callable[..., Any], wrapped: Callable[[Any], Any]) -> Works:
    """Return the function and its derivatives, `wrapped` being applied to each of the four by itself."""
    of_tensors = partial(function, wg)
    derivatives = (of_tensors, wg.grad(of_tensors), partial(wg.hvp, of_tensors), partial(wg.jvp, of_tensors))
    return Works(*map(wrapped, derivatives))


def measure(function: Callable[..., Any], inputs: int, wrapped: Callable[[Any], Any]) -> Costs:
    """Measure a scalar function of so many inputs, and its derivatives."""
    rng = np.random.default_rng(0)
    x, v = (wg.tensor(rng.uniform(-1, 1, inputs)) for _ in range(2))
    measured = works(function, wrapped)
    _demand_agreement(measured, works(function, _as_it_is), x, v)
    run, gradient, product, jvp = (
        harness.calibrated(work)
        for work in (
            partial(measured.function, x),
            partial(measured.gradient, x),
            partial(measured.product, x, v),
            partial(measured.jvp, (x,), (v,)),
        )
    )
    one_jvp = harness.median(jvp.sample, _repetitions(jvp))
    forward_is_run = one_jvp * inputs <= FORWARD_PATIENCE
    return Costs(
        inputs,
        harness.in_turn(gradient.sample, run.sample, _repetitions(gradient)),
        harness.in_turn(product.sample, gradient.sample, _repetitions(product)),
        one_jvp,
        _once(partial(forward_gradient, measured, x)) if forward_is_run else one_jvp * inputs,
        forward_is_run,
    )


def forward_gradient(measured: Works, x: wg.Tensor) -> np.ndarray:
    """Return the gradient by forward mode: one derivative along each coordinate."""
    gradient = np.empty(x.shape)
    for i in range(x.size):
        direction = np.zeros(x.shape)
        direction[i] = 1.0
        gradient[i] = measured.jvp((x,), (wg.asarray(direction),))[1].item()
    return gradient


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _demand_agreement(measured: Works, eager: Works, x: wg.Tensor, v: wg.Tensor) -> None:
    """See that forward mode, reverse mode and differences of eager gradients say the same."""
    np.testing.assert_allclose(measured.function(x).item(), eager.function(x).item(), rtol=1e-9)
    along = float(np.vdot(measured.gradient(x).numpy(), v.numpy()))
    np.testing.assert_allclose(measured.jvp((x,), (v,))[1].item(), along, rtol=1e-9)
    step = 1e-6
    difference = (eager.gradient(x + step * v).numpy() - eager.gradient(x - step * v).numpy()) / (2 * step)
    np.testing.assert_allclose(measured.product(x, v).numpy(), difference, rtol=1e-5, atol=1e-5)


def _once(run: Callable[[], object]) -> float:
    """Time what is a long loop itself."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _repetitions(loop: harness.Loop) -> int:
    seconds = loop.sample() * loop.count
    return max(FEWEST_REPETITIONS, min(REPETITIONS, int(LONGEST / seconds)))


def sections(tables: Mapping[str, Sequence[Costs]]) -> list[Section]:
    """Return a table for each way to run."""
    return [Section(title, HEADS, [row.cells() for row in rows], NOTES[title]) for title, rows in tables.items()]


def draw(tables: Mapping[str, Sequence[Costs]], path: Path) -> bool:
    """Draw times and ratios against the number of inputs; return False where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return False
    figure = Figure(figsize=(10, 4.6 * len(tables)), layout="constrained")
    axes = figure.subplots(len(tables), 2, width_ratios=(3, 2), squeeze=False, sharex=True, sharey="col")
    for (title, rows), (times, ratios) in zip(tables.items(), axes, strict=True):
        _draw_times(times, rows)
        _draw_ratios(ratios, rows)
        times.set_title(f"Time, {title.lower()}")
        ratios.set_title(f"Ratio, {title.lower()}")
        for part in (times, ratios):
            part.set(xscale="log", xlabel="inputs n")
            part.grid(color="#e6e6e6", which="major")
            part.set_axisbelow(True)
            part.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return True


def _draw_times(axes: Any, rows: Sequence[Costs]) -> None:
    sizes = [row.inputs for row in rows]
    run = [row for row in rows if row.forward_was_run]
    # The dashes begin where the measured line ends.
    estimated = [*run[-1:], *(row for row in rows if not row.forward_was_run)]
    colour = "#c44e52"
    axes.plot([r.inputs for r in run], [r.all_forward for r in run], "o-", color=colour, label="gradient, forward mode")
    axes.plot(
        [r.inputs for r in estimated],
        [r.all_forward for r in estimated],
        "o--",
        color=colour,
        markerfacecolor="white",
        label="the same, extrapolated: n × one jvp",
    )
    products = [row.product.medians[0] for row in rows]
    gradients = [row.gradient.medians[0] for row in rows]
    axes.plot(sizes, products, "^-", color="#8172b3", label="Hessian-vector product")
    axes.plot(sizes, gradients, "s-", color="#4c72b0", label="gradient, reverse mode")
    axes.plot(sizes, [row.function_median for row in rows], "D-", color="#404040", label="the function")
    axes.set(yscale="log", ylabel="seconds")
    axes.legend(frameon=False)


def _draw_ratios(axes: Any, rows: Sequence[Costs]) -> None:
    sizes = [row.inputs for row in rows]
    axes.plot(sizes, [row.product.ratio for row in rows], "^-", color="#8172b3", label="product / gradient")
    axes.plot(sizes, [row.gradient.ratio for row in rows], "s-", color="#4c72b0", label="gradient / function")
    axes.axhline(LIMIT, color="#808080", linestyle=":", label=f"limit: {LIMIT:g}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


WRAPPERS: dict[str, Callable[[Any], Any]] = {"Eager": _as_it_is, "Compiled": wg.compile}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").split(":")[0])
    parser.add_argument("--function", choices=FUNCTIONS, default="pendulum-chain")
    parser.add_argument("--largest", type=int, default=SIZES[-1], metavar="N", help="leave out more inputs than this")
    parser.add_argument("--output", type=Path, help="where to keep the table")
    parser.add_argument("--picture", type=Path, help="where to keep the picture")
    return parser.parse_args()


def main() -> int:
    """Measure, print, and keep the tables and the picture."""
    options = arguments()
    function = FUNCTIONS[options.function]
    sizes = [size for size in SIZES if size <= options.largest]
    full = sizes == list(SIZES) and options.function == "pendulum-chain"
    described = f"`{options.function}`. {' '.join((function.__doc__ or '').split())}"
    facts = {"function": described, **machine.describe(["wengert", "llvmlite"])}
    output = options.output or (RESULTS / "cheap-gradient.md" if full else None)
    keeper = Keeper("The cheap gradient", COMMAND, facts, output)
    tables: dict[str, list[Costs]] = {title: [] for title in WRAPPERS}
    console = Console(stderr=True)
    with console.status("") as status:
        for size in sizes:
            for title, rows in tables.items():
                status.update(f"{size:,} inputs, {title.lower()}")
                rows.append(measure(function, size, WRAPPERS[title]))
                console.print(f"{title}, {rows[-1].summary()}", highlight=False)
                keeper.keep(sections(tables))
    keeper.finish(sections(tables))
    picture = options.picture or (PICTURE if full else None)
    if picture is not None and not draw(tables, picture):
        print("matplotlib is not installed: no picture was drawn", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
