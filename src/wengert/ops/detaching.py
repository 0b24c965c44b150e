"""Operations that leave values as they are and change what the tape thinks of them."""

from __future__ import annotations

from typing import Any

from ..core.dispatch import bind
from ..declare import Sample, nondifferentiable
from ..typing import Array, ArrayLike, Namespace
from .arithmetic import positive
from .creation import asarray

__all__ = ["clone", "detach", "stop_gradient"]


@nondifferentiable(samples=[Sample((2, 3)), Sample(())], view=True)
def stopped(xp: Namespace, x: Array) -> Array:
    """The same values as a constant; a view."""
    return x[...]


def detach(x: ArrayLike) -> Any:
    """The same values, off the tape; a view.

    >>> import wengert as wg
    >>> wg.detach(wg.tensor(2.0, requires_grad=True)).requires_grad
    False
    """
    return bind(stopped.primitive, (asarray(x),))


stop_gradient = detach


def clone(x: ArrayLike) -> Any:
    """A copy in memory of its own, on the tape.

    >>> import wengert as wg
    >>> wg.clone(wg.tensor([1.0])).tolist()
    [1.0]
    """
    tensor = asarray(x)
    if tensor.dtype.kind == "b":
        return tensor | tensor
    return positive(tensor)
