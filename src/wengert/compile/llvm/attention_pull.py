"""Kernels of the gradient of attention: scores are computed again from queries and keys, a block at a time.

With P the exponentials of the scores less the logarithm of their sum, and Y the cotangent of the result, the slopes of
the scores are P (Y V' - delta), where delta is a number for each query. The gradients by queries, keys and values are
products of slopes with keys and with queries, and of P with Y (T. Dao et al., "FlashAttention", 2022, algorithm 4).

A unit of work is a block of keys, which meets all queries. Where there are heads enough, one is a whole head, and what
comes to the queries is summed as well; else a second kernel does that for blocks of queries, and computes P again.
"""

from __future__ import annotations

from ..kernels import Kernel
from .attention import Form, Generator, rows_of
from .attention_shape import BLOCK, Attention
from .convolution_code import Index, PlaneCode
from .machine import Machine
from .products_packing import MARGIN
from .vectors import SYMBOL, vector

OUT_BAR, LOGARITHM, DELTA, QUERY, KEY, VALUE = range(6)
"""Operands of the kernels; the mask if there is one, and the result follow."""


def pull_kernel(shape: Attention, machine: Machine) -> Kernel:
    """Return the kernel of the gradient by queries, keys and values of every head, with a row of features for each."""
    return _OfKeys(shape, machine, whole=True).kernel_of_heads()


def pull_keys_kernel(shape: Attention, machine: Machine) -> Kernel:
    """Return the kernel of the gradient by keys and values alone."""
    return _OfKeys(shape, machine, whole=False).kernel_of_blocks()


def pull_queries_kernel(shape: Attention, machine: Machine) -> Kernel:
    """Return the kernel of the gradient by queries alone."""
    return _OfQueries(shape, machine).kernel_of_blocks()


class _Pull(Generator):
    """What both have in common: blocks of scores, of their products, and what they are turned into."""

    def result_of(self, code: PlaneCode, head: str) -> str:
        """Return the address of a head's results."""
        shape = self.shape
        return code.at(code.operand(self.result), (head, (shape.queries + 2 * shape.keys) * shape.features))

    def places(self, code: PlaneCode) -> tuple[str, str, str, str]:
        """Return the addresses of two packed blocks, of scores and of their products in scratch."""
        shape, margin = self.shape, MARGIN // self.shape.dtype.itemsize
        packed = code.at("%scratch", (margin, 1))
        other = code.at(packed, (shape.features * BLOCK + margin, 1))
        scores = code.at(other, (shape.features * BLOCK + margin, 1))
        return packed, other, scores, code.at(scores, (BLOCK, BLOCK))

    @property
    def scratch(self) -> int:
        """Elements of scratch memory."""
        return 2 * BLOCK * (self.shape.features + BLOCK) + 3 * MARGIN // self.shape.dtype.itemsize

    def met(
        self,
        code: PlaneCode,
        sources: list[str],
        places: tuple[str, str, str, str],
        operands: tuple[int, int],
        first: Index,
        rows: Index,
    ) -> list[str]:
        """Write the products of rows of two inputs with the packed blocks: scores, and what cotangents and values make.

        Returns where these rows are.
        """
        found = [code.at(sources[operand], (first, self.row(operand))) for operand in operands]
        for operand, left, right, target in zip(operands, found, places[:2], places[2:]):
            form = Form(self.row(operand), 1, BLOCK, BLOCK, BLOCK)
            self.multiply(code, form, left, right, target, rows, self.shape.features, 0)
        return found

    def slopes(
        self, code: PlaneCode, scores: str, known: tuple[str, str], rows: Index, off: Index, mask: str, last: str
    ) -> None:
        """Write the call of the function that turns scores and products into exponentials and slopes."""
        given = f"ptr {scores}, ptr {known[0]}, ptr {known[1]}, i64 {rows}, i64 {off}, ptr {mask}, i64 {last}"
        code.write(f"call void {SYMBOL}.slopes({given})")

    def add_slopes(self, *, along_keys: bool) -> None:
        """Write that function: of blocks whose vectors lie along keys, or along queries.

        What masks is how far keys may be behind queries; logarithms and deltas lie along queries.
        """
        code = self.code()
        products = code.at("%scores", (BLOCK, BLOCK))
        for group in self.groups:
            places = self.counted(code, group)
            known = [] if along_keys else [self.vectors(code, f"%{name}", group) for name in ("logarithm", "delta")]
            with code.loop(0, "%rows") as row:
                line, other = code.at("%scores", (row, BLOCK)), code.at(products, (row, BLOCK))
                if along_keys:
                    numbers = [code.number_at(code.at(f"%{name}", (row, 1))) for name in ("logarithm", "delta")]
                    known = [[code.splat(number, code.kind, code.lanes)] * len(group) for number in numbers]
                bound = self._number(code, code.add(row, "%off") if along_keys else code.value(f"sub i64 {row}, %off"))
                seen, given = self.vectors(code, line, group), self.vectors(code, other, group)
                seen = self.masked(code, seen, row, group, along_keys=along_keys)
                for n, place, score, product, logarithm, delta in zip(group, places, seen, given, *known):
                    weight = self.function(code, "exp", code.value(f"fsub {code.of} {score}, {logarithm}"))
                    if self.shape.is_causal:
                        relation = "sle" if along_keys else "sge"
                        allowed = code.value(f"icmp {relation} {vector('i32', code.lanes)} {place}, {bound}")
                        chosen = f"{code.of} {weight}, {code.of} zeroinitializer"
                        weight = code.value(f"select {vector('i1', code.lanes)} {allowed}, {chosen}")
                    slope = code.value(f"fsub {code.of} {product}, {delta}")
                    slope = code.value(f"fmul {code.of} {weight}, {slope}")
                    code.store(code.kind, code.lanes, weight, code.at(line, (n, code.lanes)))
                    code.store(code.kind, code.lanes, slope, code.at(other, (n, code.lanes)))
        head = f"private void {SYMBOL}.slopes(ptr %scores, ptr %logarithm, ptr %delta, i64 %rows, i64 %off, "
        head += "ptr %mask, i64 %last)"
        self.parts.add(f"{head} noinline nounwind", code)

    def _number(self, code: PlaneCode, index: Index) -> str:
        return code.splat(code.value(f"trunc i64 {index} to i32"), "i32", code.lanes)

    def off(self, code: PlaneCode, queries: Index, keys: Index) -> Index:
        """Return how far behind a query a key may be in two blocks, of which none is before the other's."""
        return code.select(code.compare(queries, "eq", keys), "i64", 0, BLOCK) if self.shape.is_causal else BLOCK


