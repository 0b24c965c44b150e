"""Pulling cotangents through a loop by running its steps again; see `transforms.bounded`."""

# The slots of Tensor are this package's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core import boxing, native, streams
from ..core.backward import zeros_for
from ..core.recording import UNTAPED, is_recording, observers, set_observers, set_recording
from ..core.step_sweeps import as_leaves, led_through, swept_between, walk_back
from ..core.tape import Node, argument_node, location, next_sequence
from ..core.tracing import at_work, plain_parts
from ..core.vspace import added
from ..errors import GradientError
from .levels import apart, leading_axes, off_the_tape, together
from .looping import unrolled
from .revolve import reversal

if TYPE_CHECKING:
    from .bounded import Course

_ALL = slice(None)


class Unfit(Exception):
    """A loop cannot be one entry of one tape, and is to be recorded step by step."""


class Stage(NamedTuple):
    """A state of a loop, off the tape."""

    leaves: list[Any]
    mask: Any
    streams: streams.States


@contextmanager
def _scene(course: Course, recording: Any) -> Generator[None]:
    """Set the scene in which the loop ran."""
    before, watching = is_recording(), observers()
    set_observers((course,) if course.observed else ())
    set_recording(recording)
    try:
        with at_work(course.traces), native.as_of(course.programs):
            yield
    finally:
        set_recording(before)
        set_observers(watching)


# ---------------------------------------------------------------------- at bounded memory


def pull_by_replay(course: Course, node: Any, out_bar: Any, *, boxed: bool, masked: bool) -> tuple[Any, ...]:
    """Return the cotangents of a loop's inputs, running its steps again from the last to the first.

    Args:
        course: the loop.
        node: its Node, with None in the place of inputs whose cotangents are not wanted.
        out_bar: the cotangents of the outputs.
        boxed: whether cotangents are Tensors.
        masked: whether they may hold zeros that must stay zeros.
    """
    replay = _Replay(course, node, out_bar.bars, boxed, masked)
    before = streams.states()
    try:
        with as_leaves(course.closures):
            return replay.run()
    finally:
        streams.rewind(before)


