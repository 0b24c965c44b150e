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
from typing import Any

import numpy as np

from ..core import boxing
from ..core.differences import central_differences
from ..core.recording import observers, set_observers, set_recording
from ..errors import WrongRuleError
from .custom_batching import example
from .custom_calls import Call
from .custom_rules import Rules
from .written_rules import JVP, VJP, Point, WrittenRule

Forward = Callable[[Call, Sequence[Any]], tuple[Any, ...]]

_FIRST_STEP = {2: 2.0**-2, 4: 2.0**-4}
_TIGHTEST_STEP = 2.0**-6
_SLACK = {2: 3e-2}
_TIGHTEST_SLACK = 1e-3
"""How far a rule may be off, relative to what it sums over: far more than rounding, far less than a mistake."""
_DOUBT = 10.0
"""How many times its own estimate of its error a difference may be off, before a rule is suspected."""
_BLUR = 0.1
"""How large that may be, relative to what the rule sums over, for a difference to be a witness."""
_ROUNDINGS = 8
_NUDGE = 2.0**-6
_SMALLEST = 0.01
_INCOMMENSURABLE = 0.7320508

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
    and against a numerical derivative of its forward, which is called a few more times for it.

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


class _Inconclusive(Exception):
    """The forward cannot be differenced here: it draws random numbers, or changes the shape of its result."""


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
        faults += [base.fault(p, symmetric=True), base.fault(p)]
        if not nudged:
            nudged.append(base.nudged())
        if None in faults or nudged[0] is None:
            continue
        elsewhere = [nudged[0].fault(p), nudged[0].fault(p, symmetric=True)]
        if None not in elsewhere:
            here = next((f for f in faults if isinstance(f, str)), None)
            there = next((f for f in elsewhere if isinstance(f, str)), None)
            if here is not None and there is not None:
                raise WrongRuleError(here)


