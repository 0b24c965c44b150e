"""Attention in NumPy, some queries at a time: scores never stand in memory as a whole.

Queries, keys and values have shapes (heads..., length, features), with the same heads and features. A mask says which
query may attend to which key, or has numbers that are added to scores, to which it broadcasts; all may attend to all if
it has no element.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..typing import Array

_SCORES = 1 << 22
"""Scores that are computed at once."""


def attend(query: Array, key: Array, value: Array, mask: Array, *, is_causal: bool) -> Array:
    """Return values averaged by softmax of scores; behind their rows the logarithms of the sums of exponentials."""
    *heads, length, features = _demand_alike(query, key, value)
    numbers = np.zeros((*heads, -(-length // features) * features), query.dtype)
    out = np.empty((*heads, length + numbers.shape[-1] // features, features), query.dtype)
    for rows, seen in _parts(query, key, is_causal):
        scores = _scores(query, key, mask, rows, seen, is_causal)
        largest = np.max(scores, -1, keepdims=True)
        scores -= np.where(np.isneginf(largest), query.dtype.type(0), largest)
        np.exp(scores, scores)
        totals = np.sum(scores, -1, keepdims=True)
        sums = np.matmul(scores, value[..., seen, :])
        if mask.size:  # who may attend to nothing gets zeros
            nothing = totals == 0
            totals[nothing], largest[nothing] = 1, 0
        out[..., rows, :] = sums / totals
        numbers[..., rows] = (np.log(totals) + largest)[..., 0]
    out[..., length:, :] = numbers.reshape((*heads, -1, features))
    return out


def attend_pull(
    out_bar: Array,
    logarithm: Array,
    delta: Array,
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    *,
    is_causal: bool,
) -> Array:
    """Return the gradients by queries, by keys and by values, with their rows behind each other."""
    *heads, length, features = _demand_alike(query, key, value)
    keys = key.shape[-2]
    out = np.zeros((*heads, length + 2 * keys, features), query.dtype)
    for rows, seen in _parts(query, key, is_causal):
        weights = _scores(query, key, mask, rows, seen, is_causal)
        weights -= logarithm[..., rows, None]
        np.exp(weights, weights)
        bars = out_bar[..., rows, :]
        slopes = np.matmul(bars, np.swapaxes(value[..., seen, :], -1, -2))
        slopes -= delta[..., rows, None]
        slopes *= weights
        out[..., rows, :] = np.matmul(slopes, key[..., seen, :])
        among_keys = slice(length, length + seen.stop)
        out[..., among_keys, :] += np.matmul(np.swapaxes(slopes, -1, -2), query[..., rows, :])
        among_values = slice(length + keys, length + keys + seen.stop)
        out[..., among_values, :] += np.matmul(np.swapaxes(weights, -1, -2), bars)
    return out


def _demand_alike(query: Array, key: Array, value: Array) -> tuple[int, ...]:
    heads, features = query.shape[:-2], query.shape[-1:]
    if key.shape != value.shape or key.shape[:-2] != heads or key.shape[-1:] != features or not all(features):
        raise ValueError(f"shapes {query.shape}, {key.shape} and {value.shape} do not fit")
    return query.shape


def _parts(query: Array, key: Array, is_causal: bool) -> list[tuple[slice, slice]]:
    """Return which queries are taken at once, and which keys they attend to."""
    *heads, length, _ = query.shape
    keys = key.shape[-2]
    few = max(1, _SCORES // max(1, prod(heads) * keys))
    starts = range(0, length, few)
    ends = [min(length, start + few) for start in starts]
    return [(slice(a, b), slice(0, min(b, keys) if is_causal else keys)) for a, b in zip(starts, ends)]


def _scores(query: Array, key: Array, mask: Array, rows: slice, seen: slice, is_causal: bool) -> Any:
    scores = np.matmul(query[..., rows, :], np.swapaxes(key[..., seen, :], -1, -2))
    if is_causal:
        scores[..., np.arange(seen.stop) > np.arange(rows.start, rows.stop)[:, None]] = -np.inf
    if mask.size:
        down = rows if mask.ndim > 1 and mask.shape[-2] > 1 else slice(None)
        across = seen if mask.shape[-1] > 1 else slice(None)
        part = mask[..., across] if mask.ndim == 1 else mask[..., down, across]
        if part.dtype == np.bool_:
            np.copyto(scores, -np.inf, where=np.logical_not(part))
        else:
            scores += part
    return scores
