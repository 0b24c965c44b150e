"""Checks of how rules behave, whatever they compute: subsets of inputs, batching, layouts, residuals, modes, zeros."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from .. import backend
from ..core import boxing
from ..core.primitive import NONDIFFERENTIABLE, Primitive
from ..core.tape import Node
from ..core.zeros import NO_TANGENT, ZERO
from .checks import demand_like, demand_same, place, precision, random_for, split
from .numeric import condition, demand_close, rounding
from .recording import (
    Recorded,
    as_tuple,
    callable_of,
    compute,
    dense,
    filled,
    forward_vector,
    leaf,
    plain,
    push,
    raw,
    tangents_of,
)
from .samples import Case, emptied, from_sample, layouts

EXTENT = 3
"""How many calls are mapped at once when batching is checked."""
SUFFIXES = ("_shape", "_dtype")


def subsets_of(items: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield every subset that is not empty, the small ones first."""
    for count in range(1, len(items) + 1):
        yield from combinations(items, count)


def _demand_equal_bars(
    where: str, what: str, got: Sequence[Any], expected: Sequence[Any], recorded: Recorded, seeds: Sequence[Any]
) -> None:
    """Demand cotangents that two sound ways of computing the same may give (sums may run in another order)."""
    case = recorded.case
    largest = max([_largest(w) for w in seeds if w is not None], default=0.0)
    for i, (bar, other) in enumerate(zip(filled(got, case), filled(expected, case))):
        if bar is not None:
            limit = rounding(other.dtype, max(_largest(other), largest))
            demand_close(where, f"the cotangent of argument {i} {what}", bar, other, limit)


def _largest(array: Any) -> float:
    return float(np.abs(array).max(initial=0.0))


def subsets(record: Any, case: Case) -> None:
    """Whichever inputs are tracked, these get the cotangents that they get when all are, and the others get none."""
    where, rng = place(record, case), random_for(record, case)
    everything = Recorded(callable_of(record), case)
    seeds = everything.seeds(rng)
    expected = dense(everything.pull(seeds))
    for tracked in subsets_of(case.moving):
        for how, wrap in (("Tensors", plain), ("arrays", raw)):
            recorded = Recorded(callable_of(record), case, tracked, wrap)
            what = f"with {tracked} tracked and the others given as {how}"
            wanted = [bar if i in tracked else None for i, bar in enumerate(expected)]
            _demand_equal_bars(where, what, dense(recorded.pull(seeds)), wanted, recorded, seeds)
        _no_bars_for_untracked(record, recorded, seeds, where)


def _no_bars_for_untracked(record: Any, recorded: Recorded, seeds: Sequence[Any], where: str) -> None:
    node = recorded.node
    if node is None or node.primitive is not record:
        return
    for form, bars in (
        ("pull", node.primitive.pull(node, recorded.out_bar(seeds))),
        ("pull_masked", node.primitive.pull_masked(node, recorded.out_bar(seeds))),
        ("pull_tracked", node.primitive.pull_tracked(node, recorded.out_bar([_boxed(w) for w in seeds]), False)),
    ):
        if len(bars) != len(recorded.tensors):
            raise AssertionError(
                f"{where}: {form} returns {len(bars)} cotangents for {len(recorded.tensors)} arguments"
            )
        for i, bar in enumerate(bars):
            if bar is not None and i not in recorded.tracked:
                raise AssertionError(f"{where}: {form} computes a cotangent of argument {i}, which is not tracked")


def _boxed(value: Any) -> Any:
    return None if value is None else plain(value)


def modes(primitive: Primitive, case: Case) -> None:
    """The plain, masked and differentiable pulls agree; so do the jvp rule on arrays and on Tensors."""
    where, rng = place(primitive, case), random_for(primitive, case)
    recorded = Recorded(primitive.call, case)
    seeds, directions = recorded.seeds(rng), case.directions(rng)
    kept = [None if w is None else w.copy() for w in seeds]
    expected = dense(recorded.pull(seeds))
    boxed_seeds = [_boxed(w) for w in seeds]
    for what, bars in (
        ("by a masked sweep", recorded.pull(seeds, masked=True)),
        ("by a differentiable sweep", recorded.pull_tracked(boxed_seeds)),
        ("by a differentiable masked sweep", recorded.pull_tracked(boxed_seeds, masked=True)),
    ):
        _demand_equal_bars(where, what, dense(bars), expected, recorded, seeds)
    for w, before in zip(seeds, kept):
        if w is not None and before is not None and not np.array_equal(w, before):
            raise AssertionError(f"{where}: the reverse rule wrote into the cotangent that it was given")
    tangents = tangents_of(case, directions)
    boxed_primals = tuple([plain(a) for a in case.arrays])
    out, out_dot = primitive.jvp(boxing.operations, boxed_primals, tuple([plain(t) for t in tangents]), case.params)
    demand_same(where, "the value by the jvp rule on Tensors", _raws(out), compute(primitive, case.arrays, case.params))
    outs = [y for y in as_tuple(out) if y.dtype.kind == "f"]
    dots = [y_dot for y_dot, y in zip(as_tuple(out_dot), as_tuple(out)) if y.dtype.kind == "f"]
    for y, y_dot, z_dot in zip(outs, dots, push(primitive, case, directions)):
        got = np.zeros(y.shape) if y_dot is ZERO else raw(y_dot)
        limit = rounding(precision([raw(y)]), np.abs(z_dot).max(initial=0.0))
        demand_close(where, "the tangent by the jvp rule on Tensors", got, z_dot, limit)


