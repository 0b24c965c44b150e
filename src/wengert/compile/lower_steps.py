"""The steps of a program: a graph prepared, fused, lowered, and put in an order in which it can run."""

from __future__ import annotations

import heapq
from functools import partial

from ..core.primitive import REGISTRY
from .expand import expand
from .expand_builder import Builder
from .expand_checks import with_checks
from .expand_staged import staged
from .fuse import Fusion
from .fuse_groups import Group
from .fuse_storage import FUSED, HOST, WINDOWS
from .graph import Equation, Graph, Value
from .loops import is_loop
from .lower import NestWriter, Step
from .lower_attention import attention_steps, is_attention
from .lower_finite import finite_step
from .lower_forms import StepForms
from .lower_loops import LoopWriter, loop_step, prepared_loops
from .lower_packed import with_packed_factors
from .lower_products import (
    ConvolutionWriter,
    EpilogueWriter,
    ProductWriter,
    Unfit,
    is_product,
    kernels_for,
    window_steps,
    with_packed_weights,
)
from .lower_scatter import ScatterWriter, is_scatter
from .lower_stack import Gathered, is_long_stack, parts_of, stack_step
from .nests import Access, Nest, Operand, Phase, Store
from .plan import Part
from .scalar_ir import TYPES, input_scalar
from .simplify import simplify
from .simplify_shapes import SHAPE_RULES
from .simplify_stacks import STACK_RULES, with_joined_products
from .simplify_windows import WINDOW_RULES


class Program:
    """The steps that compute a graph.

    Args:
        graph: what to compute.
        effort: FUSED, SEPARATE (every array of the graph in memory, one nest for each) or HOST (no kernels).
        conditional: whether the last output says if the others are to count.
        narrow: whether factors of products are rounded to bfloat16 where that is worth it.
        whole: whether this is all of a program, and not the body of a loop.

    Attributes:
        graph: what is computed, after all rewriting.
        status: whether all positions were in range, if there are any that data decide; the last output then.
        steps: in an order in which they can run.
        layouts: where arrays are in memory.
        parts: arrays that are computed in the memory of others.
    """

    def __init__(
        self,
        graph: Graph,
        effort: int = FUSED,
        conditional: bool = False,
        narrow: bool = False,
        whole: bool = True,
    ) -> None:
        self.effort, self.narrow = effort, narrow
        self.status: Value | None = None
        self._bodies: dict[Graph, Program] = {}
        if effort != HOST:
            graph, self._bodies = prepared_loops(graph, self._of_body, narrow=narrow)
            graph = simplify(expand(graph, narrow=narrow), (*SHAPE_RULES, *STACK_RULES, *WINDOW_RULES))
            graph = staged(with_joined_products(graph))
            graph.verify()
        condition: Value | None = None
        if conditional:
            condition = graph.outputs[-1]
            graph = Graph(graph.name, graph.inputs, graph.equations, graph.outputs[:-1], graph.homes[:-1])
        graph = _with_own_outputs(graph)
        if effort != HOST or conditional:
            graph, self.status = with_checks(graph, condition)
        self.graph = graph
        self.fusion = Fusion(self.graph, self._is_kernel, effort)
        self.layouts = self.fusion.layouts
        self.parts: dict[Value, Part] = {}
        groups = self.fusion.run()
        steps = _ordered(self._steps(groups), self.fusion)
        loops = LoopWriter(self.layouts, self.move)
        steps = [step for step in loops.written_out(steps) if not isinstance(step.kernel, Gathered)]
        self.parts.update(loops.parts)
        self.steps = with_packed_factors(steps, self.parts) if whole else steps

    def _of_body(self, body: Graph) -> Program:
        return Program(body, self.effort, narrow=self.narrow, whole=False)

    def _is_kernel(self, equation: Equation) -> bool:
        if self.effort == HOST:
            return True
        name = equation.primitive.name
        if name in WINDOWS:
            return kernels_for(equation) is not None
        if is_loop(equation) or is_attention(equation):
            return True
        return is_product(equation) if name == "matrix_product" else is_long_stack(equation)

    def _steps(self, groups: list[Group]) -> list[Step]:
        kept = self._kept()
        self.forms = StepForms(self.fusion, kept)
        steps: list[Step] = []
        taken: set[Group] = set()
        for equation in self.fusion.others:
            steps.extend(self._steps_of(equation, taken))
        left = [group for group in groups if group not in taken]
        return [*steps, *[finite_step(self.fusion, self.layouts, group) or self._nest(group, kept) for group in left]]

    def _nest(self, group: Group, kept: set[Value]) -> Step:
        writer = NestWriter(self.fusion, group, self.layouts, kept)
        return self.forms.step(self.forms.of_nest(group), writer.step)

    def _steps_of(self, equation: Equation, taken: set[Group]) -> list[Step]:
        """Return the steps of an equation that no nest computes."""
        if self.effort == HOST:
            return [self._host_step(equation)]
        if is_product(equation):
            return [self._with_epilogue(equation, ProductWriter, taken) or self._product(equation)]
        if is_long_stack(equation):
            self.parts.update(parts_of(self.layouts, equation, self.graph.outputs, self.parts))
            return [stack_step(self.layouts, equation, self.parts)]
        if is_loop(equation):
            return [loop_step(self.layouts, equation, self._bodies[equation.params["form"].body])]
        if is_scatter(equation):
            return [ScatterWriter(self.fusion, self.layouts, equation).step()]
        if is_attention(equation):
            return attention_steps(self.layouts, equation)
        windows = kernels_for(equation, self.narrow)
        if windows is not None:
            fused = None
            if equation.primitive.name == "convolve":
                fused = self._with_epilogue(equation, ConvolutionWriter, taken)
            plain = window_steps(self.layouts, equation, windows)
            return plain if fused is None else [*plain[:-1], with_packed_weights(fused, plain)]
        return [self._host_step(equation)]

    def _host_step(self, equation: Equation) -> Step:
        bases = [self.layouts.of(value) for value in equation.values() if value.constant is None]
        reads = frozenset([layout.base for layout in bases if layout is not None])
        return Step(None, (), reads, equation.outputs, equation=equation)

    def _product(self, equation: Equation) -> Step:
        writer = ProductWriter(self.fusion, self.layouts, equation, True, self.narrow)
        return self.forms.step(self.forms.of_product(equation, None, ProductWriter), partial(writer.step, None))

    def _with_epilogue(self, equation: Equation, kind: type[EpilogueWriter], taken: set[Group]) -> Step | None:
        """Return the step of an equation and of a group that fits into its epilogue, or None if none does."""
        out = equation.outputs[0]
        users = self.fusion.users.get(out, [])
        for group in self.fusion.epilogues_of(equation, taken):
            mine = set(group.roots)
            is_kept = out in self.graph.outputs or any([user not in mine for user in users])
            writer = kind(self.fusion, self.layouts, equation, is_kept, self.narrow)
            spelling = self.forms.of_product(equation, group, (kind, is_kept))
            try:
                step = self.forms.step(spelling, partial(writer.step, group), Unfit)
            except Unfit:
                continue
            taken.add(group)
            # From now on both are one step, and whoever waits for the one waits for the other.
            for root in group.roots:
                for leaf, _, _ in root.leaves:
                    self.fusion.users.setdefault(leaf, []).append(equation)
            return step
        return None

    def move(self, value: Value, target: Value) -> Step:
        """Return the step that copies an array in memory over an input."""
        reads = frozenset([value])
        if value.dtype not in TYPES or not value.size:
            equation = Equation(REGISTRY["cast"], (value,), {"dtype": value.dtype}, (target,))
            return Step(None, (), reads, (target,), equation=equation)
        element = Access(0, 0, (1,))
        store = Store(element._replace(operand=1), input_scalar("x0", value.dtype))
        phase = Phase((), {"x0": element}, (store,))
        nest = Nest("move", (value.size,), (phase,), (Operand(value.dtype), Operand(value.dtype)), "outer")
        return Step(nest, (value, target), reads, (target,))

    def _kept(self) -> set[Value]:
        """Return the reductions that somebody outside of their nest reads."""
        kept: set[Value] = set(self.graph.outputs)
        for root in self.fusion.roots.values():
            for leaf, _, _ in root.leaves:
                base = self.layouts.base_of(leaf)
                mine = self.fusion.group_of.get(base)
                if mine is not None and (mine is not self.fusion.group_of[root.value] or base is not leaf):
                    kept.add(base)
        for equation in self.fusion.others:
            kept.update([self.layouts.base_of(value) for value in equation.values()])
        return kept


