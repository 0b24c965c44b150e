"""Concrete calls to check an operation on, drawn from its declared domain, samples and special points.

Everything is deterministic: the random numbers depend on the operation's name alone. Nothing here runs an operation.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any
from zlib import crc32

import numpy as np

from ..core.primitive import ELEMENTWISE, Primitive
from ..declare import Sample

FLOAT = "float"
INTEGER = "integer"
INTEGERS = "integers"

UNARY: tuple[Any, ...] = (((2, 3),), ((),), ((0,),), ((3, 1, 2),))
BINARY: tuple[Any, ...] = (
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((), ()),
    ((0, 3), (1, 3)),
    ((2, 3), FLOAT),
    (FLOAT, (2, 3)),
    ((3,), INTEGER),
    (INTEGER, (3,)),
    ((2, 3), INTEGERS),
    (INTEGERS, (2, 3)),
    ((), FLOAT),
)
"""Pairs of shapes that broadcast; Python numbers and integer arrays on either side."""
TERNARY: tuple[Any, ...] = (
    ((2, 3), (2, 3), (2, 3)),
    ((2, 1), (3,), (1, 1)),
    ((3,), (), (2, 3)),
    ((2, 3), (2, 3), FLOAT),
    ((2, 3), FLOAT, (3,)),
    ((), (), ()),
    ((0, 2), (2,), (1, 2)),
)

_ATTEMPTS = 100
_STEP = 0.02
_MARGIN = 0.05


class Case:
    """One call: arrays (or Python numbers) and static parameters, and how to perturb it.

    Attributes:
        arrays: the array arguments in order.
        params: the static parameters.
        moves: for each argument whether it can carry a tangent.
        step: the first step of a difference along a direction of unit size; it stays inside the domain.
        sample: the declared sample that the arrays were drawn by, so that more can be; None if they come from a domain.
    """

    __slots__ = ("arrays", "label", "moves", "params", "sample", "step")

    def __init__(
        self,
        label: str,
        arrays: list[Any],
        params: dict[str, Any],
        moves: tuple[bool, ...],
        step: float,
        sample: Sample | None = None,
    ) -> None:
        self.sample = sample
        self.label = label
        self.arrays = arrays
        self.params = params
        self.moves = moves
        self.step = step

    def __repr__(self) -> str:
        return self.label

    @property
    def moving(self) -> tuple[int, ...]:
        """The positions of the arguments that can carry a tangent."""
        return tuple(i for i, moves in enumerate(self.moves) if moves)

    def replaced(self, arrays: list[Any], suffix: str) -> Case:
        """Return the same call on other arrays."""
        return Case(f"{self.label} {suffix}", arrays, self.params, self.moves, self.step, self.sample)

    def cast(self, *dtypes: Any) -> Case:
        """Return the same call with its floating arrays in the given dtypes, taken in turn."""
        arrays, place = [], 0
        for a in self.arrays:
            if isinstance(a, np.ndarray) and a.dtype.kind == "f":
                a = a.astype(dtypes[place % len(dtypes)])
                place += 1
            arrays.append(a)
        return self.replaced(arrays, " ".join(str(np.dtype(d)) for d in dtypes))

    def directions(self, rng: np.random.Generator) -> list[Any]:
        """Return a random direction of unit size for every argument that moves, None for the others."""
        return [
            np.asarray(rng.uniform(-1, 1, a.shape), a.dtype) if moves else None
            for a, moves in zip(self.arrays, self.moves)
        ]


def generator(name: str) -> np.random.Generator:
    """Return the random numbers of one operation's checks."""
    return np.random.default_rng(crc32(name.encode()))


def cases(record: Any) -> list[Case]:
    """Return the calls that a primitive or composite is checked on, in float64.

    An operation with a domain (every elementwise one) is called on a table of shapes; any other on its samples. A
    fixed argument of an elementwise operation, such as a condition, is drawn from {False, True} unless the
    domain is given argument by argument.
    """
    rng = generator(record.name)
    if isinstance(record.samples, (list, tuple)):
        return [_from_sample(record, sample, rng) for sample in record.samples]
    return list(_from_domain(record, rng))


def fixed_positions(record: Any, count: int) -> frozenset[int]:
    """Return the positions of the arguments that never carry a tangent."""
    names = getattr(record, "arguments", ())
    fixed = getattr(record, "fixed", ())
    if getattr(record, "variadic", False):
        return frozenset()
    return frozenset(i for i in range(count) if i < len(names) and names[i] in fixed)


def _moves(record: Any, arrays: list[Any]) -> tuple[bool, ...]:
    fixed = fixed_positions(record, len(arrays))
    return tuple(isinstance(a, np.ndarray) and a.dtype.kind == "f" and i not in fixed for i, a in enumerate(arrays))


def argument_count(record: Any) -> int:
    """Return how many arrays an operation with a domain takes."""
    if isinstance(record, Primitive):
        return len(record.arguments)
    if _is_nested(record.domain):
        return len(record.domain)
    parameters = inspect.signature(record.function).parameters.values()
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _is_nested(domain: Any) -> bool:
    return not isinstance(domain[0], (int, float))


def intervals(record: Any, count: int) -> list[Any]:
    """Return the interval of every argument; None for a fixed one that is a truth value."""
    if _is_nested(record.domain):
        return list(record.domain)
    fixed = fixed_positions(record, count) if getattr(record, "kind", "") == ELEMENTWISE else frozenset()
    return [None if i in fixed else record.domain for i in range(count)]


