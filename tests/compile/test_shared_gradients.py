"""Gradients in the memory of other Tensors: a program is for those that share it as they did when it was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, play, see


def its_own_detached(weight: Any, shared: Any) -> Any:
    weight.grad = weight.grad.detach()
    return shared * 2


def a_view_of_it(weight: Any, shared: Any) -> Any:
    weight.grad = weight.grad[:]
    return shared * 2


def returned_view(weight: Any, shared: Any) -> Any:
    return weight.grad[:], shared * 2


def what_it_shares_is_written(weight: Any, shared: Any) -> Any:
    shared[...] = shared * 2
    return weight.grad * 1, shared * 1


def it_is_written(weight: Any, shared: Any) -> Any:
    with wg.no_grad():
        weight.grad[...] = weight.grad * 2
    return weight.grad * 1, shared * 1


FUNCTIONS = [its_own_detached, a_view_of_it, returned_view, what_it_shares_is_written, it_is_written]


@pytest.mark.parametrize("shares_first", [True, False])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_that_come_to_share_memory_and_no_longer_do(function: Any, shares_first: bool) -> None:
    def scenario(c: Compiler) -> Any:
        weight = wg.zeros(3, dtype="float64").requires_grad_()
        shared = wg.tensor(np.full(3, 7.0))
        run, seen = c(lambda x: (x * 2, function(weight, shared))), []
        for call in range(6):
            is_shared = (call // 2 % 2 == 0) is shares_first
            weight.grad = shared.detach() if is_shared else wg.tensor(np.full(3, 100.0 + call))
            result = run(wg.ones(2))
            shared[0] = shared[0] + 1  # seen by all that shares its memory
            seen.append(see(result, weight.grad, shared))
        return seen

    play(scenario)


@pytest.mark.parametrize("renewed", [True, False])
def test_gradients_in_one_flat_array(renewed: bool) -> None:
    def scenario(c: Compiler) -> Any:
        weights = [wg.tensor(np.arange(3.0) + k, requires_grad=True) for k in range(2)]
        flat = wg.zeros(6, dtype="float64")
        total, seen = wg.zeros(1), []

        @c
        def update(x: Any) -> Any:
            with wg.no_grad():
                for weight in weights:
                    weight.copy_(weight - 0.1 * weight.grad)
                    weight.grad[...] = weight.grad * 0.5
            return x * 2

        for call in range(5):
            if renewed:
                flat = wg.zeros(6, dtype="float64")
            for place, weight in enumerate(weights):
                weight.grad = flat[3 * place - (call == 3) * place : 3 * place + 3 - (call == 3) * place]
            flat[...] = wg.sin(wg.arange(6.0)) + call
            seen.append(see(update(total), weights, flat))
        return seen

    play(scenario)


def test_a_closed_over_view_of_a_gradient_stays_one_of_the_former() -> None:
    def scenario(c: Compiler) -> Any:
        weight = wg.zeros(3, dtype="float64").requires_grad_()
        weight.grad = wg.tensor(np.full(3, 5.0))
        view = weight.grad[:2]
        step: Callable[[Any], Any] = c(lambda x: (x * 2, view * 3, weight.grad.copy_(weight.grad + 1) * 2, view * 1))
        seen = []
        for call in range(4):
            if call == 2:
                weight.grad = wg.tensor(np.full(3, 50.0))
            seen.append(see(step(wg.ones(2)), view, weight.grad))
        return seen

    play(scenario)
