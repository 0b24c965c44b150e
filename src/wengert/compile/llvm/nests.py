"""Kernels from loop nests: LLVM IR with explicit vectors, so that speed hangs on no vectoriser's judgement.

Lanes run along the innermost axis of each phase, where a unit of work is one outer index, or along the last outer axis,
where a unit is a block of a few vectors. Loops over units are the only ones that threads divide; everything within a
unit is done in a fixed order, so that results do not depend on the division.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable
from typing import NamedTuple

from ..kernels import Kernel, Span
from ..nests import Access, Counter, Nest
from .machine import Machine
from .nests_body import Body, Loop
from .nests_lowered import cost_of
from .nests_places import Instance
from .nests_plan import BYTES_PER_CYCLE, OPERATIONS_PER_CYCLE, TILE, Plan, accesses_of, plan_nest, spans_of
from .nests_split import parts_of
from .spans import merged
from .vectors import SYMBOL, Region, Text

WORTHWHILE = 3000.0
"""Nanoseconds of work that are worth another thread's while."""
CYCLES_PER_NANOSECOND = 3.5
UNIT_CYCLES = 5.0
PARAMETERS = "ptr %operands, i64 %begin, i64 %end, ptr %scratch"
REMEMBERED = 512
"""Kernels that are at hand when an equal nest comes again: layers of a model are often alike."""


_recent: dict[Hashable, tuple[Nest, Kernel]] = {}


def nest_kernel(nest: Nest, machine: Machine) -> Kernel:
    """Return the kernel that computes a nest on a machine: units are outer indices, or blocks of them."""
    key = (machine, _spelling(nest))
    known = _recent.get(key)
    if known is None:
        while len(_recent) >= REMEMBERED:
            _recent.pop(next(iter(_recent)), None)
        known = _recent[key] = (nest, _generated(nest, machine))
    return known[1]


def _spelling(nest: Nest) -> Hashable:
    """Return what is equal for equal nests; Scalars count by identity, for equal ones are one as long as one lives."""

    def access(given: Access) -> Hashable:
        picks = tuple([(id(pick), stride) for pick, stride in given.picks])
        return (given.operand, given.offset, given.strides, picks, given.inside, repr(given.fill))

    phases = [
        (
            phase.inner,
            tuple([(n, s.axis if isinstance(s, Counter) else access(s)) for n, s in phase.inputs.items()]),
            tuple([(access(store.target), id(store.scalar), store.add) for store in phase.stores]),
            tuple([(reduction.name, reduction.op, id(reduction.scalar)) for reduction in phase.reductions]),
        )
        for phase in nest.phases
    ]
    return (nest.name, nest.outer, tuple(phases), nest.operands, nest.lanes)


class _Function(NamedTuple):
    """A function of LLVM IR, named SYMBOL, and what it takes to run it."""

    lines: list[str]
    declarations: tuple[str, ...]
    units: int
    cycles: float
    scratch: int
    flops: int
    moved: int
    spans: tuple[Span, ...]


def _generated(nest: Nest, machine: Machine) -> Kernel:
    nests = parts_of(nest)
    parts = [_function(part, machine, in_rows=len(nests) > 1 < len(nest.outer)) for part in nests]
    whole = parts[0] if len(parts) == 1 else _together(parts)
    source = "\n".join(whole.lines)
    digest = hashlib.blake2b("\n".join([source, *whole.declarations]).encode(), digest_size=10).hexdigest()
    name = f"{nest.name}_{digest}"
    grain = math.ceil(WORTHWHILE * CYCLES_PER_NANOSECOND / (UNIT_CYCLES + whole.cycles / max(whole.units, 1)))
    source = source.replace(SYMBOL, f"@{name}")
    work = whole.scratch, whole.flops, whole.moved
    return Kernel(name, source, whole.declarations, whole.units, grain, *work, whole.spans)


def _function(nest: Nest, machine: Machine, in_rows: bool) -> _Function:
    plan = plan_nest(nest, machine, in_rows)
    text = Text()
    body = Body(plan, text)
    _units(body)
    lines = _assembled(body)
    flops, moved = _work(plan)
    cycles = max(flops / (plan.lanes_at_once * OPERATIONS_PER_CYCLE), moved / BYTES_PER_CYCLE)
    return _Function(
        lines, tuple(text.declarations), plan.units, cycles, body.scratch_bytes, flops, moved, spans_of(plan)
    )


