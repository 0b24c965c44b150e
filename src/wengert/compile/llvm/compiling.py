"""From LLVM IR to addresses of functions: optimised, compiled, kept on disk, linked into the process.

Code stays in the process for good: equal kernels are compiled once, so what there is of it is bounded by how many
different ones there are, and nobody has to know who still calls it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import count
from threading import Lock
from typing import Any, NamedTuple

from ..kernels import Kernel
from .disk_cache import DiskCache, default_directory
from .target import host_target, target_machine

FORMAT = "1"
"""Part of every key on disk; changed when the same IR is to be compiled differently."""


class Pipeline(NamedTuple):
    """How hard LLVM works on a module.

    Attributes:
        passes: level of its optimiser, 0 to 3.
        codegen: level of its code generator, 0 to 3.
        vectorize: whether it looks for loops and expressions to vectorise.
    """

    passes: int
    codegen: int
    vectorize: bool


EXPLICIT = Pipeline(1, 2, False)
"""For kernels whose IR is made of vectors already."""
SCALAR = Pipeline(3, 3, True)
"""For scalar loops that are to become vector loops."""


class Module(NamedTuple):
    """LLVM IR to be compiled as one, and the functions in it that are asked for."""

    source: str
    exports: tuple[str, ...]


_lock = Lock()
_addresses: dict[str, int] = {}
_libraries: list[Any] = []
_next_library = count().__next__


def _new_lock() -> None:
    """Replace the lock in a forked child, where the thread that held it may not exist."""
    global _lock
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


@cache
def _linker() -> Any:
    """Return the one linker of the process."""
    import llvmlite.binding as llvm

    return llvm.create_lljit_compiler()


@cache
def _disk() -> DiskCache | None:
    """Return the cache of the user's choice; None where it is switched off."""
    directory = default_directory()
    return None if directory is None else DiskCache(directory)


def optimized(source: str, pipeline: Pipeline) -> tuple[Any, Any]:
    """Return LLVM's module for IR, optimised, and the code generator to use on it.

    The module has a context of its own, so that threads don't share what LLVM says they must not.
    """
    import llvmlite.binding as llvm

    machine = target_machine(pipeline.codegen)
    module = llvm.parse_assembly(f'target triple = "{machine.triple}"\n{source}', llvm.create_context())
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=pipeline.passes)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = pipeline.vectorize
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module, machine


def compile_object(source: str, pipeline: Pipeline = SCALAR) -> bytes:
    """Return the object file that LLVM IR compiles to on this machine."""
    host_target()
    module, machine = optimized(source, pipeline)
    return machine.emit_object(module)


def assembly(source: str, pipeline: Pipeline = SCALAR) -> str:
    """Return the machine code that LLVM IR compiles to, as text for people to read."""
    host_target()
    module, machine = optimized(source, pipeline)
    return machine.emit_assembly(module)


def link(code: bytes, exports: Iterable[str]) -> tuple[Any, dict[str, int]]:
    """Bring an object file into the process; return what keeps it there, and the addresses of its functions."""
    import llvmlite.binding as llvm

    exports = tuple(exports)
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    for name in exports:
        builder.export_symbol(name)
    library = builder.link(_linker(), f"wengert_{_next_library()}")
    return library, {name: library[name] for name in exports}


def object_of(module: Module, pipeline: Pipeline) -> bytes:
    """Return a module's object file, from disk if it is there."""
    disk = _disk()
    if disk is None:
        return compile_object(module.source, pipeline)
    parts = (FORMAT, *host_target(), *map(str, pipeline), module.source)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    code = disk.get(key)
    if code is None:
        code = compile_object(module.source, pipeline)
        disk.put(key, code)
    return code


def compile_module(module: Module, pipeline: Pipeline = EXPLICIT) -> dict[str, int]:
    """Return the addresses of a module's functions; compiled once in the life of the process, by its names."""
    with _lock:
        if not all([name in _addresses for name in module.exports]):
            library, addresses = link(object_of(module, pipeline), module.exports)
            _libraries.append(library)
            _addresses.update(addresses)
        return {name: _addresses[name] for name in module.exports}


def module_of(kernels: Sequence[Kernel]) -> Module:
    """Return one module that holds kernels, in the order of their names: programs that share them share it."""
    kernels = sorted(kernels, key=_name)
    declarations = dict.fromkeys([line for kernel in kernels for line in kernel.declarations])
    source = "\n".join([*sorted(declarations), *[kernel.source for kernel in kernels], ""])
    return Module(source, tuple([kernel.name for kernel in kernels]))


def _name(kernel: Kernel) -> str:
    return kernel.name


def compile_kernels(kernels: Iterable[Kernel], pipeline: Pipeline = EXPLICIT) -> dict[str, int]:
    """Return the address of each kernel's function, by name; those that are new are compiled, as one module.

    Raises:
        NativeCodeError: no native code can be made here.
    """
    wanted = {kernel.name: kernel for kernel in kernels}
    with _lock:
        unknown = [kernel for name, kernel in wanted.items() if name not in _addresses]
        if unknown:
            module = module_of(unknown)
            library, addresses = link(object_of(module, pipeline), module.exports)
            _libraries.append(library)
            _addresses.update(addresses)
        return {name: _addresses[name] for name in wanted}
