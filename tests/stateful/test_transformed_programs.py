"""Random programs under random stacks of transforms, compared with reverse mode alone and loops on the same programs.

A program computes with Tensors of shape (2, 3) and with views of them, writes into them in place and through views,
cuts some off, and branches element by element. A stack is up to three operators of `tests.transforms.zoo`: derivatives
along a fixed direction in any mode, weighted sums over shifted arguments by `vmap`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import wengert as wg
from tests.transforms.zoo import FACES, OPERATORS, Operator, direction_of
from wengert.core.tracing import open_traces
from wengert.testing.numeric import condition, demand_close, rounding

SHAPE = (2, 3)
EVERYTHING = [*OPERATORS, *FACES]
UNARY: list[Callable[[Any], Any]] = [
    wg.sin,
    wg.tanh,
    lambda t: wg.exp(wg.tanh(t)),
    lambda t: t * t * 0.5,
    lambda t: 1.0 / (1.0 + t * t),
    lambda t: wg.where(t > 0.0, t * t, -t),
    lambda t: wg.where(t * t > 0.01, wg.log(t * t), t),  # infinite at zero, where it is masked
    lambda t: wg.softmax(t, axis=-1) if t.ndim else wg.sigmoid(t),
    lambda t: wg.cumsum(t, axis=-1) if t.ndim else t * 3.0,
    lambda t: wg.sort(t, axis=-1) if t.ndim else -t,
    lambda t: t[..., ::-1] * 2.0 if t.ndim else t + 1.0,
    lambda t: t - t.mean(),
    lambda t: wg.take_along_axis(t, wg.argsort(t.detach(), axis=-1), axis=-1) if t.ndim else t,
    lambda t: wg.vector_norm(t, axis=-1, keepdims=True) + t if t.ndim else t * t,
]
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda t, u: t + u,
    lambda t, u: t * u,
    lambda t, u: t - 0.5 * u,
    lambda t, u: t / (1.0 + u * u),
    lambda t, u: wg.where(t > u, t, u * u),
    lambda t, u: wg.maximum(t, u * 1.5),
    lambda t, u: wg.hypot(t, u + 0.1),
]
VIEWS: list[Callable[[Any], Any]] = [
    lambda t: t[0] if t.ndim else t,
    lambda t: t[..., 1] if t.ndim else t,
    lambda t: t.T,
    lambda t: t.reshape(-1),
    lambda t: t[..., ::-1] if t.ndim else t,
    lambda t: t[..., 1:] if t.ndim else t,
    lambda t: t[None],
]
KEYS: list[Any] = [..., 0, -1, slice(None, None, 2), (..., 0), (..., slice(None, None, -1)), [0, 0], (..., [-1, 0])]

PLACE = st.integers(0, 7)
INSTRUCTIONS = st.one_of(
    st.tuples(st.just("unary"), st.integers(0, len(UNARY) - 1), PLACE, st.just(0)),
    st.tuples(st.just("binary"), st.integers(0, len(BINARY) - 1), PLACE, PLACE),
    st.tuples(st.just("view"), st.integers(0, len(VIEWS) - 1), PLACE, st.just(0)),
    st.tuples(st.just("write"), st.integers(0, len(KEYS) - 1), PLACE, PLACE),
    st.tuples(st.just("add in place"), st.just(0), PLACE, PLACE),
    st.tuples(st.just("multiply in place"), st.just(0), PLACE, PLACE),
    st.tuples(st.just("table"), st.just(0), PLACE, PLACE),
    st.tuples(st.just("detach"), st.just(0), PLACE, st.just(0)),
    st.tuples(st.just("unrecorded"), st.integers(0, len(UNARY) - 1), PLACE, st.just(0)),
    st.tuples(st.just("unrecorded write"), st.integers(0, len(KEYS) - 1), PLACE, PLACE),
)
PROGRAMS = st.lists(INSTRUCTIONS, min_size=2, max_size=9)
STACKS = st.lists(st.sampled_from(EVERYTHING), min_size=1, max_size=3)


def fitted(t: Any, like: Any) -> Any:
    """Return something that broadcasts to a shape."""
    try:
        fits = np.broadcast_shapes(t.shape, like.shape) == like.shape
    except ValueError:
        fits = False
    return t if fits else t.sum() * 0.3


def run(program: Sequence[tuple[str, int, int, int]], x: Any) -> Any:
    """Run a program on its argument, which is the first of its values; return a number that depends on all of them."""
    values = [x, wg.tanh(x) * 0.7]
    for what, which, i, j in program:
        t, u = values[-1 - i % len(values)], values[-1 - j % len(values)]
        if what == "unary":
            values.append(UNARY[which](wg.tanh(t)))
        elif what == "binary":
            values.append(BINARY[which](wg.tanh(t), wg.tanh(fitted(u, t))))
        elif what == "view":
            values.append(VIEWS[which](t))
        elif what == "detach":
            values.append(t.detach() * 0.5)
        elif what == "unrecorded":
            with wg.no_grad():
                values.append(UNARY[which](wg.tanh(t)))
        elif what == "table":
            table = wg.zeros((2, *t.shape), dtype="float64")
            table[0] = wg.tanh(t)
            table[1] = table[0] * fitted(wg.tanh(u), t)
            values.append(table)
        elif not t.ndim:
            continue  # an operator in place rebinds a number and writes into an array of no axes
        elif what == "add in place":
            t += fitted(wg.sin(u), t)
        elif what == "multiply in place":
            t *= fitted(wg.tanh(u), t) + 0.5
        else:
            key = KEYS[which]
            if what == "write":
                t[key] = fitted(wg.sin(u), t[key])
            else:
                with wg.no_grad():
                    t[key] = fitted(wg.sin(u), t[key])
    total = None
    for k, t in enumerate(values):
        term = (wg.sin(t) * (1.0 + 0.25 * k)).sum()
        total = term if total is None else total + term
    return total


def stacked(f: Any, ways: Sequence[Any], v: Any) -> Any:
    for way in reversed(ways):
        f = way(f, v)
    return f


@settings(max_examples=4 * settings().max_examples)  # an example takes a few milliseconds
@given(program=PROGRAMS, stack=STACKS, seed=st.integers(0, 2**16))
def test_a_random_program_under_a_random_stack(
    program: list[tuple[str, int, int, int]], stack: list[Operator], seed: int
) -> None:
    at = np.random.default_rng(seed).uniform(-1, 1, SHAPE)
    v = direction_of(at, seed)

    def f(x: Any) -> Any:
        return run(program, x)

    trusted = [operator.trusted for operator in stack]

    def value(arrays: Sequence[Any]) -> np.ndarray:
        return np.atleast_1d(stacked(f, trusted, v)(wg.tensor(arrays[0])).detach().numpy())

    with np.errstate(all="ignore"):
        wanted = value([at])
        size = condition(value, [at], (True,)) + max(
            [abs(float(stacked(f, trusted[k:], v)(wg.tensor(at)).detach().numpy())) for k in range(1, len(stack) + 1)]
        )
        x = wg.tensor(at)
        got = stacked(f, [operator.apply for operator in stack], v)(x).detach().numpy()
    what = " of ".join([operator.name for operator in stack])
    demand_close(str(program), what, np.atleast_1d(got), wanted, rounding(np.float64, len(program) * size))
    assert open_traces() == () and wg.is_grad_enabled()
    assert x.tolist() == at.tolist() and x.grad is None
