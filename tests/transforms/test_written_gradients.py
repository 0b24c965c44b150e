"""Gradients have memory of their own, even where all their elements are one number: they may be written to in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import wengert as wg


def by_tape(x: Any) -> Any:
    with wg.GradientTape() as tape:
        tape.watch(x)
        out = x.sum()
    return tape.gradient(out, x)


WAYS: list[Callable[[Any], Any]] = [
    lambda x: wg.autograd.grad(x.sum(), [x])[0],
    lambda x: wg.autograd.grad(x.sum(), [x], create_graph=True)[0],
    lambda x: wg.grad(wg.sum)(x),
    lambda x: wg.value_and_grad(wg.mean)(x)[1] * 3,
    lambda x: wg.vjp(wg.sum, x)[1](wg.tensor(1.0))[0],
    lambda x: wg.jacrev(wg.sum)(x),
    by_tape,
]


@pytest.mark.parametrize("compiler", [lambda function: function, wg.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("way", WAYS)
def test_a_gradient_of_equal_elements_can_be_written_to(way: Any, compiler: Any) -> None:
    def function(x: Any) -> Any:
        gradient = way(x)
        gradient *= 2
        gradient[0] = 7
        return gradient

    assert compiler(function)(wg.tensor([1.0, 2.0, 3.0], requires_grad=True)).tolist() == [7, 2, 2]


def test_derivatives_go_on_through_a_gradient_of_equal_elements() -> None:
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    gradient = wg.autograd.grad((x.sum()) ** 2, [x], create_graph=True)[0]
    gradient *= x
    gradient.sum().backward()
    # The gradient is 2 s for each element, and the sum of 2 s x is 2 s^2, whose derivative is 4 s.
    assert x.grad is not None and x.grad.tolist() == [12, 12]
