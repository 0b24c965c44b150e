"""Stacks: what is taken from them, and sums of products as one product of stacks.

What a loop of many steps gives a weight as its gradient is a sum over the steps of products of small factors. That is
the product of all left factors side by side and all right factors one below another: the sum is done in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..core.primitive import Primitive
from .expand_builder import Builder
from .graph import Equation, Graph, Operand, Value
from .lower_regions import region_of
from .simplify import General, Rewriting, constant_value, single_slice

FEW_TERMS, MOST_TERMS = 5, 256
"""How many products are worth being joined, and how many arrays a stack may be made of."""
MOST_BYTES = 1 << 26
"""Factors larger than this together are not all kept for the end."""


def piece_of_stack(walk: Rewriting, equation: Equation) -> Operand | None:
    """Take one piece of a stack, or of zeros with one piece put in, without the others."""
    if not isinstance(equation.inputs[0], Value):
        return None
    whole = equation.inputs[0]
    stack, embedded = walk.made_by(whole, "stack_along"), walk.made_by(whole, "embed")
    if stack is None and embedded is None:
        return None
    region = region_of(equation.params["key"], whole.shape)
    if region is None or region.axes.count(None) != 1:
        return None
    axis = region.axes.index(None)
    rest = whole.shape[:axis] + whole.shape[axis + 1 :]
    if region.shape != rest or any([step != 1 for i, step in enumerate(region.steps) if i != axis]):
        return None
    place = region.starts[axis]
    if stack is not None:
        return stack.inputs[place] if stack.params["axis"] == axis else None
    assert embedded is not None
    slot = single_slice(embedded)
    if slot is None or slot[0] != axis:
        return None
    if slot[1] == place:
        return embedded.inputs[0]
    return constant_value(np.broadcast_to(np.zeros((), whole.dtype), rest), equation.outputs[0].where)


def stack_of_pieces(walk: Rewriting, equation: Equation) -> Operand | None:
    """Take a stack of an array's pieces, in order, as that array or the part of it that they are."""
    if equation.params["axis"] != 0:
        return None
    makers = [walk.made_by(operand, "index") for operand in equation.inputs]
    run = _run_of(makers)
    return None if run is None else walk.build(run.built, equation.outputs[0].where)


class _Run(NamedTuple):
    """Pieces of an array that follow each other along its first axis."""

    source: Value
    first: int
    count: int

    def built(self, builder: Builder) -> Value:
        """Return the part of the array that they are."""
        if self.count == self.source.shape[0]:
            return self.source
        return builder.call("index", self.source, key=(slice(self.first, self.first + self.count),))


def _run_of(makers: Sequence[Equation | None]) -> _Run | None:
    """Return the run that the results of equations are, if they are one."""
    run: _Run | None = None
    for equation in makers:
        if equation is None or not isinstance(equation.inputs[0], Value):
            return None
        source = equation.inputs[0]
        region = region_of(equation.params["key"], source.shape)
        if region is None or region.axes[:1] != (None,) or region.shape != source.shape[1:]:
            return None
        if None in region.axes[1:] or any([step != 1 for step in region.steps]):
            return None
        place = region.starts[0]
        if run is None:
            run = _Run(source, place, 1)
        elif source is not run.source or place != run.first + run.count:
            return None
        else:
            run = run._replace(count=run.count + 1)
    return run


def _named(name: str) -> Callable[[Primitive], bool]:
    return lambda primitive: primitive.name == name


STACK_RULES = (General(_named("index"), piece_of_stack), General(_named("stack_along"), stack_of_pieces))
Term = tuple[Value, Value]
"""The factors of a product x^T y: x, with an axis to sum over and one for rows of the result, and y."""


def with_joined_products(graph: Graph) -> Graph:
    """Return the graph with long sums of products of small factors as products of stacks."""
    if sum([equation.primitive.name == "matrix_product" for equation in graph.equations]) < FEW_TERMS:
        return graph
    joining = _Joining(graph)
    equations: list[Equation] = []
    for equation in graph.equations:
        equations.extend(joining.joined(equation) or [equation])
    if not joining.changes:
        return graph
    made = Graph(graph.name, graph.inputs, _in_order(equations), graph.outputs, graph.homes)
    return made.without_dead_code()


