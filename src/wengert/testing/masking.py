"""Checks at the points that no random draw meets: declared values at kinks and poles, and exact zeros against NaN.

A masked-out element contributes exactly zero, even where its local derivative is infinite or NaN; a NaN that a
cotangent other than zero reaches still surfaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend
from ..core.primitive import BILINEAR, ELEMENTWISE, REDUCTION, Primitive
from ..declare.reduction import kept_shape
from ..declare.residuals import rule_caller
from .checks import place, random_for
from .numeric import demand_close, rounding
from .recording import Recorded, callable_of, compute, dense, filled, plain, push
from .samples import Case

POISONS = (np.inf, -np.inf, np.nan)
ROUNDED = 4
"""Units in the last place that a declared number, typed as a decimal, may be away."""


def special(record: Any) -> None:
    """At declared points the value and every partial are as declared, in every mode; NaN only equals a declared NaN."""
    for point in record.special or ():
        for dtype in (np.float64, np.float32):
            case, partials = _case_at(record, point, np.dtype(dtype))
            where = place(record, case)
            demand_declared(where, "the value", compute(record, case.arrays, case.params)[0], point.out, dtype)
            for i, partial in enumerate(partials):
                if partial is not None and case.moves[i]:
                    _demand_partial(record, case, i, partial)


def _case_at(record: Any, point: Any, dtype: Any) -> tuple[Case, Sequence[Any]]:
    """Return a call at a special point, and the declared partials of each argument.

    The coordinates are the arguments of an elementwise operation or a composite; those of a reduction are the entries
    of its one argument.
    """
    if getattr(record, "kind", "") == REDUCTION:
        params = {**record.samples[0].params, "axis": (0,), "keepdims": False}
        return Case(f"{point!r}", [np.array(point.point, dtype)], params, (True,), 0.0), (point.partials,)
    fixed = getattr(record, "fixed", ())
    names = getattr(record, "arguments", ("",) * len(point.point))
    arrays = [
        np.array([coordinate], bool if name in fixed and isinstance(coordinate, bool) else dtype)
        for name, coordinate in zip(names, point.point)
    ]
    return Case(f"{point!r} in {dtype}", arrays, {}, tuple(name not in fixed for name in names), 0.0), point.partials


def _demand_partial(record: Any, case: Case, argument: int, declared: Any) -> None:
    where = place(record, case)
    recorded = Recorded(callable_of(record), case, (argument,))
    if not recorded.outs or recorded.node is None:
        raise AssertionError(f"{where}: partials are declared, but the call was not recorded")
    seeds = [np.ones(y.shape, y.dtype) for y in recorded.data]
    boxed_seeds = [plain(w) for w in seeds]
    found = {
        "by the sweep": recorded.pull(seeds),
        "by the masked sweep": recorded.pull(seeds, masked=True),
        "by the differentiable sweep": recorded.pull_tracked(boxed_seeds),
        "by the differentiable masked sweep": recorded.pull_tracked(boxed_seeds, masked=True),
    }
    for how, bars in found.items():
        bar = filled(dense(bars), case)[argument]
        demand_declared(where, f"the partial by argument {argument} {how}", bar, declared, bar.dtype)
    if not isinstance(record, Primitive):
        return
    x = case.arrays[argument]
    declared_entries = np.broadcast_to(np.asarray(declared, x.dtype), x.shape)
    for entry in np.ndindex(x.shape):
        direction = np.zeros_like(x)
        direction[entry] = 1
        directions = [direction if i == argument else None for i in range(len(case.arrays))]
        (y_dot,) = push(record, case, directions, only=argument)
        what = f"the partial by argument {argument} by the jvp rule"
        demand_declared(where, what, y_dot.reshape(-1)[0], declared_entries[entry], y_dot.dtype)


def demand_declared(where: str, what: str, got: Any, declared: Any, dtype: Any) -> None:
    """Demand a declared value: infinities and zeros exactly, NaN where NaN is declared, decimals to their rounding."""
    got = np.asarray(got)
    declared = np.broadcast_to(np.asarray(declared, dtype), got.shape)
    both_nan = np.isnan(got) & np.isnan(declared)
    eps = float(np.finfo(dtype).eps)
    tolerance = ROUNDED * eps * np.abs(np.where(np.isfinite(declared), declared, 0))
    demand_close(where, what, np.where(both_nan, 0, got), np.where(both_nan, 0, declared), tolerance)


def masked(primitive: Primitive, case: Case) -> None:
    """An exactly zero cotangent wins over residuals that are infinite or NaN; any other cotangent shows the NaN."""
    if primitive.kind == ELEMENTWISE:
        _masked_elementwise(primitive, case)
    elif primitive.kind == REDUCTION:
        _masked_reduction(primitive, case)
    elif primitive.kind == BILINEAR:
        _masked_bilinear(primitive, case)
    else:
        _masked_whole(primitive, case)


def _poisoned(saved: tuple[Any, ...], names: Sequence[str], entries: dict[str, Any], poison: float) -> tuple[Any, ...]:
    """Return what a Node saved with one entry of each named floating residual replaced."""
    replaced = []
    for name, value in zip(names, saved):
        if name in entries and getattr(value, "dtype", None) is not None and value.dtype.kind == "f":
            value = np.array(value)
            value[entries[name]] = poison
        replaced.append(value)
    return tuple(replaced)


def _masked_pulls(recorded: Recorded, w: Any) -> list[tuple[str, list[Any]]]:
    node: Any = recorded.node
    primitive = node.primitive
    return [
        ("the masked pull", dense(primitive.pull_masked(node, w))),
        ("the differentiable masked pull", dense(primitive.pull_tracked(node, plain(w), True))),
    ]


def _masked_whole(primitive: Primitive, case: Case) -> None:
    """Demand what can be asked of any rule: nothing but zeros comes of nothing but zeros, whatever the residuals."""
    where = place(primitive, case)
    recorded = Recorded(primitive.call, case)
    node: Any = recorded.node
    if node is None:
        return
    zero_seeds = [None if w is None else np.zeros_like(w) for w in recorded.seeds(random_for(primitive, case))]
    kept = node.saved
    for poison in POISONS:
        node.saved = tuple([_filled_with(poison, value) for value in kept])
        for how, bars in (
            ("the masked sweep", recorded.pull(zero_seeds, masked=True)),
            ("the differentiable masked sweep", recorded.pull_tracked([_boxed(w) for w in zero_seeds], masked=True)),
        ):
            for i, bar in enumerate(filled(dense(bars), case)):
                if bar is not None:
                    what = f"{how} for argument {i} with {poison} behind zero cotangents"
                    demand_close(where, what, bar, np.zeros_like(bar), 0)
    node.saved = kept


def _filled_with(poison: float, value: Any) -> Any:
    return np.full_like(value, poison) if getattr(value, "dtype", np.dtype(bool)).kind == "f" else value


def _boxed(value: Any) -> Any:
    return None if value is None else plain(value)


def _masked_elementwise(primitive: Primitive, case: Case) -> None:
    outs = compute(primitive, case.arrays, case.params)
    shape = outs[0].shape
    if outs[0].size < 2 or any(np.shape(a) not in ((), shape) for a in case.arrays):
        return
    entry = np.unravel_index(outs[0].size // 2, shape)
    where = place(primitive, case)
    for argument in case.moving:
        if case.arrays[argument].shape != shape:
            continue
        recorded = Recorded(primitive.call, case, (argument,))
        node: Any = recorded.node
        if node is None:
            return
        (w,) = recorded.seeds(random_for(primitive, case))
        clean, kept = dense(primitive.pull(node, w))[argument], node.saved
        entries = {n: entry for n, v in zip(primitive.residuals, kept) if getattr(v, "shape", None) == shape}
        for poison in POISONS:
            node.saved = _poisoned(kept, primitive.residuals, entries, poison)
            hidden = w.copy()
            hidden[entry] = 0
            expected = clean.copy()
            expected[entry] = 0
            limit = rounding(expected.dtype, np.abs(expected))
            limit[entry] = 0
            for how, bars in _masked_pulls(recorded, hidden):
                what = f"{how} of argument {argument} with {poison} behind a zero cotangent"
                demand_close(where, what, bars[argument], expected, limit)
            surfacing = _surfacing(primitive, node.saved, argument, entry)
            if surfacing:
                for how, bars in _masked_pulls(recorded, w):
                    if not np.isnan(bars[argument][entry]):
                        raise AssertionError(f"{where}: {how} of argument {argument} hides a NaN from a true cotangent")
        node.saved = kept


def _surfacing(primitive: Primitive, saved: tuple[Any, ...], argument: int, entry: Any) -> bool:
    """Return whether the partial itself is NaN at the poisoned entry."""
    partial = primitive.partial_rules[argument]
    if partial.constant is not None:
        return False
    local = np.asarray(partial.of(backend.numpy, saved))
    return bool(np.isnan(local[entry])) if local.ndim else False


def _masked_reduction(primitive: Primitive, case: Case) -> None:
    (x,) = case.arrays
    recorded = Recorded(primitive.call, case)
    node: Any = recorded.node
    if not x.size or node is None:
        return
    axis, where = case.params["axis"], place(primitive, case)
    (w,) = recorded.seeds(random_for(primitive, case))
    clean, kept = dense(primitive.pull(node, w))[0], node.saved
    entry = (0,) * x.ndim
    slab = tuple(slice(None) if i in axis else 0 for i in range(x.ndim))
    out_entry = (0,) * w.ndim
    expected = np.array(clean)
    expected[slab] = 0
    limit = np.array(rounding(expected.dtype, np.abs(expected)))
    limit[slab] = 0
    hidden = w.copy()
    hidden[out_entry] = 0
    for poison in POISONS:
        node.saved = _poisoned(kept, primitive.residuals, {"x": entry, "out": out_entry}, poison)
        for how, bars in _masked_pulls(recorded, hidden):
            demand_close(where, f"{how} with {poison} behind a zero cotangent", bars[0], expected, limit)
        infected = np.isnan(_partial_of_reduction(primitive, node, x.shape))
        for how, bars in _masked_pulls(recorded, w):
            if not np.isnan(bars[0][infected]).all():
                raise AssertionError(f"{where}: {how} hides a NaN from a true cotangent")
    node.saved = kept


def _partial_of_reduction(primitive: Primitive, node: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the local derivative by every element, unguarded."""
    saved = list(node.saved)
    if "out" in primitive.residuals:
        place_of_out = primitive.residuals.index("out")
        saved[place_of_out] = np.reshape(saved[place_of_out], kept_shape(shape, node.params["axis"]))
    partial = rule_caller(primitive, primitive.rules["partials"])(backend.numpy, None, tuple(saved), node.params)
    return np.broadcast_to(partial, shape)


