"""Scaled dot-product attention, made of matrix products and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import boxing
from ..core.dispatch import bind
from ..core.tracing import comes_of_something_tracked, is_followed, is_tracer
from ..declare import Sample, composite
from ..errors import DTypeError, ShapeError
from ..typing import ArrayLike
from .attending import attend
from .comparison import greater
from .contraction import matmul
from .creation import asarray
from .normalization import softmax
from .shaping import swapaxes

__all__ = ["attention_weights", "scaled_dot_product_attention"]


def _lower_triangle(rng: np.random.Generator) -> np.ndarray:
    return np.tri(3, 4, 1, dtype=np.bool_)


@composite(
    samples=[
        Sample((2, 3, 4), (2, 5, 4)),
        Sample((3, 2), (3, 2), is_causal=True),
        Sample((2, 3, 2), (4, 2), _lower_triangle, scale=0.5),
        Sample((3, 2), (4, 2), (3, 4)),
    ]
)
def attention_weights(
    query: ArrayLike, key: ArrayLike, mask: Any = None, is_causal: bool = False, scale: float | None = None
) -> Any:
    """Return how much each query attends to each key: softmax of their scaled products, over the keys.

    See `scaled_dot_product_attention`.

    >>> import wengert as wg
    >>> wg.attention_weights(wg.ones((2, 4)), wg.ones((2, 4)), is_causal=True).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    queries, keys = asarray(query), asarray(key)
    if queries.ndim < 2 or keys.ndim < 2 or queries.shape[-1] != keys.shape[-1]:
        raise ShapeError(
            f"attention: queries of shape {queries.shape} and keys of shape {keys.shape} do not fit: both have shape "
            "(..., length, features), with the same number of features"
        )
    if is_causal and mask is not None:
        raise ValueError("attention: is_causal=True is a mask already; make one mask of both, or leave one out")
    factor = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    scores = matmul(queries * factor, swapaxes(keys, -1, -2))
    xp = boxing.operations
    if is_causal:
        return softmax(xp.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, -math.inf))
    if mask is None:
        return softmax(scores)
    allowed = asarray(mask)
    if allowed.dtype.kind == "b":
        return softmax(scores, where=allowed)
    if allowed.dtype.kind != "f":
        raise DTypeError(f"attention: a mask is boolean, or floating and added to the scores; not {allowed.dtype}")
    scores = scores + xp.astype(allowed, scores.dtype, copy=False)
    return softmax(scores, where=greater(scores, -math.inf))


@composite(
    samples=[
        Sample((2, 3, 4), (2, 5, 4), (2, 5, 3)),
        Sample((1, 2, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2), is_causal=True),
        Sample((2, 3, 2), (2, 4, 2), (2, 4, 1), _lower_triangle),
        Sample((3, 2), (4, 2), (4, 2), (3, 4), scale=0.3),
    ]
)
def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Any:
    """Attention (A. Vaswani et al., 2017, equation 1): values, averaged by how well their keys fit each query.

    Args:
        query: array of shape (..., L, features).
        key: array of shape (..., S, features).
        value: array of shape (..., S, anything).
        attn_mask: of a shape that broadcasts to (..., L, S): booleans, true where a query may attend to a key, or
            numbers that are added to the scaled products. A query that may attend to nothing gets zeros.
        is_causal: let query i attend to the keys up to the i-th alone.
        scale: factor of the products; one over the root of the number of features by default.

    Raises:
        ShapeError: shapes do not fit.
        ValueError: there is a mask, and is_causal too.

    >>> import wengert as wg
    >>> x = wg.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> wg.scaled_dot_product_attention(x, x, x, is_causal=True)[0].tolist()
    [1.0, 0.0]
    """
    queries, keys, values = (asarray(x) for x in (query, key, value))
    mask = _of_length(queries, keys, values, attn_mask, is_causal)
    if mask is None:
        return matmul(attention_weights(queries, keys, attn_mask, is_causal, scale), values)
    length, features = queries.shape[-2:]
    factor = 1 / math.sqrt(features) if scale is None else scale
    packed = bind(attend.primitive, (queries * factor, keys, values, mask), {"is_causal": bool(is_causal)})
    return packed[..., :length, :]


_LONG, _LONG_CAUSAL = 1 << 18, 1 << 14
"""Scores of a head from which on they are not kept in memory: on the way back, they take a product more."""
_NO_MASK = np.ones((1, 0), np.bool_)


def _of_length(query: Any, key: Any, value: Any, attn_mask: Any, is_causal: bool) -> Any:
    """Return the mask of an operation that computes attention at once; None where products and softmax do."""
    if query.ndim < 2 or key.ndim != query.ndim:
        return None
    scores = (*query.shape[:-1], key.shape[-2])
    if scores[-2] * scores[-1] < (_LONG_CAUSAL if is_causal else _LONG):
        return None
    alike = key.shape == value.shape and (*key.shape[:-2], key.shape[-1]) == (*query.shape[:-2], query.shape[-1])
    if not alike or not query.dtype == key.dtype == value.dtype or query.dtype.kind != "f" or query.dtype.itemsize < 4:
        return None
    if attn_mask is None:
        return asarray(_NO_MASK)
    mask = asarray(attn_mask)
    extents = zip(reversed(mask.shape), reversed(scores))
    fits = mask.dtype.kind in "bf" and 0 < mask.ndim <= len(scores) and all([n in (1, extent) for n, extent in extents])
    if is_causal or not fits:
        return None  # and it will be said what does not fit
    if mask.dtype.kind == "f":
        if is_followed(mask) or (is_tracer(mask) and comes_of_something_tracked(mask)):
            return None  # its gradient is as large as the scores
        mask = boxing.operations.astype(mask, query.dtype, copy=False)
    return mask.reshape((*(1,) * (len(scores) - mask.ndim), *mask.shape))
