"""What the function of a loop's step may do if it is to stand for all steps."""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections import ChainMap, deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..core.step_numbers import StepNumber
from ..core.tape import PACKAGE

_STORES = frozenset(("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"))
_CHANGING = frozenset(
    """append appendleft extend insert pop popitem popleft clear remove discard update setdefault next send print
    write writelines open input setattr delattr step backward item tolist numpy random seed shuffle choice
    register_hook register_prehook retain_grad requires_grad_""".split()
)
"""Who names one of these may do something that each step has to do, unless it is a function that can be read."""
_CONTAINERS = (list, dict, set, bytearray, deque, np.ndarray)
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
_DEPTH = 6
_LIBRARIES = frozenset((*sys.stdlib_module_names, "numpy", "scipy", __name__.partition(".")[0]))


def is_steady(function: Any) -> bool:
    """Return whether nothing in a function's code says that Python would notice how often it is run."""
    return not _Search().changes(function, frozenset(), _DEPTH)


class _Search:
    """Looks through a function, and what it names, for what only its Python code can do again."""

    def __init__(self) -> None:
        self._met: dict[int, frozenset[str]] = {}

    def changes(self, value: Any, names: frozenset[str], depth: int) -> bool:
        """Whether it finds something in a value, given what the code names that has it."""
        while isinstance(value, (functools.partial, types.MethodType)):
            if self.changes(value.args if isinstance(value, functools.partial) else value.__self__, names, depth):
                return True
            value = value.func if isinstance(value, functools.partial) else value.__func__
        known = self._met.get(id(value))
        if not depth or (known is not None and names <= known):
            return False
        self._met[id(value)] = names | (known or frozenset())
        if isinstance(value, Iterator):
            return True
        if isinstance(value, types.FunctionType):
            return known is None and self._in_function(value, (), depth - 1)
        if isinstance(value, (tuple, list)):
            return any([self.changes(item, names, depth - 1) for item in value])
        return not isinstance(value, type) and self._in_instance(value, names, depth - 1)

    def _in_function(self, function: types.FunctionType, owner: tuple[Any, ...], depth: int) -> bool:
        """Look through a function; `owner` holds the object that it is a method of, if it is one."""
        cells = {
            name: cell.cell_contents
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ())
            if _is_full(cell) and type(cell.cell_contents) is not StepNumber
        }
        if function.__code__.co_filename.startswith(PACKAGE):  # one of the user's is wrapped, say
            wrapped = [value for value in cells.values() if isinstance(value, _FUNCTIONS)]
            return any([self.changes(value, frozenset(), depth) for value in wrapped])
        found: set[str] = set()
        if _is_changing(function.__code__, found, ChainMap(cells, function.__globals__), owner):
            return True
        names = frozenset(found)
        known = [
            *owner,
            *cells.values(),
            *[function.__globals__[name] for name in names if name in function.__globals__],
        ]
        if _sets_items(function.__code__) and any([isinstance(value, _CONTAINERS) for value in known]):
            return True
        known += [function.__defaults__ or (), getattr(function, "__wrapped__", None)]
        modules = [value for value in known if isinstance(value, types.ModuleType) and not _is_library(value.__name__)]
        known += [vars(module)[name] for module in modules for name in names if name in vars(module)]
        return any([self.changes(value, names, depth) for value in known if not isinstance(value, types.ModuleType)])

    def _in_instance(self, value: Any, names: frozenset[str], depth: int) -> bool:
        """Look through what code names of an object: what it holds, and its methods if its class is the user's."""
        kind, own = type(value), getattr(value, "__dict__", None)
        held = own if isinstance(own, dict) else {}
        if _is_library(kind.__module__):
            called = [item for item in held.values() if callable(item) and not isinstance(item, type)]
            return any([self.changes(item, names, depth) for item in called])
        wanted = names | _CALLED
        methods = [item for base in kind.__mro__ for name, item in vars(base).items() if name in wanted]
        functions = [item.fget if isinstance(item, property) else item for item in methods]
        if any([self._in_function(f, (value,), depth) for f in functions if isinstance(f, types.FunctionType)]):
            return True
        return any([self.changes(item, wanted, depth) for name, item in held.items() if name in wanted])


_CALLED = frozenset(("__call__", "forward", "__getitem__"))
"""Methods that are called without being named."""


def _is_library(name: str) -> bool:
    return name.partition(".")[0] in _LIBRARIES


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _is_changing(code: types.CodeType, names: set[str], scope: Mapping[str, Any], owner: tuple[Any, ...]) -> bool:
    """Whether code binds names outside of it, sets attributes or calls what changes things; `names` gets its names."""
    names.update(code.co_names)
    before: dis.Instruction | None = None
    for instruction in dis.get_instructions(code):
        if instruction.opname in _STORES:
            return True
        if instruction.opname in ("STORE_DEREF", "DELETE_DEREF") and instruction.argval in code.co_freevars:
            return True
        if instruction.opcode in dis.hasname and instruction.argval in _CHANGING:
            found = _function_named(instruction, before, code, scope, owner)
            if found is None or found.__code__.co_filename.startswith(PACKAGE):
                return True
        before = instruction
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return any([_is_changing(part, names, scope, owner) for part in inner])


def _function_named(
    instruction: dis.Instruction,
    before: dis.Instruction | None,
    code: types.CodeType,
    scope: Mapping[str, Any],
    owner: tuple[Any, ...],
) -> types.FunctionType | None:
    """Return the function that a name means, of those that are looked through themselves; None: who knows."""
    name = instruction.argval
    if instruction.opname == "LOAD_GLOBAL":
        found = scope.get(name)
    elif before is not None and before.opname in ("LOAD_GLOBAL", "LOAD_DEREF"):
        found = _attribute_of(scope.get(before.argval), name)
    else:
        is_own = before is not None and before.opname == "LOAD_FAST" and before.argval == code.co_varnames[0]
        found = _attribute_of(owner[0], name) if owner and is_own else None
    return found if isinstance(found, types.FunctionType) else None


def _attribute_of(value: Any, name: str) -> Any:
    """Return what a name means of a module, or of an object's class, if these are the user's."""
    if isinstance(value, types.ModuleType):
        return None if _is_library(value.__name__) else vars(value).get(name)
    is_known = not _is_library(type(value).__module__) and name not in getattr(value, "__dict__", ())
    return getattr(type(value), name, None) if is_known else None


def _sets_items(code: types.CodeType) -> bool:
    """Whether code sets or deletes items of something."""
    if any([instruction.opname in ("STORE_SUBSCR", "DELETE_SUBSCR") for instruction in dis.get_instructions(code)]):
        return True
    return any([_sets_items(inner) for inner in code.co_consts if isinstance(inner, types.CodeType)])


__all__ = ["is_steady"]
