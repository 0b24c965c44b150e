"""Matrix products with fused epilogues, as kernels for given shapes and strides.

The result is cut into tiles that stay in registers while k runs (`products_tiles`), and into panels: columns of tiles,
for which the right factor is packed (`products_packing`). A unit of work is a row of tiles within a group of panels;
consecutive units share what is packed. Each element is summed by one tile, in the order of k, so that any division of
units among threads gives the same bits. Tiles are stored where they belong, or pass through the epilogue
(`products_epilogue`).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from ..kernels import Kernel
from ..nests import Access, Counter, Store
from ..scalar_ir import DType, input_scalar
from .machine import Machine
from .products_code import SIZES, Code
from .products_epilogue import Corner, Epilogue, machine_stores, write_rows
from .products_layout import Product, normalised
from .products_packing import MARGIN, Source, pack_function
from .products_plan import WORTHWHILE, Plan, Split
from .products_tiles import Tile, tile_function
from .vectors import SYMBOL, TYPES


class _Scratch(NamedTuple):
    """Where in its scratch memory, in bytes, a thread has the packed right factor, the left one, and a tile."""

    right: int
    left: int
    tile: int
    size: int


class _Unit(NamedTuple):
    """A unit of work in the making: names of its indices, and of the addresses that it works on."""

    batch: tuple[str | int, ...]
    tile: str | int
    group: str | int
    row: str | int
    left: str
    right: str


def product_kernel(product: Product, machine: Machine) -> Kernel:
    """Return the kernel of a matrix product."""
    product, plan = normalised(product, machine)
    return _Generator(product, plan, machine).kernel()


class _Generator:
    """Writes one kernel."""

    def __init__(self, product: Product, plan: Plan, machine: Machine) -> None:
        self.product, self.plan, self.machine = product, plan, machine
        self.kind = TYPES[product.dtype]
        self.lanes = plan.lanes
        self.height, self.width = plan.rows.largest, plan.columns.largest
        self.left_width = -(-self.height // self.lanes)
        self.code = Code()
        self.helpers: dict[str, list[str]] = {}
        self.declarations: dict[str, None] = {}
        self.stores = machine_stores(product.stores)
        self.scratch = self._scratch()
        self.masked = product.n % self.lanes != 0

    def _scratch(self) -> _Scratch:
        plan, size, lanes = self.plan, SIZES[self.kind], self.lanes
        right = plan.group * self._panel_bytes() if plan.pack_right else 0
        left = self.product.k * self.left_width * lanes * size if plan.pack_left else 0
        tile = self.height * self.width * lanes * size
        places = [0]
        for part in (right, left, tile):
            places.append(places[-1] + -(-part // 64) * 64)
        return _Scratch(*places)

    def kernel(self) -> Kernel:
        """Return the kernel."""
        product, plan = self.product, self.plan
        batches = _count(product.batch)
        units = batches * plan.rows.count * plan.groups if product.m and product.n else 0
        if units:
            self._units(plan.rows, plan.groups)
        head = f"define void {SYMBOL}(ptr %operands, i64 %begin, i64 %end, ptr %scratch)"
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
        )

    def _units(self, rows: Split, groups: int) -> None:
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
        with code.when(code.compare("%begin", "slt", "%end")), code.loop("%begin", "%end") as unit:
            rest, tile = code.divide(unit, rows.count)
            rest, group = code.divide(str(rest), groups)
            batch: list[str | int] = []
            for extent in reversed(product.batch):
                rest, index = code.divide(str(rest), extent)
                batch.insert(0, index)
            row = _start(code, rows, tile)
            left = self._factor(addresses, product.a, batch)
            right = self._factor(addresses, product.b, batch)
            at = _Unit(tuple(batch), tile, group, row, left, right)
            if plan.pack_right:
                self._pack_right(at, packed)
            self._panels(at, epilogue)

    def _factor(self, addresses: list[str], access: Access, batch: list[str | int]) -> str:
        """Return the address of a factor's matrix of a batch."""
        terms = [(index, stride) for index, stride in zip(batch, access.strides) if stride]
        return self.code.element(self.kind, addresses[access.operand], (1, access.offset), *terms)

    def _pack_right(self, at: _Unit, packed: tuple[str, str]) -> None:
        """Write the packing of a group of panels, unless they are those of the unit before."""
        code, product, plan = self.code, self.product, self.plan
        name = f"{SYMBOL}.pack_right"
        step, stride = product.b.strides[-2:]
        source = Source(self.kind, product.k, product.n, step, stride)
        self._helper(name, *pack_function(name, source, self.lanes, self.width))
        first, last = self._span(at)
        same = code.value(f"icmp ne ptr {at.right}, {code.value(f'load ptr, ptr {packed[0]}')}")
        other = code.compare(first, "ne", code.value(f"load i64, ptr {packed[1]}"))
        with code.when(code.value(f"or i1 {same}, {other}")):
            code.write(f"store ptr {at.right}, ptr {packed[0]}")
            code.write(f"store i64 {first}, ptr {packed[1]}")
            with code.loop(first, last) as panel:
                column = code.multiply(_start(code, plan.columns, panel), self.lanes)
                code.write(f"call void {name}(ptr {at.right}, ptr {self._panel(panel, first)}, i64 {column})")

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
        return -(-self.product.k * self.width * self.lanes * SIZES[self.kind] // 64) * 64 + MARGIN

    def _panels(self, at: _Unit, epilogue: Epilogue) -> None:
        """Write the loop over the panels of a unit: a tile, and what becomes of it, for each."""
        code, plan, product = self.code, self.plan, self.product
        left = code.element(self.kind, at.left, (at.row, product.a.strides[-2]))
        if plan.pack_left:
            name = f"{SYMBOL}.pack_left"
            stride, step = product.a.strides[-2:]
            source = Source(self.kind, product.k, product.m, step, stride)
            self._helper(name, *pack_function(name, source, self.lanes, self.left_width))
            left = code.element("i8", "%scratch", (self.scratch.left, 1))
            code.write(f"call void {name}(ptr {at.left}, ptr {left}, i64 {at.row})")
        first, last = self._span(at)
        with code.loop(first, last) as panel:
            column = code.multiply(_start(code, plan.columns, panel), self.lanes)
            corner = Corner(at.batch, at.row, column)
            right = self._panel(panel, first)
            if not plan.pack_right:
                right = code.element(self.kind, at.right, (column, 1))
            self._tile(at, panel, corner, left, right, epilogue)

    def _tile(self, at: _Unit, panel: str, corner: Corner, left: str, right: str, epilogue: Epilogue) -> None:
        """Write the call that computes a tile, into its place or into scratch, and then the epilogue."""
        code, plan, product = self.code, self.plan, self.product
        tile = code.element("i8", "%scratch", (self.scratch.tile, 1))
        pitch: str | int = self.width * self.lanes
        columns = _chosen(code, plan.columns, panel)
        rows = _chosen(code, plan.rows, at.tile)
        outside = None
        target = tile
        if epilogue.plain:
            store = epilogue.stores[0].target
            terms = list(zip(corner.indices, store.strides))
            target = code.element(self.kind, epilogue.addresses[store.operand], (1, store.offset), *terms)
            stride = store.strides[-2]
            if self.masked:
                end = code.add(corner.column, code.multiply(columns, self.lanes))
                outside = code.compare(end, "sgt", product.n)
                target = code.select(outside, "ptr", tile, target)
                stride = code.select(outside, "i64", pitch, stride)
            self._calls(at, panel, f"ptr {left}, ptr {right}, ptr {target}, i64 {stride}")
            if outside is None:
                return
            with code.when(outside):
                self._epilogue(epilogue, corner, rows, columns, tile)
            return
        self._calls(at, panel, f"ptr {left}, ptr {right}, ptr {tile}, i64 {pitch}")
        self._epilogue(epilogue, corner, rows, columns, tile)

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
        product, plan = self.product, self.plan
        row_stride, left_step = product.a.strides[-2:]
        if plan.pack_left:
            row_stride, left_step = 1, self.left_width * self.lanes
        right_step, align = product.b.strides[-2], SIZES[self.kind]
        if plan.pack_right:
            right_step = self.width * self.lanes
            align = min(64, SIZES[self.kind] * self.lanes)
        tile = Tile(
            self.kind, self.lanes, height, width, product.k, row_stride, left_step, right_step, align, self.machine.fma
        )
        if name not in self.helpers:
            self._helper(name, *tile_function(name, tile))
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


def plain_product(
    name: str, batch: tuple[int, ...], m: int, n: int, k: int, dtype: DType, a: Access, b: Access, out: Access
) -> Product:
    """Return a product that is only stored."""
    count = 1 + max(a.operand, b.operand, out.operand)
    inputs: dict[str, Access | Counter] = {}
    return Product(name, batch, m, n, k, a, b, (dtype,) * count, inputs, (Store(out, input_scalar("product", dtype)),))


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
