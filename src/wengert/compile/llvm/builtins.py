"""Native code that Python calls as it calls functions of its own: 0.03 us a call, where ctypes takes 0.4.

CPython makes a function out of any address: a definition, whose layout is part of its stable ABI, and an object that
the code is handed at each call. That object is a `bytes` here, which holds the address of the words that the code
works on. What it returns is one of two lists, a true and a false one, with one reference more: unlike `True` and
`False` they are mortal, so that this is an addition in all versions.

The code is called with the GIL held, which must be for moments only.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

PAYLOAD = bytes.__basicsize__ - 1
"""How far from its address a `bytes` has its contents."""
_NO_ARGUMENTS = 4
"""CPython's METH_NOARGS."""

ANSWER = f"""
define internal ptr @words(ptr %self) alwaysinline {{
  %place = getelementptr i8, ptr %self, i64 {PAYLOAD}
  %words = load ptr, ptr %place
  ret ptr %words
}}

define internal ptr @answer(ptr %words, i1 %verdict) alwaysinline {{
  %no.place = getelementptr ptr, ptr %words, i64 1
  %yes = load ptr, ptr %words
  %no = load ptr, ptr %no.place
  %answer = select i1 %verdict, ptr %yes, ptr %no
  %count = load i64, ptr %answer
  %more = add i64 %count, 1
  store i64 %more, ptr %answer
  ret ptr %answer
}}
"""
"""LLVM IR of what such code, `ptr @NAME(ptr %self, ptr %nothing)`, begins and ends with: its words, from the third on
the caller's; and what it returns."""


class _Definition(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


class _Self(bytes):
    """The object that the code is handed; it keeps alive what the words speak of."""

    held: tuple[Any, ...]


def are_possible() -> bool:
    """Return whether this interpreter is CPython, with a GIL and words of 64 bits."""
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    return sys.implementation.name == "cpython" and bool(has_lock) and sys.maxsize == 2**63 - 1


@cache
def _definition(address: int, name: str) -> _Definition:
    return _Definition(name.encode(), address, _NO_ARGUMENTS, None)  # kept for good: functions refer to it


@cache
def _maker() -> Callable[..., Any]:
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return prototype(("PyCFunction_NewEx", ctypes.pythonapi))


def builtin(address: int, name: str, words: Sequence[int], held: Any) -> Callable[[], Any]:
    """Return a function that calls native code on words, and returns something true or false.

    Args:
        address: of the code.
        name: what the function is called.
        words: numbers and addresses that the code reads from its third word on.
        held: what must live as long as the function.
    """
    yes, no = [True], []
    table = np.array([id(yes), id(no), *words], np.int64)
    handed = _Self(struct.pack("=q", table.ctypes.data))
    handed.held = (yes, no, table, held)
    return _maker()(ctypes.addressof(_definition(address, name)), handed, None)
