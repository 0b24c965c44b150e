"""Prints scalar functions as LLVM IR: one loop over contiguous arrays, in a form that LLVM vectorises.

Every instruction is exact IEEE arithmetic: there are no fast-math flags, and products and sums are fused only where the
scalar IR says `fma`. Loads and stores carry an access group that is parallel, so that the vectoriser needs neither
alias checks nor a promise that arrays don't overlap: an output may be one of the inputs, in place.

A kernel is `void kernel(ptr buffers, i64 begin, i64 end)`, where `buffers` holds the addresses of the inputs, then of
the outputs; it computes the elements from `begin` to `end`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..scalar_ir import BOOL, FLOAT32, FLOAT64, INT32, INT64, DType, Scalar, ScalarFunction, topological, verify
from ..scalar_math import lower

TYPES: dict[DType, str] = {BOOL: "i1", INT32: "i32", INT64: "i64", FLOAT32: "float", FLOAT64: "double"}
STORED: dict[DType, str] = {**TYPES, BOOL: "i8"}
SUFFIXES: dict[DType, str] = {INT32: "i32", INT64: "i64", FLOAT32: "f32", FLOAT64: "f64"}

FLOAT_INSTRUCTIONS = {
    **{"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv", "fmod": "frem", "negative": "fneg"},
    **{"equal": "fcmp oeq", "not_equal": "fcmp une", "less": "fcmp olt", "less_equal": "fcmp ole"},
}
INTEGER_INSTRUCTIONS = {
    **{"add": "add", "subtract": "sub", "multiply": "mul", "negative": "sub"},
    **{"equal": "icmp eq", "not_equal": "icmp ne", "less": "icmp slt", "less_equal": "icmp sle"},
    **{"shift_left": "shl", "shift_right": "ashr", "shift_right_logical": "lshr"},
    **{"bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor"},
}
BOOL_COMPARISONS = {"less": "icmp ult", "less_equal": "icmp ule"}
INTRINSICS = {
    **{"absolute": "fabs", "fma": "fma", "sqrt": "sqrt", "copysign": "copysign"},
    **{"floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint"},
}
BLOCK = 2048
"""Elements after which a kernel looks whether an argument was out of range and repeats them with slower functions."""


class Kernel(NamedTuple):
    """A kernel to print: a function of scalars, and which of its inputs are one number for all elements."""

    function: ScalarFunction
    uniform: tuple[bool, ...]


class _Printer:
    """The lines of one module, and what it declares."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declarations: dict[str, None] = {}
        self.tables: dict[tuple[DType, tuple[float, ...]], str] = {}
        self.names = 0

    def write(self, line: str) -> None:
        self.lines.append(line)

    def value(self, text: str) -> str:
        """Write an instruction; return the name of its result."""
        self.names += 1
        self.lines.append(f"  %v{self.names} = {text}")
        return f"%v{self.names}"

    def call(self, intrinsic: str, suffix: str, result: str, operands: list[tuple[str, str]]) -> str:
        """Write a call of an intrinsic, declared on first use."""
        name = f"@llvm.{intrinsic}.{suffix}"
        self.declarations[f"declare {result} {name}({', '.join(kind for kind, _ in operands)})"] = None
        return self.value(f"call {result} {name}({', '.join(f'{kind} {name}' for kind, name in operands)})")


def literal(value: float, dtype: DType) -> str:
    """Return a constant in LLVM's spelling; floats as the bits of the double of that value."""
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype.kind == "i":
        return str(value)
    return f"0x{np.float64(value).view(np.uint64):016X}"


def _instruction(printer: _Printer, scalar: Scalar, operands: list[str]) -> str:
    """Write one operation; return the name of its result."""
    op, dtype = scalar.op, scalar.dtype
    if op == "constant":
        return literal(scalar.payload, dtype)
    of = scalar.operands[0].dtype
    kind = TYPES[of]
    if op == "where":
        chosen = TYPES[dtype]
        return printer.value(f"select i1 {operands[0]}, {chosen} {operands[1]}, {chosen} {operands[2]}")
    if op == "bitcast":
        return printer.value(f"bitcast {kind} {operands[0]} to {TYPES[dtype]}")
    if op == "convert":
        return _conversion(printer, scalar, operands[0])
    if op == "lookup":
        return _lookup(printer, scalar, operands[0])
    if of.kind == "f":
        if op in INTRINSICS:
            return printer.call(INTRINSICS[op], SUFFIXES[of], kind, [(kind, name) for name in operands])
        return printer.value(f"{FLOAT_INSTRUCTIONS[op]} {kind} {', '.join(operands)}")
    if op == "absolute":
        return printer.call("abs", SUFFIXES[of], kind, [(kind, operands[0]), ("i1", "false")])
    if op == "negative":
        operands = ["0", *operands]
    instruction = BOOL_COMPARISONS.get(op) if of == BOOL else None
    return printer.value(f"{instruction or INTEGER_INSTRUCTIONS[op]} {kind} {', '.join(operands)}")


