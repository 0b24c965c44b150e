"""Random streams that a computation may draw from without being handed them: who runs it again must rewind them.

The generators stand above this layer, so they make themselves known here when they are made. They are held weakly.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

_known: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""Generators, and the states that they began with."""

States = list[tuple[Any, Any]]
"""Pairs of a generator and a state of its bits."""


def register(generator: Any) -> None:
    """Make a generator known that functions may draw from; its state now is its state before anybody drew."""
    _known[generator] = bits_of(generator).state


def bits_of(generator: Any) -> Any:
    """Return the NumPy bit generator behind a generator of NumPy's or of this library."""
    return getattr(generator, "_source", generator).bit_generator


def is_stream(value: Any) -> bool:
    """Return whether something is a generator of NumPy's or of this library."""
    return hasattr(getattr(value, "_source", value), "bit_generator")


def states(others: Any = ()) -> States:
    """Return the states that the known generators, and others, are in."""
    generators = [*_known, *[other for other in others if other not in _known]]
    return [(generator, bits_of(generator).state) for generator in generators]


def rewind(past: States) -> None:
    """Put generators back into states of the past; those that were not known then, into that of their beginning."""
    mentioned = [generator for generator, _ in past]
    for generator, state in list(_known.items()):
        if not any([generator is other for other in mentioned]):
            bits_of(generator).state = state
    for generator, state in past:
        bits_of(generator).state = state


__all__ = ["States", "bits_of", "is_stream", "register", "rewind", "states"]
