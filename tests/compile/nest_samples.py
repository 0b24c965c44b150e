"""Random loop nests, with memory to run them on: all types, layouts, conditions, picks, scratch and reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wengert.compile import scalar_namespace as xp
from wengert.compile.nests import Access, Counter, Nest, Operand, Phase, Range, Reduction, Store
from wengert.compile.scalar_ir import BOOL, FLOAT32, FLOAT64, INT32, INT64, DType, Scalar, convert, input_scalar

MARGIN = 80
EXTENTS = (1, 2, 3, 5, 8, 16, 17, 33, 40)
NUMBERS = (FLOAT32, FLOAT64, INT32, INT64)


class Sample(NamedTuple):
    """A nest, its operands' contents, and each of them with a margin on both sides that nobody may touch."""

    nest: Nest
    arrays: list[np.ndarray]

    def guarded(self) -> list[np.ndarray]:
        """Return copies that lie between margins."""
        copies = []
        for array in self.arrays:
            wide = np.full(len(array) + 2 * MARGIN, poison(array.dtype), array.dtype)
            wide[MARGIN : MARGIN + len(array)] = array
            copies.append(wide)
        return copies


def poison(dtype: DType) -> Any:
    """Return what margins are filled with: numbers that spoil whatever they enter."""
    return np.nan if dtype.kind == "f" else True if dtype == BOOL else np.iinfo(dtype).min + 12345


