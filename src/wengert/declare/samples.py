"""Where an operation is checked: plain data beside its rule. No test library is imported here.

A `domain` is the open interval that arguments of an elementwise operation are drawn from. A `Sample` is one call of
any other operation: shapes (or ready arrays) for its array arguments, and its static parameters.
"""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from typing import Any


class Sample:
    """One call to check an operation on.

    Args:
        *arrays: for each array argument a shape (filled with random numbers of the sample's interval) or a callable
            `make(rng) -> array` for arguments of a special form (indices, positive definite matrices).
        interval: where random entries are drawn from.
        distinct: draw entries that keep a distance from each other (for max, sort and their like).
        **params: static parameters of the call.
    """

    __slots__ = ("arrays", "distinct", "interval", "params")

    def __init__(
        self, *arrays: Any, interval: tuple[float, float] = (-2.0, 2.0), distinct: bool = False, **params: Any
    ) -> None:
        self.arrays = arrays
        self.params = params
        self.interval = interval
        self.distinct = distinct

    def __repr__(self) -> str:
        parts = [str(a) if isinstance(a, tuple) else getattr(a, "__name__", "array") for a in self.arrays]
        parts += [f"{name}={value}" for name, value in self.params.items()]
        return f"Sample({', '.join(parts)})"


class Special:
    """A declared value and derivative at a point that no random draw meets: a kink, a pole, a tie, an infinity."""

    __slots__ = ("out", "partials", "point")

    def __init__(self, point: tuple[float, ...], out: float, partials: tuple[float | None, ...]) -> None:
        self.point = point
        self.out = out
        self.partials = partials

    def __repr__(self) -> str:
        return f"at{self.point}"


def at(*point: float, out: float, partials: tuple[float | None, ...]) -> Special:
    """Declare what an elementwise operation and its partials return at `point` (None: not declared)."""
    return Special(point, out, partials)


def domain(low: float, high: float) -> tuple[float, float]:
    """Return the open interval (low, high)."""
    return (low, high)
