"""What is run again (checkpoints, loops at bounded memory) computes the same bits, whatever has been compiled since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.eager_programs import without_kernels
from wengert.compile import eager, eager_operations
from wengert.core import native

SIZE = 300
EPS = float(np.finfo(np.float64).eps)
ONE = 1e-6
"""A saving, of which so many make a program mature: 2 to 9 occurrences."""


def layer(x: Any) -> Any:
    return wg.exp(wg.sin(x) * 0.7) * wg.tanh(x) + wg.log1p(x * x)


def checkpointed(x: Any) -> Any:
    block = wg.checkpoint(layer)
    return wg.sum(block(block(x)))


def nested(x: Any) -> Any:
    return wg.sum(wg.checkpoint(lambda y: wg.checkpoint(layer)(layer(y)))(x))


def looped(x: Any) -> Any:
    def step(carry: Any) -> Any:
        return carry[0] + 1, layer(carry[1] * x)

    return wg.sum(wg.while_loop(lambda carry: carry[0] < 9, step, (wg.tensor(0), x), checkpoints=3)[1])


def gradients_in_a_loop(x: Any) -> Any:
    def step(y: Any, _: Any) -> Any:
        return y - 0.1 * wg.grad(lambda z: wg.sum(layer(z) * x))(y), None

    return wg.sum(wg.scan(step, x, None, length=7, checkpoints=2)[0])


def under_jvp(x: Any) -> Any:
    return wg.jvp(lambda y: looped(y) + checkpointed(y), (x,), (x * 0.3,))[1]


def under_vmap(x: Any) -> Any:
    return wg.vmap(lambda y: looped(y) + checkpointed(y))(wg.stack([x, x * 0.5])).sum()


def tangents_in_a_loop(x: Any) -> Any:
    def step(y: Any, _: Any) -> Any:
        return wg.jvp(layer, (y,), (x,))[1] + wg.vmap(layer)(wg.stack([y, x])).sum(axis=0) * 0.1, None

    return wg.sum(wg.scan(step, x, None, length=5, checkpoints=2)[0])


def layers_in_turn(x: Any) -> Any:
    weight = wg.asarray(np.linspace(-1.0, 1.0, SIZE * 4).reshape(4, SIZE))
    block = wg.checkpoint(
        lambda y: wg.in_turn(y, (wg.sin,), (wg.nn.functional.linear, weight), (wg.nn.functional.relu,))
    )
    return wg.sum(block(x) ** 2)


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    program.__name__: program
    for program in (
        checkpointed,
        nested,
        looped,
        gradients_in_a_loop,
        under_jvp,
        under_vmap,
        tangents_in_a_loop,
        layers_in_turn,
    )
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("patience", [2, 3, 5, 9])
def test_programs_that_come_up_on_the_way(
    at_once: None, monkeypatch: pytest.MonkeyPatch, name: str, patience: int
) -> None:
    monkeypatch.setattr(eager.tariff, "share", (patience - 0.5) * ONE / eager.tariff.operation)
    monkeypatch.setattr(eager_operations, "saving_of", lambda *_: ONE)
    rng = np.random.default_rng(patience)
    start = rng.uniform(0.1, 0.9, SIZE)
    wanted = without_kernels(lambda: gradient(PROGRAMS[name], start))
    for _ in range(6):
        got = gradient(PROGRAMS[name], start)
        # Some tens of operations, each of a relative error of a few units, on values near one.
        np.testing.assert_allclose(
            got, wanted, rtol=1e3 * np.finfo(np.float64).eps, atol=1e3 * np.finfo(np.float64).eps
        )


def gradient(program: Callable[[Any], Any], start: np.ndarray) -> np.ndarray:
    x = wg.tensor(start, requires_grad=True)
    program(x).backward()
    return x.grad.numpy()


def test_a_mark_holds_within_another_one(at_once: None) -> None:
    early = native.mark()
    x = wg.ones(SIZE) * 0.5
    with native.as_of(early):
        for _ in range(4):
            wg.sin(x)
        assert native.mark() == early
    late = native.mark()
    assert late > early
    with native.as_of(early), native.as_of(late):
        assert native.mark() == early
    assert native.mark() == late
