"""Loops of so many steps that all steps compute in the same memory, of products that are wide enough to be packed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import wengert as wg
from tests.compile import loop_programs
from wengert.compile import lower_steps
from wengert.compile.loops import is_loop
from wengert.compile.lower_loops import LONG
from wengert.core.pytree import flatten

STEPS = LONG + 2
LONG_PROFILE = settings.get_current_profile_name() == "long"


def compare(found: Any, wanted: Any, growth: float) -> None:
    """Make sure that gradients agree but for rounding, which grows from step to step by no more than `growth`."""
    for one, other in zip(flatten(found)[0], flatten(wanted)[0], strict=True):
        want = other.detach().numpy()
        np.testing.assert_allclose(
            one.detach().numpy(), want, rtol=0, atol=growth * np.finfo("f8").eps * np.abs(want).max()
        )


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


def loss_of(rng: np.random.Generator) -> tuple[Callable[..., Any], list[Any]]:
    """Return a function of two weights, a state and the inputs of all steps, and these: wide products, many steps."""
    features, rows = int(rng.choice([16, 32, 48, 96])), int(rng.choice([2, 8, 16, 64]))
    order, turned, squared = rng.integers(0, 2, 4), rng.random(4) < 0.3, rng.random(4) < 0.3
    emits, checkpointed, checkpoints = rng.random() < 0.5, rng.random() < 0.3, int(rng.choice([0, 0, 10])) or None
    numbered = rng.random() < 0.25
    weights = [rng.normal(size=(features, features)) / np.sqrt(features) for _ in range(2)]
    begin = rng.normal(size=(rows, features))
    inputs = rng.normal(size=(STEPS + int(rng.integers(0, 9)), rows, features))

    def moved(c: Any, x: Any, weights: Any) -> Any:
        for which, is_turned, is_squared in zip(order, turned, squared):
            weight = weights[which]
            c = wg.tanh(c @ (weight.T if is_turned else weight) + x)
            if is_squared:
                c = c + c @ (c.T @ c) / (1 + wg.sum(c * c))
        return c

    move = wg.checkpoint(moved) if checkpointed else moved

    def loss(first: Any, second: Any, begin: Any, inputs: Any) -> Any:
        weights = [first, second]
        if numbered:
            steps = len(inputs)
            return wg.fori_loop(0, steps, lambda i, c: move(c, inputs[steps - 1 - i], weights), begin).sum()
        step = lambda c, x: (move(c, x, weights), c.sum(0) if emits else None)  # noqa: E731
        end, seen = wg.scan(step, begin, inputs, checkpoints=checkpoints)
        return end.sum() + (wg.sum(wg.sin(seen) * seen) if emits else 0)

    return loss, [wg.tensor(array) for array in (*weights, begin, inputs)]


def along(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs: wg.jvp(function, xs, tuple([wg.sin(x + 1) for x in xs]))


def mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(first: Any, second: Any, begin: Any, inputs: Any) -> Any:
        many = wg.stack([begin, begin * 0.5])
        return wg.vmap(function, in_axes=(None, None, 0, None))(first, second, many, inputs)

    return run


def pulled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the pullbacks of many cotangents at once, as `jacrev` has them."""

    def run(*xs: Any) -> Any:
        value, pull = wg.vjp(function, *xs)
        return wg.vmap(pull)(wg.stack([value * 0 + 1, value * 0 - 2]))

    return run


def penalised(gradient: Callable[..., Any]) -> Callable[..., Any]:
    """Return the gradient of something that is made of a gradient."""
    return wg.grad(lambda *xs: loop_programs.squares(gradient(*xs)), (0, 2))


ALL = (0, 1, 2, 3)
TRANSFORMS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "value_and_grad": lambda function: wg.value_and_grad(function, ALL),
    "hvp": lambda function: along(wg.grad(function, ALL)),
    "vmap of grad": lambda function: mapped(wg.grad(function, ALL)),
    "vmap of hvp": lambda function: mapped(along(wg.grad(function, (0, 2)))),
    "backward": loop_programs.swept,
    "tape": loop_programs.taped,
    "jvp of tape": lambda function: along(loop_programs.taped(function)),
    "vmap of tape": lambda function: mapped(loop_programs.taped(function)),
    "grad of grad": lambda function: penalised(wg.grad(function, (0, 1))),
    "grad of tape": lambda function: penalised(loop_programs.taped(function)),
    "vmap of pullback": pulled,
}


@pytest.mark.parametrize("seed", range(2400 if LONG_PROFILE else len(TRANSFORMS)))
def test_random_recurrences(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, kept = lower_steps.prepared_loops, list[Any]()

    def seen(*args: Any, **options: Any) -> Any:
        found = prepared(*args, **options)
        kept.extend(filter(is_loop, found[0].equations))
        return found

    monkeypatch.setattr(lower_steps, "prepared_loops", seen)
    loss, given = loss_of(np.random.default_rng(seed))
    transform = list(TRANSFORMS.values())[seed % len(TRANSFORMS)](loss)
    compare(wg.compile(transform)(*given), transform(*given), 1e6)
    assert kept, "steps were compiled one after the other"
