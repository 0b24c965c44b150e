"""Array type -> array namespace."""

from __future__ import annotations

import sys

import numpy as np

from ..typing import Array, Namespace
from . import numpy as numpy_backend


def namespace_of(array: Array) -> Namespace:
    """Return the `xp` that serves this array's library (NumPy for everything that no other library claims)."""
    if type(array) is np.ndarray or isinstance(array, np.generic):
        return numpy_backend
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return cupy
    return numpy_backend
