"""Reverse mode through loops at bounded memory: one entry of the tape for the whole loop.

The loop runs forward one step at a time. Each step is recorded on a tape of its own, which says what was closed over
and which values are tracked, and is dropped; a few states are kept (see `transforms.revolve`). The whole is one Node.
To pull through it, states are computed again from kept ones, from the last to the first; each step is recorded once
more, swept, and dropped.

The Node lies on the one tape, of whatever level, that the values are on. Transforms further in are set up again when
steps are. Where several tapes are at work at once, and for derivatives of the gradient itself, the loop is recorded
step by step instead: right in every mode, at memory that grows with the number of steps.
"""

# The slots of Tensor are this package's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from ..core import boxing, capturing, native, streams
from ..core.primitive import OPAQUE, Primitive
from ..core.recording import is_recording, observers
from ..core.staging import LinearTrace
from ..core.step_sweeps import ENTRY, walk_back
from ..core.tape import Leaf, Node, argument_node, make_node, next_sequence, projection
from ..core.tracing import Several, Trace, open_traces
from .levels import apart, leading_axes, level_of, off_the_tape, tapes_of, together
from .looping import Emitted, Loop, unrolled
from .replay import Stage, Unfit, came_out_otherwise, pull_by_replay, pull_by_unrolling
from .revolve import Online, positions
from .rolled_sweeps import as_one
from .stretches import has_stretches, in_stretches
from .trail import trail_of

CHAINED = 8
"""So many steps are recorded on the tape itself before anything else is done: short loops need no second run."""


class _Link(NamedTuple):
    """A step on the tape itself: from which Nodes to which, recorded since when."""

    begin: tuple[Any, ...]
    x: tuple[Any, ...]
    end: tuple[Any, ...]
    y: tuple[Any, ...]
    floor: int


