"""Executables: programs that run on arrays, with kernels where there are some and NumPy where there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import is_
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from ..errors import NativeCodeError
from .addresses import address_of
from .fuse_storage import FUSED, HOST, SEPARATE
from .graph import Graph, Value, type_of
from .homes import Homed, with_homes
from .interpret import computed, interpret
from .kernels import Job, Kernel, Place
from .llvm.effort import PATIENCE, SMALL, least, longer_for, negligible
from .llvm.machine import Machine
from .llvm.nests import nest_kernel
from .llvm.products import Product, product_kernel
from .llvm.program import Addresses, NativeProgram, begin
from .llvm.recipes import Recipe
from .llvm.target import available_cores
from .lower import Step
from .lower_layout import Layout
from .lower_steps import Program
from .nests import Nest
from .plan import ALIGNMENT, plan_memory
from .sources import Unsure

Array = np.ndarray


class _Native(NamedTuple):
    """Jobs in sequence."""

    program: NativeProgram
    kernels: tuple[Kernel, ...]


class _Host(NamedTuple):
    """One equation that NumPy computes."""

    step: Step
    operands: tuple[Any, ...]
    targets: tuple[Any, ...]


class Executable:
    """A compiled graph; call `run`.

    Args:
        graph: what it computes.
        machine: what kernels are made for.
        effort: how much is done to make it fast; `fault` says what went wrong if it is less than could be.
        conditional: whether the last output of the graph says if the others are to count; it is not returned.
        narrow: whether factors of products are rounded to bfloat16 where that is worth it.
    """

    def __init__(
        self, graph: Graph, machine: Machine, effort: int = FUSED, conditional: bool = False, narrow: bool = False
    ) -> None:
        self.name = graph.name
        self.effort = effort
        self.fault = ""
        self.inputs = graph.inputs
        self.homes = graph.homes[:-1] if conditional else graph.homes
        self.conditional = conditional
        self._graph = graph
        program = Program(graph, effort, conditional, narrow)
        self.lock = Lock()
        self.timed = False
        self._seconds: dict[int, list[float]] = {}
        self._steps = with_homes(program)
        self._layout(program, self._steps)
        self._segments = self._build(program, self._steps, machine)
        self._bind_constants()

    # Where everything is.

    def _layout(self, program: Program, steps: Homed) -> None:
        graph = program.graph
        inputs = len(graph.inputs)
        self._numbers: dict[Value, int] = {value: place for place, value in enumerate(graph.inputs)}
        status = program.status
        self._fresh = [value for value, home in zip(steps.outputs, graph.homes) if home is None and value is not status]
        for value in self._fresh:
            self._numbers[value] = len(self._numbers)
        self.first_fresh = inputs
        for value, home in steps.homes.items():
            self._numbers[value] = home
        used = {value for step in steps.steps for value in (*step.reads, *step.writes, *step.memory)}
        self._constants = [value for value in _in_order(used) if value.constant is not None]
        for place, value in enumerate(self._constants):
            self._numbers[value] = inputs + len(self._fresh) + place
        self._status = None if status is None else np.ones((), status.dtype)
        if status is not None:
            self._numbers[status] = inputs + len(self._fresh) + len(self._constants)
        made = {value for step in steps.steps for value in step.writes} | {p.whole for p in program.parts.values()}
        placed = [value for value in made if value not in self._numbers]
        self._plan = plan_memory(steps.steps, placed, parts=program.parts)
        self._arena_number = inputs + len(self._fresh) + len(self._constants) + (status is not None)
        self._kinds = [step.kernel is not None for step in steps.steps]

    def place_of(self, value: Value) -> Place:
        """Return where an array begins."""
        if value in self._numbers:
            return Place(self._numbers[value] + 1, 0)
        return Place(self._arena_number + 1 if self._shared else 0, self._plan.offsets[value])

    def _places_of(self, step: Step) -> tuple[Place, ...]:
        """Return where the operands of a step begin."""
        offsets = step.offsets or (0,) * len(step.memory)
        places = [(self.place_of(value), offset * value.dtype.itemsize) for value, offset in zip(step.memory, offsets)]
        return tuple([Place(place.base, place.offset + more) for place, more in places])

    def _build(self, program: Program, steps: Homed, machine: Machine) -> list[_Native | _Host]:
        native = sum([kind and not before for kind, before in zip(self._kinds, [False, *self._kinds])])
        self._shared = not all(self._kinds) or native > 1
        self._externals = self._arena_number + self._shared
        self.addresses = Addresses(self._externals)
        if self._shared:
            memory = np.empty(self._plan.size + ALIGNMENT, np.uint8)
            start = -memory.ctypes.data % ALIGNMENT
            self._arena: Any = memory[start : start + self._plan.size]
            self.addresses[self._arena_number] = memory.ctypes.data + start
        kernels, plain, makeshift = _kernels_of(steps.steps, machine)
        segments: list[_Native | _Host] = []
        jobs: list[Job] = []

        def flush() -> None:
            if jobs:
                size = 0 if self._shared else self._plan.size
                program = NativeProgram(jobs, size, self._externals, makeshift=makeshift, plain=plain)
                segments.append(_Native(program, tuple([job.kernel for job in jobs])))
                jobs.clear()

        for step, kernel in zip(steps.steps, kernels):
            if kernel is None:
                flush()
                segments.append(self._host(program, step))
            else:
                jobs.append(Job(kernel, self._places_of(step)))
        flush()
        return segments

    def _host(self, program: Program, step: Step) -> _Host:
        assert step.equation is not None
        operands = [self._viewed(program, operand) for operand in step.equation.inputs]
        targets = [self._viewed(program, value) for value in step.equation.outputs]
        return _Host(step, tuple(operands), tuple(targets))

    def _viewed(self, program: Program, operand: Any) -> Any:
        """Return an operand as it is if it is known now, else how to find it in an external array."""
        if not isinstance(operand, Value):
            return operand
        if operand.constant is not None:
            return operand.constant
        layout = program.layouts.of(operand)
        assert layout is not None
        if layout.base in self._numbers:
            return _External(self._numbers[layout.base], operand, layout)
        begin = self._plan.offsets[layout.base]
        memory = self._arena[begin : begin + layout.base.nbytes].view(layout.base.dtype)
        return _strided(memory, operand, layout)

    def _bind_constants(self) -> None:
        first = len(self.inputs) + len(self._fresh)
        self._held = [np.ascontiguousarray(value.constant) for value in self._constants]
        for place, array in enumerate(self._held):
            self.addresses[first + place] = array.ctypes.data
        if self._status is not None:
            self.addresses[first + len(self._held)] = self._status.ctypes.data
        self.known: list[Any] = [None] * len(self.inputs)
        self._used: list[Any] = [None] * len(self.inputs)
        self._copied: set[int] = set()
        self._home_addresses: set[int] | None = None
        self._written = {home for home in self.homes if home is not None}

    # Running.

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs for the arrays of the inputs; those with a home are written there."""
        with self.lock:
            if self._copied or len(arrays) != len(self.known) or not all(map(is_, arrays, self.known)):
                self._bind(arrays)
            fresh: list[Array] = []
            for place, value in enumerate(self._fresh, self.first_fresh):
                array = np.empty(value.shape, value.dtype)
                self.addresses[place] = address_of(array)
                fresh.append(array)
            for segment in self._segments:
                if type(segment) is _Native:
                    self._run_native(segment)
                else:
                    self._compute(segment, fresh)  # type: ignore[arg-type]
            self.timed = False
            self._demand_positions()
            if self._copied:
                self._copy_back(arrays)
        if len(fresh) == len(self.homes):
            return fresh
        rest = iter(fresh)
        return [next(rest) if home is None else arrays[home] for home in self.homes]

    def _bind(self, arrays: Sequence[Array]) -> None:
        """Take the addresses of arrays that were not here the last time."""
        if len(arrays) != len(self.inputs):
            raise TypeError(f"{self.name} takes {len(self.inputs)} arrays, not {len(arrays)}")
        for place, array in enumerate(arrays):
            if array is self.known[place] and place not in self._copied:
                continue
            value = self.inputs[place]
            if array.shape != value.shape or array.dtype != value.dtype:
                raise TypeError(
                    f"{self.name}: input {place} is {array.dtype}{list(array.shape)}, compiled for {type_of(value)}"
                )
            plain = array.flags.c_contiguous and array.flags.aligned
            used = array if plain else np.ascontiguousarray(array).copy()
            self._copied.discard(place)
            if not plain:
                self._copied.add(place)
            self.known[place], self._used[place] = array, used
            self.addresses[place] = address_of(used)
        self._part_from_homes()

    def _part_from_homes(self) -> None:
        """Copy inputs that begin where one begins that is written: they are read as they were before."""
        written = self._home_addresses = {self.addresses[home] for home in self._written}
        for place, used in enumerate(self._used):
            if written and place not in self._written and self.addresses[place] in written and used.size:
                self._used[place] = used.copy()
                self._copied.add(place)
                self.addresses[place] = address_of(self._used[place])

    def forget(self) -> None:
        """Let go of the arrays of the last run."""
        with self.lock:
            self.known = [None] * len(self.inputs)
            self._used = [None] * len(self.inputs)
            self._copied = set()

    # For those who know what has changed since the last run.

    @property
    def is_one_native_call(self) -> bool:
        """Whether nothing is left to the host, and nothing copied on the way in or out."""
        return not self._copied and all([type(segment) is _Native for segment in self._segments])

    def place(self, place: int, array: Array) -> bool:
        """Take another array for an input; return False if it has to be copied first."""
        flags = array.flags
        if not (flags.c_contiguous and flags.aligned):
            return False
        address = address_of(array)
        if self._written and self._begins_at_home(place, address):
            return False
        self.known[place] = self._used[place] = array
        self.addresses[place] = address
        return True

    def _begins_at_home(self, place: int, address: int) -> bool:
        if place in self._written:
            self._home_addresses = None
            return False
        if self._home_addresses is None:
            self._home_addresses = {self.addresses[home] for home in self._written}
        return address in self._home_addresses

    def execute(self) -> None:
        """Run on the arrays that are in place, inputs and fresh outputs; with `lock` held."""
        for segment in self._segments:
            self._run_native(segment)  # type: ignore[arg-type]
        self.timed = False
        self._demand_positions()

    @property
    def is_makeshift(self) -> bool:
        """Whether some of the code is to be replaced by better code."""
        return any([type(segment) is _Native and segment.program.is_makeshift for segment in self._segments])

    def brief(self) -> Callable[[], Any] | None:
        """Return what does the same as `execute` in less time, but returns something false where that raises.

        None if this is no program of a few microseconds.
        """
        segment = self._segments[0] if len(self._segments) == 1 else None
        return segment.program.brief(self.addresses, self._status) if isinstance(segment, _Native) else None

    def _demand_positions(self) -> None:
        if self._status is not None and not self._status:
            self.refuse()

    def refuse(self) -> None:
        """Raise what NumPy raises, as a position was out of range; nothing has been changed then.

        Raises:
            Unsure: the graph has a condition, which does not hold.
        """
        if self.conditional:
            raise Unsure(f"{self.name}: what was taken for granted is not so")
        homeless = Graph(self.name, self.inputs, self._graph.equations, self._graph.outputs)
        interpret(homeless, [array.copy() for array in self.known])
        raise IndexError(f"{self.name}: a position is out of range")

    def _run_native(self, segment: _Native) -> None:
        if self.timed:
            self._seconds[id(segment)] = [timing.busy for timing in segment.program.profile(self.addresses)]
        else:
            segment.program.run(self.addresses)

    def kernels(self) -> list[tuple[str, int, int, float | None]]:
        """Return name, arithmetic operations, bytes moved and seconds (if they were taken) of all that is run."""
        entries: list[tuple[str, int, int, float | None]] = []
        for segment in self._segments:
            if isinstance(segment, _Native):
                seconds = self._seconds.get(id(segment)) or [None] * len(segment.kernels)
                entries += [(k.name, k.flops, k.moved, taken) for k, taken in zip(segment.kernels, seconds)]
            else:
                assert segment.step.equation is not None
                entries.append((f"host: {segment.step.equation.primitive.name}", 0, 0, None))
        return entries

    def holds(self, place: int, array: Array) -> int:
        """Return how many references to an array this object has, from having run on it as an input."""
        return (self.known[place] is array) + (self._used[place] is array)

    def _copy_back(self, arrays: Sequence[Array]) -> None:
        for home in self.homes:
            if home is not None and home in self._copied:
                arrays[home][...] = self._used[home]

    def _compute(self, segment: _Host, fresh: list[Array]) -> None:
        arrays = [*self._used, *fresh, *self._held, self._status]
        operands = [o.of(arrays) if type(o) is _External else o for o in segment.operands]
        assert segment.step.equation is not None
        results = computed(segment.step.equation, operands)
        for target, result in zip(segment.targets, results):
            (target.of(arrays) if type(target) is _External else target)[...] = result

    def explain(self) -> str:
        """Return what it consists of, one line for each kernel or operation of the host."""
        lines = [f"not fused, by a fault of the compiler: {self.fault}"] if self.fault else []
        for segment in self._segments:
            if isinstance(segment, _Native):
                for kernel in segment.kernels:
                    work = f"{kernel.units} units, {kernel.flops} flops, {kernel.moved} bytes"
                    lines.append(f"{kernel.name}: {work}")
            else:
                lines.append(f"host: {segment.step.equation!r}")
        return "\n".join(lines)


