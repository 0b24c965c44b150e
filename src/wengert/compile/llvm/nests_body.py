"""Writes the code of a nest's phases: nested loops, values where they are known first, reductions.

As a loop's text joins its parent's only when the loop is complete, whatever was hoisted out of it stands before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..nests import Access, Reduction
from ..scalar_ir import BOOL, FLOAT32, FLOAT64, SIGNATURES, DType, Scalar
from .nests_functions import call, guarded
from .nests_memory import Memory
from .nests_places import Instance
from .nests_plan import Plan, Steps, steps_of
from .vectors import TYPES, Region, Text, vector, write

LONG_SUM = 512
"""Floating sums of more terms per accumulator are taken in parts of about the square root of their length."""
PART = 64
"""Parts have at least so many terms."""

Loop = Callable[[list[str]], list[str]]


class Accumulator(NamedTuple):
    """One of the partial results of a reduction; `instance` says which lanes or rows it takes in."""

    reduction: Reduction
    kind: str
    identity: str


class Body(Memory):
    """The code of one unit of work. See `Memory` for loads, stores and addresses."""

    def __init__(self, plan: Plan, text: Text) -> None:
        super().__init__(plan, text)
        self.accumulators: list[Accumulator] = []
        self.places: list[int] = []

    def run_phase(self, number: int, instances: Sequence[Instance]) -> None:
        """Write a phase, for vectors of the lane axis (lanes along an outer axis) that `instances` name."""
        self.phase_number, self.lowered = number, self.plan.phases[number]
        phase = self.lowered.phase
        self.floor = len(self.stack) - 1
        self.outer_rank = len(self.plan.nest.outer)
        self.lane_axis = self.plan.lane_axis
        if self.plan.nest.lanes == "inner":
            self.lane_axis = self.outer_rank + len(phase.inner) - 1 if phase.inner and self.plan.lanes > 1 else None
        self.row_axis = self.outer_rank + len(phase.inner) - 1 if phase.inner and self.lane_axis is None else None
        if self.plan.nest.lanes == "outer" and phase.inner:
            self.row_axis = self.outer_rank + len(phase.inner) - 1
        self.given = list(instances)
        self.long = False
        steps = steps_of(self.plan, self.lowered) if phase.inner else None
        per_step = self._per_step(steps)
        copies = len(per_step)
        self.accumulators = [
            Accumulator(reduction, self._kind(reduction), self._identity(reduction))
            for reduction in phase.reductions
            for _ in range(copies)
        ]
        self.copies = copies
        start = [accumulator.identity for accumulator in self.accumulators]
        if math.prod(phase.inner) == 0:
            finals = start
        elif steps is None:
            finals = self._compute(self.given, start)
        else:
            terms = math.prod(phase.inner[:-1]) * (steps.full + 1)
            self.long = terms > LONG_SUM and any([self._is_sum(a.reduction) for a in self.accumulators])
            finals = self._walk(0, steps, start)
        self._finish(per_step, finals)

    # Reductions

    def _is_sum(self, reduction: Reduction) -> bool:
        return reduction.op == "add" and reduction.scalar.dtype.kind == "f"

    def _kind(self, reduction: Reduction) -> str:
        return vector(TYPES[reduction.scalar.dtype], self.plan.lanes if self.lane_axis is not None else 1)

    def _identity(self, reduction: Reduction) -> str:
        lanes = self.plan.lanes if self.lane_axis is not None else 1
        return self.text.number(identity(reduction), reduction.scalar.dtype, lanes)

    def _per_step(self, steps: Steps | None) -> list[Instance]:
        """Return the instances that have accumulators of their own."""
        if steps is None:
            return self.given
        if self.plan.nest.lanes == "inner":
            count = max(steps.unroll, steps.rest + (steps.ragged > 0))
            if steps.full == 1 and steps.step and not steps.shared:
                count = max(count, steps.unroll)
            return [Instance(lane * self.plan.lanes, None, 0) for lane in range(count)]
        return [one._replace(row=row) for row in range(max(steps.unroll, steps.rest)) for one in self.given]

    def _combine(self, reduction: Reduction, x: str, y: str, kind: str) -> str:
        return combine(self.stack[-1], reduction, x, y, kind)

    def _finish(self, per_step: list[Instance], finals: list[str]) -> None:
        """Combine the accumulators in a fixed order; name the results for later phases."""
        region = self.stack[-1]
        for position, reduction in enumerate(self.lowered.phase.reductions):
            mine = finals[position * self.copies : (position + 1) * self.copies]
            kind = self._kind(reduction)
            groups: dict[int, list[str]] = {}
            for instance, final in zip(per_step, mine):
                lane = instance.lane if self.plan.nest.lanes == "outer" else 0
                groups.setdefault(lane, []).append(final)
            for lane, parts in groups.items():
                while len(parts) > 1:
                    pairs = zip(parts[::2], parts[1::2])
                    odd = parts[-1:] if len(parts) % 2 else []
                    parts = [self._combine(reduction, x, y, kind) for x, y in pairs] + odd
                result = parts[0]
                if self.plan.nest.lanes == "inner" and self.lane_axis is not None:
                    result = self._across(region, reduction, result)
                region.values["reduction", reduction.name, lane] = result

    def _across(self, region: Region, reduction: Reduction, value: str) -> str:
        """Combine the lanes of a vector, halves with halves."""
        element, lanes = TYPES[reduction.scalar.dtype], self.plan.lanes
        while lanes > 1:
            lanes //= 2
            low = region.shuffle(value, element, 2 * lanes, range(lanes))
            high = region.shuffle(value, element, 2 * lanes, range(lanes, 2 * lanes))
            if lanes == 1:
                low = region.value(f"extractelement <1 x {element}> {low}, i64 0")
                high = region.value(f"extractelement <1 x {element}> {high}, i64 0")
            value = combine(region, reduction, low, high, vector(element, lanes))
        return value

    # Loops

    def _walk(self, depth: int, steps: Steps, carried: list[str]) -> list[str]:
        inner = self.lowered.phase.inner
        axis = self.outer_rank + depth
        if depth == len(inner) - 1:
            return self._last(axis, steps, carried)
        if inner[depth] == 1:
            self.index[axis] = 0
            return self._walk(depth + 1, steps, carried)

        def body(values: list[str]) -> list[str]:
            return self._walk(depth + 1, steps, values)

        terms = math.prod(inner[depth + 1 : -1]) * (steps.full + 1)
        if self.long and terms >= PART:
            return self.loop(axis, "0", str(inner[depth]), 1, carried, self._apart(body))
        if self.long and inner[depth] > LONG_SUM:
            return self._in_parts(axis, inner[depth], 1, carried, body)
        return self.loop(axis, "0", str(inner[depth]), 1, carried, body)

    def _last(self, axis: int, steps: Steps, carried: list[str]) -> list[str]:
        """Write the walk along the last inner axis: the loop over whole steps, then what is left."""
        main = self._per_step(steps)[: steps.unroll * (len(self.given) if self.plan.nest.lanes == "outer" else 1)]
        if self.plan.nest.lanes == "inner" and steps.full == 0:
            main = []
        position = steps.full * steps.step

        def body(values: list[str]) -> list[str]:
            if not steps.shared:
                return self._compute(main, values)
            region, extent = self.stack[-1], self.lowered.phase.inner[-1]
            left = region.value(f"sub i64 {extent}, {self.index[axis]}")
            return self._compute([Instance(0, self.first_lanes(region, left), 0)], values)

        if steps.full > 1 and self.long and steps.full > LONG_SUM:
            carried = self._in_parts(axis, position, steps.step, carried, body)
        elif steps.full > 1:
            carried = self.loop(axis, "0", str(position), steps.step, carried, body)
        elif steps.full == 1:
            self.index[axis] = 0
            carried = self._compute(main, carried)
        if not steps.shared and (steps.rest or steps.ragged):
            self.index[axis] = position
            carried = self._compute(self._remaining(steps), carried)
        return carried

    def _remaining(self, steps: Steps) -> list[Instance]:
        if self.plan.nest.lanes == "inner":
            lanes = self.plan.lanes
            rest = [Instance(lane * lanes, None, 0) for lane in range(steps.rest)]
            return [*rest, Instance(steps.rest * lanes, steps.ragged, 0)] if steps.ragged else rest
        return [one._replace(row=row) for row in range(steps.rest) for one in self.given]

    def _apart(self, body: Loop) -> Loop:
        """Return a body whose floating sums start from zero and join what was there at the end."""

        def separate(values: list[str]) -> list[str]:
            own = [
                accumulator.identity if self._is_sum(accumulator.reduction) else value
                for accumulator, value in zip(self.accumulators, values)
            ]
            finals = body(own)
            return [
                self._combine(accumulator.reduction, value, final, accumulator.kind)
                if self._is_sum(accumulator.reduction)
                else final
                for accumulator, value, final in zip(self.accumulators, values, finals)
            ]

        return separate

    def _in_parts(self, axis: int, stop: int, step: int, carried: list[str], body: Loop) -> list[str]:
        """Write a long loop as two, the inner one over parts, each with sums of its own."""
        part = max(PART, 1 << (math.isqrt(stop // step).bit_length())) * step

        def one_part(values: list[str]) -> list[str]:
            region = self.stack[-1]
            first = str(self.index[-1])
            ahead = region.value(f"add nuw nsw i64 {first}, {part}")
            last = region.call("smin.i64", "i64", [("i64", ahead), ("i64", str(stop))])
            return self.loop(axis, first, last, step, values, body)

        return self.loop(-1, "0", str(stop), part, carried, self._apart(one_part))

    def loop(self, axis: int, start: str, stop: str, step: int, carried: list[str], body: Loop) -> list[str]:
        """Write a loop that runs at least once; `body` turns the carried values of one turn into those of the next."""
        text, parent = self.text, self.stack[-1]
        header, leave, index = text.label(), text.label(), text.name()
        region = Region(text, header)
        phis = [text.name() for _ in carried]
        outside = dict(self.levels), dict(self.index)
        self.levels[axis], self.index[axis] = len(self.stack), index
        self.stack.append(region)
        finals = body(phis)
        self.stack.pop()
        self.levels, self.index = outside
        following = region.stepped(index, step)
        more = region.value(f"icmp slt i64 {following}, {stop}")
        region.write(f"br i1 {more}, label %{header}, label %{leave}")
        parent.write(f"br label %{header}")
        parent.lines.append(f"{header}:")
        parent.write(f"{index} = phi i64 [ {start}, %{parent.label} ], [ {following}, %{region.label} ]")
        for phi, first, final, accumulator in zip(phis, carried, finals, self.accumulators):
            parent.write(f"{phi} = phi {accumulator.kind} [ {first}, %{parent.label} ], [ {final}, %{region.label} ]")
        parent.lines.extend(region.lines)
        parent.start(leave)
        return finals

    # Values

    def _compute(self, instances: Sequence[Instance], carried: list[str]) -> list[str]:
        """Write everything that one step of the innermost loop does; return the accumulators after it."""
        for scalar in self.lowered.order:
            if scalar.op != "constant":
                for instance in instances:
                    self._scalar(scalar, instance)
        finals = list(carried)
        for position, reduction in enumerate(self.lowered.phase.reductions):
            for number, instance in enumerate(instances):
                finals[position * self.copies + number] = self._accumulate(
                    reduction, carried[position * self.copies + number], instance
                )
        for store in self.lowered.phase.stores:
            for instance in instances:
                self.store(store, instance)
        return finals

    def _accumulate(self, reduction: Reduction, total: str, instance: Instance) -> str:
        region, dtype = self.stack[-1], reduction.scalar.dtype
        lanes = self.plan.lanes if self.lane_axis is not None else 1
        new = self._combine(reduction, total, self.get(reduction.scalar, instance, lanes), self._kind(reduction))
        mask = self.mask(instance) if self.plan.nest.lanes == "inner" and lanes > 1 else None
        if mask is None:
            return new
        kind = vector(TYPES[dtype], lanes)
        return region.value(f"select {vector('i1', lanes)} {mask}, {kind} {new}, {kind} {total}")

    def _scalar(self, scalar: Scalar, instance: Instance) -> None:
        region, key = self.home(scalar, instance)
        if key in region.values:
            return
        lanes = self.lanes_of(scalar)
        if scalar.op == "input":
            source = self.lowered.phase.inputs.get(scalar.payload)
            if source is None:
                lane = instance.lane if self.plan.nest.lanes == "outer" else 0
                region.values[key] = region.values["reduction", scalar.payload, lane]
            elif isinstance(source, Access):
                region.values[key] = self.load(region, source, scalar.dtype, instance)
            else:
                region.values[key] = self.counter(region, source.axis, instance)
            return
        operands = [self.get(operand, instance, lanes) for operand in scalar.operands]
        if SIGNATURES[scalar.op].machine:
            result = write(region, scalar, operands, lanes)
        else:
            result = call(region, scalar.op, scalar.dtype, operands, lanes)
        if scalar in self.lowered.guards:
            result = self._guarded(region, scalar, result, instance, lanes)
        region.values[key] = result

    def _guarded(self, region: Region, scalar: Scalar, quick: str, instance: Instance, lanes: int) -> str:
        """Replace the quick form of a function by its careful one if the argument of any lane is out of range."""
        guard = self.lowered.guards[scalar]
        good = self.get(guard.condition, instance, lanes)
        operand = self.get(guard.operand, instance, lanes)
        return guarded(region, guard.op, scalar.dtype, lanes, (good, operand, quick))


def identity(reduction: Reduction) -> float:
    """Return what a reduction over nothing gives."""
    dtype: DType = reduction.scalar.dtype
    if reduction.op in ("add", "or"):
        return 0
    if reduction.op in ("multiply", "and"):
        return 1
    least = reduction.op == "maximum"
    if dtype == BOOL:
        return not least
    if dtype in (FLOAT32, FLOAT64):
        return -math.inf if least else math.inf
    bits = 8 * dtype.itemsize - 1
    return -(1 << bits) if least else (1 << bits) - 1


def combine(region: Region, reduction: Reduction, x: str, y: str, kind: str) -> str:
    """Append the combination of two partial results."""
    dtype, op = reduction.scalar.dtype, reduction.op
    flags = kind.replace(TYPES[dtype], "i1")
    if op in ("or", "and"):
        return region.value(f"{op} {kind} {x}, {y}")
    if op in ("add", "multiply"):
        name = {"add": "add", "multiply": "mul"}[op]
        return region.value(f"{'f' if dtype.kind == 'f' else ''}{name} {kind} {x}, {y}")
    if dtype == BOOL:
        return region.value(f"{'or' if op == 'maximum' else 'and'} {kind} {x}, {y}")
    if dtype.kind == "i":
        better = region.value(f"icmp {'sgt' if op == 'maximum' else 'slt'} {kind} {x}, {y}")
        return region.value(f"select {flags} {better}, {kind} {x}, {kind} {y}")
    better = region.value(f"fcmp {'ogt' if op == 'maximum' else 'olt'} {kind} {x}, {y}")
    best = region.value(f"select {flags} {better}, {kind} {x}, {kind} {y}")  # y if either is NaN: one instruction
    lost = region.value(f"fcmp uno {kind} {x}, {x}")
    return region.value(f"select {flags} {lost}, {kind} {x}, {kind} {best}")
