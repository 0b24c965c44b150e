"""Decides how a loop nest becomes vector code: lanes, blocks, unrolling, and which loops each value varies in."""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Container, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from ..nests import Access, Counter, Nest, Phase, Range, Reduction, Store
from ..scalar_ir import (
    BOOL,
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
from .machine import Machine

SMALL, MIDDLE = 24, 64
"""Bodies of at most so many operations are unrolled fourfold, and twofold."""
STRAIGHT = 160
"""An axis of lanes needs no loop where all of its vectors together take at most so many operations."""
MOST_VECTORS = 8
SHARED_TAIL = 96
"""From so many operations on, whole and ragged vectors share one body, with a mask known at run time."""


INLINED = 400
"""Operations of functions of mathematics that a phase may have before those used again and again become calls."""
CALLED = 10
"""Functions of fewer operations than this are cheaper than a call."""
TILE = 16
"""Rows that a tile has along the axis on which an access is dense that jumps along the lanes."""
LINE = 64
"""Bytes of a line of the cache."""
UNIT, WORTH_DIVIDING, FEWEST_UNITS = 600.0, 20_000.0, 32
"""Cycles that a unit had better have; cycles from which on, and units into which, a kernel is worth dividing."""
OPERATIONS_PER_CYCLE, BYTES_PER_CYCLE = 2.5, 12.0
"""Measured on kernels that are bound by arithmetic, and by memory."""
DEEP = 200
"""Bodies of more operations hide their latency from the processor's look-ahead: vectors are doubled instead."""


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


class Steps(NamedTuple):
    """How a phase's last inner axis is walked: `full` steps of `step`, then a rest.

    Attributes:
        vectors, rows: whole vectors (rows) that a step consists of.
        rest: vectors (rows) after the last full step.
        ragged: lanes of one more vector, at the end; 0 for none.
        shared: the ragged vector is a last step like the others, with a mask.
    """

    step: int
    full: int
    unroll: int
    rest: int
    ragged: int
    shared: bool = False


class Plan(NamedTuple):
    """How a nest is laid out.

    Attributes:
        lanes: elements of a vector; 1: everything is computed on single numbers.
        lane_axis: for lanes along an outer axis, its number; None otherwise.
        block: outer indices that a unit takes along the lane axis.
        blocks: how many blocks there are along that axis, a ragged one included.
        ragged: elements of the last block if it is not a whole one, else 0.
        shared: ragged blocks run the same code as whole ones, under a mask.
        extents: of the outer axes, counted in blocks along the lane axis.
        within: how many of the last outer axes a unit walks by itself.
        tiled: an outer axis that units walk in tiles of TILE; None for none.
    """

    nest: Nest
    machine: Machine
    phases: tuple[Lowered, ...]
    lanes: int
    lane_axis: int | None
    block: int
    blocks: int
    ragged: int
    shared: bool
    extents: tuple[int, ...]
    within: int = 0
    tiled: int | None = None

    @property
    def unit_extents(self) -> tuple[int, ...]:
        """Along each outer axis, how many places of units there are."""
        extents = [*self.extents[: len(self.extents) - self.within], *[min(e, 1) for e in self.inner_extents]]
        if self.tiled is not None:
            extents[self.tiled] = _whole_up(extents[self.tiled], TILE)
        return tuple(extents)

    @property
    def inner_extents(self) -> tuple[int, ...]:
        """Extents of the outer axes that a unit walks by itself."""
        return self.extents[len(self.extents) - self.within :]

    @property
    def units(self) -> int:
        """How many units of work there are."""
        return math.prod(self.unit_extents)


def plan_nest(nest: Nest, machine: Machine) -> Plan:
    """Lay out a nest for a machine."""
    nest = _normalised(nest)
    written = {store.target.operand for phase in nest.phases for store in phase.stores}
    outer_lanes = nest.lanes == "outer"
    phases = tuple([_lowered(nest, phase, written, outer_lanes) for phase in nest.phases])
    if outer_lanes:
        extent = nest.outer[-1]
    else:
        extent = max([phase.inner[-1] for phase in nest.phases if phase.inner], default=1)
    lanes = _dominant_lanes(nest, phases, machine)
    if extent > lanes and max([cost_of(lowered) for lowered in phases], default=0) > DEEP:
        lanes *= 2
    lanes = min(lanes, _power_above(extent))
    if not outer_lanes or lanes == 1:
        plan = Plan(nest, machine, phases, lanes, None, 1, 1, 0, False, nest.outer)
        return plan._replace(within=_axes_within(plan))
    operations = sum([cost_of(lowered) for lowered in phases])
    vectors = _whole_up(extent, lanes)
    shared = masked_cheaply(machine) and operations > SHARED_TAIL and extent % lanes > 0 and vectors > 1
    tiled = _tiled_axis(nest)
    unroll = 1 if shared or tiled is not None else min(vectors, _unrolling(operations))
    block = lanes * unroll
    blocks = _whole_up(extent, block)
    extents = (*nest.outer[:-1], blocks)
    ragged = extent % block
    plan = Plan(nest, machine, phases, lanes, len(nest.outer) - 1, block, blocks, ragged, shared, extents, 0, tiled)
    return plan if tiled is not None else plan._replace(within=_axes_within(plan))


def _axes_within(plan: Plan) -> int:
    """Return how many outer axes a unit walks: enough to hide what a unit costs, but leaving units to divide."""
    cycles, units = _cycles_of_unit(plan), math.prod(plan.extents)
    divided = cycles * units > WORTH_DIVIDING
    count = 0
    for extent in reversed(plan.extents):
        if units <= 1 or cycles >= UNIT or (divided and units // extent < FEWEST_UNITS):
            break
        count, cycles, units = count + 1, cycles * extent, units // extent
    return count


def _cycles_of_unit(plan: Plan) -> float:
    """Estimate what the phases take for one outer index, or one block of them."""
    cycles = 0.0
    for lowered in plan.phases:
        inner = lowered.phase.inner
        count = math.prod(inner)
        moved = count * plan.block * sum([_size(plan.nest, access) for access in accesses_of(lowered.phase)])
        if plan.lane_axis is not None:
            count *= plan.block // plan.lanes
        elif inner and inner[-1]:
            count = count // inner[-1] * _whole_up(inner[-1], plan.lanes)
        cycles += max((count + 1) * cost_of(lowered) / OPERATIONS_PER_CYCLE, moved / BYTES_PER_CYCLE)
    return cycles


def _size(nest: Nest, access: Access) -> int:
    operand = nest.operands[access.operand]
    return 0 if operand.scratch else operand.dtype.itemsize


def accesses_of(phase: Phase) -> list[Access]:
    """Return everything that a phase loads and stores."""
    loads = [source for source in phase.inputs.values() if isinstance(source, Access)]
    return [*loads, *[store.target for store in phase.stores]]


def _tiled_axis(nest: Nest) -> int | None:
    """Return the outer axis along which an access is dense that jumps along the lane axis."""
    lane = len(nest.outer) - 1
    if nest.outer[lane] <= TILE // 2:
        return None
    for phase in nest.phases:
        for access in accesses_of(phase):
            size = nest.operands[access.operand].dtype.itemsize
            for axis in range(lane):
                dense = 0 < abs(access.strides[axis]) * size <= LINE // 4
                if dense and nest.outer[axis] > 1 and abs(access.strides[lane]) * size >= LINE:
                    return axis
    return None


def steps_of(plan: Plan, lowered: Lowered) -> Steps:
    """Return how a phase's last inner axis is walked."""
    extent = lowered.phase.inner[-1]
    operations = cost_of(lowered)
    if plan.nest.lanes == "inner":
        lanes = plan.lanes
        vectors, ragged = divmod(extent, lanes)
        total = vectors + (ragged > 0)
        if total <= 1 or (total <= MOST_VECTORS and total * operations <= STRAIGHT):
            return Steps(vectors * lanes, min(vectors, 1), max(vectors, 1), 0, ragged)
        if ragged and operations > SHARED_TAIL and masked_cheaply(plan.machine):
            return Steps(lanes, total, 1, 0, ragged, shared=True)
        unroll = min(vectors, _unrolling(operations))
        full, rest = divmod(vectors, unroll)
        return Steps(unroll * lanes, full, unroll, rest, ragged)
    unroll = 1
    if lowered.phase.reductions and operations * plan.block // plan.lanes <= SMALL:
        unroll = max(1, min(4 * plan.lanes // plan.block, extent))
    full, rest = divmod(extent, unroll)
    return Steps(unroll, full, unroll, rest, 0)


def masked_cheaply(machine: Machine) -> bool:
    """Whether loads and stores under a mask that is known at run time are instructions, not branches for each lane."""
    return machine.masks or machine.vector_bytes >= 32


def _unrolling(operations: int) -> int:
    return 4 if operations <= SMALL else 2 if operations <= MIDDLE else 1


def _whole_up(x: int, y: int) -> int:
    return -(-x // y)


def _power_above(x: int) -> int:
    return 1 << max(x - 1, 0).bit_length()


def _dominant_lanes(nest: Nest, phases: Sequence[Lowered], machine: Machine) -> int:
    """Return the lanes of the type that most of the work is on."""
    tally = Tally([scalar.dtype for lowered in phases for scalar in lowered.order if scalar.dtype != BOOL])
    for operand in nest.operands:
        tally[operand.dtype] += 1
    del tally[BOOL]
    sizes = Tally({4: 0, 8: 0})
    for dtype, count in tally.items():
        sizes[dtype.itemsize] += count
    return max(machine.vector_bytes // (8 if sizes[8] > sizes[4] else 4), 1)


def _normalised(nest: Nest) -> Nest:
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


def _lowered(nest: Nest, phase: Phase, written: set[int], outer_lanes: bool) -> Lowered:
    """Bring a phase's Scalars down to machine level, and find what each varies along."""
    guards: dict[Scalar, Guard] = {}
    wanted = list(_scalars(phase))
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


def _scalars(phase: Phase) -> Iterator[Scalar]:
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

    for scalar in _scalars(phase):
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
