"""Products in the tile registers of AMX, which few processors have: code for one, and registers played by NumPy."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.compile.product_samples import EPILOGUES, Array, Epilogue, Native, check, narrow_samples, nearest_bfloat16
from wengert.compile.llvm import matrix_tiles
from wengert.compile.llvm.compiling import EXPLICIT, compile_object, link, module_of
from wengert.compile.llvm.machine import AVX512, host_machine
from wengert.compile.llvm.matrix_tiles import is_right, with_tiles
from wengert.compile.llvm.products import plain_product, product_kernel
from wengert.compile.llvm.products_layout import normalised
from wengert.compile.llvm.products_matrix import matrix_function
from wengert.compile.llvm.target import Target
from wengert.compile.nests import Access

MACHINE = AVX512._replace(bfloat16=True, tiles=True)
EPS = float(np.finfo(np.float32).eps)
NUMBERS = {"i8": ctypes.c_uint8, "i64": ctypes.c_int64, "ptr": ctypes.c_void_p}


class Registers:
    """What the instructions on tiles do, as the processor's manual says, in NumPy."""

    def __init__(self) -> None:
        self.heights = self.widths = np.zeros(8, int)
        self.tiles: list[Array] = []

    @staticmethod
    def _memory(address: int, size: int) -> Array:
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def ldtilecfg(self, address: int) -> None:
        content = self._memory(address, 64)
        assert content[0] == 1 and not content[1:16].any()
        self.widths, self.heights = content[16:32].view("<u2").astype(int), content[48:56].astype(int)
        assert (self.widths <= 64).all() and (self.heights <= 16).all()
        self.tiles = [np.zeros((16, 64), np.uint8) for _ in range(8)]

    def tilerelease(self) -> None:
        self.tiles = []

    def tilezero(self, register: int) -> None:
        self.tiles[register][...] = 0

    def _rows(self, register: int, address: int, stride: int) -> list[Array]:
        return [self._memory(address + row * stride, self.widths[register]) for row in range(self.heights[register])]

    def tileloadd64(self, register: int, address: int, stride: int) -> None:
        self.tiles[register][...] = 0
        for row, memory in enumerate(self._rows(register, address, stride)):
            self.tiles[register][row, : len(memory)] = memory

    def tilestored64(self, register: int, address: int, stride: int) -> None:
        for row, memory in enumerate(self._rows(register, address, stride)):
            memory[...] = self.tiles[register][row, : len(memory)]

    def tdpbf16ps(self, out: int, left: int, right: int) -> None:
        assert self.widths[left] // 4 == self.heights[right], "the processor faults"
        assert self.heights[out] == self.heights[left] and self.widths[out] == self.widths[right]
        a, b = (self._wide(register) for register in (left, right))
        # Pairs along k are neighbours in both factors' rows.
        sums = np.einsum("mkp,knp->mn", a.reshape(16, 16, 2), b.reshape(16, 16, 2))
        total = self.tiles[out].view("<f4")
        total += sums
        total[self.heights[out] :] = 0

    def _wide(self, register: int) -> Array:
        return (self.tiles[register].view("<u2").astype("<u4") << 16).view("<f4")


class Emulated(Native):
    """Kernels whose instructions on tiles are calls of Python."""

    def __init__(self, kernels: Any) -> None:
        module = module_of(kernels)
        registers, self._callbacks = Registers(), []
        lines = [self._line(line, registers) for line in module.source.splitlines()]
        source = "\n".join(lines).replace("@llvm.x86.t", "@played.t").replace("@llvm.x86.ld", "@played.ld")
        self._library, addresses = link(compile_object(source, EXPLICIT), module.exports)
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        self._functions = {name: kind(address) for name, address in addresses.items()}

    def _line(self, line: str, registers: Registers) -> str:
        found = re.match(r"declare void @llvm\.x86\.(t\w+|ldtilecfg)\((.*)\)", line)
        if found is None:
            return line
        name, kinds = found[1], [kind for kind in found[2].split(", ") if kind]
        callback: Callable[..., None] = ctypes.CFUNCTYPE(None, *[NUMBERS[kind] for kind in kinds])(
            getattr(registers, name)
        )
        self._callbacks.append(callback)
        address = ctypes.cast(callback, ctypes.c_void_p).value  # type: ignore[arg-type]
        arguments = ", ".join([f"{kind} %x{place}" for place, kind in enumerate(kinds)])
        call = f"call void inttoptr (i64 {address} to ptr)({arguments})"
        return f"define private void @played.{name}({arguments}) {{\n  {call}\n  ret void\n}}"


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
        ("+amx-tile,+amx-bf16", True, True, True),
        ("+amx-tile,+amx-bf16", True, False, False),
        ("+amx-tile,+amx-bf16", False, True, False),
        ("+amx-tile,-amx-bf16", True, True, False),
        ("", True, True, False),
    ],
)
def test_tiles_are_used_where_they_are_there_permitted_and_right(
    monkeypatch: pytest.MonkeyPatch, features: str, permitted: bool, right: bool, expected: bool
) -> None:
    monkeypatch.setattr(matrix_tiles, "_is_permitted", lambda: permitted)
    monkeypatch.setattr(matrix_tiles, "is_right", lambda machine: right and machine.tiles)
    target = Target("x86_64-unknown-linux-gnu", "sapphirerapids", features, "")
    before = AVX512._replace(bfloat16=True)
    assert with_tiles(before, target) == before._replace(tiles=expected)
    assert not with_tiles(before, target._replace(triple="aarch64-unknown-linux-gnu")).tiles
    assert not with_tiles(AVX512, target).tiles


def test_the_trial_tells_right_from_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_right(host_machine())

    def wrong(asked: Any, machine: Any) -> Any:
        kernel = product_kernel(asked, machine)
        return kernel._replace(units=kernel.units - 1)

    monkeypatch.setattr(matrix_tiles, "product_kernel", wrong)
    assert not is_right(host_machine())
