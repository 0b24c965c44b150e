"""What arrays hold, as compiled programs compare it: any change is seen, in arrays of any size and layout."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import wengert as wg
from wengert.compile import contents
from wengert.compile.contents import contents_of
from wengert.compile.llvm.fingerprint import BLOCK, fingerprint

GENERATOR = np.random.default_rng(20261126)
LARGE = 5000  # elements of float64: well beyond what is kept as it is, and no whole number of blocks
LAYOUTS = {
    "rows": lambda: GENERATOR.normal(size=(50, 101)),
    "columns": lambda: np.asfortranarray(GENERATOR.normal(size=(50, 101))),
    "every other": lambda: GENERATOR.normal(size=(50, 202))[:, ::2],
    "backwards": lambda: GENERATOR.normal(size=(50, 101))[::-1],
    "bytes": lambda: GENERATOR.integers(0, 256, 40_001, np.uint8),
    "unaligned": lambda: np.frombuffer(bytearray(40_001), np.uint8)[1:].view(np.float64),
    "small": lambda: GENERATOR.normal(size=3),
}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_change_anywhere_is_seen(name: str, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "has_native_code", lambda: native)
    array = LAYOUTS[name]()
    before = contents_of(array)
    assert contents_of(array) == before
    assert contents_of(array.copy()) == before or not array.flags.c_contiguous
    for place in {0, array.size // 3, array.size - 1}:
        index = np.unravel_index(place, array.shape)
        kept = array[index].copy()
        array[index] = kept + 1
        assert contents_of(array) != before
        array[index] = kept
        assert contents_of(array) == before


def test_every_bit_counts_in_a_fingerprint() -> None:
    data = GENERATOR.integers(0, 256, 2 * BLOCK, np.uint8)
    found = {fingerprint(data)}
    for place in range(data.size):
        for bit in range(8):
            data[place] ^= 1 << bit
            found.add(fingerprint(data))
            data[place] ^= 1 << bit
    assert len(found) == 1 + 8 * data.size


def test_the_order_of_words_counts() -> None:
    data = np.arange(4 * BLOCK // 8, dtype=np.uint64)
    before = fingerprint(data.view(np.uint8))
    for one, other in ((0, 1), (0, BLOCK // 8), (5, data.size - 1)):
        data[[one, other]] = data[[other, one]]
        assert fingerprint(data.view(np.uint8)) != before
        data[[one, other]] = data[[other, one]]


def test_signed_zeros_and_nans_are_told_apart_by_their_bits() -> None:
    array = np.zeros(LARGE)
    array[7] = np.nan
    before = contents_of(array)
    assert contents_of(array) == before
    array[8] = -0.0
    assert contents_of(array) != before


def test_rows_that_are_one_row_are_read_once() -> None:
    row = np.arange(1000.0)
    rows = np.broadcast_to(row, (10**12, 1000))  # 8 petabytes, if it were read as it looks
    before = contents_of(rows)
    row[3] = -1.0
    assert contents_of(rows) != before


def test_what_nobody_can_write_is_not_read(tmp_path: Path) -> None:
    owner = GENERATOR.normal(size=LARGE)
    view = owner[:]
    view.flags.writeable = False
    before = contents_of(view)
    owner[0] += 1
    assert contents_of(view) != before, "the owner of the memory can be written"
    owner.flags.writeable = False
    assert contents_of(view)[-1] == "read-only"
    np.save(tmp_path / "a.npy", owner)
    assert contents_of(np.load(tmp_path / "a.npy", mmap_mode="r"))[-1] == "read-only"
    assert contents_of(np.load(tmp_path / "a.npy", mmap_mode="r+"))[-1] != "read-only"
    assert contents_of(np.frombuffer(owner.tobytes()))[-1] == "read-only"


def test_a_mask_counts() -> None:
    array = np.ma.MaskedArray(np.arange(float(LARGE)), mask=False, shrink=False)
    before = contents_of(array)
    array[5] = np.ma.masked
    assert contents_of(array) != before


@pytest.mark.parametrize("size", [4, LARGE])
def test_numpy_and_operations_may_read_one_array(size: int) -> None:
    array = np.ones(size)
    compiled = wg.compile(lambda x: (x * array).sum() + float(array[-1]) + array[1])
    x = wg.ones(size, dtype=wg.float64)
    for place, value in ((0, 3.0), (-1, 5.0), (1, 7.0)):
        assert compiled(x).item() == array.sum() + array[-1] + array[1]
        array[place] = value
        assert compiled(x).item() == array.sum() + array[-1] + array[1]


def test_a_function_with_an_array_that_keeps_changing_is_run_as_it_is() -> None:
    batch = np.zeros((3, 2))
    compiled = wg.compile(lambda w: (w * batch).sum())
    w = wg.tensor([[1.0, 2.0]], dtype=wg.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(8):
            batch[:] = step
            assert compiled(w).item() == 9.0 * step
    (warning,) = caught
    assert "array of shape (3, 2) that it closes over is written to again and again" in str(warning.message)
    assert "wg.asarray(array)" in str(warning.message)


def test_a_tensor_over_an_array_may_keep_changing() -> None:
    batch = np.zeros((3, 2))
    seen = wg.asarray(batch)
    compiled = wg.compile(lambda w: (w * seen).sum())
    w = wg.tensor([[1.0, 2.0]], dtype=wg.float64)
    for step in range(8):
        batch[:] = step
        assert compiled(w).item() == 9.0 * step
    assert len(compiled.explain().programs) == 1


def test_each_of_some_contents_has_its_program() -> None:
    array = np.zeros(2)
    compiled = wg.compile(lambda x: x * array)
    for step in range(12):
        array[:] = step % 3
        assert compiled(wg.ones(2)).tolist() == [step % 3] * 2
    programs = compiled.explain().programs
    assert len(programs) == 3
    assert "a NumPy array of shape (2,)" in programs[1].reason


class Corpus:
    """Holds arrays, of which some have names that the library has, too."""

    def __init__(self) -> None:
        self.weight = np.ones(LARGE)
        self.scale = np.ones(LARGE)
        self.classes = 3.0


def tied_sizes(compiled: object) -> list[int]:
    paths = [path for paths in compiled._paths.values() for path in paths]  # type: ignore[attr-defined]
    return sorted([tie.container.size for path in paths for tie in path.ties if tie.kind == "array"])


def test_arrays_whose_names_only_the_library_has_are_left_alone() -> None:
    corpus, layer = Corpus(), wg.nn.Linear(2, 1)
    compiled = wg.compile(lambda x: layer(x).sum() * corpus.classes)  # Linear names `weight`
    before = compiled(wg.ones(2)).item()
    assert tied_sizes(compiled) == []
    corpus.weight[0] = 7.0
    assert compiled(wg.ones(2)).item() == before
    corpus.classes = 6.0
    assert compiled(wg.ones(2)).item() == 2 * before


class Masked(wg.nn.Module):
    """Reads an array with NumPy in its forward pass, which the library calls."""

    def __init__(self) -> None:
        self.mask = np.ones(LARGE)
        self.inner = Corpus()

    def forward(self, x: wg.Tensor) -> wg.Tensor:
        return x * float(self.mask[3]) + float(self.inner.scale[-1])


@pytest.mark.parametrize("wrapped", [False, True])
def test_arrays_that_a_users_method_reads_are_tied(wrapped: bool) -> None:
    module = Masked()
    model = wg.nn.Sequential(module) if wrapped else module
    compiled = wg.compile(lambda x: model(x))
    assert compiled(wg.ones(1)).tolist() == [2.0]
    module.mask[3] = 5.0
    assert compiled(wg.ones(1)).tolist() == [6.0]
    module.inner.scale[-1] = 10.0
    assert compiled(wg.ones(1)).tolist() == [15.0]


def test_an_array_whose_name_is_computed_is_tied() -> None:
    corpus = Corpus()
    compiled = wg.compile(lambda x: x * float(getattr(corpus, "sca" + "le")[2]))
    assert compiled(wg.ones(1)).tolist() == [1.0]
    corpus.scale[2] = 4.0
    assert compiled(wg.ones(1)).tolist() == [4.0]
