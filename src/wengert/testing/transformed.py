"""Checks of operations through the public transforms, on tracers: what a composite, too, must stand.

The checks of rules call rules. Here an operation, or a plain function of operations, is handed to `wg.jvp`, `wg.vmap`,
`wg.linearize` and `wg.grad` and to these inside of each other, and compared with numbers, with a loop over the
examples, and with reverse mode over reverse mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import wengert as wg

from ..core.primitive import NONDIFFERENTIABLE, Primitive
from .checks import demand_derivative, demand_like, numeric_push, place, precision, push_limit, random_for
from .numeric import condition, demand_close, flatten, rounding
from .recording import as_tuple, callable_of, compute, floating, forward_vector, plain, push, raw
from .samples import Case
from .structure import EXTENT, axes_of, axis_patterns, rows_of, subsets_of

OUTER = 2
"""How many sets of examples a map over maps has."""


def call_of(record: Any, case: Case, arguments: Sequence[int]) -> Callable[..., tuple[Any, ...]]:
    """Return the call as a function of some of its arguments, which returns a tuple; the others are closed over."""
    call = callable_of(record)

    def partly(*given: Any) -> tuple[Any, ...]:
        values = [plain(a) for a in case.arrays]
        for i, value in zip(arguments, given):
            values[i] = value
        return as_tuple(call(*values, **case.params))

    partly.__name__ = record.name
    return partly


def curved_total(record: Any, case: Case, weights: Sequence[Any], arguments: Sequence[int]) -> Callable[..., Any]:
    """Return a scalar function of some of the call's arguments: a quadratic form of its floating results.

    It is curved where the operation itself is linear, so that second derivatives depend on every rule.
    """
    call = call_of(record, case, arguments)

    def total(*given: Any) -> Any:
        terms = [
            (y * (plain(w) + plain(w[..., ::-1] if w.ndim else w) * y)).sum()
            for w, y in zip(weights, call(*given))
            if w is not None
        ]
        out = terms[0]
        for term in terms[1:]:
            out = out + term
        return out

    total.__name__ = record.name
    return total


def weights_for(record: Any, case: Case, rng: np.random.Generator) -> list[Any]:
    """Return a random weight for every floating result, None for the others."""
    outs = compute(record, case.arrays, case.params)
    return [np.asarray(rng.uniform(-1, 1, y.shape), y.dtype) if y.dtype.kind == "f" else None for y in outs]


def has_derivative(record: Any, case: Case) -> bool:
    """Return whether there is anything to differentiate."""
    if not case.moving or getattr(record, "kind", "") == NONDIFFERENTIABLE:
        return False
    return bool(floating(compute(record, case.arrays, case.params)))


def at(case: Case, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the values at the positions of the arguments that move, as Tensors."""
    return tuple([plain(values[i]) for i in case.moving])


