"""Constants and dtypes under the names that NumPy and the Array API give them."""

from __future__ import annotations

from typing import Never

from numpy import bool as bool
from numpy import complex64 as complex64
from numpy import complex128 as complex128
from numpy import e as e
from numpy import euler_gamma as euler_gamma
from numpy import float16 as float16
from numpy import float32 as float32
from numpy import float64 as float64
from numpy import inf as inf
from numpy import int8 as int8
from numpy import int16 as int16
from numpy import int32 as int32
from numpy import int64 as int64
from numpy import nan as nan
from numpy import newaxis as newaxis
from numpy import pi as pi
from numpy import uint8 as uint8
from numpy import uint16 as uint16
from numpy import uint32 as uint32
from numpy import uint64 as uint64


class BFloat16:
    """The type of `bfloat16`: float32 with 8 significant bits.

    It names a format to compute in, and is no dtype: NumPy has none, and no array is of it.
    """

    __slots__ = ()
    name = "bfloat16"

    @property
    def dtype(self) -> Never:
        """Refuse to be the dtype of an array: NumPy asks here."""
        raise TypeError(
            "there are no arrays of bfloat16: keep them in float32, and have products computed in bfloat16 with "
            "wg.compile(f, compute_dtype=wg.bfloat16)"
        )

    def __repr__(self) -> str:
        return "wengert.bfloat16"

    def __reduce__(self) -> str:
        return "bfloat16"


bfloat16 = BFloat16()

__all__ = [
    "bfloat16",
    "bool",
    "complex128",
    "complex64",
    "e",
    "euler_gamma",
    "float16",
    "float32",
    "float64",
    "inf",
    "int16",
    "int32",
    "int64",
    "int8",
    "nan",
    "newaxis",
    "pi",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
]