def _together(parts: list[_Function]) -> _Function:
    """Return the function whose units are those of all parts: rows of all parts, or one part after the other."""
    rows = _common_rows(parts)
    lines: list[str] = []
    calls: list[str] = []
    first = 0
    for number, part in enumerate(parts):
        symbol = f"{SYMBOL}.part{number}"
        own = "\n".join(part.lines).replace(SYMBOL, symbol)
        lines.append(own.replace(f"define void {symbol}(", f"define private void {symbol}("))
        calls += _edges_in_rows(number, part.units // rows) if rows else _edges(number, first, first + part.units)
        calls.append(f"  call void {symbol}(ptr %operands, i64 %from{number}, i64 %to{number}, ptr %scratch)")
        first += part.units
    lines += [f"define void {SYMBOL}({PARAMETERS}) {{", *calls, "  ret void", "}"]
    extremes = [f"declare i64 @llvm.{name}.i64(i64, i64)" for name in ("smax", "smin")]
    declarations = tuple(dict.fromkeys([line for part in parts for line in part.declarations] + extremes))
    scratch = max([part.scratch for part in parts])
    sums = [sum(column) for column in zip(*[(part.cycles, part.flops, part.moved) for part in parts])]
    spans = merged([span._replace(per=1) for part in parts for span in part.spans]) if rows else ()
    return _Function(lines, declarations, rows or first, sums[0], scratch, int(sums[1]), int(sums[2]), spans)


def _common_rows(parts: list[_Function]) -> int:
    """Return how many rows of units each part has, if they are known and as many in all; otherwise 0."""
    rows = {part.units // part.spans[0].per if part.spans else 0 for part in parts}
    return rows.pop() if len(rows) == 1 else 0


def _edges_in_rows(number: int, per: int) -> list[str]:
    """Write which units of a part belong to the rows from %begin to %end."""
    return [f"  %from{number} = mul i64 %begin, {per}", f"  %to{number} = mul i64 %end, {per}"]


def _edges(number: int, first: int, last: int) -> list[str]:
    """Write which units of a part, which are those from `first` to `last` of all, are among those to do."""
    return [
        f"  %begin{number} = call i64 @llvm.smax.i64(i64 %begin, i64 {first})",
        f"  %end{number} = call i64 @llvm.smin.i64(i64 %end, i64 {last})",
        f"  %from{number} = sub i64 %begin{number}, {first}",
        f"  %to{number} = sub i64 %end{number}, {first}",
    ]


def _units(body: Body) -> None:
    """Write the loop over units."""
    entry, text = body.stack[0], body.text
    unit = Region(text, "unit")
    body.stack.append(unit)
    _decode(body, unit)
    _walk(body, 0)
    body.stack.pop()
    entry.write("br label %unit")
    entry.lines.append("unit:")
    following = unit.stepped("%unit.index", 1)
    entry.write(f"%unit.index = phi i64 [ %begin, %{entry.label} ], [ {following}, %{unit.label} ]")
    entry.lines.extend(unit.lines)
    entry.write(f"%unit.more = icmp slt i64 {following}, %end")
    entry.write("br i1 %unit.more, label %unit, label %done")
    entry.lines.extend(["done:", "  ret void"])


def _walk(body: Body, axis: int) -> None:
    """Write what a unit does: a walk along the outer axes that it takes itself, and all phases for each index."""
    plan = body.plan
    if axis == len(plan.extents):
        _blocks(body)
        return

    def inside(_: list[str]) -> list[str]:
        _walk(body, axis + 1)
        return []

    if axis == plan.tiled:
        unit, start = body.stack[-1], str(body.index[axis])
        after = unit.value(f"add i64 {start}, {TILE}")
        stop = unit.call("smin.i64", "i64", [("i64", after), ("i64", str(plan.extents[axis]))])
        body.loop(axis, start, stop, 1, [], inside)
    elif axis < len(plan.extents) - plan.within or plan.extents[axis] <= 1:
        _walk(body, axis + 1)
    elif axis != plan.lane_axis:
        body.loop(axis, "0", str(plan.extents[axis]), 1, [], inside)
    else:
        _walk_lanes(body, axis, inside)


def _walk_lanes(body: Body, axis: int, inside: Loop) -> None:
    """Write a unit's own walk along the axis of lanes: whole blocks, then the ragged one."""
    plan = body.plan
    whole = plan.blocks if plan.shared or not plan.ragged else plan.blocks - 1
    if whole > 1:
        body.loop(axis, "0", str(whole * plan.block), plan.block, [], inside)
    else:
        _phases(body, _vectors(plan, plan.block))
    if whole < plan.blocks:
        body.index[axis] = whole * plan.block
        _phases(body, _vectors(plan, plan.ragged))
        body.index[axis] = 0


def _blocks(body: Body) -> None:
    """Write all phases for the current outer index: for whole blocks and for the last one, where both occur."""
    plan, text, region = body.plan, body.text, body.stack[-1]
    axis = plan.lane_axis
    if axis is None:
        _phases(body, [Instance(0, None, 0)])
    elif plan.shared:
        home = body.stack[body.levels[axis]]  # where values that vary along the lanes alone are computed, too
        left = home.value(f"sub i64 {plan.nest.outer[-1]}, {body.index[axis]}")
        _phases(body, [Instance(0, body.first_lanes(home, left), 0)])
    elif plan.blocks == 1:
        _phases(body, _vectors(plan, plan.ragged or plan.block))
    elif plan.ragged == 0 or plan.within:
        _phases(body, _vectors(plan, plan.block))
    else:
        whole, part, join = text.label(), text.label(), text.label()
        last = region.value(f"icmp eq i64 {body.index[axis]}, {(plan.blocks - 1) * plan.block}")
        region.write(f"br i1 {last}, label %{part}, label %{whole}")
        for label, extent in ((whole, plan.block), (part, plan.ragged)):
            region.start(label)
            _phases(body, _vectors(plan, extent))
            region.write(f"br label %{join}")
        region.start(join)


def _vectors(plan: Plan, extent: int) -> list[Instance]:
    """Return the vectors that cover the first elements of a block."""
    return [
        Instance(lane, extent - lane if extent - lane < plan.lanes else None, 0)
        for lane in range(0, extent, plan.lanes)
    ]


def _phases(body: Body, instances: list[Instance]) -> None:
    region = body.stack[-1]
    before = dict(region.values)
    for number in range(len(body.plan.phases)):
        body.run_phase(number, instances)
    region.values = before  # what the phases computed may stand in a branch, and be out of date after it


def _decode(body: Body, unit: Region) -> None:
    """Write the outer indices of a unit."""
    plan, rest = body.plan, "%unit.index"
    looping = [axis for axis, extent in enumerate(plan.unit_extents) if extent > 1]
    for axis in range(len(plan.extents)):
        body.index[axis] = 0
    for axis in reversed(looping):
        body.levels[axis] = 1
        index, rest = _split(unit, rest, plan.unit_extents[axis]) if axis != looping[0] else (rest, rest)
        size = plan.block if axis == plan.lane_axis else TILE if axis == plan.tiled else 1
        body.index[axis] = unit.value(f"mul i64 {index}, {size}") if size > 1 else index


def _split(unit: Region, rest: str, extent: int) -> tuple[str, str]:
    """Return the remainder and the quotient of an index by an extent."""
    return unit.value(f"urem i64 {rest}, {extent}"), unit.value(f"udiv i64 {rest}, {extent}")


def _assembled(body: Body) -> list[str]:
    text = body.text
    return [
        *text.table_lines(),
        *[line for lines in text.helpers.values() for line in lines],
        f"define void {SYMBOL}({PARAMETERS}) {{",
        "start:",
        "  %empty = icmp sge i64 %begin, %end",
        "  br i1 %empty, label %done, label %entry",
        "entry:",
        *text.constant_lines(),
        *body.stack[0].lines,
        "}",
    ]


def _work(plan: Plan) -> tuple[int, int]:
    """Return operations, and bytes of the elements that each access meets once."""
    outer = math.prod(plan.nest.outer)
    flops = moved = 0
    for lowered in plan.phases:
        phase = lowered.phase
        flops += outer * math.prod(phase.inner) * (cost_of(lowered) + len(phase.reductions))
        extents = (*plan.nest.outer, *phase.inner)
        for access in accesses_of(phase):
            operand = plan.nest.operands[access.operand]
            if not operand.scratch:
                met = [extent for extent, stride in zip(extents, access.strides) if stride or access.picks]
                moved += math.prod(met) * operand.dtype.itemsize if 0 not in extents else 0
    return flops, moved
