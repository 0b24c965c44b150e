"""What a function can reach without being handed it: Tensors and plain values that it closes over, and by which way.

A compiled program is good only as long as the way to every Tensor that it uses still leads there, and the plain values
that the code reads are what they were. `Ties` are those conditions, checked before every run.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ..core import boxing
from ..core.tape import PACKAGE

_PLAIN: tuple[type, ...] = (bool, int, float, complex, str, bytes, type(None))
_LIMIT = 200_000
"""Objects after which the search gives up: what was not found is taken to stay where it is."""


class Tie(NamedTuple):
    """One step on a way: what a container holds under a key. Kinds: "cell", "item" (of a dict or list)."""

    kind: str
    container: Any
    key: Any
    value: Any

    def holds(self) -> bool:
        """Return whether it still is so: the same object, or an equal plain value."""
        try:
            found = self.container.cell_contents if self.kind == "cell" else self.container[self.key]
        except (ValueError, LookupError):
            return False
        if found is self.value:
            return True
        return isinstance(found, _PLAIN) and type(found) is type(self.value) and bool(found == self.value)


class Reach:
    """Everything that is reachable from some roots.

    Plain attributes of instances are tied if code names them; a class that is marked `records_itself` leaves word with
    the capture of what its instances do in Python, and is left alone.

    Attributes:
        tensors: the Tensors by id.
        arrays: NumPy's arrays by id.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.tensors: dict[int, Any] = {}
        self.arrays: dict[int, Any] = {}
        self._ways: dict[int, tuple[int, Tie | None]] = {}
        self._plain: list[tuple[int, Tie]] = []
        self._names: set[str] = set()
        self._instances: list[tuple[int, dict[str, Any]]] = []
        self._alive: list[Any] = []
        self._queue: deque[Any] = deque()
        for root in roots:
            self._meet(root, 0, None)
        while self._queue and len(self._ways) < _LIMIT:
            self._look_into(self._queue.popleft())

    def _meet(self, value: Any, parent: int, tie: Tie | None) -> None:
        if isinstance(value, _PLAIN):
            if tie is not None:
                self._plain.append((parent, tie))
            return
        if id(value) in self._ways:
            return
        self._ways[id(value)] = (parent, tie)
        self._alive.append(value)
        if isinstance(value, boxing.Tensor):
            self.tensors[id(value)] = value
        elif isinstance(value, np.ndarray):
            self.arrays[id(value)] = value
        else:
            self._queue.append(value)

    def _look_into(self, value: Any) -> None:
        kind: Any = type(value)
        if kind is types.FunctionType:
            self._look_into_function(value)
        elif kind is types.MethodType:
            self._meet(value.__func__, id(value), None)
            self._meet(value.__self__, id(value), None)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self._meet(part, id(value), None)
        elif isinstance(value, dict):
            for key, item in list(value.items()):
                self._meet_item(item, value, key)
        elif isinstance(value, (list, tuple, deque)):
            for place, item in enumerate(value):
                self._meet_item(item, value, place)
        elif isinstance(value, (set, frozenset)):
            for item in value:
                self._meet(item, id(value), None)
        elif not isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
            self._look_into_instance(value)

    def _meet_item(self, item: Any, container: Any, key: Any) -> None:
        # Plain items of containers are data more often than settings; those of functions and instances are tied.
        if not isinstance(item, _PLAIN):
            self._meet(item, id(container), None if type(container) is tuple else Tie("item", container, key, item))

    def _look_into_function(self, function: types.FunctionType) -> None:
        parent = id(function)
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                continue
            self._meet(content, parent, Tie("cell", cell, None, content))
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._meet(default, parent, None)
        if function.__code__.co_filename.startswith(PACKAGE):
            return  # the library's own globals are no business of the user's
        names = _names_in(function.__code__)
        self._names |= names
        scope = function.__globals__
        for name in names:
            if name in scope:
                self._meet(scope[name], parent, Tie("item", scope, name, scope[name]))

    def _look_into_instance(self, value: Any) -> None:
        held = getattr(value, "__dict__", None)
        if isinstance(held, dict):
            self._ways.setdefault(id(held), (id(value), None))
            if not getattr(type(value), "records_itself", False):
                self._instances.append((id(value), held))
            for name, item in list(held.items()):
                if not isinstance(item, _PLAIN):
                    self._meet(item, id(value), Tie("item", held, name, item))
            for base in type(value).__mro__:
                for name, member in vars(base).items():
                    if isinstance(member, types.FunctionType) and (name == "__call__" or not name.startswith("__")):
                        self._names |= _names_in(member.__code__)
        for base in type(value).__mro__:
            for name in vars(base).get("__slots__", ()):
                item = getattr(value, name, None) if name != "__weakref__" else None
                self._meet(item, id(value), None)

    # ------------------------------------------------------------------ conditions

    def ties(self, used: Iterable[Any]) -> list[Tie]:
        """Return what must stay as it is for code that uses these objects, and reads plain values on the way."""
        found: dict[tuple[int, Any], Tie] = {}
        relevant: set[int] = set()
        for value in used:
            place = id(value)
            while place in self._ways and place not in relevant:
                relevant.add(place)
                place, tie = self._follow(place)
                if tie is not None:
                    found[(id(tie.container), tie.key)] = tie
        for _, tie in self._plain:
            found[(id(tie.container), tie.key)] = tie
        for _, held in self._instances:
            for name, item in held.items():
                if name in self._names and isinstance(item, _PLAIN) and not name.startswith("__"):
                    found[(id(held), name)] = Tie("item", held, name, item)
        return list(found.values())

    def _follow(self, place: int) -> tuple[int, Tie | None]:
        parent, tie = self._ways[place]
        return parent, tie


def _names_in(code: types.CodeType) -> set[str]:
    """Return the names of globals and attributes that code uses, nested functions included."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
    return names


def checker(ties: list[Tie]) -> Callable[[], bool]:
    """Return a function that says whether all ties hold, as quick as Python can be where nothing has changed."""
    scope: dict[str, Any] = {}
    terms: list[str] = []
    for i, tie in enumerate(ties):
        scope[f"c{i}"], scope[f"v{i}"] = tie.container, tie.value
        if tie.kind == "cell":
            terms.append(f"c{i}.cell_contents is v{i}")
        else:
            scope[f"k{i}"] = tie.key
            terms.append(f"c{i}[k{i}] is v{i}")
    names = ", ".join(scope)
    condition = " and ".join(terms) or "True"
    source = f"def bound({names}):\n    def unchanged():\n        return {condition}\n    return unchanged\n"
    made: dict[str, Any] = {}
    exec(compile(source, "<conditions of a compiled function>", "exec"), made)  # noqa: S102 - made of our own text
    quick: Callable[[], bool] = made["bound"](**scope)

    def unchanged() -> bool:
        try:
            if quick():
                return True
        except (ValueError, LookupError):
            return False
        return all([tie.holds() for tie in ties])

    return unchanged
