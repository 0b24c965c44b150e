"""Loops on a tape further in than a capture, as `grad` inside of `jvp` has one: the sweep is a loop, too.

Off the tape the loop runs as one inside of transforms does (`rolled`), and emits in addition what went into each step.
It is one Node. To pull through it, another loop goes the other way: its step runs that of the loop again, on the tape,
sweeps it, and carries the cotangents on, with sums for what steps close over.
"""

# The slots of Tensor are this package's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..core import capturing
from ..core.backward import zeros_for
from ..core.primitive import OPAQUE, Primitive
from ..core.recording import set_recording
from ..core.step_sweeps import as_leaves, led_through, places_of, reached, swept_again, swept_between, walk_back
from ..core.tape import Node, argument_node, location, make_node, next_sequence, projection
from ..core.tracing import Several, Trace, is_tracer, open_traces, snapshot
from ..core.vspace import added
from ..errors import GradientError
from ..typing import Shape
from .looping import Loop, unrolled
from .rolled import OnTape, rolled, rolled_if_possible


class _Aside:
    """A loop beside one of the user's: of the same function, as long, over what it says itself."""

    checkpoints = None
    init: list[Any]
    xs: list[Any]
    index = Loop.index
    read = Loop.read

    def __init__(self, loop: Loop, reverse: bool) -> None:
        assert loop.length is not None
        self.loop = loop
        self.function, self.name, self.described = loop.function, loop.name, loop.described
        self.length: int = loop.length
        self.reverse = reverse
        self.count = len(loop.init)
        self.trace = open_traces()[-1]

    def goes_on(self, step: int, _leaves: Sequence[Any], _mask: Any) -> tuple[bool, Any]:
        """Return (whether there is a step to run, None)."""
        return step < self.length, None

    def off(self, values: Sequence[Any]) -> list[Any]:
        """Return values without Nodes on the tape of the innermost transform; those further out keep theirs."""
        return [snapshot(value, keep_node=_node_on(value, self.trace) is None) for value in values]

    def _run(self, number: Any, leaves: Sequence[Any], x: Sequence[Any]) -> _Step:
        """Run a step on Nodes of its own; say what it closes over."""
        floor = next_sequence()
        nodes = [argument_node(None, value) if value.dtype.kind == "f" else None for value in (*leaves, *x)]
        entered = [v if node is None else self.trace.lift(v, node) for v, node in zip((*leaves, *x), nodes)]
        before = set_recording(True)
        try:
            made, emitted = self.loop.step(number, entered[: self.count], None, entered[self.count :])
        finally:
            set_recording(before)
        ends = [_node_on(value, self.trace) for value in (*made, *emitted)]
        met, strays = walk_back([node for node in ends if node is not None], {n for n in nodes if n}, floor)
        return _Step([*made, *emitted], ends, nodes, met, sorted(strays, key=_by_sequence))


class _Step(NamedTuple):
    """What a step has made: what is carried on, and what is emitted.

    Attributes:
        ends: Nodes of all that, None for what is not on the tape of the innermost transform.
        nodes: of what went in.
        met: Nodes in between.
        strays: Nodes that the step closes over.
    """

    made: list[Any]
    ends: list[Node | None]
    nodes: list[Node | None]
    met: set[Node]
    strays: list[Node]


