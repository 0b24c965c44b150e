"""`checkpoint` with forward mode and batching: inside, around, and in sweeps after these have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.errors import RecomputationError

W = wg.tensor(np.random.default_rng(0).normal(size=(3, 3)), requires_grad=True)
POINT = np.linspace(-1, 1, 3)
POINTS = np.linspace(-1, 1, 12).reshape(4, 3)


def layer(x: Any) -> Any:
    return wg.tanh(wg.sin(x) @ W) * x


def plain(x: Any) -> Any:
    return wg.sum(layer(layer(x)) ** 2)


def checkpointed(x: Any) -> Any:
    return wg.sum(wg.checkpoint(layer)(wg.checkpoint(layer)(x)) ** 2)


def nested(x: Any) -> Any:
    return wg.checkpoint(lambda x: wg.sum(wg.checkpoint(layer)(wg.checkpoint(layer)(x)) ** 2))(x)


def closing_over(x: Any) -> Any:
    return wg.checkpoint(lambda: wg.sum(layer(layer(x)) ** 2))()


def given_weights(x: Any) -> Any:
    return wg.checkpoint(lambda x, w: wg.sum((wg.tanh(wg.sin(x) @ w) * x) @ w * wg.exp(w[0])))(x, W)


def given_weights_plain(x: Any) -> Any:
    return wg.sum((wg.tanh(wg.sin(x) @ W) * x) @ W * wg.exp(W[0]))


def sweep_after_vmap(f: Callable[..., Any]) -> list[Any]:
    x = wg.tensor(POINTS, requires_grad=True)
    return list(wg.autograd.grad(wg.sum(wg.vmap(f)(x) ** 2), [x, W]))


def sweep_after_jvp(f: Callable[..., Any]) -> list[Any]:
    x = wg.tensor(POINT, requires_grad=True)
    value, tangent = wg.jvp(f, (x,), (wg.tensor(POINT * 2),))
    return list(wg.autograd.grad(value * tangent, [x, W]))


def sweep_after_both(f: Callable[..., Any]) -> list[Any]:
    x = wg.tensor(POINTS, requires_grad=True)

    def tangent(row: Any) -> Any:
        return wg.jvp(wg.grad(f), (row,), (row * 2.0,))[1]

    return list(wg.autograd.grad(wg.sum(wg.vmap(tangent)(x) ** 2), [x, W]))


def tape_after_vmap(f: Callable[..., Any]) -> list[Any]:
    x = wg.tensor(POINTS)
    with wg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = wg.sum(wg.vmap(f)(x) ** 2)
    return [tape.gradient(y, x), tape.gradient(y, x)]


USES: dict[str, Callable[[Callable[..., Any]], Any]] = {
    "jvp": lambda f: wg.jvp(f, (POINT,), (POINT * 2,)),
    "vmap": lambda f: [wg.vmap(f)(POINTS)],
    "linearize": lambda f: [wg.linearize(f, POINT)[1](POINT * 3)],
    "vmap of grad": lambda f: [wg.vmap(wg.grad(f))(POINTS)],
    "vmap of hessian": lambda f: [wg.vmap(wg.hessian(f))(POINTS)],
    "hessian": lambda f: [wg.hessian(f)(POINT)],
    "jacfwd of grad": lambda f: [wg.jacfwd(wg.grad(f))(POINT)],
    "jacrev of grad": lambda f: [wg.jacrev(wg.grad(f))(POINT)],
    "grad of jvp": lambda f: [wg.grad(lambda x: wg.jvp(f, (x,), (x * 2.0,))[1])(POINT)],
    "grad of vmap": lambda f: [wg.grad(lambda x: wg.sum(wg.vmap(f)(x) ** 2))(POINTS)],
    "pullback in jvp": lambda f: [wg.jvp(lambda x: wg.vjp(f, x)[1](1.0)[0], (POINT,), (POINT * 3,))[1]],
    "sweep after vmap": sweep_after_vmap,
    "sweep after jvp": sweep_after_jvp,
    "sweep after both": sweep_after_both,
    "tape after vmap": tape_after_vmap,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("function", [checkpointed, nested, closing_over])
def test_the_same_as_without(use: str, function: Callable[..., Any]) -> None:
    for one, other in zip(USES[use](function), USES[use](plain), strict=True):
        np.testing.assert_allclose(np.asarray(one.detach()), np.asarray(other.detach()), rtol=1e-12)


@pytest.mark.parametrize("use", USES)
def test_arguments_from_further_out(use: str) -> None:
    for one, other in zip(USES[use](given_weights), USES[use](given_weights_plain), strict=True):
        np.testing.assert_allclose(np.asarray(one.detach()), np.asarray(other.detach()), rtol=1e-12)


def test_values_are_compared_under_transforms() -> None:
    scale = 2.0

    def pulled(x: Any) -> Any:
        nonlocal scale
        scale = 2.0
        _, pullback = wg.vjp(wg.checkpoint(lambda x: wg.sum(wg.sin(x * scale))), x)
        scale = 3.0
        return pullback(1.0)[0]

    with pytest.raises(RecomputationError, match="other values"):
        wg.jvp(pulled, (POINT,), (POINT,))
    with pytest.raises(RecomputationError, match="other values"):
        wg.vmap(pulled)(POINTS)


@pytest.mark.parametrize("use", USES)
def test_residual_hooks_under_transforms(use: str) -> None:
    with wg.saved_residuals_hooks(lambda t: (t,), lambda packed: packed[0]):
        got = USES[use](plain)
    for one, other in zip(got, USES[use](plain), strict=True):
        np.testing.assert_allclose(np.asarray(one.detach()), np.asarray(other.detach()), rtol=1e-12)


def test_operations_on_cotangents_under_transforms() -> None:
    x = wg.tensor([[1.0, 2.0], [3.0, 4.0]], dtype="float64")

    def reversed_square(row: Any) -> Any:
        return wg.sum(wg.scale_cotangent(row, -1.0) ** 2)

    assert wg.vmap(wg.grad(reversed_square))(x).tolist() == [[-2.0, -4.0], [-6.0, -8.0]]
    assert wg.jvp(reversed_square, (x[0],), (wg.ones(2, dtype="float64"),))[1].item() == 6.0
    clipped = wg.vmap(wg.grad(lambda row: wg.sum(wg.clip_cotangent_norm(row, 1.0) ** 2)))(x)
    np.testing.assert_allclose(clipped.numpy(), x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True))
    batched = wg.grad(lambda x: wg.sum(wg.vmap(lambda row: wg.clip_cotangent_norm(row, 1.0))(x) ** 2))(x)
    np.testing.assert_allclose(batched.numpy(), clipped.numpy())
