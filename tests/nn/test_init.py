"""First values: distributions, bounds, fans, reproducibility."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.errors import ShapeError
from wengert.nn import init

SHAPE = (300, 200)


def drawn(function: Any, *args: Any, **settings: Any) -> np.ndarray:
    tensor = wg.zeros(SHAPE).requires_grad_()
    assert function(tensor, *args, generator=wg.random.Generator(1), **settings) is tensor
    assert tensor.is_leaf
    assert tensor.requires_grad
    return np.asarray(tensor.detach())


@pytest.mark.parametrize(
    ("function", "settings", "std"),
    [
        (init.normal_, {"mean": 0.0, "std": 2.0}, 2.0),
        (init.uniform_, {"a": -3.0, "b": 3.0}, sqrt(3)),
        (init.xavier_uniform_, {"gain": 2.0}, 2 * sqrt(2 / 500)),
        (init.xavier_normal_, {}, sqrt(2 / 500)),
        (init.kaiming_uniform_, {"nonlinearity": "relu"}, sqrt(2 / 200)),
        (init.kaiming_uniform_, {"a": sqrt(5)}, 1 / sqrt(3 * 200)),
        (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "linear"}, sqrt(1 / 300)),
        (init.orthogonal_, {"gain": 3.0}, 3 * sqrt(1 / 300)),
        (init.trunc_normal_, {"a": -100.0, "b": 100.0}, 1.0),
    ],
)
def test_spread(function: Any, settings: dict[str, Any], std: float) -> None:
    values = drawn(function, **settings)
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) < 0.02 * std
    np.testing.assert_array_equal(values, drawn(function, **settings))


@pytest.mark.parametrize("function", [init.xavier_uniform_, init.kaiming_uniform_, init.uniform_])
def test_uniform_values_fill_their_interval(function: Any) -> None:
    values = drawn(function) if function is not init.uniform_ else drawn(function, -1.0, 1.0)
    bound = sqrt(3) * values.std()
    assert np.abs(values).max() == pytest.approx(bound, rel=0.02)


def test_truncated_normal_has_the_moments_of_its_distribution() -> None:
    from scipy.stats import truncnorm

    values = drawn(init.trunc_normal_, 1.0, 2.0, -1.0, 2.0)
    expected = truncnorm(-1.0, 0.5, loc=1.0, scale=2.0)
    assert values.min() >= -1.0
    assert values.max() <= 2.0
    assert values.mean() == pytest.approx(expected.mean(), abs=0.01)
    assert values.std() == pytest.approx(expected.std(), rel=0.01)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (3, 2, 2)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    matrix = np.asarray(init.orthogonal_(wg.zeros(shape, "float64"))).reshape(shape[0], -1)
    product = matrix @ matrix.T if shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)


def test_constants() -> None:
    tensor = wg.zeros((2, 3)).requires_grad_()
    assert init.ones_(tensor).tolist() == [[1.0] * 3] * 2
    assert init.constant_(tensor, 0.25).tolist() == [[0.25] * 3] * 2
    assert init.eye_(tensor).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert init.zeros_(tensor).tolist() == [[0.0] * 3] * 2


def test_fans_and_gains() -> None:
    assert init.fans(wg.zeros((8, 3, 5, 5))) == (75, 200)
    assert init.calculate_gain("leaky_relu", 1.0) == 1.0
    assert init.calculate_gain("relu") == sqrt(2)
    with pytest.raises(ShapeError, match="fan"):
        init.xavier_normal_(wg.zeros(3))
    with pytest.raises(ValueError, match="gain"):
        init.calculate_gain("step")
    with pytest.raises(ValueError, match="mode"):
        init.kaiming_normal_(wg.zeros((2, 2)), mode="fan")
    with pytest.raises(ValueError, match="trunc_normal_"):
        init.trunc_normal_(wg.zeros(2), std=0.0)


def test_the_tape_keeps_what_it_had() -> None:
    weight = wg.tensor([1.0, 2.0], requires_grad=True)
    out = (weight * weight).sum()
    init.zeros_(weight)
    out.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0, 4.0]
