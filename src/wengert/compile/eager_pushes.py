"""Values and tangents of one elementwise operation as programs: what forward mode does on large arrays, in one pass.

NumPy makes a pass over memory for the value, for each partial, each product and each sum. A program makes one. As in
sweeps, products with zeros are not guarded in it: if anything that comes out is not finite, NumPy does it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import boxing
from ..core.primitive import REGISTRY
from ..core.zeros import ZERO
from .capture import CaptureTrace
from .eager import OFF, Accounts, Unkeyed, attempt, frozen, tariff
from .eager_sweeps import MOST_FAILURES, Arrays, captured, tracer_of
from .llvm.machine import Machine

accounts = Accounts()
_BYTE = 0.3e-9
"""Seconds that are saved for each byte that goes in."""
_LEAST = 3
"""Occurrences before there is a program, at the least: numbers are part of the key, and may never come again."""


def pushed(primitive: Any, values: Sequence[Any], dots: Sequence[Any]) -> tuple[Any, Any] | None:
    """Return the value and the tangent of an operation on raw arrays and numbers; None where it is NumPy's turn."""
    arrays = Arrays()
    try:
        key = (
            primitive,
            *[_key_of(arrays, value) for value in values],
            *[None if dot is ZERO else _key_of(arrays, dot) for dot in dots],
        )
    except Unkeyed:
        return None
    account = accounts.of(key, lambda: _saving(arrays))
    program = account.usable(
        tariff.operation, lambda: attempt(lambda machine: _made(machine, primitive, arrays, values, dots))
    )
    if program is None:
        return None
    found = program.finite(arrays)
    if found is None:
        if program.failures >= MOST_FAILURES:
            account.retire()
        return None
    return found[0], found[1]


def _key_of(arrays: Arrays, value: Any) -> Any:
    if type(value) is not np.ndarray:
        return frozen(value)
    if not value.flags.c_contiguous or not value.dtype.isnative:
        raise Unkeyed  # NumPy's results would lie as it does
    return arrays.number_of(value)


def _saving(arrays: Arrays) -> float:
    return min(sum([array.nbytes for array in arrays.arrays]) * _BYTE, tariff.operation * tariff.share / (_LEAST - 0.5))


def _made(machine: Machine, primitive: Any, arrays: Arrays, values: Sequence[Any], dots: Sequence[Any]) -> Any:
    if primitive.name not in REGISTRY or REGISTRY[primitive.name] is not primitive:
        return OFF  # the user's own

    def run(trace: CaptureTrace) -> list[tuple[int, Any]]:
        tracers = [tracer_of(trace, array, None) for array in arrays.arrays]

        def traced(value: Any) -> Any:
            return tracers[arrays.numbers[id(value)]] if type(value) is np.ndarray else value

        moving = tuple([dot if dot is ZERO else traced(dot) for dot in dots])
        out, out_dot = primitive.jvp(boxing.operations, tuple(map(traced, values)), moving, {})
        return [(0, out), (1, out_dot)]

    program = captured(machine, primitive.name, run)
    return program if program is not OFF and program.executable.is_one_native_call else OFF


__all__ = ["accounts", "pushed"]
