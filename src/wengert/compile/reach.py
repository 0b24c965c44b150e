"""What a function can reach without being handed it: Tensors and plain values that it closes over, and by which way.

A compiled program is good only as long as the way to every Tensor that it uses still leads there, and what else code
reads is what it was. `Ties` are those conditions, checked before every run.
"""

# The slots of Tensor are read here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import io
import random
import sys
import types
from argparse import Namespace
from collections import deque
from collections.abc import Iterable
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ..core import boxing
from ..core.step_numbers import StepNumber
from ..core.tape import PACKAGE, Leaf
from .contents import contents_of
from .ties import Tie, settings_of

_PLAIN: tuple[type, ...] = (bool, int, float, complex, str, bytes, type(None), np.generic)
_LIMIT = 200_000
"""Objects after which the search gives up: what was not found is taken to stay where it is."""
_SETTLED = frozenset((*sys.stdlib_module_names, "numpy", "scipy", "llvmlite", "safetensors", "rich"))
"""Where code lives whose own state is none of the function's."""
_OPEN = frozenset(("getattr", "vars", "__dict__", "dir", "attrgetter"))
"""Who names one of these may read any attribute."""
_HYPERPARAMETERS = frozenset(("param_groups", "get_last_lr", "last_epoch", "state_dict"))
"""Who names one of these may read what an optimiser's next step depends on."""
_REGISTRIES = frozenset(("_parameter_names", "_buffer_names", "_module_names"))
"""Attributes of modules that change only with what the instance holds."""


class Edge(NamedTuple):
    """A step from one object to another.

    Attributes:
        name: what code has to name to take it; None if it need not.
        child: the id of the other object, None for plain values.
        tie: what must hold for the step to lead there still; None if it always does.
    """

    name: str | None
    child: int | None
    tie: Tie | None