class _Trial:
    """Rules evaluated at one point, with one set of weights for the outputs."""

    def __init__(
        self, rules: Rules, forward: Forward, call: Call, arrays: Sequence[Any], moving: Sequence[bool], seed: int
    ) -> None:
        self.rules, self.forward, self.call, self.moving, self.seed = rules, forward, call, moving, seed
        self.arrays: list[Any] = [np.asarray(a) if isinstance(a, np.generic) else a for a in arrays]
        self.random = np.random.Generator(np.random.PCG64(1000 + seed))
        self.outs = forward(call, self.arrays)
        self.weights = [self._weight(out) for out in self.outs]
        tensors = [boxing.box(a) if hasattr(a, "dtype") else a for a in self.arrays]
        outs = [boxing.box(out) for out in self.outs]
        likes = [a if hasattr(a, "dtype") else None for a in self.arrays]
        self.point = Point(call, tensors, outs, likes, outs, tracked=False)
        self._bars: list[Any] | None = None

    def _weight(self, out: Any) -> Any:
        if out.dtype.kind not in "fc":
            return None
        weight = self.random.uniform(0.5, 1.5, out.shape) * self.random.choice((-1.0, 1.0), out.shape)
        if out.dtype.kind == "c":
            weight = weight * np.exp(1j * self.random.uniform(0, 6, out.shape))
        return np.asarray(np.where(np.isfinite(out), weight, 0), out.dtype)

    def nudged(self) -> _Trial | None:
        """Return a trial at a point close by; None if the forward cannot be evaluated there."""
        moved: list[Any] = [
            np.asarray(a + _NUDGE * self._direction(a, True), a.dtype) if m else a
            for a, m in zip(self.arrays, self.moving)
        ]
        try:
            return _Trial(self.rules, self.forward, self.call, moved, self.moving, self.seed + 1)
        except Exception:
            return None

    def _direction(self, array: Any, symmetric: bool) -> np.ndarray:
        """Return a random direction, as large as the array's own entries; of a symmetric matrix, a symmetric one."""
        size = np.abs(array).astype(np.float64)
        largest = float(size.max(initial=0.0, where=np.isfinite(size)))
        size = np.maximum(size, _SMALLEST * (largest or 1.0))
        direction = self.random.uniform(0.5, 1.5, array.shape) * self.random.choice((-1.0, 1.0), array.shape) * size
        if array.dtype.kind == "c":
            direction = direction * np.exp(1j * self.random.uniform(0, 6, array.shape))
        if symmetric and _is_symmetric(array):
            direction = (direction + np.swapaxes(direction, -1, -2)) / 2
        return np.where(np.isfinite(array), direction, 0.0)

    # ------------------------------------------------------------------ what the rules say

    def _pulled(self, p: int) -> list[Any]:
        """Return raw cotangents of a parameter's arrays by the written vjp rules, zeros written out."""
        if self._bars is None:
            wanted = [m and self.rules.source(VJP, q) is not None for m, q in zip(self.moving, self.call.owners)]
            seeds = [None if w is None else boxing.box(w) for w in self.weights]
            self._bars = self.rules.pull(self.point, seeds, wanted, VJP)
        places = [i for i in self.call.arrays_of(p) if self.moving[i]]
        return [_dense(self._bars[i], self.point.likes[i]) for i in places]

    def _slopes(self, p: int, directions: Sequence[Any]) -> Iterator[tuple[WrittenRule, float, float]]:
        """Yield (rule, the derivative of the weighted outputs along the directions, what it may be measured by)."""
        pulling, pushing = self.rules.source(VJP, p), self.rules.source(JVP, p)
        if pulling is not None:
            moves = [directions[i] for i in self.call.arrays_of(p) if self.moving[i]]
            yield pulling, *_inner(self._pulled(p), moves)
        if pushing is not None:
            dots: list[Any] = [None if d is None else boxing.box(d) for d in directions]
            pushed = self.rules.push(self.point, dots, JVP)
            live = [j for j, w in enumerate(self.weights) if w is not None]
            yield pushing, *_inner([self.weights[j] for j in live], [_dense(pushed[j], self.outs[j]) for j in live])

    def _directions(self, p: int, symmetric: bool = False) -> list[Any]:
        return [
            np.asarray(self._direction(a, symmetric), a.dtype) if m and q == p else None
            for a, m, q in zip(self.arrays, self.moving, self.call.owners)
        ]

    def check_adjoint(self, p: int, symmetric: bool = False) -> None:
        """Demand that the two rules, if there are two, are each other's transpose."""
        if self.rules.source(VJP, p) is None or self.rules.source(JVP, p) is None:
            return None
        (pulling, back, one), (pushing, forth, other) = self._slopes(p, self._directions(p, symmetric))
        if not abs(back - forth) <= self._slack(p) * max(one, other):
            if not symmetric and self._has_symmetric(p):
                return self.check_adjoint(p, symmetric=True)
            raise WrongRuleError(
                f"{pulling} and {pushing} contradict each other by {self.call.parameters.names[p]}: for random w and "
                f"v, <J'w, v> is {back:.10g} by the vjp and <w, Jv> is {forth:.10g} by the jvp. One of them is wrong, "
                "or both are"
            )
        return None

    def _has_symmetric(self, p: int) -> bool:
        return any(_is_symmetric(self.arrays[i]) for i in self.call.arrays_of(p) if self.moving[i])

    # ------------------------------------------------------------------ what the forward says

    def _slack(self, p: int) -> float:
        sizes = [self.arrays[i].dtype.itemsize for i in self.call.arrays_of(p) if self.moving[i]]
        sizes += [out.dtype.itemsize for out, w in zip(self.outs, self.weights) if w is not None]
        return _SLACK.get(min(sizes), _TIGHTEST_SLACK)

    def fault(self, p: int, symmetric: bool = False) -> str | bool | None:
        """Compare the rules with a difference along one direction: None if they agree, False if there is no telling."""
        if symmetric and not self._has_symmetric(p):
            return False
        directions = self._directions(p, symmetric)
        slopes = list(self._slopes(p, directions))
        sizes = [self.arrays[i].dtype.itemsize for i in self.call.arrays_of(p) if self.moving[i]]
        sizes += [out.dtype.itemsize for out, w in zip(self.outs, self.weights) if w is not None]
        step, slack = _FIRST_STEP.get(min(sizes), _TIGHTEST_STEP), self._slack(p)

        def agree(value: float, error: float) -> bool:
            return all(abs(slope - value) <= slack * max(scale, abs(value)) + error for _, slope, scale in slopes)

        def certain(value: float, error: float) -> bool:
            return error <= slack * max([abs(value), *[scale for _, _, scale in slopes]])

        try:
            noise = self._noise()
            estimates: list[tuple[float, float]] = []
            for width in (step, step * _INCOMMENSURABLE):
                value = error = np.nan
                for vector, doubt in central_differences(self._weighted(directions), width, noise):
                    value, error = float(vector[0]), float(doubt[0])
                    if certain(value, error) and agree(value, error):
                        return None
                if agree(value, _DOUBT * error):
                    return None if certain(value, error) else False
                estimates.append((value, error))
        except Exception:
            return False
        (value, error), (other, other_error) = estimates
        error = max(error, other_error, abs(value - other))
        if not certain(value, error * _DOUBT * slack / _BLUR) or value == other == 0.0:
            return False  # what does not move at all is rounded or quantised, on purpose or not
        for rule, slope, scale in slopes:
            if not abs(slope - value) <= slack * max(scale, abs(value)) + _DOUBT * error:
                return self._described(p, rule, slope, value, error)
        return False

    def _described(self, p: int, rule: WrittenRule, slope: float, value: float, error: float) -> str:
        return (
            f"{rule} is wrong by {self.call.parameters.names[p]}: along a random direction the derivative of the "
            f"randomly weighted output is {slope:.10g} by the rule, and {value:.10g} (give or take {error:.2g}) by "
            "differences of the forward. If the rule is right all the same, say wg.primitive(check=False)"
        )

    def _noise(self) -> float:
        """Return how far off the weighted outputs may be; refuse a forward that does not repeat itself."""
        again = self.forward(self.call, self.arrays)
        noise = 0.0
        for first, second, weight in zip(self.outs, again, self.weights, strict=True):
            if weight is None:
                continue
            if first.shape != second.shape:
                raise _Inconclusive
            known = weight != 0
            allowed = _ROUNDINGS * float(np.finfo(first.dtype).eps) * _norm(np.where(known, first, 0))
            if not _norm(np.where(known, first - second, 0)) <= allowed:
                raise _Inconclusive
            noise += allowed
        return noise

    def _weighted(self, directions: Sequence[Any]) -> Callable[[float], np.ndarray]:
        """Return the sum of the weighted outputs as a function of one number."""

        def weighted(t: float) -> np.ndarray:
            moved = [a if d is None else np.asarray(a + t * d, a.dtype) for a, d in zip(self.arrays, directions)]
            outs = self.forward(self.call, moved)
            total = 0.0
            for out, known, weight in zip(outs, self.outs, self.weights, strict=True):
                if weight is None:
                    continue
                if out.shape != known.shape:
                    raise _Inconclusive
                total += _inner([weight], [np.where(weight != 0, out, 0)])[0]
            return np.array([total])

        return weighted


def _norm(array: Any) -> float:
    return float(np.sqrt(np.sum(np.square(np.abs(array), dtype=np.float64))))


def _is_symmetric(array: Any) -> bool:
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] == 1:
        return False
    return bool(np.array_equal(array, np.conj(np.swapaxes(array, -1, -2))))


def _dense(bar: Any, like: Any) -> np.ndarray:
    return np.zeros(like.shape, like.dtype) if bar is None else np.asarray(boxing.data_of(bar))


def _inner(bars: Sequence[Any], moves: Sequence[Any]) -> tuple[float, float]:
    """Return (the real inner product, its size if nothing cancelled: the root of the sum of its squared terms)."""
    total = squares = 0.0
    for bar, move in zip(bars, moves):
        terms = np.real(np.conj(bar).astype(np.result_type(bar, np.float64)) * move)
        total += float(np.sum(terms))
        squares += float(np.sum(terms * terms))
    return total, squares**0.5


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
            slack = _SLACK.get(min(y.dtype.itemsize, got.dtype.itemsize), _TIGHTEST_SLACK)
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