class Course:
    """One run of a loop, and what it takes to run any part of it again.

    Attributes:
        loop: the loop, off the tape.
        tape: on the tape of which level its Node is: a trace, None for the ground. Not set as long as nothing was
            tracked.
        traces: the transforms at work, the outermost first.
        observed: whether somebody watched.
        steps: how many steps it took.
        kept: the states that are kept, by number.
        programs: which native programs of eager code there were; none but these compute a step.
        final: the last state, which a run that is repeated must come to again.
        closures: Nodes of what the function closes over.
        x_tracked: which parts of what is read are tracked.
        y_forms: how the leaves of what is emitted by a step are made of their parts.
        y_tracked: which of those are tracked.
        trail: for each step, a number that says what it left on its tape; 0 as long as nothing was tracked.
    """

    tape: Trace | None
    final: list[Any]

    def __init__(self, loop: Loop) -> None:
        assert loop.checkpoints is not None
        self.loop = loop
        self.level: int | None = None
        self.traces = open_traces()
        self.observed = bool(observers())
        self.programs = 0 if self.traces else native.mark()
        self.steps = 0
        self.kept: dict[int, Stage] = {}
        self.closures: dict[Node, None] = {}
        self.x_tracked: list[bool] = []
        self.y_forms: list[Any] | None = None
        self.y_tracked: list[bool] = []
        self.trail = array("Q")
        self._tracked: list[tuple[int, tuple[bool, ...]]] = []
        self.start = next_sequence()
        self._online = None if loop.length is not None else Online(loop.checkpoints)
        self._planned = () if loop.length is None else frozenset(positions(loop.length, loop.checkpoints))

    # ------------------------------------------------------------------ forward

    def run(self) -> tuple[list[Any], list[Any]]:
        """Run the loop; return (the leaves of what is carried in the end, the leaves of what was emitted)."""
        loop = self.loop
        self._notice([*loop.init, *loop.xs])
        chained = 0 if loop.length is not None and loop.length > CHAINED else min(CHAINED, loop.checkpoints or 0)
        links: list[_Link] = []
        emitted = Emitted(loop)
        leaves, mask, xs, step = self._hung(loop.init), None, self._hung(loop.xs), 0
        while True:
            going, mask = loop.goes_on(step, leaves, mask)
            if not going:
                break
            if step == chained:
                leaves, xs, y_columns = self._unchained(links, leaves, xs, emitted)
                emitted.columns = y_columns
            self._keep(step, leaves, mask)
            if step < chained:
                begin, x = leaves, loop.read(step, xs)
                floor = next_sequence()
                leaves, y = loop.step(step, begin, mask, x)
                links.append(_Link(tuple(begin), tuple(x), tuple(leaves), tuple(y), floor))
                self._notice([*leaves, *y])
            else:
                leaves, y = self._step(step, leaves, mask, xs)
            emitted.take(y)
            step += 1
        if step <= chained:
            return leaves, emitted.stacked()
        self.steps = step
        return self._finished(leaves, emitted)

    def _hung(self, values: list[Any]) -> list[Any]:
        """Return values on Nodes of the loop's own, so that what is closed over besides can be told from them."""
        if self.level is None:
            return values
        parts, forms = apart(values, self.level)
        nodes = [part._node and argument_node(part._node, part) for part in parts]
        return together(forms, self.on_nodes(parts, nodes))

    def on_nodes(self, parts: Sequence[Any], nodes: Sequence[Node | None]) -> list[Any]:
        """Return parts on Nodes of the tape; what was computed off it may have been so further out."""
        tape = self.tape
        lift = boxing.with_node if tape is None else tape.lift
        return [part if node is None else lift(part, node) for part, node in zip(parts, nodes)]

    def _notice(self, values: Iterable[Any]) -> None:
        """See which tape values are on; this can deal with one only."""
        found: set[Trace | None] = set()
        for value in values:
            tapes_of(value, found)
        if len(found) > 1:
            raise Unfit
        for tape in found:
            if self.level is None:
                self.tape, self.level = tape, level_of(tape)
            elif tape is not self.tape:
                raise Unfit

    def _keep(self, step: int, leaves: list[Any], mask: Any) -> None:
        if self._online is None:
            if step not in self._planned:
                return
        elif step and (room := self._online.meet(step)) is not None:
            if room == step:
                return
            del self.kept[room]
        stripped = leaves if self.level is None else off_the_tape(leaves, self.level)
        self.kept[step] = Stage(stripped, mask, streams.states())

    def _unchained(
        self, links: list[_Link], leaves: list[Any], xs: list[Any], emitted: Emitted
    ) -> tuple[list[Any], list[Any], list[list[Any]]]:
        """Leave the tape: see what the steps on it closed over; return everything without Nodes."""
        if self.level is None:
            self.trail.extend([0] * len(links))
            return leaves, xs, emitted.columns
        parts, _ = apart(xs, self.level)
        self.x_tracked = [part._node is not None for part in parts]
        for step, link in enumerate(links):
            begin, _ = apart([*link.begin, *link.x], self.level)
            end, _ = apart([*link.end, *link.y], self.level)
            self._note_tracked(step, apart(link.begin, self.level)[0])
            self._note_step(end, {part._node for part in begin}, link.floor)
        final, _ = apart(leaves, self.level)
        self._note_tracked(len(links), final)
        for row in zip(*emitted.columns):
            self._note_emission(row)
        columns = [off_the_tape(column, self.level) for column in emitted.columns]
        return off_the_tape(leaves, self.level), off_the_tape(xs, self.level), columns

    def _note_tracked(self, step: int, parts: Sequence[Any]) -> None:
        tracked = tuple([part._node is not None for part in parts])
        if not self._tracked or self._tracked[-1][1] != tracked:
            self._tracked.append((step, tracked))

    def _note_step(self, parts: Sequence[Any], stops: Collection[Any], floor: int) -> None:
        """Walk back from what a step made to what it closed over, and note down what there is on the way."""
        met, strays = walk_back([part._node for part in parts if part._node is not None], stops, floor)
        for stray in strays:
            if stray.sequence < self.start:
                self.closures[stray] = None
            elif not isinstance(stray, Leaf) or stray.tensor_reference() is not None:
                # Something that an earlier step, or this one, has made and that outlives it by other ways than by being
                # carried: what leads to it has to stay on the tape.
                raise Unfit
        self.trail.append(trail_of(met))

    def _note_emission(self, y: Sequence[Any]) -> list[Any]:
        """See which parts of what a step emits are tracked; return these parts."""
        parts, forms = apart(y, self.level or 0)
        if self.y_forms is None:
            self.y_forms, self.y_tracked = forms, [False] * len(parts)
        elif forms != self.y_forms:
            raise Unfit
        self.y_tracked = [tracked or part._node is not None for tracked, part in zip(self.y_tracked, parts)]
        return parts

    def tracked_at(self, step: int) -> tuple[bool, ...]:
        """Return which parts of a state are tracked."""
        place = bisect_right(self._tracked, step, key=_step_of) - 1
        return self._tracked[place][1] if place >= 0 else ()

    def _step(self, step: int, leaves: list[Any], mask: Any, xs: list[Any]) -> tuple[list[Any], list[Any]]:
        """Run a step on a tape of its own; return its results off the tape."""
        if self.level is None:
            floor = next_sequence()
            leaves, y = self.loop.step(step, leaves, mask, self.loop.read(step, xs))
            self._notice([*leaves, *y])
            if self.level is None:
                self.trail.append(0)
                return leaves, y
            self.x_tracked = [False] * len(apart(xs, self.level)[0])
            stops = frozenset[Any]()
        else:
            floor = next_sequence()
            entered = self.entered(leaves, self.tracked_at(step), xs, step)
            leaves, y = self.loop.step(step, entered.leaves, mask, entered.x)
            self._notice([*leaves, *y])
            stops = frozenset([*entered.nodes, *entered.x_nodes])
        parts, _ = apart(leaves, self.level)
        y_parts = self._note_emission(y)
        self._note_tracked(step + 1, parts)
        self._note_step([*parts, *y_parts], stops, floor)
        return off_the_tape(leaves, self.level), off_the_tape(y, self.level)

    def compare(self, step: int, nodes: Collection[Node]) -> None:
        """See whether a step that was run again has left the same on its tape."""
        known = self.trail[step] if step < len(self.trail) else 0
        if known and (now := trail_of(nodes)) and now != known:
            raise came_out_otherwise(self, f"step {step} did other operations, or had other values on the way")

    def compared(self, step: int, before: Sequence[Any], made: Sequence[Any], floor: int) -> None:
        """Do so for a step that was recorded on the tape itself: of what went in, and what came out."""
        level = self.level or 0
        stops = {part._node for part in apart(before, level)[0]}
        nodes = [part._node for part in apart(made, level)[0] if part._node is not None]
        self.compare(step, walk_back(nodes, stops, floor)[0])

    def is_tracked_after(self, step: int) -> bool:
        """Return whether what a step makes may be tracked: before anything was, nothing is to be reversed."""
        return any(self.y_tracked) or (bool(self._tracked) and step + 1 >= self._tracked[0][0])

    def entered(self, leaves: list[Any], tracked: Sequence[bool], xs: Sequence[Any], step: int) -> Entered:
        """Return what goes into a step, with fresh Nodes for what is tracked."""
        assert self.level is not None
        x = self.loop.read(step, xs)
        parts, forms = apart(leaves, self.level)
        x_parts, x_forms = apart(x, self.level)
        nodes = _entries(parts, tracked or (False,) * len(parts))
        x_nodes = _entries(x_parts, self.x_tracked)
        entered, x = together(forms, self.on_nodes(parts, nodes)), together(x_forms, self.on_nodes(x_parts, x_nodes))
        return Entered(entered, nodes, x, x_nodes)

    # ------------------------------------------------------------------ the Node

    def _finished(self, leaves: list[Any], emitted: Emitted) -> tuple[list[Any], list[Any]]:
        """Hang the results on one Node, if they depend on anything that is tracked."""
        ys = emitted.stacked() if emitted.columns else []
        if self.level is None or not (any(self.tracked_at(self.steps)) or any(self.y_tracked)):
            return leaves, ys
        loop = self.loop
        init, _ = apart(loop.init, self.level)
        xs, _ = apart(loop.xs, self.level)
        final, forms = apart(leaves, self.level)
        y_parts, y_forms = apart(ys, self.level)
        if y_forms != (self.y_forms or []):
            raise Unfit
        parts = [*final, *y_parts]
        inputs = tuple([*[part._node for part in init], *[part._node for part in xs], *self.closures])
        node = make_node(LOOPS[loop.name], inputs, self, Several(parts), {})
        tracked = [*self.tracked_at(self.steps), *self.y_tracked]
        hung = [
            boxing.with_node(part, projection(node, i, part)) if tracked[i] else part for i, part in enumerate(parts)
        ]
        self.final = leaves
        loop.init = self.kept[0].leaves
        loop.xs = off_the_tape(loop.xs, self.level)
        return together(forms, hung[: len(final)]), together(y_forms, hung[len(final) :])

    @property
    def y_axes(self) -> list[int]:
        """For each part of what is emitted, along which axis it is stacked."""
        return leading_axes(self.y_forms or [])


