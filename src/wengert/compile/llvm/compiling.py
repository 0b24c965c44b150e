"""From LLVM IR to addresses of functions: compiled on all cores, kept on disk, linked into the process.

Each kernel is compiled by itself, so that those that programs have in common are found again, in memory and on disk.
Code is a Python object, which programs hold: what none of them holds any more is unloaded.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread, main_thread
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from ..kernels import Kernel
from .disk_cache import DiskCache, default_directory
from .target import available_cores, host_target, target_machine

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


EXPLICIT = Pipeline(0, 1, False)
"""For kernels whose IR is made of vectors already: the optimiser doubles the time to compile them, unrolls loops that
are unrolled as they should be, and made none of them faster. Nor does the code generator's level 2, which takes a
twentieth longer, for code of the same sizes and speed."""
SCALAR = Pipeline(3, 3, True)
"""For scalar loops that are to become vector loops."""

PLAIN = Pipeline(0, 0, False)
"""For code that is to be compiled fast."""


class Module(NamedTuple):
    """LLVM IR to be compiled as one, and the functions in it that are asked for."""

    source: str
    exports: tuple[str, ...]


def module_of(kernels: Sequence[Kernel]) -> Module:
    """Return one module that holds kernels."""
    declarations = dict.fromkeys([line for kernel in kernels for line in kernel.declarations])
    source = "\n".join([*declarations, *[kernel.source for kernel in kernels], ""])
    return Module(source, tuple([kernel.name for kernel in kernels]))


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


def optimized(source: str, pipeline: Pipeline, machine: Any) -> Any:
    """Return LLVM's module for IR, optimised for a code generator.

    The module has a context of its own, so that threads don't share what LLVM says they must not.
    """
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(f'target triple = "{machine.triple}"\n{source}', llvm.create_context())
    module.verify()
    if pipeline.passes or "alwaysinline" in source:
        options = llvm.create_pipeline_tuning_options(speed_level=pipeline.passes)
        options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = pipeline.vectorize
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
    return module


def compile_object(source: str, pipeline: Pipeline = SCALAR, machine: Any = None) -> bytes:
    """Return the object file that LLVM IR compiles to on this machine.

    Args:
        source: the IR.
        pipeline: how hard LLVM works on it.
        machine: a code generator for the pipeline's level that no other thread uses now; a new one by default.
    """
    if machine is None:
        machine = target_machine(pipeline.codegen)
    return _emitted(optimized(source, pipeline, machine), machine)


def _emitted(module: Any, machine: Any) -> bytes:
    """Return a module's object file, generated beside other threads where llvmlite lets us.

    llvmlite has one lock around all of LLVM. Generating code takes nearly all of the time, and LLVM allows it on any
    number of threads with contexts and code generators of their own, so that this one function is called without.
    """
    from llvmlite.binding import ffi

    emit = getattr(ffi.lib.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
    if emit is None:
        return machine.emit_object(module)
    with ffi.OutputString() as message:
        buffer = emit(machine, module, 1, message)
        if not buffer:
            raise RuntimeError(str(message))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def assembly(source: str, pipeline: Pipeline = SCALAR) -> str:
    """Return the machine code that LLVM IR compiles to, as text for people to read."""
    machine = target_machine(pipeline.codegen)
    return machine.emit_assembly(optimized(source, pipeline, machine))


class Code:
    """A function of native code, which stays in the process as long as this does.

    Attributes:
        address: of the function.
    """

    __slots__ = ("__weakref__", "_library", "address")

    def __init__(self, address: int, library: Any) -> None:
        self.address = address
        self._library = library


_next_library = count().__next__
MAPPINGS = 8
"""No linked object takes more of the mappings of memory that Linux grants a process: it was three or four."""
RESERVE = 4096
"""Mappings that are left to others: when there are none, LLVM ends the process."""
_linked = [0]


def _demand_mappings(objects: int) -> None:
    """Refuse to link more where the process would run out of mappings of memory.

    Raises:
        RuntimeError: it would; NumPy computes what has no kernel.
    """
    _linked[0] += objects
    most = _most_mappings()
    if _linked[0] * MAPPINGS < most - RESERVE:
        return
    taken = _taken_mappings()
    if taken + objects * MAPPINGS > most - RESERVE:
        gc.collect()  # programs that only hold each other hold code as well
        taken = _taken_mappings()
    _linked[0] = taken // MAPPINGS
    if taken + objects * MAPPINGS > most - RESERVE:
        told = (
            f"this process has compiled so many kernels that it runs out of mappings of memory ({taken} of {most}); "
            "what is new is computed by NumPy. sysctl vm.max_map_count grants more"
        )
        warnings.warn(told, RuntimeWarning, stacklevel=2)
        raise RuntimeError(told)


def _taken_mappings() -> int:
    return Path("/proc/self/maps").read_bytes().count(b"\n")


@cache
def _most_mappings() -> int:
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text())
    except (OSError, ValueError):
        return 1 << 62  # no such limit is known here


def link(code: bytes | Sequence[bytes], exports: Iterable[str]) -> tuple[Any, dict[str, int]]:
    """Bring object files into the process; return what keeps them there, and the addresses of their functions."""
    import llvmlite.binding as llvm

    host_target()
    exports = tuple(exports)
    objects = [code] if isinstance(code, bytes) else code
    _demand_mappings(len(objects))
    builder = llvm.JITLibraryBuilder().add_current_process()
    for item in objects:
        builder.add_object_img(item)
    for name in exports:
        builder.export_symbol(name)
    library = builder.link(_linker(), f"wengert_{_next_library()}")
    return library, {name: library[name] for name in exports}


def object_of(module: Module, pipeline: Pipeline, machine: Any, unsaved: deque[tuple[str, bytes]]) -> bytes:
    """Return a module's object file, from disk if it is there; other arguments as for `compile_object`.

    Where code that is compiled fast will do, code that was compiled with more effort will do as well. New code is added
    to `unsaved`, by key: it is to be put on disk when nobody waits for what is being compiled.
    """
    disk = _disk()
    if disk is None:
        return compile_object(module.source, pipeline, machine)
    for better in (EXPLICIT, PLAIN) if pipeline == PLAIN else (pipeline,):
        code = disk.get(_key(module, better))
        if code is not None:
            return code
    code = compile_object(module.source, pipeline, machine)
    unsaved.append((_key(module, pipeline), code))
    return code


def _key(module: Module, pipeline: Pipeline) -> str:
    parts = (FORMAT, *host_target(), *map(str, pipeline), module.source)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class _Task:
    """A module to be compiled: in the queue, being compiled, or done, with its object file or what went wrong.

    Attributes:
        wanted: whether somebody waits for it.
    """

    __slots__ = ("code", "done", "error", "module", "pipeline", "wanted")

    def __init__(self, module: Module, pipeline: Pipeline) -> None:
        self.module, self.pipeline = module, pipeline
        self.done = Event()
        self.wanted = False
        self.code = b""
        self.error: BaseException | None = None

    def run(self, machines: dict[int, Any], unsaved: deque[tuple[str, bytes]]) -> None:
        """Compile the module, with a code generator of the calling thread's."""
        try:
            effort = self.pipeline.codegen
            if effort not in machines:
                machines[effort] = target_machine(effort)
            self.code = object_of(self.module, self.pipeline, machines[effort], unsaved)
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()


