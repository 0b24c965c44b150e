"""`repeat` and `tile` return copies, as NumPy does, also where a view could hold the same elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg

CASES: dict[str, tuple[tuple[int, ...], Callable[[Any, Any], Any]]] = {
    "repeat an axis of one": ((1, 1), lambda m, x: m.repeat(x, 2, axis=0)),
    "repeat once": ((2, 3), lambda m, x: m.repeat(x, 1, axis=1)),
    "repeat a number": ((), lambda m, x: m.repeat(x, 2)),
    "tile once": ((2, 3), lambda m, x: m.tile(x, (1, 1))),
    "tile an axis of one": ((1,), lambda m, x: m.tile(x, 3)),
    "tile": ((2, 3), lambda m, x: m.tile(x, 2)),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_results_can_be_written_and_leave_the_argument_alone(name: str, compiled: bool) -> None:
    shape, repeated = CASES[name]
    function: Any = lambda x: repeated(wg, x)  # noqa: E731 - compiled below, or as it is
    function = wg.compile(function) if compiled else function
    array = np.random.default_rng(0).normal(size=shape)
    for _ in range(2):
        x = wg.tensor(array)
        result = function(x)
        np.testing.assert_array_equal(result.numpy(), repeated(np, array))
        result[...] = 7.0
        np.testing.assert_array_equal(x.numpy(), array)
        assert (result.numpy() == 7.0).all()
