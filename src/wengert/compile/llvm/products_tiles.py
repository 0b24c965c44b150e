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
        row_stride, left_step: of the left factor, along rows and along k, in elements.
        right_step, column_stride: of the right factor, along k and along columns.
        right_align: bytes that the addresses of the right factor's vectors are multiples of.
        blocks: whether k comes in several parts, so that a tile goes on from what is stored.
        fma: whether a product and a sum are one instruction.
        pairs: whether factors are pairs of bfloat16 numbers, whose products are added to float32 numbers.
    """

    kind: str
    lanes: int
    rows: int
    vectors: int
    row_stride: int
    left_step: int
    right_step: int
    column_stride: int
    right_align: int
    blocks: bool
    fma: bool
    pairs: bool = False

    @property
    def factor(self) -> str:
        """Type of the factors' elements."""
        return "i32" if self.pairs else self.kind

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Row and column of its vectors."""
        return [(row, column) for row in range(self.rows) for column in range(self.vectors)]

    @property
    def vector(self) -> str:
        """Type of its vectors."""
        return vector(self.kind, self.lanes)


ARGUMENTS = "ptr %a, ptr %b, ptr %c, i64 %stride, i64 %depth, i64 %start"
"""Of functions that compute tiles: factors and result, the result's row stride, the extent of k in this part; and where
this part begins (of tiles), or the first column (of dot products)."""


def tile_function(name: str, tile: Tile, empty: bool) -> tuple[list[str], Code]:
    """Return the code of `void name(ARGUMENTS)`, which writes a tile of the product; `empty` if no k is ever there."""
    code = Code()
    results = {cell: "zeroinitializer" for cell in tile.cells}
    if not empty:
        results = _accumulation(code, tile)
    for cell, place in _places(code, tile).items():
        code.store(tile.kind, tile.lanes, results[cell], place)
    return code.function(f"define private void {name}({ARGUMENTS}) noinline nounwind"), code


def _places(code: Code, tile: Tile) -> dict[tuple[int, int], str]:
    """Write addresses of the result's vectors."""
    places, row = {}, "%c"
    for cell in tile.cells:
        if cell[1] == 0 and cell[0]:
            row = code.value(f"getelementptr {tile.kind}, ptr {row}, i64 %stride")
        places[cell] = code.element(tile.kind, row, (cell[1], tile.lanes))
    return places


def _beginnings(code: Code, tile: Tile) -> dict[tuple[int, int], str]:
    """Write what the sums begin with: zero, or what the part of k before has left."""
    if not tile.blocks:
        code.write("br label %loop")
        return {cell: f"[ zeroinitializer, %{code.label} ]" for cell in tile.cells}
    code.write(f"br i1 {code.compare('%start', 'eq', 0)}, label %loop, label %more")
    code.start("more")
    before = {cell: code.load(tile.kind, tile.lanes, at) for cell, at in _places(code, tile).items()}
    code.write("br label %loop")
    return {cell: f"[ zeroinitializer, %entry ], [ {name}, %more ]" for cell, name in before.items()}


def _accumulation(code: Code, tile: Tile) -> dict[tuple[int, int], str]:
    """Write the loop over k; return the names of the sums."""
    kind, lanes = tile.kind, tile.lanes
    beginnings = _beginnings(code, tile)
    sources = ("entry", "more") if tile.blocks else ("entry",)
    code.start("loop")
    place = len(code.lines)
    right = [
        code.load(tile.factor, lanes, code.element(kind, "%right", (column, lanes)), align=tile.right_align)
        for column in range(tile.vectors)
    ]
    results: dict[tuple[int, int], str] = {}
    for row in range(tile.rows):
        number = code.load(tile.factor, 1, code.element(kind, "%left", (row, tile.row_stride)))
        left = code.splat(number, tile.factor, lanes)
        for column in range(tile.vectors):
            results[row, column] = accumulate(code, tile, left, right[column], f"%sum{row}.{column}")
    next_left = code.element(kind, "%left", (1, tile.left_step))
    next_right = code.element(kind, "%right", (1, tile.right_step))
    more = code.stepped("%k", 1)
    code.write(f"br i1 {code.compare(more, 'ult', '%depth')}, label %loop, label %done")
    phis = [("%k", "i64", "0", more), ("%left", "ptr", "%a", next_left), ("%right", "ptr", "%b", next_right)]
    code.lines[place:place] = [
        *[
            f"  {name} = phi {of} {', '.join([f'[ {first}, %{source} ]' for source in sources])}, [ {after}, %loop ]"
            for name, of, first, after in phis
        ],
        *[
            f"  %sum{row}.{column} = phi {tile.vector} {first}, [ {results[row, column]}, %loop ]"
            for (row, column), first in beginnings.items()
        ],
    ]
    code.start("done")
    return results


def accumulate(code: Code, tile: Tile, left: str, right: str, total: str) -> str:
    """Write the sum of a total and a product."""
    of = tile.vector
    if tile.pairs:
        return add_pairs(code, "i32", tile.lanes, left, right, total)
    if tile.fma:
        return code.call(f"fma.{suffix(tile.kind, tile.lanes)}", of, [(of, left), (of, right), (of, total)])
    return code.value(f"fadd {of} {total}, {code.value(f'fmul {of} {left}, {right}')}")


def add_pairs(code: Code, kind: str, lanes: int, left: str, right: str, total: str) -> str:
    """Write the sum of float32 numbers and of the products of pairs of bfloat16 numbers.

    Args:
        code: where to write.
        kind: type of the elements that the pairs are held in: i32, each a pair, or i16, each half of one.
        lanes: pairs of a vector.
        left, right, total: factors, and what their products are added to.
    """
    of, narrow, count = vector("float", lanes), f"<{2 * lanes} x bfloat>", lanes if kind == "i32" else 2 * lanes
    factors = [(narrow, code.value(f"bitcast {vector(kind, count)} {x} to {narrow}")) for x in (left, right)]
    return code.call(f"x86.avx512bf16.dpbf16ps.{32 * lanes}", of, [(of, total), *factors])
