"""Programs of recorded operations that can be run again: how a linear map is kept once it has been traced.

Values are computed while a program is recorded, so shapes and dtypes need no inference of their own.
"""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType
from typing import Any, NamedTuple

from ..typing import Params
from . import boxing
from .primitive import Primitive
from .tracing import State, Trace, calling_frame, snapshot
from .zeros import ZERO


class Staged(State):
    """A value that was computed, and its place in the program that computes it."""

    __slots__ = ("slot", "value")

    def __init__(self, trace: Trace, value: Any, slot: int, frame: FrameType) -> None:
        super().__init__(trace, frame)
        self.value = value
        self.slot = slot

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.value.shape

    @property
    def dtype(self) -> Any:
        """The dtype of the value."""
        return self.value.dtype

    def concrete(self, what: str) -> Any:
        """Refuse: another run of the program has other values."""
        raise TypeError(f"{what} cannot be had of a tangent while it is traced by {self.trace.name}")

    @property
    def varies(self) -> bool:
        """Always."""
        return True

    def parts(self) -> tuple[Any, ...]:
        """Return the value."""
        return (self.value,)


class _Slot(NamedTuple):
    """An argument of an operation that is computed by the program itself."""

    number: int


class Operation(NamedTuple):
    """One operation of a program: arguments are slots or constants; results go into slots."""

    primitive: Primitive
    args: tuple[Any, ...]
    params: Params
    results: tuple[int, ...]


class Program:
    """Operations in order, with what goes in and what comes out."""

    __slots__ = ("_inputs", "_last_uses", "_operations", "_outputs")

    def __init__(self, inputs: tuple[int, ...], operations: Sequence[Operation], outputs: tuple[Any, ...]) -> None:
        needed = {out.number for out in outputs if isinstance(out, _Slot)}
        kept: list[Operation] = []
        self._last_uses: list[tuple[int, ...]] = []
        for operation in reversed(operations):
            if needed.isdisjoint(operation.results):
                continue
            kept.append(operation)
            used = {arg.number for arg in operation.args if isinstance(arg, _Slot)}
            self._last_uses.append(tuple(used - needed))
            needed |= used
        self._operations = tuple(reversed(kept))
        self._last_uses.reverse()
        self._inputs = inputs
        self._outputs = outputs

    def run(self, values: Sequence[Any]) -> list[Any]:
        """Return the outputs for values of the inputs."""
        slots: dict[int, Any] = dict(zip(self._inputs, values))
        for operation, dead in zip(self._operations, self._last_uses):
            args = [slots[arg.number] if type(arg) is _Slot else arg for arg in operation.args]
            out = operation.primitive.call(*args, **operation.params)
            if operation.primitive.multiple:
                slots.update(zip(operation.results, out))
            else:
                slots[operation.results[0]] = out
            for index in dead:
                slots.pop(index, None)
        return [slots[out.number] if type(out) is _Slot else out for out in self._outputs]

    def __len__(self) -> int:
        return len(self._operations)


class LinearTrace(Trace):
    """Records what is done to tangents, so that it can be done to others."""

    __slots__ = ("_count", "_inputs", "_operations")

    def __init__(self, name: str, described: str) -> None:
        super().__init__(name, described)
        self._count = 0
        self._inputs: list[int] = []
        self._operations: list[Operation] = []

    def argument(self, value: Any) -> Any:
        """Return a tracer for an input of the program."""
        made = self._placed(value)
        self._inputs.append(made._state.slot)
        return made

    def state_of(self, tensor: Any) -> Staged:
        """Refuse: a constant has no place in the program, and nothing on this level is ever recorded on a tape."""
        raise TypeError("a constant cannot be lifted to the level of a linear program")

    def _placed(self, value: Any) -> Any:
        self._count += 1
        return boxing.box_state(Staged(self, value, self._count, calling_frame()))

    def process(self, primitive: Primitive, args: Sequence[Any], params: Params) -> Any:
        """Compute the operation, and write it down."""
        values: list[Any] = []
        places: list[Any] = []
        for arg in args:
            if type(arg) is boxing.Tracer and arg._state.trace is self:
                values.append(arg._state.value)
                places.append(_Slot(arg._state.slot))
            else:
                constant = snapshot(arg)
                values.append(constant)
                places.append(constant)
        out = primitive.call(*values, **params)
        made = tuple([self._placed(y) for y in (out if primitive.multiple else (out,))])
        results = tuple([y._state.slot for y in made])
        self._operations.append(Operation(primitive, tuple(places), params, results))
        return made if primitive.multiple else made[0]

    def program(self, outputs: Sequence[Any]) -> Program:
        """Return the program that computes the outputs: tracers of this trace, constants, or ZERO."""
        ends: list[Any] = []
        for out in outputs:
            traced = type(out) is boxing.Tracer and out._state.trace is self
            ends.append(_Slot(out._state.slot) if traced else out if out is ZERO else snapshot(out))
        operations, self._operations = self._operations, []
        return Program(tuple(self._inputs), operations, tuple(ends))

    def release(self, tensor: Any, former: Any) -> None:
        """Put a Tensor that outlives the recording back to what it was."""
        boxing.become(tensor, former)


__all__ = ["LinearTrace", "Operation", "Program"]
