"""Convolution as a product of matrices whose right one is never made: its rows are runs within padded planes.

A unit of work is an image, a group and a band of rows. The image's channels are copied to scratch, padded and divided
into planes (`convolution_geometry`), such that grid points one after the other read elements one after the other, for
every tap. Grid points are counted with the few that lie between the rows, whose results nobody reads: so a vector of
them needs no regard for where rows end. A register tile of filters x vectors of grid points is summed over channels and
taps, in their order; results go to scratch, and from there, row by row, through the epilogue to where they belong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..kernels import Kernel
from ..nests import Access, Counter, Store
from ..scalar_ir import DType, input_scalar
from .convolution_code import Index, Parts, PlaneCode, Work, grain_for, round_up
from .convolution_geometry import Pair, Planes, Tap, planes_for
from .convolution_planes import write_copy, write_woven
from .convolution_tiles import PRODUCT, register_tile
from .machine import Machine
from .products_epilogue import Corner, Epilogue, machine_stores, write_rows
from .products_matrix import SIDE, add_step, begin_sums, configure, release, store_sums
from .products_packing import PAIRS, SHORT
from .vectors import SYMBOL


class Correlation(NamedTuple):
    """Sums over channels and taps, for every filter and every point of a grid.

    Attributes:
        taps: what a grid point reads, with the place of each one's weight.
        batch, groups, depth, breadth: images, groups, and channels and filters of a group.
        source: extents of an input's plane.
        stride: of the grid in the source.
        grid: its extents.
        weights: elements from one group, filter, channel to the next in the weights.
        after: what is done with the sums; its accesses have strides along images, filters (of all groups), rows and
            columns of the grid.
        fold: as for Planes.
        weave: if not 0, sums are stored to every other column, together with those of another correlation, for the
            columns between: 1 for the first of the two, 2 for the second.
        weave_length: columns of both together.
        form: what factors are rounded to: as for Planes; its weights are packed then.
        packed: where its weights begin among those that are packed.
    """

    taps: tuple[Tap, ...]
    batch: int
    groups: int
    depth: int
    breadth: int
    source: Pair
    stride: Pair
    grid: Pair
    weights: tuple[int, int, int]
    after: After
    fold: int = 0
    weave: int = 0
    weave_length: int = 0
    form: str = ""
    packed: int = 0

    @property
    def channels(self) -> int:
        """Channels of a group as planes hold them."""
        return -(-self.depth // 2) if self.form in PAIRS else self.depth

    @property
    def alone(self) -> bool:
        """Whether the last pair of channels has only one."""
        return self.form in PAIRS and self.depth % 2 == 1

    @property
    def step(self) -> int:
        """Channels, as planes hold them, of a step of a sum: in tiles, as many as registers hold, or a few less."""
        fitting = [n for n in range(1, SIDE + 1) if self.channels % n == 0]
        return fitting[-1] if self.form == "tiles" else 1

    @property
    def weight_numbers(self) -> list[int]:
        """Places of a filter's weights, in the order of the sum."""
        return [channel * self.weights[2] + tap.weight for channel in range(self.depth) for tap in self.taps]

    @property
    def sums_length(self) -> int:
        """How many products each sum has; those of pairs count as one."""
        return self.channels * len(self.taps)


class After(NamedTuple):
    """What is done with each sum, an input Scalar named "product".

    Attributes:
        inputs: where other input Scalars come from.
        stores: what is stored.
        operands: dtypes of the kernel's operands: image, weights, and those that inputs and stores refer to.
    """

    inputs: dict[str, Access | Counter]
    stores: tuple[Store, ...]
    operands: tuple[DType, ...]


class Division(NamedTuple):
    """How a correlation is divided.

    Attributes:
        planes: what is copied for a band.
        bands: of the grid's rows.
        filters, vectors: the register tile.
        run: vectors of grid points in a band.
        lanes: of a vector.
    """

    planes: Planes
    bands: int
    filters: int
    vectors: int
    run: int
    lanes: int

    @property
    def length(self) -> int:
        """Elements from one filter's sums to the next."""
        return self.run * self.lanes

    @property
    def results(self) -> int:
        """Where in scratch the sums begin: what is read past the planes' end lies in front of it."""
        return round_up(self.planes.size + self.lanes, 64)


