"""`saved_residuals_hooks`: what the tape keeps passes through functions of the user's on its way in and out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import boxing
from ..core.recording import set_recording
from ..core.tape import Node, location
from ..declare import packing
from ..declare.packing import Packed, Packer, map_arrays, without_spares
from ..errors import GradientError


class Item:
    """What a Node keeps in place of one array; `restore(node)` returns the array."""

    __slots__ = ()

    def restore(self, node: Node) -> Any:
        """Return the array as it was."""
        raise NotImplementedError


class _Residuals(Packed):
    """Residuals with Items in place of arrays."""

    __slots__ = ("kept",)

    def __init__(self, kept: Any) -> None:
        self.kept = kept

    def unpacked(self, node: Node) -> Any:
        return _restored(self.kept, node, {})


def _restored(kept: Any, node: Node, known: dict[int, Any]) -> Any:
    if type(kept) is tuple:
        return tuple([_restored(value, node, known) for value in kept])
    if not isinstance(kept, Item):
        return kept
    if id(kept) not in known:
        known[id(kept)] = kept.restore(node)
    return known[id(kept)]


class ResidualBlock(Packer):
    """A block, or a function, in which every array that the tape keeps is replaced by what `keep` makes of it."""

    def keep(self, node: Node, array: Any) -> Any:
        """Return an Item to keep in place of an array (or of a Tensor, over tracers), or the array as it is."""
        raise NotImplementedError

    def pack(self, node: Node, saved: tuple[Any, ...]) -> Any:
        """Return the residuals with Items in place of arrays; one that occurs twice is asked about once."""
        known: dict[int, Any] = {}
        replaced = False

        def replace(array: Any) -> Any:
            nonlocal replaced
            if id(array) not in known:
                known[id(array)] = self.keep(node, array)
                replaced = replaced or isinstance(known[id(array)], Item)
            return known[id(array)]

        packing.enter(None)
        try:
            kept = map_arrays(replace, without_spares(saved))
        finally:
            packing.leave()
        return _Residuals(kept) if replaced else saved

    def __enter__(self) -> Any:
        packing.enter(self)
        return self

    def __exit__(self, *_exception: object) -> None:
        packing.leave()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the decorated function: while it runs, it is in a block like this.

        Raises:
            TypeError: it is a generator function or an asynchronous one, whose body runs after the call has returned.
        """
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"{type(self).__name__} decorates functions, not {function!r}")
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise TypeError(
                f"{type(self).__name__} cannot decorate {function.__name__}, whose body runs after the call has "
                "returned; write a `with` block inside of it"
            )

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return call


class _Hooked(Item):
    """What the user's function made of an array, and what the other one must make of it again.

    A Node over tracers saves Tensors. Those from further out have a history there, which must be theirs again; what a
    tracer is made of may have one too, so that the functions are recorded where the transforms are at work.
    """

    __slots__ = ("boxed", "dtype", "node", "packed", "shape", "unpack")

    def __init__(self, array: Any, pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> None:
        self.shape = array.shape
        self.dtype = array.dtype
        self.unpack = unpack
        self.boxed = isinstance(array, boxing.Tensor)
        self.node = array._node if self.boxed else None
        if not self.boxed:
            array = boxing.box(array)
        elif type(array) is boxing.Tensor:
            array = boxing.box(array._data)
        self.packed = self._call(pack, array, type(array) is boxing.Tensor)

    @staticmethod
    def _call(function: Callable[[Any], Any], argument: Any, plain: bool) -> Any:
        if not plain:
            return function(argument)
        before = set_recording(False)
        try:
            return function(argument)
        finally:
            set_recording(before)

    def restore(self, node: Node) -> Any:
        packing.enter(None)
        try:
            answer = self._call(self.unpack, self.packed, not self.boxed or self.node is not None)
        except Exception as error:
            error.add_note(f"while unpacking what {node.primitive.name} had saved for the value made at {_place(node)}")
            raise
        finally:
            packing.leave()
        answer = self._checked(answer, node)
        if self.boxed and not isinstance(answer, boxing.Tensor):
            return boxing.box(answer, self.node)
        return answer

    def _checked(self, answer: Any, node: Node) -> Any:
        if not isinstance(answer, (boxing.Tensor, np.ndarray, np.generic)):
            raise GradientError(
                f"saved_residuals_hooks: unpack returned an object of type {type(answer).__name__} for {self._of(node)}"
                "; it must return the Tensor that pack was given, or one like it"
            )
        if answer.shape != self.shape or answer.dtype != self.dtype:
            raise GradientError(
                f"saved_residuals_hooks: unpack returned shape {answer.shape} and dtype {answer.dtype} for "
                f"{self._of(node)}, which has shape {self.shape} and dtype {self.dtype}; it must return the Tensor "
                "that pack was given, or one like it"
            )
        if type(answer) is boxing.Tensor:
            return answer._data
        if type(answer) is boxing.BorrowedTensor or not isinstance(answer, boxing.Tensor):
            return np.array(boxing.data_of(answer) if isinstance(answer, boxing.Tensor) else answer)
        return answer

    def _of(self, node: Node) -> str:
        return f"a residual of {node.primitive.name}, whose value was made at {_place(node)}"


def _place(node: Node) -> str:
    return location(getattr(node, "whole", node))


class saved_residuals_hooks(ResidualBlock):
    """Let functions of yours keep what the tape keeps: compressed, on disk, counted, moved elsewhere.

    While a `with` block of it (or a function that it decorates) runs, every array that an operation saves for its
    derivative goes through `pack`, and the tape keeps what that returns. When a sweep gets there, `unpack` must return
    a Tensor of the same shape and dtype. The innermost block of the thread (or task) decides; a thread that is started
    inside of the block is not in it.

    An array that one operation saves twice is packed once. Both functions run without recording.

    Args:
        pack: takes an untracked Tensor over the array and returns anything. An exception ends the operation.
        unpack: takes what `pack` returned and returns the Tensor, or an array.

    Raises:
        GradientError: (from the sweep) `unpack` returned something else; the message names the operation and the line.

    >>> import wengert as wg
    >>> def pack(residual):
    ...     print("keeping", residual.shape)
    ...     return residual.astype("float16")
    >>> def unpack(packed):
    ...     return packed.astype("float32")
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> with wg.saved_residuals_hooks(pack, unpack):
    ...     y = wg.sum(x * x)
    keeping (2,)
    >>> y.backward(); x.grad.tolist()
    [2.0, 4.0]
    """

    def __init__(self, pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> None:
        for name, function in (("pack", pack), ("unpack", unpack)):
            if not callable(function):
                raise TypeError(f"saved_residuals_hooks: {name} must be a function, not {type(function).__name__}")
        self._pack = pack
        self._unpack = unpack

    def keep(self, node: Node, array: Any) -> Item:
        """Return what the user's function makes of an array."""
        return _Hooked(array, self._pack, self._unpack)


__all__ = ["Item", "ResidualBlock", "saved_residuals_hooks"]
