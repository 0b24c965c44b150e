"""Kernels of attention: scores are computed a block at a time, and never stand in memory as a whole.

The method is that of T. Dao et al., "FlashAttention", 2022: softmax is brought up to date with every block of keys, and
on the way back scores are computed again. A unit of work is a block of queries or of keys of one head. Of a block of
scores, vectors lie along what the unit has: the left factor of each product is then read where it is, number by number,
and its right factor in rows, so that only the unit's own rows are packed, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from ...typing import Shape
from ..kernels import Kernel
from ..scalar_ir import DType, ScalarFunction, apply, input_scalar, topological
from ..scalar_math import lower
from .attention_shape import BLOCK, Attention
from .convolution_code import Index, Parts, PlaneCode, Work, grain_for
from .machine import Machine
from .products_packing import MARGIN, Packed, Source, pack_function
from .products_tiles import Tile, tile_function
from .vectors import SYMBOL, spelled, vector, write

HEIGHT = 4
"""Rows of a register tile. It divides blocks; of four vectors' width, it measured as fast as any."""
LEAST = "0xFFF0000000000000"
"""Minus infinity."""


class Form(NamedTuple):
    """How the factors of a product lie in memory.

    Attributes:
        row_stride, left_step: of the left factor, along rows and along the sum.
        right_step: of the right factor, along the sum.
        target: row stride of the result.
        columns: of the result.
    """

    row_stride: int
    left_step: int
    right_step: int
    target: int
    columns: int