def _masked_bilinear(primitive: Primitive, case: Case) -> None:
    where = place(primitive, case)
    if not all(a.size for a in case.arrays):
        return
    for argument in (0, 1):
        other = 1 - argument
        recorded = Recorded(primitive.call, case, (argument,))
        node: Any = recorded.node
        (w,) = recorded.seeds(random_for(primitive, case))
        kept, entry = node.saved, (0,) * case.arrays[other].ndim
        entries = {primitive.arguments[other]: entry}
        indicator = np.zeros_like(case.arrays[other])
        indicator[entry] = 1
        probe = [np.ones_like(case.arrays[argument])] * 2
        probe[other] = indicator
        reached = compute(primitive, probe, case.params)[0] != 0
        hidden = np.where(reached, 0, w)
        node.saved = _poisoned(kept, primitive.residuals, entries, 0.0)
        expected = dense(primitive.pull(node, hidden))[argument]
        limit = rounding(expected.dtype, np.abs(expected).max(initial=0.0) + 1)
        for poison in POISONS:
            node.saved = _poisoned(kept, primitive.residuals, entries, poison)
            for how, bars in _masked_pulls(recorded, hidden):
                what = f"{how} of argument {argument} with {poison} behind zero cotangents"
                demand_close(where, what, bars[argument], expected, limit)
            for how, bars in _masked_pulls(recorded, w):
                if reached.any() and np.isfinite(bars[argument]).all():
                    raise AssertionError(f"{where}: {how} of argument {argument} hides {poison} from a true cotangent")
        node.saved = kept


__all__ = ["masked", "special"]
