"""Where the core learns of the class that boxes arrays, and of the namespace of operations on boxes.

`Tensor` stands above the operations, and the operations above the core; so the class and the namespace are handed
down here once, when `wengert.tensor` is imported, and nothing below imports upwards.
"""

# The slots of Tensor and the frames of the interpreter are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any

from ..typing import Array, Namespace

Tensor: Any = None
"""The class of boxed arrays; its instances carry `_data` (a raw array) and `_node` (a tape Node or None)."""
BorrowedTensor: Any = None
"""Its subclass for arrays whose memory belongs to somebody else; it leaves the fast path until it is copied."""
Tracer: Any = None
"""Its subclass for values that a transform follows: it boxes a `core.tracing.State` (`_state`) and no array."""
operations: Namespace = None
"""The namespace of the library's own operations: the `xp` of rules that must be differentiable themselves."""


def install(tensor_type: type, borrowed_type: type, namespace: Namespace) -> None:
    """Hand the Tensor classes and the namespace of operations down to the layers below."""
    global Tensor, BorrowedTensor, operations
    Tensor, BorrowedTensor, operations = tensor_type, borrowed_type, namespace


def install_tracer(tracer_type: type) -> None:
    """Hand the class of tracers down; only who transforms a function needs it, and makes it known."""
    global Tracer
    Tracer = tracer_type


def box(data: Array, node: Any = None) -> Any:
    """Return a Tensor over raw `data`, recorded as the output of `node` (None: untracked)."""
    tensor = Tensor()
    tensor._data = data
    tensor._node = node
    return tensor


def box_state(state: Any, node: Any = None) -> Any:
    """Return a tracer over a state, recorded on the tape of its level as the output of `node` (None: untracked)."""
    tracer = Tracer()
    tracer._state = state
    tracer._node = node
    return tracer


def with_node(tensor: Any, node: Any) -> Any:
    """Return another box over the value of an exact Tensor or a tracer, with another Node (None: untracked)."""
    return box_state(tensor._state, node) if type(tensor) is Tracer else box(tensor._data, node)


def become(tensor: Any, value: Any) -> None:
    """Make a Tensor the value of another one, for all who hold it; its views and its part in a family stay."""
    if type(value) is Tracer:
        if type(tensor) is not Tracer:
            del tensor._data
            tensor.__class__ = Tracer
        tensor._state = value._state
    else:
        if type(tensor) is Tracer:
            del tensor._state
            tensor.__class__ = Tensor
        tensor._data = value._data
    tensor._node = value._node


class Loan:
    """What a BorrowedTensor has in place of data: somebody else's array, and its part in an aliasing family."""

    __slots__ = ("array", "family")

    def __init__(self, array: Array) -> None:
        self.array = array
        self.family: Any = None


def borrow(data: Array) -> Any:
    """Return an untracked Tensor over memory that somebody else can write to; it owns none until it has to."""
    tensor = BorrowedTensor()
    tensor._alias = Loan(data)
    tensor._node = None
    return tensor


def data_of(tensor: Any) -> Array:
    """Return the raw array of an exact or borrowed Tensor."""
    return tensor._alias.array if type(tensor) is BorrowedTensor else tensor._data
