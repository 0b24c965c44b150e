"""Graphs for tests: built by hand or drawn at random, and run both ways."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wengert import backend
from wengert.compile.executable import Executable
from wengert.compile.expand_builder import Builder
from wengert.compile.fuse_storage import FUSED
from wengert.compile.graph import Equation, Graph, Value
from wengert.compile.interpret import interpret
from wengert.compile.llvm.machine import host_machine
from wengert.core.primitive import Primitive

Array = np.ndarray


def graph_of(
    function: Callable[..., Any], arrays: Sequence[Array], homes: Sequence[int | None] = (), name: str = "test"
) -> Graph:
    """Return the graph of a function that takes a Builder and Values."""
    values = [Value(array.shape, array.dtype) for array in arrays]
    builder = Builder()
    outs = function(builder, *values)
    graph = Graph(name, values, builder.equations, outs if isinstance(outs, (list, tuple)) else [outs], homes)
    graph.verify()
    return graph


def graph_of_call(primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]) -> Graph:
    """Return the graph of one call; numbers stay numbers."""
    values = [Value(o.shape, o.dtype) if isinstance(o, np.ndarray) else o for o in operands]
    out = primitive.impl(backend.numpy, *operands, **params)
    outs = [np.asarray(value) for value in (out if primitive.multiple else (out,))]
    results = tuple([Value(array.shape, array.dtype) for array in outs])
    inputs = [value for value in values if isinstance(value, Value)]
    graph = Graph(primitive.name, inputs, [Equation(primitive, tuple(values), params, results)], results)
    graph.verify()
    return graph


def compiled(graph: Graph, effort: int = FUSED) -> Executable:
    """Return the executable of a graph for this machine, with no second try if that fails."""
    return Executable(graph, host_machine(), effort)


def assert_close(
    got: Array, want: Array, roundings: float = 32.0, scale: float = 0.0, note: str = "", eps: float = 0.0
) -> None:
    """Check shape, dtype, special values exactly, and numbers up to so many roundings of the largest magnitude."""
    assert (got.shape, got.dtype) == (want.shape, want.dtype), (note, got.shape, got.dtype, want.shape, want.dtype)
    if want.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, want, err_msg=note)
        return
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.isfinite(got), finite, err_msg=note)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=note)
    size = max(np.abs(want[finite]).max(initial=0.0), scale)
    error = np.abs(got[finite] - want[finite]).max(initial=0.0)
    assert error <= roundings * max(np.finfo(want.dtype).eps, eps) * size, (note, error, size)


def _coarsest(graph: Graph) -> float:
    """Return the rounding of the shortest floating type that a graph computes in."""
    values = [value for equation in graph.equations for value in (*equation.values(), *equation.outputs)]
    return max([float(np.finfo(value.dtype).eps) for value in values if value.dtype.kind in "fc"], default=0.0)


def assert_agrees(
    graph: Graph, arrays: Sequence[Array], roundings: float = 32.0, scale: float = 0.0, effort: int = FUSED
) -> Executable:
    """Check that a graph, compiled, does what the interpreter does, to its inputs too; twice, as memory is kept."""
    executable, eps = compiled(graph, effort), _coarsest(graph)
    for turn in range(2):
        mine, theirs = [a.copy() for a in arrays], [a.copy() for a in arrays]
        with np.errstate(all="ignore"):
            want, got = interpret(graph, theirs), executable.run(mine)
        note = f"{graph}\n{executable.explain()}\nrun {turn}"
        for one, other in zip(got, want, strict=True):
            assert_close(one, other, roundings, scale, note, eps)
        for home, one, other in zip(range(len(mine)), mine, theirs, strict=True):
            assert_close(one, other, roundings, scale, f"{note}\ninput {home}", eps)
    return executable
