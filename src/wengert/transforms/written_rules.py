"""Rules that users have written: the names by which they ask for what they need, and where they are evaluated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import DeclarationError
from ..typing import Rule
from .custom_calls import Call, Parameters

VJP, JVP, BATCH = "vjp", "jvp", "batch"
_EMPTY = inspect.Parameter.empty
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class WrittenRule:
    """A rule that a user has written, and the names by which it asks for what it needs.

    Attributes:
        kind: "vjp", "jvp" or "batch".
        names: what it asks for.
    """

    __slots__ = ("_by_keyword", "_by_position", "function", "kind", "names", "parameters")

    def __init__(self, kind: str, function: Rule, parameters: Parameters) -> None:
        self.kind = kind
        self.function = function
        self.parameters = parameters
        self._by_position: list[str] = []
        self._by_keyword: list[str] = []
        known = self.known_names()
        for name, parameter in _signature_of(function, kind, parameters).items():
            if parameter.kind in _VARIADIC:
                raise DeclarationError(
                    f"{self}: a rule says by the names of its parameters what it needs, so it cannot take "
                    f"{parameter}. It may name {', '.join(known)}"
                )
            if name not in known:
                if parameter.default is not _EMPTY:
                    continue
                raise DeclarationError(
                    f"{self} asks for {name!r}, which {parameters.name}{parameters.bare_signature} does not have. A "
                    f"{kind} rule of it may name {', '.join(known)}"
                )
            by_keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
            (self._by_keyword if by_keyword else self._by_position).append(name)
        self.names = (*self._by_position, *self._by_keyword)

    def known_names(self) -> list[str]:
        """Return what a rule of this kind may ask for."""
        parameters = self.parameters
        chosen = [parameters.names[p] for p in parameters.chosen]
        if self.kind == VJP:
            return ["out_bar", "out", *parameters.names]
        if self.kind == JVP:
            return ["out", *parameters.names, *[f"{name}_dot" for name in chosen]]
        moving = [name for name in parameters.names if name not in parameters.static]
        return ["axis_size", *parameters.names, *[f"{name}_axis" for name in moving]]

    def run(self, lookup: Callable[[str], Any]) -> Any:
        """Run the rule on what `lookup(name)` says its parameters are."""
        return self.function(
            *[lookup(name) for name in self._by_position], **{name: lookup(name) for name in self._by_keyword}
        )

    def __str__(self) -> str:
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"the {self.kind} rule {name}{where} of {self.parameters.name}"


def _signature_of(function: Rule, kind: str, parameters: Parameters) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        raise DeclarationError(
            f"{parameters.name}: the {kind} rule must be a Python function whose parameters can be read, "
            f"not {function!r}"
        ) from None


class Point:
    """Where rules are evaluated.

    Attributes:
        call: the call that it is about.
        arrays: Tensors (Python floats among them), None for those that no rule needs.
        outs: the outputs as Tensors, None if no rule needs them.
        likes: what has the shapes and dtypes of the arrays, None for Python floats.
        out_likes: and those of the outputs.
        tracked: whether the results of rules are to be differentiated again.
    """

    __slots__ = ("arrays", "call", "likes", "out_likes", "outs", "tracked")

    def __init__(
        self,
        call: Call,
        arrays: Sequence[Any],
        outs: Sequence[Any] | None,
        likes: Sequence[Any],
        out_likes: Sequence[Any],
        tracked: bool,
    ) -> None:
        self.call = call
        self.arrays = arrays
        self.outs = outs
        self.likes = likes
        self.out_likes = out_likes
        self.tracked = tracked

    def lookup(self, name: str) -> Any:
        """Return the outputs, or the value of a parameter."""
        if name == "out":
            return self.call.out_structure.unflatten(self.outs or ())
        return self.call.value(self.call.parameters.names.index(name), self.arrays)


class Like:
    """A shape and a dtype."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype


def like_of(value: Any) -> Like | None:
    """Return the shape and dtype of an array; None for a Python float."""
    return Like(value.shape, value.dtype) if hasattr(value, "dtype") else None


__all__ = ["BATCH", "JVP", "VJP", "Like", "Point", "WrittenRule", "like_of"]
