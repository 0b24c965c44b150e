"""Results of compiled functions that are views: of arguments, of each other, of what is closed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import wengert as wg


def doubled_and_its_part(x: Any) -> Any:
    y = x * 2
    return y, y[0:2]


def part_before_the_whole(x: Any) -> Any:
    y = x * 2
    return y[0:2], y, y


def reshaped(x: Any) -> Any:
    return (x.reshape(2, 2),)


def sliced(x: Any) -> Any:
    return (x[1:],)


def detached(x: Any) -> Any:
    return (x.detach(),)


FUNCTIONS = [doubled_and_its_part, part_before_the_whole, reshaped, sliced, detached]


def after_writes(function: Callable[[Any], Any]) -> list[Any]:
    x = wg.tensor([1.0, 2.0, 3.0, 4.0])
    results = [function(x) for _ in range(3)][-1]
    x[0] = 100.0
    results[0].fill_(7.0)
    return [x.tolist(), *[result.tolist() for result in results]]


@pytest.mark.parametrize("function", FUNCTIONS, ids=[function.__name__ for function in FUNCTIONS])
def test_writes_are_seen_through_what_a_compiled_function_returns(function: Callable[[Any], Any]) -> None:
    assert after_writes(wg.compile(function)) == after_writes(function)


@pytest.mark.parametrize(
    "view",
    [wg.stop_gradient, lambda x: x.detach(), lambda x: x.reshape(1), lambda x: x[None], lambda x: x[...], lambda x: x],
)
@pytest.mark.parametrize("made", [lambda x: x.sum(), lambda x: x[0]])
def test_a_number_that_is_viewed_is_written_in_place(view: Callable[[Any], Any], made: Callable[[Any], Any]) -> None:
    def function(x: Any) -> Any:
        number = held = made(x)
        seen = view(number)
        number *= 0.5
        return seen, number, held

    def outcome(called: Callable[[Any], Any]) -> list[Any]:
        return [result.tolist() for result in called(wg.tensor([1.0, 3.0]))]

    assert outcome(wg.compile(function)) == outcome(function)


def test_a_leaf_that_is_returned_twice_is_the_same_object() -> None:
    compiled = wg.compile(part_before_the_whole)
    for _ in range(2):
        _, first, second = compiled(wg.ones(4))
        assert first is second


def test_views_of_results_and_of_parameters_are_on_the_tape() -> None:
    w = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)

    def function(x: Any) -> Any:
        y = w * x
        return y, y[1:], w[:2]

    gradients = []
    for called in (function, *[wg.compile(function)] * 2):
        w.grad = None
        y, part, of_parameter = called(wg.tensor([1.0, 2.0, 3.0]))
        (y.sum() + (part * part).sum() + of_parameter.sum()).backward()
        assert w.grad is not None
        gradients.append(w.grad.tolist())
    # By hand: x + 2 w x^2 (but for the first element), and one for each of the first two.
    assert gradients == [[2.0, 2 + 2 * 2 * 4 + 1.0, 3 + 2 * 3 * 9.0]] * 3
