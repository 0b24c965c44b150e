"""Perturbation confusion: the examples of the literature, and ways to smuggle tangents, in all mixtures of modes.

J. M. Siskind and B. A. Pearlmutter, Perturbation Confusion and Referential Transparency (IFL 2005), and Nesting
Forward-Mode AD in a Functional Framework (HOSC 2008); O. Manzyuk, B. A. Pearlmutter, A. A. Radul, D. R. Rush and J. M.
Siskind, Perturbation Confusion in Forward Automatic Differentiation of Higher-Order Functions (JFP 2019).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.transforms.doubles import number
from wengert.core.tracing import open_traces
from wengert.errors import LeakedTracerError

Scalar = Callable[[Any], Any]


def grad(f: Scalar) -> Scalar:
    return wg.grad(f)


def vjp(f: Scalar) -> Scalar:
    return lambda x: wg.vjp(f, x)[1](1.0)[0]


def jvp(f: Scalar) -> Scalar:
    return lambda x: wg.jvp(f, (x,), (wg.ones_like(x),))[1]


def linearize(f: Scalar) -> Scalar:
    return lambda x: wg.linearize(f, x)[1](wg.ones_like(x))


def jacfwd(f: Scalar) -> Scalar:
    return wg.jacfwd(f)


def jacrev(f: Scalar) -> Scalar:
    return wg.jacrev(f)


def backward(f: Scalar) -> Scalar:
    def derivative(x: Any) -> Any:
        x = x * 1.0 if x.requires_grad else x.clone().requires_grad_()  # never the one that others differentiate by
        with wg.GradientTape():
            y = f(x)
        y.backward(create_graph=True, inputs=x)
        return x.grad

    return derivative


def tape(f: Scalar) -> Scalar:
    def derivative(x: Any) -> Any:
        x = x * 1.0
        with wg.GradientTape() as recording:
            recording.watch(x)
            y = f(x)
        return recording.gradient(y, x)

    return derivative


def mapped_grad(f: Scalar) -> Scalar:
    return lambda x: wg.vmap(wg.grad(f))(wg.stack([x, x + 1.0]))[0]


def mapped_jvp(f: Scalar) -> Scalar:
    def along(x: Any, v: Any) -> Any:
        return wg.jvp(f, (x,), (v,))[1]

    return lambda x: wg.vmap(along, in_axes=(None, 0))(x, wg.tensor([1.0, 2.0], dtype="float64"))[0]


MODES = [grad, vjp, jvp, linearize, jacfwd, jacrev, backward, tape, mapped_grad, mapped_jvp]
PAIRS = list(itertools.product(MODES, repeat=2))
SAMPLED = [tuple(MODES[k] for k in row) for row in np.random.default_rng(0).integers(len(MODES), size=(60, 3))]


def level(value: float, x: Any) -> Any:
    """Return a number as a Tensor of the level of x, so that tapes inside of a transform can differentiate by it."""
    return x * 0.0 + value


def value(x: Any) -> float:
    assert x.shape == () and x.dtype == np.float64
    return x.detach().item()


def names(modes: Any) -> str:
    return "-".join([mode.__name__ for mode in modes])


@pytest.mark.parametrize("modes", PAIRS, ids=names)
def test_siskind_and_pearlmutter(modes: tuple[Any, ...]) -> None:
    outer, inner = modes
    one = number(1.0)
    # d/dx (x d/dy (x + y)) = 1; two, if the two perturbations are confused
    assert value(outer(lambda x: x * inner(lambda y: x + y)(level(1.0, x)))(one)) == 1.0
    # the same with the inner point the outer one, or computed from it
    assert value(outer(lambda x: x * inner(lambda y: x + y)(x))(one)) == 1.0
    assert value(outer(lambda x: x * inner(lambda y: x + y)(2.0 * x))(one)) == 1.0
    # d/dx (x d/dy (x y) at y = 2) = d/dx x^2
    assert value(outer(lambda x: x * inner(lambda y: x * y)(level(2.0, x)))(number(3.0))) == 6.0
    # d/dx (d/dy (x y^2) at y = x) = d/dx 2 x^2
    assert value(outer(lambda x: inner(lambda y: x * y * y)(x))(number(3.0))) == 12.0


@pytest.mark.parametrize("modes", SAMPLED, ids=names)
def test_three_levels(modes: tuple[Any, ...]) -> None:
    outer, middle, inner = modes
    # d/dx (x d/dy (y d/dz (x y z) at z = 5) at y = 3) = d/dx (x * 2 x y) = 4 x y
    nested = outer(lambda x: x * middle(lambda y: y * inner(lambda z: x * y * z)(level(5.0, x * y)))(level(3.0, x)))
    assert value(nested(number(2.0))) == 4 * 2.0 * 3.0
    # every level's point is the next one's: f = x y^2 z^3; see the comment of test_nesting
    chained = outer(lambda x: middle(lambda y: inner(lambda z: x * y * y * z * z * z)(y))(x))
    assert value(chained(number(2.0))) == 48.0 * 8.0


@pytest.mark.parametrize("modes", PAIRS, ids=names)
def test_a_function_out_of_a_closure(modes: tuple[Any, ...]) -> None:
    outer, inner = modes

    def scaled(x: Any) -> Scalar:
        return lambda y: x * y * y

    # d/dx (d/dy x y^2 at y = x) + d/dx (x^2 at the outer point): curried
    assert value(outer(lambda x: inner(scaled(x))(x) + scaled(x)(x))(number(2.0))) == 4 * 2.0 + 3 * 4.0


@pytest.mark.parametrize("mode", [jvp, linearize, grad, vjp], ids=lambda mode: mode.__name__)
@pytest.mark.parametrize("outer", MODES, ids=lambda mode: mode.__name__)
def test_the_amazing_bug(outer: Any, mode: Any) -> None:
    """Manzyuk et al.: s u f x = f (x + u); D (s) at 0 is a derivative of a higher-order function, applied twice.

    With `d` the derivative of `s` at zero, that is `d g y = g'(y)` for any g, `d (d h) y` must be h''(y). An
    implementation that tags the derivative of `s` once, when it is taken, gives the inner and the outer
    differentiation the same tag, and zero comes out for h''.

    Functions are no values of a transform here, so `s` is written uncurried, with the transform entered at each
    application: eta expansion, which the paper shows to be right. That a function returned with a tangent inside is
    refused, and not silently wrong, is in the next test.
    """

    def shifted(u: Any) -> Callable[[Scalar], Scalar]:
        return lambda f: lambda x: f(x + u)

    def d(f: Scalar) -> Scalar:
        return lambda x: mode(lambda u: shifted(u)(f)(x))(number(0.0))

    y = number(0.4)
    assert value(d(wg.exp)(y)) == pytest.approx(np.exp(0.4), rel=1e-15)
    assert value(d(d(wg.exp))(y)) == pytest.approx(np.exp(0.4), rel=1e-15)
    assert value(d(d(lambda t: t * t * t))(y)) == pytest.approx(6 * 0.4, rel=1e-15)
    assert value(outer(d(d(lambda t: t**4)))(y)) == pytest.approx(24 * 0.4, rel=1e-14)


@pytest.mark.parametrize("push", [jvp, linearize], ids=lambda mode: mode.__name__)
def test_a_tangent_in_a_returned_function_is_refused(push: Any) -> None:
    """The amazing bug as it is written: a closure over the tangent outlives the transform; to call it is an error."""
    held: list[Scalar] = []

    def shifted(u: Any) -> Any:
        held.append(lambda x: wg.exp(x + u))
        return u * 1.0

    push(shifted)(number(0.0))
    with pytest.raises(LeakedTracerError, match=rf"{push.__name__}\(shifted\(\)\)"):
        held[0](number(1.0))
    with pytest.raises(LeakedTracerError):
        wg.jvp(held[0], (number(1.0),), (number(1.0),))


# Tangents smuggled along other ways than arguments and results.


@pytest.mark.parametrize("modes", PAIRS, ids=names)
def test_through_a_mutable_cell(modes: tuple[Any, ...]) -> None:
    outer, inner = modes
    cell: list[Any] = []

    def outermost(x: Any) -> Any:
        cell.append(x * x)

        def innermost(y: Any) -> Any:
            product = cell.pop() * y
            cell.append(x + 0.0)
            return product

        slope = inner(innermost)(level(5.0, x))  # x^2
        return slope * cell.pop()  # x^3

    assert value(outer(outermost)(number(2.0))) == 12.0
    assert not cell


@pytest.mark.parametrize("modes", PAIRS, ids=names)
def test_through_a_generator(modes: tuple[Any, ...]) -> None:
    outer, inner = modes

    def powers(x: Any) -> Iterator[Any]:
        y = x
        while True:
            yield y
            y = y * x

    def outermost(x: Any) -> Any:
        stream = powers(x)
        next(stream)
        # The stream is resumed inside of the inner function, and computes with the outer argument there.
        slope = inner(lambda y: y * next(stream) + y * y)(x)  # x^2 + 2 x
        return slope * next(stream)  # x^5 + 2 x^4

    assert value(outer(outermost)(number(2.0))) == 5 * 16.0 + 8 * 8.0


@pytest.mark.parametrize("modes", PAIRS, ids=names)
def test_through_an_exception(modes: tuple[Any, ...]) -> None:
    outer, inner = modes

    class Carrier(Exception):
        pass

    def outermost(x: Any) -> Any:
        def innermost(y: Any) -> Any:
            raise Carrier(x * x, y)

        try:
            inner(innermost)(x)
        except Carrier as carrier:
            return carrier.args[0] * x
        raise AssertionError

    assert value(outer(outermost)(number(2.0))) == 12.0


@pytest.mark.parametrize("modes", PAIRS, ids=names)
def test_through_writes_to_a_tensor_further_out(modes: tuple[Any, ...]) -> None:
    """A write inside of the inner function, of something of the outer level, is seen outside of it and follows."""
    outer, inner = modes

    def outermost(x: Any) -> Any:
        table = wg.zeros(2, dtype="float64")

        def innermost(y: Any) -> Any:
            table[0] = x * x
            return table[0] * y

        return inner(innermost)(level(3.0, x)) * table[0]  # x^4

    assert value(outer(outermost)(number(2.0))) == 32.0


@pytest.mark.parametrize("outer", MODES, ids=lambda mode: mode.__name__)
@pytest.mark.parametrize("inner", [jvp, linearize], ids=lambda mode: mode.__name__)
def test_a_write_of_the_inner_tangent_leaves_a_value_behind(outer: Any, inner: Any) -> None:
    """What the inner function writes of its own argument outside keeps its value, and derivatives further out."""

    def outermost(x: Any) -> Any:
        table = wg.zeros(2, dtype="float64")

        def innermost(y: Any) -> Any:
            table[0] = x * y
            return table[0] * y

        return inner(innermost)(x) * table[0]  # 2 x^2 * x^2

    assert value(outer(outermost)(number(2.0))) == 8 * 8.0


def test_an_inner_tangent_in_a_cell_is_refused_afterwards() -> None:
    cell: list[Any] = []

    def outermost(x: Any) -> Any:
        def innermost(y: Any) -> Any:
            cell.append(y * y)
            return y * y

        return wg.jvp(innermost, (x,), (wg.ones_like(x),))[1] * cell.pop()

    for outer in (jvp, linearize, jacfwd, mapped_jvp):
        with pytest.raises(LeakedTracerError, match=r"jvp\(innermost\(\)\).*test_perturbations\.py:\d+"):
            outer(outermost)(number(2.0))
        assert open_traces() == ()


@pytest.mark.parametrize("modes", PAIRS, ids=names)
def test_the_same_function_at_both_levels(modes: tuple[Any, ...]) -> None:
    """One function object, differentiated inside of itself."""
    outer, inner = modes

    def f(x: Any, depth: int = 0) -> Any:
        return x * x * x if depth else x * inner(lambda y: f(y, 1))(x)  # x * 3 x^2

    assert value(outer(f)(number(2.0))) == 9 * 4.0


@pytest.mark.parametrize("modes", PAIRS, ids=names)
def test_two_inner_derivatives_side_by_side(modes: tuple[Any, ...]) -> None:
    outer, inner = modes

    def outermost(x: Any) -> Any:
        one = inner(lambda y: x * y * y)
        other = inner(lambda y: one(y) * x)  # (2 x y) x -> 2 x^2
        return one(x) + other(x)  # 2 x^2 + 2 x^2

    assert value(outer(outermost)(number(3.0))) == 24.0


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_a_linear_map_or_pullback_made_outside_is_used_inside(mode: Any) -> None:
    """It is a function of its argument alone; what it keeps of its own run is constant to the other transform."""
    _, push = wg.linearize(lambda t: t * t, number(3.0))
    _, pull = wg.vjp(lambda t: t * t, number(3.0))
    assert value(mode(lambda x: push(x) * x)(number(2.0))) == 2 * 6.0 * 2.0
    assert value(mode(lambda x: pull(x)[0] * x)(number(2.0))) == 2 * 6.0 * 2.0


@pytest.mark.parametrize("modes", PAIRS, ids=names)
def test_a_linear_map_made_at_the_outer_level_is_used_at_the_inner(modes: tuple[Any, ...]) -> None:
    outer, inner = modes

    def outermost(x: Any) -> Any:
        _, push = wg.linearize(lambda t: t * t * x, x)  # v -> 2 x^2 v
        _, pull = wg.vjp(lambda t: t * t, x)  # v -> 2 x v
        return inner(lambda y: push(y) * y + pull(y)[0])(x)  # 4 x^3 + 2 x

    assert value(outer(outermost)(number(2.0))) == 12 * 4.0 + 2.0
