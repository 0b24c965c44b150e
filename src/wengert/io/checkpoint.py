"""Saving and loading: one safetensors file, written beside its place and moved there when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wengert.errors import CheckpointError

from .tree import as_tensor, flatten, unflatten

TREE = "wengert.tree"
"""Key of the file's metadata under which the structure of the tree is kept."""

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
_SAVED = frozenset(_DTYPES.values())


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
    from safetensors.numpy import save_file

    target = Path(os.path.realpath(path))
    arrays, description = flatten(tree)
    notes = _checked_metadata(metadata)
    if description is not None:
        notes[TREE] = description
    ready = {key: _storable(key, array) for key, array in arrays.items()}
    with _replacing(target) as temporary:
        save_file(ready, temporary, metadata=notes or None)


def _checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    notes = dict(metadata or {})
    for key, value in notes.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise CheckpointError(f"save: metadata are strings by name, not {key!r}: {value!r}")
        if key == TREE:
            raise CheckpointError(f"save: the metadata key {TREE!r} is taken: the structure of the tree is kept there")
    return notes


def _storable(key: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in _SAVED:
        raise CheckpointError(
            f"save: {key} has dtype {array.dtype}, which a safetensors file cannot hold here; convert it first, a "
            "complex array for example to its real and imaginary parts"
        )
    # The format wants the machine's byte order and rows one after the other.
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Give a name to write to, and move what was written there to the target: at the end, or not at all."""
    if target.is_dir():
        raise IsADirectoryError(f"save: {target} is a directory; name a file in it")
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        yield temporary
        _force_to_disk(temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _force_to_disk(target.parent)


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
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
                    f"load: {path}: {key} has dtype {dtype}, which NumPy has not; convert it with the library that wrote "
                    f"it. Supported are {', '.join(_DTYPES)}"
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
