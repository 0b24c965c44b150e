"""Fingerprints of memory: 64 bits that tell, at the speed of memory, whether any byte of a large array has changed.

Thirty-two lanes take in a word each in turn: `h = (h ^ word) * odd`, then `h ^= h >> 32`. For a given word that is a
bijection of h, and for a given h one of the word, and so are the same steps that join the lanes at the end. So one word
that changes always changes the fingerprint; several leave it as it was with a chance of 1 in 2^64. The scheme is that
of Fowler, Noll and Vo (FNV-1a) on words in place of bytes; nothing in it resists those who look for collisions.
"""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache
from typing import Any

import numpy as np

from ..kernels import Kernel
from .compiling import compile_for_good, module_of

BLOCK = 256
"""Bytes that are taken in at a time."""

_WIDTH, _VECTORS = 8, 4
_LANES = _WIDTH * _VECTORS
_ODD = 0x9E37_79B9_7F4A_7C15  # 2**64 over the golden ratio, which is odd
_SIGNED = _ODD - (1 << 64)
_KIND = f"<{_WIDTH} x i64>"


def _each(values: list[int]) -> str:
    return f"<{', '.join([f'i64 {value}' for value in values])}>"


def _source() -> str:
    begins = [_each(list(range(_WIDTH * v + 1, _WIDTH * (v + 1) + 1))) for v in range(_VECTORS)]
    head = [
        "define void @NAME(ptr %operands, i64 %begin, i64 %end, ptr %scratch) {",
        "entry:",
        f"  %lanes = alloca [{_LANES} x i64]",
        "  %slot = getelementptr ptr, ptr %operands, i64 1",
        "  %data = load ptr, ptr %operands",
        "  %out = load ptr, ptr %slot",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [ %begin, %entry ], [ %next, %take ]",
        *[f"  %h{v} = phi {_KIND} [ {begins[v]}, %entry ], [ %mixed{v}, %take ]" for v in range(_VECTORS)],
        "  %more = icmp slt i64 %i, %end",
        "  br i1 %more, label %take, label %kept",
        "take:",
        f"  %block = getelementptr [{BLOCK} x i8], ptr %data, i64 %i",
    ]
    body = [line for v in range(_VECTORS) for line in _taken_in(v)]
    tail = [
        "  %next = add i64 %i, 1",
        "  br label %loop",
        "kept:",
        *[line for v in range(_VECTORS) for line in _stored(v)],
        "  br label %join",
        "join:",
        "  %k = phi i64 [ 0, %kept ], [ %after, %join ]",
        "  %total = phi i64 [ 0, %kept ], [ %t, %join ]",
        "  %lane = getelementptr i64, ptr %lanes, i64 %k",
        "  %l = load i64, ptr %lane",
        "  %x = xor i64 %total, %l",
        f"  %m = mul i64 %x, {_SIGNED}",
        "  %s = lshr i64 %m, 32",
        "  %t = xor i64 %m, %s",
        "  %after = add i64 %k, 1",
        f"  %done = icmp eq i64 %after, {_LANES}",
        "  br i1 %done, label %end_, label %join",
        "end_:",
        "  store i64 %t, ptr %out",
        "  ret void",
        "}",
        "",
    ]
    return "\n".join([*head, *body, *tail])


def _taken_in(v: int) -> list[str]:
    return [
        f"  %at{v} = getelementptr {_KIND}, ptr %block, i64 {v}",
        f"  %word{v} = load {_KIND}, ptr %at{v}, align 1",
        f"  %x{v} = xor {_KIND} %h{v}, %word{v}",
        f"  %m{v} = mul {_KIND} %x{v}, {_each([_SIGNED] * _WIDTH)}",
        f"  %s{v} = lshr {_KIND} %m{v}, {_each([32] * _WIDTH)}",
        f"  %mixed{v} = xor {_KIND} %m{v}, %s{v}",
    ]


def _stored(v: int) -> list[str]:
    return [
        f"  %home{v} = getelementptr i64, ptr %lanes, i64 {_WIDTH * v}",
        f"  store {_KIND} %h{v}, ptr %home{v}, align 8",
    ]


@cache
def _native() -> Any:
    source = _source()
    name = f"fingerprint_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    address = compile_for_good(module_of([Kernel(name, source.replace("NAME", name), (), 1, 1)]))[name]
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(address)


def fingerprint(data: np.ndarray) -> int:
    """Return the fingerprint of bytes in a row, of which there are a multiple of `BLOCK`."""
    made = np.zeros(1, np.uint64)
    operands = np.array([data.ctypes.data, made.ctypes.data], np.uint64)
    _native()(operands.ctypes.data, 0, data.nbytes // BLOCK, None)
    return int(made[0])


__all__ = ["BLOCK", "fingerprint"]
