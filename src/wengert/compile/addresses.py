"""Where arrays are in memory, soon told."""

from __future__ import annotations

from ctypes import addressof, c_char
from typing import Any

import numpy as np

_view: Any = c_char.from_buffer


def address_of(array: np.ndarray) -> int:
    """Return the address of the first element of an array without gaps.

    The buffer protocol tells it in a fifth of the time that the array interface takes, but not of arrays that are
    empty, read-only, or of dtypes that buffers don't know.
    """
    try:
        return addressof(_view(array))
    except (TypeError, ValueError, BufferError):
        return array.__array_interface__["data"][0]
