"""Runs loop nests in NumPy, phase by phase over all outer indices at once: what kernels are compared with.

Written from the docstrings of `wengert.compile.nests` alone. With `noise`, every operation errs by a random share of
its bound, as in `interpreter`, and every floating sum or product by a share of what its length permits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.compile.interpreter import EXACT, _bound, _perturbed, _value
from wengert.compile.nests import Access, Counter, Nest, Phase, Range, Reduction
from wengert.compile.scalar_ir import Scalar, topological

RUNS = 6


def run_nest(nest: Nest, arrays: list[np.ndarray], noise: np.random.Generator | None = None) -> None:
    """Compute a nest on flat arrays, one for each operand that is not scratch, in place."""
    _Run(nest, arrays, noise).run()


def spread(nest: Nest, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Return how far from the exact result correct implementations may be, for each element of each operand."""
    plain = [array.copy() for array in arrays]
    run_nest(nest, plain)
    rng = np.random.default_rng(0)
    widths = [np.zeros(array.shape) for array in arrays]
    for _ in range(RUNS):
        noisy = [array.copy() for array in arrays]
        run_nest(nest, noisy, rng)
        for width, one, exact in zip(widths, noisy, plain):
            if one.dtype.kind == "f":
                with np.errstate(all="ignore"):
                    np.fmax(width, np.abs(one.astype(np.float64) - exact), out=width)
    with np.errstate(all="ignore"):
        return [
            4 * width + (2 * np.spacing(np.abs(exact)) if exact.dtype.kind == "f" else 0)
            for width, exact in zip(widths, plain)
        ]


class _Run:
    def __init__(self, nest: Nest, arrays: list[np.ndarray], noise: np.random.Generator | None) -> None:
        self.nest, self.noise = nest, noise
        self.count = math.prod(nest.outer)
        given = iter(arrays)
        self.memory = [
            np.zeros((self.count, operand.scratch), operand.dtype) if operand.scratch else next(given)
            for operand in nest.operands
        ]
        self.reduced: dict[str, np.ndarray] = {}

    def run(self) -> None:
        for phase in self.nest.phases:
            extents = (*self.nest.outer, *phase.inner)
            self.shape = (self.count, math.prod(phase.inner))
            self.index = [grid.reshape(self.shape) for grid in np.indices(extents, np.int64)]
            self.values: dict[Scalar, Any] = {}
            self.phase = phase
            self._phase(phase)

    def _phase(self, phase: Phase) -> None:
        results = [self.value(store.scalar) for store in phase.stores]
        places = [self._places(store.target) for store in phase.stores]
        reductions = [self._reduced(reduction, self.value(reduction.scalar)) for reduction in phase.reductions]
        for store, result, (there, place) in zip(phase.stores, results, places):
            memory = self.memory[store.target.operand]
            if self.nest.operands[store.target.operand].scratch:
                place = place + np.arange(self.count)[:, None] * memory.shape[1]
                memory = memory.reshape(-1)
            chosen, new = place[there], result[there]
            if not store.add:
                memory[chosen] = new
            elif memory.dtype.kind == "f":
                memory[:] = self._added(memory, chosen, new)
            else:
                np.add.at(memory, chosen, new)
        self.reduced.update({r.name: result for r, result in zip(phase.reductions, reductions)})

    def _added(self, memory: np.ndarray, chosen: np.ndarray, new: np.ndarray) -> np.ndarray:
        exact, size, terms = memory.astype(np.longdouble), np.abs(memory.astype(np.float64)), np.zeros(memory.shape)
        np.add.at(exact, chosen, new.astype(np.longdouble))
        np.add.at(size, chosen, np.abs(new.astype(np.float64)))
        np.add.at(terms, chosen, 1)
        if self.noise is not None:
            exact = exact + self.noise.uniform(-1, 1, size.shape) * size * terms * np.finfo(memory.dtype).eps / 4
        return np.where(terms > 0, exact, memory).astype(memory.dtype)

    def _linear(self, offset: int, strides: tuple[int, ...]) -> np.ndarray:
        total = np.full(self.shape, offset, np.int64)
        for grid, stride in zip(self.index, strides, strict=True):
            total = total + grid * stride
        return total

    def _holds(self, condition: Range) -> np.ndarray:
        place = self._linear(condition.offset, condition.strides)
        return (place >= 0) & (place < condition.extent)

    def _places(self, access: Access) -> tuple[np.ndarray, np.ndarray]:
        there = np.ones(self.shape, bool)
        for condition in access.inside:
            there &= self._holds(condition)
        place = self._linear(access.offset, access.strides)
        for pick, stride in access.picks:
            place = place + self.value(pick).astype(np.int64) * stride
        return there, place

    def _load(self, access: Access) -> np.ndarray:
        there, place = self._places(access)
        memory = self.memory[access.operand]
        if self.nest.operands[access.operand].scratch:
            place = np.where(there, place, 0)
            found = np.take_along_axis(memory, place, 1)
        else:
            size = len(memory)
            assert np.all((place[there] >= 0) & (place[there] < size))
            found = memory[np.where(there, place, 0)] if size else np.zeros(self.shape, memory.dtype)
        return np.where(there, found, memory.dtype.type(access.fill))

    def value(self, root: Scalar) -> np.ndarray:
        with np.errstate(all="ignore"):
            for scalar in topological((root,)):
                if scalar not in self.values:
                    self.values[scalar] = self._value(scalar)
        return np.broadcast_to(self.values[root], self.shape)

    def _value(self, scalar: Scalar) -> Any:
        if scalar.op == "input":
            source = self.phase.inputs.get(scalar.payload)
            if source is None:
                return np.broadcast_to(self.reduced[scalar.payload][:, None], self.shape)
            return self.index[source.axis] if isinstance(source, Counter) else self._load(source)
        value = _value(scalar, [self.values[operand] for operand in scalar.operands])
        if self.noise is not None and scalar.dtype.kind == "f" and scalar.op not in EXACT:
            value = _perturbed(value, _bound(scalar), self.noise)
        return value

    def _reduced(self, reduction: Reduction, terms: np.ndarray) -> np.ndarray:
        dtype, op = reduction.scalar.dtype, reduction.op
        if op in ("or", "and"):
            return np.asarray(terms.any(1) if op == "or" else terms.all(1))
        if op in ("maximum", "minimum"):
            if dtype.kind == "f":
                first: Any = -np.inf if op == "maximum" else np.inf
            else:
                first = np.iinfo(dtype).min if op == "maximum" else np.iinfo(dtype).max
            return getattr(np, op).reduce(terms, axis=1, initial=first, dtype=dtype)
        function = np.add if op == "add" else np.multiply
        if dtype.kind != "f":
            return function.reduce(terms, axis=1, dtype=dtype)
        exact = function.reduce(terms.astype(np.longdouble), axis=1)
        result = exact.astype(dtype)
        if self.noise is None:
            return result
        size = np.abs(terms.astype(np.float64)).sum(1) if op == "add" else np.abs(exact).astype(np.float64)
        error = self.noise.uniform(-1, 1, result.shape) * size * terms.shape[1] * np.finfo(dtype).eps / 4
        return np.where(np.isfinite(result), result + error, result).astype(dtype)
