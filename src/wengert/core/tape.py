"""The tape and the one reverse sweep.

A Node stands for the value that an operation produced. Nodes point to the Nodes of their inputs, never forwards, and
carry a sequence number, so the sweep needs no sort and no recursion: it takes the youngest pending Node from a heap.
Nothing here knows a Tensor from the inside, or any operation by name.
"""

# The slots of Tensor and the frames of the interpreter are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from heapq import heappop, heappush
from itertools import count, islice
from os.path import dirname
from types import CodeType, FrameType
from typing import Any

import numpy as np

from ..errors import GradientError
from . import boxing, native
from .primitive import Primitive
from .vspace import Accumulator, OutputBars, Scatter, added, densify, settle

next_sequence: Callable[[], int] = count(1).__next__
_files: dict[str, bool] = {}
"""Whether source files belong to this package: what `user_frame` asks of every frame that it passes."""
PACKAGE = dirname(dirname(__file__)) + os.sep  # noqa: PTH120 - importing pathlib would take 3 ms


class Node:
    """One entry of the tape: the primitive, the Nodes of its inputs, and what its rules need.

    `code` and `instruction` say which line of whose code made the value; they are resolved only when asked for.
    """

    __slots__ = (
        "__weakref__",
        "code",
        "dtype",
        "inputs",
        "instruction",
        "params",
        "primitive",
        "saved",
        "sequence",
        "shape",
    )
    code: CodeType
    instruction: int
    dtype: Any
    shape: tuple[int, ...]
    inputs: tuple[Node | None, ...]
    params: dict[str, Any]
    primitive: Any
    saved: Any
    sequence: int

    recorded = True
    """Whether what a rule computes from the Node's residuals belongs on the same tape; see `Unrecorded`."""

    @property
    def whole(self) -> Node:
        """The Node itself; see `Narrowed`."""
        return self

    def __repr__(self) -> str:
        name = "leaf" if self.primitive is None else self.primitive.name
        return f"<Node {self.sequence}: {name} {self.shape} made at {location(self)}>"


class Leaf(Node):
    """A Node without an operation: gradients end here. It refers to its Tensor weakly, so that no cycle arises."""

    __slots__ = ("after_accumulate", "hooks", "tensor_reference")
    tensor_reference: Callable[[], Any]
    hooks: dict[int, Callable[[Any], Any]] | None
    after_accumulate: dict[int, Callable[[Any], None]] | None

    def __init__(self, tensor: Any, data: Any, frame: FrameType) -> None:
        self.primitive = None
        self.inputs = ()
        self.saved = ()
        self.shape = data.shape
        self.dtype = data.dtype
        self.sequence = next_sequence()
        self.hooks = None
        self.after_accumulate = None
        self.tensor_reference = weakref.ref(tensor)
        frame = user_frame(frame)
        self.code = frame.f_code
        self.instruction = frame.f_lasti


class Narrowed(Node):
    """What a pull is shown of a Node, `whole`, if cotangents of some inputs are not wanted: None in their place.

    Residuals still hang where the values did, so a rule that boxes them looks at `whole`.
    """

    __slots__ = ("original",)
    original: Node

    def __init__(self, node: Node, inputs: tuple[Node | None, ...]) -> None:
        self.original = node
        self.inputs = inputs
        if type(node) is Node:  # packed residuals are unpacked no sooner than they are read
            self.saved = node.saved
        self.shape = node.shape
        self.dtype = node.dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)  # slots that are not set here

    @property
    def whole(self) -> Node:
        """The Node that this one stands for."""
        return self.original


class Unrecorded(Narrowed):
    """What a rule is shown of a Node in a sweep over Tensors that is not to be recorded on the Node's own tape."""

    __slots__ = ()
    recorded = False


def user_frame(frame: FrameType) -> FrameType:
    """Return the innermost frame at or above `frame` that does not belong to this package."""
    here: FrameType | None = frame
    while here is not None:
        file = here.f_code.co_filename
        inside = _files.get(file)
        if inside is None:
            inside = _files[file] = file.startswith(PACKAGE)
        if not inside:
            return here
        here = here.f_back
    return frame


