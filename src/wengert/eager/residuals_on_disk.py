"""`residuals_on_disk`: what the tape keeps waits in files until the sweep comes for it."""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ..core.tape import Node, location
from ..declare.packing import belongs_to_leaf
from .residual_hooks import Item, ResidualBlock

_RECENT = 2


class _Folder:
    """A folder of files, removed when nobody needs it any more, or when the program ends."""

    __slots__ = ("__weakref__", "next_number", "path")

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        import tempfile

        self.path = tempfile.mkdtemp(prefix="wengert-residuals-", dir=directory)
        self.next_number = count(1).__next__  # threads may share the block
        weakref.finalize(self, _remove_folder, self.path, os.getpid())

    def next_path(self) -> str:
        """Return the name of a file that does not exist yet."""
        return str(Path(self.path) / f"{self.next_number()}.npy")


def _remove_folder(path: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked process has copies of the objects, and no right to the files
        shutil.rmtree(path, ignore_errors=True)


def _remove_file(path: str, owner: int) -> None:
    if os.getpid() == owner:
        Path(path).unlink(missing_ok=True)


class _File(Item):
    """An array in a file of its own, which lives as long as this object."""

    __slots__ = ("__weakref__", "folder", "path")

    def __init__(self, array: Any, folder: _Folder) -> None:
        self.folder = folder
        self.path = folder.next_path()
        weakref.finalize(self, _remove_file, self.path, os.getpid())
        with open(self.path, "wb") as file:  # noqa: PTH123 - np.save would add a suffix to a bare path
            np.save(file, array, allow_pickle=False)

    def restore(self, node: Node) -> Any:
        try:
            return np.load(self.path, allow_pickle=False)
        except Exception as error:
            whole = getattr(node, "whole", node)
            error.add_note(
                f"while reading what {node.primitive.name} had saved for the value made at {location(whole)}"
            )
            raise


class residuals_on_disk(ResidualBlock):
    """Keep large residuals in files, not in memory, until a sweep needs them.

    A context manager, or a decorator of functions. Each residual is written once, read when the sweep gets there, and
    deleted with the Node that needs it: as the sweep passes, when the tape is dropped, at the latest when the program
    ends. What is in memory anyway stays there: values of leaves (parameters), and what is smaller than `min_bytes`.
    The block itself keeps the last two arrays that it wrote, so that a value that two neighbouring operations need is
    written once.

    Args:
        directory: where to make a temporary folder (default: the system's place for such).
        min_bytes: the size from which a residual goes to a file.

    Raises:
        OSError: (from the operation) a file cannot be written, say because the disk is full.

    >>> import wengert as wg
    >>> x = wg.ones((512, 512)).requires_grad_()
    >>> with wg.residuals_on_disk():
    ...     y = wg.sum(wg.exp(wg.sin(x)))
    >>> y.backward(); x.grad.shape
    (512, 512)
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, min_bytes: int = 1 << 18) -> None:
        if isinstance(min_bytes, bool) or not isinstance(min_bytes, int) or min_bytes < 0:
            raise ValueError(f"residuals_on_disk: min_bytes must be a number of bytes, 0 or more, not {min_bytes!r}")
        if directory is not None and not Path(directory).is_dir():
            raise FileNotFoundError(f"residuals_on_disk: {directory} is not a directory; make it first")
        self._directory = directory
        self._min_bytes = min_bytes
        self._written = threading.local()
        self._folder: weakref.ref[_Folder] | None = None

    def __enter__(self) -> residuals_on_disk:
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._written.recent = ()
        super().__exit__(*exception)

    def keep(self, node: Node, array: Any) -> Any:
        """Return a file with the array, or the array as it is."""
        if not isinstance(array, np.ndarray) or array.nbytes < self._min_bytes or array.dtype.hasobject:
            return array
        if _is_stretched(array) or belongs_to_leaf(array, node):
            return array
        # A write copies what is held here, so that an array that is still the same object has the same values.
        recent = getattr(self._written, "recent", ())
        for known, file in recent:
            if known is array:
                return file
        file = _File(array, self._shared_folder())
        self._written.recent = (*recent, (array, file))[-_RECENT:]
        return file

    def _shared_folder(self) -> _Folder:
        folder = None if self._folder is None else self._folder()
        if folder is None:
            folder = _Folder(self._directory)
            self._folder = weakref.ref(folder)
        return folder


def _is_stretched(array: np.ndarray) -> bool:
    """Return whether an array is larger than its memory, as broadcasting leaves it."""
    return any([stride == 0 and extent > 1 for stride, extent in zip(array.strides, array.shape)])


__all__ = ["residuals_on_disk"]
