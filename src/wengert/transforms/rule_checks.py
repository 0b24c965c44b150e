"""Checks of a user's rules at work: the adjoint identity, and one directional difference of the forward.

A rule is checked when it is first needed for arguments of given dtypes, and never again. Both checks compare one number
with another, so a mistake anywhere in a rule shows, while one wrong entry among thousands may not. A check has to be
certain before it raises: it looks again along other directions, and at a point close by, where the mistake of a
difference at a kink, at a symmetric matrix or at the edge of a domain does not repeat itself.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from ..core import boxing
from ..core.recording import observers, set_observers, set_recording
from ..errors import WrongRuleError
from .custom_batching import example
from .custom_calls import Call
from .custom_rules import Rules
from .witnesses import (
    Fault,
    Precision,
    aligned_with,
    dense,
    direction_at,
    inner,
    is_symmetric,
    judged,
    noise_between,
    weight_of,
    weighted_sum,
)
from .written_rules import JVP, VJP, Point, WrittenRule

Forward = Callable[[Call, Sequence[Any]], tuple[Any, ...]]

_NUDGE = 2.0**-6

_ON = os.environ.get("WENGERT_CHECK_RULES", "1").strip().lower() not in ("0", "false", "off", "no")
_checking: ContextVar[bool] = ContextVar("wengert_rule_checking", default=_ON)


def is_rule_checking() -> bool:
    """Return whether users' rules are checked here and now.

    >>> import wengert as wg
    >>> wg.is_rule_checking()
    True
    """
    return _checking.get()


class set_rule_checking:
    """Switch the checks of users' rules on or off, from now on or for the time of a `with` block.

    They are on unless the environment variable WENGERT_CHECK_RULES is 0. Each rule of a `wg.primitive` is checked on
    the first differentiated call with arguments of given dtypes: against the operation's other rule if there are both,
    and against a numerical derivative of its forward, which is called a few more times for it. The switch belongs to
    the thread, as that of `no_grad` does.

    >>> import wengert as wg
    >>> with wg.set_rule_checking(False):
    ...     pass  # rules are trusted here
    >>> previous = wg.set_rule_checking(True)
    """

    __slots__ = ("_before", "mode")

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(f"set_rule_checking takes True or False, not {type(mode).__name__}")
        self.mode = mode
        self._before = _checking.get()
        _checking.set(mode)

    def __enter__(self) -> None:
        _checking.set(self.mode)

    def __exit__(self, *_exception: object) -> None:
        _checking.set(self._before)

    def __repr__(self) -> str:
        return f"<rule checking {'on' if self.mode else 'off'}>"


@contextmanager
def unnoticed() -> Iterator[None]:
    """Let a check run without being recorded or watched, warning of anything, or using up random numbers."""
    recording, watching = set_recording(False), observers()
    set_observers(())
    legacy = np.random.get_state()  # noqa: NPY002 - the forward may use the global generator, so it is put back
    others: list[tuple[Any, Any]] = []
    for name, read, write in (("random", "getstate", "setstate"), ("wengert.random", "get_state", "set_state")):
        module = sys.modules.get(name)
        if module is not None:
            others.append((getattr(module, write), getattr(module, read)()))
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(legacy)  # noqa: NPY002
        for put_back, state in others:
            put_back(state)
        set_observers(watching)
        set_recording(recording)


def check_rules(rules: Rules, forward: Forward, call: Call, arrays: Sequence[Any], moving: Sequence[bool]) -> None:
    """Check all that has been written for the parameters whose arrays move, at the arguments of a call.

    Args:
        rules: the operation's.
        forward: computes its outputs from arrays.
        call: the call.
        arrays: its arrays.
        moving: which of them are differentiated by.

    Raises:
        WrongRuleError: a rule is wrong; the message names it and shows both numbers.
    """
    base = _Trial(rules, forward, call, arrays, moving, 0)
    nudged: list[_Trial | None] = []
    for p in sorted({p for p, moves in zip(call.owners, moving) if moves}):
        base.check_adjoint(p)
        faults = [base.fault(p)]
        if faults[0] is None:
            continue
        faults += [base.fault(p, symmetric=True), base.fault(p, aligned=False)]
        if not nudged:
            nudged.append(base.nudged())
        if None in faults or nudged[0] is None:
            continue
        try:
            elsewhere = [nudged[0].fault(p), nudged[0].fault(p, symmetric=True), nudged[0].fault(p, aligned=False)]
        except Exception:
            continue
        if None not in elsewhere:
            here = next((f for f in faults if isinstance(f, str)), None)
            there = next((f for f in elsewhere if isinstance(f, str)), None)
            if here is not None and there is not None:
                raise WrongRuleError(here)


class _Probe(NamedTuple):
    """Directions of the arrays, weights of the outputs, and (rule, derivative along and over them, its size)."""

    directions: list[Any]
    weights: list[Any]
    slopes: list[tuple[WrittenRule, float, float]]


class _Trial:
    """Rules evaluated at one point, with one set of weights for the outputs."""

    def __init__(
        self, rules: Rules, forward: Forward, call: Call, arrays: Sequence[Any], moving: Sequence[bool], seed: int
    ) -> None:
        self.rules, self.forward, self.call, self.moving, self.seed = rules, forward, call, moving, seed
        self.arrays: list[Any] = [np.asarray(a) if isinstance(a, np.generic) else a for a in arrays]
        self.random = np.random.Generator(np.random.PCG64(1000 + seed))
        self.outs = forward(call, self.arrays)
        self.weights = [weight_of(self.random, out) for out in self.outs]
        tensors = [boxing.box(a) if hasattr(a, "dtype") else a for a in self.arrays]
        outs = [boxing.box(out) for out in self.outs]
        likes = [a if hasattr(a, "dtype") else None for a in self.arrays]
        self.point = Point(call, tensors, outs, likes, outs, tracked=False)
        self._bars: list[Any] | None = None

    def nudged(self) -> _Trial | None:
        """Return a trial at a point close by; None if the forward cannot be evaluated there."""
        moved: list[Any] = [
            np.asarray(a + _NUDGE * direction_at(self.random, a, True), a.dtype) if m else a
            for a, m in zip(self.arrays, self.moving)
        ]
        try:
            return _Trial(self.rules, self.forward, self.call, moved, self.moving, self.seed + 1)
        except Exception:
            return None

    # ------------------------------------------------------------------ what the rules say

    def _pulled(self, p: int) -> list[Any]:
        """Return raw cotangents of a parameter's arrays by the written vjp rules, zeros written out."""
        if self._bars is None:
            wanted = [m and self.rules.source(VJP, q) is not None for m, q in zip(self.moving, self.call.owners)]
            seeds = [None if w is None else boxing.box(w) for w in self.weights]
            self._bars = self.rules.pull(self.point, seeds, wanted, VJP)
        places = [i for i in self.call.arrays_of(p) if self.moving[i]]
        return [dense(self._bars[i], self.point.likes[i]) for i in places]

    def _probe(self, p: int, symmetric: bool, aligned: bool) -> _Probe:
        """Choose directions and weights, and let the rules by a parameter say what the derivative is.

        Aligned ones point where a rule says that the outputs change most, so that terms do not cancel each other.
        """
        pulling, pushing = self.rules.source(VJP, p), self.rules.source(JVP, p)
        places = [i for i in self.call.arrays_of(p) if self.moving[i]]
        directions: list[Any] = [None] * len(self.arrays)
        for i in places:
            directions[i] = direction_at(self.random, self.arrays[i], symmetric)
        weights, slopes = self.weights, list[tuple[WrittenRule, float, float]]()
        if pulling is not None:
            bars = self._pulled(p)
            if aligned and not symmetric:
                directions = self._aligned(directions, dict(zip(places, bars)))
        directions = [None if d is None else np.asarray(d, a.dtype) for d, a in zip(directions, self.arrays)]
        if pulling is not None:
            slopes.append((pulling, *inner(bars, [directions[i] for i in places])))
        if pushing is not None:
            pushed = self.rules.push(self.point, [None if d is None else boxing.box(d) for d in directions], JVP)
            dots = {j: dense(pushed[j], out) for j, out in enumerate(self.outs) if weights[j] is not None}
            if aligned and pulling is None:
                weights = self._aligned(weights, dots)
            slopes.append((pushing, *inner([weights[j] for j in dots], list(dots.values()))))
        return _Probe(directions, weights, slopes)

    def _aligned(self, vectors: Sequence[Any], others: dict[int, Any]) -> list[Any]:
        return [aligned_with(others[i], v) if i in others else v for i, v in enumerate(vectors)]

    def check_adjoint(self, p: int, symmetric: bool = False) -> None:
        """Demand that the two rules, if there are two, are each other's transpose."""
        if self.rules.source(VJP, p) is None or self.rules.source(JVP, p) is None:
            return None
        (pulling, back, one), (pushing, forth, other) = self._probe(p, symmetric, aligned=True).slopes
        if not abs(back - forth) <= self._precision(p).slack * max(one, other):
            if not symmetric and self._has_symmetric(p):
                return self.check_adjoint(p, symmetric=True)
            raise WrongRuleError(
                f"{pulling} and {pushing} contradict each other by {self.call.parameters.names[p]}: for random w and "
                f"v, <J'w, v> is {back:.10g} by the vjp and <w, Jv> is {forth:.10g} by the jvp. One of them is wrong, "
                "or both are"
            )
        return None

    def _has_symmetric(self, p: int) -> bool:
        return any(is_symmetric(self.arrays[i]) for i in self.call.arrays_of(p) if self.moving[i])

    # ------------------------------------------------------------------ what the forward says

    def _precision(self, p: int) -> Precision:
        moving = [self.arrays[i] for i in self.call.arrays_of(p) if self.moving[i]]
        return Precision([*moving, *[out for out, w in zip(self.outs, self.weights) if w is not None]])

    def fault(self, p: int, symmetric: bool = False, aligned: bool = True) -> str | bool | None:
        """Compare the rules with a difference along one direction: None if they agree, False if there is no telling."""
        if symmetric and not self._has_symmetric(p):
            return False
        probe = self._probe(p, symmetric, aligned)
        rules, slopes, scales = zip(*probe.slopes)

        def noise() -> float:
            return noise_between(self.outs, self.forward(self.call, self.arrays), probe.weights)

        def weighted(t: float) -> np.ndarray:
            moved = [a if d is None else np.asarray(a + t * d, a.dtype) for a, d in zip(self.arrays, probe.directions)]
            return weighted_sum(self.forward(self.call, moved), self.outs, probe.weights)

        verdict = judged(slopes, scales, weighted, noise, self._precision(p))
        if not isinstance(verdict, Fault):
            return verdict
        return self._described(p, rules[verdict.which], slopes[verdict.which], verdict.value, verdict.error)

    def _described(self, p: int, rule: WrittenRule, slope: float, value: float, error: float) -> str:
        return (
            f"{rule} is wrong by {self.call.parameters.names[p]}: along a random direction the derivative of the "
            f"randomly weighted output is {slope:.10g} by the rule, and {value:.10g} (give or take {error:.2g}) by "
            "differences of the forward. If the rule is right all the same, say wg.primitive(check=False)"
        )


