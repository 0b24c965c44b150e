"""Truth values as operands of functions of floats: equal for a whole array, and beside a ragged end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg


def test_an_angle_with_one_truth_value_for_all() -> None:
    x = wg.tensor(np.linspace(-2, 2, 297, dtype=np.float32).reshape(9, 33))

    def function(x: wg.Tensor) -> tuple[wg.Tensor, ...]:
        positive = x > 0
        kept = x * positive
        truth = wg.nansum(x) <= -0.2
        angle = wg.arctan2(kept, truth)
        return kept, angle, angle.sum() * 1, positive, truth

    compiled = wg.compile(function)
    for _ in range(2):
        for found, wanted in zip(compiled(x), function(x)):
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("key", [..., None, slice(None), slice(0, 4), slice(1, None), slice(None, None, -1)])
@pytest.mark.parametrize("dtype", ["bool", "int64"])
def test_what_is_written_has_the_dtype_of_the_array_at_once(dtype: str, key: Any) -> None:
    x = wg.tensor(np.array([0.0, -0.75, 0.3, 2.5]))

    def function(x: wg.Tensor) -> tuple[wg.Tensor, ...]:
        y = (x * 3).astype(dtype)
        y[key] = x[key]
        return y * 0.5 + x, y

    compiled = wg.compile(function)
    for _ in range(2):
        for found, wanted in zip(compiled(x), function(x)):
            assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("value", [0.7, True, 3])
def test_a_number_that_is_written_has_the_dtype_of_the_array_at_once(value: Any) -> None:
    def function(x: wg.Tensor) -> wg.Tensor:
        y = x > 0
        y[...] = value
        return y * 0.5 + x

    assert wg.compile(function)(wg.ones(4)).tolist() == function(wg.ones(4)).tolist() == [1.5] * 4