class _Replay:
    """One reversal of a loop."""

    def __init__(self, course: Course, node: Any, bars: dict[int, Any], boxed: bool, masked: bool) -> None:
        self.course = course
        self.boxed = boxed
        self.masked = masked
        level = self.level = course.level or 0
        final, _ = apart(course.final, level)
        self.bars: list[Any] = [bars.get(i) for i in range(len(final))]
        self.y_bars: list[Any] = [bars.get(i + len(final)) for i in range(len(course.y_tracked))]
        self.inputs = node.inputs
        x_parts, x_forms = apart(course.loop.xs, level)
        self.x_bars = [
            _Column(part, axes, boxed) if wanted else None
            for part, axes, wanted in zip(x_parts, leading_axes(x_forms), course.x_tracked)
        ]
        wanted = self.inputs[len(self.inputs) - len(course.closures) :]
        self.sums = {closure: _Sum() for closure, still in zip(course.closures, wanted) if still is not None}
        self.met: set[Node] = set()
        self.state = course.kept[0]
        self.expected: list[Any] = course.final

    def run(self) -> tuple[Any, ...]:
        """Carry the schedule out; return a cotangent for every input."""
        course = self.course
        loop = course.loop
        assert loop.checkpoints is not None
        for action in reversal(sorted(course.kept), course.steps, loop.checkpoints):
            if action.kind == "restore":
                self.state = course.kept[action.at]
                streams.rewind(self.state.streams)
            elif action.kind == "advance":
                self._advance(action.at, action.to)
            elif action.kind == "keep":
                self.state = course.kept[action.at] = self.state._replace(streams=streams.states())
            elif action.kind == "drop":
                del course.kept[action.at]
            else:
                if not course.is_tracked_after(action.at):
                    break
                self._reverse(action.at)
        for closure in self.sums:
            if closure not in self.met:
                raise came_out_otherwise(course, f"nothing used the value made at {location(closure)} any more")
        count = len(self.inputs) - len(course.closures) - len(self.x_bars)
        bars = self.bars if len(self.bars) == count else [None] * count
        columns = [None if column is None else column.whole() for column in self.x_bars]
        sums = [self.sums[closure].value if closure in self.sums else None for closure in course.closures]
        return tuple(
            [None if wanted is None else bar for wanted, bar in zip(self.inputs, [*bars, *columns, *sums], strict=True)]
        )

    def _advance(self, step: int, end: int) -> None:
        course = self.course
        loop = course.loop
        leaves, mask = self.state.leaves, self.state.mask
        with _scene(course, UNTAPED):
            while step < end:
                leaves, _ = loop.step(step, leaves, mask, loop.read(step, loop.xs))
                step += 1
                going, mask = loop.goes_on(step, leaves, mask)
                if not going:
                    raise came_out_otherwise(course, f"it ended after {step} steps")
        self.state = Stage(leaves, mask, [])

    def _reverse(self, step: int) -> None:
        """Record a step, and pull the cotangents of what it made back to what it was made of."""
        course = self.course
        leaves = self.state.leaves
        with _scene(course, True):
            floor = next_sequence()
            # A sweep takes Nodes by age, so what stands in for something older must be older than the step.
            proxies = {closure: argument_node(None, closure) for closure in self.sums}
            entered = course.entered(leaves, course.tracked_at(step), course.loop.xs, step)
            made, y = course.loop.step(step, entered.leaves, self.state.mask, entered.x)
        parts, _ = apart(made, self.level)
        y_parts, y_forms = apart(y, self.level)
        self._check(step, off_the_tape(made, self.level))
        self.expected = leaves
        seeds = [
            (part._node, bar)
            for part, bar in zip(parts, self.bars, strict=True)
            if bar is not None and part._node is not None
        ]
        seeds.extend(self._seeds_of_emission(step, y_parts, y_forms))
        targets = [*entered.nodes, *entered.x_nodes]
        # Also from what no cotangent came for: what is closed over must all be seen again.
        met, strays = walk_back([part._node for part in [*parts, *y_parts] if part._node], set(targets), floor)
        course.compare(step, met)
        for stray in strays:
            if stray in proxies:
                self.met.add(stray)
            elif stray.sequence < course.start and stray not in course.closures:
                raise came_out_otherwise(course, f"step {step} used a value made at {location(stray)}, as never before")
        led_through(met, proxies)
        seeds = [(proxies.get(node, node), bar) for node, bar in seeds if node is not None]
        self.masked = self.masked or any([node.primitive.masks for node in met])
        found = swept_between(seeds, [*targets, *proxies.values()], strays, traced=self.boxed, masked=self.masked)
        self.bars = [None if node is None else found.get(node) for node in entered.nodes]
        for column, node in zip(self.x_bars, entered.x_nodes):
            if column is not None and node in found:
                column.put(course.loop.index(step), found[node])
        for closure, total in self.sums.items():
            if proxies[closure] in found:
                total.add(found[proxies[closure]])

    def _seeds_of_emission(self, step: int, parts: list[Any], forms: list[Any]) -> Iterable[tuple[Node, Any]]:
        course = self.course
        if not any([part._node is not None for part in parts]):
            return
        if forms != course.y_forms:
            raise came_out_otherwise(course, f"what step {step} emitted is followed by other transforms than before")
        i = course.loop.index(step)
        for part, bar, axes in zip(parts, self.y_bars, course.y_axes):
            if part._node is not None and bar is not None:
                yield part._node, bar[(*(_ALL,) * axes, i)]

    def _check(self, step: int, made: list[Any]) -> None:
        """See whether a step that was run again made what it had made before."""
        for i, (new, known) in enumerate(zip(made, self.expected)):
            pairs = list(zip(plain_parts(new), plain_parts(known)))
            if not all([_agree(a, b) for a, b in pairs]):
                path = self.course.loop.path(i)
                raise came_out_otherwise(self.course, f"{path} had another value after step {step}")


def _agree(a: Any, b: Any) -> bool:
    """Return whether two arrays are equal, where NaN equals itself."""
    if np.shape(a) != np.shape(b):
        return False
    if np.array_equal(a, b):
        return True
    return np.asarray(a).dtype.kind in "fc" and np.array_equal(a, b, equal_nan=True)


