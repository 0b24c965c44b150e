"""Instructions on bfloat16 numbers that a processor may lack: tiles are played by NumPy, pairs by those on float32.

Tile registers of AMX are Python's: kernels call it for each instruction.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.compile.product_samples import Array, Native
from wengert.compile.llvm.compiling import EXPLICIT, compile_object, link, module_of
from wengert.compile.llvm.machine import host_machine

NUMBERS = {"i8": ctypes.c_uint8, "i64": ctypes.c_int64, "ptr": ctypes.c_void_p}


class Registers:
    """What the instructions on tiles do, as the processor's manual says, in NumPy."""

    def __init__(self) -> None:
        self.heights = self.widths = np.zeros(8, int)
        self.tiles: list[Array] = []

    @staticmethod
    def _memory(address: int, size: int) -> Array:
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def ldtilecfg(self, address: int) -> None:
        content = self._memory(address, 64)
        assert content[0] == 1 and not content[1:16].any()
        self.widths, self.heights = content[16:32].view("<u2").astype(int), content[48:56].astype(int)
        assert (self.widths <= 64).all() and (self.heights <= 16).all()
        self.tiles = [np.zeros((16, 64), np.uint8) for _ in range(8)]

    def tilerelease(self) -> None:
        self.tiles = []

    def tilezero(self, register: int) -> None:
        self.tiles[register][...] = 0

    def _rows(self, register: int, address: int, stride: int) -> list[Array]:
        return [self._memory(address + row * stride, self.widths[register]) for row in range(self.heights[register])]

    def tileloadd64(self, register: int, address: int, stride: int) -> None:
        self.tiles[register][...] = 0
        for row, memory in enumerate(self._rows(register, address, stride)):
            self.tiles[register][row, : len(memory)] = memory

    def tilestored64(self, register: int, address: int, stride: int) -> None:
        for row, memory in enumerate(self._rows(register, address, stride)):
            memory[...] = self.tiles[register][row, : len(memory)]

    def tdpbf16ps(self, out: int, left: int, right: int) -> None:
        assert self.widths[left] // 4 == self.heights[right], "the processor faults"
        assert self.heights[out] == self.heights[left] and self.widths[out] == self.widths[right]
        a, b = (self._wide(register) for register in (left, right))
        # Pairs along k are neighbours in both factors' rows.
        total = self.tiles[out].view("<f4")
        with np.errstate(invalid="ignore"):
            total += np.einsum("mkp,knp->mn", a.reshape(16, 16, 2), b.reshape(16, 16, 2))
        total[self.heights[out] :] = 0

    def _wide(self, register: int) -> Array:
        return (self.tiles[register].view("<u2").astype("<u4") << 16).view("<f4")


PAIRS = r"declare <(\d+) x float> @llvm\.x86\.avx512bf16\.dpbf16ps\.(\d+)\("


def played_pairs(lanes: int, bits: str) -> str:
    """Return a function in the place of the instruction that multiplies pairs: products of two such are exact."""
    of, wide, narrow = f"<{lanes} x float>", f"<{2 * lanes} x float>", f"<{2 * lanes} x bfloat>"

    def chosen(first: int) -> str:
        return f"<{lanes} x i32> <{', '.join([f'i32 {place}' for place in range(first, 2 * lanes, 2)])}>"

    return f"""define private {of} @played.dpbf16ps.{bits}({of} %total, {narrow} %left, {narrow} %right) {{
  %l = fpext {narrow} %left to {wide}
  %r = fpext {narrow} %right to {wide}
  %products = fmul {wide} %l, %r
  %odd = shufflevector {wide} %products, {wide} poison, {chosen(1)}
  %even = shufflevector {wide} %products, {wide} poison, {chosen(0)}
  %some = fadd {of} %total, %odd
  %all = fadd {of} %some, %even
  ret {of} %all
}}"""


ROUNDING = """define bfloat @__truncsfbf2(float %x) {
  %bits = bitcast float %x to i32
  %above = lshr i32 %bits, 16
  %odd = and i32 %above, 1
  %half = add i32 %odd, 32767
  %up = add i32 %bits, %half
  %quiet = or i32 %bits, 4194304
  %is_nan = fcmp uno float %x, %x
  %chosen = select i1 %is_nan, i32 %quiet, i32 %up
  %high = lshr i32 %chosen, 16
  %short = trunc i32 %high to i16
  %out = bitcast i16 %short to bfloat
  ret bfloat %out
}"""
"""What LLVM calls to round to bfloat16, nearest and ties to even, where there is no instruction that does."""


class Emulated(Native):
    """Kernels whose instructions on tiles are calls of Python; those on pairs are played where there are none."""

    has_pairs = host_machine().bfloat16

    def __init__(self, kernels: Any) -> None:
        module = module_of(kernels)
        registers, self._callbacks = Registers(), []
        lines = [self._line(line, registers) for line in module.source.splitlines()]
        source = "\n".join(lines).replace("@llvm.x86.t", "@played.t").replace("@llvm.x86.ld", "@played.ld")
        if not self.has_pairs:
            source = source.replace("@llvm.x86.avx512bf16.", "@played.") + "\n" + ROUNDING
        self._library, addresses = link(compile_object(source, EXPLICIT), module.exports)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        self._functions = {name: kind(address) for name, address in addresses.items()}

    def _line(self, line: str, registers: Registers) -> str:
        pairs = re.match(PAIRS, line)
        if pairs is not None and not self.has_pairs:
            return played_pairs(int(pairs[1]), pairs[2])
        found = re.match(r"declare void @llvm\.x86\.(t\w+|ldtilecfg)\((.*)\)", line)
        if found is None:
            return line
        name, kinds = found[1], [kind for kind in found[2].split(", ") if kind]
        callback: Callable[..., None] = ctypes.CFUNCTYPE(None, *[NUMBERS[kind] for kind in kinds])(
            getattr(registers, name)
        )
        self._callbacks.append(callback)
        address = ctypes.cast(callback, ctypes.c_void_p).value  # type: ignore[arg-type]
        arguments = ", ".join([f"{kind} %x{place}" for place, kind in enumerate(kinds)])
        call = f"call void inttoptr (i64 {address} to ptr)({arguments})"
        return f"define private void @played.{name}({arguments}) {{\n  {call}\n  ret void\n}}"