def pushed(record: Any, case: Case) -> None:
    """`wg.jvp` agrees with numbers, `wg.linearize` with `wg.jvp`; whichever arguments move, and in every dtype."""
    if not case.moving:
        return
    where, rng = place(record, case), random_for(record, case)
    directions = case.directions(rng)
    values = compute(record, case.arrays, case.params)
    whole = forward_vector(record, case)
    limit = rounding(precision(case.arrays, values), condition(whole, case.arrays, case.moves))
    if has_derivative(record, case):
        numeric = numeric_push(record, case, directions)
        tolerance = tangent_limit(record, case, directions)
    total: Any = 0.0
    for moving in subsets_of(case.moving):
        what = f"with arguments {moving} moving"
        primals = tuple([plain(case.arrays[i]) for i in moving])
        tangents = tuple([plain(directions[i]) for i in moving])
        call = call_of(record, case, moving)
        outs, dots = wg.jvp(call, primals, tangents)
        demand_close(where, f"the value by wg.jvp {what}", flatten(raws(outs)), whole(case.arrays), limit)
        for y, z, y_dot in zip(outs, values, dots, strict=True):
            demand_like(where, f"the value by wg.jvp {what}", y, z)
            if (y_dot is None) is not (z.dtype.kind != "f"):
                raise AssertionError(f"{where}: wg.jvp {what} returns {y_dot!r} as the tangent of a {z.dtype} result")
            demand_like(where, f"the tangent by wg.jvp {what}", y_dot, z)
        lines, line = wg.linearize(call, *primals)
        demand_close(where, f"the value by wg.linearize {what}", flatten(raws(lines)), whole(case.arrays), limit)
        if not has_derivative(record, case):
            continue
        again = line(*tangents)
        got = flatten(raws([d for d in dots if d is not None]))
        demand_close(where, f"wg.linearize {what} (against wg.jvp)", flatten(raws(again)), got, tolerance)
        if isinstance(record, Primitive) and len(moving) == 1:
            expected = flatten(push(record, case, directions, moving[0]))
            demand_close(where, f"wg.jvp {what} (against the rule)", got, expected, tolerance)
        if len(moving) == 1:
            total = total + got
        if moving == case.moving:
            demand_derivative(where, "the tangent by wg.jvp (against differences)", got, numeric, tolerance)
            demand_close(where, "the sum of tangents, one argument moving at a time,", total, got, tolerance)


def tangent_limit(record: Any, case: Case, directions: Sequence[Any]) -> Any:
    """Return how far two sound computations of a tangent may differ."""
    if isinstance(record, Primitive):
        return push_limit(record, case, directions)

    def vector(arrays: list[Any]) -> np.ndarray:
        moved = case.replaced(arrays, "")
        _, dots = wg.jvp(call_of(record, moved, case.moving), at(case, arrays), at(case, directions))
        return flatten(raws([d for d in dots if d is not None]))

    outs = compute(record, case.arrays, case.params)
    sizes = condition(vector, case.arrays, case.moves) + condition(
        forward_vector(record, case), case.arrays, case.moves
    )
    return rounding(precision(case.arrays, outs), sizes)


def raws(tensors: Sequence[Any]) -> list[Any]:
    """Return the raw arrays in Tensors."""
    return [np.asarray(raw(t)) for t in tensors]


def mapped(record: Any, case: Case) -> None:
    """`wg.vmap` over any of the arguments, along their first axes, last axes or a mixture, equals a loop of calls.

    So does a map over a map, with one argument mapped by both, or by either.
    """
    where, rng = place(record, case), random_for(record, case)
    rows = rows_of(case, rng)
    arrays = [i for i, a in enumerate(case.arrays) if isinstance(a, np.ndarray)]
    for chosen in subsets_of(arrays):
        calls = [[rows[b][i] if i in chosen else a for i, a in enumerate(case.arrays)] for b in range(EXTENT)]
        results = [compute(record, call, case.params) for call in calls]
        limit = value_limit(record, case, calls[0])
        for pattern in axis_patterns(len(chosen)):
            axes = axes_of(case, chosen, pattern)
            stacked = [
                plain(np.stack([call[i] for call in calls], axes[i])) if i in chosen else plain(case.arrays[i])
                for i in arrays
            ]
            call = call_of(record, case, arrays)
            outs = wg.vmap(call, in_axes=tuple([axes[i] for i in arrays]))(*stacked)
            what = f"wg.vmap along {axes}"
            demand_stacked(where, what, outs, results, (EXTENT,), limit)
    if arrays:
        mapped_twice(record, case, arrays, rng)


