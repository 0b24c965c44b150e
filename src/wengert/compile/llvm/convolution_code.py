"""A small writer of LLVM IR for kernels with loops: names, loops with carried values, vectors of a machine's width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np

from ..kernels import Kernel
from ..scalar_ir import DType
from .machine import Machine

Index = str | int
"""A number known when code runs (the name of an i64), or already when it is written."""
Body = Callable[[str, list[str]], Sequence[str] | None]
"""Writes the inside of a loop, given its index and the values that it carries; returns what these become."""


class Code:
    """The text of a kernel in the making.

    Args:
        dtype: of its elements, float32 or float64.
        machine: which vectors it is written for.
    """

    def __init__(self, dtype: DType, machine: Machine) -> None:
        self.dtype = dtype
        self.machine = machine
        self.lanes = machine.lanes(dtype)
        self.element = "float" if dtype.itemsize == 4 else "double"
        self.suffix = "f32" if dtype.itemsize == 4 else "f64"
        self.vector = self.vector_of(self.lanes)
        self.lines: list[str] = []
        self.tables: list[str] = []
        self.declarations: dict[str, None] = {}
        self._names = 0
        self._label = "entry"

    def vector_of(self, lanes: int, element: str | None = None) -> str:
        """Return the type of a vector."""
        return f"<{lanes} x {element or self.element}>"

    def line(self, text: str) -> None:
        """Write an instruction without a result."""
        self.lines.append(f"  {text}")

    def value(self, text: str) -> str:
        """Write an instruction; return the name of its result."""
        self._names += 1
        self.lines.append(f"  %v{self._names} = {text}")
        return f"%v{self._names}"

    def block(self, label: str) -> None:
        """Begin a block of code."""
        self.lines.append(f"{label}:")
        self._label = label

    def label(self, stem: str) -> str:
        """Return a label that is not in use."""
        self._names += 1
        return f"{stem}{self._names}"

    def function(self, name: str, parameters: str, *, private: bool = True) -> None:
        """Begin a function."""
        linkage = "private " if private else ""
        self.lines.append(f"define {linkage}void @{name}({parameters}) {{")
        self.block("entry")

    def end(self) -> None:
        """End a function."""
        self.line("ret void")
        self.lines.append("}")

    def call(self, intrinsic: str, result: str, operands: Sequence[tuple[str, str]]) -> str:
        """Write a call of an intrinsic (`result` is its type or "void"); return the name of its result."""
        kinds = ", ".join(kind for kind, _ in operands)
        self.declarations[f"declare {result} @llvm.{intrinsic}({kinds})"] = None
        text = f"call {result} @llvm.{intrinsic}({', '.join(f'{kind} {name}' for kind, name in operands)})"
        if result == "void":
            self.line(text)
            return ""
        return self.value(text)

    # Whole numbers: what is known already is computed already.

    def add(self, x: Index, y: Index) -> Index:
        """Return the sum of two indices."""
        if isinstance(x, int) and isinstance(y, int):
            return x + y
        if x == 0 or y == 0:
            return y if x == 0 else x
        return self.value(f"add nsw i64 {x}, {y}")

    def times(self, x: Index, y: Index) -> Index:
        """Return the product of two indices."""
        if isinstance(x, int) and isinstance(y, int):
            return x * y
        if x == 0 or y == 0:
            return 0
        if x == 1 or y == 1:
            return y if x == 1 else x
        return self.value(f"mul nsw i64 {x}, {y}")

    def split(self, x: Index, extent: int) -> tuple[Index, Index]:
        """Return quotient and remainder of an index that is not negative."""
        if isinstance(x, int):
            return divmod(x, extent)
        if extent == 1:
            return x, 0
        quotient = self.value(f"udiv i64 {x}, {extent}")
        return quotient, self.value(f"urem i64 {x}, {extent}")

    def smaller(self, x: Index, y: Index) -> Index:
        """Return the smaller of two indices."""
        if isinstance(x, int) and isinstance(y, int):
            return min(x, y)
        return self.call("smin.i64", "i64", [("i64", str(x)), ("i64", str(y))])

    # Memory.

    def at(self, base: str, index: Index, element: str | None = None) -> str:
        """Return the address of an element."""
        if index == 0:
            return base
        return self.value(f"getelementptr {element or self.element}, ptr {base}, i64 {index}")

    def operand(self, position: int) -> str:
        """Return the address of one of the kernel's operands."""
        return self.value(f"load ptr, ptr {self.at('%operands', position, 'ptr')}, align 8")

    def load(self, address: str, lanes: int | None = None) -> str:
        """Return a vector from memory (`lanes` of 1: an element)."""
        kind = self.element if lanes == 1 else self.vector_of(lanes or self.lanes)
        return self.value(f"load {kind}, ptr {address}, align {self.dtype.itemsize}")

    def store(self, value: str, address: str, lanes: int | None = None) -> None:
        """Write a vector to memory."""
        kind = self.element if lanes == 1 else self.vector_of(lanes or self.lanes)
        self.line(f"store {kind} {value}, ptr {address}, align {self.dtype.itemsize}")

    def spread(self, element: str, lanes: int | None = None) -> str:
        """Return a vector of equal elements."""
        lanes = lanes or self.lanes
        kind = self.vector_of(lanes)
        first = self.value(f"insertelement {kind} poison, {self.element} {element}, i64 0")
        return self.value(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")

    def multiply_add(self, x: str, y: str, z: str) -> str:
        """Return x * y + z, in one rounding where the machine has such an instruction."""
        kind = self.vector
        return self.call(f"fmuladd.v{self.lanes}{self.suffix}", kind, [(kind, x), (kind, y), (kind, z)])

    def first_lanes(self, count: Index) -> str:
        """Return a mask of the lanes below `count`."""
        kind = self.vector_of(self.lanes, "i64")
        if isinstance(count, int):
            return "<" + ", ".join(f"i1 {str(lane < count).lower()}" for lane in range(self.lanes)) + ">"
        numbers = "<" + ", ".join(f"i64 {lane}" for lane in range(self.lanes)) + ">"
        start = self.value(f"insertelement {kind} poison, i64 {count}, i64 0")
        limit = self.value(f"shufflevector {kind} {start}, {kind} poison, <{self.lanes} x i32> zeroinitializer")
        return self.value(f"icmp slt {kind} {numbers}, {limit}")

    def masked_load(self, address: str, mask: str) -> str:
        """Return those lanes of a vector in memory that a mask has, and zeros."""
        return self.call(
            f"masked.load.v{self.lanes}{self.suffix}.p0",
            self.vector,
            [
                ("ptr", address),
                ("i32", str(self.dtype.itemsize)),
                (self.vector_of(self.lanes, "i1"), mask),
                (self.vector, "zeroinitializer"),
            ],
        )

    def masked_store(self, value: str, address: str, mask: str) -> None:
        """Write those lanes of a vector that a mask has."""
        self.call(
            f"masked.store.v{self.lanes}{self.suffix}.p0",
            "void",
            [
                (self.vector, value),
                ("ptr", address),
                ("i32", str(self.dtype.itemsize)),
                (self.vector_of(self.lanes, "i1"), mask),
            ],
        )

    def table(self, name: str, numbers: Sequence[int]) -> str:
        """Return the address of a table of whole numbers (i32)."""
        entries = ", ".join(f"i32 {number}" for number in numbers)
        self.tables.append(f"@{name} = private unnamed_addr constant [{len(numbers)} x i32] [{entries}], align 64")
        return f"@{name}"

    def entry(self, table: str, index: Index) -> str:
        """Return an entry of a table."""
        entry = self.value(f"load i32, ptr {self.at(table, index, 'i32')}, align 4")
        return self.value(f"sext i32 {entry} to i64")

    # Control.

    def loop(
        self, begin: Index, end: Index, body: Body, step: int = 1, carried: Sequence[tuple[str, str]] = ()
    ) -> list[str]:
        """Write a loop over begin, begin + step, ... below `end`; return what the carried values are after it.

        Args:
            begin, end, step: the indices.
            body: writes what is done.
            carried: type and first value of each value that an iteration hands to the next.
        """
        known = isinstance(begin, int) and isinstance(end, int)
        if known and end <= begin:  # type: ignore[operator]
            return [first for _, first in carried]
        source, head, after = self._label, self.label("loop"), self.label("after")
        if known:
            self.line(f"br label %{head}")
        else:
            some = self.value(f"icmp slt i64 {begin}, {end}")
            self.line(f"br i1 {some}, label %{head}, label %{after}")
        self.block(head)
        index = self.label("%i")
        names = [self.label("%c") for _ in carried]
        phis = len(self.lines)
        self.lines.extend([""] * (1 + len(carried)))
        results = list(body(index, names) or ())
        following = self.value(f"add nsw i64 {index}, {step}")
        more = self.value(f"icmp slt i64 {following}, {end}")
        latch = self._label
        self.line(f"br i1 {more}, label %{head}, label %{after}")
        self.lines[phis] = f"  {index} = phi i64 [ {begin}, %{source} ], [ {following}, %{latch} ]"
        for place, ((kind, first), name, result) in enumerate(zip(carried, names, results)):
            self.lines[phis + 1 + place] = f"  {name} = phi {kind} [ {first}, %{source} ], [ {result}, %{latch} ]"
        self.block(after)
        if known:
            return results
        ends = [self.label("%e") for _ in carried]
        for (kind, first), end_name, result in zip(carried, ends, results):
            self.lines.append(f"  {end_name} = phi {kind} [ {first}, %{source} ], [ {result}, %{latch} ]")
        return ends

    def when(self, condition: str, body: Callable[[], None], otherwise: Callable[[], None] | None = None) -> None:
        """Write code that is run under a condition, and other code that is run if it does not hold."""
        yes, no, after = self.label("yes"), self.label("no"), self.label("after")
        self.line(f"br i1 {condition}, label %{yes}, label %{no if otherwise else after}")
        self.block(yes)
        body()
        self.line(f"br label %{after}")
        if otherwise:
            self.block(no)
            otherwise()
            self.line(f"br label %{after}")
        self.block(after)

    def kernel(self, name: str, units: int, grain: int, scratch: int, flops: int, moved: int) -> Kernel:
        """Return the kernel whose functions have been written, named with NAME for its own name."""
        text = "\n".join([*self.tables, *self.lines])
        full = f"{name}_{blake2b(text.encode(), digest_size=8).hexdigest()}"
        return Kernel(full, text.replace("NAME", full), tuple(self.declarations), units, grain, scratch, flops, moved)


def round_up(number: int, multiple: int) -> int:
    """Return the least multiple that is not below a number."""
    return -(-number // multiple) * multiple


def float_dtype(dtype: DType) -> DType:
    """Return the dtype if kernels of this package compute in it.

    Raises:
        TypeError: they don't.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"convolution and pooling kernels compute in float32 and float64, not in {dtype}")
    return dtype
