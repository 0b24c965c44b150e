"""How the gradient of a convolution by its weights is divided: into items, chunks, blocks and register tiles."""

from __future__ import annotations

from typing import NamedTuple

from .convolution_code import Index, PlaneCode, Work, round_up
from .convolution_geometry import Convolution, Planes, planes_for
from .convolution_tiles import WEIGHTS, register_tile
from .machine import Machine
from .vectors import SYMBOL

PARTIAL_BYTES = 4 * 1024 * 1024
"""Most memory that chunks may take for sums of their own."""
MOST_CHUNKS = 16
WANTED_UNITS = 8
MOST_JOINED = 7
"""Vectors of an image, at most, for rows to be put together: each has a mask of its own."""
STEPS = 128
"""Vectors that a register tile is summed over before its lanes are added up, if there are as many."""


class Division(NamedTuple):
    """How the work is divided.

    Attributes:
        planes: what is copied of the input for an item.
        bands: items of an image.
        filters, pairs: the register tile.
        block, blocks: filters of a unit, and how many such blocks a group has.
        channel_blocks: into how many equal parts the channels of a group are divided.
        together: items in scratch at a time.
        chunks: how many parts the items are divided into.
        lanes: of a vector.
        joined: whether vectors run over the ends of rows, so short are these.
        direct: whether cotangents are read where they are, and not copied: with masks for the ends of their rows.
    """

    planes: Planes
    bands: int
    filters: int
    pairs: int
    block: int
    blocks: int
    channel_blocks: int
    together: int
    chunks: int
    lanes: int
    joined: bool
    direct: bool

    @property
    def plane_size(self) -> int:
        """Elements of scratch for an item's planes: vectors may be read past their end."""
        return round_up(self.planes.size + self.lanes, 16)

    @property
    def filter_size(self) -> int:
        """Elements of scratch for an item's cotangents of one filter: zeros follow them, as far as vectors reach."""
        size = self.planes.rows * self.planes.pitch
        return round_up(size, self.lanes) if self.joined else size

    @property
    def cotangent_size(self) -> int:
        """Elements of scratch for an item's cotangents."""
        return 0 if self.direct else self.block * self.filter_size

    @property
    def item_size(self) -> int:
        """Elements of scratch for an item."""
        return self.plane_size + self.cotangent_size

    @property
    def vectors(self) -> int:
        """Where in scratch a register tile's sums go: what is read past the items' end lies in front of it."""
        return round_up(self.together * self.item_size + self.lanes, 16)

    @property
    def units(self) -> int:
        """Units of work of a group."""
        return self.chunks * self.blocks * self.channel_blocks

    @property
    def steps(self) -> int:
        """Vectors of an item, for each filter."""
        return -(-self.filter_size // self.lanes)


def weight_chunks(shape: Convolution) -> int:
    """Return how many chunks the images' rows are divided into, each with sums of its own."""
    weights = shape.filters * shape.depth * shape.window[0] * shape.window[1]
    lines = shape.batch * shape.grid[0][0]  # a chunk has one at least
    steps = lines * -(-shape.grid[0][1] // 16)  # whatever the vectors: no machine is known here
    return max(1, min(MOST_CHUNKS, lines, 2 * steps // STEPS, PARTIAL_BYTES // (weights * shape.dtype.itemsize)))


UNIT = f"private void {SYMBOL}.unit(ptr %operands, i64 %chunk, i64 %group, i64 %channels, i64 %block, ptr %scratch)"
"""What a unit of work is told: a chunk of items, a group, one of its blocks of channels, and one of filters."""


def write_units(code: PlaneCode, groups: int, channel_blocks: int, blocks: int) -> None:
    """Write the loop over the units of a kernel."""
    with code.loop("%begin", "%end") as unit:
        rest, block = code.divide(unit, blocks)
        rest, channels = code.divide(str(rest), channel_blocks)
        chunk, group = code.divide(str(rest), groups)
        given = f"ptr %operands, i64 {chunk}, i64 {group}, i64 {channels}, i64 {block}, ptr %scratch"
        code.write(f"call void {SYMBOL}.unit({given})")


def write_bounds(code: PlaneCode, items: int, chunks: int) -> tuple[Index, Index]:
    """Return the first item of a unit's chunk, and the one after its last."""
    begin = code.divide(str(code.multiply("%chunk", items)), chunks)[0]
    last = code.value(f"add nsw i64 {code.multiply('%chunk', items)}, {items}")
    return begin, code.divide(last, chunks)[0]


def work_of_weights(shape: Convolution, itemsize: int) -> Work:
    """Return what the gradient takes: both factors are read once, at least."""
    elements = shape.batch * (
        shape.channels * shape.image[0] * shape.image[1] + shape.filters * shape.out[0] * shape.out[1]
    )
    return Work(shape.flops, elements * itemsize)


def divide_weights(shape: Convolution, size: int, machine: Machine, form: str = "") -> Division:
    """Choose all that from the sizes of the caches and of the vectors alone.

    Args:
        shape: the convolution.
        size: bytes of an element as it is copied.
        machine: that of the kernel.
        form: what elements are copied as: as for Planes.
    """
    lanes = max(1, machine.vector_bytes // size)
    filters, pairs = register_tile(shape.breadth, shape.depth * len(shape.taps), WEIGHTS, machine)
    chunks = weight_chunks(shape)
    first = machine.level1 * 5 // 8 // size // filters  # what a row of register tiles may have of the first cache
    joined = _is_joined(shape, lanes)
    planes = _banded(shape, first, 0 if joined else lanes)
    if joined and planes.rows < shape.out[0]:
        joined, planes = False, _banded(shape, first, lanes)
    planes = planes._replace(form=form)
    bands = -(-shape.grid[0][0] // planes.rows)
    direct = machine.masks and not joined and not form
    division = Division(planes, bands, filters, pairs, shape.breadth, 1, 1, 1, chunks, lanes, joined, direct)
    most = first // (planes.rows * planes.pitch)
    wanted = max(1, min(-(-shape.batch * bands // chunks), most, -(-STEPS // division.steps)))
    return _fitted(division, shape, wanted, machine.level2 // 2 // size)


def _banded(shape: Convolution, most: int, lanes: int) -> Planes:
    """Return the planes for the largest bands of rows that make as many items as there are chunks, and fit.

    Args:
        shape: the convolution.
        most: how many elements a filter's cotangents of an item may be.
        lanes: what the pitch of rows is made room for a multiple of; 0 for none.
    """
    (rows, columns), fold = shape.grid
    pitch = round_up(columns, lanes) if lanes else 0
    bands = 0
    while True:
        bands += 1
        band = -(-rows // bands)
        planes = planes_for(shape.taps, shape.depth, shape.image, shape.stride, (band, columns), fold, pitch)
        items = shape.batch * -(-rows // band)
        if band == 1 or (band * planes.pitch <= most and items >= weight_chunks(shape)):
            return planes


def _is_joined(shape: Convolution, lanes: int) -> bool:
    """Return whether an image's cotangents are so few that its rows are put together, with what lies between them."""
    rows, columns = shape.out
    pitch = planes_for(shape.taps, 1, shape.image, shape.stride, shape.out, 0).pitch
    vectors = -(-((rows - 1) * pitch + columns) // lanes)
    return vectors <= MOST_JOINED and vectors < rows * -(-columns // lanes)


def _fitted(division: Division, shape: Convolution, wanted: int, most: int) -> Division:
    """Divide filters and channels into blocks until the items that are wanted fit into scratch, and units are many."""
    while wanted * division.item_size > most or shape.groups * division.units < WANTED_UNITS:
        smaller = [_with_fewer_filters(division, shape), _with_fewer_channels(division, shape)]
        smaller = [other for other in smaller if other is not division]
        if not smaller:
            break
        division = min(smaller, key=_copied)
    return division._replace(together=max(1, min(wanted, most // division.item_size)))


def _copied(division: Division) -> int:
    """Return how much is copied for an item by all blocks."""
    return division.blocks * division.channel_blocks * division.item_size


def _with_fewer_filters(division: Division, shape: Convolution) -> Division:
    """Return the division with smaller blocks of filters, unless they are small."""
    block = round_up(-(-division.block // 2), division.filters)
    if block < 4 * division.filters:
        return division
    return division._replace(block=block, blocks=-(-shape.breadth // block))


def _with_fewer_channels(division: Division, shape: Convolution) -> Division:
    """Return the division with smaller blocks of channels, all of one size, unless they are small."""
    for parts in range(division.channel_blocks + 1, 4 * division.channel_blocks + 1):
        channels = shape.depth // parts
        if shape.depth % parts == 0 and channels * len(shape.taps) >= 4 * division.pairs:
            return division._replace(planes=division.planes._replace(channels=channels), channel_blocks=parts)
    return division
