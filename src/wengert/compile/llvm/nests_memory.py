"""Loads, stores and addresses of loop nests: contiguous, reversed, strided, picked, under conditions, ragged.

No address outside an operand is ever read or written. A condition that is the same for all lanes chooses between the
operand and a small table of what stands for missing elements; one that varies among lanes becomes a mask.
"""

from __future__ import annotations

from ..nests import Access, Store
from ..scalar_ir import BOOL, DType
from .nests_lowered import access_axes
from .nests_places import Instance, Places
from .vectors import STORED, TYPES, Region, literal, spelled, suffix, vector


class Memory(Places):
    """Loads and stores."""

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
        table = self.text.table(stored, [_fill(access, dtype)] * self.plan.lanes)
        return region.value(f"select i1 {condition}, ptr {pointer}, ptr {table}")

    def _picked(self, access: Access) -> bool:
        return any([self.lanes_of(pick) > 1 for pick, _ in access.picks])

    def _maskable(self, stored: str, mask: str | None) -> bool:
        """Whether an access to neighbours may be made under a mask.

        LLVM 22 widens masks of eight bytes by a move between mask registers that it may then take for a mere copy, so
        that bytes beyond the vector are written (found by the tests' random nests, with AVX-512).
        """
        return mask is None or stored != "i8" or self.plan.lanes != 8

    def _load_vector(
        self, region: Region, access: Access, dtype: DType, instance: Instance, pointer: str, local: bool
    ) -> str:
        lanes, stored = self.plan.lanes, STORED[dtype]
        kind, flags = vector(stored, lanes), vector("i1", lanes)
        stride = access.strides[self.lane_axis or 0]
        uniform, mask = self._masked(region, access, instance, local)
        filled = self.text.constant(kind, spelled(stored, [_fill(access, dtype)] * lanes))
        if stride in (1, -1) and not self._picked(access) and self._maskable(stored, mask):
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
            conditions = self._masked(region, access, instance, local)
            if self._maskable(STORED[dtype], conditions[0] or conditions[1]):
                self._store_vector(region, store, access, value, pointer, conditions)
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


def _fill(access: Access, dtype: DType) -> str:
    """Return what stands for missing elements as they are stored; rounded, for LLVM takes only what a type has."""
    value = dtype.type(access.fill).item()
    return str(int(value)) if dtype == BOOL else literal(value, dtype)
