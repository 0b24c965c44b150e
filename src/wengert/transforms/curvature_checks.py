"""Checks of rules that are differentiated again: is all of what a rule computes on the tape?

A rule that detaches a factor, or reads a number with `item()`, is right as it stands and wrong when it is recorded: a
part of its derivative is lost without a sign. So the first time that a rule is recorded, its derivative as the tape has
it is compared with a difference of the rule itself. The forward is not called for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import boxing
from ..errors import WrongRuleError
from .custom_rules import Rules
from .reverse import grad
from .witnesses import Fault, Precision, dense, direction_at, inner, judged, weight_of
from .written_rules import VJP, Point

_NUDGE = 2.0**-6
_ROUNDINGS = 8


def check_recorded_rules(rules: Rules, point: Point, moving: Sequence[bool]) -> None:
    """Check that the pullback of an operation can be differentiated by all that it is computed from.

    Args:
        rules: the operation's.
        point: the raw arrays and outputs that the tape has kept.
        moving: which of the arrays are differentiated by.

    Raises:
        WrongRuleError: a part of a rule is off the tape.
    """
    random = np.random.Generator(np.random.PCG64(2000))
    pullback = _Pullback(rules, point, moving, random)
    base = pullback.variables()
    if pullback.fault(base) is None:
        return
    nudged = [np.asarray(z + _NUDGE * direction_at(random, z, True), z.dtype) for z in base]
    fault = pullback.fault(base)
    if not isinstance(fault, tuple) or not isinstance(pullback.fault(nudged), tuple):
        return
    slope, value, error = fault
    owners = sorted({p for p, moves in zip(point.call.owners, moving) if moves})
    names = dict.fromkeys([str(rule) for p in owners for rule in [rules.source(VJP, p) or rules.source("jvp", p)]])
    raise WrongRuleError(
        f"{' or '.join(names)} is not all on the tape: this gradient is to be differentiated again, and the derivative "
        f"of what the rule returns, along a random direction, is {slope:.10g} by the tape and {value:.10g} (give or "
        f"take {error:.2g}) by differences of the rule. Something in it was detached, or read with item() or float()"
    )


class _Pullback:
    """The cotangents of a rule, weighted and summed, as a function of its seeds, the arrays and the outputs."""

    def __init__(self, rules: Rules, point: Point, moving: Sequence[bool], random: np.random.Generator) -> None:
        self.rules, self.point, self.moving, self.random = rules, point, moving, random
        self.seeds = [weight_of(random, np.ones(like.shape, like.dtype)) for like in point.out_likes]
        self.weights = [
            weight_of(random, np.ones(like.shape, like.dtype)) if moves else None
            for like, moves in zip(point.likes, moving)
        ]
        self.seeded = [j for j, seed in enumerate(self.seeds) if seed is not None]
        self.moved = [i for i, moves in enumerate(moving) if moves and point.arrays[i] is not None]
        self.returned = [] if point.outs is None else self.seeded

    def variables(self) -> list[Any]:
        """Return where it is evaluated."""
        outs: Any = self.point.outs
        return [
            *[self.seeds[j] for j in self.seeded],
            *[np.asarray(self.point.arrays[i]) for i in self.moved],
            *[np.asarray(outs[j]) for j in self.returned],
        ]

    def bars(self, variables: Sequence[Any]) -> list[Any]:
        """Return the cotangents of the moving arrays, given Tensors in place of the variables."""
        given = iter(variables)
        seeds, point = list(self.seeds), self.point
        for j in self.seeded:
            seeds[j] = next(given)
        arrays = [boxing.box(a) if hasattr(a, "dtype") else a for a in point.arrays]
        for i in self.moved:
            arrays[i] = next(given)
        outs = None if point.outs is None else [boxing.box(np.asarray(out)) for out in point.outs]
        for j in self.returned:
            outs[j] = next(given)  # type: ignore[index]
        there = Point(point.call, arrays, outs, point.likes, point.out_likes, point.tracked)
        return self.rules.pull(there, seeds, self.moving)

    def fault(self, variables: Sequence[Any]) -> tuple[float, float, float] | bool | None:
        """Compare the tape with a difference: None if they agree, False if there is no telling."""

        def total(*tensors: Any) -> Any:
            terms = [
                (bar * boxing.box(weight)).sum().real.astype("float64")
                for bar, weight in zip(self.bars(tensors), self.weights)
                if bar is not None
            ]
            return sum(terms[1:], terms[0])

        def raw(t: float) -> tuple[float, float]:
            moved = [boxing.box(np.asarray(z + t * d, z.dtype)) for z, d in zip(variables, directions)]
            bars = [
                dense(bar, like) if w is not None else w for bar, like, w in zip(self.bars(moved), likes, self.weights)
            ]
            return inner([w for w in self.weights if w is not None], [bar for bar in bars if bar is not None])

        def noise() -> float:
            coarsest = max([float(np.finfo(z.dtype).eps) for z in variables])
            return _ROUNDINGS * coarsest * raw(0.0)[1]

        def weighted(t: float) -> np.ndarray:
            return np.array([raw(t)[0]])

        likes = self.point.likes
        directions = [np.asarray(direction_at(self.random, z, True), z.dtype) for z in variables]
        try:
            gradients = grad(total, range(len(variables)))(*[boxing.box(z) for z in variables])
        except Exception:
            return None  # the sweep that is under way says what is wrong
        slope, scale = inner([boxing.data_of(g) for g in gradients], directions)
        verdict = judged([slope], [scale], weighted, noise, Precision(variables))
        return (slope, verdict.value, verdict.error) if isinstance(verdict, Fault) else verdict


__all__ = ["check_recorded_rules"]
