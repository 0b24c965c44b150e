"""Matrix products to test kernels with: arrays of any layout between poisoned margins; epilogues with references."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from wengert.compile.kernels import Kernel
from wengert.compile.llvm.compiling import EXPLICIT, compile_object, link, module_of
from wengert.compile.llvm.products import Product
from wengert.compile.nests import Access, Counter, Store
from wengert.compile.scalar_ir import BOOL, FLOAT64, Scalar, apply, input_scalar

MARGIN = 72
Array = np.ndarray[Any, Any]


def nearest_bfloat16(x: Array) -> Array:
    """Return the nearest float32 numbers of 8 significant bits, ties to even, by arithmetic in float64."""
    significand, exponent = np.frexp(x.astype("f8"))
    return np.ldexp(np.rint(significand * 256) / 256, exponent).astype("f4")


class Native:
    """Compiled kernels, without a disk cache."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        module = module_of(list({kernel.name: kernel for kernel in kernels}.values()))
        self._library, addresses = link(compile_object(module.source, EXPLICIT), module.exports)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        self._functions = {name: kind(address) for name, address in addresses.items()}

    def run(self, kernel: Kernel, addresses: Sequence[int], begin: int = 0, end: int | None = None) -> None:
        """Run a kernel on units; scratch is poisoned before, and nothing around it may change."""
        pointers = (ctypes.c_void_p * max(len(addresses), 1))(*addresses)
        memory = np.full(kernel.scratch + 256, 0xFF, np.uint8)
        start = (-memory.ctypes.data) % 64 + 64
        self._functions[kernel.name](pointers, begin, kernel.units if end is None else end, memory.ctypes.data + start)
        assert (memory[:start] == 0xFF).all() and (memory[start + kernel.scratch :] == 0xFF).all(), "outside scratch"


