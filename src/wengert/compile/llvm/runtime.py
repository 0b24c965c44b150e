"""Calls single kernels on NumPy arrays; whole programs of them are in `program`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from .compiling import assembly, compile_object, link

__all__ = ["NativeKernel", "assembly", "compile_object"]


class NativeKernel:
    """A compiled kernel, linked and ready to call; its code lives as long as this object.

    Args:
        code: an object file with one function `name(ptr buffers, i64 begin, i64 end)`.
        name: its symbol.
    """

    __slots__ = ("_call", "_library")

    def __init__(self, code: bytes, name: str = "kernel") -> None:
        self._library, addresses = link(code, [name])
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        self._call = prototype(addresses[name])

    def __call__(self, arrays: Sequence[np.ndarray], begin: int, end: int) -> None:
        """Run on C-contiguous arrays, inputs and then outputs, from element `begin` to `end`. Releases the GIL."""
        buffers = (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
        self._call(buffers, begin, end)
