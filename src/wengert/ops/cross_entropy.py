"""Cross-entropy of softmax with class labels, as one operation: what classifiers are trained by.

The value is the logarithm of the sum of exponentials less the logit of the label, so nothing overflows; the cotangent
of the logits is softmax less one at the label. Rows whose label is `ignore_index` contribute exactly zero, whatever
their logits hold.
"""

# The slots of Tensor are read in line here, as on the fast path.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..backend.compound import sum_kept, sum_rows
from ..backend.numpy import all_finite
from ..core import boxing, capturing, native
from ..core.dispatch import bind
from ..core.recording import is_recording
from ..core.tape import make_node
from ..core.tracing import plain_value
from ..declare import Sample, composite, opaque
from ..errors import DTypeError, ShapeError
from ..typing import Array, ArrayLike, Namespace
from .axes import canonical_axis
from .creation import asarray, astype
from .normalization import log_softmax
from .reductions import as_floating
from .shaping import moveaxis, reshape

__all__ = ["softmax_cross_entropy"]

REDUCTIONS = ("mean", "sum", "none")
_INT, _UNSIGNED = np.dtype(np.int64), np.dtype(np.uint64)
_largest: Any = np.maximum.reduce
_LARGE = 1 << 20
"""Above this many bytes, the tape keeps no exponentials: they are computed again in the sweep."""


def _labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 3, 4)


def _labels_with_holes(rng: np.random.Generator) -> np.ndarray:
    labels = rng.integers(0, 3, 4)
    labels[1] = -7
    return labels


def _maps_of_labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 3, (2, 2))


@opaque(
    samples=[
        Sample((4, 3), _labels, reduction="mean", ignore_index=-100, smoothing=0.0),
        Sample((4, 3), _labels_with_holes, reduction="mean", ignore_index=-7, smoothing=0.1),
        Sample((4, 3), _labels_with_holes, reduction="sum", ignore_index=-7, smoothing=0.0),
        Sample((4, 3), _labels, reduction="none", ignore_index=2, smoothing=0.2),
    ],
    fixed=("labels",),
    masks=True,
)
def cross_entropy_of_rows(
    xp: Namespace, logits: Array, labels: Array, *, reduction: str, ignore_index: int, smoothing: float
) -> Array:
    """Cross-entropy of the softmax of each row with the class that its label names."""
    log_probabilities = xp.log_softmax(logits, axis=(1,))
    kept, safe = _kept(xp, labels, ignore_index)
    rows = -xp.take_along_axis(log_probabilities, safe, axis=1)[:, 0]
    if smoothing:
        rows = (1 - smoothing) * rows - smoothing * _mean_of_rows(xp, log_probabilities)
    return _reduced(xp, xp.where(kept, rows, 0), kept, reduction)


def _kept(xp: Namespace, labels: Any, ignore_index: int) -> tuple[Any, Any]:
    """Return (which rows count, labels as a column with those that don't replaced by a class)."""
    kept = xp.not_equal(labels, ignore_index)
    return kept, xp.reshape(xp.where(kept, labels, 0), (-1, 1))


def _mean_of_rows(xp: Namespace, x: Any) -> Any:
    return xp.sum(x, axis=(1,)) / x.shape[1]


def _reduced(xp: Namespace, rows: Any, kept: Any, reduction: str) -> Any:
    if reduction == "none":
        return rows
    total = xp.sum(rows, axis=(0,))
    return total / xp.astype(xp.sum(kept, axis=(0,)), rows.dtype) if reduction == "mean" else total


@cross_entropy_of_rows.vjp
def cross_entropy_of_rows_vjp(
    xp: Namespace,
    out_bar: Array,
    logits: Array,
    labels: Array,
    reduction: str,
    ignore_index: int,
    smoothing: float,
) -> tuple[Array, None]:
    kept, safe = _kept(xp, labels, ignore_index)
    if reduction == "mean":
        out_bar = out_bar / xp.astype(xp.sum(kept, axis=(0,)), logits.dtype)
    row_bar = xp.reshape(xp.where(kept, out_bar, 0), (-1, 1))
    bar = xp.guarded_product(xp.softmax(logits, axis=(1,)), row_bar)
    if smoothing:
        bar = bar - (smoothing / logits.shape[1]) * row_bar
    return xp.add_along_axis(bar, safe, (smoothing - 1) * row_bar, axis=1), None


