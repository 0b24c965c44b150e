"""Fused compositions: forward and derivative against NumPy and the tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.interpreter import spread
from wengert.compile.fuse_elementwise import compile_elementwise
from wengert.compile.scalar_ir import KernelError
from wengert.errors import DTypeError, ShapeError

Function = Callable[..., Any]


def wave(x: Any) -> Any:
    return wg.sin(wg.sigmoid(x))


def gated(x: Any, w: Any, b: Any) -> Any:
    return wg.sin(wg.sigmoid(x) * w) + b


def deep(x: Any, w: Any, b: Any) -> Any:
    hidden = wg.tanh(wg.sin(wg.sigmoid(x) * w) + b) * wg.exp(-x * x)
    return wg.gelu(hidden * 3) + wg.maximum(x, w) / (1 + b**2) - wg.where(x > w, wg.log1p(wg.abs(b)), 0.5 * x)


def masked(x: Any) -> Any:
    return wg.where(x > 0, wg.sqrt(x), 0) + wg.where(x > 0, wg.log(x) / x, -1)


def two_outputs(x: Any, y: Any) -> Any:
    shared = wg.exp(x) * y
    return wg.sin(shared), shared + x


def polynomial_of_many_terms(x: Any) -> Any:
    out = x
    for step in range(20):
        out = wg.tanh(out * 0.9 + x * (step / 20))
    return out


PROGRAMS: list[tuple[Function, int]] = [
    (wave, 1),
    (gated, 3),
    (deep, 3),
    (masked, 1),
    (two_outputs, 2),
    (polynomial_of_many_terms, 1),
]


def on_tape(function: Function, arrays: list[np.ndarray], seeds: list[np.ndarray]) -> tuple[list[Any], list[Any]]:
    leaves = [wg.tensor(array, requires_grad=True) for array in arrays]
    with np.errstate(invalid="ignore"):
        out = function(*leaves)
    outs = out if isinstance(out, tuple) else (out,)
    grads = wg.autograd.grad(outs, leaves, [wg.tensor(seed) for seed in seeds])
    return [o.detach().numpy() for o in outs], [g.numpy() for g in grads]


def draw(count: int, dtype: str, shape: Any = (7, 143)) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(count)]


def test_the_first_program_against_numpy() -> None:
    """The derivative by hand, so that kernel and tape cannot be wrong together."""
    forward, backward = compile_elementwise(wave, 1, "float64")
    (x,) = draw(1, "float64")
    gate = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(forward(x)[0], np.sin(gate), rtol=1e-15)
    seed = np.cos(x)
    np.testing.assert_allclose(backward(x, seed)[0], seed * np.cos(gate) * gate * (1 - gate), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("function", "arity"), PROGRAMS, ids=[f.__name__ for f, _ in PROGRAMS])
def test_a_fused_program_equals_the_tape(function: Function, arity: int, dtype: str) -> None:
    forward, backward = compile_elementwise(function, arity, dtype)
    arrays = draw(arity, dtype)
    outs = forward(*arrays)
    seeds = draw(7, dtype)[: len(outs)]
    bars = backward(*arrays, *seeds)
    tape_outs, tape_bars = on_tape(function, arrays, seeds)
    for kernel, args, got, want in ((forward, arrays, outs, tape_outs), (backward, [*arrays, *seeds], bars, tape_bars)):
        for one, other, allowed in zip(got, want, spread(kernel.function, *args), strict=True):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            assert (np.abs(one - other) <= allowed).all()


def test_a_masked_branch_contributes_exactly_zero() -> None:
    _, backward = compile_elementwise(masked, 1, "float64")
    (bar,) = backward(np.array([-1.0, 0.0, 4.0]), np.ones(3))
    np.testing.assert_array_equal(bar[:2], [0.0, 0.0])
    assert np.isfinite(bar[2])


def test_single_numbers_serve_all_elements_and_gather_their_cotangents() -> None:
    forward, backward = compile_elementwise(gated, 3, "float64")
    x, seed = draw(2, "float64")
    w, b = np.float64(0.7), 1.5
    (out,) = forward(x, w, b)
    np.testing.assert_allclose(out, np.sin(w / (1 + np.exp(-x))) + b, rtol=1e-14)
    x_bar, w_bar, b_bar = backward(x, w, b, seed)
    (tape_out,), tape_bars = on_tape(gated, [x, np.asarray(w), np.asarray(b)], [seed])
    assert tape_out.shape == x_bar.shape == x.shape
    assert np.shape(w_bar) == np.shape(b_bar) == ()
    for got, want in zip((x_bar, w_bar, b_bar), tape_bars):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_all_inputs_may_be_single_numbers_or_empty() -> None:
    forward, backward = compile_elementwise(gated, 3, "float32")
    (out,) = forward(0.0, 1.0, 2.0)
    assert out.shape == () and out.dtype == np.float32
    assert [bar.shape for bar in backward(0.0, 1.0, 2.0, 1.0)] == [(), (), ()]
    assert forward(*[np.empty((0, 3), np.float32)] * 3)[0].shape == (0, 3)


def test_a_conversion_fuses() -> None:
    def half_precise(x: Any) -> Any:
        return wg.astype(wg.exp(wg.astype(x, "float64")), "float32") * 2

    forward, backward = compile_elementwise(half_precise, 1, "float32")
    (x,) = draw(1, "float32")
    want = np.exp(x.astype(np.float64)).astype(np.float32) * np.float32(2)
    np.testing.assert_array_equal(forward(x)[0], want)
    np.testing.assert_array_equal(backward(x, np.ones_like(x))[0], want)


def test_an_input_without_influence_gets_zeros() -> None:
    def first(x: Any, y: Any) -> Any:
        return wg.sin(x) + wg.stop_gradient(y)

    _, backward = compile_elementwise(first, 2, "float64")
    x, seed = draw(2, "float64")
    np.testing.assert_array_equal(backward(x, x, seed)[1], np.zeros_like(x))


def test_views_and_other_layouts_are_accepted() -> None:
    forward, _ = compile_elementwise(wave, 1, "float64")
    (x,) = draw(1, "float64")
    np.testing.assert_array_equal(forward(x.T)[0], forward(x)[0].T)
    np.testing.assert_array_equal(forward(x[:, ::-2])[0], forward(x)[0][:, ::-2])


def test_what_does_not_fit_is_refused() -> None:
    forward, _ = compile_elementwise(gated, 3, "float32")
    ones = np.ones(4, np.float32)
    with pytest.raises(ShapeError, match="gated"):
        forward(ones, ones, np.ones(5, np.float32))
    with pytest.raises(DTypeError, match="x1 is float64"):
        forward(ones, np.ones(4), ones)
    with pytest.raises(TypeError, match="takes 3 arrays, not 1"):
        forward(ones)


def test_what_cannot_be_fused_is_refused() -> None:
    def branching(x: Any) -> Any:
        return x if x > 0 else -x

    def with_closure(x: Any) -> Any:
        return x * wg.tensor([1.0, 2.0])

    def constant(x: Any) -> Any:
        return wg.tensor(1.0)

    for function, words in ((branching, "where"), (with_closure, "pass it as one"), (constant, "does not depend")):
        with pytest.raises(KernelError, match=words):
            compile_elementwise(function, 1, "float32")
