"""Shapes of convolutions, and the planes that images are laid out in so that every tap reads a contiguous run."""

from __future__ import annotations

from typing import NamedTuple

from ..scalar_ir import DType
from .convolution_code import Index, PlaneCode
from .vectors import vector

Pair = tuple[int, int]


class Convolution(NamedTuple):
    """A convolution (in the sense of neural networks: a correlation) of two axes.

    Attributes:
        batch, channels, image: the input is batch x channels x image[0] x image[1].
        filters, window: the weights are filters x channels / groups x window[0] x window[1].
        stride, padding, dilation: for each axis; padding as rows of zeros before and after.
        groups: how many parts the channels and filters are divided into.
        dtype: float32 or float64.
    """

    batch: int
    channels: int
    image: Pair
    filters: int
    window: Pair
    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int
    dtype: DType

    @property
    def out(self) -> Pair:
        """Extents of the output's two axes."""
        rows, columns = [
            (extent + sum(padding) - dilation * (window - 1) - 1) // stride + 1
            for extent, window, stride, padding, dilation in zip(
                self.image, self.window, self.stride, self.padding, self.dilation
            )
        ]
        return rows, columns

    @property
    def depth(self) -> int:
        """Channels of one group."""
        return self.channels // self.groups

    @property
    def breadth(self) -> int:
        """Filters of one group."""
        return self.filters // self.groups

    @property
    def flops(self) -> int:
        """Arithmetic operations of the output, or of either gradient."""
        size = self.batch * self.filters * self.out[0] * self.out[1]
        return 2 * size * self.depth * self.window[0] * self.window[1]


class Tap(NamedTuple):
    """An element of the window: grid point (i, j) reads the source at (i * stride + row, j * stride + column)."""

    row: int
    column: int
    weight: int


class Planes(NamedTuple):
    """Images copied so that what a tap reads, for one grid point after the other, lies one after the other.

    A source of several channels is divided by the remainders of its rows and columns by the strides: one plane for
    each channel and *phase*. Rows of a plane lie `pitch` elements apart; what would be outside of the image is zero.

    Attributes:
        channels, source: what is copied.
        stride: of the grid in the source.
        rows: of the grid, as many as are in scratch at a time.
        phases: remainders that some tap needs.
        low, high: least and largest quotient of a tap's place and the stride, for each axis.
        pitch: elements from one row to the next.
    """

    channels: int
    source: Pair
    stride: Pair
    rows: int
    phases: tuple[Pair, ...]
    low: Pair
    high: Pair
    pitch: int

    @property
    def height(self) -> int:
        """Rows of a plane."""
        return self.rows + self.high[0] - self.low[0]

    @property
    def channel_size(self) -> int:
        """Elements of the planes of one channel."""
        return len(self.phases) * self.height * self.pitch

    @property
    def size(self) -> int:
        """Elements of all planes."""
        return self.channels * self.channel_size

    def offset(self, tap: Tap) -> int:
        """Return where, in the planes of a channel, the tap finds what grid point (0, 0) needs."""
        down, row_phase = divmod(tap.row, self.stride[0])
        right, column_phase = divmod(tap.column, self.stride[1])
        plane = self.phases.index((row_phase, column_phase))
        return (plane * self.height + down - self.low[0]) * self.pitch + right - self.low[1]


