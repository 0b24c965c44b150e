"""Operations with several outputs: each output is a value of its own, in every sweep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.core.primitive import REGISTRY
from wengert.declare import Sample, opaque


@pytest.fixture(scope="module")
def both() -> Iterator[Any]:
    """Declare an operation that returns (exp(x), x * x), and take it off the registry again."""

    @opaque(samples=[Sample((2,))], multiple=True)
    def exponential_and_square(xp: Any, x: Any) -> Any:
        return xp.exp(x), x * x

    @exponential_and_square.vjp
    def exponential_and_square_vjp(out_bar: Any, x: Any, out: Any) -> Any:
        return out_bar[0] * out[0] + 2.0 * x * out_bar[1]

    @exponential_and_square.jvp
    def exponential_and_square_jvp(x: Any, x_dot: Any, out: Any) -> Any:
        return out[0] * x_dot, 2.0 * x * x_dot

    @exponential_and_square.batched
    def exponential_and_square_batched(xp: Any, x: Any) -> Any:
        return exponential_and_square(x)

    REGISTRY.seal()
    yield exponential_and_square
    del REGISTRY._primitives["exponential_and_square"]


def test_each_output_alone_and_together(both: Any) -> None:
    x = wg.tensor([0.5, 2.0], dtype="float64", requires_grad=True)
    u, v = both(x)
    total = u.sum() + 3.0 * v.sum()
    (g,) = wg.autograd.grad(v.sum(), x, retain_graph=True)
    assert g.tolist() == [1.0, 4.0]
    total.backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([0.5, 2.0]) + np.array([3.0, 12.0]))


def test_an_output_is_an_input_of_the_recorded_rule(both: Any) -> None:
    x = wg.tensor(0.5, dtype="float64", requires_grad=True)
    u, v = both(x)
    (g,) = wg.autograd.grad(u * u + v, x, create_graph=True)  # 2 u exp(x) + 2 x, where exp(x) is u
    for_u, for_x = wg.autograd.grad(g, [u, x], retain_graph=True)
    assert for_u.item() == pytest.approx(4 * np.exp(0.5))
    assert for_x.item() == pytest.approx(4 * np.exp(1.0) + 2.0)


def test_hooks_and_higher_orders(both: Any) -> None:
    def f(x: Any) -> Any:
        u, v = both(x)
        v.register_hook(lambda g: g * 10.0)
        return u + v

    assert wg.grad(f)(0.5).item() == pytest.approx(np.exp(0.5) + 10.0)
    assert wg.grad(wg.grad(lambda x: both(x)[0] * both(x)[1]))(wg.tensor(0.5, dtype="float64")).item() == pytest.approx(
        np.exp(0.5) * (0.25 + 4 * 0.5 + 2)
    )
