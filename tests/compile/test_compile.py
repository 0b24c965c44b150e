"""Compiled functions and eager ones agree: transforms, pytrees, shapes, dtypes, NumPy functions, methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, leaf, play, see
from wengert import nn

SCENARIOS: list[Any] = []


def scenario(function: Any) -> Any:
    SCENARIOS.append(function)
    return function


GS: Any = 1.0


@scenario
def same_arg_twice(c: Compiler) -> Any:
    a, b = (wg.tensor([1.0, 2.0]), wg.tensor([3.0, 5.0]))
    f = c(lambda x, y: x - 2 * y)
    return see(f(a, a), f(a, b), f(b, a), f(a, a))


@scenario
def same_array_twice(c: Compiler) -> Any:
    a, b = (np.array([1.0, 2.0]), np.array([3.0, 5.0]))
    f = c(lambda x, y: wg.asarray(x) - 2 * wg.asarray(y))
    return see(f(a, a), f(a, b), f(b, a), f(a, a))


@scenario
def same_arg_written(c: Compiler) -> Any:
    seen = []

    @c
    def f(x, y):
        x += 1
        y *= 2
        return x + y

    for _ in range(3):
        a, b = (wg.tensor([1.0, 2.0]), wg.tensor([3.0, 5.0]))
        seen += see(f(a, a), a, f(a, b), a, b)
    return seen


@scenario
def negzero2(c: Compiler) -> Any:
    f = c(lambda x, s: wg.copysign(x, wg.asarray(s)))
    return see(f(wg.tensor([1.0]), 0.0), f(wg.tensor([1.0]), -0.0))


@scenario
def negzero3(c: Compiler) -> Any:
    s = 0.0
    seen = []
    f = c(lambda x: wg.copysign(x, wg.asarray(s)))
    seen += see(f(wg.tensor([1.0])))
    s = -0.0
    seen += see(f(wg.tensor([1.0])))
    return seen


@scenario
def np_result(c: Compiler) -> Any:
    f = c(lambda x: (x, np.zeros(2)))
    seen = []
    for _ in range(3):
        x, a = f(wg.tensor([1.0]))
        seen += see(x, a)
        a += 1
    return seen


@scenario
def in_grad(c: Compiler) -> Any:
    f = c(lambda x: wg.grad(lambda a: (wg.sin(a) * a).sum())(x))
    return see(*[f(wg.tensor([1.0, 2.0]) * k) for k in range(3)])


@scenario
def in_vag(c: Compiler) -> Any:
    f = c(lambda x: wg.value_and_grad(lambda a: (wg.sin(a) * a).sum())(x))
    return see(*[f(wg.tensor([1.0, 2.0]) * k) for k in range(3)])


@scenario
def in_vjp(c: Compiler) -> Any:
    def f(x):
        y, pb = wg.vjp(lambda a: wg.sin(a) * a, x)
        return (y, pb(wg.ones_like(x)))

    f = c(f)
    return see(*[f(wg.tensor([1.0, 2.0]) * k) for k in range(3)])


@scenario
def in_jvp(c: Compiler) -> Any:
    f = c(lambda x: wg.jvp(lambda a: wg.sin(a) * a, (x,), (x * 2,)))
    return see(*[f(wg.tensor([1.0, 2.0]) * k) for k in range(3)])


@scenario
def in_lin(c: Compiler) -> Any:
    def f(x):
        y, loss = wg.linearize(lambda a: wg.sin(a) * a, x)
        return (y, loss(x), loss(x * 2))

    f = c(f)
    return see(*[f(wg.tensor([1.0, 2.0]) * k) for k in range(3)])


@scenario
def in_vmap(c: Compiler) -> Any:
    f = c(lambda x: wg.vmap(lambda a: wg.sin(a) * a.sum())(x))
    return see(*[f(wg.ones((3, 2)) * k) for k in range(3)])


@scenario
def in_jac(c: Compiler) -> Any:
    f = c(
        lambda x: (
            wg.jacrev(lambda a: wg.sin(a) * a.sum())(x),
            wg.jacfwd(lambda a: wg.sin(a) * a.sum())(x),
            wg.hessian(lambda a: (a**3).sum())(x),
        )
    )
    return see(*[f(wg.ones((3,)) * k) for k in range(3)])


@scenario
def in_hvp(c: Compiler) -> Any:
    f = c(lambda x: wg.hvp(lambda a: (wg.sin(a) * a).sum(), (x,), (x,)))
    return see(*[f(wg.ones((3,)) * k) for k in range(3)])


@scenario
def in_ckpt(c: Compiler) -> Any:
    f = c(lambda x: wg.grad(lambda a: wg.checkpoint(lambda b: wg.sin(b) * b)(a).sum())(x))
    return see(*[f(wg.ones((3,)) * k) for k in range(3)])


@scenario
def in_scan(c: Compiler) -> Any:
    f = c(lambda x: wg.scan(lambda s, a: (s * a, s + a), wg.ones(()), x))
    return see(*[f(wg.tensor([1.0, 2.0, 3.0]) * k) for k in range(3)])


@scenario
def in_scan_grad(c: Compiler) -> Any:
    f = c(lambda x: wg.grad(lambda x: wg.scan(lambda s, a: (s * a, s + a), wg.ones(()), x)[1].sum())(x))
    return see(*[f(wg.tensor([1.0, 2.0, 3.0]) * k) for k in range(1, 4)])


@scenario
def in_fori(c: Compiler) -> Any:
    f = c(lambda x: wg.fori_loop(0, 4, lambda i, s: s * 2 + i, x))
    return see(*[f(wg.tensor(1.0 + k)) for k in range(4)])


@scenario
def dropout(c: Compiler) -> Any:
    m = nn.Dropout(0.5)
    f = c(m)
    seen = []
    for k in range(6):
        m.train(k % 3 != 0)
        seen += see(f(wg.ones((5,))))
    m.p = 0.9
    return seen + see(f(wg.ones((5,))))


@scenario
def default_dtype(c: Compiler) -> Any:
    f = c(lambda x: x * wg.ones(2))
    seen = []
    for k in range(4):
        wg.set_default_dtype("float64" if k % 2 else "float32")
        seen += see(f(wg.tensor(np.array([1.0, 2.0], "f4"))))
    wg.set_default_dtype("float32")
    return seen


@scenario
def shapes(c: Compiler) -> Any:
    f = c(lambda x: (x * 2).sum(0) + x.shape[0])
    return see(*[f(wg.ones((k, 2))) for k in (3, 0, 1, 3, 0)])


@scenario
def dtypes(c: Compiler) -> Any:
    f = c(lambda x: x * 2 + 1)
    return see(*[f(wg.tensor(np.array([1, 2], d))) for d in ("f4", "f8", "i4", "i8", "u1", "f2", "c8", "?", "f4")])


@scenario
def zero_dimensional(c: Compiler) -> Any:
    f = c(lambda x: (x * 2, x.sum(), x.reshape(1)))
    return see(*[f(wg.tensor(float(k))) for k in range(3)])


@scenario
def empty(c: Compiler) -> Any:
    f = c(lambda x: (x * 2, x.sum(), x.T, wg.concatenate([x, x])))
    seen = []
    for _ in range(3):
        x = wg.zeros((0, 3)).requires_grad_()
        y = f(x)
        (y[0].sum() + y[1]).backward()
        seen += see([q.detach() for q in y], x)
    return seen


@scenario
def static(c: Compiler) -> Any:
    f = c(lambda x, axis=None, keepdims=False: wg.sum(x, axis=axis, keepdims=keepdims))
    x = wg.ones((2, 3))
    return see(
        f(x),
        f(x, axis=0),
        f(x, axis=(0, 1)),
        f(x, 0, True),
        f(x, axis=1),
        f(x, 1),
        f(x, 1.0) if False else f(x, True),
        f(x, 1),
    )


@scenario
def slicearg(c: Compiler) -> Any:
    f = c(lambda x, s: x[s])
    x = wg.arange(6.0) if False else wg.tensor([1.0, 2.0, 3.0, 4.0])
    return see(
        f(x, slice(0, 2)),
        f(x, slice(1, 3)),
        f(x, 2),
        f(x, -1),
        f(x, slice(None, None, -1)),
        f(x, np.array([0, 1])),
        f(x, np.array([2, 2])),
        f(x, wg.tensor([0, 3])),
        f(x, wg.tensor([1, 1])),
        f(x, [1, 2]),
        f(x, [0, 1]),
    )


@scenario
def npfuncs(c: Compiler) -> Any:
    f = c(
        lambda x: (
            np.sin(x),
            np.concatenate([x, x]),
            np.where(x > 1, x, 0),
            np.mean(x),
            np.exp(x) @ np.ones(2, "f4"),
            np.float32(2) * x,
            np.pi * x,
        )
    )
    return see(*[f(wg.tensor([1.0, 2.0 + k])) for k in range(3)])


@scenario
def kwargs(c: Compiler) -> Any:
    f = c(lambda *a, **k: sum(a) + k.get("z", 0) * 2 - k.get("y", 0))
    a, b = (wg.tensor([1.0, 2.0]), wg.tensor([3.0, 5.0]))
    return see(f(a, b), f(a, z=b), f(a, y=b), f(a, z=b, y=a), f(a, y=a, z=b), f(b, a))


@scenario
def pytree(c: Compiler) -> Any:
    f = c(lambda d: {"s": d["a"][0] + d["b"], "n": (None, d["a"][1], "txt", 3)})
    return see(*[f({"a": [wg.tensor([1.0]), k], "b": wg.tensor([2.0]) * k}) for k in range(3)])


@scenario
def method(c: Compiler) -> Any:
    class M:
        s = 2.0

        def __init__(self):
            self.w = leaf(1.0, 2.0)
            self.k = 3

        def step(self, x):
            return x * self.w * self.k * self.s

    m = M()
    f = c(m.step)
    seen = []
    for k in range(4):
        seen += see(f(wg.tensor([1.0, 2.0])).detach())
        m.k = k
        M.s = k + 0.5
    n = M()
    g = c(n.step)
    return seen + see(g(wg.tensor([1.0, 2.0])).detach())


@scenario
def decorated_method(c: Compiler) -> Any:
    class M:
        def __init__(self, v):
            self.w = leaf(v, 2.0)
            self.k = v

        @c
        def step(self, x):
            return x * self.w * self.k

    a, b = (M(1.0), M(2.0))
    seen = []
    for _ in range(4):
        seen += see(a.step(wg.tensor([1.0, 2.0])).detach(), b.step(wg.tensor([1.0, 2.0])).detach())
    return seen


@scenario
def decorated_forward(c: Compiler) -> Any:
    class M(nn.Module):
        def __init__(self):
            self.l = nn.Linear(2, 2)

        @c
        def forward(self, x):
            return self.l(x) * 2

    m = M()
    seen = []
    for _ in range(4):
        m(wg.ones((1, 2))).sum().backward()
        seen += see(*[p.grad for p in m.parameters()])
    return seen


@scenario
def method_global(c: Compiler) -> Any:
    class M:
        def step(self, x):
            return x * GS

    f = c(M().step)
    seen = []
    global GS
    for k in range(3):
        GS = float(k)
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def properties(c: Compiler) -> Any:
    class M:
        def __init__(self):
            self._v = 2.0

        @property
        def v(self):
            return self._v

        @staticmethod
        def st(x):
            return x * GS

        @classmethod
        def cm(cls, x):
            return x * cls.q

        q = 1.0

    m = M()
    f = c(lambda x: M.cm(M.st(x * m.v)))
    seen = []
    global GS
    for k in range(3):
        GS = float(k) + 1
        m._v = k + 2.0
        M.q = k + 5.0
        seen += see(f(wg.tensor([1.0, 2.0])))
    return seen


@scenario
def np_scalar(c: Compiler) -> Any:
    f = c(lambda x, s: x * s)
    return see(
        *[
            f(wg.tensor([1.0, 2.0]), s)
            for s in (np.float32(2), np.float32(3), np.float64(2), np.int64(2), np.bool_(True), 2, 2.0, True)
        ]
    )


@scenario
def result_none(c: Compiler) -> Any:
    f = c(lambda x: None)
    g = c(lambda: 3)
    return [f(wg.tensor([1.0])), f(wg.tensor([1.0])), g(), g()]


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
def test_compiled_and_eager_agree(played: Any) -> None:
    play(played)