class _External:
    """An array that is found, call by call, in the memory of an input or a fresh output."""

    __slots__ = ("layout", "number", "value")

    def __init__(self, number: int, value: Value, layout: Layout) -> None:
        self.number, self.value, self.layout = number, value, layout

    def of(self, arrays: Sequence[Array]) -> Array:
        """Return the array."""
        base = arrays[self.number]
        if self.layout.base is self.value:
            return base
        return _strided(base.reshape(-1), self.value, self.layout)


def _strided(memory: Array, value: Value, layout: Layout) -> Array:
    if not value.size:
        return np.empty(value.shape, value.dtype)
    strides = tuple([stride * value.dtype.itemsize for stride in layout.strides])
    return np.lib.stride_tricks.as_strided(memory[layout.offset :], value.shape, strides)


def _in_order(values: set[Value]) -> list[Value]:
    return sorted(values, key=id)


_kernels: dict[Any, Kernel] = {}
_MOST_KERNELS = 1024


def kernel_of(source: Any, machine: Machine) -> Kernel:
    """Return the kernel of a nest, a product or another record of native code; equal ones are made once."""
    key = (machine, _frozen(source))
    kernel = _kernels.get(key)
    if kernel is None:
        if len(_kernels) >= _MOST_KERNELS:
            _kernels.clear()
        kernel = _kernels[key] = _new_kernel(source, machine)
    return kernel


