"""What the generators of kernels know of a machine: its vectors, its registers and its caches."""

from __future__ import annotations

from typing import NamedTuple

from ..scalar_ir import DType


class Machine(NamedTuple):
    """The part of a machine's description that the shape of generated code depends on.

    Attributes:
        vector_bytes: size of a vector register that arithmetic is fast on.
        vector_registers: how many of them there are.
        masks: whether loads and stores of some lanes of a vector cost no more than of all.
        level1, level2: bytes of cache of one core.
    """

    vector_bytes: int
    vector_registers: int
    masks: bool = False
    level1: int = 32 * 1024
    level2: int = 256 * 1024

    def lanes(self, dtype: DType) -> int:
        """Return how many elements of a type a vector has."""
        return max(1, self.vector_bytes // dtype.itemsize)


AVX512 = Machine(64, 32, masks=True, level1=32 * 1024, level2=1024 * 1024)
AVX2 = Machine(32, 16)
SSE2 = Machine(16, 16)
NEON = Machine(16, 32)
