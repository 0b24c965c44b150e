"""Kernels of loop nests: against an interpreter, between poisoned margins, for every division of the work."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from tests.compile.interpreter import NUMPY_BOUND
from tests.compile.nest_interpreter import run_nest, spread
from tests.compile.nest_samples import MARGIN, Maker, Sample
from wengert.compile import scalar_namespace as xp
from wengert.compile.kernels import Kernel
from wengert.compile.llvm import nests, nests_split
from wengert.compile.llvm.compiling import EXPLICIT, compile_object, link, module_of
from wengert.compile.llvm.machine import AVX2, AVX512, NEON, SSE2, Machine
from wengert.compile.llvm.nests import nest_kernel
from wengert.compile.nests import Access, Counter, Nest, Operand, Phase, Range, Reduction, Store
from wengert.compile.scalar_ir import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    DType,
    Scalar,
    constant,
    input_scalar,
    topological,
)
from wengert.compile.scalar_math import ULP_BOUNDS

MACHINES = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}


class Native:
    """Compiled kernels, without a disk cache."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        module = module_of(list({kernel.name: kernel for kernel in kernels}.values()))
        self._library, addresses = link(compile_object(module.source, EXPLICIT), module.exports)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        self._functions = {name: kind(address) for name, address in addresses.items()}

    def run(self, kernel: Kernel, arrays: Sequence[np.ndarray], begin: int = 0, end: int | None = None) -> None:
        """Run a kernel on units; scratch is poisoned before."""
        pointers = (ctypes.c_void_p * max(len(arrays), 1))(*[array.ctypes.data for array in arrays])
        memory = np.full(kernel.scratch + 64, 0x7F, np.uint8)
        aligned = memory.ctypes.data + (-memory.ctypes.data) % 64
        self._functions[kernel.name](pointers, begin, kernel.units if end is None else end, aligned)


