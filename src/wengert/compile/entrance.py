"""What comes into a captured function: Tensors, arrays, random numbers, and where later runs find them."""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np

from ..core import boxing, capturing
from ..core.aliasing import Steps, family, is_alone
from ..core.dispatch import lift
from ..core.node_hooks import is_tracked
from ..core.recording import observers
from ..core.step_numbers import StepNumber, Unrollable
from ..core.tracing import Trace, calling_frame
from ..tensor import tracer as _tracer  # noqa: F401 - makes the class of tracers known
from ..typing import Shape
from .captured import Brought, Captured
from .cells import Cell
from .cuts import Cut, Origin
from .expand_builder import Builder
from .graph import Equation, Value
from .results import Lent
from .rolling_numbers import with_numbers
from .sources import (
    ArgumentSource,
    ArraySource,
    CompileError,
    DrawSource,
    GradientSource,
    LoanSource,
    Numbers,
    NumberSource,
    SeedSource,
    Source,
    TensorSource,
)

_NUMBERS = frozenset((bool, int, float, complex))


class Entrance(Trace, capturing.Capture):
    """The part of a capture that knows where values come from; the rest is in `capture`.

    Args:
        reached: Tensors, by id, that the function reaches by itself, though they may be gradients as well.

    Attributes:
        fastmath: whether a product of zero and infinity may be NaN where a zero has to win.
        equations: what it did, in order.
        inputs: Values that come from outside, with their Sources.
        raws: what the inputs are in this run.
        brought: Tensors that became tracers.
        decisions: Values that Python code depended on, with what they were.
        checks: Values that must pass a test before anything is done, seen through steps of views; and whether that is
            `expected`, too.
        reports: functions to be called after every run, with what values then are.
        numbers: numbers that are computed before every run.
        stand_ins: by the ids of Tensors in memory of others, these, tracers in their place, and the Values of these.
        states: arrays that are written from run to run, with what they are at the end.
        conditions: functions that must return True before a run, else the function has changed.
        afterwards: functions to be called after every run.
        expected: booleans that must be true for the program to count.
        taped: Values that were put onto the tape as results of operations.
        nodes: the Nodes of those.
        renewed: Values that leaves were given off the tape, with the leaves.
        repeated: equations of steps that a sweep does again.
        cuts: where sweeps inside have met Tensors that were computed outside.
        origins: what was asked about where Tensors of outside come from.
        deeds: what it did that only its Python code can do again.
        depends_on_layout: whether it matters how inputs lie in memory, since a reshape may be a view, or a copy.
    """

    __slots__ = (
        "_arguments",
        "_arrays",
        "_arrays_outside",
        "_computed",
        "_fresh",
        "_gradients",
        "_held",
        "_made",
        "_makers",
        "_observed",
        "_products",
        "_reached",
        "_reshaped",
        "_rolled",
        "_unguarded",
        "afterwards",
        "brought",
        "checks",
        "conditions",
        "cuts",
        "decisions",
        "deeds",
        "depends_on_layout",
        "equations",
        "expected",
        "fastmath",
        "inputs",
        "nodes",
        "numbers",
        "origins",
        "raws",
        "renewed",
        "repeated",
        "reports",
        "stand_ins",
        "states",
        "taped",
    )

    def __init__(
        self,
        described: str,
        arguments: Sequence[Any],
        fastmath: bool = False,
        reached: Mapping[int, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__("compile", described)
        self.fastmath = fastmath
        self.equations: list[Equation] = []
        self.inputs: dict[Value, Source] = {}
        self.raws: dict[Value, np.ndarray] = {}
        self.brought: list[Brought] = []
        self.decisions: list[tuple[Value, np.ndarray, str]] = []
        self.checks: list[tuple[Value, Steps, Callable[[np.ndarray], None], bool]] = []
        self.reports: list[tuple[Callable[..., None], list[Any]]] = []
        self.numbers: list[Numbers] = []
        self.stand_ins: dict[int, tuple[Any, Any, Value]] = {}
        self.states: list[tuple[np.ndarray, Cell]] = []
        self.conditions: list[Callable[[], bool]] = []
        self.afterwards: list[Callable[[], None]] = []
        self.cuts: list[Cut] = []
        self.origins: list[Origin] = []
        self.deeds: list[str] = []
        self.taped: set[Value] = set()
        self.nodes: set[Any] = set()
        self.renewed: dict[Value, Any] = {}
        self.expected: list[Value] = []
        self._unguarded: list[list[Value] | None] = []
        self._rolled: list[int] = []
        self.repeated: set[Equation] = set()
        self._observed = bool(observers())
        self._reached = reached
        self._reshaped: set[int] = set()
        self.depends_on_layout = False
        self._products: dict[Value, tuple[Value, int]] = {}
        self._arguments = {id(leaf): place for place, leaf in enumerate(arguments)}
        self._arrays: dict[int, tuple[Any, Value]] = {}
        self._gradients: dict[int, tuple[Any, Brought]] = {}
        self._arrays_outside = {id(leaf._data) for leaf in arguments if type(leaf) is boxing.Tensor}
        self._computed: dict[Value, np.ndarray] = {}
        self._makers: dict[Value, Equation] = {}
        self._held: dict[int, Brought] = {}
        self._fresh: dict[int, weakref.ref[Any]] = {}
        self._made: list[weakref.ref[Any]] = []

    def tracer(self, raw: np.ndarray | None, value: Value, is_number: bool = False) -> Any:
        """Return a tracer for a value, which NumPy may have as a number (that `x += y` rebinds) or as an array."""
        made = boxing.box_state(Captured(self, raw, value, calling_frame(), is_number))
        self._made.append(weakref.ref(made))
        return made

    def input(self, raw: np.ndarray, source: Source) -> Value:
        """Return a new input of the graph."""
        value = Value(raw.shape, raw.dtype)
        self.inputs[value] = source
        self.raws[value] = raw
        return value

    def arguments(self, args: tuple[Any, ...], name: str) -> tuple[Any, ...]:
        """Return the arguments of an operation, with tracers in place of everything that has a value of its own."""
        if any([type(arg) is StepNumber for arg in args]):
            args = with_numbers(args, name)
        return tuple([arg if type(arg) in _NUMBERS else self._argument(arg, name) for arg in args])

    def _argument(self, arg: Any, name: str) -> Any:
        kind: Any = type(arg)
        if kind is boxing.Tracer:
            if arg._state.trace.level < self.level:
                raise CompileError(
                    f"wg.compile({self.described}): it uses a value of {arg._state.trace.name}, which began outside of "
                    "it, without being given it"
                )
            return arg
        if kind is boxing.Tensor:
            self.bring(arg)
            return arg
        if kind is boxing.BorrowedTensor:
            return self._stand_in_for(arg)
        raw = lift(arg, name)
        if isinstance(raw, boxing.Tensor):
            return raw
        if type(raw) in _NUMBERS:
            return raw
        return self.array(raw) if isinstance(raw, np.ndarray) else self._constant(np.asarray(raw))

    def _stand_in_for(self, borrowed: Any) -> Any:
        """Return the tracer that stands for a Tensor in memory of others, which has to stay there; views are of it."""
        known = self.stand_ins.get(id(borrowed))
        if known is None:
            tracer = self.array(borrowed._alias.array, borrowed)
            known = self.stand_ins[id(borrowed)] = (borrowed, tracer, tracer._state.value)
        return known[1]

    def loans(self) -> dict[int, Source]:
        """Return, by the ids of the tracers that stand for Tensors in memory of others, where later runs find these."""
        return {id(tracer): self.inputs[value] for _, tracer, value in self.stand_ins.values()}

    def array_read_as(self, tensor: Any) -> Lent | None:
        """Return the array of NumPy's that a tracer is the value of, if it is just that."""
        source = self.inputs.get(tensor._state.value) if type(tensor) is boxing.Tracer else None
        return Lent(source.array) if isinstance(source, ArraySource) else None

    def _constant(self, raw: np.ndarray) -> Any:
        return self.tracer(raw, Value(raw.shape, raw.dtype, raw))

    def bring(self, tensor: Any) -> None:
        """Make a Tensor a tracer of the capture, in place, until it ends."""
        if type(tensor) is boxing.BorrowedTensor:
            _, stand_in, value = self.stand_ins.pop(id(tensor), (None, None, None))
            if stand_in is not None and (stand_in._state.value is not value or not is_alone(stand_in)):
                raise CompileError(
                    f"wg.compile({self.described}): a Tensor that lies in the memory of an array of NumPy's (as "
                    "wg.asarray makes it) is written to, and views of it are in use. Make it with wg.tensor"
                )
            tensor.become_owner()
        data: Any = tensor._data
        if not isinstance(data, (np.ndarray, np.generic)):
            raise CompileError(f"wg.compile: a Tensor on {tensor.device} cannot be compiled for the CPU")
        raw = np.asarray(data)
        if self._is_fresh(tensor):
            assert id(data) not in self._arrays_outside, "a second box over values of outside was made in a capture"
            value, source = Value(raw.shape, raw.dtype, raw), None
        else:
            source = self._source_of(tensor, raw)
            value = self.input(raw, source)
            self._arrays_outside.add(id(data))
        brought = self._held[id(tensor)] = Brought(tensor, value, source)
        self.brought.append(brought)
        if brought.gradient is not None:
            self._gradients[id(brought.gradient)] = (brought.gradient, brought)
        boxing.become(
            tensor, boxing.box_state(Captured(self, raw, value, calling_frame(), raw is not data), brought.inner)
        )

    def note_recorded(self, tensor: Any, node: Any) -> None:
        """Take note of what is on the tape, and of the Nodes that stand for one operation each."""
        self.taped.add(tensor._state.value)
        self.nodes.add(node)

    def note_renewed(self, tensor: Any, leaf: Any) -> None:
        """Take note that a leaf was given new values off the tape."""
        self.only_step_by_step()
        self.renewed[tensor._state.value] = leaf

    def adopt(self, tensor: Any) -> None:
        """Make a Tensor from further out a tracer: what asks to record it means this capture."""
        self.bring(tensor)

    def place_of(self, leaf: Any) -> int | None:
        """Return which argument an object is, or None."""
        return self._arguments.get(id(leaf)) if isinstance(leaf, (boxing.Tensor, np.ndarray)) else None

    def _source_of(self, tensor: Any, raw: np.ndarray) -> Source:
        if (place := self._arguments.get(id(tensor))) is not None:
            return ArgumentSource(place, raw)
        return self._gradient_source(tensor, raw) or TensorSource(tensor, raw)

    def _gradient_source(self, tensor: Any, raw: np.ndarray) -> GradientSource | None:
        """Return where later runs find a Tensor if it is a gradient, and nothing else."""
        known = self._gradients.get(id(tensor))
        if known is None or known[1].source is None or self._reached.get(id(tensor)) is tensor:
            return None
        return GradientSource(known[1].source, raw)

    def source_of(self, tensor: Any) -> Source | None:
        """Return where later runs find a Tensor that is no tracer; None if it was made inside."""
        return None if self._is_fresh(tensor) else self._source_of(tensor, np.asarray(boxing.data_of(tensor)))

    def constant(self, tensor: Any) -> Value:
        """Return the value of a Tensor that was made inside, and is the same in all runs."""
        raw = np.array(boxing.data_of(tensor))
        return Value(raw.shape, raw.dtype, raw)

    def _is_fresh(self, tensor: Any) -> bool:
        reference = self._fresh.get(id(tensor))
        return reference is not None and reference() is tensor

    def array(self, array: np.ndarray, holder: Any = None) -> Any:
        """Return a tracer for an array of NumPy's (that a Tensor may have borrowed), which is read in every run."""
        owner = array if holder is None else holder
        known = self._arrays.get(id(owner))
        if known is None:
            place = self._arguments.get(id(owner))
            if place is not None:
                source: Source = ArgumentSource(place, array)
            elif holder is None:
                source = ArraySource(array)
            else:
                source = self._gradient_source(holder, array) or LoanSource(holder, array)
            known = self._arrays[id(owner)] = (owner, self.input(array, source))
        return self.tracer(array, known[1])

    def drawn(self, draw: Callable[[Shape], np.ndarray], shape: Shape) -> Any:
        """Return a tracer for random numbers, which are drawn anew in every run."""
        self.only_step_by_step()
        raw = np.asarray(draw(shape))
        return self.tracer(raw, self.input(raw, DrawSource(draw, raw)))

    def computed(self, compute: Callable[[], Sequence[float]], dtype: Any) -> list[Cell]:
        """Return numbers, as arrays without axes, that `compute` computes before every run."""
        self.only_step_by_step()
        numbers = Numbers(compute, np.dtype(dtype))
        self.numbers.append(numbers)
        cells: list[Cell] = []
        for place, array in enumerate(numbers.arrays):
            raw = array.copy()
            cells.append(Cell(self.tracer(raw, self.input(raw, NumberSource(numbers, place, numbers.dtype)))))
        return cells

    def state(self, array: np.ndarray) -> Cell:
        """Return an array that is kept from run to run, to be read and written as a Cell."""
        self.only_step_by_step()
        for known, cell in self.states:
            if _is_same_memory(known, array):
                return cell
        cell = Cell(self.array(array))
        self.states.append((array, cell))
        return cell

    def seed(self, output: Any) -> Any:
        """Return a tracer for the cotangent of an output."""
        raw = np.ones(output.shape, output.dtype)
        return self.tracer(raw, self.input(raw, SeedSource(raw)))

    def holds(self, tensor: Any) -> bool:
        """Return whether a tracer is a Tensor of outside."""
        brought = self._held.get(id(tensor))
        return brought is not None and not brought.fresh

    def cell(self, tensor: Any, dtype: Any) -> Cell:
        """Return a Cell with the values of a Tensor, in a dtype."""
        return Cell(boxing.operations.astype(tensor, dtype, copy=False))

    def made(self, tensor: Any) -> None:
        """Take note of a Tensor that is being made now."""
        self._fresh[id(tensor)] = weakref.ref(tensor)

    def read_gradient(self, tensor: Any, gradient: Any) -> None:
        """Take note that the `.grad` of a Tensor is read: whether there is one decides what the function does."""
        self.only_step_by_step()
        brought = self._brought(tensor)
        if brought is not None and not brought.gradient_was_set:
            brought.gradient_was_read = True

    def origin(self, tensor: Any, question: Callable[[Any], Any]) -> Any:
        """Return the Node by which to answer a question about where a Tensor comes from: as it is outside."""
        if type(tensor) is boxing.Tensor and not self._is_fresh(tensor):
            self.bring(tensor)  # whether an input is on the tape is looked at before every run
        brought = self._held.get(id(tensor))
        if brought is None or brought.source is None or tensor._node is not brought.inner:
            return tensor._node
        if question is not is_tracked:
            self.origins.append(Origin.of(brought.source, question, brought.node))
        return brought.node

    def set_gradient(self, tensor: Any) -> None:
        """Take note that the `.grad` of a Tensor is set."""
        self.only_step_by_step()
        brought = self._brought(tensor)
        if brought is not None:
            brought.gradient_was_set = True

    def note_observers(self) -> None:
        """Take note that it matters whether somebody outside would differentiate what is computed."""
        condition = is_observed if self._observed else is_unobserved
        if condition not in self.conditions:
            self.conditions.append(condition)

    def note_reshaped(self, tensor: Any, out: Any) -> None:
        """Take note of a reshape, which is a view or a copy, as the Tensor lies in memory."""
        self._reshaped.update((id(family(tensor)[0]), id(out)))

    def note_written(self, base: Any) -> None:
        """Take note of a write, or of a result: it matters whether something else is in the same memory."""
        if self._rolled and not self._is_of_step(base):
            raise Unrollable("a step writes to what is not its own")
        self.depends_on_layout = self.depends_on_layout or id(base) in self._reshaped

    # ------------------------------------------------------------------ steps that stand for all of a loop

    @contextmanager
    def rolled(self) -> Generator[list[Any]]:
        """Let what is done in a `with` block stand for every step of a loop; gives a list of what was not guarded."""
        self._rolled.append(len(self._made))
        outside, unguarded = self._unguarded, []
        self._unguarded = unguarded
        products = dict(self._products)  # those of the step are no values of the program around it
        try:
            yield unguarded
        finally:
            self._rolled.pop()
            self._unguarded = outside
            self._products = products

    def is_in_step(self) -> bool:
        """Return whether what is done now stands for every step of a loop."""
        return bool(self._rolled)

    def done_again(self, run: Callable[[], Any]) -> Any:
        """Return what `run()` returns, in a step; a sweep rather does it again than to have what it needs kept."""
        begin = len(self.equations)
        try:
            return run()
        finally:
            self.repeated.update(self.equations[begin:])

    def only_step_by_step(self) -> None:
        """Refuse to let a step that does something now stand for others."""
        if self._rolled:
            raise Unrollable("a step does what each has to do")

    def _is_of_step(self, base: Any) -> bool:
        """Return whether a Tensor was made in the step that is being captured."""
        return any([reference() is base for reference in self._made[self._rolled[-1] :]])

    def append(self, equation: Equation) -> None:
        """Write an equation down."""
        self.equations.append(equation)
        self.note_maker(equation)

    def note_maker(self, equation: Equation) -> None:
        """Take note of what an equation makes."""
        self._makers.update(dict.fromkeys(equation.outputs, equation))

    def apply(self, name: str, *operands: Value, **params: Any) -> Value:
        """Write an operation on values down, and return what it makes."""
        builder = Builder(operands[0].where)
        value = builder.call(name, *operands, **params)
        self.append(builder.equations[0])
        return value

    def _brought(self, tensor: Any) -> Brought | None:
        if type(tensor) is not boxing.Tracer:
            self.bring(tensor)
        return self._held.get(id(tensor))

    # ------------------------------------------------------------------ what is done


def is_observed() -> bool:
    """Return whether a transform or a GradientTape outside would differentiate what is computed now."""
    return bool(observers())


def is_unobserved() -> bool:
    """Return whether none would."""
    return not observers()


def _is_same_memory(one: np.ndarray, other: np.ndarray) -> bool:
    place, another = one.__array_interface__, other.__array_interface__
    return one.shape == other.shape and one.dtype == other.dtype and place["data"] == another["data"]


__all__ = ["Entrance"]
