"""A nest before it is laid out: tidy strides, Scalars at machine level, and the axes that each of them varies along."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Container, Iterator
from functools import cache
from typing import NamedTuple

from ..nests import Access, Counter, Nest, Phase, Range, Reduction, Store
from ..scalar_ir import (
    SIGNATURES,
    DType,
    KernelError,
    Scalar,
    ScalarFunction,
    apply,
    input_scalar,
    rebuild,
    topological,
    with_operands,
)
from ..scalar_math import ANYWHERE, FAST_RANGES, IMPLEMENTATIONS, lower

INLINED = 400
"""Operations of functions of mathematics that a phase may have before those used again and again become calls."""
CALLED = 10
"""Functions of fewer operations than this are cheaper than a call."""


class Guard(NamedTuple):
    """A function whose quick form holds only under a condition; elsewhere its careful form takes over."""

    op: str
    operand: Scalar
    condition: Scalar


class Lowered(NamedTuple):
    """A phase whose Scalars are at machine level.

    Attributes:
        order: all Scalars, operands first; picks before the inputs that they place.
        axes: for each Scalar, the set of axes that it varies along, as bits.
        memory: Scalars that must not be computed before the phase begins, for what they read may be written until then.
    """

    phase: Phase
    guards: dict[Scalar, Guard]
    order: tuple[Scalar, ...]
    axes: dict[Scalar, int]
    memory: frozenset[Scalar]


def normalised(nest: Nest) -> Nest:
    """Return the nest with an outer axis to lay lanes along, and no strides along axes of extent 1."""
    add_axis = nest.lanes == "outer" and not nest.outer
    outer = (1,) if add_axis else nest.outer

    def strides(given: tuple[int, ...], extents: tuple[int, ...]) -> tuple[int, ...]:
        given = (0, *given) if add_axis else given
        return tuple([stride if extent > 1 else 0 for stride, extent in zip(given, extents, strict=True)])

    def access(given: Access, extents: tuple[int, ...]) -> Access:
        inside = tuple([Range(r.offset, strides(r.strides, extents), r.extent) for r in given.inside])
        return given._replace(strides=strides(given.strides, extents), inside=inside)

    phases = []
    for phase in nest.phases:
        extents = (*outer, *phase.inner)
        inputs = {
            name: Counter(source.axis + add_axis) if isinstance(source, Counter) else access(source, extents)
            for name, source in phase.inputs.items()
        }
        stores = tuple([store._replace(target=access(store.target, extents)) for store in phase.stores])
        phases.append(phase._replace(inputs=inputs, stores=stores))
    return nest._replace(outer=outer, phases=tuple(phases))


def lowered_phase(nest: Nest, phase: Phase, written: set[int], outer_lanes: bool) -> Lowered:
    """Bring a phase's Scalars down to machine level, and find what each varies along."""
    guards: dict[Scalar, Guard] = {}
    wanted = list(scalars_of(phase))
    apart = _called(wanted)

    def change(scalar: Scalar, operands: tuple[Scalar, ...]) -> Scalar:
        if SIGNATURES[scalar.op].machine or (scalar.op, scalar.dtype) in apart:
            return with_operands(scalar, operands)
        if scalar.dtype.kind == "i" and scalar.op not in ("maximum", "minimum"):
            raise KernelError(f"{scalar.op}: not available on integers in a kernel")
        result = IMPLEMENTATIONS[scalar.op](*operands)
        if scalar.op in ANYWHERE:
            guards[result] = Guard(scalar.op, operands[0], FAST_RANGES[scalar.op](*operands))
        return result

    new = dict(zip(wanted, rebuild(wanted, change)))

    def access(given: Access) -> Access:
        return given._replace(picks=tuple([(new[pick], stride) for pick, stride in given.picks]))

    inputs = {name: s if isinstance(s, Counter) else access(s) for name, s in phase.inputs.items()}
    stores = tuple([Store(access(store.target), new[store.scalar], store.add) for store in phase.stores])
    reductions = tuple([Reduction(r.name, r.op, new[r.scalar]) for r in phase.reductions])
    changed = Phase(phase.inner, inputs, stores, reductions)
    return _analysed(nest, changed, guards, written, outer_lanes)