def between_margins(wide: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [array[MARGIN:] for array in wide]


def check(native: Native, kernel: Kernel, sample: Sample, rng: np.random.Generator) -> None:
    want = [array.copy() for array in sample.arrays]
    run_nest(sample.nest, want)
    tolerances = spread(sample.nest, sample.arrays)
    wide = sample.guarded()
    native.run(kernel, between_margins(wide))
    for before, after, exact, tolerance in zip(sample.guarded(), wide, want, tolerances):
        inside = after[MARGIN : MARGIN + len(exact)]
        for edge in (slice(0, MARGIN), slice(MARGIN + len(exact), None)):
            np.testing.assert_array_equal(after[edge], before[edge], err_msg="a margin was written to")
        with np.errstate(invalid="ignore"):
            near = np.abs(inside.astype(float) - exact) <= tolerance
        agree = (inside == exact) | near | ((inside != inside) & (exact != exact))
        assert agree.all(), (sample.nest, np.flatnonzero(~agree)[:5], inside[~agree][:5], exact[~agree][:5])
    again = sample.guarded()
    edges = sorted({0, kernel.units, *rng.integers(0, kernel.units + 1, 3).tolist()})
    spans = list(pairwise(edges))
    for position in rng.permutation(len(spans)):
        native.run(kernel, between_margins(again), *spans[position])
    for one, other in zip(again, wide):
        np.testing.assert_array_equal(one, other, err_msg="the division of the work changes results")


@pytest.mark.parametrize("group", range(3))
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_random_nests_are_what_an_interpreter_says(machine: Machine, group: int) -> None:
    maker = Maker(group)
    samples = [maker.sample() for _ in range(8)]
    kernels = [nest_kernel(sample.nest, machine) for sample in samples]
    native = Native(kernels)
    rng = np.random.default_rng(group)
    for sample, kernel in zip(samples, kernels):
        check(native, kernel, sample, rng)


@pytest.mark.parametrize("machine", [AVX512, SSE2], ids=["avx512", "sse2"])
@pytest.mark.parametrize("group", range(2))
def test_random_nests_divided_wherever_a_condition_changes(
    machine: Machine, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nests_split, "LEAST", 0)
    monkeypatch.setattr(nests_split, "WORTHWHILE", math.inf)
    monkeypatch.setattr(nests, "_recent", {})
    maker = Maker(1000 + group)
    samples = [maker.sample() for _ in range(12)]
    kernels = [nest_kernel(sample.nest, machine) for sample in samples]
    assert sum([".part1(" in kernel.source for kernel in kernels]) >= 3
    native = Native(kernels)
    rng = np.random.default_rng(group)
    for sample, kernel in zip(samples, kernels):
        check(native, kernel, sample, rng)


def test_each_part_of_a_sum_of_slices_computes_its_own_term() -> None:
    """The gradient of four gates that were slices of one array: a quarter of the work of computing all everywhere."""
    size = 128
    place = input_scalar("i", INT64)
    inputs: dict[str, Access | Counter] = {"i": Counter(0)}
    total = constant(0, FLOAT32)
    for gate in range(4):
        inside = (Range(-size * gate, (1,), size),)
        inputs[f"x{gate}"] = Access(gate, -size * gate, (1,), (), inside)
        here = xp.logical_and(place >= size * gate, place < size * (gate + 1))
        total = total + xp.where(here, xp.tanh(xp.exp(input_scalar(f"x{gate}", FLOAT32))), 0)
    phase = Phase((), inputs, (Store(Access(4, 0, (1,)), total),))
    nest = Nest("gates", (4 * size,), (phase,), (Operand(FLOAT32),) * 5, "outer")
    x = np.random.default_rng(0).standard_normal((4, size)).astype(np.float32)
    out = np.empty((4, size), np.float32)
    kernel = compiled(nest, AVX512, *x, out)
    assert kernel.source.count("define private void") == 4
    one = nest_kernel(elementwise([xp.tanh(xp.exp(input_scalar("x", FLOAT32)))], 4 * size), AVX512)
    assert kernel.flops < 1.3 * one.flops
    bound = 2 * NUMPY_BOUND + ULP_BOUNDS["exp"][0] + ULP_BOUNDS["tanh"][0]
    condition = np.exp(x) / np.sinh(np.exp(x)) / np.cosh(np.exp(x)) * np.exp(x) + 1
    assert (np.abs(out - np.tanh(np.exp(x))) <= bound * condition * np.spacing(np.float32(1))).all()


def compiled(nest: Nest, machine: Machine, *arrays: np.ndarray) -> Kernel:
    """Compile a nest and run it on arrays."""
    kernel = nest_kernel(nest, machine)
    Native([kernel]).run(kernel, arrays)
    return kernel


def elementwise(outputs: Sequence[Scalar], extent: int, lanes: str = "outer") -> Nest:
    """Return the nest of scalars of the inputs x0, x1..., all of them and the outputs of one length."""
    names = sorted({(s.payload, s.dtype) for s in topological(outputs) if s.op == "input"}, key=str)
    inputs: dict[str, Access | Counter] = {name: Access(place, 0, (1,)) for place, (name, _) in enumerate(names)}
    stores = [Store(Access(len(names) + place, 0, (1,)), scalar) for place, scalar in enumerate(outputs)]
    operands = [Operand(dtype) for _, dtype in names] + [Operand(scalar.dtype) for scalar in outputs]
    outer, inner = ((extent,), ()) if lanes == "outer" else ((), (extent,))
    return Nest("elementwise", outer, (Phase(inner, inputs, tuple(stores)),), tuple(operands), lanes)


def row_reduction(op: str, dtype: DType, rows: int, columns: int, lanes: str) -> Nest:
    """Return the nest that reduces the last axis of an array of two."""
    x, r = input_scalar("x", dtype), input_scalar("r", dtype)
    first = Phase((columns,), {"x": Access(0, 0, (columns, 1))}, (), (Reduction("r", op, x),))
    second = Phase((), {}, (Store(Access(1, 0, (1,)), r),))
    return Nest("reduction", (rows,), (first, second), (Operand(dtype), Operand(dtype)), lanes)


LANES = pytest.mark.parametrize("lanes", ["inner", "outer"])
EACH_MACHINE = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


@LANES
@EACH_MACHINE
@pytest.mark.parametrize("op", ["maximum", "minimum"])
def test_not_a_number_wins_wherever_it_is(op: str, machine: Machine, lanes: str) -> None:
    columns = 70
    x = np.random.default_rng(0).standard_normal((columns + 1, columns)).astype(np.float32)
    x[np.arange(columns), np.arange(columns)] = np.nan
    out = np.empty(columns + 1, np.float32)
    compiled(row_reduction(op, FLOAT32, columns + 1, columns, lanes), machine, x, out)
    assert np.isnan(out[:-1]).all()
    assert out[-1] == getattr(np, op).reduce(x[-1])


@LANES
@EACH_MACHINE
def test_reductions_of_nothing(machine: Machine, lanes: str) -> None:
    for op, dtype, want in [
        *[("add", FLOAT32, 0), ("multiply", INT64, 1), ("maximum", FLOAT64, -np.inf), ("minimum", INT32, 2**31 - 1)],
        *[("or", BOOL, False), ("and", BOOL, True), ("maximum", INT64, -(2**63))],
    ]:
        out = np.zeros(3, dtype)
        compiled(row_reduction(op, dtype, 3, 0, lanes), machine, np.zeros(1, dtype), out)
        assert (out == want).all(), (op, dtype)


@LANES
@pytest.mark.parametrize("machine", [AVX512, NEON], ids=["avx512", "neon"])
@pytest.mark.parametrize("columns", [100_000, 1_000_003])
def test_long_sums_lose_no_more_than_pairwise_ones(columns: int, machine: Machine, lanes: str) -> None:
    """Equal terms, so that each step of a plain sum rounds the same way: its error grows with n, not with its root."""
    x = np.full((1, columns), 1 / 3, np.float32)
    out = np.empty(1, np.float32)
    compiled(row_reduction("add", FLOAT32, 1, columns, lanes), machine, x, out)
    exact = math.fsum(x[0].tolist())
    assert abs(out[0] - exact) <= math.sqrt(columns) * np.finfo(np.float32).eps / 2 * exact


@LANES
@EACH_MACHINE
@pytest.mark.parametrize("function", [xp.sin, xp.cos, xp.tan])
def test_arguments_out_of_the_fast_range(function: Callable[..., Scalar], machine: Machine, lanes: str) -> None:
    """The lanes beside one that is out of range, and it itself, are what they are alone."""
    x = np.random.default_rng(0).uniform(-9, 9, 133)
    x[[0, 17, 18, 64, 131, 132]] = 1e22, -3e200, np.inf, np.nan, 2.0**60, -1e9
    out = np.empty_like(x)
    compiled(elementwise([function(input_scalar("x", FLOAT64))], len(x), lanes), machine, x, out)
    with np.errstate(invalid="ignore"):
        want = getattr(np, function.__name__)(x)
    np.testing.assert_allclose(out, want, rtol=4 * np.finfo(float).eps)


@EACH_MACHINE
def test_functions_that_recur_are_called(machine: Machine) -> None:
    """A long chain has each function's code once, and computes the same."""
    y = x = input_scalar("x", FLOAT64)
    for _ in range(20):
        y = xp.sin(xp.exp(-y * x)) + xp.tanh(y) * 0.5
    data = np.append(np.linspace(0, 3, 11), 1e30)
    out = np.empty_like(data)
    kernel = compiled(elementwise([y], len(data)), machine, data, out)
    assert kernel.source.count("define private") == 4  # sin, sin of any argument, exp, tanh
    want, tolerance = data.copy(), np.zeros_like(data)
    for _ in range(20):
        inside = np.exp(-want * data)
        tolerance = tolerance * (data * inside + 0.5) + 16 * np.finfo(float).eps * (1 + np.abs(want * data) * inside)
        want = np.sin(inside) + np.tanh(want) * 0.5
    assert (np.abs(out - want) <= tolerance)[:-1].all()


@EACH_MACHINE
def test_an_operand_may_be_updated_in_place(machine: Machine) -> None:
    p, g, m = [input_scalar(name, FLOAT32) for name in "pgm"]
    moment = 0.5 * m + g
    nest = Nest(
        "update",
        (103,),
        (
            Phase(
                (),
                {"p": Access(0, 0, (1,)), "g": Access(1, 0, (1,)), "m": Access(2, 0, (1,))},
                (Store(Access(2, 0, (1,)), moment), Store(Access(0, 0, (1,)), p - 0.25 * moment)),
            ),
        ),
        (Operand(FLOAT32),) * 3,
        "outer",
    )
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-99, 99, 103).astype(np.float32) for _ in range(3)]
    parameter, gradient, momentum = [array.copy() for array in arrays]
    compiled(nest, machine, *arrays)
    np.testing.assert_array_equal(arrays[2], 0.5 * momentum + gradient)
    np.testing.assert_array_equal(arrays[0], parameter - 0.25 * (0.5 * momentum + gradient))


