"""Loops with checkpoints inside of transforms which what they carry has nothing to do with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.core.pytree import flatten

STEPS = 12


def _arrays() -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    return tuple([wg.tensor(rng.normal(size=shape)) for shape in ((2, 3), (3,), (STEPS, 3))])


def _loss(weight: Any, state: Any, inputs: Any, step: Callable[..., Any], checkpoints: int | None) -> Any:
    doubled = inputs * 2
    end = wg.fori_loop(0, STEPS, lambda i, c: step(c, doubled[i], weight, doubled), state, checkpoints=checkpoints)
    return (wg.sin(end) * end).sum() + (weight * weight).sum()


STEP: dict[str, Callable[..., Any]] = {
    "of what is read": lambda c, x, weight, inputs: wg.tanh(c + x),
    "of a constant": lambda c, x, weight, inputs: wg.tanh(c * inputs[0]),
    "of what is mapped": lambda c, x, weight, inputs: wg.tanh(c * weight + x),
}
TRANSFORMS: dict[str, Callable[..., Any]] = {
    "vmap of grad": lambda loss: lambda ws, s, xs: wg.vmap(wg.grad(loss, (0, 1, 2)), (0, None, None))(ws, s, xs),
    "vmap of grad, state untracked": lambda loss: (
        lambda ws, s, xs: wg.vmap(lambda w: wg.grad(lambda w, xs: loss(w, s, xs), (0, 1))(w, xs))(ws)
    ),
    "jvp of grad": lambda loss: lambda ws, s, xs: wg.jvp(lambda w: wg.grad(loss, (1, 2))(w, s, xs), (ws[0],), (ws[1],)),
    "grad of vmap": lambda loss: (
        lambda ws, s, xs: wg.grad(lambda s, xs: wg.vmap(loss, (0, None, None))(ws, s, xs).sum(), (0, 1))(s, xs)
    ),
    "vmap of grad of grad": lambda loss: (
        lambda ws, s, xs: wg.vmap(lambda w: wg.grad(lambda xs: (wg.grad(loss, 2)(w, s, xs) ** 2).sum())(xs))(ws)
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("kind", STEP)
def test_gradients_are_those_without_checkpoints(kind: str, name: str) -> None:
    found, wanted = [
        flatten(TRANSFORMS[name](lambda w, s, xs: _loss(w, s, xs, STEP[kind], k))(*_arrays()))[0]  # noqa: B023
        for k in (3, None)
    ]
    for one, other in zip(found, wanted, strict=True):
        assert not one.requires_grad
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12, atol=1e-14)
