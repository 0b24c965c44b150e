"""Gradients taken inside of a transform's function are recorded by themselves: nothing is silently constant."""

from __future__ import annotations

from typing import Any

import pytest

import wengert as wg


def test_a_gradient_inside_of_grad_is_differentiated() -> None:
    assert wg.grad(lambda x: wg.autograd.grad(x**3, x)[0])(2.0).item() == 12.0
    assert wg.grad(lambda x: wg.autograd.grad(x**3, x, create_graph=False)[0])(2.0).item() == 0.0


def test_a_leaf_made_inside_of_grad_has_a_gradient_that_is_differentiated() -> None:
    def slope(x: Any) -> Any:
        p = wg.tensor(2.0, requires_grad=True)
        (p * p * x).backward()
        return p.grad

    assert wg.grad(slope)(1.0).item() == 4.0
    assert wg.jvp(slope, (1.0,), (1.0,))[1].item() == 4.0


def test_backward_inside_of_grad_leaves_the_rest_of_the_function_alone() -> None:
    a = wg.tensor(3.0, requires_grad=True)

    def function(x: Any) -> Any:
        (x * a).backward()
        return x * x

    assert wg.grad(function)(3.0).item() == 6.0
    assert a.grad is not None and a.grad.item() == 3.0


def test_an_optimiser_inside_of_a_transform_is_refused_with_the_cure() -> None:
    def trained(x: Any) -> Any:
        p = wg.tensor(2.0, requires_grad=True)
        (p * x).backward()
        wg.optim.SGD([p], lr=0.1).step()
        return p

    with pytest.raises(wg.errors.GradientError, match="compute new values instead"):
        wg.jvp(trained, (1.0,), (1.0,))