def _conversion(printer: _Printer, scalar: Scalar, operand: str) -> str:
    source, target = scalar.operands[0].dtype, scalar.dtype
    kind, new = TYPES[source], TYPES[target]
    if source.kind == "f" and target.kind == "i":  # saturating: out of range is a number, not undefined behaviour
        return printer.call("fptosi.sat", f"{SUFFIXES[target]}.{SUFFIXES[source]}", new, [(kind, operand)])
    if source.kind == "f":
        return printer.value(f"{'fpext' if target.itemsize > source.itemsize else 'fptrunc'} {kind} {operand} to {new}")
    if target.kind == "f":
        return printer.value(f"{'uitofp' if source == BOOL else 'sitofp'} {kind} {operand} to {new}")
    if source == BOOL:
        return printer.value(f"zext i1 {operand} to {new}")
    return printer.value(f"{'sext' if target.itemsize > source.itemsize else 'trunc'} {kind} {operand} to {new}")


def _lookup(printer: _Printer, scalar: Scalar, index: str) -> str:
    dtype, table = scalar.payload
    name = printer.tables.setdefault(scalar.payload, f"@table{len(printer.tables)}")
    kind, width = TYPES[dtype], TYPES[scalar.operands[0].dtype]
    place = printer.value(f"getelementptr inbounds [{len(table)} x {kind}], ptr {name}, i64 0, {width} {index}")
    return printer.value(f"load {kind}, ptr {place}")


def _load(printer: _Printer, pointer: str, dtype: DType, index: str | None) -> str:
    """Write the load of one element (of the only one, without an index)."""
    stored, group = STORED[dtype], ""
    if index is not None:
        pointer, group = printer.value(f"getelementptr inbounds {stored}, ptr {pointer}, i64 {index}"), ", !llvm.access.group !0"
    loaded = printer.value(f"load {stored}, ptr {pointer}, align {dtype.itemsize}{group}")
    return printer.value(f"icmp ne i8 {loaded}, 0") if dtype == BOOL else loaded


def _store(printer: _Printer, value: str, pointer: str, dtype: DType, index: str) -> None:
    stored = STORED[dtype]
    if dtype == BOOL:
        value = printer.value(f"zext i1 {value} to i8")
    place = printer.value(f"getelementptr inbounds {stored}, ptr {pointer}, i64 {index}")
    printer.write(f"  store {stored} {value}, ptr {place}, align {dtype.itemsize}, !llvm.access.group !0")


def _loop(
    printer: _Printer, label: str, kernel: Kernel, given: list[str], targets: list[str], span: tuple[str, str, str, str],
    condition: Scalar | None = None, vectorized: bool = True,
) -> str:  # fmt: skip
    """Write a loop that computes the function for all elements of a span.

    Args:
        printer: where to write.
        label: prefix of the loop's labels.
        kernel: the function, at machine level, and which of its inputs are uniform.
        given: for each input its address, or its value where it is uniform.
        targets: for each output its address.
        span: label that the loop is entered from, first index, end index, label to leave to; the span is not empty.
        condition: a Scalar of type bool to take the conjunction of.
        vectorized: whether LLVM is to vectorise it; a loop that runs rarely compiles faster if not.

    Returns:
        The name of the conjunction.
    """
    before, first, last, after = span
    function = kernel.function
    printer.write(f"{label}:")
    printer.write(f"  %{label}.i = phi i64 [ {first}, %{before} ], [ %{label}.next, %{label} ]")
    if condition is not None:
        printer.write(f"  %{label}.all = phi i1 [ true, %{before} ], [ %{label}.and, %{label} ]")
    names: dict[Scalar, str] = {}
    for scalar, where, uniform in zip(function.inputs, given, kernel.uniform):
        names[scalar] = where if uniform else _load(printer, where, scalar.dtype, f"%{label}.i")
    for scalar in topological(function.outputs if condition is None else (*function.outputs, condition)):
        if scalar not in names:
            names[scalar] = _instruction(printer, scalar, [names[operand] for operand in scalar.operands])
    for scalar, target in zip(function.outputs, targets):
        _store(printer, names[scalar], target, scalar.dtype, f"%{label}.i")
    if condition is not None:
        printer.write(f"  %{label}.and = and i1 %{label}.all, {names[condition]}")
    printer.write(f"  %{label}.next = add nuw nsw i64 %{label}.i, 1")
    printer.write(f"  %{label}.more = icmp slt i64 %{label}.next, {last}")
    printer.write(f"  br i1 %{label}.more, label %{label}, label %{after}, !llvm.loop {'!1' if vectorized else '!4'}")
    return f"%{label}.and"