def mapped_twice(record: Any, case: Case, arrays: Sequence[int], rng: np.random.Generator) -> None:
    where = place(record, case)
    table = [rows_of(case, rng) for _ in range(OUTER)]
    call = call_of(record, case, arrays)
    for both in [tuple(arrays), *[(i,) for i in arrays if len(arrays) > 1]]:
        # The arguments in `both` differ in every cell; the others by rows or by columns in turn.
        kinds = ["both" if i in both else ("outer", "inner")[k % 2] for k, i in enumerate(arrays)]

        def cell(a: int, b: int, kinds: Sequence[str] = kinds) -> list[Any]:
            values = list(case.arrays)
            for kind, i in zip(kinds, arrays):
                values[i] = table[a if kind != "inner" else 0][b if kind != "outer" else 0][i]
            return values

        results = [compute(record, cell(a, b), case.params) for a in range(OUTER) for b in range(EXTENT)]
        given: list[Any] = []
        outer: list[Any] = []
        within: list[Any] = []
        for kind, i in zip(kinds, arrays):
            if kind == "both":
                grid = [np.stack([cell(a, b)[i] for a in range(OUTER)], -1) for b in range(EXTENT)]
                given.append(plain(np.stack(grid)))
            else:
                line = (
                    [cell(a, 0)[i] for a in range(OUTER)] if kind == "outer" else [cell(0, b)[i] for b in range(EXTENT)]
                )
                given.append(plain(np.stack(line)))
            outer.append({"both": -1, "outer": 0, "inner": None}[kind])
            within.append({"both": 0, "outer": None, "inner": 0}[kind])
        outs = wg.vmap(wg.vmap(call, in_axes=tuple(within)), in_axes=tuple(outer))(*given)
        limit = value_limit(record, case, cell(0, 0))
        demand_stacked(where, f"wg.vmap of wg.vmap, {kinds}", outs, results, (OUTER, EXTENT), limit)


def value_limit(record: Any, case: Case, arrays: Sequence[Any]) -> Any:
    """Return how far two sound computations of a value may differ, for the worst of all results."""
    sizes = condition(forward_vector(record, case), arrays, case.moves)
    outs = compute(record, arrays, case.params)
    return rounding(precision(arrays, outs), float(sizes[np.isfinite(sizes)].max(initial=0.0)))


def demand_stacked(
    where: str, what: str, outs: Sequence[Any], results: Sequence[Sequence[Any]], lead: tuple[int, ...], limit: Any
) -> None:
    """Demand what a loop over the examples would give, stacked."""
    for k, out in enumerate(outs):
        one = np.asarray(results[0][k])
        expected = np.stack([np.asarray(result[k]) for result in results]).reshape(*lead, *one.shape)
        demand_like(where, what, out, expected)
        demand_close(where, what, raw(out), expected, limit if expected.dtype.kind == "f" else 0)


def nested(record: Any, case: Case) -> None:
    """Second derivatives: every pair of modes gives what reverse mode over reverse mode gives."""
    if not has_derivative(record, case):
        return
    where, rng = place(record, case), random_for(record, case)
    weights, toward = weights_for(record, case, rng), case.directions(rng)
    expected = reverse_over_reverse(record, case, weights, toward)
    limit = curvature_limit(record, case, weights, toward)
    total = curved_total(record, case, weights, case.moving)
    primals, tangents = at(case, case.arrays), at(case, toward)
    gradient = wg.grad(total, argnums=tuple(range(len(primals))))
    slopes, curved = wg.jvp(gradient, primals, tangents)
    demand_close(where, "wg.jvp of wg.grad", flatten(raws(curved)), expected, limit)
    first = flatten(raws(gradient(*primals)))
    demand_close(where, "the value of wg.jvp of wg.grad", flatten(raws(slopes)), first, limit)
    line = wg.linearize(gradient, *primals)[1]
    demand_close(where, "wg.linearize of wg.grad", flatten(raws(line(*tangents))), expected, limit)

    def slope_along(*given: Any) -> Any:
        return wg.jvp(total, given, tangents)[1]

    over_forward = wg.grad(slope_along, argnums=tuple(range(len(primals))))(*primals)
    demand_close(where, "wg.grad of wg.jvp", flatten(raws(over_forward)), expected, limit)
    for x, bar in zip(primals, [*over_forward, *curved]):
        demand_like(where, "a second derivative", bar, x)
    other = case.directions(rng)

    def slope_along_other(*given: Any) -> Any:
        return wg.jvp(total, given, at(case, other))[1]

    twice = wg.jvp(slope_along_other, primals, tangents)[1]
    along_other = flatten([d for d in other if d is not None])
    tolerance = np.abs(along_other) @ np.broadcast_to(limit, along_other.shape)
    demand_close(where, "wg.jvp of wg.jvp", np.asarray(raw(twice)), along_other @ expected, tolerance)


