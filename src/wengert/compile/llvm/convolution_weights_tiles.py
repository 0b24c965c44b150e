"""The gradient of a convolution by its weights in the tile registers of x86-64 processors with AMX.

For a tap of the window it is a product: channels x grid points with grid points x filters. A register of the left
factor holds neighbouring grid points of up to 16 channels, read where they are in the planes; of the right one, pairs
of neighbours of 16 filters' cotangents, which are turned over once for all taps and channels. A step never goes beyond
the end of a row of the grid: what stands there, perhaps NaN, would meet a zero. Sums wait in scratch, those of one
register after the other, until all items of a unit are added up; only then are they brought into the order of weights.
Items, chunks and bands are those of `convolution_weights`, whose second kernel adds up the chunks.
"""

from __future__ import annotations

from typing import NamedTuple

from ..kernels import Kernel
from ..scalar_ir import FLOAT32
from .convolution_code import Index, Parts, PlaneCode, grain_for, round_up
from .convolution_geometry import Convolution, Planes, planes_for
from .convolution_planes import write_copy
from .convolution_weights_plan import (
    UNIT,
    WANTED_UNITS,
    weight_chunks,
    work_of_weights,
    write_bounds,
    write_units,
)
from .machine import Machine
from .products_matrix import SIDE, STEPS, add_step, begin_sums, configure, move_sums, release
from .products_packing import shortened, turned
from .vectors import SYMBOL, spelled

LEAST = 8
"""Channels of a register, and grid points of a step, that must be there for tiles to be used: half, or a quarter."""


class Division(NamedTuple):
    """How the work is divided.

    Attributes:
        planes: what is copied of the input for an item.
        bands: items of an image.
        height: channels of a register.
        step: grid points of a step.
        block, blocks: filters of a unit, and how many such blocks a group has.
        channel_blocks: into how many equal parts the channels of a group are divided.
        together: items in scratch at a time.
        chunks: how many parts the items are divided into.
    """

    planes: Planes
    bands: int
    height: int
    step: int
    block: int
    blocks: int
    channel_blocks: int
    together: int
    chunks: int

    @property
    def plane_size(self) -> int:
        """Numbers of two bytes in scratch for an item's planes."""
        return round_up(self.planes.size, STEPS)

    @property
    def tiles(self) -> int:
        """Registers of filters of a unit."""
        return self.block // SIDE

    @property
    def tile_size(self) -> int:
        """Pairs of a register of the right factor."""
        return self.step // 2 * SIDE


def suits_tiles(shape: Convolution) -> bool:
    """Return whether tile registers are filled well enough by a convolution's channels, filters and rows."""
    fits = shape.breadth % SIDE == 0 and shape.depth * len(shape.taps) >= SIDE
    return fits and _height(shape) >= LEAST and _step(shape) >= LEAST


def _height(shape: Convolution) -> int:
    """Return the most channels of a register that all registers can have."""
    return max([count for count in range(1, SIDE + 1) if shape.depth % count == 0])


def _step(shape: Convolution) -> int:
    """Return the most grid points of a step of which rows have whole ones."""
    return max([count for count in range(0, STEPS + 1, 2) if count and shape.grid[0][1] % count == 0], default=0)


