"""Forward mode: a tracer carries a value and its tangent, and every operation pushes both through its jvp rule."""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType
from typing import Any

import numpy as np

from .. import backend
from ..typing import Params
from . import boxing
from .dispatch import explain
from .primitive import NONDIFFERENTIABLE, Primitive
from .recording import is_recording
from .tracing import State, Trace, calling_frame, leaked
from .zeros import ZERO, is_zero

_NUMBERS = frozenset((bool, int, float, complex))


class Dual(State):
    """A value, and its tangent: a Tensor of the same shape and dtype, or ZERO."""

    __slots__ = ("primal", "tangent")

    def __init__(self, trace: Trace, primal: Any, tangent: Any, frame: FrameType) -> None:
        super().__init__(trace, frame)
        self.primal = primal
        self.tangent = tangent

    @property
    def like(self) -> Any:
        """The value."""
        return self.primal

    def concrete(self, what: str) -> Any:
        """Return the raw value; Python code may depend on it, as it may on any Tensor's."""
        if not self.trace.is_open:
            raise leaked(self)
        return self.primal._raw() if type(self.primal) is not boxing.Tracer else self.primal._state.concrete(what)

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

    def dual(self, primal: Any, tangent: Any) -> Any:
        """Return a tracer for a value and its tangent."""
        return boxing.box_state(Dual(self, primal, tangent, calling_frame()))

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
        if not moving or primitive.kind == NONDIFFERENTIABLE or recording is False:
            out = primitive.call(*primals, **params)
            return self.dual(out, ZERO) if primitive.view else out
        raw = _raw_arguments(primals, tangents, recording)
        if raw is not None:
            out, out_dot = _pushed_raw(primitive, raw[0], raw[1], params)
        else:
            out, out_dot = primitive.jvp(boxing.operations, tuple(primals), tuple(tangents), params)
        if primitive.multiple:
            return tuple([self._pair(y, y_dot) for y, y_dot in zip(out, out_dot)])
        return self._pair(out, out_dot)

    def _pair(self, out: Any, out_dot: Any) -> Any:
        return out if is_zero(out_dot) else self.dual(out, out_dot)

    def release(self, tensor: Any, former: Any) -> None:
        """Leave the value to a Tensor that outlives the transform; the tangent means nothing outside."""
        boxing.become(tensor, tensor._state.primal)


def _raw_arguments(primals: list[Any], tangents: list[Any], recording: Any) -> tuple[tuple[Any, ...], ...] | None:
    """Return raw values and tangents where nobody further out records or traces: arithmetic is cheapest there."""
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
