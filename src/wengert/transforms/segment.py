"""A stretch of the tape whose residuals are computed again when a sweep needs them.

While the function runs for the first time, its Segment is the Packer in force: of every operation that is recorded it
notes the primitive, and keeps a Placeholder in place of the residuals. The first Placeholder that a sweep reads makes
the Segment run the function again, on Tensors over the same values, under a Packer that hands the residuals of the
i-th operation to the i-th Placeholder. As a sweep meets the younger Nodes first, reading one lets those behind it go.

Arguments are kept by an entry Node of the Segment, which is recorded under the Packer around it: hooks of the user's
see them, and a checkpoint around this one drops and recomputes them like any other residual.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import Context, copy_context
from functools import cache
from typing import Any

import numpy as np

from ..core import boxing, capturing, native, pytree, streams
from ..core.dispatch import here
from ..core.primitive import Primitive
from ..core.recording import observers, set_observers, set_recording
from ..core.step_sweeps import as_leaves
from ..core.tape import Node, argument_node, location, make_node, next_sequence
from ..core.tracing import is_tracer, open_traces, plain_parts, snapshot
from ..core.watching import lent_leaves
from ..declare import packing
from ..declare.packing import Packed, Packer, belongs_to_leaf, map_arrays, without_spares
from ..errors import GradientError, RecomputationError
from .fingerprint import fingerprint


@contextmanager
def _traces_reopened() -> Iterator[None]:
    """Open the traces again that were open at the first run, where their transforms have ended since."""
    with ExitStack() as stack:
        for trace in open_traces():
            if not trace.is_open:
                stack.enter_context(trace)
        yield


def _not_pulled(node: Node, *_rest: Any) -> tuple[Any, ...]:
    raise GradientError(
        "a gradient was asked for through a value that was made while a checkpoint ran its function again: a value "
        f"of shape {node.shape} that the function has put somewhere outside. Return what is needed from the function"
    )


def _marker(name: str) -> Primitive:
    primitive = Primitive(name, "projection", _not_pulled)
    primitive.pull = primitive.pull_masked = primitive.pull_tracked = _not_pulled
    primitive.arguments = primitive.residuals = ("arguments",)
    primitive.variadic = True
    return primitive


ENTRY = _marker("checkpoint")
SPENT = _marker("an argument of a function that was run again")


class _Argument:
    """In the place of a residual that is an argument of the function."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class _Dropped:
    """In the place of a residual that must be computed again."""

    __slots__ = ("code", "dtype", "shape")

    def __init__(self, array: Any, check: bool) -> None:
        self.shape = array.shape
        self.dtype = array.dtype
        self.code = _code(array) if check else None


def _code(value: Any) -> tuple[int, ...]:
    return tuple([fingerprint(part) for part in plain_parts(value) if isinstance(part, (np.ndarray, np.generic))])


class Placeholder(Packed):
    """What a Node of the Segment keeps: residuals with gaps, and what fills them for the time between."""

    __slots__ = ("__weakref__", "index", "kept", "node", "segment", "values")

    def __init__(self, segment: Segment, index: int, node: Node, kept: Any, values: Any) -> None:
        self.segment = segment
        self.index = index
        self.node = weakref.ref(node)
        self.kept = kept
        self.values = values

    def unpacked(self, node: Node) -> Any:
        """Return the residuals, running the function again if they have been dropped."""
        return self.segment.read(self)


def _is_gap(kept: Any) -> bool:
    return any(map(_is_gap, kept)) if type(kept) is tuple else type(kept) is _Dropped


def _filled(kept: Any, values: Any, arguments: Callable[[], Any]) -> Any:
    if type(kept) is tuple:
        rest = values if values is not None else (None,) * len(kept)
        return tuple([_filled(one, other, arguments) for one, other in zip(kept, rest)])
    if type(kept) is _Argument:
        return arguments()[kept.index]  # whoever packs them unpacks them all at once
    return values if type(kept) is _Dropped else kept


