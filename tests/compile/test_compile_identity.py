"""What a function is given is, in some calls, what it closes over, a view of that, or computed from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import wengert as wg
from tests.compile.twins import Compiler, as_it_is, check_same, leaf, play, see

ORDERS = ["wow", "oww", "ooowo", "wwow"]
"""Which argument each call is given: the Tensor that the function closes over, or another."""


def gradient(w: Any) -> Callable[[Any], Any]:
    return lambda x: wg.autograd.grad((x * w * w).sum(), [w])[0]


def tangent(w: Any) -> Callable[[Any], Any]:
    return lambda x: wg.jvp(lambda y: (y * w * x).sum(), (w,), (wg.ones(2),))[1]


def identity(w: Any) -> Callable[[Any], Any]:
    return lambda x: x * 2 if x is w else x * w


def identity_alone(w: Any) -> Callable[[Any], Any]:
    return lambda x: x * 2 if x is w else x * 3


def read_only_where_it_is_another(w: Any) -> Callable[[Any], Any]:
    return lambda x: wg.autograd.grad((x * x).sum(), [x, w], allow_unused=True)[1]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("make", [gradient, tangent, identity, identity_alone, read_only_where_it_is_another])
def test_an_argument_that_is_closed_over_in_some_calls(make: Any, order: str) -> None:
    def scenario(c: Compiler) -> Any:
        given = {"w": leaf(1.0, 2.0), "o": leaf(3.0, 4.0)}
        function = c(make(given["w"]))
        return [see(function(given[name])) for name in order]

    play(scenario)


@pytest.mark.parametrize("order", ORDERS)
def test_a_view_of_an_argument_that_is_a_view_of_a_buffer_in_some_calls(order: str) -> None:
    def scenario(c: Compiler) -> Any:
        buffers = {"w": wg.tensor([1.0, 2.0, 3.0]), "o": wg.tensor([5.0, 6.0, 7.0])}

        @c
        def function(x: Any) -> Any:
            return x[:1], buffers["w"] * 2

        return [see(*function(buffers[name][1:])) for name in order]

    play(scenario)


def gradient_of_the_argument(w: Any) -> Callable[[Any], Any]:
    return lambda x: wg.autograd.grad((x * x).sum(), [w], allow_unused=True)[0]


def outcome(order: str, argument: Callable[[Any], Any], make: Any, c: Compiler) -> list[Any]:
    given = {"w": leaf(1.0, 2.0), "o": leaf(3.0, 4.0)}
    function = c(make(given["w"]))
    seen: list[Any] = []
    for name in order:
        try:
            seen.append(see(function(argument(given[name]))))
        except wg.errors.WengertError as error:
            seen.append(str(error))
    return seen


@pytest.mark.parametrize("argument", [lambda x: x * 1, lambda x: x[:]])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("make", [gradient, gradient_of_the_argument])
def test_what_was_computed_from_a_target_outside_is_refused(make: Any, order: str, argument: Any) -> None:
    eager, compiled = outcome(order, argument, make, as_it_is), outcome(order, argument, make, wg.compile)
    for name, one, other in zip(order, compiled, eager):
        if name == "w":
            assert "was computed from one of them before" in one
        else:
            check_same(one, other)


@pytest.mark.parametrize("argument", [lambda x: x * 1, lambda x: x[:]])
def test_a_write_to_what_is_on_the_tape_already_is_refused_before_anything_is_done(argument: Any) -> None:
    w, counted = leaf(1.0, 2.0), wg.tensor([1.0])

    @wg.compile
    def function(x: Any) -> Any:
        with wg.no_grad():
            counted.copy_(counted * 2)
            x *= 0.5
        return x * x

    with pytest.raises(wg.errors.WengertError, match="writes to a Tensor on the tape"):
        function(argument(w))
    assert counted.tolist() == [1.0] and w.tolist() == [1.0, 2.0]
