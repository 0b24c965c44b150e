"""Register tiles of convolutions: how many of each factor's vectors or elements a step of a sum takes."""

from __future__ import annotations

from typing import NamedTuple

from .machine import Machine


class Factors(NamedTuple):
    """How the two factors of a tile's sums are read.

    Attributes:
        most_kept, most_passing: the largest tile that is considered.
        kept_cross: whether it is the kept factor's vectors that may cross the lines of the cache, or else the others.
        overhead: cycles of a step beside its multiply-adds and loads.
    """

    most_kept: int
    most_passing: int
    kept_cross: bool
    overhead: float


PRODUCT = Factors(8, 16, True, 0.5)
"""Vectors of grid points are kept, elements of filters pass; taps are unrolled."""
WEIGHTS = Factors(6, 12, False, 1.0)
"""Vectors of cotangents are kept, those of the input pass, for one after the other of the pairs of channel and tap."""


def register_tile(kept: int, passing: int, factors: Factors, machine: Machine) -> tuple[int, int]:
    """Return how many of each factor make the tile in which a product of so many takes the least time.

    The model: two multiply-adds and two loads a cycle, of which a load across a cache line counts twice; a sum waits
    four cycles for its predecessor. Registers hold the sums, all that is kept, and one of those that pass.
    """
    best = (float("inf"), 0, 1, 1)
    for held in range(1, min(kept, factors.most_kept) + 1):
        for met in range(1, min(passing, factors.most_passing) + 1):
            if held * met + held + 1 <= machine.vector_registers:
                cycles = sum(
                    [
                        times * more_times * _cycles(some, others, factors, machine)
                        for some, times in ((held, kept // held), (kept % held, 1))
                        for others, more_times in ((met, passing // met), (passing % met, 1))
                    ]
                )
                sizes = bool(passing % met) + bool(kept % held)
                cycles *= 1 + 0.02 * sizes  # less code, where it costs next to nothing
                best = min(best, (cycles, -held * met, held, met))
    return best[2], best[3]


def _cycles(held: int, met: int, factors: Factors, machine: Machine) -> float:
    """Return the time of one step of a tile's sums."""
    if not held or not met:
        return 0.0
    loads = held + met
    if machine.vector_bytes >= 64:
        loads += held if factors.kept_cross else met
    return max(held * met / 2, loads / 2, 4) + factors.overhead
