"""Zero times infinity in compiled sweeps: an exactly zero cotangent wins, as it does without compilation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg

# Of a product with infinite factors, some BLAS libraries tell NumPy that it was invalid.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in matmul:RuntimeWarning")

KEPT = np.array([True, True, False])
FINITE = np.ones((3, 2))
SPOILT = np.array([[1.0, 1.0], [1.0, 1.0], [np.inf, np.nan]])
ORDER = (FINITE, FINITE, SPOILT, FINITE, SPOILT, SPOILT, FINITE)
BY_HAND = 2 * 2 * (np.arange(6.0).reshape(2, 3) + 1).sum(0)
"""Gradient of the sum of squares of two rows of ones times W, the same in both rows."""


def weights() -> Any:
    return wg.tensor(np.arange(6.0).reshape(2, 3) + 1, requires_grad=True)


def loss(weight: Any, x: Any) -> Any:
    kept = wg.where(wg.asarray(KEPT)[:, None], x @ weight, 0.0)
    return (kept * kept).sum()


def test_a_masked_row_spoils_no_gradient_of_a_compiled_backward() -> None:
    weight = weights()

    @wg.compile
    def sweep(x: Any) -> None:
        weight.grad = None
        loss(weight, x).backward()

    for x in ORDER:
        sweep(wg.tensor(x))
        assert weight.grad.tolist() == [BY_HAND.tolist()] * 2


@pytest.mark.parametrize("on_the_tape", [False, True])
def test_a_masked_row_spoils_no_gradient_of_a_compiled_function(on_the_tape: bool) -> None:
    compiled = wg.compile(loss) if on_the_tape else wg.compile(wg.grad(loss))
    for x in ORDER:
        weight = weights()
        if on_the_tape:
            compiled(weight, wg.tensor(x)).backward()
            gradient = weight.grad
        else:
            gradient = compiled(weight.detach(), wg.tensor(x))
        assert gradient.tolist() == [BY_HAND.tolist()] * 2


def test_training_goes_on_as_it_does_without_compilation() -> None:
    def trained(compiled: bool) -> list[Any]:
        weight = weights()
        optimizer = wg.optim.Adam([weight], lr=0.1)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            value = loss(weight, x)
            value.backward()
            optimizer.step()
            return value

        run = wg.compile(step) if compiled else step
        losses = [run(wg.tensor(x)).item() for x in ORDER]
        return [losses, weight.detach().numpy()]

    (eager_losses, eager), (losses, weight) = trained(False), trained(True)
    # Sums of six terms, seven steps: a few units in the last place.
    np.testing.assert_allclose(losses, eager_losses, rtol=64 * np.finfo(np.float64).eps)
    np.testing.assert_allclose(weight, eager, rtol=64 * np.finfo(np.float64).eps)


def test_a_nan_that_a_cotangent_reaches_still_shows() -> None:
    compiled = wg.compile(wg.grad(lambda weight, x: (x @ weight).sum()))
    assert np.isnan(compiled(weights().detach(), wg.tensor(SPOILT)).numpy()).any()


def test_fastmath_leaves_the_guards_out_and_nothing_else() -> None:
    compiled = wg.compile(wg.grad(loss), fastmath=True)
    assert np.isnan(compiled(weights().detach(), wg.tensor(SPOILT)).numpy()).any()
    assert compiled(weights().detach(), wg.tensor(FINITE)).tolist() == [BY_HAND.tolist()] * 2


def test_what_is_known_before_the_sweep_is_looked_at_where_that_is_less() -> None:
    # A product of few rows with a large matrix is smaller than the matrix, and than its gradient.
    large = np.random.default_rng(0).integers(-9, 9, (40, 50)).astype(np.float64)
    weight = wg.tensor(large, requires_grad=True)

    @wg.compile
    def sweep(x: Any) -> None:
        weight.grad = None
        loss(weight, x).backward()

    x = np.ones((3, 40))
    expected = np.broadcast_to(2 * 2 * large.sum(0), (40, 50))
    for spoilt, runs in ((1.0, 0), (np.inf, 1), (np.nan, 2), (1.0, 2)):
        x[2, 5] = spoilt
        with np.errstate(invalid="ignore"):
            sweep(wg.tensor(x))
        assert np.array_equal(weight.grad.numpy(), expected)
        assert bool(runs) is ("left to the function itself" in str(sweep.explain()))


INF, NAN = float("inf"), float("nan")
NUMBERS: list[Any] = [
    # Its own rule is tested: every element is replaced by a constant, so the gradient is an exact zero, over which NaN,
    # the chain rule's other factor, must not win. The gradients that are compared pass through no replacement.
    lambda x: wg.nan_to_num(x * NAN),
    lambda x: wg.where(x.detach() > 100, x * INF, 0.0),
    lambda x: wg.where(x.detach() > 100, INF * (x * x), 0.0),
    lambda x: wg.where(x.detach() > 100, (x - 1.0) / 0.0, 0.0),
    lambda x: wg.where(x.detach() > 100, (x * 0) ** -1.5, 0.0),
]


def _outer(function: Any, x: Any, c: Any) -> Any:
    compiled = c(function)
    for _ in range(2):
        x.grad = None
        compiled(x).sum().backward()
    return x.grad


def _inner(function: Any, x: Any, c: Any) -> Any:
    return [c(lambda y: wg.autograd.grad(function(y).sum(), [y])[0])(x) for _ in range(2)][-1]


def _second(function: Any, x: Any, c: Any) -> Any:
    return c(lambda y: wg.grad(lambda z: (wg.grad(lambda t: function(t).sum())(z) * z).sum())(y))(x.detach())


@pytest.mark.parametrize("c", [lambda function: function, wg.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("way", [_outer, _inner, _second])
@pytest.mark.parametrize("function", NUMBERS)
def test_a_masked_element_that_python_numbers_made_infinite_spoils_no_gradient(function: Any, way: Any, c: Any) -> None:
    with np.errstate(all="ignore"):
        assert way(function, wg.tensor([1.0, 2.0, 3.0], requires_grad=True), c).tolist() == [0, 0, 0]
