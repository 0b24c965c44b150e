"""Positions that data decide: brought into range, so that no kernel leaves its arrays, and looked at afterwards.

A kernel cannot stop a program. So what is written over inputs is what they were where a position was out of range, and
the caller, who looks at one byte after the run, raises.
"""

from __future__ import annotations

import numpy as np

from .expand_builder import Builder
from .graph import Equation, Graph, Value

PICKING = frozenset("take_slices take_along add_at add_along_axis".split())
"""Operations whose second operand holds positions along an axis of the first."""


def with_checks(graph: Graph, condition: Value | None = None) -> tuple[Graph, Value | None]:
    """Return the graph with all positions in range, and whether they were: its last output, if there are any.

    A condition, a single boolean that the graph computes, is taken for one more thing to be checked.
    """
    builder = Builder()
    clipped: dict[tuple[Value, int], Value] = {}
    flags = [] if condition is None else [condition]
    for equation in graph.equations:
        picked = _positions(equation)
        if picked is None:
            builder.equations.append(equation)
            continue
        positions, extent = picked
        if picked not in clipped:
            wide = _wide(builder, positions, extent)
            clipped[picked] = _clip(builder, wide, extent)
            flags.append(_all_inside(builder, wide, extent))
        first, _, *rest = equation.inputs
        operands = (first, clipped[picked], *rest)
        builder.equations.append(Equation(equation.primitive, operands, equation.params, equation.outputs))
    if not flags:
        return graph, None
    fine = flags[0]
    for flag in flags[1:]:
        fine = builder.call("logical_and", fine, flag)
    outputs = [
        value if home is None else builder.call("where", fine, value, graph.inputs[home])
        for value, home in zip(graph.outputs, graph.homes)
    ]
    status = builder.call("cast", fine, dtype=np.dtype(np.bool_))
    made = Graph(graph.name, graph.inputs, builder.equations, [*outputs, status], [*graph.homes, None])
    made.verify()
    return made, status


def _positions(equation: Equation) -> tuple[Value, int] | None:
    """Return the positions of an equation and the extent that they are in, or None if they are sure to be in range."""
    if equation.primitive.name not in PICKING:
        return None
    whole, positions = equation.inputs[:2]
    assert isinstance(whole, Value) and isinstance(positions, Value)
    extent = whole.shape[equation.params["axis"]]
    array = positions.constant
    if not extent or (array is not None and bool(((array >= -extent) & (array < extent)).all())):
        return None
    return positions, extent


def _wide(b: Builder, positions: Value, extent: int) -> Value:
    """Return positions in a dtype that has both ends of the range."""
    limits = np.iinfo(positions.dtype)
    return positions if limits.min <= -extent and extent <= limits.max else b.cast(positions, np.dtype(np.int64))


def _clip(b: Builder, positions: Value, extent: int) -> Value:
    return b.call("maximum", b.call("minimum", positions, extent - 1), -extent)


def _all_inside(b: Builder, positions: Value, extent: int) -> Value:
    inside = b.call("logical_and", b.call("greater_equal", positions, -extent), b.call("less", positions, extent))
    return b.call("all_over", inside, axis=tuple(range(len(positions.shape))), keepdims=False)
