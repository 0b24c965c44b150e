"""How a matrix product is divided: tiles that stay in registers, panels that are packed, units that threads share."""

from __future__ import annotations

from typing import NamedTuple

from .machine import Machine

CACHE_LINE = 64
"""Bytes that are fetched together."""
PACKED_LINES = 4
"""Most lines that follow each other of a left factor that is not contiguous along k, to be packed for one unit."""
FEW_UNITS = 8
"""Units that a product should have, where it is large enough: with fewer, threads would have unequal shares."""
TILE_OVERHEAD = 25
"""Cycles that a tile costs beyond its arithmetic and its stores."""
LONG_PART = 512
"""Largest part of k where sums are so long that panels are packed part by part."""
LONG_STACK = 32
"""Most tiles in a unit then."""
DOT_ROWS = 2
"""Rows of a tile of dot products."""
THIN = 16
"""Most rows for dot products: each few of them read all of the right factor again."""
DOT_OVERHEAD = 20
"""Cycles that the end of a vector of dot products costs."""
MATRIX_SIDE = 16
"""Rows and columns of a tile register of processors with AMX."""
MATRIX_OVERHEAD = 200
"""Cycles that a tile of 32 x 32 results costs beyond its arithmetic: an estimate."""
WORTHWHILE = 6000
"""Cycles of work that are worth another thread's while."""