def _arguments(printer: _Printer, kernel: Kernel) -> tuple[list[str], list[str]]:
    """Write the loads of addresses and of uniform inputs."""
    scalars = (*kernel.function.inputs, *kernel.function.outputs)
    pointers = []
    for position in range(len(scalars)):
        slot = printer.value(f"getelementptr inbounds ptr, ptr %buffers, i64 {position}")
        pointers.append(printer.value(f"load ptr, ptr {slot}"))
    given = [
        _load(printer, pointer, scalar.dtype, None) if uniform else pointer
        for scalar, pointer, uniform in zip(kernel.function.inputs, pointers, kernel.uniform)
    ]
    return given, pointers[len(kernel.function.inputs) :]


def _blocks(printer: _Printer, fast: Kernel, slow: Kernel, given: list[str], targets: list[str], in_range: Scalar) -> None:
    """Write a loop over blocks: the fast function, and again with the slow one where an argument was out of range."""
    printer.write("  br label %block")
    printer.write("block:")
    printer.write("  %first = phi i64 [ %begin, %nonempty ], [ %last, %checked ]")
    printer.write(f"  %left = add nsw i64 %first, {BLOCK}")
    printer.write("  %last = call i64 @llvm.smin.i64(i64 %left, i64 %end)")
    printer.declarations["declare i64 @llvm.smin.i64(i64, i64)"] = None
    printer.write("  br label %fast")
    all_in_range = _loop(printer, "fast", fast, given, targets, ("block", "%first", "%last", "check"), in_range)
    printer.write("check:")
    printer.write(f"  %ok = phi i1 [ {all_in_range}, %fast ]")
    printer.write("  br i1 %ok, label %checked, label %repeat")
    printer.write("repeat:")
    printer.write("  br label %slow")
    _loop(printer, "slow", slow, given, targets, ("repeat", "%first", "%last", "repeated"), vectorized=False)
    printer.write("repeated:")
    printer.write("  br label %checked")
    printer.write("checked:")
    printer.write("  %more = icmp slt i64 %last, %end")
    printer.write("  br i1 %more, label %block, label %done")


def emit_kernel(function: ScalarFunction, uniform: tuple[bool, ...], name: str = "kernel") -> str:
    """Return the LLVM IR of a fused elementwise kernel.

    Args:
        function: what to compute for each element, of any level.
        uniform: which inputs are one number for all elements.
        name: symbol of the compiled function.
    """
    verify(function)
    fast, in_range = lower(function)
    verify(fast, machine=True)
    printer = _Printer()
    kernel = Kernel(fast, uniform)
    printer.write(f'define void @{name}(ptr %buffers, i64 %begin, i64 %end) "no-trapping-math"="true" {{')
    printer.write("entry:")
    printer.write("  %empty = icmp sge i64 %begin, %end")
    printer.write("  br i1 %empty, label %done, label %nonempty")
    printer.write("nonempty:")
    given, targets = _arguments(printer, kernel)
    if in_range is None:
        printer.write("  br label %loop")
        _loop(printer, "loop", kernel, given, targets, ("nonempty", "%begin", "%end", "done"))
    else:
        slow, _ = lower(function, anywhere=True)
        verify(slow, machine=True)
        _blocks(printer, kernel, Kernel(slow, uniform), given, targets, in_range)
    printer.write("done:")
    printer.write("  ret void")
    printer.write("}")
    return "\n".join([*_tables(printer), *printer.declarations, *printer.lines, *METADATA])


def _tables(printer: _Printer) -> list[str]:
    lines = []
    for (dtype, table), name in printer.tables.items():
        kind = TYPES[dtype]
        entries = ", ".join(f"{kind} {literal(entry, dtype)}" for entry in table)
        lines.append(f"{name} = private unnamed_addr constant [{len(table)} x {kind}] [{entries}]")
    return lines


METADATA = (
    "!0 = distinct !{}",
    "!1 = distinct !{!1, !2, !3}",
    '!2 = !{!"llvm.loop.vectorize.enable", i1 true}',
    '!3 = !{!"llvm.loop.parallel_accesses", !0}',
    "!4 = distinct !{!4, !5, !6}",
    '!5 = !{!"llvm.loop.vectorize.enable", i1 false}',
    '!6 = !{!"llvm.loop.unroll.disable"}',
)
