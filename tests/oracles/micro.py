"""Reverse-mode differentiation of scalars in plain Python floats: small enough to be believed; no recursion."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable


class Value:
    """A number, and the numbers that it was computed from with the derivative by each of them."""

    __slots__ = ("parents", "value")

    def __init__(self, value: float, parents: tuple[tuple[Value, float], ...] = ()) -> None:
        self.value = float(value)
        self.parents = parents

    def __add__(self, other: Value | float) -> Value:
        other = lift(other)
        return Value(self.value + other.value, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: Value | float) -> Value:
        other = lift(other)
        return Value(self.value * other.value, ((self, other.value), (other, self.value)))

    def __pow__(self, other: Value | float) -> Value:
        if not isinstance(other, Value):
            return Value(self.value**other, ((self, other * self.value ** (other - 1)),))
        power, slope = self.value**other.value, other.value * self.value ** (other.value - 1)
        return Value(power, ((self, slope), (other, power * math.log(self.value))))

    def __truediv__(self, other: Value | float) -> Value:
        return self * lift(other) ** -1.0

    def __neg__(self) -> Value:
        return self * -1.0

    def __sub__(self, other: Value | float) -> Value:
        return self + -lift(other)

    def __rsub__(self, other: float) -> Value:
        return -self + other

    def __rtruediv__(self, other: float) -> Value:
        return self**-1.0 * other

    __radd__, __rmul__ = __add__, __mul__


def lift(number: Value | float) -> Value:
    return number if isinstance(number, Value) else Value(number)


def exp(x: Value) -> Value:
    return Value(math.exp(x.value), ((x, math.exp(x.value)),))


def log(x: Value) -> Value:
    return Value(math.log(x.value), ((x, 1.0 / x.value),))


def tanh(x: Value) -> Value:
    return Value(math.tanh(x.value), ((x, 1.0 - math.tanh(x.value) ** 2),))


def sin(x: Value) -> Value:
    return Value(math.sin(x.value), ((x, math.cos(x.value)),))


def relu(x: Value) -> Value:
    return Value(max(x.value, 0.0), ((x, float(x.value > 0.0)),))


def gradients(seeds: Iterable[tuple[Value, float]]) -> tuple[dict[Value, float], dict[Value, float]]:
    """Return by Value the derivative of the seeded sum, and the sum of the magnitudes of the terms that make it up."""
    bars, sizes = defaultdict(float), defaultdict(float)
    for value, bar in seeds:
        bars[value] += bar
        sizes[value] += abs(bar)
    for value in reversed(topological(list(bars))):
        for parent, partial in value.parents:
            bars[parent] += partial * bars[value]
            sizes[parent] += abs(partial) * sizes[value]
    return bars, sizes


def topological(roots: list[Value]) -> list[Value]:
    """Return every Value that the roots depend on, each after all those it was computed from."""
    order: list[Value] = []
    seen, stack = set(), [(root, False) for root in roots]
    while stack:
        value, is_done = stack.pop()
        if is_done:
            order.append(value)
        elif value not in seen:
            seen.add(value)
            stack.append((value, True))
            stack.extend((parent, False) for parent, _ in value.parents)
    return order
