"""Random programs of views and writes, of arrays in either order: what a write reaches depends on what is a view."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

import wengert as wg

SHAPES = [(2, 3), (4, 3), (2, 3, 4), (6,), (3, 2, 2)]
OPERATIONS = ["turned", "flat", "flat", "cut up", "part", "swapped", "scaled", "scaled", "sine", "add", "add", "set"]


def argument(seed: int) -> np.ndarray:
    """Return an array in row-major or column-major order."""
    choices = random.Random(seed + 1)
    made = np.random.default_rng(seed).standard_normal(choices.choice(SHAPES))
    return np.asfortranarray(made) if choices.random() < 0.5 else made


def program(seed: int) -> Callable[[Any], Any]:
    """Return a function of one Tensor, or array: a sum over all that it has made and written, with weights."""
    choices = random.Random(seed)
    steps = [(choices.choice(OPERATIONS), choices.randrange(1000), choices.randrange(1000)) for _ in range(9)]

    def function(x: Any) -> Any:
        values = [x]
        for name, place, number in steps[: 4 + seed % 6]:
            made = _taken(name, values[place % len(values)], number)
            if made is not None:
                values.append(made)
        total: Any = 0.0
        for place, value in enumerate(values):
            total = total + (value * np.cos(np.arange(value.size) + place).reshape(value.shape)).sum()
        return total

    return function


def _taken(name: str, x: Any, number: int) -> Any:
    library: Any = np if isinstance(x, np.ndarray) else wg
    if name == "add":
        x += 1.0 + number % 5
        return None
    if name == "set":
        x[0] = 0.25 * (number % 7)
        return None
    if name == "turned":
        return x.T
    if name == "flat":
        return x.reshape(-1)
    if name == "cut up":
        widths = [width for width in (2, 3, 4, 6) if x.size % width == 0] or [1]
        return x.reshape(-1, widths[number % len(widths)])
    if name == "part":
        return x[: max(1, x.shape[0] // 2)] if number % 2 else x[..., ::-1]
    if name == "swapped":
        return library.swapaxes(x, 0, -1)
    return library.sin(x) if name == "sine" else x * (1.0 + number % 3)


__all__ = ["argument", "program"]