def came_out_otherwise(course: Course, what: str) -> GradientError:
    """Return the error for steps that were run again and did something else."""
    loop = course.loop
    return GradientError(
        f"{loop.name}: the steps of {loop.described} were run again for the gradient and came out otherwise: {what}. "
        "It reads something that has changed meanwhile (a variable that was bound anew, a Tensor written in place, "
        "numpy.random, a file) or changes what it reads. Carry that along, draw from wg.random, or pass "
        "checkpoints=None, which keeps the tape of every step and runs nothing again"
    )


class _Sum:
    """A sum of cotangents: its buffer is its own from the second one on."""

    __slots__ = ("_owned", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self._owned = False

    def add(self, bar: Any) -> None:
        """Add a cotangent."""
        if self.value is None:
            self.value = bar
        elif isinstance(bar, boxing.Tensor):
            self.value = added(self.value, bar)
        elif self._owned and isinstance(self.value, np.ndarray):
            self.value += bar
        else:
            self.value, self._owned = self.value + bar, True


class _Column:
    """The cotangent of what was read entry by entry."""

    __slots__ = ("_axes", "_boxed", "_entries", "_part", "_whole")

    def __init__(self, part: Any, axes: int, boxed: bool) -> None:
        self._part = part
        self._axes = axes
        self._boxed = boxed
        self._entries: dict[int, Any] = {}
        self._whole: Any = None if boxed else np.zeros(part.shape, part.dtype)

    def put(self, i: int, bar: Any) -> None:
        """Take the cotangent of one entry."""
        if self._boxed:
            self._entries[i] = bar
        else:
            self._whole[(*(_ALL,) * self._axes, i)] = bar

    def whole(self) -> Any:
        """Return all of it; None if nothing has arrived."""
        if not self._boxed:
            return self._whole
        if not self._entries:
            return None
        shape = self._part.shape
        zero = zeros_for(shape[: self._axes] + shape[self._axes + 1 :], self._part.dtype)
        return boxing.operations.stack([self._entries.get(i, zero) for i in range(shape[self._axes])], axis=self._axes)


# ---------------------------------------------------------------------- for derivatives of the gradient


def pull_by_unrolling(course: Course, node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
    """Return the cotangents of a loop's inputs as Tensors on the tape: the loop is run again and recorded as it is."""
    loop, level, whole = course.loop, course.level or 0, node.whole
    before = streams.states()
    floor = next_sequence()
    proxies = {closure: argument_node(closure, closure) for closure in course.closures}
    try:
        streams.rewind(course.kept[0].streams)
        with as_leaves(course.closures), _scene(course, True):
            inputs = iter(whole.inputs)
            init, init_nodes = _hung(course, course.kept[0].leaves, level, inputs)
            xs, x_nodes = _hung(course, loop.xs, level, inputs)
            leaves, ys, steps = unrolled(loop, init, xs, course.compared)
    finally:
        streams.rewind(before)
    if steps != course.steps:
        raise came_out_otherwise(course, f"it took {steps} steps instead of {course.steps}")
    parts, _ = apart([*leaves, *ys], level)
    seeds = [
        (part._node, out_bar.bars[i]) for i, part in enumerate(parts) if part._node is not None and i in out_bar.bars
    ]
    targets = [*init_nodes, *x_nodes]
    met, strays = walk_back([node for node, _ in seeds], targets, floor)
    led_through(met, proxies)
    seeds = [(proxies.get(node, node), bar) for node, bar in seeds if node is not None]
    found = swept_between(seeds, [*targets, *proxies.values()], strays, retain=True, tracked=True, masked=masked)
    entries = [*targets, *[proxies[closure] for closure in course.closures]]
    return tuple([None if entry is None else found.get(entry) for entry in entries])


def _hung(course: Course, values: list[Any], level: int, inputs: Any) -> tuple[list[Any], list[Node | None]]:
    """Return values whose parts hang on the Nodes of a loop's inputs, and these parts' own Nodes."""
    parts, forms = apart(values, level)
    outer = [next(inputs) for _ in parts]
    nodes = [None if node is None else argument_node(node, part) for node, part in zip(outer, parts)]
    return together(forms, course.on_nodes(parts, nodes)), nodes


__all__ = ["Stage", "Unfit", "came_out_otherwise", "pull_by_replay", "pull_by_unrolling"]
