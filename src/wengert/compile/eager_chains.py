"""Programs of operations one after the other (see `core.chains`): what lies between them is fused."""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.chains import Flags, Form, Link, kept
from ..core.primitive import REGISTRY
from .abstract import kind_of
from .eager import OFF, Accounts, Program, Unkeyed, attempt, frozen, tariff
from .eager_operations import saving_of
from .graph import Equation, Graph, Value
from .llvm.machine import Machine

accounts = Accounts()

Arrays = Sequence[tuple[np.ndarray, ...]]


class Chain(Program):
    """A program of operations one after the other.

    Attributes:
        blanks: for each operation, what stands for its result; None where the program returns it.
        shapes: of the results that are returned, for those that the program has under another one.
    """

    __slots__ = ("blanks", "shapes")

    def __init__(
        self, machine: Machine, x: Any, links: Sequence[Link], others: Arrays, outs: Sequence[Any], wanted: set[int]
    ) -> None:
        value = Value(x.shape, x.dtype)
        inputs, equations, results = [value], [], []
        for link, arrays, out in zip(links, others, outs):
            behind = [Value(array.shape, array.dtype) for array in arrays]
            result = Value(out.shape, out.dtype)
            equations.append(Equation(link.primitive, (value, *behind), link.params, (result,)))
            inputs.extend(behind)
            results.append(result)
            value = result
        self.blanks = [None if place in wanted else out for place, out in enumerate(outs)]
        self.shapes: list[Any] = []
        outputs: list[Value] = []
        for place in sorted(wanted):
            reshaped = links[place].primitive.name == "reshape_to" and 0 < place < len(outs) - 1
            seen = reshaped and place - 1 not in wanted
            outputs.append(results[place - seen])
            self.shapes.append(results[place].shape if seen else None)
        super().__init__(Graph("chain", inputs, equations, outputs), machine)

    def __call__(self, x: Any, others: Arrays) -> list[Any]:
        """Return a result for each operation."""
        outs = self.run([x, *[array for arrays in others for array in arrays]])
        rest = iter([out if shape is None else out.reshape(shape) for out, shape in zip(outs, self.shapes)])
        return [next(rest) if blank is None else blank for blank in self.blanks]


class _Key:
    """What a program of a chain depends on, hashed once."""

    __slots__ = ("_hash", "parts")

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        self._hash = hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is _Key and self.parts == other.parts)


def chained(x: Any, form: Form, others: Arrays, flags: Flags) -> list[Any] | None:
    """Return what native code makes of a chain, a result for each operation; None where it is their own turn."""
    key = form.keys.get(flags)
    if key is None:
        try:
            key = form.keys[flags] = _key_of(x, form, others, flags)
        except Unkeyed:
            return None
    for array in (x, *[array for arrays in others for array in arrays]):
        if not array.flags.c_contiguous:
            return None  # it decides how results lie in memory, too
    account = accounts.of(key, lambda: _saving(x, form, others))
    # No later than any operation by itself, so that none of them is compiled in vain.
    program = account.usable(tariff.operation, lambda: _made(x, form, others, flags))
    return None if program is None else program(x, others)


def _key_of(x: Any, form: Form, others: Arrays, flags: Flags) -> _Key:
    parts: list[Any] = [_kind(x, x.dtype)]
    for link, arrays, tracked in zip(form.links, others, flags):
        static = frozen(link.params) if link.params else None
        parts.append((link.primitive, static, tracked, *[_kind(array, x.dtype) for array in arrays]))
    return _Key(tuple(parts))


def _kind(array: Any, dtype: Any) -> Any:
    if type(array) is not np.ndarray or array.dtype != dtype or dtype.kind != "f" or not dtype.isnative:
        raise Unkeyed
    return array.shape, dtype


def _results(x: Any, form: Form, others: Arrays) -> list[np.ndarray] | None:
    """Return arrays without memory that are like the results of a chain; None if that can't be told."""
    kind = (x.shape, x.dtype)
    outs: list[np.ndarray] = []
    for link, arrays in zip(form.links, others):
        kind = kind_of(link.primitive, (kind, *[(array.shape, array.dtype) for array in arrays]), link.params)
        if kind is None:
            return None
        outs.append(np.broadcast_to(np.zeros((), kind[1]), kind[0]))
    return outs


def _made(x: Any, form: Form, others: Arrays, flags: Flags) -> Any:
    def make(machine: Machine) -> Any:
        outs, links = _results(x, form, others), form.links
        if outs is None or not all([REGISTRY[link.primitive.name] is link.primitive for link in links]):
            return OFF
        wanted = kept(x, links, others, flags, outs) | {len(outs) - 1}
        program = Chain(machine, x, links, others, outs, wanted)
        return program if program.executable.is_one_native_call else OFF

    return attempt(make)


def _saving(x: Any, form: Form, others: Arrays) -> float:
    """Return about how many seconds native code saves each time: what it saves in all of the operations."""
    outs = _results(x, form, others)
    if outs is None:
        return 0.0
    operands = zip([x, *outs], others)
    return sum([saving_of(link.primitive, (first, *rest)) for link, (first, rest) in zip(form.links, operands)])


__all__ = ["Chain", "accounts", "chained"]