def reverse_over_reverse(record: Any, case: Case, weights: Sequence[Any], toward: Sequence[Any]) -> np.ndarray:
    """Return the Hessian of the weighted results times a direction, by the tape alone."""
    total = curved_total(record, case, weights, case.moving)
    places = tuple(range(len(case.moving)))

    def slope_along(*given: Any) -> Any:
        bars = wg.grad(total, argnums=places)(*given)
        out = (bars[0] * at(case, toward)[0]).sum()
        for bar, direction in zip(bars[1:], at(case, toward)[1:]):
            out = out + (bar * direction).sum()
        return out

    return flatten(raws(wg.grad(slope_along, argnums=places)(*at(case, case.arrays))))


def curvature_limit(record: Any, case: Case, weights: Sequence[Any], toward: Sequence[Any]) -> Any:
    """Return how far two sound computations of a second derivative may differ."""

    def vector(arrays: list[Any]) -> np.ndarray:
        return reverse_over_reverse(record, case.replaced(arrays, ""), weights, toward)

    def first(arrays: list[Any]) -> np.ndarray:
        total = curved_total(record, case.replaced(arrays, ""), weights, case.moving)
        return flatten(raws(wg.grad(total, argnums=tuple(range(len(case.moving))))(*at(case, arrays))))

    sizes = condition(vector, case.arrays, case.moves).max(initial=0.0)
    sizes = sizes + condition(first, case.arrays, case.moves).max(initial=0.0)
    return rounding(precision(case.arrays, compute(record, case.arrays, case.params)), sizes)


def mapped_derivatives(record: Any, case: Case) -> None:
    """Derivatives under `wg.vmap`, and of it: what a loop over the examples gives.

    The examples differ in all arguments that move, and in each of them alone.
    """
    if not has_derivative(record, case):
        return
    where, rng = place(record, case), random_for(record, case)
    rows = rows_of(case, rng)
    weights, toward = weights_for(record, case, rng), case.directions(rng)
    everything = case.moving
    chosen_sets = [everything] if len(everything) == 1 else [everything, *[(i,) for i in everything]]
    total = curved_total(record, case, weights, everything)
    places = tuple(range(len(everything)))
    gradient = wg.grad(total, argnums=places)
    tangents = at(case, toward)
    for chosen in chosen_sets:
        calls = [
            case.replaced([rows[b][i] if i in chosen else a for i, a in enumerate(case.arrays)], "")
            for b in range(EXTENT)
        ]
        axes = tuple([0 if i in chosen else None for i in everything])
        stacked = tuple(
            [
                plain(np.stack([c.arrays[i] for c in calls])) if i in chosen else plain(case.arrays[i])
                for i in everything
            ]
        )
        what = f"with arguments {chosen} mapped"
        limit = max([float(np.max(curvature_limit(record, c, weights, toward), initial=0.0)) for c in calls[:1]])
        bars = [gradient(*at(c, c.arrays)) for c in calls]
        by_map = wg.vmap(gradient, in_axes=axes)(*stacked)
        demand_stacked(where, f"wg.vmap of wg.grad {what}", by_map, [raws(b) for b in bars], (EXTENT,), limit)

        def pushed_along(*given: Any) -> Any:
            return tuple([d for d in wg.jvp(call_of(record, case, everything), given, tangents)[1] if d is not None])

        dots = [raws(pushed_along(*at(c, c.arrays))) for c in calls]
        by_map = wg.vmap(pushed_along, in_axes=axes)(*stacked)
        demand_stacked(where, f"wg.vmap of wg.jvp {what}", by_map, dots, (EXTENT,), limit)

        def curved(*given: Any) -> Any:
            return wg.jvp(gradient, given, tangents)[1]

        products = [raws(curved(*at(c, c.arrays))) for c in calls]
        by_map = wg.vmap(curved, in_axes=axes)(*stacked)
        demand_stacked(where, f"wg.vmap of wg.jvp of wg.grad {what}", by_map, products, (EXTENT,), limit)
        many = wg.vmap(total, in_axes=axes)

        def sum_of_many(*given: Any, many: Callable[..., Any] = many) -> Any:
            return many(*given).sum()

        of_map = wg.grad(sum_of_many, argnums=places)(*stacked)
        for k, (i, bar) in enumerate(zip(everything, of_map)):
            rows_of_bars = np.stack([raws(b)[k] for b in bars])
            expected = rows_of_bars if i in chosen else rows_of_bars.sum(axis=0)
            demand_close(where, f"wg.grad of wg.vmap {what}", np.asarray(raw(bar)), expected, EXTENT * limit)
            demand_like(where, f"wg.grad of wg.vmap {what}", bar, stacked[k])
        moves = tuple(
            [plain(np.stack([np.asarray(raw(d))] * EXTENT)) if axis == 0 else d for axis, d in zip(axes, tangents)]
        )
        of_map = wg.jvp(wg.vmap(call_of(record, case, everything), in_axes=axes), stacked, moves)[1]
        of_map = [d for d in of_map if d is not None]
        demand_stacked(where, f"wg.jvp of wg.vmap {what}", of_map, dots, (EXTENT,), limit)