def divide_for_tiles(shape: Convolution, machine: Machine) -> Division:
    """Choose bands that fit into half of the second cache, and blocks that make enough units."""
    (rows, columns), fold = shape.grid
    chunks, bands = weight_chunks(shape), 0
    while True:
        bands += 1
        band = -(-rows // bands)
        planes = planes_for(shape.taps, shape.depth, shape.image, shape.stride, (band, columns), fold)
        planes = planes._replace(form="halves", pitch=round_up(planes.pitch, 2))
        item = 2 * (planes.size + band * columns * shape.breadth)
        items = shape.batch * -(-rows // band)
        if band == 1 or (item <= machine.level2 // 2 and items >= chunks):
            break
    height = _height(shape)
    registers, tiles = shape.depth // height, shape.breadth // SIDE
    blocks = channel_blocks = 1
    while shape.groups * chunks * blocks * channel_blocks < WANTED_UNITS:
        if registers // channel_blocks >= tiles // blocks and registers % (2 * channel_blocks) == 0:
            channel_blocks *= 2
        elif tiles % (2 * blocks) == 0:
            blocks *= 2
        elif registers % (2 * channel_blocks) == 0:
            channel_blocks *= 2
        else:
            break
    planes = planes._replace(channels=shape.depth // channel_blocks)
    together = max(1, min(-(-items // chunks), machine.level2 // 8 // item))
    block = shape.breadth // blocks
    return Division(planes, bands, height, _step(shape), block, blocks, channel_blocks, together, chunks)


def tiled_weight_gradient_kernel(shape: Convolution, machine: Machine) -> Kernel:
    """Return the kernel of a convolution's gradient by its weights; operands as of `weight_gradient_kernel`."""
    return _Generator(shape, machine).kernel()


class _Generator:
    """Writes the kernel that sums over the items of chunks."""

    def __init__(self, shape: Convolution, machine: Machine) -> None:
        self.shape = shape
        self.machine = machine
        self.division = division = divide_for_tiles(shape, machine)
        self.taps = shape.taps
        self.pairs = shape.depth * len(self.taps)
        self.rows, self.columns = division.planes.rows, shape.grid[0][1]
        self.registers = division.planes.channels // division.height
        self.entries = self.registers * len(self.taps)
        self.line = self.columns // division.step * division.tiles * division.tile_size
        self.sum_size = division.height * SIDE
        self.turned = division.together * division.plane_size // 2
        self.sums = self.turned + division.together * self.rows * self.line

    def kernel(self) -> Kernel:
        """Return the kernel."""
        shape, division, parts = self.shape, self.division, Parts()
        planes = division.planes
        registers = range(self.registers)
        apart = division.height * planes.channel_size
        parts.table("runs", [number * apart + planes.offset(tap) for number in registers for tap in self.taps])
        parts.table("places", [self._place(number) for number in range(planes.channels * len(self.taps))])
        given = "ptr %runs, ptr %planes, ptr %turned, ptr %sums, i64 %item, i64 %count, i1 %first"
        for down in sorted({min(2, self.entries), 2 - self.entries % 2}):
            for across in sorted({min(2, division.tiles), 2 - division.tiles % 2}):
                head = f"private void {self._tile(down, across)}({given}) noinline nounwind"
                parts.add(head, self._tile_code(down, across))
        parts.add(f"private void {SYMBOL}.turn(ptr %from, ptr %to) noinline nounwind", self._turn_code())
        parts.add(f"{UNIT} noinline nounwind", self._unit_code())
        code = PlaneCode(FLOAT32, self.machine)
        with code.when(code.compare("%begin", "slt", "%end")):
            code.fill("%scratch", self.turned)
            configure(code, 2 * division.height, division.step // 2, division.height)
            write_units(code, shape.groups, division.channel_blocks, division.blocks)
            release(code)
        parts.add(f"void {SYMBOL}(ptr %operands, i64 %begin, i64 %end, ptr %scratch)", code)
        units = shape.groups * division.chunks * division.blocks * division.channel_blocks
        work = work_of_weights(shape, FLOAT32.itemsize)
        scratch = (self.sums + self.entries * division.tiles * self.sum_size) * FLOAT32.itemsize
        return parts.kernel("convolution_weights_bfloat16", units, grain_for(units, work), scratch, work)

    def _place(self, number: int) -> int:
        """Return where a weight's sums for 16 filters are: weights are counted by channels, and then taps."""
        channel, tap = divmod(number, len(self.taps))
        register, row = divmod(channel, self.division.height)
        return (register * len(self.taps) + tap) * self.division.tiles * self.sum_size + row * SIDE

    def _tile(self, down: int, across: int) -> str:
        return f"{SYMBOL}.tile{down}x{across}"

    def _tile_code(self, down: int, across: int) -> PlaneCode:
        """Return the code that adds the products of the items in scratch to the sums of some registers."""
        code, division = PlaneCode(FLOAT32, self.machine), self.division
        planes, step = division.planes, division.step
        places = [
            [
                code.at("%sums", (row, division.tiles * self.sum_size), (column, self.sum_size))
                for column in range(across)
            ]
            for row in range(down)
        ]
        with code.when("%first"):
            begin_sums(code, down, across)
        with code.when(code.value("xor i1 %first, true")):
            move_sums(code, "tileloadd64", places, SIDE)
        runs = [code.element("i16", "%planes", (code.entry("%runs", row), 1)) for row in range(down)]
        with code.loop(0, "%count") as item:
            last = self._rows_of(code, code.value(f"add nsw i64 %item, {item}"))
            with code.loop(0, last) as row, code.loop(0, self.columns // step) as number:
                where = (item, division.plane_size), (row, planes.pitch), (number, step)
                left = [code.element("i16", run, *where) for run in runs]
                turned_at = (
                    (item, self.rows * self.line),
                    (row, self.line),
                    (number, division.tiles * division.tile_size),
                )
                line = code.at("%turned", *turned_at)
                right = [code.at(line, (column, division.tile_size)) for column in range(across)]
                add_step(code, left, right, planes.channel_size // 2, SIDE)
        move_sums(code, "tilestored64", places, SIDE)
        return code

    def _rows_of(self, code: PlaneCode, item: str) -> Index:
        """Return how many rows of the grid an item has: the last band of an image may have fewer."""
        band = code.divide(item, self.division.bands)[1]
        if self.division.bands == 1:
            return self.rows
        return code.least(code.value(f"sub i64 {self.shape.grid[0][0]}, {code.multiply(band, self.rows)}"), self.rows)

    def _turn_code(self) -> PlaneCode:
        """Return the code that turns over a step's cotangents of 16 filters."""
        code, step = PlaneCode(FLOAT32, self.machine), self.division.step
        apart = self.shape.grid[0][0] * self.columns
        mask = None if step == STEPS else spelled("i1", [int(lane < step) for lane in range(STEPS)])
        rows = [
            shortened(code, "tiles", SIDE, code.load("float", STEPS, code.at("%from", (number, apart)), mask))
            for number in range(SIDE)
        ]
        for number, pairs in enumerate(turned(code, "i32", SIDE, rows, SIDE)[: step // 2]):
            code.store("i32", SIDE, pairs, code.at("%to", (number, SIDE)))
        return code

    def _unit_code(self) -> PlaneCode:
        """Return the code that does a unit of work: filling scratch and summing, in turns, and putting in order."""
        code, shape, division = PlaneCode(FLOAT32, self.machine), self.shape, self.division
        items = shape.batch * division.bands
        first_filter = code.multiply("%block", division.block)
        first_channel = code.multiply("%channels", division.planes.channels)
        row = code.add(code.multiply("%group", shape.breadth), first_filter)
        begin, end = write_bounds(code, items, division.chunks)
        with code.loop(begin, end, division.together) as item:
            count = code.least(code.value(f"sub i64 {end}, {item}"), division.together)
            with code.loop(0, count) as place:
                self._copy(code, code.value(f"add nsw i64 {item}, {place}"), place, first_channel, first_filter)
            self._tiles(code, f"i64 {item}, i64 {count}, i1 {code.compare(item, 'eq', begin)}")
        size = shape.filters * self.pairs
        target = code.at(code.operand(2), ("%chunk", size), (row, self.pairs), (first_channel, len(self.taps)))
        self._in_order(code, target)
        return code

    def _copy(self, code: PlaneCode, item: str, place: str, first_channel: Index, first_filter: Index) -> None:
        """Write the copy of an item to scratch: from the first channel on, and from the first filter."""
        shape, division, planes = self.shape, self.division, self.division.planes
        image, band = code.divide(item, division.bands)
        row = code.multiply(band, self.rows)
        channel = code.add(code.multiply("%group", shape.depth), first_channel)
        channel = code.add(code.multiply(image, shape.channels), channel)
        source = code.at(code.operand(0), (channel, shape.image[0] * shape.image[1]))
        target = code.element("i16", "%scratch", (place, division.plane_size))
        write_copy(code, planes, source, target, row, division.bands * self.rows - 1)
        size = shape.grid[0][0] * self.columns
        channel = code.add(code.multiply("%group", shape.breadth), first_filter)
        channel = code.add(code.multiply(image, shape.filters), channel)
        source = code.at(code.operand(1), (channel, size), (row, self.columns))
        target = code.at("%scratch", (self.turned, 1), (place, self.rows * self.line))
        steps = self.columns // division.step
        with code.loop(0, division.tiles) as tile, code.loop(0, self._rows_of(code, item)) as down:
            with code.loop(0, steps) as number:
                at = code.at(source, (tile, SIDE * size), (down, self.columns), (number, division.step))
                to = code.at(target, (down, self.line), (number, division.tiles * division.tile_size))
                to = code.at(to, (tile, division.tile_size))
                code.write(f"call void {SYMBOL}.turn(ptr {at}, ptr {to})")

    def _tiles(self, code: PlaneCode, given: str) -> None:
        """Write the loops over registers: filters outermost, so that cotangents stay in the first cache."""
        tiles = self.division.tiles
        with code.loop(0, tiles // 2 * 2, 2) if tiles > 1 else code.loop(0, 1) as tile:
            self._tile_row(code, tile, min(2, tiles), given)
        if tiles > 1 and tiles % 2:
            self._tile_row(code, tiles - 1, 1, given)

    def _tile_row(self, code: PlaneCode, tile: Index, across: int, given: str) -> None:
        whole = self.entries // 2 * 2
        if whole:
            with code.loop(0, whole, 2) as entry:
                self._call(code, entry, tile, (2, across), given)
        if whole < self.entries:
            self._call(code, whole, tile, (1, across), given)

    def _call(self, code: PlaneCode, entry: Index, tile: Index, size: tuple[int, int], given: str) -> None:
        runs = code.element("i32", f"{SYMBOL}.runs", (entry, 1))
        turned_at = code.at("%scratch", (self.turned, 1), (tile, self.division.tile_size))
        sums = code.at("%scratch", (self.sums, 1), (entry, self.division.tiles * self.sum_size), (tile, self.sum_size))
        name = self._tile(*size)
        code.write(f"call void {name}(ptr {runs}, ptr %scratch, ptr {turned_at}, ptr {sums}, {given})")

    def _in_order(self, code: PlaneCode, target: str) -> None:
        """Write the loops that turn sums of 16 weights and 16 filters over, and store them."""
        numbers = self.division.planes.channels * len(self.taps)
        with code.loop(0, self.division.tiles) as tile, code.loop(0, numbers, SIDE) as index:
            first = code.least(index, numbers - SIDE)  # the last ones begin early, and write the same once more
            sums = code.at("%scratch", (self.sums, 1), (tile, self.sum_size))
            rows = [
                code.load("float", SIDE, code.at(sums, (code.entry(f"{SYMBOL}.places", code.add(first, number)), 1)))
                for number in range(SIDE)
            ]
            for number, row in enumerate(turned(code, "float", SIDE, rows, SIDE)):
                place = (tile, SIDE * self.pairs), (first, 1), (number, self.pairs)
                code.store("float", SIDE, row, code.at(target, *place))
