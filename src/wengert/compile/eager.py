"""Native kernels for eager code: what an operation or a sweep does on large arrays, compiled once it has paid.

Eager code meets the same operations on arrays of the same shapes over and over. An operation becomes a program of one
equation; a whole sweep becomes one program, in which what the pullbacks do is fused as it is in a compiled function.
When: for each key an account is kept of what native code would have saved so far. When that comes to a fraction of what
compiling costs, it is compiled. The account goes by shapes and counts, never by clocks, so that a program which runs
twice computes the same bits twice.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..core import native
from ..core.primitive import Primitive
from ..errors import NativeCodeError
from .executable import Executable, build
from .graph import Graph
from .llvm.machine import Machine, host_machine

MOST_KEPT = 512
"""Keys that are remembered; the one that was not met for the longest time is forgotten first."""
OFF: Any = "off"
"""What stands in the place of a program where there is none to be had."""


class Tariff:
    """When compiling pays.

    Attributes:
        operation, node: seconds that it takes to compile an operation, and each Node of a sweep.
        share: the part of them that native code must have been able to save before it is made.
    """

    __slots__ = ("node", "operation", "share")

    def __init__(self, operation: float = 0.03, node: float = 0.008, share: float = 0.05) -> None:
        self.operation = operation
        self.node = node
        self.share = share


tariff = Tariff()


_NEVER = 1 << 64


class Account:
    """What is known of one key: seconds that would have been saved so far, and the program once there is one."""

    __slots__ = ("_born", "_retired", "program", "saved", "saving")

    def __init__(self, saving: float) -> None:
        self.saving = saving
        self.saved = 0.0
        self.program: Any = None
        self._born = self._retired = _NEVER

    def usable(self, cost: float, make: Callable[[], Any]) -> Any:
        """Return the program if it is to be used now, else None; make it when it is time (None: it could not be told).

        Of what may be run again (see `native.as_of`), the whole is computed as it was in the beginning.
        """
        if self.program is None:
            if not self.matures(cost):
                return None
            self.program = make()
            self._born = native.number_of_program()
        program = self.program
        if program is None or program is OFF or not native.may_be_used(self._born, self._retired):
            return None
        return None if raises_floating_point_errors() else program

    @property
    def is_retired(self) -> bool:
        """Whether the program is not used any more, but for what was begun before."""
        return self._retired < _NEVER

    def retire(self) -> None:
        """Use the program no more."""
        self._retired = native.number_of_program()

    def matures(self, cost: float) -> bool:
        """Take note of one more occurrence; return whether the program is to be made now."""
        self.saved += self.saving
        return self.saved >= cost * tariff.share


class Accounts:
    """Accounts by key; those that are not used any more make room for others."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[Hashable, Account] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: Hashable, saving: Callable[[], float]) -> Account:
        """Return the account of a key; where it is a new one, `saving()` says what one occurrence would save."""
        account = self._accounts.get(key)
        if account is None:
            account = Account(saving())
            with self._lock:
                account = self._accounts.setdefault(key, account)
                if len(self._accounts) > MOST_KEPT:
                    self._accounts.popitem(last=False)
        else:
            with suppress(KeyError):  # another thread has just made room
                self._accounts.move_to_end(key)
        return account

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._accounts.clear()

    def all(self) -> list[Account]:
        """Return the accounts that there are."""
        return list(self._accounts.values())

    def programs(self) -> list[Any]:
        """Return the programs that there are, and are still in use."""
        return [a.program for a in self._accounts.values() if isinstance(a.program, Program) and not a.is_retired]


class Program:
    """A compiled graph, run on arrays that it keeps no reference to."""

    __slots__ = ("executable",)

    def __init__(self, graph: Graph, machine: Machine) -> None:
        self.executable: Executable = build(graph, machine)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs, in memory of their own; those with a home are written there."""
        try:
            return self.executable.run(arrays)
        finally:
            self.executable.forget()


class Unkeyed(Exception):
    """Something on which a program would depend cannot be a part of its key."""


_PLAIN: frozenset[type] = frozenset(
    [int, bool, str, bytes, type(None), type(Ellipsis), type, *[type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDG"]]
)


def frozen(value: Any) -> Hashable:
    """Return a static value as a part of a key.

    Raises:
        Unkeyed: it is none.
    """
    kind: Any = type(value)
    if kind in _PLAIN:
        return (kind, value)
    if kind is float or kind is complex:
        return (kind, repr(value))  # -0.0 equals 0.0
    if kind is tuple:
        return (kind, *[frozen(item) for item in value])
    if kind is slice:
        return (kind, frozen(value.start), frozen(value.stop), frozen(value.step))
    if kind is dict:
        return (kind, *[(name, frozen(item)) for name, item in value.items()])
    if kind is Primitive:  # a step that a write takes to its region
        return value
    raise Unkeyed


def attempt(make: Callable[[Machine], Any]) -> Any:
    """Return what is made for this machine, or `OFF`: nothing that goes wrong here may stop code that NumPy can run."""
    try:
        return make(host_machine())
    except NativeCodeError:
        native.set_eager_kernels(False)
        return OFF
    except Exception:
        if raising:
            raise
        return OFF


def order_of(array: np.ndarray) -> tuple[int, ...] | None:
    """Return the order of axes in which an array is C-contiguous; None if it is as it is, or in none (then copy it)."""
    if array.flags.c_contiguous:
        return None
    strides = array.strides
    axes = tuple(sorted(range(array.ndim), key=strides.__getitem__, reverse=True))
    return axes if array.transpose(axes).flags.c_contiguous else None


def settled(array: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    """Return an array in memory that a program reads: its axes in the order given, or copied."""
    lain = array if axes is None else array.transpose(axes)
    return lain if lain.flags.c_contiguous else lain.copy()


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the order that undoes another."""
    return tuple([axes.index(i) for i in range(len(axes))])


raising = False
"""Whether what goes wrong while a program is made is raised: for tests."""


def raises_floating_point_errors() -> bool:
    """Return whether NumPy is told to raise or to call something where native code would go on."""
    states = np.geterr()
    return "raise" in states.values() or "call" in states.values() or "log" in states.values()
