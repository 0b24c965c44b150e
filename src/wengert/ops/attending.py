"""Attention without its matrix of scores: the operation that long sequences use, and its gradient.

Arrays have shapes (heads..., length, features), with the same heads and features; queries come scaled. A mask says
which query may attend to which key, or has numbers that are added to scores (constants: their gradient would be as
large as the scores), and broadcasts to these; if it has no element, there is none. Each operation has one result, whose
rows are those of several arrays, one behind the other: rows of features, and numbers for each query, as many to a row
as there are features, with zeros at the end.

Of two orders of derivative, scores are not in memory; from the second on they are.
"""

from __future__ import annotations

import math

import numpy as np

from ..core import capturing
from ..core.tracing import plain_parts
from ..core.vspace import all_finite
from ..declare import Sample, opaque
from ..declare.structured import guard_tracked
from ..typing import Array, Namespace

__all__ = ["attend", "attend_pull"]


def _no_mask(rng: np.random.Generator) -> np.ndarray:
    return np.ones((1, 0), np.bool_)


def _of_keys(rng: np.random.Generator) -> np.ndarray:
    return np.array([[True, True, False, True]])


def _of_pairs(rng: np.random.Generator) -> np.ndarray:
    return np.array([[[True, True, False, True], [False, False, False, False], [False, True, True, False]]])


def _added(rng: np.random.Generator) -> np.ndarray:
    return np.where(_of_pairs(rng), rng.standard_normal((2, 3, 4)), -np.inf)


@opaque(
    samples=[
        Sample((2, 3, 2), (2, 4, 2), (2, 4, 2), _no_mask, is_causal=False),
        Sample((1, 2, 4, 3), (1, 2, 3, 3), (1, 2, 3, 3), _no_mask, is_causal=True),
        Sample((2, 2), (4, 2), (4, 2), _of_keys, is_causal=True),
        Sample((2, 3, 2), (2, 4, 2), (2, 4, 2), _of_pairs, is_causal=False),
        Sample((2, 3, 2), (2, 4, 2), (2, 4, 2), _added, is_causal=False),
    ],
    fixed=("mask",),
)
def attend(xp: Namespace, query: Array, key: Array, value: Array, mask: Array, *, is_causal: bool) -> Array:
    """Values averaged by softmax of products of queries and keys, and the logarithms of the sums of exponentials."""
    return xp.attend(query, key, value, mask, is_causal=is_causal)


@attend.vjp
def attend_vjp(
    xp: Namespace, out_bar: Array, out: Array, query: Array, key: Array, value: Array, mask: Array, is_causal: bool
) -> tuple[Array | None, ...]:
    result, logarithm = _unpacked(xp, out, query)
    bars, logarithm_bar = _unpacked(xp, out_bar, query)
    # A logarithm's slopes are the weights, and meet what each product with a value is lessened by.
    delta = xp.sum(xp.guarded_product(result, bars), axis=-1) - logarithm_bar
    given = bars, logarithm, delta, query, key, value, mask
    pulled = xp.attend_pull(*given, is_causal=is_causal)
    if capturing.engaged and (capture := capturing.current()) is not None:
        for factor in (query, key, value, out):
            capture.guard_was_left_out(factor)
    elif not all([all_finite(part) for part in plain_parts(pulled)]):
        return *_pulled_with_care(xp, *given, is_causal), None
    return *_split(pulled, query, key), None


@attend.jvp
def attend_jvp(
    xp: Namespace,
    out: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    query_dot: Array,
    key_dot: Array,
    value_dot: Array,
    is_causal: bool,
) -> Array:
    _, logarithm = _unpacked(xp, out, query)
    weights = _weights(xp, query, key, mask, logarithm, is_causal)
    moves = xp.guarded_product(weights, xp.matmul(query_dot, _turned(xp, key)) + xp.matmul(query, _turned(xp, key_dot)))
    logarithm_dot = xp.sum(moves, axis=-1)
    weights_dot = moves - xp.guarded_product(weights, xp.expand_dims(logarithm_dot, -1))
    return _packed(xp, xp.matmul(weights_dot, value) + xp.matmul(weights, value_dot), logarithm_dot)


@attend.batched
def attend_batched(xp: Namespace, *args: Array, is_causal: bool) -> Array:
    return attend(*args, is_causal=is_causal)


@opaque(
    samples=[
        Sample((2, 3, 2), (2, 3), (2, 3), (2, 3, 2), (2, 4, 2), (2, 4, 2), _no_mask, is_causal=False),
        Sample((1, 4, 3), (1, 4), (1, 4), (1, 4, 3), (1, 3, 3), (1, 3, 3), _no_mask, is_causal=True),
        Sample((2, 2), (2,), (2,), (2, 2), (4, 2), (4, 2), _of_keys, is_causal=True),
        Sample((2, 3, 2), (2, 3), (2, 3), (2, 3, 2), (2, 4, 2), (2, 4, 2), _of_pairs, is_causal=False),
        Sample((2, 3, 2), (2, 3), (2, 3), (2, 3, 2), (2, 4, 2), (2, 4, 2), _added, is_causal=False),
    ],
    fixed=("mask",),
)
def attend_pull(
    xp: Namespace,
    result_bar: Array,
    logarithm: Array,
    delta: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    *,
    is_causal: bool,
) -> Array:
    """Gradients of attention by queries, keys and values, from those of scores: weights (result_bar value' - delta)."""
    return xp.attend_pull(result_bar, logarithm, delta, query, key, value, mask, is_causal=is_causal)


