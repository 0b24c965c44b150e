"""What the transforms share: how functions and arguments are named in messages, and how argnums are read."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

from ..core import boxing, pytree
from ..errors import DTypeError
from ..typing import PyTree

Argnums = int | Sequence[int]
INTEGERS = frozenset((int, bool))
"""Types of Python numbers that cannot be perturbed. They pass as they are: as Tensors they would promote others."""


def described(function: Any) -> str:
    """Return what a function is called in messages."""
    return f"{getattr(function, '__name__', type(function).__name__)}()"


def parameter_name(function: Any, i: int) -> str:
    """Return the name of a positional parameter, for messages."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    i += getattr(function, "__self__", None) is not None
    if code is None or i >= code.co_argcount:
        return f"argument {i}"
    return code.co_varnames[i]


def checked_argnums(argnums: Argnums, name: str) -> tuple[int, ...]:
    """Return argnums as a tuple of integers."""
    try:
        wanted = tuple([operator.index(i) for i in (argnums if isinstance(argnums, Sequence) else (argnums,))])
    except TypeError:
        wanted = ()
    if not wanted:
        raise TypeError(f"{name}: argnums must be an integer or a sequence of integers, not {argnums!r}")
    return wanted


def positions(wanted: tuple[int, ...], count: int, function: Any, name: str) -> list[int]:
    """Return argnums as positions among `count` arguments."""
    called = getattr(function, "__name__", "the function")
    for i in wanted:
        if not -count <= i < count:
            raise TypeError(
                f"{name}: argnums has {i}, but {called} was called with {count} positional "
                f"argument{'' if count == 1 else 's'}; pass what is to be differentiated by position"
            )
    places = [i % count for i in wanted]
    if len(set(places)) != len(places):
        raise TypeError(f"{name}: argnums {wanted} names an argument of {called} twice")
    return places


def named(transformed: Callable[..., Any], function: Any, name: str) -> Callable[..., Any]:
    """Give a transformed function the documentation of the original, and a name that tells both."""
    functools.update_wrapper(transformed, function, updated=())
    transformed.__name__ = transformed.__qualname__ = f"{name}({getattr(function, '__name__', 'function')})"
    return transformed


def without_aux(returned: Any, name: str, function: str, has_aux: bool) -> tuple[Any, Any]:
    """Split what a function returned into (its output, anything else)."""
    if not has_aux:
        return returned, None
    if not isinstance(returned, tuple) or len(returned) != 2:
        tensor = "Tensor" if isinstance(returned, boxing.Tensor) else None
        what = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else tensor or type(returned).__name__
        raise DTypeError(f"{name}: with has_aux=True, {function} must return (output, aux), not {what}")
    return returned[0], returned[1]


def as_tensor(leaf: Any, name: str, where: Callable[[], str]) -> Any:
    """Return a leaf of an argument as a Tensor; `where()` says which one it is."""
    if isinstance(leaf, boxing.Tensor):
        return leaf
    try:
        return boxing.operations.tensor(leaf)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"{name}: {where()} is of type {type(leaf).__name__}, no number or array: {error}") from None


def demand_tensors(tree: PyTree, name: str, function: str) -> tuple[list[Any], pytree.Structure]:
    """Return (the leaves of what a function returned, their structure), all of which must be Tensors."""
    leaves, structure = pytree.flatten(tree)
    for i, leaf in enumerate(leaves):
        if not isinstance(leaf, boxing.Tensor):
            path = structure.paths("its output")[i]
            raise DTypeError(
                f"{name}: {function} must return Tensors, but {path} is of type {type(leaf).__name__}. A number that "
                "came from item() or float() has left the tape; return the Tensor itself, and anything else with "
                "has_aux=True"
            )
    if not leaves:
        raise DTypeError(f"{name}: {function} returned no Tensor but {tree!r}; did it lack a return statement?")
    return leaves, structure


__all__ = [
    "INTEGERS",
    "Argnums",
    "as_tensor",
    "checked_argnums",
    "demand_tensors",
    "described",
    "named",
    "parameter_name",
    "positions",
    "without_aux",
]
