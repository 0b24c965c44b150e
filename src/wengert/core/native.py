"""Where native kernels for eager code come in: hooks that the compiler fills when large arrays are first met.

The core cannot import the compiler, and most programs never need it. So the paths of eager code ask here: the general
dispatcher for operations on arrays of at least `smallest` elements, and the sweep if it `met` such operations. The fast
path asks nothing until the first large array is met; then its kernels are replaced by ones that look at sizes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np

SMALLEST = 1 << 14
"""Elements of an operand from which on it is considered whether native code pays."""
SMALLEST_MATRIX = 1 << 12
"""Elements of a Jacobian or a Hessian from which on this is considered."""
_WAIT = 1 << 23
"""Elements that operations on large arrays have met when the compiler is loaded: short scripts need not wait for it."""

_STEPS = 16
"""How many arrays of its size lead to a matrix of derivatives, at a guess."""

_PASSES = 4
"""How many passes over memory NumPy makes for a value and its tangent: so many times fewer elements pay."""

_ARITHMETIC, _FUNCTION, _OTHER, _NEVER = 1 << 19, 1 << 17, 1 << 15, 1 << 62
FROM: dict[str, int] = {
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "negative", "square"), _ARITHMETIC),
    **dict.fromkeys(("exp", "log", "sin", "cos"), _FUNCTION),
    **dict.fromkeys(("tanh", "power"), _NEVER),
}
"""Elements from which on elementwise operations pay, by name: some of NumPy's are as quick."""

smallest = SMALLEST
"""`SMALLEST`, or a number that no array has where native kernels are switched off."""
smallest_matrix = SMALLEST_MATRIX
"""The same for `SMALLEST_MATRIX`."""
factor = 1
"""What sizes are multiplied by before they are compared with `FROM`: 0 where native kernels are switched off."""
met = 0
"""Operations on large arrays since the last sweep."""
engaged = False
"""Whether a large array has been met in this process."""

_made = 0
"""How many programs have been made."""
_until: ContextVar[int] = ContextVar("wengert_programs_until", default=sys.maxsize)
"""How many of them may be used."""

load: Callable[[], Any] | None = None
"""Returns the compiler's part in this (see `compile.eager`); set by the package when it is imported."""
_provider: Any = False
_switches: list[Callable[[], None]] = []


def on_engaging(switch: Callable[[], None]) -> None:
    """Have `switch()` called when the first large array of the process is met."""
    _switches.append(switch)


def engage() -> None:
    """Take note of the first large array."""
    global engaged
    if not engaged:
        engaged = True
        for switch in _switches:
            switch()


def set_eager_kernels(on: bool) -> bool:
    """Let eager code run native kernels on large arrays, or leave all to NumPy; return what was set before.

    They are on unless the environment variable `WENGERT_EAGER_KERNELS` is 0.

    >>> import wengert as wg
    >>> before = wg.set_eager_kernels(False)
    >>> wg.set_eager_kernels(before)
    False
    """
    global smallest, smallest_matrix, factor, met
    before = smallest != sys.maxsize
    smallest, smallest_matrix, factor = (SMALLEST, SMALLEST_MATRIX, 1) if on else (sys.maxsize, sys.maxsize, 0)
    met = met if on else 0
    return before


def mark() -> int:
    """Return a mark of which programs may be used now, for `as_of`."""
    return min(_until.get(), _made)


@contextmanager
def as_of(moment: int) -> Generator[None]:
    """Let the programs be used that there were at a mark: what is run again later shall compute the same bits.

    Nor are operations done together, in chains and sweeps: whether they are depends on what is tracked and recorded.
    """
    token = _until.set(min(moment, _until.get()))
    try:
        yield
    finally:
        _until.reset(token)


def leave_to_numpy() -> int:
    """Let no program be used from here on in what may be run again; return what `go_on` takes.

    Transforms have quick ways on raw arrays, which are not taken where operations are recorded.
    """
    before = _until.get()
    if before != sys.maxsize:
        _until.set(0)
    return before


def go_on(before: int) -> None:
    """End what `leave_to_numpy` has begun."""
    if before != sys.maxsize:
        _until.set(before)


_as_ever = nullcontext()


def sweeping(boxed: bool) -> AbstractContextManager[None]:
    """Leave a sweep over boxes to NumPy where it may be run again: it may have been one over raw arrays."""
    return as_of(0) if boxed and _until.get() != sys.maxsize else _as_ever


