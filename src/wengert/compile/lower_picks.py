"""Elements at positions that data decide. These are in range, but for their signs: see `expand_checks`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from .graph import Equation, Value
from .lower_elements import Demand, Elements, Inside, broadcast_map, handles
from .lower_index import ZERO, Affine, Map
from .scalar_ir import INT64, apply, convert


def _picked(scalar: Any, extent: int) -> Affine:
    if extent == 1:
        return ZERO  # the only place that is in range, and one that other roots of a nest are computed at
    place = convert(scalar, INT64)
    return Affine(0, (), ((apply("where", apply("less", place, 0), place + extent, place), 1),))


@handles("take_slices")
def _take(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    source, indices = equation.inputs
    axis = equation.params["axis"]
    assert isinstance(source, Value) and isinstance(indices, Value)
    rank = len(indices.shape)
    place = yield Demand(indices, index[axis : axis + rank], inside)
    picked = _picked(place, source.shape[axis])
    return (yield Demand(source, (*index[:axis], picked, *index[axis + rank :]), inside))


@handles("take_along")
def _take_along(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    source, indices = equation.inputs
    axis = equation.params["axis"]
    assert isinstance(source, Value)
    place = yield Demand(indices, broadcast_map(indices, index), inside)
    places = [*broadcast_map(source, index)]
    places[axis] = _picked(place, source.shape[axis])
    return (yield Demand(source, tuple(places), inside))


def _adds_one_each(equation: Equation) -> bool:
    """Whether every row gets at most one number."""
    x, indices, values = equation.inputs
    axis = equation.params["axis"]
    if not (isinstance(x, Value) and isinstance(indices, Value) and isinstance(values, Value)):
        return False
    one = tuple([1 if i == axis else n for i, n in enumerate(x.shape)])
    return indices.shape == one and values.shape == one


@handles("add_along_axis", check=_adds_one_each)
def _add_along(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    x, indices, values = equation.values()
    axis, dtype = equation.params["axis"], equation.outputs[0].dtype
    place = convert((yield Demand(indices, broadcast_map(indices, index), inside)), INT64)
    forward = apply("where", apply("less", place, 0), place + x.shape[axis], place)
    whole = convert((yield Demand(x, index, inside)), dtype)
    value = convert((yield Demand(values, broadcast_map(values, index), inside)), dtype)
    here = apply("equal", forward, elements.position(index[axis]))
    return apply("where", here, whole + value, whole)
