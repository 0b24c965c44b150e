"""Runs a graph equation by equation on NumPy: what compiled programs must agree with, and where they fall back to."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np

from .. import backend
from .graph import Equation, Graph, Operand, Value

Environment = MutableMapping[Value, Any]


def interpret(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of a graph for the arrays of its inputs.

    Outputs that have a home are written there when all is computed, and the home itself is returned.
    """
    known: Environment = dict(zip(graph.inputs, arrays))
    for equation in graph.equations:
        known.update(zip(equation.outputs, computed(equation, [operand_in(known, o) for o in equation.inputs])))
    outputs = [np.asarray(operand_in(known, value)) for value in graph.outputs]
    return settled(graph, arrays, outputs)


def computed(equation: Equation, operands: Sequence[Any]) -> list[np.ndarray]:
    """Return what one equation makes of arrays and numbers."""
    out = equation.primitive.impl(backend.numpy, *operands, **equation.params)
    outs = out if equation.primitive.multiple else (out,)
    return [np.asarray(value) for value in outs]


def operand_in(known: Environment, operand: Operand) -> Any:
    """Return the array that stands for an operand; numbers pass."""
    if not isinstance(operand, Value):
        return operand
    return known[operand] if operand in known else operand.constant


def settled(graph: Graph, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Give outputs memory of their own, and move those that have a home there; all are read before one is written."""
    owned = [np.array(value) for value in outputs]
    for i, home in enumerate(graph.homes):
        if home is not None:
            arrays[home][...] = owned[i]
            owned[i] = arrays[home]
    return owned