class Generator:
    """What the kernels have in common: products of blocks, packing, and the functions of softmax."""

    def __init__(self, shape: Attention, machine: Machine) -> None:
        self.shape, self.machine = shape, machine
        self.parts = Parts()
        self.lanes = machine.lanes(shape.dtype)
        self.groups = [range(i, min(i + 4, BLOCK // self.lanes)) for i in range(0, BLOCK // self.lanes, 4)]
        self.kind = self.code().kind
        self.products: dict[Form, str] = {}
        self.tiles: dict[tuple[Form, int, int], str] = {}
        self.packs: dict[Source, str] = {}
        self.inputs = len(shape.strides)
        self.result = self.inputs + (shape.mask is not None)
        self.mask_kind = self.kind if shape.is_added else "i8"
        # Numbers for pairs are turned over a block at a time where vectors lie along queries.
        self.turns = shape.is_added and shape.mask is not None and shape.mask[-1] == 1 and shape.mask[-2] > 1
        self.turns = self.turns and shape.keys % BLOCK == 0

    def code(self) -> PlaneCode:
        """Return the code of a function in the making."""
        return PlaneCode(self.shape.dtype, self.machine)

    def head(self, code: PlaneCode, head: str, operand: int) -> str:
        """Return the address of what a head has of an input."""
        return code.at(code.operand(operand), *self._terms(code, head, self.shape.strides[operand]))

    def _terms(self, code: PlaneCode, head: str, strides: Shape) -> list[tuple[Index, int]]:
        terms: list[tuple[Index, int]] = []
        rest: Index = head
        for extent, stride in reversed(list(zip(self.shape.batch, strides))):
            if isinstance(rest, str):
                rest, place = code.divide(rest, extent)
                terms.append((place, stride))
        return terms

    def mask_of(self, code: PlaneCode, head: str) -> str:
        """Return the address of what a head has of the mask, or null."""
        mask = self.shape.mask
        if mask is None:
            return "null"
        return code.element(self.mask_kind, code.operand(self.inputs), *self._terms(code, head, mask))

    def mask_at(self, code: PlaneCode, mask: str, query: Index, key: Index) -> str:
        """Return the address of a part of a head's mask."""
        strides = self.shape.mask
        return mask if strides is None else code.element(self.mask_kind, mask, (query, strides[-2]), (key, strides[-1]))

    def turned_mask(self, code: PlaneCode, mask: str, query: Index, key: Index, target: str) -> str:
        """Return the address of a part of a head's mask as functions whose vectors lie along queries read it."""
        if not self.turns or self.shape.mask is None:
            return self.mask_at(code, mask, query, key)
        form = Source(self.kind, BLOCK, self.shape.queries, 1, self.shape.mask[-2])
        self._pack(code, form, code.at(mask, (key, 1)), target, query)
        return target

    def masked(self, code: PlaneCode, scores: list[str], row: str, group: range, *, along_keys: bool) -> list[str]:
        """Return a group's vectors of scores with the mask, whose block begins at `%mask`: minus infinity for a no.

        As many lanes as `%last` says, and one more, are within the mask.
        """
        if self.shape.mask is None:
            return scores
        read = self._read_mask(code, row, group, self.shape.mask, along_keys=along_keys)
        if self.shape.is_added:
            return [code.value(f"fadd {code.of} {score}, {more}") for score, more in zip(scores, read)]
        least = code.splat(LEAST, code.kind, code.lanes)
        bytes_, flags = vector("i8", code.lanes), vector("i1", code.lanes)
        allowed = [code.value(f"icmp ne {bytes_} {each}, zeroinitializer") for each in read]
        return [
            code.value(f"select {flags} {flag}, {code.of} {score}, {code.of} {least}")
            for score, flag in zip(scores, allowed)
        ]

    def _read_mask(self, code: PlaneCode, row: str, group: range, strides: Shape, *, along_keys: bool) -> list[str]:
        kind, lanes = self.mask_kind, code.lanes
        across, down = (strides[-1], strides[-2]) if along_keys else (strides[-2], strides[-1])
        if self.turns and not along_keys:
            across, down = 1, BLOCK
        line = code.element(kind, "%mask", (row, down))
        if across == 0:
            return [code.splat(code.load(kind, 1, line), kind, lanes)] * len(group)
        extent = self.shape.keys if along_keys else self.shape.queries
        found: list[str] = []
        for n in group:
            begin = code.element(kind, line, (n, lanes))
            if across == 1 and (extent % BLOCK == 0 or (self.turns and not along_keys)):
                found.append(code.load(kind, lanes, begin))
            elif across == 1 and self.shape.is_added:
                found.append(code.load(kind, lanes, begin, code.lane_mask(lanes, code.add("%last", 1 - n * lanes))))
            else:
                found.append(self._picked(code, line, n, across))
        return found

    def _picked(self, code: PlaneCode, line: str, number: int, stride: int) -> str:
        """Return a vector of a mask's elements that lie apart; beyond the last one, that again."""
        found, each = "poison", self.mask_kind
        kind = vector(each, code.lanes)
        for lane in range(code.lanes):
            place = code.least("%last", number * code.lanes + lane)
            one = code.load(each, 1, code.element(each, line, (place, stride)))
            found = one if code.lanes == 1 else code.value(f"insertelement {kind} {found}, {each} {one}, i64 {lane}")
        return found

    def row(self, operand: int) -> int:
        """Return the distance of an input's rows."""
        return self.shape.strides[operand][-2]

    def pack_rows(self, code: PlaneCode, source: str, stride: int, extent: int, target: str, first: Index) -> None:
        """Write the packing of a block of rows."""
        self._pack(code, Source(self.kind, self.shape.features, extent, 1, stride), source, target, first)

    def _pack(self, code: PlaneCode, form: Source, source: str, target: str, first: Index) -> None:
        if form not in self.packs:
            name = self.packs[form] = f"{SYMBOL}.pack{len(self.packs)}"
            lines, helper = pack_function(name, form, Packed(self.lanes, BLOCK // self.lanes, BLOCK))
            self.parts.lines += lines
            self.parts.declarations.update(helper.text.declarations)
        given = f"ptr {source}, ptr {target}, i64 {first}, i64 {form.depth}"
        code.write(f"call void {self.packs[form]}({given})")

    def multiply(
        self, code: PlaneCode, form: Form, a: str, b: str, c: str, rows: Index, depth: Index, more: Index
    ) -> None:
        """Write a product of blocks; what is in its place is added to if `more` is not zero."""
        if form not in self.products:
            name = self.products[form] = f"{SYMBOL}.product{len(self.products)}"
            self._product(name, form)
        given = f"ptr {a}, ptr {b}, ptr {c}, i64 {rows}, i64 {depth}, i64 {more}"
        code.write(f"call void {self.products[form]}({given})")

    def _product(self, name: str, form: Form) -> None:
        code = self.code()
        vectors = form.columns // self.lanes
        width = min(vectors, 4 if self.machine.vector_registers >= 32 else 2)
        for first in range(0, vectors, width):
            few = min(width, vectors - first)
            b, c = code.at("%b", (first, self.lanes)), code.at("%c", (first, self.lanes))
            whole = code.multiply(code.divide("%rows", HEIGHT)[0], HEIGHT)
            for size, begin, end in ((HEIGHT, 0, whole), (1, whole, "%rows")):
                with code.when(code.compare(begin, "slt", end)), code.loop(begin, end, size) as row:
                    left = code.at("%a", (row, form.row_stride))
                    target = code.at(c, (row, form.target))
                    given = f"ptr {left}, ptr {b}, ptr {target}, i64 {form.target}, i64 %depth, i64 %more"
                    code.write(f"call void {self._tile(form, size, few)}({given})")
        head = f"private void {name}(ptr %a, ptr %b, ptr %c, i64 %rows, i64 %depth, i64 %more)"
        self.parts.add(f"{head} noinline nounwind", code)

    def _tile(self, form: Form, rows: int, vectors: int) -> str:
        key = (form, rows, vectors)
        if key not in self.tiles:
            name = self.tiles[key] = f"{SYMBOL}.tile{len(self.tiles)}"
            size, fma = self.shape.dtype.itemsize, self.machine.fma
            steps = form.row_stride, form.left_step, form.right_step
            tile = Tile(self.kind, self.lanes, rows, vectors, *steps, 1, size, True, fma)
            lines, helper = tile_function(name, tile, False)
            self.parts.lines += lines
            self.parts.declarations.update(helper.text.declarations)
        return self.tiles[key]

    def function(self, code: PlaneCode, name: str, operand: str) -> str:
        """Return a function of mathematics of a vector."""
        return _written(code, _machine_form(name, self.shape.dtype), operand)

    def vectors(self, code: PlaneCode, address: str, group: range) -> list[str]:
        """Return a group's vectors of a row of a block."""
        return [code.vector_at(code.at(address, (n, self.lanes))) for n in group]

    def counted(self, code: PlaneCode, group: range) -> list[str]:
        """Return the vectors of the places that a group's lanes have in a block."""
        kind = vector("i32", self.lanes)
        return [code.text.constant(kind, spelled("i32", range(n * self.lanes, (n + 1) * self.lanes))) for n in group]

    @contextmanager
    def units(self, code: PlaneCode, blocks: int) -> Iterator[tuple[str, str]]:
        """Write the loop over units of work: heads, and their blocks.

        Causal blocks differ in what they take: a long one follows a short one, so that equal shares are equal work.
        """
        with code.when(code.compare("%begin", "slt", "%end")), code.loop("%begin", "%end") as unit:
            head, place = code.divide(unit, blocks)
            if not isinstance(place, int) and self.shape.is_causal:
                half, odd = code.divide(place, 2)
                last = code.value(f"sub i64 {blocks - 1}, {half}")
                place = code.select(code.compare(odd, "eq", 1), "i64", last, half)
            yield str(head), str(place)

    def kernel(self, name: str, code: PlaneCode, units: int, scratch: int, products: int, moved: int) -> Kernel:
        """Return the kernel; sizes in elements."""
        size = self.shape.dtype.itemsize
        self.parts.add(f"void {SYMBOL}(ptr %operands, i64 %begin, i64 %end, ptr %scratch)", code)
        work = Work(self.shape.flops(products), moved * size)
        return self.parts.kernel(name, units, grain_for(units, work), scratch * size + 2 * MARGIN, work)


@cache
def _machine_form(name: str, dtype: DType) -> ScalarFunction:
    x = input_scalar("x", dtype)
    return lower(ScalarFunction(name, (x,), (apply(name, x),)), anywhere=True)[0]


def _written(code: PlaneCode, function: ScalarFunction, operand: str) -> str:
    values: dict[object, str] = {}
    for scalar in topological(function.outputs):
        if scalar.op == "input":
            values[scalar] = operand
        elif scalar.op == "constant":
            values[scalar] = code.text.number(scalar.payload, scalar.dtype, code.lanes)
        else:
            values[scalar] = write(code, scalar, [values[x] for x in scalar.operands], code.lanes)
    return values[function.outputs[0]]


def attention_kernel(shape: Attention, machine: Machine) -> Kernel:
    """Return the kernel of attention. Operands: queries, keys, values, the mask if there is one, result.

    The result has, for each head, a row of features for each query, and in `extra` more rows the logarithms of what the
    exponentials of each query's scores add up to, then zeros.
    """
    return _Forward(shape, machine).forward()


class _Forward(Generator):
    """Writes the kernel of attention. Blocks of scores have a row for each key, vectors of queries in it."""

    def forward(self) -> Kernel:
        """Return the kernel."""
        shape, code = self.shape, self.code()
        packed = code.at("%scratch", (MARGIN // shape.dtype.itemsize, 1))
        scores = code.at(packed, (shape.features, BLOCK))
        sums = code.at(scores, (BLOCK, BLOCK))
        state = code.at(sums, (BLOCK, shape.features))
        turned = code.at(state, (3, BLOCK), (MARGIN // shape.dtype.itemsize, 1))
        self._soften()
        if shape.mask is not None:
            self._forbid()
        with self.units(code, shape.query_blocks) as (head, block):
            first = code.multiply(block, BLOCK)
            sources = [*[self.head(code, head, n) for n in range(3)], self.mask_of(code, head)]
            self.pack_rows(code, sources[0], self.row(0), shape.queries, packed, first)
            code.fill(sums, BLOCK * shape.features)
            code.fill(state, BLOCK, LEAST)
            code.fill(code.at(state, (1, BLOCK)), BLOCK)
            last: Index = shape.key_blocks
            if shape.is_causal:
                last = code.least(code.add(block, 1), last)
            with code.loop(0, last) as number:
                self._block(code, (packed, scores, sums, state, turned), sources, number, block)
            self._finish(code, (sums, state), head, block)
        scratch = (shape.features + BLOCK) * BLOCK + BLOCK * shape.features + 3 * BLOCK
        scratch += self.turns * (BLOCK * BLOCK + 2 * MARGIN // shape.dtype.itemsize)
        moved = shape.heads * (2 * shape.queries + 2 * shape.keys) * shape.features
        return self.kernel("attend", code, shape.heads * shape.query_blocks, scratch, 2, moved)

    def _block(self, code: PlaneCode, places: Sequence[str], sources: list[str], number: str, block: str) -> None:
        """Write what a block of keys brings."""
        shape = self.shape
        packed, scores, sums, state, turned = places
        first = code.multiply(number, BLOCK)
        rows = rows_of(code, first, shape.keys)
        keys = code.at(sources[1], (first, self.row(1)))
        self.multiply(code, Form(self.row(1), 1, BLOCK, BLOCK, BLOCK), keys, packed, scores, rows, shape.features, 0)
        if shape.is_causal:
            with code.when(code.compare(number, "eq", block)):
                self._mask(code, scores, rows)
        if shape.mask is not None:
            place = self.turned_mask(code, sources[3], code.multiply(block, BLOCK), first, turned)
            last = code.value(f"sub i64 {shape.queries - 1}, {code.multiply(block, BLOCK)}")
            code.write(f"call void {SYMBOL}.forbid(ptr {scores}, ptr {place}, i64 {rows}, i64 {last})")
        code.write(f"call void {SYMBOL}.soften(ptr {scores}, ptr {state}, ptr {sums}, i64 {rows})")
        values = code.at(sources[2], (first, self.row(2)))
        form = Form(1, BLOCK, self.row(2), shape.features, shape.features)
        self.multiply(code, form, scores, values, sums, BLOCK, rows, 1)

    def _mask(self, code: PlaneCode, scores: str, rows: Index) -> None:
        """Write minus infinity where a key comes after a query."""
        least = code.splat(LEAST, code.kind, code.lanes)
        for group in self.groups:
            places = self.counted(code, group)
            with code.loop(0, rows) as row:
                key = code.splat(code.value(f"trunc i64 {row} to i32"), "i32", code.lanes)
                line = code.at(scores, (row, BLOCK))
                for n, place, seen in zip(group, places, self.vectors(code, line, group)):
                    allowed = code.value(f"icmp sge {vector('i32', code.lanes)} {place}, {key}")
                    kept = code.value(
                        f"select {vector('i1', code.lanes)} {allowed}, {code.of} {seen}, {code.of} {least}"
                    )
                    code.store(code.kind, code.lanes, kept, code.at(line, (n, code.lanes)))

    def _forbid(self) -> None:
        """Write the function that puts the mask upon scores."""
        code = self.code()
        for group in self.groups:
            with code.loop(0, "%rows") as row:
                line = code.at("%scores", (row, BLOCK))
                kept = self.masked(code, self.vectors(code, line, group), row, group, along_keys=False)
                for n, score in zip(group, kept):
                    code.store(code.kind, code.lanes, score, code.at(line, (n, code.lanes)))
        head = f"private void {SYMBOL}.forbid(ptr %scores, ptr %mask, i64 %rows, i64 %last)"
        self.parts.add(f"{head} noinline nounwind", code)

    def _soften(self) -> None:
        """Write the function that turns a block of scores into exponentials, and brings up to date what is known.

        That are the largest score so far, the sum of exponentials less it, and the sums of values.
        """
        code = self.code()
        kept = code.at("%state", (2, BLOCK))
        changed: list[str] = []
        one = code.splat("1.0", code.kind, code.lanes)
        for group in self.groups:
            before = self.vectors(code, "%state", group)
            with code.sums(0, "%rows", before) as (row, largest):
                seen = self.vectors(code, code.at("%scores", (row, BLOCK)), group)
                largest.results = [larger(code, new, old) for new, old in zip(seen, largest.names)]
            shifts = [self._shift(code, most) for most in largest.results]
            with code.sums(0, "%rows", ["zeroinitializer"] * len(group)) as (row, totals):
                line = code.at("%scores", (row, BLOCK))
                for n, seen, shift, total in zip(group, self.vectors(code, line, group), shifts, totals.names):
                    power = self.function(code, "exp", code.value(f"fsub {code.of} {seen}, {shift}"))
                    code.store(code.kind, code.lanes, power, code.at(line, (n, code.lanes)))
                    totals.results.append(code.value(f"fadd {code.of} {total}, {power}"))
            for place, n in enumerate(group):
                less = code.value(f"fsub {code.of} {before[place]}, {shifts[place]}")
                factor = self.function(code, "exp", less)
                total = code.at("%state", (1, BLOCK), (n, code.lanes))
                new = code.multiply_add(code.vector_at(total), factor, totals.results[place])
                code.store(code.kind, code.lanes, new, total)
                code.store(code.kind, code.lanes, largest.results[place], code.at("%state", (n, code.lanes)))
                code.store(code.kind, code.lanes, factor, code.at(kept, (n, code.lanes)))
                changed.append(code.value(f"fcmp une {code.of} {factor}, {one}"))
        flags = vector("i1", code.lanes)
        any_changed = changed[0]
        for more in changed[1:]:
            any_changed = code.value(f"or {flags} {any_changed}, {more}")
        if code.lanes > 1:
            any_changed = code.call(f"vector.reduce.or.v{code.lanes}i1", "i1", [(flags, any_changed)])
        with code.when(any_changed), code.loop(0, BLOCK) as query:
            self._scaled(
                code, code.at("%sums", (query, self.shape.features)), code.number_at(code.at(kept, (query, 1)))
            )
        head = f"private void {SYMBOL}.soften(ptr %scores, ptr %state, ptr %sums, i64 %rows)"
        self.parts.add(f"{head} noinline nounwind", code)

    def _shift(self, code: PlaneCode, largest: str) -> str:
        """Return what scores are lessened by: the largest one, or zero where all are minus infinity."""
        least = code.splat(LEAST, code.kind, code.lanes)
        nothing = code.value(f"fcmp oeq {code.of} {largest}, {least}")
        flags = vector("i1", code.lanes)
        return code.value(f"select {flags} {nothing}, {code.of} zeroinitializer, {code.of} {largest}")

    def _scaled(self, code: PlaneCode, source: str, factor: str, target: str | None = None) -> None:
        """Write the multiplication of a row of features by a number."""
        every = code.splat(factor, code.kind, code.lanes)
        for start in range(0, self.shape.features, code.lanes):
            product = code.value(f"fmul {code.of} {code.vector_at(code.at(source, (start, 1)))}, {every}")
            code.store(code.kind, code.lanes, product, code.at(target or source, (start, 1)))

    def _finish(self, code: PlaneCode, places: tuple[str, str], head: str, block: str) -> None:
        """Write the results of a block of queries."""
        shape, (sums, state) = self.shape, places
        first = code.multiply(block, BLOCK)
        rows = rows_of(code, first, shape.queries)
        out = code.at(code.operand(self.result), (head, (shape.queries + shape.extra) * shape.features))
        with code.loop(0, rows) as query:
            total = code.number_at(code.at(state, (1, BLOCK), (query, 1)))
            source = code.at(sums, (query, shape.features))
            target = code.at(out, (first, shape.features), (query, shape.features))
            factor = code.value(f"fdiv {code.kind} 1.0, {total}")
            if shape.mask is not None:  # who may attend to nothing gets zeros
                nothing = code.value(f"fcmp oeq {code.kind} {total}, 0.0")
                factor = code.select(nothing, code.kind, "0.0", factor)
            self._scaled(code, source, factor, target)
        for start in range(0, BLOCK, code.lanes):
            total = code.vector_at(code.at(state, (1, BLOCK), (start, 1)))
            largest = code.vector_at(code.at(state, (start, 1)))
            logarithm = code.value(f"fadd {code.of} {self.function(code, 'log', total)}, {largest}")
            if shape.mask is not None:
                nothing = code.value(f"fcmp oeq {code.of} {total}, zeroinitializer")
                kept = f"{code.of} zeroinitializer, {code.of} {logarithm}"
                logarithm = code.value(f"select {vector('i1', code.lanes)} {nothing}, {kept}")
            mask = None
            if shape.queries % BLOCK:
                mask = code.lane_mask(code.lanes, code.add(rows, -start))
            target = code.at(out, (shape.queries * shape.features, 1), (first, 1), (start, 1))
            code.store(code.kind, code.lanes, logarithm, target, mask)
        if rest := shape.extra * shape.features - shape.queries:
            with code.when(code.compare(block, "eq", shape.query_blocks - 1)), code.loop(0, rest) as place:
                behind = code.at(out, (shape.queries, shape.features + 1), (place, 1))
                code.store(code.kind, 1, "0.0", behind)


def rows_of(code: PlaneCode, first: Index, extent: int) -> Index:
    """Return how many rows of some a block has that begins with the given one."""
    if extent % BLOCK == 0:
        return BLOCK
    return code.least(code.value(f"sub i64 {extent}, {first}"), BLOCK)


def larger(code: PlaneCode, new: str, old: str) -> str:
    """Return the larger one of two vectors; the old one where the new one is NaN."""
    above = code.value(f"fcmp ogt {code.of} {new}, {old}")
    return code.value(f"select {vector('i1', code.lanes)} {above}, {code.of} {new}, {code.of} {old}")
