"""Forward mode: a tracer carries a value and its tangent, and every operation pushes both through its jvp rule."""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from sys import _getframe
from types import FrameType
from typing import Any

import numpy as np

from .. import backend
from ..typing import Params
from . import boxing, capturing, native
from .batching import BatchTrace, Mapped
from .dispatch import explain
from .primitive import CLOSURE, LINEAR, NONDIFFERENTIABLE, Primitive
from .recording import is_recording
from .tape import user_frame
from .tracing import State, Trace, calling_frame, leaked
from .zeros import ZERO, is_zero

_new: Any = object.__new__
NO_PARAMS: dict[str, Any] = {}
_QUICK = 4
"""How many frames lie between a user and `dual` on the quick paths, at least."""
_NUMBERS = frozenset((bool, int, float, complex))


class Dual(State):
    """A value, and its tangent: a Tensor of the same shape and dtype, or ZERO."""

    __slots__ = ("primal", "tangent")

    def __init__(self, trace: Trace, primal: Any, tangent: Any, frame: FrameType) -> None:
        super().__init__(trace, frame)
        self.primal = primal
        self.tangent = tangent

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.primal.shape

    @property
    def dtype(self) -> Any:
        """The dtype of the value."""
        return self.primal.dtype

    def concrete(self, what: str) -> Any:
        """Return the raw value; Python code may depend on it, as it may on any Tensor's."""
        if not self.trace.is_open:
            raise leaked(self)
        return self.primal._raw() if type(self.primal) is not boxing.Tracer else self.primal._state.concrete(what)

    @property
    def layout(self) -> Any:
        """What lies in memory as the value does."""
        return self.primal._state.layout if type(self.primal) is boxing.Tracer else boxing.data_of(self.primal)

    def laid_out(self) -> Any:
        """Return such an array even if it has to be computed first."""
        return self.primal._state.laid_out() if type(self.primal) is boxing.Tracer else boxing.data_of(self.primal)

    @property
    def varies(self) -> bool:
        """Whether the tangent may be other than zero."""
        return self.tangent is not ZERO or (type(self.primal) is boxing.Tracer and self.primal._state.varies)

    def parts(self) -> tuple[Any, ...]:
        """Return the value, and the tangent if there is one."""
        return (self.primal,) if self.tangent is ZERO else (self.primal, self.tangent)

    def __repr__(self) -> str:
        return f"value {self.primal!r}, tangent {'zero' if self.tangent is ZERO else repr(self.tangent)}"


