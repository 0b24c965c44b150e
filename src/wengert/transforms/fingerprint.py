"""Fingerprints of arrays, to tell whether a computation that was run again has computed the same.

A CRC over all bytes runs at 7 GB/s, slower than many operations. So large arrays are summed first, as 64-bit integers
over the columns and the rows of a matrix, at 30 GB/s, and the CRC is taken of the sums. Integer sums lose nothing to
rounding, and those in both directions notice a value that has moved.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

_WIDTH = 512
_LARGE = 1 << 15


def fingerprint(array: Any) -> int:
    """Return a number that depends on every bit of an array, whatever its layout in memory.

    >>> import numpy as np
    >>> from wengert.transforms.fingerprint import fingerprint
    >>> x = np.arange(10_000.0).reshape(100, 100)
    >>> fingerprint(x) == fingerprint(x.T.copy().T), fingerprint(x) == fingerprint(x[::-1])
    (True, False)
    """
    data: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if len(data) < _LARGE:
        return crc32(data)
    rows = len(data) // (8 * _WIDTH)
    matrix: Any = data[: rows * 8 * _WIDTH].view(np.uint64).reshape(rows, _WIDTH)
    code = crc32(matrix.sum(axis=0))
    code = crc32(matrix.sum(axis=1), code)
    return crc32(data[rows * 8 * _WIDTH :], code)


__all__ = ["fingerprint"]
