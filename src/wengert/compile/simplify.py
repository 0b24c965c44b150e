"""Simplification: a table of rewritings, each exact in IEEE arithmetic, applied in one walk over the equations.

On the way, equations on small constants are computed, equal equations are merged, and what no output needs is dropped.
Signed zeros, infinities and NaN are kept: x * 0 stays, x + 0.0 stays (it makes 0.0 of -0.0), x - 0.0 goes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..core.primitive import Primitive
from .expand_builder import Builder
from .graph import Equation, Graph, Operand, Value
from .interpret import computed

Rule = Callable[["Rewriting", Equation], "Operand | None"]
"""Returns what the equation's one result is instead, or None."""


class General(NamedTuple):
    """A rule for all operations of a kind."""

    applies: Callable[[Primitive], bool]
    rule: Rule


RULES: dict[str, list[Rule]] = {}
FOLDED = 4096
"""Up to this many elements, results of constants are computed when compiling."""


class Rewriting:
    """One walk: what has been made so far, and by which equation."""

    def __init__(self, graph: Graph, general: Sequence[General]) -> None:
        self.graph = graph
        self._general = general
        self._rules: dict[Primitive, list[Rule]] = {}
        self.equations: list[Equation] = []
        self.maker: dict[Value, Equation] = {}
        self.replaced: dict[Value, Operand] = {}
        self.known: dict[Hashable, tuple[Value, ...]] = {}

    def run(self) -> Graph:
        """Rewrite all equations in order."""
        replaced = self.replaced.keys()
        for equation in self.graph.equations:
            if not replaced.isdisjoint(equation.inputs):
                inputs = tuple([self._current(operand) for operand in equation.inputs])
                equation = Equation(equation.primitive, inputs, equation.params, equation.outputs)
            self._add(equation)
        outputs = [self._settled(value) for value in self.graph.outputs]
        graph = Graph(self.graph.name, self.graph.inputs, self.equations, outputs, self.graph.homes)
        return graph.without_dead_code()

    def made_by(self, operand: Operand, name: str) -> Equation | None:
        """Return the equation that made an operand, if it is one of that name."""
        equation = self.maker.get(operand) if isinstance(operand, Value) else None
        return equation if equation is not None and equation.primitive.name == name else None

    def build(self, make: Callable[[Builder], Value], where: str) -> Value:
        """Add what a function builds, and return its result."""
        builder = Builder(where)
        result = make(builder)
        for equation in builder.equations:
            equation.inputs = tuple([self._current(operand) for operand in equation.inputs])
            self._add(equation)
        return self._settled(result)

    def _current(self, operand: Operand) -> Operand:
        while isinstance(operand, Value) and operand in self.replaced:
            operand = self.replaced[operand]
        return operand

    def _settled(self, value: Value) -> Value:
        operand = self._current(value)
        assert isinstance(operand, Value)
        return operand

    def _add(self, equation: Equation) -> None:
        if self._folded(equation):
            return
        if len(equation.outputs) == 1:
            out = equation.outputs[0]
            for rule in self._rules_for(equation.primitive):
                other = rule(self, equation)
                if isinstance(other, Value) and (other.shape, other.dtype) == (out.shape, out.dtype):
                    self.replaced[out] = other
                    return
        key = _key(equation)
        if key is not None and key in self.known:
            self.replaced.update(zip(equation.outputs, self.known[key]))
            return
        if key is not None:
            self.known[key] = equation.outputs
        self.equations.append(equation)
        for out in equation.outputs:
            self.maker[out] = equation

    def _rules_for(self, primitive: Primitive) -> list[Rule]:
        rules = self._rules.get(primitive)
        if rules is None:
            general = [rule for applies, rule in self._general if applies(primitive)]
            rules = self._rules[primitive] = [*RULES.get(primitive.name, ()), *general]
        return rules

    def _folded(self, equation: Equation) -> bool:
        for operand in equation.inputs:  # nearly always the first tells
            if isinstance(operand, Value) and operand.constant is None:
                return False
        values = equation.values()
        if not values:
            return False
        if sum([out.size for out in equation.outputs]) > FOLDED or max([value.size for value in values]) > FOLDED:
            return False
        operands = [operand.constant if isinstance(operand, Value) else operand for operand in equation.inputs]
        try:
            with np.errstate(all="ignore"):
                arrays = computed(equation, operands)
        except Exception:
            return False  # it raises when the program runs, as it should
        for out, array in zip(equation.outputs, arrays):
            self.replaced[out] = constant_value(np.array(array), out.where)
        return True


def constant_value(array: np.ndarray, where: str = "") -> Value:
    """Return a constant."""
    return Value(array.shape, array.dtype, array, where)


