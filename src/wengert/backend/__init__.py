"""Array libraries behind one protocol: which namespace `xp` serves an array. Knows no derivatives."""

from __future__ import annotations

from . import numpy as numpy
from .memory import keep_freed_memory_at_hand
from .select import namespace_of as namespace_of

keep_freed_memory_at_hand()

__all__ = ["namespace_of", "numpy"]
