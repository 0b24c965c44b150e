"""What the table of compiled works rests on: objectives against their definitions, bounds, ratios, missing engines."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import (
    logsumexp,
    multigammaln,  # pyright: ignore[reportAttributeAccessIssue]
)

import wengert as wg
from benchmarks import agreement, compiled, fresh, machine
from benchmarks.contest import Contest, Standing
from benchmarks.engines import (
    JAX_STEPS,
    PYTORCH_STEPS,
    TORCH_COMPILE,
    WENGERT_BFLOAT16,
    WENGERT_COMPILE,
    WENGERT_STEPS,
    NotOffered,
    modules,
    wengert_steps,
)
from benchmarks.keeping import PATIENCE, Keeper, OutOfPatience, patience
from benchmarks.measurement import reported
from benchmarks.models import (
    COMPILED_WORKS,
    HEAT_NUMBER,
    Evolution,
    Gradient,
    Model,
    Perceptron,
    Recurrent,
    heat_inputs,
    heat_step,
    mixture_inputs,
    mixture_posterior,
)
from benchmarks.report import Section
from benchmarks.roofline import Kernel, Peaks, kernels_of

EPS = float(np.finfo(np.float64).eps)
MODELS = {name: work for name, work in COMPILED_WORKS.items() if isinstance(work, Model)}


def small_mixture() -> tuple[np.ndarray, ...]:
    alphas, means, factors, points, places = mixture_inputs()
    return alphas[:3], means[:3], factors[:3], points[:7], places


def mixture_by_definition(alphas: np.ndarray, means: np.ndarray, factors: np.ndarray, points: np.ndarray) -> float:
    """Point by point and component by component, matrices built one element at a time."""
    count, d = points.shape
    logs = np.empty((count, len(alphas)))
    prior = 0.0
    for k, row in enumerate(factors):
        matrix = np.diag(np.exp(row[:d]))
        rest = iter(row[d:])
        for column in range(d):
            for line in range(column + 1, d):
                matrix[line, column] = next(rest)
        for n, point in enumerate(points):
            whitened = matrix @ (point - means[k])
            logs[n, k] = alphas[k] + row[:d].sum() - 0.5 * whitened @ whitened
        freedom = d + 1
        constant = freedom * d * math.log(1 / math.sqrt(2)) - multigammaln(freedom / 2, d)
        prior += 0.5 * np.sum(matrix**2) - constant
    likelihood = -0.5 * count * d * math.log(2 * math.pi) + np.sum(logsumexp(logs, axis=1))
    return float(likelihood - count * logsumexp(alphas) + prior)


def test_mixture_is_adbenchs_objective() -> None:
    alphas, means, factors, points, places = small_mixture()
    value = mixture_posterior(wg, *map(wg.tensor, (alphas, means, factors, points, places))).item()
    expected = mixture_by_definition(alphas, means, factors, points)
    # A row's product has d terms; each of the count x components squares is added to a total of about this size.
    terms = points.size * len(alphas) * points.shape[1]
    assert abs(value - expected) <= terms * EPS * abs(expected)


def test_heat_step_is_the_five_point_stencil() -> None:
    field, _ = heat_inputs(12)
    stencil = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    exact = field.astype(np.float64)
    expected = exact + HEAT_NUMBER * ndimage.convolve(exact, stencil, mode="constant")
    stepped = heat_step(wg, wg.tensor(field)).numpy()
    # Seven roundings, of terms no larger than eight times the largest element.
    assert np.abs(stepped - expected).max() <= 7 * np.finfo(np.float32).eps * 8 * np.abs(exact).max()


def test_heat_gradient_is_the_transposed_evolution() -> None:
    work = Evolution(heat_step, partial(heat_inputs, 12), steps=5)
    # A step is a symmetric matrix, so that the gradient takes the same steps again.
    field, target = (array.astype(np.float64) for array in work.inputs)
    gradient = wg.grad(partial(work.total, wg))(wg.tensor(field), wg.tensor(target)).numpy()

    def evolved(u: np.ndarray) -> np.ndarray:
        for _ in range(work.steps):
            u = heat_step(np, u)
        return u

    expected = evolved(2 * (evolved(field) - target) / field.size)
    assert np.abs(gradient - expected).max() <= 2 * 7 * work.steps * EPS * np.abs(expected).max()


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_modules(name: str) -> None:
    work = MODELS[name]
    state = modules.build(wengert_steps.LIBRARY, work).state_dict()
    assert {parameter: tensor.shape for parameter, tensor in state.items()} == work.shapes
    assert {array.dtype for array in work.parameters.values()} == {np.dtype(np.float32)}


def test_every_limit_has_a_work_and_a_title() -> None:
    for name in [*compiled.COMPILED_LIMITS, *compiled.EAGER_LIMITS, *compiled.AUTOCAST_LIMITS]:
        assert name in COMPILED_WORKS and name in compiled.TITLES


def test_bounds_grow_with_the_distance_seen_so_far() -> None:
    exact, rounded, corrected = (1.0, 0.5, 0.25), (1.0, 0.5 + 2**-20, 0.25), (1.0, 0.5, 0.25 + 2**-19)
    unit = 4 * float(np.finfo(np.float32).eps)
    first, second, third = agreement.bounds(exact, rounded, corrected, 16)
    assert first == unit
    assert second == 8 * 2**-20 + 0.5 * unit
    assert third == 8 * 2**-20 + 2**-19 + 0.25 * unit


@pytest.mark.parametrize("spoilt", [math.nan, 1.0 + 1e-3])
def test_a_loss_beyond_its_bound_is_an_error(spoilt: float) -> None:
    agreement._demand_losses("engine", [1.0, 0.5], (1.0, 0.5), (1e-6, 1e-6))
    with pytest.raises(ArithmeticError, match="the loss of step 1"):
        agreement._demand_losses("engine", [spoilt, 0.5], (1.0, 0.5), (1e-6, 1e-6))


@pytest.mark.parametrize("spoilt", [np.array([1.0, np.nan]), np.array([1.0, 2.1]), np.array([[1.0, 2.0]])])
def test_an_array_beyond_its_bound_is_an_error(spoilt: np.ndarray) -> None:
    expected = [np.array([1.0, 2.0])]
    agreement._demand_arrays("engine", [expected[0] * (1 + EPS)], expected, 4)
    with pytest.raises(ArithmeticError, match="result 0"):
        agreement._demand_arrays("engine", [spoilt], expected, 4)


def standing(**samples: list[float]) -> Standing:
    entry = Standing("work", 0.5, WENGERT_COMPILE, (PYTORCH_STEPS, TORCH_COMPILE, JAX_STEPS))
    engines = {"compiled": WENGERT_COMPILE, "torch": PYTORCH_STEPS, "jax": JAX_STEPS}
    entry.samples = {engines[name]: values for name, values in samples.items()}
    return entry


def test_the_ratio_is_to_the_best_rival() -> None:
    entry = standing(compiled=[1.0, 2.0, 3.0], torch=[9.0, 9.0, 9.0], jax=[5.0, 5.0, 1.0])
    assert entry.best is JAX_STEPS
    assert entry.comparison is not None and entry.comparison.ratio == 0.4 and entry.kept
    _, ratio, limit, _, target, *figures = entry.cells(compiled.ENTRANTS)
    assert (ratio, limit, target) == ("0.40 ✓", "0.5", "2.50 s")
    assert figures == ["2.00 s", "–", "9.00 s", "–", "**5.00 s**"]


def test_a_missing_subject_leaves_the_target() -> None:
    entry = standing(torch=[4.0])
    entry.figures[WENGERT_COMPILE.title] = "not offered"
    assert entry.kept is None
    assert entry.cells(compiled.ENTRANTS)[1:6] == ["–", "0.5", "–", "2.00 s", "not offered"]


def test_a_library_without_compile_has_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wg, "compile", None, raising=False)
    with pytest.raises(NotOffered, match=r"wg\.compile"):
        WENGERT_COMPILE.ways(COMPILED_WORKS["tiny"])
    assert Contest("tiny", 0.5, "tiny", WENGERT_COMPILE, ()).run(1).figures == {WENGERT_COMPILE.title: "not offered"}


def test_a_library_without_a_layer_does_not_offer_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(wg.nn, "LSTM", raising=False)
    with pytest.raises(NotOffered, match="LSTM"):
        WENGERT_STEPS.build(Recurrent(2, steps=3, width=4, hidden=5))


def test_training_is_adam_on_the_given_weights() -> None:
    work = Perceptron(4, (3, 2))
    first, second = (wengert_steps.training(work).result() for _ in range(2))
    assert first == second
    inputs, labels = work.inputs
    scores = inputs @ work.parameters["0.weight"].T
    expected = np.mean(logsumexp(scores, axis=1) - scores[np.arange(4), labels])
    assert abs(first[0] - expected) <= 3 * 4 * np.finfo(np.float32).eps * np.abs(scores).max()


def test_the_same_work_is_done_with_products_in_bfloat16() -> None:
    work = Perceptron(64, (64, 64, 32))
    narrow, plain = (engine.build(work).result()[0] for engine in (WENGERT_BFLOAT16, WENGERT_STEPS))
    # Two layers; a mean of cross-entropies moves no more than twice as far as the scores do.
    inputs = np.abs(work.inputs[0])
    hidden = inputs @ np.abs(work.parameters["0.weight"]).T
    scores = hidden @ np.abs(work.parameters["2.weight"]).T
    assert 0 < abs(narrow - plain) <= 2 * ((1 + 2.0**-8) ** 4 - 1) * scores.max()


def test_a_compiled_gradient_is_the_eager_one() -> None:
    work = COMPILED_WORKS["chain"]
    assert isinstance(work, Gradient)
    ours, eager = (engine.build(work).result() for engine in (WENGERT_COMPILE, WENGERT_STEPS))
    agreement._demand_arrays("compiled", ours, eager, work.length)


def test_a_fresh_process_tells_its_figures() -> None:
    figures = fresh.first_run(WENGERT_STEPS, "tiny")
    assert 0 < figures.seconds < PATIENCE
    assert figures.peak >= figures.library > 0
    assert figures.added == figures.peak - figures.library


def test_a_roof_is_the_slower_of_two() -> None:
    peaks = Peaks(operations=100.0, bandwidth=1.0, cached=10.0)
    assert peaks.bound(100.0, 5.0) == 1.0
    assert peaks.bound(100.0, 50.0) == 5.0
    assert Kernel("k", 100.0, 50.0, 10.0).cells(peaks)[-1] == "50 %"


def kernel_report(name: str, seconds: float | None) -> Any:
    return SimpleNamespace(name=name, flops=1, moved=2, seconds=seconds)


def test_kernels_are_looked_for_behind_a_partial() -> None:
    class Compiled:
        def __call__(self, *_: Any) -> None: ...

        def explain(self) -> Any:
            reports = [kernel_report("short", 1.0), kernel_report("long", 3.0), kernel_report("untimed", None)]
            return SimpleNamespace(programs=[SimpleNamespace(kernels=reports)])

    found = kernels_of(partial(Compiled(), 1))
    assert [kernel.name for kernel in found] == ["long", "short"]
    assert [kernel.seconds * machine.cores() for kernel in found] == [3.0, 1.0]
    assert kernels_of(partial(math.sqrt, 1)) == []


def test_a_page_is_kept_row_by_row(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    output.write_text("former")
    keeper = Keeper("Title", "command", {"Processor": "one"}, output)
    section = Section("Rows", ("work", "ratio"), [["a", "0.5"]], "Note.")
    keeper.keep([section])
    assert output.read_text() == "former"
    assert "| a | 0.5 |" in (tmp_path / "table.partial.md").read_text()
    section.rows.append(["b", "0.6"])
    keeper.finish([section])
    assert "| b | 0.6 |" in output.read_text()
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no alarms: engines are waited for there")
def test_an_engine_that_takes_too_long_has_a_cell() -> None:
    figures: dict[str, str] = {}
    start = time.monotonic()
    with reported(figures, JAX_STEPS), patience(0.05):
        while time.monotonic() < start + 60:
            with contextlib.suppress(Exception):
                time.sleep(0.01)
    assert figures == {JAX_STEPS.title: "took too long"}
    assert time.monotonic() < start + 30
    with reported(figures, PYTORCH_STEPS), patience(60):
        pass
    assert PYTORCH_STEPS.title not in figures


def test_a_fresh_process_that_takes_too_long_is_ended() -> None:
    with pytest.raises(OutOfPatience):
        fresh.first_run(WENGERT_STEPS, "tiny", 0.01)