@pytest.mark.parametrize("shape", [(64, 48), (37, 53), (3, 100), (100, 3), (1, 9)])
@EACH_MACHINE
def test_transposition(machine: Machine, shape: tuple[int, int]) -> None:
    """Alone, and with so much to compute on the way that whole and ragged vectors share their code."""
    rows, columns = shape
    data = np.arange(2 * rows * columns, dtype=np.float32).reshape(2, rows, columns) % 7
    x = y = input_scalar("x", FLOAT32)
    for _ in range(3):
        y = xp.expm1(-xp.tanh(y))
    for scalar, want in ((x, data), (y, data)):
        if scalar is y:
            for _ in range(3):
                want = np.expm1(-np.tanh(want))
        out = np.zeros((2, columns, rows), np.float32)
        load, store = Access(0, 0, (rows * columns, 1, columns)), Access(1, 0, (rows * columns, rows, 1))
        phase = Phase((), {"x": load}, (Store(store, scalar),))
        nest = Nest("transposition", (2, columns, rows), (phase,), (Operand(FLOAT32), Operand(FLOAT32)), "outer")
        compiled(nest, machine, data, out)
        # Both functions have a condition number of at most one: the errors of the six steps add up.
        steps = 3 * (2 * NUMPY_BOUND + ULP_BOUNDS["tanh"][0] + ULP_BOUNDS["expm1"][0]) if scalar is y else 0
        np.testing.assert_allclose(out, want.transpose(0, 2, 1), rtol=steps * float(np.finfo(np.float32).eps))


