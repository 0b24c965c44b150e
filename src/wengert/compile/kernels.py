"""Kernels and jobs: the units of native code, and of work, that a compiled program is made of.

A kernel is one function of LLVM IR,

    define void @NAME(ptr %operands, i64 %begin, i64 %end, ptr %scratch)

where `operands` is an array of addresses, `begin` and `end` say which of its units of work to do, and `scratch` is
memory of the calling thread, aligned to 64 bytes. Units are independent: any division among threads gives the same
bits. Kernels know no addresses and no program; equal ones are compiled once.
"""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """Part of an operand that units of work touch, in rows: so many units after another touch no more than a row of it.

    Row r are bytes from `low` + r * `pitch` on, `extent` of them.

    Attributes:
        operand: number of the operand.
        per: how many units a row has.
        low, pitch, extent: in bytes; with a pitch of 0, any unit may touch all that there is.
        writes: whether something is written, and not only read.
    """

    operand: int
    per: int
    low: int
    pitch: int
    extent: int
    writes: bool


class Kernel(NamedTuple):
    """Native code in the making.

    Attributes:
        name: its symbol: readable, and ending in a digest of the source, so that equal names mean equal code.
        source: LLVM IR of the function, with private helpers and tables whose names begin with its own.
        declarations: lines that declare the intrinsics used.
        units: how much work there is.
        grain: the least number of units that is worth another thread's while.
        scratch: bytes of scratch memory that each thread needs.
        flops, moved: arithmetic operations, and bytes read and written at least: for people and rooflines.
        spans: where units touch operands, and nowhere else; () if that is not known.
    """

    name: str
    source: str
    declarations: tuple[str, ...]
    units: int
    grain: int
    scratch: int = 0
    flops: int = 0
    moved: int = 0
    spans: tuple[Span, ...] = ()


class Place(NamedTuple):
    """Where an operand begins: `offset` bytes into the arena (base 0), or into the external array number base - 1."""

    base: int
    offset: int


class Job(NamedTuple):
    """One run of a kernel within a program; jobs run one after the other, each on all threads if that is worth it."""

    kernel: Kernel
    operands: tuple[Place, ...]
