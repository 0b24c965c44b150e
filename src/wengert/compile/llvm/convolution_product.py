"""Convolution as a product of matrices whose right one is never made: its rows are runs within padded planes.

A unit of work is an image, a group and a band of rows. The image's channels are copied to scratch, padded and divided
into planes (`convolution_geometry`), such that grid points one after the other read elements one after the other, for
every tap. Grid points are counted with the few that lie between the rows, whose results nobody reads: so a vector of
them needs no regard for where rows end. A register tile of filters x vectors of grid points is summed over channels and
taps, in their order; results go to scratch, and from there, row by row, to where they belong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..kernels import Kernel
from .convolution_code import Code, Index, round_up
from .convolution_geometry import Pair, Planes, Tap, planes_for, write_copy, write_zeros
from .machine import Machine


class Correlation(NamedTuple):
    """Sums over channels and taps, for every filter and every point of a grid.

    Attributes:
        taps: what a grid point reads, with the place of each one's weight.
        batch, groups, depth, breadth: images, groups, and channels and filters of a group.
        source: extents of an input's plane.
        stride: of the grid in the source.
        grid: its extents.
        weights: elements from one group, filter, channel to the next in the weights.
        target: extents of an output's plane.
        first, step: where in that plane grid point (0, 0) belongs, and how far apart grid points are.
    """

    taps: tuple[Tap, ...]
    batch: int
    groups: int
    depth: int
    breadth: int
    source: Pair
    stride: Pair
    grid: Pair
    weights: tuple[int, int, int]
    target: Pair
    first: Pair
    step: Pair


class Extra(NamedTuple):
    """An operand of an epilogue: per filter, or of the output's own shape."""

    per_filter: bool


class Epilogue(NamedTuple):
    """What is done with each result before it is stored.

    Attributes:
        extras: operands beyond image and weights.
        write: given code, the name of a vector of results and those of the extras: writes the vector that is stored.
    """

    extras: tuple[Extra, ...]
    write: Callable[[Code, str, list[str]], str]


class _Plan(NamedTuple):
    """How a correlation is divided.

    Attributes:
        planes: what is copied for a band.
        bands: of the grid's rows.
        filters, vectors: the register tile.
        run: vectors of grid points in a band.
        length: elements from one filter's results to the next.
    """

    planes: Planes
    bands: int
    filters: int
    vectors: int
    run: int
    length: int

    def result_offset(self, lanes: int) -> int:
        """Return where in scratch the results begin: a vector read past the planes' end stays in front of it."""
        return round_up(self.planes.size + (self.vectors + 1) * lanes, 64)


