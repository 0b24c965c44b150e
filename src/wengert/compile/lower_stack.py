"""Lowering of stacks of many arrays: they are computed where the stack has them.

What cannot be, one nest over the elements of one array stores side by side.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import prod
from typing import NamedTuple

from .graph import Equation, Value
from .lower import Step
from .lower_layout import Layouts
from .lower_nests import finished
from .nests import Access, Nest, Operand, Phase, Store
from .plan import ALIGNMENT, Part
from .scalar_ir import TYPES, convert, input_scalar

FEW = 4
"""Up to so many arrays, an element is chosen among them where it is needed."""
MOST = 256


class Gathered(NamedTuple):
    """Stands for the kernel of a step that has nothing to do but to come after those that make parts of a stack."""


def is_long_stack(equation: Equation) -> bool:
    """Whether an equation stacks so many arrays that each is better moved by itself."""
    if equation.primitive.name != "stack_along":
        return False
    values = equation.values()
    if not FEW < len(values) <= MOST:
        return False
    kinds = {value.dtype for value in (*values, *equation.outputs)}
    return len(values) == len(equation.inputs) and all([kind in TYPES for kind in kinds]) and bool(values[0].size)


def parts_of(
    layouts: Layouts, equation: Equation, outputs: Container[Value], parts: Mapping[Value, Part]
) -> dict[Value, Part]:
    """Return which of the arrays that are stacked can be computed in the memory of the stack.

    Args:
        layouts: of the graph's arrays.
        equation: the stack.
        outputs: of the graph: the memory of these is not ours.
        parts: arrays that are parts of others already.
    """
    out, values = equation.outputs[0], equation.values()
    layout = layouts.of(out)
    is_plain = layout is not None and layout.base is out and prod(out.shape[: equation.params["axis"]]) == 1
    if not is_plain or out in outputs or out in parts:
        return {}
    wholes = {part.whole for part in parts.values()}
    found: dict[Value, Part] = {}
    for place, value in enumerate(values):
        layout = layouts.of(value)
        made = value in layouts.maker and layout is not None and layout.base is value
        if not made or value in outputs or value in parts or value in wholes or values.count(value) > 1:
            continue
        if value.dtype == out.dtype and value.nbytes % ALIGNMENT == 0:
            found[value] = Part(out, place * value.nbytes)
    return found


def stack_step(layouts: Layouts, equation: Equation, parts: Mapping[Value, Part]) -> Step:
    """Return the step that stacks arrays in memory, but for those that are computed there."""
    out, axis = equation.outputs[0], equation.params["axis"]
    target = layouts.of(out)
    assert target is not None
    memory: list[Value] = [target.base]
    inputs: dict[str, Access] = {}
    stores: list[Store] = []
    there = frozenset([value for value in equation.values() if value in parts and parts[value].whole is out])
    strides = target.strides[:axis] + target.strides[axis + 1 :]
    for place, value in enumerate(equation.values()):
        layout = layouts.of(value)
        assert layout is not None
        if value in there:
            continue
        if layout.base not in memory:
            memory.append(layout.base)
        inputs[f"x{place}"] = Access(memory.index(layout.base), layout.offset, layout.strides)
        where = Access(0, target.offset + place * target.strides[axis], strides)
        stores.append(Store(where, convert(input_scalar(f"x{place}", value.dtype), out.dtype)))
    if not stores:
        return Step(Gathered(), (), there, (target.base,))
    shape = out.shape[:axis] + out.shape[axis + 1 :]
    nest = Nest(
        "stack_along",
        shape,
        (Phase((), dict(inputs), tuple(stores)),),
        tuple([Operand(value.dtype) for value in memory]),
        "outer",
    )
    return Step(finished(nest), tuple(memory), frozenset(memory[1:]) | there, (target.base,))