def stored(target: Access, operand_count: int, dtype: DType) -> After:
    """Return what only stores the sums."""
    return After({}, (Store(target, input_scalar("product", dtype)),), (dtype,) * operand_count)


def along_parts(after: After, part: int) -> After | None:
    """Return what is done with the sums of a single row's parts, of so many elements; None if it counts elements."""
    inputs: dict[str, Access | Counter] = {}
    for name, source in after.inputs.items():
        if isinstance(source, Counter):
            if source.axis > 1:
                return None
            inputs[name] = source
        else:
            inputs[name] = _along_parts(source, part)
    stores = [store._replace(target=_along_parts(store.target, part)) for store in after.stores]
    return After(inputs, tuple(stores), after.operands)


def _along_parts(access: Access, part: int) -> Access:
    image, channel, _, column = access.strides
    return access._replace(strides=(image, channel, part * column, column))


def divide(parts: Sequence[Correlation], dtype: DType, machine: Machine) -> Division:
    """Divide grids into bands of rows whose planes and sums fit into half of the second cache; choose a register tile.

    The correlations read the same channels, and make sums for as many filters.
    """
    part, taps = parts[0], tuple([tap for part in parts for tap in part.taps])
    rows, columns = [max([part.grid[axis] for part in parts]) for axis in (0, 1)]
    lanes = machine.lanes(dtype)
    wanted = -(-8 // (part.batch * part.groups))  # few images: bands are all that threads can share
    bands = 1
    while True:
        grid = -(-rows // bands), columns
        planes = planes_for(taps, part.channels, part.source, part.stride, grid, part.fold)
        planes = planes._replace(form=part.form, alone=part.alone)
        run = -(-((planes.rows - 1) * planes.pitch + columns) // lanes)
        size = (planes.size + (2 if part.weave else 1) * part.breadth * run * lanes) * dtype.itemsize
        if planes.rows <= 2 or (size <= machine.level2 // 2 and (bands >= wanted or planes.rows <= 8)):
            break
        bands = -(-rows // (planes.rows - 1))
    if part.form == "tiles":
        vectors, filters = min(run, 2), min(part.breadth, 2 * SIDE)
    else:
        vectors, filters = register_tile(run, part.breadth, PRODUCT, machine)
    return Division(planes, -(-rows // planes.rows), filters, vectors, run, lanes)


class _Generator:
    """Writes the functions of one correlation."""

    def __init__(self, part: Correlation, division: Division, name: str, dtype: DType, machine: Machine) -> None:
        self.part = part
        self.division = division
        self.name = name
        self.dtype = dtype
        self.machine = machine
        self.stores = machine_stores(part.after.stores)

    def write(self, parts: Parts) -> None:
        """Write tables, the function of each size of register tile, and that of a unit of work after it is copied."""
        part, division = self.part, self.division
        size, planes = division.planes.channel_size, division.planes
        runs = [
            channel * size + planes.offset(tap) for channel in range(0, part.channels, part.step) for tap in part.taps
        ]
        if runs:
            parts.table(f"{self.name}.runs", runs)
            if not self._consecutive:
                parts.table(f"{self.name}.weights", part.weight_numbers)
            for filters in sorted({division.filters, part.breadth % division.filters} - {0}):
                for vectors in sorted({division.vectors, division.run % division.vectors} - {0}):
                    head = f"private void {self._tile(filters, vectors)}(ptr %weights, ptr %planes, ptr %results)"
                    write = self._matrix_code if part.form == "tiles" else self._tile_code
                    parts.add(f"{head} noinline nounwind", write(filters, vectors))
        head = f"private void {SYMBOL}.{self.name}(ptr %operands, i64 %image, i64 %group, i64 %band, ptr %scratch)"
        parts.add(f"{head} noinline nounwind", self._unit_code())

    @property
    def _consecutive(self) -> bool:
        return bool(self.part.form) or self.part.weight_numbers == list(range(self.part.sums_length))

    def _tile(self, filters: int, vectors: int) -> str:
        return f"{SYMBOL}.{self.name}.tile{filters}x{vectors}"

    def _tile_code(self, filters: int, vectors: int) -> PlaneCode:
        """Return the code that sums a register tile over channels and taps."""
        code = PlaneCode(self.dtype, self.machine)
        lanes, name = code.lanes, f"{SYMBOL}.{self.name}"
        starts = ["zeroinitializer"] * (filters * vectors)
        with code.sums(0, self.part.sums_length, starts) as (index, sums):
            run = code.at("%planes", (code.entry(f"{name}.runs", index), 1))
            place = index if self._consecutive else code.entry(f"{name}.weights", index)
            weight = code.at("%weights", (place, 1))
            kind = SHORT.get(self.part.form, code.kind)
            loaded = [code.load(kind, lanes, code.at(run, (column, lanes))) for column in range(vectors)]
            for row in range(filters):
                number = code.load(kind, 1, code.at(weight, (row, self.part.weights[1])))
                factor = code.splat(number, kind, lanes)
                for column in range(vectors):
                    before = sums.names[row * vectors + column]
                    sums.results.append(code.multiply_add(factor, loaded[column], before, kind))
        for place, result in enumerate(sums.results):
            row, column = divmod(place, vectors)
            target = code.at("%results", (row, self.division.length), (column, lanes))
            code.store(code.kind, lanes, result, target)
        return code

    def _matrix_code(self, filters: int, vectors: int) -> PlaneCode:
        """Return the code that sums in a processor's tile registers, some pairs of channels of a tap at a time."""
        code, part = PlaneCode(self.dtype, self.machine), self.part
        down, across, step = range(filters // SIDE), range(vectors), part.step
        begin_sums(code, len(down), vectors)
        with code.loop(0, part.sums_length // step) as index:
            run = code.at("%planes", (code.entry(f"{SYMBOL}.{self.name}.runs", index), 1))
            left = [code.at("%weights", (row * SIDE, part.weights[1]), (index, SIDE * step)) for row in down]
            right = [code.at(run, (column, SIDE)) for column in across]
            add_step(code, left, right, step, self.division.planes.channel_size)
        store_sums(code, len(down), vectors, "%results", self.division.length)
        return code

    def _unit_code(self) -> PlaneCode:
        """Return the code that does a unit of work whose image has been copied."""
        code = PlaneCode(self.dtype, self.machine)
        part, division = self.part, self.division
        first: Index = code.multiply("%band", division.planes.rows) if division.bands > 1 else 0
        slot = part.breadth * division.length if part.weave == 2 else 0
        results = code.at("%scratch", (division.results + slot, 1))
        if part.sums_length:
            self._tiles(code, code.at(code.operand(1), ("%group", part.weights[0]), (part.packed, 1)), results)
        else:
            code.fill(results, part.breadth * division.length)
        if part.weave == 1:
            return code
        if division.bands == 1:
            self._results(code, results, 0, part.grid[0])
            return code
        rows = code.least(code.value(f"sub i64 {part.grid[0]}, {first}"), division.planes.rows)
        with code.when(code.compare(rows, "sgt", 0)):  # grids may differ by a row
            self._results(code, results, first, rows)
        return code

    def _tiles(self, code: PlaneCode, weights: str, results: str) -> None:
        """Write the loops over register tiles: vectors outermost, so that what they read stays in the first cache."""
        division = self.division
        whole = division.run // division.vectors * division.vectors
        with code.loop(0, whole, division.vectors) as place:
            self._column(code, place, division.vectors, weights, results)
        if whole < division.run:
            self._column(code, whole, division.run - whole, weights, results)

    def _column(self, code: PlaneCode, place: Index, vectors: int, weights: str, results: str) -> None:
        """Write the loop over the register tiles of all filters for some vectors of grid points."""
        part, division = self.part, self.division
        run = code.at("%scratch", (place, division.lanes))
        target = code.at(results, (place, division.lanes))
        whole = part.breadth // division.filters * division.filters
        with code.loop(0, whole, division.filters) as row:
            self._call(code, row, division.filters, vectors, (weights, run, target))
        if whole < part.breadth:
            self._call(code, whole, part.breadth - whole, vectors, (weights, run, target))

    def _call(self, code: PlaneCode, row: Index, filters: int, vectors: int, given: tuple[str, str, str]) -> None:
        weights, run, target = given
        weight = code.at(weights, (row, self.part.weights[1]))
        result = code.at(target, (row, self.division.length))
        code.write(f"call void {self._tile(filters, vectors)}(ptr {weight}, ptr {run}, ptr {result})")

    def _results(self, code: PlaneCode, results: str, first: Index, rows: Index) -> None:
        """Write the loops that take sums of some rows from scratch, through the epilogue, to the output."""
        if self.part.weave:
            self._woven(code, results, first, rows)
            return
        part, division, lanes = self.part, self.division, self.division.lanes
        columns, pitch = part.grid[1], division.planes.pitch
        addresses = tuple([code.operand(position) for position in range(len(part.after.operands))])
        epilogue = Epilogue(part.after.inputs, self.stores, part.after.operands, addresses)
        whole = columns // lanes * lanes
        with code.loop(0, part.breadth) as filter_index:
            channel = code.add(code.multiply("%group", part.breadth), filter_index)
            row = code.at(results, (filter_index, division.length))
            batch = ("%image", channel)
            if self.machine.masks and columns > lanes:
                with code.loop(0, columns, lanes) as column:
                    mask = (
                        code.lane_mask(lanes, code.value(f"sub i64 {columns}, {column}")) if whole < columns else None
                    )
                    tile = code.at(row, (column, 1))
                    write_rows(code, epilogue, lanes, Corner(batch, first, column), rows, tile, pitch, mask)
                return
            if whole:
                with code.loop(0, whole, lanes) as column:
                    tile = code.at(row, (column, 1))
                    write_rows(code, epilogue, lanes, Corner(batch, first, column), rows, tile, pitch, None)
            if whole < columns:
                mask = code.first_lanes(columns - whole)
                tile = code.at(row, (whole, 1))
                write_rows(code, epilogue, lanes, Corner(batch, first, whole), rows, tile, pitch, mask)

    def _woven(self, code: PlaneCode, results: str, first: Index, rows: Index) -> None:
        """Write the loops that put rows together from the sums of two correlations, this one's being the second."""
        part, division = self.part, self.division
        target = part.after.stores[0].target
        image, channel, line, _ = target.strides
        output = code.at(code.operand(target.operand), ("%image", image), (first, line), (target.offset - 1, 1))
        output = code.at(output, ("%group", part.breadth * channel))
        before = code.at(results, (-part.breadth * division.length, 1))
        with code.loop(0, part.breadth) as number, code.loop(0, rows) as row:
            place = (number, division.length), (row, division.planes.pitch)
            left, right = code.at(before, *place), code.at(results, *place)
            write_woven(code, left, right, code.at(output, (number, channel), (row, line)), part.weave_length)


def correlation_kernel(
    name: str, correlations: Sequence[Correlation], dtype: DType, machine: Machine, flops: int
) -> Kernel:
    """Return the kernel that does correlations, which write to different places, one after the other."""
    division = divide(correlations, dtype, machine)
    planes, part, parts = division.planes, correlations[0], Parts()
    code = PlaneCode(dtype, machine)
    size = part.depth * part.source[0] * part.source[1]
    generators = [_Generator(each, division, f"part{n}", dtype, machine) for n, each in enumerate(correlations)]
    for generator in generators:
        generator.write(parts)
    with code.when(code.compare("%begin", "slt", "%end")):
        code.fill("%scratch", planes.size + division.lanes)
        if part.form == "tiles":
            configure(code, division.filters, part.step)
        with code.loop("%begin", "%end") as unit:
            rest, band = code.divide(unit, division.bands)
            image, group = code.divide(str(rest), part.groups)
            source = code.at(code.operand(0), (image, part.groups * size), (group, size))
            first = code.multiply(band, planes.rows)
            write_copy(code, planes, source, "%scratch", first, division.bands * planes.rows - 1)
            for generator in generators:
                given = f"ptr %operands, i64 {image}, i64 {group}, i64 {band}, ptr %scratch"
                code.write(f"call void {SYMBOL}.{generator.name}({given})")
        if part.form == "tiles":
            release(code)
    parts.add(f"void {SYMBOL}(ptr %operands, i64 %begin, i64 %end, ptr %scratch)", code)
    units = part.batch * part.groups * division.bands
    points = sum([each.grid[0] * each.grid[1] for each in correlations])
    work = Work(flops, part.batch * part.groups * (size + part.breadth * points) * dtype.itemsize)
    slots = 2 if part.weave else 1
    scratch = division.results + slots * part.breadth * division.length + division.lanes
    return parts.kernel(name, units, grain_for(units, work), scratch * dtype.itemsize, work)
