"""What attention is but for its numbers: extents, strides, masks; and the blocks in which kernels do it."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from ...typing import Shape
from ..scalar_ir import DType

BLOCK = 64
"""Queries, and keys, of a block of scores: its products with values and with cotangents fit into the first cache."""
FEATURES = 16
"""Features are a multiple of this: a whole number of vectors on every machine."""


class Attention(NamedTuple):
    """Attention of many heads.

    Attributes:
        batch: extents of the leading axes, whose elements are heads.
        queries, keys, features: of each head.
        dtype: float32 or float64.
        is_causal: whether query i attends to the keys up to the i-th alone.
        strides: of the kernel's inputs, for each of their axes, in elements; along the last axis 1.
        mask: strides of a further input that says which query may attend to which key; None if all may.
        is_added: whether that are numbers of the same dtype, which are added to scores, instead of bytes.
    """

    batch: Shape
    queries: int
    keys: int
    features: int
    dtype: DType
    is_causal: bool
    strides: tuple[Shape, ...]
    mask: Shape | None = None
    is_added: bool = False

    @property
    def heads(self) -> int:
        """How many there are."""
        return prod(self.batch)

    @property
    def extra(self) -> int:
        """Rows that hold a number for each query, behind as many rows as there are queries."""
        return -(-self.queries // self.features)

    @property
    def query_blocks(self) -> int:
        """How many blocks of queries a head has."""
        return -(-self.queries // BLOCK)

    @property
    def key_blocks(self) -> int:
        """How many blocks of keys a head has."""
        return -(-self.keys // BLOCK)

    def flops(self, products: int) -> int:
        """Return how many operations some products of scores with features take, of what is not masked."""
        seen = self.queries * self.keys
        if self.is_causal:
            seen = sum([min(query + 1, self.keys) for query in range(self.queries)])
        return 2 * products * self.heads * seen * self.features


__all__ = ["BLOCK", "FEATURES", "Attention"]