@attend_pull.vjp
def attend_pull_vjp(
    xp: Namespace,
    out_bar: Array,
    result_bar: Array,
    logarithm: Array,
    delta: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    is_causal: bool,
) -> tuple[Array | None, ...]:
    for_query, for_key, for_value = _split(out_bar, query, key)
    weights = _weights(xp, query, key, mask, logarithm, is_causal)
    rest = xp.matmul(result_bar, _turned(xp, value)) - xp.expand_dims(delta, -1)
    slopes = weights * rest
    slopes_bar = _met(xp, for_query, _turned(xp, key)) + _meets(xp, query, _turned(xp, for_key))
    rest_bar = xp.guarded_product(weights, slopes_bar)
    weights_bar = xp.guarded_product(rest, slopes_bar) + _meets(xp, result_bar, _turned(xp, for_value))
    scores_bar = xp.guarded_product(weights, weights_bar)
    return (
        _met(xp, rest_bar, value) + _meets(xp, weights, for_value),
        -xp.sum(scores_bar, axis=-1),
        -xp.sum(rest_bar, axis=-1),
        _met(xp, scores_bar, key) + _meets(xp, slopes, for_key),
        _met(xp, _turned(xp, scores_bar), query) + _meets(xp, _turned(xp, slopes), for_query),
        _met(xp, _turned(xp, rest_bar), result_bar),
        None,
    )


@attend_pull.jvp
def attend_pull_jvp(
    xp: Namespace,
    result_bar: Array,
    logarithm: Array,
    delta: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    result_bar_dot: Array,
    logarithm_dot: Array,
    delta_dot: Array,
    query_dot: Array,
    key_dot: Array,
    value_dot: Array,
    is_causal: bool,
) -> Array:
    weights = _weights(xp, query, key, mask, logarithm, is_causal)
    rest = xp.matmul(result_bar, _turned(xp, value)) - xp.expand_dims(delta, -1)
    slopes = weights * rest
    scores_dot = xp.matmul(query_dot, _turned(xp, key)) + xp.matmul(query, _turned(xp, key_dot))
    weights_dot = xp.guarded_product(weights, scores_dot - xp.expand_dims(logarithm_dot, -1))
    rest_dot = xp.matmul(result_bar_dot, _turned(xp, value)) + xp.matmul(result_bar, _turned(xp, value_dot))
    slopes_dot = weights_dot * rest + weights * (rest_dot - xp.expand_dims(delta_dot, -1))
    of_query = xp.matmul(slopes_dot, key) + xp.matmul(slopes, key_dot)
    of_key = xp.matmul(_turned(xp, slopes_dot), query) + xp.matmul(_turned(xp, slopes), query_dot)
    of_value = xp.matmul(_turned(xp, weights_dot), result_bar) + xp.matmul(_turned(xp, weights), result_bar_dot)
    return xp.concatenate([of_query, of_key, of_value], axis=-2)


@attend_pull.batched
def attend_pull_batched(xp: Namespace, *args: Array, is_causal: bool) -> Array:
    return attend_pull(*args, is_causal=is_causal)


def _pulled_with_care(
    xp: Namespace,
    result_bar: Array,
    logarithm: Array,
    delta: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    is_causal: bool,
) -> tuple[Array, Array, Array]:
    """Return the same gradients where something is not finite: zero cotangents bring zero, whatever they meet."""
    weights = _weights(xp, query, key, mask, logarithm, is_causal)
    slopes = xp.guarded_product(weights, _met(xp, result_bar, _turned(xp, value)) - xp.expand_dims(delta, -1))
    of_query = _met(xp, slopes, key)
    return of_query, _met(xp, _turned(xp, slopes), query), _meets(xp, _turned(xp, weights), result_bar)


def _met(xp: Namespace, bar: Array, factor: Array) -> Array:
    """Return a product of matrices, in which zeros of the left one, which comes of a cotangent, win over infinities."""
    return guard_tracked(xp, xp.matmul(bar, factor), factor, bar, lambda factors, bars: bars @ factors)


def _meets(xp: Namespace, factor: Array, bar: Array) -> Array:
    """Return a product of matrices, in which zeros of the right one win."""
    return guard_tracked(xp, xp.matmul(factor, bar), factor, bar, lambda factors, bars: factors @ bars)


def _turned(xp: Namespace, x: Array) -> Array:
    return xp.swapaxes(x, -1, -2)


def _weights(xp: Namespace, query: Array, key: Array, mask: Array, logarithm: Array, is_causal: bool) -> Array:
    scores = xp.matmul(query, _turned(xp, key)) - xp.expand_dims(logarithm, -1)
    if is_causal:
        scores = xp.where(np.tri(query.shape[-2], key.shape[-2], dtype=np.bool_), scores, -math.inf)
    if not mask.size:
        return xp.exp(scores)
    return xp.exp(xp.where(mask, scores, -math.inf) if mask.dtype.kind == "b" else scores + mask)


def _unpacked(xp: Namespace, packed: Array, query: Array) -> tuple[Array, Array]:
    """Return rows of features, and the numbers behind them."""
    *heads, length, features = query.shape
    numbers = xp.reshape(packed[..., length:, :], (*heads, -(-length // features) * features))
    return packed[..., :length, :], numbers[..., :length]


def _packed(xp: Namespace, rows: Array, numbers: Array) -> Array:
    """Return rows of features, with a number for each of them behind."""
    *heads, length, features = rows.shape
    extra = -(-length // features)
    rest = xp.zeros((*heads, extra * features - length), dtype=rows.dtype)
    behind = xp.reshape(xp.concatenate([numbers, rest], axis=-1), (*heads, extra, features))
    return xp.concatenate([rows, behind], axis=-2)


def _split(packed: Array, query: Array, key: Array) -> tuple[Array, Array, Array]:
    """Return the rows of queries, of keys and of values."""
    length, keys = query.shape[-2], key.shape[-2]
    return packed[..., :length, :], packed[..., length : length + keys, :], packed[..., length + keys :, :]
