"""The ruler that rules are measured with: its errors are what it says they are, and NaN equals nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wengert.testing.numeric import complex_step, condition, demand_close, derivative, differences, rounding

POINTS = np.array([0.3, 0.7, 1.1, 1.9])
SMOOTH = [
    pytest.param(np.sin, np.cos, id="sin"),
    pytest.param(np.exp, np.exp, id="exp"),
    pytest.param(np.log, np.reciprocal, id="log"),
    pytest.param(np.tanh, lambda x: 1 / np.cosh(x) ** 2, id="tanh"),
    pytest.param(lambda x: x**-3.0, lambda x: -3 * x**-4.0, id="pole-nearby"),
]


@pytest.mark.parametrize(("function", "slope"), SMOOTH)
def test_differences_are_as_accurate_as_they_say(function: Callable[..., Any], slope: Callable[..., Any]) -> None:
    estimate = differences(lambda t: function(POINTS + t), 0.05)
    true = slope(POINTS)
    assert estimate.conclusive.all()
    assert (np.abs(estimate.value - true) <= estimate.error + 4e-16 * np.abs(true)).all()
    assert (estimate.error <= 1e-9 * (1 + np.abs(true))).all()


@pytest.mark.parametrize(("function", "slope"), SMOOTH)
def test_an_analytic_function_is_differentiated_to_the_last_digits(
    function: Callable[..., Any], slope: Callable[..., Any]
) -> None:
    def moved(t: Any) -> Any:
        return function(POINTS + t)

    estimate = derivative(moved, 0.05, analytic=moved)
    assert (estimate.error == 0).all()
    np.testing.assert_allclose(estimate.value, slope(POINTS), rtol=1e-14)


@pytest.mark.parametrize("function", [np.abs, lambda x: np.conj(x) * x, lambda x: np.where(x.real > 1, x.real, 2 * x)])
def test_a_complex_step_is_not_believed_where_the_function_is_not_analytic(function: Callable[..., Any]) -> None:
    def moved(t: Any) -> Any:
        return function(POINTS + t)

    def real(t: float) -> np.ndarray:
        return np.real(moved(t))

    believed, measured = derivative(real, 0.05, analytic=moved), differences(real, 0.05)
    assert (np.abs(believed.value - measured.value) <= 4 * measured.error + 1e-12).all()


def test_a_function_that_refuses_complex_numbers_has_no_complex_step() -> None:
    assert complex_step(lambda t: np.arctan2(POINTS + t, 1.0)) is None
    assert complex_step(lambda t: np.abs(POINTS + t)) is None


def test_a_kink_in_reach_of_the_first_steps_does_no_harm() -> None:
    estimate = differences(lambda t: np.abs(np.array([1e-3, -2e-2, 0.5]) + t), 0.08)
    np.testing.assert_allclose(estimate.value, [1, -1, 1], rtol=1e-9)


def test_a_kink_at_the_point_and_a_jump_everywhere_are_inconclusive() -> None:
    grid = np.linspace(0.1, 1, 8)
    assert differences(lambda t: np.floor(np.pi * 1e3 * (grid + t)), 0.08).conclusive.mean() < 0.25
    assert not differences(lambda t: grid * (t > 0), 0.08).conclusive.any()
    assert not differences(lambda t: grid * np.nan, 0.08).conclusive.any()


def test_low_precision_is_uncertain_but_conclusive() -> None:
    estimate = differences(lambda t: np.sin((POINTS + t).astype(np.float32)), 0.05)
    assert estimate.conclusive.all()
    assert (np.abs(estimate.value - np.cos(POINTS)) <= estimate.error).all()
    assert estimate.error.max() > 1e-8


def test_condition_grows_where_digits_are_lost() -> None:
    def difference(arrays: list[Any]) -> np.ndarray:
        return np.atleast_1d(arrays[0][0] - arrays[0][1])

    benign = condition(difference, [np.array([1.0, -1.0])], (True,))
    cancelling = condition(difference, [np.array([1.0, 1.0 + 1e-9])], (True,))
    assert benign < 10
    assert cancelling > 0.1
    assert rounding(np.float32, 1.0) / rounding(np.float64, 1.0) == pytest.approx(2.0**29)


@pytest.mark.parametrize(
    ("got", "expected"),
    [(np.nan, 1.0), (1.0, np.nan), (np.nan, np.nan), (np.inf, -np.inf), (np.inf, 1.0), (1.0, np.inf)],
)
def test_nothing_equals_nan_and_an_infinity_only_itself(got: float, expected: float) -> None:
    with pytest.raises(AssertionError, match="here: it"):
        demand_close("here", "it", np.array([1.0, got]), np.array([1.0, expected]), np.array([np.inf, 1.0]))
    demand_close("here", "it", np.array([np.inf]), np.array([np.inf]), 0)


def test_the_worst_entry_is_named() -> None:
    with pytest.raises(AssertionError, match=r"at \(1, 0\) is .*3\.5.* and not .*1\.0.*; 2 of 4 entries differ"):
        demand_close("here", "it", np.array([[1.0, 1.5], [3.5, 1.0]]), np.ones((2, 2)), 0.1)
    with pytest.raises(AssertionError, match=r"has shape \(2,\) and not \(1, 2\)"):
        demand_close("here", "it", np.ones(2), np.ones((1, 2)), 0.1)