def _with_own_outputs(graph: Graph) -> Graph:
    """Give every output that is an input, a constant or another output an array of its own."""
    made = {value for equation in graph.equations for value in equation.outputs}
    seen: set[Value] = set()
    builder = Builder()
    outputs: list[Value] = []
    for value in graph.outputs:
        if value not in made or value in seen:
            value = builder.call("cast", value, dtype=value.dtype)
        seen.add(value)
        outputs.append(value)
    return Graph(graph.name, graph.inputs, [*graph.equations, *builder.equations], outputs, graph.homes)


def _ordered(steps: list[Step], fusion: Fusion) -> list[Step]:
    """Return the steps in an order that respects what they need; the host's come as early as they can."""
    maker = {value: place for place, step in enumerate(steps) for value in step.writes}
    waiting = [{maker[value] for value in step.reads if value in maker} - {place} for place, step in enumerate(steps)]
    followers: list[list[int]] = [[] for _ in steps]
    for place, needs in enumerate(waiting):
        for need in needs:
            followers[need].append(place)
    urgent = _needed_by_host(steps, maker)
    ready: list[tuple[bool, int, int]] = []

    def offer(place: int) -> None:
        last = max(
            [fusion.order[fusion.maker[value]] for value in steps[place].writes if value in fusion.maker], default=0
        )
        heapq.heappush(ready, (place not in urgent, last, place))

    for place, needs in enumerate(waiting):
        if not needs:
            offer(place)
    ordered: list[Step] = []
    while ready:
        _, _, place = heapq.heappop(ready)
        ordered.append(steps[place])
        for follower in followers[place]:
            waiting[follower].discard(place)
            if not waiting[follower]:
                offer(follower)
    assert len(ordered) == len(steps), "steps wait for each other"
    return ordered


def _needed_by_host(steps: list[Step], maker: dict[Value, int]) -> set[int]:
    """Return the steps that the host does, and those that it waits for."""
    urgent: set[int] = set()
    pending = [place for place, step in enumerate(steps) if step.kernel is None]
    while pending:
        place = pending.pop()
        if place not in urgent:
            urgent.add(place)
            pending.extend([maker[value] for value in steps[place].reads if value in maker])
    return urgent
