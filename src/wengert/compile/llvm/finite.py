"""The kernel that says whether all elements of an array are finite: one for arrays of any size.

Every gradient is asked that, and nests for all their shapes would take longer to compile than they ever run.
"""

from __future__ import annotations

import hashlib

from ..kernels import Kernel
from ..scalar_ir import DType
from .machine import Machine
from .vectors import SYMBOL, spelled

EXPONENTS = {4: 0x7F800000, 8: 0x7FF0000000000000}
"""The bits that are all set in infinities and NaNs, and in nothing else."""

_LINES = """\
define void {symbol}(ptr %operands, i64 %begin, i64 %end, ptr %scratch) {{
entry:
  %array = load ptr, ptr %operands
  %second = getelementptr ptr, ptr %operands, i64 1
  %sizes = load ptr, ptr %second
  %third = getelementptr ptr, ptr %operands, i64 2
  %out = load ptr, ptr %third
  %size = load i64, ptr %sizes
  %whole = and i64 %size, -{lanes}
  br label %vectors
vectors:
  %i = phi i64 [0, %entry], [%after, %take]
  %met = phi <{lanes} x i1> [{none}, %entry], [%more, %take]
  %going = icmp ult i64 %i, %whole
  br i1 %going, label %take, label %numbers
take:
  %at = freeze i64 %i
  %from = getelementptr {bits}, ptr %array, i64 %at
  %loaded = load <{lanes} x {bits}>, ptr %from, align {align}
  %high = and <{lanes} x {bits}> %loaded, {masks}
  %full = icmp eq <{lanes} x {bits}> %high, {masks}
  %more = or <{lanes} x i1> %met, %full
  %after = add i64 %i, {lanes}
  br label %vectors
numbers:
  %any = call i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1> %met)
  br label %rest
rest:
  %j = phi i64 [%whole, %numbers], [%next, %one]
  %found = phi i1 [%any, %numbers], [%either, %one]
  %left = icmp ult i64 %j, %size
  br i1 %left, label %one, label %done
one:
  %place = getelementptr {bits}, ptr %array, i64 %j
  %number = load {bits}, ptr %place, align {align}
  %exponent = and {bits} %number, {mask}
  %special = icmp eq {bits} %exponent, {mask}
  %either = or i1 %found, %special
  %next = add i64 %j, 1
  br label %rest
done:
  %fine = xor i1 %found, true
  %byte = zext i1 %fine to i8
  store i8 %byte, ptr %out
  ret void
}}"""


def finite_kernel(dtype: DType, size: int, machine: Machine) -> Kernel:
    """Return the kernel. Operands: an array of floats, its size as an int64, and a byte for the answer.

    Kernels for other sizes have the same code; `size` tells how long it takes.
    """
    lanes, bits = machine.lanes(dtype), f"i{8 * dtype.itemsize}"
    mask = EXPONENTS[dtype.itemsize]
    text = _LINES.format(
        symbol=SYMBOL,
        lanes=lanes,
        bits=bits,
        align=dtype.itemsize,
        mask=mask,
        masks=spelled(bits, [mask] * lanes),
        none=spelled("i1", ["false"] * lanes),
    )
    name = f"all_finite_{hashlib.blake2b(text.encode(), digest_size=10).hexdigest()}"
    declarations = (f"declare i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1>)",)
    moved = size * dtype.itemsize
    return Kernel(name, text.replace(SYMBOL, f"@{name}"), declarations, 1, 1, flops=2 * size, moved=moved)


__all__ = ["finite_kernel"]
