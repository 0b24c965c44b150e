"""What one element of an array is, in terms of elements of others: the operations that fuse, each as a generator.

A handler gets the index at which its result is wanted. It yields a `Demand` for every element that it needs, is sent
the Scalar, and returns its own. The driver in `Elements` keeps the stack, so that graphs may be deep, and computes
every element once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import scalar_namespace
from .expand_builder import is_elementwise
from .graph import Equation, Operand, Value
from .lower_index import ZERO, Affine, Map, NeedsSplit, NotAffine, Undecided, bounds, reshaped
from .scalar_ir import INT64, KernelError, Scalar, apply, constant, convert, input_scalar
from .simplify import uniform


class Bound(NamedTuple):
    """A condition: 0 <= index < extent."""

    index: Affine
    extent: int


Inside = tuple[Bound, ...]


class Demand(NamedTuple):
    """An element that is needed: of which operand, where, and under which conditions it exists."""

    operand: Operand
    index: Map
    inside: Inside = ()


class MustStore(Exception):
    """An array cannot be computed element by element where it is needed; it has to be in memory."""

    def __init__(self, value: Value) -> None:
        super().__init__(value)
        self.value = value


Handler = Callable[["Elements", Equation, Map, Inside], Generator[Demand, Any, Any]]
HANDLERS: dict[str, Handler] = {}


class Elements:
    """Computes elements on demand.

    Args:
        maker: which equation made a Value.
        extents: of the loops that indices count along.
    """

    def __init__(self, maker: dict[Value, Equation], extents: Sequence[int]) -> None:
        self.maker = maker
        self.extents = list(extents)
        self._memo: dict[Any, Any] = {}

    def leaf(self, value: Value, index: Map, inside: Inside) -> Scalar | None:
        """Return the Scalar of an element that is known without computing it, or None."""
        raise NotImplementedError

    def through_memory(self, demand: Demand) -> Scalar | None:
        """Return the Scalar of an element of a view, loaded from the memory that it shares, or None."""
        return None

    def computed(self, value: Value, index: Map) -> Scalar:
        """Return the Scalar of an element, computed even if it could be loaded."""
        demand = Demand(value, index)
        result = self._driven([(None, demand, self._handler(demand))], None)
        return convert(result, value.dtype) if isinstance(result, Scalar) else constant(result, value.dtype)

    def element(self, operand: Operand, index: Map, inside: Inside = ()) -> Any:
        """Return the Scalar of an element (or a Python number)."""
        return self._driven([], Demand(operand, index, inside))

    def _driven(self, stack: list[tuple[Any, Demand, Generator[Demand, Any, Any]]], demand: Demand | None) -> Any:
        while True:
            key, result = (None, None) if demand is None else self._known(demand)
            if result is None and demand is not None:
                stack.append((key, demand, self._handler(demand)))
            while stack:
                key, asked, handler = stack[-1]
                try:
                    demand = handler.send(result)
                    break
                except StopIteration as stop:
                    result = stop.value
                except NotAffine as fault:
                    result = self._otherwise(asked, fault)
                if key is not None:
                    self._memo[key] = result
                stack.pop()
            else:
                return result

    def _otherwise(self, demand: Demand, fault: NotAffine) -> Scalar:
        """Load what cannot be computed in place, if it is in memory; if not, it has to be."""
        loaded = self.through_memory(demand)
        if loaded is not None:
            return loaded
        if isinstance(fault, NeedsSplit):
            raise fault
        assert isinstance(demand.operand, Value)
        own = isinstance(fault, Undecided)
        raise MustStore(demand.operand if own else self.maker[demand.operand].values()[0]) from None

    def _known(self, demand: Demand) -> tuple[Any, Any]:
        operand, index, inside = demand
        if not isinstance(operand, Value):
            return None, operand
        if operand.constant is not None:
            number = uniform(operand)
            if number is not None:
                return None, constant(number, operand.dtype)
        key = (operand, _spelled(index), inside)
        known = self._memo.get(key)
        if known is None:
            known = self.leaf(operand, index, inside)
            if known is not None:
                self._memo[key] = known
        return key, known

    def _handler(self, demand: Demand) -> Generator[Demand, Any, Any]:
        value, index, inside = demand
        assert isinstance(value, Value)
        equation = self.maker[value]
        handler = _elementwise if is_elementwise(equation.primitive) else HANDLERS[equation.primitive.name]
        return handler(self, equation, index, inside)

    def position(self, index: Affine) -> Scalar:
        """Return an index as a Scalar."""
        total: Any = None
        for axis, coefficient in index.terms:
            total = _plus(total, self.counter(axis), coefficient)
        for pick, coefficient in index.picks:
            total = _plus(total, pick, coefficient)
        if total is None:
            return constant(index.offset, INT64)
        return total + index.offset if index.offset else total

    def counter(self, axis: int) -> Scalar:
        """Return the index along a loop."""
        return input_scalar(f"i{axis}", INT64)

    def condition(self, inside: Inside) -> Scalar | bool:
        """Return whether all conditions hold."""
        result: Scalar | bool = True
        for index, extent in inside:
            place = self.position(index)
            low, high = bounds(index, self.extents)
            if extent == 1:
                result = _both(result, apply("equal", place, 0))
                continue
            if low < 0:
                result = _both(result, apply("less_equal", 0, place))
            if high >= extent:
                result = _both(result, apply("less", place, extent))
        return result

    def holding(self, inside: Inside) -> Inside | None:
        """Return the conditions that are not true anyway, or None if one never is."""
        left: list[Bound] = []
        for bound in inside:
            low, high = bounds(bound.index, self.extents)
            if high < 0 or low >= bound.extent:
                return None
            if low < 0 or high >= bound.extent:
                left.append(bound)
        return tuple(left)

    def is_zero_outside(self, scalar: Scalar, inside: Inside) -> bool:
        """Whether a Scalar is loaded under these conditions, and zero where they don't hold."""
        return False