def simplify(graph: Graph, general: Sequence[General] = ()) -> Graph:
    """Return the graph simplified.

    One walk does it: a rule sees an equation, and how its operands are made, as they are in the end, and what it
    builds is simplified as it is added.

    Args:
        graph: what to simplify.
        general: rules besides those for operations by name.
    """
    return Rewriting(graph, general).run()


def _key(equation: Equation) -> Hashable | None:
    """Return what equal equations have in common, or None where that is not known."""
    operands = [
        id(operand) if type(operand) is Value else (type(operand).__name__, repr(operand))
        for operand in equation.inputs
    ]
    if not equation.params:
        return equation.primitive.name, *operands
    try:
        params = tuple([(name, hashable(value)) for name, value in sorted(equation.params.items())])
        hash(params)
    except TypeError:
        return None
    return equation.primitive.name, params, *operands


def hashable(value: Any) -> Hashable:
    """Return what equal parameters have in common; raises TypeError, here or when hashed, where that is not known."""
    if isinstance(value, np.ndarray):
        return ("array", value.shape, str(value.dtype), value.tobytes())
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    if isinstance(value, (tuple, list)):
        return tuple([hashable(item) for item in value])
    if isinstance(value, float):
        return repr(value)
    return (type(value).__name__, value)


def uniform(operand: Operand) -> Any:
    """Return the one number that all elements of a constant are, or None."""
    if not isinstance(operand, Value):
        return operand
    array = operand.constant
    if array is None or not array.size or array.dtype.kind not in "biuf":
        return None
    first = array.flat[0]
    if array.size > 1 and any([n > 1 and s for n, s in zip(array.shape, array.strides)]):
        same: Any = array == first
        if not same.all() or (array.dtype.kind == "f" and not (np.signbit(array) == np.signbit(first)).all()):
            return None
    return first.item()


def _rule(names: str) -> Callable[[Rule], Rule]:
    def declare(rule: Rule) -> Rule:
        for name in names.split():
            RULES.setdefault(name, []).append(rule)
        return rule

    return declare


# Views.


@_rule(
    "stopped positive with_clipped_cotangent with_clipped_cotangent_norm with_scaled_cotangent with_logged_cotangent"
)
def _itself(_: Rewriting, equation: Equation) -> Operand | None:
    return equation.inputs[0]


@_rule("reshape_to stretch cast concatenate_along")
def _nothing_to_do(_: Rewriting, equation: Equation) -> Operand | None:
    return equation.inputs[0] if len(equation.inputs) == 1 else None


@_rule("reshape_to")
def _reshape_twice(walk: Rewriting, equation: Equation) -> Operand | None:
    first = walk.made_by(equation.inputs[0], "reshape_to")
    if first is None:
        return None
    shape, source = equation.params["newshape"], first.values()[0]
    return walk.build(lambda b: b.reshape(source, shape), equation.outputs[0].where)


@_rule("permute")
def _permute_twice(walk: Rewriting, equation: Equation) -> Operand | None:
    axes, source = equation.params["axes"], equation.inputs[0]
    if axes == tuple(range(len(axes))):
        return source
    first = walk.made_by(source, "permute")
    if first is None:
        return None
    together = tuple([first.params["axes"][a] for a in axes])
    return walk.build(lambda b: b.permute(first.values()[0], together), equation.outputs[0].where)


@_rule("stretch")
def _stretch_twice(walk: Rewriting, equation: Equation) -> Operand | None:
    first = walk.made_by(equation.inputs[0], "stretch")
    if first is None:
        return None
    shape = equation.params["shape"]
    return walk.build(lambda b: b.call("stretch", first.values()[0], shape=shape), equation.outputs[0].where)


@_rule("sum_over max_over min_over prod_over any_over all_over")
def _reduce_nothing(walk: Rewriting, equation: Equation) -> Operand | None:
    """Reductions over extents of one are reshapes, and conversions where the dtype changes; sums begin with zero."""
    x, out = equation.values()[0], equation.outputs[0]
    if prod([x.shape[a] for a in equation.params["axis"]]) != 1 or 0 in x.shape:
        return None
    if x.dtype != out.dtype and equation.primitive.name in ("any_over", "all_over"):
        return None
    begins = equation.primitive.name == "sum_over" and out.dtype.kind == "f"  # which makes zero of minus zero

    def build(b: Builder) -> Value:
        one = b.cast(x, out.dtype)
        return b.reshape(b.call("add", one, 0.0) if begins else one, out.shape)

    return walk.build(build, out.where)


# Arithmetic.


@_rule("negative conj")
def _twice(walk: Rewriting, equation: Equation) -> Operand | None:
    first = walk.made_by(equation.inputs[0], equation.primitive.name)
    return None if first is None else first.inputs[0]


