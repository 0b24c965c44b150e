"""Where the values of a nest's code live, and the addresses, indices and conditions that accesses are made of.

Loops are regions on a stack: 0 is the kernel's entry, 1 the unit of work, and each loop is one more. A value is written
to the region of the innermost loop whose axis it depends on.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from ..nests import Access, Range
from ..scalar_ir import Scalar
from .nests_lowered import Lowered
from .nests_plan import Plan
from .vectors import STORED, TYPES, Region, Text, spelled, vector

NARROW_INDEX = 1 << 30
"""Conditions on indices are computed in 32 bits where they stay below this."""


class Instance(NamedTuple):
    """One of the copies that a loop's body consists of.

    Attributes:
        lane: where its vector begins along the axis of lanes, from the index of that axis.
        active: how many of its lanes there are: None for all, or the name of a mask.
        row: its place along the innermost axis, from the index of that axis.
    """

    lane: int
    active: int | str | None
    row: int


class Places:
    """The stack of regions, and where values live in it."""

    def __init__(self, plan: Plan, text: Text) -> None:
        self.plan, self.text = plan, text
        self.stack: list[Region] = [Region(text, "entry")]
        self.floor = 1
        self.levels: dict[int, int] = {}
        self.index: dict[int, str | int] = {}
        self.lowered: Lowered = plan.phases[0]
        self.phase_number = 0
        self.outer_rank = len(plan.nest.outer)
        self.lane_axis: int | None = None
        self.row_axis: int | None = None
        self.bases: list[str] = []
        self.scratch_bytes = 0
        self._open_operands()

    def _open_operands(self) -> None:
        """Load the addresses of the operands, and lay out scratch memory."""
        region, position = self.stack[0], 0
        for operand in self.plan.nest.operands:
            if operand.scratch:
                self.bases.append(region.value(f"getelementptr i8, ptr %scratch, i64 {self.scratch_bytes}"))
                size = operand.scratch * operand.dtype.itemsize * self.plan.block
                self.scratch_bytes += -(-size // 64) * 64
            else:
                slot = region.value(f"getelementptr ptr, ptr %operands, i64 {position}")
                self.bases.append(region.value(f"load ptr, ptr {slot}"))
                position += 1

    # Where values live

    def _level(self, bits: int) -> int:
        """Return the level of the innermost loop along one of the axes."""
        level = 0
        for axis, own in self.levels.items():
            if own > level and axis >= 0 and bits >> axis & 1:
                level = own
        return level

    def varies_in_lanes(self, bits: int) -> bool:
        """Whether what varies along these axes differs from lane to lane."""
        return self.lane_axis is not None and bool(bits >> self.lane_axis & 1)

    def lanes_of(self, scalar: Scalar) -> int:
        """Return how many lanes a Scalar's value has."""
        return self.plan.lanes if self.varies_in_lanes(self.lowered.axes[scalar]) else 1

    def _place(self, bits: int, instance: Instance) -> Hashable:
        """Return what tells the instances of a value apart that varies along the given axes."""
        lane: Hashable = None
        row: Hashable = None
        if self.lane_axis is not None and bits >> self.lane_axis & 1:
            base = self.index[self.lane_axis]
            lane = (instance.lane + (base if isinstance(base, int) else 0), instance.active)
        if self.row_axis is not None and bits >> self.row_axis & 1:
            base = self.index[self.row_axis]
            row = instance.row + (base if isinstance(base, int) else 0)
        return (lane, row)

    def home(self, scalar: Scalar, instance: Instance) -> tuple[Region, Hashable]:
        """Return the region that a Scalar is computed in, and what its value is filed under there."""
        bits = self.lowered.axes[scalar]
        level = self._level(bits)
        if level < self.floor and scalar in self.lowered.memory:
            level = self.floor
        return self.stack[level], (self.phase_number, scalar, self._place(bits, instance))

    def get(self, scalar: Scalar, instance: Instance, lanes: int) -> str:
        """Return the name of a Scalar that has been computed, in as many lanes as are asked for."""
        if scalar.op == "constant":
            return self.text.number(scalar.payload, scalar.dtype, lanes)
        region, key = self.home(scalar, instance)
        if self.lanes_of(scalar) == lanes:
            return region.values[key]
        spread = ("splat", key)
        if spread not in region.values:
            region.values[spread] = region.splat(region.values[key], TYPES[scalar.dtype], lanes)
        return region.values[spread]

    def mask(self, instance: Instance) -> str | None:
        """Return the mask of an instance's lanes, None if all are there."""
        if instance.active is None or isinstance(instance.active, str):
            return instance.active
        flags = ["true" if lane < instance.active else "false" for lane in range(self.plan.lanes)]
        return self.text.constant(vector("i1", self.plan.lanes), spelled("i1", flags))

    def first_lanes(self, region: Region, count: str) -> str:
        """Append the mask of the first `count` lanes, a number that may exceed theirs."""
        lanes = self.plan.lanes
        least = region.call("smin.i64", "i64", [("i64", count), ("i64", str(lanes))])
        narrow = region.splat(region.value(f"trunc i64 {least} to i32"), "i32", lanes)
        return region.value(f"icmp ult {vector('i32', lanes)} {self._steps(1, 'i32')}, {narrow}")

    def _steps(self, stride: int, element: str) -> str:
        """Return a constant vector of multiples of a stride."""
        lanes = self.plan.lanes
        return self.text.constant(vector(element, lanes), spelled(element, [lane * stride for lane in range(lanes)]))

    # Addresses and indices

    def _linear(
        self, offset: int, strides: tuple[int, ...], instance: Instance, without: int | None = None
    ) -> tuple[str, int, int]:
        """Return offset + sum of stride * index as a name ("" for none) plus a constant, and its level.

        The index along the axis `without` is left out, but not the instance's place along it.
        """
        terms: list[tuple[int, int, int]] = []
        for axis, stride in enumerate(strides):
            if stride and axis != without:
                index = self.index[axis]
                if isinstance(index, int):
                    offset += stride * index
                else:
                    terms.append((self.levels[axis], axis, stride))
        offset += self._shift(strides, instance)
        total, level, key = "", 0, ()
        for level, axis, stride in sorted(terms):
            region = self.stack[level]
            key = (*key, axis, stride)
            if ("sum", key) not in region.values:
                term = self._times(region, axis, stride)
                region.values["sum", key] = region.value(f"add i64 {total}, {term}") if total else term
            total = region.values["sum", key]
        return total, offset, level

    def _shift(self, strides: tuple[int, ...], instance: Instance) -> int:
        shift = 0
        if self.lane_axis is not None:
            shift += instance.lane * strides[self.lane_axis]
        if self.row_axis is not None:
            shift += instance.row * strides[self.row_axis]
        return shift

    def _times(self, region: Region, axis: int, stride: int) -> str:
        if stride == 1:
            return str(self.index[axis])
        key = ("times", axis, stride)
        if key not in region.values:
            region.values[key] = region.value(f"mul i64 {self.index[axis]}, {stride}")
        return region.values[key]

    def _pointer(self, region: Region, access: Access, instance: Instance, local: bool) -> str:
        """Return the address of an access that is made in a region, but for picks that vary among lanes."""
        element = STORED[self.plan.nest.operands[access.operand].dtype]
        lane = self.plan.lane_axis if local else None
        total, offset, level = self._linear(access.offset, access.strides, instance, lane)
        pointer = self.bases[access.operand]
        if total:
            home = self.stack[level]
            key: Hashable = ("pointer", access.operand, total)
            if key not in home.values:
                home.values[key] = home.value(f"getelementptr {element}, ptr {pointer}, i64 {total}")
            pointer = home.values[key]
        for pick, stride in access.picks:
            if self.lanes_of(pick) == 1:
                term = self._scaled_pick(pick, stride, instance)
                pointer = region.value(f"getelementptr {element}, ptr {pointer}, i64 {term}")
        return region.value(f"getelementptr {element}, ptr {pointer}, i64 {offset}") if offset else pointer

    def _scaled_pick(self, pick: Scalar, stride: int, instance: Instance) -> str:
        region, _ = self.home(pick, instance)
        index = self.get(pick, instance, 1)
        key = ("scaled", index, stride)
        if key not in region.values:
            if pick.dtype.itemsize == 4:
                index = region.value(f"sext i32 {index} to i64")
            region.values[key] = region.value(f"mul i64 {index}, {stride}") if stride != 1 else index
        return region.values[key]

    def _lane_offsets(self, region: Region, access: Access, instance: Instance) -> str:
        """Return, for each lane, what strides and picks along the lanes add to the address."""
        lanes = self.plan.lanes
        kind = vector("i64", lanes)
        total = ""
        stride = access.strides[self.lane_axis] if self.lane_axis is not None else 0
        if stride:
            total = self._steps(stride, "i64")
        for pick, scale in access.picks:
            if self.lanes_of(pick) > 1:
                index = self.get(pick, instance, lanes)
                if pick.dtype.itemsize == 4:
                    index = region.value(f"sext {vector('i32', lanes)} {index} to {kind}")
                if scale != 1:
                    index = region.value(
                        f"mul {kind} {index}, {self.text.constant(kind, spelled('i64', [scale] * lanes))}"
                    )
                total = region.value(f"add {kind} {total}, {index}") if total else index
        return total or self.text.constant(kind, "zeroinitializer")

    def counter(self, region: Region, axis: int, instance: Instance) -> str:
        """Return the index along an axis, for each lane if it is theirs."""
        strides = tuple([int(axis == other) for other in range(self.outer_rank + len(self.lowered.phase.inner))])
        total, offset, _ = self._linear(0, strides, instance)
        base = region.value(f"add i64 {total}, {offset}") if total else str(offset)
        if axis != self.lane_axis:
            return base
        lanes = self.plan.lanes
        spread = region.splat(base, "i64", lanes)
        return region.value(f"add {vector('i64', lanes)} {spread}, {self._steps(1, 'i64')}")

    # Conditions

    def _conditions(
        self, region: Region, inside: tuple[Range, ...], instance: Instance
    ) -> tuple[str | None, str | None]:
        """Return what must hold for all lanes alike, and for each lane: None where nothing must."""
        uniform: str | None = None
        mask: str | None = None
        for condition in inside:
            total, offset, _ = self._linear(condition.offset, condition.strides, instance)
            base = region.value(f"add i64 {total}, {offset}") if total else str(offset)
            stride = condition.strides[self.lane_axis] if self.lane_axis is not None else 0
            if not stride:
                good = region.value(f"icmp ult i64 {base}, {condition.extent}")
                uniform = good if uniform is None else region.value(f"and i1 {uniform}, {good}")
                continue
            lanes = self.plan.lanes
            narrow = condition.extent < NARROW_INDEX and abs(stride) * lanes < NARROW_INDEX and self._small(condition)
            element = "i32" if narrow else "i64"
            if narrow and total:
                base = region.value(f"trunc i64 {base} to i32")
            kind = vector(element, lanes)
            places = region.value(f"add {kind} {region.splat(base, element, lanes)}, {self._steps(stride, element)}")
            limit = self.text.constant(kind, spelled(element, [condition.extent] * lanes))
            good = region.value(f"icmp ult {kind} {places}, {limit}")
            mask = good if mask is None else region.value(f"and {vector('i1', lanes)} {mask}, {good}")
        return uniform, mask

    def _small(self, condition: Range) -> bool:
        extents = (*self.plan.nest.outer, *self.lowered.phase.inner)
        reach = sum([abs(stride) * extent for stride, extent in zip(condition.strides, extents)])
        return abs(condition.offset) + reach < NARROW_INDEX

    def _masked(self, region: Region, access: Access, instance: Instance, local: bool) -> tuple[str | None, str | None]:
        """Return the conditions of an access, the instance's own lanes among them."""
        uniform, mask = self._conditions(region, access.inside, instance)
        own = None if local else self.mask(instance)
        if own is not None:
            mask = own if mask is None else region.value(f"and {vector('i1', self.plan.lanes)} {mask}, {own}")
        return uniform, mask
