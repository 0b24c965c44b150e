"""The way back: from planes in scratch, in which gradients have been added up, to images."""

from __future__ import annotations

from .convolution_code import Index, PlaneCode
from .convolution_geometry import Planes
from .convolution_planes import inside


def write_back(code: PlaneCode, planes: Planes, source: str, target: str) -> None:
    """Write loops that copy the planes of one channel to an image; zeros to what no plane has.

    The planes hold all rows of the grid.
    """
    height, width = planes.source
    if not _covers(planes):
        _zeros(code, target, height * width)
    for number, (row_phase, column_phase) in enumerate(planes.phases):
        begin, end = inside(planes, column_phase)
        first_row = max(0, -planes.low[0])
        last_row = min(planes.height, (height - 1 - row_phase) // planes.stride[0] + 1 - planes.low[0])
        if begin >= end or first_row >= last_row:
            continue
        plane = code.at(source, (number * planes.height * planes.pitch + begin, 1))
        corner = (planes.low[0] * planes.stride[0] + row_phase) * width
        corner += (begin + planes.low[1]) * planes.stride[1] + column_phase
        with code.loop(first_row, last_row) as row:
            line = code.at(target, (row, planes.stride[0] * width), (corner, 1))
            _scatter(code, code.at(plane, (row, planes.pitch)), line, end - begin, planes.stride[1])


def _covers(planes: Planes) -> bool:
    """Return whether every element of the image has its place in a plane."""
    height, width = planes.source
    phases = [(r, c) for r in range(min(planes.stride[0], height)) for c in range(min(planes.stride[1], width))]
    if not set(phases) <= set(planes.phases):
        return False
    for row_phase, column_phase in phases:
        rows = (height - 1 - row_phase) // planes.stride[0] + 1
        columns = (width - 1 - column_phase) // planes.stride[1] + 1
        if planes.low[0] > 0 or rows - planes.low[0] > planes.height:
            return False
        if planes.low[1] > 0 or columns - planes.low[1] > planes.pitch:
            return False
    return True


def _zeros(code: PlaneCode, target: str, size: int) -> None:
    whole = size // code.lanes * code.lanes
    if whole:
        with code.loop(0, whole, code.lanes) as index:
            code.store(code.kind, code.lanes, "zeroinitializer", code.at(target, (index, 1)))
    if whole < size:
        with code.loop(whole, size) as index:
            code.store(code.kind, 1, "0.0", code.at(target, (index, 1)))


def _scatter(code: PlaneCode, source: str, target: str, count: int, stride: int) -> None:
    """Write the copy of elements that follow each other to elements that are a stride apart."""
    lanes = 1
    while stride == 1 and lanes * 2 <= min(count, code.lanes):
        lanes *= 2
    whole = count // lanes * lanes
    with code.loop(0, whole, lanes) as index:
        _move(code, source, target, index, stride, lanes)
    if whole < count:  # the last vector overlaps the one in front of it
        _move(code, source, target, count - lanes, stride, lanes)


def _move(code: PlaneCode, source: str, target: str, index: Index, stride: int, lanes: int) -> None:
    code.store(
        code.kind, lanes, code.load(code.kind, lanes, code.at(source, (index, 1))), code.at(target, (index, stride))
    )
