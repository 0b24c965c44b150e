"""Checks of values and derivatives: each takes a record and one call, and raises AssertionError naming what differs.

Forward against the reference; JVP against numbers; the adjoint identity; the same once more for the rule of the rule;
and dtypes. The checks of how rules behave (subsets, batching, layouts...) are in `structure`, those of special values
in `masking`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from ..core import boxing
from ..core.primitive import ELEMENTWISE, Primitive
from ..core.zeros import is_zero
from .numeric import ROUNDINGS, Estimate, along, condition, demand_close, derivative, flatten, noise, rounding
from .recording import (
    Recorded,
    as_tuple,
    callable_of,
    compute,
    dense,
    filled,
    forward_vector,
    inner,
    leaf,
    plain,
    pull_from,
    push,
    raw,
    tangents_of,
)
from .samples import Case, generator

EPS = np.finfo(np.float64).eps
ENOUGH = 0.75
"""The share of entries whose numerical derivative must be conclusive, or the sample is no good."""


def place(record: Any, case: Case) -> str:
    """Return the words that begin every message."""
    return f"{record.name} on {case}"


def random_for(record: Any, case: Case) -> np.random.Generator:
    """Return the random numbers of one operation on one call."""
    return generator(f"{record.name}{case.label}")


def precision(*groups: Sequence[Any]) -> Any:
    """Return the coarsest floating dtype among arrays."""
    dtypes = [np.asarray(a).dtype for group in groups for a in group if isinstance(a, (np.ndarray, np.generic))]
    floats: list[Any] = [d for d in dtypes if d.kind == "f"]
    return max(floats, key=lambda d: float(np.finfo(d).eps), default=np.dtype(float))


def resolve(reference: Any) -> Callable[..., Any]:
    """Return the independent implementation that a declaration names."""
    if callable(reference):
        return reference
    module, _, name = reference.rpartition(".")
    return getattr(importlib.import_module(module), name)


def forward(record: Any, case: Case) -> None:
    """The operation's value is the reference's, and the same through `impl`, on Tensors and on bare arrays."""
    where = place(record, case)
    outs = compute(record, case.arrays, case.params)
    for how, arguments in (("on Tensors", [plain(a) for a in case.arrays]), ("on arrays", case.arrays)):
        got = as_tuple(callable_of(record)(*arguments, **case.params))
        demand_same(where, f"the value {how}", [raw(y) for y in got], outs)
    if record.reference is None:
        return
    expected = as_tuple(resolve(record.reference)(*case.arrays, **case.params))
    if len(expected) != len(outs):
        raise AssertionError(f"{where}: the reference returns {len(expected)} results, the operation {len(outs)}")
    limits = split(condition(forward_vector(record, case), case.arrays, case.moves), outs)
    for y, z, limit in zip(outs, expected, limits):
        z = np.asarray(z)
        tolerance = rounding(precision([y]), limit) if y.dtype.kind == "f" else 0
        demand_close(where, "the value (against the reference)", y, z, tolerance)


def demand_same(where: str, what: str, got: Sequence[Any], expected: Sequence[Any]) -> None:
    """Demand the same shapes, dtypes and values, to the last bit."""
    for y, z in zip(got, expected, strict=True):
        y, z = np.asarray(y), np.asarray(z)
        if y.dtype != z.dtype:
            raise AssertionError(f"{where}: {what} has dtype {y.dtype} and not {z.dtype}")
        demand_close(where, what, y, z, 0)


def split(vector: np.ndarray, outs: Sequence[Any]) -> list[Any]:
    """Cut a vector of all floating results into pieces of their shapes (None for the other results)."""
    pieces: list[Any] = []
    start = 0
    for y in outs:
        size = y.size if y.dtype.kind in "fc" else 0
        pieces.append(vector[start : start + size].reshape(y.shape) if y.dtype.kind in "fc" else None)
        start += size
    return pieces


def numeric_push(record: Any, case: Case, directions: Sequence[Any]) -> Estimate:
    """Return the numerical derivative of all floating results along directions, as one vector."""
    vector = forward_vector(record, case)

    def moved(t: Any) -> np.ndarray:
        return vector(along(case.arrays, directions, t))

    dtype = precision(case.arrays, compute(record, case.arrays, case.params))
    uncertainty = noise(dtype, condition(vector, case.arrays, case.moves))
    return derivative(moved, case.step, noise=uncertainty, analytic=moved)


def demand_derivative(where: str, what: str, got: np.ndarray, estimate: Estimate, limit: Any) -> None:
    """Demand agreement with a numerical derivative where it is conclusive, and that it is so almost everywhere."""
    known = estimate.conclusive
    if known.size and known.mean() < ENOUGH:
        raise AssertionError(
            f"{where}: {what} cannot be judged: its numerical derivative is uncertain by {estimate.error.max():.3g}. "
            "Is the sample at a kink, a jump or a pole? Move its domain or interval away, or draw distinct entries"
        )
    demand_close(where, what, got, estimate.value, np.where(known, 4 * estimate.error + limit, np.inf))


def jvp(primitive: Primitive, case: Case) -> None:
    """The jvp rule agrees with the numerical derivative, all arguments moving together and one by one."""
    where, rng = place(primitive, case), random_for(primitive, case)
    directions = case.directions(rng)
    dots = push(primitive, case, directions)
    outs = compute(primitive, case.arrays, case.params)
    for y, y_dot in zip([y for y in outs if y.dtype.kind == "f"], dots):
        if y_dot.shape != y.shape or y_dot.dtype != y.dtype:
            raise AssertionError(
                f"{where}: the tangent is {y_dot.dtype} {y_dot.shape}, but the result is {y.dtype} {y.shape}"
            )
    limit = push_limit(primitive, case, directions)
    numeric = numeric_push(primitive, case, directions)
    demand_derivative(where, "the tangent (against differences)", flatten(dots), numeric, limit)
    if len(case.moving) > 1:
        total = sum(flatten(push(primitive, case, directions, only)) for only in case.moving)
        demand_close(where, "the sum of tangents, one argument moving at a time,", total, flatten(dots), limit)


def push_limit(primitive: Primitive, case: Case, directions: Sequence[Any], only: int | None = None) -> Any:
    """Return how far, entry by entry, two sound computations of a tangent may differ."""

    def vector(arrays: list[Any]) -> np.ndarray:
        return flatten(push(primitive, case.replaced(arrays, ""), directions, only))

    outs = compute(primitive, case.arrays, case.params)
    return rounding(precision(case.arrays, outs), condition(vector, case.arrays, case.moves))


def adjoint(record: Any, case: Case) -> None:
    """<w, J v> equals <J'w, v> for every argument, with J'w from a sweep of the tape and J v from the jvp rule.

    No difference is taken, so the identity holds to rounding. A composite has no jvp rule: there J v is numerical.
    """
    where, rng = place(record, case), random_for(record, case)
    recorded = Recorded(callable_of(record), case)
    directions, seeds = case.directions(rng), recorded.seeds(rng)
    if not isinstance(record, Primitive):
        return _adjoint_of_composite(record, recorded, directions, seeds)
    bars = dense(recorded.pull(seeds))
    weights = [w for w in seeds if w is not None]
    for i in case.moving:
        dots = push(record, case, directions, only=i)
        forwards, magnitude = inner(dots, weights)
        demand_like(where, f"the cotangent of argument {i}", bars[i], case.arrays[i])
        backwards, magnitude_back = inner([bars[i]], [directions[i]])
        terms = np.abs(flatten(weights)) @ push_limit(record, case, directions, only=i) if weights else 0.0
        tolerance = terms + rounding(precision(case.arrays, dots), magnitude + magnitude_back)
        what = f"<w, J v> for argument {i} (against <J'w, v>)"
        demand_close(where, what, forwards, backwards, tolerance)
    return None


def _adjoint_of_composite(record: Any, recorded: Recorded, directions: Sequence[Any], seeds: Sequence[Any]) -> None:
    case, where = recorded.case, place(record, recorded.case)
    weights = flatten([w for w in seeds if w is not None])
    bars = dense(recorded.pull(seeds))
    vector = forward_vector(record, case)
    terms = float(np.abs(weights) @ condition(vector, case.arrays, case.moves))
    uncertainty = noise(precision(case.arrays), terms)
    for i in case.moving:
        alone = [d if j == i else None for j, d in enumerate(directions)]

        def moved(t: Any, alone: Sequence[Any] = alone) -> np.ndarray:
            return np.atleast_1d(vector(along(case.arrays, alone, t)) @ weights)

        numeric = derivative(moved, case.step, noise=uncertainty, analytic=moved)
        backwards, magnitude = inner([bars[i]], [directions[i]])
        limit = rounding(precision(case.arrays), magnitude + terms + float(np.abs(numeric.value).sum()))
        what = f"the gradient of argument {i} along a direction"
        demand_derivative(where, what, np.atleast_1d(backwards), numeric, limit)


def second_order(record: Any, case: Case) -> None:
    """g(x, w) = <J(x)'w, v>, from a differentiable sweep, has the right derivative: dg/dx by numbers, dg/dw = J v.

    The seed w is tracked, so a rule that forgets what its cotangent depends on shows. A primitive's dg/dx is also
    compared, to rounding, with the reverse sweep over its jvp rule.
    """
    where, rng = place(record, case), random_for(record, case)
    recorded = Recorded(callable_of(record), case)
    if recorded.node is None:
        return
    directions, seeds = case.directions(rng), recorded.seeds(rng)
    seed_tensors = [None if w is None else leaf(w) for w in seeds]
    bars = recorded.pull_tracked(seed_tensors)
    curved = dense(pull_from(bars, directions, [*recorded.leaves, *seed_tensors]))
    x_bars, w_bars = curved[: len(case.arrays)], curved[len(case.arrays) :]
    limit = _pull_limit(record, case, seeds, directions)
    x_bars = filled(x_bars, case)
    moves = case.directions(rng)
    along_moves, magnitude = inner(x_bars, moves)

    def moved(t: Any) -> np.ndarray:
        return np.atleast_1d(_pulled(record, case.replaced(along(case.arrays, moves, t), ""), seeds, directions))

    numeric = derivative(moved, case.step, noise=limit / ROUNDINGS)
    dtype = precision(case.arrays, recorded.data)
    tolerance = limit + rounding(dtype, magnitude)
    demand_derivative(where, "the second derivative along a direction", np.atleast_1d(along_moves), numeric, tolerance)
    if isinstance(record, Primitive):
        _second_order_against_jvp(record, case, directions, seeds, x_bars, w_bars)


def _pulled(record: Any, case: Case, seeds: Sequence[Any], directions: Sequence[Any]) -> float:
    return inner(dense(Recorded(callable_of(record), case).pull(seeds)), directions)[0]


def _pull_limit(record: Any, case: Case, seeds: Sequence[Any], directions: Sequence[Any]) -> Any:
    def vector(arrays: list[Any]) -> np.ndarray:
        return np.atleast_1d(_pulled(record, case.replaced(arrays, ""), seeds, directions))

    return rounding(
        precision(case.arrays, [w for w in seeds if w is not None]), condition(vector, case.arrays, case.moves)
    )


def _second_order_against_jvp(
    primitive: Primitive,
    case: Case,
    directions: Sequence[Any],
    seeds: Sequence[Any],
    x_bars: Sequence[Any],
    w_bars: Sequence[Any],
) -> None:
    where = place(primitive, case)
    dots = push(primitive, case, directions)
    limits = split(push_limit(primitive, case, directions), dots)
    floating = [(w, w_bar) for w, w_bar in zip(seeds, w_bars) if w is not None]
    for y_dot, (w, w_bar), limit in zip(dots, floating, limits):
        got = np.zeros(w.shape) if w_bar is None else w_bar
        demand_close(where, "the derivative of J'w by w along v (against J v)", got, y_dot, limit)
    tensors = [leaf(a) if moves else plain(a) for a, moves in zip(case.arrays, case.moves)]
    tangents = tuple([plain(t) for t in tangents_of(case, directions)])
    out, out_dot = primitive.jvp(boxing.operations, tuple(tensors), tangents, case.params)
    outs = as_tuple(out)
    out_dots = [None] * len(outs) if is_zero(out_dot) else [None if is_zero(d) else d for d in as_tuple(out_dot)]
    targets = [t if moves else None for t, moves in zip(tensors, case.moves)]
    over_forward = filled(dense(pull_from(out_dots, seeds, targets)), case)
    dtype = precision(case.arrays, dots)
    size = max([1.0, *[float(np.abs(bar).max(initial=0.0)) for bar in over_forward if bar is not None]])
    for i in case.moving:
        what = f"the second derivative by argument {i} (against reverse over jvp)"
        limit = rounding(dtype, size) + _curvature_limit(primitive, case, directions, seeds, i)
        demand_close(where, what, x_bars[i], over_forward[i], limit)


def _curvature_limit(
    primitive: Primitive, case: Case, directions: Sequence[Any], seeds: Sequence[Any], argument: int
) -> Any:
    """Return how far two sound computations of a second derivative may differ, from its answer to relative changes."""

    def vector(arrays: list[Any]) -> np.ndarray:
        moved = case.replaced(arrays, "")
        recorded = Recorded(primitive.call, moved)
        bars = recorded.pull_tracked([None if w is None else plain(w) for w in seeds])
        curved = filled(dense(pull_from(bars, directions, recorded.leaves)), moved)
        return flatten([curved[argument]])

    limit = condition(vector, case.arrays, case.moves)
    return rounding(precision(case.arrays), limit.max(initial=0.0))


def dtypes(record: Any, case: Case) -> None:
    """Gradients have their inputs' shapes and dtypes, tangents their results'; lower precision agrees with float64."""
    moving = [case.arrays[i] for i in case.moving]
    if not moving:
        return
    mixtures: list[tuple[Any, ...]] = [(np.float32,)]
    if len(moving) > 1:
        mixtures += [mix for mix in product((np.float32, np.float64), repeat=2) if mix[0] is not mix[1]]
    for mixture in mixtures:
        _dtypes_of(record, case.cast(*mixture))
    if isinstance(record, Primitive) and record.kind == ELEMENTWISE:
        half = case.cast(np.float16)
        got = [raw(y) for y in as_tuple(record.call(*[plain(a) for a in half.arrays]))]
        _demand_precise(place(record, half), "the value", got, record, half, forward_vector(record, half))


def _dtypes_of(record: Any, case: Case) -> None:
    where, rng = place(record, case), random_for(record, case)
    recorded = Recorded(callable_of(record), case)
    exact = case.cast(np.float64)
    _demand_precise(where, "the value", recorded.data, record, case, forward_vector(record, exact))
    floats = {a.dtype for a in case.arrays if isinstance(a, np.ndarray) and a.dtype.kind == "f"}
    uniform, joint = len(floats) == 1, np.result_type(*floats, *_promoting(record, case))
    for y in recorded.data:
        if uniform and y.dtype.kind == "f" and y.dtype != joint and "dtype" not in case.params:
            raise AssertionError(f"{where}: the result has dtype {y.dtype}, the arguments {joint}")
    if recorded.node is None:
        return
    seeds, directions = recorded.seeds(rng), case.directions(rng)
    for how, bars in (
        ("cotangent", dense(recorded.pull(seeds))),
        ("differentiable cotangent", dense(recorded.pull_tracked([None if w is None else plain(w) for w in seeds]))),
    ):
        for i in case.moving:
            demand_like(where, f"the {how} of argument {i}", bars[i], case.arrays[i])
    wide = [None if w is None else w.astype(np.float64) for w in seeds]
    got = filled(dense(recorded.pull(seeds)), case)
    expected = filled(dense(Recorded(callable_of(record), exact).pull(wide)), exact)
    dtype = precision(case.arrays, recorded.data)
    for i in case.moving:

        def vector(arrays: list[Any], i: int = i) -> np.ndarray:
            moved = exact.replaced(arrays[: len(exact.arrays)], "")
            bars = Recorded(callable_of(record), moved).pull(arrays[len(exact.arrays) :])
            return flatten([filled(dense(bars), moved)[i]])

        moves = [*exact.moves, *[w is not None for w in wide]]
        limit = rounding(dtype, condition(vector, [*exact.arrays, *wide], moves)).reshape(got[i].shape)
        what = f"the cotangent of argument {i} (against float64)"
        demand_close(where, what, got[i], expected[i], limit + rounding(dtype, np.abs(expected[i]).max(initial=0.0)))
    if isinstance(record, Primitive):
        for y, y_dot in zip([y for y in recorded.data if y.dtype.kind == "f"], push(record, case, directions)):
            demand_like(where, "the tangent", y_dot, y)


def _promoting(record: Any, case: Case) -> list[Any]:
    """Return the dtypes of integer arrays that an elementwise operation computes with; elsewhere they are indices."""
    if getattr(record, "kind", "") != ELEMENTWISE:
        return []
    return [a.dtype for a in case.arrays if isinstance(a, np.ndarray) and a.dtype.kind in "iu"]


def demand_like(where: str, what: str, bar: Any, value: Any) -> None:
    """Demand that a cotangent or tangent (if there is one) has its value's shape and dtype."""
    if bar is not None and (bar.shape != value.shape or bar.dtype != value.dtype):
        raise AssertionError(f"{where}: {what} is {bar.dtype} {bar.shape}, its value {value.dtype} {value.shape}")


def _demand_precise(
    where: str, what: str, got: Sequence[Any], record: Any, case: Case, vector: Callable[[list[Any]], np.ndarray]
) -> None:
    """Demand that results in low precision agree with float64 to what their precision and condition allow."""
    exact = case.cast(np.float64)
    expected = compute(record, exact.arrays, case.params)
    limits = split(condition(vector, exact.arrays, exact.moves), expected)
    for y, z, limit in zip(got, expected, limits, strict=True):
        if y.dtype.kind == "f":
            demand_close(where, f"{what} (against float64)", y, z, rounding(precision(case.arrays, [y]), limit))
        else:
            demand_close(where, f"{what} (against float64)", y, z, 0)


__all__ = ["adjoint", "dtypes", "forward", "jvp", "second_order"]
