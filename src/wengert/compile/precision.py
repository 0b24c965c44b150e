"""The number format that a program's matrix products are computed in."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops.constants import bfloat16


def is_narrow(compute_dtype: Any) -> bool:
    """Return whether factors are to be rounded to bfloat16.

    Raises:
        TypeError: products are not computed in such a dtype.
    """
    if compute_dtype is bfloat16 or (isinstance(compute_dtype, str) and compute_dtype == bfloat16.name):
        return True
    if compute_dtype is None:
        return False
    try:
        if np.dtype(compute_dtype) == np.float32:
            return False
    except TypeError:
        pass
    raise TypeError(f"compile: compute_dtype is wg.bfloat16, float32 or None, not {compute_dtype!r}")
