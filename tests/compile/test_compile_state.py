"""Writes in place, memory that arguments share, random numbers, values that outlive a call: as without compiling."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, leaf, plain, play, see
from wengert.compile.api import CompileWarning

SCENARIOS: list[Any] = []
FALLING_BACK: list[Any] = []


def scenario(function: Any) -> Any:
    SCENARIOS.append(function)
    return function


def falls_back(function: Any) -> Any:
    FALLING_BACK.append(function)
    return function


@scenario
def arg_view_of_other(c: Compiler) -> Any:
    seen = []

    @c
    def f(x, y):
        x += 1
        y *= 2
        return x.sum() + y

    for _ in range(3):
        a, b = (wg.tensor([1.0, 2.0, 7.0]), wg.tensor([3.0, 5.0]))
        seen += see(f(a, a[1:]), a, f(a, b), a, b, f(a[:2], a[1:]), a)
    return seen


@falls_back
def nprng(c: Compiler) -> Any:
    r = np.random.default_rng(0)
    f = c(lambda x: x * wg.asarray(r.normal(size=2)))
    x = wg.tensor([1.0, 2.0])
    return see(f(x), f(x), f(x))


@falls_back
def pyrandom(c: Compiler) -> Any:
    random.seed(0)
    f = c(lambda x: x * random.random())
    x = wg.tensor([1.0, 2.0])
    return see(f(x), f(x), f(x))


@scenario
def borrowed_then_owned(c: Compiler) -> Any:
    a = np.array([1.0, 2.0])
    t = wg.asarray(a)
    seen = []
    f = c(lambda x: x * t)
    x = wg.tensor([1.0, 2.0])
    seen += see(f(x))
    a[0] = 5
    seen += see(f(x))
    t[1] = 7.0
    seen += see(f(x), a)
    a[0] = 9
    seen += see(f(x), t)
    t.copy_(3.0)
    seen += see(f(x))
    return seen


@scenario
def rand(c: Compiler) -> Any:
    f = c(lambda x: x * wg.random.normal(size=2) + wg.random.rand(2))
    seen = []
    for _ in range(4):
        seen += see(f(wg.tensor([1.0, 2.0])), wg.random.rand(2))
    wg.random.seed(3)
    for _ in range(2):
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def rand_gen(c: Compiler) -> Any:
    g = wg.random.Generator(3)
    f = c(lambda x: x * g.normal(size=2))
    seen = []
    for _ in range(4):
        seen += see(f(wg.tensor([1.0, 2.0])))
    g.seed(3)
    for _ in range(2):
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def view_arg_written(c: Compiler) -> Any:
    def f(v):
        v += 1
        return v * 2

    f = c(f)
    seen = []
    for k in range(4):
        b = wg.zeros((3, 2))
        seen += see(f(b[k % 3]), b)
    return seen


@scenario
def views_args_pairs(c: Compiler) -> Any:
    def f(x, y):
        x += 1
        return x.sum() + y.sum()

    f = c(f)
    seen = []
    for k in range(8):
        a = wg.tensor([1.0, 2.0, 3.0, 4.0])
        b = wg.tensor([5.0, 6.0, 7.0, 8.0])
        pairs = [(a[:2], b[:2]), (a[:2], a[:2]), (a[:2], a[1:3]), (a[1:3], a[:2]), (a[:2], a[2:])]
        x, y = pairs[k % 5]
        seen += see(f(x, y), a, b, x, y)
    return seen


@scenario
def base_and_view(c: Compiler) -> Any:
    def f(x, y):
        x *= 2
        return y + 1

    f = c(f)
    seen = []
    for k in range(6):
        a = wg.tensor([1.0, 2.0, 3.0])
        b = wg.tensor([1.0, 2.0])
        seen += see(f(a, a[:2] if k % 2 else b), a, b)
    return seen


@scenario
def closed_base_view_arg(c: Compiler) -> Any:
    w = wg.tensor([1.0, 2.0, 3.0])

    def f(y):
        w.copy_(w * 2)
        return y + 1

    f = c(f)
    seen = []
    for k in range(6):
        seen += see(f(w[:2] if k % 2 else wg.tensor([1.0, 2.0])), w)
    return seen


@scenario
def arg_is_closed(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)

    def f(y):
        loss = (y * w).sum()
        loss.backward()
        return loss.detach()

    f = c(f)
    seen = []
    v = leaf(3.0, 4.0)
    for k in range(6):
        seen += see(f(w if k % 2 else v), w, v)
    return seen


@scenario
def arg_is_closed_written(c: Compiler) -> Any:
    w = wg.tensor([1.0, 2.0])

    def f(y):
        y += 1
        return w * 2

    f = c(f)
    seen = []
    v = wg.tensor([3.0, 4.0])
    for k in range(6):
        seen += see(f(w if k % 2 else v), w, v)
    return seen


@scenario
def outside_view_follows(c: Compiler) -> Any:
    w = wg.tensor([1.0, 2.0, 3.0])
    v = w[1:]
    big = wg.zeros((20,))
    bv = big[2:3]

    def f(x):
        w.copy_(w * 2)
        big[0:4] = x
        return x

    f = c(f)
    seen = []
    for k in range(3):
        n = w.numpy()
        f(wg.tensor([1.0, 2.0, 3.0, k]))
        seen += see(w, v, n, big, bv)
    return seen


@scenario
def write_view_inside(c: Compiler) -> Any:
    w = wg.tensor([1.0, 2.0, 3.0])
    v = w[1:]

    def f(x):
        v.copy_(x)
        w[0] = v[0] * 2
        return w.sum()

    f = c(f)
    seen = []
    for k in range(3):
        seen += see(f(wg.tensor([1.0, 2.0 + k])), w, v)
    return seen


@scenario
def grad_written_through_view(c: Compiler) -> Any:
    def f(x):
        y = x * 1
        y[0] = y[1] * x[0]
        y[:] = y * y
        loss = y.sum()
        loss.backward()
        return loss.detach()

    f = c(f)
    seen = []
    for k in range(4):
        x = leaf(2.0, 3.0 + k)
        seen += see(f(x), x)
    return seen


@scenario
def counter_tensor(c: Compiler) -> Any:
    n = wg.tensor(0)

    def f(x):
        n.copy_(n + 1)
        return x * n

    f = c(f)
    return see(*[f(wg.tensor([1.0, 2.0])) for k in range(4)], n)


@falls_back
def leak_list(c: Compiler) -> Any:
    kept = []

    def f(x):
        y = x * 2
        kept.append(y)
        return y

    f = c(f)
    seen = []
    for k in range(5):
        seen += see(f(wg.tensor([1.0, 2.0 + k])))
        seen += see(kept)
        plain(*kept)
    return seen


@falls_back
def leak_attr(c: Compiler) -> Any:
    class M:
        last: Any = None

    m = M()

    def f(x):
        m.last = x * 2
        return m.last + 1

    f = c(f)
    seen = []
    for k in range(5):
        seen += see(f(wg.tensor([1.0, 2.0 + k])), m.last)
    return seen


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
def test_compiled_and_eager_agree(played: Any) -> None:
    play(played)


@pytest.mark.parametrize("played", FALLING_BACK, ids=lambda played: played.__name__)
def test_what_cannot_be_compiled_is_run_as_it_is(played: Any) -> None:
    with pytest.warns(CompileWarning, match="run as it is from now on"):
        play(played)
