"""What a sweep keeps of the run before it: as little as may be, where what is cheap is computed again."""

from __future__ import annotations

from collections.abc import Container, Sequence

from .graph import Equation, Value
from .lower_layout import VIEWERS

CHEAP = frozenset((*VIEWERS, "cast", "take_slices"))
"""Operations that a sweep rather does again than have their results kept."""


def parted(
    forward: Sequence[Equation],
    backward: Sequence[Equation],
    ends: Sequence[Value],
    repeated: Container[Equation] = (),
) -> tuple[list[Value], list[Equation]]:
    """Return the values to be kept for a sweep, and its equations, with cheap and `repeated` ones of the run's own."""
    makers = {value: equation for equation in forward for value in equation.outputs}
    made = {value for equation in backward for value in equation.outputs}
    kept: dict[Value, None] = {}
    again: dict[Equation, None] = {}
    waiting = [value for equation in backward for value in equation.values()] + list(ends)
    while waiting:
        value = waiting.pop()
        maker = makers.get(value)
        if maker is None or value in made or value in kept or maker in again:
            continue
        if maker.primitive.name in CHEAP or maker in repeated:
            again[maker] = None
            waiting.extend(maker.values())
        else:
            kept[value] = None
    return list(kept), [*[equation for equation in forward if equation in again], *backward]


__all__ = ["parted"]