MOST_WAITING = 512
"""Modules that were begun and not asked for yet: what began them may be gone. Of more, the oldest are dropped."""


class Compiler:
    """Compiles modules on all cores, and knows what it has compiled and is still held, by name."""

    def __init__(self, codes: WeakValueDictionary[str, Code]) -> None:
        self.codes = codes
        self._tasks: dict[str, _Task] = {}
        self._queue: deque[_Task] = deque()
        self._unsaved: deque[tuple[str, bytes]] = deque()
        self._lock = Lock()
        self._helpers: list[Thread] = []

    def begin(self, modules: Iterable[Module], pipeline: Pipeline) -> None:
        """Have modules compiled that aren't yet, in the background."""
        host_target()
        with self._lock:
            unknown = [module for module in modules if module.exports[0] not in self.codes]
            self._forget_idle()
            for module in sorted(unknown, key=_length, reverse=True):  # the longest first: none is left for the end
                if module.exports[0] not in self._tasks:
                    task = self._tasks[module.exports[0]] = _Task(module, pipeline)
                    self._queue.append(task)
            self._helpers = [helper for helper in self._helpers if helper.is_alive()]
            for _ in range(min(available_cores() - 1, len(self._queue)) - len(self._helpers)):
                helper = Thread(target=self._work, name="wengert-compiler")  # not a daemon: exit waits for LLVM
                try:
                    helper.start()
                except RuntimeError:  # the system grants no more threads: whoever waits for the code makes it
                    break
                self._helpers.append(helper)

    def _forget_idle(self) -> None:
        """Drop the oldest of what nobody waits for, where that is much; called with the lock."""
        if len(self._tasks) <= MOST_WAITING:
            return
        for name in list(self._tasks)[:-MOST_WAITING]:
            task = self._tasks[name]
            if task.wanted:
                continue
            if not task.done.is_set():
                try:
                    self._queue.remove(task)
                except ValueError:  # it is being compiled
                    continue
            del self._tasks[name]

    def finish(self, modules: Iterable[Module], pipeline: Pipeline) -> dict[str, Code]:
        """Return the code of these modules' functions by name, when all of them are compiled."""
        missing = list(modules)
        found: dict[str, Code] = {}
        while missing:
            for module in missing:
                codes = [self.codes.get(name) for name in module.exports]
                found.update({name: code for name, code in zip(module.exports, codes) if code is not None})
            missing = [module for module in missing if not all([name in found for name in module.exports])]
            if missing:
                found.update(self._finished(missing, pipeline))
        self._save()
        return found

    def _finished(self, modules: Sequence[Module], pipeline: Pipeline) -> dict[str, Code]:
        """Return the code of those of the modules that nobody else has brought into the process in the meantime."""
        self.begin(modules, pipeline)
        with self._lock:
            found = [self._tasks.get(module.exports[0]) for module in modules]
            tasks = list(dict.fromkeys([task for task in found if task is not None]))
            for task in tasks:
                task.wanted = True
        machines: dict[int, Any] = {}
        for task in tasks:
            while not task.done.is_set() and self._take(machines):
                pass
            task.done.wait()
        with self._lock:
            try:
                return self._link(tasks)
            finally:
                for task in tasks:
                    self._tasks.pop(task.module.exports[0], None)

    def ready(self, modules: Iterable[Module]) -> bool:
        """Return whether modules that were begun are compiled, or have failed to."""
        tasks = [self._tasks.get(module.exports[0]) for module in modules]
        return all([task is None or task.done.is_set() for task in tasks])

    def _work(self) -> None:
        """Compile what is in the queue until it is empty, or the process is about to end."""
        machines: dict[int, Any] = {}
        while main_thread().is_alive() and self._take(machines):
            pass
        self._save()

    def _take(self, machines: dict[int, Any]) -> bool:
        """Compile the first in the queue; return False if there was none."""
        try:
            task = self._queue.popleft()
        except IndexError:
            return False
        task.run(machines, self._unsaved)
        return True

    def _save(self) -> None:
        """Put on disk what is not there yet."""
        disk = _disk()
        while disk is not None and self._unsaved:
            with suppress(IndexError):  # another thread has put the last one there
                disk.put(*self._unsaved.popleft())

    def _link(self, tasks: Sequence[_Task]) -> dict[str, Code]:
        for task in tasks:
            if task.error is not None:
                raise task.error
        tasks = [task for task in tasks if task.module.exports[0] not in self.codes]  # or another caller has
        if not tasks:
            return {}
        names = [name for task in tasks for name in task.module.exports]
        library, addresses = link([task.code for task in tasks], names)
        made = {name: Code(address, library) for name, address in addresses.items()}
        self.codes.update(made)
        return made

    def pause(self) -> None:
        """Wait until nothing is being compiled in the background."""
        for helper in self._helpers:
            helper.join()


