"""Compiles LLVM IR for this machine and calls it. llvmlite is imported when the first kernel is compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import count
from threading import Lock
from typing import Any

import numpy as np

_compiling = Lock()  # LLVM's context is shared by all threads of the process
_next_library = count().__next__


@cache
def _target_machine() -> Any:
    """Return LLVM's description of this machine, with vectors as wide as its registers."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    features = llvm.get_host_cpu_features().flatten()
    if target.triple.startswith("x86_64"):
        features += ",-prefer-256-bit"  # some CPUs are described as preferring half of their registers
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)


@cache
def _linker() -> Any:
    """Return the one linker of the process; what it links is freed piece by piece."""
    import llvmlite.binding as llvm

    return llvm.create_lljit_compiler()


def _optimized(source: str) -> Any:
    import llvmlite.binding as llvm

    machine = _target_machine()
    module = llvm.parse_assembly(f'target triple = "{machine.triple}"\n{source}')
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def compile_object(source: str) -> bytes:
    """Return the object file that LLVM IR compiles to on this machine."""
    with _compiling:
        module = _optimized(source)
        return _target_machine().emit_object(module)


def assembly(source: str) -> str:
    """Return the machine code that LLVM IR compiles to, as text for people to read."""
    with _compiling:
        module = _optimized(source)
        return _target_machine().emit_assembly(module)


class NativeKernel:
    """A compiled kernel, linked and ready to call; its code lives as long as this object.

    Args:
        code: an object file with one function `name(ptr buffers, i64 begin, i64 end)`.
        name: its symbol.
    """

    __slots__ = ("_call", "_library")

    def __init__(self, code: bytes, name: str = "kernel") -> None:
        import llvmlite.binding as llvm

        with _compiling:
            builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(name)
            self._library = builder.link(_linker(), f"wengert_{_next_library()}")
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        self._call = prototype(self._library[name])

    def __call__(self, arrays: Sequence[np.ndarray], begin: int, end: int) -> None:
        """Run on C-contiguous arrays, inputs and then outputs, from element `begin` to `end`. Releases the GIL."""
        buffers = (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
        self._call(buffers, begin, end)
