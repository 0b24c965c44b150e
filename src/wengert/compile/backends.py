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
from .llvm.matrix_tiles import with_tiles
from .llvm.target import host_target
from .sources import Unsure


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

    def __init__(self, graph: Graph, conditional: bool = False) -> None:
        self.graph = graph
        self.conditional = conditional

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs for the arrays of the inputs; those with a home are written there."""
        if not self.conditional:
            return interpret(self.graph, arrays)
        graph = self.graph
        question = Graph(graph.name, graph.inputs, graph.equations, graph.outputs[-1:]).without_dead_code()
        if not interpret(question, arrays)[0]:
            raise Unsure(f"{graph.name}: what was taken for granted is not so")
        rest = Graph(graph.name, graph.inputs, graph.equations, graph.outputs[:-1], graph.homes[:-1])
        return interpret(rest.without_dead_code(), arrays)

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


@cache
def _narrow_machine() -> Any:
    """Return the machine that products in bfloat16 are for: with its tile registers, which others do not use."""
    machine = _machine()
    return None if machine is None else with_tiles(machine, host_target())


def has_native_code() -> bool:
    """Return whether native code can be made here."""
    return _machine() is not None


def warm_up() -> None:
    """Begin to load what native code needs, in the background."""
    if _machine() is not None:
        program.prepare()


def load() -> None:
    """Load what native code needs, before the first call; where that fails, the first call will tell of it."""
    program.load()


def prepare(graph: Graph, conditional: bool = False, narrow: bool = False) -> Runnable:
    """Return what runs a graph; its last output may be a condition under which the others count.

    Where that does not hold, the runnable raises `Unsure`, and has written nothing. With `narrow`, factors of products
    are rounded to bfloat16 where kernels gain by it; NumPy does not.
    """
    machine = _narrow_machine() if narrow else _machine()
    return Interpreted(graph, conditional) if machine is None else build(graph, machine, conditional, narrow)