def _length(module: Module) -> int:
    return len(module.source)


_compilers = [Compiler(WeakValueDictionary()), Compiler(WeakValueDictionary())]
"""One for code as it is to be, one for code that is compiled fast, to begin with."""


def _before_fork() -> None:
    for compiler in _compilers:
        compiler.pause()


def _after_fork_in_child() -> None:
    _compilers[:] = [Compiler(compiler.codes) for compiler in _compilers]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)


def begin_modules(modules: Iterable[Module], pipeline: Pipeline) -> None:
    """Begin to compile modules in the background; errors are those of `compile_for_good`."""
    _compilers[0].begin(modules, pipeline)


def begin_kernels(kernels: Iterable[Kernel], pipeline: Pipeline = EXPLICIT) -> None:
    """Begin to compile kernels in the background, while others are still being made.

    Errors are those of `compile_kernels`; with the pipeline PLAIN, of `compile_quickly`.
    """
    best, quick = _compilers
    kernels = [kernel for kernel in kernels if kernel.name not in best.codes]
    (quick if pipeline == PLAIN else best).begin([module_of([kernel]) for kernel in kernels], pipeline)


def compile_kernels(kernels: Iterable[Kernel], pipeline: Pipeline = EXPLICIT) -> dict[str, Code]:
    """Return the code of each kernel, by name; those that are new to the process are compiled.

    Raises:
        NativeCodeError: no native code can be made here.
    """
    wanted = {kernel.name: kernel for kernel in kernels}
    held = {name: code for name in wanted if (code := _compilers[0].codes.get(name)) is not None}
    new = [module_of([kernel]) for name, kernel in wanted.items() if name not in held]
    return {**held, **_compilers[0].finish(new, pipeline)}


def kernels_ready(kernels: Iterable[Kernel]) -> bool:
    """Return whether `compile_kernels` would return at once, after `begin_kernels`."""
    return _compilers[0].ready([module_of([kernel]) for kernel in kernels])


def is_compiled_well(kernel: Kernel) -> bool:
    """Return whether `compile_kernels` would find a kernel's code in the process."""
    return kernel.name in _compilers[0].codes


def compile_quickly(kernels: Iterable[Kernel]) -> dict[str, Code]:
    """Return the code of each kernel, by name; it may be slow to run, but is compiled fast.

    It computes the same bits as what `compile_kernels` gives; what that has compiled is used where it is there.
    """
    wanted = {kernel.name: kernel for kernel in kernels}
    best, quick = _compilers
    held = {name: code for name in wanted if (code := best.codes.get(name)) is not None}
    new = [module_of([kernel]) for name, kernel in wanted.items() if name not in held]
    return {**held, **quick.finish(new, PLAIN)}


_for_good: dict[str, Code] = {}


def compile_for_good(module: Module, pipeline: Pipeline = EXPLICIT) -> dict[str, int]:
    """Return the addresses of a module's functions, which stay in the process from now on."""
    if module.exports[0] not in _for_good:
        _for_good.update(_compilers[0].finish([module], pipeline))
    return {name: _for_good[name].address for name in module.exports}
