"""Prints scalar functions as LLVM IR: one loop over contiguous arrays, in a form that LLVM vectorises.

Every instruction is exact IEEE arithmetic: there are no fast-math flags, and products and sums are fused only where the
scalar IR says `fma`. Loads and stores carry an access group that is parallel, so that the vectoriser needs neither
alias checks nor a promise that arrays don't overlap: an output may be one of the inputs, in place.

A kernel is `void kernel(ptr buffers, i64 begin, i64 end)`, where `buffers` holds the addresses of the inputs, then of
the outputs; it computes the elements from `begin` to `end`.
"""

from __future__ import annotations

from struct import pack
from typing import NamedTuple

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
VECTORISED, RARE = "!1", "!4"
METADATA = (
    "!0 = distinct !{}",
    "!1 = distinct !{!1, !2, !3}",
    '!2 = !{!"llvm.loop.vectorize.enable", i1 true}',
    '!3 = !{!"llvm.loop.parallel_accesses", !0}',
    "!4 = distinct !{!4, !5, !6}",
    '!5 = !{!"llvm.loop.vectorize.enable", i1 false}',
    '!6 = !{!"llvm.loop.unroll.disable"}',
)
"""What LLVM is told of loops: VECTORISED ones have parallel accesses (!0); RARE ones had better compile fast."""
BLOCK = 2048
"""Elements after which a kernel looks whether an argument was out of range and repeats them with slower functions."""


class _Buffers(NamedTuple):
    """Names of what a loop reads and writes: each input's address, or its value where it is uniform; addresses."""

    inputs: list[str]
    uniform: tuple[bool, ...]
    outputs: list[str]


class _Span(NamedTuple):
    """What a loop runs over, never empty: labels that it comes from and goes to, the first index and the end."""

    source: str
    first: str
    last: str
    target: str


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
    return f"0x{pack('>d', value).hex().upper()}"


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
        pointer = printer.value(f"getelementptr inbounds {stored}, ptr {pointer}, i64 {index}")
        group = ", !llvm.access.group !0"
    loaded = printer.value(f"load {stored}, ptr {pointer}, align {dtype.itemsize}{group}")
    return printer.value(f"icmp ne i8 {loaded}, 0") if dtype == BOOL else loaded


def _store(printer: _Printer, value: str, pointer: str, dtype: DType, index: str) -> None:
    stored = STORED[dtype]
    if dtype == BOOL:
        value = printer.value(f"zext i1 {value} to i8")
    place = printer.value(f"getelementptr inbounds {stored}, ptr {pointer}, i64 {index}")
    printer.write(f"  store {stored} {value}, ptr {place}, align {dtype.itemsize}, !llvm.access.group !0")


def _loop(
    printer: _Printer, label: str, function: ScalarFunction, buffers: _Buffers, span: _Span, condition: Scalar | None
) -> None:
    """Write a loop that computes a function, at machine level, for all elements of a span.

    With a condition, `%<label>.and` becomes its conjunction over the span.
    """
    printer.write(f"{label}:")
    printer.write(f"  %{label}.i = phi i64 [ {span.first}, %{span.source} ], [ %{label}.next, %{label} ]")
    if condition is not None:
        printer.write(f"  %{label}.all = phi i1 [ true, %{span.source} ], [ %{label}.and, %{label} ]")
    names: dict[Scalar, str] = {}
    for scalar, given, uniform in zip(function.inputs, buffers.inputs, buffers.uniform):
        names[scalar] = given if uniform else _load(printer, given, scalar.dtype, f"%{label}.i")
    for scalar in topological(function.outputs if condition is None else (*function.outputs, condition)):
        if scalar not in names:
            names[scalar] = _instruction(printer, scalar, [names[operand] for operand in scalar.operands])
    for scalar, target in zip(function.outputs, buffers.outputs):
        _store(printer, names[scalar], target, scalar.dtype, f"%{label}.i")
    if condition is not None:
        printer.write(f"  %{label}.and = and i1 %{label}.all, {names[condition]}")
    printer.write(f"  %{label}.next = add nuw nsw i64 %{label}.i, 1")
    printer.write(f"  %{label}.more = icmp slt i64 %{label}.next, {span.last}")
    hints = RARE if label == "careful" else VECTORISED
    printer.write(f"  br i1 %{label}.more, label %{label}, label %{span.target}, !llvm.loop {hints}")


def _buffers(printer: _Printer, function: ScalarFunction, uniform: tuple[bool, ...]) -> _Buffers:
    """Write the loads of addresses and of uniform inputs."""
    pointers = []
    for position in range(len(function.inputs) + len(function.outputs)):
        slot = printer.value(f"getelementptr inbounds ptr, ptr %buffers, i64 {position}")
        pointers.append(printer.value(f"load ptr, ptr {slot}"))
    inputs = [
        _load(printer, pointer, scalar.dtype, None) if single else pointer
        for scalar, pointer, single in zip(function.inputs, pointers, uniform)
    ]
    return _Buffers(inputs, uniform, pointers[len(inputs) :])


def _blocks(
    printer: _Printer, quick: ScalarFunction, careful: ScalarFunction, buffers: _Buffers, in_range: Scalar
) -> None:
    """Write a loop over blocks: the quick function, and then the careful one if an argument was out of range."""
    printer.declarations["declare i64 @llvm.smin.i64(i64, i64)"] = None
    printer.write("  br label %block")
    printer.write("block:")
    printer.write("  %first = phi i64 [ %begin, %nonempty ], [ %last, %checked ]")
    printer.write(f"  %left = add nsw i64 %first, {BLOCK}")
    printer.write("  %last = call i64 @llvm.smin.i64(i64 %left, i64 %end)")
    printer.write("  br label %quick")
    _loop(printer, "quick", quick, buffers, _Span("block", "%first", "%last", "check"), in_range)
    printer.write("check:")
    printer.write("  br i1 %quick.and, label %checked, label %repeat")
    printer.write("repeat:")
    printer.write("  br label %careful")
    _loop(printer, "careful", careful, buffers, _Span("repeat", "%first", "%last", "repeated"), None)
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
    quick, in_range = lower(function)
    verify(quick, machine=True)
    printer = _Printer()
    printer.write(f"define void @{name}(ptr %buffers, i64 %begin, i64 %end) {{")
    printer.write("entry:")
    printer.write("  %empty = icmp sge i64 %begin, %end")
    printer.write("  br i1 %empty, label %done, label %nonempty")
    printer.write("nonempty:")
    buffers = _buffers(printer, function, uniform)
    if in_range is None:
        printer.write("  br label %loop")
        _loop(printer, "loop", quick, buffers, _Span("nonempty", "%begin", "%end", "done"), None)
    else:
        careful, _ = lower(function, anywhere=True)
        verify(careful, machine=True)
        _blocks(printer, quick, careful, buffers, in_range)
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
