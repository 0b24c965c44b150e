"""Kernels that are written down as what makes them, until it is known for which machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..kernels import Kernel
from .machine import Machine


class Recipe(NamedTuple):
    """A kernel that is still to be made for a machine; equal recipes make equal kernels."""

    make: Callable[..., Kernel]
    arguments: tuple[Any, ...]

    def kernel(self, machine: Machine) -> Kernel:
        """Return the kernel."""
        return self.make(*self.arguments, machine)