@cross_entropy_of_rows.jvp
def cross_entropy_of_rows_jvp(
    xp: Namespace,
    logits: Array,
    labels: Array,
    logits_dot: Array,
    reduction: str,
    ignore_index: int,
    smoothing: float,
) -> Array:
    kept, safe = _kept(xp, labels, ignore_index)
    rows_dot = xp.sum(xp.guarded_product(xp.softmax(logits, axis=(1,)), logits_dot), axis=(1,))
    rows_dot = rows_dot - (1 - smoothing) * xp.take_along_axis(logits_dot, safe, axis=1)[:, 0]
    if smoothing:
        rows_dot = rows_dot - smoothing * _mean_of_rows(xp, logits_dot)
    return _reduced(xp, xp.where(kept, rows_dot, 0), kept, reduction)


@cross_entropy_of_rows.batched
def cross_entropy_of_rows_batched(
    xp: Namespace, logits: Array, labels: Array, *, reduction: str, ignore_index: int, smoothing: float
) -> Array:
    count, rows = labels.shape
    joined = (xp.reshape(logits, (count * rows, logits.shape[2])), xp.reshape(labels, (count * rows,)))
    params = {"reduction": "none", "ignore_index": ignore_index, "smoothing": smoothing}
    out = xp.reshape(bind(cross_entropy_of_rows.primitive, joined, params), (count, rows))
    if reduction == "none":
        return out
    total = xp.sum(out, axis=(1,))
    if reduction == "sum":
        return total
    return total / xp.astype(xp.sum(xp.not_equal(labels, ignore_index), axis=(1,)), out.dtype)


# The raw sweep, and the straight path.


class _Kept:
    """What the straight path leaves for the raw sweep, so that it need not compute it again."""

    __slots__ = ("exponentials", "places", "sums")
    spare = True  # the sweep can do without; see `declare.packing`

    def __init__(self, places: Array, exponentials: Array, sums: Array) -> None:
        self.places = places
        self.exponentials = exponentials
        self.sums = sums


@lru_cache(maxsize=64)
def _row_starts(rows: int, classes: int) -> Array:
    return np.arange(rows) * classes


def _exponentials(logits: Array) -> tuple[Array, Array]:
    exponentials = np.subtract(logits, _largest(logits, 1, None, None, True), order="C")
    np.exp(exponentials, exponentials)
    return exponentials, sum_kept(exponentials, (1,))


@cross_entropy_of_rows.raw_pull
def cross_entropy_of_rows_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    logits, labels = node.saved[:2]
    params = node.params
    if len(node.saved) == 3:
        kept: _Kept = node.saved[2]
        places, exponentials, sums, ignored = kept.places, kept.exponentials, kept.sums, None
    else:
        exponentials, sums = _exponentials(logits)
        ignored = labels == params["ignore_index"]
        ignored = ignored if ignored.any() else None
        safe = labels if ignored is None else np.where(ignored, 0, labels)
        places = _row_starts(*logits.shape) + safe
    if params["reduction"] == "none":
        row_bar = out_bar.reshape(-1, 1)
    elif params["reduction"] == "mean":
        count = len(logits) if ignored is None else len(logits) - int(np.count_nonzero(ignored))
        row_bar = out_bar / count if count else out_bar * 0
    else:
        row_bar = out_bar
    bar = exponentials * (row_bar / sums)
    if smoothing := params["smoothing"]:
        bar -= row_bar * (smoothing / logits.shape[1])
    flat = bar.reshape(-1)
    flat[places] -= (row_bar * (1 - smoothing) if smoothing else row_bar).reshape(-1)
    if ignored is not None:
        bar[ignored] = 0
    parent = node.inputs[0]
    return (bar if bar.dtype is parent.dtype else bar.astype(parent.dtype), None)