class Entered(NamedTuple):
    """What goes into a step: leaves, and the Nodes of their parts."""

    leaves: list[Any]
    nodes: list[Node | None]
    x: list[Any]
    x_nodes: list[Node | None]


def _step_of(entry: tuple[int, Any]) -> int:
    return entry[0]


def _entries(parts: Sequence[Any], tracked: Sequence[bool]) -> list[Node | None]:
    return [make_node(ENTRY, (), (), part, {}) if wanted else None for part, wanted in zip(parts, tracked, strict=True)]


def _loop_primitive(name: str) -> Primitive:
    primitive = Primitive(name, OPAQUE, _not_computed)
    primitive.multiple = True
    primitive.masks = True
    primitive.pull = _pull
    primitive.pull_masked = _pull_masked
    primitive.pull_tracked = _pull_tracked
    return primitive


def _not_computed(*_args: Any, **_params: Any) -> Any:
    raise NotImplementedError("a loop is run step by step, not computed as one operation")


def _pull(node: Any, out_bar: Any) -> tuple[Any, ...]:
    return pull_by_replay(node.whole.saved, node, out_bar, boxed=False, masked=False)


def _pull_masked(node: Any, out_bar: Any) -> tuple[Any, ...]:
    return pull_by_replay(node.whole.saved, node, out_bar, boxed=False, masked=True)


