"""Elements of views, of regions, and of arrays that are put together from others."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from .graph import Equation, Operand, Value
from .lower_elements import Bound, Demand, Elements, Inside, broadcast_map, handles
from .lower_index import ZERO, Affine, Map, Undecided, reshaped
from .lower_regions import Region, region_of
from .scalar_ir import Scalar, apply, constant, convert
from .simplify import uniform


@handles("permute")
def _permute(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    axes = equation.params["axes"]
    return (yield Demand(equation.inputs[0], tuple([index[axes.index(i)] for i in range(len(axes))]), inside))


@handles("stretch")
def _stretch(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    return (yield Demand(equation.inputs[0], broadcast_map(equation.inputs[0], index), inside))


@handles("reshape_to")
def _reshape(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    source, out = equation.values()[0], equation.outputs[0]
    return (yield Demand(source, reshaped(index, out.shape, source.shape, elements.extents), inside))


@handles("reverse")
def _reverse(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    axis, shape = equation.params["axis"], equation.outputs[0].shape
    turned = tuple([a.times(-1).shifted(shape[i] - 1) if i in axis else a for i, a in enumerate(index)])
    return (yield Demand(equation.inputs[0], turned, inside))


def _has_plain_region(equation: Equation) -> bool:
    return region_of(equation.params["key"], equation.values()[0].shape) is not None


def _has_whole_region(equation: Equation) -> bool:
    """Whether a region to write is a block without gaps."""
    region = region_of(equation.params["key"], equation.outputs[0].shape)
    if region is None or equation.params.get("steps"):
        return False
    return all(
        [abs(step) == 1 or axis is None or region.shape[axis] == 1 for step, axis in zip(region.steps, region.axes)]
    )


@handles("index", check=_has_plain_region)
def _index(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    source = equation.values()[0]
    region = region_of(equation.params["key"], source.shape)
    assert region is not None
    places = [
        Affine(start) if axis is None else index[axis].times(step).shifted(start)
        for start, step, axis in zip(region.starts, region.steps, region.axes)
    ]
    return (yield Demand(source, tuple(places), inside))


def _inverse(region: Region, index: Map) -> tuple[Map, Inside]:
    """Return, for an index into the whole, that into the region, and the conditions for it to be inside."""
    places: list[Affine] = [ZERO] * len(region.shape)
    conditions: list[Bound] = []
    for i, axis in enumerate(region.axes):
        extent = 1 if axis is None else region.shape[axis]
        place = index[i].shifted(-region.starts[i])
        if axis is not None and extent > 1:
            place = place.times(region.steps[i])  # 1 or -1
            places[axis] = place
        conditions.append(Bound(place, extent))
    return tuple(places), tuple(conditions)


def _choose(
    elements: Elements, inside: Inside, conditions: Inside, then: Demand, otherwise: Demand | None, dtype: Any
) -> Generator[Demand, Any, Any]:
    """Take one element where conditions hold, and another (or zero) where they don't."""
    left = elements.holding(conditions)
    if left is None:
        return constant(0, dtype) if otherwise is None else _of(dtype, (yield otherwise))
    first = _of(dtype, (yield Demand(then.operand, then.index, (*inside, *left))))
    if not left:
        return first
    if otherwise is None:
        if elements.is_zero_outside(first, left):
            return first
        return apply("where", elements.condition(left), first, constant(0, dtype))
    second = _of(dtype, (yield otherwise))
    return apply("where", elements.condition(left), first, second)


def _of(dtype: Any, element: Any) -> Scalar:
    """Return an element, or a number, in a dtype: what is written to an array may have another."""
    return convert(element, dtype) if isinstance(element, Scalar) else constant(element, dtype)


def _without_picks(index: Map) -> None:
    if any([a.picks for a in index]):
        raise Undecided("a region at an index that data decide")


