"""Simplification: what goes, what stays for the sake of signed zeros and NaN, and that nothing is computed twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.graphs import assert_close, graph_of
from wengert.compile.expand import EXPANSIONS, expand
from wengert.compile.graph import Graph
from wengert.compile.interpret import interpret
from wengert.compile.simplify import simplify
from wengert.compile.simplify_shapes import SHAPE_RULES
from wengert.core.primitive import REGISTRY
from wengert.testing.samples import cases

assert wg.Tensor
X = np.array([[0.0, -0.0, np.inf, 1.5], [np.nan, -np.inf, -2.0, 1e-300]])


def names(graph: Graph) -> list[str]:
    return [equation.primitive.name for equation in graph.equations]


def simplified(function: Callable[..., Any], *arrays: np.ndarray, signs: bool = True) -> Graph:
    """Return the simplified graph, after checking that it computes the same numbers, and zeros of the same sign."""
    graph = graph_of(function, arrays)
    simple = simplify(graph, SHAPE_RULES)
    simple.verify()
    with np.errstate(all="ignore"):
        for one, other in zip(interpret(graph, arrays), interpret(simple, arrays)):
            np.testing.assert_array_equal(other, one)
            if signs:
                np.testing.assert_array_equal(np.signbit(other[~np.isnan(one)]), np.signbit(one[~np.isnan(one)]))
    return simple


GOES: list[Callable[..., Any]] = [
    lambda b, x: b.call("multiply", x, 1.0),
    lambda b, x: b.call("divide", x, 1),
    lambda b, x: b.call("subtract", x, 0.0),
    lambda b, x: b.call("negative", b.call("negative", x)),
    lambda b, x: b.call("permute", b.call("permute", x, axes=(1, 0)), axes=(1, 0)),
    lambda b, x: b.call("reshape_to", b.call("reshape_to", x, newshape=(8,)), newshape=(2, 4)),
    lambda b, x: b.call("stretch", x, shape=(2, 4)),
    lambda b, x: b.call("cast", x, dtype=x.dtype),
    lambda b, x: b.call("where", b.call("equal", 1, b.call("add", _number(1), 0)), x, b.call("exp", x)),
    lambda b, x: b.call("write_region", b.call("exp", x), x, steps=(), key=(Ellipsis,)),
]
STAYS: list[Callable[..., Any]] = [
    lambda b, x: b.call("add", x, 0.0),
    lambda b, x: b.call("multiply", x, 0.0),
    lambda b, x: b.call("subtract", x, x),
    lambda b, x: b.call("divide", x, x),
    lambda b, x: b.call("subtract", x, -0.0),
]


def _number(value: int) -> Any:
    from wengert.compile.simplify import constant_value

    return constant_value(np.asarray(value))


@pytest.mark.parametrize("function", GOES)
def test_what_changes_nothing_goes(function: Callable[..., Any]) -> None:
    assert names(simplified(function, X)) == []


@pytest.mark.parametrize("function", STAYS)
def test_what_matters_to_zeros_and_nan_stays(function: Callable[..., Any]) -> None:
    assert len(names(simplified(function, X))) == 1


def test_equal_equations_are_one() -> None:
    def function(b: Any, x: Any) -> Any:
        return b.call("add", b.call("exp", x), b.call("multiply", b.call("exp", x), b.call("multiply", 2.0, x)))

    assert sorted(names(simplified(function, X))) == ["add", "exp", "multiply", "multiply"]


def test_numbers_of_other_types_are_not_equal() -> None:
    ints = np.array([1, 2, 3])

    def function(b: Any, x: Any) -> list[Any]:
        return [b.call("multiply", x, 2), b.call("multiply", x, 2.0)]

    assert names(simplified(function, ints)) == ["multiply", "multiply"]


def test_guard_of_a_plain_factor_is_a_product() -> None:
    # What sign a guarded zero has depends on whether there are others to guard: it is not specified.
    assert names(simplified(lambda b, x: b.call("guarded_product", x, 0.5), X, signs=False)) == ["multiply"]
    assert names(simplified(lambda b, x: b.call("guarded_product", x, np.inf), X)) == ["guarded_product"]
    assert names(simplified(lambda b, x: b.call("guarded_product", x, 0.0), X)) == ["guarded_product"]


def test_reshapes_are_put_off() -> None:
    x = np.arange(24.0).reshape(6, 4)

    def function(b: Any, v: Any) -> Any:
        moved = b.call("add", b.reshape(v, (2, 3, 4)), b.call("multiply", b.reshape(v, (2, 3, 4)), 2.0))
        return b.call("subtract", moved, b.call("max_over", moved, axis=(2,), keepdims=True))

    graph = simplified(function, x)
    assert names(graph)[-1] == "reshape_to"
    assert all([len(value.shape) <= 2 for equation in graph.equations[:-1] for value in equation.outputs])


# No sample of write_region has gaps in its region; random graphs have.
@pytest.mark.parametrize("name", sorted({*EXPANSIONS} - {"write_region"}))
def test_expansion_computes_the_operation(name: str) -> None:
    primitive, count = REGISTRY[name], 0
    for case in cases(primitive):
        arrays = [np.asarray(a) for a in case.arrays]
        want = np.asarray(primitive.impl(wg.backend.numpy, *arrays, **case.params))

        def function(b: Any, *values: Any, case: Any = case) -> Any:
            made = EXPANSIONS[name](b, *values, **case.params)
            return values[0] if made is None else made

        graph = graph_of(function, arrays)
        if not graph.equations:
            continue  # it stays as it is
        count += 1
        assert_close(interpret(expand(graph), arrays)[0], want, scale=1.0)
    assert count


@pytest.mark.parametrize("axis", [None, 0, (0, 2)])
def test_sums_of_one_element_begin_with_zero(axis: Any) -> None:
    """They are +0 for -0, as NumPy's are: what is divided by them has another sign."""
    x = np.full((1, 3, 1) if axis is not None else (1, 1, 1), -0.0)
    total = wg.compile(lambda x: wg.sum(x, axis=axis))(wg.tensor(x)).numpy()
    assert not np.signbit(total).any()
    assert np.array_equal(np.signbit(total), np.signbit(np.sum(x, axis=axis)))
