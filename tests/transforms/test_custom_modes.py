"""`wg.primitive` under `wg.jvp` and `wg.vmap`, and all three transforms in each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.transforms.test_custom import WAYS, cube_with, doubles
from wengert.errors import BatchLoopWarning, GradientError, NotDifferentiableError, WrongRuleError


@pytest.mark.parametrize("rules", WAYS)
def test_forward_mode(rules: tuple[str, ...]) -> None:
    cube = cube_with(*rules)
    x, v = doubles(1.0, 2.0), doubles(1.0, 10.0)
    out, out_dot = wg.jvp(cube, (x,), (v,))
    assert out.tolist() == [1.0, 8.0] and out_dot.tolist() == [3.0, 120.0]
    _, second = wg.jvp(lambda x: wg.jvp(cube, (x,), (v,))[1], (x,), (v,))
    assert second.tolist() == [6.0, 1200.0]
    over = wg.grad(lambda x: wg.jvp(cube, (x,), (v,))[1].sum())(x)
    assert over.tolist() == [6.0, 120.0]
    _, under = wg.jvp(wg.grad(lambda x: cube(x).sum()), (x,), (v,))
    assert under.tolist() == [6.0, 120.0]
    _, third = wg.jvp(wg.grad(wg.grad(cube)), (np.float64(2.0),), (np.float64(1.0),))
    assert third.item() == pytest.approx(6.0)
    by_v = wg.grad(lambda v: wg.jvp(cube, (x,), (v,))[1].sum())(v)
    assert by_v.tolist() == [3.0, 12.0]
    wg.testing.check_grads(lambda x: wg.sin(cube(x)), (doubles(0.3, 0.7),))


def test_forward_mode_where_only_some_arguments_move() -> None:
    @wg.primitive
    def product(x: Any, y: Any, n: Any) -> Any:
        return {"p": x * y, "n": n + 1}

    @product.defvjp
    def product_vjp(out_bar: Any, x: Any, y: Any) -> Any:
        return {"x": out_bar["p"] * y, "y": out_bar["p"] * x, "n": None}

    out, out_dot = wg.jvp(lambda x: product(x, 3.0, np.array([1, 2]))["p"], (doubles(2.0),), (doubles(1.0),))
    assert out.tolist() == [6.0] and out_dot.tolist() == [3.0]
    _, out_dot = wg.jvp(lambda x, y: product(x, y, 1)["p"], (doubles(2.0), doubles(5.0)), (doubles(1.0), doubles(10.0)))
    assert out_dot.tolist() == [25.0]


def test_forward_mode_without_rules_is_refused() -> None:
    with pytest.raises(NotDifferentiableError, match="cube was given a tracked x"):
        wg.jvp(cube_with(), (doubles(1.0),), (doubles(1.0),))


def test_a_wrong_rule_is_found_in_forward_mode() -> None:
    @wg.primitive
    def sine(x: Any) -> Any:
        return np.sin(x)

    sine.defjvp(lambda x, x_dot: -wg.cos(x) * x_dot)
    with pytest.raises(WrongRuleError, match="the jvp rule"):
        wg.jvp(sine, (doubles(1.0),), (doubles(1.0),))


def test_a_tangent_from_outside_of_the_forward_is_refused() -> None:
    def f(w: Any) -> Any:
        @wg.primitive
        def scaled(x: Any) -> Any:
            return x * w

        return scaled(doubles(1.0))

    with pytest.raises(GradientError, match="'w' from outside"):
        wg.jvp(f, (doubles(1.0),), (doubles(1.0),))


def operation(way: str | None, rules: tuple[str, ...]) -> Any:
    @wg.primitive(batch=way if way != "rule" else None)
    def scaled_sine(x: Any, k: Any) -> Any:
        return np.sin(x) * k, np.argsort(x * k, axis=-1)

    if "vjp" in rules:

        @scaled_sine.defvjp
        def scaled_sine_vjp(out_bar: Any, x: Any, k: Any) -> Any:
            return out_bar[0] * wg.cos(x) * k, out_bar[0] * wg.sin(x)

    if "jvp" in rules:

        @scaled_sine.defjvp
        def scaled_sine_jvp(x: Any, k: Any, x_dot: Any, k_dot: Any) -> Any:
            return wg.cos(x) * k * x_dot + wg.sin(x) * k_dot, None

    if way == "rule":

        @scaled_sine.defbatch
        def scaled_sine_batch(x: Any, k: Any) -> Any:
            return scaled_sine(x, k)

    return scaled_sine


@pytest.mark.parametrize("rules", WAYS)
@pytest.mark.parametrize("way", ["loop", "leading", "rule"])
def test_vmap_and_every_order_of_transforms(way: str, rules: tuple[str, ...]) -> None:
    made = operation(way, rules)
    rng = np.random.default_rng(0)
    xs, k, v = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=3)

    def f(x: Any, k: Any) -> Any:
        return made(x, k)[0]

    def plain(x: Any, k: Any) -> Any:
        return wg.sin(x) * k

    def same(transformed: Callable[..., Any], *args: Any) -> None:
        np.testing.assert_allclose(transformed(f)(*args).numpy(), transformed(plain)(*args).numpy(), rtol=1e-10)

    def summed(f: Any) -> Any:
        return lambda x, k: f(x, k).sum()

    def pushed(f: Any) -> Any:
        return lambda x, k: wg.jvp(lambda x: f(x, k), (x,), (wg.asarray(v),))[1]

    same(lambda f: wg.vmap(f, in_axes=(0, None)), xs, k)
    same(lambda f: wg.vmap(f, in_axes=(1, None)), xs.T, k)
    same(lambda f: wg.vmap(wg.vmap(f)), xs[None], np.broadcast_to(k, (1, 4, 3)))
    same(lambda f: wg.vmap(wg.grad(summed(f)), in_axes=(0, None)), xs, k)
    same(lambda f: wg.vmap(wg.grad(summed(f), 1), in_axes=(0, None)), xs, k)
    same(lambda f: wg.grad(summed(wg.vmap(f, in_axes=(0, None))), 1), xs, k)
    same(lambda f: wg.vmap(pushed(f), in_axes=(0, None)), xs, k)
    same(lambda f: lambda x, k: wg.jvp(lambda k: wg.vmap(f, in_axes=(0, None))(x, k), (k,), (wg.asarray(v),))[1], xs, k)
    same(lambda f: wg.vmap(wg.grad(lambda x, k: wg.grad(summed(f))(x, k).sum()), in_axes=(0, None)), xs, k)
    orders = wg.vmap(lambda x: made(x, k)[1])(xs)
    assert orders.tolist() == np.argsort(xs * k, axis=-1).tolist()


def test_elementwise_batching_of_scalars() -> None:
    @wg.primitive(batch="elementwise")
    def power(x: Any, n: Any) -> Any:
        return x**n

    power.defvjp("x")(lambda out_bar, x, n: out_bar * n * x ** (n - 1))
    xs, ns = np.array([1.0, 2.0, 3.0]), np.array([2, 3, 1])
    assert wg.vmap(power)(xs, ns).tolist() == [1.0, 8.0, 3.0]
    assert wg.vmap(wg.grad(power))(xs, ns).tolist() == [2.0, 12.0, 1.0]
    assert wg.vmap(wg.grad(lambda x: power(x, 2)))(xs).tolist() == [2.0, 4.0, 6.0]


@pytest.mark.parametrize("rules", WAYS)
def test_jacobians_and_hessians(rules: tuple[str, ...]) -> None:
    made = operation("leading", rules)
    k, x = doubles(2.0, 3.0, 4.0), doubles(0.1, 0.2, 0.3)

    def f(x: Any) -> Any:
        return made(x, k)[0]

    expected = np.diag(np.cos(x.numpy()) * k.numpy())
    for jacobian in (wg.jacrev(f), wg.jacfwd(f)):
        np.testing.assert_allclose(jacobian(x).numpy(), expected)
    np.testing.assert_allclose(
        wg.hessian(lambda x: f(x).sum())(x).numpy(), np.diag(-np.sin(x.numpy()) * k.numpy()), rtol=1e-12
    )
    out, push = wg.linearize(f, x)
    np.testing.assert_allclose(push(doubles(1.0, 1.0, 1.0)).numpy(), np.diag(expected))
    assert out.tolist() == (np.sin(x.numpy()) * k.numpy()).tolist()


def test_the_notice_of_a_loop_comes_once() -> None:
    cube = cube_with("vjp")
    with pytest.warns(BatchLoopWarning, match=r"cube has no batching rule.*test_custom_modes\.py"):
        wg.vmap(cube)(np.ones((2, 3)))
    wg.vmap(cube)(np.ones((2, 3)))


def test_a_wrong_batching_rule_is_found() -> None:
    @wg.primitive
    def total(x: Any) -> Any:
        return x.sum()

    total.defbatch(lambda x: x.mean(axis=-1))
    with pytest.raises(WrongRuleError, match="for the last of 2 examples, out is"):
        wg.vmap(total)(np.ones((2, 3)))
