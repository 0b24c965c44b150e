"""Writes kernels of matrix products: units of work, in which factors are packed, tiles computed and results stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import NamedTuple

from ..kernels import Kernel, Span
from ..nests import Access, Store
from .machine import Machine
from .products_code import SIZES, Code
from .products_dots import dot_function
from .products_epilogue import Corner, Epilogue, machine_stores, walked, write_prefetches, write_rows
from .products_layout import Product
from .products_matrix import configure, matrix_function, pack_rows_function, padded_pairs, release
from .products_packing import MARGIN, Packed, Source, pack_function, packing
from .products_plan import WORTHWHILE, Plan, Split
from .products_tiles import Tile, tile_function
from .spans import merged, span_of
from .vectors import SYMBOL, TYPES

DEEP = 32
"""From so many steps of k on, a unit that only calls functions of tiles is compiled fast: it takes a quarter off the
time to compile a product, and what is not spent in the tiles is too little to be measured."""


FAR = 1
"""How many times as large as the second cache what an epilogue reads and writes is, to be fetched beforehand."""


class _Scratch(NamedTuple):
    """Where in its scratch memory, in bytes, a thread has the packed right factor, the left one, and a tile."""

    right: int
    left: int
    tile: int
    size: int


class _Place(NamedTuple):
    """Where a tile goes.

    Attributes:
        panel, within: its panel, and the panel's place in its group.
        corner: indices of its first element.
        rows, columns: its size, in rows and in vectors.
        tile: address of its memory in scratch.
        target, stride: where it is written, and from row to row.
        through: whether that is scratch.
    """

    panel: str
    within: str | int
    corner: Corner
    rows: str | int
    columns: str | int
    tile: str
    target: str
    stride: str | int
    through: str


class _Unit(NamedTuple):
    """A unit of work in the making: names of its indices, and of the addresses that it works on."""

    batch: tuple[str | int, ...]
    tile: str | int
    group: str | int
    row: str | int
    left: str
    right: str


class Generator:
    """Writes one kernel."""

    def __init__(self, product: Product, plan: Plan, machine: Machine) -> None:
        self.product, self.plan, self.machine = product, plan, machine
        self.kind = TYPES[product.dtype]
        self.lanes = plan.lanes
        self.height, self.width = plan.rows.largest, plan.columns.largest
        rows = plan.stack * self.height
        lanes = rows if rows in (2, 4, 8) else self.lanes
        vectors = -(-rows // lanes)
        stride, step = product.a.strides[-2:]
        self.left_source = Source(self.kind, product.k, product.m, step, stride, plan.form)
        turned = packing(self.left_source, lanes) == "transpose"
        self.left = Packed(lanes, vectors, vectors * lanes if turned else rows)
        self.pairs = product.k // self.left_source.each
        self.steps = padded_pairs(product.k) if plan.form == "tiles" else self.pairs
        self.right = Packed(self.lanes, self.width, self.width * self.lanes)
        self.code = Code()
        self.helpers: dict[str, list[str]] = {}
        self.declarations: dict[str, None] = {}
        self.stores = machine_stores(product.stores)
        self.scratch = self._scratch()
        self.masked = product.n % self.lanes != 0
        self.rows_first = _rows_first(product, plan, machine)

    def _scratch(self) -> _Scratch:
        plan, size = self.plan, SIZES[self.kind]
        right = plan.group * self._panel_bytes() + MARGIN if plan.pack_right else 0
        left = self.left.pitch * plan.depth.largest * size + MARGIN if plan.pack_left else 0
        tile = self._tile_bytes() * (plan.group * plan.stack if plan.parts else 1)
        places = [0]
        for part in (right, left, tile):
            places.append(places[-1] + -(-part // 64) * 64)
        return _Scratch(*places)

    def _tile_bytes(self) -> int:
        return self.height * self.width * self.lanes * SIZES[self.kind]

    def kernel(self) -> Kernel:
        """Return the kernel."""
        product, plan = self.product, self.plan
        batches = _count(product.batch)
        units = batches * plan.stacks * plan.groups if product.m and product.n else 0
        if units:
            self._units(plan.stacks, plan.groups)
        head = f"define void {SYMBOL}(ptr %operands, i64 %begin, i64 %end, ptr %scratch)"
        if product.k >= DEEP and Epilogue(product.inputs, self.stores, product.operands, ()).plain:
            head += " noinline optnone"
        lines = [line for helper in self.helpers.values() for line in helper]
        lines += [line for _, line in self.code.text.tables.values()]
        source = "\n".join([*lines, *self.code.function(head)])
        digest = blake2b(source.encode(), digest_size=10).hexdigest()
        name = f"{product.name}_{product.m}x{product.n}x{product.k}_{digest}"
        self.declarations.update(self.code.text.declarations)
        elements = batches * (product.m * product.k + product.k * product.n)
        return Kernel(
            name=name,
            source=source.replace(SYMBOL, f"@{name}"),
            declarations=tuple(self.declarations),
            units=units,
            grain=max(1, int(WORTHWHILE * max(1, units) / max(1.0, plan.cycles))),
            scratch=self.scratch.size,
            flops=2 * batches * product.m * product.n * product.k,
            moved=elements * product.dtype.itemsize + sum([_bytes(product, store) for store in product.stores]),
            spans=_spans(product, plan, self.rows_first) if units else (),
        )

    def _units(self, stacks: int, groups: int) -> None:
        """Write the loop over units of work."""
        code, product, plan = self.code, self.product, self.plan
        addresses = []
        for position in range(len(product.operands)):
            slot = code.element("ptr", "%operands", (position, 1))
            addresses.append(code.value(f"load ptr, ptr {slot}, align 8"))
        packed = code.value("alloca ptr"), code.value("alloca i64")
        code.write(f"store ptr null, ptr {packed[0]}")
        code.write(f"store i64 -1, ptr {packed[1]}")
        epilogue = Epilogue(product.inputs, self.stores, product.operands, tuple(addresses))
        with self._registers(), code.when(code.compare("%begin", "slt", "%end")), code.loop("%begin", "%end") as unit:
            stack, group, batch = self._decoded(unit, stacks, groups)
            tile = code.multiply(stack, plan.stack)
            row = _start(code, plan.rows, tile)
            left = self._factor(addresses, product.a, batch)
            right = self._factor(addresses, product.b, batch)
            at = _Unit(tuple(batch), tile, group, row, left, right)
            if plan.pack_right and not plan.long:
                self._pack_right(at, packed)
            if plan.form == "tiles" and len(plan.rows.sizes) > 1:
                self._configure(tile)
            self._panels(at, epilogue)

    @contextmanager
    def _registers(self) -> Iterator[None]:
        """Write what the processor's tile registers need before the first unit and after the last."""
        if self.plan.form != "tiles":
            yield
            return
        if len(self.plan.rows.sizes) == 1:
            configure(self.code, self.height)
        yield
        release(self.code)

    def _configure(self, tile: str | int) -> None:
        """Write the configuration of the tile registers for a unit, where units differ in their rows."""
        for height, relation in zip(self.plan.rows.sizes, ("slt", "sge"), strict=True):
            with self.code.when(self.code.compare(tile, relation, self.plan.rows.longer)):
                configure(self.code, height)

    def _decoded(self, unit: str, stacks: int, groups: int) -> tuple[str | int, str | int, list[str | int]]:
        """Return which stack of tiles, group of panels and batch a unit is."""
        code, batch = self.code, list[str | int]()
        rest, stack = (unit, 0) if self.rows_first else code.divide(unit, stacks)
        rest, group = code.divide(str(rest), groups)
        for extent in reversed(self.product.batch):
            rest, index = code.divide(str(rest), extent)
            batch.insert(0, index)
        return rest if self.rows_first else stack, group, batch

    def _factor(self, addresses: list[str], access: Access, batch: list[str | int]) -> str:
        """Return the address of a factor's matrix of a batch."""
        terms = [(index, stride) for index, stride in zip(batch, access.strides) if stride]
        return self.code.element(self.kind, addresses[access.operand], (1, access.offset), *terms)

    def _pack_right(self, at: _Unit, packed: tuple[str, str]) -> None:
        """Write the packing of a group of panels, unless they are those of the unit before."""
        code = self.code
        first, _ = self._span(at)
        same = code.value(f"icmp ne ptr {at.right}, {code.value(f'load ptr, ptr {packed[0]}')}")
        other = code.compare(first, "ne", code.value(f"load i64, ptr {packed[1]}"))
        with code.when(code.value(f"or i1 {same}, {other}")):
            code.write(f"store ptr {at.right}, ptr {packed[0]}")
            code.write(f"store i64 {first}, ptr {packed[1]}")
            self._pack_panels(at, 0, self.steps)

    def _pack_panels(self, at: _Unit, start: str | int, depth: str | int) -> None:
        """Write the packing of a part of k of a group of panels."""
        code, product, plan = self.code, self.product, self.plan
        name = f"{SYMBOL}.pack_right"
        step, stride = product.b.strides[-2:]
        source = Source(self.kind, product.k, product.n, step, stride, plan.form)
        self._helper(name, *pack_function(name, source, self.right))
        first, last = self._span(at)
        part = code.element(self.kind, at.right, (start, source.each * step))
        with code.loop(first, last) as panel:
            column = code.multiply(_start(code, plan.columns, panel), self.lanes)
            to = self._panel(panel, first)
            given = self.pairs if plan.form == "tiles" else depth
            code.write(f"call void {name}(ptr {part}, ptr {to}, i64 {column}, i64 {given})")
            for step in range(self.pairs, self.steps):
                for vector in range(self.width):
                    end = code.element("i32", to, (step, self.right.pitch), (vector, self.lanes))
                    code.store("i32", self.lanes, "zeroinitializer", end)

    def _span(self, at: _Unit) -> tuple[str | int, str | int]:
        """Return the first panel of a group, and the one after its last."""
        code, plan = self.code, self.plan
        first = code.multiply(at.group, plan.group)
        return first, code.least(code.add(first, plan.group), plan.columns.count)

    def _panel(self, panel: str | int, first: str | int) -> str:
        """Return the address of a packed panel."""
        code = self.code
        within = code.add(panel, code.multiply(first, -1))
        return code.element("i8", "%scratch", (within, self._panel_bytes()), (self.scratch.right + MARGIN, 1))

    def _panel_bytes(self) -> int:
        steps = self.plan.depth.largest if self.plan.long else self.steps
        return -(-steps * self.width * self.lanes * SIZES[self.kind] // 64) * 64 + MARGIN

    def _panels(self, at: _Unit, epilogue: Epilogue) -> None:
        """Write what a unit does: all parts of k, for its tiles, panel by panel; and then what becomes of the tiles."""
        code, plan = self.code, self.plan
        if not plan.parts:
            left = self._left(at, 0, self.steps)
            for tile, place in self._tiles(at, epilogue):
                self._fetch(place, epilogue)
                self._part(tile, place, self._below(left, tile, at), 0, self.steps)
                self._finish(place, epilogue)
            return
        with code.loop(0, plan.depth.count) as part:
            start, depth = _start(code, plan.depth, part), _chosen(code, plan.depth, part)
            left = self._left(at, start, depth)
            if plan.long:
                self._pack_panels(at, start, depth)
            for tile, place in self._tiles(at, epilogue):
                self._part(tile, place, self._below(left, tile, at), start, depth)
        for _, place in self._tiles(at, epilogue):
            self._finish(place, epilogue)

    def _tiles(self, at: _Unit, epilogue: Epilogue) -> Iterator[tuple[_Unit, _Place]]:
        """Write the loop over the tiles of a unit."""
        code = self.code
        first, last = self._span(at)
        if self.plan.stack == 1:
            with code.loop(first, last) as panel:
                yield at, self._place(at, panel, first, 0, epilogue)
            return
        count = code.least(code.add(self.plan.rows.count, code.multiply(at.tile, -1)), self.plan.stack)
        with code.loop(0, count) as number:
            index = code.add(at.tile, number)
            tile = at._replace(tile=index, row=_start(code, self.plan.rows, index))
            with code.loop(first, last) as panel:
                yield tile, self._place(tile, panel, first, code.multiply(number, self.plan.group), epilogue)

    def _below(self, left: str, tile: _Unit, at: _Unit) -> str:
        """Return the address of the left factor for one of a unit's tiles."""
        if tile is at:
            return left
        down = self.code.add(tile.row, self.code.multiply(at.row, -1))
        return self.code.element(self.kind, left, (down, 1 if self.plan.pack_left else self.product.a.strides[-2]))

    def _left(self, at: _Unit, start: str | int, depth: str | int) -> str:
        """Return the address of the left factor's part for a unit's tiles, packed if that is the plan."""
        code, product = self.code, self.product
        stride, step = product.a.strides[-2:]
        if not self.plan.pack_left:
            return code.element(self.kind, at.left, (at.row, stride), (start, step))
        name = f"{SYMBOL}.pack_left"
        if self.plan.form == "tiles":
            self._helper(name, *pack_rows_function(name, self.left_source, self.height))
        else:
            self._helper(name, *pack_function(name, self.left_source, self.left))
        source = code.element(self.kind, at.left, (start, self.left_source.each * step))
        to = code.element("i8", "%scratch", (self.scratch.left, 1))
        code.write(f"call void {name}(ptr {source}, ptr {to}, i64 {at.row}, i64 {depth})")
        return to

    def _place(self, at: _Unit, panel: str, first: str | int, before: str | int, epilogue: Epilogue) -> _Place:
        """Return where a tile is written: where it belongs, or into scratch for the epilogue."""
        code, plan, product = self.code, self.plan, self.product
        column = code.multiply(_start(code, plan.columns, panel), self.lanes)
        corner = Corner(at.batch, at.row, column)
        columns, rows = _chosen(code, plan.columns, panel), _chosen(code, plan.rows, at.tile)
        within = code.add(panel, code.multiply(first, -1))
        number = code.add(within, before) if plan.parts else 0
        tile = code.element("i8", "%scratch", (number, self._tile_bytes()), (self.scratch.tile, 1))
        place = _Place(panel, within, corner, rows, columns, tile, tile, self.width * self.lanes, "true")
        if not epilogue.plain or plan.dots:
            return place
        store = epilogue.stores[0].target
        terms = [(index, stride) for index, stride in zip(corner.indices, store.strides) if stride]
        target = code.element(self.kind, epilogue.addresses[store.operand], (1, store.offset), *terms)
        if not self.masked:
            return place._replace(target=target, stride=store.strides[-2], through="false")
        end = code.add(column, code.multiply(columns, self.lanes))
        through = code.compare(end, "sgt", product.n)
        stride = code.select(through, "i64", place.stride, store.strides[-2])
        return place._replace(target=code.select(through, "ptr", tile, target), stride=stride, through=through)

    def _part(self, at: _Unit, place: _Place, left: str, start: str | int, depth: str | int) -> None:
        """Write the call that computes a tile, as far as a part of k goes."""
        code, plan, product = self.code, self.plan, self.product
        column = place.corner.column
        if plan.dots:
            right, start = at.right, column
        elif plan.pack_right:
            step = self.right.pitch * SIZES[self.kind]
            within = 0 if plan.long else start
            where = ((place.within, self._panel_bytes()), (within, step), (self.scratch.right + MARGIN, 1))
            right = code.element("i8", "%scratch", *where)
        else:
            right = code.element(self.kind, at.right, (column, 1), (start, product.b.strides[-2]))
        given = f"ptr {left}, ptr {right}, ptr {place.target}, i64 {place.stride}, i64 {depth}, i64 {start}"
        self._calls(at, place.panel, given)

    def _fetch(self, place: _Place, epilogue: Epilogue) -> None:
        """Write prefetches of what the epilogue works on, where that comes from memory: of the panel after this one."""
        product, plan = self.product, self.plan
        far = walked(epilogue)
        elements = _count(product.batch) * product.m * product.n
        size = sum([elements * product.operands[access.operand].itemsize for access in far])
        if place.through == "true" and size >= FAR * self.machine.level2:
            ahead = self.width * self.lanes if plan.group > 1 else 0
            corner = place.corner._replace(column=self.code.add(place.corner.column, ahead))
            write_prefetches(self.code, epilogue, far, corner, place.rows, self.width * self.lanes)

    def _finish(self, place: _Place, epilogue: Epilogue) -> None:
        """Write the epilogue of a tile that is in scratch."""
        if place.through == "true":
            self._epilogue(epilogue, place.corner, place.rows, place.columns, place.tile)
        elif place.through != "false":
            with self.code.when(place.through):
                self._epilogue(epilogue, place.corner, place.rows, place.columns, place.tile)

    def _calls(self, at: _Unit, panel: str, given: str) -> None:
        """Write the call of the function that computes tiles of the size at hand."""
        code, plan = self.code, self.plan
        for height in plan.rows.sizes:
            for width in plan.columns.sizes:
                flags = []
                if len(plan.rows.sizes) > 1:
                    relation = "slt" if height == self.height else "sge"
                    flags.append(code.compare(at.tile, relation, plan.rows.longer))
                if len(plan.columns.sizes) > 1:
                    relation = "slt" if width == self.width else "sge"
                    flags.append(code.compare(panel, relation, plan.columns.longer))
                call = f"call void {self._tile_function(height, width)}({given})"
                if not flags:
                    code.write(call)
                    continue
                condition = flags[0] if len(flags) == 1 else code.value(f"and i1 {flags[0]}, {flags[1]}")
                with code.when(condition):
                    code.write(call)

    def _tile_function(self, height: int, width: int) -> str:
        """Return the symbol of the function that computes tiles of a size."""
        name = f"{SYMBOL}.tile{height}x{width}"
        if name in self.helpers:
            return name
        product, plan, size = self.product, self.plan, SIZES[self.kind]
        (row_stride, left_step), (right_step, column_stride) = product.a.strides[-2:], product.b.strides[-2:]
        align = size
        if plan.pack_left:
            row_stride, left_step = 1, self.left.pitch
        if plan.pack_right:
            right_step, align = self.right.pitch, min(64, size * self.lanes)
        strides = row_stride, left_step, right_step, column_stride
        how = plan.parts, self.machine.fma, plan.form == "pairs"
        tile = Tile(self.kind, self.lanes, height, width, *strides, align, *how)
        if plan.form == "tiles":
            self._helper(name, *matrix_function(name, height, width, self.height, self.right.pitch))
        elif plan.dots:
            self._helper(name, *dot_function(name, tile, product.k, product.n))
        else:
            self._helper(name, *tile_function(name, tile, product.k == 0))
        return name

    def _epilogue(self, epilogue: Epilogue, corner: Corner, rows: str | int, columns: str | int, tile: str) -> None:
        """Write the epilogue of a tile in scratch."""
        code, lanes = self.code, self.lanes
        pitch = self.width * lanes
        with code.loop(0, columns) as vector:
            offset = code.multiply(vector, lanes)
            column = code.add(corner.column, offset)
            at = code.element(self.kind, tile, (offset, 1))
            place = Corner(corner.batch, corner.row, column)
            if not self.masked:
                write_rows(code, epilogue, lanes, place, rows, at, pitch, None)
                return
            valid = code.add(self.product.n, code.multiply(column, -1))
            if self.machine.masks:
                write_rows(code, epilogue, lanes, place, rows, at, pitch, code.lane_mask(lanes, valid))
                return
            whole = code.compare(valid, "sge", lanes)
            with code.when(whole):
                write_rows(code, epilogue, lanes, place, rows, at, pitch, None)
            with code.when(code.value(f"xor i1 {whole}, true")):
                write_rows(code, epilogue, lanes, place, rows, at, pitch, code.lane_mask(lanes, valid))

    def _helper(self, name: str, lines: list[str], code: Code) -> None:
        self.helpers[name] = lines
        self.declarations.update(code.text.declarations)


def _rows_first(product: Product, plan: Plan, machine: Machine) -> bool:
    """Whether units of the same rows follow each other, in all batches, so that a thread's units are whole rows.

    So it is where batches lie within the rows of the result and the right factors of all batches stay in the cache: a
    thread may then have computed these rows of the left factor, and will go on with the same rows of the result.
    """
    if plan.pack_right or plan.dots or not product.batch:
        return False
    right = _count(product.batch) * product.k * product.n * product.dtype.itemsize
    strides = [store.target.strides for store in product.stores]
    return right <= machine.level2 // 2 and all([max(outer) < row for *outer, row, _ in strides])


def _spans(product: Product, plan: Plan, rows_first: bool) -> tuple[Span, ...]:
    """Return where units touch operands, if units of the same rows follow each other."""
    is_divided = rows_first or (_count(product.batch) == plan.groups == 1)
    if not is_divided or plan.rows.longer or plan.rows.count % plan.stack:
        return ()
    rows, axis = plan.rows.size * plan.stack, len(product.batch)
    result = (*product.batch, rows, product.n)
    touched: list[tuple[Access, tuple[int, ...], int | None, bool]] = [
        (product.a, (*product.batch, rows, product.k), axis, False),
        (product.b, (*product.batch, product.k, product.n), None, False),
        *[(source, result, axis, False) for source in product.inputs.values() if isinstance(source, Access)],
        *[(store.target, result, axis, True) for store in product.stores],
    ]
    per = _count(product.batch) * plan.groups
    return merged(
        [
            span_of(access, extents, along, rows, product.operands[access.operand].itemsize, per, writes)
            for access, extents, along, writes in touched
        ]
    )


def _count(extents: tuple[int, ...]) -> int:
    count = 1
    for extent in extents:
        count *= extent
    return count


def _bytes(product: Product, store: Store) -> int:
    return _count(product.batch) * product.m * product.n * product.operands[store.target.operand].itemsize


def _start(code: Code, parts: Split, index: str | int) -> str | int:
    """Return where a part of a cut extent begins."""
    begin = code.multiply(index, parts.size)
    if parts.longer in (0, parts.count):
        return code.multiply(index, parts.largest)
    return code.add(begin, code.least(index, parts.longer))


def _chosen(code: Code, parts: Split, index: str | int) -> str | int:
    """Return the size of a part of a cut extent."""
    if len(parts.sizes) == 1:
        return parts.largest
    return code.select(code.compare(index, "slt", parts.longer), "i64", parts.size + 1, parts.size)