def number_of_program() -> int:
    """Return the number of a program that has just been made, or put out of use."""
    global _made
    _made += 1
    return _made


def may_be_used(born: int, retired: int) -> bool:
    """Return whether a program may be used: if it had been made by now, or the mark, and not put out of use."""
    return born <= _until.get() < retired


def least_of(name: str) -> int:
    """Return from how many elements on an elementwise operation is considered for native code."""
    return FROM.get(name, _OTHER)


def is_for(x: Any, y: Any) -> bool:
    """Return whether one of two arrays is large enough for `computed`."""
    return x.size >= smallest or y.size >= smallest


def computed(primitive: Any, operands: Sequence[Any], params: Any) -> Any:
    """Return what native code makes of raw operands, of which one is large; None where it is NumPy's turn.

    What it returns is as `primitive.impl` returns it. Errors are NumPy's: only what went well there is done here.
    """
    global met
    met += 1
    if not _provider and not _is_time(operands):
        return None
    return _provider.computed(primitive, operands, params)


def chained(x: Any, form: Any, others: Sequence[Any], flags: Any) -> Any:
    """Return what native code makes of raw operands of a chain (see `core.chains`); None where it is not its turn."""
    global met
    if _until.get() != sys.maxsize or (not _provider and not _is_time((x,))):
        return None
    outs = _provider.chained(x, form, others, flags)
    if outs is not None:
        met += len(outs)
    return outs


def pushed(primitive: Any, values: Sequence[Any], dots: Sequence[Any]) -> Any:
    """Return (the value, the tangent) of an elementwise operation on raw arrays; None where it is not natively done."""
    global met
    largest = 0
    for value in (*values, *dots):
        if type(value) is np.ndarray and value.size > largest:
            largest = value.size
    if largest < smallest or largest * _PASSES < least_of(primitive.name) or _until.get() != sys.maxsize:
        return None
    met += 1
    return _provider.pushed(primitive, values, dots) if _provider or _is_time((*values, *dots)) else None


def swept(
    found: Any, seeds: Any, retain: bool, targets: Any, route: Any, masked: bool | None, boxed: bool
) -> tuple[Any, Any, Any]:
    """Let native code do a sweep, or its beginning, if that pays: over raw arrays, or what transforms made boxes of.

    Returns:
        What was found (`found` if nothing was done), seeds to go on from, and whether products are guarded from there.
    """
    global met
    if not retain:
        met = 0
    seeds = list(seeds)
    begun: Any = None
    if _until.get() != sys.maxsize:
        return found, seeds, masked
    if _provider and boxed:
        done = _provider.swept_boxed(seeds, retain, targets, route)
        begun = done and (done, [], masked)
    elif _provider:
        begun = _provider.swept(seeds, retain, targets, route, masked)
    return begun or (found, seeds, masked)


def derived(
    rule: Any, outputs: Any, nodes: Any, extras: Any, route: Any, rows: int, derive: Callable[..., Any], elements: int
) -> Any:
    """Return what `derive` makes of a tape over raw arrays (see `compile.eager_derivatives`); None: not natively.

    Args:
        rule, outputs, nodes, extras, route, rows, derive: the tape, and what is done to it.
        elements: how many there are in an array of what is computed on the way.
    """
    global met, _waited
    if _until.get() != sys.maxsize:
        return None
    if not _provider:
        _waited += elements * _STEPS
        if not _is_loaded():
            return None
    found = _provider.derived(rule, outputs, nodes, extras, route, rows, derive)
    if found is not None:
        met = 0
    return found


def updated(rule: Any, record: Callable[[Sequence[Any]], None], arrays: Sequence[Any]) -> bool:
    """Do to arrays what `record` does to things like them, natively; return whether it is done, else nothing is."""
    if arrays[0].size < smallest or (not _provider and not _is_time(arrays)):
        return False
    return _provider.updated(rule, record, arrays)


_waited = 0


def _is_time(operands: Sequence[Any]) -> bool:
    """Load the compiler if enough was done on large arrays; return whether it is there."""
    global _waited
    if not engaged:
        engage()
    _waited += max([getattr(operand, "size", 0) for operand in operands])
    return _is_loaded()


def _is_loaded() -> bool:
    global _provider
    if _waited < _WAIT or load is None:
        return False
    _provider = load()
    return True


if os.environ.get("WENGERT_EAGER_KERNELS", "1") == "0":
    set_eager_kernels(False)
