"""Decides how a loop nest becomes vector code: lanes, blocks, units, unrolling, tiles."""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Sequence
from typing import NamedTuple

from ..kernels import Span
from ..nests import Access, Nest, Phase
from ..scalar_ir import BOOL
from .machine import Machine
from .nests_lowered import Lowered, cost_of, lowered_phase, normalised
from .spans import merged, span_of

SMALL, MIDDLE = 24, 64
"""Bodies of at most so many operations are unrolled fourfold, and twofold."""
STRAIGHT = 160
"""An axis of lanes needs no loop where all of its vectors together take at most so many operations."""
MOST_VECTORS = 8
SHARED_TAIL = 96
"""From so many operations on, whole and ragged vectors share one body, with a mask known at run time."""
TILE = 16
"""Rows that a tile has along the axis on which an access is dense that jumps along the lanes."""
LINE = 64
"""Bytes of a line of the cache."""
UNIT, WORTH_DIVIDING, FEWEST_UNITS = 600.0, 20_000.0, 32
"""Cycles that a unit had better have; cycles from which on, and units into which, a kernel is worth dividing."""
OPERATIONS_PER_CYCLE, BYTES_PER_CYCLE = 2.5, 16.0
"""Measured on kernels that are bound by arithmetic, and by memory."""
DEEP = 200
"""Bodies of more operations hide their latency from the processor's look-ahead: vectors are doubled instead."""


class Steps(NamedTuple):
    """How a phase's last inner axis is walked: `full` steps of `step`, then a rest.

    Attributes:
        step, full: the step in elements, and how many whole ones there are.
        unroll: vectors (rows) that a step consists of.
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
    def lanes_at_once(self) -> int:
        """How many elements an instruction computes: half of a vector's where long chains have these doubled."""
        return min(self.lanes, _dominant_lanes(self.nest, self.phases, self.machine))

    @property
    def units(self) -> int:
        """How many units of work there are."""
        return math.prod(self.unit_extents)


def plan_nest(nest: Nest, machine: Machine, in_rows: bool = False) -> Plan:
    """Lay out a nest for a machine; with `in_rows`, no unit walks the first outer axis by itself."""
    nest = normalised(nest)
    written = {store.target.operand for phase in nest.phases for store in phase.stores}
    outer_lanes = nest.lanes == "outer"
    phases = tuple([lowered_phase(nest, phase, written, outer_lanes) for phase in nest.phases])
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
        return plan._replace(within=_axes_within(plan, in_rows))
    operations = sum([cost_of(lowered) for lowered in phases])
    vectors = _whole_up(extent, lanes)
    shared = masked_cheaply(machine) and operations > SHARED_TAIL and extent % lanes > 0 and vectors > 1
    tiled = _tiled_axis(nest)
    kept = sum([operand.scratch * operand.dtype.itemsize for operand in nest.operands]) * lanes
    unroll = min(vectors, _unrolling(operations))
    if shared or tiled is not None or kept * unroll > machine.level2 // 2:
        unroll = 1
    block = lanes * unroll
    blocks = _whole_up(extent, block)
    extents = (*nest.outer[:-1], blocks)
    ragged = extent % block
    plan = Plan(nest, machine, phases, lanes, len(nest.outer) - 1, block, blocks, ragged, shared, extents, 0, tiled)
    return plan if tiled is not None else plan._replace(within=_axes_within(plan, in_rows))


def _axes_within(plan: Plan, in_rows: bool) -> int:
    """Return how many outer axes a unit walks: enough to hide what a unit costs, but leaving units to divide."""
    cycles, units = _cycles_of_unit(plan), math.prod(plan.extents)
    divided = cycles * units > WORTH_DIVIDING
    count = 0
    for extent in reversed(plan.extents[in_rows:]):
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
        instructions = cost_of(lowered) * plan.lanes // plan.lanes_at_once
        cycles += max((count + 1) * instructions / OPERATIONS_PER_CYCLE, moved / BYTES_PER_CYCLE)
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


def spans_of(plan: Plan) -> tuple[Span, ...]:
    """Return where units touch operands, in rows along the first outer axis that they divide; () if it isn't known."""
    divided = [axis for axis, extent in enumerate(plan.unit_extents) if extent > 1]
    accesses = [access for lowered in plan.phases for access in accesses_of(lowered.phase)]
    if not divided or not plan.units or any([access.picks for access in accesses]):
        return ()
    axis = divided[0]
    rows = plan.block if axis == plan.lane_axis else TILE if axis == plan.tiled else 1
    per = math.prod(plan.unit_extents[axis + 1 :])
    outer = (*plan.nest.outer[:axis], rows, *plan.nest.outer[axis + 1 :])
    kept = [place for place, operand in enumerate(plan.nest.operands) if not operand.scratch]
    places = {place: number for number, place in enumerate(kept)}
    spans: list[Span] = []
    for phase in [lowered.phase for lowered in plan.phases]:
        targets = [store.target for store in phase.stores]
        loads = [source for source in phase.inputs.values() if isinstance(source, Access)]
        for access, writes in [*[(load, False) for load in loads], *[(target, True) for target in targets]]:
            size = plan.nest.operands[access.operand].dtype.itemsize
            if access.operand in places:
                given = access._replace(operand=places[access.operand])
                spans.append(span_of(given, (*outer, *phase.inner), axis, rows, size, per, writes))
    return merged(spans)


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
