"""Batching: a tracer stands for many values of one shape, stacked along a first axis that its user does not see."""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import _getframe
from types import FrameType
from typing import Any, Literal

import numpy as np

from ..errors import LeakedTracerError, MappedValueError
from ..typing import Params, Shape
from . import boxing, capturing
from .primitive import Primitive
from .recording import is_recording
from .tape import location, user_frame
from .tracing import State, Trace, calling_frame, leaked, open_traces, snapshot

_new: Any = object.__new__
Randomness = Literal["error", "different", "same"]


class Mapped(State):
    """Many values, along the first axis of `value`; or one that is the same for all, where `axis` is None."""

    __slots__ = ("axis", "value")

    def __init__(self, trace: Trace, value: Any, axis: int | None, frame: FrameType) -> None:
        super().__init__(trace, frame)
        self.value = value
        self.axis = axis

    @property
    def dtype(self) -> Any:
        """The dtype of the values."""
        return self.value.dtype

    @property
    def shape(self) -> Shape:
        """The shape of one of the values."""
        return self.value.shape if self.axis is None else self.value.shape[1:]

    def concrete(self, what: str) -> Any:
        """Return the raw value if it is the same for all.

        Raises:
            MappedValueError: there are many values, and Python code can take only one path.
        """
        trace: BatchTrace = self.trace
        if not trace.is_open:
            raise leaked(self)
        if self.axis is None:
            return self.value._raw() if type(self.value) is not boxing.Tracer else self.value._state.concrete(what)
        raise MappedValueError(
            f"{what} needs one value, but in {trace.name}({trace.described}) the Tensor made at {location(self)} "
            f"stands for {trace.size} of them, which may differ. To choose element by element use "
            "wg.where(condition, a, b); wg.cond and wg.while_loop take predicates that differ; for anything "
            "else call the function in a Python loop over the examples"
        )

    @property
    def layout(self) -> Any:
        """What lies in memory as one of the values would by itself: with its axes in the order that they have here."""
        values = self.value._state.layout if type(self.value) is boxing.Tracer else boxing.data_of(self.value)
        if values is None or self.axis is None:
            return values
        if not len(values):
            return None
        return np.empty_like(values[0]) if type(values) is np.ndarray else values[0]

    @property
    def form(self) -> int | None:
        """Where in the one part the values are, None if it is the same for all."""
        return self.axis

    @property
    def varies(self) -> bool:
        """Whether there may be many values."""
        return self.axis is not None or (type(self.value) is boxing.Tracer and self.value._state.varies)

    def parts(self) -> tuple[Any, ...]:
        """Return the values as one Tensor."""
        return (self.value,)

    def __repr__(self) -> str:
        return f"the same for all, {self.value!r}" if self.axis is None else f"{self.trace.size} values"


