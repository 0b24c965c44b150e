"""Runs impls and rules on symbols when they are declared, to recognise what needs no call at run time.

A partial that is plainly a number or one of the residuals, and an impl that is nothing but one call of a NumPy
function, are found here; anything that computes ends the probe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import backend
from ..typing import Rule

_raw = backend.numpy


class Symbol:
    """Stands for a residual while a rule is probed; any arithmetic on it ends the probe."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Call:
    __slots__ = ("args", "name")

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name = name
        self.args = args


class _ProbeNamespace:
    def __getattr__(self, name: str) -> Callable[..., _Call]:
        def call(*args: Any) -> _Call:
            return _Call(name, args)

        return call


_probe_namespace = _ProbeNamespace()


def probe(function: Rule, names: tuple[str, ...]) -> Any:
    """Run a rule on symbols; return what it returned, or None if it computes anything that is not a plain call."""
    arguments = [_probe_namespace if name == "xp" else Symbol(name) for name in names]
    try:
        return function(*arguments)
    except (AttributeError, TypeError):
        return None


def direct_kernel(impl: Rule, arguments: tuple[str, ...]) -> Callable[..., Any]:
    """Return NumPy's own function if `impl` is nothing but a call of it, else `impl` bound to the NumPy namespace."""
    called = probe(impl, ("xp", *arguments))
    if isinstance(called, _Call) and [getattr(a, "name", None) for a in called.args] == list(arguments):
        function = getattr(backend.numpy.np, called.name, None)
        if function is not None:
            return function

    def kernel(*data: Any) -> Any:
        return impl(_raw, *data)

    return kernel
