"""Calls of a user's own operation: arguments taken apart into arrays and static values, and what the forward returns.

An operation of a user's is one primitive of any number of arrays. What it was called with beyond arrays (the nesting,
strings, integers, functions) is its one static parameter: a `Call`.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from sys import getrefcount
from types import CodeType
from typing import Any

import numpy as np

from ..core import boxing, pytree
from ..core.dispatch import default_scalar, here
from ..core.tracing import is_followed
from ..errors import DeclarationError, DTypeError, GradientError, WengertError

RESERVED = ("out", "out_bar", "axis_size")
_PLAIN = frozenset((int, str, bool, type(None), bytes))
_EMPTY = inspect.Parameter.empty
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class ForwardError(WengertError):
    """Carries an error of a user's function past those who would explain it as one of the library's."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.error = error


class Parameters:
    """The parameters of a user's function, and which of them derivatives are taken by.

    Attributes:
        names: all of them, in order.
        bare_signature: the function's signature without annotations, for messages.
        static: those that are handed on as they are, whatever they hold.
        fixed: those whose arrays are data: no derivative by them is known.
        chosen: positions of all others.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, static: Sequence[str], nondifferentiable: Sequence[str]
    ) -> None:
        try:
            self.signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise DeclarationError(
                f"primitive: the parameters of {name} cannot be read, as is usual for functions written in C; wrap it: "
                f"def {name}_of(x): return {name}(x)"
            ) from None
        self.name = name
        self.names = tuple(self.signature.parameters)
        bare = [parameter.replace(annotation=_EMPTY) for parameter in self.signature.parameters.values()]
        self.bare_signature = self.signature.replace(parameters=bare, return_annotation=_EMPTY)
        self.static = self._checked(static, "static")
        self.fixed = self._checked(nondifferentiable, "nondifferentiable")
        self.chosen = tuple([p for p, n in enumerate(self.names) if n not in self.static | self.fixed])
        self._refuse_ambiguous_names()
        kinds = [parameter.kind for parameter in self.signature.parameters.values()]
        self._positional = [p for p, kind in enumerate(kinds) if kind in _POSITIONAL]
        self._keywords = [p for p, kind in enumerate(kinds) if kind is inspect.Parameter.KEYWORD_ONLY]
        self._rest = next((p for p, kind in enumerate(kinds) if kind is inspect.Parameter.VAR_POSITIONAL), None)
        self._others = next((p for p, kind in enumerate(kinds) if kind is inspect.Parameter.VAR_KEYWORD), None)
        self._all_positional = len(self._positional) == len(self.names)

    def _checked(self, chosen: Sequence[str], option: str) -> frozenset[str]:
        names = (chosen,) if isinstance(chosen, str) else tuple(chosen)
        for name in names:
            if name not in self.names:
                raise DeclarationError(
                    f"primitive: {option} names {name!r}, but the parameters of {self.name} are "
                    f"{', '.join(self.names) or 'none'}"
                )
        return frozenset(names)

    def _refuse_ambiguous_names(self) -> None:
        taken = {*RESERVED} | {f"{n}{suffix}" for n in self.names for suffix in ("_dot", "_axis")}
        for name in self.names:
            if name in taken:
                raise DeclarationError(
                    f"primitive: {self.name} has a parameter {name!r}, a name that means something else in a rule. "
                    f"Rename it: {', '.join(RESERVED)}, <parameter>_dot and <parameter>_axis are taken"
                )

    def values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        """Return the value of every parameter, in order; a tuple for `*args`, a dict for `**kwargs`."""
        if not kwargs and self._all_positional and len(args) == len(self.names):
            return args
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None
        bound.apply_defaults()
        return [bound.arguments[name] for name in self.names]

    def call(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        """Call a function of these parameters with a value for each."""
        if self._all_positional:
            return function(*values)
        args = [values[p] for p in self._positional]
        if self._rest is not None:
            args.extend(values[self._rest])
        kwargs = {self.names[p]: values[p] for p in self._keywords}
        if self._others is not None:
            kwargs.update(values[self._others])
        return function(*args, **kwargs)


class Call:
    """What one call was made with, but for its arrays; put together again around any arrays in their place.

    Attributes:
        structures: the nesting of every parameter.
        entries: for every parameter, (True, number of an array) or (False, a static value), leaf by leaf.
        owners: the parameter that each array belongs to.
        floating: whether each array is of floating numbers, so that derivatives by it mean something.
        out_structure: the nesting of what the forward returned; known when it has run.
    """

    __slots__ = ("entries", "floating", "out_structure", "owners", "parameters", "structures")
    out_structure: pytree.Structure

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.structures: list[pytree.Structure] = []
        self.entries: list[list[tuple[bool, Any]]] = []
        self.owners: list[int] = []
        self.floating: list[bool] = []

    def take(self, values: Sequence[Any], refuse_tracked: bool) -> list[Any]:
        """Take the arguments apart; return the arrays, Tensors and Python floats among them."""
        arrays: list[Any] = []
        for p, value in enumerate(values):
            if self.parameters.names[p] in self.parameters.static:
                if refuse_tracked and type(value) not in _PLAIN:
                    for leaf in pytree.flatten(value)[0]:
                        self._refuse_tracked(p, leaf)
                self.structures.append(pytree.LEAF)
                self.entries.append([(False, value)])
                continue
            leaves, structure = pytree.flatten(value)
            entries: list[tuple[bool, Any]] = []
            for leaf in leaves:
                kind = kind_of(leaf)
                if kind is None:
                    if refuse_tracked and type(leaf) not in _PLAIN:
                        self._refuse_tracked(p, leaf)
                    entries.append((False, leaf))
                    continue
                entries.append((True, len(arrays)))
                arrays.append(leaf)
                self.owners.append(p)
                self.floating.append(kind in "fc")
            self.structures.append(structure)
            self.entries.append(entries)
        return arrays

    def _refuse_tracked(self, p: int, value: Any) -> None:
        """Refuse a static value that holds a tracked Tensor where that can be seen: its gradient would be lost."""
        name = self.parameters.names[p]
        for where, tensor in _tensors_in(value, name):
            if is_followed(tensor):
                raise GradientError(
                    f"{self.parameters.name}: {where} is a tracked Tensor inside of a static value, which the forward "
                    f"is handed as it is, so its gradient would be lost (called at {here()}). Pass the Tensor as an "
                    "argument of its own, or detach() it"
                )

    def value(self, p: int, arrays: Sequence[Any], others: bool = True) -> Any:
        """Return the value of a parameter, with arrays in their places (without `others`: None for static values)."""
        entries = self.entries[p]
        leaves = [arrays[item] if dynamic else item if others else None for dynamic, item in entries]
        return leaves[0] if self.structures[p].kind is None else self.structures[p].unflatten(leaves)

    def arrays_of(self, p: int) -> list[int]:
        """Return the numbers of a parameter's arrays."""
        return [item for dynamic, item in self.entries[p] if dynamic]

    def path(self, i: int) -> str:
        """Return where an array was found, as it is written in Python."""
        p = self.owners[i]
        place = self.entries[p].index((True, i))
        return self.structures[p].paths(self.parameters.names[p])[place]