class ForwardTrace(Trace):
    """One run of a function on values and tangents."""

    __slots__ = ()

    def dual(self, primal: Any, tangent: Any, depth: int = 1) -> Any:
        """Return a tracer for a value and its tangent; the innermost `depth` frames are known to be no user's."""
        state = _new(Dual)
        state.trace = self
        state.primal = primal
        state.tangent = tangent
        frame = user_frame(_getframe(depth))
        state.code = frame.f_code
        state.instruction = frame.f_lasti
        tracer = boxing.Tracer()
        tracer._state = state
        tracer._node = None
        return tracer

    def state_of(self, tensor: Any) -> Dual:
        """Return the state of a constant."""
        return Dual(self, tensor, ZERO, calling_frame())

    def assembled(self, form: Any, parts: Sequence[Any]) -> Any:
        """Return a tracer for a value and its tangent, or for a value alone."""
        return self.dual(*parts) if len(parts) > 1 else self.dual(parts[0], ZERO)

    def process(self, primitive: Primitive, args: Sequence[Any], params: Params) -> Any:
        """Push values and tangents through the primitive's jvp rule; constants stay further out."""
        primals: list[Any] = []
        tangents: list[Any] = []
        moving = False
        tracer_type = boxing.Tracer
        for arg in args:
            if type(arg) is tracer_type and arg._state.trace is self:
                state = arg._state
                primals.append(state.primal)
                tangents.append(state.tangent)
                moving = moving or state.tangent is not ZERO
            else:
                primals.append(arg)
                tangents.append(ZERO)
        # Under no_grad() everything is a constant: in this mode, too.
        recording = is_recording()
        kind = primitive.kind
        if not moving or kind == NONDIFFERENTIABLE or recording is False:
            out = primitive.call(*primals, **params)
            return self.dual(out, ZERO) if primitive.view else out
        on_tensors = kind == CLOSURE or (kind == LINEAR and len(args) == 1)
        raw = None if on_tensors else _raw_arguments(primals, tangents, recording)
        if raw is not None:
            out, out_dot = _pushed_raw(primitive, raw[0], raw[1], params)
        else:
            out, out_dot = primitive.jvp(boxing.operations, tuple(primals), tuple(tangents), params)
        if primitive.multiple:
            return tuple([self._pair(y, y_dot) for y, y_dot in zip(out, out_dot)])
        return self._pair(out, out_dot)

    def quick(self, primitive: Primitive, x: Any) -> Any:
        """Push one value and its tangent through an elementwise primitive, on raw arrays if nobody else looks on."""
        state = x._state
        primal, tangent = state.primal, state.tangent
        recording = is_recording()
        if tangent is ZERO or recording is False or not self._before:
            return None
        value = _raw_of(primal, recording)
        dot, batch = _raw_tangent(tangent, recording)
        if value is not None and dot is not None:
            pushed = None
            if native.engaged and batch is None and value.size >= native.smallest:
                pushed = native.pushed(primitive, (value,), (dot,))
            try:
                if pushed is None:
                    pushed = primitive.push(value, dot) if batch is None else primitive.push(value, dot, (batch.size,))
            except Exception:
                return None  # the general path meets the error again, and explains it
            return self._boxed(pushed, batch)
        out, out_dot = primitive.jvp(boxing.operations, (primal,), (tangent,), NO_PARAMS)
        return None if out_dot is ZERO else self.dual(out, out_dot)

    def quick_binary(self, primitive: Primitive, x: Any, y: Any) -> Any:
        """Push two values, one of them perhaps a constant, through an elementwise primitive."""
        recording = is_recording()
        if recording is False or not self._before:
            return None
        first, second = self._raw_dual(x, recording), self._raw_dual(y, recording)
        if first is None or second is None:
            return self._quick_on_tensors(primitive, x, y, recording)
        pushed = None
        if native.engaged and (_is_large(first[0]) or _is_large(second[0])):
            pushed = native.pushed(primitive, (first[0], second[0]), (first[1], second[1]))
        try:
            out, out_dot = pushed or primitive.push(first[0], second[0], first[1], second[1])
        except Exception:
            return None
        return None if out_dot is ZERO else self.dual(boxing.box(out), boxing.box(out_dot), _QUICK)

    def _raw_dual(self, arg: Any, recording: Any) -> tuple[Any, Any] | None:
        """Return (raw value, raw tangent or ZERO) where nobody further out looks on; None elsewhere."""
        kind: Any = type(arg)
        if kind is boxing.Tracer:
            state = arg._state
            if state.trace is not self:
                return None
            primal, tangent = state.primal, state.tangent
            if type(primal) is not boxing.Tensor or (recording and primal._node is not None):
                return None
            if tangent is ZERO:
                return primal._data, ZERO
            if type(tangent) is not boxing.Tensor or (recording and tangent._node is not None):
                return None
            return primal._data, tangent._data
        if kind is boxing.Tensor:
            return None if recording and arg._node is not None else (arg._data, ZERO)
        return (arg, ZERO) if kind is float or kind is int else None

    def _quick_on_tensors(self, primitive: Primitive, x: Any, y: Any, recording: Any) -> Any:
        first, second = self._apart(x), self._apart(y)
        if first is None or second is None or (first[1] is ZERO and second[1] is ZERO):
            return None
        x_raw, y_raw = _raw_of(first[0], recording), _raw_of(second[0], recording)
        if x_raw is not None and y_raw is not None:
            x_dot, x_batch = _raw_tangent(first[1], recording)
            y_dot, y_batch = _raw_tangent(second[1], recording)
            batch = x_batch or y_batch
            if batch is not None and (x_batch is batch or x_dot is ZERO) and (y_batch is batch or y_dot is ZERO):
                if x_dot is not None and y_dot is not None and _ranks_agree(x_raw, y_raw, x_dot, y_dot):
                    try:
                        return self._boxed(primitive.push(x_raw, y_raw, x_dot, y_dot, (batch.size,)), batch)
                    except Exception:
                        return None
        out, out_dot = primitive.jvp(boxing.operations, (first[0], second[0]), (first[1], second[1]), NO_PARAMS)
        return None if out_dot is ZERO else self.dual(out, out_dot)

    def _boxed(self, pushed: tuple[Any, Any], batch: BatchTrace | None) -> Any:
        out, out_dot = pushed
        if out_dot is ZERO:
            return None
        dot = boxing.box(out_dot)
        return self.dual(boxing.box(out), dot if batch is None else batch.mapped(dot))

    def _apart(self, arg: Any) -> tuple[Any, Any] | None:
        """Return (value, tangent or ZERO) of a Tensor or a number; None for anything else."""
        kind: Any = type(arg)
        if kind is boxing.Tracer and arg._state.trace is self:
            return arg._state.primal, arg._state.tangent
        return (arg, ZERO) if kind is boxing.Tensor or kind is boxing.Tracer or kind is float or kind is int else None

    def _pair(self, out: Any, out_dot: Any) -> Any:
        return self.dual(out, out_dot) if not is_zero(out_dot) and out.dtype.kind in "fc" else out

    def release(self, tensor: Any, former: Any) -> None:
        """Leave the value to a Tensor that outlives the transform; the tangent means nothing outside."""
        boxing.become(tensor, tensor._state.primal)


