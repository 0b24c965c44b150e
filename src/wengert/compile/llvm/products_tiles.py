"""The innermost loops of matrix products: tiles of the result that stay in registers while k runs."""

from __future__ import annotations

from typing import NamedTuple

from .products_code import Code
from .vectors import suffix, vector


class Tile(NamedTuple):
    """A tile of the result, and how what it is computed from lies in memory.

    Attributes:
        kind: type of the elements.
        lanes: elements of a vector.
        rows, vectors: its size.
        depth: extent of k.
        row_stride, left_step: of the left factor, along rows and along k, in elements.
        right_step: of the right factor along k, in elements; along columns it is contiguous.
        right_align: bytes that the addresses of the right factor's vectors are multiples of.
        fma: whether a product and a sum are one instruction.
    """

    kind: str
    lanes: int
    rows: int
    vectors: int
    depth: int
    row_stride: int
    left_step: int
    right_step: int
    right_align: int
    fma: bool


def tile_function(name: str, tile: Tile) -> tuple[list[str], Code]:
    """Return the code of `void name(ptr a, ptr b, ptr c, i64 stride)`, which writes one tile of the product to c."""
    code = Code()
    cells = [(row, column) for row in range(tile.rows) for column in range(tile.vectors)]
    results = {cell: "zeroinitializer" for cell in cells}
    if tile.depth:
        results = _accumulation(code, tile, cells)
    place = "%c"
    for row in range(tile.rows):
        if row:
            place = code.value(f"getelementptr inbounds {tile.kind}, ptr {place}, i64 %stride")
        for column in range(tile.vectors):
            to = code.element(tile.kind, place, (column, tile.lanes))
            code.store(tile.kind, tile.lanes, results[row, column], to)
    return code.function(f"define private void {name}(ptr %a, ptr %b, ptr %c, i64 %stride) noinline nounwind"), code


def _accumulation(code: Code, tile: Tile, cells: list[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Write the loop over k; return the names of the sums."""
    kind, lanes = tile.kind, tile.lanes
    code.write("br label %loop")
    code.start("loop")
    place = len(code.lines)
    right = [
        code.load(kind, lanes, code.element(kind, "%right", (column, lanes)), align=tile.right_align)
        for column in range(tile.vectors)
    ]
    results: dict[tuple[int, int], str] = {}
    for row in range(tile.rows):
        number = code.load(kind, 1, code.element(kind, "%left", (row, tile.row_stride)))
        left = code.splat(number, kind, lanes)
        for column in range(tile.vectors):
            results[row, column] = _accumulate(code, tile, left, right[column], f"%sum{row}.{column}")
    next_left = code.element(kind, "%left", (1, tile.left_step))
    next_right = code.element(kind, "%right", (1, tile.right_step))
    more = code.value("add nuw nsw i64 %k, 1")
    code.write(f"br i1 {code.compare(more, 'ult', tile.depth)}, label %loop, label %done")
    code.lines[place:place] = [
        f"  %k = phi i64 [ 0, %entry ], [ {more}, %loop ]",
        f"  %left = phi ptr [ %a, %entry ], [ {next_left}, %loop ]",
        f"  %right = phi ptr [ %b, %entry ], [ {next_right}, %loop ]",
        *[
            f"  %sum{row}.{column} = phi {vector(kind, lanes)} [ zeroinitializer, %entry ], "
            f"[ {results[row, column]}, %loop ]"
            for row, column in cells
        ],
    ]
    code.start("done")
    return results


def _accumulate(code: Code, tile: Tile, left: str, right: str, total: str) -> str:
    of = vector(tile.kind, tile.lanes)
    if tile.fma:
        return code.call(f"fma.{suffix(tile.kind, tile.lanes)}", of, [(of, left), (of, right), (of, total)])
    return code.value(f"fadd {of} {total}, {code.value(f'fmul {of} {left}, {right}')}")
