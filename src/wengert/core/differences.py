"""Numerical derivatives by central differences: what rules are measured with, at work as in the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Vector = np.ndarray

ROWS = 9
"""Rows of the difference table: steps from the one that is asked for down to a few thousandths of it."""


def central_differences(
    function: Callable[[float], Vector], step: float, noise: Any = 0.0
) -> Iterator[tuple[Vector, Vector]]:
    """Differentiate `function` at zero by central differences, Richardson-extrapolated as far as it helps (Ridders).

    Args:
        function: of one number; returns a real vector.
        step: the first step; every row halves it.
        noise: how far off the function's values may be, beyond the rounding of the values themselves.

    Yields:
        After each of the rows, (the derivative, how far from the truth it may be), entry by entry. Every entry keeps
        the table's best value by the table's own measure, so a kink or jump at some distance spoils only the steps
        that reach it. The first row knows no error: it is infinite.
    """
    best = error = np.zeros(0)
    column: list[Vector] = []
    for row in range(ROWS):
        width = step / 2.0**row
        ahead, behind = function(width), function(-width)
        floor = (float(np.finfo(ahead.dtype).eps) * (np.abs(ahead) + np.abs(behind)) + noise) / width
        entries = [(ahead.astype(np.float64) - behind) / (2 * width)]
        if row == 0:
            best, error = entries[0], np.full(entries[0].shape, np.inf)
        weight = 4.0
        for above in column:
            left = entries[-1]
            entry = (weight * left - above) / (weight - 1)
            weight *= 4
            doubt = np.maximum(np.abs(entry - left), np.abs(entry - above)) + floor
            better = doubt < error
            best, error = np.where(better, entry, best), np.where(better, doubt, error)
            entries.append(entry)
        column = entries
        yield best, error


__all__ = ["ROWS", "central_differences"]
