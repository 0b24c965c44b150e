"""Functions behind layers that are more than one operation: dropout, embedding, one-hot codes, normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

import wengert as wg
from wengert import Tensor, random
from wengert.errors import DTypeError


def dropout(x: Any, p: float = 0.5, training: bool = True, generator: random.Generator | None = None) -> Tensor:
    """Make each element zero with probability p, and scale the others by 1 / (1 - p).

    N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014), section 10, in the
    form that leaves evaluation alone. What is dropped contributes an exact zero, in the gradient too.

    Args:
        x: array of any shape.
        p: probability of an element to be dropped.
        training: if false, x is returned as it is.
        generator: where the random numbers come from; `wg.random`'s own by default.

    >>> import wengert as wg
    >>> wg.nn.functional.dropout(wg.ones(3), 0.5, training=False).tolist()
    [1.0, 1.0, 1.0]
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: a probability lies between 0 and 1; p is {p}")
    x = wg.asarray(x)
    if not training or p == 0:
        return x
    keep = (generator or random.default_generator).bernoulli(1 - p, x.shape)
    return wg.where(keep, x * (1 / (1 - p)) if p < 1 else x, 0.0)


def embedding(indices: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """Look rows of `weight` up.

    Args:
        indices: integers in [0, rows), of any shape.
        weight: the table, of shape (rows, features).
        padding_idx: the row that pads sequences; no gradient reaches it from here.

    Raises:
        DTypeError: the indices are not integers.
        IndexError: an index is outside of the table.

    >>> import wengert as wg
    >>> wg.nn.functional.embedding(wg.tensor([1, 0]), wg.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    indices, weight = wg.asarray(indices), wg.asarray(weight)
    check_range(indices, weight.shape[0], "embedding", "an index", "rows")
    out = weight[indices]
    if padding_idx is None:
        return out
    padding = padding_idx + weight.shape[0] if padding_idx < 0 else padding_idx
    return wg.where((indices == padding)[..., None], out.detach(), out)


def check_range(indices: Tensor, count: int, name: str, what: str, of_what: str) -> None:
    """Refuse indices that are not integers in [0, count).

    Raises:
        DTypeError: the dtype is not an integer one.
        IndexError: an index is out of range; the message says which and where.
    """
    if indices.dtype.kind not in "iu":
        raise DTypeError(f"{name}: {what} is an integer, and these have dtype {indices.dtype}")

    def check(raw: np.ndarray) -> None:
        if raw.size and (int(raw.min()) < 0 or int(raw.max()) >= count):
            position = tuple(int(i) for i in np.argwhere((raw < 0) | (raw >= count))[0])
            raise IndexError(
                f"{name}: {what} lies between 0 and {count - 1} ({count} {of_what}), and the one at {position} is "
                f"{int(raw[position])}"
            )

    indices.examine(check)


def one_hot(indices: Any, num_classes: int | None = None, dtype: Any = None) -> Tensor:
    """Return zeros with a one where the last axis meets the index.

    Args:
        indices: integers in [0, num_classes), of any shape.
        num_classes: length of the new last axis; the largest index plus one by default.
        dtype: that of the result; int64 by default.

    >>> import wengert as wg
    >>> wg.nn.functional.one_hot(wg.tensor([0, 2]), 3).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    indices = wg.asarray(indices)
    if num_classes is None:
        num_classes = int(np.asarray(indices.detach()._raw()).max(initial=-1)) + 1
    check_range(indices, num_classes, "one_hot", "an index", "classes")
    return wg.astype(wg.equal(indices[..., None], np.arange(num_classes)), np.int64 if dtype is None else dtype)


def normalize(x: Any, p: float = 2.0, axis: int = 1, eps: float = 1e-12) -> Tensor:
    """Divide by the p-norm along an axis, or by `eps` where that is larger.

    >>> import wengert as wg
    >>> wg.nn.functional.normalize(wg.tensor([[3.0, 4.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    x = wg.asarray(x)
    total = wg.sum(wg.abs(x) ** p, axis=axis, keepdims=True)
    norm = wg.where(total > 0, total ** (1 / p), 0.0)
    return x / wg.maximum(norm, eps)
