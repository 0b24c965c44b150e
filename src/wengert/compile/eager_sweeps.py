"""Sweeps as programs: what `backward()` does on a tape of large arrays, compiled as a whole.

The key is the tape's structure: operations, static parameters, shapes, and which residual is which. For a key that has
come up often enough the sweep is captured: its Nodes are rebuilt over tracers, swept, and what that did becomes a graph
from seeds and residuals to cotangents. All rules are the ones that a differentiable sweep uses.

Products with zeros are not guarded in the program. Where it matters, which is where zero meets infinity, a NaN would be
the result; so if any cotangent is not finite, the sweep is done again as it always was.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from ..core import boxing
from ..core.primitive import REGISTRY
from ..core.recording import set_recording
from ..core.tape import ARGUMENT, FREED, PROJECTION, Leaf, Node, Swept, next_sequence, sweep
from ..core.tracing import outside_of_traces
from ..core.vspace import densify
from .capture import CaptureTrace
from .eager import (
    OFF,
    Accounts,
    Program,
    Unkeyed,
    attempt,
    frozen,
    inverse,
    order_of,
    settled,
    tariff,
)
from .graph import Graph
from .llvm.machine import Machine
from .sources import SeedSource

Route = Mapping[Node, tuple[Node | None, ...]]

accounts = Accounts()
LARGE = 1 << 14
"""Elements that Nodes keep on average, or the sweep is left to NumPy: where less is read, less is saved by fusing."""
_SAMPLE = 64
"""Nodes after which one knows."""
MOST_NODES = 2000
"""Nodes of a sweep beyond which nobody would wait for a program."""
ELEMENT = 2e-9
"""Seconds that are saved for each element of each Node's value."""
MOST_FAILURES = 8
"""Runs that came to something infinite before a program is given up."""
by_age = attrgetter("sequence")
_trusted: set[Any] = set()


def trusted() -> set[Any]:
    """Return the primitives whose rules a program may be made of: all but those of users."""
    if not _trusted:
        _trusted.update([*REGISTRY, PROJECTION, ARGUMENT])
    return _trusted


class Arrays:
    """Arrays that go into a program.

    Attributes:
        arrays: each once.
        orders: the order of their axes in memory, where it is another than theirs.
        numbers: by identity.
        work: elements of all arrays.
    """

    __slots__ = ("arrays", "numbers", "orders", "work")

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.orders: list[tuple[int, ...] | None] = []
        self.numbers: dict[int, int] = {}
        self.work = 0

    def number_of(self, value: Any) -> Any:
        """Return the number of an array among those that go in, with its kind where it is met for the first time."""
        number = self.numbers.get(id(value))
        if number is None:
            if type(value) is not np.ndarray:
                if not isinstance(value, np.generic):
                    raise Unkeyed
                array = np.asarray(value)
            else:
                array = value
            if array.dtype.kind not in "fiub":
                raise Unkeyed
            number = self.numbers[id(value)] = len(self.arrays)
            axes = order_of(array)
            self.arrays.append(array)
            self.orders.append(axes)
            self.work += array.size
            return number, array.shape, array.dtype, axes
        return number


