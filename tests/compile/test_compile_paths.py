"""Paths, loops, printing, exceptions and threads in compiled functions."""

from __future__ import annotations

import contextlib
import gc
import io
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, leaf, plain, play, see

SCENARIOS: list[Any] = []


def scenario(function: Any) -> Any:
    SCENARIOS.append(function)
    return function


@scenario
def in_while(c: Compiler) -> Any:
    f = c(lambda x: wg.while_loop(lambda s: s < 10.0, lambda s: s * 2, x))
    return see(*[f(wg.tensor(1.0 + k)) for k in range(4)], *[f(wg.tensor(1.0 + k)) for k in range(4)])


@scenario
def in_cond(c: Compiler) -> Any:
    f = c(lambda x: wg.cond(x.sum() > 0, lambda a: wg.sin(a), lambda a: a * 2, x))
    return see(*[f(wg.tensor([1.0, -k])) for k in range(4)])


@scenario
def maxpaths(c: Compiler) -> Any:
    def f(x):
        if x.sum() > 0:
            return x * 2
        elif x[0] < -2:
            return x * 3
        n = 0
        while n < int(abs(x[0].astype("int64"))):
            n += 1
        return x + n

    f = c(f)
    seen = []
    for k in range(-6, 6):
        seen += see(f(wg.tensor([float(k), 0.5])), f(wg.tensor([float(-k), 0.25])))
    return seen


@scenario
def rand_branch(c: Compiler) -> Any:
    g = wg.random.Generator(3)

    def f(x):
        u = g.uniform(size=())
        v = wg.random.rand()
        if u > 0.5:
            x = x * 2
        if v > 0.5:
            x = x + wg.random.rand(2)
        return x * u

    f = c(f)
    seen = []
    for _ in range(12):
        seen += see(f(wg.tensor([1.0, 2.0])), wg.random.rand(1))
    return seen


@scenario
def setitem_local(c: Compiler) -> Any:
    def f(x, i):
        y = wg.zeros(4)
        y[1:3] = x
        y[0] = x[i]
        z = y[::2]
        z *= 3
        y[i] += 1
        return (y, z)

    f = c(f)
    seen = []
    for k in range(4):
        x = leaf(1.0, 2.0 + k)
        y, z = f(x, wg.tensor(k % 2))
        (y.sum() * z.sum()).backward()
        seen += see(y.detach(), z.detach(), x)
    return seen


@scenario
def buffer_item(c: Compiler) -> Any:
    n = wg.tensor(0)

    def f(x):
        n.copy_(n + 1)
        if n % 2 == 0:
            return x * 10
        return x * int(n)

    f = c(f)
    return see(*[f(wg.tensor([1.0, 2.0])) for k in range(8)], n)


@scenario
def exc_later_check(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)
    wg.random.seed(0)

    def f(x, i):
        w.grad = None
        r = wg.random.rand(2)
        (x * w * r).sum().backward()
        with wg.no_grad():
            w.copy_(w - w.grad)
        return x[i]

    f = c(f)
    seen = []
    for i in (0, 1, 5, 0, 7, 1):
        try:
            seen += see(f(wg.tensor([1.0, 2.0]), wg.tensor([i])))
        except IndexError:
            seen.append("IndexError")
        if i < 2:
            seen += see(w) if False else []
    return seen


@scenario
def exc_keep(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)
    v = wg.tensor([1.0, 2.0])
    b = v[1:]

    def f(x):
        (x * w).sum().backward()
        v.copy_(x)
        w.grad = wg.ones(2)
        x += 1
        raise ZeroDivisionError

    f = c(f)
    x = wg.tensor([5.0, 6.0])
    seen = []
    for _ in range(3):
        try:
            f(x)
        except ZeroDivisionError:
            seen.append("z")
    plain(w, v, x, b)
    return seen


@scenario
def exc_shape(c: Compiler) -> Any:
    f = c(lambda x, y: x @ y)
    seen = []
    for _ in range(2):
        try:
            f(wg.ones((2, 3)), wg.ones((2, 3)))
        except Exception as e:
            seen.append(type(e).__name__)
            seen.append(str(e).split(" at ")[0][:60])
    return seen


@scenario
def lazy(c: Compiler) -> Any:
    class M:
        w: Any = None

    m = M()

    def f(x):
        if m.w is None:
            m.w = wg.ones(2)
        return x * m.w

    f = c(f)
    seen = []
    for k in range(5):
        seen += see(f(wg.tensor([1.0, 2.0 + k])), m.w)
        if k > 2:
            m.w.copy_(k)
    return seen


