"""The `.grad` that compiled functions leave: which Tensor it is, whether it is on the tape, and for whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, play
from tests.compile.twins import leaf as typed_leaf

SCENARIOS: list[Any] = []


def leaf(*values: float) -> Any:
    """Return a leaf whose `.grad` is not None."""
    return typed_leaf(*values)


def drop_gradients(*leaves: Any) -> None:
    """Let Tensors have no gradients."""
    for one in leaves:
        one.grad = None


def gradients_after_calls(f: Any, w: Any) -> list[Any]:
    """Return the gradient of a Tensor, and whether it is on the tape, after each of three calls."""
    seen: list[Any] = []
    for _ in range(3):
        f(wg.tensor(2.0))
        seen.append((w.grad.tolist(), w.grad.requires_grad))
    return seen


def scenario(function: Any) -> Any:
    SCENARIOS.append(function)
    return function


@scenario
def recorded_sweeps(c: Compiler) -> Any:
    w, v = leaf(1.0, 2.0, 3.0), leaf(1.0, 1.0, 1.0)

    @c
    def f(x):
        (w * w * v * x).sum().backward(create_graph=True)

    seen: list[Any] = []
    for _ in range(3):
        drop_gradients(v, w)
        f(wg.tensor(2.0))
        found = w.grad
        seen.append((found.tolist(), found.requires_grad))
        drop_gradients(v, w)
        (found * found).sum().backward()
        seen.append((w.grad.tolist(), v.grad.tolist()))
    return seen


@scenario
def a_sweep_after_a_recorded_one(c: Compiler) -> Any:
    w = leaf(1.0, 2.0, 3.0)

    @c
    def f(x):
        drop_gradients(w)
        (w * w * x).sum().backward(create_graph=True)
        (w * x).sum().backward()

    return gradients_after_calls(f, w)


@scenario
def a_hook_that_multiplies(c: Compiler) -> Any:
    w = leaf(1.0, 2.0, 3.0)

    @c
    def f(x):
        drop_gradients(w)
        z = w * 1
        z.register_hook(lambda bar: bar * w)
        (z * z * x).sum().backward()

    return gradients_after_calls(f, w)


@scenario
def a_gradient_that_is_returned(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)

    @c
    def f(x):
        drop_gradients(w)
        (w * x).sum().backward()
        return w.grad, w.grad[:1]

    seen: list[Any] = []
    for _ in range(3):
        whole, part = f(wg.tensor(2.0))
        part[...] = 7.0
        seen.append((whole is w.grad, w.grad.tolist()))
    return seen


@scenario
def an_argument_for_a_gradient(c: Compiler) -> Any:
    v, w = leaf(1.0, 2.0), leaf(1.0, 2.0)

    @c
    def f(x):
        v.grad = w.grad = x
        return x * 1

    seen: list[Any] = []
    for k in range(3):
        x = wg.tensor([1.0, float(k)])
        f(x)
        seen.append((v.grad is x, w.grad is x))
    return seen


@scenario
def an_array_for_a_gradient(c: Compiler) -> Any:
    v, w = leaf(1.0, 2.0), leaf(1.0, 2.0)

    @c
    def f(x):
        x = wg.asarray(x)
        v.grad = w.grad = x
        return x * 1

    seen: list[Any] = []
    for _ in range(3):
        array = np.array([1.0, 5.0], np.float32)
        f(array)
        array[0] = 3.0
        seen.append((v.grad is w.grad, v.grad.tolist()))
        (v * v).sum().backward()
        seen.append((v.grad.tolist(), w.grad.tolist()))
    return seen


@scenario
def a_gradient_that_is_closed_over(c: Compiler) -> Any:
    v, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    v.grad = v

    @c
    def f(x):
        w.grad = v
        found = v.grad * x + v
        return found, w.grad is v

    seen: list[Any] = []
    for k in range(6):
        found, is_same = f(wg.tensor(2.0))
        seen.append((found.tolist(), is_same, w.grad is v))
        v.grad = wg.ones(2) * k if k % 2 else v
        w.grad = wg.zeros(2)
    return seen


@scenario
def a_gradient_that_is_an_argument(c: Compiler) -> Any:
    w = leaf(3.0, 4.0)

    @c
    def f(x):
        with wg.no_grad():
            w.grad *= 0.5
        return x + w.grad

    seen: list[Any] = []
    for k in range(6):
        x = wg.tensor([1.0, float(k)])
        w.grad = x if k % 3 == 0 else wg.ones(2)
        seen.append((f(x).tolist(), x.tolist(), w.grad.tolist()))
    return seen


@scenario
def gradients_in_memory_of_arrays(c: Compiler) -> Any:
    w = leaf(3.0, 4.0)

    @c
    def f(x):
        return w.grad * x

    seen: list[Any] = []
    for k in range(4):
        w.grad = wg.asarray(np.array([1.0, k], np.float32))
        seen.append(f(wg.tensor(2.0)).tolist())
    return seen


@scenario
def gradients_that_are_on_the_tape_at_times(c: Compiler) -> Any:
    v, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    called = c(lambda x: w.grad * x)
    seen: list[Any] = []
    for k in range(5):
        w.grad = v * 2 if k % 2 else wg.ones(2)
        result = called(wg.tensor(2.0))
        seen.append((result.tolist(), result.requires_grad))
        if k % 2:
            drop_gradients(v)
            result.sum().backward()
            seen.append(v.grad.tolist())
    return seen


@scenario
def gradients_in_turn(c: Compiler) -> Any:
    v, w = leaf(1.0, 2.0), leaf(1.0, 2.0)
    v.grad, w.grad = first, second = wg.ones(2), wg.zeros(2)

    @c
    def f():
        v.grad, w.grad = w.grad, v.grad

    seen: list[Any] = []
    for _ in range(3):
        f()
        seen.append((v.grad is first, w.grad is first, v.grad is second, w.grad is second))
    return seen


@scenario
def one_gradient_of_two(c: Compiler) -> Any:
    v, w = leaf(1.0, 2.0), leaf(1.0, 2.0)

    @c
    def f(x):
        v.grad = w.grad = x * 2

    seen: list[Any] = []
    for _ in range(3):
        f(wg.ones(2))
        seen.append((v.grad is w.grad, v.grad.tolist()))
    return seen


def differentiated(w: Any, sweep: Any, how: str, seen: list[Any]) -> None:
    """Call a function that sweeps, alone or while others look on, and differentiate what it leaves."""
    if how == "alone":
        found = sweep()
    elif how == "in grad":
        seen.append(wg.grad(lambda y: (sweep() * y).sum())(wg.ones(2)).tolist())
        found = sweep()
    else:
        with wg.GradientTape() as tape:
            tape.watch(w)
            found = sweep()
            norm = (found**2).sum()
        seen.append(tape.gradient(norm, w).tolist())
    seen.append((found.requires_grad, found.tolist()))


ORDER = ["alone", "in grad", "on a tape"] * 2 + ["alone"] * 3 + ["on a tape", "in grad"]
"""Who looks on, from call to call: a gradient is recorded where somebody might differentiate it."""


@scenario
def sweeps_while_others_look_on(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)

    @c
    def f(x):
        drop_gradients(w)
        (w * w * x).sum().backward()

    def sweep() -> Any:
        f(wg.tensor(2.0))
        return w.grad

    seen: list[Any] = []
    for how in ORDER:
        differentiated(w, sweep, how, seen)
    return seen


@scenario
def gradients_asked_for_while_others_look_on(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)

    @c
    def f(x):
        return wg.autograd.grad((w * w * x).sum(), [w])[0]

    seen: list[Any] = []
    for how in ORDER:
        differentiated(w, lambda: f(wg.tensor(2.0)), how, seen)
    return seen


@pytest.mark.parametrize("function", SCENARIOS)
def test_gradients_are_left_as_without_compilation(function: Any) -> None:
    play(function)