class Survey(Arrays):
    """A tape as a program sees it.

    Args:
        seeds: pairs of a Node and its cotangent, or None where that doesn't come from outside.
        targets: Nodes whose cotangents are wanted.
        route: the Nodes to pull through, see `core.reach`.
        least: elements that Nodes must keep on average; `LARGE` unless it is given.

    Attributes:
        nodes: those to pull through, the youngest first.
        ends: where the program ends: leaves, and Nodes at which the sweep itself goes on.
        places: the number of every Node, ends after the others.
        key: what the program depends on.
    """

    __slots__ = ("ends", "key", "nodes", "places")

    def __init__(
        self, seeds: Sequence[Any], targets: frozenset[Node], route: Route | None, least: float | None = None
    ) -> None:
        super().__init__()
        least = LARGE if least is None else least
        self.nodes, self.ends, statics = _met(seeds, route, least)
        self.places = {node: place for place, node in enumerate([*self.nodes, *self.ends])}
        places = self.places
        parts: list[Any] = [
            tuple([(places[node], None if bar is None else self.number_of(bar)) for node, bar in seeds])
        ]
        if targets:
            parts.append(tuple([place for node, place in places.items() if node in targets]))
        for node in self.nodes:
            inputs = inputs_of(node, route) or ()
            parents = tuple([None if parent is None else places[parent] for parent in inputs])
            parts.append((node.primitive, parents, statics[node], node.dtype, self._saved(needed(node)), node.shape))
        if self.work < least * len(self.nodes):
            raise Unkeyed
        parts.extend([(type(end), end.shape, end.dtype) for end in self.ends])
        self.key = tuple(parts)

    def _saved(self, saved: Any) -> Any:
        if type(saved) is not tuple:
            return frozen(saved)
        return tuple([self.number_of(value) if hasattr(value, "nbytes") else self._other(value) for value in saved])

    def _other(self, value: Any) -> Any:
        return self._saved(value) if type(value) is tuple else frozen(value)

    def over(self, tracers: Sequence[Any]) -> Callable[[Any], Any]:
        """Return a function that puts tracers in the place of arrays."""

        def replaced(saved: Any) -> Any:
            if type(saved) is tuple:
                return tuple([replaced(value) for value in saved])
            return tracers[self.numbers[id(saved)]] if isinstance(saved, (np.ndarray, np.generic)) else saved

        return replaced


def _met(seeds: Sequence[Any], route: Route | None, least: float) -> tuple[list[Node], list[Node], dict[Node, Any]]:
    """Return the Nodes to pull through, the youngest first, the ends, and the static parameters as parts of a key.

    Raises:
        Unkeyed: they are small, or only the sweep itself can pull through the very first.
    """
    statics: dict[Node, Any] = {}
    ends: dict[Node, Any] = {}
    stack = [node for node, _ in seeds]
    total = 0
    while stack:
        node = stack.pop()
        if node in statics or node in ends:
            continue
        if _is_end(node, route):
            ends[node] = None
            continue
        statics[node] = ()
        total += _size_of(node)
        if len(statics) + len(ends) > MOST_NODES or (len(statics) == _SAMPLE and total < _SAMPLE * least):
            raise Unkeyed
        stack.extend([parent for parent in (inputs_of(node, route) or ()) if parent is not None])
    for node in list(statics):  # once it is known that they are large: this takes longer than all of the above
        params = getattr(node, "params", None)  # the fast path leaves it out
        try:
            statics[node] = frozen(params) if params else ()
        except Unkeyed:
            del statics[node]
            ends[node] = None
    for node in _below([end for end in ends if end.inputs], route):
        if statics.pop(node, None) is not None:
            ends[node] = None  # more may come from below what the sweep has to do itself
    for node in [node for node in statics if node.primitive is PROJECTION and node.inputs[0] not in statics]:
        ends[node] = statics.pop(node)  # what all outputs have together is no array, and cannot be handed over
    if total < least * len(statics) or not all([node in statics for node, _ in seeds]):
        raise Unkeyed
    used = {p for node in statics for p in (inputs_of(node, route) or ())}
    return sorted(statics, key=by_age, reverse=True), [end for end in ends if end in used], statics


def inputs_of(node: Node, route: Route | None) -> tuple[Node | None, ...] | None:
    """Return the Nodes that a sweep goes on to; None if it ends at this one."""
    return node.inputs if route is None else route.get(node)


def _is_end(node: Node, route: Route | None) -> bool:
    """Return whether a program ends at a Node, whatever its parameters are."""
    if type(node) is not Node or node.primitive not in trusted() or inputs_of(node, route) is None:
        return True
    saved = node.saved
    return type(saved) is tuple and any([isinstance(value, boxing.Tensor) for value in saved])


