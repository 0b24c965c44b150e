"""Transforms at work: the stack of open traces, and what all of them have in common.

A trace stands for one run of one transform (`jvp`, `vmap`, `linearize`). Its tracers are Tensors that box a *state*
instead of an array: what the value is made of one level further out. An operation goes to the innermost trace among its
arguments, which computes with the parts, further out; so levels never mix, and perturbations are never confused.

Each level has a tape of its own on top: a tracer may have a Node as any Tensor may, and Nodes that are recorded over
tracers keep Tensors. So reverse mode nests in every transform, and every transform in reverse mode.
"""

# The slots of Tensor and the frames of the interpreter are this layer's business.
# pyright: reportPrivateUsage=false

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from types import CodeType, FrameType
from typing import Any

from ..errors import LeakedTracerError
from ..typing import Params
from . import boxing, capturing, native
from .primitive import Primitive
from .tape import Node, location, make_node, projection, user_frame

_next_level = count(1).__next__
_open: ContextVar[tuple[Trace, ...]] = ContextVar("wengert_open_traces", default=())

open_traces: Callable[[], tuple[Trace, ...]] = _open.get
"""The traces of the transforms that are at work here, the outermost first."""


def innermost_trace() -> Trace | None:
    """Return the innermost trace that is open here, or None."""
    traces = _open.get()
    return traces[-1] if traces else None