@cross_entropy_of_rows.raw_pull_masked
def cross_entropy_of_rows_raw_pull_masked(node: Any, out_bar: Array) -> tuple[Any, ...]:
    bar, _ = cross_entropy_of_rows_raw_pull(node, out_bar)
    if not all_finite(bar):
        bar[np.broadcast_to(out_bar == 0, len(bar))] = 0
    return (bar, None)


def _straight(logits: Any, labels: Any, params: dict[str, Any]) -> Any:
    """Compute and record what nearly every training step asks for: a matrix of logits, a class for every row."""
    x = logits._data
    rows, classes = x.shape
    y = labels.copy() if type(labels) is np.ndarray else labels._data
    places = _row_starts(rows, classes) + y
    shifted = np.subtract(x, _largest(x, 1, None, None, True), order="C")
    picked = shifted.reshape(-1)[places]
    np.exp(shifted, shifted)
    sums = sum_kept(shifted, (1,))
    losses = np.log(sums.reshape(-1))
    losses -= picked
    reduction = params["reduction"]
    out = losses if reduction == "none" else sum_rows(losses, (0,))
    if reduction == "mean":
        out = out / rows
    node = logits._node
    if node is None or not is_recording():
        return boxing.box(out)
    saved: tuple[Any, ...] = (x, y)
    if shifted.nbytes <= _LARGE:
        saved = (x, y, _Kept(places, shifted, sums))
    return boxing.box(out, make_node(cross_entropy_of_rows.primitive, (node, None), saved, out, params))


def _is_straight(logits: Any, labels: Any, params: dict[str, Any], weight: Any) -> bool:
    """Whether the straight path serves: exact Tensors (or an array of labels), every label a class, no frills."""
    if type(logits) is not boxing.Tensor or weight is not None or params["smoothing"] or capturing.engaged:
        return False
    y = labels._data if type(labels) is boxing.Tensor else labels
    x = logits._data
    if (
        x.size >= native.smallest
        or type(y) is not np.ndarray
        or y.dtype is not _INT
        or x.ndim != 2
        or y.shape != x.shape[:1]
        or x.dtype.kind != "f"
    ):
        return False
    classes = x.shape[1]
    # Read as an unsigned number, a negative label is larger than any class.
    return bool(len(y)) and _largest(y.view(_UNSIGNED)) < classes and not 0 <= params["ignore_index"] < classes


