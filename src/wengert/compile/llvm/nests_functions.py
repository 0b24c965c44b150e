"""Functions of mathematics as functions of LLVM IR: those that a kernel calls often, and those for rare arguments.

A body with hundreds of copies of a polynomial takes long to compile and leaves the instruction cache; a call costs a
few cycles. The forms that hold for any argument are needed so rarely that they are small rather than fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from ..scalar_ir import SIGNATURES, DType, Scalar, ScalarFunction, apply, input_scalar, topological
from ..scalar_math import ANYWHERE, lower
from .vectors import SYMBOL, TYPES, Region, Text, vector, write


class Helper(NamedTuple):
    """A function of the module, with what it needs beside it; names begin with the kernel's."""

    name: str
    lines: tuple[str, ...]
    declarations: tuple[str, ...]
    tables: tuple[str, ...] = ()
    careful: tuple[str, DType, int] | None = None


def call(region: Region, op: str, dtype: DType, operands: Sequence[str], lanes: int) -> str:
    """Append a call of a function of mathematics; its code is written once for each type."""
    kind = vector(TYPES[dtype], lanes)
    name = _use(region.text, _quick(op, dtype, lanes))
    return region.value(f"call {kind} {name}({', '.join([f'{kind} {operand}' for operand in operands])})")


def guarded(region: Region, op: str, dtype: DType, lanes: int, names: tuple[str, str, str]) -> str:
    """Append the choice of a function's careful form where an argument is out of range for the quick one.

    Args:
        region: where to.
        op, dtype, lanes: the function.
        names: whether arguments are in range, the argument, and the result of the quick form.
    """
    _use(region.text, _careful(op, dtype, lanes))
    return _choice(region, op, dtype, lanes, names)


def _choice(region: Region, op: str, dtype: DType, lanes: int, names: tuple[str, str, str]) -> str:
    text, kind = region.text, vector(TYPES[dtype], lanes)
    good, operand, quick = names
    if lanes > 1:
        good = region.call(f"vector.reduce.and.v{lanes}i1", "i1", [(vector("i1", lanes), good)])
    careful, join, before = text.label(), text.label(), region.label
    region.write(f"br i1 {good}, label %{join}, label %{careful}")
    region.start(careful)
    slow = region.value(f"call {kind} {_symbol(op, dtype, lanes, 'anywhere')}({kind} {operand})")
    region.write(f"br label %{join}")
    region.start(join)
    return region.value(f"phi {kind} [ {quick}, %{before} ], [ {slow}, %{careful} ]")


def _symbol(op: str, dtype: DType, lanes: int, form: str) -> str:
    return f"{SYMBOL}.{op}.{form}.{dtype}x{lanes}"


def _use(text: Text, helper: Helper) -> str:
    """Add a helper to a module, if it is not there; return its symbol."""
    if helper.name not in text.helpers:
        text.helpers[helper.name] = [*helper.tables, *helper.lines]
        text.declarations.update(dict.fromkeys(helper.declarations))
        if helper.careful is not None:
            _use(text, _careful(*helper.careful))
    return helper.name


@cache
def _quick(op: str, dtype: DType, lanes: int) -> Helper:
    inputs = tuple([input_scalar(f"x{place}", dtype) for place in range(len(SIGNATURES[op].operands))])
    function, in_range = lower(ScalarFunction(op, inputs, (apply(op, *inputs),)))
    kind, name = vector(TYPES[dtype], lanes), _symbol(op, dtype, lanes, "quick")
    region = Region(Text(name), "entry")
    names = {scalar: f"%x{place}" for place, scalar in enumerate(inputs)}
    wanted = function.outputs if in_range is None else (*function.outputs, in_range)
    _write_all(region, wanted, names, lanes)
    result = names[function.outputs[0]]
    if in_range is not None:
        result = _choice(region, op, dtype, lanes, (names[in_range], "%x0", result))
    given = ", ".join([f"{kind} %x{place}" for place in range(len(inputs))])
    head = f"define private {kind} {name}({given}) noinline {{"
    lines = (head, "entry:", *region.text.constant_lines(), *region.lines, f"  ret {kind} {result}", "}")
    careful = None if in_range is None else (op, dtype, lanes)
    return Helper(name, lines, tuple(region.text.declarations), tuple(region.text.table_lines()), careful)


def _write_all(region: Region, outputs: Sequence[Scalar], names: dict[Scalar, str], lanes: int) -> None:
    for scalar in topological(outputs):
        if scalar.op == "constant":
            names[scalar] = region.text.number(scalar.payload, scalar.dtype, lanes)
        elif scalar not in names:
            names[scalar] = write(region, scalar, [names[operand] for operand in scalar.operands], lanes)


@cache
def _careful(op: str, dtype: DType, lanes: int) -> Helper:
    assert op in ANYWHERE
    x = input_scalar("x", dtype)
    function, _ = lower(ScalarFunction(op, (x,), (apply(op, x),)), anywhere=True)
    element, kind, name = TYPES[dtype], vector(TYPES[dtype], lanes), _symbol(op, dtype, lanes, "anywhere")
    region = Region(Text(name), "lane")
    names = {x: "%x" if lanes == 1 else region.value(f"extractelement {kind} %x, i64 %i")}
    _write_all(region, function.outputs, names, 1)
    result = names[function.outputs[0]]
    head = f"define private {kind} {name}({kind} %x) cold noinline {{"
    body = [*region.lines, f"  ret {kind} {result}"]
    if lanes > 1:
        body = _lane_by_lane(kind, lanes, region.lines, f"{element} {result}")
    known = region.text
    return Helper(name, (head, *body, "}"), tuple(known.declarations), tuple(known.table_lines()))


def _lane_by_lane(kind: str, lanes: int, lines: Sequence[str], result: str) -> list[str]:
    return [
        "entry:",
        "  br label %lane",
        "lane:",
        "  %i = phi i64 [ 0, %entry ], [ %next, %lane ]",
        f"  %sofar = phi {kind} [ zeroinitializer, %entry ], [ %with, %lane ]",
        *lines,
        f"  %with = insertelement {kind} %sofar, {result}, i64 %i",
        "  %next = add nuw nsw i64 %i, 1",
        f"  %more = icmp ult i64 %next, {lanes}",
        "  br i1 %more, label %lane, label %done",
        "done:",
        f"  ret {kind} %with",
    ]