def _from_domain(record: Any, rng: np.random.Generator) -> Iterator[Case]:
    count = argument_count(record)
    spans = intervals(record, count)
    avoid = _special_coordinates(record, count)
    table = {1: UNARY, 2: BINARY, 3: TERNARY}.get(count, (((2, 3),) * count, ((),) * count))
    step = min((_STEP * (high - low) for low, high in filter(None, spans)), default=_STEP)
    for forms in table:
        arrays: list[Any] = []
        for _ in range(_ATTEMPTS):
            arrays = [_draw(rng, form, span, points) for form, span, points in zip(forms, spans, avoid)]
            if any(a is None for a in arrays) or not _nearly_tied(arrays, step):
                break
        if any(a is None for a in arrays):
            continue
        label = ", ".join(str(f) for f in forms)
        yield Case(f"({label})", arrays, {}, _moves(record, arrays), min(step, 0.1))


def _nearly_tied(arrays: list[Any], step: float) -> bool:
    """Return whether two arguments are so close somewhere that a step could make them equal, where many have a kink."""
    numbers = [a for a in arrays if np.asarray(a).dtype.kind != "b"]
    return any(np.any(np.abs(a - b) < 2 * step) for a, b in combinations(numbers, 2))


def _special_coordinates(record: Any, count: int) -> list[list[float]]:
    """Return, for every argument, the finite coordinates of declared special points, which draws keep away from."""
    points = [s.point for s in record.special or ()]
    return [[p[i] for p in points if len(p) == count and math.isfinite(p[i])] for i in range(count)]


def _draw(rng: np.random.Generator, form: Any, span: Any, avoid: list[float]) -> Any:
    """Draw one argument: an array of a shape, a Python number, or integers (None where the interval holds none)."""
    if span is None:
        return rng.random(form) < 0.5 if isinstance(form, tuple) else True
    low, high = span
    if form in (INTEGER, INTEGERS):
        middle = math.ceil((low + high) / 2)
        fits = [n for n in (middle, middle + 1, middle - 1) if low < n < high and n not in avoid]
        if not fits:
            return None
        return fits[0] if form == INTEGER else rng.choice(fits, 3)
    array = uniform(rng, () if form == FLOAT else form, low, high)
    for _ in range(_ATTEMPTS):
        near = np.zeros(array.shape, bool)
        for point in avoid:
            near |= np.abs(array - point) < _MARGIN * (high - low) / 2
        if not near.any():
            break
        array = np.where(near, uniform(rng, array.shape, low, high), array)
    return float(array) if form == FLOAT else np.asarray(array)


def uniform(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Draw float64 numbers from the inside of an interval, away from its ends by more than any step."""
    inset = _MARGIN * (high - low)
    return np.asarray(rng.uniform(low + inset, high - inset, shape))


def _from_sample(record: Any, sample: Sample, rng: np.random.Generator) -> Case:
    arrays, step = from_sample(sample, rng)
    return Case(_label(sample), arrays, dict(sample.params), _moves(record, arrays), step, sample)


def _label(sample: Sample) -> str:
    parts = [
        getattr(a, "__name__", "array") if callable(a) or isinstance(a, np.ndarray) else repr(a) for a in sample.arrays
    ]
    parts += [f"{name}={value}" for name, value in sample.params.items()]
    return f"Sample({', '.join(parts)})"


def from_sample(sample: Sample, rng: np.random.Generator) -> tuple[list[Any], float]:
    """Return a sample's arrays, drawn anew, and the step for differences on them."""
    low, high = sample.interval
    step = min(_STEP * (high - low), 0.1)
    arrays: list[Any] = []
    for form in sample.arrays:
        if callable(form):
            array = form(rng)
        elif not isinstance(form, tuple):
            array = form
        elif sample.distinct:
            array = _distinct(rng, form, low, high)
            step = min(step, (high - low) / (12.0 * max(array.size, 1)))
        else:
            array = uniform(rng, form, low, high)
        arrays.append(array)
    return arrays, step


def _distinct(rng: np.random.Generator, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Draw numbers that keep apart by more than two steps: from each other, in magnitude, and from zero.

    They are unevenly spaced, so that sums of them are distinct too.
    """
    size = math.prod(shape)
    places = np.arange(size) + 0.31 + rng.uniform(-0.1, 0.1, size)
    return rng.permutation(low + (high - low) * places / max(size, 1)).reshape(shape)


def layouts(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the same values in other memory layouts: (name, array) pairs.

    The last one is an exception: memory of stride zero cannot hold arbitrary values, so it repeats the first entry
    along an axis.
    """
    if array.ndim == 0:
        return
    if array.ndim > 1:
        yield "in Fortran order", np.asfortranarray(array)
    spread = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    spread[..., ::2] = array
    yield "with a stride", spread[..., ::2]
    yield "with negative strides", np.flip(np.flip(array).copy())
    locked = array.copy()
    locked.flags.writeable = False
    yield "read-only", locked
    if array.shape[0] and array.size:
        yield "with stride zero", np.broadcast_to(array[:1].copy(), array.shape)


def emptied(case: Case) -> Iterator[Case]:
    """Yield calls with one extent set to zero wherever it occurs; not all of them are valid calls."""
    extents = {n for a in case.arrays if isinstance(a, np.ndarray) for n in a.shape}
    for extent in sorted(extents - {0, 1}):
        arrays = []
        for a in case.arrays:
            if isinstance(a, np.ndarray) and extent in a.shape:
                a = np.zeros(tuple(0 if n == extent else n for n in a.shape), a.dtype)
            arrays.append(a)
        yield case.replaced(arrays, f"with extent {extent} set to 0")


__all__ = ["Case", "argument_count", "cases", "emptied", "fixed_positions", "from_sample", "generator", "layouts"]
