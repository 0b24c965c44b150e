"""Dtypes under the transforms are those without: every elementwise operation, every dtype, numbers on either side."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.core.primitive import ELEMENTWISE, NONDIFFERENTIABLE, REGISTRY, Primitive
from wengert.testing.numeric import demand_close, rounding

DTYPES = ("bool", "int8", "int64", "uint8", "float16", "float32", "float64")
ROWS = np.array([[1, 2], [3, 1]])
OTHERS = np.array([[2, 0], [1, 3]])
NUMBERS: tuple[Any, ...] = (2, 2.5, True, np.float32(2.5), np.float64(2.5), np.int64(2))
PRIMITIVES = [
    primitive
    for primitive in REGISTRY
    if primitive.kind in (ELEMENTWISE, NONDIFFERENTIABLE)
    and not primitive.parameters
    and not primitive.variadic
    and len(primitive.arguments) in (1, 2)
]


def calls(primitive: Primitive) -> Iterator[tuple[str, Callable[..., Any], np.ndarray, Any]]:
    """Yield what a call is, the call as a function of one or two arguments, the first, and the second or None."""
    for dtype in DTYPES:
        x = ROWS.astype(dtype)
        if len(primitive.arguments) == 1:
            yield dtype, primitive.call, x, None
            continue
        for other in (*[OTHERS.astype(second) for second in DTYPES], *NUMBERS):
            second = f"{getattr(other, 'dtype', '')} {type(other).__name__}"
            yield f"{dtype}, {second}", primitive.call, x, other
            yield f"{second}, {dtype}", lambda one, two: primitive.call(two, one), x, other


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """Return an array, or the name of the error that the call ends in."""
    try:
        return function(*args).numpy()
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("primitive", PRIMITIVES, ids=lambda primitive: primitive.name)
def test_dtypes(primitive: Primitive) -> None:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for what, call, x, other in calls(primitive):
            check(primitive, what, call, x, other)


def check(primitive: Primitive, what: str, call: Callable[..., Any], x: np.ndarray, other: Any) -> None:
    given = () if other is None else (wg.tensor(other) if isinstance(other, np.ndarray) else other,)
    mapped = isinstance(other, np.ndarray)
    rows = [
        outcome(call, wg.tensor(row), *([wg.tensor(np.asarray(other)[i])] if mapped else given))
        for i, row in enumerate(x)
    ]
    got = outcome(wg.vmap(call, in_axes=(0, *[0 if mapped else None] * len(given))), wg.tensor(x), *given)
    demand_same(f"{primitive.name} on {what}, mapped", got, rows[0] if isinstance(rows[0], str) else np.stack(rows))
    if x.dtype.kind != "f":
        return
    constant = [wg.tensor(np.asarray(other)[0])] if mapped else list(given)

    def of_first(t: Any, constant: Any = constant, call: Any = call) -> Any:
        return call(t, *constant)

    one = wg.tensor(x[0])
    got = outcome(lambda: wg.jvp(of_first, (one,), (wg.ones_like(one),))[0])
    demand_same(f"{primitive.name} on {what}, pushed", got, rows[0])
    if isinstance(got, str) or got.dtype.kind != "f":
        return
    bars = [
        wg.jvp(of_first, (one,), (wg.ones_like(one),))[1],
        wg.linearize(of_first, one)[1](wg.ones_like(one)),
        wg.grad(lambda t: of_first(t).sum())(one),
        wg.vmap(wg.grad(lambda t: of_first(t).sum()))(one[None])[0],
    ]
    assert [bar.dtype for bar in bars] == [got.dtype, got.dtype, one.dtype, one.dtype], (primitive, what, bars)
    if mapped and other.dtype.kind != "f":
        # Integers on the other side count as the numbers that they are: no sign lost, no overflow.
        exact = wg.tensor(other[0].astype(np.float64))
        wanted = wg.jvp(lambda t, e=exact, c=call: c(t, e), (wg.tensor(x[0].astype(float)),), (np.ones(2),))[1].numpy()
        for bar in bars:
            limit = rounding(bar.dtype, np.abs(wanted).max() + np.abs(got).max())
            demand_close(f"{primitive.name} on {what}", "the derivative", bar.numpy(), wanted, limit)


def demand_same(what: str, got: Any, wanted: Any) -> None:
    if isinstance(wanted, str) or isinstance(got, str):
        assert isinstance(got, str) and isinstance(wanted, str) and got == wanted, (what, got, wanted)
        return
    assert got.dtype == wanted.dtype, (what, got, wanted)
    np.testing.assert_array_equal(got, wanted, what)
