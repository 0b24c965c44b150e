"""What runs a graph: native code where it can be made, NumPy where it cannot."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from ..errors import NativeCodeError
from .executable import build
from .graph import Graph
from .interpret import interpret
from .llvm import program
from .llvm.machine import host_machine


class Runnable(Protocol):
    """A graph, ready to be run."""

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs for the arrays of the inputs; those with a home are written there."""
        ...

    def holds(self, place: int, array: np.ndarray) -> int:
        """Return how many references to an array this object has, from having run on it."""
        ...


class Interpreted:
    """A graph that NumPy computes, operation by operation."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs for the arrays of the inputs; those with a home are written there."""
        return interpret(self.graph, arrays)

    def holds(self, place: int, array: np.ndarray) -> int:
        """Return how many references to an array this object has."""
        return 0


class CompileWarning(UserWarning):
    """A function is run as it is instead of compiled, or without native code; the message says why."""


@cache
def _machine() -> Any:
    try:
        return host_machine()
    except NativeCodeError as error:
        warnings.warn(f"wg.compile: graphs are computed by NumPy: {error}", CompileWarning, stacklevel=2)
        return None


def warm_up() -> None:
    """Begin to load what native code needs, in the background."""
    if _machine() is not None:
        program.prepare()


def prepare(graph: Graph) -> Runnable:
    """Return what runs a graph."""
    machine = _machine()
    return Interpreted(graph) if machine is None else build(graph, machine)
