"""Reshapes are moved past elementwise operations and reductions, towards the end of a graph.

A linear layer on batch x length x features is a product on (batch * length) x features. What follows it can be fused
with it if it is computed in that shape, too; so the reshape back is put off for as long as possible.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..core.primitive import Primitive
from .expand_builder import REDUCTIONS, Builder, is_elementwise
from .graph import Equation, Operand, Value
from .lower_index import matching_groups
from .simplify import General, Rewriting

Shape = tuple[int, ...]
Groups = list[tuple[list[int], list[int]]]


def put_off(walk: Rewriting, equation: Equation) -> Operand | None:
    """Compute an operation in the shape that one of its operands had before it was reshaped, and reshape the result."""
    shape = _shape_of(equation)
    for operand in equation.inputs:
        first = walk.made_by(operand, "reshape_to")
        if first is None or not isinstance(operand, Value) or operand.shape != shape or not operand.size:
            continue
        source = first.values()[0]
        if len(source.shape) >= len(shape):
            continue
        groups = matching_groups(shape, source.shape)
        if all([_long(shape, ours) <= 1 or _long(source.shape, theirs) <= 1 for ours, theirs in groups]):
            result = _computed_before(walk, equation, source.shape, groups)
            if result is not None:
                return result
    return None


def _long(shape: Shape, axes: list[int]) -> int:
    return sum([shape[axis] > 1 for axis in axes])


def _shape_of(equation: Equation) -> Shape:
    return equation.values()[0].shape if equation.primitive.name in REDUCTIONS else equation.outputs[0].shape


def _computed_before(walk: Rewriting, equation: Equation, shape: Shape, groups: Groups) -> Operand | None:
    out, name, params = equation.outputs[0], equation.primitive.name, dict(equation.params)
    shapes: list[Shape | None] = []
    for operand in equation.inputs:
        fitted = () if not isinstance(operand, Value) else _fitted(operand.shape, _shape_of(equation), shape, groups)
        if fitted is None:
            return None
        shapes.append(fitted)
    if name in REDUCTIONS:
        axes = _reduced_axes(equation.params["axis"], _shape_of(equation), groups)
        if axes is None:
            return None
        params["axis"] = axes

    def make(b: Builder) -> Value:
        operands = [
            b.reshape(operand, fitted) if isinstance(operand, Value) and fitted is not None else operand
            for operand, fitted in zip(equation.inputs, shapes)
        ]
        made = b.call(name, *operands, **params) if name in REDUCTIONS else b.again(equation, operands, shape)
        return b.reshape(made, out.shape)

    return walk.build(make, out.where)


def _fitted(own: Shape, whole: Shape, shape: Shape, groups: Groups) -> Shape | None:
    """Return the shape that an operand has to have, for which it is constant or complete along each run of axes."""
    padded = (1,) * (len(whole) - len(own)) + own
    fitted = [1] * len(shape)
    for ours, theirs in groups:
        extents = [padded[i] for i in ours]
        if extents == [whole[i] for i in ours]:
            for i in theirs:
                fitted[i] = shape[i]
        elif prod(extents) != 1:
            return None
    return tuple(fitted)


def _reduced_axes(axis: Shape, whole: Shape, groups: Groups) -> Shape | None:
    """Return the axes to reduce before a reshape; a run of axes must be reduced as a whole or not at all."""
    axes: list[int] = []
    for ours, theirs in groups:
        long = [i for i in ours if whole[i] > 1]
        reduced = [i for i in long if i in axis]
        if reduced and len(reduced) < len(long):
            return None
        if reduced:
            axes.extend(theirs)
    return tuple(sorted(axes))


def without_stretch(walk: Rewriting, equation: Equation) -> Operand | None:
    """Drop the stretching of an operand that is broadcast anyway."""
    makers = [walk.made_by(operand, "stretch") for operand in equation.inputs]
    if not any(makers):
        return None
    operands = [o if maker is None else maker.inputs[0] for o, maker in zip(equation.inputs, makers)]
    shapes = [operand.shape for operand in operands if isinstance(operand, Value)]
    if np.broadcast_shapes(*shapes) != equation.outputs[0].shape:
        return None
    out = equation.outputs[0]
    return walk.build(lambda b: b.again(equation, operands, out.shape), out.where)


def _keeps_places(primitive: Primitive) -> bool:
    return is_elementwise(primitive) or primitive.name == "cast" or primitive.name in REDUCTIONS


SHAPE_RULES = (General(is_elementwise, without_stretch), General(_keeps_places, put_off))
"""For `simplify`."""