def planes_for(
    taps: tuple[Tap, ...], channels: int, source: Pair, stride: Pair, rows: int, columns: int, least_pitch: int = 0
) -> Planes:
    """Lay out the planes for taps and a grid of so many rows (at a time) and columns."""
    phases = sorted({(tap.row % stride[0], tap.column % stride[1]) for tap in taps})
    downs = [tap.row // stride[0] for tap in taps] or [0]
    rights = [tap.column // stride[1] for tap in taps] or [0]
    low, high = (min(downs), min(rights)), (max(downs), max(rights))
    pitch = max(columns + high[1] - low[1], least_pitch)
    return Planes(channels, source, stride, rows, tuple(phases), low, high, pitch)


def window_taps(shape: Convolution) -> tuple[Tap, ...]:
    """Return the taps of a convolution's output in its input, in the order of the weights."""
    rows, columns = shape.window
    return tuple(
        [
            Tap(
                row * shape.dilation[0] - shape.padding[0][0],
                column * shape.dilation[1] - shape.padding[1][0],
                row * columns + column,
            )
            for row in range(rows)
            for column in range(columns)
        ]
    )


def write_copy(code: PlaneCode, planes: Planes, source: str, target: str, first_row: Index, last_row: int) -> None:
    """Write loops that copy an image into planes.

    Columns that are outside of the image are not written: they have been set to zero before.

    Args:
        code: where to write.
        planes: the layout.
        source, target: addresses of the image's first channel and of the planes.
        first_row: the grid's first row that is wanted.
        last_row: the largest row of the grid that can be wanted.
    """
    size = planes.source[0] * planes.source[1]
    for number, phase in enumerate(planes.phases):
        begin, end = _inside(planes, phase[1])
        if begin >= end:
            continue
        with code.loop(0, planes.channels) as channel:
            image = code.at(source, (channel, size))
            plane = code.at(target, (channel, planes.channel_size), (number * planes.height * planes.pitch + begin, 1))
            with code.loop(0, planes.height) as down:
                row, exists = _source_row(code, planes, phase[0], code.add(first_row, down), last_row)
                first = (begin + planes.low[1]) * planes.stride[1] + phase[1]
                line = code.at(image, (row, planes.source[1]), (first, 1))
                write_row(code, line, code.at(plane, (down, planes.pitch)), end - begin, planes.stride[1], exists)


def _inside(planes: Planes, phase: int) -> Pair:
    """Return which columns of a plane are inside of the image: the first one and the one after the last."""
    end = (planes.source[1] - 1 - phase) // planes.stride[1] + 1 - planes.low[1]
    return max(-planes.low[1], 0), min(end, planes.pitch)


def _source_row(code: PlaneCode, planes: Planes, phase: int, row: Index, last_row: int) -> tuple[Index, str | None]:
    """Return the row of the image that a row of a plane holds, and the flag that tells whether it exists."""
    place = code.add(code.multiply(code.add(row, planes.low[0]), planes.stride[0]), phase)
    lowest = planes.low[0] * planes.stride[0] + phase
    if lowest >= 0 and (last_row + planes.high[0]) * planes.stride[0] + phase < planes.source[0]:
        return place, None
    exists = code.compare(place, "ult", planes.source[0])
    return code.select(exists, "i64", place, 0), exists


def write_row(code: PlaneCode, source: str, target: str, count: int, stride: int, exists: str | None) -> None:
    """Write the copy of a row, of zeros if it does not exist."""
    lanes = 1
    while stride == 1 and lanes * 2 <= min(count, code.lanes):
        lanes *= 2
    whole = count // lanes * lanes
    if whole <= 4 * lanes:
        for index in range(0, whole, lanes):
            _move(code, source, target, index, stride, lanes, exists)
    else:
        with code.loop(0, whole, lanes) as place:
            _move(code, source, target, place, stride, lanes, exists)
    if whole < count:  # the last vector overlaps the one in front of it
        _move(code, source, target, count - lanes, stride, lanes, exists)


def _move(code: PlaneCode, source: str, target: str, index: Index, stride: int, lanes: int, exists: str | None) -> None:
    moved = code.load(code.kind, lanes, code.at(source, (index, stride)))
    if exists is not None:
        of = vector(code.kind, lanes)
        moved = code.value(f"select i1 {exists}, {of} {moved}, {of} {'zeroinitializer' if lanes > 1 else '0.0'}")
    code.store(code.kind, lanes, moved, code.at(target, (index, 1)))
