"""Attention with dropout of its weights."""

from __future__ import annotations

from typing import Any

import wengert as wg
from wengert import Tensor, random

from .layers import dropout


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    generator: random.Generator | None = None,
) -> Tensor:
    """Average values by how well their keys fit each query (A. Vaswani et al., 2017, equation 1).

    Args:
        query: array of shape (..., L, features).
        key: array of shape (..., S, features).
        value: array of shape (..., S, anything).
        attn_mask: of a shape that broadcasts to (..., L, S): booleans, true where a query may attend to a key, or
            numbers that are added to the scaled products. A query that may attend to nothing gets zeros.
        dropout_p: probability of a weight to be dropped; dropped it is in evaluation too, unless this is zero.
        is_causal: let query i attend to the keys up to the i-th alone.
        scale: factor of the products; one over the root of the number of features by default.
        generator: where the random numbers of dropout come from; `wg.random`'s own by default.

    Raises:
        ShapeError: shapes do not fit.

    >>> import wengert as wg
    >>> x = wg.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> wg.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)[0].tolist()
    [1.0, 0.0]
    """
    if not dropout_p:
        return wg.scaled_dot_product_attention(query, key, value, attn_mask, is_causal, scale)
    weights = wg.attention_weights(query, key, attn_mask, is_causal, scale)
    return wg.matmul(dropout(weights, dropout_p, generator=generator), value)