class _OfKeys(_Pull):
    """Writes kernels whose units have keys. Blocks of scores have a row for each query, vectors of keys in it."""

    def __init__(self, shape: Attention, machine: Machine, *, whole: bool) -> None:
        super().__init__(shape, machine)
        self.whole = whole

    def kernel_of_heads(self) -> Kernel:
        """Return the kernel whose units are heads."""
        code, shape = self.code(), self.shape
        self.add_slopes(along_keys=True)
        with self.units(code, 1) as (head, _):
            with code.loop(0, shape.key_blocks) as block:
                self._unit(code, head, block)
        return self.kernel("attend_pull", code, shape.heads, self.scratch, 5, self._moved(5))

    def kernel_of_blocks(self) -> Kernel:
        """Return the kernel whose units are blocks of keys."""
        code, shape = self.code(), self.shape
        self.add_slopes(along_keys=True)
        with self.units(code, shape.key_blocks) as (head, block):
            self._unit(code, head, block)
        return self.kernel("attend_pull_keys", code, shape.heads * shape.key_blocks, self.scratch, 4, self._moved(4))

    def _moved(self, arrays: int) -> int:
        return self.shape.heads * (self.shape.queries + self.shape.keys) * self.shape.features * arrays // 2

    def _unit(self, code: PlaneCode, head: str, block: str) -> None:
        shape = self.shape
        sources = [self.head(code, head, n) for n in range(self.inputs)]
        places = self.places(code)
        first = code.multiply(block, BLOCK)
        count = rows_of(code, first, shape.keys)
        self.pack_rows(code, sources[KEY], self.row(KEY), shape.keys, places[0], first)
        self.pack_rows(code, sources[VALUE], self.row(VALUE), shape.keys, places[1], first)
        keys = block, first, count
        begin: Index = block if shape.is_causal else 0
        if not shape.is_causal or shape.key_blocks <= shape.query_blocks:
            with code.loop(begin, shape.query_blocks) as number:
                self._block(code, sources, places, head, keys, number, begin)
            return
        seen = code.compare(begin, "slt", shape.query_blocks)
        with code.when(seen), code.loop(begin, shape.query_blocks) as number:
            self._block(code, sources, places, head, keys, number, begin)
        with code.when(code.value(f"xor i1 {seen}, true")), code.loop(0, count) as row:
            for start in (shape.queries, shape.queries + shape.keys):
                line = code.at(
                    self.result_of(code, head), (start, shape.features), (first, shape.features), (row, shape.features)
                )
                code.fill(line, shape.features)

    def _block(
        self,
        code: PlaneCode,
        sources: list[str],
        places: tuple[str, str, str, str],
        head: str,
        keys: tuple[str, Index, Index],
        number: str,
        begin: Index,
    ) -> None:
        """Write what a block of queries brings to a block of keys."""
        shape, width = self.shape, self.shape.features
        scores, products = places[2:]
        block, first_key, count = keys
        first = code.multiply(number, BLOCK)
        rows = rows_of(code, first, shape.queries)
        queries, bars = self.met(code, sources, places, (QUERY, OUT_BAR), first, rows)
        known = code.at(sources[LOGARITHM], (first, 1)), code.at(sources[DELTA], (first, 1))
        mask = self.mask_at(code, self.mask_of(code, head), first, first_key)
        last = code.value(f"sub i64 {shape.keys - 1}, {first_key}")
        self.slopes(code, scores, known, rows, self.off(code, number, block), mask, last)
        out = self.result_of(code, head)
        more = code.value(f"sub i64 {number}, {begin}")
        of_keys = code.at(out, (shape.queries, width), (first_key, width))
        of_values = code.at(of_keys, (shape.keys, width))
        form = Form(1, BLOCK, self.row(OUT_BAR), width, width)
        self.multiply(code, form, scores, bars, of_values, count, rows, more)
        form = Form(1, BLOCK, self.row(QUERY), width, width)
        self.multiply(code, form, products, queries, of_keys, count, rows, more)
        if self.whole:
            form = Form(BLOCK, 1, self.row(KEY), width, width)
            keys_there = code.at(sources[KEY], (first_key, self.row(KEY)))
            target = code.at(out, (first, width))
            self.multiply(code, form, products, keys_there, target, rows, count, block)


