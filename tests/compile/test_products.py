"""Kernels of matrix products: NumPy in extended precision, poisoned margins, guard pages, every division of work."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
import pytest

from tests.compile.product_samples import (
    EPILOGUES,
    Array,
    Epilogue,
    Native,
    Sample,
    check,
    narrow_samples,
    nearest_bfloat16,
    sample,
)
from wengert.compile.llvm import products_units
from wengert.compile.llvm.machine import AVX2, AVX512, NEON, SSE2, Machine, host_machine
from wengert.compile.llvm.products import plain_product, product_kernel
from wengert.compile.llvm.products_layout import normalised
from wengert.compile.llvm.products_plan import Plan
from wengert.compile.nests import Access
from wengert.compile.scalar_ir import KernelError

MACHINES = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}
PLAIN = EPILOGUES["plain"]


def run(cases: list[Sample], machine: Machine, seed: int) -> None:
    kernels = [product_kernel(case.product, machine) for case in cases]
    native = Native(kernels)
    rng = np.random.default_rng(seed)
    for case, kernel in zip(cases, kernels):
        whole = case.run(native, kernel)
        check(case, whole)
        for one, other in zip(whole, case.run(native, kernel, rng)):
            np.testing.assert_array_equal(one.buffer, other.buffer, err_msg="the division of work changes results")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("epilogue", EPILOGUES.values(), ids=EPILOGUES)
def test_random_products_are_what_numpy_says(machine: Machine, epilogue: Epilogue, dtype: str) -> None:
    rng = np.random.default_rng([len(dtype), *epilogue.inputs.__repr__().encode(), machine.vector_bytes])
    cases = []
    for _ in range(3):
        batch = tuple(rng.integers(1, 4, rng.integers(0, 3)).tolist())
        m, n, k = (int(rng.choice([1, 2, 5, 10, 16, 17, 32, 33, 40])) for _ in range(3))
        cases.append(sample(rng, batch, m, n, k, dtype, epilogue))
    run(cases, machine, 1)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_what_an_epilogue_reads_from_afar_is_fetched_beforehand(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(machine.vector_bytes)
    cases = [sample(rng, (), 33, 40, 17, "f4", epilogue) for epilogue in EPILOGUES.values()]
    near = [product_kernel(case.product, machine).source for case in cases]
    assert not any(["prefetch" in source for source in near])
    monkeypatch.setattr(products_units, "FAR", 0)
    far = [product_kernel(case.product, machine).source for case in cases]
    assert any(["prefetch" in source for source in far])
    run(cases, machine, 2)


def arrays(a: Array, b: Array, machine: Machine, narrow: bool = False) -> tuple[Plan, Array]:
    """Return the plan and the result of a plain product of arrays as they lie in memory."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b))
    out = np.full((*batch, a.shape[-2], b.shape[-1]), np.nan, a.dtype)
    steps = [tuple([stride // x.itemsize for stride in x.strides]) for x in (a, b, out)]
    accesses = [Access(position, 0, strides) for position, strides in enumerate(steps)]
    product = plain_product("product", batch, a.shape[-2], b.shape[-1], a.shape[-1], a.dtype, *accesses)
    product = product._replace(narrow=narrow)
    kernel = product_kernel(product, machine)
    Native([kernel]).run(kernel, [x.ctypes.data for x in (a, b, out)])
    return normalised(product, machine)[1], out


def random(shape: tuple[int, ...], dtype: Any = "f4") -> Array:
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)


def close(a: Array, b: Array, out: Array) -> None:
    wide_a, wide_b = a.astype("f8"), b.astype("f8")
    bound = a.shape[-1] * float(np.finfo(a.dtype).eps) * (np.abs(wide_a) @ np.abs(wide_b))
    assert (np.abs(out - wide_a @ wide_b) <= bound).all()


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_long_sums_go_through_k_in_parts(machine: Machine) -> None:
    a, b = random((1100, 64)).T, random((1100, 96))
    plan, out = arrays(a, b, machine)
    assert plan.depth.count > 1 and plan.pack_left
    close(a, b, out)


@pytest.mark.parametrize("extents", [(43, 70), (5, 19), (100, 300)])
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(("depth", "level2"), [(1031, 32 * 1024), (120, 8 * 1024)])
def test_panels_of_very_long_sums_are_packed_part_by_part(
    turned: tuple[bool, bool], extents: tuple[int, int], depth: int, level2: int
) -> None:
    small = AVX512._replace(level1=4096, level2=level2)
    shapes = (extents[0], depth), (depth, extents[1])
    a, b = (np.asfortranarray(random(s)) if over else random(s) for s, over in zip(shapes, turned))
    plan, out = arrays(a, b, small)
    assert plan.dots or plan.long
    close(a, b, out)


@pytest.mark.parametrize("shape", [(1, 300, 101), (2, 37, 129), (1, 18, 67)])
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_thin_products_of_rows_are_dot_products(machine: Machine, shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    a, b = random((m, k)), random((n, k)).T
    plan, out = arrays(a, b, machine)
    assert plan.dots
    close(a, b, out)
    plan, out = arrays(b.T, a.T, machine)
    assert plan.dots
    close(b.T, a.T, out)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("down", [False, True])
def test_many_panels_share_what_is_packed(machine: Machine, down: bool, across: bool) -> None:
    a = random((70, 150)) if not down else random((150, 70)).T
    b = random((150, 203)) if not across else random((203, 150)).T
    plan, out = arrays(a, b, machine)
    assert plan.pack_right and plan.columns.count > 1
    close(a, b, out)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_no_terms_give_zeros_and_no_elements_no_work(machine: Machine) -> None:
    _, out = arrays(np.zeros((3, 0), "f4"), np.zeros((0, 21), "f4"), machine)
    np.testing.assert_array_equal(out, np.zeros((3, 21)))
    for m, n, batch in ((0, 4, ()), (4, 0, ()), (2, 2, (0,))):
        accesses = [Access(position, 0, (0,) * len(batch) + (1, 1)) for position in range(3)]
        product = plain_product("product", batch, m, n, 5, np.dtype("f4"), *accesses)
        kernel = product_kernel(product, machine)
        assert kernel.units == 0
        Native([kernel]).run(kernel, [0, 0, 0])


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("turned", [False, True])
def test_special_values_stay_in_their_rows_and_columns(machine: Machine, turned: bool) -> None:
    a, b = random((19, 37)), random((37, 21))
    a[4, 36], a[18, 0], b[3, 20], b[36, 7] = np.inf, np.nan, -np.inf, np.inf
    a[7, 3] = a[7, 36] = 0.0
    if turned:
        a, b = np.asfortranarray(a), np.asfortranarray(b)
    with np.errstate(invalid="ignore"):
        want = a.astype("f8") @ b.astype("f8")
    _, out = arrays(a, b, machine)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
    np.testing.assert_array_equal(out[np.isinf(want)], want[np.isinf(want)].astype("f4"))
    assert np.isfinite(out[np.isfinite(want)]).all()


@pytest.mark.skipif(sys.platform == "win32", reason="pages are guarded by mprotect, which Windows has not")
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("extents", [(9, 17, 21), (1, 35, 40), (30, 65, 3), (20, 130, 150), (30, 70, 30)])
def test_nothing_beyond_the_factors_is_read(extents: tuple[int, int, int], turned: tuple[bool, bool]) -> None:
    m, n, k = extents
    for at_end in (False, True):
        guards = [Guarded(m * k, at_end), Guarded(k * n, at_end)]
        a, b = (
            (guard.array.reshape(shape[::-1]).T if over else guard.array.reshape(shape))
            for guard, shape, over in zip(guards, ((m, k), (k, n)), turned)
        )
        a[...], b[...] = random((m, k)), random((k, n))
        _, out = arrays(a, b, AVX512)
        close(a, b, out)


class Guarded:
    """An array that begins where a page that can't be touched ends, or ends where one begins."""

    def __init__(self, count: int, at_end: bool) -> None:
        page = mmap.PAGESIZE
        size = -(-count * 4 // page) * page
        self.memory = mmap.mmap(-1, size + 2 * page)
        start = np.frombuffer(self.memory, np.uint8).ctypes.data
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for edge in (start, start + page + size):
            assert protect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
        offset = page + (size - count * 4 if at_end else 0)
        self.array = np.frombuffer(self.memory, np.float32, count, offset)


def test_equal_products_have_equal_names_and_others_have_not() -> None:
    names = []
    for strides in ((40, 1), (40, 1), (1, 33)):
        accesses = [Access(0, 0, strides), Access(1, 0, (24, 1)), Access(2, 0, (24, 1))]
        names.append(product_kernel(plain_product("p", (), 33, 24, 40, np.dtype("f4"), *accesses), AVX512).name)
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("side", ["rows", "columns", "neither"])
def test_batches_with_a_common_factor_are_one_product(side: str) -> None:
    a, b = random((3, 4, 5, 40)), random((40, 33))
    if side == "columns":
        a, b = b.T, a.swapaxes(2, 3)
    if side == "neither":
        a = a[:, ::2]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    wide_a, wide_b = (np.broadcast_to(x, batch + x.shape[-2:]) for x in (a, b))
    out = np.empty((*batch, a.shape[-2], b.shape[-1]), "f4")
    if side == "columns":
        out = np.ascontiguousarray(out.swapaxes(2, 3)).swapaxes(2, 3)
    steps = [tuple([stride // 4 for stride in x.strides]) for x in (wide_a, wide_b, out)]
    accesses = [Access(position, 0, strides) for position, strides in enumerate(steps)]
    extents = a.shape[-2], b.shape[-1], a.shape[-1]
    product = plain_product("product", batch, *extents, np.dtype("f4"), *accesses)
    form, _ = normalised(product, AVX512)
    assert form.batch == ((3, 2) if side == "neither" else ())
    kernel = product_kernel(product, AVX512)
    Native([kernel]).run(kernel, [x.ctypes.data for x in (a, b, out)])
    close(a, b, out)


@pytest.mark.parametrize(
    "extents", [(10, 65, 8), (33, 17, 100), (33, 17, 101), (128, 96, 300), (1, 40, 64), (40, 1, 9)]
)
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("machine", [AVX2, host_machine()], ids=["avx2", "host"])
def test_factors_can_be_rounded_to_bfloat16(
    machine: Machine, turned: tuple[bool, bool], extents: tuple[int, int, int]
) -> None:
    m, n, k = extents
    a, b = random((m, k)), random((k, n))
    a[0, 0], b[-1, -1] = 1 + 2.0**-8, -(1 + 3 * 2.0**-8)
    factors = [np.asfortranarray(x) if over else x for x, over in zip((a, b), turned)]
    plan, out = arrays(factors[0], factors[1], machine, narrow=True)
    assert plan.form == ("pairs" if machine.bfloat16 and k % 2 == 0 else "rounded")
    close(nearest_bfloat16(a), nearest_bfloat16(b), out)


@pytest.mark.parametrize("machine", [AVX2, host_machine()], ids=["avx2", "host"])
@pytest.mark.parametrize("epilogue", EPILOGUES.values(), ids=EPILOGUES)
def test_random_products_of_bfloat16_are_the_same_however_they_are_divided(
    epilogue: Epilogue, machine: Machine
) -> None:
    run(narrow_samples(np.random.default_rng(5), epilogue), machine, 3)


@pytest.mark.parametrize("machine", [AVX2, host_machine()], ids=["avx2", "host"])
def test_special_values_survive_rounding_to_bfloat16(machine: Machine) -> None:
    a, b = random((19, 36)), random((36, 21))
    a[4, 35], a[18, 0], b[3, 20] = np.inf, np.nan, 3.4e38
    with np.errstate(invalid="ignore", over="ignore"):
        want = nearest_bfloat16(a) @ nearest_bfloat16(b)
    _, out = arrays(a, b, machine, narrow=True)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
    np.testing.assert_array_equal(out[np.isinf(want)], want[np.isinf(want)])
    assert np.isfinite(out[np.isfinite(want)]).all()


def test_only_float32_is_rounded_to_bfloat16() -> None:
    with pytest.raises(KernelError, match="float64"):
        arrays(random((4, 8), "f8"), random((8, 4), "f8"), AVX512, narrow=True)


def test_masks_of_eight_bytes_are_avoided() -> None:
    case = sample(np.random.default_rng(0), (), 9, 13, 20, "f8", EPILOGUES["residual"])
    assert "masked.store.v8i8" not in product_kernel(case.product, AVX512).source
    run([case], AVX512, 0)