def test_equal_nests_are_equal_kernels() -> None:
    x = input_scalar("x", FLOAT32)
    one, same, other = [nest_kernel(elementwise([xp.exp(x) * f], 100), AVX512) for f in (2, 2, 3)]
    assert one == same
    assert one.name != other.name
    assert one.name.startswith("elementwise_")


def test_what_a_kernel_says_of_its_work() -> None:
    x = input_scalar("x", FLOAT32)
    kernel = nest_kernel(elementwise([x + 1], 1_000_000), AVX512)
    assert kernel.moved == 8_000_000
    assert kernel.units * 64 >= 1_000_000
    assert 1 < kernel.grain < kernel.units, "a million additions are worth two threads, 64 of them are not"
    assert kernel.scratch == 0
    small = nest_kernel(elementwise([x + 1], 100), AVX512)
    assert small.grain > small.units


def test_longer_chains_are_worth_sharing_sooner() -> None:
    """Vectors of long chains are doubled; an operation on such a one is two instructions."""
    x = input_scalar("x", FLOAT32)
    kernels: list[Kernel] = []
    for count in (50, 100, 200, 400):
        y = x
        for place in range(count):
            y = y * x + place
        kernels.append(nest_kernel(elementwise([y], 4096), AVX512))
    work = [kernel.units / kernel.grain for kernel in kernels]
    for shorter, longer in pairwise(work):
        assert 1.7 < longer / shorter < 2.3