def location(node: Any) -> str:
    """Return "file:line" of the code that made the value of a Node, or of a tracer's state."""
    try:
        code, instruction = node.code, node.instruction
    except AttributeError:
        return "an unknown line"
    known = _locations.get((id(code), instruction))
    if known is not None and known[0] is code:
        return known[1]
    positions: Iterable[tuple[int | None, ...]] = code.co_positions()
    position = next(islice(positions, max(instruction // 2, 0), None), None)
    if position is None:
        return "an unknown line"
    line = code.co_firstlineno if position[0] is None else position[0]
    if len(_locations) >= _MOST_LOCATIONS:
        _locations.clear()
    text = f"{code.co_filename}:{line}"
    _locations[id(code), instruction] = code, text
    return text


_locations: dict[tuple[int, int], tuple[CodeType, str]] = {}
"""What was asked for before, as the steps of a loop come from the same lines."""
_MOST_LOCATIONS = 1024


Entry: type[Node] = Node
"""The class of the Nodes that are made; `declare.packing` puts its own here while residuals are packed somewhere."""


def make_node(primitive: Primitive, inputs: tuple[Node | None, ...], saved: Any, out: Any, params: Any) -> Node:
    """Record one operation (the general path; the fast paths of `declare.fastpath` do the same inline)."""
    node = Entry()
    node.primitive = primitive
    node.inputs = inputs
    node.saved = saved
    node.params = params
    node.shape = out.shape
    node.dtype = out.dtype
    node.sequence = next_sequence()
    frame = user_frame(sys._getframe(2))
    node.code = frame.f_code
    node.instruction = frame.f_lasti
    return node


def _freed(node: Node, out_bar: Any, masked: bool = False) -> tuple[Any, ...]:
    raise GradientError(
        f"backward ran a second time through a tape that was already freed: the value made at {location(node)} has "
        "given up what its derivative needs. Pass retain_graph=True to the earlier backward() or grad() if the same "
        "computation must be differentiated again, or recompute the value, or detach() it if it is meant as a constant"
    )


FREED = Primitive("a freed operation", "freed", _freed)
FREED.pull = FREED.pull_masked = FREED.pull_tracked = _freed


def _project_pull(node: Node, out_bar: Any, masked: bool = False) -> tuple[Any, ...]:
    return (OutputBars({node.saved: out_bar}),)


PROJECTION = Primitive("output", "projection", _freed)
PROJECTION.pull = PROJECTION.pull_masked = PROJECTION.pull_tracked = _project_pull


_projections: weakref.WeakValueDictionary[tuple[int, int], Node] = weakref.WeakValueDictionary()


def projection(whole: Node, index: int, out: Any) -> Node | None:
    """Return the Node of one output of an operation with several outputs (None for integer outputs).

    There is one at a time: a rule that is recorded hangs on the Node that the user's Tensor has.
    """
    if out.dtype.kind not in "fc":
        return None
    known = _projections.get((whole.sequence, index))
    if known is not None:
        return known
    node = _projections[(whole.sequence, index)] = Node()
    node.primitive = PROJECTION
    node.inputs = (whole,)
    node.saved = index
    node.params = {}
    node.shape = out.shape
    node.dtype = out.dtype
    node.sequence = next_sequence()
    node.code = whole.code
    node.instruction = whole.instruction
    return node


def _pass_on(node: Node, out_bar: Any, masked: bool = False) -> tuple[Any, ...]:
    return (out_bar,) if node.inputs else ()


ARGUMENT = Primitive("argument", "projection", _freed)
ARGUMENT.pull = ARGUMENT.pull_masked = ARGUMENT.pull_tracked = _pass_on


def argument_node(outer: Node | None, data: Any) -> Node:
    """Return a fresh Node for a value that enters a transformed function; it hangs on the Node of the value outside."""
    return make_node(ARGUMENT, () if outer is None else (outer,), (), data, {})


retained: ContextVar[list[tuple[Node, Any, Any]] | None] = ContextVar("wengert_retained", default=None)
"""Gradients for `retain_grad`, gathered while a sweep runs for `.grad`'s sake, and delivered if all of it succeeds."""


class StandIn:
    """What a Node has in the place of its primitive where more is to be done than to pull; the sweep knows none of it.

    Attributes:
        primitive: what it stands in for, perhaps another one. Whatever isn't said otherwise is that one's.
    """

    __slots__ = ("primitive",)
    takes_accumulators = False

    def __init__(self, primitive: Any) -> None:
        self.primitive = primitive

    def __getattr__(self, name: str) -> Any:
        return getattr(self.primitive, name)


class _Hooked(StandIn):
    """Stands in while hooks are registered on a Node's value."""

    __slots__ = ("hooks", "tensor_reference")
    masks = True  # a hook may put zeros into a cotangent
    pull_in_place = None

    def __init__(self, primitive: Any) -> None:
        super().__init__(primitive)
        self.hooks: dict[int, Callable[[Any], Any]] = {}
        self.tensor_reference: Callable[[], Any] | None = None

    def arrive(self, node: Node, bar: Any) -> Any:
        """Run the hooks on the whole cotangent of the Node's value; note the outcome down if it is to be retained."""
        if self.hooks:
            bar = run_hooks(self.hooks, node, bar)
        if self.tensor_reference is not None and (gathered := retained.get()) is not None:
            tensor = self.tensor_reference()
            if tensor is not None:
                gathered.append((node, tensor, bar))
        return bar

    def pull(self, node: Node, out_bar: Any) -> tuple[Any, ...]:
        return self.primitive.pull(node, self.arrive(node, out_bar))

    def pull_masked(self, node: Node, out_bar: Any) -> tuple[Any, ...]:
        return self.primitive.pull_masked(node, self.arrive(node, out_bar))

    def pull_tracked(self, node: Node, out_bar: Any, masked: bool) -> tuple[Any, ...]:
        return self.primitive.pull_tracked(node, self.arrive(node, out_bar), masked)


def _hooked(node: Node) -> _Hooked:
    if type(node.primitive) is not _Hooked:
        node.primitive = _Hooked(node.primitive)
    return node.primitive


def hooks_of(node: Node) -> dict[int, Callable[[Any], Any]]:
    """Return the (mutable) dict of hooks that see the cotangent of the Node's value, made on first use."""
    if isinstance(node, Leaf):
        if node.hooks is None:
            node.hooks = {}
        return node.hooks
    return _hooked(node).hooks


def retain_gradient(node: Node, tensor: Any) -> None:
    """Let sweeps for `.grad` fill that of `tensor`, the value of an inner Node, with what its hooks have made of it."""
    _hooked(node).tensor_reference = weakref.ref(tensor)


def is_freed(node: Node) -> bool:
    """Return whether an earlier sweep has taken what the Node had saved."""
    primitive = node.primitive
    return primitive is FREED or (type(primitive) is _Hooked and primitive.primitive is FREED)


def run_hooks(hooks: dict[int, Callable[[Any], Any]], node: Node, bar: Any) -> Any:
    """Hand a cotangent to the user's hooks, boxed; a hook may return a replacement of the same shape and dtype."""
    tracked = isinstance(bar, boxing.Tensor)
    current = bar if tracked else boxing.box(densify(bar))
    for hook in list(hooks.values()):
        answer = hook(current)
        if answer is None:
            continue
        if not isinstance(answer, boxing.Tensor):
            answer = boxing.box(np.asarray(answer))
        if answer.shape != node.shape or answer.dtype != node.dtype:
            raise GradientError(
                f"a hook returned a gradient of shape {answer.shape} and dtype {answer.dtype}; the Tensor made at "
                f"{location(node)} needs shape {node.shape} and dtype {node.dtype}"
            )
        current = answer
    return current if tracked else current._data


class Swept:
    """What a sweep found: cotangents of leaves, and of the other Nodes that were asked for."""

    __slots__ = ("leaves", "targets")

    def __init__(self) -> None:
        self.leaves: dict[Any, Any] = {}
        self.targets: dict[Node, Any] = {}


def sweep(
    seeds: Iterable[tuple[Node, Any]],
    *,
    retain: bool = False,
    tracked: bool = False,
    traced: bool = False,
    masked: bool | None = False,
    targets: frozenset[Node] = frozenset(),
    route: Mapping[Node, tuple[Node | None, ...]] | None = None,
) -> Swept:
    """Sweep the tape backwards from the seeded Nodes.

    Args:
        seeds: pairs of a Node and its cotangent (raw arrays; Tensors if `tracked`).
        retain: keep what the Nodes saved, so that another sweep may follow.
        tracked: compute on Tensors, recording, so that the result can be differentiated again.
        traced: compute on Tensors without recording on the tape that is swept: its values, or the seeds, are tracers.
        masked: start with guarded products (a seed holds zeros that must stay zeros); None: guard none at all.
        targets: inner Nodes whose cotangents are wanted too.
        route: the Nodes to pull through, each with its inputs, None for those that lead to nothing wanted (see
            `core.reach`); heeded only with targets. Without it, every Node that is reached is pulled through.

    Returns:
        Cotangents by leaf and by target; nothing is written to any Tensor.
    """
    found, boxed = Swept(), tracked or traced
    if native.met and not tracked:
        found, seeds, masked = native.swept(found, seeds, retain, targets, route, masked, boxed)
    leaves, pending, heap = found.leaves, dict[Node, Any](), list[tuple[int, Node]]()
    for node, bar in seeds:
        _accumulate(node, bar, leaves, pending, heap)
    with np.errstate(all="ignore"), native.sweeping(boxed):
        while heap:
            node = pulled = heappop(heap)[1]
            bar = pending.pop(node)
            primitive = node.primitive
            if type(bar) is Accumulator and (node in targets or not primitive.takes_accumulators):
                bar = bar.dense
            elif type(bar) is Scatter:
                bar = densify(bar)
            if targets:
                if node in targets:
                    if type(primitive) is _Hooked:
                        bar, primitive = primitive.arrive(node, bar), primitive.primitive
                    found.targets[node] = bar
                if route is not None:
                    if (inputs := route.get(node)) is None:
                        continue
                    if inputs is not node.inputs:
                        pulled = Narrowed(node, inputs)
            if boxed:
                bars = _pull_tensors(primitive, pulled, bar, masked, tracked)
            elif masked:
                bars = primitive.pull_masked(pulled, bar)
            else:
                bars = primitive.pull(pulled, bar)
            if masked is False:
                masked = primitive.masks
            for parent, parent_bar in zip(pulled.inputs, bars):
                if parent is None or parent_bar is None:
                    continue
                if parent.primitive is None:
                    known = leaves.get(parent)
                    leaves[parent] = parent_bar if known is None else added(known, parent_bar)
                elif (known := pending.get(parent)) is None:
                    pending[parent] = parent_bar
                    heappush(heap, (-parent.sequence, parent))
                else:
                    pending[parent] = added(known, parent_bar) if boxed else known + parent_bar
            if not retain:
                node.primitive = FREED
                node.saved = None
                if not targets:
                    node.inputs = ()
    return found


def _pull_tensors(primitive: Any, node: Any, bar: Any, masked: bool | None, recorded: bool) -> tuple[Any, ...]:
    if not recorded:
        node = Unrecorded(node.whole, node.inputs)
    in_place = primitive.pull_in_place
    if in_place is not None and type(bar) in (boxing.Tensor, Accumulator):
        return in_place(node, bar)
    return primitive.pull_tracked(node, densify(bar), masked is not None and (masked or primitive.masks))


def _accumulate(node: Node, bar: Any, leaves: dict[Any, Any], pending: dict[Any, Any], heap: list[Any]) -> None:
    if node.primitive is None:
        leaves[node] = leaves[node] + bar if node in leaves else bar
    elif node in pending:
        pending[node] = pending[node] + bar
    else:
        pending[node] = bar
        heappush(heap, (-node.sequence, node))


def finish_leaves(found: Swept) -> None:
    """Densify the cotangents of leaves and run their hooks, in place."""
    for leaf, bar in found.leaves.items():
        bar = densify(bar)
        if leaf.hooks:
            bar = run_hooks(leaf.hooks, leaf, bar)
        found.leaves[leaf] = bar


__all__ = [
    "ARGUMENT",
    "FREED",
    "PROJECTION",
    "Leaf",
    "Narrowed",
    "Node",
    "Swept",
    "Unrecorded",
    "argument_node",
    "finish_leaves",
    "hooks_of",
    "is_freed",
    "location",
    "make_node",
    "next_sequence",
    "projection",
    "retain_gradient",
    "retained",
    "run_hooks",
    "settle",
    "sweep",
    "user_frame",
]