def _pull_tracked(node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
    if node.recorded:
        return pull_by_unrolling(node.whole.saved, node, out_bar, masked)
    return pull_by_replay(node.whole.saved, node, out_bar, boxed=True, masked=masked)


LOOPS = {name: _loop_primitive(name) for name in ("scan", "fori_loop", "while_loop")}


def run(loop: Loop) -> tuple[list[Any], list[Any]]:
    """Run a loop; return (the leaves of what is carried in the end, the leaves of what was emitted)."""
    if capturing.engaged and (capture := capturing.current()) is not None:
        found = _as_one(capture, loop)
        if found is not None:
            return found
    if loop.checkpoints is not None and is_recording() is True:
        if not any([isinstance(trace, LinearTrace) for trace in open_traces()]):
            before = streams.states()
            try:
                course = Course(loop)
                with native.as_of(course.programs):
                    return course.run()
            except Unfit:
                streams.rewind(before)
    return unrolled(loop, loop.init, loop.xs)[:2]


def _as_one(capture: capturing.Capture, loop: Loop) -> tuple[list[Any], list[Any]] | None:
    if loop.checkpoints is not None and not has_stretches(loop):
        return None
    reading = loop.as_read(capture)
    if reading is None:
        return None
    if loop.checkpoints is not None:
        found = in_stretches(capture, reading, as_one, run)
        loop.y_structure = loop.y_structure or reading.y_structure
        return found
    return as_one(capture, reading)


__all__ = ["Course", "Entered", "run"]