def test_equal_nests_are_generated_once_and_others_apart() -> None:
    """Nests that differ in a fill's sign, in a Counter's axis or in a pick are other kernels."""
    x, n = input_scalar("x", FLOAT32), input_scalar("n", INT64)

    def padded(fill: float) -> Nest:
        access = Access(0, -1, (1,), (), (Range(-1, (1,), 4),), fill)
        phase = Phase((), {"x": access}, (Store(Access(1, 0, (1,)), x),))
        return Nest("padded", (6,), (phase,), (Operand(FLOAT32), Operand(FLOAT32)), "outer")

    def counted(axis: int) -> Nest:
        phase = Phase((), {"n": Counter(axis)}, (Store(Access(0, 0, (5, 1)), n),))
        return Nest("counted", (5, 5), (phase,), (Operand(INT64),), "outer")

    assert nest_kernel(padded(0.0), AVX2) is nest_kernel(padded(0.0), AVX2)
    assert nest_kernel(padded(0.0), AVX2) != nest_kernel(padded(-0.0), AVX2)
    assert nest_kernel(counted(0), AVX2) != nest_kernel(counted(1), AVX2)
    assert nest_kernel(padded(0.0), AVX2) != nest_kernel(padded(0.0), SSE2)


@pytest.mark.parametrize("extent", [5, 13, 40])
def test_masks_of_eight_bytes_are_avoided(extent: int) -> None:
    """LLVM 22 writes beyond them where such a mask is kept in memory for a while."""
    x, flag = input_scalar("x", FLOAT64), input_scalar("flag", BOOL)
    inside = (Range(-2, (1,), extent),)
    inputs: dict[str, Access | Counter] = {"x": Access(0, 0, (1,)), "flag": Access(1, -2, (1,), (), inside, True)}
    stores = (Store(Access(2, 0, (1,)), xp.logical_and(x > 0, flag)), Store(Access(3, 0, (1,)), xp.where(flag, x, 0)))
    operands = (Operand(FLOAT64), Operand(BOOL), Operand(BOOL), Operand(FLOAT64))
    nest = Nest("flags", (extent,), (Phase((), inputs, stores),), operands, "outer")
    assert "v8i8.p0" not in nest_kernel(nest, AVX512).source
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(extent), rng.random(extent) < 0.5, np.zeros(extent, bool), np.zeros(extent)]
    sample = Sample(nest, arrays)
    kernel = nest_kernel(nest, AVX512)
    check(Native([kernel]), kernel, sample, rng)


@LANES
@EACH_MACHINE
def test_what_is_missing_is_rounded_to_the_type(machine: Machine, lanes: str) -> None:
    for dtype, fill in ((FLOAT32, 0.1), (FLOAT32, math.inf), (FLOAT64, 0.1), (INT32, 3.0), (BOOL, 1)):
        x = input_scalar("x", dtype)
        data, out = np.zeros(5, dtype), np.zeros((3, 40), dtype)
        inside = (Range(-9, (0, 1), 5), Range(-1, (1, 0), 1))
        outer, inner = ((3, 40), ()) if lanes == "outer" else ((3,), (40,))
        phase = Phase(inner, {"x": Access(0, -9, (0, 1), (), inside, fill)}, (Store(Access(1, 0, (40, 1)), x),))
        compiled(Nest("filled", outer, (phase,), (Operand(dtype), Operand(dtype)), lanes), machine, data, out)
        want = np.full((3, 40), fill, dtype)
        want[1, 9:14] = 0
        np.testing.assert_array_equal(out, want)
