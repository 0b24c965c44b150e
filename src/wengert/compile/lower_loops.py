"""Lowering of loops: the body is lowered once, and its steps stand in the program as often as there are steps.

What comes out is the table that an unrolled loop would have come to, of kernels that are made once. Arrays that are
read step by step, histories and what is emitted are used where they lie: offsets into them go into addresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .expand import expand
from .graph import Equation, Graph, Value
from .loops import Form, is_loop, lean, unrolled
from .loops_sums import with_sums_outside
from .lower import Step
from .lower_index import strides_of
from .lower_layout import Layouts
from .plan import Part
from .simplify import simplify

LONG = 64
"""Of loops of more steps, all steps compute in the same memory: it is not worth planning for each."""


class Rolled(NamedTuple):
    """Stands for the kernel of a step that is a whole loop.

    Attributes:
        equation: the loop.
        program: a Program of its body.
    """

    equation: Equation
    program: Any


class Spot(NamedTuple):
    """Where an array is: in whose memory, and from which element on."""

    base: Value
    offset: int


def prepared_loops(graph: Graph, lowered: Any, *, narrow: bool = False) -> tuple[Graph, dict[Graph, Any]]:
    """Return a graph with its loops made ready, and programs for their bodies, by these.

    Loops whose steps need NumPy, or look positions up that data decide, become the equations of their steps.

    Args:
        graph: with loops or without.
        lowered: makes a Program of a body.
        narrow: as for a Program.
    """
    if not any(map(is_loop, graph.equations)):
        return graph, {}
    graph = with_sums_outside(_with_simple_bodies(lean(graph), narrow))
    programs: dict[Graph, Any] = {}
    for equation in filter(is_loop, graph.equations):
        program = lowered(equation.params["form"].body)
        if program.status is None and all([step.kernel is not None for step in program.steps]):
            programs[equation.params["form"].body] = program

    def is_to_be_unrolled(equation: Equation) -> bool:
        return is_loop(equation) and equation.params["form"].body not in programs

    return unrolled(graph, is_to_be_unrolled), programs


def _with_simple_bodies(graph: Graph, narrow: bool) -> Graph:
    equations: list[Equation] = []
    for equation in graph.equations:
        if is_loop(equation):
            form: Form = equation.params["form"]
            form = form._replace(body=simplify(expand(form.body, narrow=narrow)))
            equation = Equation(equation.primitive, equation.inputs, {"form": form}, equation.outputs)
        equations.append(equation)
    return Graph(graph.name, graph.inputs, equations, graph.outputs, graph.homes)


def loop_step(layouts: Layouts, equation: Equation, program: Any) -> Step:
    """Return one step for a whole loop, to be put in order with others."""
    bases = [layouts.of(value) for value in equation.values() if value.constant is None]
    reads = frozenset([layout.base for layout in bases if layout is not None])
    return Step(Rolled(equation, program), (), reads, equation.outputs)


class LoopWriter:
    """Writes the steps of loops out.

    Args:
        layouts: of the graph that the loops are in.
        move: returns the step that copies an array.

    Attributes:
        parts: arrays of the steps that are computed in the memory of others.
    """

    def __init__(self, layouts: Layouts, move: Any) -> None:
        self.layouts = layouts
        self.move = move
        self.parts: dict[Value, Part] = {}
        self.own: dict[Any, Value] = {}

    def written_out(self, steps: Sequence[Step]) -> list[Step]:
        """Return steps in which each loop stands as the steps that it takes."""
        made: list[Step] = []
        for step in steps:
            made.extend(self._steps(step.kernel) if isinstance(step.kernel, Rolled) else [step])
        return made

    def _spot_of(self, operand: Any) -> Spot:
        assert isinstance(operand, Value)
        layout = self.layouts.of(operand)
        assert layout is not None and layout.strides == strides_of(operand.shape), "a loop's operand is not plain"
        return Spot(layout.base, layout.offset)

    def _steps(self, loop: Rolled) -> list[Step]:
        form: Form = loop.equation.params["form"]
        body: Graph = loop.program.graph
        spots = [self._spot_of(operand) for operand in loop.equation.inputs]
        carried = spots[form.shared : form.shared + form.carried]
        self.own = {}
        private = _private(loop.program)
        steps: list[Step] = []
        for i, out in enumerate(loop.equation.outputs[: form.carried]):
            if form.histories[i]:
                steps.append(self._copied(carried[i], body.outputs[i], Spot(out, form.first * body.outputs[i].size)))
                carried[i] = Spot(out, form.first * body.outputs[i].size)
        for number, place in enumerate(form.places()):
            reads = [
                Spot(spot.base, spot.offset + place * value.size)
                for spot, value in zip(spots[form.shared + form.carried :], body.inputs[form.shared + form.carried :])
            ]
            into = self._made_by(loop, number, place)
            known = dict(zip(body.inputs, [*spots[: form.shared], *carried, *reads]))
            known.update(zip(body.outputs, into))
            known.update({value: Spot(self._memory(value, form.length > LONG), 0) for value in private})
            steps.extend(self._placed(loop.program, known))
            carried = into[: form.carried]
        return steps

    def _copied(self, source: Spot, like: Value, target: Spot) -> Step:
        """Return the step that copies what is carried into the first step to where a history begins."""
        stand_in = Value(like.shape, like.dtype)
        step = self.move(like, stand_in)
        spots = {like: source, stand_in: target}
        return _moved(step, spots)

    def _made_by(self, loop: Rolled, number: int, place: int) -> list[Spot]:
        """Return where a step puts what it carries on, and what it emits."""
        form: Form = loop.equation.params["form"]
        made: list[Spot] = []
        for i, (out, value) in enumerate(zip(loop.equation.outputs, loop.program.graph.outputs)):
            if i >= form.carried:
                made.append(Spot(out, place * value.size))
            elif form.histories[i]:
                made.append(Spot(out, (place + (0 if form.reverse else 1)) * value.size))
            elif number == form.length - 1:
                made.append(Spot(out, 0))
            else:
                made.append(Spot(self._memory(value, form.length > LONG, number % 2), 0))
        return made

    def _memory(self, like: Value, is_shared: bool, turn: int = 0) -> Value:
        """Return an array for what a step makes; one for all steps, or for every other one, if it is shared."""
        if not is_shared:
            return Value(like.shape, like.dtype)
        known = self.own.get((like, turn))
        if known is None:
            known = self.own[like, turn] = Value(like.shape, like.dtype)
        return known

    def _placed(self, program: Any, known: dict[Value, Spot]) -> list[Step]:
        """Return the steps of a body on the arrays of one step."""
        for value, part in program.parts.items():
            if value in known and part.whole in known:
                whole = known[part.whole]
                offset = part.offset + whole.offset * part.whole.dtype.itemsize
                self.parts[known[value].base] = Part(whole.base, offset)
        return [_moved(step, known) for step in program.steps]


def _moved(step: Step, spots: dict[Value, Spot]) -> Step:
    """Return a step on other arrays."""
    found = [_spot_in(spots, value) for value in step.memory]
    offsets = tuple([spot.offset + more for spot, more in zip(found, step.offsets or (0,) * len(found))])
    pairs = [
        (spots[out].base, _spot_in(spots, value).base)
        for out, value in step.in_place
        if _is_whole(spots[out], out) and _is_whole(_spot_in(spots, value), value)
    ]
    return step._replace(
        memory=tuple([spot.base for spot in found]),
        reads=frozenset([_spot_in(spots, value).base for value in step.reads]),
        writes=tuple([spots[value].base for value in step.writes]),
        in_place=tuple(pairs),
        offsets=offsets,
    )


def _spot_in(spots: dict[Value, Spot], value: Value) -> Spot:
    """Return where an array is; constants are where they are in all steps."""
    return spots[value] if value.constant is None else Spot(value, 0)


def _private(program: Any) -> list[Value]:
    """Return the arrays that the steps of a body have for themselves."""
    graph: Graph = program.graph
    used = dict.fromkeys([v for step in program.steps for v in (*step.memory, *step.writes, *step.reads)])
    return [v for v in used if v.constant is None and v not in graph.inputs and v not in graph.outputs]


def _is_whole(spot: Spot, value: Value) -> bool:
    return not spot.offset and spot.base.size == value.size


__all__ = ["LoopWriter", "Rolled", "loop_step", "prepared_loops"]