class _Forward(_Aside):
    """The loop off the tape; what goes into a step is emitted after what the step emits."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, loop.reverse)
        self.init, self.xs = self.off(loop.init), self.off(loop.xs)
        self.start = next_sequence()
        self.strays: list[Node] = []
        self.tracked: list[bool] = []
        self.sources: list[frozenset[int]] = []

    def step(self, number: Any, carried: Sequence[Any], _mask: None, read: Sequence[Any]) -> tuple[Any, Any]:
        """Run a step; return what is carried on, and what is emitted."""
        done = self._run(number, carried, read)
        if any([stray.sequence > self.start for stray in done.strays]):
            raise OnTape
        self.strays = done.strays
        self.tracked = [node is not None for node in done.ends]
        self.sources = places_of(done.ends, [*done.nodes, *done.strays])
        made = self.off(done.made)
        return made[: self.count], [*made[self.count :], *carried]


class Followed(NamedTuple):
    """What the tape keeps of a loop: the loop off the tape, states that went into steps, what they close over.

    `sources` are, for each of a step's results, the places of what it comes of: of what is carried, read, closed over.
    """

    loop: Loop
    init: list[Any]
    xs: list[Any]
    history: list[Any]
    strays: list[Node]
    outputs: int
    sources: list[frozenset[int]]


class _Backward(_Aside):
    """The sweep as a loop: carries the cotangents of what the loop carries, and sums for what it closes over."""

    def __init__(self, followed: Followed, bars: dict[int, Any], masked: bool) -> None:
        loop = followed.loop
        super().__init__(loop, not loop.reverse)
        self.strays = followed.strays
        self.masked = masked
        self.floats = [i for i, (_, dtype) in enumerate(loop.likes) if dtype.kind == "f"]
        self.y_places = [i for i in range(followed.outputs - self.count) if i + self.count in bars]
        self.x_floats = [i for i, x in enumerate(followed.xs) if x.dtype.kind == "f"]
        begin = [bars[i] if i in bars else zeros_for(*loop.likes[i]) for i in self.floats]
        self.init = [*begin, *[zeros_for(stray.shape, stray.dtype) for stray in self.strays]]
        self.xs = [*followed.history, *followed.xs, *[bars[i + self.count] for i in self.y_places]]

    def step(self, number: Any, carried: Sequence[Any], _mask: None, read: Sequence[Any]) -> tuple[Any, Any]:
        """Pull cotangents through a step."""
        count, x_end = self.count, len(read) - len(self.y_places)
        # A sweep takes Nodes by age, so what stands in for something older must be older than the step.
        proxies = {stray: argument_node(None, stray) for stray in self.strays}
        with as_leaves(self.strays):
            done = self._run(number, read[:count], read[count:x_end])
        if unknown := [stray for stray in done.strays if stray not in proxies]:
            raise GradientError(
                f"{self.name}: a step of {self.described} was run again for the gradient, and used a value made at "
                f"{location(unknown[0])}, as never before"
            )
        led_through(done.met, proxies)
        pairs = [(done.ends[i], bar) for i, bar in zip(self.floats, carried)]
        pairs += [(done.ends[count + i], bar) for i, bar in zip(self.y_places, read[x_end:])]
        seeds = [(proxies.get(node, node), bar) for node, bar in pairs if node is not None]
        masked = self.masked or any([node.primitive.masks for node in done.met])
        targets = [*done.nodes, *proxies.values()]
        found = swept_between(seeds, targets, done.strays, traced=True, masked=masked) if seeds else {}
        bars = [_arrived(found, done.nodes[i], *self.loop.likes[i]) for i in self.floats]
        sums = [
            added(total, found[proxies[stray]]) if proxies[stray] in found else total
            for stray, total in zip(self.strays, carried[len(self.floats) :])
        ]
        x_bars = [
            _arrived(found, done.nodes[count + i], x.shape, x.dtype)
            for i, x in enumerate(read[count:x_end])
            if i in self.x_floats
        ]
        return self.off([*bars, *sums]), self.off(x_bars)


def as_one(capture: Any, loop: Loop) -> tuple[list[Any], list[Any]] | None:
    """Have a capture make one loop of a loop; return what `bounded.run` returns, or None: it is to be run by steps."""
    try:
        return rolled(capture, loop)
    except OnTape:
        pass
    try:
        return _recorded(capture, loop)
    except OnTape:
        return None


def _recorded(capture: Any, loop: Loop) -> tuple[list[Any], list[Any]] | None:
    """Have a capture make one loop of a loop on the tape of the innermost transform; None: it is to be run by steps."""
    forward = _Forward(loop)
    trace = forward.trace
    found = rolled(capture, forward)
    if found is None:
        return None
    ends, stacks = found
    outputs = [*ends, *stacks[: len(stacks) - len(loop.init)]]
    history = stacks[len(stacks) - len(loop.init) :]
    parents = tuple([*[_node_on(x, trace) for x in (*loop.init, *loop.xs)], *forward.strays])
    lifted = [trace.lift(y) if tracked else y for y, tracked in zip(outputs, forward.tracked)]
    followed = Followed(loop, forward.init, forward.xs, history, forward.strays, len(outputs), forward.sources)
    whole = make_node(FOLLOWED, parents, followed, Several(lifted), {})
    for i, (y, tracked) in enumerate(zip(lifted, forward.tracked)):
        if tracked:
            y._node = projection(whole, i, y)
            trace.note_recorded(y, whole)
    return lifted[: len(loop.init)], lifted[len(loop.init) :]


def _pull_tracked(node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
    followed: Followed = node.whole.saved
    if node.recorded:
        return _pull_by_unrolling(followed, node, out_bar, masked)
    backward = _Backward(followed, out_bar.bars, masked)
    found = rolled_if_possible(capturing.current(), backward)
    bars, x_bars = unrolled(backward, backward.init, backward.xs)[:2] if found is None else found  # type: ignore[arg-type]
    inits: list[Any] = [None] * len(followed.init)
    for i, bar in zip(backward.floats, bars):
        inits[i] = bar
    read: list[Any] = [None] * len(followed.xs)
    for i, bar in zip(backward.x_floats, x_bars):
        read[i] = bar
    every = [*inits, *read, *bars[len(backward.floats) :]]
    connected = reached(followed.sources, len(followed.init), backward.length, out_bar.bars)
    pairs = enumerate(zip(node.inputs, every, strict=True))
    return tuple([None if parent is None or place not in connected else bar for place, (parent, bar) in pairs])


def _pull_by_unrolling(followed: Followed, node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
    """Return cotangents that can be differentiated again: the loop is run again, and recorded step by step."""
    loop, trace = followed.loop, open_traces()[-1]
    values, count = [*followed.init, *followed.xs], len(followed.init)

    def run(nodes: Sequence[Node | None]) -> list[Node | None]:
        entered = [x if of is None else trace.lift(x, of) for x, of in zip(values, nodes)]
        leaves, ys, _ = unrolled(loop, entered[:count], entered[count:])
        return [_node_on(y, trace) for y in (*leaves, *ys)]

    parents = node.whole.inputs[: len(values)]
    found = swept_again(run, values, parents, followed.strays, out_bar.bars, recorded=True, masked=masked)
    return tuple([None if parent is None else bar for parent, bar in zip(node.inputs, found, strict=True)])


def _not_raw(*_args: Any, **_params: Any) -> Any:
    raise NotImplementedError("a loop on a tape inside of a transform is pulled through on Tensors")


FOLLOWED = Primitive("followed_loop", OPAQUE, _not_raw)
FOLLOWED.multiple = True
FOLLOWED.masks = True
FOLLOWED.pull = FOLLOWED.pull_masked = _not_raw
FOLLOWED.pull_tracked = _pull_tracked


def _by_sequence(node: Node) -> int:
    return node.sequence


def _arrived(found: dict[Node, Any], node: Node | None, shape: Shape, dtype: Any) -> Any:
    """Return the cotangent that has come to a Node; zero if there is none."""
    return zeros_for(shape, dtype) if node is None or node not in found else found[node]


def _node_on(value: Any, trace: Trace) -> Node | None:
    return value._node if is_tracer(value) and value._state.trace is trace else None


__all__ = ["as_one"]
