"""Checkpoints: exact, complete or absent, and clear about what is wrong with a file."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wengert as wg
from wengert import io
from wengert.errors import CheckpointError

DTYPES = ["bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float16", "float32"]
SHAPES = [(), (0,), (3, 0, 2), (5,), (2, 3)]


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def bits(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Any pattern of bits, NaNs and infinities and denormal numbers included."""
    rng = np.random.default_rng(0)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return rng.integers(0, 256, count, np.uint8).view(dtype).reshape(shape)


def test_every_dtype_and_shape_comes_back_to_the_bit(tmp_path: Path) -> None:
    arrays = {f"{dtype}{list(shape)}": bits(shape, dtype) for dtype in [*DTYPES, "float64"] for shape in SHAPES}
    path = tmp_path / "all.safetensors"
    io.save(path, {name: wg.tensor(array) for name, array in arrays.items()})
    loaded = io.load(path)
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert type(loaded[name]) is wg.Tensor
        assert not loaded[name].requires_grad
        assert loaded[name].shape == array.shape
        assert loaded[name].dtype == array.dtype
        assert loaded[name].numpy().tobytes() == array.tobytes()
    foreign = load_file(path)
    for name, array in arrays.items():
        assert foreign[name].tobytes() == array.tobytes()


def test_layouts_and_byte_orders(tmp_path: Path) -> None:
    base = np.arange(24.0).reshape(4, 6)
    views = {"columns": np.asfortranarray(base), "strided": base[::2, ::-3], "big": base.astype(">f4"), "T": base.T}
    io.save(tmp_path / "v", {**views, "tracked": wg.tensor(base, requires_grad=True).T})
    loaded = io.load(tmp_path / "v")
    for name, array in views.items():
        np.testing.assert_array_equal(loaded[name].numpy(), array)
    np.testing.assert_array_equal(loaded["tracked"].numpy(), base.T)


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    tree = {
        "model": {"0.weight": wg.ones((2, 2)), "nested": {"deep": [wg.zeros(1), (wg.ones(()), None)]}},
        "epoch": 3,
        "rate": 0.1,
        "nothing": float("inf"),
        "name": "Wengert",
        "flag": True,
        "empty": {},
        "list": [],
    }
    io.save(tmp_path / "t", tree)
    loaded = io.load(tmp_path / "t")

    def plain(node: Any) -> Any:
        if isinstance(node, wg.Tensor):
            return ("tensor", node.shape, node.tolist())
        if isinstance(node, dict):
            return {key: plain(value) for key, value in node.items()}
        return type(node)(map(plain, node)) if isinstance(node, (list, tuple)) else node

    assert plain(loaded) == plain(tree)
    assert set(load_file(tmp_path / "t")) == {"model.0.weight", "model.nested.deep.0", "model.nested.deep.1.0"}
    io.save(tmp_path / "one", wg.ones(2))
    assert io.load(tmp_path / "one").tolist() == [1.0, 1.0]
    io.save(tmp_path / "none", {})
    assert io.load(tmp_path / "none") == {}


