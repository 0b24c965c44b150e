"""Shapes of convolutions, and the planes that images are laid out in so that every tap reads a contiguous run."""

from __future__ import annotations

from typing import NamedTuple

from ..scalar_ir import DType
from .products_packing import PAIRS

Pair = tuple[int, int]
LONG = 8192
"""Elements of a single row from which on it is treated as several rows."""


class Tap(NamedTuple):
    """An element of the window: grid point (i, j) reads the source at (i * stride + row, j * stride + column)."""

    row: int
    column: int
    weight: int


def window_places(image: Pair, window: Pair, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair) -> Pair:
    """Return how many places there are for windows along each axis."""
    rows, columns = [
        (extent + sum(border) - spread * (width - 1) - 1) // step + 1
        for extent, width, step, border, spread in zip(image, window, stride, padding, dilation)
    ]
    return rows, columns


class Convolution(NamedTuple):
    """A convolution (in the sense of neural networks: a correlation) of two axes.

    Attributes:
        batch, channels, image: the input is batch x channels x image[0] x image[1].
        filters, window: the weights are filters x channels / groups x window[0] x window[1].
        stride, padding, dilation: for each axis; padding as rows of zeros before and after.
        groups: how many parts the channels and filters are divided into.
        dtype: float32 or float64.
        narrow: whether factors are rounded to bfloat16 where it is a product that gains by it.
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
    narrow: bool = False

    @property
    def out(self) -> Pair:
        """Extents of the output's two axes."""
        return window_places(self.image, self.window, self.stride, self.padding, self.dilation)

    @property
    def grid(self) -> tuple[Pair, int]:
        """Extents of the output, or of its parts if it is one long row; and how far parts are apart in the input."""
        grid = parts_of(self.out) if self.is_line else self.out
        return grid, 0 if grid == self.out else grid[1] * self.stride[1]

    @property
    def is_line(self) -> bool:
        """Whether there is a single row: a convolution of one axis."""
        return self.image[0] == self.window[0] == 1 and not any(self.padding[0])

    @property
    def depth(self) -> int:
        """Channels of one group."""
        return self.channels // self.groups

    @property
    def breadth(self) -> int:
        """Filters of one group."""
        return self.filters // self.groups

    @property
    def taps(self) -> tuple[Tap, ...]:
        """What an output element reads of its input."""
        return window_taps(self.window, self.padding, self.dilation)

    @property
    def flops(self) -> int:
        """Arithmetic operations of the output, or of either gradient."""
        size = self.batch * self.filters * self.out[0] * self.out[1]
        return 2 * size * self.depth * self.window[0] * self.window[1]


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
        fold: if the source is one long row, of which the grid's rows are parts: elements from one part to the next.
        form: what elements are copied as: as of a Plan of products. "pairs" (or pairs for "tiles") are of channels
            that are neighbours, and each counts as one channel; "halves" are single bfloat16 numbers.
        alone: whether the last pair has only one.
    """

    channels: int
    source: Pair
    stride: Pair
    rows: int
    phases: tuple[Pair, ...]
    low: Pair
    high: Pair
    pitch: int
    fold: int = 0
    form: str = ""
    alone: bool = False

    @property
    def each(self) -> int:
        """How many channels' numbers an element holds."""
        return 2 if self.form in PAIRS else 1

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


def parts_of(extents: Pair) -> Pair:
    """Return the extents of a long single row's parts, of equal length, or what is given if it is none."""
    length = extents[1]
    if extents[0] > 1 or length < LONG:
        return extents
    fitting = [part for part in range(LONG // 16, LONG // 4 + 1) if length % part == 0]
    part = min(fitting, key=_waste, default=length)
    return length // part, part


def _waste(part: int) -> tuple[float, int]:
    """Return what vectors waste at the ends of parts, and how far a part is from the middle of what is usual."""
    return -part % 16 / part, abs(part - LONG // 8)


def planes_for(
    taps: tuple[Tap, ...], channels: int, source: Pair, stride: Pair, grid: Pair, fold: int, least_pitch: int = 0
) -> Planes:
    """Lay out the planes for taps and a grid of so many rows (at a time) and columns; `fold` as for Planes."""
    rows, columns = grid
    phases = sorted({(tap.row % stride[0], tap.column % stride[1]) for tap in taps})
    downs = [tap.row // stride[0] for tap in taps] or [0]
    rights = [tap.column // stride[1] for tap in taps] or [0]
    low, high = (min(downs), min(rights)), (max(downs), max(rights))
    pitch = max(columns + high[1] - low[1], least_pitch)
    return Planes(channels, source, stride, rows, tuple(phases), low, high, pitch, fold)


def window_taps(window: Pair, padding: tuple[Pair, Pair], dilation: Pair) -> tuple[Tap, ...]:
    """Return what an output element reads of its input, in the order of the window's elements."""
    return tuple(
        [
            Tap(row * dilation[0] - padding[0][0], column * dilation[1] - padding[1][0], row * window[1] + column)
            for row in range(window[0])
            for column in range(window[1])
        ]
    )
