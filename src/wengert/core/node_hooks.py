"""Hooks on Nodes: before an operation's derivative is pulled back, and after; and what lasts for one sweep.

As hooks on values do (`core.tape`), they put a stand-in into the Node's `primitive`, so the sweep has no test for them.
"""

# The slots of Tensor and the stand-ins of the tape are this layer's business.
# pyright: reportPrivateUsage=false

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from itertools import count
from typing import Any

from ..errors import GradientError
from . import boxing
from .primitive import Primitive
from .tape import FREED, PROJECTION, Leaf, Node, StandIn, _Hooked, is_freed, location
from .vspace import OutputBars, densify

Hooks = dict[int, Callable[..., Any]]


class RemovableHandle:
    """What registering a hook returns: `remove()` takes the hook away again; a `with` block does so at its end."""

    __slots__ = ("_hooks", "_key")
    _next_key = count().__next__

    def __init__(self, hooks: Hooks, hook: Callable[..., Any]) -> None:
        self._hooks = hooks
        self._key = RemovableHandle._next_key()
        hooks[self._key] = hook

    def remove(self) -> None:
        """Take the hook away; doing so twice is harmless."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.remove()


class GradientNode:
    """The operation on the tape that made a Tensor, for hooks and for looking around; what `Tensor.grad_fn` returns.

    Two of them are equal if they stand for the same operation.

    >>> import wengert as wg
    >>> x = wg.tensor(2.0, requires_grad=True)
    >>> y = wg.sin(x * 3.0)
    >>> y.grad_fn.name, [node.name for node in y.grad_fn.inputs]
    ('sin', ['multiply'])
    """

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def name(self) -> str:
        """The name of the operation; "freed" once a sweep has freed the tape here."""
        return "freed" if is_freed(self._node) else self._node.primitive.name

    @property
    def made_at(self) -> str:
        """The line that made the value, as "file:line"."""
        return location(self._node)

    @property
    def inputs(self) -> tuple[GradientNode | None, ...]:
        """The operations that made the inputs; None for leaves, and for inputs that are not on the tape."""
        return tuple([gradient_node(node) for node in self._node.inputs])

    def register_prehook(self, hook: Callable[[tuple[Any, ...]], Any]) -> RemovableHandle:
        """Call `hook(grad_outputs)` before a sweep pulls back through the operation.

        Args:
            hook: takes a tuple of the gradients of the operation's outputs, None where nothing arrived; it may return a
                tuple of as many, of the same shapes and dtypes, in their place. None in it leaves a gradient as it is.

        Raises:
            GradientError: the tape was freed here; or (from the sweep) what the hook returned does not fit.

        >>> import wengert as wg
        >>> x = wg.tensor(2.0, requires_grad=True)
        >>> y = x * 3.0
        >>> handle = y.grad_fn.register_prehook(lambda grad_outputs: (grad_outputs[0] * 10,))
        >>> y.backward(); x.grad.item()
        30.0
        """
        return RemovableHandle(_hooks_on(self._node, "register_prehook").before, hook)

    def register_hook(self, hook: Callable[[tuple[Any, ...], tuple[Any, ...]], Any]) -> RemovableHandle:
        """Call `hook(grad_inputs, grad_outputs)` after a sweep has pulled back through the operation.

        Args:
            hook: takes a tuple of gradients for each input (None for those that are not on the tape or not wanted) and
                one for each output; it may return a tuple like the first, of the same shapes and dtypes, in its place.
                None in it leaves a gradient as it is.

        Raises:
            GradientError: the tape was freed here; or (from the sweep) what the hook returned does not fit.

        >>> import wengert as wg
        >>> x = wg.tensor(2.0, requires_grad=True)
        >>> y = x * 3.0
        >>> handle = y.grad_fn.register_hook(lambda grad_inputs, grad_outputs: print(grad_inputs, grad_outputs))
        >>> y.backward()
        (Tensor(3., dtype=float32), None) (Tensor(1., dtype=float32),)
        """
        return RemovableHandle(_hooks_on(self._node, "register_hook").after, hook)

    def __eq__(self, other: object) -> bool:
        return self._node is other._node if isinstance(other, GradientNode) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._node)

    def __repr__(self) -> str:
        return f"<GradientNode {self.name} made at {self.made_at}>"


def is_tracked(node: Any) -> bool:
    """Return whether there is a Node at all."""
    return node is not None


def is_end(node: Any) -> bool:
    """Return whether a Tensor with this Node, or without one, was not computed from anything tracked."""
    return node is None or isinstance(node, Leaf)


def gradient_node(node: Node | None) -> GradientNode | None:
    """Return the handle on a Node; None for leaves. Outputs of one operation share the handle on that."""
    if node is None or isinstance(node, Leaf):
        return None
    primitive = node.primitive
    while type(primitive) is not Primitive:
        primitive = primitive.primitive
    if primitive is PROJECTION and node.inputs:
        whole: Any = node.inputs[0]
        return GradientNode(whole)
    return GradientNode(node)


class _NodeHooked(StandIn):
    """Stands in while hooks are registered on a Node."""

    __slots__ = ("after", "before")
    masks = True  # a hook may put zeros into a cotangent
    pull_in_place = None

    def __init__(self, primitive: Any) -> None:
        super().__init__(primitive)
        self.before: Hooks = {}
        self.after: Hooks = {}

    def pull(self, node: Any, out_bar: Any) -> tuple[Any, ...]:
        primitive = self.primitive
        return self._pulled(node, out_bar, False, primitive.pull_masked if self.before else primitive.pull)

    def pull_masked(self, node: Any, out_bar: Any) -> tuple[Any, ...]:
        return self._pulled(node, out_bar, False, self.primitive.pull_masked)

    def pull_tracked(self, node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
        return self._pulled(node, out_bar, True, self.primitive.pull_tracked, masked or bool(self.before))

    def _pulled(self, node: Any, out_bar: Any, tracked: bool, pull: Callable[..., Any], *masked: bool) -> Any:
        outs = _boxed_outputs(node, out_bar)
        arrived = outs
        for hook in list(self.before.values()):
            outs = _replaced(outs, hook(outs), _likes_of_outputs(node), node, "a prehook", "outputs")
        if outs is not arrived:
            out_bar = _gathered(outs, out_bar, tracked)
        bars = pull(node, out_bar, *masked)
        if not self.after:
            return bars
        ins: tuple[Any, ...] = tuple([None if bar is None else _boxed(bar) for bar in bars])
        likes = [None if parent is None else (parent.shape, parent.dtype) for parent in node.inputs]
        for hook in list(self.after.values()):
            ins = _replaced(ins, hook(ins, outs), likes, node, "a hook", "inputs")
        return tuple([bar if bar is None or tracked else boxing.data_of(bar) for bar in ins])


def _boxed(bar: Any) -> Any:
    bar = densify(bar)
    return bar if isinstance(bar, boxing.Tensor) else boxing.box(bar)


def _boxed_outputs(node: Any, out_bar: Any) -> tuple[Any, ...]:
    if type(out_bar) is not OutputBars:
        return (_boxed(out_bar),)
    bars = out_bar.bars
    return tuple([_boxed(bars[i]) if i in bars else None for i in range(len(node.shape))])


def _likes_of_outputs(node: Any) -> list[Any]:
    return list(zip(node.shape, node.dtype)) if node.primitive.multiple else [(node.shape, node.dtype)]


def _gathered(outs: tuple[Any, ...], out_bar: Any, tracked: bool) -> Any:
    bars = {i: bar if tracked else boxing.data_of(bar) for i, bar in enumerate(outs) if bar is not None}
    return OutputBars(bars) if type(out_bar) is OutputBars else bars[0]


def _replaced(
    bars: tuple[Any, ...], answer: Any, likes: Sequence[Any], node: Any, hook: str, side: str
) -> tuple[Any, ...]:
    """Return the gradients with those in their place that a hook has returned, once these are found to fit."""
    if answer is None:
        return bars
    where = f"{node.primitive.name} (whose value was made at {location(getattr(node, 'whole', node))})"
    if isinstance(answer, boxing.Tensor) and len(bars) == 1:
        answer = (answer,)
    given: Any = answer
    if not isinstance(given, (tuple, list)) or len(given) != len(bars):
        what = f"{len(given)} gradients" if isinstance(given, (tuple, list)) else type(given).__name__
        raise GradientError(f"{hook} on {where} returned {what}; it must return None or a tuple of {len(bars)}")
    chosen: list[Any] = []
    for i, (bar, new, like) in enumerate(zip(bars, given, likes)):
        if new is None:
            chosen.append(bar)
            continue
        if like is None:
            raise GradientError(f"{hook} on {where} returned a gradient for {side}[{i}], where None is expected")
        if not isinstance(new, boxing.Tensor):
            new = boxing.operations.tensor(new)
        if new.shape != like[0] or new.dtype != like[1]:
            raise GradientError(
                f"{hook} on {where} returned, for {side}[{i}], a gradient of shape {new.shape} and dtype {new.dtype}; "
                f"it needs shape {like[0]} and dtype {like[1]}"
            )
        chosen.append(new)
    return tuple(chosen)


def _hooks_on(node: Node, name: str) -> _NodeHooked:
    holder: Any = node
    while type(holder.primitive) is _Hooked:
        holder = holder.primitive
    if holder.primitive is FREED:
        raise GradientError(
            f"{name}: the tape was freed here by an earlier sweep (the value was made at {location(node)}), so no "
            "gradient will pass again; register hooks before backward(), or keep the tape with retain_graph=True"
        )
    if type(holder.primitive) is not _NodeHooked:
        holder.primitive = _NodeHooked(holder.primitive)
    return holder.primitive


# ---------------------------------------------------------------------- what lasts for one sweep

per_sweep: ContextVar[dict[Any, Any] | None] = ContextVar("wengert_per_sweep", default=None)
"""What hooks that belong together have gathered in the sweep under way; its end calls `finish()` of each value."""


def finish_sweep() -> None:
    """Tell those who have gathered something in this sweep that it has met everything."""
    gathered = per_sweep.get()
    if gathered:
        for state in list(gathered.values()):
            state.finish()


__all__ = ["GradientNode", "RemovableHandle", "finish_sweep", "gradient_node", "is_end", "is_tracked", "per_sweep"]
