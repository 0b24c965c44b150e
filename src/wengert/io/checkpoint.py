"""Saving and loading: one safetensors file, written beside its place and moved there when it is complete."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wengert.errors import CheckpointError

from .tree import as_tensor, flatten, unflatten

TREE = "wengert.tree"
"""Key of the file's metadata under which the structure of the tree is kept."""

_METADATA = "__metadata__"

_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}
_NAMES = {name: code for code, name in _DTYPES.items()}


def save(path: str | os.PathLike[str], tree: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Save Tensors in a safetensors file, which other libraries can read.

    The file is complete or absent: it is written under another name in the same directory, forced to the disk, and then
    moved to its place in one step. A file that was there before stays until that moment.

    Args:
        path: the file; ".safetensors" is the usual ending.
        tree: a state_dict, or nested dicts (with string keys), lists and tuples of Tensors, arrays, numbers, strings
            and None. In the file, an array has the dotted key of its place.
        metadata: strings by name, to be kept in the file.

    Raises:
        CheckpointError: the tree holds something that cannot be saved; no file is touched.
        OSError: the file cannot be written.

    >>> import wengert as wg
    >>> model = wg.nn.Linear(2, 1)
    >>> wg.io.save("linear.safetensors", model.state_dict(), metadata={"task": "demo"})
    >>> model.load_state_dict(wg.io.load("linear.safetensors"))
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    """
    target = Path(os.path.realpath(path))
    arrays, description = flatten(tree)
    notes = _checked_metadata(metadata)
    if description is not None:
        notes[TREE] = description
    if _METADATA in arrays:
        raise CheckpointError(f"save: the key {_METADATA!r} has a meaning of its own in the format; rename the array")
    ready = {key: _storable(key, array) for key, array in arrays.items()}
    with _replacing(target) as file:
        write_safetensors(file, ready, notes)


def _checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    notes = dict(metadata or {})
    for key, value in notes.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise CheckpointError(f"save: metadata are strings by name, not {key!r}: {value!r}")
        if key == TREE:
            raise CheckpointError(f"save: the metadata key {TREE!r} is taken: the structure of the tree is kept there")
    return notes


def _storable(key: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in _NAMES:
        raise CheckpointError(
            f"save: {key} has dtype {array.dtype}, which a safetensors file cannot hold here; convert it first, a "
            "complex array for example to its real and imaginary parts"
        )
    if not array.flags.c_contiguous or array.dtype.byteorder not in "=|<" or sys.byteorder != "little":
        return np.array(array, dtype=array.dtype.newbyteorder("<"), order="C")
    return array


def write_safetensors(file: BinaryIO, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write the safetensors format (https://huggingface.co/docs/safetensors): a header in JSON, then the bytes.

    The safetensors package would hold all of it in memory once more, and order it as it likes; here the same arrays
    make the same bytes.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    order = sorted(arrays, key=lambda key: (-arrays[key].itemsize, key))  # so that every array is aligned
    start = 0
    for key in order:
        array = arrays[key]
        stop = start + array.nbytes
        header[key] = {"dtype": _NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for key in order:
        if arrays[key].size:
            file.write(arrays[key].reshape(-1).view(np.uint8).data)


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """Give a file to write to, and move it to the target: at the end, or not at all."""
    if target.is_dir():
        raise IsADirectoryError(f"save: {target} is a directory; name a file in it")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"save: there is no directory {target.parent}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _force_to_disk(target.parent)


def _force_to_disk(directory: Path) -> None:
    """Make a move in a directory last."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(path: str | os.PathLike[str]) -> Any:
    """Load what `save` saved, as Tensors in the same structure; of another library's file, Tensors by key.

    Raises:
        CheckpointError: the file is missing, truncated, of another format, or holds a dtype that is not supported.

    >>> import wengert as wg
    >>> wg.io.save("pair.safetensors", (wg.ones(1), {"rate": 0.5}))
    >>> wg.io.load("pair.safetensors")
    (Tensor([1.], dtype=float32), {'rate': 0.5})
    """
    with _opened(path) as file:
        description = (file.metadata() or {}).get(TREE)
        for key in file.keys():
            dtype = file.get_slice(key).get_dtype()
            if dtype not in _DTYPES:
                raise CheckpointError(
                    f"load: {path}: {key} has dtype {dtype}, which NumPy has not; convert it with the library that "
                    f"wrote it. Supported are {', '.join(_DTYPES)}"
                )
        arrays = {key: as_tensor(file.get_tensor(key)) for key in file.keys()}
    try:
        return unflatten(arrays, description)
    except ValueError as error:
        raise CheckpointError(
            f"load: {path}: {error}; the arrays can be read with safetensors.numpy.load_file"
        ) from error


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Load the strings that were saved beside the Tensors.

    Raises:
        CheckpointError: the file is missing, truncated or of another format.

    >>> import wengert as wg
    >>> wg.io.save("noted.safetensors", {"x": wg.ones(1)}, metadata={"epoch": "7"})
    >>> wg.io.load_metadata("noted.safetensors")
    {'epoch': '7'}
    """
    with _opened(path) as file:
        return {key: value for key, value in (file.metadata() or {}).items() if key != TREE}


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if Path(path).is_dir():
        raise CheckpointError(f"load: {path} is a directory; name a file in it")
    try:
        with safe_open(os.fspath(path), framework="np") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f"load: there is no file {path}") from error
    except OSError as error:
        raise CheckpointError(f"load: {path} cannot be read: {error}") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"load: {path} ({_size(path)}) is not a complete safetensors file: {error}. It may have been cut off while "
            "it was copied, or be of another format (a pickle, an .npz): fetch it again, or convert it"
        ) from error


def _size(path: str | os.PathLike[str]) -> str:
    return f"{Path(path).stat().st_size} bytes"
