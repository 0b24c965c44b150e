"""Batching: a tracer stands for many values of one shape, stacked along a first axis that its user does not see."""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Literal

import numpy as np

from ..errors import LeakedTracerError, MappedValueError
from ..typing import Params, Shape
from . import boxing
from .primitive import Primitive
from .tape import location
from .tracing import State, Trace, calling_frame, leaked, open_traces

Randomness = Literal["error", "different", "same"]


class _Like:
    """A shape and a dtype."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Shape, dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype


class Mapped(State):
    """Many values, along the first axis of `value`; or one that is the same for all, where `axis` is None."""

    __slots__ = ("axis", "value")

    def __init__(self, trace: Trace, value: Any, axis: int | None, frame: FrameType) -> None:
        super().__init__(trace, frame)
        self.value = value
        self.axis = axis

    @property
    def like(self) -> Any:
        """The shape and dtype of one of the values."""
        return self.value if self.axis is None else _Like(self.value.shape[1:], self.value.dtype)

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
        return boxing.box_state(Mapped(self, value, 0, calling_frame()))

    def state_of(self, tensor: Any) -> Mapped:
        """Return the state of a Tensor that is the same for all."""
        return Mapped(self, tensor, None, calling_frame())

    def assembled(self, form: Any, parts: Sequence[Any]) -> Any:
        """Return a tracer for many values, or for one that is the same for all."""
        return boxing.box_state(Mapped(self, parts[0], form, calling_frame()))

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

    def _with_axis(self, out: Any, axis: int | None) -> Any:
        if axis is None:
            return out
        return self.mapped(out if axis == 0 else boxing.operations.moveaxis(out, axis, 0))

    def release(self, tensor: Any, former: Any) -> None:
        """Put a Tensor that outlives the transform back to what it was, and say so."""
        state = tensor._state
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
    tracing = [trace for trace in open_traces() if isinstance(trace, BatchTrace)]
    for trace in tracing:
        if trace.randomness == "error":
            raise MappedValueError(
                f"{trace.name}({trace.described}): random numbers were drawn in the mapped function, and it was not "
                'said whether every example gets its own. Pass randomness="different" or randomness="same" to vmap'
            )
    apart = [trace for trace in tracing if trace.randomness == "different"]
    value = boxing.box(np.asarray(draw((*[trace.size for trace in apart], *shape))))
    for trace in apart:  # the outermost has the first axis; what is left of the shape belongs to those further in
        value = trace.mapped(value)
    return value


__all__ = ["BatchTrace", "Mapped", "Randomness", "drawn"]