@composite(
    samples=[
        Sample((4, 3), _labels),
        Sample((4, 3), _labels, reduction="sum"),
        Sample((4, 3), _labels, reduction="none", label_smoothing=0.1),
        Sample((4, 3), _labels_with_holes, ignore_index=-7),
        Sample((2, 3, 2), _maps_of_labels, axis=1),
        Sample((4, 3), _labels, weight=(0.5, 1.0, 2.0), label_smoothing=0.1),
    ]
)
def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    weight: Any = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Any:
    """Cross-entropy of softmax with class labels.

    Args:
        logits: unnormalised scores, with the classes along `axis`.
        labels: class numbers, of the shape that `logits` has without `axis`.
        axis: the axis of the classes.
        weight: a factor for every class; the mean is then weighted, too.
        reduction: "mean" over the labels that count, "sum", or "none".
        ignore_index: label of rows that do not count; their gradient is exactly zero. The mean over no rows is NaN.
        label_smoothing: share of every label that is spread evenly over the classes.

    Raises:
        DTypeError: the labels are not integers.
        ShapeError: their shape does not fit.
        IndexError: a label is no class.

    >>> import wengert as wg
    >>> wg.softmax_cross_entropy(wg.tensor([[0.0, 0.0]]), wg.tensor([1])).item()
    0.6931471824645996
    """
    params = {"reduction": reduction, "ignore_index": ignore_index, "smoothing": label_smoothing}
    if _is_straight(logits, labels, params, weight) and reduction in REDUCTIONS and axis in (-1, 1):
        return _straight(logits, labels, params)
    if reduction not in REDUCTIONS:
        raise ValueError(f"softmax_cross_entropy: reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"softmax_cross_entropy: label_smoothing must be in [0, 1), not {label_smoothing}")
    scores, classes_of = as_floating(asarray(logits)), asarray(labels)
    place = canonical_axis(axis, scores.ndim, "softmax_cross_entropy")
    shape = (*scores.shape[:place], *scores.shape[place + 1 :])
    _check_labels(scores.shape, shape, classes_of, scores.shape[place], ignore_index)
    rows = reshape(moveaxis(scores, place, -1), (-1, scores.shape[place]) if scores.size else (0, scores.shape[place]))
    flat = reshape(classes_of, (-1,))
    if weight is not None:
        out = _weighted(rows, flat, astype(weight, rows.dtype, copy=False), params)
    else:
        out = bind(cross_entropy_of_rows.primitive, (rows, flat), params)
    return reshape(out, shape) if reduction == "none" else out


def _has_nan(labels: Any) -> bool:
    return labels.dtype.kind == "f" and bool(np.isnan(plain_value(labels)).any())


def _check_labels(scores: Any, shape: Any, labels: Any, classes: int, ignore_index: int) -> None:
    if labels.dtype.kind not in "iu":
        holes = ", some of them NaN" if _has_nan(labels) else ""
        raise DTypeError(
            f"softmax_cross_entropy: labels must be integers (class numbers), not {labels.dtype}{holes}. Convert them "
            "with .astype('int64'); for class probabilities p write -(p * wg.log_softmax(logits)).sum(-1)"
        )
    if labels.shape != shape:
        raise ShapeError(
            f"softmax_cross_entropy: logits of shape {scores} with {classes} classes need labels of shape {shape}, "
            f"not {labels.shape}"
        )

    def check(data: Any) -> None:
        wrong = ((data < 0) | (data >= classes)) & (data != ignore_index)
        if wrong.any():
            place = np.unravel_index(int(np.argmax(wrong)), data.shape)
            where = f" at {tuple(int(i) for i in place)}" if place else ""
            raise IndexError(
                f"softmax_cross_entropy: label {data[place]}{where} is no class: there are {classes}, from 0 to "
                f"{classes - 1} (and ignore_index={ignore_index})"
            )

    def passes(data: Any) -> Any:
        xp = boxing.operations
        return xp.all(((data >= 0) & (data < classes)) | (data == ignore_index))

    limits = np.iinfo(labels.dtype)
    can_be_compared = limits.min <= min(ignore_index, 0) and max(ignore_index, classes) <= limits.max
    capturing.examine(labels, check, passes if can_be_compared else None)


def _weighted(rows: Any, labels: Any, weight: Any, params: dict[str, Any]) -> Any:
    """Compute the loss with a weight for each class, from more elementary operations."""
    xp = boxing.operations
    if weight.shape != (rows.shape[1],):
        raise ShapeError(
            f"softmax_cross_entropy: {rows.shape[1]} classes need as many weights, not an array of shape {weight.shape}"
        )
    smoothing = params["smoothing"]
    logs = log_softmax(rows)
    kept, safe = _kept(xp, labels, params["ignore_index"])
    factors = xp.where(kept, xp.take(weight, xp.reshape(safe, (-1,)), axis=0), 0)
    losses = -xp.take_along_axis(logs, safe, axis=1)[:, 0] * factors
    if smoothing:
        losses = (1 - smoothing) * losses - (smoothing / rows.shape[1]) * (logs * weight).sum(1)
    losses = xp.where(kept, losses, 0)
    if params["reduction"] == "none":
        return losses
    return losses.sum() / factors.sum() if params["reduction"] == "mean" else losses.sum()
