"""The class of tracers: Tensors that a transform follows. What they are made of is in `core.forward` and `batching`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import boxing
from ..core.tape import Leaf, location
from ..core.tracing import plain_value
from ..errors import GradientError
from ..typing import Array, DType, Shape
from .tensor import Tensor


class Tracer(Tensor):
    """A Tensor inside of a transformed function: it behaves like any other, and boxes no array of its own."""

    __slots__ = ()

    @property
    def trace(self) -> Any:
        """The run of a transform that it belongs to."""
        return self._state.trace

    @property
    def shape(self) -> Shape:
        """Extents of the axes."""
        return self._state.shape

    @property
    def dtype(self) -> DType:
        """Type of the elements, a NumPy dtype."""
        return self._state.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._state.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self._state.shape))

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take."""
        return self.size * self.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes that one element takes."""
        return self.dtype.itemsize

    @property
    def device(self) -> str:
        """Where the elements are."""
        return self._state.parts()[0].device

    def _raw(self) -> Array:
        return self._state.concrete("the value of a Tensor, which Python or NumPy asks for here,")

    def _values(self) -> Array:
        return plain_value(self)

    def _differentiable_data(self) -> Any:
        if self.dtype.kind != "f":
            np_like = np.zeros((), self.dtype)
            return boxing.box(np_like)._differentiable_data()
        return self

    def __bool__(self) -> bool:
        if self.size != 1:
            return super().__bool__()
        return bool(self._state.concrete("a branch of Python's (if, while, and, or, assert)").item())

    def _refuse_to_leave_the_tape(self, name: str, cure: str = "") -> None:
        super()._refuse_to_leave_the_tape(name, cure)
        state = self._state
        state.concrete(name)
        if state.is_differentiated:
            raise GradientError(
                f"{name}: the Tensor made at {location(state)} carries a tangent in {state.trace.name}("
                f"{state.trace.described}), which would end here. Write x.detach().numpy() if that is meant; NumPy's "
                f"functions accept the Tensor as it is{cure}"
            )

    def __repr__(self) -> str:
        try:
            state = self._state
        except AttributeError:
            return "Tensor(<not initialised: make Tensors with wg.tensor(data)>)"
        trace = state.trace
        ended = "" if trace.is_open else ", which has ended"
        leaf = ", requires_grad=True" if isinstance(self._node, Leaf) else ""
        return f"Tensor(<shape {self.shape}, {self.dtype}{leaf}, in {trace.name}({trace.described}){ended}: {state!r}>)"

    def __reduce__(self) -> tuple[Any, ...]:
        trace = self._state.trace
        raise GradientError(
            f"a Tensor inside of {trace.name}({trace.described}) cannot be pickled or copied deeply; return it from "
            "the function first, or use clone()"
        )


boxing.install_tracer(Tracer)

__all__ = ["Tracer"]
