"""The same call again: arguments that are a few Tensors of the kinds that the last call had need not be taken apart."""

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


class Repeat:
    """A bound path, and what arguments of the kind that it is for look like."""

    __slots__ = ("_dtype", "_kinds", "_mode", "_path")

    def __init__(self, path: Path, args: Sequence[Any]) -> None:
        self._path = path
        self._kinds = [(arg._data.shape, arg._data.dtype, arg._node is None) for arg in args]
        self._mode = is_recording()
        self._dtype = settings.default_dtype

    def run(self, args: Sequence[Any]) -> Any:
        """Run the path on such arguments; return UNBOUND if they are others, or anything else is."""
        path, kinds = self._path, self._kinds
        binding = path.binding
        if (
            binding is None
            or capturing.engaged
            or open_traces()
            or len(args) != len(kinds)
            or is_recording() is not self._mode
            or settings.default_dtype is not self._dtype
        ):
            return UNBOUND
        for arg, (shape, dtype, untracked) in zip(args, kinds):
            if type(arg) is not boxing.Tensor or (arg._node is None) is not untracked:
                return UNBOUND
            data = arg._data
            if data.shape != shape or data.dtype is not dtype:
                return UNBOUND
        if len(args) > 1 and len({id(arg) for arg in args}) != len(args):
            return UNBOUND
        path.binding = None  # another thread goes the long way meanwhile
        answer = binding.run(args)
        if answer is not UNBOUND:
            path.binding = binding
        return answer


def repeat_of(path: Path, args: tuple[Any, ...], leaves: Sequence[Any]) -> Repeat | None:
    """Return what makes the same call again quick; None if its arguments are more than a few plain Tensors."""
    plain = all([type(arg) is boxing.Tensor and isinstance(arg._data.shape, tuple) for arg in args])
    if path.binding is None or path.draws or not plain or len(args) != len(leaves):
        return None
    return Repeat(path, args)


__all__ = ["Repeat", "repeat_of"]