def kind_of(leaf: Any) -> str | None:
    """Return the kind of numbers of an array, a Tensor or a Python float; None for a static value."""
    if isinstance(leaf, (boxing.Tensor, np.ndarray, np.generic)):
        kind = leaf.dtype.kind
        return kind if kind in "biufc" else None
    if isinstance(leaf, float):
        return "f"
    if type(leaf) is complex:
        return "c"
    if hasattr(leaf, "__array_namespace__") or hasattr(leaf, "__cuda_array_interface__"):
        return leaf.dtype.kind
    return None


def _tensors_in(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the Tensors in a value as far as can be seen: itself, attributes, what a function closes over."""
    if isinstance(value, boxing.Tensor):
        yield name, value
    elif inspect.isfunction(value):
        for captured, tensor in Captures(value).tensors():
            yield f"{name}.{captured}", tensor
    elif not isinstance(value, type):
        for attribute, held in getattr(value, "__dict__", {}).items():
            if isinstance(held, boxing.Tensor):
                yield f"{name}.{attribute}", held


class Captures:
    """What a function uses without having been given it: closed-over variables and globals, by name."""

    __slots__ = ("_cells", "_globals", "_names")

    def __init__(self, function: Callable[..., Any]) -> None:
        function = inspect.unwrap(function)
        code = getattr(function, "__code__", None)
        self._cells: list[tuple[str, Any]] = []
        self._names: list[str] = []
        self._globals: dict[str, Any] = getattr(function, "__globals__", {})
        if code is not None:
            self._cells = list(zip(code.co_freevars, getattr(function, "__closure__", None) or ()))
            self._names = sorted(_globals_named(code))

    def tensors(self) -> Iterator[tuple[str, Any]]:
        """Yield those that are Tensors now."""
        for name, cell in self._cells:
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            if isinstance(value, boxing.Tensor):
                yield name, value
        for name in self._names:
            value = self._globals.get(name)
            if isinstance(value, boxing.Tensor):
                yield name, value

    def refuse_tracked(self, described: str) -> None:
        """Refuse Tensors whose gradient would be lost, for the function is run on bare arrays."""
        for name, tensor in self.tensors():
            if is_followed(tensor):
                raise GradientError(
                    f"{described}: its forward uses the tracked Tensor {name!r} from outside, whose gradient would be "
                    f"lost (called at {here()}). Make {name} a parameter of {described}, or use {name}.detach() "
                    "outside of the forward if it is meant to be a constant"
                )


@lru_cache(maxsize=1024)
def _globals_named(code: CodeType) -> frozenset[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _globals_named(constant)
    return frozenset(names)


# ---------------------------------------------------------------------- the forward


def run_forward(function: Callable[..., Any], call: Call, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """Run a user's forward on read-only arrays; return the arrays that it returned, in memory of their own."""
    shown = [read_only(array) for array in arrays]
    parameters = call.parameters
    try:
        values = [call.value(p, shown) for p in range(len(parameters.names))]
        leaves, structure = pytree.flatten(parameters.call(function, values))
    except Exception as error:
        raise ForwardError(error) from error
    del values
    if not leaves:
        raise ForwardError(
            DTypeError(f"{parameters.name}: the forward returned {structure!r}, in which there is no array")
        )
    for i in range(len(leaves)):
        if _is_shared(leaves, i):
            leaves[i] = leaves[i].copy()
    call.out_structure = structure
    return tuple([_output(leaf, call, i) for i, leaf in enumerate(leaves)])


def read_only(array: Any) -> Any:
    """Return a view of an array that cannot be written; a NumPy scalar becomes an array, a Python number stays."""
    if isinstance(array, np.generic):
        array = np.asarray(array)
    if isinstance(array, np.ndarray):
        array = array.view()
        array.flags.writeable = False
    return array


def _holders(leaves: list[Any], i: int) -> int:
    return getrefcount(leaves[i])


def _holders_of_base(leaves: list[Any], i: int) -> int:
    return getrefcount(leaves[i].base)


_UNSHARED = _holders([np.zeros(1)], 0)
_UNSHARED_BASE = _holders_of_base([np.zeros((2, 2)).T], 0)


def _is_shared(leaves: list[Any], i: int) -> bool:
    """Return whether anybody else holds the memory of an array: an input, a cache, a workspace that is used again."""
    leaf: Any = leaves[i]
    if not isinstance(leaf, np.ndarray):
        return False
    base = leaf.base
    if base is not None and not isinstance(base, np.ndarray):
        return True
    shared = base is not None
    del leaf, base
    return (shared and _holders_of_base(leaves, i) > _UNSHARED_BASE) or _holders(leaves, i) > _UNSHARED


def _output(leaf: Any, call: Call, i: int) -> Any:
    """Return what the forward returned at one place as an array."""
    if isinstance(leaf, boxing.Tensor):
        return _output_of_tensor(leaf, call, i)
    if type(leaf) in (float, int, bool, complex):
        return default_scalar(leaf)
    if isinstance(leaf, (np.ndarray, np.generic)):
        array = np.asarray(leaf)
        if array.dtype.kind in "biufc":
            return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        what = f"an array of dtype {array.dtype}"
    elif hasattr(leaf, "dtype") and hasattr(leaf, "__array_namespace__"):
        return leaf
    else:
        what = f"a {type(leaf).__name__}"
    raise ForwardError(
        DTypeError(
            f"{call.parameters.name}: the forward returned {what} as {_out_path(call, i)}; it returns numeric arrays "
            "and numbers, in any nesting. Anything else can be kept aside, or be made of the arrays afterwards"
        )
    )


def _output_of_tensor(leaf: Any, call: Call, i: int) -> Any:
    if is_followed(leaf) or type(leaf) not in (boxing.Tensor, boxing.BorrowedTensor):
        raise ForwardError(
            GradientError(
                f"{call.parameters.name}: the forward is given bare arrays, but returned a tracked Tensor as "
                f"{_out_path(call, i)}: it uses one from outside, whose gradient would be lost. Make that Tensor a "
                f"parameter of {call.parameters.name}, or detach() it"
            )
        )
    return np.array(boxing.data_of(leaf))


def _out_path(call: Call, i: int) -> str:
    return call.out_structure.paths("out")[i]


__all__ = ["Call", "Captures", "ForwardError", "Parameters", "kind_of", "read_only", "run_forward"]
