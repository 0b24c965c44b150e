"""What NumPy's arrays hold, in a form that is kept and compared: whether one has changed since a program was made."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .backends import has_native_code
from .llvm.fingerprint import BLOCK, fingerprint

_SMALL = 16_384
"""Bytes up to which contents are kept as they are; of larger arrays, a fingerprint."""


def contents_of(array: np.ndarray) -> Any:
    """Return what is equal for arrays of equal contents, shape and dtype.

    An array that nobody can write to through NumPy, in its memory's owner as well, is not looked into.
    """
    if isinstance(array, np.ma.MaskedArray):
        return (contents_of(array.data), contents_of(np.ma.getmaskarray(array)))
    kind = (array.shape, array.dtype)
    if array.nbytes <= _SMALL or array.dtype.hasobject:
        return (*kind, array.tobytes())
    if _is_read_only(array):
        return (*kind, "read-only")
    # Of rows that are one row, repeated by a stride of 0, one is enough.
    once = [slice(0, 1) if stride == 0 else slice(None) for stride in array.strides]
    own = array.view(np.ndarray)[tuple(once)]
    data: Any = _bytes_in_a_row(own)
    if not has_native_code():
        return (*kind, hashlib.blake2b(data, digest_size=16).digest())
    whole = data.size - data.size % BLOCK
    return (*kind, fingerprint(data[:whole]), data[whole:].tobytes())


def _bytes_in_a_row(array: np.ndarray) -> np.ndarray:
    flat = array.ravel(order="A") if array.flags.forc else np.ascontiguousarray(array).ravel()
    return flat.view(np.uint8)


def _is_read_only(array: np.ndarray) -> bool:
    """Return whether neither an array nor whatever owns its memory can be written."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        if owner.base is None:
            return True
        owner = owner.base
    try:
        return memoryview(owner).readonly
    except TypeError:
        return False


__all__ = ["contents_of"]
