"""Programs of eager code: forgotten, and done without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wengert as wg
from wengert.compile import (
    eager_boxed,
    eager_chains,
    eager_derivatives,
    eager_operations,
    eager_pushes,
    eager_sweeps,
    eager_updates,
)
from wengert.core import native


def forget() -> None:
    """Forget all programs of eager code."""
    for module in (
        eager_boxed,
        eager_chains,
        eager_derivatives,
        eager_operations,
        eager_pushes,
        eager_sweeps,
        eager_updates,
    ):
        module.accounts.clear()


def without_kernels(run: Callable[[], Any]) -> Any:
    """Run something with all of it left to NumPy."""
    kept = native.smallest, native.smallest_matrix, native.factor
    wg.set_eager_kernels(False)
    try:
        return run()
    finally:
        native.smallest, native.smallest_matrix, native.factor = kept
