"""What a compiled function closes over may change between calls: every change is seen, or it falls back."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, leaf, play, see
from wengert import nn
from wengert.compile.api import CompileWarning

SCENARIOS: list[Any] = []
FALLING_BACK: list[Any] = []


def scenario(function: Any) -> Any:
    SCENARIOS.append(function)
    return function


def falls_back(function: Any) -> Any:
    FALLING_BACK.append(function)
    return function


class Cfg:
    s = 2.0


class Cfg2:
    def __init__(self) -> None:
        self.s = 2.0


settings: Any = types.ModuleType("settings")
settings.S = 1.0
GW: Any = None


@scenario
def freeze(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)
    b = leaf(3.0, 4.0)
    seen = []

    @c
    def f(x):
        loss = ((x * w + b) ** 2).sum()
        loss.backward()
        return loss

    for k in range(6):
        w.requires_grad_(k % 3 != 1)
        seen += see(f(wg.tensor([1.0, 2.0])), w, b)
    return seen


@scenario
def config_dict(c: Compiler) -> Any:
    cfg = {"s": 2.0}
    seen = []
    f = c(lambda x: x * cfg["s"])
    for k in range(3):
        cfg["s"] = float(k)
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def config_list(c: Compiler) -> Any:
    cfg = [2.0]
    seen = []
    f = c(lambda x: x * cfg[0])
    for k in range(3):
        cfg[0] = float(k)
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def list_grows(c: Compiler) -> Any:
    ts = [wg.tensor([1.0, 2.0])]
    seen = []
    f = c(lambda x: sum([t * x for t in ts]))
    for k in range(3):
        seen += see(f(wg.tensor([1.0, 2.0])))
        ts.append(wg.tensor([k * 1.0, 2.0]))
    return seen


@scenario
def dict_grows(c: Compiler) -> Any:
    ts = {"a": wg.tensor([1.0, 2.0])}
    seen = []
    f = c(lambda x: sum([t * x for t in ts.values()]))
    for k in range(3):
        seen += see(f(wg.tensor([1.0, 2.0])))
        ts[str(k)] = wg.tensor([k * 1.0, 2.0])
    return seen


@scenario
def class_attr(c: Compiler) -> Any:
    seen = []
    f = c(lambda x: x * Cfg.s)
    for k in range(3):
        Cfg.s = float(k)
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def inst_attr(c: Compiler) -> Any:
    seen = []
    q = Cfg2()
    f = c(lambda x: x * q.s)
    for k in range(3):
        q.s = float(k)
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def inst_getattr(c: Compiler) -> Any:
    seen = []
    q = Cfg2()
    n = "s"
    f = c(lambda x: x * getattr(q, n))
    for k in range(3):
        q.s = float(k)
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def arg_obj_attr(c: Compiler) -> Any:
    seen = []
    q = Cfg2()
    f = c(lambda q, x: x * q.s)
    for k in range(3):
        q.s = float(k)
        seen += see(f(q, wg.tensor([1.0, 2.0])))
    return seen


@scenario
def module_as_argument(c: Compiler) -> Any:
    seen = []
    m = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Tanh())
    f = c(lambda m, x: m(x))
    for k in range(4):
        m.train(k % 2 == 0)
        seen += see(f(m, wg.tensor([[1.0, 2.0]])))
    m[0].weight = nn.Parameter(wg.ones((3, 2)))
    seen += see(f(m, wg.tensor([[1.0, 2.0]])))
    return seen


@scenario
def module_global(c: Compiler) -> Any:
    seen = []
    f = c(lambda x: x * settings.S)
    for k in range(3):
        settings.S = float(k)
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@falls_back
def counter(c: Compiler) -> Any:
    n = [0]
    seen = []

    @c
    def f(x):
        n[0] += 1
        return x * 2

    for _ in range(4):
        seen += see(f(wg.tensor([1.0])), n[0])
    return seen


@falls_back
def counter_used(c: Compiler) -> Any:
    n = {"n": 0}
    seen = []

    @c
    def f(x):
        n["n"] += 1
        return x * n["n"]

    for _ in range(4):
        seen += see(f(wg.tensor([1.0])), n["n"])
    return seen


@falls_back
def log_append(c: Compiler) -> Any:
    n = []
    seen = []

    @c
    def f(x):
        n.append(1)
        return x * 2

    for _ in range(4):
        seen += see(f(wg.tensor([1.0])), len(n))
    return seen


@falls_back
def iterator(c: Compiler) -> Any:
    it = iter([wg.tensor([1.0]), wg.tensor([2.0]), wg.tensor([3.0])])
    f = c(lambda: next(it) * 2)
    return see(f(), f(), f())


@falls_back
def generator(c: Compiler) -> Any:
    it = (wg.tensor([float(k)]) for k in range(3))
    f = c(lambda: next(it) * 2)
    return see(f(), f(), f())


@scenario
def numpy_closed_math(c: Compiler) -> Any:
    a = np.array([1.0, 2.0])
    seen = []
    f = c(lambda x: x * wg.asarray(a * 2))
    x = wg.tensor([1.0, 2.0])
    for k in range(3):
        a[0] = k
        seen += see(f(x))
    return seen


@scenario
def numpy_closed(c: Compiler) -> Any:
    a = np.array([1.0, 2.0])
    seen = []
    f = c(lambda x: x * a)
    x = wg.tensor([1.0, 2.0])
    for k in range(3):
        a[0] = k
        seen += see(f(x))
    return seen


@scenario
def numpy_item(c: Compiler) -> Any:
    a = np.array([1.0, 2.0])
    seen = []
    f = c(lambda x: x * float(a[0]))
    x = wg.tensor([1.0, 2.0])
    for k in range(3):
        a[0] = k
        seen += see(f(x))
    return seen


@falls_back
def dict_arg_mutated(c: Compiler) -> Any:
    seen = []

    @c
    def f(d):
        d["y"] = d["x"] * 2
        return d["y"]

    for k in range(3):
        d = {"x": wg.tensor([1.0 * k])}
        seen += see(f(d))
        seen += see(d)
    return seen


@falls_back
def list_arg_mutated(c: Compiler) -> Any:
    seen = []

    @c
    def f(d):
        d.append(d[0] * 2)
        return d[0]

    for k in range(3):
        d = [wg.tensor([1.0 * k])]
        seen += see(f(d))
        seen += see(d)
    return seen


@falls_back
def dict_arg_plain_mutated(c: Compiler) -> Any:
    seen = []

    @c
    def f(d):
        d["n"] += 1
        return d["x"] * d["n"]

    for k in range(3):
        d = {"x": wg.tensor([1.0 * k]), "n": 3}
        seen += see(f(d))
        seen += see(d)
    return seen


@scenario
def append_module(c: Compiler) -> Any:
    m = nn.Sequential(nn.Linear(2, 2))
    f = c(m)
    seen = see(f(wg.ones((1, 2))).detach())
    m.append(nn.Linear(2, 3))
    seen += see(f(wg.ones((1, 2))).detach())
    return seen


@scenario
def replace_layer(c: Compiler) -> Any:
    class M(nn.Module):
        def __init__(self):
            self.a = nn.Linear(2, 2)
            self.ls = [nn.Tanh(), nn.Tanh()]

        def forward(self, x):
            x = self.a(x)
            for loss in self.ls:
                x = loss(x)
            return x

    m = M()
    f = c(m)
    x = wg.ones((1, 2))
    seen = see(f(x).detach())
    m.ls[1] = nn.ReLU()
    seen += see(f(x).detach())
    m.a = nn.Linear(2, 4)
    seen += see(f(x).detach())
    m.ls.append(nn.Tanh())
    seen += see(f(x).detach())
    m.extra = nn.Linear(2, 2)
    seen += see(f(x).detach())
    return seen


@scenario
def forward_hook(c: Compiler) -> Any:
    m = nn.Linear(2, 2)
    f = c(m)
    x = wg.ones((1, 2))
    seen = see(f(x).detach())
    h = m.register_forward_hook(lambda m, i, out: out * 3)
    seen += see(f(x).detach(), f(x).detach())
    h.remove()
    seen += see(f(x).detach())
    return seen


@scenario
def tensor_hook(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)
    seen = []

    def f(x):
        w.grad = None
        (x * w).sum().backward()
        return x * 1

    f = c(f)
    x = wg.tensor([1.0, 2.0])
    f(x)
    seen += see(w)
    h = w.register_hook(lambda g: g * 3)
    f(x)
    seen += see(w)
    h.remove()
    f(x)
    seen += see(w)
    return seen


@scenario
def global_rebind(c: Compiler) -> Any:
    global GW
    seen = []
    f = c(lambda x: x * GW)
    for k in range(4):
        GW = wg.tensor([1.0, 2.0]) * k
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def closure_rebind(c: Compiler) -> Any:
    w = wg.tensor([1.0, 2.0])
    n = 1
    seen = []

    def f(x):
        return x * w * n

    f = c(f)
    for k in range(4):
        w = wg.tensor([1.0, 2.0]) * k
        n = k
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def args_mut_obj(c: Compiler) -> Any:
    q = Cfg2()
    f = c(lambda q, x: x * q.s)
    seen = []
    for k in range(4):
        q.s = float(k)
        seen += see(f(q, wg.tensor([1.0, 2.0])))
    return seen


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
def test_compiled_and_eager_agree(played: Any) -> None:
    play(played)


@pytest.mark.parametrize("played", FALLING_BACK, ids=lambda played: played.__name__)
def test_what_cannot_be_compiled_is_run_as_it_is(played: Any) -> None:
    with pytest.warns(CompileWarning, match="run as it is from now on"):
        play(played)


def test_a_tensor_in_memory_of_an_array_may_begin_to_require_grad() -> None:
    def seen(compiler: Any) -> list[Any]:
        lent = wg.asarray(np.arange(3.0))
        called = compiler(lambda x: (lent * x).sum())
        pictures: list[Any] = []
        for k in range(4):
            result = called(wg.tensor(2.0))
            pictures.append((result.item(), result.requires_grad))
            lent.requires_grad_(k % 2 == 0)
        return pictures

    assert seen(wg.compile) == seen(lambda function: function)


@pytest.mark.parametrize("size", [3, 10_000])
def test_a_total_without_axes_is_written_twice(size: int) -> None:
    """What comes of large arrays is not computed in a capture: it is known all the same that no number is written."""

    def seen(compiler: Any) -> list[Any]:
        total, largest = wg.zeros(()), wg.zeros(())

        def function(x: Any) -> Any:
            running = total
            running += x.sum()
            running += x.mean()
            largest.copy_(wg.maximum(x.max(), largest))
            largest.copy_(largest * 2)
            number = x.sum()
            alias = number
            number += 1
            return running * 1, number, alias

        called = compiler(function)
        return [[value.item() for value in (*called(wg.ones(size)), total, largest)] for _ in range(3)]

    assert seen(wg.compile) == seen(lambda function: function)


def test_numbers_are_promoted_as_numbers() -> None:
    """NumPy makes an int64 of `np.bool_(True) ** 2`, and an int8 of an array of one truth."""

    def function(x: Any) -> Any:
        truth = (x > 0).all()
        return truth**2, truth * 1, (x > 0) ** 2

    for size in (3, 10_000):
        x = wg.ones(size)
        expected = [value.dtype for value in function(x)]
        compiled = wg.compile(function)
        for _ in range(2):
            assert [value.dtype for value in compiled(x)] == expected
