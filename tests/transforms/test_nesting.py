"""Every face of the engine inside of every other, to the third order; perturbations are never confused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of

Scalar = Callable[[Any], Any]


def by_grad(f: Scalar) -> Scalar:
    return wg.grad(f)


def by_value_and_grad(f: Scalar) -> Scalar:
    return lambda x: wg.value_and_grad(f)(x)[1]


def by_vjp(f: Scalar) -> Scalar:
    def derivative(x: Any) -> Any:
        out, pullback = wg.vjp(f, x)
        return pullback(wg.ones_like(out))[0]

    return derivative


def as_tracked(x: Any) -> Any:
    return x if x.requires_grad else x.detach().clone().requires_grad_()


def by_autograd(f: Scalar) -> Scalar:
    def derivative(x: Any) -> Any:
        x = as_tracked(x)
        return wg.autograd.grad(f(x), x, create_graph=True)[0]

    return derivative


def by_backward(f: Scalar) -> Scalar:
    def derivative(x: Any) -> Any:
        x = as_tracked(x)
        y = f(x)
        held, x.grad = x.grad, None
        y.backward(create_graph=True, inputs=x)
        derivative, x.grad = x.grad, held
        return derivative

    return derivative


def by_tape(f: Scalar) -> Scalar:
    def derivative(x: Any) -> Any:
        with wg.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return derivative


def under_a_tape(f: Scalar) -> Scalar:
    """Let somebody watch, so that inner tapes record their gradients."""

    def observed(x: Any) -> Any:
        with wg.GradientTape():
            return f(x)

    return observed


FACES = [by_grad, by_value_and_grad, by_vjp, by_autograd, by_backward, by_tape]


@pytest.mark.parametrize("inner", FACES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("outer", FACES, ids=lambda f: f.__name__)
def test_two_faces(outer: Any, inner: Any) -> None:
    check((outer, inner), 2)


@pytest.mark.parametrize("outer", FACES, ids=lambda f: f.__name__)
def test_three_faces(outer: Any) -> None:
    for inner in itertools.product(FACES, repeat=2):
        check((outer, *inner), 3)


def check(faces: tuple[Any, ...], order: int) -> None:
    """Differentiate sin(3 x) exp(x) w, where w is closed over, with respect to x and then to w."""
    w = wg.tensor(2.0, dtype="float64", requires_grad=True)

    def f(x: Any) -> Any:
        return wg.sin(3.0 * x) * wg.exp(x) * w

    for face in reversed(faces):
        f = face(f)
    x = wg.tensor(0.3, dtype="float64")
    # (d/dx)^n sin(3 x) exp(x) is the imaginary part of (1 + 3i)^n exp((1 + 3i) x).
    expected = ((1 + 3j) ** order * np.exp((1 + 3j) * 0.3)).imag
    made = under_a_tape(f)(x)
    assert made.item() == pytest.approx(2.0 * expected, rel=1e-12)
    assert w.grad is None
    made.backward()
    assert grad_of(w).item() == pytest.approx(expected, rel=1e-12)
    assert x.grad is None and not x.requires_grad


@pytest.mark.parametrize("inner", FACES[:3], ids=lambda f: f.__name__)
@pytest.mark.parametrize("outer", FACES[:3], ids=lambda f: f.__name__)
def test_perturbations_are_not_confused(outer: Any, inner: Any) -> None:
    one = wg.tensor(1.0, dtype="float64")
    # d/dx (x d/dy (x + y)) = 1, not 2
    assert outer(lambda x: x * inner(lambda y: x + y)(one))(one).item() == 1.0
    # d/dx (x d/dy (x y)) = 2 x
    assert outer(lambda x: x * inner(lambda y: x * y)(one))(one * 3.0).item() == 6.0
    # d/dx (x (d/dy x y^2 at y = x)) = d/dx 2 x^3 = 6 x^2
    assert outer(lambda x: x * inner(lambda y: x * y * y)(x))(one * 2.0).item() == 24.0
    # the argument of the inner function is what the outer one was given
    assert outer(lambda x: inner(lambda y: y * x)(x) * inner(lambda y: y * y)(x))(one * 2.0).item() == 8.0
    # three levels, each with a part of its own: d/dx d/dy d/dz x y^2 z^3 at y = x, z = y
    nested = outer(lambda x: inner(lambda y: inner(lambda z: x * y * y * z * z * z)(y))(x))
    # d/dy [3 x y^2 z^2 at z = y] = d/dy 3 x y^4 = 12 x y^3, at y = x: 12 x^4, d/dx = 48 x^3
    assert nested(one * 2.0).item() == 48.0 * 8.0


def test_an_inner_tape_of_a_constant_is_not_confused_either() -> None:
    x = wg.tensor(3.0, dtype="float64")
    with wg.GradientTape() as outer:
        outer.watch(x)
        with wg.GradientTape() as inner:
            y = wg.tensor(1.0, dtype="float64")
            inner.watch(y)
            z = x + y
        result = x * inner.gradient(z, y)
    assert outer.gradient(result, x).item() == 1.0


def test_orders_up_to_eight() -> None:
    f: Scalar = lambda x: x * x * x * x * x * x * x * x  # noqa: E731
    x = wg.tensor(1.0, dtype="float64")
    for order in range(1, 9):
        f = wg.grad(f)
        assert f(x).item() == math.perm(8, order)
    assert wg.grad(f)(x).item() == 0.0


def test_a_training_step_by_gradient_descent_is_differentiable() -> None:
    """Differentiate the loss after one step with respect to the step length: backward() around grad around a loss."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), rng.normal(size=5)
    rate = wg.tensor(0.1, dtype="float64", requires_grad=True)

    def loss(p: Any) -> Any:
        r = wg.asarray(a) @ p["w"] - wg.asarray(b)
        return (r * r).sum()

    p = {"w": wg.tensor(rng.normal(size=3))}
    g = wg.grad(loss)(p)
    assert not g["w"].requires_grad  # nobody watches: the fast way
    after = loss({"w": p["w"] - rate * g["w"]})
    after.backward()
    r = a @ (p["w"].numpy() - 0.1 * g["w"].numpy()) - b
    assert rate.grad.item() == pytest.approx(-2 * r @ a @ g["w"].numpy())


