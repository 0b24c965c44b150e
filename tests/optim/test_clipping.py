"""Gradient clipping."""

from __future__ import annotations

import numpy as np
import pytest

import wengert as wg
from wengert.optim import clip_grad_norm_, clip_grad_value_


def make_parameters(*gradients: object, dtype: str = "float64") -> list[wg.Tensor]:
    parameters = []
    for gradient in gradients:
        values = np.asarray(gradient, dtype)
        parameter = wg.tensor(np.zeros_like(values), requires_grad=True)
        parameter.grad = wg.tensor(values)
        parameters.append(parameter)
    return parameters


def gradients_of(parameters: list[wg.Tensor]) -> np.ndarray:
    return np.concatenate([np.asarray(p.grad).reshape(-1) for p in parameters])


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5, float("inf")])
def test_the_joint_norm_is_bounded_and_the_direction_kept(p: float) -> None:
    parameters = make_parameters([[3.0, -4.0]], 12.0)
    before = gradients_of(parameters)
    norm = np.linalg.norm(before, p)
    assert clip_grad_norm_(parameters, 2.0, p).item() == pytest.approx(norm, rel=1e-12)
    np.testing.assert_allclose(gradients_of(parameters), before * 2.0 / norm, rtol=1e-6)
    assert clip_grad_norm_(parameters, 5.0, p).item() == pytest.approx(2.0, rel=1e-6)
    np.testing.assert_allclose(gradients_of(parameters), before * 2.0 / norm, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_squares_that_leave_the_range_of_single_precision_do_no_harm(size: float) -> None:
    parameters = make_parameters([3 * size, 4 * size], dtype="float32")
    assert clip_grad_norm_(parameters, 1.0).item() == pytest.approx(5 * size, rel=1e-6)


def test_half_precision() -> None:
    parameters = make_parameters(np.full(100, 200.0), dtype="float16")
    assert clip_grad_norm_(parameters, 1.0).item() == pytest.approx(2000, rel=1e-3)
    assert parameters[0].grad is not None
    assert parameters[0].grad.dtype == np.float16


def test_parameters_without_gradient_are_passed_over() -> None:
    (parameter,) = make_parameters([3.0, 4.0])
    assert clip_grad_norm_([parameter, wg.ones(2).requires_grad_()], 1.0).item() == pytest.approx(5.0)
    assert clip_grad_norm_([wg.ones(2).requires_grad_()], 1.0).item() == 0.0
    clip_grad_value_(parameter, 0.1)


def test_nan_is_not_hidden() -> None:
    parameters = make_parameters([np.nan, 1.0], [2.0])
    with pytest.raises(ValueError, match="nothing has been scaled"):
        clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(gradients_of(parameters), [np.nan, 1.0, 2.0])
    assert np.isnan(clip_grad_norm_(parameters, 1.0).item())
    assert np.isnan(gradients_of(parameters)).all()


def test_values_are_bounded() -> None:
    parameters = make_parameters([3.0, -4.0, np.nan, 0.5])
    clip_grad_value_(parameters, 1.0)
    np.testing.assert_array_equal(gradients_of(parameters), [1.0, -1.0, np.nan, 0.5])


def test_a_gradient_that_somebody_holds_is_not_changed_under_them() -> None:
    parameters = make_parameters([3.0, 4.0])
    assert parameters[0].grad is not None
    held = parameters[0].grad.numpy()
    clip_grad_norm_(parameters, 1.0)
    assert held.tolist() == [3.0, 4.0]


def test_bounds_that_make_no_sense_are_refused() -> None:
    parameters = make_parameters([1.0])
    for call in (
        lambda: clip_grad_norm_(parameters, -1.0),
        lambda: clip_grad_norm_(parameters, 1.0, 0.0),
        lambda: clip_grad_norm_(parameters, float("nan")),
        lambda: clip_grad_value_(parameters, -1.0),
    ):
        with pytest.raises(ValueError, match="must"):
            call()


def test_gradients_on_the_tape_are_refused() -> None:
    x = wg.tensor([2.0], requires_grad=True)
    (x * x * x).sum().backward(create_graph=True)
    with pytest.raises(ValueError, match="create_graph"):
        clip_grad_norm_([x], 1.0)
