"""Lowering of stacks of many arrays: one nest over the elements of one, which stores them all side by side."""

from __future__ import annotations

from .graph import Equation, Value
from .lower import Step
from .lower_layout import Layouts
from .lower_nests import finished
from .nests import Access, Nest, Operand, Phase, Store
from .scalar_ir import TYPES, convert, input_scalar

FEW = 4
"""Up to so many arrays, an element is chosen among them where it is needed."""
MOST = 256


def is_long_stack(equation: Equation) -> bool:
    """Whether an equation stacks so many arrays that each is better moved by itself."""
    values = equation.values()
    if equation.primitive.name != "stack_along" or not FEW < len(values) <= MOST:
        return False
    kinds = {value.dtype for value in (*values, *equation.outputs)}
    return len(values) == len(equation.inputs) and all([kind in TYPES for kind in kinds]) and bool(values[0].size)


def stack_step(layouts: Layouts, equation: Equation) -> Step:
    """Return the step that stacks arrays in memory."""
    out, axis = equation.outputs[0], equation.params["axis"]
    target = layouts.of(out)
    assert target is not None
    memory: list[Value] = [target.base]
    inputs: dict[str, Access] = {}
    stores: list[Store] = []
    strides = target.strides[:axis] + target.strides[axis + 1 :]
    for place, value in enumerate(equation.values()):
        layout = layouts.of(value)
        assert layout is not None
        if layout.base not in memory:
            memory.append(layout.base)
        inputs[f"x{place}"] = Access(memory.index(layout.base), layout.offset, layout.strides)
        where = Access(0, target.offset + place * target.strides[axis], strides)
        stores.append(Store(where, convert(input_scalar(f"x{place}", value.dtype), out.dtype)))
    shape = out.shape[:axis] + out.shape[axis + 1 :]
    nest = Nest(
        "stack_along",
        shape,
        (Phase((), dict(inputs), tuple(stores)),),
        tuple([Operand(value.dtype) for value in memory]),
        "outer",
    )
    return Step(finished(nest), tuple(memory), frozenset(memory[1:]), (target.base,))
