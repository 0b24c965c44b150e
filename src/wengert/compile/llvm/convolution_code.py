"""What the kernels of convolution and pooling are written with, beyond what those of products are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from ...errors import DTypeError
from ..kernels import Kernel
from ..scalar_ir import DType
from .machine import Machine
from .products_code import Code
from .products_tiles import add_pairs
from .vectors import SYMBOL, TYPES, spelled, suffix, vector

Index = str | int
"""A number known when code runs (the name of an i64), or already when it is written."""


class Carried:
    """What the iterations of a loop hand on: names within the loop, and what the body makes of them."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.results: list[str] = []


class PlaneCode(Code):
    """The code of one function that computes on planes of floats.

    Args:
        dtype: of the elements.
        machine: which vectors the code is written for.
    """

    def __init__(self, dtype: DType, machine: Machine) -> None:
        super().__init__()
        self.dtype = dtype
        self.machine = machine
        self.lanes = machine.lanes(dtype)
        self.kind = TYPES[dtype]
        self.of = vector(self.kind, self.lanes)

    def at(self, base: str, *terms: tuple[Index, int]) -> str:
        """Return the address of the element at the sum of indices times strides."""
        return self.element(self.kind, base, *terms)

    def operand(self, position: int) -> str:
        """Return the address of one of the kernel's operands."""
        slot = self.value(f"getelementptr ptr, ptr %operands, i64 {position}") if position else "%operands"
        return self.value(f"load ptr, ptr {slot}, align 8")

    def vector_at(self, address: str) -> str:
        """Return a whole vector from memory."""
        return self.load(self.kind, self.lanes, address)

    def number_at(self, address: str) -> str:
        """Return an element of memory."""
        return self.load(self.kind, 1, address)

    def entry(self, table: str, index: Index) -> str:
        """Return an entry of a table of i32."""
        address = self.element("i32", table, (index, 1))
        return self.value(f"sext i32 {self.value(f'load i32, ptr {address}, align 4')} to i64")

    def multiply_add(self, x: str, y: str, z: str, kind: str = "") -> str:
        """Return x * y + z of vectors, in one rounding where the machine has such an instruction.

        If `kind` is an integer's, x and y are of pairs of bfloat16 numbers, whose products are both added.
        """
        if kind.startswith("i"):
            return add_pairs(self, kind, self.lanes, x, y, z)
        if not self.machine.fma:
            return self.value(f"fadd {self.of} {self.value(f'fmul {self.of} {x}, {y}')}, {z}")
        return self.call(f"fma.{suffix(self.kind, self.lanes)}", self.of, [(self.of, x), (self.of, y), (self.of, z)])

    def first_lanes(self, count: int) -> str:
        """Return the constant mask of a vector's first lanes."""
        return spelled("i1", [str(lane < count).lower() for lane in range(self.lanes)])

    def fill(self, target: str, size: int, number: str = "0.0") -> None:
        """Write a loop that sets elements to a number, and up to a vector more."""
        if size > 0:
            filled = self.splat(number, self.kind, self.lanes)
            with self.loop(0, size, self.lanes) as index:
                self.store(self.kind, self.lanes, filled, self.at(target, (index, 1)))

    @contextmanager
    def sums(self, first: Index, last: Index, starts: Sequence[str], step: int = 1) -> Iterator[tuple[str, Carried]]:
        """Write a loop, run at least once, that carries vectors from iteration to iteration.

        Yields the index and the vectors' names; the body sets what becomes of them, which holds after the loop, too.
        """
        carried = Carried([self.text.name() for _ in starts])
        source, place = self.label, len(self.lines) + 2
        with self.loop(first, last, step) as index:
            yield index, carried
            latch = self.label
            self.lines[place:place] = [
                f"  {name} = phi {self.of} [ {start}, %{source} ], [ {result}, %{latch} ]"
                for name, start, result in zip(carried.names, starts, carried.results)
            ]


class Parts:
    """The functions and tables that a kernel is put together from."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declarations: dict[str, None] = {}
        self.tables: dict[str, None] = {}

    def table(self, name: str, entries: Sequence[int]) -> str:
        """Add a table of i32; return its symbol."""
        numbers = ", ".join([f"i32 {entry}" for entry in entries])
        self.tables[f"{SYMBOL}.{name} = private unnamed_addr constant [{len(entries)} x i32] [{numbers}], align 64"] = (
            None
        )
        return f"{SYMBOL}.{name}"

    def add(self, head: str, code: Code) -> None:
        """Add a finished function."""
        self.lines += code.function(f"define {head}")
        self.declarations.update(code.text.declarations)
        self.tables.update(dict.fromkeys([line for _, line in code.text.tables.values()]))

    def kernel(self, name: str, units: int, grain: int, scratch: int, work: Work) -> Kernel:
        """Return the kernel; its name ends in a digest of its text."""
        text = "\n".join([*self.tables, *self.lines])
        full = f"{name}_{blake2b(text.encode(), digest_size=8).hexdigest()}"
        grain = min(max(grain, 1), max(units, 1))
        source = text.replace(SYMBOL, f"@{full}")
        return Kernel(full, source, tuple(self.declarations), units, grain, scratch, work.flops, work.moved)


class Work(NamedTuple):
    """Arithmetic operations of a kernel, and bytes that it moves at least."""

    flops: int
    moved: int


def grain_for(units: int, work: Work) -> int:
    """Return how many units are worth another thread: some microseconds of arithmetic or of memory traffic."""
    microseconds = max(work.flops / 100e3, work.moved / 20e3)
    return int(-(-units * 3 // max(microseconds, 1)))


def round_up(number: int, multiple: int) -> int:
    """Return the least multiple that is not below a number."""
    return -(-number // multiple) * multiple


def float_dtype(dtype: DType) -> DType:
    """Return a dtype that these kernels compute in.

    Raises:
        DTypeError: they don't compute in it.
    """
    dtype = np.dtype(dtype)
    if dtype.kind != "f" or dtype.itemsize not in (4, 8):
        raise DTypeError(f"kernels of convolution and pooling compute in float32 and float64, not in {dtype}")
    return dtype