def _raws(out: Any) -> list[Any]:
    return [raw(y) for y in as_tuple(out)]


def zeros(primitive: Primitive, case: Case) -> None:
    """Tangents that are zero by structure give a result that is; an operation without derivative gives none at all."""
    where = place(primitive, case)
    tangents = tuple([ZERO if moves else NO_TANGENT for moves in case.moves])
    expected = NO_TANGENT if primitive.kind == NONDIFFERENTIABLE else ZERO
    for xp, arguments in (
        (backend.numpy, tuple(case.arrays)),
        (boxing.operations, tuple([plain(a) for a in case.arrays])),
    ):
        _, out_dot = primitive.jvp(xp, arguments, tangents, case.params)
        for y_dot in as_tuple(out_dot):
            if y_dot is not expected:
                raise AssertionError(f"{where}: for zero tangents the jvp rule returns {y_dot!r} and not {expected!r}")
    if primitive.kind == NONDIFFERENTIABLE:
        tensors = [leaf(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else plain(a) for a in case.arrays]
        for y in as_tuple(primitive.call(*tensors, **case.params)):
            if y._node is not None:
                raise AssertionError(f"{where}: an operation without derivative was recorded")


def batch(primitive: Primitive, case: Case) -> None:
    """Mapped over any of its arguments, along their first axes, last axes or a mixture, it equals a loop of calls."""
    where, rng = place(primitive, case), random_for(primitive, case)
    rows = rows_of(case, rng)
    arrays = [i for i, a in enumerate(case.arrays) if isinstance(a, np.ndarray)]
    for mapped in subsets_of(arrays):
        calls = [[rows[b][i] if i in mapped else a for i, a in enumerate(case.arrays)] for b in range(EXTENT)]
        results = [compute(primitive, call, case.params) for call in calls]
        limits = condition(forward_vector(primitive, case), calls[0], case.moves)
        size = float(limits[np.isfinite(limits)].max(initial=0.0)) if limits.size else 0.0
        for pattern in axis_patterns(len(mapped)):
            axes = axes_of(case, mapped, pattern)
            args = tuple(
                [
                    plain(a if axis is None else np.stack([call[i] for call in calls], axis))
                    for i, (a, axis) in enumerate(zip(case.arrays, axes))
                ]
            )
            out, out_axis = primitive.batch(boxing.operations, args, axes, case.params)
            what = f"{where} mapped along {axes}"
            _demand_rows(what, as_tuple(out), as_tuple(out_axis), results, size)


def rows_of(case: Case, rng: np.random.Generator) -> list[list[Any]]:
    """Return several sets of arguments of the same shapes, drawn as the case was where a sample says how."""
    rows = []
    for _ in range(EXTENT):
        if case.sample is None:
            row = [rng.permutation(a.ravel()).reshape(a.shape) if _is_array(a) else a for a in case.arrays]
        else:
            row = from_sample(case.sample, rng)[0]
            same = [np.shape(new) == np.shape(old) for new, old in zip(row, case.arrays)]
            row = [new if fits else old for new, old, fits in zip(row, case.arrays, same)]
        rows.append(row)
    return rows


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def axis_patterns(count: int) -> list[tuple[int, ...]]:
    """Return ways to choose between first axes (0) and last ones (-1) for so many mapped arguments."""
    patterns = [(0,) * count, (-1,) * count]
    return [*patterns, tuple([-(i % 2) for i in range(count)])] if count > 1 else patterns


def axes_of(case: Case, mapped: Sequence[int], pattern: Sequence[int]) -> tuple[Any, ...]:
    """Return the mapped axis of every argument, None for those that are not mapped."""
    axes: list[Any] = [None] * len(case.arrays)
    for i, where in zip(mapped, pattern):
        axes[i] = 0 if where == 0 else case.arrays[i].ndim
    return tuple(axes)


def _demand_rows(
    where: str, outs: tuple[Any, ...], out_axes: tuple[Any, ...], results: Sequence[tuple[Any, ...]], size: float
) -> None:
    if len(out_axes) != len(outs) or len(outs) != len(results[0]):
        raise AssertionError(
            f"{where}: batching returns {len(outs)} results and {len(out_axes)} axes, for {len(results[0])} results"
        )
    for k, (out, axis) in enumerate(zip(outs, out_axes)):
        expected = np.stack([result[k] for result in results])
        got = raw(out)
        if axis is None:
            got = np.broadcast_to(got, expected.shape)
        elif not 0 <= axis < got.ndim:
            raise AssertionError(
                f"{where}: batching says that the mapped axis of a result of shape {got.shape} is {axis}"
            )
        else:
            got = np.moveaxis(got, axis, 0)
        if got.dtype != expected.dtype:
            raise AssertionError(f"{where}: the batched result has dtype {got.dtype} and not {expected.dtype}")
        demand_close(where, "the batched result", got, expected, rounding(precision([got]), size) if size else 0)


def memory(record: Any, case: Case) -> None:
    """Values, tangents and cotangents don't depend on how arguments and cotangents lie in memory, nor write to it."""
    arrays = [list(layouts(a)) if _is_array(a) and a.size else [] for a in case.arrays]
    names = {name: None for options in arrays for name, _ in options}
    for name in names:
        chosen: list[Any] = [dict(options).get(name, a) for options, a in zip(arrays, case.arrays)]
        odd = case.replaced(chosen, name)
        plain_case = case.replaced(
            [np.ascontiguousarray(a).reshape(a.shape) if _is_array(a) else a for a in chosen], name
        )
        _same_in_memory(record, odd, plain_case)


def _same_in_memory(record: Any, odd: Case, ordinary: Case) -> None:
    where, rng = place(record, odd), random_for(record, odd)
    before = [a.copy() if _is_array(a) else a for a in odd.arrays]
    got, expected = Recorded(callable_of(record), odd), Recorded(callable_of(record), ordinary)
    sizes = split(condition(forward_vector(record, ordinary), ordinary.arrays, ordinary.moves), expected.data)
    for y, z, size in zip(got.data, expected.data, sizes):
        demand_close(where, "the value", y, z, rounding(precision([y]), size) if y.dtype.kind == "f" else 0)
    seeds = expected.seeds(rng)
    if expected.node is not None:
        wanted = dense(expected.pull(seeds))
        _demand_equal_bars(where, "", dense(got.pull(seeds)), wanted, got, seeds)
        for name, odd_seeds in _odd_seeds(seeds):
            _demand_equal_bars(
                where, f"for an out_bar {name}", dense(expected.pull(odd_seeds)), wanted, expected, seeds
            )
        shared: list[Any] = [None if w is None else np.broadcast_to(w.dtype.type(0.75), w.shape) for w in seeds]
        level: list[Any] = [None if w is None else w.copy() for w in shared]
        wanted = dense(expected.pull(level))
        _demand_equal_bars(
            where, "for an out_bar with stride zero", dense(expected.pull(shared)), wanted, expected, level
        )
    if isinstance(record, Primitive) and record.kind != NONDIFFERENTIABLE:
        directions = ordinary.directions(rng)
        for y_dot, z_dot in zip(push(record, odd, directions), push(record, ordinary, directions)):
            limit = rounding(precision([z_dot]), np.abs(z_dot).max(initial=0.0))
            demand_close(where, "the tangent", y_dot, z_dot, limit)
    for i, (a, copy) in enumerate(zip(odd.arrays, before)):
        if _is_array(a) and a.tobytes() != copy.tobytes():
            raise AssertionError(f"{where}: argument {i} was written to")


def _odd_seeds(seeds: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    options = [dict(layouts(w)) if w is not None else {} for w in seeds]
    for name in ("in Fortran order", "with negative strides", "read-only"):
        if any(name in option for option in options):
            yield name, [option.get(name, w) for option, w in zip(options, seeds)]


def empty(record: Any, case: Case) -> None:
    """Where a call with an extent of zero has a value, it has cotangents and tangents, of the right shapes."""
    for hollow in emptied(case):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                compute(record, hollow.arrays, hollow.params)
            except Exception:
                continue
            where, rng = place(record, hollow), random_for(record, hollow)
            recorded = Recorded(callable_of(record), hollow)
            if recorded.node is not None:
                bars = recorded.pull(recorded.seeds(rng))
                for i, bar in enumerate(dense(bars)):
                    demand_like(where, f"the cotangent of argument {i}", bar, hollow.arrays[i])
            if isinstance(record, Primitive) and record.kind != NONDIFFERENTIABLE:
                outs = [y for y in recorded.data if y.dtype.kind == "f"]
                for y, y_dot in zip(outs, push(record, hollow, hollow.directions(rng))):
                    demand_like(where, "the tangent", y_dot, y)


def residuals(primitive: Primitive, case: Case) -> None:
    """The tape keeps what the rules of tracked inputs name, as it was, and keeps nothing else alive."""
    where, rng = place(primitive, case), random_for(primitive, case)
    earlier = case.replaced([a.copy() if _is_array(a) else a for a in case.arrays], "")
    for tracked in subsets_of(case.moving):
        Recorded(primitive.call, earlier, tracked)  # nothing of an earlier call may show up in a later one
        recorded = Recorded(primitive.call, case, tracked)
        node = recorded.node
        if node is None:
            return
        if node.primitive is not primitive or len(node.saved) != len(primitive.residuals):
            raise AssertionError(
                f"{where}: the tape keeps {len(node.saved)} values, but {primitive.name} declares {primitive.residuals}"
            )
        seeds = recorded.seeds(rng)
        for slot, (name, value) in enumerate(zip(primitive.residuals, node.saved)):
            if value is not None and not name.endswith(SUFFIXES):
                _demand_as_it_was(primitive, recorded, name, value, where)
                if not _is_needed(primitive, recorded, seeds, slot):
                    raise AssertionError(f"{where}: with {tracked} tracked, the tape keeps {name!r} that no rule needs")
    if case.moving:
        _demand_nothing_else_alive(primitive, case, where)


def _demand_as_it_was(primitive: Primitive, recorded: Recorded, name: str, value: Any, where: str) -> None:
    if name == "out":
        expected, got = recorded.data, as_tuple(value)
    elif primitive.variadic:
        expected, got = [raw(t) for t in recorded.tensors], value
    else:
        expected, got = [raw(recorded.tensors[primitive.arguments.index(name)])], (value,)
    if len(expected) != len(got) or not all(_is_the_same(a, b) for a, b in zip(got, expected)):
        raise AssertionError(f"{where}: what the tape keeps under {name!r} is not this call's {name}")


def _is_the_same(kept: Any, value: Any) -> bool:
    """Return whether a kept array is this very memory, not just equal to it; numbers can only be equal."""
    if _is_array(kept) and _is_array(value) and kept.size:
        return kept.shape == value.shape and np.may_share_memory(kept, value)
    return np.array_equal(kept, value)


def _is_needed(primitive: Primitive, recorded: Recorded, seeds: Sequence[Any], slot: int) -> bool:
    """Return whether some pull fails or changes when a residual is taken away."""
    node: Any = recorded.node
    kept = node.saved
    expected = dense(primitive.pull(node, recorded.out_bar(seeds)))
    boxed_seeds = [_boxed(w) for w in seeds]
    try:
        node.saved = (*kept[:slot], None, *kept[slot + 1 :])
        return not (
            _same_bars(primitive.pull(node, recorded.out_bar(seeds)), expected)
            and _same_bars(primitive.pull_tracked(node, recorded.out_bar(boxed_seeds), False), expected)
        )
    except Exception:
        return True
    finally:
        node.saved = kept


def _same_bars(bars: Sequence[Any], expected: Sequence[Any]) -> bool:
    pairs = zip(dense(bars), expected)
    return all(bar is other or np.array_equal(np.asarray(bar, float), np.asarray(other, float)) for bar, other in pairs)


def _demand_nothing_else_alive(primitive: Primitive, case: Case, where: str) -> None:
    node, kept_alive = _only_the_node(primitive, case)
    saved = [v for value in node.saved for v in as_tuple(value) if isinstance(v, np.ndarray)]
    for name, reference in kept_alive:
        array = reference()
        if array is not None and not any(np.may_share_memory(array, value) for value in saved):
            raise AssertionError(f"{where}: the tape keeps {name} alive, although no residual says so")


def _only_the_node(primitive: Primitive, case: Case) -> tuple[Node, list[tuple[str, Any]]]:
    fresh = case.replaced([a.copy() if _is_array(a) else a for a in case.arrays], "")
    recorded = Recorded(primitive.call, fresh)
    arrays = [(f"argument {i}", a) for i, a in enumerate(fresh.arrays)]
    arrays += [(f"result {i}", y) for i, y in enumerate(recorded.data)]
    node: Any = recorded.node
    return node, [(name, weakref.ref(a)) for name, a in arrays if _is_array(a) and a.size]


__all__ = [
    "EXTENT",
    "axes_of",
    "axis_patterns",
    "batch",
    "empty",
    "memory",
    "modes",
    "residuals",
    "rows_of",
    "subsets",
    "subsets_of",
    "zeros",
]
