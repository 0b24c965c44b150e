"""Instructions of LLVM IR for scalar operations, on single numbers or on vectors of them.

Every instruction is exact IEEE arithmetic: there are no fast-math flags, and products and sums are fused only where the
scalar IR says `fma`. A `Text` is the text of one function in the making, with what its module must declare; a `Region`
is a stretch of code that runs front to back, and remembers what it has computed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from struct import pack

from ..scalar_ir import BOOL, FLOAT32, FLOAT64, INT32, INT64, DType, Scalar
from .target import host_target

TYPES: dict[DType, str] = {BOOL: "i1", INT32: "i32", INT64: "i64", FLOAT32: "float", FLOAT64: "double"}
STORED: dict[DType, str] = {**TYPES, BOOL: "i8"}
SUFFIXES: dict[str, str] = {"float": "f32", "double": "f64"}

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
SYMBOL = "@SYMBOL"
"""Stands for the kernel's name in names of helpers and tables, until the name is known."""


def vector(element: str, lanes: int) -> str:
    """Return the type of `lanes` elements of a type; the type itself for one."""
    return f"<{lanes} x {element}>" if lanes > 1 else element


def suffix(element: str, lanes: int) -> str:
    """Return how intrinsics spell a type."""
    name = SUFFIXES.get(element, element)
    return f"v{lanes}{name}" if lanes > 1 else name


def literal(value: float, dtype: DType) -> str:
    """Return a number in LLVM's spelling; floats as the bits of the double of that value."""
    if dtype == BOOL:
        return "true" if value else "false"
    if dtype.kind == "i":
        return str(value)
    return f"0x{pack('>d', value).hex().upper()}"


def spelled(element: str, entries: Sequence[object]) -> str:
    """Return a constant vector of an element type, or the number itself if it is one."""
    return f"<{', '.join(f'{element} {entry}' for entry in entries)}>" if len(entries) > 1 else str(entries[0])


class Text:
    """What the regions of one function share: names, constants, and what the module declares."""

    def __init__(self, symbol: str = SYMBOL) -> None:
        self.symbol = symbol
        self.count = 0
        self.constants: dict[tuple[str, str], str] = {}
        self.declarations: dict[str, None] = {}
        self.tables: dict[Hashable, tuple[str, str]] = {}
        self.helpers: dict[str, list[str]] = {}

    def name(self) -> str:
        """Return a name that has not been used."""
        self.count += 1
        return f"%v{self.count}"

    def label(self) -> str:
        """Return a label that has not been used."""
        self.count += 1
        return f"b{self.count}"

    def constant(self, kind: str, text: str) -> str:
        """Return the name of a constant vector, which is spelled only once: texts stay short."""
        key = (kind, text)
        if key not in self.constants:
            self.constants[key] = f"%c{len(self.constants)}"
        return self.constants[key]

    def number(self, value: float, dtype: DType, lanes: int) -> str:
        """Return a number in all lanes."""
        text = literal(value, dtype)
        return text if lanes == 1 else self.constant(vector(TYPES[dtype], lanes), spelled(TYPES[dtype], [text] * lanes))

    def table(self, element: str, entries: Sequence[str]) -> str:
        """Return the symbol of a constant table."""
        key = (element, tuple(entries))
        if key not in self.tables:
            name = f"{self.symbol}.table{len(self.tables)}"
            body = ", ".join(f"{element} {entry}" for entry in entries)
            line = f"{name} = private unnamed_addr constant [{len(entries)} x {element}] [{body}], align 64"
            self.tables[key] = (name, line)
        return self.tables[key][0]

    def numbers(self, entries: tuple[float, ...], dtype: DType) -> str:
        """Return the symbol of a constant table of numbers; it is written as bytes, which LLVM reads much faster."""
        if dtype not in (FLOAT32, FLOAT64):
            return self.table(STORED[dtype], [literal(entry, dtype) for entry in entries])
        data = pack(f"<{len(entries)}{dtype.char}", *entries)
        key = (dtype, data)
        if key not in self.tables:
            name = f"{self.symbol}.table{len(self.tables)}"
            text = f'[{len(data)} x i8] c"\\{data.hex(chr(92)).upper()}"'
            self.tables[key] = (name, f"{name} = private unnamed_addr constant {text}, align 64")
        return self.tables[key][0]

    def table_lines(self) -> list[str]:
        """Return the definitions of the tables."""
        return [line for _, line in self.tables.values()]

    def constant_lines(self) -> list[str]:
        """Return the instructions that name the constants; they vanish in the first pass of LLVM."""
        return [f"  {name} = bitcast {kind} {text} to {kind}" for (kind, text), name in self.constants.items()]


