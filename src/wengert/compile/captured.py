"""What a capture makes of Tensors: states of tracers, and what Tensors of outside were before."""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from types import FrameType
from typing import Any

import numpy as np

from ..core import boxing
from ..core.tape import Leaf
from ..core.tracing import State, Trace, calling_frame, leaked
from ..tensor import tracer as _tracer  # noqa: F401 - makes the class of tracers known
from ..typing import Shape
from .graph import Value
from .sources import Source


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

    @property
    def example(self) -> np.ndarray | None:
        """What the value was in the captured run, if that is known: other runs are taken to lay arrays out alike."""
        return self._raw

    def laid_out(self) -> np.ndarray:
        """Return what the value was in the captured run."""
        return self.raw

    def concrete(self, what: str) -> Any:
        """Return the value of this run where a later one can be asked whether it has the same; refuse elsewhere."""
        trace = self.trace
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


def is_own_leaf(tensor: Any) -> bool:
    """Return whether a Tensor is a leaf that requires grad, and no other box over the values of one."""
    node = tensor._node
    return isinstance(node, Leaf) and node.tensor_reference() is tensor


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
        # A sweep inside of the function ends where the function began: with a Tensor, though it may have its values
        # and its Node from another one (as what a transform hands on has), which is an input of its own.
        cut = self.node is not None and not is_own_leaf(tensor)
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


__all__ = ["Brought", "Captured", "is_own_leaf"]