class State:
    """What a tracer boxes, in place of an array.

    Attributes:
        trace: the run of a transform that it belongs to.
        code, instruction: which line of whose code made it.
    """

    __slots__ = ("code", "instruction", "trace")
    trace: Any
    code: CodeType
    instruction: int

    def __init__(self, trace: Trace, frame: FrameType) -> None:
        self.trace = trace
        frame = user_frame(frame)
        self.code = frame.f_code
        self.instruction = frame.f_lasti

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the tracer shows."""
        raise NotImplementedError

    @property
    def dtype(self) -> Any:
        """The dtype that the tracer shows."""
        raise NotImplementedError

    def concrete(self, what: str) -> Any:
        """Return the one raw array that it stands for, or raise: there is none."""
        raise NotImplementedError

    @property
    def example(self) -> Any:
        """A raw array that lies in memory as the value would without a transform; None if there is none to be had."""
        return None

    @property
    def layout(self) -> Any:
        """A raw array, of whatever numbers, that lies in memory as the value would; None if there is none to be had."""
        return self.example

    def laid_out(self) -> Any:
        """Return such an array even if it has to be computed first; None if there is none to be had."""
        return self.layout

    @property
    def varies(self) -> bool:
        """Whether the transform has something to lose if the value is taken out of its sight."""
        raise NotImplementedError

    @property
    def is_differentiated(self) -> bool:
        """Whether what the transform has to lose is a derivative."""
        return self.varies

    def parts(self) -> tuple[Any, ...]:
        """Return the Tensors that it is made of, the value first."""
        raise NotImplementedError

    @property
    def form(self) -> Any:
        """What else it takes to put it together from its parts; equal forms take the same parts."""
        return None


class Trace:
    """One run of a transform. Open while its function runs; tracers are of no use afterwards.

    Attributes:
        level: larger for traces that began later, so that the innermost of several is the one of the largest level.
        name: the transform, as the user wrote it.
        described: the function that is transformed, for messages.
    """

    __slots__ = ("_before", "_converted", "described", "level", "name")

    def __init__(self, name: str, described: str) -> None:
        self.level = _next_level()
        self.name = name
        self.described = described
        self._before: list[tuple[tuple[Trace, ...], int]] = []
        self._converted: list[tuple[weakref.ref[Any], Any]] = []

    @property
    def is_open(self) -> bool:
        """Whether its function is running."""
        return bool(self._before)

    def __enter__(self) -> Any:
        before = _open.get()
        self._before.append((before, native.leave_to_numpy()))
        _open.set((*before, self))
        return self

    def __exit__(self, kind: object = None, *_exception: object) -> None:
        before, programs = self._before.pop()
        _open.set(before)
        native.go_on(programs)
        converted, self._converted = self._converted, []
        refusal: LeakedTracerError | None = None
        for reference, former in converted:
            tensor = reference()
            if tensor is not None and type(tensor) is boxing.Tracer and tensor._state.trace is self:
                try:
                    self.release(tensor, former)
                except LeakedTracerError as error:
                    refusal = refusal or error
        if refusal is not None and kind is None:  # an exception of the function's own matters more
            raise refusal

    def process(self, primitive: Primitive, args: Sequence[Any], params: Params) -> Any:
        """Apply a primitive to Tensors and numbers, among them tracers of this trace; return Tensors of any level."""
        raise NotImplementedError

    def quick(self, primitive: Primitive, x: Any) -> Any:
        """Apply an elementwise primitive to an untaped tracer where it takes raw arrays alone; None if it doesn't."""
        return None

    def quick_binary(self, primitive: Primitive, x: Any, y: Any) -> Any:
        """Do the same for two arguments, of which one is an untaped tracer of this trace, the other anything."""
        return None

    def state_of(self, tensor: Any) -> State:
        """Return the state by which a Tensor from further out is shown on this level: a constant to this transform."""
        raise NotImplementedError

    def assembled(self, form: Any, parts: Sequence[Any]) -> Any:
        """Return a tracer of this trace with a state of that form, made of these parts.

        Raises:
            TypeError: what this trace follows cannot be taken apart and put together again.
        """
        raise TypeError(f"values of {self.name} cannot be taken apart")

    def lift(self, tensor: Any, node: Node | None = None) -> Any:
        """Return a tracer of this trace for a Tensor of any level, with a Node on this level's tape."""
        if type(tensor) is boxing.Tracer and tensor._state.trace is self:
            return boxing.box_state(tensor._state, node)
        return boxing.box_state(self.state_of(snapshot(tensor)), node)

    def adopt(self, tensor: Any) -> None:
        """Make a Tensor from further out a tracer of this trace, for all who hold it, until the transform ends."""
        if capturing.engaged:
            capturing.bring(tensor)
        former = snapshot(tensor)
        self.note_conversion(tensor, former)
        boxing.become(tensor, self.lift(former))

    def release(self, tensor: Any, former: Any) -> None:
        """Decide what becomes of a Tensor that was made a tracer by a write, and outlives the transform."""
        raise NotImplementedError

    def note_reshaped(self, tensor: Any, out: Any) -> None:
        """Take note of a reshape: whether it is a view depends on how the Tensor lies in memory."""

    def note_recorded(self, tensor: Any, node: Node) -> None:
        """Take note that the result of an operation was put onto the tape of this level."""

    def note_renewed(self, tensor: Any, leaf: Node) -> None:
        """Take note that a leaf on this level was given new values off the tape."""

    def note_conversion(self, tensor: Any, former: Any) -> None:
        """Remember that a write made a Tensor a tracer of this trace."""
        self._converted.append((weakref.ref(tensor), former))

    def __repr__(self) -> str:
        return f"<{self.name} of {self.described}, level {self.level}{'' if self.is_open else ', ended'}>"


@contextmanager
def at_work(traces: tuple[Trace, ...]) -> Generator[None]:
    """Set the scene again in which something was computed: these traces are at work, and those that had ended, open."""
    before = _open.get()
    ended = [trace for trace in traces if not trace.is_open]
    try:
        for trace in ended:
            trace.__enter__()
        _open.set(traces)
        yield
    finally:
        for trace in reversed(ended):
            if trace.is_open:
                trace.__exit__()
        _open.set(before)


def is_tracer(value: Any) -> bool:
    """Return whether a value is a tracer of any trace."""
    return type(value) is boxing.Tracer


@contextmanager
def outside_of_traces() -> Generator[None]:
    """Let no transform be at work for the time of a `with` block: leaves that are made in it belong to none."""
    before = _open.get()
    _open.set(())
    try:
        yield
    finally:
        _open.set(before)


def is_at_the_innermost_level(tensor: Any) -> bool:
    """Return whether a Tensor is on the level of the innermost transform that is at work here, or there is none."""
    trace = innermost_trace()
    return trace is None or (type(tensor) is boxing.Tracer and tensor._state.trace is trace)


def bring_inside(tensor: Any) -> None:
    """Make a Tensor a tracer of the innermost transform at work here, where a tape of this level is to know it.

    When the transform ends, a Tensor that outlives it gets its value back, and its Node further out.
    """
    trace = innermost_trace()
    if trace is not None and not is_at_the_innermost_level(tensor):
        trace.adopt(tensor)