class _Chosen(NamedTuple):
    """The kernels of steps, and the names of those that are compiled fast: for good, or for the first calls."""

    kernels: list[Kernel | None]
    plain: set[str]
    makeshift: set[str]


def _kernels_of(steps: Sequence[Step], machine: Machine) -> _Chosen:
    """Return kernels, and decide which are compiled fast: where next to no time goes, or where it does not matter yet.

    They are begun to be compiled as soon as it is certain how, while others are being made.
    """
    kernels: list[Kernel | None] = []
    known: dict[int, Kernel] = {}
    times = Counter([id(step.kernel) for step in steps])
    nests: dict[str, Kernel] = {}
    products: dict[str, Kernel] = {}
    longer: dict[str, int] = {}
    improves = available_cores() > 1  # there is a thread that compiles while others run
    for step in steps:
        kernel = None if step.kernel is None else known.get(id(step.kernel))
        if kernel is None and step.kernel is not None:
            kernel = known[id(step.kernel)] = kernel_of(step.kernel, machine)
            is_product = isinstance(step.kernel, Product)
            if not (is_product or isinstance(step.kernel, Nest)) or getattr(step.kernel, "narrow", False):
                begin([kernel])
            else:
                (products if is_product else nests)[kernel.name] = kernel
                more = longer_for(kernel, times[id(step.kernel)], is_product)
                longer[kernel.name] = longer.get(kernel.name, 0) + more
                if more > PATIENCE:
                    begin([kernel])
                elif more <= SMALL and improves:
                    begin([kernel], [kernel.name])
        kernels.append(kernel)
    made = [kernel for kernel in kernels if kernel is not None]
    plain = negligible(made, nests.values(), products.values())
    makeshift = least(longer, PATIENCE) - plain if improves else set[str]()
    begin([*nests.values(), *products.values()], plain | makeshift)
    return _Chosen(kernels, plain, makeshift)


