"""Lowering of the question whether all elements of an array are finite: one kernel answers it for every array."""

from __future__ import annotations

import numpy as np

from .fuse import Fusion
from .fuse_groups import Group
from .graph import Value
from .llvm.finite import finite_kernel
from .llvm.recipes import Recipe
from .lower import Step
from .lower_index import strides_of
from .lower_layout import Layouts
from .scalar_ir import FLOAT32, FLOAT64


def finite_step(fusion: Fusion, layouts: Layouts, group: Group) -> Step | None:
    """Return the step of a group that asks of one array in memory whether it is finite; None for any other group."""
    (root, *others) = group.roots
    equation = root.equation
    if others or equation.primitive.name != "all_over" or root.value.size != 1:
        return None
    asked = fusion.maker.get(equation.values()[0])
    if asked is None or asked.primitive.name != "isfinite":
        return None
    (value,) = asked.values()
    source, target = layouts.of(value), layouts.of(root.value)
    if value.dtype not in (FLOAT32, FLOAT64) or value.constant is not None or value.size < 2:
        return None
    if source is None or target is None or source.strides != strides_of(value.shape):
        return None
    size = np.asarray(value.size, np.int64)
    memory = (source.base, Value((), size.dtype, size), target.base)
    offsets = (source.offset, 0, target.offset)
    recipe = Recipe(finite_kernel, (value.dtype, value.size))
    return Step(recipe, memory, frozenset(memory[:2]), (target.base,), offsets=offsets)