def check_batching(
    rule: WrittenRule, forward: Forward, call: Call, args: Sequence[Any], axes: Sequence[Any], outs: Sequence[Any]
) -> None:
    """Check what a batching rule returned against the forward for one of the examples, the last.

    Raises:
        WrongRuleError: they differ.
    """
    size = next(arg.shape[axis] for arg, axis in zip(args, axes) if axis is not None)
    if not size:
        return
    structure = call.out_structure
    one = [_raw(example(arg, axis, size - 1)) for arg, axis in zip(args, axes)]
    expected = forward(call, one)
    paths = structure.paths("out")
    if call.out_structure != structure:
        found, call.out_structure = call.out_structure, structure
        raise WrongRuleError(f"{rule} returns results nested as {structure!r}, but the forward returns {found!r}")
    for out, y, path in zip(outs, expected, paths):
        got = np.asarray(_raw(out))[size - 1]
        if got.shape != y.shape:
            raise WrongRuleError(f"{rule}: for one example, {path} has shape {got.shape}, by the forward {y.shape}")
        slack = 0.0
        if y.dtype.kind in "fc":
            slack = Precision([y, got]).slack
        distance = np.abs(np.subtract(got, y, dtype=np.result_type(got, y, np.float64)))
        largest = float(np.abs(y).max(initial=0.0, where=np.isfinite(y)))
        sound = (distance <= slack * largest) | (got == y) | (np.isnan(got) & np.isnan(y))
        if not sound.all():
            place = np.unravel_index(int(np.argmin(sound)), y.shape)
            raise WrongRuleError(
                f"{rule} is wrong: for the last of {size} examples, {path}{[int(n) for n in place] or ''} is "
                f"{got[place]!r}, and {y[place]!r} by the forward"
            )


def _raw(value: Any) -> Any:
    return boxing.data_of(value) if isinstance(value, boxing.Tensor) else value


__all__ = ["check_batching", "check_rules", "is_rule_checking", "set_rule_checking", "unnoticed"]
