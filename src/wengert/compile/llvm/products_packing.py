"""Packing: copies of parts of the factors, laid out as the tiles of a matrix product read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .products_code import SIZES, Code
from .vectors import spelled, vector

MARGIN = 64
"""Bytes before and after what is packed that packing may write to."""


class Source(NamedTuple):
    """A matrix to pack from: its extents along k and across it, and the strides along these, in elements."""

    kind: str
    depth: int
    extent: int
    step: int
    stride: int


def packing(source: Source, lanes: int) -> str:
    """Return how a matrix is best packed: "copy", "transpose" or "gather"."""
    if source.stride == 1:
        return "copy"
    if source.step == 1 and source.depth >= _piece(source, lanes):
        return "transpose"
    return "gather"


class Packed(NamedTuple):
    """What is packed to: `vectors` vectors for each k, of which `pitch` elements count; they may overlap the next."""

    lanes: int
    vectors: int
    pitch: int


def pack_function(name: str, source: Source, packed: Packed) -> tuple[list[str], Code]:
    """Return the code of `void name(ptr from, ptr to, i64 first, i64 depth)`.

    It writes, for each k below `depth`, elements from the matrix whose first one is at `from`, from index `first` on.
    What would lie outside is zero, or any number of the matrix: it only meets sums that nobody looks at.
    """
    code = Code()
    if source.depth:
        {"copy": _copy, "transpose": _transpose, "gather": _gather}[packing(source, packed.lanes)](code, source, packed)
    head = f"define private void {name}(ptr %from, ptr %to, i64 %first, i64 %depth) noinline nounwind"
    return code.function(head), code


def _copy(code: Code, source: Source, packed: Packed) -> None:
    """Write the packing of a matrix that is contiguous across k."""
    lanes, vectors = packed.lanes, packed.vectors
    start = code.element(source.kind, "%from", ("%first", 1))
    left = code.add(source.extent, code.value("sub nsw i64 0, %first"))
    full = code.compare(left, "sge", lanes * vectors)
    with code.when(full):
        _copy_rows(code, source, packed, start, (None,) * vectors)
    with code.when(code.value(f"xor i1 {full}, true")):
        masks = [code.lane_mask(lanes, code.add(left, -column * lanes)) for column in range(vectors)]
        _copy_rows(code, source, packed, start, masks)


def _copy_rows(code: Code, source: Source, packed: Packed, start: str, masks: Sequence[str | None]) -> None:
    lanes = packed.lanes
    with code.loop(0, "%depth") as k:
        read = code.element(source.kind, start, (k, source.step))
        write = code.element(source.kind, "%to", (k, packed.pitch))
        for column, mask in enumerate(masks):
            loaded = code.load(source.kind, lanes, code.element(source.kind, read, (column, lanes)), mask)
            code.store(source.kind, lanes, loaded, code.element(source.kind, write, (column, lanes)))


def _transpose(code: Code, source: Source, packed: Packed) -> None:
    """Write the packing of a matrix that is contiguous along k: blocks of a vector's rows, turned over in registers.

    The last blocks, down and across, begin early, so that nothing beyond the end is read; what they repeat is written
    to the same place. Where a panel has fewer columns than a vector, a block begins before it: see `MARGIN`.
    """
    lanes, width, piece = packed.lanes, packed.pitch, _piece(source, packed.lanes)
    with code.loop(0, width, lanes) as across:
        begin: str | int = 0
        if source.extent > lanes:
            begin = code.least(code.add("%first", across), source.extent - lanes)
        column = code.add(begin, code.value("sub nsw i64 0, %first")) if source.extent > lanes else 0
        corner = code.element(source.kind, "%from", (begin, source.stride))
        with code.loop(0, source.depth, piece) as block:
            k = code.least(block, source.depth - piece) if source.depth % piece else block
            read = code.element(source.kind, corner, (k, 1))
            rows = []
            for lane in range(lanes):
                at = code.element(source.kind, read, (min(lane, source.extent - 1), source.stride))
                rows.append(code.load(source.kind, piece, at))
            write = code.element(source.kind, "%to", (k, width), (column, 1))
            for step, turned in enumerate(_turned(code, source.kind, lanes, rows, piece)):
                code.store(source.kind, lanes, turned, code.element(source.kind, write, (step, width)))


def _piece(source: Source, lanes: int) -> int:
    """Return how many elements along k are turned over together: as many as 16 bytes hold."""
    return min(lanes, 16 // SIZES[source.kind])


def _turned(code: Code, kind: str, lanes: int, rows: list[str], piece: int) -> list[str]:
    """Write the transposition of short rows, one for each lane, into `piece` vectors.

    Rows that lie `piece` apart are joined to vectors; what is left are transpositions of squares within 16 bytes.
    """
    joined = []
    for first in range(piece):
        parts, size = rows[first::piece], piece
        while len(parts) > 1:
            order, of = spelled("i32", range(2 * size)), vector(kind, size)
            pairs = zip(parts[::2], parts[1::2])
            parts = [code.value(f"shufflevector {of} {x}, {of} {y}, <{2 * size} x i32> {order}") for x, y in pairs]
            size *= 2
        joined += parts
    of, span = vector(kind, lanes), piece // 2
    while span:
        new = list(joined)
        for upper in [row for row in range(piece) if not row & span]:
            pair = f"{of} {joined[upper]}, {of} {joined[upper + span]}"
            for which in (0, span):
                order = [(lane & ~span) + which + (lanes if lane & span else 0) for lane in range(lanes)]
                new[upper + which] = code.value(f"shufflevector {pair}, <{lanes} x i32> {spelled('i32', order)}")
        joined, span = new, span // 2
    return joined


def _gather(code: Code, source: Source, packed: Packed) -> None:
    """Write the packing of a matrix that is contiguous along neither, element by element."""
    width = packed.pitch
    with code.loop(0, width) as across:
        row = code.least(code.add("%first", across), source.extent - 1)
        read = code.element(source.kind, "%from", (row, source.stride))
        write = code.element(source.kind, "%to", (across, 1))
        with code.loop(0, "%depth") as k:
            loaded = code.load(source.kind, 1, code.element(source.kind, read, (k, source.step)))
            code.store(source.kind, 1, loaded, code.element(source.kind, write, (k, width)))
