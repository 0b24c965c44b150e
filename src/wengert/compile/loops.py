"""Loops that stay loops: one equation for all steps of a loop, whose body is a graph.

A loop takes what is the same for all steps, what is carried into the first, and arrays that are read along their first
axes. Its body takes all three for one step, and returns what is carried on, then what is emitted. The loop returns what
is carried in the end, or all that was ever carried (its history), and what was emitted, stacked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.primitive import OPAQUE, Primitive
from ..typing import Shape
from .expand_builder import Builder
from .graph import Equation, Graph, Operand, Value, replaced_in
from .interpret import interpret


class Form(NamedTuple):
    """What a loop is but for its operands.

    Attributes:
        body: the graph of a step: of `shared` inputs, `carried` ones, and those that are read.
        shared, carried: how many inputs are the same for all steps, and how many are carried.
        length: how many steps there are.
        reverse: whether the last of what is read is read first.
        histories: for each that is carried, whether the loop returns all its values, one more than steps. They
            lie in the order of what is read: behind each other the two between which a step is made.
    """

    body: Graph
    shared: int
    carried: int
    length: int
    reverse: bool
    histories: tuple[bool, ...]

    def places(self) -> Iterator[int]:
        """Return which entry each step reads, and emits."""
        return iter(range(self.length - 1, -1, -1) if self.reverse else range(self.length))

    @property
    def first(self) -> int:
        """Where a history has what is carried into the first step."""
        return self.length if self.reverse else 0

    @property
    def last(self) -> int:
        """Where a history has what is carried in the end."""
        return self.length - self.first

    @property
    def into(self) -> slice:
        """Where a history has what is carried into each step."""
        return slice(1, self.length + 1) if self.reverse else slice(0, self.length)

    @property
    def out_of(self) -> slice:
        """Where a history has what each step carries on."""
        return slice(0, self.length) if self.reverse else slice(1, self.length + 1)


def _computed(_xp: Any, *operands: Any, form: Form) -> tuple[Any, ...]:
    shared, rest = list(operands[: form.shared]), operands[form.shared :]
    carried, reads = [np.asarray(value) for value in rest[: form.carried]], rest[form.carried :]
    emitted: dict[int, list[Any]] = {}
    passed = [carried]
    for place in form.places():
        outs = interpret(form.body, [*shared, *carried, *[x[place] for x in reads]])
        carried, emitted[place] = outs[: form.carried], outs[form.carried :]
        passed.append(carried)
    if form.reverse:
        passed.reverse()
    ends = [
        np.stack([values[i] for values in passed]) if history else carried[i]
        for i, history in enumerate(form.histories)
    ]
    return (*ends, *[np.stack(column) for column in zip(*[emitted[place] for place in sorted(emitted)])])


LOOP = Primitive("loop", OPAQUE, _computed)
LOOP.multiple = True


def stacked_shape(value: Value, form: Form, more: int = 0) -> Shape:
    """Return the shape of what has a value of every step."""
    return (form.length + more, *value.shape)


def loop_equation(form: Form, operands: Sequence[Value], ends: Sequence[Value], where: str = "") -> Equation:
    """Return the equation of a loop, which makes `ends` of what is carried, and new Values of what is emitted."""
    emitted = [
        Value(stacked_shape(value, form), value.dtype, where=where) for value in form.body.outputs[form.carried :]
    ]
    return Equation(LOOP, tuple(operands), {"form": form}, (*ends, *emitted))


def end_of(form: Form, i: int, where: str = "") -> Value:
    """Return a new Value for what a loop returns of its i-th carried one."""
    value = form.body.outputs[i]
    shape = stacked_shape(value, form, 1) if form.histories[i] else value.shape
    return Value(shape, value.dtype, where=where)


def is_loop(equation: Equation) -> bool:
    """Whether an equation is a loop."""
    return equation.primitive is LOOP


# ---------------------------------------------------------------------- step by step


Note = Callable[[Value, Value], None]
"""Is told of a value of a body, and of what stands for it in one of the steps."""


def unrolled(graph: Graph, which: Callable[[Equation], bool] = is_loop, note: Note | None = None) -> Graph:
    """Return a graph in which loops (those that `which` says) are the equations of their steps."""
    if not any([which(equation) for equation in graph.equations]):
        return graph
    equations: list[Equation] = []
    for equation in graph.equations:
        equations.extend(_steps(equation, note) if which(equation) else [equation])
    return Graph(graph.name, graph.inputs, equations, graph.outputs, graph.homes)


def _steps(equation: Equation, note: Note | None) -> list[Equation]:
    form: Form = equation.params["form"]
    body = unrolled(form.body, note=note)
    builder = Builder(equation.outputs[0].where)
    shared, rest = equation.inputs[: form.shared], equation.inputs[form.shared :]
    carried, reads = rest[: form.carried], rest[form.carried :]
    passed: list[Sequence[Operand]] = [carried]
    emitted: dict[int, Sequence[Operand]] = {}
    for place in form.places():
        entries = [builder.call("index", x, key=(place,)) for x in reads]
        outs = _inlined(builder, body, [*shared, *carried, *entries], note)
        carried, emitted[place] = outs[: form.carried], outs[form.carried :]
        passed.append(carried)
    if form.reverse:
        passed.reverse()
    columns = [emitted[place] for place in sorted(emitted)]
    for i, out in enumerate(equation.outputs):
        if i < form.carried and not form.histories[i]:
            _named(builder, "cast", [carried[i]], {"dtype": out.dtype}, out)
        else:
            rows = [values[i] for values in passed] if i < form.carried else [row[i - form.carried] for row in columns]
            _named(builder, "stack_along", rows, {"axis": 0}, out)
    return builder.equations


def _named(builder: Builder, name: str, operands: Sequence[Operand], params: dict[str, Any], out: Value) -> None:
    builder.call(name, *operands, **params)
    made = builder.equations[-1]
    made.outputs = (out,)


def _inlined(builder: Builder, body: Graph, operands: Sequence[Operand], note: Note | None) -> list[Operand]:
    """Append the equations of a body on other operands; return its outputs."""
    known: dict[Value, Operand] = dict(zip(body.inputs, operands))
    for equation in body.equations:
        outs = tuple([Value(value.shape, value.dtype, where=value.where) for value in equation.outputs])
        inputs = replaced_in(equation.inputs, known)
        builder.equations.append(Equation(equation.primitive, inputs, equation.params, outs))
        known.update(zip(equation.outputs, outs))
        if note is not None:
            for value, out in zip(equation.outputs, outs):
                note(value, out)
    return list(replaced_in(body.outputs, known))


# ---------------------------------------------------------------------- less in a loop


def lean(graph: Graph) -> Graph:
    """Return a graph whose loops compute nothing that nobody needs."""
    if not any(map(is_loop, graph.equations)):
        return graph
    graph = _emitting_once(_without_histories(graph))
    needed: set[Any] = set(graph.outputs)
    equations: list[Equation] = []
    for equation in reversed(graph.equations):
        if needed.isdisjoint(equation.outputs):
            continue
        if is_loop(equation):
            equation = _lean(equation, needed)
        equations.append(equation)
        needed.update(equation.inputs)
    return Graph(graph.name, graph.inputs, reversed(equations), graph.outputs, graph.homes)


def _without_histories(graph: Graph) -> Graph:
    """Return a graph whose loops return what is carried in the end, where nobody asks for more of a history."""
    users: dict[Value, list[Equation]] = {}
    for equation in graph.equations:
        for value in equation.values():
            users.setdefault(value, []).append(equation)
    ends: dict[Value, Value] = {}
    replaced: dict[Value, Value] = {}
    equations: list[Equation] = []
    for equation in graph.equations:
        if is_loop(equation):
            form: Form = equation.params["form"]
            for i, out in enumerate(equation.outputs[: form.carried]):
                asked = users.get(out, [])
                at_end = [user.primitive.name == "index" and user.params["key"] == (form.last,) for user in asked]
                if form.histories[i] and asked and all(at_end) and out not in graph.outputs:
                    ends[out] = asked[0].outputs[0]
                    replaced.update({user.outputs[0]: ends[out] for user in asked[1:]})
            histories = tuple([form.histories[i] and equation.outputs[i] not in ends for i in range(form.carried)])
            outputs = tuple([ends.get(out, out) for out in equation.outputs])
            equation = Equation(LOOP, equation.inputs, {"form": form._replace(histories=histories)}, outputs)
        elif ends and equation.inputs and equation.inputs[0] in ends:
            continue
        equations.append(equation)
    return _with_other_values(Graph(graph.name, graph.inputs, equations, graph.outputs, graph.homes), replaced)


def _emitting_once(graph: Graph) -> Graph:
    """Return a graph whose loops emit nothing twice."""
    replaced: dict[Value, Value] = {}
    for equation in filter(is_loop, graph.equations):
        form: Form = equation.params["form"]
        first: dict[Value, Value] = {}
        for value, out in zip(form.body.outputs[form.carried :], equation.outputs[form.carried :]):
            if first.setdefault(value, out) is not out:
                replaced[out] = first[value]
    return _with_other_values(graph, replaced)


def _with_other_values(graph: Graph, replaced: dict[Value, Value]) -> Graph:
    """Return a graph that uses other values in the place of some."""
    if not replaced:
        return graph
    equations = [Equation(e.primitive, replaced_in(e.inputs, replaced), e.params, e.outputs) for e in graph.equations]
    return Graph(graph.name, graph.inputs, equations, [replaced.get(v, v) for v in graph.outputs], graph.homes)


def _lean(equation: Equation, needed: set[Any]) -> Equation:
    """Return a loop without outputs that are not needed, and what only they take."""
    form: Form = equation.params["form"]
    body, carries = form.body, form.body.inputs[form.shared : form.shared + form.carried]
    kept = {i for i, out in enumerate(equation.outputs) if out in needed}
    while True:
        outs = [body.outputs[i] for i in sorted(kept)]
        less = Graph(body.name, body.inputs, body.equations, outs).without_dead_code()
        used = {value for step in less.equations for value in step.values()} | set(outs)
        more = kept | {i for i, value in enumerate(carries) if value in used}
        if more == kept:
            break
        kept = more
    inputs = [i for i, value in enumerate(body.inputs) if value in used]
    places = [i for i in range(form.carried) if i in kept]
    # What is carried is an input even where no step reads it: inputs and outputs are told apart by their places.
    inputs = sorted({*inputs, *[form.shared + i for i in places]})
    made = Graph(body.name, [body.inputs[i] for i in inputs], lean(less).equations, less.outputs)
    lesser = form._replace(
        body=made,
        shared=sum([i < form.shared for i in inputs]),
        carried=len(places),
        histories=tuple([form.histories[i] and equation.outputs[i] in needed for i in places]),
    )
    outputs = [equation.outputs[i] for i in sorted(kept)]
    for place, i in enumerate(places):
        if form.histories[i] and not lesser.histories[place]:
            outputs[place] = end_of(lesser, place)
    return Equation(LOOP, tuple([equation.inputs[i] for i in inputs]), {"form": lesser}, tuple(outputs))


def with_bodies(equations: Iterable[Equation]) -> Iterator[Equation]:
    """Return equations, and those of the bodies of loops among them."""
    for equation in equations:
        yield equation
        if is_loop(equation):
            yield from with_bodies(equation.params["form"].body.equations)


def free_values(equations: Iterable[Equation], outputs: Iterable[Value] = ()) -> list[Value]:
    """Return the Values that equations use and do not make, in order; constants are none."""
    made: set[Value] = set()
    free: dict[Value, None] = {}
    for equation in equations:
        free.update(dict.fromkeys([v for v in equation.values() if v not in made and v.constant is None]))
        made.update(equation.outputs)
    free.update(dict.fromkeys([v for v in outputs if v not in made and v.constant is None]))
    return list(free)


__all__ = [
    "LOOP",
    "Form",
    "end_of",
    "free_values",
    "is_loop",
    "lean",
    "loop_equation",
    "stacked_shape",
    "unrolled",
    "with_bodies",
]