class _Joining:
    """Finds sums of products."""

    def __init__(self, graph: Graph) -> None:
        self.maker = {value: equation for equation in graph.equations for value in equation.outputs}
        self.uses: dict[Value, list[Equation]] = {}
        for equation in graph.equations:
            for value in equation.values():
                self.uses.setdefault(value, []).append(equation)
        self.outputs = set(graph.outputs)
        self.stacks = {
            equation.inputs: equation.outputs[0]
            for equation in graph.equations
            if equation.primitive.name == "stack_along" and equation.params["axis"] == 0
        }
        self.changes = 0

    def joined(self, equation: Equation) -> list[Equation] | None:
        """Return what takes the place of the last addition of a long sum, or None for anything else."""
        out = equation.outputs[0]
        if equation.primitive.name != "add" or len(out.shape) != 2 or self._is_within_sum(out):
            return None
        terms, rest = self._terms(equation)
        if not FEW_TERMS <= len(terms) <= MOST_TERMS or not _gains(terms, out):
            return None
        self.changes += 1
        builder = Builder(out.where)
        lefts, rights = self._ordered(terms)
        left, right = self._stacked(builder, lefts), self._stacked(builder, rights)
        total = builder.call("matrix_product", builder.swap(left), right)
        for operand in rest:
            total = builder.call("add", total, operand)
        last = builder.equations[-1]
        builder.equations[-1] = Equation(last.primitive, last.inputs, last.params, (out,))
        return builder.equations

    def _is_within_sum(self, value: Value) -> bool:
        """Whether a sum is only there to be added to another."""
        users = self.uses.get(value, [])
        return len(users) == 1 and value not in self.outputs and _adds_alike(users[0])

    def _terms(self, equation: Equation) -> tuple[list[Term], list[Operand]]:
        """Return the terms of a sum that are products of equal shapes, and the others, as they are added up."""
        terms: list[Term] = []
        rest: list[Operand] = []
        pending: list[Operand] = list(reversed(equation.inputs))
        while pending:
            operand = pending.pop()
            inner = self.maker.get(operand) if isinstance(operand, Value) else None
            single = inner is not None and self._is_within_sum(inner.outputs[0])
            if inner is None or not single:
                rest.append(operand)
            elif _adds_alike(inner):
                pending.extend(reversed(inner.inputs))
            else:
                term = self._term(inner)
                if term is None or (terms and _shapes(term) != _shapes(terms[0])):
                    rest.append(operand)
                else:
                    terms.append(term)
        return terms, rest

    def _term(self, equation: Equation) -> Term | None:
        """Return the factors of a product of a transposed array and another, or of such a product transposed."""
        if equation.primitive.name == "permute" and equation.params["axes"] == (1, 0):
            product = self.maker.get(equation.values()[0])
            if product is None or product.primitive.name != "matrix_product" or len(self.uses[product.outputs[0]]) > 1:
                return None
            term = None if product.outputs[0] in self.outputs else self._term(product)
            return None if term is None else (term[1], term[0])
        if equation.primitive.name != "matrix_product":
            return None
        left, right = equation.inputs
        turned = self.maker.get(left) if isinstance(left, Value) else None
        if turned is None or turned.primitive.name != "permute" or turned.params["axes"] != (1, 0):
            return None
        return (turned.values()[0], right) if isinstance(right, Value) and len(right.shape) == 2 else None

    def _ordered(self, terms: list[Term]) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        """Return left and right factors in an order in which they are stacked already, or as steps made them."""
        lefts, rights = tuple([left for left, _ in terms]), tuple([right for _, right in terms])
        if lefts in self.stacks or rights in self.stacks:
            return lefts, rights
        return lefts[::-1], rights[::-1]  # a sweep comes to the last step first

    def _indexing(self, value: Value) -> Equation | None:
        equation = self.maker.get(value)
        return equation if equation is not None and equation.primitive.name == "index" else None

    def _stacked(self, builder: Builder, values: tuple[Value, ...]) -> Value:
        stack = self.stacks.get(values)
        if stack is None:
            run = _run_of([self._indexing(value) for value in values])
            stack = builder.call("stack_along", *values, axis=0) if run is None else run.built(builder)
            self.stacks[values] = stack
        return builder.reshape(stack, (stack.shape[0] * stack.shape[1], stack.shape[2]))


def _adds_alike(equation: Equation) -> bool:
    """Whether an equation adds arrays of its result's shape."""
    out = equation.outputs[0]
    operands = equation.inputs
    return equation.primitive.name == "add" and all(
        [isinstance(o, Value) and (o.shape, o.dtype) == (out.shape, out.dtype) for o in operands]
    )


def _shapes(term: Term) -> tuple[object, ...]:
    left, right = term
    return left.shape, left.dtype, right.shape, right.dtype


def _gains(terms: Sequence[Term], out: Value) -> bool:
    """Whether stacking the factors moves fewer elements than writing the products and adding them up."""
    factors = sum([left.size + right.size for left, right in terms])
    return factors <= len(terms) * out.size and factors * out.dtype.itemsize <= MOST_BYTES


def _in_order(equations: list[Equation]) -> list[Equation]:
    """Return equations in an order in which they can be computed, as near to the given one as can be."""
    maker = {value: equation for equation in equations for value in equation.outputs}
    done: set[Equation] = set()
    ordered: list[Equation] = []
    for first in equations:
        pending = [first]
        while pending:
            equation = pending[-1]
            missing = [maker[v] for v in equation.values() if v in maker and maker[v] not in done]
            if missing and equation not in done:
                pending.extend(missing)
                continue
            pending.pop()
            if equation not in done:
                done.add(equation)
                ordered.append(equation)
    return ordered
