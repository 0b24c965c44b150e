"""The same call again: Tensors of the kinds that it had, in tuples and lists as they were, are not looked at twice."""

# The slots of Tensor are read here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config import settings
from ..core import boxing, capturing
from ..core.recording import is_recording
from ..core.tracing import open_traces
from .binding import UNBOUND
from .paths import Path

_CONTAINERS = (tuple, list)
_Form = tuple[type, "list[_Form | None]"]
"""The kind of a container, and the forms of what is in it: None for anything else than a tuple or a list."""


class Repeat:
    """A bound path, and what arguments of the kind that it is for look like."""

    __slots__ = ("_dtype", "_forms", "_is_flat", "_kinds", "_mode", "_path")

    def __init__(self, path: Path, args: Sequence[Any], leaves: Sequence[Any]) -> None:
        self._path = path
        self._forms = [_form_of(arg) for arg in args]
        self._is_flat = not any(self._forms)
        self._kinds = [(leaf._data.shape, leaf._data.dtype, leaf._node is None) for leaf in leaves]
        self._mode = is_recording()
        self._dtype = settings.default_dtype

    def fits(self, args: Sequence[Any], leaves: Sequence[Any]) -> bool:
        """Whether the leaves are all that the arguments hold: nothing is in containers that are unknown here."""
        taken: list[Any] = []
        return _take_apart(args, self._forms, taken) and list(map(id, taken)) == list(map(id, leaves))

    def run(self, args: Sequence[Any]) -> Any:
        """Run the path on such arguments; return UNBOUND if they are others, or anything else is."""
        path, kinds = self._path, self._kinds
        if (
            path.binding is None
            or capturing.engaged
            or open_traces()
            or len(args) != len(self._forms)
            or is_recording() is not self._mode
            or settings.default_dtype is not self._dtype
        ):
            return UNBOUND
        leaves = args
        if not self._is_flat:
            leaves = []
            if not _take_apart(args, self._forms, leaves):
                return UNBOUND
        for leaf, (shape, dtype, untracked) in zip(leaves, kinds):
            if type(leaf) is not boxing.Tensor or (leaf._node is None) is not untracked:
                return UNBOUND
            data = leaf._data
            if data.shape != shape or data.dtype is not dtype:
                return UNBOUND
        if len(leaves) > 1 and len({id(leaf) for leaf in leaves}) != len(leaves):
            return UNBOUND
        return path.run_bound(leaves)


def _form_of(arg: Any) -> _Form | None:
    return (type(arg), [_form_of(part) for part in arg]) if type(arg) in _CONTAINERS else None


def _take_apart(args: Sequence[Any], forms: Sequence[_Form | None], leaves: list[Any]) -> bool:
    """Append the leaves of arguments of such forms; return False if they have others."""
    for arg, form in zip(args, forms):
        if form is None:
            leaves.append(arg)
            continue
        kind, parts = form
        if type(arg) is not kind or len(arg) != len(parts) or not _take_apart(arg, parts, leaves):
            return False
    return True


def repeat_of(path: Path, args: tuple[Any, ...], leaves: Sequence[Any]) -> Repeat | None:
    """Return what makes the same call again quick; None if its arguments are more than Tensors in tuples and lists."""
    if path.binding is None or path.draws:
        return None
    if not all([type(leaf) is boxing.Tensor and isinstance(leaf._data.shape, tuple) for leaf in leaves]):
        return None
    repeat = Repeat(path, args, leaves)
    return repeat if repeat.fits(args, leaves) else None


__all__ = ["Repeat", "repeat_of"]