def _frozen(record: Any) -> Any:
    """Return what equal records have in common; Scalars are equal if they are the same."""
    if isinstance(record, dict):
        return tuple([(name, _frozen(value)) for name, value in record.items()])
    if isinstance(record, tuple):
        return (type(record), *[_frozen(item) for item in record])
    return (type(record), record) if isinstance(record, (bool, int, float)) else record


def _new_kernel(source: Any, machine: Machine) -> Kernel:
    if isinstance(source, Nest):
        return nest_kernel(source, machine)
    if isinstance(source, Product):
        return product_kernel(source, machine)
    if isinstance(source, Recipe):
        return source.kernel(machine)
    raise TypeError(f"no kernel for a {type(source).__name__}")


def build(graph: Graph, machine: Machine, conditional: bool = False, narrow: bool = False) -> Executable:
    """Compile a graph for a machine; its last output may be a condition under which the others count.

    With `narrow`, factors of products are rounded to bfloat16 where that is worth it.

    A fault of the compiler costs speed, not the program: it is tried again with less done, and last without kernels.
    """
    graph.verify()
    fault = ""
    for effort in (FUSED, SEPARATE, HOST):
        try:
            executable = Executable(graph, machine, effort, conditional, narrow)
        except NativeCodeError:
            raise
        except Exception as error:
            if effort == HOST:
                raise
            fault = fault or f"{type(error).__name__}: {error}"
            continue
        executable.fault = fault
        return executable
    raise AssertionError("the last try returns or raises")