class BatchTrace(Trace):
    """One run of a function on all examples at once.

    Attributes:
        size: how many examples there are.
        randomness: what random numbers are to each: an error, different ones, or the same ones.
    """

    __slots__ = ("randomness", "size")

    def __init__(self, name: str, described: str, size: int, randomness: Randomness = "error") -> None:
        super().__init__(name, described)
        self.size = size
        self.randomness: Randomness = randomness

    def mapped(self, value: Any) -> Any:
        """Return a tracer for the values along the first axis of a Tensor."""
        state = _new(Mapped)
        state.trace = self
        state.value = value
        state.axis = 0
        frame = user_frame(_getframe(1))
        state.code = frame.f_code
        state.instruction = frame.f_lasti
        tracer = boxing.Tracer()
        tracer._state = state
        tracer._node = None
        return tracer

    def state_of(self, tensor: Any) -> Mapped:
        """Return the state of a Tensor that is the same for all."""
        return Mapped(self, tensor, None, calling_frame())

    def assembled(self, form: Any, parts: Sequence[Any]) -> Any:
        """Return a tracer for many values, or for one that is the same for all."""
        return boxing.box_state(Mapped(self, parts[0], form, calling_frame()))

    def apart(self, tensor: Any) -> tuple[Any, int | None]:
        """Return (the values of a Tensor as seen from outside, the axis of the examples); None: the same for all."""
        if type(tensor) is boxing.Tracer and tensor._state.trace is self:
            return snapshot(tensor._state.value), tensor._state.axis
        return snapshot(tensor), None

    def repeated(self, value: Any) -> Any:
        """Return a value once for each example, stacked in front, in memory of its own."""
        return boxing.operations.broadcast_to(value, (self.size, *value.shape)).clone()

    def process(self, primitive: Primitive, args: Sequence[Any], params: Params) -> Any:
        """Apply the primitive's batching rule; what is the same for all examples stays further out."""
        values: list[Any] = []
        axes: list[int | None] = []
        mapped = False
        tracer_type = boxing.Tracer
        for arg in args:
            if type(arg) is tracer_type and arg._state.trace is self:
                state = arg._state
                values.append(state.value)
                axes.append(state.axis)
                mapped = mapped or state.axis is not None
            else:
                values.append(arg)
                axes.append(None)
        if not mapped:
            out = primitive.call(*values, **params)
            return boxing.box_state(self.state_of(out)) if primitive.view else out
        out, out_axis = primitive.batch(boxing.operations, tuple(values), tuple(axes), params)
        if primitive.multiple:
            return tuple([self._with_axis(y, axis) for y, axis in zip(out, out_axis)])
        return self._with_axis(out, out_axis)

    def quick(self, primitive: Primitive, x: Any) -> Any:
        """Apply an elementwise primitive to all values at once, on raw arrays."""
        state = x._state
        value = state.value
        if state.axis is None or type(value) is not boxing.Tensor or (value._node is not None and is_recording()):
            return None
        if not self._before:
            return None
        try:
            return self.mapped(boxing.box(primitive.kernel(value._data)))
        except Exception:
            return None  # the general path meets the error again, and explains it

    def quick_binary(self, primitive: Primitive, x: Any, y: Any) -> Any:
        """Apply an elementwise primitive to all values at once, where nothing stands in the way of broadcasting."""
        recording = is_recording()
        first, second = self._raw_mapped(x, recording), self._raw_mapped(y, recording)
        if first is None or second is None or not self._before:
            return None
        (x_raw, x_mapped, x_rank), (y_raw, y_mapped, y_rank) = first, second
        # The axis of the examples must meet itself alone.
        if x_rank < y_rank and x_mapped:
            x_raw = x_raw.reshape((self.size,) + (1,) * (y_rank - x_rank) + x_raw.shape[1:]) if y_mapped else None
        elif y_rank < x_rank and y_mapped:
            y_raw = y_raw.reshape((self.size,) + (1,) * (x_rank - y_rank) + y_raw.shape[1:]) if x_mapped else None
        if x_raw is None or y_raw is None:
            return None
        try:
            return self.mapped(boxing.box(primitive.kernel(x_raw, y_raw)))
        except Exception:
            return None

    def _raw_mapped(self, arg: Any, recording: Any) -> tuple[Any, bool, int] | None:
        """Return (raw value, whether it is mapped, the rank of one value) where nobody further out looks on."""
        kind: Any = type(arg)
        if kind is float or kind is int:
            return arg, False, 0
        mapped = kind is boxing.Tracer
        if mapped:
            if arg._state.trace is not self or arg._state.axis is None:
                return None
            arg = arg._state.value
        if type(arg) is not boxing.Tensor or (recording and arg._node is not None):
            return None
        return arg._data, mapped, arg._data.ndim - mapped

    def _with_axis(self, out: Any, axis: int | None) -> Any:
        if axis is None:
            return out
        return self.mapped(out if axis == 0 else boxing.operations.moveaxis(out, axis, 0))

    def release(self, tensor: Any, former: Any) -> None:
        """Put a Tensor that outlives the transform back to what it was, and say so, unless all examples agree."""
        state = tensor._state
        if state.axis is None:
            boxing.become(tensor, state.value)
            return
        boxing.become(tensor, former)
        raise LeakedTracerError(
            f"{self.name}({self.described}): at {location(state)} a value that differs from example to example was "
            "written into a Tensor that was made outside of the function and cannot hold all of them; it was put back "
            "to what it was. Make the Tensor inside of the function, or return the value and write it afterwards"
        )


def drawn(draw: Callable[[Shape], np.ndarray], shape: Shape) -> Any:
    """Return random numbers of a shape, under the policies of all `vmap`s that are at work here.

    Args:
        draw: makes a raw array of a given shape.
        shape: the shape that the user sees.

    Raises:
        MappedValueError: a `vmap` has no policy.
    """
    capture = capturing.current()
    tracing = [trace for trace in open_traces() if isinstance(trace, BatchTrace)]
    for trace in tracing:
        if trace.randomness == "error":
            raise MappedValueError(
                f"{trace.name}({trace.described}): random numbers were drawn in the mapped function, and it was not "
                'said whether every example gets its own. Pass randomness="different" or randomness="same" to vmap'
            )
    apart = [trace for trace in tracing if trace.randomness == "different"]
    joint = (*[trace.size for trace in apart], *shape)
    value = boxing.box(np.asarray(draw(joint))) if capture is None else capture.drawn(draw, joint)
    for trace in apart:  # the outermost has the first axis; what is left of the shape belongs to those further in
        value = trace.mapped(value)
    return value


__all__ = ["BatchTrace", "Mapped", "Randomness", "drawn"]
