"""Loops of so many steps that all steps compute in the same memory, of products that are wide enough to be packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.compile.lower_loops import LONG
from wengert.core.pytree import flatten

STEPS = LONG + 2


def compare(found: Any, wanted: Any, growth: float) -> None:
    """Make sure that gradients agree but for rounding, which grows from step to step by no more than `growth`."""
    for one, other in zip(flatten(found)[0], flatten(wanted)[0], strict=True):
        want = other.numpy()
        np.testing.assert_allclose(one.numpy(), want, rtol=0, atol=growth * np.finfo("f8").eps * np.abs(want).max())


@pytest.mark.parametrize(("features", "rows", "times"), [(32, 64, 2), (128, 16, 6), (64, 64, 4), (48, 8, 3)])
def test_a_weight_that_is_used_several_times_in_a_step(features: int, rows: int, times: int) -> None:
    """What meets a cotangent in the product for a weight is packed anew in each step, though it lies where it lay."""
    rng = np.random.default_rng(times)
    weight = wg.tensor(rng.normal(size=(features, features)) / np.sqrt(features))
    begin = wg.tensor(rng.normal(size=(rows, features)))

    def loss(weight: Any) -> Any:
        def step(c: Any, _: Any) -> tuple[Any, None]:
            for _ in range(times):
                c = wg.tanh(c @ weight)
            return c, None

        return wg.scan(step, begin, None, STEPS)[0].sum()

    compare(wg.compile(wg.grad(loss))(weight), wg.grad(loss)(weight), 1e5)


@pytest.mark.parametrize("seed", range(12))
def test_random_recurrences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, rows = int(rng.choice([16, 32, 48, 96])), int(rng.choice([2, 8, 16, 64]))
    order, turned, squared = rng.integers(0, 2, 4), rng.random(4) < 0.3, rng.random(4) < 0.3
    emits, checkpointed, checkpoints = rng.random() < 0.5, rng.random() < 0.3, int(rng.choice([0, 0, 10])) or None
    weights = [wg.tensor(rng.normal(size=(features, features)) / np.sqrt(features)) for _ in range(2)]
    begin = wg.tensor(rng.normal(size=(rows, features)))
    inputs = wg.tensor(rng.normal(size=(STEPS + int(rng.integers(0, 9)), rows, features)))

    def moved(c: Any, x: Any, weights: Any) -> Any:
        for which, is_turned, is_squared in zip(order, turned, squared):
            weight = weights[which]
            c = wg.tanh(c @ (weight.T if is_turned else weight) + x)
            if is_squared:
                c = c + c @ (c.T @ c) / (1 + wg.sum(c * c))
        return c

    def loss(weights: Any, inputs: Any) -> Any:
        move = wg.checkpoint(moved) if checkpointed else moved
        step = lambda c, x: (move(c, x, weights), c.sum(0) if emits else None)  # noqa: E731
        end, seen = wg.scan(step, begin, inputs, checkpoints=checkpoints)
        return end.sum() + (wg.sum(wg.sin(seen) * seen) if emits else 0)

    gradient = wg.value_and_grad(loss, (0, 1))
    compare(wg.compile(gradient)(weights, inputs), gradient(weights, inputs), 1e6)