def test_the_same_tree_makes_the_same_bytes(tmp_path: Path) -> None:
    tree = {"b": wg.ones(3), "a": wg.ones(2, "float64"), "c": wg.tensor(True)}
    io.save(tmp_path / "one", tree, {"epoch": "1", "task": "x"})
    io.save(tmp_path / "two", tree, {"epoch": "1", "task": "x"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_of_another_library(tmp_path: Path) -> None:
    save_file({"layer.weight": np.ones((2, 3), np.float32)}, tmp_path / "foreign", {"format": "np"})
    loaded = io.load(tmp_path / "foreign")
    assert list(loaded) == ["layer.weight"]
    assert io.load_metadata(tmp_path / "foreign") == {"format": "np"}


def test_metadata(tmp_path: Path) -> None:
    io.save(tmp_path / "m", {"x": wg.ones(1), "n": 3}, {"epoch": "7"})
    assert io.load_metadata(tmp_path / "m") == {"epoch": "7"}
    for metadata in ({"epoch": 7}, {"wengert.tree": "x"}):
        with pytest.raises(CheckpointError, match="metadata"):
            io.save(tmp_path / "m", {"x": wg.ones(1)}, metadata)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"x": np.zeros(2, complex)}, "x has dtype complex128"),
        ({"x": np.array(["a"])}, "x has dtype"),
        ({"a": {"b.c": np.zeros(1)}, "a.b": {"c": np.zeros(1)}}, "'a.b.c'"),
        ({"a": {3: np.zeros(1)}}, "keys of dicts must be strings, and a has 3"),
        ({"a": [object()]}, "a.0 is of type object"),
        ({"__metadata__": np.zeros(1)}, "meaning of its own"),
    ],
)
def test_what_cannot_be_saved_is_named_and_no_file_is_touched(tree: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    io.save(path, {"x": wg.ones(1)})
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        io.save(path, tree)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["kept"]


def damaged(path: Path) -> list[tuple[str, bytes]]:
    whole = path.read_bytes()
    files = [
        ("empty", b""),
        ("pickle", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94."),
        ("text", b"hello world"),
    ]
    files += [("zip", b"PK\x03\x04" + b"\x00" * 40), ("longer", whole + b"\x00")]
    return files + [(f"cut {n}", whole[:n]) for n in (1, 7, 8, 20, len(whole) - 1)]


def test_damaged_and_foreign_files_are_named_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "good"
    io.save(path, {"x": wg.ones(10), "n": 3})
    for name, content in damaged(path):
        bad = tmp_path / name
        bad.write_bytes(content)
        for function in (io.load, io.load_metadata):
            with pytest.raises(CheckpointError) as caught:
                function(bad)
            assert str(bad) in str(caught.value)
            assert "fetch it again" in str(caught.value)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no file"):
        io.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="directory"):
        io.load(tmp_path)
    with pytest.raises(IsADirectoryError):
        io.save(tmp_path, {"x": wg.ones(1)})
    with pytest.raises(FileNotFoundError, match="no directory"):
        io.save(tmp_path / "no" / "where", {"x": wg.ones(1)})


def test_a_dtype_that_numpy_lacks_is_named(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "bf16"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x00" * 4)
    with pytest.raises(CheckpointError, match=r"bf16: x has dtype BF16.*convert"):
        io.load(path)


@pytest.mark.parametrize(
    "description", ["nonsense", "[]", '{"array":"y"}', '{"dict":{"a":{"call":"x"}}}', '{"list":3}']
)
def test_a_damaged_description_is_refused(description: str, tmp_path: Path) -> None:
    save_file({"x": np.ones(1)}, tmp_path / "d", {"wengert.tree": description})
    with pytest.raises(CheckpointError, match=r"safetensors\.numpy\.load_file"):
        io.load(tmp_path / "d")


class Interrupted(BaseException):
    """What no `except Exception` catches, as Ctrl-C."""


@pytest.mark.parametrize(
    "moment", ["wengert.io.checkpoint.os.fsync", "pathlib.Path.replace", "wengert.io.checkpoint.json.dumps"]
)
@pytest.mark.parametrize("existed", [False, True])
def test_an_interrupted_save_leaves_what_was_there(
    moment: str, existed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    if existed:
        io.save(path, {"x": wg.ones(1)})
    before = path.read_bytes() if existed else None

    def interrupt(*_args: Any, **_options: Any) -> Any:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(moment, interrupt)
        with pytest.raises(Interrupted):
            io.save(path, {"x": wg.zeros(1000)})
    assert (path.read_bytes() if path.exists() else None) == before
    assert names_in(tmp_path) == (["file"] if existed else [])


KILLED = """
import os, sys
import wengert as wg
from wengert.io import checkpoint

path, moment = sys.argv[1:]

def die(*_args):
    os._exit(9)

class Dying:
    def __init__(self, file):
        self.file = file
        self.left = 3
    def write(self, data):
        self.left -= 1
        if not self.left:
            self.file.write(bytes(data)[: len(bytes(data)) // 2])
            self.file.flush()
            die()
        self.file.write(data)

if moment == "write":
    whole = checkpoint.write_safetensors
    checkpoint.write_safetensors = lambda file, arrays, notes: whole(Dying(file), arrays, notes)
else:
    checkpoint.os.fsync = die
wg.io.save(path, {"x": wg.zeros(1000)})
"""


@pytest.mark.parametrize("moment", ["write", "sync"])
def test_a_process_killed_while_saving_leaves_the_old_file(moment: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    io.save(path, {"x": wg.ones(1)})
    before = path.read_bytes()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], check=False, env=environment)
    assert done.returncode == 9
    assert path.read_bytes() == before
    assert io.load(path)["x"].tolist() == [1.0]


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_modes_and_links(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        io.save(tmp_path / "file", {"x": wg.ones(1)})
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    (tmp_path / "link").symlink_to(tmp_path / "file")
    io.save(tmp_path / "link", {"x": wg.zeros(1)})
    assert (tmp_path / "link").is_symlink()
    assert io.load(tmp_path / "file")["x"].tolist() == [0.0]
