"""Sweeps through one step of a loop, from what it made to what went in, whatever else is on the tape.

A step that is recorded by itself begins with Nodes of its own; what it closes over is met on the way back.
"""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import GradientError
from .aliasing import Viewed, alias_of, family, history
from .primitive import OPAQUE, Primitive
from .recording import set_recording
from .tape import Leaf, Node, argument_node, location, next_sequence, retained, sweep
from .traced_writing import start_history


def _escaped(node: Node, *_args: Any) -> tuple[Any, ...]:
    raise GradientError(
        f"a value that was computed inside of a loop, in the step that began at {location(node)}, was kept by other "
        "means than by returning it, and is differentiated now; but the loop keeps no tape. Carry the value along or "
        "(in scan) emit it, or pass checkpoints=None, which keeps the tape of every step"
    )


ENTRY = Primitive("loop_entry", OPAQUE, _escaped)
ENTRY.pull = ENTRY.pull_masked = ENTRY.pull_tracked = _escaped


def walk_back(nodes: Iterable[Node], stops: Collection[Any], floor: int) -> tuple[set[Node], set[Node]]:
    """Walk back from Nodes as far as the stops; return (the Nodes met, the strays: older than `floor`, or leaves)."""
    met: set[Node] = set()
    strays: set[Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node in stops or node in met:
            continue
        if node.sequence < floor or isinstance(node, Leaf):
            strays.add(node)
            continue
        met.add(node)
        stack.extend([parent for parent in node.inputs if parent is not None])
    return met, strays


def sources_of(node: Node, known: Collection[Node]) -> set[Node]:
    """Return which of some Nodes a Node comes of."""
    found: set[Node] = set()
    met: set[Node] = set()
    waiting = [node]
    while waiting:
        item = waiting.pop()
        if item in known:
            found.add(item)
        elif item not in met:
            met.add(item)
            waiting.extend([parent for parent in item.inputs if parent is not None])
    return found


def places_of(made: Iterable[Node | None], given: Sequence[Node | None]) -> list[frozenset[int]]:
    """Return, for each of the Nodes that a step made, the places of those that went in that it comes of."""
    places = {node: place for place, node in enumerate(given) if node is not None}
    return [
        frozenset() if node is None else frozenset([places[source] for source in sources_of(node, places)])
        for node in made
    ]


def reached(sources: Sequence[frozenset[int]], count: int, length: int, bars: Collection[int]) -> set[int]:
    """Return which of what went into a loop is connected with some of its results: no other one has a gradient.

    Args:
        sources: for each result of a step, which of what goes in it comes of, by place: what is carried first.
        count: how much is carried.
        length: how many steps there are.
        bars: places of the results that there are cotangents of.
    """
    emitted = [place for place in bars if place >= count]
    live = {place for place in bars if place < count}
    met: set[int] = set()
    for _ in range(length):
        found = {source for place in (*live, *emitted) for source in sources[place]}
        before, live = live, {place for place in found if place < count}
        met |= found - live
        if live == before:
            break
    return live | {place for place in met if place >= count}


class _Through:
    """A route for sweeps: everything is pulled through but what is to be stopped at."""

    __slots__ = ("_stops",)

    def __init__(self, stops: frozenset[Node]) -> None:
        self._stops = stops

    def get(self, node: Node) -> tuple[Node | None, ...] | None:
        """Return the inputs that a Node is to be pulled through to; None if it is stopped at."""
        return None if node in self._stops else node.inputs


def swept_between(
    seeds: Sequence[tuple[Any, Any]], targets: Collection[Node | None], stops: Iterable[Node], **modes: Any
) -> dict[Node, Any]:
    """Sweep from the seeds to the targets, and not through any stop; return the cotangents that arrived."""
    wanted = frozenset([node for node in targets if node is not None])
    retaining = retained.set(None)
    try:
        route: Any = _Through(wanted.union(stops))
        return sweep(seeds, targets=wanted, route=route, **modes).targets
    finally:
        retained.reset(retaining)


def led_through(met: Iterable[Node], proxies: dict[Node, Node]) -> None:
    """Let Nodes have proxies as their inputs, so that nobody who listens at the originals hears of this sweep."""
    for node in met:
        if any([parent in proxies for parent in node.inputs]):
            node.inputs = tuple([proxies.get(parent, parent) if parent else None for parent in node.inputs])


def swept_again(
    run: Callable[[Sequence[Node | None]], Sequence[Node | None]],
    values: Sequence[Any],
    parents: Sequence[Node | None],
    closures: Sequence[Node],
    bars: Mapping[int, Any],
    *,
    recorded: bool,
    masked: bool,
) -> list[Any]:
    """Run something once more on the tape and sweep it; return the cotangents of what went in, then of the closures.

    Args:
        run: does it, given Nodes for what goes in, and returns those of what comes out.
        values, parents: what goes in, and the Nodes that it has; None for what is not tracked.
        closures: Nodes that it closes over.
        bars: cotangents of what comes out, by place.
        recorded: whether the sweep is recorded, too.
        masked: whether cotangents may hold zeros that must stay zeros.
    """
    floor = next_sequence()
    proxies = {closure: argument_node(closure, closure) for closure in closures}
    nodes = [None if parent is None else argument_node(parent, x) for x, parent in zip(values, parents)]
    before = set_recording(True)
    try:
        with as_leaves(closures):
            made = run(nodes)
    finally:
        set_recording(before)
    entered = {node for node in nodes if node is not None}
    _demand_all(closures, walk_back([node for node in made if node is not None], entered, floor)[1])
    seeds = [(node, bar) for i, bar in bars.items() if (node := made[i]) is not None]
    met, strays = walk_back([node for node, _ in seeds], {node for node in nodes if node is not None}, floor)
    led_through(met, proxies)
    seeds = [(proxies.get(node, node), bar) for node, bar in seeds]
    before = set_recording(recorded)
    try:
        modes = {"tracked": recorded, "traced": True, "masked": masked}
        found = swept_between(seeds, [*nodes, *proxies.values()], strays, retain=True, **modes)
    finally:
        set_recording(before)
    return [None if node is None else found.get(node) for node in [*nodes, *proxies.values()]]


def _demand_all(closures: Iterable[Node], seen: Collection[Node]) -> None:
    """Refuse to sweep what has not come of all that it came of before."""
    lost = [closure for closure in closures if closure not in seen]
    if lost:
        raise GradientError(
            f"a loop was run again for its gradient, and did not come of the value made at {location(lost[0])} as "
            "before: inside of a transform or a compiled function, it is a view of a Tensor that a tape watched which "
            "has stopped. Take the view in the loop, or its clone() outside"
        )


@contextmanager
def as_leaves(closures: Collection[Node]) -> Generator[None]:
    """Let Tensors be leaves again that were while something ran, as those watched by a tape that has stopped.

    Args:
        closures: leaves, and Nodes that views of such had: the views have these again, too.
    """
    views = [(view, node, leaf) for node in closures if not isinstance(node, Leaf) for view, leaf in _views_on(node)]
    leaves = [*[node for node in closures if isinstance(node, Leaf)], *[leaf for _, _, leaf in views]]
    found = [(leaf.tensor_reference(), leaf) for leaf in dict.fromkeys(leaves)]
    changed = [
        (tensor, tensor._node, leaf)
        for tensor, leaf in found
        if tensor is not None and tensor._node is not leaf and (tensor._node is None or isinstance(tensor._node, Leaf))
    ]
    try:
        for tensor, _, leaf in changed:
            _put(tensor, leaf)
        put = {leaf for _, _, leaf in changed}
        for view, node, leaf in views:
            if leaf in put:
                view._node = node
        yield
    finally:
        for tensor, now, leaf in changed:
            if tensor._node is leaf:  # and nothing was written to it meanwhile
                _put(tensor, now)


def _origin(node: Node) -> tuple[Any, list[Any]]:
    """Return the leaf that a Node comes of by operations on one value, and their parameters; None if by others."""
    steps: list[Any] = []
    while not isinstance(node, Leaf):
        parent = node.inputs[0] if len(node.inputs) == 1 else None
        params = getattr(node, "params", None)  # that of an operation without any is not set
        if parent is None or params is None:
            return None, []
        steps.append(params)
        node = parent
    return node, steps[::-1]


def _views_on(node: Node) -> list[tuple[Any, Any]]:
    """Return the views that a Node is of, taken of a leaf's Tensor in the very same steps, with that leaf."""
    leaf, steps = _origin(node)
    tensor = None if leaf is None else leaf.tensor_reference()
    viewed: Any = None if tensor is None else alias_of(family(tensor)[0])
    found: list[tuple[Any, Any]] = []
    for view in viewed.live() if isinstance(viewed, Viewed) else ():
        root, taken = history(view)
        if root is tensor and len(taken) == len(steps) and all([own is its for (_, own), its in zip(taken, steps)]):
            found.append((view, leaf))
    return found


def _put(tensor: Any, leaf: Any) -> None:
    """Put a leaf on a Tensor, or none; its views are of that from now on."""
    tensor._node = leaf
    start_history(tensor)


__all__ = [
    "ENTRY",
    "as_leaves",
    "led_through",
    "places_of",
    "reached",
    "sources_of",
    "swept_again",
    "swept_between",
    "walk_back",
]
