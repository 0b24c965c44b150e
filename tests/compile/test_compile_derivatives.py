"""Derivatives of compiled functions, and in them: whatever the tape holds of the function, to the second order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, check_same, leaf, play, see
from wengert.compile.sources import CompileError


def off_the_tape(x: Any, w: Any) -> Any:
    with wg.no_grad():
        y = x * 2
    return x * y * w


def swept_inside(x: Any, w: Any) -> Any:
    return wg.autograd.grad((x**3).sum(), (x,))[0] * x * w


def gradient(x: Any, w: Any) -> Any:
    return wg.grad(lambda z: (z**3 * w).sum())(x)


def pulled_back(x: Any, w: Any) -> Any:
    return wg.vjp(lambda z: z**3, x)[1](w)[0]


def pushed(x: Any, w: Any) -> Any:
    return wg.jvp(lambda z: wg.sin(z) * w, (x,), (w,))[1]


def jacobian(x: Any, w: Any) -> Any:
    return wg.jacrev(lambda z: z**3 * w)(x) @ x


def checkpointed(x: Any, w: Any) -> Any:
    return wg.checkpoint(lambda z: wg.sin(z) * w)(x)


def scanned(x: Any, w: Any) -> Any:
    return wg.scan(lambda carry, z: (carry * z, carry + z), w.sum(), x)[1]


def written(x: Any, w: Any) -> Any:
    y = x * w
    view = y[:1]
    view *= x[1]
    return y * x


def detached(x: Any, w: Any) -> Any:
    return x.detach() * x * w + wg.stop_gradient(x * x) * w * w


def outer(x: Any, w: Any) -> Any:
    return x[:, None] * w


FUNCTIONS: list[Callable[[Any, Any], Any]] = [
    *(off_the_tape, swept_inside, gradient, pulled_back, pushed, jacobian),
    *(checkpointed, scanned, written, detached, outer),
]
NAMES = [function.__name__ for function in FUNCTIONS]


@pytest.mark.parametrize("function", FUNCTIONS, ids=NAMES)
def test_first_order(function: Any) -> None:
    def scenario(c: Compiler) -> Any:
        compiled = c(function)
        seen: list[Any] = []
        for k in range(3):
            x, w = leaf(1.0 + k, 2.0), leaf(0.5, -1.5)
            y = compiled(x, w)
            y.sum().backward()
            seen += see(y.detach(), x, w)
        return seen

    play(scenario)


@pytest.mark.parametrize("wanted", ["x", "w", "both"])
@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f is not checkpointed], ids=lambda f: f.__name__)
def test_second_order(function: Any, wanted: str) -> None:
    """The gradient of the square of a gradient, where only some of the inputs were asked for at first."""

    def scenario(c: Compiler) -> Any:
        compiled = c(function)
        seen: list[Any] = []
        for k in range(2):
            x, w = leaf(1.0 + k, 2.0), leaf(0.5, -1.5)
            total = wg.square(compiled(x, w)).sum()
            inputs = {"x": (x,), "w": (w,), "both": (x, w)}[wanted]
            found = wg.autograd.grad(total, inputs, create_graph=True)
            squares: Any = sum([wg.square(g).sum() for g in found])
            squares.backward()
            seen += see(*[g.detach() for g in found], x, w)
        return seen

    play(scenario)


def test_a_checkpoint_inside_is_refused_at_the_second_order() -> None:
    x, w = leaf(1.0, 2.0), leaf(0.5, -1.5)
    with pytest.raises(wg.errors.GradientError, match=r"a checkpoint.*without wg\.compile"):
        wg.autograd.grad(wg.compile(checkpointed)(x, w).sum(), (x,), create_graph=True)


def test_a_hook_inside_is_not_lost_at_the_second_order() -> None:
    def function(x: Any) -> Any:
        y = x * 1
        y.register_hook(lambda g: g * 3)
        return y * y

    x = leaf(1.0, 2.0)
    wg.compile(function)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [6.0, 12.0]
    with pytest.raises(wg.errors.GradientError, match=r"a hook.*without wg\.compile"):
        wg.autograd.grad(wg.compile(function)(x).sum(), (x,), create_graph=True)


def test_what_a_run_overwrites_is_still_there_for_its_gradient() -> None:
    def scenario(c: Compiler) -> Any:
        w = leaf(1.0, 2.0)

        def function(x: Any) -> Any:
            y = wg.sin(w * x)
            with wg.no_grad():
                w.copy_(w * 0.5)
            return y, w * w * x

        compiled = c(function)
        seen: list[Any] = []
        for k in range(3):
            first, second = compiled(wg.tensor([1.0, 1.0 + k]))
            total = first.sum() + second.sum()
            (found,) = wg.autograd.grad(total, (w,), create_graph=k > 0)
            seen += see(found.detach(), w)
        return seen

    play(scenario)


def test_an_output_that_does_not_depend_on_an_input_leaves_it_without_gradient() -> None:
    compiled = wg.compile(lambda x, w: ((x * x).sum(), (w * 2).sum()))
    for _ in range(2):
        x, w = leaf(1.0, 2.0), leaf(3.0)
        first, _second = compiled(x, w)
        first.backward()
        assert w.grad is None
        assert x.grad is not None
        check_same(np.array(x.grad.numpy()), np.array([2.0, 4.0], np.float32))


def test_nothing_is_drawn_twice_where_an_argument_cannot_be_bound() -> None:
    def scenario(c: Compiler) -> Any:
        compiled = c(lambda x: wg.random.rand(3) + x)
        table = wg.tensor(np.arange(12.0, dtype=np.float32).reshape(3, 4))
        rows = [wg.ones(3), wg.ones(3), wg.ones(3), table[:, 1], wg.ones(3), table[:, 2]]
        return see(*[compiled(row) for row in rows])

    play(scenario)


def chosen_by(x: Any, w: Any) -> Any:
    return wg.where(x, w.detach(), 0.0)


def chosen_by_and_more(x: Any, w: Any) -> Any:
    return wg.where(x.sum(), w.detach(), 0.0), w * w


@pytest.mark.parametrize("function", [chosen_by, chosen_by_and_more])
def test_an_output_on_the_tape_that_leads_nowhere_adds_nothing_at_the_second_order(function: Any) -> None:
    def scenario(c: Compiler) -> Any:
        x, w = leaf(1.0, 2.0), leaf(0.5, -1.5)
        outs = c(function)(x, w)
        total: Any = sum([wg.square(out).sum() for out in (outs if isinstance(outs, tuple) else (outs,))])
        found = wg.autograd.grad(total, (x, w), create_graph=True, allow_unused=True)
        second = [wg.square(g).sum() for g in found if g is not None]
        if second:
            more: Any = sum(second)
            more.backward()
        return see(*[None if g is None else g.detach() for g in found], x, w)

    play(scenario)


def test_a_condition_gets_no_gradient_where_only_another_result_depends_on_its_origin() -> None:
    def scenario(c: Compiler) -> Any:
        x, w = leaf(1.0, 2.0), leaf(0.5, -1.5)
        function = c(lambda: (wg.where(x, w, 0.0), x * 2))
        chosen, _ = function()
        chosen.sum().backward()
        return see(x, w)

    play(scenario)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_higher_derivatives_are_the_same_when_they_are_compiled(order: int) -> None:
    """Pullbacks are replayed at first, and compiled once they have been differentiated often."""

    def function(x: Any) -> Any:
        return wg.sum(wg.sin(x) * x**2)

    def slope(f: Any) -> Any:
        return lambda x: wg.sum(wg.grad(f)(x) * 2.0)

    compiled: Any = wg.compile(function)
    plain: Any = function
    for _ in range(order):
        compiled, plain = slope(compiled), slope(plain)
    for k in range(6):
        x = wg.tensor([0.1, 0.2, 0.3 + k], dtype=wg.float64)
        # Each order multiplies by two, and no derivative of the function is larger than twelve times 1 + x ** 2.
        size = 2.0**order * 12 * float(np.sum(1 + x.numpy() ** 2))
        assert abs(compiled(x).item() - plain(x).item()) <= 64 * np.finfo(np.float64).eps * size


@pytest.mark.parametrize("first", ["whole", "detached", "unlooped"])
def test_one_value_that_is_returned_with_several_histories(first: str) -> None:
    """A loop that is not entered returns the value that it was given, with a history of its own."""
    w = wg.tensor([1.0, 2.0], requires_grad=True)

    def function(x: Any) -> Any:
        y = w * x
        results = {
            "whole": y,
            "detached": y.detach(),
            "unlooped": wg.while_loop(lambda c: c.sum() > 100.0, lambda c: c * 0.5, y),
        }
        return results.pop(first), *results.values()

    compiled = wg.compile(function)
    for called in (function, compiled, compiled):
        results = called(wg.tensor([3.0, 5.0]))
        assert sorted([result.requires_grad for result in results]) == [False, True, True]
        for result in results:
            if result.requires_grad:
                w.grad = None
                result.sum().backward(retain_graph=True)
                assert w.grad is not None
                assert w.grad.tolist() == [3.0, 5.0]


def test_what_comes_of_a_freed_tape_is_returned_off_it() -> None:
    w = wg.tensor([1.0, 2.0], requires_grad=True)

    def function(x: Any) -> Any:
        product = w * x
        (product * product).sum().backward()
        return product * 2, w * x * x

    compiled = wg.compile(function)
    for called in (function, compiled, compiled):
        w.grad = None
        spent, other = called(wg.tensor(3.0))
        assert w.grad is not None
        assert w.grad.tolist() == [18.0, 36.0]
        assert spent.tolist() == [6.0, 12.0]
        with pytest.raises(wg.errors.GradientError, match=r"freed|not on the tape"):
            spent.sum().backward()
        w.grad = None
        other.sum().backward()
        assert w.grad is not None
        assert w.grad.tolist() == [9.0, 9.0]


def test_an_argument_with_a_history_is_told_from_a_leaf_in_every_call() -> None:
    w = wg.tensor([0.3, 0.7], requires_grad=True)
    compiled = wg.compile(lambda x: wg.autograd.grad((x * x * w).sum(), [w])[0])
    leaf_of_its_own = wg.ones(2).requires_grad_()
    for _ in range(5):  # so often that the call is known
        assert compiled(leaf_of_its_own).tolist() == [1.0, 1.0]
    for _ in range(2):
        with pytest.raises(CompileError, match="argument 0 was computed from one of them before"):
            compiled(w * 1)