class Run:
    """A function and its arguments, taken apart so that it can be called again on the same values.

    Attributes:
        arrays: values of Tensors and arrays among the arguments, until the first run has ended.
        nodes: the Nodes that the arguments had.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.function = function
        self.name = f"{getattr(function, '__name__', type(function).__name__)}()"
        leaves, self._structure = pytree.flatten((args, kwargs))
        self.arrays: list[Any] = []
        self.nodes: set[Node] = set()
        self._places: list[tuple[str, Any, bool, Node | None]] = []
        known: dict[int, int] = {}
        for leaf in leaves:
            kind, value = _kind_and_value(leaf)
            tracked = kind == "tensor" and leaf._node is not None
            if kind == "tensor":
                self.nodes.update(_nodes_of(leaf))
            if kind != "other":
                index = known.setdefault(id(leaf), len(self.arrays))
                if index == len(self.arrays):
                    self.arrays.append(value)
                value = index
            outer = leaf._node if tracked and open_traces() and type(leaf) is boxing.Tensor else None
            self._places.append((kind, value, tracked, outer))

    def generators(self) -> list[Any]:
        """Return the random generators among the arguments."""
        return [value for kind, value, *_ in self._places if kind == "other" and streams.is_stream(value)]

    def fresh_arguments(self, arrays: Sequence[Any], nodes: list[Node]) -> tuple[Any, Any]:
        """Return (args, kwargs) over the given values; note down the Nodes of those that were tracked."""
        made: dict[int, Any] = {}
        leaves: list[Any] = []
        for kind, value, tracked, outer in self._places:
            if kind == "other":
                leaves.append(value)
                continue
            if value not in made:
                made[value] = _fresh(kind, arrays[value], tracked, outer, nodes)
            leaves.append(made[value])
        return self._structure.unflatten(leaves)


def _kind_and_value(leaf: Any) -> tuple[str, Any]:
    if capturing.engaged and isinstance(leaf, boxing.Tensor):
        leaf = capturing.as_read(leaf)
    if type(leaf) is boxing.Tensor:
        return "tensor", leaf._data
    if type(leaf) is boxing.BorrowedTensor:
        return "tensor", np.array(boxing.data_of(leaf))
    if isinstance(leaf, boxing.Tensor):
        return "tensor", snapshot(leaf, keep_node=False)
    return ("array", leaf.copy()) if isinstance(leaf, np.ndarray) else ("other", leaf)


def _fresh(kind: str, data: Any, tracked: bool, outer: Node | None, nodes: list[Node]) -> Any:
    """Return an argument for the second run.

    Where transforms are at work, its residuals may be differentiated further out, so that it hangs on what it came of.
    """
    if kind == "array":
        return data.copy()
    node = argument_node(outer, data) if tracked else None
    if node is not None:
        nodes.append(node)
    return boxing.with_node(data, node) if isinstance(data, boxing.Tensor) else boxing.box(data, node)


class Segment(Packer):
    """One run of a checkpointed function, and what it takes to run it again."""

    def __init__(self, run: Run, preserve: bool, generators: Sequence[Any], check: bool) -> None:
        self._run = run
        self._check = check
        self._states = streams.states([*generators, *run.generators()]) if preserve else None
        self._programs = 0 if open_traces() else native.mark()
        self._primitives: list[Any] = []
        self._slots: list[weakref.ref[Placeholder] | None] = []
        self._full: list[int] = []
        self._closures: dict[Node, None] = {}
        self._writes: list[Node] = []
        self._lock = threading.RLock()
        self._open = True
        self._busy = False
        self._context = _context()
        self._start = next_sequence()
        self._end = self._start
        self._entry = make_node(ENTRY, (), (tuple(run.arrays),), np.zeros(()), {})
        self._ids = {id(array): i for i, array in enumerate(run.arrays)}

    # ------------------------------------------------------------------ the first run

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function for the first time."""
        packing.enter(self)
        try:
            with native.as_of(self._programs):
                out = self._run.function(*args, **kwargs)
        finally:
            packing.leave()
        # Operations without residuals are not met here, so that it is not known which leaves they took.
        self._closures.update(dict.fromkeys([leaf for leaf in lent_leaves() if leaf not in self._run.nodes]))
        self._close()
        return out

    def pack(self, node: Node, saved: tuple[Any, ...]) -> Any:
        """Keep a Placeholder in the place of residuals; what it stands for stays until the first run has ended."""
        index = len(self._primitives)
        self._primitives.append(node.primitive)
        self._slots.append(None)
        for parent in node.inputs:
            if parent is not None and parent.sequence < self._start and parent not in self._run.nodes:
                self._closures[parent] = None
        if self._is_write(node) and _writes_to_older(node, self._start) and node.inputs[0] not in self._run.nodes:
            self._writes.append(node)
        values = without_spares(saved)

        def keep(array: Any) -> Any:
            if id(array) in self._ids:
                return _Argument(self._ids[id(array)])
            if isinstance(array, np.generic) or belongs_to_leaf(array, node):
                return array
            return _Dropped(array, self._check)

        kept = map_arrays(keep, values)
        if not any([one is not other for one, other in zip(kept, values)]):
            return saved
        placeholder = Placeholder(self, index, node, kept, values)
        self._slots[index] = weakref.ref(placeholder)
        return placeholder

    @staticmethod
    def _is_write(node: Node) -> bool:
        return node.primitive is boxing.operations.write_region.primitive

    def _close(self) -> None:
        self._open = False
        self._end = next_sequence()
        self._ids = {}
        self._run.arrays, self._run.nodes = [], set()
        for reference in self._slots:
            placeholder = None if reference is None else reference()
            if placeholder is not None:
                placeholder.values = None
        if self._writes:
            raise GradientError(
                f"checkpoint: {self._run.name} writes, at {location(self._writes[0])}, into a Tensor on the tape that "
                "was not given as an argument; running it again would write once more. Pass the Tensor as an argument "
                "(one that is no view of another), or return the new values and write them outside"
            )

    # ------------------------------------------------------------------ sweeps

    def read(self, placeholder: Placeholder) -> Any:
        """Return what a Placeholder stands for, and let go of what is further on in the Segment."""
        with self._lock:
            if not self._open:
                if placeholder.values is None and _is_gap(placeholder.kept):
                    self._recompute()
                self._release(placeholder.index)
            return _filled(placeholder.kept, placeholder.values, cache(self._arguments))

    def _arguments(self) -> Any:
        return self._entry.saved[0]

    def _release(self, index: int) -> None:
        """Let go of what Placeholders behind this one hold."""
        while self._full and self._full[-1] > index:
            self._clear(self._full.pop())

    def _clear(self, index: int) -> None:
        reference = self._slots[index]
        placeholder = None if reference is None else reference()
        if placeholder is not None:
            placeholder.values = None

    def _recompute(self) -> None:
        if self._busy:
            raise RecomputationError(
                f"checkpoint: {self._run.name}, run again, asks for a gradient through values of its own first run, "
                "which it has put somewhere outside; a checkpointed function must keep such things to itself"
            )
        self._busy = True
        self._release(-1)
        try:
            self._context.copy().run(self._run_again)
        except BaseException:
            self._release(-1)
            raise
        finally:
            self._busy = False

    def _run_again(self) -> None:
        arrays, nodes = self._arguments(), list[Node]()
        recorder = _Recorder(self)
        args, kwargs = self._run.fresh_arguments(arrays, nodes)
        recorder.own.update(nodes)
        for leaf in pytree.flatten((args, kwargs))[0]:
            if is_tracer(leaf):
                recorder.own.update(_nodes_of(leaf))
        present = None if self._states is None else streams.states([generator for generator, _ in self._states])
        try:
            if self._states is not None:
                streams.rewind(self._states)
            set_recording(True)
            scene = _traces_reopened(), native.as_of(self._programs), as_leaves(self._closures)
            with np.errstate(all="ignore"), scene[0], scene[1], scene[2]:
                packing.enter(recorder)  # what leaves and their views are made of again is not the function's
                try:
                    self._run.function(*args, **kwargs)
                finally:
                    packing.leave()
        except Exception as error:
            if not isinstance(error, RecomputationError):
                error.add_note(f"while a checkpoint ran {self._run.name}, called at {location(self._entry)}, again")
            raise
        finally:
            if present is not None:
                streams.rewind(present)
            for node in nodes:
                if not node.inputs:
                    node.primitive = SPENT
        recorder.finish()

    def differs(self, what: str) -> RecomputationError:
        """Return the error that says how a second run differs from the first."""
        return RecomputationError(
            f"checkpoint: {self._run.name}, called at {location(self._entry)}, did something else when it was run "
            f"again: {what}. It depends on something that has changed in between: a Tensor, an array or a variable "
            "outside of it, or random numbers other than wg.random's (hand their generators over: "
            "checkpoint(..., generators=[...])). Make what it depends on its arguments"
        )

    def place(self, index: int) -> str:
        """Return where the first run made the value of one of its operations."""
        reference = self._slots[index]
        placeholder = None if reference is None else reference()
        node = None if placeholder is None else placeholder.node()
        return "" if node is None else f" at {location(node)}"