@_rule("logical_not")
def _not_twice(walk: Rewriting, equation: Equation) -> Operand | None:
    first = walk.made_by(equation.inputs[0], "logical_not")
    return None if first is None else first.inputs[0]


@_rule("real conj")
def _real_of_real(_: Rewriting, equation: Equation) -> Operand | None:
    return equation.inputs[0] if equation.outputs[0].dtype.kind != "c" else None


@_rule("multiply guarded_product")
def _times_one(_: Rewriting, equation: Equation) -> Operand | None:
    x, y = equation.inputs
    if _is_number(y, 1):
        return x
    return y if _is_number(x, 1) else None


@_rule("guarded_product")
def _finite_factor(walk: Rewriting, equation: Equation) -> Operand | None:
    """With a factor that is finite and not zero, the guard has nothing to do."""
    x, y = equation.inputs
    for factor in (x, y):
        number = uniform(factor)
        if number is not None and type(number) in (int, float, bool) and number and np.isfinite(number):
            return walk.build(lambda b: b.call("multiply", x, y), equation.outputs[0].where)
    return None


@_rule("write_region")
def _write_all(walk: Rewriting, equation: Equation) -> Operand | None:
    """Writing all of an array leaves nothing of what it was."""
    out, value = equation.outputs[0], equation.inputs[1]
    key = equation.params["key"]
    whole = all([not hasattr(part, "dtype") and (part is Ellipsis or part == slice(None)) for part in key])
    if equation.params["steps"] or not whole:
        return None
    if not isinstance(value, Value) or value.shape != out.shape:
        return None
    return walk.build(lambda b: b.cast(value, out.dtype), out.where)


@_rule("divide")
def _over_one(_: Rewriting, equation: Equation) -> Operand | None:
    return equation.inputs[0] if _is_number(equation.inputs[1], 1) else None


@_rule("subtract")
def _minus_zero(_: Rewriting, equation: Equation) -> Operand | None:
    number = uniform(equation.inputs[1])
    zero = number is not None and number == 0 and not np.signbit(number)
    return equation.inputs[0] if zero else None


@_rule("add")
def _sum_of_slices(walk: Rewriting, equation: Equation) -> Operand | None:
    """What the slices of an array pull back to, zeros but for one slice each, add up to their stack."""
    out = equation.outputs[0]
    pieces: dict[int, Value] = {}
    along: int | None = None
    pending = list(equation.inputs)
    while pending:
        term = pending.pop()
        inner = walk.made_by(term, "add")
        if inner is not None and inner.outputs[0].shape == out.shape:
            pending.extend(inner.inputs)
            continue
        embedded = walk.made_by(term, "embed")
        slot = None if embedded is None else single_slice(embedded)
        if embedded is None or slot is None or slot[1] in pieces or along not in (None, slot[0]):
            return None
        along = slot[0]
        pieces[slot[1]] = embedded.values()[0]
    if along is None or len(pieces) != out.shape[along]:
        return None
    ordered = [pieces[place] for place in range(len(pieces))]
    return walk.build(lambda b: b.call("stack_along", *ordered, axis=along), out.where)


def single_slice(equation: Equation) -> tuple[int, int] | None:
    """Return the axis and the place along it that a single slice is put at, or None if it is something else."""
    key, shape = list(equation.params["key"]), equation.params["shape"]
    if any([hasattr(part, "dtype") or part is None or isinstance(part, bool) for part in key]):
        return None
    if Ellipsis in key:
        place = key.index(Ellipsis)
        key[place : place + 1] = [slice(None)] * (len(shape) - len(key) + 1)
    axes = [axis for axis, part in enumerate(key) if not isinstance(part, slice)]
    if len(axes) != 1 or any([part != slice(None) for part in key if isinstance(part, slice)]):
        return None
    axis = axes[0]
    if equation.values()[0].shape != (*shape[:axis], *shape[axis + 1 :]):
        return None
    return axis, key[axis] % shape[axis]


@_rule("add")
def _add_opposite(walk: Rewriting, equation: Equation) -> Operand | None:
    """x + (-y) is x - y, to the bit; integers may lose a zero."""
    x, y = equation.inputs
    for one, other in ((x, y), (y, x)):
        if _is_number(other, 0) and isinstance(one, Value) and one.dtype.kind in "iu":
            return one
    opposite = walk.made_by(y, "negative")
    if opposite is None or equation.outputs[0].dtype.kind != "f":
        return None
    return walk.build(lambda b: b.call("subtract", x, opposite.inputs[0]), equation.outputs[0].where)


def _is_number(operand: Operand, number: int) -> bool:
    known = uniform(operand)
    return known is not None and operator.eq(known, number)


@_rule("where")
def _known_choice(_: Rewriting, equation: Equation) -> Operand | None:
    condition, x, y = equation.inputs
    known = uniform(condition)
    return None if known is None else (x if known else y)