def register_tile(rows: int, vectors: int, machine: Machine) -> tuple[int, int]:
    """Return the tile, of rows and vectors, in which a product of so many rows and vectors takes the least time.

    The model: two multiply-adds and two loads a cycle, of which a load across a cache line counts twice; a sum waits
    four cycles for its predecessor. Registers hold the sums, a row of vectors and one element.
    """
    best = (float("inf"), 0, 1, 1)
    for width in range(1, min(vectors, 8) + 1):
        for height in range(1, min(rows, 16) + 1):
            if width * height + width + 1 > machine.vector_registers:
                break
            time = 0.0
            for across, across_times in ((width, vectors // width), (vectors % width, 1)):
                for down, down_times in ((height, rows // height), (rows % height, 1)):
                    if across and down:
                        loads = down + across * (2 if machine.vector_bytes >= 64 else 1)
                        time += across_times * down_times * max(across * down / 2, loads / 2, 4)
            best = min(best, (time, -width * height, width, height))
    return best[3], best[2]


def _plan(part: Correlation, code: Code) -> _Plan:
    """Divide the grid into bands of rows whose planes fit into half of the second cache, and tile them."""
    rows, columns = part.grid
    bands = 1
    wanted = -(-8 // (part.batch * part.groups))  # few images: bands are all that threads can share
    while True:
        planes = planes_for(part.taps, part.depth, part.source, part.stride, -(-rows // bands), columns)
        run = -(-((planes.rows - 1) * planes.pitch + columns) // code.lanes)
        size = (planes.size + part.breadth * run * code.lanes) * code.dtype.itemsize
        if planes.rows <= 2 or (size <= code.machine.level2 // 2 and (bands >= wanted or planes.rows <= 8)):
            break
        bands = -(-rows // (planes.rows - 1))
    filters, vectors = register_tile(part.breadth, run, code.machine)
    return _Plan(planes, -(-rows // planes.rows), filters, vectors, run, run * code.lanes)


def _write_tile(code: Code, part: Correlation, plan: _Plan, name: str, filters: int, vectors: int) -> None:
    """Write the function that sums a register tile over channels and taps."""
    code.function(name, "ptr %weights, ptr %planes, ptr %results")
    consecutive = _weight_numbers(part) == list(range(part.depth * len(part.taps)))
    prefix = name[: name.rindex(".")]

    def body(index: str, sums: list[str]) -> list[str]:
        run = code.at("%planes", code.entry(f"@{prefix}.runs", index))
        weight = code.at("%weights", index if consecutive else code.entry(f"@{prefix}.weights", index))
        loaded = [code.load(code.at(run, place * code.lanes)) for place in range(vectors)]
        new = []
        for row in range(filters):
            factor = code.spread(code.load(code.at(weight, row * part.weights[1]), 1))
            new += [
                code.multiply_add(factor, vector, sums[row * vectors + place]) for place, vector in enumerate(loaded)
            ]
        return new

    carried = [(code.vector, "zeroinitializer")] * (filters * vectors)
    sums = code.loop(0, part.depth * len(part.taps), body, carried=carried) or ["zeroinitializer"] * len(carried)
    for row in range(filters):
        for place in range(vectors):
            target = code.at("%results", row * plan.length + place * code.lanes)
            code.store(sums[row * vectors + place], target)
    code.end()


def _weight_numbers(part: Correlation) -> list[int]:
    return [channel * part.weights[2] + tap.weight for channel in range(part.depth) for tap in part.taps]


def _write_tiles(
    code: Code, part: Correlation, plan: _Plan, name: str, weights: str, planes: str, results: str
) -> None:
    """Write the loops over register tiles: vectors outermost, so that what they read stays in the first cache."""

    def rows(place: Index, vectors: int) -> None:
        run = code.at(planes, code.times(place, code.lanes))
        target = code.at(results, code.times(place, code.lanes))

        def tile(row: Index, filters: int) -> None:
            weight = code.at(weights, code.times(row, part.weights[1]))
            result = code.at(target, code.times(row, plan.length))
            code.line(f"call void @{name}.tile{filters}x{vectors}(ptr {weight}, ptr {run}, ptr {result})")

        whole = part.breadth // plan.filters * plan.filters
        code.loop(0, whole, lambda row, _: tile(row, plan.filters), plan.filters)
        if whole < part.breadth:
            tile(whole, part.breadth - whole)

    whole = plan.run // plan.vectors * plan.vectors
    code.loop(0, whole, lambda place, _: rows(place, plan.vectors), plan.vectors)
    if whole < plan.run:
        rows(whole, plan.run - whole)


def _write_results(
    code: Code, part: Correlation, plan: _Plan, results: str, target: str, first_row: Index, row_count: Index,
    epilogue: Epilogue | None, extras: list[str],
) -> None:  # fmt: skip
    """Write the loops that take results from scratch, through the epilogue, to the output."""
    columns, pitch = part.grid[1], plan.planes.pitch
    size = part.target[0] * part.target[1]
    joined = part.step == (1, 1) and pitch == columns == part.target[1]

    def filter_rows(row: str, _: list[str]) -> None:
        base = code.at(results, code.times(row, plan.length))
        output = code.times(row, size)
        values = [
            code.spread(code.load(code.at(address, row), 1)) if extra.per_filter else code.at(address, output)
            for extra, address in zip(epilogue.extras if epilogue else (), extras)
        ]

        def line(down: Index, _: list[str]) -> None:
            place = code.add(code.times(code.add(first_row, down), part.step[0]), part.first[0])
            place = code.add(code.times(place, part.target[1]), part.first[1])
            source = code.at(base, code.times(down, pitch))
            count = code.times(row_count, columns) if joined else columns
            if part.step[1] != 1:
                _write_apart(code, source, code.at(target, code.add(output, place)), columns, part.step[1])
            else:
                _write_line(code, source, code.at(target, code.add(output, place)), count, epilogue, values, place)

        code.loop(0, 1 if joined else row_count, line)

    code.loop(0, part.breadth, filter_rows)


def _write_line(
    code: Code, source: str, target: str, count: Index, epilogue: Epilogue | None, values: list[str], place: Index
) -> None:
    """Write the loop over the vectors of a line of results."""

    def body(index: str, _: list[str]) -> None:
        mask = code.first_lanes(code.value(f"sub i64 {count}, {index}"))
        result = code.load(code.at(source, index))
        if epilogue:
            loaded = [
                value if extra.per_filter else code.masked_load(code.at(code.at(value, place), index), mask)
                for extra, value in zip(epilogue.extras, values)
            ]
            result = epilogue.write(code, result, loaded)
        code.masked_store(result, code.at(target, index), mask)

    code.loop(0, count, body, code.lanes)


def _write_apart(code: Code, source: str, target: str, count: int, step: int) -> None:
    """Write the loop over elements that don't lie next to each other in the output."""

    def body(index: str, _: list[str]) -> None:
        code.store(code.load(code.at(source, index), 1), code.at(target, code.times(index, step)), 1)

    code.loop(0, count, body)


def _write_part(code: Code, part: Correlation, plan: _Plan, name: str, epilogue: Epilogue | None) -> None:
    """Write the function of one correlation for one unit of work."""
    runs = [
        channel * plan.planes.channel_size + plan.planes.offset(tap)
        for channel in range(part.depth)
        for tap in part.taps
    ]
    if runs:
        code.table(f"{name}.runs", runs)
        if _weight_numbers(part) != list(range(len(runs))):
            code.table(f"{name}.weights", _weight_numbers(part))
    heights = {plan.filters, part.breadth % plan.filters} - {0}
    widths = {plan.vectors, plan.run % plan.vectors} - {0}
    for filters in sorted(heights):
        for vectors in sorted(widths):
            _write_tile(code, part, plan, f"{name}.tile{filters}x{vectors}", filters, vectors)
    code.function(name, "ptr %operands, i64 %image, i64 %group, i64 %band, ptr %scratch")
    image_group = code.add(code.times("%image", part.groups), "%group")
    source = code.at(code.operand(0), code.times(image_group, part.depth * part.source[0] * part.source[1]))
    weights = code.at(code.operand(1), code.times("%group", part.weights[0]))
    count = len(epilogue.extras) if epilogue else 0
    outputs = code.times(image_group, part.breadth * part.target[0] * part.target[1])
    target = code.at(code.operand(2 + count), outputs)
    extras = [
        code.at(code.operand(2 + place), code.times("%group", part.breadth) if extra.per_filter else outputs)
        for place, extra in enumerate(epilogue.extras if epilogue else ())
    ]
    results = code.at("%scratch", plan.result_offset(code.lanes))
    first_row = code.times("%band", plan.planes.rows) if plan.bands > 1 else 0
    row_count: Index = part.grid[0]
    if plan.bands > 1:
        row_count = code.smaller(plan.planes.rows, code.value(f"sub i64 {part.grid[0]}, {first_row}"))
    write_copy(code, plan.planes, source, "%scratch", first_row, plan.bands * plan.planes.rows - 1)
    _write_tiles(code, part, plan, name, weights, "%scratch", results)
    _write_results(code, part, plan, results, target, first_row, row_count, epilogue, extras)
    code.end()


def correlation_kernel(
    name: str, parts: tuple[Correlation, ...], code: Code, flops: int, epilogue: Epilogue | None = None
) -> Kernel:
    """Return the kernel that does correlations, which write to different places of one output, one after the other."""
    plans = [_plan(part, code) for part in parts]
    bands = max([plan.bands for plan in plans])
    for number, (part, plan) in enumerate(zip(parts, plans)):
        _write_part(code, part, plan, f"NAME.part{number}", epilogue)
    batch, groups = parts[0].batch, parts[0].groups
    code.function("NAME", "ptr %operands, i64 %begin, i64 %end, ptr %scratch", private=False)
    single = len(parts) == 1
    if single:
        write_zeros(code, "%scratch", plans[0].planes.size)

    def unit(index: str, _: list[str]) -> None:
        rest, band = code.split(index, bands)
        image, group = code.split(rest, groups)
        for number, plan in enumerate(plans):
            if not single:
                write_zeros(code, "%scratch", plan.planes.size)
            call = f"call void @NAME.part{number}(ptr %operands, i64 {image}, i64 {group}, i64 {band}, ptr %scratch)"
            if plan.bands < bands:
                within = code.value(f"icmp ult i64 {band}, {plan.bands}")
                code.when(within, lambda text=call: code.line(text))
            else:
                code.line(call)

    code.loop("%begin", "%end", unit)
    code.end()
    units = batch * groups * bands
    scratch = max([plan.result_offset(code.lanes) + part.breadth * plan.length for part, plan in zip(parts, plans)])
    size = code.dtype.itemsize
    moved = size * batch * groups * sum(
        [part.depth * part.source[0] * part.source[1] + part.breadth * part.grid[0] * part.grid[1] for part in parts]
    )  # fmt: skip
    grain = max(1, -(-units * 200_000 // max(flops, 1)))
    return code.kernel(name, units, min(grain, units), scratch * size + 64, flops, moved)
