"""Compiles LLVM IR for this machine and calls it. llvmlite is imported when the first kernel is compiled."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

_compiling = Lock()  # LLVM's context is shared by all threads of the process


@cache
def target_machine() -> Any:
    """Return LLVM's description of this machine, with vectors as wide as its registers."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    if "prefer-256-bit" in features:
        features["prefer-256-bit"] = False
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3, jit=True
    )


def _optimized(source: str) -> Any:
    import llvmlite.binding as llvm

    machine = target_machine()
    module = llvm.parse_assembly(f'target triple = "{machine.triple}"\n{source}')
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def assembly(source: str) -> str:
    """Return the machine code that `source` compiles to, as text, for people to read."""
    with _compiling:
        machine = target_machine()
        return machine.emit_assembly(_optimized(source))


class NativeKernel:
    """A compiled kernel; the code lives as long as this object.

    Args:
        source: LLVM IR with one function `name(ptr buffers, i64 begin, i64 end)`.
        name: its symbol.
    """

    __slots__ = ("_call", "_engine")

    def __init__(self, source: str, name: str = "kernel") -> None:
        import llvmlite.binding as llvm

        with _compiling:
            module = _optimized(source)
            self._engine = llvm.create_mcjit_compiler(module, target_machine())
            self._engine.finalize_object()
            address = self._engine.get_function_address(name)
        prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        self._call = prototype(address)

    def __call__(self, arrays: Sequence[np.ndarray], begin: int, end: int) -> None:
        """Run on C-contiguous arrays, inputs and then outputs, from element `begin` to `end`. Releases the GIL."""
        buffers = (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
        self._call(buffers, begin, end)
