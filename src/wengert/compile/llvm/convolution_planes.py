"""Copies between images and the planes in scratch that taps read runs of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .convolution_code import Index, PlaneCode
from .convolution_geometry import Pair, Planes
from .products_packing import PAIRS, SHORT, joined
from .vectors import vector


class Line(NamedTuple):
    """Elements of a row of an image, `stride` apart.

    Attributes:
        count: how many.
        stride: from one to the next.
        before, after: whether the row has an element in front of the first one, and behind the last one.
        form: what elements become: as for Planes.
        apart: for "pairs": elements from the first of a pair to the second.
        alone: whether pairs have no second number: zero stands for it.
    """

    count: int
    stride: int
    before: bool
    after: bool
    form: str = ""
    apart: int = 0
    alone: bool = False

    @property
    def each(self) -> int:
        """How many numbers become one element."""
        return 2 if self.form in PAIRS and not self.alone else 1

    def stored(self, kind: str) -> str:
        """Return the type of what elements of a type become."""
        return SHORT.get(self.form, kind)


def write_copy(
    code: PlaneCode,
    planes: Planes,
    source: str,
    target: str,
    first_row: Index,
    last_row: int,
    fill: str = "0.0",
) -> None:
    """Write loops that copy an image into planes.

    Columns that are outside of the image are not written: they have been filled before.

    Args:
        code: where to write.
        planes: the layout.
        source, target: addresses of the image's first channel and of the planes.
        first_row: the grid's first row that is wanted.
        last_row: the largest row of the grid that can be wanted.
        fill: what stands for elements outside of the image.
    """
    if planes.fold:
        _write_parts(code, planes, source, target, first_row, fill)
        return
    size, stored = planes.source[0] * planes.source[1], SHORT.get(planes.form, code.kind)
    for number, phase in enumerate(planes.phases):
        begin, end = inside(planes, phase[1])
        if begin >= end:
            continue
        first = (begin + planes.low[1]) * planes.stride[1] + phase[1]
        last = first + (end - begin - 1) * planes.stride[1]
        line = Line(end - begin, planes.stride[1], first > 0, last < planes.source[1] - 1, planes.form, size)
        for channel, each in channels_of(code, planes.channels, line, alone=planes.alone):
            image = code.at(source, (channel, planes.each * size), (first, 1))
            place = number * planes.height * planes.pitch + begin
            plane = code.element(stored, target, (channel, planes.channel_size), (place, 1))
            with code.loop(0, planes.height) as down:
                row, exists = _source_row(code, planes, phase[0], code.add(first_row, down), last_row)
                start = code.at(image, (row, planes.source[1]))
                write_line(code, each, start, code.element(stored, plane, (down, planes.pitch)), exists, fill)


def _write_parts(code: PlaneCode, planes: Planes, source: str, target: str, first_row: Index, fill: str) -> None:
    """Write loops that copy parts of a long row, with what taps reach beyond them, and `fill` beyond its ends."""
    length, stride, stored = planes.source[1], planes.stride[1], SHORT.get(planes.form, code.kind)
    line = Line(planes.pitch, stride, False, False, planes.form, length)
    for number, (_, phase) in enumerate(planes.phases):
        for channel, each in channels_of(code, planes.channels, line, alone=planes.alone):
            image = code.at(source, (channel, planes.each * length))
            place = number * planes.rows * planes.pitch
            plane = code.element(stored, target, (channel, planes.channel_size), (place, 1))
            with code.loop(0, planes.rows) as down:
                start = code.multiply(code.add(first_row, down), planes.fold)
                start = code.add(start, planes.low[1] * stride + phase)
                to = code.element(stored, plane, (down, planes.pitch))
                _write_part(code, each, image, length, start, to, fill)


def _write_part(code: PlaneCode, line: Line, image: str, length: int, start: Index, target: str, fill: str) -> None:
    """Write the copy of a part of a row of some length, from an element on that may not exist."""
    last = code.add(start, (line.count - 1) * line.stride)
    whole = code.value(f"and i1 {code.compare(start, 'sge', 0)}, {code.compare(last, 'slt', length)}")
    with code.when(whole):
        write_line(code, line, code.at(image, (start, 1)), target)
    with code.when(code.value(f"xor i1 {whole}, true")), code.loop(0, line.count) as place:
        there = code.add(start, code.multiply(place, line.stride))
        exists = code.compare(there, "ult", length)
        element = code.at(image, (code.select(exists, "i64", there, 0), 1))
        to = code.element(line.stored(code.kind), target, (place, 1))
        _move(code, line, element, to, 0, 1, exists, fill)


def channels_of(code: PlaneCode, count: int, line: Line, *, alone: bool) -> Iterator[tuple[str, Line]]:
    """Write the loop over channels, and once more for the last one if it is `alone`; yield it, and a line of it."""
    if count > alone:
        with code.loop(0, count - alone) as channel:
            yield channel, line
    if alone:
        with code.loop(count - 1, count) as channel:
            yield channel, line._replace(alone=True)


def inside(planes: Planes, phase: int) -> Pair:
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


def write_line(
    code: PlaneCode, line: Line, source: str, target: str, exists: str | None = None, fill: str = "0.0"
) -> None:
    """Write the copy of a line to elements that follow each other; of `fill` if it does not exist."""
    lanes = 1
    while line.stride <= 2 and lanes * 2 <= min(line.count, code.lanes):
        lanes *= 2
    if line.stride == 2 and lanes == line.count > 1 and not (line.before or line.after):
        lanes //= 2  # a vector of pairs would reach beyond the row
    limit = line.count if line.stride == 1 or line.after or lanes == 1 else line.count - 1
    whole = limit // lanes * lanes
    if whole <= 4 * lanes:
        for index in range(0, whole, lanes):
            _move(code, line, source, target, index, lanes, exists, fill)
    else:
        with code.loop(0, whole, lanes) as place:
            _move(code, line, source, target, place, lanes, exists, fill)
    if whole < line.count:  # the last vector overlaps the one in front of it
        _move(code, line, source, target, line.count - lanes, lanes, exists, fill)


def _move(
    code: PlaneCode, line: Line, source: str, target: str, index: Index, lanes: int, exists: str | None, fill: str
) -> None:
    """Write the copy of some elements."""
    rows = [_loaded(code, line, code.at(source, (row * line.apart, 1)), index, lanes) for row in range(line.each)]
    kind, moved = line.stored(code.kind), joined(code, line.form, lanes, rows)
    if exists is not None:
        of = vector(kind, lanes)
        fills = code.splat(fill if kind == code.kind else "0", kind, lanes)
        moved = code.value(f"select i1 {exists}, {of} {moved}, {of} {fills}")
    code.store(kind, lanes, moved, code.element(kind, target, (index, 1)))


def _loaded(code: PlaneCode, line: Line, source: str, index: Index, lanes: int) -> str:
    """Write the loading of elements of a line."""
    if line.stride == 1 or lanes == 1:
        return code.load(code.kind, lanes, code.at(source, (index, line.stride)))
    odd = isinstance(index, int) and index + lanes == line.count and not line.after
    pairs = code.load(code.kind, 2 * lanes, code.at(source, (index, 2), (-1 if odd else 0, 1)))
    return code.shuffle(pairs, code.kind, 2 * lanes, range(1 if odd else 0, 2 * lanes, 2))


def woven(code: PlaneCode, left: str, right: str, lanes: int) -> list[str]:
    """Return two vectors that hold the lanes of two others, one of the one and one of the other."""
    of = vector(code.kind, lanes)
    halves = []
    for half in (0, 1):
        order = ", ".join([f"i32 {half * lanes // 2 + lane // 2 + lane % 2 * lanes}" for lane in range(lanes)])
        halves.append(code.value(f"shufflevector {of} {left}, {of} {right}, <{lanes} x i32> <{order}>"))
    return halves


def write_woven(code: PlaneCode, left: str, right: str, target: str, length: int) -> None:
    """Write what puts a line together from its elements at even and at odd places.

    Args:
        code: where to write.
        left, right: addresses of the elements at even and at odd places; vectors may be read past their ends.
        target: address of the line.
        length: its elements.
    """
    lanes, kind = code.lanes, code.kind
    whole = length // 2 // lanes * lanes
    if whole:
        with code.loop(0, whole, lanes) as index:
            parts = [code.vector_at(code.at(source, (index, 1))) for source in (left, right)]
            for half, part in enumerate(woven(code, parts[0], parts[1], lanes)):
                code.store(kind, lanes, part, code.at(target, (index, 2), (half * lanes, 1)))
    if not code.machine.masks or lanes == 1:
        for odd, source in enumerate((left, right)):
            end = (length + 1 - odd) // 2
            if whole < end:
                with code.loop(whole, end) as index:
                    element = code.number_at(code.at(source, (index, 1)))
                    code.store(kind, 1, element, code.at(target, (index, 2), (odd, 1)))
        return
    rest = length - 2 * whole
    if rest:
        parts = [code.vector_at(code.at(source, (whole, 1))) for source in (left, right)]
        for half, part in enumerate(woven(code, parts[0], parts[1], lanes)):
            count = min(rest - half * lanes, lanes)
            if count > 0:
                mask = None if count == lanes else code.first_lanes(count)
                code.store(kind, lanes, part, code.at(target, (2 * whole + half * lanes, 1)), mask)