def _is_large(value: Any) -> bool:
    return type(value) is np.ndarray and value.size >= native.smallest


def _raw_of(value: Any, recording: Any) -> Any:
    """Return what stands for a value, a tangent, or a number on raw arrays; None if somebody else looks on."""
    kind: Any = type(value)
    if kind is boxing.Tensor:
        return None if recording and value._node is not None else value._data
    return None if kind is boxing.Tracer else value


def _raw_tangent(tangent: Any, recording: Any) -> tuple[Any, BatchTrace | None]:
    """Return (a raw tangent, or a stack of them, or ZERO; whose `vmap` mapped them); (None, None) if other."""
    if type(tangent) is boxing.Tracer:
        state = tangent._state
        if type(state) is Mapped and state.axis is not None and state.trace.is_open:
            return _raw_of(state.value, recording), state.trace
        return None, None
    return _raw_of(tangent, recording), None


def _ranks_agree(x: Any, y: Any, x_dot: Any, y_dot: Any) -> bool:
    """Return whether stacked tangents broadcast as single ones do: their values have the rank of the result."""
    x_rank, y_rank = getattr(x, "ndim", 0), getattr(y, "ndim", 0)
    return x_rank == y_rank or (y_dot is ZERO and y_rank < x_rank) or (x_dot is ZERO and x_rank < y_rank)


def _raw_arguments(primals: list[Any], tangents: list[Any], recording: Any) -> tuple[tuple[Any, ...], ...] | None:
    """Return raw values and tangents where nobody further out records or traces: arithmetic is cheapest there."""
    if capturing.engaged:
        return None
    values: list[Any] = []
    for value in primals:
        if type(value) is boxing.Tensor:
            if (value._node is not None and recording) or type(value._data) is not np.ndarray:
                return None
            values.append(value._data)
        elif type(value) in _NUMBERS:
            values.append(value)
        else:
            return None
    dots: list[Any] = []
    for tangent in tangents:
        if tangent is ZERO:
            dots.append(ZERO)
        elif type(tangent) is boxing.Tensor and not (tangent._node is not None and recording):
            dots.append(tangent._data)
        else:
            return None
    return tuple(values), tuple(dots)


def _pushed_raw(primitive: Primitive, values: tuple[Any, ...], dots: tuple[Any, ...], params: Params) -> Any:
    try:
        out, out_dot = primitive.jvp(backend.numpy, values, dots, params)
    except Exception as error:
        raise explain(primitive.name, values, error) from error
    if primitive.multiple:
        return [boxing.box(y) for y in out], [d if is_zero(d) else boxing.box(d) for d in out_dot]
    if not hasattr(out, "dtype"):
        out = np.asarray(out)
    return boxing.box(out), out_dot if is_zero(out_dot) else boxing.box(out_dot)


__all__ = ["Dual", "ForwardTrace"]
