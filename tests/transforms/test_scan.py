"""`scan` and `fori_loop`: a loop of Python's in every mode, by either way of going back."""

from __future__ import annotations

import tracemalloc
from functools import cache
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.transforms.revolve import fewest_advances

F64 = "float64"
X = np.random.default_rng(0).normal(size=(6, 3))
W = np.random.default_rng(1).normal(size=(3, 3)) / 3
OPTIONS: list[dict[str, Any]] = [{}, {"checkpoints": 1}, {"checkpoints": 2}, {"checkpoints": 10}]


def step(w: Any) -> Any:
    def f(carry: Any, x: Any) -> Any:
        carry = wg.tanh(carry @ w + x)
        return carry, {"sum": carry.sum(), "carry": carry}

    return f


def by_scan(w: Any, xs: Any, **options: Any) -> tuple[Any, Any]:
    return wg.scan(step(w), wg.zeros(3, dtype=F64), xs, **options)


def by_hand(w: Any, xs: Any, reverse: bool = False) -> tuple[Any, Any]:
    carry, emitted = wg.zeros(3, dtype=F64), [None] * len(xs)
    f = step(w)
    for i in reversed(range(len(xs))) if reverse else range(len(xs)):
        carry, emitted[i] = f(carry, xs[i])
    return carry, {
        "sum": wg.stack([y["sum"] for y in emitted]),  # type: ignore[index]
        "carry": wg.stack([y["carry"] for y in emitted]),  # type: ignore[index]
    }


def weighed(result: tuple[Any, Any]) -> Any:
    carry, ys = result
    return (carry**2).sum() + (ys["sum"] * wg.asarray(np.arange(6.0))).sum() + wg.sin(ys["carry"]).sum()


def assert_equal(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_gradients_equal_those_of_a_loop(options: Any, reverse: bool) -> None:
    w, xs = wg.tensor(W), wg.tensor(X)
    got, expected = by_scan(w, xs, reverse=reverse, **options), by_hand(w, xs, reverse)
    assert np.array_equal(got[0], expected[0])
    assert np.array_equal(got[1]["sum"], expected[1]["sum"]) and np.array_equal(got[1]["carry"], expected[1]["carry"])
    slopes = wg.grad(lambda w, xs: weighed(by_scan(w, xs, reverse=reverse, **options)), argnums=(0, 1))(w, xs)
    wanted = wg.grad(lambda w, xs: weighed(by_hand(w, xs, reverse)), argnums=(0, 1))(w, xs)
    for slope, want in zip(slopes, wanted, strict=True):
        assert_equal(slope, want)


@pytest.mark.parametrize("options", OPTIONS[::3], ids=str)
def test_every_mode(options: Any) -> None:
    w, xs = wg.tensor(W), wg.tensor(X)

    def f(w: Any) -> Any:
        return weighed(by_scan(w, xs, **options))

    def plain(w: Any) -> Any:
        return weighed(by_hand(w, xs))

    v = wg.tensor(np.cos(W))
    assert_equal(wg.jvp(f, (w,), (v,))[1], wg.jvp(plain, (w,), (v,))[1])
    assert_equal(wg.linearize(f, w)[1](v), wg.jvp(plain, (w,), (v,))[1])
    assert_equal(wg.hvp(f, w, v), wg.hvp(plain, w, v))
    assert_equal(wg.hessian(f)(w), wg.hessian(plain)(w))
    assert_equal(wg.grad(lambda w: wg.jvp(f, (w,), (v,))[1])(w), wg.grad(lambda w: wg.jvp(plain, (w,), (v,))[1])(w))
    many = wg.tensor(np.stack([W, 2 * W]))
    assert_equal(wg.vmap(wg.grad(f))(many), [wg.grad(plain)(one) for one in many])
    assert_equal(wg.grad(lambda many: wg.vmap(f)(many).sum())(many), [wg.grad(plain)(one) for one in many])
    assert_equal(wg.grad(wg.checkpoint(f))(w), wg.grad(plain)(w))


def test_a_leaf_that_is_closed_over_gets_its_gradient() -> None:
    for options in OPTIONS:
        w = wg.tensor(W, requires_grad=True)
        weighed(by_scan(w, wg.tensor(X), **options)).backward()
        assert_equal(w.grad, wg.grad(lambda w: weighed(by_hand(w, wg.tensor(X))))(wg.tensor(W)))


def test_memory_is_bounded_by_checkpoints() -> None:
    x = wg.tensor(np.full(100_000, 0.5))

    def peak(steps: int, checkpoints: int | None) -> int:
        def loss(x: Any) -> Any:
            return wg.scan(lambda c, _: (wg.sin(c) * 1.01, None), x, length=steps, checkpoints=checkpoints)[0].sum()

        wg.grad(loss)(x)
        tracemalloc.start()
        try:
            wg.grad(loss)(x)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(200, 5) < 1.2 * peak(50, 5)
    assert peak(200, None) > 3 * peak(50, None)


def test_pytrees_and_nothing_to_scan() -> None:
    carry, ys = wg.scan(lambda c, x: ({"n": c["n"] + 1}, None), {"n": 0}, length=4)
    assert carry["n"].item() == 4 and ys is None
    total, ys = wg.scan(lambda c, x: (c + x["a"] * x["b"][0], x["a"]), 0.0, {"a": wg.ones(3), "b": [wg.arange(3.0)]})
    assert total.item() == 3.0 and ys.tolist() == [1.0, 1.0, 1.0]
    carry, ys = wg.scan(lambda c, x: (c + x, c * x), wg.tensor(2.0), wg.zeros(0))
    assert carry.item() == 2.0 and ys.shape == (0,)


def test_fori_loop_counts() -> None:
    assert wg.fori_loop(2, 6, lambda i, c: c + i, 0).item() == 2 + 3 + 4 + 5
    assert wg.fori_loop(3, 3, lambda i, c: c + 1, 7).item() == 7
    slope = wg.grad(lambda x: wg.fori_loop(0, 5, lambda i, c: c * x, wg.ones((), dtype=F64)))(wg.tensor(2.0, dtype=F64))
    assert slope.item() == 5 * 2.0**4


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match=r"scan: .* must return \(carry, y\), not Tensor"):
        wg.scan(lambda c, x: c, 0.0, wg.ones(3))
    with pytest.raises(wg.errors.ShapeError, match=r"carry has shape \(\) at first, and .* made it shape \(2,\)"):
        wg.scan(lambda c, x: (wg.ones(2), None), 0.0, wg.ones(3))
    with pytest.raises(wg.errors.StructureError, match="carry"):
        wg.scan(lambda c, x: ((c, c), None), 0.0, wg.ones(3))
    with pytest.raises(wg.errors.ShapeError, match=r"3.*4|4.*3"):
        wg.scan(lambda c, x: (c, None), 0.0, (wg.ones(3), wg.ones(4)))
    with pytest.raises(TypeError, match="length"):
        wg.scan(lambda c, x: (c, None), 0.0)