class _OfQueries(_Pull):
    """Writes the kernel whose units have queries. Blocks of scores have a row for each key."""

    def kernel_of_blocks(self) -> Kernel:
        """Return the kernel."""
        code, shape = self.code(), self.shape
        self.add_slopes(along_keys=False)
        margin = MARGIN // shape.dtype.itemsize
        with self.units(code, shape.query_blocks) as (head, block):
            sources = [self.head(code, head, n) for n in range(self.inputs)]
            places = self.places(code)
            known = [code.at(places[3], (BLOCK, BLOCK)), code.at(places[3], (BLOCK + 1, BLOCK))]
            turned = code.at(places[3], (BLOCK + 2, BLOCK), (2 * margin, 1))
            first = code.multiply(block, BLOCK)
            count = rows_of(code, first, shape.queries)
            self.pack_rows(code, sources[QUERY], self.row(QUERY), shape.queries, places[0], first)
            self.pack_rows(code, sources[OUT_BAR], self.row(OUT_BAR), shape.queries, places[1], first)
            for place, operand in zip(known, (LOGARITHM, DELTA)):
                self._copy(code, code.at(sources[operand], (first, 1)), place, count)
            last: Index = shape.key_blocks
            if shape.is_causal:
                last = code.least(code.add(block, 1), last)
            with code.loop(0, last) as number:
                self._block(code, sources, places, (known[0], known[1], turned), head, (block, first, count), number)
        moved = shape.heads * (3 * shape.queries + 2 * shape.keys) * shape.features
        units = shape.heads * shape.query_blocks
        scratch = self.scratch + 2 * BLOCK + margin + self.turns * (BLOCK * BLOCK + 3 * margin)
        return self.kernel("attend_pull_queries", code, units, scratch, 3, moved)

    def _copy(self, code: PlaneCode, source: str, target: str, count: Index) -> None:
        """Write the copy of numbers of a block's queries to scratch, where whole vectors can be read."""
        for start in range(0, BLOCK, code.lanes):
            mask = None if isinstance(count, int) else code.lane_mask(code.lanes, code.add(count, -start))
            there = code.load(code.kind, code.lanes, code.at(source, (start, 1)), mask)
            code.store(code.kind, code.lanes, there, code.at(target, (start, 1)))

    def _block(
        self,
        code: PlaneCode,
        sources: list[str],
        places: tuple[str, str, str, str],
        known: tuple[str, str, str],
        head: str,
        queries: tuple[str, Index, Index],
        number: str,
    ) -> None:
        """Write what a block of keys brings to a block of queries."""
        shape, width = self.shape, self.shape.features
        scores, products = places[2:]
        block, first_query, count = queries
        first = code.multiply(number, BLOCK)
        rows = rows_of(code, first, shape.keys)
        keys, _ = self.met(code, sources, places, (KEY, VALUE), first, rows)
        mask = self.turned_mask(code, self.mask_of(code, head), first_query, first, known[2])
        last = code.value(f"sub i64 {shape.queries - 1}, {first_query}")
        self.slopes(code, scores, known[:2], rows, self.off(code, block, number), mask, last)
        form = Form(1, BLOCK, self.row(KEY), width, width)
        target = code.at(self.result_of(code, head), (first_query, width))
        self.multiply(code, form, products, keys, target, count, rows, number)
