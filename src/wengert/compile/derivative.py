"""Derivatives of compiled functions: what is returned on the tape is differentiated by a program of its own.

While a function is captured, a sweep from what it returns, with seeds that are inputs, leaves the equations of the
pullback. What they need of the function's own values is kept as residuals. Where the pullback is to be differentiated
again, the function's graph is replayed, operation by operation, on Tensors: any order, in any mode.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import boxing
from ..core.backward import cotangents, gradients_of
from ..core.primitive import OPAQUE, Primitive
from ..core.reach import route_between
from ..core.recording import is_recording, set_recording
from ..core.tape import (
    ARGUMENT,
    PROJECTION,
    Leaf,
    Node,
    StandIn,
    Unrecorded,
    argument_node,
    is_freed,
    make_node,
    projection,
)
from ..core.tracing import Several, innermost_trace, is_at_the_innermost_level, snapshot
from ..core.vspace import OutputBars, densify
from ..errors import GradientError
from .capture import CaptureTrace
from .effects import Returned, is_on_tape
from .graph import Graph, Value
from .loops import unrolled, with_bodies
from .residuals import parted
from .sources import SeedSource, Source, Unfit, Unsure


class Derivative(NamedTuple):
    """How the outputs of a function are pulled back.

    Attributes:
        outputs: values of the results that are on the tape; one may be there twice, with histories of its own.
        places: for each result that the program computes, which of `outputs` it is; None if it is off the tape.
        inputs: sources of the Tensors that a cotangent arrives at.
        residuals: values of the function that the pullback needs.
        pullback: takes seeds for the outputs, then the function's inputs, then residuals; returns cotangents.
        reaching: for each of `inputs`, the places of the outputs that depend on it.
        untaped: values of the function that are no part of the tape's, though they may be computed from some that are;
            None if the tape cannot be told operation by operation, as that of checkpoints.
        renewed: values that leaves were given off the tape, with the leaves' places among `inputs`.
        conditional: whether the last output of the pullback says if the others are to count.
    """

    outputs: list[Value]
    places: list[int | None]
    inputs: list[Source]
    residuals: list[Value]
    pullback: Graph
    reaching: list[frozenset[int]]
    conditional: bool
    untaped: frozenset[Value] | None
    renewed: dict[Value, int]


def derive(trace: CaptureTrace, returned: Returned) -> Derivative | None:
    """Capture the pullback of what a function has returned; None if nothing of it is on the tape."""
    if not is_recording():
        return None
    results = returned.outputs()
    clean: set[Any] = set()
    leaves = [leaf for leaf in results if is_on_tape(leaf) and _is_whole(leaf._node, clean)]
    sources = [b for b in trace.brought if b.source is not None and b.tensor._node is not None]
    if not leaves or not sources:
        return None
    forward = list(trace.equations)
    expected = len(trace.expected)
    seeds = [trace.seed(leaf) for leaf in leaves]
    nodes = [brought.tensor._node for brought in sources]
    silenced = [(node, node.hooks) for node in nodes if isinstance(node, Leaf)]
    for node, _ in silenced:
        node.hooks = None
    try:
        pairs = [(leaf._node, seed) for leaf, seed in zip(leaves, seeds)]
        route, _ = route_between([node for node, _ in pairs], frozenset(nodes))
        bars = cotangents(pairs, nodes, route, retain=True, tracked=False, masked=True, traced=True)
    finally:
        for node, hooks in silenced:
            node.hooks = hooks
    condition = trace.condition(expected)
    del trace.expected[expected:]
    backward = trace.equations[len(forward) :]
    del trace.equations[len(forward) :]
    inputs = [value for value, source in trace.inputs.items() if type(source) is not SeedSource]
    seed_values = [seed._state.value for seed in seeds]
    for value in seed_values:
        del trace.inputs[value]
    reached = [(b.source, bar) for b, bar in zip(sources, bars) if bar is not None and b.source is not None]
    ends = [bar._state.value if type(bar) is boxing.Tracer else trace.constant(bar) for _, bar in reached]
    if condition is not None:
        ends.append(condition)
    residuals, equations = parted(forward, backward, ends)
    name = f"{trace.described} pulled back"
    pullback = Graph(name, [*seed_values, *inputs, *residuals], equations, ends).without_dead_code()
    pullback.verify()
    outputs = [leaf._state.value for leaf in leaves]
    ways = _origins([node for node, _ in pairs])
    reaching = [ways.get(node, frozenset()) for node, bar in zip(nodes, bars) if bar is not None]
    untaped = None
    if all([_is_one_operation(node, trace) for node in ways]):
        untaped = frozenset([e.outputs[0] for e in with_bodies(forward) if trace.taped.isdisjoint(e.outputs)])
    kept = [node for node, bar in zip(nodes, bars) if bar is not None]
    places = {id(leaf): place for place, leaf in enumerate(leaves)}
    renewed = {value: kept.index(leaf) for value, leaf in trace.renewed.items() if leaf in kept}
    return Derivative(
        outputs,
        [places.get(id(leaf)) for leaf in results],
        [source for source, _ in reached],
        residuals,
        pullback,
        reaching,
        condition is not None,
        untaped,
        renewed,
    )


def _is_whole(node: Any, clean: set[Any]) -> bool:
    """Return whether nothing before a Node has been freed, as a sweep inside may have done; `clean` Nodes are known."""
    waiting, met = [node], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is None or node in met or node in clean:
            continue
        if is_freed(node):
            return False
        met.add(node)
        waiting.extend(getattr(node, "inputs", ()))
    clean |= met
    return True


def _is_one_operation(node: Any, trace: CaptureTrace) -> bool:
    if isinstance(node, Leaf) or node.primitive in (ARGUMENT, PROJECTION):
        return True
    return node in trace.nodes and not isinstance(node.primitive, StandIn)  # one that stands in has hooks to call


def _origins(outputs: Sequence[Any]) -> dict[Any, frozenset[int]]:
    """Return, for every Node on the tape of some outputs, the places of those that come of it."""
    met: dict[Any, set[int]] = {}
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node is not None and node not in met:
            met[node] = set()
            waiting.extend(getattr(node, "inputs", ()))
    for place, node in enumerate(outputs):
        met[node].add(place)
    for node in sorted([node for node in met if not isinstance(node, Leaf)], key=_by_sequence):
        for parent in _differentiated(node):
            if parent is not None:
                met[parent] |= met[node]
    return {node: frozenset(places) for node, places in met.items()}


def _differentiated(node: Any) -> Sequence[Any]:
    """Return the inputs of a Node that cotangents may come to: none comes to the condition of `where`."""
    rules = getattr(node.primitive, "partial_rules", None)
    if not rules or len(rules) != len(node.inputs):
        return node.inputs
    return [parent for parent, rule in zip(node.inputs, rules) if rule is not None]


def _by_sequence(node: Any) -> int:
    return -node.sequence


def is_taped_here(x: Any) -> bool:
    """Return whether a value is a Tensor on the tape of the innermost level."""
    return isinstance(x, boxing.Tensor) and x._node is not None and is_at_the_innermost_level(x)


def entered_here(tensor: Any) -> Any:
    """Return a Tensor as an argument of what a tape of the innermost level follows.

    One of outside of a capture has its Node of inside only when it has been brought in, as `snapshot` does.
    """
    tensor = snapshot(tensor)
    node = argument_node(tensor._node if is_at_the_innermost_level(tensor) else None, tensor)
    trace = innermost_trace()
    return boxing.with_node(tensor, node) if trace is None else trace.lift(tensor, node)


def pulled_back(outs: Sequence[Any], bars: Sequence[Any], nodes: Sequence[Node | None], tracked: bool) -> list[Any]:
    """Pull cotangents of outputs (None: zero) back to Nodes; `tracked`, so that the result can be differentiated."""
    # What depends on the inputs only as a choice does (where's condition) is on the tape, and leads nowhere.
    pairs = [(out, bar) for out, bar in zip(outs, bars) if bar is not None and out._node is not None]
    return gradients_of(
        [out for out, _ in pairs],
        nodes,
        [bar for _, bar in pairs],
        retain_graph=True,
        create_graph=tracked,
        name="the pullback of a compiled function",
    )


class Again:
    """How the pullback of a function is differentiated: natively, once it has been done often enough to pay.

    Args:
        compiled: compiles a function that does nothing but compute.
    """

    __slots__ = ("_compiled", "_count", "_native")

    def __init__(self, compiled: Callable[[Callable[..., Any]], Any]) -> None:
        self._compiled = compiled
        self._count = 0
        self._native: Any = None

    def run(self, pullback: Callable[..., Any], *args: Any) -> Any:
        """Call a pullback that is made of operations, always the same one."""
        self._count += 1
        if self._count <= _FEW:
            return pullback(*args)
        if self._native is None:
            self._native = self._compiled(pullback)
        try:
            return self._native(*args)
        except Unfit:
            return pullback(*args)


_FEW = 2
"""How often operations are replayed before they are compiled."""


class Call:
    """What the tape keeps of one call of a compiled function: arrays that went in, residuals, and the programs.

    Attributes:
        places: which of the graph's inputs the Nodes of the call stand for, in order.
    """

    __slots__ = ("again", "arrays", "derivative", "graph", "places", "program", "residuals")

    def __init__(
        self,
        graph: Graph,
        derivative: Derivative,
        places: list[int],
        program: Any,
        arrays: Any,
        residuals: Any,
        again: Again,
    ) -> None:
        self.graph = graph
        self.derivative = derivative
        self.places = places
        self.program = program
        self.arrays = arrays
        self.residuals = residuals
        self.again = again

    def seeds(self, out_bar: Any) -> list[Any]:
        """Return the cotangents of all outputs, None where there is none."""
        if isinstance(out_bar, OutputBars):
            return [out_bar.bars.get(i) for i in range(len(self.derivative.outputs))]
        return [out_bar]


def _pull(node: Node, out_bar: Any) -> tuple[Any, ...]:
    call: Call = node.saved[0]
    seeds = [
        np.zeros(value.shape, value.dtype) if bar is None else np.asarray(densify(bar))
        for value, bar in zip(call.derivative.outputs, call.seeds(out_bar))
    ]
    try:
        found = call.program.run([*seeds, *call.arrays, *call.residuals])
    except Unsure:
        boxes = OutputBars({i: boxing.box(seed) for i, seed in enumerate(seeds)})
        bars = _pull_tracked(Unrecorded(node.whole, node.inputs), boxes, True)
        found = [None if bar is None else boxing.data_of(bar) for bar in bars]
    present = frozenset([i for i, bar in enumerate(call.seeds(out_bar)) if bar is not None])
    # No cotangent is another thing than one of zeros: an optimiser leaves a parameter without gradient alone.
    return tuple(
        [None if reaching.isdisjoint(present) else bar for bar, reaching in zip(found, call.derivative.reaching)]
    )


def _pull_tracked(node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
    call: Call = node.saved[0]
    untaped = call.derivative.untaped
    if untaped is None:
        raise GradientError(
            f"{call.graph.name} is compiled, and has something in it (a checkpoint, a custom rule, a hook) through "
            "which its gradient cannot be differentiated again. Call the function as it is, without wg.compile, for "
            "that"
        )
    tensors = [boxing.box(array) for array in call.arrays]
    if node.recorded:
        for place, parent in zip(call.places, node.whole.inputs):
            tensors[place]._node = parent
    bars = [bar if bar is None or isinstance(bar, boxing.Tensor) else boxing.box(bar) for bar in call.seeds(out_bar)]
    return tuple(call.again.run(_pullback_of(call.graph, call.derivative, call.places, untaped), tensors, bars))


def _pullback_of(
    graph: Graph, derivative: Derivative, places: Sequence[int], untaped: frozenset[Value]
) -> Callable[..., Any]:
    """Return the pullback of a graph, made of operations: it takes the inputs, and cotangents of the outputs."""

    def pullback(tensors: list[Any], bars: list[Any]) -> list[Any]:
        tensors, bars = [snapshot(x) for x in tensors], [snapshot(bar) for bar in bars]
        tracked = any(map(is_taped_here, (*tensors, *bars)))
        # What is not wanted now may be asked about when the gradient is differentiated.
        for place in places:
            tensors[place] = entered_here(tensors[place])
        entered = [tensors[place]._node for place in places]
        before = set_recording(True)
        try:
            renewed = {value: entered[place] for value, place in derivative.renewed.items()}
            outs = replay(graph, tensors, derivative.outputs, untaped, renewed)
            set_recording(True)
            return pulled_back(outs, bars, entered, tracked)
        finally:
            set_recording(before)

    return pullback


COMPILED = Primitive("compiled", OPAQUE, _pull)
COMPILED.pull = COMPILED.pull_masked = _pull
COMPILED.pull_tracked = _pull_tracked


def replay(
    graph: Graph,
    tensors: Sequence[Any],
    wanted: Sequence[Value],
    untaped: frozenset[Value],
    renewed: dict[Value, Any],
) -> list[Any]:
    """Compute values of a graph on Tensors, operation by operation, as the function that it was captured of did."""
    known: dict[Value, Any] = dict(zip(graph.inputs, tensors))

    def operand(value: Any) -> Any:
        if not isinstance(value, Value):
            return value
        return known[value] if value in known else boxing.box(value.constant)

    off_the_tape = set(untaped)

    def note(value: Value, twin: Value) -> None:
        if value in off_the_tape:
            off_the_tape.add(twin)

    whole = Graph(graph.name, graph.inputs, graph.equations, wanted).without_dead_code()
    for equation in unrolled(whole, note=note).equations:
        set_recording(equation.outputs[0] not in off_the_tape)
        out = equation.primitive.call(*[operand(value) for value in equation.inputs], **equation.params)
        for value, made in zip(equation.outputs, out if equation.primitive.multiple else (out,)):
            known[value] = boxing.with_node(made, renewed[value]) if value in renewed else made
    return [operand(value) for value in wanted]


def put_on_tape(call: Call, holders: Sequence[Any], outs: Sequence[Any]) -> None:
    """Give the outputs of a run their Nodes."""
    parents = tuple([holder._node for holder in holders])
    if len(outs) == 1:
        outs[0]._node = make_node(COMPILED, parents, (call,), outs[0]._data, {})
        return
    whole = make_node(COMPILED, parents, (call,), Several(outs), {})
    for i, out in enumerate(outs):
        out._node = projection(whole, i, out)


__all__ = ["Call", "Derivative", "derive", "put_on_tape", "replay"]