class Split(NamedTuple):
    """An extent cut into `count` parts: the first `longer` ones have `size` + 1 elements, the others `size`."""

    count: int
    size: int
    longer: int

    @property
    def largest(self) -> int:
        """Size of the first part."""
        return self.size + (self.longer > 0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes that occur, the larger one first."""
        both = (self.size + 1, self.size)
        return both if 0 < self.longer < self.count else (self.largest,)


def split(extent: int, most: int) -> Split:
    """Cut an extent into as few nearly equal parts of at most `most` as there can be."""
    count = max(1, -(-extent // most))
    return Split(count, extent // count, extent % count)


class Plan(NamedTuple):
    """How a product is computed.

    Attributes:
        lanes: elements of a vector, laid along columns.
        rows: of the result, cut into those of tiles.
        columns: of the result, in vectors, cut into those of panels.
        depth: k, cut into parts that are gone through one after another, for all panels of a group.
        pack_left, pack_right: whether factors are copied into scratch.
        dots: whether tiles are computed as dot products, with vectors along k.
        long: whether panels are packed part by part of k in each unit, since whole ones would fill the cache.
        group: panels that are packed together, and that one unit goes through.
        stack: tiles, one below another, that one unit goes through.
        form: what factors are packed as: "" for what they are, "rounded" to bfloat16 numbers, "pairs" of such, or pairs
            for "tiles" that a processor multiplies.
        cycles: what it costs, about.
    """

    lanes: int
    rows: Split
    columns: Split
    depth: Split
    pack_left: bool
    pack_right: bool
    dots: bool
    long: bool
    group: int
    stack: int
    form: str
    cycles: float

    @property
    def groups(self) -> int:
        """How many groups of panels there are."""
        return -(-self.columns.count // self.group)

    @property
    def parts(self) -> bool:
        """Whether tiles wait in memory while a unit goes through k part by part."""
        return self.long or self.depth.count > 1

    @property
    def stacks(self) -> int:
        """How many stacks of tiles there are."""
        return -(-self.rows.count // self.stack)


class Shape(NamedTuple):
    """Extents of a product, size of its elements, and strides of its factors in elements."""

    rows: int
    columns: int
    depth: int
    itemsize: int
    left_row: int
    left_step: int
    right_step: int
    right_column: int


def plan_product(shape: Shape, batches: int, machine: Machine, form: str = "") -> Plan:
    """Return how a product is best computed on a machine."""
    if form == "tiles":
        return _matrix_plan(shape, batches, machine)
    lanes = max(1, machine.vector_bytes // shape.itemsize)
    vectors = -(-shape.columns // lanes)
    steps = shape.depth // 2 if form == "pairs" else shape.depth
    cycles, rows, columns = _tiles(shape.rows, vectors, steps, machine)
    pack_left = bool(form) or (shape.left_step != 1 and columns.count > 1)
    pack_right = bool(form) or _worth_packing(shape, rows.count, columns, lanes, machine)
    packed = max(1, steps * columns.largest * lanes * shape.itemsize)
    stack = 1
    if pack_left and shape.left_row == 1 and rows.longer == 0 and rows.count % 2 == 0:
        stack = 2 if 2 * rows.size * shape.itemsize <= CACHE_LINE else 1
    # Each group packs the left factor again, line by line of cache if it is not contiguous along k.
    share = machine.level2 // 2 if shape.left_step == 1 else machine.level2
    group = min(columns.count, max(1, share // packed))
    while group > 1 and batches * rows.count // stack * -(-columns.count // group) < FEW_UNITS:
        group = -(-group // 2)
    group = split(columns.count, group).largest  # threads share units, which should be equal
    if pack_left and shape.left_row == 1:
        stack = _higher(stack, rows, batches * -(-columns.count // group), shape.itemsize)
    depth = split(steps, steps + 1)
    if pack_left:
        depth = split(steps, max(128, machine.level1 // 2 // (stack * rows.largest * shape.itemsize)))
    plan = Plan(lanes, rows, columns, depth, pack_left, pack_right, False, False, group, stack, form, cycles)
    if pack_right and packed > machine.level2 // 2:
        plan = _long(plan, shape, batches, machine)
    plan = plan._replace(cycles=batches * (cycles + _packing_cycles(shape, plan)))
    dots = None if form else _dot_plan(shape, batches, machine)
    return plan if dots is None or plan.cycles <= dots.cycles else dots


def _higher(stack: int, rows: Split, groups: int, itemsize: int) -> int:
    """Return how many tiles a unit has for which lines of the left factor are packed: many, leaving units to divide."""
    while (
        2 * stack * rows.largest * itemsize <= PACKED_LINES * CACHE_LINE
        and rows.count % (2 * stack) == 0
        and rows.count // (2 * stack) * groups >= FEW_UNITS
    ):
        stack *= 2
    return stack


def fits_matrix(shape: Shape) -> bool:
    """Return whether tiles of a processor with AMX suit a product of factors rounded to bfloat16."""
    is_large = shape.rows >= MATRIX_SIDE and shape.columns >= MATRIX_SIDE and shape.depth >= 2 * MATRIX_SIDE
    return is_large and shape.depth % 2 == 0 and 1 in (shape.left_row, shape.left_step)


def _matrix_plan(shape: Shape, batches: int, machine: Machine) -> Plan:
    """Return how a product is computed in the tile registers of a processor: 32 x 32 results at a time."""
    rows, columns = split(shape.rows, 2 * MATRIX_SIDE), split(-(-shape.columns // MATRIX_SIDE), 2)
    steps = -(-shape.depth // (2 * MATRIX_SIDE)) * MATRIX_SIDE
    packed = steps * columns.largest * MATRIX_SIDE * shape.itemsize
    group = min(columns.count, max(1, machine.level2 // 2 // packed))
    while group > 1 and batches * rows.count * -(-columns.count // group) < FEW_UNITS:
        group = -(-group // 2)
    cycles = rows.count * columns.count * (4 * steps + MATRIX_OVERHEAD)
    plan = Plan(
        MATRIX_SIDE, rows, columns, split(steps, steps), True, True, False, False, group, 1, "tiles", float(cycles)
    )
    return plan._replace(cycles=batches * (cycles + _packing_cycles(shape, plan)))


def _long(plan: Plan, shape: Shape, batches: int, machine: Machine) -> Plan:
    """Return a plan for long sums: units are so many tiles that packing a part of k for each of them is worth it."""
    share, width = machine.level2 // 4, plan.columns.largest * plan.lanes * shape.itemsize
    group = min(plan.columns.count, max(1, share // (LONG_PART * width)))
    stack = min(plan.rows.count, max(1, share // (group * width * plan.rows.largest)), LONG_STACK)
    while stack > 4 and batches * -(-plan.rows.count // stack) * -(-plan.columns.count // group) < FEW_UNITS:
        stack = -(-stack // 2)
    steps = plan.depth.count * plan.depth.size + plan.depth.longer
    most = min(LONG_PART, share // (stack * plan.rows.largest * shape.itemsize))
    return plan._replace(long=True, group=group, stack=stack, depth=split(steps, max(128, most)))


def _dot_plan(shape: Shape, batches: int, machine: Machine) -> Plan | None:
    """Return how a product is computed as dot products; None if that can't be."""
    lanes = max(1, machine.vector_bytes // shape.itemsize)
    if lanes == 1 or not shape.left_step == shape.right_step == 1 or shape.depth < lanes or shape.rows > THIN:
        return None
    rows, columns = split(shape.rows, DOT_ROWS), split(-(-shape.columns // lanes), 1)
    across = min(4, lanes)
    each = -(-shape.depth // lanes) * max(rows.largest * across / 2, (rows.largest + across) / 2, 4)
    each += rows.largest * DOT_OVERHEAD
    cycles = batches * rows.count * columns.count * (TILE_OVERHEAD + lanes // across * each)
    depth = split(shape.depth, shape.depth)
    return Plan(lanes, rows, columns, depth, False, False, True, False, 1, 1, "", cycles)


def _tiles(rows: int, vectors: int, depth: int, machine: Machine) -> tuple[float, Split, Split]:
    """Return the least cost of a product of tiles, and how rows and columns are then cut."""
    best: tuple[float, Split, Split] | None = None
    for width in range(1, min(vectors, 8) + 1):
        height = min((machine.vector_registers - 1 - width) // width, rows, 16)
        for most in range(max(1, -(-height // 2)), height + 1):
            down, across = split(rows, most), split(vectors, width)
            cycles = sum(
                number * other * tile_cycles(size, breadth, depth)
                for size, number in ((down.size + 1, down.longer), (down.size, down.count - down.longer))
                for breadth, other in ((across.size + 1, across.longer), (across.size, across.count - across.longer))
            )
            cycles *= 1 + 0.04 * len(down.sizes) * len(across.sizes)  # less code, where it costs next to nothing
            if best is None or cycles < best[0]:
                best = cycles, down, across
    assert best is not None
    return best


def tile_cycles(rows: int, vectors: int, depth: int) -> float:
    """Return about how many cycles a tile takes.

    In each there are two multiply-adds, or two loads; sums wait four cycles for each other; the right factor's vectors
    come from the second level of cache.
    """
    return depth * max(rows * vectors / 2, (rows + vectors) / 2, 4, 2 * vectors) + TILE_OVERHEAD + 1.5 * rows * vectors


def _worth_packing(shape: Shape, tiles: int, columns: Split, lanes: int, machine: Machine) -> bool:
    """Return whether the right factor is copied into panels, or read where it is."""
    if shape.right_column != 1 or shape.columns % lanes:
        return True
    if tiles <= 2 or (columns.count == 1 and shape.right_step == shape.columns):
        return False
    pitch = shape.right_step * shape.itemsize
    return pitch % 2048 == 0 or shape.depth * pitch > machine.level1 // 2


def _packing_cycles(shape: Shape, plan: Plan) -> float:
    """Return about how many cycles packing takes."""
    each = {True: 2 / plan.lanes, False: 0.3 if shape.right_step == 1 else 2.0}
    right = shape.depth * plan.columns.count * plan.columns.largest * plan.lanes * each[shape.right_column == 1]
    turned = 0.3 if shape.left_step == 1 else 2.0
    left = shape.depth * shape.rows * plan.groups * (0.2 if shape.left_row == 1 else turned)
    return right * plan.pack_right + left * plan.pack_left