def _below(nodes: Sequence[Node], route: Route | None) -> set[Node]:
    """Return all Nodes that a sweep from these would get to."""
    met: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        for parent in inputs_of(node, route) or ():
            if parent is not None and parent not in met:
                met.add(parent)
                stack.append(parent)
    return met


def needed(node: Node) -> Any:
    """Return what a Node saved for its rules, less what straight paths leave for NumPy's sweep alone."""
    saved = node.saved
    if type(saved) is not tuple or len(saved) <= len(node.primitive.residuals):
        return saved
    return saved[: len(node.primitive.residuals)]


def _size_of(node: Node) -> int:
    """Return how many elements the arrays have that a Node keeps."""
    saved = node.saved
    return sum([value.size for value in saved if type(value) is np.ndarray]) if type(saved) is tuple else 0


class Sweep(Program):
    """A compiled sweep.

    Attributes:
        ends: places of the Nodes whose cotangents it computes.
        failures: how many runs in a row came to something infinite.
    """

    __slots__ = ("ends", "failures")

    def __init__(self, machine: Machine, graph: Graph, ends: list[int]) -> None:
        super().__init__(graph, machine)
        self.ends = ends
        self.failures = 0

    def finite(self, survey: Arrays) -> list[np.ndarray] | None:
        """Run on the arrays of a tape; return what is asked for, or None if any of it is not finite."""
        with np.errstate(all="ignore"):  # as in every sweep: NumPy may have to do a part of the program
            bars = self.run([settled(array, axes) for array, axes in zip(survey.arrays, survey.orders)])
        count = len(self.ends)
        if not all([bool(test) for test in bars[count:]]):
            self.failures += 1
            return None
        self.failures = 0
        return bars[:count]


def swept(
    seeds: Sequence[Any], retain: bool, targets: frozenset[Node], route: Route | None, masked: bool | None
) -> tuple[Swept, list[Any], bool | None] | None:
    """Do a sweep, or its beginning; return what it found, seeds to go on from, and whether to guard from there.

    None if all of it is to be done Node by Node.
    """
    if not targets:
        route = None
    try:
        survey = Survey(seeds, targets, route)
    except Unkeyed:
        return None
    account = accounts.of(survey.key, lambda: survey.work * ELEMENT)
    program = account.usable(
        tariff.node * len(survey.nodes),
        lambda: attempt(lambda machine: _captured(machine, survey, seeds, targets, route)),
    )
    if program is None:
        return None
    bars = program.finite(survey)
    if bars is None:
        if program.failures >= MOST_FAILURES:
            account.retire()
        return None
    return _delivered(survey, program, bars, retain, targets, masked)


def _delivered(
    survey: Survey, program: Sweep, bars: list[Any], retain: bool, targets: frozenset[Node], masked: bool | None
) -> tuple[Swept, list[Any], bool | None]:
    found = Swept()
    seeds: list[Any] = []
    order = [*survey.nodes, *survey.ends]
    inner = len(survey.nodes)
    for place, bar in zip(program.ends, bars):
        node: Any = order[place]
        if node.primitive is None:
            found.leaves[node] = bar
        elif place < inner:
            found.targets[node] = bar
        else:
            seeds.append((node, bar))
    if masked is False:
        masked = any([node.primitive.masks for node in survey.nodes])
    if not retain:
        free(survey.nodes, bool(targets))
    return found, seeds, masked


def free(nodes: Sequence[Node], keep_inputs: bool) -> None:
    """Take from Nodes what their derivatives need, as a sweep does."""
    for node in nodes:
        node.primitive = FREED
        node.saved = None
        if not keep_inputs:
            node.inputs = ()


