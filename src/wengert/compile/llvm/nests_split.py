"""Divides a nest along an outer axis where what it computes depends on the index: each part computes only what counts.

Gradients of slices, of concatenations and of gates are sums of terms that are each zero but in a part of an axis. As
one nest, every term would be computed everywhere. Parts are nests by themselves, with fewer terms and no conditions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..nests import Access, Counter, Nest, Phase, Range, Reduction, Store
from ..scalar_ir import BOOL, SIGNATURES, Scalar, apply, constant, rebuild, topological, with_operands
from .nests_lowered import operations_of, scalars_of

MOST_PARTS = 8
LONGEST = 1 << 20
"""Axes longer than this are not looked at index by index."""
WORTHWHILE = 0.7
"""Parts together must cost at most this share of the whole: each is compiled by itself."""
LEAST = 60
"""Operations that a nest must have for its division to be worth compiling."""


class Linear(NamedTuple):
    """An integer that is offset + stride * index along one axis (None: along none)."""

    axis: int | None
    stride: int
    offset: int


def parts_of(nest: Nest) -> list[Nest]:
    """Return nests that together do what a nest does; the nest itself where division does not pay."""
    whole = _cost(nest)
    if whole < LEAST * math.prod(nest.outer):
        return [nest]
    best, least = [nest], WORTHWHILE * whole
    ranges = [condition for phase in nest.phases for condition in _ranges(phase)]
    comparisons = [item for phase in nest.phases for item in _comparisons(phase).items()]
    for axis, extent in enumerate(nest.outer):
        edges = _edges(ranges, comparisons, axis, extent) if 1 < extent <= LONGEST else []
        if not 2 < len(edges) <= MOST_PARTS + 1:
            continue
        parts = [_part(nest, axis, low, high) for low, high in pairwise(edges)]
        cost = sum([_cost(part) for part in parts])
        if cost <= least:
            best, least = parts, cost
    return best


def _cost(nest: Nest) -> float:
    total = 0.0
    for phase in nest.phases:
        operations = sum([_operations(scalar) for scalar in topological(scalars_of(phase))])
        total += math.prod(phase.inner) * operations
    return total * math.prod(nest.outer)


def _operations(scalar: Scalar) -> int:
    if SIGNATURES[scalar.op].machine or scalar.dtype.kind != "f":
        return 1
    return operations_of(scalar.op, scalar.dtype)


def _edges(ranges: list[Range], comparisons: list[tuple[Scalar, Linear]], axis: int, extent: int) -> list[int]:
    """Return the indices at which a condition on the index alone changes, with 0 and the extent."""
    mine = [condition for condition in ranges if _only(condition) == axis]
    compared = [(scalar.op, difference) for scalar, difference in comparisons if difference.axis == axis]
    if not mine and not compared:
        return []
    index = np.arange(extent, dtype=np.int64)
    edges: set[int] = {0, extent}
    for condition in dict.fromkeys(mine):
        place = condition.offset + condition.strides[axis] * index
        edges.update(_changes((place >= 0) & (place < condition.extent)))
    for op, difference in dict.fromkeys(compared):
        edges.update(_changes(_holds(op, difference.offset + difference.stride * index)))
    return sorted(edges)


def _changes(truth: np.ndarray) -> list[int]:
    return (np.flatnonzero(truth[1:] != truth[:-1]) + 1).tolist()


def _holds(op: str, difference: np.ndarray) -> np.ndarray:
    if op == "less":
        return difference < 0
    if op == "less_equal":
        return difference <= 0
    return difference == 0 if op == "equal" else difference != 0


def _ranges(phase: Phase) -> Iterator[Range]:
    for source in phase.inputs.values():
        if isinstance(source, Access):
            yield from source.inside
    for store in phase.stores:
        yield from store.target.inside


def _only(condition: Range) -> int | None:
    """Return the axis that a condition depends on, if it is one."""
    axes = [axis for axis, stride in enumerate(condition.strides) if stride]
    return axes[0] if len(axes) == 1 else None


def _comparisons(phase: Phase) -> dict[Scalar, Linear]:
    """Return the comparisons that depend on an index alone, each with what is compared to zero."""
    known: dict[Scalar, Linear] = {}
    found: dict[Scalar, Linear] = {}
    for scalar in topological(scalars_of(phase)):
        operands = [known.get(operand) for operand in scalar.operands]
        if scalar.op == "input":
            source = phase.inputs.get(scalar.payload)
            if isinstance(source, Counter):
                known[scalar] = Linear(source.axis, 1, 0)
        elif scalar.op == "constant" and scalar.dtype.kind == "i":
            known[scalar] = Linear(None, 0, scalar.payload)
        elif scalar.op in ("add", "subtract") and operands[0] is not None and operands[1] is not None:
            total = _sum(operands[0], operands[1], 1 if scalar.op == "add" else -1)
            if total is not None:
                known[scalar] = total
        elif scalar.op in ("less", "less_equal", "equal", "not_equal"):
            if operands[0] is not None and operands[1] is not None:
                difference = _sum(operands[0], operands[1], -1)
                if difference is not None and difference.axis is not None:
                    found[scalar] = difference
    return found


def _sum(x: Linear, y: Linear, sign: int) -> Linear | None:
    if x.axis is not None and y.axis is not None and x.axis != y.axis:
        return None
    return Linear(x.axis if x.axis is not None else y.axis, x.stride + sign * y.stride, x.offset + sign * y.offset)


def _part(nest: Nest, axis: int, low: int, high: int) -> Nest:
    """Return the nest for the indices from `low` to `high`, between which no condition on them changes."""
    outer = (*nest.outer[:axis], high - low, *nest.outer[axis + 1 :])
    return nest._replace(outer=outer, phases=tuple([_part_of_phase(phase, axis, low) for phase in nest.phases]))


def _part_of_phase(phase: Phase, axis: int, low: int) -> Phase:
    accesses = {n: _shifted(s, axis, low) for n, s in phase.inputs.items() if isinstance(s, Access)}
    known = {
        comparison: bool(_holds(comparison.op, np.array(difference.offset + difference.stride * low)))
        for comparison, difference in _comparisons(phase).items()
        if difference.axis == axis
    }
    counters = {n: s for n, s in phase.inputs.items() if isinstance(s, Counter)}

    def change(scalar: Scalar, operands: tuple[Scalar, ...]) -> Scalar:
        if scalar in known:
            return constant(known[scalar], BOOL)
        if scalar.op == "input":
            source = phase.inputs.get(scalar.payload)
            if isinstance(source, Access) and accesses[scalar.payload] is None:
                return constant(source.fill, scalar.dtype)
            if isinstance(source, Counter) and source.axis == axis and low:
                return apply("add", scalar, low)
        return _folded(scalar, operands)

    wanted = list(scalars_of(phase))
    new = dict(zip(wanted, rebuild(wanted, change)))

    def access(given: Access) -> Access:
        return given._replace(picks=tuple([(new[pick], stride) for pick, stride in given.picks]))

    stores = []
    for store in phase.stores:
        target = _shifted(store.target, axis, low)
        if target is not None:
            stores.append(Store(access(target), new[store.scalar], store.add))
    reductions = tuple([Reduction(r.name, r.op, new[r.scalar]) for r in phase.reductions])
    inputs: dict[str, Access | Counter] = {n: access(a) for n, a in accesses.items() if a is not None}
    inputs.update(counters)
    return _used(Phase(phase.inner, inputs, tuple(stores), reductions))


def _shifted(access: Access, axis: int, low: int) -> Access | None:
    """Return an access whose indices along an axis begin at `low`; None where there is never an element."""
    inside: list[Range] = []
    for condition in access.inside:
        moved = condition._replace(offset=condition.offset + condition.strides[axis] * low)
        if _only(condition) != axis:
            inside.append(moved)
        elif not 0 <= moved.offset < moved.extent:
            return None
    return access._replace(offset=access.offset + access.strides[axis] * low, inside=tuple(inside))


def _folded(scalar: Scalar, operands: tuple[Scalar, ...]) -> Scalar:
    """Return an operation on new operands, without selections whose outcome is known."""
    if scalar.op == "where" and operands[0].op == "constant":
        return operands[1] if operands[0].payload else operands[2]
    if scalar.op in ("bitwise_and", "bitwise_or") and scalar.dtype == BOOL:
        decisive = scalar.op == "bitwise_or"
        for this, other in (operands, operands[::-1]):
            if this.op == "constant":
                return this if this.payload == decisive else other
    return with_operands(scalar, operands)


def _used(phase: Phase) -> Phase:
    """Return a phase without inputs that nothing depends on."""
    needed: set[str] = set()
    roots = [store.scalar for store in phase.stores] + [reduction.scalar for reduction in phase.reductions]
    roots += [pick for store in phase.stores for pick, _ in store.target.picks]
    while roots:
        names = {scalar.payload for scalar in topological(roots) if scalar.op == "input"} - needed
        needed |= names
        sources = [phase.inputs.get(name) for name in names]
        roots = [pick for source in sources if isinstance(source, Access) for pick, _ in source.picks]
    return phase._replace(inputs={name: source for name, source in phase.inputs.items() if name in needed})