def _plus(total: Any, term: Scalar, coefficient: int) -> Scalar:
    term = term if coefficient == 1 else term * coefficient
    return term if total is None else total + term


def _both(first: Scalar | bool, second: Scalar) -> Scalar:
    return second if first is True else apply("bitwise_and", first, second)


def _spelled(index: Map) -> Any:
    """Return a key for a map; Scalars by identity, for == makes Scalars of them."""
    return tuple(
        [(a.offset, a.terms, tuple([(id(pick), c) for pick, c in a.picks])) if a.picks else a[:2] for a in index]
    )


_tried: dict[Any, bool] = {}


def can_be_computed(equation: Equation) -> bool:
    """Whether elements of an equation's result can be computed one by one."""
    if len(equation.outputs) != 1 or 0 in equation.outputs[0].shape:
        return False
    if not is_elementwise(equation.primitive):
        return _succeeds(equation)
    parts = [o.dtype.char if isinstance(o, Value) else (type(o), repr(o)) for o in equation.inputs]
    key = (equation.primitive, equation.outputs[0].dtype, *parts)
    if key not in _tried:
        _tried[key] = _succeeds(equation)
    return _tried[key]


def _succeeds(equation: Equation) -> bool:
    try:
        return _trial(equation)
    except (KernelError, TypeError, NotImplementedError):
        return False


def _trial(equation: Equation) -> bool:
    out = equation.outputs[0]
    for value in (*equation.values(), out):
        input_scalar("x", value.dtype)  # refuses dtypes that kernels don't have
    if not is_elementwise(equation.primitive):
        check = CHECKS.get(equation.primitive.name)
        return equation.primitive.name in HANDLERS and (check is None or check(equation))
    from_inputs = [
        input_scalar(f"x{place}", operand.dtype) if isinstance(operand, Value) else operand
        for place, operand in enumerate(equation.inputs)
    ]
    with np.errstate(all="ignore"):
        result = equation.primitive.impl(scalar_namespace, *from_inputs)
    return isinstance(result, Scalar) and result.dtype == out.dtype and _lowers(result)


def _lowers(scalar: Scalar) -> bool:
    """Whether every function of mathematics in it can be brought down to machine operations."""
    from .scalar_ir import ScalarFunction, topological
    from .scalar_math import lower

    inputs = tuple([s for s in topological((scalar,)) if s.op == "input"])
    lower(ScalarFunction("trial", inputs, (scalar,)))
    return True


CHECKS: dict[str, Callable[[Equation], bool]] = {}


