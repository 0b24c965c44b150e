"""Derivatives by numbers alone, with the accuracy they have, and the one comparison that every check uses.

Nothing here knows an operation, a tape or a rule. Tolerances are never chosen by the caller: they follow from the
dtype, from how strongly the function at hand answers to a relative change of its arguments, and from the error that
the numerical derivative estimates for itself. NaN never equals anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.differences import central_differences

Vector = np.ndarray

ROUNDINGS = 64
"""How many roundings, each as large as the argument's own, one operation and its rule may amount to."""
CONCLUSIVE = 1e-4
"""Relative error above which a difference says nothing (there is a kink or a jump within every step)."""
_INCOMMENSURABLE = 0.7320508
_NUDGE = 2.0**-20
_IMAGINARY = 1e-30
_VALUE_ROUNDINGS = 8


class Estimate(NamedTuple):
    """A numerical derivative and, entry by entry, how far from the truth it may be."""

    value: Vector
    error: Vector

    @property
    def conclusive(self) -> np.ndarray:
        """Which entries are known well enough to judge a rule by."""
        return self.error <= CONCLUSIVE * (1 + np.abs(self.value))


def flatten(arrays: Sequence[Any]) -> Vector:
    """Concatenate the entries of real floating arrays (complex in a complex step) into one vector."""
    parts = [np.asarray(a).ravel() for a in arrays if np.asarray(a).dtype.kind in "fc"]
    return np.concatenate(parts) if parts else np.zeros(0)


def differences(function: Callable[[float], Vector], step: float, noise: Any = 0.0) -> Estimate:
    """Differentiate `function` at zero by central differences, Richardson-extrapolated as far as it helps (Ridders).

    Every entry keeps the table's best value by the table's own measure, so a kink or jump at some distance spoils only
    the steps that reach it. Two tables with incommensurable steps must agree: one alone can be right by accident.
    `noise` is how far off the function's values may be, beyond the rounding of the values themselves.
    """
    one, other = _table(function, step, noise), _table(function, step * _INCOMMENSURABLE, noise)
    distance = np.abs(one.value - other.value)
    agree = distance <= one.error + other.error
    value = np.where(one.error <= other.error, one.value, other.value)
    return Estimate(value, np.where(agree, np.minimum(one.error, other.error), np.fmax(distance, one.error)))


def _table(function: Callable[[float], Vector], step: float, noise: Any) -> Estimate:
    *_, (value, error) = central_differences(function, step, noise)
    return Estimate(value, error)


def complex_step(function: Callable[[complex], Vector]) -> Vector | None:
    """Differentiate `function` at zero by one imaginary step; None where it does not take complex numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            out = function(1j * _IMAGINARY)
        except Exception:
            return None
    return np.imag(out) / _IMAGINARY if out.dtype.kind == "c" else None


def derivative(
    function: Callable[[Any], Vector],
    step: float,
    *,
    noise: Any = 0.0,
    analytic: Callable[[Any], Vector] | None = None,
) -> Estimate:
    """Differentiate `function` at zero, by a complex step of `analytic` if it is sound there, else by differences.

    A complex step is accurate to the last digit, but only where the function is analytic: it counts if it agrees with
    the differences to their accuracy.
    """
    with np.errstate(all="ignore"):
        estimate = differences(function, step, noise)
        exact = complex_step(analytic) if analytic is not None else None
        if exact is None or exact.shape != estimate.value.shape:
            return estimate
        slack = 4 * estimate.error + ROUNDINGS * np.finfo(float).eps * np.abs(exact)
        sound = estimate.conclusive & (np.abs(exact - estimate.value) <= slack)
    value = np.where(sound, exact, estimate.value)
    return Estimate(value, np.where(sound, 0.0, estimate.error))


def along(arrays: Sequence[Any], directions: Sequence[Any], t: Any) -> list[Any]:
    """Return the arguments moved by `t` along `directions`; a direction of None leaves its argument alone."""
    return [a if d is None else np.asarray(a + t * d) for a, d in zip(arrays, directions)]


def condition(function: Callable[[list[Any]], Vector], arrays: Sequence[Any], moves: Sequence[bool]) -> Vector:
    """Return, entry by entry, how far a relative change of one in the arguments would move the function, linearised.

    Two random patterns of signs are tried; the larger answer counts. It includes the function's own magnitude, so that
    `eps * condition` is what a backward stable computation may be wrong by.
    """
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        here = function(list(arrays))
        largest = np.zeros(here.shape)
        for _ in range(2):
            nudged = [
                np.asarray(a * (1 + _NUDGE * rng.choice((-1.0, 1.0), np.shape(a)))) if moving else a
                for a, moving in zip(arrays, moves)
            ]
            largest = np.fmax(largest, np.abs(function(nudged) - here) / _NUDGE)
    largest = largest + np.abs(here)
    if not largest.size:
        return largest
    finite = largest[np.isfinite(largest)]
    return largest + (finite.max() / ROUNDINGS if finite.size else 0.0)


def rounding(dtype: Any, condition: Any) -> Any:
    """Return how far two sound computations in `dtype` may differ, for a given condition."""
    info = np.finfo(dtype)
    return 2 * ROUNDINGS * (float(info.eps) * np.abs(condition) + float(info.smallest_subnormal))


def noise(dtype: Any, condition: Any) -> Any:
    """Return how far off one soundly computed value may be, for a given condition."""
    return _VALUE_ROUNDINGS * float(np.finfo(dtype).eps) * np.abs(condition)


def demand_close(where: str, what: str, got: Any, expected: Any, tolerance: Any) -> None:
    """Demand equal shapes, and every pair of entries equal to within the tolerance. NaN equals nothing.

    Raises:
        AssertionError: naming the place, both numbers and the tolerance of the worst entry.
    """
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        raise AssertionError(f"{where}: {what} has shape {got.shape} and not {expected.shape}")
    if not got.size:
        return
    with np.errstate(all="ignore"):
        distance = np.abs(got.astype(np.result_type(got, 0.0)) - expected)
        sound = (distance <= tolerance) | (got == expected)
    if sound.all():
        return
    excess = np.where(sound, -1.0, np.where(np.isfinite(distance), distance, np.inf))
    place = np.unravel_index(int(np.argmax(excess)), got.shape)
    limit = np.broadcast_to(np.asarray(tolerance), got.shape)[place]
    entry = f" at {tuple(int(i) for i in place)}" if place else ""
    raise AssertionError(
        f"{where}: {what}{entry} is {got[place]!r} and not {expected[place]!r} (difference {distance[place]:.3g}, "
        f"tolerance {limit:.3g}; {int((~sound).sum())} of {got.size} entries differ)"
    )


__all__ = [
    "CONCLUSIVE",
    "ROUNDINGS",
    "Estimate",
    "along",
    "complex_step",
    "condition",
    "demand_close",
    "derivative",
    "differences",
    "flatten",
    "noise",
    "rounding",
]
