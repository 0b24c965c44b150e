"""How far rounding carries: what is seen of a program again, with all that goes in and comes out moved a little.

Compiled code rounds in another order than eager code does. How much of that is seen depends on the program: sums of
what cancels, rows that are normalised though they are nearly equal, branches on numbers that are nearly the same. So it
is measured: every number on the way is moved as far as `ROUNDINGS` roundings in a row may move it, which is what
`check_same` grants to what is seen, as if nothing grew. Where that moves nothing, nothing may differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import wengert as wg
from tests.compile.twins import ROUNDINGS
from wengert.core.aliasing import View, alias_of

PLAYS = 12
"""How often a program is played with numbers that were moved."""
LUCK = 4.0
"""How much farther numbers may be moved than it happened in so few plays."""


class Jitter:
    """Moves numbers by up to so many roundings of their precision; every other one makes zeros of what may be one."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._flushes = seed % 2 == 1

    def of_array(self, array: np.ndarray) -> np.ndarray:
        """Return an array with its numbers moved."""
        if array.dtype.kind != "f":
            return array
        return (array * self._factors(array)).astype(array.dtype)

    def of_tensor(self, made: Any, others: Sequence[Any]) -> Any:
        """Return what was made with its numbers moved; what is one of others, or lies in one, as it is."""
        is_new = not any([made is other for other in others]) and type(alias_of(made)) is not View
        if not is_new or made.dtype.kind != "f":
            return made
        return made * self._factors(np.asarray(made.detach().numpy()))

    def _factors(self, array: np.ndarray) -> Any:
        eps = float(np.finfo(array.dtype).eps)
        factors = np.asarray(1 + self._rng.uniform(-ROUNDINGS, ROUNDINGS, array.shape) * eps)
        if self._flushes:
            factors = np.where(np.abs(array) < ROUNDINGS * eps, 0.0, factors)
        return factors.astype(array.dtype)


class Moved(wg.nn.Module):
    """A layer that moves numbers, between others in which a rounding may grow."""

    def __init__(self, jitter: Jitter) -> None:
        super().__init__()
        self._jitter = jitter

    def forward(self, x: Any) -> Any:
        """Return the numbers moved."""
        return self._jitter.of_tensor(x, ())


def allowances(eager: Any, moved: Sequence[Any]) -> Any:
    """Return, in the structure of a picture, how far its arrays were moved; None for what is no array."""
    if isinstance(eager, dict):
        return {key: allowances(value, [_part(picture, key) for picture in moved]) for key, value in eager.items()}
    if isinstance(eager, (list, tuple)):
        return [allowances(value, [_part(picture, place) for picture in moved]) for place, value in enumerate(eager)]
    if isinstance(eager, (np.ndarray, np.generic)):
        return LUCK * max([_distance(np.asarray(eager), picture) for picture in moved])
    return None


def _part(picture: Any, key: Any) -> Any:
    try:
        return picture[key]
    except (LookupError, TypeError):
        return None


def _distance(eager: np.ndarray, moved: Any) -> float:
    """Return how far the farthest number is; infinity where others are infinite or NaN, or another program was run."""
    if not isinstance(moved, (np.ndarray, np.generic)):
        return np.inf
    moved = np.asarray(moved)
    if moved.shape != eager.shape or moved.dtype != eager.dtype:
        return np.inf
    finite = np.isfinite(eager)
    if not np.array_equal(eager[~finite], moved[~finite], equal_nan=eager.dtype.kind == "f"):
        return np.inf
    if not np.isfinite(moved[finite]).all():
        return np.inf
    difference = np.abs(eager[finite].astype(np.float64) - moved[finite].astype(np.float64))
    return float(difference.max()) if difference.size else 0.0


__all__ = ["PLAYS", "Jitter", "Moved", "allowances"]