def is_followed(tensor: Any) -> bool:
    """Return whether derivatives of a Tensor are being taken, on a tape or by a transform."""
    if tensor._node is not None:
        return True
    return type(tensor) is boxing.Tracer and tensor._state.is_differentiated and tensor.dtype.kind in "fc"


def comes_of_something_tracked(tensor: Any) -> bool:
    """Return whether a tracer is made of Tensors that are on a tape further out."""
    parts = tensor._state.parts()
    return any([part._node is not None or (is_tracer(part) and comes_of_something_tracked(part)) for part in parts])


def made_at(tensor: Any) -> str:
    """Return "file:line" of the code that made a Tensor that is followed."""
    return location(tensor._state if tensor._node is None else tensor._node)


def leaked(state: Any) -> LeakedTracerError:
    """Return the error for a tracer that is used after its transform has ended."""
    trace = state.trace
    return LeakedTracerError(
        f"a value of {trace.name}({trace.described}) was used after that transform had ended: it was made at "
        f"{location(state)} and kept somewhere, say in a global, an attribute or a list outside of the function. "
        "Return it from the function instead; with has_aux=True anything can be returned besides the result"
    )


def snapshot(value: Any, keep_node: bool = True) -> Any:
    """Return a box of its own over a Tensor's value as it is now: later writes to the Tensor leave it alone."""
    if capturing.engaged and isinstance(value, boxing.Tensor):
        value = capturing.as_read(value)
    kind: Any = type(value)
    if kind is boxing.Tensor:
        return boxing.box(value._data, value._node if keep_node else None)
    if kind is boxing.Tracer:
        return boxing.box_state(value._state, value._node if keep_node else None)
    if kind is boxing.BorrowedTensor:
        value.become_owner()
        return boxing.box(value._data, value._node if keep_node else None)
    return value


def record(trace: Trace, primitive: Primitive, args: Sequence[Any], out: Any, params: Params) -> Any:
    """Put the result of an operation on tracers onto the tape of their level."""
    nodes: list[Any] = []
    data: list[Any] = []
    for arg in args:
        if type(arg) is boxing.Tracer and arg._state.trace is trace:
            nodes.append(arg._node)
            data.append(boxing.box_state(arg._state))
        else:
            nodes.append(None)
            data.append(snapshot(arg))
    gather = primitive.rules["plan"].gather
    if primitive.multiple:
        outs = [trace.lift(y) for y in out]
        saved = gather(tuple(data), tuple(nodes), tuple([boxing.box_state(y._state) for y in outs]))
        whole = make_node(primitive, tuple(nodes), saved, Several(outs), params)
        for i, y in enumerate(outs):
            y._node = projection(whole, i, y)
            trace.note_recorded(y, whole)
        return tuple(outs)
    if out.dtype.kind not in "fc":
        return out
    y = trace.lift(out)
    saved = gather(tuple(data), tuple(nodes), boxing.box_state(y._state))
    y._node = make_node(primitive, tuple(nodes), saved, y, params)
    trace.note_recorded(y, y._node)
    return y


class Several:
    """Stands for the joint output of an operation with several outputs, which has no one shape or dtype."""

    __slots__ = ("dtype", "shape")

    def __init__(self, outs: Any) -> None:
        self.shape = tuple([out.shape for out in outs])
        self.dtype = tuple([out.dtype for out in outs])


def calling_frame() -> FrameType:
    """Return the frame of whoever called the function that calls this."""
    return sys._getframe(2)


def plain_value(value: Any) -> Any:
    """Return the raw array of the values that a Tensor of any level stands for, without tangents."""
    while type(value) is boxing.Tracer:
        value = value._state.parts()[0]
    return boxing.data_of(value) if isinstance(value, boxing.Tensor) else value


def plain_parts(value: Any) -> list[Any]:
    """Return the raw arrays that a Tensor of any level is made of, those of tangents included."""
    if type(value) is not boxing.Tracer:
        return [boxing.data_of(value)] if isinstance(value, boxing.Tensor) else [value]
    return [raw for part in value._state.parts() for raw in plain_parts(part)]