def _called(wanted: list[Scalar]) -> set[tuple[str, DType]]:
    """Return the functions that become calls, for they occur so often that their copies would take long to compile."""
    tally = Tally(
        [(s.op, s.dtype) for s in topological(wanted) if not SIGNATURES[s.op].machine and s.dtype.kind == "f"]
    )
    cost = {function: operations_of(*function) for function in tally}
    if sum([cost[function] * count for function, count in tally.items()]) <= INLINED:
        return set()
    return {function for function, count in tally.items() if count >= 3 and cost[function] >= CALLED}


@cache
def operations_of(op: str, dtype: DType) -> int:
    """Return how many machine operations a function of mathematics is."""
    function = ScalarFunction(op, (), (apply(op, *[input_scalar(name, dtype) for name in SIGNATURES[op].operands]),))
    return len(topological(lower(function)[0].outputs))


def cost_of(lowered: Lowered) -> int:
    """Return how many operations a phase comes to, those of called functions included."""
    called = [operations_of(s.op, s.dtype) for s in lowered.order if not SIGNATURES[s.op].machine]
    return len(lowered.order) + sum(called)


def scalars_of(phase: Phase) -> Iterator[Scalar]:
    """Yield every Scalar that a phase stores, reduces, or takes a place from."""
    for store in phase.stores:
        yield store.scalar
        yield from [pick for pick, _ in store.target.picks]
    yield from [reduction.scalar for reduction in phase.reductions]
    for source in phase.inputs.values():
        if isinstance(source, Access):
            yield from [pick for pick, _ in source.picks]


def _analysed(nest: Nest, phase: Phase, guards: dict[Scalar, Guard], written: set[int], outer_lanes: bool) -> Lowered:
    axes: dict[Scalar, int] = {}
    memory: set[Scalar] = set()
    lane_bit = 1 << (len(nest.outer) - 1) if outer_lanes else 0
    every_outer = (1 << len(nest.outer)) - 1

    def of_input(scalar: Scalar) -> int:
        source = phase.inputs.get(scalar.payload)
        if source is None:  # a reduction of an earlier phase
            memory.add(scalar)
            return every_outer
        if isinstance(source, Counter):
            return 1 << source.axis
        for pick, _ in source.picks:
            visit(pick)
        scratch = nest.operands[source.operand].scratch > 0
        if scratch or source.operand in written or any([pick in memory for pick, _ in source.picks]):
            memory.add(scalar)
        return access_axes(source, axes) | (lane_bit if scratch else 0)

    def visit(root: Scalar) -> None:
        for scalar in _unknown(root, axes):
            bits = 0
            for operand in scalar.operands:
                bits |= axes[operand]
                if operand in memory:
                    memory.add(scalar)
            if scalar.op == "input":
                bits = of_input(scalar)
            elif scalar in guards:
                visit(guards[scalar].condition)
            axes[scalar] = bits

    for scalar in scalars_of(phase):
        visit(scalar)
    return Lowered(phase, guards, tuple(axes), axes, frozenset(memory))


def _unknown(root: Scalar, known: Container[Scalar]) -> Iterator[Scalar]:
    """Yield every Scalar that a root needs and that is not known, operands first; what is yielded must become known."""
    stack = [root]
    while stack:
        scalar = stack[-1]
        missing = [operand for operand in scalar.operands if operand not in known]
        if missing:
            stack.extend(reversed(missing))
        elif stack.pop() not in known:
            yield scalar


def access_axes(access: Access, axes: dict[Scalar, int]) -> int:
    """Return the set of axes, as bits, that an access varies along."""
    bits = 0
    for strides in (access.strides, *[condition.strides for condition in access.inside]):
        for axis, stride in enumerate(strides):
            if stride:
                bits |= 1 << axis
    for pick, _ in access.picks:
        bits |= axes[pick]
    return bits
