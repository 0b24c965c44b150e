"""Packing: copies of parts of the factors, laid out as the tiles of a matrix product read them."""

from __future__ import annotations

from typing import NamedTuple

from .products_code import Code
from .vectors import spelled, vector


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
    if source.step == 1 and source.depth >= lanes:
        return "transpose"
    return "gather"


def pack_function(name: str, source: Source, lanes: int, vectors: int) -> tuple[list[str], Code]:
    """Return the code of `void name(ptr from, ptr to, i64 first)`.

    It writes, for each k, `vectors` vectors from the matrix whose first element is at `from`, from index `first` on.
    What would lie outside is zero, or any number of the matrix: it only meets sums that nobody looks at.
    """
    code = Code()
    if source.depth:
        {"copy": _copy, "transpose": _transpose, "gather": _gather}[packing(source, lanes)](
            code, source, lanes, vectors
        )
    return code.function(f"define private void {name}(ptr %from, ptr %to, i64 %first) noinline nounwind"), code


def _copy(code: Code, source: Source, lanes: int, vectors: int) -> None:
    """Write the packing of a matrix that is contiguous across k."""
    width = lanes * vectors
    start = code.element(source.kind, "%from", ("%first", 1))
    left = code.add(source.extent, code.value("sub nsw i64 0, %first"))
    full = code.compare(left, "sge", width)
    with code.when(full):
        _copy_rows(code, source, lanes, start, [None] * vectors)
    with code.when(code.value(f"xor i1 {full}, true")):
        masks = [code.lane_mask(lanes, code.add(left, -column * lanes)) for column in range(vectors)]
        _copy_rows(code, source, lanes, start, masks)


def _copy_rows(code: Code, source: Source, lanes: int, start: str, masks: list[str | None] | list[str]) -> None:
    width = lanes * len(masks)
    with code.loop(0, source.depth) as k:
        read = code.element(source.kind, start, (k, source.step))
        write = code.element(source.kind, "%to", (k, width))
        for column, mask in enumerate(masks):
            loaded = code.load(source.kind, lanes, code.element(source.kind, read, (column, lanes)), mask)
            code.store(source.kind, lanes, loaded, code.element(source.kind, write, (column, lanes)))


def _transpose(code: Code, source: Source, lanes: int, vectors: int) -> None:
    """Write the packing of a matrix that is contiguous along k, as squares turned over in registers.

    The last square along k begins early, so that nothing beyond the end is read; rows beyond the last are the last.
    """
    width = lanes * vectors
    with code.loop(0, width, lanes) as across:
        begin = code.add("%first", across)
        rows = []
        for lane in range(lanes):
            row = code.least(code.add(begin, lane), source.extent - 1)
            rows.append(code.element(source.kind, "%from", (row, source.stride)))
        with code.loop(0, source.depth, lanes) as square:
            k = code.least(square, source.depth - lanes)
            loaded = [code.load(source.kind, lanes, code.element(source.kind, row, (k, 1))) for row in rows]
            write = code.element(source.kind, "%to", (k, width), (across, 1))
            for lane, column in enumerate(_turned(code, source.kind, lanes, loaded)):
                code.store(source.kind, lanes, column, code.element(source.kind, write, (lane, width)))


def _turned(code: Code, kind: str, lanes: int, rows: list[str]) -> list[str]:
    """Write the transposition of a square: halves, quarters, eighths... of rows change places, by shuffles."""
    of, span = vector(kind, lanes), lanes // 2
    while span:
        new = list(rows)
        for upper in [lane for lane in range(lanes) if not lane & span]:
            pair = f"{of} {rows[upper]}, {of} {rows[upper + span]}"
            for which in (0, span):
                order = [(lane & ~span) + which + (lanes if lane & span else 0) for lane in range(lanes)]
                new[upper + which] = code.value(f"shufflevector {pair}, <{lanes} x i32> {spelled('i32', order)}")
        rows, span = new, span // 2
    return rows


def _gather(code: Code, source: Source, lanes: int, vectors: int) -> None:
    """Write the packing of a matrix that is contiguous along neither, element by element."""
    width = lanes * vectors
    with code.loop(0, width) as across:
        row = code.least(code.add("%first", across), source.extent - 1)
        read = code.element(source.kind, "%from", (row, source.stride))
        write = code.element(source.kind, "%to", (across, 1))
        with code.loop(0, source.depth) as k:
            loaded = code.load(source.kind, 1, code.element(source.kind, read, (k, source.step)))
            code.store(source.kind, 1, loaded, code.element(source.kind, write, (k, width)))