@scenario
def cache_dict(c: Compiler) -> Any:
    cache = {}

    def f(x):
        n = x.shape[0]
        if n not in cache:
            cache[n] = wg.ones(n) * n
        return x * cache[n]

    f = c(f)
    seen = []
    for k in (2, 2, 3, 2, 3, 2, 3, 4, 4):
        seen += see(f(wg.ones(k)))
    return seen


@scenario
def prints_values(c: Compiler) -> Any:
    def f(x):
        y = x * 2
        print("y", y, y.shape)
        return y

    f = c(f)
    seen = []
    for k in range(3):
        b = io.StringIO()
        with contextlib.redirect_stdout(b):
            f(wg.tensor([1.0, 2.0 + k]))
        seen.append(b.getvalue())
    return seen


@scenario
def prints_what_is_known(c: Compiler) -> Any:
    def f(x):
        y = x * 2
        print(f"y {y.shape} {x.dtype}")
        return y

    f = c(f)
    seen = []
    for k in range(3):
        b = io.StringIO()
        with contextlib.redirect_stdout(b):
            f(wg.tensor([1.0, 2.0 + k]))
        seen.append(b.getvalue())
    return seen


@scenario
def memory(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)
    f = c(lambda x: wg.sin(x) * w)
    r = []
    for _ in range(5):
        y = f(wg.tensor([1.0, 2.0]))
        r.append(weakref.ref(y))
        del y
    gc.collect()
    return [x() is None for x in r]


@scenario
def assertion(c: Compiler) -> Any:
    def f(x):
        if not (x > 0).all():
            raise AssertionError("positive please")
        return x * 2

    f = c(f)
    seen = []
    for v in (1.0, 2.0, -1.0, 3.0, -2.0):
        try:
            seen += see(f(wg.tensor([v])))
        except AssertionError as e:
            seen.append(str(e))
    return seen


@scenario
def threads(c: Compiler) -> Any:
    w = leaf(*np.linspace(0, 1, 50))
    f = c(lambda x: (wg.sin(x * w) * w).sum())
    res = {}
    errs = []

    def go(i):
        try:
            for k in range(30):
                res[i, k] = f(wg.tensor(np.full(50, float(i * 100 + k), "f4"))).detach().numpy()
        except BaseException as e:
            errs.append(repr(e)[:200])

    ts = [threading.Thread(target=go, args=(i,)) for i in range(4)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    plain(w)
    return [errs] + [res[k] for k in sorted(res)]


@scenario
def threads_shapes(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)
    f = c(lambda x: (wg.sin(x * w) * w).sum())
    res = {}
    errs = []

    def go(i):
        try:
            for k in range(1, 20):
                res[i, k] = f(wg.ones((k, 2)) * i).detach().numpy()
        except BaseException as e:
            errs.append(repr(e)[:200])

    ts = [threading.Thread(target=go, args=(i,)) for i in range(4)]
    [t.start() for t in ts]
    [t.join() for t in ts]
    plain(w)
    return [errs] + [res[k] for k in sorted(res)]


@scenario
def asks_where_an_argument_comes_from(c: Compiler) -> Any:
    w = wg.tensor(1.0, requires_grad=True)
    arguments = (w, w * 2, wg.tensor(5.0), w, wg.sin(w), w * 3, w.detach())
    seen = []
    for asked in (
        lambda x: x * 10.0 if x.requires_grad else x * 1.0,
        lambda x: x * 10.0 if x.is_leaf else x * 1.0,
        lambda x: x * 10.0 if x.grad_fn is None else x * (2.0 if x.grad_fn.name == "sin" else 3.0),
        lambda x: x * 10.0 if (x * x).is_leaf else x * 1.0,
    ):
        f = c(asked)
        seen += see(*[f(x) for x in arguments])
    return seen


@scenario
def asks_where_what_it_closes_over_comes_from(c: Compiler) -> Any:
    w = wg.tensor([1.0, 2.0])
    held = {"w": w}
    f = c(lambda x: x * 10.0 if w.requires_grad else x * 1.0)  # has no other use for it
    g = c(lambda x: x * 10.0 if held["w"].is_leaf else x * (2.0 if held["w"].requires_grad else 3.0))
    x, seen = wg.tensor(1.0), []
    for flag in (False, False, True, True, False, True):
        w.requires_grad_(flag)
        for other in (w, w * 2, w):
            held["w"] = other
            seen += see(f(x), g(x))
    return seen


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
def test_compiled_and_eager_agree(played: Any) -> None:
    play(played)
