"""Loops, branches and addresses in LLVM IR: what the generators of matrix products write functions with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .vectors import Region, Text, spelled, suffix, vector

SIZES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8}


class Code(Region):
    """The code of one function in the making. Indices are names of i64 values, or numbers known now."""

    def __init__(self) -> None:
        super().__init__(Text(), "entry")

    def function(self, head: str) -> list[str]:
        """Return the finished function: `head` is what stands before its body."""
        return [f"{head} {{", "entry:", *self.text.constant_lines(), *self.lines, "  ret void", "}"]

    @contextmanager
    def loop(self, first: str | int, last: str | int, step: int = 1) -> Iterator[str]:
        """Write a loop that is run at least once, for an index from `first` up to, not including, `last`."""
        head, done = self.text.label(), self.text.label()
        index, source = self.text.name(), self.label
        self.write(f"br label %{head}")
        self.start(head)
        place = len(self.lines)
        yield index
        more = self.stepped(index, step)
        condition = self.value(f"icmp slt i64 {more}, {last}")
        self.lines.insert(place, f"  {index} = phi i64 [ {first}, %{source} ], [ {more}, %{self.label} ]")
        self.write(f"br i1 {condition}, label %{head}, label %{done}")
        self.start(done)

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Write what is done only where a condition holds."""
        then, done = self.text.label(), self.text.label()
        self.write(f"br i1 {condition}, label %{then}, label %{done}")
        self.start(then)
        yield
        self.write(f"br label %{done}")
        self.start(done)

    def compare(self, x: str | int, relation: str, y: str | int) -> str:
        """Return whether a relation (slt, sge, eq...) holds between indices."""
        return self.value(f"icmp {relation} i64 {x}, {y}")

    def select(self, condition: str, kind: str, x: str | int, y: str | int) -> str:
        """Return x where a condition holds, else y."""
        return self.value(f"select i1 {condition}, {kind} {x}, {kind} {y}")

    def add(self, x: str | int, y: str | int) -> str | int:
        """Return a sum of indices."""
        if isinstance(x, int) and isinstance(y, int):
            return x + y
        if 0 in (x, y):
            return y if x == 0 else x
        return self.value(f"add nsw i64 {x}, {y}")

    def multiply(self, x: str | int, y: int) -> str | int:
        """Return a multiple of an index."""
        if isinstance(x, int):
            return x * y
        if y in (0, 1):
            return x if y else 0
        return self.value(f"mul nsw i64 {x}, {y}")

    def divide(self, x: str, y: int) -> tuple[str | int, str | int]:
        """Return quotient and remainder of an index that is not negative."""
        if y == 1:
            return x, 0
        quotient = self.value(f"udiv i64 {x}, {y}")
        return quotient, self.value(f"sub nsw i64 {x}, {self.multiply(quotient, y)}")

    def least(self, x: str | int, y: str | int) -> str | int:
        """Return the smaller of two indices."""
        if isinstance(x, int) and isinstance(y, int):
            return min(x, y)
        return self.call("smin.i64", "i64", [("i64", str(x)), ("i64", str(y))])

    def most(self, x: str | int, y: int) -> str | int:
        """Return the larger of an index and a number."""
        if isinstance(x, int):
            return max(x, y)
        return self.call("smax.i64", "i64", [("i64", x), ("i64", str(y))])

    def element(self, kind: str, pointer: str, *terms: tuple[str | int, int]) -> str:
        """Return the address of the element of a type at the sum of indices times strides."""
        offset: str | int = 0
        for index, stride in terms:
            offset = self.add(offset, self.multiply(index, stride))
        if offset == 0:
            return pointer
        return self.value(f"getelementptr {kind}, ptr {pointer}, i64 {offset}")

    def lane_mask(self, lanes: int, valid: str | int) -> str:
        """Return the vector of flags that are true in the first `valid` lanes."""
        few = self.least(self.most(valid, 0), lanes)
        count = self.splat(self.value(f"trunc i64 {few} to i32"), "i32", lanes)
        return self.value(f"icmp ult {vector('i32', lanes)} {spelled('i32', range(lanes))}, {count}")

    def load(self, kind: str, lanes: int, pointer: str, mask: str | None = None, align: int = 0) -> str:
        """Return elements that follow each other in memory; zero, and not looked at, where a mask is false."""
        of = vector(kind, lanes)
        if mask is None:
            return self.value(f"load {of}, ptr {pointer}, align {align or SIZES[kind]}")
        given = [("ptr", pointer), ("i32", str(SIZES[kind])), (vector("i1", lanes), mask), (of, "zeroinitializer")]
        return self.call(f"masked.load.{suffix(kind, lanes)}.p0", of, given)

    def store(self, kind: str, lanes: int, value: str, pointer: str, mask: str | None = None, align: int = 0) -> None:
        """Write elements that follow each other in memory, where a mask is true."""
        of = vector(kind, lanes)
        if mask is None:
            self.write(f"store {of} {value}, ptr {pointer}, align {align or SIZES[kind]}")
            return
        given = [(of, value), ("ptr", pointer), ("i32", str(SIZES[kind])), (vector("i1", lanes), mask)]
        self.call(f"masked.store.{suffix(kind, lanes)}.p0", "void", given)
