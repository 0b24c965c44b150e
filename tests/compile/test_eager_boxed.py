"""Sweeps of eager code under transforms, as native programs: the derivatives that NumPy computes, and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.eager_programs import without_kernels
from wengert.compile import eager_boxed, eager_sweeps

EPS = float(np.finfo(float).eps)
LABELS = wg.tensor(np.arange(6) % 4)


def drawn(*shapes: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(13)
    return [0.25 + rng.random(shape) for shape in shapes]


def energy(x: Any, w: Any) -> Any:
    return (wg.tanh(w @ wg.sin(x)) * x[:4]).sum() + (x**3).mean()


def loss(w: Any, b: Any, image: Any, label: Any) -> Any:
    return wg.softmax_cross_entropy(wg.expand_dims(wg.relu(image @ w + b), 0), wg.expand_dims(label, 0))


def pushed_gradient(x: Any, w: Any, v: Any) -> Any:
    return wg.jvp(lambda x: wg.grad(energy)(x, w), (x,), (v,))


def pushed_gradients(x: Any, w: Any, v: Any) -> Any:
    return wg.jvp(wg.grad(energy, (0, 1)), (x, w), (v, w))


def hessian_by_columns(x: Any, w: Any, v: Any) -> Any:
    return wg.jacfwd(wg.grad(energy))(x, w)


def pushed_hessian(x: Any, w: Any, v: Any) -> Any:
    return wg.jvp(lambda x: wg.jacfwd(wg.grad(lambda x: wg.sin(x).sum()))(x), (x,), (v,))


def rows(x: Any, w: Any, v: Any) -> Any:
    _, pullback = wg.vjp(lambda x: wg.tanh(w @ x) * x[:4], x)
    return wg.vmap(pullback)(wg.tensor(np.eye(4)))


def per_sample(w: Any, b: Any, images: Any) -> Any:
    return wg.vmap(wg.grad(loss, (0, 1)), in_axes=(None, None, 0, 0))(w, b, images, LABELS)


def per_pair(x: Any, y: Any) -> Any:
    kernel = wg.grad(lambda a, b: wg.exp(-((a - b) ** 2).sum()))
    return wg.vmap(wg.vmap(kernel, in_axes=(None, 0)), in_axes=(0, None))(x, y)


POINT = drawn((6,), (4, 6), (6,))
CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray], int]] = {
    # name: function, arguments, roundings on the longest path from an input to an element of a result
    "forward over reverse": (pushed_gradient, POINT, 100),
    "several arguments": (pushed_gradients, POINT, 100),
    "batched forward over reverse": (hessian_by_columns, POINT, 100),
    "twice forward over reverse": (pushed_hessian, POINT, 100),
    "batched cotangents": (rows, POINT, 100),
    "gradients of examples": (per_sample, drawn((5, 4), (4,), (6, 5)), 100),
    "batched twice": (per_pair, drawn((3, 5), (7, 5)), 100),
}


def arrays_of(tree: Any) -> list[np.ndarray]:
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in arrays_of(part)]
    return [tree.numpy()]


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_numpy(at_once: None, name: str) -> None:
    function, arrays, length = CASES[name]
    tensors = [wg.tensor(array) for array in arrays]
    for _ in range(3):
        found = arrays_of(function(*tensors))
    programs = [account.program for account in eager_boxed.accounts.all()]
    assert programs and all(type(program) is tuple for program in programs)
    wanted = without_kernels(lambda: arrays_of(function(*tensors)))
    for got, want in zip(found, wanted, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=0, atol=length * EPS * max(1.0, np.abs(want).max()))


def test_closed_form(at_once: None) -> None:
    x, v = drawn((40,), (40,))
    for _ in range(3):
        first, second = wg.jvp(wg.grad(lambda x: (wg.sin(x) * x).sum()), (wg.tensor(x),), (wg.tensor(v),))
    np.testing.assert_allclose(first.numpy(), np.cos(x) * x + np.sin(x), rtol=8 * EPS)
    np.testing.assert_allclose(second.numpy(), (2 * np.cos(x) - x * np.sin(x)) * v, rtol=0, atol=20 * EPS)


def test_what_is_recorded_further_out_is_left_to_the_tape(at_once: None) -> None:
    x = wg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    for _ in range(3):
        second = wg.jvp(wg.grad(lambda x: (x**3).sum()), (x,), (np.ones(2),))[1]
        (x_bar,) = wg.autograd.grad(second.sum(), [x])
        np.testing.assert_allclose(x_bar.numpy(), [6.0, 6.0], rtol=4 * EPS)
        third = wg.jvp(lambda y: wg.grad(lambda z: (z**2 * x * y).sum())(y), (wg.tensor(np.ones(2)),), (np.ones(2),))[1]
        (x_bar,) = wg.autograd.grad(third.sum(), [x])
        np.testing.assert_allclose(x_bar.numpy(), [4.0, 4.0], rtol=4 * EPS)


def test_masked_elements_contribute_zero(at_once: None) -> None:
    mask = wg.tensor(np.array([[True, False], [True, False]]))
    weight = wg.tensor(np.array([[1.0, np.inf], [2.0, 3.0]]))
    x = wg.tensor(np.full((3, 2, 2), 0.5))

    def gradients() -> np.ndarray:
        return wg.vmap(wg.grad(lambda x: wg.where(mask, wg.exp(x @ weight), 0.0).sum()))(x).numpy()

    wanted = without_kernels(gradients)
    assert np.isfinite(wanted).all()
    for _ in range(3):
        np.testing.assert_allclose(gradients(), wanted, rtol=20 * EPS)
    ((program, _),) = [account.program for account in eager_boxed.accounts.all()]
    assert program.failures == 3
    for _ in range(eager_sweeps.MOST_FAILURES):
        gradients()
    assert [account.is_retired for account in eager_boxed.accounts.all()] == [True]


def test_leaves_in_a_transform_get_their_gradients(at_once: None) -> None:
    def through_backward(x: Any) -> Any:
        leaf = x.detach() * 1.0
        leaf.requires_grad_()
        (wg.sin(leaf) * leaf).sum().backward()
        return leaf.grad

    x = drawn((3, 5))[0]
    for _ in range(3):
        found = wg.vmap(through_backward)(wg.tensor(x))
        np.testing.assert_allclose(found.numpy(), np.cos(x) * x + np.sin(x), rtol=8 * EPS)
