"""Packing: copies of parts of the factors, laid out as the tiles of a matrix product read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .products_code import SIZES, Code
from .vectors import spelled, vector

MARGIN = 64
"""Bytes before and after what is packed that packing may write to."""
PAIRS = ("pairs", "tiles")
"""Forms of two numbers in four bytes."""
SHORT = {"halves": "i16", **dict.fromkeys(PAIRS, "i32")}
"""Types of elements that hold bfloat16 numbers: one of them, or two."""


class Source(NamedTuple):
    """A matrix to pack from: its extents along k and across it, and the strides along these, in elements.

    `form` says what its numbers become: "" for what they are; "rounded" to the nearest bfloat16 number; "pairs" of such
    that are neighbours along k, each pair an i32. In the last case, what is counted along k are pairs.
    """

    kind: str
    depth: int
    extent: int
    step: int
    stride: int
    form: str = ""

    @property
    def stored(self) -> str:
        """Type of what is packed."""
        return "i32" if self.form in PAIRS else self.kind

    @property
    def each(self) -> int:
        """How many elements along k become one."""
        return 2 if self.form in PAIRS else 1


def packing(source: Source, lanes: int) -> str:
    """Return how a matrix is best packed: "copy", "transpose" or "gather"."""
    if source.stride == 1:
        return "copy"
    if source.step == 1 and source.depth >= source.each * _piece(source, lanes):
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
        read = code.element(source.kind, start, (k, source.each * source.step))
        write = code.element(source.kind, "%to", (k, packed.pitch))
        for column, mask in enumerate(masks):
            at = code.element(source.kind, read, (column, lanes))
            rows = [
                code.load(source.kind, lanes, code.element(source.kind, at, (row, source.step)), mask)
                for row in range(source.each)
            ]
            to = code.element(source.kind, write, (column, lanes))
            code.store(source.stored, lanes, joined(code, source.form, lanes, rows), to)


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
        column = code.add(begin, code.value("sub nsw i64 0, %first"))
        corner = code.element(source.kind, "%from", (begin, source.stride))
        latest = code.add("%depth", -piece)
        with code.loop(0, "%depth", piece) as block:
            k = code.least(block, latest)
            read = code.element(source.kind, corner, (k, source.each))
            rows = []
            for lane in range(lanes):
                at = code.element(source.kind, read, (min(lane, source.extent - 1), source.stride))
                rows.append(shortened(code, source.form, piece, code.load(source.kind, piece * source.each, at)))
            write = code.element(source.kind, "%to", (k, width), (column, 1))
            for step, row in enumerate(turned(code, source.stored, lanes, rows, piece)):
                code.store(source.stored, lanes, row, code.element(source.kind, write, (step, width)))


def _piece(source: Source, lanes: int) -> int:
    """Return how many elements along k are turned over together: as many as 16 bytes hold."""
    return min(lanes, 16 // SIZES[source.kind])


def turned(code: Code, kind: str, lanes: int, rows: list[str], piece: int) -> list[str]:
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
            at = code.element(source.kind, read, (k, source.each * source.step))
            rows = [
                code.load(source.kind, 1, code.element(source.kind, at, (row, source.step)))
                for row in range(source.each)
            ]
            element = joined(code, source.form, 1, rows)
            code.store(source.stored, 1, element, code.element(source.kind, write, (k, width)))


def joined(code: Code, form: str, lanes: int, rows: Sequence[str]) -> str:
    """Write what elements become that follow each other along k, of vectors across it; one without a second has 0."""
    if form not in PAIRS:
        return shortened(code, form, lanes, rows[0])
    halves = []
    for row in rows:
        short = code.value(f"fptrunc {vector('float', lanes)} {row} to {vector('bfloat', lanes)}")
        bits = code.value(f"bitcast {vector('bfloat', lanes)} {short} to {vector('i16', lanes)}")
        halves.append(code.value(f"zext {vector('i16', lanes)} {bits} to {vector('i32', lanes)}"))
    if len(halves) == 1:
        return halves[0]
    of, sixteen = vector("i32", lanes), spelled("i32", [16] * lanes)
    return code.value(f"or {of} {halves[0]}, {code.value(f'shl {of} {halves[1]}, {sixteen}')}")


def shortened(code: Code, form: str, count: int, numbers: str) -> str:
    """Write what numbers that follow each other along k become: `count` numbers, or pairs of them."""
    if form in SHORT:
        number = 2 * count if form in PAIRS else count
        floats, narrow = vector("float", number), vector("bfloat", number)
        short = code.value(f"fptrunc {floats} {numbers} to {narrow}")
        return code.value(f"bitcast {narrow} {short} to {vector(SHORT[form], count)}")
    return _rounded(code, count, numbers) if form == "rounded" else numbers


def _rounded(code: Code, count: int, numbers: str) -> str:
    """Write the rounding of float32 numbers to the nearest ones of 8 bits, ties to even; NaN stays NaN."""
    of, floats = vector("i32", count), vector("float", count)

    def every(number: int) -> str:
        return spelled("i32", [number] * count)

    bits = code.value(f"bitcast {floats} {numbers} to {of}")
    odd = code.value(f"and {of} {code.value(f'lshr {of} {bits}, {every(16)}')}, {every(1)}")
    up = code.value(f"add {of} {code.value(f'add {of} {bits}, {odd}')}, {every(0x7FFF)}")
    quiet = code.value(f"or {of} {bits}, {every(0x400000)}")
    is_nan = code.value(f"fcmp uno {floats} {numbers}, {numbers}")
    chosen = code.value(f"select {vector('i1', count)} {is_nan}, {of} {quiet}, {of} {up}")
    cut = code.value(f"and {of} {chosen}, {every(-65536)}")
    return code.value(f"bitcast {of} {cut} to {floats}")
