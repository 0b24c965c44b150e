"""Settings of the process: the default floating dtype; thread-local recording state lives in `core.recording`."""

from __future__ import annotations

import numpy as np


class _Settings:
    __slots__ = ("default_dtype",)

    def __init__(self) -> None:
        self.default_dtype: np.dtype[np.floating] = np.dtype(np.float32)


settings = _Settings()


def get_default_dtype() -> np.dtype[np.floating]:
    """Return the dtype given to Python floats, random numbers and layers (float32 unless changed).

    >>> import wengert as wg
    >>> wg.get_default_dtype()
    dtype('float32')
    """
    return settings.default_dtype


def set_default_dtype(dtype: object) -> None:
    """Set the dtype given to Python floats, random numbers and layers.

    Args:
        dtype: a real floating dtype, such as `"float64"` or `np.float32`.

    Raises:
        TypeError: the dtype is not a real floating one.

    >>> import wengert as wg
    >>> wg.set_default_dtype("float64"); wg.tensor(1.5).dtype
    dtype('float64')
    >>> wg.set_default_dtype("float32")
    """
    resolved = np.dtype(dtype)  # type: ignore[call-overload]
    if resolved.kind != "f":
        raise TypeError(f"the default dtype must be a real floating dtype such as float32 or float64, not {resolved}")
    settings.default_dtype = resolved