def lower_precision(record: Any, case: Case) -> None:
    """In float32 the transforms give the dtypes that the operation gives by itself, and agree with float64."""
    exact = case.cast(np.float64)
    narrow = case.cast(np.float32)
    where, rng = place(record, narrow), random_for(record, narrow)
    if not has_derivative(record, narrow):
        return
    directions = narrow.directions(rng)
    wide = [None if d is None else d.astype(np.float64) for d in directions]
    outs, dots = wg.jvp(call_of(record, narrow, case.moving), at(case, narrow.arrays), at(case, directions))
    expected = wg.jvp(call_of(record, exact, case.moving), at(case, exact.arrays), at(case, wide))[1]
    values = compute(record, narrow.arrays, narrow.params)

    def vector(arrays: list[Any]) -> np.ndarray:
        found = wg.jvp(call_of(record, exact.replaced(arrays, ""), case.moving), at(case, arrays), at(case, wide))[1]
        return flatten(raws([d for d in found if d is not None]))

    limit = rounding(np.float32, condition(vector, exact.arrays, exact.moves).max(initial=0.0))
    for y, z, y_dot, z_dot in zip(outs, values, dots, expected, strict=True):
        demand_like(where, "the value by wg.jvp", y, z)
        if y_dot is not None:
            demand_like(where, "the tangent by wg.jvp", y_dot, z)
            demand_close(where, "the tangent by wg.jvp (against float64)", raw(y_dot), raw(z_dot), limit)
    weights = weights_for(record, narrow, rng)
    total = curved_total(record, narrow, weights, case.moving)
    gradient = wg.grad(total, argnums=tuple(range(len(case.moving))))
    stacked = tuple([plain(np.stack([narrow.arrays[i]] * EXTENT)) for i in case.moving])
    for x, bar in zip(stacked, wg.vmap(gradient)(*stacked)):
        demand_like(where, "wg.vmap of wg.grad", bar, x)
    for x, bar in zip(at(case, narrow.arrays), wg.jvp(gradient, at(case, narrow.arrays), at(case, directions))[1]):
        demand_like(where, "wg.jvp of wg.grad", bar, x)


__all__ = ["lower_precision", "mapped", "mapped_derivatives", "nested", "pushed"]
