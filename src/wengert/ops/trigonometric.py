"""Trigonometric functions and their inverses."""

from __future__ import annotations

from ..declare import elementwise
from ..typing import Array, Namespace


@elementwise(reference="numpy.sin")
def sin(xp: Namespace, x: Array) -> Array:
    """Sine of each element, in radians."""
    return xp.sin(x)


@sin.partials
def sin_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.cos(x),)


@elementwise(reference="numpy.cos")
def cos(xp: Namespace, x: Array) -> Array:
    """Cosine of each element, in radians."""
    return xp.cos(x)


@cos.partials
def cos_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (-xp.sin(x),)
