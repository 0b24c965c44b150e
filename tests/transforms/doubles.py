"""Tensors in float64, in which expectations hold to many digits."""

from __future__ import annotations

from typing import Any

import wengert as wg


def doubles(*values: float) -> Any:
    """Return a vector."""
    return wg.tensor(list(values), dtype="float64")


def number(value: float) -> Any:
    """Return a scalar."""
    return wg.tensor(value, dtype="float64")
