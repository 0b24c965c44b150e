"""Capture: a function runs once on tracers, and leaves a graph of all that it did.

A Tensor of outside becomes a tracer when an operation first meets it, in place, for all who hold it; at the end it
becomes again what it was. So nothing has to be said about where parameters, gradients and optimisers' state are kept.
Tracers know what they are worth in this run, so that Python code may ask; of large arrays that is computed only then.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import gc
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any

import numpy as np

from .. import backend
from ..core import boxing, capturing
from ..core.dispatch import explain, lift
from ..core.primitive import Primitive
from ..core.recording import set_recording
from ..core.tape import Leaf, location, user_frame
from ..core.tracing import State, Trace, calling_frame, leaked
from ..core.vspace import densify
from ..tensor import tracer as _tracer  # noqa: F401 - makes the class of tracers known
from ..typing import Params, Shape
from .abstract import kind_of
from .cells import Cell
from .graph import Equation, Value
from .interpret import computed, operand_in
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
_MUCH = 4096
"""Elements from which on an operation is not computed during a capture, if its result's shape and dtype are known."""


class Captured(State):
    """A value of the graph, and what it was in the run that was captured."""

    __slots__ = ("_raw", "is_number", "value")

    def __init__(
        self, trace: Trace, raw: np.ndarray | None, value: Value, frame: FrameType, is_number: bool = False
    ) -> None:
        super().__init__(trace, frame)
        self._raw = raw
        self.value = value
        self.is_number = is_number

    @property
    def shape(self) -> Shape:
        """The shape of the value."""
        return self.value.shape

    @property
    def dtype(self) -> Any:
        """The dtype of the value."""
        return self.value.dtype

    @property
    def is_unknown(self) -> bool:
        """Whether what it was in the captured run has not been computed so far."""
        return self._raw is None

    @property
    def raw(self) -> np.ndarray:
        """What the value was in the captured run."""
        if self._raw is None:
            self._raw = self.trace.compute(self.value)
        return self._raw

    def concrete(self, what: str) -> Any:
        """Return the value of this run where a later one can be asked whether it has the same; refuse elsewhere."""
        trace: CaptureTrace = self.trace
        if not trace.is_open:
            raise leaked(self)
        return trace.decide(self, what)

    @property
    def varies(self) -> bool:
        """Whether another run has other values."""
        return self.value.constant is None

    @property
    def is_differentiated(self) -> bool:
        """Never: derivatives are a matter of the tape."""
        return False

    def parts(self) -> tuple[Any, ...]:
        """Return the value of this run."""
        return (boxing.box(self.raw),)

    def __repr__(self) -> str:
        return "known when it runs"


class Brought:
    """A Tensor that was made a tracer, and what it was before."""

    __slots__ = (
        "data",
        "fresh",
        "gradient",
        "gradient_was_read",
        "gradient_was_set",
        "inner",
        "node",
        "source",
        "tensor",
        "value",
    )

    def __init__(self, tensor: Any, value: Value, source: Source | None) -> None:
        self.tensor = tensor
        self.data = tensor._data
        self.node = tensor._node
        # A sweep inside of the function ends where the function began.
        cut = self.node is not None and not isinstance(self.node, Leaf)
        self.inner = Leaf(tensor, tensor._data, calling_frame()) if cut else self.node
        self.gradient = getattr(tensor, "_grad", None)
        self.gradient_was_read = self.gradient_was_set = False
        self.value = value
        self.source = source
        self.fresh = source is None

    def restore(self) -> None:
        """Make the Tensor what it was."""
        tensor = self.tensor
        if type(tensor) is boxing.Tracer:
            boxing.become(tensor, boxing.box(self.data, self.node))
        if getattr(tensor, "_grad", None) is not self.gradient:
            tensor._grad = self.gradient


