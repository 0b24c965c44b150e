"""Loads, stores and addresses of loop nests: contiguous, reversed, strided, picked, under conditions, ragged.

No address outside an operand is ever read or written. A condition that is the same for all lanes chooses between the
operand and a small table of what stands for missing elements; one that varies among lanes becomes a mask.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from ..nests import Access, Range, Store
from ..scalar_ir import BOOL, DType, Scalar
from .nests_plan import Lowered, Plan, access_axes
from .vectors import STORED, TYPES, Region, Text, literal, spelled, suffix, vector

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


class Memory:
    """What the code of a nest's phases shares: the stack of regions, and where values live in it."""

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

    # Loads

    def _resolved(self, access: Access) -> tuple[Access, bool]:
        """Return an access with its strides in memory, and whether it is to scratch that holds a vector per element."""
        if not self.plan.nest.operands[access.operand].scratch or self.plan.lane_axis is None:
            return access, False
        block, lane = self.plan.block, self.plan.lane_axis
        strides = [stride * block for stride in access.strides]
        strides[lane] = 1
        picks = tuple([(pick, stride * block) for pick, stride in access.picks])
        return access._replace(offset=access.offset * block, strides=tuple(strides), picks=picks), True

    def load(self, region: Region, access: Access, dtype: DType, instance: Instance) -> str:
        """Append the load of an element, for each lane if it differs among them; return its name."""
        access, local = self._resolved(access)
        lanes = self.plan.lanes if self.varies_in_lanes(access_axes(access, self.lowered.axes)) else 1
        pointer = self._pointer(region, access, instance, local)
        stored = STORED[dtype]
        if lanes == 1:
            uniform, _ = self._conditions(region, access.inside, instance)
            pointer = self._or_fill(region, pointer, uniform, access, dtype)
            loaded = region.value(f"load {stored}, ptr {pointer}, align {dtype.itemsize}")
        else:
            loaded = self._load_vector(region, access, dtype, instance, pointer, local)
        if dtype == BOOL:
            zero = "0" if lanes == 1 else self.text.constant(vector("i8", lanes), "zeroinitializer")
            return region.value(f"icmp ne {vector('i8', lanes)} {loaded}, {zero}")
        return loaded

    def _or_fill(self, region: Region, pointer: str, condition: str | None, access: Access, dtype: DType) -> str:
        """Return the address, or where the condition does not hold, that of a vector of fill values."""
        if condition is None:
            return pointer
        stored = STORED[dtype]
        fill = str(int(access.fill)) if dtype == BOOL else literal(access.fill, dtype)
        table = self.text.table(stored, [fill] * self.plan.lanes)
        return region.value(f"select i1 {condition}, ptr {pointer}, ptr {table}")

    def _picked(self, access: Access) -> bool:
        return any([self.lanes_of(pick) > 1 for pick, _ in access.picks])

    def _load_vector(
        self, region: Region, access: Access, dtype: DType, instance: Instance, pointer: str, local: bool
    ) -> str:
        lanes, stored = self.plan.lanes, STORED[dtype]
        kind, flags = vector(stored, lanes), vector("i1", lanes)
        stride = access.strides[self.lane_axis or 0]
        uniform, mask = self._masked(region, access, instance, local)
        fill = int(access.fill) if dtype == BOOL else literal(access.fill, dtype)
        filled = self.text.constant(kind, spelled(stored, [fill] * lanes))
        if stride in (1, -1) and not self._picked(access):
            reverse = range(lanes - 1, -1, -1)
            if stride == -1:
                pointer = region.value(f"getelementptr {stored}, ptr {pointer}, i64 {1 - lanes}")
                mask = region.shuffle(mask, "i1", lanes, reverse) if mask is not None else None
            pointer = self._or_fill(region, pointer, uniform, access, dtype)
            if mask is None:
                loaded = region.value(f"load {kind}, ptr {pointer}, align {dtype.itemsize}")
            else:
                operands = [("ptr", pointer), ("i32", str(dtype.itemsize)), (flags, mask), (kind, filled)]
                loaded = region.call(f"masked.load.{suffix(stored, lanes)}.p0", kind, operands)
            return region.shuffle(loaded, stored, lanes, reverse) if stride == -1 else loaded
        varied = any([condition.strides[self.lane_axis or 0] for condition in access.inside])
        if varied or isinstance(instance.active, str):
            return self._gather(region, access, dtype, instance, pointer, (uniform, mask, filled))
        if uniform is None:
            return self._load_lanes(region, access, dtype, instance, pointer)
        there, join, before = self.text.label(), self.text.label(), region.label
        region.write(f"br i1 {uniform}, label %{there}, label %{join}")
        region.start(there)
        known = dict(region.values)
        loaded = self._load_lanes(region, access, dtype, instance, pointer)
        region.values = known
        region.write(f"br label %{join}")
        last = region.label
        region.start(join)
        return region.value(f"phi {kind} [ {filled}, %{before} ], [ {loaded}, %{last} ]")

    def _gather(
        self,
        region: Region,
        access: Access,
        dtype: DType,
        instance: Instance,
        pointer: str,
        conditions: tuple[str | None, str | None, str],
    ) -> str:
        lanes, stored = self.plan.lanes, STORED[dtype]
        kind, flags, pointers = vector(stored, lanes), vector("i1", lanes), vector("ptr", lanes)
        uniform, mask, filled = conditions
        if uniform is not None:
            spread = region.splat(uniform, "i1", lanes)
            mask = spread if mask is None else region.value(f"and {flags} {mask}, {spread}")
        offsets = self._lane_offsets(region, access, instance)
        places = region.value(f"getelementptr {stored}, ptr {pointer}, {vector('i64', lanes)} {offsets}")
        mask = mask or self.text.number(True, BOOL, lanes)
        operands = [(pointers, places), ("i32", str(dtype.itemsize)), (flags, mask), (kind, filled)]
        return region.call(f"masked.gather.{suffix(stored, lanes)}.{suffix('p0', lanes)}", kind, operands)

    def _places(self, region: Region, access: Access, instance: Instance, pointer: str, stored: str) -> list[str]:
        """Return the addresses of an access's lanes, one by one."""
        stride = access.strides[self.lane_axis or 0]
        lanes = instance.active if isinstance(instance.active, int) else self.plan.lanes
        if not self._picked(access):
            return [
                region.value(f"getelementptr {stored}, ptr {pointer}, i64 {lane * stride}") for lane in range(lanes)
            ]
        offsets = self._lane_offsets(region, access, instance)
        places = []
        for lane in range(lanes):
            offset = region.value(f"extractelement {vector('i64', self.plan.lanes)} {offsets}, i64 {lane}")
            places.append(region.value(f"getelementptr {stored}, ptr {pointer}, i64 {offset}"))
        return places

    def _load_lanes(self, region: Region, access: Access, dtype: DType, instance: Instance, pointer: str) -> str:
        stored = STORED[dtype]
        kind = vector(stored, self.plan.lanes)
        loaded = "zeroinitializer"
        for lane, place in enumerate(self._places(region, access, instance, pointer, stored)):
            one = region.value(f"load {stored}, ptr {place}, align {dtype.itemsize}")
            loaded = region.value(f"insertelement {kind} {loaded}, {stored} {one}, i64 {lane}")
        return loaded

    # Stores

    def store(self, store: Store, instance: Instance) -> None:
        """Append a store, in the innermost region."""
        region = self.stack[-1]
        access, local = self._resolved(store.target)
        dtype = self.plan.nest.operands[access.operand].dtype
        pointer = self._pointer(region, access, instance, local)
        if self.lane_axis is None:
            uniform, _ = self._conditions(region, access.inside, instance)
            self._store_one(region, store, self.get(store.scalar, instance, 1), pointer, uniform)
            return
        value = self.get(store.scalar, instance, self.plan.lanes)
        if access.strides[self.lane_axis] in (1, -1) and not self._picked(access):
            self._store_vector(region, store, access, value, pointer, self._masked(region, access, instance, local))
            return
        uniform, mask = self._conditions(region, access.inside, instance)
        if isinstance(instance.active, str):
            flags = vector("i1", self.plan.lanes)
            mask = instance.active if mask is None else region.value(f"and {flags} {mask}, {instance.active}")
        kind = vector(TYPES[dtype], self.plan.lanes)
        for lane, place in enumerate(self._places(region, access, instance, pointer, STORED[dtype])):
            one = region.value(f"extractelement {kind} {value}, i64 {lane}")
            good = uniform
            if mask is not None:
                good = region.value(f"extractelement {vector('i1', self.plan.lanes)} {mask}, i64 {lane}")
                good = region.value(f"and i1 {good}, {uniform}") if uniform is not None else good
            self._store_one(region, store, one, place, good)

    def _store_one(self, region: Region, store: Store, value: str, pointer: str, condition: str | None) -> None:
        dtype = self.plan.nest.operands[store.target.operand].dtype
        stored, join = STORED[dtype], self.text.label()
        if condition is not None:
            there = self.text.label()
            region.write(f"br i1 {condition}, label %{there}, label %{join}")
            region.start(there)
        if dtype == BOOL:
            value = region.value(f"zext i1 {value} to i8")
        if store.add:
            old = region.value(f"load {stored}, ptr {pointer}, align {dtype.itemsize}")
            value = region.value(f"{'fadd' if dtype.kind == 'f' else 'add'} {stored} {old}, {value}")
        region.write(f"store {stored} {value}, ptr {pointer}, align {dtype.itemsize}")
        if condition is not None:
            region.write(f"br label %{join}")
            region.start(join)

    def _store_vector(
        self,
        region: Region,
        store: Store,
        access: Access,
        value: str,
        pointer: str,
        conditions: tuple[str | None, str | None],
    ) -> None:
        dtype, lanes = self.plan.nest.operands[access.operand].dtype, self.plan.lanes
        stored = STORED[dtype]
        kind, flags = vector(stored, lanes), vector("i1", lanes)
        uniform, mask = conditions
        if uniform is not None:
            spread = region.splat(uniform, "i1", lanes)
            mask = spread if mask is None else region.value(f"and {flags} {mask}, {spread}")
        if dtype == BOOL:
            value = region.value(f"zext {flags} {value} to {kind}")
        if access.strides[self.lane_axis or 0] == -1:
            reverse = range(lanes - 1, -1, -1)
            pointer = region.value(f"getelementptr {stored}, ptr {pointer}, i64 {1 - lanes}")
            value = region.shuffle(value, stored, lanes, reverse)
            mask = region.shuffle(mask, "i1", lanes, reverse) if mask is not None else None
        align = str(dtype.itemsize)
        if store.add:
            add = "fadd" if dtype.kind == "f" else "add"
            if mask is None:
                old = region.value(f"load {kind}, ptr {pointer}, align {align}")
            else:
                zero = self.text.constant(kind, "zeroinitializer")
                operands = [("ptr", pointer), ("i32", align), (flags, mask), (kind, zero)]
                old = region.call(f"masked.load.{suffix(stored, lanes)}.p0", kind, operands)
            value = region.value(f"{add} {kind} {old}, {value}")
        if mask is None:
            region.write(f"store {kind} {value}, ptr {pointer}, align {align}")
        else:
            operands = [(kind, value), ("ptr", pointer), ("i32", align), (flags, mask)]
            region.call(f"masked.store.{suffix(stored, lanes)}.p0", "void", operands)
