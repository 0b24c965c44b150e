"""Convolutions and poolings to test kernels with: arrays between poisoned margins, sums in extended precision."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np

from tests.compile.product_samples import Native
from wengert.compile.kernels import Kernel

MARGIN = 80
Array = np.ndarray[Any, Any]


class Moves(NamedTuple):
    """How windows move, on two axes."""

    window: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)

    def places(self, image: tuple[int, ...]) -> tuple[int, int]:
        """Return how many windows there are along each axis."""
        rows, columns = [
            len(range(0, n + sum(pad) - d * (k - 1), s))
            for n, k, s, pad, d in zip(image, self.window, self.stride, self.padding, self.dilation)
        ]
        return rows, columns

    def elements(self, image: tuple[int, ...]) -> list[tuple[tuple[int, int], tuple[Array, Array], Array]]:
        """Return for each element of the window: its place, its rows and columns in the image, which are there."""
        found = []
        for place in product(range(self.window[0]), range(self.window[1])):
            lines = [
                np.arange(many) * s + at * d - pad[0]
                for many, s, at, d, pad in zip(self.places(image), self.stride, place, self.dilation, self.padding)
            ]
            there = [(line >= 0) & (line < n) for line, n in zip(lines, image)]
            rows, columns = [np.clip(line, 0, n - 1) for line, n in zip(lines, image)]
            found.append((place, (rows[:, None], columns), there[0][:, None] & there[1]))
        return found


def random_moves(rng: np.random.Generator, *, pooling: bool = False) -> tuple[Moves, tuple[int, int]]:
    """Return moves, and an image that has room for them."""
    window = tuple(rng.integers(1, 5, 2).tolist())
    stride, dilation = tuple(rng.integers(1, 4, 2).tolist()), tuple(rng.integers(1, 3, 2).tolist())
    most = [k // 2 if pooling else 3 for k in window]
    padding = tuple([tuple(rng.integers(0, n + 1, 2).tolist()) for n in most])
    least = [max(1, d * (k - 1) + 1 - sum(pad)) for k, pad, d in zip(window, padding, dilation)]
    image = least[0] + int(rng.integers(0, 9)), least[1] + int(rng.integers(0, 38))
    return Moves(window, stride, padding, dilation), image  # type: ignore[arg-type]


def convolved(x: Array, weight: Array, moves: Moves, groups: int) -> Array:
    """Return a convolution, sum by sum, in extended precision."""
    image = x.shape[2:]
    x, weight = x.astype(np.longdouble), weight.astype(np.longdouble)
    x = x.reshape(x.shape[0], groups, -1, *image)
    weight = weight.reshape(groups, -1, *weight.shape[1:])
    out = np.zeros((x.shape[0], groups, weight.shape[1], *moves.places(image)), np.longdouble)
    for (row, column), (rows, columns), there in moves.elements(image):
        seen = np.where(there, x[..., rows, columns], 0)
        out += np.einsum("ngcij,gfc->ngfij", seen, weight[..., row, column])
    return out.reshape(x.shape[0], -1, *out.shape[3:])


def convolved_back_to_input(y: Array, weight: Array, moves: Moves, groups: int, image: tuple[int, int]) -> Array:
    """Return the gradient of a convolution by its input."""
    y, weight = y.astype(np.longdouble), weight.astype(np.longdouble)
    y = y.reshape(y.shape[0], groups, -1, *y.shape[2:])
    weight = weight.reshape(groups, -1, *weight.shape[1:])
    out = np.zeros((y.shape[0], groups, weight.shape[2], *image), np.longdouble)
    for (row, column), (rows, columns), there in moves.elements(image):
        share = np.where(there, np.einsum("ngfij,gfc->ngcij", y, weight[..., row, column]), 0)
        where: Any = (..., rows, columns)
        np.add.at(out, where, share)
    return out.reshape(y.shape[0], -1, *image)


def convolved_back_to_weight(y: Array, x: Array, moves: Moves, groups: int) -> Array:
    """Return the gradient of a convolution by its weights."""
    image = x.shape[2:]
    y, x = y.astype(np.longdouble), x.astype(np.longdouble)
    y = y.reshape(y.shape[0], groups, -1, *y.shape[2:])
    x = x.reshape(x.shape[0], groups, -1, *image)
    out = np.zeros((groups, y.shape[2], x.shape[2], *moves.window), np.longdouble)
    for (row, column), (rows, columns), there in moves.elements(image):
        seen = np.where(there, x[..., rows, columns], 0)
        out[..., row, column] = np.einsum("ngfij,ngcij->gfc", y, seen)
    return out.reshape(-1, *out.shape[2:])


class Guarded:
    """A contiguous array in memory that is NaN all around it."""

    def __init__(self, array: Array) -> None:
        self.buffer = np.full(array.size + 2 * MARGIN, np.nan, array.dtype)
        self.array = self.buffer[MARGIN : MARGIN + array.size].reshape(array.shape)
        self.array[...] = array

    @property
    def address(self) -> int:
        return self.array.ctypes.data

    def check_margins(self) -> None:
        """Demand that nothing was written around the array."""
        assert np.isnan(self.buffer[:MARGIN]).all() and np.isnan(self.buffer[-MARGIN:]).all()


def outcome(native: Native, kernel: Kernel, arrays: Sequence[Array], out: int, rng: np.random.Generator) -> Array:
    """Return what a kernel makes of operand `out`: all at once, and the same bits in random spans in random order."""
    results = []
    for divided in (False, True):
        guarded = [Guarded(array) for array in arrays]
        edges = [0, kernel.units]
        if divided:
            edges = sorted({0, kernel.units, *rng.integers(0, kernel.units + 1, 3).tolist()})
        spans = list(pairwise(edges))
        for place in rng.permutation(len(spans)):
            native.run(kernel, [one.address for one in guarded], *spans[place])
        for place, (one, before) in enumerate(zip(guarded, arrays)):
            one.check_margins()
            assert place == out or np.array_equal(one.array, before, equal_nan=True), "an input was written to"
        results.append(guarded[out].array)
    np.testing.assert_array_equal(*[result.view(f"u{result.itemsize}") for result in results])
    return results[0]


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array to be written, poisoned."""
    return np.full(shape, np.nan, dtype)