class _Recorder(Packer):
    """The Packer of a second run: hands residuals to the Placeholders, after having compared them."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._start = next_sequence()
        self._position = 0
        self.own: set[Node] = set()

    def pack(self, node: Node, saved: tuple[Any, ...]) -> Any:
        """Note the residuals; the Node itself keeps them as they are."""
        segment, index = self._segment, self._position
        self._position += 1
        name = node.primitive.name
        if index >= len(segment._primitives):
            raise segment.differs(
                f"it has recorded {index} operations the first time, and now one more, {name} at {here()}"
            )
        first = segment._primitives[index]
        if node.primitive is not first:
            raise segment.differs(
                f"where it had recorded {first.name}{segment.place(index)}, it has now recorded {name} at {here()}"
            )
        self._refuse_leftovers(node)
        reference = segment._slots[index]
        placeholder = None if reference is None else reference()
        if placeholder is not None and _is_gap(placeholder.kept):
            values = without_spares(saved)
            self._compare(placeholder.kept, values, index, name)
            placeholder.values = values
            segment._full.append(index)
        return saved

    def _refuse_leftovers(self, node: Node) -> None:
        """Refuse to go on from what the first run has left behind, and to write to what is outside of this one."""
        segment = self._segment
        for parent in node.inputs:
            if parent is not None and segment._start <= parent.sequence < segment._end:
                raise segment.differs(
                    f"{node.primitive.name} at {here()} takes a value that its first run has left, the one made at "
                    f"{location(parent)}"
                )
        if segment._is_write(node) and _writes_to_older(node, self._start) and node.inputs[0] not in self.own:
            raise segment.differs(f"it writes, at {here()}, into a Tensor on the tape that is outside of it")

    def _compare(self, kept: Any, values: Any, index: int, name: str) -> None:
        if type(kept) is tuple:
            if type(values) is not tuple or len(values) != len(kept):
                raise self._other(index, name, "another number of residuals")
            for one, other in zip(kept, values):
                self._compare(one, other, index, name)
        elif type(kept) is _Dropped:
            if getattr(values, "shape", None) != kept.shape or values.dtype != kept.dtype:
                now = f"shape {values.shape} and dtype {values.dtype}" if hasattr(values, "dtype") else "nothing"
                raise self._other(index, name, f"{now} where it had shape {kept.shape} and dtype {kept.dtype}")
            if kept.code is not None and _code(values) != kept.code:
                raise self._other(
                    index, name, "other values (to the bit; where rounding alone may differ, pass check_values=False)"
                )

    def _other(self, index: int, name: str, what: str) -> RecomputationError:
        return self._segment.differs(f"{name}, whose value was made{self._segment.place(index)}, now has saved {what}")

    def finish(self) -> None:
        """Refuse a run that recorded fewer operations."""
        segment = self._segment
        if self._position < len(segment._primitives):
            raise segment.differs(
                f"it had recorded {len(segment._primitives)} operations, and has now recorded {self._position}: "
                f"{segment._primitives[self._position].name}{segment.place(self._position)} is missing"
            )


def _nodes_of(tensor: Any) -> Iterator[Node]:
    """Yield the Nodes of a Tensor, on every level where it is on a tape."""
    if tensor._node is not None:
        yield tensor._node
    if is_tracer(tensor):
        for part in tensor._state.parts():
            yield from _nodes_of(part)


def _writes_to_older(node: Node, start: int) -> bool:
    root = node.inputs[0]
    return root is not None and root.sequence < start


def _context() -> Context:
    """Return what holds here, for a later run; transforms at work now are counted, not kept alive."""
    context = copy_context()
    context.run(set_observers, tuple([None for _ in observers()]))
    return context


__all__ = ["Placeholder", "Run", "Segment"]
