"""Max pooling of windows two columns wide that lie side by side: columns are paired up within registers."""

from __future__ import annotations

from collections.abc import Iterator

from .convolution_code import Index, PlaneCode
from .convolution_geometry import Pair
from .convolution_planes import woven
from .vectors import vector

NO_PADDING = ((0, 0), (0, 0))


def pairs_fit(image: Pair, window: Pair, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair) -> bool:
    """Return whether windows are of this kind, and cover the image: but for a last row or column alone."""
    return (
        stride == window
        and window[1] == 2
        and window[0] <= 4
        and (dilation[0] == 1 or window[0] == 1)
        and dilation[1] == 1
        and padding == NO_PADDING
        and image[0] >= window[0]
        and image[1] % 2 == 0
        and image[0] % window[0] == 0
    )


class _Columns:
    """Vectors of windows of a row: the first one's column, how many lanes a vector has, and how many windows it is."""

    def __init__(self, first: Index, lanes: int, count: int) -> None:
        self.first = first
        self.lanes = lanes
        self.count = count


def _columns(code: PlaneCode, columns: int) -> Iterator[_Columns]:
    """Write what walks the windows of a row: a loop over whole vectors, and the rest, masked or in smaller vectors."""
    whole = columns // code.lanes * code.lanes
    if whole:
        with code.loop(0, whole, code.lanes) as column:
            yield _Columns(column, code.lanes, code.lanes)
    rest = columns - whole
    if code.machine.masks and rest:
        yield _Columns(whole, code.lanes, rest)
        return
    lanes = code.lanes // 2
    while rest:
        while lanes > rest:
            lanes //= 2
        yield _Columns(whole, lanes, lanes)
        whole, rest = whole + lanes, rest - lanes


def _elements(code: PlaneCode, row: str, place: _Columns) -> tuple[str, str]:
    """Return the left and the right elements of windows, given the address of a row of the image."""
    at = code.at(row, (place.first, 2))
    lanes = place.lanes
    if place.count == lanes:
        both = code.load(code.kind, 2 * lanes, at)
        return (
            _shuffled(code, both, 2 * lanes, range(0, 2 * lanes, 2)),
            _shuffled(code, both, 2 * lanes, range(1, 2 * lanes, 2)),
        )
    halves = [_masked(code, code.at(at, (half * lanes, 1)), 2 * place.count - half * lanes) for half in (0, 1)]
    of = code.of
    return (
        _merged(code, of, halves, range(0, 2 * lanes, 2)),
        _merged(code, of, halves, range(1, 2 * lanes, 2)),
    )


def _shuffled(code: PlaneCode, both: str, lanes: int, order: range) -> str:
    if len(order) == 1:
        return code.value(f"extractelement {vector(code.kind, lanes)} {both}, i64 {order[0]}")
    return code.shuffle(both, code.kind, lanes, order)


def _merged(code: PlaneCode, of: str, halves: list[str], order: range) -> str:
    mask = ", ".join([f"i32 {lane}" for lane in order])
    return code.value(f"shufflevector {of} {halves[0]}, {of} {halves[1]}, <{len(order)} x i32> <{mask}>")


def _masked(code: PlaneCode, at: str, count: int) -> str:
    """Return a vector of which so many elements are there."""
    if count <= 0:
        return "zeroinitializer"
    return code.load(code.kind, code.lanes, at, None if count >= code.lanes else code.first_lanes(count))


def _larger(code: PlaneCode, lanes: int, new: str, largest: str) -> tuple[str, str]:
    """Return flags of where a new vector is larger, or the first NaN, and the larger one."""
    of, flags = vector(code.kind, lanes), vector("i1", lanes)
    above = code.value(f"fcmp ugt {of} {new}, {largest}")
    number = code.value(f"fcmp ord {of} {largest}, {largest}")
    taken = code.value(f"and {flags} {above}, {number}")
    return taken, code.value(f"select {flags} {taken}, {of} {new}, {of} {largest}")


def pairs_largest(code: PlaneCode, image: Pair, height: int, source: str, target: str) -> None:
    """Write the loops over a plane that find the largest elements."""
    width = image[1]
    with code.loop(0, image[0] // height) as row:
        lines = [code.at(source, (row, height * width), (down * width, 1)) for down in range(height)]
        out = code.at(target, (row, width // 2))
        for place in _columns(code, width // 2):
            largest = ""
            for line in lines:
                for element in _elements(code, line, place):
                    largest = _larger(code, place.lanes, element, largest)[1] if largest else element
            mask = None if place.count == place.lanes else code.first_lanes(place.count)
            code.store(code.kind, place.lanes, largest, code.at(out, (place.first, 1)), mask)


def pairs_transpose(code: PlaneCode, image: Pair, height: int, given: str, source: str, target: str) -> None:
    """Write the loops over a plane that put what is given to where the largest elements are, and zeros elsewhere."""
    width = image[1]
    with code.loop(0, image[0] // height) as row:
        lines = [code.at(source, (row, height * width), (down * width, 1)) for down in range(height)]
        outs = [code.at(target, (row, height * width), (down * width, 1)) for down in range(height)]
        values = code.at(given, (row, width // 2))
        for place in _columns(code, width // 2):
            lanes, flags = place.lanes, vector("i1", place.lanes)
            of = vector(code.kind, lanes)
            mask = None if place.count == lanes else code.first_lanes(place.count)
            value = code.load(code.kind, lanes, code.at(values, (place.first, 1)), mask)
            largest, taken = "", []
            for line in lines:
                for element in _elements(code, line, place):
                    if largest:
                        flag, largest = _larger(code, lanes, element, largest)
                        taken.append(flag)
                    else:
                        largest = element
            zero = "zeroinitializer" if lanes > 1 else "0.0"
            shares: list[str] = []
            for flag in reversed(taken):  # the last one that was taken is the largest
                shares.append(code.value(f"select {flags} {flag}, {of} {value}, {of} {zero}"))
                value = code.value(f"select {flags} {flag}, {of} {zero}, {of} {value}")
            shares.append(value)
            shares.reverse()
            for down, out in enumerate(outs):
                _put(code, shares[2 * down], shares[2 * down + 1], out, place)


def _put(code: PlaneCode, left: str, right: str, row: str, place: _Columns) -> None:
    """Write the left and the right elements of windows to a row of an image."""
    lanes, at = place.lanes, code.at(row, (place.first, 2))
    if lanes == 1:
        code.store(code.kind, 1, left, at)
        code.store(code.kind, 1, right, code.at(at, (1, 1)))
        return
    for half, part in enumerate(woven(code, left, right, lanes)):
        there = 2 * place.count - half * lanes
        if there > 0:
            mask = None if there >= lanes else code.first_lanes(there)
            code.store(code.kind, lanes, part, code.at(at, (half * lanes, 1)), mask)