class Region:
    """Code that runs front to back: its lines, the label of its last block, and the values known in it."""

    def __init__(self, text: Text, label: str) -> None:
        self.text = text
        self.lines: list[str] = []
        self.label = label
        self.values: dict[Hashable, str] = {}

    def write(self, line: str) -> None:
        """Append an instruction without a result."""
        self.lines.append(f"  {line}")

    def value(self, instruction: str) -> str:
        """Append an instruction; return the name of its result."""
        name = self.text.name()
        self.lines.append(f"  {name} = {instruction}")
        return name

    def stepped(self, index: str, step: int | str) -> str:
        """Return a loop's index in its next turn.

        It is frozen, so that LLVM does not take it for an induction variable: reducing the strength of what hangs on
        those takes up to half of the time to generate code, and has made none of our loops faster.
        """
        return self.value(f"freeze i64 {self.value(f'add nuw nsw i64 {index}, {step}')}")

    def start(self, label: str) -> None:
        """Begin a block."""
        self.lines.append(f"{label}:")
        self.label = label

    def call(self, name: str, result: str, operands: Sequence[tuple[str, str]]) -> str:
        """Append a call of an intrinsic; return the name of its result, if it has one."""
        kinds, given = ", ".join([kind for kind, _ in operands]), ", ".join([f"{kind} {x}" for kind, x in operands])
        self.text.declarations[f"declare {result} @llvm.{name}({kinds})"] = None
        call = f"call {result} @llvm.{name}({given})"
        if result == "void":
            self.write(call)
            return ""
        return self.value(call)

    def splat(self, value: str, element: str, lanes: int) -> str:
        """Return a number in all lanes."""
        if lanes == 1:
            return value
        kind = vector(element, lanes)
        first = self.value(f"insertelement {kind} poison, {element} {value}, i64 0")
        return self.value(f"shufflevector {kind} {first}, {kind} poison, {vector('i32', lanes)} zeroinitializer")

    def shuffle(self, value: str, element: str, lanes: int, order: Sequence[int]) -> str:
        """Return lanes of a vector in a new order."""
        kind = vector(element, lanes)
        mask = ", ".join([f"i32 {lane}" for lane in order])
        return self.value(f"shufflevector {kind} {value}, {kind} poison, <{len(order)} x i32> <{mask}>")


def write(region: Region, scalar: Scalar, operands: Sequence[str], lanes: int) -> str:
    """Append one machine operation other than a leaf; return the name of its result."""
    op, dtype = scalar.op, scalar.dtype
    of = scalar.operands[0].dtype
    element = TYPES[of]
    kind = vector(element, lanes)
    if op == "where":
        chosen = vector(TYPES[dtype], lanes)
        flags = vector("i1", lanes)
        return region.value(f"select {flags} {operands[0]}, {chosen} {operands[1]}, {chosen} {operands[2]}")
    if op == "bitcast":
        return region.value(f"bitcast {kind} {operands[0]} to {vector(TYPES[dtype], lanes)}")
    if op == "convert":
        return _conversion(region, scalar, operands[0], lanes)
    if op == "lookup":
        return _lookup(region, scalar, operands[0], lanes)
    if of.kind == "f":
        if op in INTRINSICS:
            name = f"{INTRINSICS[op]}.{suffix(element, lanes)}"
            return region.call(name, kind, [(kind, operand) for operand in operands])
        return region.value(f"{FLOAT_INSTRUCTIONS[op]} {kind} {', '.join(operands)}")
    if op == "absolute":
        return region.call(f"abs.{suffix(element, lanes)}", kind, [(kind, operands[0]), ("i1", "false")])
    if op == "negative":
        operands = [region.text.number(0, of, lanes), *operands]
    instruction = BOOL_COMPARISONS.get(op) if of == BOOL else None
    return region.value(f"{instruction or INTEGER_INSTRUCTIONS[op]} {kind} {', '.join(operands)}")


def _conversion(region: Region, scalar: Scalar, operand: str, lanes: int) -> str:
    source, target = scalar.operands[0].dtype, scalar.dtype
    kind, new = vector(TYPES[source], lanes), vector(TYPES[target], lanes)
    if source.kind == "f" and target.kind == "i":
        return _truncation(region, source, target, operand, lanes)
    if source.kind == "f":
        change = "fpext" if target.itemsize > source.itemsize else "fptrunc"
    elif target.kind == "f":
        change = "uitofp" if source == BOOL else "sitofp"
    elif source == BOOL:
        change = "zext"
    else:
        change = "sext" if target.itemsize > source.itemsize else "trunc"
    return region.value(f"{change} {kind} {operand} to {new}")


def _truncation(region: Region, source: DType, target: DType, operand: str, lanes: int) -> str:
    """Convert floats to integers; NaN, and what is out of range, to what NumPy makes of it on this machine.

    C leaves that undefined, so that NumPy gives what the processor's instruction does: the lowest integer on x86-64,
    the nearest one (and 0 for NaN) on ARM.
    """
    kind, new = vector(TYPES[source], lanes), vector(TYPES[target], lanes)
    if host_target().architecture == "aarch64":
        name = f"fptosi.sat.{suffix(TYPES[target], lanes)}.{suffix(TYPES[source], lanes)}"
        return region.call(name, new, [(kind, operand)])
    lowest = -(2 ** (8 * target.itemsize - 1))
    size = region.call(f"fabs.{suffix(TYPES[source], lanes)}", kind, [(kind, operand)])
    fits = region.value(f"fcmp olt {kind} {size}, {region.text.number(-float(lowest), source, lanes)}")
    whole = region.value(f"fptosi {kind} {operand} to {new}")
    otherwise = region.text.number(lowest, target, lanes)
    return region.value(f"select {vector('i1', lanes)} {fits}, {new} {whole}, {new} {otherwise}")


def _lookup(region: Region, scalar: Scalar, index: str, lanes: int) -> str:
    dtype, table = scalar.payload
    element, width = STORED[dtype], TYPES[scalar.operands[0].dtype]
    name = region.text.numbers(table, dtype)
    if lanes == 1:
        place = region.value(f"getelementptr inbounds {element}, ptr {name}, {width} {index}")
        return region.value(f"load {element}, ptr {place}")
    places = region.value(f"getelementptr inbounds {element}, ptr {name}, {vector(width, lanes)} {index}")
    kind, flags = vector(element, lanes), vector("i1", lanes)
    every = region.text.number(True, BOOL, lanes)
    operands = [(vector("ptr", lanes), places), ("i32", str(dtype.itemsize)), (flags, every), (kind, "poison")]
    return region.call(f"masked.gather.{suffix(element, lanes)}.{suffix('p0', lanes)}", kind, operands)
