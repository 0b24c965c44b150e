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
from .compiling import compile_kernels

BLOCK = 256
"""Bytes that are taken in at a time."""

_LANES = 32
_ODD = 0x9E37_79B9_7F4A_7C15  # 2**64 over the golden ratio, which is odd
_SIGNED = _ODD - (1 << 64)


def _source() -> str:
    kind = f"<{_LANES} x i64>"
    odd = f"<{', '.join([f'i64 {_SIGNED}'] * _LANES)}>"
    begin = f"<{', '.join([f'i64 {lane + 1}' for lane in range(_LANES)])}>"
    far = f"<{', '.join(['i64 32'] * _LANES)}>"
    lines = [
        "define void @NAME(ptr %operands, i64 %begin, i64 %end, ptr %scratch) {",
        "entry:",
        "  %slot = getelementptr ptr, ptr %operands, i64 1",
        "  %data = load ptr, ptr %operands",
        "  %out = load ptr, ptr %slot",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [ %begin, %entry ], [ %next, %take ]",
        f"  %h = phi {kind} [ {begin}, %entry ], [ %mixed, %take ]",
        "  %more = icmp slt i64 %i, %end",
        "  br i1 %more, label %take, label %join",
        "take:",
        f"  %at = getelementptr {kind}, ptr %data, i64 %i",
        f"  %word = load {kind}, ptr %at, align 1",
        f"  %x = xor {kind} %h, %word",
        f"  %m = mul {kind} %x, {odd}",
        f"  %s = lshr {kind} %m, {far}",
        f"  %mixed = xor {kind} %m, %s",
        "  %next = add i64 %i, 1",
        "  br label %loop",
        "join:",
    ]
    total = "0"
    for lane in range(_LANES):
        lines += [
            f"  %l{lane} = extractelement {kind} %h, i64 {lane}",
            f"  %x{lane} = xor i64 {total}, %l{lane}",
            f"  %m{lane} = mul i64 %x{lane}, {_SIGNED}",
            f"  %s{lane} = lshr i64 %m{lane}, 32",
            f"  %t{lane} = xor i64 %m{lane}, %s{lane}",
        ]
        total = f"%t{lane}"
    return "\n".join([*lines, f"  store i64 {total}, ptr %out", "  ret void", "}", ""])


@cache
def _native() -> Any:
    source = _source()
    name = f"fingerprint_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    address = compile_kernels([Kernel(name, source.replace("NAME", name), (), 1, 1)])[name]
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(address)


def fingerprint(data: np.ndarray) -> int:
    """Return the fingerprint of bytes in a row, of which there are a multiple of `BLOCK`."""
    made = np.zeros(1, np.uint64)
    operands = np.array([data.ctypes.data, made.ctypes.data], np.uint64)
    _native()(operands.ctypes.data, 0, data.nbytes // BLOCK, None)
    return int(made[0])


__all__ = ["BLOCK", "fingerprint"]
