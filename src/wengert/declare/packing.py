"""Residuals kept in another form: packed when an operation is recorded, unpacked when a sweep needs them.

A Packer is told of everything that the tape is about to keep while it is in force, and says what to keep instead. While
one is in force anywhere, the functions that record make `PackedNode`s; the rest of the time they make plain Nodes, and
know nothing of all this. Which Packer is in force is a matter of the thread (or task): the innermost block decides.

The functions that record set a Node's primitive and inputs before what it saves: a Packer may read those two.
"""

# Residuals are Any, and a tuple of anything is of Unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..core import boxing, tape
from ..core.tape import Leaf, Narrowed, Node, StandIn
from . import fastpath

Force = tuple[Any, Any]
"""A Packer (None: none is in force here), and the Force around it."""

_force: ContextVar[Force | None] = ContextVar("wengert_packer", default=None)


class Packer:
    """Decides what the tape keeps in place of residuals."""

    def pack(self, node: Node, saved: tuple[Any, ...]) -> Any:
        """Return what the Node shall keep: a `Packed`, or the residuals as they are."""
        raise NotImplementedError


class Packed:
    """What a Node keeps in place of its residuals."""

    __slots__ = ()

    def unpacked(self, node: Node) -> tuple[Any, ...]:
        """Return the residuals as they were."""
        raise NotImplementedError


class PackedNode(Node):
    """A Node whose `saved` goes through the Packer in force when it is set, and back again when it is read."""

    __slots__ = ("kept",)
    kept: Any

    @property
    def saved(self) -> Any:  # type: ignore[override]
        """The residuals, unpacked."""
        kept = self.kept
        return kept.unpacked(self) if isinstance(kept, Packed) else kept

    @saved.setter
    def saved(self, value: Any) -> None:
        if value and type(value) is tuple:
            packer = packer_in_force()
            if packer is not None:
                value = packer.pack(self, value)
                if isinstance(value, Packed):
                    self.primitive = Unpacking(self.primitive)
        self.kept = value


class Unpacking(StandIn):
    """Stands in while a Node's residuals are packed, and unpacks them once for each pull."""

    __slots__ = ()

    def pull(self, node: Any, out_bar: Any) -> tuple[Any, ...]:
        """Pull a raw cotangent back."""
        return self.primitive.pull(_unpacked(node), out_bar)

    def pull_masked(self, node: Any, out_bar: Any) -> tuple[Any, ...]:
        """Pull a raw cotangent back whose zeros win."""
        return self.primitive.pull_masked(_unpacked(node), out_bar)

    def pull_tracked(self, node: Any, out_bar: Any, masked: bool) -> tuple[Any, ...]:
        """Pull a Tensor back; the rules read the residuals once anyway, to box them."""
        return self.primitive.pull_tracked(node, out_bar, masked)


def _unpacked(node: Any) -> Narrowed:
    view = node if type(node) is Narrowed else Narrowed(node, node.inputs)
    view.saved = node.saved
    return view


def map_arrays(function: Callable[[Any], Any], saved: Any) -> Any:
    """Apply a function to each array (or Tensor) among residuals; shapes, dtypes and anything else stay as they are."""
    if type(saved) is tuple:
        return tuple([map_arrays(function, value) for value in saved])
    return function(saved) if _is_array(saved) else saved


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, boxing.Tensor)) or hasattr(value, "__cuda_array_interface__")


def without_spares(saved: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return residuals less what straight paths add at their end to save the raw sweep some work, marked `spare`."""
    return saved[:-1] if getattr(saved[-1], "spare", False) else saved


def belongs_to_leaf(array: Any, node: Node) -> bool:
    """Return whether an array is the memory of a leaf that the Node was computed from, and so is kept alive anyway."""
    for parent in node.inputs:
        if isinstance(parent, Leaf):
            tensor = parent.tensor_reference()
            if tensor is not None and getattr(tensor, "_data", None) is array:
                return True
    return False


# ---------------------------------------------------------------------- which one is in force, and where

_lock = threading.Lock()
_entered = 0
_RECORDERS: tuple[tuple[Any, str], ...] = ((tape, "Entry"), (fastpath, "Node"))


def packer_in_force() -> Packer | None:
    """Return the Packer of the innermost block that this thread (or task) is in."""
    force = _force.get()
    return None if force is None else force[0]


def enter(packer: Packer | None) -> None:
    """Put a Packer in force in this thread (or task), until `leave`; None suspends those around."""
    _count(1)
    _force.set((packer, _force.get()))


def leave() -> None:
    """End what the last `enter` began."""
    force = _force.get()
    if force is not None:
        _force.set(force[1])
        _count(-1)


@contextmanager
def suspended() -> Generator[None]:
    """Let nothing be packed in a block but by Packers of its own."""
    if packer_in_force() is None:
        yield
        return
    enter(None)
    try:
        yield
    finally:
        leave()


def _count(change: int) -> None:
    """Note how many blocks there are in all threads; the first makes every recorder make PackedNodes."""
    global _entered
    with _lock:
        _entered += change
        kind = PackedNode if _entered else Node
        for module, name in _RECORDERS:
            setattr(module, name, kind)


__all__ = [
    "Packed",
    "PackedNode",
    "Packer",
    "Unpacking",
    "belongs_to_leaf",
    "enter",
    "leave",
    "map_arrays",
    "packer_in_force",
    "suspended",
    "without_spares",
]