def test_two_steps_of_an_inner_loop() -> None:
    """d/dx of x after two steps of descent on (x - c)^2 with rate h is (1 - 2 h)^2; d/dc is 1 - that."""
    c = wg.tensor(5.0, dtype="float64", requires_grad=True)

    def after(x: Any) -> Any:
        for _ in range(2):
            x = x - 0.1 * wg.grad(lambda t: (t - c) * (t - c))(x)
        return x

    x = wg.tensor(1.0, dtype="float64", requires_grad=True)
    after(x).backward()
    assert x.grad.item() == pytest.approx(0.64) and c.grad.item() == pytest.approx(0.36)
    assert wg.grad(after)(1.0).item() == pytest.approx(0.64)


def test_hessian_vector_product_by_two_faces() -> None:
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=4), rng.normal(size=4)

    def f(t: Any) -> Any:
        return (wg.sin(t) * t[::-1]).sum()

    def slope_along(t: Any) -> Any:
        return (wg.grad(f)(t) * wg.asarray(v)).sum()

    reverse_over_reverse = wg.grad(slope_along)(x)
    leaf = wg.tensor(x, requires_grad=True)
    (slope,) = wg.autograd.grad(f(leaf), leaf, create_graph=True)
    slope.backward(v)
    np.testing.assert_allclose(reverse_over_reverse.numpy(), leaf.grad.numpy(), rtol=1e-12)
    # d f / d t_i = cos(t_i) t_j + sin(t_j) with j = 3 - i
    exact = -np.sin(x) * x[::-1] * v + (np.cos(x) + np.cos(x[::-1])) * v[::-1]
    np.testing.assert_allclose(leaf.grad.numpy(), exact, rtol=1e-12)


def test_backward_inside_of_a_transformed_function() -> None:
    w = wg.tensor(2.0, dtype="float64", requires_grad=True)

    def f(x: Any) -> Any:
        (w * w * x.detach()).backward()  # somebody else's business
        return x * w

    assert wg.grad(f)(wg.tensor(3.0, dtype="float64")).item() == 2.0
    assert w.grad.item() == 12.0


def test_retain_grad_and_hooks_inside_of_a_transformed_function() -> None:
    seen: list[float] = []

    def f(x: Any) -> Any:
        h = x * x
        h.register_hook(lambda g: seen.append(g.item()))
        h.register_hook(lambda g: g * 2.0)
        return h * 3.0

    assert wg.grad(f)(2.0).item() == 24.0
    assert seen == [3.0]


def test_writes_inside_of_nested_functions() -> None:
    def f(x: Any) -> Any:
        table = wg.zeros(3, dtype="float64")
        table[0] = x * x
        table[1] = table[0] * x
        table[:2] *= 2.0
        return table.sum()

    x = wg.tensor(2.0, dtype="float64")
    assert wg.grad(f)(x).item() == pytest.approx(2 * (2 * 2.0 + 3 * 4.0))
    assert wg.grad(wg.grad(f))(x).item() == pytest.approx(2 * (2 + 6 * 2.0))
    assert wg.grad(wg.grad(wg.grad(f)))(x).item() == pytest.approx(12.0)
