"""Differences as witnesses against rules: random weights and directions, and when a difference is sure enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import boxing
from ..core.differences import central_differences

_FIRST_STEP = {16: 2.0**-2, 32: 2.0**-4}
_TIGHTEST_STEP = 2.0**-6
_SLACK = {16: 3e-2}
_TIGHTEST_SLACK = 1e-3
"""How far a rule may be off, relative to what it sums over: far more than rounding, far less than a mistake."""
_DOUBT = 10.0
"""How many times its own estimate of its error a difference may be off, before a rule is suspected."""
_BLUR = 0.1
"""How large that may be, relative to the derivative, for a difference to be a witness."""
_ROUNDINGS = 8
_SMALLEST = 0.01
_INCOMMENSURABLE = 0.7320508


class Inconclusive(Exception):
    """A function cannot be differenced here: it draws random numbers, or changes the shape of its result."""


class Precision:
    """What the coarsest dtype among arrays allows.

    Attributes:
        step: the first step of a difference.
        slack: how far a rule may be off, relative to what it sums over.
    """

    __slots__ = ("slack", "step")

    def __init__(self, arrays: Sequence[Any]) -> None:
        bits = min([np.finfo(a.dtype).bits for a in arrays if a.dtype.kind in "fc"], default=64)
        self.step = _FIRST_STEP.get(bits, _TIGHTEST_STEP)
        self.slack = _SLACK.get(bits, _TIGHTEST_SLACK)


class Fault(NamedTuple):
    """A number that is wrong: which one, what it should be, and how far off that may be."""

    which: int
    value: float
    error: float


def judged(
    slopes: Sequence[float],
    scales: Sequence[float],
    function: Callable[[float], np.ndarray],
    noise: Callable[[], float],
    precision: Precision,
) -> Fault | bool | None:
    """Compare numbers with the numerical derivative of a function at zero.

    Args:
        slopes: the numbers, which claim to be the derivative.
        scales: how large each would be if nothing in it cancelled.
        function: returns a vector of one entry.
        noise: returns how far off the function's values may be.
        precision: what they are computed in.

    Returns:
        None if all of the numbers are right, a Fault if one is certainly wrong, False if there is no telling.
    """
    slack = precision.slack

    def agree(value: float, error: float) -> bool:
        return all([abs(slope - value) <= slack * max(abs(slope), abs(value)) + error for slope in slopes])

    def certain(value: float, error: float, share: float) -> bool:
        return error <= share * max(abs(value), *map(abs, slopes))

    estimates: list[tuple[float, float]] = []
    try:
        deviation = noise()
        for step in (precision.step, precision.step * _INCOMMENSURABLE):
            value = error = np.nan
            for vector, doubt in central_differences(function, step, deviation):
                value, error = float(vector[0]), float(doubt[0])
                if certain(value, error, slack) and agree(value, error):
                    return None
                if value == 0.0 and not any(slopes):
                    return None
            if agree(value, _DOUBT * error):
                return None if certain(value, error, slack) else False
            estimates.append((value, error))
    except Exception:
        return False
    (value, error), (other, other_error) = estimates
    error = max(error, other_error, abs(value - other))
    if not certain(value, _DOUBT * error, _BLUR) or value == other == 0.0:
        return False  # what does not move at all is rounded or quantised, on purpose or not
    for which, (slope, scale) in enumerate(zip(slopes, scales)):
        if not abs(slope - value) <= slack * max(scale, abs(value)) + _DOUBT * error:
            return Fault(which, value, error)
    return False


def weight_of(random: np.random.Generator, out: Any) -> Any:
    """Return random weights for an output, zero where it is not finite; None for integers."""
    if out.dtype.kind not in "fc":
        return None
    weight = random.uniform(0.5, 1.5, out.shape) * random.choice((-1.0, 1.0), out.shape)
    if out.dtype.kind == "c":
        weight = weight * np.exp(1j * random.uniform(0, 6, out.shape))
    return np.asarray(np.where(np.isfinite(out), weight, 0), out.dtype)


def direction_at(random: np.random.Generator, array: Any, symmetric: bool) -> np.ndarray:
    """Return a random direction, as large as the array's own entries; if asked, symmetric if the array is."""
    size = np.abs(array).astype(np.float64)
    largest = float(size.max(initial=0.0, where=np.isfinite(size)))
    size = np.maximum(size, _SMALLEST * (largest or 1.0))
    direction = random.uniform(0.5, 1.5, array.shape) * random.choice((-1.0, 1.0), array.shape) * size
    if array.dtype.kind == "c":
        direction = direction * np.exp(1j * random.uniform(0, 6, array.shape))
    if symmetric and is_symmetric(array):
        direction = (direction + np.conj(np.swapaxes(direction, -1, -2))) / 2
    return np.where(np.isfinite(array), direction, 0.0)


