"""Products in the tile registers of AMX, which few processors have: code for one, and registers played by NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compile.played_tiles import Emulated
from tests.compile.product_samples import EPILOGUES, Array, Epilogue, check, narrow_samples, nearest_bfloat16
from wengert.compile.llvm import matrix_tiles
from wengert.compile.llvm.compiling import module_of
from wengert.compile.llvm.machine import AVX2, AVX512, host_machine
from wengert.compile.llvm.matrix_tiles import is_right, with_tiles
from wengert.compile.llvm.products import plain_product, product_kernel
from wengert.compile.llvm.products_layout import normalised
from wengert.compile.llvm.products_matrix import matrix_function
from wengert.compile.llvm.target import Target
from wengert.compile.nests import Access

MACHINE = AVX512._replace(tiles=True)
EPS = float(np.finfo(np.float32).eps)


def product(a: Array, b: Array) -> Any:
    out = np.full((*a.shape[:-1], b.shape[-1]), np.nan, "f4")
    steps = [tuple([stride // 4 for stride in x.strides]) for x in (a, b, out)]
    accesses = [Access(place, 0, strides) for place, strides in enumerate(steps)]
    extents = a.shape[-2], b.shape[-1], a.shape[-1]
    return plain_product("p", a.shape[:-2], *extents, np.dtype("f4"), *accesses)._replace(narrow=True), out


@pytest.mark.parametrize(
    "extents", [(32, 32, 32), (16, 16, 64), (33, 40, 34), (70, 100, 96), (17, 65, 130), (64, 48, 1024)]
)
@pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
def test_products_of_played_registers(extents: tuple[int, int, int], turned: tuple[bool, bool]) -> None:
    m, n, k = extents
    rng = np.random.default_rng(extents)
    a, b = rng.standard_normal((m, k)).astype("f4"), rng.standard_normal((k, n)).astype("f4")
    a[0, -1], b[-1, 0] = 1 + 2.0**-8, -(1 + 3 * 2.0**-8)
    factors = [np.asfortranarray(x) if over else x for x, over in zip((a, b), turned)]
    asked, out = product(*factors)
    assert normalised(asked, MACHINE)[1].form == "tiles"
    kernel = product_kernel(asked, MACHINE)
    Emulated([kernel]).run(kernel, [x.ctypes.data for x in (*factors, out)])
    wide = nearest_bfloat16(a).astype("f8"), nearest_bfloat16(b).astype("f8")
    assert (np.abs(out - wide[0] @ wide[1]) <= k * EPS * (np.abs(wide[0]) @ np.abs(wide[1]))).all()


@pytest.mark.parametrize("epilogue", EPILOGUES.values(), ids=EPILOGUES)
def test_random_products_of_played_registers(epilogue: Epilogue) -> None:
    rng = np.random.default_rng(8)
    cases = narrow_samples(rng, epilogue, 5)
    assert "tiles" in [normalised(case.product, MACHINE)[1].form for case in cases]
    kernels = [product_kernel(case.product, MACHINE) for case in cases]
    native = Emulated(kernels)
    for case, kernel in zip(cases, kernels):
        whole = case.run(native, kernel)
        check(case, whole)
        for one, other in zip(whole, case.run(native, kernel, rng)):
            np.testing.assert_array_equal(one.buffer, other.buffer, err_msg="the division of work changes results")


def test_batches_and_special_values() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype("f4") for shape in ((2, 40, 34), (2, 34, 35)))
    a[0, 39, 33], a[1, 0, 0], b[1, 33, 34] = np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        want = nearest_bfloat16(a) @ nearest_bfloat16(b)
    asked, out = product(a, b)
    kernel = product_kernel(asked, MACHINE)
    Emulated([kernel]).run(kernel, [x.ctypes.data for x in (a, b, out)])
    np.testing.assert_array_equal(np.isnan(out), np.isnan(want))
    np.testing.assert_array_equal(out[np.isinf(want)], want[np.isinf(want)])
    assert np.isfinite(out[np.isfinite(want)]).all()


@pytest.mark.parametrize("effort", range(4))
@pytest.mark.parametrize(("rows", "vectors"), [(32, 2), (16, 1), (19, 2)])
def test_code_for_a_processor_with_tiles(rows: int, vectors: int, effort: int) -> None:
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    lines, code = matrix_function("@tile", rows, vectors, 32, 32)
    source = "\n".join([*code.text.declarations, *lines]).replace("define private", "define")
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    machine = target.create_target_machine(cpu="sapphirerapids", opt=effort)
    parsed = llvm.parse_assembly(f'target triple = "x86_64-unknown-linux-gnu"\n{source}')
    parsed.verify()
    text = machine.emit_assembly(parsed)
    instructions = (-(-rows // 16)) * vectors
    assert text.count("tdpbf16ps") == instructions == text.count("tilestored") == text.count("tilezero")
    assert "ldtilecfg" not in text, "registers are configured for units, which takes long"


def test_a_whole_kernel_compiles_for_a_processor_with_tiles() -> None:
    llvm = pytest.importorskip("llvmlite.binding")
    asked, _ = product(np.ones((70, 66), "f4"), np.ones((66, 50), "f4"))
    module = module_of([product_kernel(asked, MACHINE)])
    machine = llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(cpu="sapphirerapids", opt=1)
    parsed = llvm.parse_assembly(f'target triple = "x86_64-unknown-linux-gnu"\n{module.source}')
    parsed.verify()
    text = machine.emit_assembly(parsed)
    assert "tdpbf16ps" in text and text.count("tilerelease") == 1
    assert text.count("ldtilecfg") == 2, "rows are cut into 24 and 23"


@pytest.mark.parametrize(
    ("features", "permitted", "right", "expected"),
    [
        ("+amx-tile,+amx-bf16,+avx512bf16", True, True, True),
        ("+amx-tile,+amx-bf16,+avx512bf16", True, False, False),
        ("+amx-tile,+amx-bf16,+avx512bf16", False, True, False),
        ("+amx-tile,-amx-bf16,+avx512bf16", True, True, False),
        ("+amx-tile,+amx-bf16,-avx512bf16", True, True, False),
        ("", True, True, False),
    ],
)
def test_tiles_are_used_where_they_are_there_permitted_and_right(
    monkeypatch: pytest.MonkeyPatch, features: str, permitted: bool, right: bool, expected: bool
) -> None:
    monkeypatch.setattr(matrix_tiles, "_is_permitted", lambda: permitted)
    monkeypatch.setattr(matrix_tiles, "is_right", lambda machine: right and machine.tiles)
    target = Target("x86_64-unknown-linux-gnu", "sapphirerapids", features, "")
    assert with_tiles(AVX512, target) == AVX512._replace(tiles=expected)
    assert not with_tiles(AVX512, target._replace(triple="aarch64-unknown-linux-gnu")).tiles
    assert not with_tiles(AVX2, target).tiles


def test_the_trial_tells_right_from_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_right(host_machine())

    def wrong(asked: Any, machine: Any) -> Any:
        kernel = product_kernel(asked, machine)
        return kernel._replace(units=kernel.units - 1)

    monkeypatch.setattr(matrix_tiles, "product_kernel", wrong)
    assert not is_right(host_machine())