class CaptureTrace(Trace, capturing.Capture):
    """One captured run of a function.

    Attributes:
        fastmath: whether a product of zero and infinity may be NaN where a zero has to win.
        equations: what it did, in order.
        inputs: Values that come from outside, with their Sources.
        raws: what the inputs are in this run.
        brought: Tensors that became tracers.
        decisions: Values that Python code depended on, with what they were.
        checks: Values that must pass a test before anything is done.
        reports: functions to be called after every run, with what values then are.
        numbers: numbers that are computed before every run.
        states: arrays that are written from run to run, with what they are at the end.
        conditions: functions that must return True before a run, else the function has changed.
        afterwards: functions to be called after every run.
        expected: booleans that must be true for the program to count.
        taped: Values that were put onto the tape as results of operations.
        nodes: the Nodes of those.
        renewed: Values that leaves were given off the tape, with the leaves.
        deeds: what it did that only its Python code can do again.
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
        "_unguarded",
        "afterwards",
        "brought",
        "checks",
        "conditions",
        "decisions",
        "deeds",
        "equations",
        "expected",
        "fastmath",
        "inputs",
        "nodes",
        "numbers",
        "raws",
        "renewed",
        "reports",
        "states",
        "taped",
    )

    def __init__(self, described: str, arguments: Sequence[Any], fastmath: bool = False) -> None:
        super().__init__("compile", described)
        self.fastmath = fastmath
        self.equations: list[Equation] = []
        self.inputs: dict[Value, Source] = {}
        self.raws: dict[Value, np.ndarray] = {}
        self.brought: list[Brought] = []
        self.decisions: list[tuple[Value, np.ndarray, str]] = []
        self.checks: list[tuple[Value, Callable[[np.ndarray], None]]] = []
        self.reports: list[tuple[Callable[..., None], list[Any]]] = []
        self.numbers: list[Numbers] = []
        self.states: list[tuple[np.ndarray, Cell]] = []
        self.conditions: list[Callable[[], bool]] = []
        self.afterwards: list[Callable[[], None]] = []
        self.deeds: list[str] = []
        self.taped: set[Value] = set()
        self.nodes: set[Any] = set()
        self.renewed: dict[Value, Any] = {}
        self.expected: list[Value] = []
        self._unguarded = False
        self._arguments = {id(leaf): place for place, leaf in enumerate(arguments)}
        self._arrays: dict[int, tuple[Any, Value]] = {}
        self._gradients: dict[int, tuple[Any, Brought]] = {}
        self._arrays_outside = {id(leaf._data) for leaf in arguments if type(leaf) is boxing.Tensor}
        self._computed: dict[Value, np.ndarray] = {}
        self._makers: dict[Value, Equation] = {}
        self._held: dict[int, Brought] = {}
        self._fresh: dict[int, weakref.ref[Any]] = {}
        self._made: list[weakref.ref[Any]] = []

    # ------------------------------------------------------------------ what comes in

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
        return tuple([arg if type(arg) in _NUMBERS else self._argument(arg, name) for arg in args])

    def _argument(self, arg: Any, name: str) -> Any:
        kind: Any = type(arg)
        if kind is boxing.Tracer:
            return arg
        if kind is boxing.Tensor:
            self.bring(arg)
            return arg
        if kind is boxing.BorrowedTensor:
            return self.array(arg._alias.array, arg)
        raw = lift(arg, name)
        if isinstance(raw, boxing.Tensor):
            return raw
        if type(raw) in _NUMBERS:
            return raw
        return self.array(raw) if isinstance(raw, np.ndarray) else self._constant(np.asarray(raw))

    def _constant(self, raw: np.ndarray) -> Any:
        return self.tracer(raw, Value(raw.shape, raw.dtype, raw))

    def bring(self, tensor: Any) -> None:
        """Make a Tensor a tracer of the capture, in place, until it ends."""
        if type(tensor) is boxing.BorrowedTensor:
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
        if (known := self._gradients.get(id(tensor))) is not None and known[1].source is not None:
            return GradientSource(known[1].source, raw)
        return TensorSource(tensor, raw)

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
        key = id(array if holder is None else holder)
        known = self._arrays.get(key)
        if known is None:
            place = self._arguments.get(id(array if holder is None else holder))
            if place is not None:
                source = ArgumentSource(place, array)
            else:
                source = ArraySource(array) if holder is None else LoanSource(holder, array)
            known = self._arrays[key] = (array if holder is None else holder, self.input(array, source))
        return self.tracer(array, known[1])

    def drawn(self, draw: Callable[[Shape], np.ndarray], shape: Shape) -> Any:
        """Return a tracer for random numbers, which are drawn anew in every run."""
        raw = np.asarray(draw(shape))
        return self.tracer(raw, self.input(raw, DrawSource(draw, raw)))

    def computed(self, compute: Callable[[], Sequence[float]], dtype: Any) -> list[Cell]:
        """Return numbers, as arrays without axes, that `compute` computes before every run."""
        numbers = Numbers(compute, np.dtype(dtype))
        self.numbers.append(numbers)
        cells: list[Cell] = []
        for place, array in enumerate(numbers.arrays):
            raw = array.copy()
            cells.append(Cell(self.tracer(raw, self.input(raw, NumberSource(numbers, place, numbers.dtype)))))
        return cells

    def state(self, array: np.ndarray) -> Cell:
        """Return an array that is kept from run to run, to be read and written as a Cell."""
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
        brought = self._brought(tensor)
        if brought is not None and not brought.gradient_was_set:
            brought.gradient_was_read = True

    def set_gradient(self, tensor: Any) -> None:
        """Take note that the `.grad` of a Tensor is set."""
        brought = self._brought(tensor)
        if brought is not None:
            brought.gradient_was_set = True

    def _brought(self, tensor: Any) -> Brought | None:
        if type(tensor) is not boxing.Tracer:
            self.bring(tensor)
        return self._held.get(id(tensor))

    # ------------------------------------------------------------------ what is done

    def lift(self, tensor: Any, node: Any = None) -> Any:
        """Return a tracer of this trace for a Tensor of any level, with a Node on this level's tape."""
        made = super().lift(tensor, node)
        self._made.append(weakref.ref(made))
        return made

    def process(self, primitive: Primitive, args: Sequence[Any], params: Params) -> Any:
        """Compute the operation on raw arrays, and write it down."""
        if capturing.current() is not self:
            raise CompileError(
                f"wg.compile({self.described}): another thread uses a Tensor of this function while it runs for the "
                "first time. Call it once before there are other threads"
            )
        if self.fastmath and primitive is boxing.operations.guarded_product.primitive:
            primitive = boxing.operations.multiply.primitive
        states = [arg._state if type(arg) is boxing.Tracer else None for arg in args]
        operands = [arg if state is None else state.value for state, arg in zip(states, args)]
        kind = self._abstract(primitive, states, operands, params)
        if kind is not None:
            made = [self.tracer(None, Value(*kind), kind[0] == ())]
        else:
            raws = [operand if state is None else state.raw for state, operand in zip(states, operands)]
            try:
                out = primitive.impl(backend.numpy, *raws, **params)
            except Exception as error:
                raise explain(primitive.name, tuple(raws), error) from error
            outs = [(np.asarray(y), isinstance(y, np.generic)) for y in (out if primitive.multiple else (out,))]
            if not any(map(_is_unknown, operands)):
                # What comes of constants alone is one, and Python may ask for it.
                made = [self.tracer(y, Value(y.shape, y.dtype, y), is_number) for y, is_number in outs]
                return tuple(made) if primitive.multiple else made[0]
            made = [self.tracer(y, Value(y.shape, y.dtype), is_number) for y, is_number in outs]
        values = tuple([y._state.value for y in made])
        values[0].where = location(made[0]._state)
        equation = Equation(primitive, tuple(operands), params, values)
        self.equations.append(equation)
        self._makers.update(dict.fromkeys(values, equation))
        return tuple(made) if primitive.multiple else made[0]

    def _abstract(
        self, primitive: Primitive, states: Sequence[Captured | None], operands: Sequence[Any], params: Params
    ) -> Any:
        """Return shape and dtype of a result that is not to be computed now; None: it is."""
        size = 0
        for state in states:
            if state is not None:
                size = max(size, _MUCH if state.is_unknown else state.value.size)
        if size < _MUCH:
            return None
        kinds = [operand if state is None else (state.shape, state.dtype) for state, operand in zip(states, operands)]
        return kind_of(primitive, kinds, params)

    def compute(self, value: Value) -> np.ndarray:
        """Return what a value is in this run, which was put off until now."""
        needed: dict[Equation, None] = {}
        waiting = [value]
        while waiting:
            maker = self._makers.get(waiting.pop())
            if maker is not None and maker not in needed and any([v not in self._computed for v in maker.outputs]):
                needed[maker] = None
                waiting.extend(maker.values())
        known = ChainMap(self._computed, self.raws)
        for equation in [equation for equation in self.equations if equation in needed]:
            operands = [operand_in(known, operand) for operand in equation.inputs]
            self._computed.update(zip(equation.outputs, computed(equation, operands)))
        return self._computed[value]

    def state_of(self, tensor: Any) -> Captured:
        """Return the state of a Tensor from further out."""
        if type(tensor) is not boxing.Tracer:
            self.bring(tensor)
        return tensor._state

    def decide(self, state: Captured, what: str) -> Any:
        """Let Python code depend on one boolean or integer: a later run must find the same, or takes another path."""
        if state.value.constant is not None:
            return state.raw
        if state.raw.size != 1 or state.raw.dtype.kind not in "biu":
            frame = user_frame(calling_frame())
            asked = f"{_asked_for(what)} a {state.dtype} Tensor of shape {state.shape}, made at {location(state)}"
            raise CompileError(
                f"wg.compile({self.described}): {frame.f_code.co_filename}:{frame.f_lineno} asks for {asked}, which is "
                "known only when the compiled function runs. Return the Tensor and ask outside, print it as it is "
                "(print(x), without a format), or compute with it: wg.where, wg.cond and wg.while_loop choose without "
                "asking. Booleans and single integers may be asked for: each answer is compiled as a path of its own"
            )
        self.decisions.append((state.value, state.raw.copy(), location(state)))
        return state.raw

    def check(self, tensor: Any, check: Callable[[np.ndarray], None]) -> None:
        """Have `check(values)` called for a tracer now, and before every run: it raises if they will not do."""
        state = tensor._state
        check(state.raw)
        self.checks.append((state.value, check))

    def report(self, say: Callable[..., None], tensors: Sequence[Any]) -> None:
        """Have `say(*tensors)` called after this run and every other, with the values that tracers then have."""
        states = [tensor._state if self.follows(tensor) else tensor for tensor in tensors]
        self.reports.append((say, states))

    def unrepeatable(self, deed: str) -> None:
        """Take note that the function does something that only its Python code can do again."""
        self.deeds.append(deed)

    def refuse(self, reason: str) -> None:
        """Refuse to compile the function."""
        raise CompileError(f"wg.compile({self.described}): {reason}")

    def expect_finite(self, tensors: Sequence[Any]) -> None:
        """Let the program count only if these tracers are finite: where they aren't, the function itself is run."""
        if self.fastmath:
            return
        operations = boxing.operations
        before = set_recording(False)
        try:
            for tensor in tensors:
                if self.follows(tensor) and tensor.dtype.kind in "fc" and tensor._state.value.constant is None:
                    finite = operations.all(operations.isfinite(boxing.with_node(tensor, None)))
                    self.expected.append(finite._state.value)
        finally:
            set_recording(before)

    def guard_was_left_out(self) -> None:
        """Take note that a product in a sweep was not guarded: what the sweep ends with must be finite."""
        self._unguarded = True

    def end_of_sweep(self, cotangents: Sequence[Any]) -> None:
        """Take note of the cotangents that a sweep ends with."""
        if self._unguarded:
            self._unguarded = False
            self.expect_finite([part for bar in cotangents for part in capturing.parts_followed(densify(bar))])

    def condition(self, begin: int = 0) -> Value | None:
        """Return whether all that was expected (from the `begin`-th on) is so, as one boolean; None if nothing was."""
        expected = self.expected[begin:]
        if not expected:
            return None
        logical_and = boxing.operations.logical_and.primitive
        total = expected[0]
        for value in expected[1:]:
            joint = Value((), np.dtype(np.bool_))
            self.equations.append(Equation(logical_and, (total, value), {}, (joint,)))
            total = joint
        return total

    def follows(self, tensor: Any) -> bool:
        """Return whether a Tensor is a tracer of this capture."""
        return type(tensor) is boxing.Tracer and tensor._state.trace is self

    def update(self, tensors: Sequence[Any], update: Callable[[list[Any]], None]) -> None:
        """Let `update` change the values of Tensors off the tape, on Cells in place of arrays."""
        for tensor in tensors:
            capturing.bring(tensor)
        cells = [Cell(boxing.with_node(tensor, None)) for tensor in tensors]
        before = set_recording(False)
        try:
            update(cells)
            for tensor, cell in zip(tensors, cells):
                boxing.operations.overwrite(tensor, cell.tensor, "update_buffer")
        finally:
            set_recording(before)

    # ------------------------------------------------------------------ how it ends

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function in the capture; where it fails, everything is put back to what it was."""
        capturing.begin(self)
        try:
            with self:
                return function()
        except BaseException:
            capture = capturing.suspend()
            for say, states in self.reports:  # what was printed until then helps to understand
                say(*[boxing.box(state.raw) if isinstance(state, Captured) else state for state in states])
            capturing.resume(capture)
            for brought in reversed(self.brought):
                brought.restore()
            raise
        finally:
            capturing.end()

    def release(self, tensor: Any, former: Any) -> None:
        """Leave Tensors as they are for now: `effects` settles what becomes of them."""

    def leaks(self, but: Iterable[Any]) -> list[str]:
        """Return where values were made that somebody outside still holds, but for the Tensors given.

        In this run they are what they would have been without a capture; later runs would leave them behind.
        """
        known = {id(tensor) for tensor in but}
        self._forget()
        for collecting in (False, True):
            if collecting:
                gc.collect()
            places = self._held_outside(known)
            if not places:
                break
        return places

    def _held_outside(self, known: set[int]) -> list[str]:
        places: list[str] = []
        for reference in self._made:
            tensor = reference()
            if tensor is not None and type(tensor) is boxing.Tracer and id(tensor) not in known:
                places.append(f"the Tensor made at {location(tensor._state)}")
                boxing.become(tensor, boxing.box(tensor._state.raw.copy()))
        for reference in self._fresh.values():
            tensor = reference()
            if tensor is not None and id(tensor) not in known:
                places.append(f"a Tensor of shape {tensor.shape}")
        return places

    def _forget(self) -> None:
        """Let go of all Tensors that only the capture holds."""
        for brought in self.brought:
            if brought.fresh:
                brought.tensor = None
        self._held.clear()
        self.nodes.clear()
        self._gradients.clear()
        self.states.clear()


def _asked_for(what: str) -> str:
    return "the value of" if what.startswith("the value of") else f"{what} of"


def _is_unknown(operand: Any) -> bool:
    return isinstance(operand, Value) and operand.constant is None


def _is_same_memory(one: np.ndarray, other: np.ndarray) -> bool:
    place, another = one.__array_interface__, other.__array_interface__
    return one.shape == other.shape and one.dtype == other.dtype and place["data"] == another["data"]


__all__ = ["Brought", "CaptureTrace", "Captured", "CompileError"]
