"""Compiled functions on the tape: backward through them, inside them, twice, with hooks, to any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, leaf, play, see
from wengert import optim
from wengert.compile.sources import CompileError
from wengert.core.pytree import flatten

SCENARIOS: list[Any] = []


def scenario(function: Any) -> Any:
    SCENARIOS.append(function)
    return function


@scenario
def set_requires_grad_inside(c: Compiler) -> Any:
    seen = []

    @c
    def f(x):
        y = x.detach().clone().requires_grad_()
        (y * y).sum().backward()
        return y.grad

    for _ in range(3):
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def closed_requires_grad_inside(c: Compiler) -> Any:
    seen = []
    w = wg.tensor([1.0, 3.0])

    @c
    def f(x):
        w.requires_grad_()
        (x * w).sum().backward()
        w.requires_grad_(False)
        return x * w

    for _ in range(3):
        x = wg.tensor([1.0, 2.0])
        seen += see(f(x))
        seen += see(w)
    return seen


@scenario
def out_jvp(c: Compiler) -> Any:
    f = c(lambda x: wg.sin(x) * x)
    return see(*[wg.jvp(f, (wg.tensor([1.0, 2.0]) * k,), (wg.tensor([1.0, 3.0]),)) for k in range(3)])


@scenario
def out_vmap(c: Compiler) -> Any:
    f = c(lambda x: wg.sin(x) * x.sum())
    f(wg.ones(2))
    return see(*[wg.vmap(f)(wg.ones((3, 2)) * k) for k in range(3)])


@scenario
def out_grad(c: Compiler) -> Any:
    f = c(lambda x: (wg.sin(x) * x).sum())
    f(wg.ones(2))
    return see(*[(wg.grad(f)(wg.ones(2) * k), wg.hessian(f)(wg.ones(2) * k)) for k in range(3)])


@scenario
def out_tape(c: Compiler) -> Any:
    f = c(lambda x: (wg.sin(x) * x).sum())
    seen = []
    for k in range(3):
        x = wg.tensor([1.0, 2.0]) * k
        with wg.GradientTape() as t:
            t.watch(x)
            y = f(x)
        seen += see(y, t.gradient(y, x))
    return seen


@scenario
def out_tape_hess(c: Compiler) -> Any:
    f = c(lambda x: (wg.sin(x) * x).sum())
    seen = []
    for k in range(3):
        x = leaf(1.0, 2.0 + k)
        with wg.GradientTape() as t2:
            with wg.GradientTape() as t:
                y = f(x)
            g = t.gradient(y, x)
        seen += see(y, g, t2.jacobian(g, x))
    return seen


@scenario
def tape_inside(c: Compiler) -> Any:
    def f(x):
        with wg.GradientTape() as t:
            t.watch(x)
            y = (x * x).sum()
        return t.gradient(y, x)

    f = c(f)
    return see(*[f(wg.tensor([1.0, 2.0]) * k) for k in range(3)])


@scenario
def tape_twice(c: Compiler) -> Any:
    f = c(lambda x, y: (wg.sin(x) * y, (x * y).sum()))
    seen = []
    for k in range(3):
        x = leaf(1.0, 2.0 + k)
        y = leaf(3.0, 4.0)
        a, b = f(x, y)
        (a.sum() * b).backward(retain_graph=True)
        seen += see(x, y)
        b.backward()
        seen += see(x, y)
    return seen


@scenario
def tape_create(c: Compiler) -> Any:
    f = c(lambda x, y: (wg.sin(x) * y).sum())
    seen = []
    for k in range(3):
        x = leaf(1.0, 2.0 + k)
        y = leaf(3.0, 4.0)
        loss = f(x, y)
        g, h = wg.autograd.grad(loss, (x, y), create_graph=True)
        seen += see(g, h)
        (g * g * h).sum().backward()
        seen += see(x, y)
    return seen


@scenario
def tape_freed(c: Compiler) -> Any:
    f = c(lambda x: wg.sin(x).sum())
    seen = []
    for k in range(3):
        x = leaf(1.0, 2.0 + k)
        loss = f(x)
        loss.backward()
        try:
            loss.backward()
            seen.append("no")
        except wg.errors.GradientError as e:
            seen.append(type(e).__name__)
    return seen


@scenario
def tape_nonleaf(c: Compiler) -> Any:
    f = c(lambda x, y: (wg.sin(x) * y, (x * y).sum()))
    seen = []
    w = leaf(1.0, 2.0)
    for _ in range(3):
        z = w * w
        z.retain_grad()
        a, b = f(z, w)
        (a.sum() + b).backward()
        seen += see(w, z)
    return seen


@scenario
def tape_hooks(c: Compiler) -> Any:
    f = c(lambda x: wg.sin(x) * 2)
    seen = []
    for _ in range(3):
        x = leaf(1.0, 2.0)
        x.register_hook(lambda g: g * 10)
        y = f(x)
        y.register_hook(lambda g: g * 3)
        y.retain_grad()
        y.sum().backward()
        seen += see(x, y.grad)
    return seen


@scenario
def tape_write_after(c: Compiler) -> Any:
    f = c(lambda x: wg.sin(x) * x)
    seen = []
    for _ in range(3):
        x = leaf(1.0, 2.0)
        z = x * 1
        y = f(z)
        z *= 5
        y.sum().backward()
        seen += see(x)
        w = leaf(1.0, 2.0)
        y = f(w)
        with wg.no_grad():
            w.copy_(wg.tensor([7.0, 7.0]))
        y.sum().backward()
        seen += see(w)
        y = f(w)
        y += 1
        y[0] = 4.0
        (y * y).sum().backward()
        seen += see(w)
    return seen


@scenario
def tape_closed_param_then_step(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)
    f = c(lambda x: (wg.sin(x * w) * w).sum())
    seen = []
    opt = optim.SGD([w], lr=0.1)
    for _ in range(4):
        loss = f(wg.tensor([1.0, 2.0]))
        with wg.no_grad():
            w.copy_(w + 1)
        loss.backward()
        seen += see(w)
        opt.step()
        opt.zero_grad()
        seen += see(w)
    return seen


@scenario
def out_is_input(c: Compiler) -> Any:
    f = c(lambda x, y: (x, x * y, y, x))
    seen = []
    x = leaf(1.0, 2.0)
    y = wg.tensor([1.0, 2.0])
    for _ in range(3):
        a, b, d, e = f(x, y)
        seen += see(a is x, d is y, e is x, b)
    return seen


@scenario
def out_same_twice(c: Compiler) -> Any:
    f = c(lambda x: [x * 2] * 2)
    seen = []
    for _ in range(3):
        a, b = f(wg.tensor([1.0, 2.0]))
        seen += [a is b]
        a += 1
        seen += see(a, b)
    return seen


@scenario
def out_view_of_input(c: Compiler) -> Any:
    f = c(lambda x: x.reshape(2, 1))
    seen = []
    for _ in range(3):
        x = wg.tensor([1.0, 2.0])
        y = f(x)
        x += 1
        seen += see(y)
        y += 1
        seen += see(x)
    return seen


@scenario
def out_views(c: Compiler) -> Any:
    def f(x):
        y = x * 2
        return (y, y[0], y.T)

    f = c(f)
    seen = []
    for _ in range(3):
        a, b, d = f(wg.tensor([[1.0, 2.0], [3.0, 4.0]]))
        a += 1
        seen += see(a, b, d)
        d *= 2
        seen += see(a, b, d)
    return seen


@scenario
def partial_track(c: Compiler) -> Any:
    f = c(lambda x, y: (x * y).sum())
    seen = []
    for k in range(8):
        x = wg.tensor([1.0, 2.0], requires_grad=bool(k & 1))
        y = wg.tensor([3.0, 5.0], requires_grad=bool(k & 2))
        loss = f(x, y)
        if loss.requires_grad:
            loss.backward()
        seen += see(x, y, loss.detach())
    return seen


@scenario
def nograd(c: Compiler) -> Any:
    f = c(lambda x: (x * x).sum())
    seen = []
    x = leaf(1.0, 2.0)
    for k in range(6):
        with wg.no_grad() if k % 2 else wg.enable_grad():
            seen += see(f(x))
    return seen


@scenario
def nograd_inside(c: Compiler) -> Any:
    def f(x):
        with wg.no_grad():
            y = x * 2
        return (y, x * y)

    f = c(f)
    seen = []
    for _ in range(3):
        x = leaf(1.0, 2.0)
        a, b = f(x)
        b.sum().backward()
        seen += see(a, x)
    return seen


@scenario
def stopgrad(c: Compiler) -> Any:
    f = c(lambda x: (wg.stop_gradient(x) * x, x.detach() * x))
    seen = []
    for _ in range(3):
        x = leaf(1.0, 2.0)
        a, b = f(x)
        (a + b).sum().backward()
        seen += see(a.detach(), x)
    return seen


@scenario
def int_outputs(c: Compiler) -> Any:
    f = c(lambda x: (x.argmax(), x > 1, x * 2, wg.sort(x)))
    seen = []
    for k in range(3):
        x = leaf(1.0, 2.0 + k)
        a, b, d, e = f(x)
        (d + e).sum().backward()
        seen += see(a, b, d, e, x)
    return seen


@scenario
def backward_middle(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)

    def f(x):
        loss = (x * w).sum()
        loss.backward()
        assert w.grad is not None
        g = w.grad.clone()
        l2 = (x * w * w).sum()
        return (l2, g)

    f = c(f)
    seen = []
    for _ in range(3):
        loss, g = f(wg.tensor([1.0, 2.0]))
        loss.backward()
        seen += see(loss.detach(), g, w)
    return seen


@scenario
def nested_compile(c: Compiler) -> Any:
    g = c(lambda x: wg.sin(x) * x)
    f = c(lambda x: g(x) + g(x * 2))
    seen = []
    for k in range(3):
        x = leaf(1.0, 2.0 + k)
        f(x).sum().backward()
        seen += see(x, g(x))
    return seen


@scenario
def out_arg(c: Compiler) -> Any:
    def f(x):
        y = wg.zeros(2)
        wg.add(x, x, out=y) if False else np.add(x, x, out=y)
        return y

    f = c(f)
    return see(*[f(wg.tensor([1.0, 2.0]) * k) for k in range(3)])


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
def test_compiled_and_eager_agree(played: Any) -> None:
    play(played)


def detached_leaf(x: Any) -> Any:
    y = x.detach().requires_grad_()
    (y**3 * x).sum().backward()
    return y.grad


def detached_leaf_written(x: Any) -> Any:
    y = x.detach().requires_grad_()
    (y * y).sum().backward()
    with wg.no_grad():
        y -= 0.25 * y.grad
    return x * 1.0, y.grad


def detached_leaf_of_a_result(x: Any) -> Any:
    y = (x * 2.0).detach().requires_grad_()
    return wg.autograd.grad((y * y * x).sum(), [y])[0]


def detached_leaf_in_vmap(x: Any) -> Any:
    def inner(row: Any) -> Any:
        y = row.detach().requires_grad_()
        return wg.autograd.grad((y * y * row).sum(), [y])[0]

    return wg.vmap(inner)(wg.stack([x, x * 2.0]))


@pytest.mark.parametrize(
    "function", [detached_leaf, detached_leaf_written, detached_leaf_of_a_result, detached_leaf_in_vmap]
)
def test_a_leaf_made_inside_of_what_is_detached(function: Any) -> None:
    """`x.detach().requires_grad_()` shares memory with its source, and has a history of its own."""
    compiled = wg.compile(function)
    for k in range(3):
        plain, twin = (wg.tensor([1.0 + k, 2.0], dtype="float64") for _ in range(2))
        wanted, got = flatten(function(plain))[0], flatten(compiled(twin))[0]
        for one, other in zip(wanted, got, strict=True):
            np.testing.assert_allclose(other.detach().numpy(), one.detach().numpy(), rtol=8 * np.finfo(np.float64).eps)
        np.testing.assert_array_equal(twin.numpy(), plain.numpy())


@pytest.mark.parametrize("make", [lambda x: x.clone().requires_grad_(), lambda x: x.detach().requires_grad_()])
def test_a_leaf_that_was_made_inside_is_not_returned(make: Any) -> None:
    with pytest.raises(CompileError, match=r"made a leaf, at .*test_compile_tape.*outside"):
        wg.compile(make)(wg.tensor([1.0, 2.0]))
