"""Expansion of attention, and of its gradient, where no kernel computes them: into products of whole matrices."""

from __future__ import annotations

import math

import numpy as np

from .expand_builder import Builder
from .graph import Value
from .llvm.attention_shape import FEATURES
from .scalar_ir import FLOAT32, FLOAT64

ATTENTION = frozenset(("attend", "attend_pull"))
"""The operations of which this is about."""


MOST_SCORES = 1024 * 1024
"""Scores of a head that products which round to bfloat16 may write to memory, to be faster than kernels of float32."""


def has_kernel(values: list[Value], narrow: bool, *, is_causal: bool) -> bool:
    """Whether kernels compute attention of these operands: query, key, value and mask are the last ones.

    With `narrow`, products that round to bfloat16 are faster, unless half of what they compute is thrown away.
    """
    if not _is_plain(*values) or values[-2].shape[-1] % FEATURES:
        return False
    scores = values[-4].shape[-2] * values[-3].shape[-2]
    return not narrow or is_causal or scores > MOST_SCORES or values[-2].dtype != FLOAT32


def attend(b: Builder, query: Value, key: Value, value: Value, mask: Value, *, is_causal: bool) -> Value | None:
    """Write softmax of scores, and its product with values."""
    if has_kernel([query, key, value, mask], b.narrow, is_causal=is_causal) or not _is_plain(query, key, value, mask):
        return None
    scores = _scores(b, query, key, mask, is_causal)
    largest = b.call("max_over", scores, axis=(len(scores.shape) - 1,), keepdims=True)
    shift = b.call("where", b.call("equal", largest, -math.inf), 0.0, largest)
    powers = b.call("exp", b.call("subtract", scores, shift))
    total = b.sum(powers, (len(scores.shape) - 1,), True)
    if mask.size:  # who may attend to nothing gets zeros
        nothing = b.call("equal", total, 0.0)
        total, largest = [b.call("where", nothing, number, x) for number, x in ((1.0, total), (0.0, largest))]
    result = b.call("divide", b.call("matrix_product", powers, value), total)
    *heads, length, features = query.shape
    numbers = b.reshape(b.call("add", b.call("log", total), largest), (*heads, length))
    extra = -(-length // features)
    widths = (*[(0, 0)] * len(heads), (0, extra * features - length))
    numbers = b.call("pad_constant", numbers, 0.0, widths=widths)
    behind = b.reshape(numbers, (*heads, extra, features))
    return b.call("concatenate_along", result, behind, axis=len(heads))


def attend_pull(
    b: Builder,
    result_bar: Value,
    logarithm: Value,
    delta: Value,
    query: Value,
    key: Value,
    value: Value,
    mask: Value,
    *,
    is_causal: bool,
) -> Value | None:
    """Write the weights, their slopes, and the products of both."""
    given = [result_bar, logarithm, delta, query, key, value, mask]
    if has_kernel(given, b.narrow, is_causal=is_causal) or not _is_plain(*given):
        return None
    *heads, length, _ = query.shape
    known = [b.reshape(numbers, (*heads, length, 1)) for numbers in (logarithm, delta)]
    weights = b.call("exp", b.call("subtract", _scores(b, query, key, mask, is_causal), known[0]))
    met = b.call("matrix_product", result_bar, b.swap(value))
    slopes = b.call("multiply", weights, b.call("subtract", met, known[1]))
    of_query = b.call("matrix_product", slopes, key)
    of_key = b.call("matrix_product", b.swap(slopes), query)
    of_value = b.call("matrix_product", b.swap(weights), result_bar)
    return b.call("concatenate_along", of_query, of_key, of_value, axis=len(heads))


def _is_plain(*values: Value) -> bool:
    """Whether arrays, of which the last is a mask, are of one dtype that there are kernels for, and have elements."""
    dtypes = {value.dtype for value in values[: -1 if values[-1].dtype.kind == "b" else None]}
    return len(dtypes) == 1 and not dtypes.isdisjoint((FLOAT32, FLOAT64)) and all([v.size for v in values[:-1]])


def _scores(b: Builder, query: Value, key: Value, mask: Value, is_causal: bool) -> Value:
    scores = b.call("matrix_product", query, b.swap(key))
    if is_causal:
        allowed = np.tri(*scores.shape[-2:], dtype=np.bool_)
        scores = b.call("where", Value(allowed.shape, allowed.dtype, allowed), scores, -math.inf)
    if not mask.size:
        return scores
    return b.call("where", mask, scores, -math.inf) if mask.dtype.kind == "b" else b.call("add", scores, mask)