def _handles(*names: str, check: Callable[[Equation], bool] | None = None) -> Callable[[Handler], Handler]:
    def declare(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
            if check is not None:
                CHECKS[name] = check
        return handler

    return declare


def _elementwise(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    scalars: list[Any] = []
    for operand in equation.inputs:
        scalar = yield Demand(operand, broadcast_map(operand, index), inside)
        scalars.append(scalar)
    result = equation.primitive.impl(scalar_namespace, *scalars)
    return convert(result, equation.outputs[0].dtype) if isinstance(result, Scalar) else result


def broadcast_map(operand: Operand, index: Map) -> Map:
    """Return where an operand is read for an element of what it broadcasts to."""
    if not isinstance(operand, Value):
        return ()
    lead = len(index) - len(operand.shape)
    return tuple([ZERO if n == 1 else index[lead + i] for i, n in enumerate(operand.shape)])


@_handles("cast")
def _cast(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    scalar = yield Demand(equation.inputs[0], index, inside)
    return convert(scalar, equation.outputs[0].dtype)


@_handles("zeros_like_value")
def _zeros(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    return constant(0, equation.outputs[0].dtype)
    yield


# Views.


@_handles("permute")
def _permute(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    axes = equation.params["axes"]
    return (yield Demand(equation.inputs[0], tuple([index[axes.index(i)] for i in range(len(axes))]), inside))


@_handles("stretch")
def _stretch(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    return (yield Demand(equation.inputs[0], broadcast_map(equation.inputs[0], index), inside))


@_handles("reshape_to")
def _reshape(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    source, out = equation.values()[0], equation.outputs[0]
    return (yield Demand(source, reshaped(index, out.shape, source.shape, elements.extents), inside))


@_handles("reverse")
def _reverse(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    axis, shape = equation.params["axis"], equation.outputs[0].shape
    turned = tuple([a.times(-1).shifted(shape[i] - 1) if i in axis else a for i, a in enumerate(index)])
    return (yield Demand(equation.inputs[0], turned, inside))


class Region(NamedTuple):
    """What a basic key selects: for each axis of the source, a start, a step, and the axis of the result (or None)."""

    starts: tuple[int, ...]
    steps: tuple[int, ...]
    axes: tuple[int | None, ...]
    shape: tuple[int, ...]


def region_of(key: Any, shape: tuple[int, ...]) -> Region | None:
    """Return the region that a key of integers, slices, Ellipsis and None selects, or None if it holds arrays."""
    parts: list[Any] = list(key)
    if any([isinstance(part, (np.ndarray, list, bool, np.bool_)) for part in parts]):
        return None
    taken = sum([part is not None and part is not Ellipsis for part in parts])
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    starts: list[int] = []
    steps: list[int] = []
    axes: list[int | None] = []
    out: list[int] = []
    for part in parts:
        if part is None:
            out.append(1)
            continue
        selected = [slice(None)] * (len(shape) - taken) if part is Ellipsis else [part]
        for one in selected:
            extent = shape[len(starts)]
            if isinstance(one, slice):
                start, stop, step = one.indices(extent)
                axes.append(len(out))
                out.append(len(range(start, stop, step)))
            else:
                start, step = int(one) % extent if extent else 0, 1
                axes.append(None)
            starts.append(start)
            steps.append(step)
    return Region(tuple(starts), tuple(steps), tuple(axes), tuple(out))


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


@_handles("index", check=_has_plain_region)
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
        return constant(0, dtype) if otherwise is None else (yield otherwise)
    first = yield Demand(then.operand, then.index, (*inside, *left))
    if not left:
        return first
    first = convert(first, dtype) if isinstance(first, Scalar) else constant(first, dtype)
    if otherwise is None:
        if elements.is_zero_outside(first, left):
            return first
        return apply("where", elements.condition(left), first, constant(0, dtype))
    second = yield otherwise
    second = convert(second, dtype) if isinstance(second, Scalar) else constant(second, dtype)
    return apply("where", elements.condition(left), first, second)


def _without_picks(index: Map) -> None:
    if any([a.picks for a in index]):
        raise Undecided("a region at an index that data decide")


@_handles("embed", check=_has_whole_region)
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


@_handles("write_region", check=_has_whole_region)
def _write_region(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    out = equation.outputs[0]
    _without_picks(index)
    region = region_of(equation.params["key"], out.shape)
    assert region is not None
    places, conditions = _inverse(region, index)
    whole, value = equation.inputs
    then = Demand(value, broadcast_map(value, _aligned(value, places)))
    return (yield from _choose(elements, inside, conditions, then, Demand(whole, index, inside), out.dtype))


@_handles("pad_constant")
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


@_handles("concatenate_along")
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


@_handles("stack_along")
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


@_handles("roll_along")
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


@_handles("lower_triangle", "upper_triangle")
def _triangle(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    rows, columns = index[-2:]
    ahead = elements.position(columns.plus(rows.times(-1)))
    k = equation.params["k"]
    is_lower = equation.primitive.name == "lower_triangle"
    kept = apply("less_equal", ahead, k) if is_lower else apply("less_equal", k, ahead)
    scalar = yield Demand(equation.inputs[0], index, inside)
    return apply("where", kept, scalar, constant(0, equation.outputs[0].dtype))


@_handles("diagonal_of")
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


@_handles("diagonal_matrix")
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


# Positions that data decide. They are checked before, so here they are in range, but for the sign.


def _picked(scalar: Any, extent: int) -> Affine:
    place = convert(scalar, INT64)
    return Affine(0, (), ((apply("where", apply("less", place, 0), place + extent, place), 1),))


@_handles("take_slices")
def _take(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    source, indices = equation.inputs
    axis = equation.params["axis"]
    assert isinstance(source, Value) and isinstance(indices, Value)
    rank = len(indices.shape)
    place = yield Demand(indices, index[axis : axis + rank], inside)
    picked = _picked(place, source.shape[axis])
    return (yield Demand(source, (*index[:axis], picked, *index[axis + rank :]), inside))


@_handles("take_along")
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


@_handles("add_along_axis", check=_adds_one_each)
def _add_along(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    x, indices, values = equation.values()
    axis, dtype = equation.params["axis"], equation.outputs[0].dtype
    place = convert((yield Demand(indices, broadcast_map(indices, index), inside)), INT64)
    forward = apply("where", apply("less", place, 0), place + x.shape[axis], place)
    whole = convert((yield Demand(x, index, inside)), dtype)
    value = convert((yield Demand(values, broadcast_map(values, index), inside)), dtype)
    here = apply("equal", forward, elements.position(index[axis]))
    return apply("where", here, whole + value, whole)
