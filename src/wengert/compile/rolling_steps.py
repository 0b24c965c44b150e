"""What the function of a loop's step may do if it is to stand for all steps."""

from __future__ import annotations

import dis
import functools
import types
from typing import Any

from ..core.tape import PACKAGE

_STORES = frozenset(("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"))
_CHANGING = frozenset(
    """append appendleft extend insert pop popitem popleft clear remove discard update setdefault next send print
    write writelines open input setattr delattr step backward item tolist numpy""".split()
)
"""Who names one of these may do something that each step has to do."""
_DEPTH = 4


class Unrollable(BaseException):
    """A loop cannot be one equation. No error: who catches all errors in a step must not catch this."""


def is_steady(function: Any) -> bool:
    """Return whether nothing in a function's code says that Python would notice how often it is run."""
    return not _changes(function, set(), _DEPTH)


def _changes(value: Any, met: set[int], depth: int) -> bool:
    """Whether a function, or one that it names or closes over, does what only its Python code can do again."""
    while isinstance(value, (functools.partial, types.MethodType)):
        value = value.func if isinstance(value, functools.partial) else value.__func__
    value = getattr(value, "__wrapped__", value)
    if not isinstance(value, types.FunctionType) or id(value) in met or value.__code__.co_filename.startswith(PACKAGE):
        return False
    met.add(id(value))
    names: set[str] = set()
    if _is_changing(value.__code__, names):
        return True
    if not depth:
        return False
    others = [cell.cell_contents for cell in value.__closure__ or () if _is_full(cell)]
    others += [value.__globals__[name] for name in names if name in value.__globals__]
    others += [value.__defaults__ or ()]
    return any([_changes(other, met, depth - 1) for other in others])


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _is_changing(code: types.CodeType, names: set[str]) -> bool:
    """Whether code binds names outside of it, sets attributes or calls what changes things; `names` gets what it names."""
    names.update(code.co_names)
    if not _CHANGING.isdisjoint(code.co_names):
        return True
    for instruction in dis.get_instructions(code):
        if instruction.opname in _STORES:
            return True
        if instruction.opname in ("STORE_DEREF", "DELETE_DEREF") and instruction.argval in code.co_freevars:
            return True
    return any([_is_changing(inner, names) for inner in code.co_consts if isinstance(inner, types.CodeType)])


class Untold:
    """Stands for the number of a step in a function that is run once for all of them: whoever asks is not told."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        raise Unrollable(name)


class Offset:
    """Stands for how many steps there were: added to the first number of a loop, it is a number that is not told."""

    __slots__ = ()

    def __radd__(self, other: int) -> Untold:
        return Untold()


def _refuse(_self: Any, *_args: Any) -> Any:
    raise Unrollable("the number of a step")


_ASKED = """add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod divmod rdivmod pow rpow lshift rlshift
rshift rrshift and rand xor rxor or ror neg pos abs invert lt le eq ne gt ge hash bool int float complex index round
trunc floor ceil iter len getitem call str repr format array array_ufunc array_function""".split()
for _name in _ASKED:
    setattr(Untold, f"__{_name}__", _refuse)


__all__ = ["Offset", "Unrollable", "Untold", "is_steady"]