class Maker:
    """Makes one nest after the other from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def _one_of(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def _chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def sample(self) -> Sample:
        """Return a random nest."""
        self.operands: list[Operand] = []
        self.arrays: list[np.ndarray] = []
        self.reduced: list[Scalar] = []
        self.kept: list[tuple[int, tuple[int, ...], DType]] = []
        self.main = self._one_of(NUMBERS[:2] if self._chance(0.7) else NUMBERS)
        self.lanes = self._one_of(("inner", "outer"))
        least = 1 if self.lanes == "outer" else 0
        self.outer = tuple([self._extent() for _ in range(int(self.rng.integers(least, 3)))])
        self.budget = 6000
        phases = tuple([self._phase(last=number == 2) for number in range(3) if number == 2 or self._chance(0.5)])
        return Sample(Nest("sample", self.outer, phases, tuple(self.operands), self.lanes), self.arrays)

    def _extent(self) -> int:
        return 0 if self._chance(0.03) else self._one_of(EXTENTS)

    def _phase(self, last: bool) -> Phase:
        rank = int(self.rng.integers(0, 3))
        inner = tuple([self._extent() for _ in range(rank)])
        if self.kept and self._chance(0.7):
            inner = self._one_of(self.kept)[1]
        while math.prod(self.outer) * math.prod(inner) > self.budget:
            inner = inner[1:]
        self.extents = (*self.outer, *inner)
        self.inputs: dict[str, Access | Counter] = {}
        terms = [self._input() for _ in range(int(self.rng.integers(1, 4)))]
        terms += [scalar for scalar in self.reduced if self._chance(0.8)]
        if self._chance(0.3) and self.extents:
            terms.append(self._counter())
        terms += [self._kept_input(*kept) for kept in self.kept if kept[1] == inner]
        stores = [self._store(self._expression(terms)) for _ in range(2 if last else 1) if last or self._chance(0.4)]
        if self._chance(0.5) and inner:
            stores.append(self._keep(self._expression(terms), inner))
        if self._chance(0.3):
            stores.append(self._scattered(self._expression(terms), inner))
        reductions = [self._reduction(self._expression(terms)) for _ in range(0 if last else 2)]
        self.reduced += [input_scalar(reduction.name, reduction.scalar.dtype) for reduction in reductions]
        return Phase(inner, self.inputs, tuple(stores), tuple(reductions))

    # Memory

    def _new(self, array: np.ndarray) -> int:
        self.operands.append(Operand(array.dtype))
        self.arrays.append(array)
        return len(self.operands) - 1

    def _data(self, dtype: DType, size: int) -> np.ndarray:
        if dtype == BOOL:
            return self.rng.random(size) < 0.5
        if dtype.kind == "i":
            return self.rng.integers(-9, 10, size).astype(dtype)
        return self.rng.standard_normal(size).astype(dtype)

    def _layout(self, extents: tuple[int, ...], own: bool) -> tuple[int, tuple[int, ...], int]:
        """Return offset and strides of an access to all of `size` elements; `own`: each index has its own."""
        strides, offset, size = [0] * len(extents), 0, 1
        for axis in self.rng.permutation(len(extents)) if self._chance(0.4) else range(len(extents) - 1, -1, -1):
            if not own and self._chance(0.25):
                continue
            step = size * (self._one_of((1, 1, 1, 2)))
            reach = step * max(extents[axis] - 1, 0)
            backwards = self._chance(0.2)
            strides[axis] = -step if backwards else step
            offset += reach if backwards else 0
            size += reach
        return offset, tuple(strides), size

    def _padded(self, dtype: DType) -> Access:
        """Return an access to an array of two dimensions that indices run beyond."""
        ranges, offset, pitch = [], 0, 1
        strides = np.zeros(len(self.extents), int)
        for _ in range(2):
            own = [int(self._one_of((-1, 1, 1, 2))) if self._chance(0.6) else 0 for _ in self.extents]
            first = int(self.rng.integers(-3, 4))
            extent = int(self.rng.integers(1, 20))
            ranges.append(Range(first, tuple(own), extent))
            offset += first * pitch
            strides += np.array(own, int) * pitch
            pitch *= extent
        operand = self._new(self._data(dtype, pitch))
        fill = self._one_of((0, 1, -2)) if dtype != BOOL else self._chance(0.5)
        return Access(operand, offset, tuple(map(int, strides)), (), tuple(ranges), fill)

    def _picked(self, dtype: DType) -> Access:
        """Return an access whose place depends on an index that is loaded."""
        kind = self._one_of((INT32, INT64))
        offset, strides, size = self._layout(self.extents, own=False)
        index = self._new(self.rng.integers(0, 13, size).astype(kind))
        pick = input_scalar(f"i{len(self.inputs)}", kind)
        self.inputs[pick.payload] = Access(index, offset, strides)
        offset, strides, size = self._layout(self.extents, own=False)
        stride = self._one_of((1, size))
        return Access(self._new(self._data(dtype, size + 13 * stride)), offset, strides, ((pick, stride),))

    def _input(self) -> Scalar:
        dtype = self.main if self._chance(0.6) else self._one_of((BOOL, *NUMBERS))
        kind = self.rng.random()
        if kind < 0.25:
            access = self._padded(dtype)
        elif kind < 0.4:
            access = self._picked(dtype)
        else:
            offset, strides, size = self._layout(self.extents, own=False)
            access = Access(self._new(self._data(dtype, size)), offset, strides)
        scalar = input_scalar(f"x{len(self.inputs)}", dtype)
        self.inputs[scalar.payload] = access
        return scalar

    def _counter(self) -> Scalar:
        scalar = input_scalar(f"n{len(self.inputs)}", INT64)
        self.inputs[scalar.payload] = Counter(int(self.rng.integers(len(self.extents))))
        return scalar

    def _store(self, scalar: Scalar) -> Store:
        offset, strides, size = self._layout(self.extents, own=True)
        add = scalar.dtype != BOOL and self._chance(0.2)
        inside: tuple[Range, ...] = ()
        if self._chance(0.15) and self.extents:
            chosen = tuple([int(self.rng.integers(-1, 2)) for _ in self.extents])
            inside = (Range(int(self.rng.integers(0, 3)), chosen, int(self.rng.integers(1, 12))),)
        return Store(Access(self._new(self._data(scalar.dtype, size)), offset, strides, (), inside), scalar, add)

    def _scattered(self, scalar: Scalar, inner: tuple[int, ...]) -> Store:
        """Return a store that adds to places of each outer index's own."""
        if scalar.dtype == BOOL:
            scalar = convert(scalar, INT64)
        rows = 7
        offset, strides, size = self._layout(self.outer, own=True)
        indexed, index_strides, index_size = self._layout((*self.outer, *inner), own=False)
        pick = input_scalar(f"p{len(self.inputs)}", INT64)
        self.inputs[pick.payload] = Access(self._new(self.rng.integers(0, rows, index_size)), indexed, index_strides)
        target = self._new(self._data(scalar.dtype, size * rows))
        return Store(Access(target, offset, (*strides, *[0] * len(inner)), ((pick, size),)), scalar, add=True)

    def _keep(self, scalar: Scalar, inner: tuple[int, ...]) -> Store:
        """Return a store to scratch, for later phases with the same inner axes to read."""
        size = max(math.prod(inner), 1)
        self.operands.append(Operand(scalar.dtype, size))
        number = len(self.operands) - 1
        self.kept.append((number, inner, scalar.dtype))
        return Store(self._whole(number, inner), scalar)

    def _whole(self, number: int, inner: tuple[int, ...]) -> Access:
        strides = [math.prod(inner[axis + 1 :]) for axis in range(len(inner))]
        return Access(number, 0, (*[0] * len(self.outer), *strides))

    def _kept_input(self, number: int, inner: tuple[int, ...], dtype: DType) -> Scalar:
        scalar = input_scalar(f"k{len(self.inputs)}", dtype)
        self.inputs[scalar.payload] = self._whole(number, inner)
        return scalar

    # Scalars

    def _reduction(self, scalar: Scalar) -> Reduction:
        name = f"r{len(self.reduced)}_{len(self.inputs)}_{int(self.rng.integers(10**6))}"
        if self._chance(0.15):
            return Reduction(name, self._one_of(("or", "and")), self._flag(scalar))
        if scalar.dtype == BOOL:
            scalar = convert(scalar, INT64)
        return Reduction(name, self._one_of(("add", "add", "maximum", "minimum")), scalar)

    def _flag(self, scalar: Scalar) -> Scalar:
        flags = [input_scalar(n, BOOL) for n, a in self.inputs.items() if isinstance(a, Access) and self._is_flag(a)]
        return self._one_of(flags) if flags else convert(self._one_of(self._whole_numbers() or [scalar]), BOOL)

    def _is_flag(self, access: Access) -> bool:
        return self.operands[access.operand].dtype == BOOL

    def _whole_numbers(self) -> list[Scalar]:
        found = []
        for name, source in self.inputs.items():
            if isinstance(source, Access) and self.operands[source.operand].dtype.kind == "i":
                found.append(input_scalar(name, self.operands[source.operand].dtype))
        return found

    def _expression(self, terms: list[Scalar]) -> Scalar:
        total = self._term(terms)
        for _ in range(int(self.rng.integers(0, 4))):
            total = self._joined(total, self._term(terms))
        return self._chosen(total, self._term(terms)) if self.extents and self._chance(0.2) else total

    def _chosen(self, x: Scalar, y: Scalar) -> Scalar:
        """Choose by the place along an axis, as gradients of slices do."""
        axis = int(self.rng.integers(len(self.extents)))
        name = f"axis{axis}"
        self.inputs[name] = Counter(axis)
        distance = input_scalar(name, INT64) - int(self.rng.integers(0, max(self.extents[axis], 1)))
        condition = self._one_of((distance < 0, 0 <= distance, xp.logical_and(0 <= distance, distance < 5)))
        y = convert(y, x.dtype) if x.dtype.kind == y.dtype.kind else xp.zeros_like(x)
        return xp.where(condition, x, y)

    def _term(self, terms: list[Scalar]) -> Scalar:
        scalar = self._one_of(terms)
        if scalar.dtype.kind == "f" and self._chance(0.5):
            return self._one_of(SMOOTH)(scalar)
        return scalar

    def _joined(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype == BOOL and y.dtype == BOOL:
            return self._one_of((xp.logical_and, xp.logical_or, xp.logical_xor))(x, y)
        if x.dtype == BOOL:
            return xp.where(x, y, 1)
        if y.dtype == BOOL:
            return xp.where(y, x, -1)
        # Floats become no integers here: where they nearly are one, two correct results differ by a whole one.
        floating = "f" in (x.dtype.kind, y.dtype.kind)
        common = FLOAT64 if floating and self.main.kind == "i" else self.main
        x, y = convert(x, common), convert(y, common)
        return self._one_of((xp.add, xp.subtract, xp.multiply, xp.maximum, xp.minimum))(x, y)


def _bounded(x: Scalar) -> Scalar:
    return x / (1 + x * x)


SMOOTH: tuple[Callable[[Scalar], Scalar], ...] = (
    *(xp.tanh, xp.sin, xp.erf, _bounded),
    *(lambda x: xp.exp(-xp.absolute(x)), lambda x: xp.sqrt(1 + xp.absolute(x)), lambda x: xp.log1p(xp.absolute(x))),
)
