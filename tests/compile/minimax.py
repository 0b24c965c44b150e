"""Where the coefficients of `wengert.compile.scalar_math` come from: weighted minimax fits, each rounded to its type.

`python -m tests.compile.minimax [NAME...]` prints the tables with their errors. The fit is the exchange algorithm of
E. Ya. Remez (1934); coefficients are rounded one after the other, lowest first, and the rest is fitted anew to make
up for it, as N. Brisebarre and S. Chevillard's fpminimax does with more care (2007). Run in 50 digits (mpmath).
"""

# mpmath gives its context most of its functions at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mpmath import mp, mpf

mp.dps = 50
Function = Callable[[Any], Any]


class Fit(NamedTuple):
    """A function to fit with a polynomial on [low, high]; the error counts with a weight."""

    function: Function
    low: Any
    high: Any
    weight: Function
    terms: dict[str, int]


def remez(fit: Fit, first: int, known: list[Any], start: list[Any]) -> list[Any]:
    """Return the coefficients of t^first ... that err least after the known lower ones; no worse than `start`."""
    low, high = mpf(fit.low), mpf(fit.high)
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / 599) for i in range(600)]
    if low == 0:
        grid[0] = grid[1] / 1000
    values = [fit.function(t) - mp.polyval(known[::-1], t) if known else fit.function(t) for t in grid]
    weights = [fit.weight(t) for t in grid]

    def errors_of(coefficients: list[Any]) -> list[Any]:
        return [w * (v - t**first * mp.polyval(coefficients[::-1], t)) for t, v, w in zip(grid, values, weights)]

    best, least = start, max(map(abs, errors_of(start)))
    chosen = [round(599 * i / len(start)) for i in range(len(start) + 1)]
    for _ in range(8):
        rows = [
            [*(grid[i] ** (first + j) for j in range(len(start))), (-1) ** k / weights[i]] for k, i in enumerate(chosen)
        ]
        solution = list(mp.lu_solve(mp.matrix(rows), mp.matrix([values[i] for i in chosen])))
        errors = errors_of(solution[:-1])
        error = max(map(abs, errors))
        if error < least:
            best, least = solution[:-1], error
        chosen = _alternating_extrema(errors, len(chosen))
        if len(chosen) <= len(start) or error < abs(solution[-1]) * mpf("1.001"):
            break
    return best


def _alternating_extrema(errors: list[Any], count: int) -> list[int]:
    extrema: list[int] = []
    for i, e in enumerate(errors):
        if extrema and (e > 0) == (errors[extrema[-1]] > 0):
            if abs(e) > abs(errors[extrema[-1]]):
                extrema[-1] = i
        else:
            extrema.append(i)
    while len(extrema) > count:
        extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
    return extrema


def rounded_fit(fit: Fit, dtype: str) -> tuple[list[float], float]:
    """Fit, rounding coefficient after coefficient to `dtype`; return them and log2 of the weighted error."""
    known: list[Any] = []
    rest = [mpf(0)] * fit.terms[dtype]
    while rest:
        rest = remez(fit, len(known), known, rest)
        known.append(mpf(float(np.dtype(dtype).type(float(rest.pop(0))))))
    low, high = mpf(fit.low), mpf(fit.high)
    points = [low + (high - low) * (i + mpf("0.5")) / 3000 for i in range(3000)]
    error = max(abs(fit.weight(t) * (mp.polyval(known[::-1], t) - fit.function(t))) for t in points)
    return [float(c) for c in known], float(mp.log(error, 2))


def _sine(z: Any) -> Any:
    return (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z


def _cosine(z: Any) -> Any:
    return (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2


def _exponential(r: Any) -> Any:
    return (mp.expm1(r) - r) / r**2 if r else mpf("0.5")


def _logarithm(z: Any) -> Any:
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) / s - 2) / z


def _logarithm_tail(z: Any) -> Any:
    return (_logarithm(z) - mpf(2) / 3) / z


