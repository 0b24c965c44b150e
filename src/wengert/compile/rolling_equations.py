"""Equations of steps: whether two runs did the same, and which of them are the same for all steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from .graph import Equation, Value
from .loops import Form
from .lower_layout import VIEWERS


def alike(one: Sequence[Equation], other: Sequence[Equation], pairs: Iterable[tuple[Value, Value]]) -> bool:
    """Return whether two runs of a function did the same, given pairs of what went in and what came out."""
    pairs = list(pairs)
    twins: dict[Value, Value] = {}
    if len(one) != len(other):
        return False
    made = {value for equation in one for value in equation.outputs}
    twins.update([(a, b) for a, b in pairs if a not in made])
    for a, b in zip(one, other):
        if a.primitive is not b.primitive or len(a.inputs) != len(b.inputs) or not _same(a.params, b.params):
            return False
        if not all([_is_twin(x, y, twins) for x, y in zip(a.inputs, b.inputs)]):
            return False
        twins.update(zip(a.outputs, b.outputs))
    return all([_is_twin(a, b, twins) for a, b in pairs])


def _is_twin(x: Any, y: Any, twins: dict[Value, Value]) -> bool:
    if not isinstance(x, Value) or not isinstance(y, Value):
        return _same(x, y)
    if x.constant is not None and y.constant is not None:
        return _same(x.constant, y.constant)
    return twins.get(x, x) is y


def _same(x: Any, y: Any) -> bool:
    """Whether two parameters are equal, to the type and the last bit."""
    if type(x) is not type(y):
        return False
    if isinstance(x, np.ndarray):
        return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()
    if isinstance(x, Form):
        return _is_same_loop(x, y)
    if isinstance(x, dict):
        return list(x) == list(y) and all([_same(x[key], y[key]) for key in x])
    if isinstance(x, (tuple, list)):
        return len(x) == len(y) and all([_same(a, b) for a, b in zip(x, y)])
    if isinstance(x, slice):
        return _same((x.start, x.stop, x.step), (y.start, y.stop, y.step))
    if isinstance(x, float):
        return x.hex() == y.hex()
    return bool(x is y or x == y)


def _is_same_loop(x: Form, y: Form) -> bool:
    """Whether two loops do the same to the same kinds of operands."""
    if x._replace(body=y.body) != y or len(x.body.inputs) != len(y.body.inputs):
        return False
    if len(x.body.outputs) != len(y.body.outputs):
        return False
    pairs = [*zip(x.body.inputs, y.body.inputs), *zip(x.body.outputs, y.body.outputs)]
    return alike(x.body.equations, y.body.equations, pairs)


def split(equations: Sequence[Equation], varying: Collection[Value]) -> tuple[list[Equation], list[Equation]]:
    """Return (the equations that are the same whatever `varying` is, the others).

    Views that the others need are among these as well: there they cost nothing, and from outside they would be copied.
    """
    changing = set(varying)
    fixed: list[Equation] = []
    others: list[Equation] = []
    for equation in equations:
        if changing.isdisjoint(equation.values()):
            fixed.append(equation)
        else:
            others.append(equation)
            changing.update(equation.outputs)
    used = {value for equation in others for value in equation.values()}
    views: list[Equation] = []
    for equation in reversed(fixed):
        if equation.primitive.name in VIEWERS and not used.isdisjoint(equation.outputs):
            views.append(equation)
            used.update(equation.values())
    return fixed, [*reversed(views), *others]


__all__ = ["alike", "split"]
