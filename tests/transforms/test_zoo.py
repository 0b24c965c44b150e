"""Every animal of the zoo under every pair and triple of transforms, against reverse mode alone and loops.

The reference is nested reverse mode with loops in place of `vmap`; that it is right to first order, differences say
here, and to higher orders the tests of reverse mode. How far two ways may differ follows from how the reference
answers to relative changes of the argument.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.transforms.zoo import FACES, OPERATORS, ZOO, Operator, W, both, by_grad, direction_of, tree_of
from wengert.core import pytree
from wengert.core.tracing import open_traces
from wengert.errors import MappedValueError
from wengert.testing.numeric import condition, demand_close, derivative, rounding

PAIRS = list(itertools.product((*OPERATORS, *FACES), repeat=2))
EPS = np.finfo(np.float64).eps


def argument(name: str) -> Any:
    return tree_of(wg.tensor, ZOO[name].at)


def stacked(name: str, ways: Sequence[Any]) -> Any:
    """Return the function that operators, the outermost first, make of an animal."""
    f, v = ZOO[name].function, direction_of(ZOO[name].at)
    for way in reversed(ways):
        f = way(f, v)
    return f


@cache
def expected(name: str, ways: tuple[Any, ...]) -> tuple[float, float]:
    """Return what the trusted operators give, and how far from it others may be."""
    leaves, structure = pytree.flatten(ZOO[name].at)
    f = stacked(name, ways)

    def value(arrays: Sequence[Any]) -> np.ndarray:
        return np.atleast_1d(f(structure.unflatten([wg.tensor(a) for a in arrays])).detach().numpy())

    def parts(arrays: Sequence[Any]) -> np.ndarray:
        # Sums over shifted arguments cancel: what they are made of counts.
        return value(arrays)

    (size,) = condition(parts, leaves, (True,) * len(leaves))
    return float(value(leaves)[0]), float(rounding(np.float64, size + _largest_part(name, ways)))


@cache
def _largest_part(name: str, ways: tuple[Any, ...]) -> float:
    """Return the largest magnitude of a lower derivative: what a higher one is computed from."""
    sizes = [abs(float(stacked(name, ways[k:])(argument(name)).detach().numpy())) for k in range(len(ways) + 1)]
    return max(sizes)


def check(name: str, operators: Sequence[Operator]) -> None:
    f = stacked(name, [operator.apply for operator in operators])
    given = argument(name)
    if ZOO[name].branches and any(operator.maps for operator in operators):
        with pytest.raises(MappedValueError, match=r"branch of Python's.*zoo\.py:\d+"):
            f(given)
        assert open_traces() == () and wg.is_grad_enabled()
        return
    value, limit = expected(name, tuple([operator.trusted for operator in operators]))
    got = f(given)
    what = " of ".join([operator.name for operator in operators])
    demand_close(name, what, got.detach().numpy(), value, limit)
    assert got.shape == () and got.dtype == np.float64
    for leaf, array in zip(pytree.flatten(given)[0], pytree.flatten(ZOO[name].at)[0]):
        assert leaf.grad is None and not leaf.requires_grad and np.array_equal(leaf.numpy(), array)
    assert open_traces() == () and W.grad is None


@pytest.mark.parametrize("name", [name for name, animal in ZOO.items() if not animal.cut])
def test_the_reference_agrees_with_differences(name: str) -> None:
    leaves, structure = pytree.flatten(ZOO[name].at)
    directions = [v.numpy() for v in pytree.flatten(direction_of(ZOO[name].at))[0]]

    def moved(t: Any) -> np.ndarray:
        arrays = [wg.tensor(a + t * v) for a, v in zip(leaves, directions)]
        return np.atleast_1d(ZOO[name].function(structure.unflatten(arrays)).detach().numpy())

    numeric = derivative(moved, 0.01, noise=64 * EPS * np.abs(moved(0.0)))
    assert numeric.conclusive.all()
    value, limit = expected(name, (by_grad,))
    demand_close(name, "the derivative (against differences)", value, numeric.value[0], 4 * numeric.error[0] + limit)


@pytest.mark.parametrize("name", ZOO)
def test_alone(name: str) -> None:
    for operator in (*OPERATORS, *FACES):
        check(name, (operator,))


@pytest.mark.parametrize("name", ZOO)
def test_pairs(name: str) -> None:
    for pair in PAIRS:
        check(name, pair)


@pytest.mark.parametrize("name", ZOO)
def test_triples(name: str) -> None:
    for triple in itertools.product(OPERATORS, repeat=3):
        check(name, triple)


MORE_TRIPLES, QUADRUPLES = 30, 8
"""How many of the larger stacks are tried for each function; which ones differs from function to function."""


@pytest.mark.parametrize("name", ZOO)
def test_larger_stacks(name: str) -> None:
    rng = np.random.default_rng(list(name.encode()))
    everything = (*OPERATORS, *FACES)
    for depth, count in ((3, MORE_TRIPLES), (4, QUADRUPLES)):
        for _ in range(count):
            check(name, [everything[k] for k in rng.integers(len(everything), size=depth)])


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: " of ".join([o.name for o in pair]))
def test_what_is_closed_over_sees_through_every_pair(pair: Sequence[Operator]) -> None:
    """The result hangs on the tape of a leaf that the function closes over, under a tape that watches."""

    def slope(ways: Sequence[Any]) -> np.ndarray:
        with wg.GradientTape():
            out = stacked("closed_over", ways)(argument("closed_over"))
        out.backward()
        bar, W.grad = W.grad.numpy().copy(), None
        return bar

    wanted = slope([operator.trusted for operator in pair])
    size = float(np.abs(wanted).max()) + expected("closed_over", tuple([o.trusted for o in pair]))[1] / EPS
    demand_close(
        "closed_over", "the derivative by W", slope([o.apply for o in pair]), wanted, rounding(np.float64, size)
    )


def test_stopped_by_hand() -> None:
    """In every mode a constant is a constant: c x^3 s with c, s frozen, and d x^2 with d frozen."""
    x, v = ZOO["stopped"].at, direction_of(ZOO["stopped"].at).numpy()
    first = ((3 * x**2 * np.sin(x)) * v).sum() * (x * x).sum() + (2 * x * x * v).sum()
    # With the constants of the outer derivative frozen, too: d/dx [3 x^2 s v c + 2 d x v] = 6 x s v c + 2 d v.
    second = ((6 * x * np.sin(x)) * v * v).sum() * (x * x).sum() + (2 * x * v * v).sum()
    for operator in (*OPERATORS, *FACES):
        if not operator.maps:
            got = stacked("stopped", [operator.apply])(argument("stopped")).detach().numpy()
            demand_close("stopped", operator.name, got, first, rounding(np.float64, np.abs(first)))
            for other in (*OPERATORS, *FACES):
                if not other.maps:
                    got = stacked("stopped", [other.apply, operator.apply])(argument("stopped")).detach().numpy()
                    what = f"{other.name} of {operator.name}"
                    demand_close("stopped", what, got, second, rounding(np.float64, np.abs(second) + np.abs(first)))


def test_jacobians_of_several_results() -> None:
    """Every way to a Jacobian of a function with two results, against reverse mode row by row."""
    x = argument("several_results")
    rows: list[Any] = []
    for k in range(2):
        out, pull = wg.vjp(lambda t, k=k: both(t)[k], x)
        rows.append(np.stack([pull(np.eye(out.size)[i])[0].numpy() for i in range(out.size)]))
    for transform in (wg.jacrev, wg.jacfwd, wg.jacobian):
        for got, wanted in zip(transform(both)(x), rows, strict=True):
            demand_close("both", transform.__name__, got.numpy(), wanted, rounding(np.float64, np.abs(wanted).max()))
