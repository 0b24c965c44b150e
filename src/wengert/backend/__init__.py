"""Array libraries behind one protocol: which namespace `xp` serves an array. Knows no derivatives."""

from __future__ import annotations

from . import numpy as numpy
from .select import namespace_of as namespace_of

__all__ = ["namespace_of", "numpy"]
