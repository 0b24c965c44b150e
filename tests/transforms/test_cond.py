"""`cond`: a branch like Python's where the predicate is one value, both branches and a choice where `vmap` maps it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg

F64 = "float64"
POINTS = wg.tensor([-1.5, 0.0, 2.0], dtype=F64)


def root(x: Any) -> Any:
    """The square root where there is one, else the square: infinite slope at zero in the branch that is not taken."""
    return wg.cond(x > 0, wg.sqrt, lambda x: x * x, x)


def by_hand(x: Any) -> Any:
    return wg.sqrt(x) if x > 0 else x * x


MODES = {
    "value": lambda f: f,
    "grad": wg.grad,
    "jvp": lambda f: lambda x: wg.jvp(f, (x,), (wg.ones_like(x),))[1],
    "linearize": lambda f: lambda x: wg.linearize(f, x)[1](wg.ones_like(x)),
    "grad of grad": lambda f: wg.grad(wg.grad(f)),
    "jvp of grad": lambda f: lambda x: wg.jvp(wg.grad(f), (x,), (wg.ones_like(x),))[1],
    "grad of jvp": lambda f: wg.grad(lambda x: wg.jvp(f, (x,), (wg.ones_like(x),))[1]),
    "grad of checkpoint": lambda f: wg.grad(wg.checkpoint(f)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_alone_and_mapped(mode: str) -> None:
    way = MODES[mode]
    expected = np.array([float(way(by_hand)(x)) for x in POINTS])
    assert [float(way(root)(x)) for x in POINTS] == expected.tolist()
    # Examples differ in their predicates; at zero the branch that is not taken has an infinite slope, and contributes
    # exactly nothing.
    np.testing.assert_allclose(wg.vmap(way(root))(POINTS), expected, rtol=1e-15)


def test_gradient_of_a_mapped_choice() -> None:
    slope = wg.grad(lambda xs: wg.vmap(root)(xs).sum())(POINTS)
    np.testing.assert_allclose(slope, [float(wg.grad(by_hand)(x)) for x in POINTS], rtol=1e-15)


def test_predicates_that_an_outer_vmap_maps() -> None:
    flags = wg.tensor([True, False])

    def row(flag: Any) -> Any:
        return wg.vmap(lambda x: wg.cond(flag, wg.exp, wg.negative, x))(POINTS)

    out = wg.vmap(row)(flags)
    assert np.array_equal(out, np.stack([np.exp(POINTS.numpy()), -POINTS.numpy()]))


def test_only_one_branch_runs_where_it_can() -> None:
    ran: list[str] = []

    def note(name: str) -> Any:
        def branch(x: Any) -> Any:
            ran.append(name)
            return x

        return branch

    wg.cond(wg.tensor(1.0) > 0, note("then"), note("other"), 0.0)
    wg.grad(lambda x: wg.cond(x > 0, note("then"), note("other"), x))(-1.0)
    assert ran == ["then", "other"]


def test_closed_over_leaves_and_writes_to_operands() -> None:
    w = wg.tensor(3.0, dtype=F64, requires_grad=True)
    buffer = wg.zeros(2, dtype=F64)

    def writes(x: Any) -> Any:
        x[0] = w * 2.0
        return x.sum()

    wg.cond(True, writes, lambda x: x.sum(), buffer).backward()
    assert w.grad is not None and w.grad.item() == 2.0 and buffer.tolist() == [0.0, 0.0]
    w.grad = None
    wg.vmap(lambda x: wg.cond(x > 0, lambda x: x * w, lambda x: x, x))(POINTS).sum().backward()
    assert w.grad is not None and w.grad.item() == 2.0


def test_mistakes_are_named() -> None:
    with pytest.raises(wg.errors.ShapeError, match=r"one truth value, of shape \(\), not of shape \(3,\)"):
        wg.cond(POINTS > 0, wg.sin, wg.cos, 1.0)
    with pytest.raises(wg.errors.ShapeError, match=r"shape \(2,\) from .* and \(\) from"):
        wg.vmap(lambda x: wg.cond(x > 0, lambda x: wg.ones(2, dtype=F64), lambda x: x, x))(POINTS)
    with pytest.raises(wg.errors.DTypeError, match=r"dtype float32 from .* and float64 from"):
        wg.vmap(lambda x: wg.cond(x > 0, lambda x: wg.astype(x, "float32"), lambda x: x, x))(POINTS)
    with pytest.raises(wg.errors.StructureError, match="same nesting"):
        wg.vmap(lambda x: wg.cond(x > 0, lambda x: (x, x), lambda x: x, x))(POINTS)