@cache
def fewest_runs_again(steps: int, slots: int) -> int:
    """How many steps must be run to get to others, by dynamic programming, after a first sweep that is free.

    That sweep goes to the end, for the value; what it keeps costs nothing.
    """
    if steps <= 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    return min(fewest_runs_again(steps - to, slots - 1) + fewest_advances(to, slots) for to in range(1, steps))


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("steps", [9, 30, 77, 100])
def test_steps_are_run_as_seldom_as_can_be(steps: int, slots: int) -> None:
    ran: list[int] = []

    def body(carry: Any, _: Any) -> Any:
        ran.append(1)
        return carry * 1.01, None

    for loop in (
        lambda x: wg.scan(body, x, length=steps, checkpoints=slots)[0],
        lambda x: wg.fori_loop(0, steps, lambda i, c: body(c, i)[0], x, checkpoints=slots),
    ):
        ran.clear()
        out = loop(wg.tensor(1.0, requires_grad=True))
        assert len(ran) == steps
        out.backward()
        # Each once for the value and once to be reversed, and no more than must be to get there.
        assert len(ran) - 2 * steps == fewest_runs_again(steps, slots)


def test_what_is_emitted_alone_is_compared_when_steps_are_run_again() -> None:
    w = wg.tensor([0.9, 0.5], dtype=F64)
    x = wg.ones(2, dtype=F64).requires_grad_()
    for use in (lambda carry, ys: ys.sum(), lambda carry, ys: carry.sum() + ys.sum()):
        ys = use(*wg.scan(lambda c, _: (c * 0.99, c * w), x, length=30, checkpoints=4))
        w[:] = 2.0 * w
        with pytest.raises(wg.errors.GradientError, match="step 29 did other operations, or had other values"):
            ys.backward()
        assert x.grad is None


def test_what_only_unused_emissions_need_is_no_matter() -> None:
    w = wg.tensor(0.9, dtype=F64, requires_grad=True)
    x = wg.tensor(0.5, dtype=F64, requires_grad=True)
    carry, _ = wg.scan(lambda c, _: (wg.sin(c), c * w), x, length=30, checkpoints=4)
    carry.backward()
    expected = wg.grad(lambda x: wg.scan(lambda c, _: (wg.sin(c), None), x, length=30)[0])(x.detach())
    assert_equal(x.grad, expected)
    assert w.grad is None or w.grad.item() == 0.0
