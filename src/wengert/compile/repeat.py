"""The same call again: Tensors of the kinds that it had, and all else as it was, are not looked at twice."""

# The slots of Tensor are read here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import settings
from ..core import boxing, capturing
from ..core.recording import is_recording
from ..core.tape import Leaf
from ..core.tracing import open_traces
from .binding import UNBOUND
from .captured import is_own_leaf
from .paths import Path

_CONTAINERS = (tuple, list, dict)


class _Form(NamedTuple):
    """What a container is: its kind, the keys of a dict, and the forms of what is in it, None for leaves."""

    kind: type
    keys: tuple[Any, ...]
    parts: list[_Form | None]


class Repeat:
    """A bound path, and what arguments of the kind that it is for look like."""

    __slots__ = ("_dtype", "_forms", "_is_flat", "_kinds", "_mode", "_names", "_others", "_places", "path")

    def __init__(self, path: Path, args: Sequence[Any], named: Mapping[str, Any], leaves: Sequence[Any]) -> None:
        self.path = path
        self._forms = [_form_of(arg) for arg in (*args, *named.values())]
        self._names = tuple(named)
        self._is_flat = not any(self._forms)
        self._places = [place for place, leaf in enumerate(leaves) if type(leaf) is boxing.Tensor]
        tensors = [leaves[place] for place in self._places]
        self._kinds = [(tensor._data.shape, tensor._data.dtype, tensor._node is None) for tensor in tensors]
        self._others = [(place, leaf) for place, leaf in enumerate(leaves) if type(leaf) is not boxing.Tensor]
        self._mode = is_recording()
        self._dtype = settings.default_dtype

    def fits(self, args: Sequence[Any], named: Mapping[str, Any], leaves: Sequence[Any]) -> bool:
        """Whether the leaves are all that the arguments hold: nothing is in containers that are unknown here."""
        taken: list[Any] = []
        whole = (*args, *named.values())
        return _take_apart(whole, self._forms, taken) and list(map(id, taken)) == list(map(id, leaves))

    def run(self, args: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """Run the path on such arguments; return UNBOUND if they are others, or anything else is."""
        path = self.path
        if (
            path.binding is None
            or capturing.engaged
            or open_traces()
            or is_recording() is not self._mode
            or settings.default_dtype is not self._dtype
        ):
            return UNBOUND
        leaves = args
        if named or self._names:
            if tuple(named) != self._names:
                return UNBOUND
            leaves = (*args, *named.values())
        if len(leaves) != len(self._forms):
            return UNBOUND
        if not self._is_flat:
            taken: list[Any] = []
            if not _take_apart(leaves, self._forms, taken):
                return UNBOUND
            leaves = taken
        return path.run_bound(leaves) if self._are_alike(leaves) else UNBOUND

    def _are_alike(self, leaves: Sequence[Any]) -> bool:
        """Whether leaves are Tensors of the same kinds, none of them twice, and otherwise the very same objects."""
        if self._others:
            for place, other in self._others:
                if leaves[place] is not other:
                    return False
            leaves = [leaves[place] for place in self._places]
        for leaf, (shape, dtype, untracked) in zip(leaves, self._kinds):
            if type(leaf) is not boxing.Tensor:
                return False
            node = leaf._node
            if (node is None) is not untracked or (node is not None and (_has_hooks(node) or not is_own_leaf(leaf))):
                return False
            data = leaf._data
            if data.shape != shape or data.dtype is not dtype:
                return False
        return len(leaves) < 2 or len(set(map(id, leaves))) == len(leaves)


def _has_hooks(node: Any) -> bool:
    return type(node) is Leaf and bool(node.hooks or node.after_accumulate)


def _form_of(arg: Any) -> _Form | None:
    if type(arg) not in _CONTAINERS:
        return None
    is_dict = type(arg) is dict
    return _Form(type(arg), tuple(arg) if is_dict else (), [_form_of(x) for x in (arg.values() if is_dict else arg)])


def _take_apart(args: Any, forms: Sequence[_Form | None], leaves: list[Any]) -> bool:
    """Append the leaves of arguments of such forms; return False if they have others."""
    for arg, form in zip(args, forms):
        if form is None:
            leaves.append(arg)
            continue
        kind, keys, parts = form
        if type(arg) is not kind or len(arg) != len(parts):
            return False
        if kind is dict:
            if tuple(arg) != keys:
                return False
            arg = arg.values()
        if not _take_apart(arg, parts, leaves):
            return False
    return True


def repeat_of(path: Path, args: Sequence[Any], named: Mapping[str, Any], leaves: Sequence[Any]) -> Repeat | None:
    """Return what makes the same call again quick; None if its arguments hold more than what is known here.

    That are Tensors, in tuples, lists and dicts, and other objects that are no arrays, which must then be the same.
    """
    if path.binding is None or path.draws:
        return None
    for leaf in leaves:
        if isinstance(leaf, (boxing.Tensor, np.ndarray, np.generic)) and not _is_plain_tensor(leaf):
            return None
    repeat = Repeat(path, args, named, leaves)
    return repeat if repeat.fits(args, named, leaves) else None


def _is_plain_tensor(leaf: Any) -> bool:
    if type(leaf) is not boxing.Tensor or not isinstance(leaf._data.shape, tuple):
        return False
    return leaf._node is None or (is_own_leaf(leaf) and not _has_hooks(leaf._node))


__all__ = ["Repeat", "repeat_of"]