def _arctangent(z: Any) -> Any:
    return (mp.atan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z


def _arcsine(z: Any) -> Any:
    return (mp.asin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z


def _error_function(z: Any) -> Any:
    return mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1


def _scaled_complement(q: Any) -> Any:
    """(x + 2) exp(x^2) erfc(x) where q = (x - 2) / (x + 2)."""
    x = 2 * (1 + q) / (1 - q)
    return (x + 2) * mp.exp(x * x) * mp.erfc(x)


def _normal_middle(z: Any) -> Any:
    """(ndtr(x) - 1/2) / x where z = -x^2 / 2."""
    x = mp.sqrt(-2 * z)
    return (mp.ncdf(x) - mpf("0.5")) / x if x else 1 / mp.sqrt(2 * mp.pi)


def _middle_weight(z: Any) -> Any:
    return 2 * mp.sqrt(-2 * z) if z else mpf(1)


def _normal_tail(q: Any) -> Any:
    """(x + 4) exp(x^2 / 2) ndtr(-x) where q = (x - 4) / (x + 4)."""
    x = 4 * (1 + q) / (1 - q)
    return (x + 4) * mp.exp(x * x / 2) * mp.ncdf(-x)


def _relative(q: Any) -> Any:
    return 1 / _scaled_complement(q)


def _hyperbolic_tangent(z: Any) -> Any:
    return (mp.tanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z


def _log_complement(x: Any) -> Any:
    return mp.log(mp.erfc(x))


FITS: dict[str, Fit] = {
    "exponential": Fit(_exponential, "-0.347", "0.347", lambda r: r * r / mp.exp(r), dict(float32=5, float64=10)),
    "sine": Fit(_sine, 0, "0.65", lambda z: z, dict(float32=4, float64=6)),
    "cosine": Fit(_cosine, 0, "0.65", lambda z: z * z / mp.cos(mp.sqrt(z)), dict(float32=3, float64=6)),
    "logarithm": Fit(_logarithm, 0, "0.02945", lambda z: z / 2, dict(float32=4, float64=7)),
    "logarithm tail": Fit(_logarithm_tail, 0, "0.02945", lambda z: z * z / 2, dict(float64=9)),
    "arctangent": Fit(_arctangent, 0, "0.1716", lambda z: z, dict(float32=5, float64=12)),
    "arcsine": Fit(_arcsine, 0, "0.25", lambda z: z, dict(float32=5, float64=13)),
    "error function": Fit(_error_function, 0, "0.25", lambda z: mpf(1), dict(float32=5, float64=10)),
    "hyperbolic tangent": Fit(_hyperbolic_tangent, 0, "0.3907", lambda z: z, dict(float32=5)),
    "log complement": Fit(_log_complement, "0.5", 4, lambda x: mp.erfc(x) / mp.erf(x), dict(float32=8)),
    "cube root": Fit(mp.cbrt, 1, 8, lambda m: 1 / mp.cbrt(m), dict(float64=4)),
    "scaled complement": Fit(_scaled_complement, "-0.6", "0.864", _relative, dict(float64=23)),
    "scaled complement to 10.1": Fit(_scaled_complement, "-0.6", "0.67", _relative, dict(float32=10)),
    "normal middle": Fit(_normal_middle, "-0.246", 0, _middle_weight, dict(float32=5, float64=9)),
    "normal tail": Fit(_normal_tail, "-0.7022", "0.8122", lambda q: 1 / _normal_tail(q), dict(float64=21)),
    "normal tail to 14.3": Fit(_normal_tail, "-0.7022", "0.5628", lambda q: 1 / _normal_tail(q), dict(float32=9)),
}


if __name__ == "__main__":
    for name in sys.argv[1:] or FITS:
        for dtype in FITS[name].terms:
            coefficients, error = rounded_fit(FITS[name], dtype)
            print(f"{name}, {dtype}: error 2^{error:.1f}")
            print("    " + ", ".join(map(repr, coefficients)), flush=True)
