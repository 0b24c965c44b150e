"""Leaves on loan: Tensors that are on the tape only as long as somebody (a GradientTape) watches them."""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from .reach import Span
from .tape import Leaf, Node
from .tracing import bring_inside, is_at_the_innermost_level

# How many GradientTapes keep a leaf on a Tensor that had none. The last of them takes it off.
_watchers: weakref.WeakKeyDictionary[Node, int] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def lend(tensor: Any, node: Node | None, lent: list[Node]) -> None:
    """Put a leaf (this one, if there was one before) on a Tensor unless it is on the tape; note down what to take off.

    Raises:
        DTypeError: the Tensor is not a floating one.
    """
    with _lock:
        if not is_at_the_innermost_level(tensor):
            bring_inside(tensor)
        leaf: Any = tensor._node
        if leaf is None:
            tensor.requires_grad_()
            if node is not None:
                tensor._node = node
            leaf = tensor._node
            _watchers[leaf] = 0
        if leaf in _watchers:
            _watchers[leaf] += 1
            lent.append(leaf)


def take_off(leaf: Any) -> None:
    """Note that one GradientTape less watches a leaf; the last one takes it off its Tensor."""
    with _lock:
        _watchers[leaf] -= 1
        if _watchers[leaf]:
            return
        del _watchers[leaf]
        tensor = leaf.tensor_reference()
        if tensor is not None and tensor._node is leaf:
            tensor.requires_grad_(False)


def lent_leaves() -> list[Node]:
    """Return the leaves that are on loan now."""
    with _lock:
        return list(_watchers)


def used_leaves(spans: Sequence[Span]) -> list[Leaf]:
    """Return the leaves that what was recorded during the spans, and is still alive, was computed from; by age."""
    used: set[Leaf] = set()
    for entry in gc.get_objects():
        if not isinstance(entry, Node) or not hasattr(entry, "sequence"):
            continue  # the record of something that failed
        if any(first <= entry.sequence < end for first, end in spans):
            used.update([parent for parent in entry.inputs if isinstance(parent, Leaf)])
    return sorted(used, key=attrgetter("sequence"))
