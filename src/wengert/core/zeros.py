"""The three ways of not having a derivative, which must never be confused: zero, not differentiable, not written."""

from __future__ import annotations

from typing import Any, final


@final
class SymbolicZero:
    """A tangent or cotangent that is zero by structure; it costs nothing, and no 0 * inf can come of it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SymbolicZero"

    def __bool__(self) -> bool:
        return False


@final
class NoTangent:
    """The input cannot be perturbed (an integer, a boolean, an index): asking for its derivative is meaningless."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NoTangent"

    def __bool__(self) -> bool:
        return False


ZERO = SymbolicZero()
NO_TANGENT = NoTangent()


def is_zero(tangent: Any) -> bool:
    """Return whether a tangent or cotangent is absent: structurally zero or not differentiable."""
    return tangent is ZERO or tangent is NO_TANGENT or tangent is None