def aligned_with(other: Any, vector: Any) -> Any:
    """Return a vector with its entries turned so that none of its products with another one is negative."""
    size = np.abs(other)
    known = np.isfinite(size) & (size > 0)
    turned = np.abs(vector) * np.where(known, other, 1) / np.where(known, size, 1)
    return np.asarray(np.where(known, turned, vector), vector.dtype)


def is_symmetric(array: Any) -> bool:
    """Return whether the last two axes are those of symmetric (or Hermitian) matrices."""
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] == 1:
        return False
    return bool(np.array_equal(array, np.conj(np.swapaxes(array, -1, -2))))


def noise_between(firsts: Sequence[Any], seconds: Sequence[Any], weights: Sequence[Any]) -> float:
    """Return how far off the weighted sum of outputs may be, given the outputs of two equal calls.

    Raises:
        Inconclusive: they differ by more than rounding.
    """
    noise = 0.0
    for first, second, weight in zip(firsts, seconds, weights, strict=True):
        if weight is None:
            continue
        if first.shape != second.shape:
            raise Inconclusive
        known = weight != 0
        allowed = _ROUNDINGS * float(np.finfo(first.dtype).eps) * _norm(np.where(known, first, 0))
        if not _norm(np.where(known, first - second, 0)) <= allowed:
            raise Inconclusive
        noise += allowed
    return noise


def weighted_sum(outs: Sequence[Any], likes: Sequence[Any], weights: Sequence[Any]) -> np.ndarray:
    """Return the real part of the sum of all outputs times their weights, as a vector of one entry.

    Raises:
        Inconclusive: the outputs have other shapes than `likes`.
    """
    total = 0.0
    for out, like, weight in zip(outs, likes, weights, strict=True):
        if weight is None:
            continue
        if out.shape != like.shape:
            raise Inconclusive
        total += inner([weight], [np.where(weight != 0, out, 0)])[0]
    return np.array([total])


def _norm(array: Any) -> float:
    return float(np.sqrt(np.sum(np.square(np.abs(array), dtype=np.float64))))


def dense(bar: Any, like: Any) -> np.ndarray:
    """Return a cotangent or tangent as a raw array, zeros written out."""
    return np.zeros(like.shape, like.dtype) if bar is None else np.asarray(boxing.data_of(bar))


def inner(bars: Sequence[Any], moves: Sequence[Any]) -> tuple[float, float]:
    """Return (the real inner product, its size if nothing cancelled: the root of the sum of its squared terms)."""
    total = squares = 0.0
    for bar, move in zip(bars, moves):
        terms = np.real(np.conj(bar).astype(np.result_type(bar, np.float64)) * move)
        total += float(np.sum(terms))
        squares += float(np.sum(terms * terms))
    return total, squares**0.5


__all__ = [
    "Fault",
    "Inconclusive",
    "Precision",
    "aligned_with",
    "dense",
    "direction_at",
    "inner",
    "is_symmetric",
    "judged",
    "noise_between",
    "weight_of",
    "weighted_sum",
]
