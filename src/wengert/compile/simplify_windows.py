"""What pooling spreads over its windows is summed before it is spread."""

from __future__ import annotations

from ..core.primitive import Primitive
from .graph import Equation, Operand
from .simplify import General, Rewriting


def sum_before(walk: Rewriting, equation: Equation) -> Operand | None:
    """Sum what goes to the largest elements of windows, in place of images that are zero elsewhere.

    Each element goes to exactly one place of its image; so the sum over images is that over what is spread.
    """
    spread = walk.made_by(equation.inputs[0], "max_pool_transpose")
    if spread is None:
        return None
    y = spread.values()[0]
    out, params = equation.outputs[0], equation.params
    if not set(range(2, len(y.shape))) <= set(params["axis"]) or 0 in y.shape:
        return None
    return walk.build(lambda b: b.call("sum_over", y, **params), out.where)


def _is_sum(primitive: Primitive) -> bool:
    return primitive.name == "sum_over"


WINDOW_RULES = (General(_is_sum, sum_before),)
"""For `simplify`."""
