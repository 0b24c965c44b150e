"""Matrix products of bfloat16 factors in the tile registers of x86-64 processors with AMX.

A register holds 16 rows of 64 bytes: of sums, 16 x 16 of float32; of the left factor, 16 rows of 16 pairs of neighbours
along k; of the right one, 16 pairs for each of 16 columns, as they are packed for instructions on vectors. One
instruction adds the products of 32 steps of k to 256 sums. What is packed ends with zeros, up to a multiple of 32. The
left factor is packed in blocks of 16 pairs of all rows of a tile, so that rows of a register lie one after another.
"""

from __future__ import annotations

from .products_code import Code
from .products_packing import Source, joined, shortened, turned
from .products_tiles import ARGUMENTS
from .vectors import spelled

SIDE = 16
"""Rows of a tile register, and elements of four bytes in a row."""
STEPS = 2 * SIDE
"""Steps of k that one instruction does."""
_MEMORY_ROW = 64
_SUMS, _LEFT, _RIGHT = ((0, 1), (2, 3)), (4, 5), (6, 7)
"""Registers of the sums of each row and column of tiles, and of both factors."""


def padded_pairs(depth: int) -> int:
    """Return how many pairs along k are packed."""
    return -(-depth // STEPS) * SIDE


def matrix_function(name: str, rows: int, vectors: int, packed: int, pitch: int) -> tuple[list[str], Code]:
    """Return the code of `void name(ARGUMENTS)`, which writes `rows` rows of one or two vectors of the product.

    The registers must be configured for these rows.

    Args:
        name: its symbol.
        rows: up to 32.
        vectors: columns of the result, in vectors of 16.
        packed: rows of the packed left factor.
        pitch: elements from one pair to the next in the packed right factor.
    """
    code = Code()
    down, across = range(-(-rows // SIDE)), range(vectors)
    begin_sums(code, len(down), vectors)
    with code.loop(0, "%depth", SIDE) as k:
        left = [code.element("i32", "%a", (row * SIDE, SIDE), (k, packed)) for row in down]
        right = [code.element("i32", "%b", (k, pitch), (column, SIDE)) for column in across]
        add_step(code, left, right, SIDE, pitch)
    store_sums(code, len(down), vectors, "%c", "%stride")
    return code.function(f"define private void {name}({ARGUMENTS}) noinline nounwind"), code


def begin_sums(code: Code, down: int, across: int) -> None:
    """Write that sums of so many registers, above and beside each other, begin with zero."""
    for row in range(down):
        for column in range(across):
            code.call("x86.tilezero", "void", _registers(_SUMS[row][column]))


def add_step(code: Code, left: list[str], right: list[str], left_apart: int, right_apart: int) -> None:
    """Write that products of both factors' pairs are added to sums.

    Args:
        code: where to write.
        left, right: addresses of the registers' pairs.
        left_apart, right_apart: pairs from one row of a register to the next, in memory.
    """
    for register, at in zip(_LEFT, left):
        _load(code, register, at, left_apart)
    for register, at in zip(_RIGHT, right):
        _load(code, register, at, right_apart)
    for row in range(len(left)):
        for column in range(len(right)):
            code.call("x86.tdpbf16ps", "void", _registers(_SUMS[row][column], _LEFT[row], _RIGHT[column]))


def store_sums(code: Code, down: int, across: int, target: str, stride: str | int) -> None:
    """Write that sums are stored, in rows so many elements apart."""
    places = [
        [
            code.element("float", target, (code.multiply(stride, row * SIDE), 1), (column, SIDE))
            for column in range(across)
        ]
        for row in range(down)
    ]
    move_sums(code, "tilestored64", places, stride)


def move_sums(code: Code, instruction: str, places: list[list[str]], elements_apart: str | int) -> None:
    """Write that sums are loaded or stored.

    Args:
        code: where to write.
        instruction: "tileloadd64" or "tilestored64".
        places: addresses of registers, above and beside each other.
        elements_apart: from one row of a register to the next.
    """
    bytes_apart = code.multiply(elements_apart, 4)
    for row, line in enumerate(places):
        for column, at in enumerate(line):
            given = [*_registers(_SUMS[row][column]), ("ptr", at), ("i64", str(bytes_apart))]
            code.call(f"x86.{instruction}", "void", given)


def configure(code: Code, rows: int, pairs: int = SIDE, side: int = SIDE) -> None:
    """Write the configuration of the registers: it takes long beside a step of k.

    Args:
        code: where to write.
        rows: of the left factor and the sums, in all registers that lie above each other.
        pairs: of a step.
        side: rows of one of these registers, but for the last one.
    """
    content = [0] * _MEMORY_ROW
    content[0] = 1
    heights = [min(side, rows - first) for first in range(0, rows, side)]
    used = {register: (pairs, SIDE) for register in _RIGHT}
    for height, left, sums in zip(heights, _LEFT, _SUMS):
        used |= {left: (height, pairs)} | dict.fromkeys(sums, (height, SIDE))
    for register, (height, width) in used.items():
        content[16 + 2 * register] = 4 * width
        content[48 + register] = height
    table = code.text.table("i8", [str(byte) for byte in content])
    code.call("x86.ldtilecfg", "void", [("ptr", table)])


def release(code: Code) -> None:
    """Write that the registers are given back, so that a switch of threads need not save them."""
    code.call("x86.tilerelease", "void", [])


def _registers(*numbers: int) -> list[tuple[str, str]]:
    return [("i8", str(number)) for number in numbers]


def _load(code: Code, register: int, at: str, elements_apart: int) -> None:
    given = [*_registers(register), ("ptr", at), ("i64", str(4 * elements_apart))]
    code.call("x86.tileloadd64", "void", given)


def pack_rows_function(name: str, source: Source, rows: int) -> tuple[list[str], Code]:
    """Return the code of `void name(ptr from, ptr to, i64 first, i64 depth)`, which packs rows of pairs along k.

    Rows beyond the matrix are any rows of it: sums of theirs are not stored.
    """
    code = Code()
    write = _pack_along if source.step == 1 else _pack_across
    write(code, source, rows)
    head = f"define private void {name}(ptr %from, ptr %to, i64 %first, i64 %depth) noinline nounwind"
    return code.function(head), code


def _pack_along(code: Code, source: Source, rows: int) -> None:
    """Write the packing of a matrix that is contiguous along k."""
    whole, rest = divmod(source.depth // 2, SIDE)
    with code.loop(0, rows) as row:
        index = code.least(code.add("%first", row), source.extent - 1)
        read = code.element("float", "%from", (index, source.stride))
        write = code.element("i32", "%to", (row, SIDE))
        if whole:
            with code.loop(0, whole * SIDE, SIDE) as k:
                numbers = code.load("float", STEPS, code.element("float", read, (k, 2)))
                pairs = shortened(code, source.form, SIDE, numbers)
                code.store("i32", SIDE, pairs, code.element("i32", write, (k, rows)))
        if rest:
            mask = spelled("i1", [int(step < 2 * rest) for step in range(STEPS)])
            numbers = code.load("float", STEPS, code.element("float", read, (whole, STEPS)), mask)
            pairs = shortened(code, source.form, SIDE, numbers)
            code.store("i32", SIDE, pairs, code.element("i32", write, (whole * SIDE, rows)))


def _pack_across(code: Code, source: Source, rows: int) -> None:
    """Write the packing of a matrix that is contiguous across k: blocks of 16 rows and 16 pairs are turned over.

    Rows of memory are far apart: what is needed of them is read together.
    """
    whole, rest = divmod(source.depth // 2, SIDE)
    blocks = []
    for row in range(0, rows, SIDE):
        begin = code.least(code.add("%first", min(row, rows - SIDE)), source.extent - SIDE)
        down = code.add(begin, code.value("sub nsw i64 0, %first"))
        blocks.append((code.element("float", "%from", (begin, 1)), code.element("i32", "%to", (down, SIDE))))
    if whole:
        with code.loop(0, whole * SIDE, SIDE) as k:
            for places in blocks:
                _turn(code, source, places, k, SIDE, rows)
    if rest:
        for places in blocks:
            _turn(code, source, places, whole * SIDE, rest, rows)


def _turn(code: Code, source: Source, places: tuple[str, str], first: str | int, count: int, rows: int) -> None:
    """Write the packing of a block of 16 rows and 16 pairs, of which the first `count` are there."""
    columns = ["zeroinitializer"] * SIDE
    for number in range(count):
        at = code.element("float", places[0], (code.add(first, number), 2 * source.step))
        both = [code.load("float", SIDE, code.element("float", at, (step, source.step))) for step in (0, 1)]
        columns[number] = joined(code, source.form, SIDE, both)
    for row, packed in enumerate(turned(code, "i32", SIDE, columns, SIDE)):
        code.store("i32", SIDE, packed, code.element("i32", places[1], (row, SIDE), (first, rows)))
