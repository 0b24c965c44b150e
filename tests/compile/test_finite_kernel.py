"""The kernel that says whether arrays are finite: for all sizes, wherever something is not."""

from __future__ import annotations

import numpy as np
import pytest

from wengert.compile.expand_builder import Builder
from wengert.compile.graph import Graph, Value

from .graphs import compiled

SIZES = (2, 3, 15, 16, 17, 31, 64, 100, 4097)


def _question(shape: tuple[int, ...], dtype: str, offset: int = 0) -> Graph:
    """Return a graph that asks whether an array is finite, from its `offset`-th row on."""
    whole = Value((shape[0] + offset, *shape[1:]), np.dtype(dtype))
    builder = Builder()
    part = builder.call("index", whole, key=(slice(offset, None),)) if offset else whole
    answer = builder.call("isfinite", part)
    answer = builder.call("all_over", answer, axis=tuple(range(len(shape))), keepdims=False)
    return Graph("question", [whole], builder.equations, [answer])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_everything_that_is_not_finite_is_found(size: int, dtype: str) -> None:
    executable = compiled(_question((size,), dtype))
    assert executable.explain().startswith("all_finite")
    array = np.random.default_rng(size).normal(size=size).astype(dtype)
    limits = np.finfo(array.dtype)
    array[:2] = limits.max, -limits.smallest_subnormal
    assert executable.run([array])[0]
    for place in {0, 1, size // 2, size - 2, size - 1}:
        for special in (np.nan, -np.nan, np.inf, -np.inf):
            wrong = array.copy()
            wrong[place] = special
            assert not executable.run([wrong])[0], (place, special)


def test_nothing_before_or_behind_is_looked_at() -> None:
    executable = compiled(_question((5, 7), "float32", offset=2))
    array = np.zeros((7, 7), np.float32)
    array[:2] = np.nan
    assert executable.explain().startswith("all_finite")
    assert executable.run([array])[0]


def test_arrays_of_all_sizes_have_the_same_code() -> None:
    names = {compiled(_question((size,), "float32")).explain().split(":")[0] for size in SIZES}
    assert len(names) == 1