class Operand(NamedTuple):
    """An array within a buffer of its own that is NaN, or True, all around it."""

    array: Array
    buffer: Array

    @property
    def access(self) -> tuple[int, tuple[int, ...]]:
        """Offset from the buffer's margin, and strides, in elements."""
        size = self.array.itemsize
        start = (self.array.ctypes.data - self.buffer.ctypes.data) // size - MARGIN
        return start, tuple([stride // size for stride in self.array.strides])

    @property
    def address(self) -> int:
        return self.buffer.ctypes.data + MARGIN * self.array.itemsize

    def copy(self) -> Operand:
        """Return the same in new memory."""
        buffer = self.buffer.copy()
        start = self.array.ctypes.data - self.buffer.ctypes.data
        return Operand(np.ndarray(self.array.shape, self.array.dtype, buffer, start, self.array.strides), buffer)


def operand(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, broadcast: Sequence[int] = ()) -> Operand:
    """Return random numbers in a random layout: axes in any order, with gaps; some axes with stride 0."""
    dtype = np.dtype(dtype)
    order = rng.permutation(len(shape)) if rng.random() < 0.6 else np.arange(len(shape))
    strides, stride = [0] * len(shape), int(rng.choice([1, 1, 1, 2]))
    for axis in order[::-1]:
        if axis not in broadcast:
            strides[axis] = stride
            stride *= shape[axis] + int(rng.choice([0, 0, 0, 3]))
            stride = max(stride, 1)
    length = 1 + sum([(extent - 1) * step for extent, step in zip(shape, strides) if extent])
    poison = True if dtype == BOOL else np.nan if dtype.kind == "f" else 77
    buffer = np.full(length + 2 * MARGIN, poison, dtype)
    scaled = tuple([step * dtype.itemsize for step in strides])
    array = np.ndarray(shape, dtype, buffer, MARGIN * dtype.itemsize, scaled)
    if dtype == BOOL:
        array[...] = rng.random(shape) < 0.5
    else:
        fresh = rng.standard_normal([1 if axis in broadcast else extent for axis, extent in enumerate(shape)])
        array[...] = fresh
    return Operand(array, buffer)


class Epilogue(NamedTuple):
    """What is stored beside the product: names of inputs with their axes of stride 0, Scalars, and a reference.

    The reference takes the product, as it was stored, and the inputs, in their dtype, and returns the outputs.
    """

    inputs: dict[str, str]
    outputs: Callable[..., Sequence[Scalar]]
    reference: Callable[..., Sequence[Array]]
    in_place: tuple[str, ...] = ()
    ulps: int = 0


def _relu(product: Any, bias: Any) -> Any:
    return [apply("maximum", product + bias, 0.0)]


def _relu_reference(product: Array, bias: Array) -> Any:
    return [np.maximum(product + bias, 0)]


def _momentum(product: Any, state: Any, weight: Any, rate: Any) -> Any:
    new = state * 0.5 + product
    return [new, weight - rate * new]


def _residual(product: Any, residual: Any) -> Any:
    return [residual + product * 2.0, product > 0]


def _causal(product: Any, i: Any, j: Any) -> Any:
    return [apply("where", j <= i, product * 0.25, -1e30)]


def _wide(product: Any) -> Any:
    return [product.astype(FLOAT64) if isinstance(product, Scalar) else product.astype("f8")]


def _causal_reference(product: Array, i: Array, j: Array) -> Any:
    return [np.where(j <= i, product * product.dtype.type(0.25), product.dtype.type(-1e30))]


def _tanh(product: Any) -> Any:
    return [apply("tanh", product)]


def _tanh_reference(product: Array) -> Any:
    return [np.tanh(product.astype(np.longdouble)).astype(product.dtype)]


def _nothing(product: Any) -> Any:
    return []


EPILOGUES = {
    "plain": Epilogue({}, _nothing, _nothing),
    "relu": Epilogue({"bias": "i"}, _relu, _relu_reference),
    "column bias": Epilogue({"bias": "j"}, _relu, _relu_reference),
    "momentum": Epilogue({"state": "", "weight": "", "rate": "bij"}, _momentum, _momentum, ("state", "weight")),
    "residual": Epilogue({"residual": "b"}, _residual, _residual),
    "causal": Epilogue({"i": "counter", "j": "counter"}, _causal, _causal_reference),
    "wide": Epilogue({}, _wide, _wide),
    "tanh": Epilogue({}, _tanh, _tanh_reference, ulps=4),
}


class Sample(NamedTuple):
    """A product, its operands (factors, inputs, the product itself, other outputs), and what they should become."""

    product: Product
    operands: list[Operand]
    epilogue: Epilogue
    names: tuple[str, ...]

    def run(self, native: Native, kernel: Kernel, rng: np.random.Generator | None = None) -> list[Operand]:
        """Return the operands after a run: of all units, or, with `rng`, of random spans of them in random order."""
        fresh = [one.copy() for one in self.operands]
        addresses = [one.address for one in fresh]
        edges = [0, kernel.units]
        if rng is not None and kernel.units:
            edges = sorted({0, kernel.units, *rng.integers(0, kernel.units + 1, 3).tolist()})
        spans = list(itertools.pairwise(edges))
        for position in range(len(spans)) if rng is None else rng.permutation(len(spans)):
            native.run(kernel, addresses, *spans[position])
        return fresh


def sample(
    rng: np.random.Generator, batch: tuple[int, ...], m: int, n: int, k: int, dtype: Any, epilogue: Epilogue
) -> Sample:
    """Return a product of random layouts and numbers."""
    axes = len(batch)
    dtype = np.dtype(dtype)
    broadcast = [[axis for axis in range(axes) if rng.random() < 0.3] for _ in range(2)]
    operands = [
        operand(rng, (*batch, m, k), dtype, broadcast[0]),
        operand(rng, (*batch, k, n), dtype, broadcast[1]),
    ]
    inputs: dict[str, Access | Counter] = {}
    scalars: dict[str, Scalar] = {}
    targets: list[Access] = []
    for name, fixed in epilogue.inputs.items():
        if fixed == "counter":
            inputs[name] = Counter(axes + "ij".index(name))
            scalars[name] = input_scalar(name, np.int64)
            continue
        still = [*range(axes)] if "b" in fixed else []
        still += [axes + position for position, letter in enumerate("ij") if letter in fixed]
        operands.append(operand(rng, (*batch, m, n), dtype, still))
        source = Access(len(operands) - 1, *operands[-1].access)
        inputs[name] = source
        scalars[name] = input_scalar(name, dtype)
        if name in epilogue.in_place:
            targets.append(source)
    value = input_scalar("product", dtype)
    outputs = [value, *epilogue.outputs(value, *scalars.values())]
    stores = []
    for position, scalar in enumerate(outputs):
        if position and epilogue.in_place:
            target = targets[position - 1]
        else:
            operands.append(operand(rng, (*batch, m, n), scalar.dtype))
            target = Access(len(operands) - 1, *operands[-1].access)
        stores.append(Store(target, scalar))
    factors = [Access(position, *operands[position].access) for position in range(2)]
    types = tuple([one.array.dtype for one in operands])
    product = Product("product", batch, m, n, k, factors[0], factors[1], types, inputs, tuple(stores))
    return Sample(product, operands, epilogue, tuple(scalars))


def check(case: Sample, after: list[Operand]) -> None:
    """Compare what a kernel left behind with what NumPy says."""
    product, before = case.product, [one.array for one in case.operands]
    a, b = before[0].astype(np.longdouble), before[1].astype(np.longdouble)
    stored = after[product.stores[0].target.operand].array
    bound = product.k * float(np.finfo(product.dtype).eps) * (np.abs(a) @ np.abs(b))
    assert (np.abs(stored - a @ b) <= bound).all(), (product, np.max(np.abs(stored - a @ b) - bound))
    given = []
    for source in product.inputs.values():
        if isinstance(source, Counter):
            given.append(np.indices(stored.shape)[source.axis])
        else:
            given.append(before[source.operand])
    with np.errstate(all="ignore"):
        wanted = case.epilogue.reference(stored, *given)
    for store, want in zip(product.stores[1:], wanted):
        got = after[store.target.operand].array
        if case.epilogue.ulps:
            np.testing.assert_array_max_ulp(got, want, case.epilogue.ulps)
        else:
            np.testing.assert_array_equal(got, want)
    written = {store.target.operand for store in product.stores}
    for position, (old, new) in enumerate(zip(case.operands, after)):
        outside = np.ones(old.buffer.shape, bool)
        if position in written and old.array.size:
            start, strides = old.access
            scaled = tuple([stride * 1 for stride in strides])
            np.ndarray(old.array.shape, bool, outside, start + MARGIN, scaled)[...] = False
        same = (old.buffer == new.buffer) | ((old.buffer != old.buffer) & (new.buffer != new.buffer))
        assert same[outside].all(), (product, f"operand {position} was written to outside of the result")


def work(case: Sample) -> int:
    return math.prod(case.product.batch) * case.product.m * case.product.n * case.product.k


def narrow_samples(rng: np.random.Generator, epilogue: Epilogue, count: int = 3) -> list[Sample]:
    """Return products of bfloat16 whose factors are such numbers already, so that references need no rounding."""
    cases = []
    for _ in range(count):
        batch = tuple(rng.integers(1, 3, rng.integers(0, 2)).tolist())
        m, n, k = (int(rng.choice([16, 17, 32, 33, 40, 66])) for _ in range(3))
        case = sample(rng, batch, m, n, k + k % 2, "f4", epilogue)
        for one in case.operands[:2]:
            one.array[...] = nearest_bfloat16(one.array)
        cases.append(case._replace(product=case.product._replace(narrow=True)))
    return cases
