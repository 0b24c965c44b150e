"""Loops of a graph, lowered: against the interpreter, and against the equations of their steps."""

from __future__ import annotations

import numpy as np
import pytest

from wengert.compile.expand_builder import Builder
from wengert.compile.fuse_storage import FUSED, HOST, SEPARATE
from wengert.compile.graph import Graph, Value
from wengert.compile.interpret import interpret
from wengert.compile.loops import Form, end_of, loop_equation, unrolled
from wengert.compile.lower_loops import LONG

from .graphs import assert_agrees

FLOAT = np.dtype(np.float32)
ROUNDINGS = 4 * (8 + 1)
"""A step rounds 8 terms of a product, their sum, and tanh, to within 4 roundings each; it shrinks errors."""


def recurrence(length: int, history: bool, reverse: bool) -> Graph:
    """Return the graph of h' = tanh(x + h W) over all x, with 2 h' emitted; W is small, so that errors do not grow."""
    weight, state, x = Value((8, 8), FLOAT), Value((4, 8), FLOAT), Value((4, 8), FLOAT)
    body = Builder()
    after = body.call("tanh", body.call("add", x, body.call("matrix_product", state, weight)))
    doubled = body.call("multiply", after, 2.0)
    step = Graph("step", [weight, state, x], body.equations, [after, doubled])
    form = Form(step, 1, 1, length, reverse, (history,))
    inputs = Value((8, 8), FLOAT), Value((4, 8), FLOAT), Value((length, 4, 8), FLOAT)
    loop = loop_equation(form, inputs, [end_of(form, 0)])
    rest = Builder()
    largest = rest.call("max_over", loop.outputs[1], axis=(0, 1, 2), keepdims=False)
    return Graph("recurrence", inputs, [loop, *rest.equations], [*loop.outputs, largest])


@pytest.mark.parametrize("effort", [FUSED, SEPARATE, HOST])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("length", [1, 12, LONG + 3])
def test_a_loop_does_what_its_steps_do(length: int, history: bool, reverse: bool, effort: int) -> None:
    graph = recurrence(length, history, reverse)
    graph.verify()
    rng = np.random.default_rng(length)
    arrays = [rng.normal(size=value.shape).astype(FLOAT) for value in graph.inputs]
    arrays[0] /= 8 * np.abs(arrays[0]).max()
    assert_agrees(graph, arrays, ROUNDINGS, scale=2.0, effort=effort)
    for one, other in zip(interpret(graph, arrays), interpret(unrolled(graph), arrays), strict=True):
        np.testing.assert_array_equal(one, other)
