"""The gradient of a convolution by its weights: sums over images and grid points, with fixed bounds.

Images and cotangents are cut into *items*, bands of rows of an image. A few items at a time are copied to scratch: the
channels as padded planes, and, where masks are not for free, the cotangents with zeros between rows. A register tile of
filters x (channel, tap) pairs is summed over these items in vectors along the columns, whose lanes are added up in the
end. A unit of work is a *chunk*, a fixed number of items, for a group and some of its filters; where there are several
chunks, each has sums of its own, which a second kernel adds in order: the bits don't depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kernels import Kernel
from ..scalar_ir import DType
from .convolution_code import Index, Parts, PlaneCode, Work, float_dtype, grain_for
from .convolution_geometry import Convolution
from .convolution_planes import Line, write_copy, write_line
from .convolution_rounding import form_of_weights, rounds_weight_gradient
from .convolution_weights_plan import UNIT, divide_weights, work_of_weights, write_bounds, write_units
from .convolution_weights_tiles import suits_tiles, tiled_weight_gradient_kernel
from .machine import Machine
from .products_code import SIZES
from .products_packing import SHORT
from .vectors import SYMBOL, TYPES, spelled, vector

BLOCK_VECTORS = 16
"""Vectors of a unit of work of the kernel that adds up chunks."""


def weight_gradient_kernel(shape: Convolution, machine: Machine) -> Kernel:
    """Return the kernel of a convolution's gradient by its weights. Operands: input, output's cotangent, gradient.

    If there is more than one chunk (`weight_chunks`), the gradient of each is written, one after the other.
    """
    if machine.tiles and rounds_weight_gradient(shape) and suits_tiles(shape):
        return tiled_weight_gradient_kernel(shape, machine)
    return _Generator(shape, machine).kernel()


class _Generator:
    """Writes the kernel that sums over the items of chunks."""

    def __init__(self, shape: Convolution, machine: Machine) -> None:
        self.shape = shape
        self.machine = machine
        self.dtype = float_dtype(shape.dtype)
        self.form = form_of_weights(machine) if rounds_weight_gradient(shape) else ""
        self.stored = SHORT.get(self.form, TYPES[self.dtype])
        self.division = divide_weights(shape, SIZES[self.stored], machine, self.form)
        self.taps = shape.taps
        self.pairs = shape.depth * len(self.taps)
        self.block_pairs = self.pairs // self.division.channel_blocks
        self.grid = rows, columns = shape.grid[0]
        direct = self.division.direct
        self.filter_step = rows * columns if direct else self.division.filter_size
        self.line_step = columns if direct else self.division.planes.pitch

    def kernel(self) -> Kernel:
        """Return the kernel. Operands: input, output's cotangent, sums of the chunks."""
        shape, division, parts = self.shape, self.division, Parts()
        planes = division.planes
        runs = [
            channel * planes.channel_size + planes.offset(tap)
            for channel in range(planes.channels)
            for tap in self.taps
        ]
        parts.table("runs", runs)
        heights = {division.filters, shape.breadth % division.filters} - {0}
        widths = {division.pairs, self.block_pairs % division.pairs} - {0}
        for pairs in sorted(widths):
            head = f"private void {SYMBOL}.totals{pairs}(ptr %vectors, ptr %sums, i64 %rows, i1 %first)"
            parts.add(f"{head} noinline nounwind", self._totals_code(pairs))
        given = "ptr %runs, ptr %planes, ptr %cotangents, ptr %vectors, ptr %sums, i64 %item, i64 %count, i1 %first"
        for filters in sorted(heights):
            for pairs in sorted(widths):
                head = f"private void {SYMBOL}.tile{filters}x{pairs}({given}) noinline nounwind"
                parts.add(head, self._tile_code(filters, pairs))
        parts.add(f"{UNIT} noinline nounwind", self._unit_code())
        code = PlaneCode(self.dtype, self.machine)
        with code.when(code.compare("%begin", "slt", "%end")):
            elements = self.dtype.itemsize // SIZES[self.stored]
            code.fill("%scratch", -(-division.together * division.item_size // elements))
            write_units(code, shape.groups, division.channel_blocks, division.blocks)
        parts.add(f"void {SYMBOL}(ptr %operands, i64 %begin, i64 %end, ptr %scratch)", code)
        units = shape.groups * division.units
        work = work_of_weights(shape, self.dtype.itemsize)
        scratch = (division.vectors + division.filters * division.pairs * division.lanes) * SIZES[self.stored]
        name = "convolution_weights_bfloat16" if self.form else "convolution_weights"
        return parts.kernel(name, units, grain_for(units, work), scratch, work)

    def _tile_code(self, filters: int, pairs: int) -> PlaneCode:
        """Return the code that sums a register tile over the items in scratch."""
        code = PlaneCode(self.dtype, self.machine)
        division, rows = self.division, self.division.planes.rows
        runs = [code.element(self.stored, "%planes", (code.entry("%runs", pair), 1)) for pair in range(pairs)]
        starts = ["zeroinitializer"] * (filters * pairs)
        with code.sums(0, "%count", starts) as (item, sums):
            image, band = code.divide(code.value(f"add nsw i64 %item, {item}"), division.bands)
            last: Index = self.grid[0]
            if division.bands > 1:
                last = code.least(code.value(f"sub i64 {last}, {code.multiply(band, rows)}"), rows)
            images = [code.element(self.stored, run, (item, division.plane_size)) for run in runs]
            cotangents = code.element(self.stored, "%cotangents", (item, division.cotangent_size))
            if division.direct:
                place = (image, self.shape.filters * self.filter_step), (band, rows * self.line_step)
                cotangents = code.at("%cotangents", *place)
            if division.joined:
                sums.results = self._joined(code, images, cotangents, sums.names)
            else:
                with code.sums(0, last, sums.names) as (row, inner):
                    line = code.element(self.stored, cotangents, (row, self.line_step))
                    offset = code.multiply(row, division.planes.pitch)
                    inner.results = self._row(code, images, line, offset, inner.names)
                sums.results = inner.results
        for place, result in enumerate(sums.results):
            code.store(code.kind, code.lanes, result, code.at("%vectors", (place, code.lanes)))
        given = f"ptr %vectors, ptr %sums, i64 {filters}, i1 %first"
        code.write(f"call void {SYMBOL}.totals{pairs}({given})")
        return code

    def _joined(self, code: PlaneCode, images: list[str], cotangents: str, sums: list[str]) -> list[str]:
        """Write the sum over all rows of an image; return the sums' new names."""
        (rows, columns), lanes, pitch = self.grid, self.division.lanes, self.division.planes.pitch
        for start in range(0, (rows - 1) * pitch + columns, lanes):
            there = [place % pitch < columns and place < rows * pitch for place in range(start, start + lanes)]
            mask = None if all(there) else spelled("i1", [str(one).lower() for one in there])
            sums = self._step(code, images, start, code.element(self.stored, cotangents, (start, 1)), sums, mask)
        return sums

    def _row(self, code: PlaneCode, images: list[str], line: str, offset: Index, sums: list[str]) -> list[str]:
        """Write the sum over a row of an item; return the sums' new names."""
        columns, lanes, stored = self.grid[1], self.division.lanes, self.stored
        whole = columns // lanes * lanes
        if whole > 2 * lanes:
            with code.sums(0, whole, sums, lanes) as (column, inner):
                place = code.element(stored, line, (column, 1))
                inner.results = self._step(code, images, code.add(offset, column), place, inner.names, None)
            sums = inner.results
        else:
            for start in range(0, whole, lanes):
                place = code.element(stored, line, (start, 1))
                sums = self._step(code, images, code.add(offset, start), place, sums, None)
        if whole < columns:  # beyond the row's end stand other elements, perhaps NaN: not zero times the cotangent's 0
            mask = spelled("i1", [str(lane < columns - whole).lower() for lane in range(lanes)])
            place = code.element(stored, line, (whole, 1))
            sums = self._step(code, images, code.add(offset, whole), place, sums, mask)
        return sums

    def _step(
        self, code: PlaneCode, images: list[str], offset: Index, place: str, sums: list[str], mask: str | None
    ) -> list[str]:
        """Write the products of a vector of each filter's cotangents and of each pair's elements."""
        new, stored, lanes = list(sums), self.stored, self.division.lanes
        count = len(sums) // len(images)
        only = mask if code.machine.masks else None
        ends = only if self.division.direct else None
        factors = [
            code.load(stored, lanes, code.element(stored, place, (row, self.filter_step)), ends) for row in range(count)
        ]
        for pair, image in enumerate(images):
            loaded = code.load(stored, lanes, code.element(stored, image, (offset, 1)), only)
            if mask is not None and only is None:
                flags, of = vector("i1", lanes), vector(stored, lanes)
                loaded = code.value(f"select {flags} {mask}, {of} {loaded}, {of} zeroinitializer")
            for row, factor in enumerate(factors):
                cell = row * len(images) + pair
                new[cell] = code.multiply_add(factor, loaded, sums[cell], stored)
        return new

    def _totals_code(self, pairs: int) -> PlaneCode:
        """Return the code that adds up the lanes of a register tile's sums, and adds to what is there but at first."""
        code = PlaneCode(self.dtype, self.machine)
        with code.loop(0, "%rows") as row:
            for first in range(0, pairs, code.lanes):
                places = range(first, min(pairs, first + code.lanes))
                loaded = [
                    code.vector_at(code.at("%vectors", (row, pairs * code.lanes), (n, code.lanes))) for n in places
                ]
                totals, width = totals_of(code, loaded)
                target = code.at("%sums", (row, self.pairs), (first, 1))
                _store_some(code, totals, width, len(loaded), target)
        return code

    def _unit_code(self) -> PlaneCode:
        """Return the code that does a unit of work: filling scratch and summing, in turns."""
        code = PlaneCode(self.dtype, self.machine)
        shape, division = self.shape, self.division
        items = shape.batch * division.bands
        size = shape.filters * self.pairs
        first_filter = code.multiply("%block", division.block)
        first_channel = code.multiply("%channels", division.planes.channels)
        row = code.add(code.multiply("%group", shape.breadth), first_filter)
        sums = code.at(code.operand(2), ("%chunk", size), (row, self.pairs), (first_channel, len(self.taps)))
        filters = code.least(code.value(f"sub i64 {shape.breadth}, {first_filter}"), division.block)
        begin, end = write_bounds(code, items, division.chunks)
        cotangents = code.element(self.stored, "%scratch", (division.together * division.plane_size, 1))
        if division.direct:
            cotangents = code.at(code.operand(1), (row, self.filter_step))  # as they are: not rounded
        with code.loop(begin, end, division.together) as item:
            count = code.least(code.value(f"sub i64 {end}, {item}"), division.together)
            with code.loop(0, count) as place:
                self._copy(
                    code,
                    code.value(f"add nsw i64 {item}, {place}"),
                    place,
                    cotangents,
                    (first_channel, first_filter, filters),
                )
            first = code.compare(item, "eq", begin)
            self._tiles(code, cotangents, sums, filters, f"i64 {item}, i64 {count}, i1 {first}")
        return code

    def _copy(self, code: PlaneCode, item: str, place: str, cotangents: str, parts: tuple[Index, Index, Index]) -> None:
        """Write the copy of an item to scratch: from the first channel, and of some filters from the first one."""
        first_channel, first_filter, filters = parts
        shape, division, planes = self.shape, self.division, self.division.planes
        image, band = code.divide(item, division.bands)
        row = code.multiply(band, planes.rows)
        channel = code.add(code.multiply("%group", shape.depth), first_channel)
        channel = code.add(code.multiply(image, shape.channels), channel)
        source = code.at(code.operand(0), (channel, shape.image[0] * shape.image[1]))
        target = code.element(self.stored, "%scratch", (place, division.plane_size))
        write_copy(code, planes, source, target, row, division.bands * planes.rows - 1)
        if division.direct:
            return
        rows, columns = self.grid
        count = code.least(code.value(f"sub i64 {rows}, {row}"), planes.rows) if division.bands > 1 else rows
        channel = code.add(code.multiply("%group", shape.breadth), first_filter)
        channel = code.add(code.multiply(image, shape.filters), channel)
        source = code.at(code.operand(1), (channel, rows * columns), (row, columns))
        target = code.element(self.stored, cotangents, (place, division.cotangent_size))
        with code.loop(0, filters) as number, code.loop(0, count) as down:
            line = code.at(source, (number, rows * columns), (down, columns))
            place = code.element(self.stored, target, (number, division.filter_size), (down, planes.pitch))
            write_line(code, Line(columns, 1, False, False, self.form), line, place)

    def _tiles(self, code: PlaneCode, cotangents: str, sums: str, filters: Index, given: str) -> None:
        """Write the loops over register tiles: filters outermost, so that cotangents stay in the first cache."""
        height, remainder = self.division.filters, self.shape.breadth % self.division.filters
        if remainder == 0:
            with code.loop(0, filters, height) as row:
                self._tile_row(code, row, height, cotangents, sums, given)
            return
        with code.loop(0, filters, height) as row:
            whole = code.compare(code.value(f"add nsw i64 {row}, {height}"), "sle", filters)
            with code.when(whole):
                self._tile_row(code, row, height, cotangents, sums, given)
            with code.when(code.value(f"xor i1 {whole}, true")):
                self._tile_row(code, row, remainder, cotangents, sums, given)

    def _tile_row(self, code: PlaneCode, row: Index, filters: int, cotangents: str, sums: str, given: str) -> None:
        source = code.element(self.stored, cotangents, (row, self.filter_step))
        target = code.at(sums, (row, self.pairs))
        whole = self.block_pairs // self.division.pairs * self.division.pairs
        with code.loop(0, whole, self.division.pairs) as pair:
            self._call(code, filters, self.division.pairs, pair, source, target, given)
        if whole < self.block_pairs:
            self._call(code, filters, self.block_pairs - whole, whole, source, target, given)

    def _call(
        self, code: PlaneCode, filters: int, pairs: int, pair: Index, source: str, target: str, given: str
    ) -> None:
        runs = code.element("i32", f"{SYMBOL}.runs", (pair, 1))
        vectors = code.element(self.stored, "%scratch", (self.division.vectors, 1))
        sums = code.at(target, (pair, 1))
        name = f"{SYMBOL}.tile{filters}x{pairs}"
        code.write(f"call void {name}(ptr {runs}, ptr %scratch, ptr {source}, ptr {vectors}, ptr {sums}, {given})")


def totals_of(code: PlaneCode, vectors: Sequence[str]) -> tuple[str, int]:
    """Return a vector that begins with the totals of vectors' lanes, and its width: a tree of pairwise sums."""
    width, level = code.lanes, list(vectors)
    count = 1
    while count < len(level):
        count *= 2
    level += ["zeroinitializer"] * (count - len(level))
    while len(level) > 1:
        level = [_pair_sums(code, x, y, width) for x, y in zip(level[::2], level[1::2])]
    total = level[0]
    while width > count:
        total = _pair_sums(code, total, None, width)
        width //= 2
    return total, width


def _pair_sums(code: PlaneCode, x: str, y: str | None, width: int) -> str:
    """Return the sums of neighbouring lanes of a vector, or of one vector and then of another."""
    of, lanes = vector(code.kind, width), width if y is not None else width // 2
    halves = []
    for start in (0, 1):
        order = ", ".join([f"i32 {start + 2 * lane}" for lane in range(lanes)])
        halves.append(code.value(f"shufflevector {of} {x}, {of} {y or 'poison'}, <{lanes} x i32> <{order}>"))
    return code.value(f"fadd <{lanes} x {code.kind}> {halves[0]}, {halves[1]}")


def _store_some(code: PlaneCode, totals: str, width: int, count: int, target: str) -> None:
    """Write the first lanes of a vector of totals, added to what is there unless it is the first time."""
    place, piece = 0, 1
    while piece * 2 <= count:
        piece *= 2
    while piece:
        if count - place >= piece:
            order = ", ".join([f"i32 {place + lane}" for lane in range(piece)])
            of = f"<{piece} x {code.kind}>"
            wide = f"<{width} x {code.kind}>"
            some = code.value(f"shufflevector {wide} {totals}, {wide} poison, <{piece} x i32> <{order}>")
            at = code.at(target, (place, 1))
            there = code.value(f"load {of}, ptr {at}, align {code.dtype.itemsize}")
            before = code.value(f"select i1 %first, {of} zeroinitializer, {of} {there}")
            total = code.value(f"fadd {of} {before}, {some}")
            code.write(f"store {of} {total}, ptr {at}, align {code.dtype.itemsize}")
            place += piece
        piece //= 2


def total_kernel(size: int, chunks: int, dtype: DType, machine: Machine) -> Kernel:
    """Return the kernel that adds up the chunks' sums, in their order. Operands: those sums, the gradient."""
    code, parts = PlaneCode(dtype, machine), Parts()
    lanes, block = code.lanes, BLOCK_VECTORS * code.lanes
    source, target = code.operand(0), code.operand(1)
    units = -(-size // block)
    with code.when(code.compare("%begin", "slt", "%end")):
        first = code.multiply("%begin", block)
        last = code.least(code.multiply("%end", block), size)
        whole = code.value(f"sub i64 {last}, {code.value(f'urem i64 {last}, {lanes}')}")
        for start, end, width in ((first, whole, lanes), (whole, last, 1)):
            with code.when(code.compare(start, "slt", end)), code.loop(start, end, width) as place:
                total = code.load(code.kind, width, code.at(source, (place, 1)))
                for chunk in range(1, chunks):
                    other = code.load(code.kind, width, code.at(source, (place, 1), (chunk * size, 1)))
                    total = code.value(f"fadd {vector(code.kind, width)} {total}, {other}")
                code.store(code.kind, width, total, code.at(target, (place, 1)))
    parts.add(f"void {SYMBOL}(ptr %operands, i64 %begin, i64 %end, ptr %scratch)", code)
    work = Work((chunks - 1) * size, (chunks + 1) * size * dtype.itemsize)
    return parts.kernel("convolution_total", units, grain_for(units, work), 0, work)
