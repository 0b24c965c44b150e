"""Sums of products over the steps of a loop: one product of stacks after the loop, in place of one in each step.

What a loop gives a weight as its gradient is such a sum. The factors of all steps lie in memory one below another, and
what is summed over becomes one axis of one product.
"""

from __future__ import annotations

from typing import NamedTuple

from .expand_builder import Builder
from .graph import Equation, Graph, Value
from .loops import Form, is_loop, stacked_shape

MOST_BYTES = 1 << 26
"""Factors larger than this together are not all kept for the end."""


class _Term(NamedTuple):
    """What is summed: a product x^T y of the first axes of two arrays, or the sum of one array over axes."""

    equation: Equation
    factors: tuple[Value, ...]


def with_sums_outside(graph: Graph) -> Graph:
    """Return the graph with sums that loops carry computed after them, where that takes less."""
    equations: list[Equation] = []
    for equation in graph.equations:
        equations.extend(_divided(equation) if is_loop(equation) else [equation])
    return Graph(graph.name, graph.inputs, equations, graph.outputs, graph.homes)


def _divided(equation: Equation) -> list[Equation]:
    """Return a loop less the sums that it carries, and what computes them."""
    form: Form = equation.params["form"]
    terms = _terms(equation, form)
    if not terms:
        return [equation]
    body = form.body
    kept = [i for i in range(form.carried) if i not in terms]
    emitted: dict[Value, None] = {}
    reads = dict(zip(body.inputs[form.shared + form.carried :], equation.inputs[form.shared + form.carried :]))
    known = dict(zip(body.outputs[form.carried :], equation.outputs[form.carried :]))
    for term in terms.values():
        new = [factor for factor in term.factors if factor not in reads and factor not in known]
        emitted.update(dict.fromkeys(new))
    outputs = [body.outputs[i] for i in kept] + [*body.outputs[form.carried :], *emitted]
    dropped = {form.shared + i for i in terms}
    less = Graph(
        body.name, [v for i, v in enumerate(body.inputs) if i not in dropped], body.equations, outputs
    ).without_dead_code()
    lesser = form._replace(body=less, carried=len(kept), histories=tuple([form.histories[i] for i in kept]))
    where = equation.outputs[0].where
    stacks = {value: Value(stacked_shape(value, form), value.dtype, where=where) for value in emitted}
    made = [equation.outputs[i] for i in kept] + [*equation.outputs[form.carried :], *stacks.values()]
    inputs = tuple([operand for i, operand in enumerate(equation.inputs) if i not in dropped])
    stacks.update({value: stack for value, stack in reads.items() if isinstance(stack, Value)})
    stacks.update(known)
    builder = Builder(where)
    if made:
        builder.equations.append(Equation(equation.primitive, inputs, {"form": lesser}, tuple(made)))
    for i, term in terms.items():
        total = _total(builder, term, [stacks[factor] for factor in term.factors])
        begin = equation.inputs[form.shared + i]
        builder.call("add", begin, total)
        builder.equations[-1].outputs = (equation.outputs[i],)
    return builder.equations


def _terms(equation: Equation, form: Form) -> dict[int, _Term]:
    """Return which of what is carried are sums, and of what."""
    body = form.body
    maker = {value: step for step in body.equations for value in step.outputs}
    uses: dict[Value, int] = {}
    for value in [*[v for step in body.equations for v in step.values()], *body.outputs]:
        uses[value] = uses.get(value, 0) + 1
    reads = set(body.inputs[form.shared + form.carried :])
    found: dict[int, _Term] = {}
    for i in range(form.carried):
        carry, out = body.inputs[form.shared + i], body.outputs[i]
        step = maker.get(out)
        if form.histories[i] or step is None or step.primitive.name != "add" or uses[out] > 1 or uses[carry] > 1:
            continue
        others = [value for value in step.inputs if value is not carry]
        if len(others) != 1 or not isinstance(others[0], Value) or others[0].shape != carry.shape:
            continue
        term = _term(maker.get(others[0]), maker)
        if term is not None and _gains(term, form, maker, reads):
            found[i] = term
    return found


def _term(equation: Equation | None, maker: dict[Value, Equation]) -> _Term | None:
    """Return what a sum over steps can be made of: a product of two matrices, or a sum over axes."""
    if equation is None:
        return None
    if equation.primitive.name == "sum_over":
        return _Term(equation, (equation.values()[0],))
    if equation.primitive.name != "matrix_product" or len(equation.outputs[0].shape) != 2:
        return None
    left, right = equation.values()
    turned = maker.get(left)
    if turned is None or turned.primitive.name != "permute" or turned.params["axes"] != (1, 0):
        return None
    return _Term(equation, (turned.values()[0], right))


def _gains(term: _Term, form: Form, maker: dict[Value, Equation], reads: set[Value]) -> bool:
    """Whether factors are made by steps, or read by them, and are smaller than what they make."""
    if any([factor not in maker and factor not in reads for factor in term.factors]):
        return False
    size = sum([factor.nbytes for factor in term.factors])
    if size * form.length > MOST_BYTES:
        return False
    return term.equation.primitive.name == "sum_over" or size < 2 * term.equation.outputs[0].nbytes


def _total(b: Builder, term: _Term, stacks: list[Value]) -> Value:
    if term.equation.primitive.name == "sum_over":
        axis = (0, *[a + 1 for a in term.equation.params["axis"]])
        total = b.sum(stacks[0], axis, False)
        return b.reshape(total, term.equation.outputs[0].shape)
    left, right = [b.reshape(stack, (stack.shape[0] * stack.shape[1], stack.shape[2])) for stack in stacks]
    return b.call("matrix_product", b.swap(left), right)
