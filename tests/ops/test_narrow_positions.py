"""Positions in narrow and unsigned integers: gradients are those for positions in int64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg

ROWS, COLUMNS = 5, 100
"""The last place in an array of this shape is far above what one byte holds."""
LONG = 70_000
"""Elements from which on sums of slices are taken in another way."""


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_along_an_axis(dtype: str, axis: int) -> None:
    rng = np.random.default_rng(0)
    x = wg.tensor(rng.normal(size=(ROWS, COLUMNS)))
    positions = rng.integers(0, (ROWS, COLUMNS)[axis], (ROWS, COLUMNS))

    def gradient(dtype: str) -> Any:
        index = wg.tensor(positions, dtype=dtype)
        return wg.grad(lambda x: wg.sum(wg.take_along_axis(x, index, axis=axis) ** 2))(x).numpy()

    np.testing.assert_array_equal(gradient(dtype), gradient("int64"))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("count", [4, LONG // COLUMNS])
def test_gradients_of_slices(dtype: str, count: int) -> None:
    rng = np.random.default_rng(0)
    x = wg.tensor(rng.normal(size=(ROWS, COLUMNS)))
    positions = rng.integers(0, ROWS, count)

    def gradient(dtype: str) -> Any:
        index = wg.tensor(positions, dtype=dtype)
        return wg.grad(lambda x: wg.sum(wg.take(x, index, axis=0) ** 2))(x).numpy()

    np.testing.assert_array_equal(gradient(dtype), gradient("int64"))