def _captured(
    machine: Machine, survey: Survey, seeds: Sequence[Any], targets: frozenset[Node], route: Route | None
) -> Any:
    """Sweep a copy of a tape over tracers; return what that did as a program."""

    def run(trace: CaptureTrace) -> list[tuple[int, Any]]:
        tracers = [tracer_of(trace, array, axes) for array, axes in zip(survey.arrays, survey.orders)]
        twins, way = twins_of(survey, survey.over(tracers), route)
        order = {node: place for place, node in enumerate(twins)}
        pairs = [(twins[survey.places[node]], tracers[survey.numbers[id(bar)]]) for node, bar in seeds]
        wanted = [survey.places[node] for node in (*targets, *survey.ends) if node in survey.places]
        found = sweep(
            pairs, retain=True, traced=True, masked=None, targets=frozenset([twins[p] for p in wanted]), route=way
        )
        return [(order[node], densify(bar)) for node, bar in {**found.leaves, **found.targets}.items()]

    return captured(machine, "sweep", run)


def captured(machine: Machine, name: str, run: Callable[[CaptureTrace], list[tuple[int, Any]]]) -> Any:
    """Return a program for what a function does to tracers; it returns pairs of a place and a cotangent."""
    trace = CaptureTrace(name, [])
    ends: list[tuple[int, Any]] = []
    tests: list[Any] = []

    def run_and_test() -> None:
        ends.extend(run(trace))
        xp = boxing.operations
        tests.extend([xp.all(xp.isfinite(bar)) for _, bar in ends if type(bar) is boxing.Tracer])

    before = set_recording(False)
    try:
        with outside_of_traces(), np.errstate(all="ignore"):
            trace.run(run_and_test)
    finally:
        set_recording(before)
    comes_from_outside = any([not brought.fresh for brought in trace.brought])
    if comes_from_outside or trace.decisions or trace.checks or trace.numbers or trace.reports:
        return OFF
    outputs = [bar._state.value if type(bar) is boxing.Tracer else trace.constant(bar) for _, bar in ends]
    outputs += [test._state.value for test in tests]
    graph = Graph(name, list(trace.inputs), trace.equations, outputs).without_dead_code()
    return Sweep(machine, graph, [place for place, _ in ends])


def tracer_of(trace: CaptureTrace, array: np.ndarray, axes: tuple[int, ...] | None) -> Any:
    """Return a tracer for an array that goes into a program, which reads it in memory in that order of its axes."""
    raw = settled(array, axes)
    tracer = trace.tracer(raw, trace.input(raw, SeedSource(raw)))
    return tracer if axes is None else boxing.operations.permute_dims(tracer, inverse(axes))


def twins_of(survey: Any, over: Callable[[Any], Any], route: Route | None) -> tuple[list[Node], Route]:
    """Return Nodes like those of a tape, whose residuals are what `over` makes of them, and the way of a sweep."""
    twins: dict[Node, Node] = {}
    for end in survey.ends:
        twin = Leaf.__new__(Leaf) if end.primitive is None else Node()
        twin.primitive = None if end.primitive is None else PROJECTION
        twin.inputs = ()
        twin.saved = ()
        twins[end] = _like(end, twin)
    way: dict[Node, tuple[Node | None, ...]] = {}
    for node in reversed(survey.nodes):
        twin = twins[node] = _like(node, Node())
        inputs = inputs_of(node, route) or ()
        twin.primitive = node.primitive
        twin.inputs = way[twin] = tuple([None if parent is None else twins[parent] for parent in inputs])
        twin.saved = over(needed(node))
    return [twins[node] for node in (*survey.nodes, *survey.ends)], way


def _like(node: Node, twin: Node) -> Node:
    twin.params = getattr(node, "params", {})
    twin.shape = node.shape
    twin.dtype = node.dtype
    twin.sequence = next_sequence()
    twin.code = node.code
    twin.instruction = node.instruction
    return twin


__all__ = [
    "ELEMENT",
    "LARGE",
    "MOST_FAILURES",
    "MOST_NODES",
    "Arrays",
    "Route",
    "Survey",
    "Sweep",
    "accounts",
    "by_age",
    "captured",
    "free",
    "inputs_of",
    "needed",
    "swept",
    "tracer_of",
    "trusted",
    "twins_of",
]