class Reach:
    """Everything that is reachable from some roots.

    What code names on its way from the roots is tied to what it is now: plain values, the contents of containers and
    of arrays. Of the rest, the ways to Tensors that are used are tied. A class that is marked `records_itself` leaves
    word with the capture of what its instances do in Python, and is left alone.

    Attributes:
        tensors: the Tensors by id.
        arrays: NumPy's arrays by id.
        names: the globals and attributes that the user's code names on its way from the roots.
        since: when this was begun.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.since = perf_counter()
        self.tensors: dict[int, Any] = {}
        self.arrays: dict[int, Any] = {}
        self._streams: list[tuple[Any, str]] = []
        self._iterators: list[Any] = []
        self._settings: list[tuple[Any, Any]] = []
        self._ways: dict[int, tuple[int, Tie | None]] = {}
        self._edges: dict[int, list[Edge]] = {}
        self._wholes: dict[int, Tie] = {}
        self._codes: dict[int, types.CodeType] = {}
        self._closed: set[int] = set()
        self._users: set[int] = set()
        self._modules: list[types.ModuleType] = []
        self._alive: list[Any] = []
        self._queue: deque[Any] = deque()
        self._roots = list(roots)
        self._python_stream = hash(random.getstate())
        for root in self._roots:
            self._meet(root, 0, None)
        self._walk()
        self._named, self._named_ties = self._follow_names()
        own = [code for place, code in self._codes.items() if place in self._named and place not in self._closed]
        self.names = frozenset([name for code in own for name in _names_in(code)])
        read = self._read_by_user()
        self._contents = {place: contents_of(array) for place, array in self.arrays.items() if place in read}

    def _walk(self) -> None:
        names: set[str] = set()
        known = 0
        while len(self._ways) < _LIMIT:
            while self._queue and len(self._ways) < _LIMIT:
                self._look_into(self._queue.popleft())
            if known == len(self._codes) + len(self._modules):
                break
            known = len(self._codes) + len(self._modules)
            names = {name for code in self._codes.values() for name in _names_in(code)}
            for module in self._modules:
                self._look_into_module(module, names)

    def _meet(self, value: Any, parent: int, tie: Tie | None, name: str | None = None) -> None:
        if type(value) is StepNumber:  # of a loop around
            return
        if isinstance(value, _PLAIN):
            if tie is not None:
                self._edges.setdefault(parent, []).append(Edge(name, None, tie))
            return
        self._edges.setdefault(parent, []).append(Edge(name, id(value), tie))
        if id(value) in self._ways:
            return
        self._ways[id(value)] = (parent, tie)
        self._alive.append(value)
        if isinstance(value, boxing.Tensor):
            self.tensors[id(value)] = value
            node = value._node
            if isinstance(node, Leaf):
                for hook in [*(node.hooks or {}).values(), *(node.after_accumulate or {}).values()]:
                    self._meet(hook, id(value), None)
        elif isinstance(value, np.ndarray):
            self.arrays[id(value)] = value
        else:
            self._queue.append(value)

    # ------------------------------------------------------------------ what objects hold

    def _look_into(self, value: Any) -> None:
        kind: Any = type(value)
        if kind is types.FunctionType:
            self._look_into_function(value)
        elif kind is types.MethodType:
            self._meet(value.__func__, id(value), None)
            self._meet(value.__self__, id(value), None)
        elif hasattr(kind, "stands_for"):
            self._meet(getattr(value, kind.stands_for), id(value), None)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self._meet(part, id(value), None)
        elif isinstance(value, (dict, list, tuple, deque, set, frozenset)):
            self._look_into_container(value)
        elif isinstance(value, types.ModuleType):
            self._modules.append(value)
        elif isinstance(value, type):
            self._look_into_class(value)
        elif isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
            self._streams.append((value, _stream_state(value)))
        elif hasattr(kind, "__next__") and not isinstance(value, io.IOBase):
            self._iterators.append(value)
        elif not isinstance(value, types.BuiltinFunctionType):
            self._look_into_instance(value)

    def _look_into_container(self, value: Any) -> None:
        if isinstance(value, dict):
            self._wholes[id(value)] = Tie("dict", value, None, (tuple(value), tuple(value.values())))
            items = list(value.items())
        elif isinstance(value, (set, frozenset)):
            self._wholes[id(value)] = Tie("set", value, None, frozenset(value))
            items = [(None, item) for item in value]
        else:
            if not isinstance(value, tuple):
                self._wholes[id(value)] = Tie("sequence", value, None, tuple(value))
            items = list(enumerate(value))
        for key, item in items:
            if not isinstance(item, _PLAIN):
                tied = not isinstance(value, (tuple, set, frozenset))
                self._meet(item, id(value), Tie("item", value, key, item) if tied else None)
        if type(value) not in (dict, list, tuple, set, frozenset, deque):
            self._look_into_instance(value)

    def _look_into_function(self, function: types.FunctionType) -> None:
        parent = id(function)
        self._codes[parent] = function.__code__
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                continue
            self._meet(content, parent, Tie("cell", cell, None, content))
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._meet(default, parent, None)
        if function.__code__.co_filename.startswith(PACKAGE):
            self._closed.add(parent)  # the library's own globals are no business of the user's
            return
        scope = function.__globals__
        for name in _names_in(function.__code__):
            if name in scope:
                self._meet(scope[name], parent, Tie("item", scope, name, scope[name]))

    def _look_into_module(self, module: types.ModuleType, names: set[str]) -> None:
        if _home_of(module.__name__) in _SETTLED or (getattr(module, "__file__", None) or "").startswith(PACKAGE):
            return
        scope = vars(module)
        foreign = "site-packages" in (getattr(module, "__file__", None) or "")
        known = {edge.name for edge in self._edges.get(id(module), ())}
        for name in names & scope.keys():
            value = scope[name]
            if name not in known and (not foreign or isinstance(value, (*_PLAIN, boxing.Tensor, np.ndarray))):
                self._meet(value, id(module), Tie("item", scope, name, value), name)

    def _look_into_class(self, kind: type) -> None:
        for base in kind.__mro__:
            if _home_of(base.__module__) in _SETTLED:
                continue
            ours = sys.modules[base.__module__].__file__ or ""
            for name, member in list(vars(base).items()):
                function = getattr(member, "__func__", getattr(member, "fget", getattr(member, "func", member)))
                # Python calls most methods with such names itself, without their being named.
                needed = None if name.startswith("__") and name != "__init__" else name
                if isinstance(function, types.FunctionType):
                    self._meet(function, id(kind), None, needed)
                elif needed is not None and not ours.startswith(PACKAGE) and not hasattr(member, "__get__"):
                    self._meet(member, id(kind), Tie("item", vars(base), name, member), name)

    def _look_into_instance(self, value: Any) -> None:
        kind: Any = type(value)
        if _home_of(kind.__module__) in _SETTLED and kind not in (types.SimpleNamespace, Namespace):
            return
        parent = id(value)
        if not (getattr(sys.modules.get(kind.__module__), "__file__", None) or "").startswith(PACKAGE):
            self._users.add(parent)
        held = getattr(value, "__dict__", None)
        if isinstance(held, dict):
            self._wholes[parent] = Tie("size", held, None, len(held))
            for name, item in list(held.items()):
                if name not in _REGISTRIES:
                    # Submodules are called without being named, by what goes through the registry.
                    needed = None if name in held.get("_module_names", ()) else name
                    self._meet(item, parent, Tie("item", held, name, item), needed)
        for base in kind.__mro__:
            slots = vars(base).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__weakref__", "__dict__") and hasattr(value, name) and not hasattr(value, "_source"):
                    item = getattr(value, name)
                    self._meet(item, parent, Tie("attribute", value, name, item), name)
        if getattr(kind, "records_itself", False):
            self._closed.add(parent)
            if hasattr(value, "param_groups"):
                self._settings.append((value, settings_of(value)))
        else:
            self._meet(kind, parent, None)

    # ------------------------------------------------------------------ conditions

    def ties(self, used: Iterable[Any], kept: Iterable[Any] = ()) -> list[Tie]:
        """Return what must stay as it is for code that uses these Tensors; what is in `kept` arrays may change."""
        found: dict[tuple[int, Any], Tie] = {}
        for value in used:
            for tie in self._way_to(value):
                found[(id(tie.container), tie.key)] = tie
        for tie in self._named_ties:
            found[(id(tie.container), tie.key)] = tie
        if not _HYPERPARAMETERS.isdisjoint(self.names):
            for optimizer, settings in self._settings:
                found[(id(optimizer), None)] = Tie("settings", optimizer, None, settings)
        # NumPy may read an array that operations read, too, and nobody hears of it: so these are tied like all others.
        written = {id(array) for array in kept}
        for place, contents in self._contents.items():
            if place not in written:
                found[(place, None)] = Tie("array", self.arrays[place], None, contents)
        return list(found.values())

    def put_back(self) -> None:
        """Undo what a run has changed of plain values, containers and small arrays that its code names."""
        for tie in self.ties(()):
            if not tie.holds():
                tie.put_back()

    def _way_to(self, value: Any) -> list[Tie]:
        ties: list[Tie] = []
        place = id(value)
        while place in self._ways:
            if place in self._closed and place not in self._codes:
                ties.clear()  # what is arranged within is the object's own business
            place, tie = self._ways[place]
            if tie is not None:
                ties.append(tie)
        return ties

    def _follow_names(self) -> tuple[set[int], list[Tie]]:
        """Return what code names on its way from the roots, and all ties on such ways."""
        met: set[int] = set()
        names: set[str] = set()
        ties: list[Tie] = []
        blocked: dict[str, list[Edge]] = {}
        waiting: list[Edge] = list(self._edges.get(0, ()))
        opened = False
        while waiting:
            edge = waiting.pop()
            if edge.name is not None and edge.name not in names and not opened:
                blocked.setdefault(edge.name, []).append(edge)
                continue
            if edge.tie is not None:
                ties.append(edge.tie)
            child = edge.child
            if child is None or child in met:
                continue
            met.add(child)
            if child in self._wholes:
                ties.append(self._wholes[child])
            code = self._codes.get(child)
            if code is not None:
                new = _names_in(code) - names
                names |= new
                waiting += [edge for name in new for edge in blocked.pop(name, ())]
                if child not in self._closed and not opened and new & _OPEN:
                    opened = True
                    waiting += [edge for edges in blocked.values() for edge in edges]
                    blocked.clear()
            elif child in self._closed:
                continue
            waiting += self._edges.get(child, ())
        return met, ties

    def _read_by_user(self) -> set[int]:
        """Return what code may read as data: of objects of the user's, what the user's own code names.

        The library names attributes, too (`parameters`, `weight`), but not those of objects that it does not know.
        """
        if not _OPEN.isdisjoint(self.names):
            return self._named
        met: set[int] = set()
        waiting = [(0, edge) for edge in self._edges.get(0, ())]
        while waiting:
            parent, edge = waiting.pop()
            child = edge.child
            if child is None or child in met or child not in self._named:
                continue
            if edge.name is not None and edge.name not in self.names and parent in self._users:
                continue
            met.add(child)
            if child in self._codes or child not in self._closed:
                waiting += [(child, edge) for edge in self._edges.get(child, ())]
        return met

    def unsteady(self) -> str | None:
        """Return what the function has drawn from, or changed, since the search, that no program could do again."""
        for iterator in self._iterators:
            if id(iterator) in self._named:
                return (
                    f"it goes on with an iterator (a {type(iterator).__name__}) from call to call, which a compiled "
                    "function does not. Pass what the iterator yields as an argument"
                )
        if hash(random.getstate()) != self._python_stream or any(
            [_stream_state(stream) != state for stream, state in self._streams]
        ):
            return (
                "it draws random numbers that would be the same in every run, from the module random or a generator "
                "of NumPy's. Draw from wg.random, or pass them as arguments"
            )
        for optimizer, settings in self._settings:
            if settings_of(optimizer) != settings:
                return (
                    "it changes hyperparameters of an optimiser, which a compiled function does not do again. Use a "
                    "schedule, or change them between calls"
                )
        for place, contents in self._contents.items():
            array = self.arrays[place]
            if contents_of(array) != contents:
                return (
                    f"it writes to an array of NumPy's, of shape {array.shape}, which a compiled function does not. "
                    "Make it a Tensor"
                )
        return None


def _home_of(module: Any) -> str:
    """Return the package at the root of a module's name."""
    return str(module).partition(".")[0]


def _stream_state(stream: Any) -> str:
    if isinstance(stream, random.Random):
        return str(hash(stream.getstate()))
    state = stream.get_state() if isinstance(stream, np.random.RandomState) else stream.bit_generator.state
    return repr(state if not isinstance(state, tuple) else (state[2], state[1].tobytes()))


def _names_in(code: types.CodeType) -> set[str]:
    """Return the names of globals and attributes that code uses, nested functions included."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
    return names


__all__ = ["Reach"]
