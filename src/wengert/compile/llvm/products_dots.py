"""Tiles of matrix products as dot products, for thin results whose factors are both contiguous along k."""

from __future__ import annotations

from .products_code import Code
from .products_tiles import ARGUMENTS, Tile, accumulate
from .vectors import spelled


def together(lanes: int) -> int:
    """Return how many columns are summed at a time."""
    return min(4, lanes)


def dot_function(name: str, tile: Tile, depth: int, columns: int) -> tuple[list[str], Code]:
    """Return the code of `void name(ARGUMENTS)`, which writes a tile one vector wide, from column %start on.

    Vectors run along k, so that nothing is packed. Columns beyond the last are the last.
    """
    code, step = Code(), together(tile.lanes)
    with code.loop(0, tile.lanes, step) as first:
        column = code.add("%start", first)
        right = [
            code.element(tile.kind, "%b", (code.least(code.add(column, next_to), columns - 1), tile.column_stride))
            for next_to in range(step)
        ]
        left = [code.element(tile.kind, "%a", (row, tile.row_stride)) for row in range(tile.rows)]
        sums = _sums(code, tile, left, right, depth)
        place = code.element(tile.kind, "%c", (first, 1))
        for row in range(tile.rows):
            if row:
                place = code.value(f"getelementptr {tile.kind}, ptr {place}, i64 %stride")
            code.store(tile.kind, step, _reduced(code, tile, sums[row]), place)
    return code.function(f"define private void {name}({ARGUMENTS}) noinline nounwind"), code


def _sums(code: Code, tile: Tile, left: list[str], right: list[str], depth: int) -> list[list[str]]:
    """Write the sums over k of each pair of a row and a column, still spread over lanes."""
    whole, rest = depth // tile.lanes * tile.lanes, depth % tile.lanes
    sums = [["zeroinitializer"] * len(right) for _ in left]
    if whole:
        head, done, source = code.text.label(), code.text.label(), code.label
        code.write(f"br label %{head}")
        code.start(head)
        place, k = len(code.lines), code.text.name()
        names = [[code.text.name() for _ in right] for _ in left]
        sums = _added(code, tile, names, (left, right), k, None)
        more = code.stepped(k, tile.lanes)
        code.write(f"br i1 {code.compare(more, 'ult', whole)}, label %{head}, label %{done}")
        phis = [f"  {k} = phi i64 [ 0, %{source} ], [ {more}, %{head} ]"]
        for row, after in zip(names, sums):
            for name, total in zip(row, after):
                phis.append(f"  {name} = phi {tile.vector} [ zeroinitializer, %{source} ], [ {total}, %{head} ]")
        code.lines[place:place] = phis
        code.start(done)
    if rest:
        mask = spelled("i1", [int(lane < rest) for lane in range(tile.lanes)])
        sums = _added(code, tile, sums, (left, right), whole, mask)
    return sums


def _added(
    code: Code, tile: Tile, sums: list[list[str]], factors: tuple[list[str], list[str]], k: str | int, mask: str | None
) -> list[list[str]]:
    """Write the addition of products of a vector of each row and of each column."""
    kind, lanes = tile.kind, tile.lanes
    rows, columns = ([code.load(kind, lanes, code.element(kind, at, (k, 1)), mask) for at in side] for side in factors)
    return [
        [accumulate(code, tile, one, other, total) for other, total in zip(columns, row)]
        for one, row in zip(rows, sums)
    ]


def _reduced(code: Code, tile: Tile, vectors: list[str]) -> str:
    """Write the sums over lanes of some vectors, as one vector of them: lanes are halved, and pairs joined."""
    parts, each, width = list(vectors), tile.lanes, tile.lanes
    while len(parts) > 1:
        parts = [_folded(code, tile.kind, width, each, x, y) for x, y in zip(parts[::2], parts[1::2])]
        each //= 2
    while each > 1:
        parts = [_folded(code, tile.kind, width, each, parts[0], None)]
        each, width = each // 2, width // 2
    return parts[0]


def _folded(code: Code, kind: str, width: int, each: int, x: str, y: str | None) -> str:
    """Write the addition of the halves of every run of `each` lanes, of one vector or of two that are joined."""
    runs = range(0, width if y is None else 2 * width, each)
    half = each // 2
    sides = [[run + side + lane for run in runs for lane in range(half)] for side in (0, half)]
    of, count = f"<{width} x {kind}>", len(sides[0])
    pair = f"{of} {x}, {of} {y or 'poison'}"
    low, high = [
        code.value(f"shufflevector {pair}, <{count} x i32> {spelled('i32', side) if count > 1 else f'<i32 {side[0]}>'}")
        for side in sides
    ]
    return code.value(f"fadd <{count} x {kind}> {low}, {high}")
