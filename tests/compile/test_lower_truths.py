"""Truth values as operands of functions of floats: equal for a whole array, and beside a ragged end."""

from __future__ import annotations

import numpy as np

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
