"""What the tables of transforms rest on: one set of rounds for both, compiled results checked, wrong ones not timed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import wengert as wg
from benchmarks import cheap_gradient, transforms
from benchmarks.contest import Contest, Standing
from benchmarks.engines import PYTORCH, TORCH_COMPILE, TORCH_FUNC, WENGERT, WENGERT_COMPILE, Engine
from benchmarks.harness import Comparison
from benchmarks.measurement import Prepared
from benchmarks.works import WORKS, pendulum_chain


def test_eager_and_compiled_are_ratios_of_the_same_rounds() -> None:
    compiled = Standing("work", 0.5, WENGERT_COMPILE, (PYTORCH, TORCH_COMPILE))
    compiled.samples = {WENGERT: [4.0], WENGERT_COMPILE: [1.0], TORCH_FUNC: [5.0], PYTORCH: [4.0], TORCH_COMPILE: [8.0]}
    compiled.ways = {"PyTorch": {"one": "4 s", "other": "5 s"}}
    eager = compiled.against(WENGERT, (TORCH_FUNC,))
    first, second = transforms.sections([(eager, compiled)])
    assert first.rows[0][:5] == ["work", "0.80 ✗", "0.5", "0.80 to 0.80", "2.50 s"]
    assert second.rows[0][:5] == ["work", "0.25 ✓", "0.5", "0.25 to 0.25", "2.00 s"]
    assert len(first.heads) == len(first.rows[0]) and len(second.heads) == len(second.rows[0])
    assert "  - PyTorch: one 4 s, other 5 s" in second.lines


def test_a_wrong_result_is_not_timed() -> None:
    def prepare(name: str, engine: Engine) -> Prepared:
        if engine is TORCH_COMPILE:
            raise ArithmeticError(f"{name}: off by one")
        return Prepared(partial(float, 1 + (engine is PYTORCH)))

    standing = Contest("work", 0.6, "work", WENGERT_COMPILE, (PYTORCH, TORCH_COMPILE), prepare=prepare).run(2)
    assert standing.figures == {TORCH_COMPILE.title: "wrong result"}
    assert standing.best is PYTORCH and standing.comparison is not None and standing.comparison.ratio == 0.5


@pytest.mark.parametrize("name", ["hessian", "jacobian", "vmap", "jvp"])
def test_every_compiled_way_agrees_with_the_first_eager_one(name: str) -> None:
    expected = WENGERT.build(WORKS[name]).result()
    jobs = WENGERT_COMPILE.ways(WORKS[name])
    assert jobs
    for job in jobs:
        for mine, theirs in zip(job.result(), expected, strict=True):
            # As the benchmark itself has it for float64.
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max(), err_msg=job.way)


@pytest.mark.parametrize("wrapped", cheap_gradient.WRAPPERS.values(), ids=list(cheap_gradient.WRAPPERS))
def test_forward_mode_over_all_inputs_is_the_gradient(wrapped: Callable[..., object]) -> None:
    x = wg.tensor(np.linspace(-1, 1, 7))
    energy = cheap_gradient.works(pendulum_chain, wrapped)
    stretch = np.diff(x.numpy())
    forces = stretch + 0.3 * stretch**2 + 0.2 * stretch**3
    expected = np.sin(x.numpy())
    expected[1:] += forces
    expected[:-1] -= forces
    bound = 16 * np.finfo(np.float64).eps
    assert np.abs(cheap_gradient.forward_gradient(energy, x) - expected).max() <= bound
    assert np.abs(energy.gradient(x).numpy() - expected).max() <= bound


def test_what_is_broken_off_leaves_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends in the middle has said what it measured, and has put it into a file beside the page's."""

    def measure(_function: object, inputs: int, wrapped: object) -> cheap_gradient.Costs:
        if inputs == 100 and wrapped is not cheap_gradient.WRAPPERS["Eager"]:
            raise KeyboardInterrupt
        return cheap_gradient.Costs(inputs, Comparison((3.0,), (1.0,)), Comparison((15.0,), (3.0,)), 2.0, 20.0, False)

    output = tmp_path / "page.md"
    monkeypatch.setattr(cheap_gradient, "measure", measure)
    monkeypatch.setattr("sys.argv", ["cheap_gradient", "--output", str(output)])
    with pytest.raises(KeyboardInterrupt):
        cheap_gradient.main()
    assert not output.exists()
    eager, compiled = output.with_suffix(".partial.md").read_text(encoding="utf-8").split("## Compiled")
    assert "| 10 | 1.00 s | 3.00 s | 3.00 ✓ | 15.0 s | 5.00 ✗ |" in eager
    assert "| 100 |" in eager
    assert "| 100 |" not in compiled
