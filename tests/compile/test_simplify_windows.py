"""Sums of what pooling spreads: the same numbers, without the spreading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compile.graphs import graph_of
from wengert.compile.interpret import interpret
from wengert.compile.simplify import simplify
from wengert.compile.simplify_windows import WINDOW_RULES

MOVES: dict[str, Any] = {"window": (3, 2), "stride": (2, 1), "padding": ((1, 1), (0, 1)), "dilation": (1, 2)}


@pytest.mark.parametrize(
    ("axis", "keepdims", "spreads"), [((0, 2, 3), False, False), ((2, 3), True, False), ((0, 3), False, True)]
)
def test_sums_over_images_are_sums_of_what_goes_there(axis: tuple[int, ...], keepdims: bool, spreads: bool) -> None:
    rng = np.random.default_rng(1)
    # Whole numbers, so that sums are exact in any order; windows overlap, and some hold nothing but the border.
    arrays = rng.integers(-9, 9, (2, 3, 2, 4)).astype(float), rng.integers(-2, 3, (2, 3, 4, 5)).astype(float)
    graph = graph_of(
        lambda b, y, x: b.call("sum_over", b.call("max_pool_transpose", y, x, **MOVES), axis=axis, keepdims=keepdims),
        arrays,
    )
    simple = simplify(graph, WINDOW_RULES)
    simple.verify()
    found = [equation.primitive.name for equation in simple.equations]
    assert ("max_pool_transpose" in found) == spreads
    np.testing.assert_array_equal(interpret(simple, arrays)[0], interpret(graph, arrays)[0])
