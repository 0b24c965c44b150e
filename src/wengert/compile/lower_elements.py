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
from .lower_index import ZERO, Affine, Map, NeedsSplit, NotAffine, Undecided, bounds
from .scalar_ir import (
    INT64,
    KernelError,
    Scalar,
    ScalarFunction,
    apply,
    constant,
    convert,
    input_scalar,
    topological,
)
from .scalar_math import lower
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
    for a in index:
        if a.picks:
            break
    else:
        return index
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
    inputs = tuple([s for s in topological((scalar,)) if s.op == "input"])
    lower(ScalarFunction("trial", inputs, (scalar,)))
    return True


CHECKS: dict[str, Callable[[Equation], bool]] = {}


def handles(*names: str, check: Callable[[Equation], bool] | None = None) -> Callable[[Handler], Handler]:
    """Declare a handler of operations, and a test of which of their equations it is for."""

    def declare(handler: Handler) -> Handler:
        for name in names:
            HANDLERS[name] = handler
            if check is not None:
                CHECKS[name] = check
        return handler

    return declare


def _elementwise(elements: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
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
    shape = operand.shape
    lead = len(index) - len(shape)
    if not lead and 1 not in shape:
        return index
    return tuple([ZERO if n == 1 else index[lead + i] for i, n in enumerate(shape)])


@handles("cast")
def _cast(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    scalar = yield Demand(equation.inputs[0], index, inside)
    return convert(scalar, equation.outputs[0].dtype)


@handles("zeros_like_value")
def _zeros(_: Elements, equation: Equation, index: Map, inside: Inside) -> Generator[Demand, Any, Any]:
    return constant(0, equation.outputs[0].dtype)
    yield