@handles("embed", check=_has_whole_region)
def _embed(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    out = equation.outputs[0]
    _without_picks(index)
    region = region_of(equation.params["key"], out.shape)
    assert region is not None
    places, conditions = _inverse(region, index)
    source = equation.values()[0]
    then = Demand(source, broadcast_map(source, _aligned(source, places)))
    return (yield from _choose(elements, inside, conditions, then, None, out.dtype))


def _aligned(source: Operand, places: Map) -> Map:
    """Drop leading unit axes that a written value may have more than its region."""
    rank = len(source.shape) if isinstance(source, Value) else 0
    return (ZERO,) * (rank - len(places)) + places


@handles("write_region", check=_has_whole_region)
def _write_region(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    out = equation.outputs[0]
    _without_picks(index)
    region = region_of(equation.params["key"], out.shape)
    assert region is not None
    places, conditions = _inverse(region, index)
    whole, value = equation.inputs
    then = Demand(value, broadcast_map(value, _aligned(value, places)))
    return (yield from _choose(elements, inside, conditions, then, Demand(whole, index, inside), out.dtype))


@handles("pad_constant")
def _pad(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    source, fill = equation.inputs
    out = equation.outputs[0]
    _without_picks(index)
    assert isinstance(source, Value)
    widths = equation.params["widths"]
    places = tuple([a.shifted(-before) for a, (before, _) in zip(index, widths)])
    conditions = tuple([Bound(a, n) for a, n in zip(places, source.shape)])
    inner = tuple([ZERO if n == 1 else a for a, n in zip(places, source.shape)])
    otherwise = None if uniform(fill) == 0 and not np.signbit(float(uniform(fill))) else Demand(fill, (), inside)
    return (yield from _choose(elements, inside, conditions, Demand(source, inner), otherwise, out.dtype))


@handles("concatenate_along")
def _concatenate(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    axis, out = equation.params["axis"], equation.outputs[0]
    _without_picks(index)
    start = 0
    pieces: list[tuple[Value, int]] = []
    for value in equation.values():
        if value.shape[axis]:
            pieces.append((value, start))
        start += value.shape[axis]
    result: Any = None
    for value, begin in reversed(pieces):
        place = index[axis].shifted(-begin)
        extent = value.shape[axis]
        left = elements.holding((Bound(place, extent),))
        if left is None:
            continue
        inner = (*index[:axis], ZERO if extent == 1 else place, *index[axis + 1 :])
        scalar = convert((yield Demand(value, inner, (*inside, *left))), out.dtype)
        result = scalar if result is None or not left else apply("where", elements.condition(left), scalar, result)
    return result


@handles("stack_along")
def _stack(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    axis, out = equation.params["axis"], equation.outputs[0]
    _without_picks(index)
    inner = (*index[:axis], *index[axis + 1 :])
    result: Any = None
    for place, operand in reversed(list(enumerate(equation.inputs))):
        left = elements.holding((Bound(index[axis].shifted(-place), 1),))
        if left is None:
            continue
        scalar = convert((yield Demand(operand, inner, (*inside, *left))), out.dtype)
        result = scalar if result is None or not left else apply("where", elements.condition(left), scalar, result)
    return result


@handles("roll_along")
def _roll(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    _without_picks(index)
    source = equation.values()[0]
    choices: list[tuple[Map, Inside]] = [(index, ())]
    for shift, axis in zip(equation.params["shift"], equation.params["axis"]):
        extent = source.shape[axis]
        places: list[tuple[Map, Inside]] = []
        for place, conditions in choices:
            back = place[axis].shifted(-(shift % extent))
            for one in (back, back.shifted(extent)):
                left = elements.holding((*conditions, Bound(one, extent)))
                if left is not None:
                    places.append(((*place[:axis], one, *place[axis + 1 :]), left))
        choices = places
    result: Any = None
    for place, left in choices:
        scalar = yield Demand(source, place, (*inside, *left))
        result = scalar if result is None else apply("where", elements.condition(left), scalar, result)
    return result


# Triangles and diagonals.


@handles("lower_triangle", "upper_triangle")
def _triangle(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    rows, columns = index[-2:]
    ahead = elements.position(columns.plus(rows.times(-1)))
    k = equation.params["k"]
    is_lower = equation.primitive.name == "lower_triangle"
    kept = apply("less_equal", ahead, k) if is_lower else apply("less_equal", k, ahead)
    scalar = yield Demand(equation.inputs[0], index, inside)
    return apply("where", kept, scalar, constant(0, equation.outputs[0].dtype))


@handles("diagonal_of")
def _diagonal(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    offset, first, second = (equation.params[name] for name in ("offset", "axis1", "axis2"))
    others = iter(index[:-1])
    places: list[Affine] = []
    for axis in range(len(equation.values()[0].shape)):
        if axis == first:
            places.append(index[-1].shifted(max(-offset, 0)))
        elif axis == second:
            places.append(index[-1].shifted(max(offset, 0)))
        else:
            places.append(next(others))
    return (yield Demand(equation.inputs[0], tuple(places), inside))


@handles("diagonal_matrix")
def _diagonal_matrix(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    offset = equation.params["offset"]
    source, out = equation.values()[0], equation.outputs[0]
    _without_picks(index)
    rows, columns = index[-2:]
    place = rows.shifted(-max(-offset, 0))
    on_it = Bound(columns.plus(rows.times(-1)).shifted(-offset), 1)
    then = Demand(source, (*index[:-2], place if source.shape[-1] > 1 else ZERO))
    conditions = (on_it, Bound(place, source.shape[-1]))
    return (yield from _choose(elements, inside, conditions, then, None, out.dtype))
