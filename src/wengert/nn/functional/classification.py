"""Losses of scores against classes: cross-entropy and the negative log-likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np

import wengert as wg
from wengert import Tensor, softmax_cross_entropy
from wengert.errors import DTypeError, ShapeError

from .losses import REDUCTIONS, reduced


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of softmax(logits) against classes or against probabilities.

    With label smoothing s, a target is mixed with the uniform distribution: (1 - s) target + s / classes (C. Szegedy
    et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7).

    Args:
        logits: scores of shape (classes,), (batch, classes) or (batch, classes, ...).
        target: integer classes, of the shape without the axis of classes; or probabilities, of the logits' shape.
        weight: factor of each class, of shape (classes,); a mean over classes is taken with these weights.
        ignore_index: examples of this class count for nothing.
        reduction: "mean", "sum" or "none".
        label_smoothing: how much of the target is the uniform distribution.

    Raises:
        ShapeError: logits and target don't fit.
        DTypeError: classes are not integers.
        IndexError: a class is out of range.
        ValueError: a probability is NaN or infinite.

    >>> import wengert as wg
    >>> loss = wg.nn.functional.cross_entropy(wg.tensor([[0.0, 0.0]]), wg.tensor([1]))
    >>> round(loss.item(), 6)
    0.693147
    """
    if not isinstance(logits, Tensor):
        logits = wg.asarray(logits)
    if not isinstance(target, Tensor):
        target = wg.asarray(target)
    shape = logits.shape
    if target.dtype.kind == "f" and target.shape == shape:
        return _against_probabilities(logits, target, weight, reduction, label_smoothing)
    return softmax_cross_entropy(
        logits,
        target,
        axis=1 if len(shape) > 1 else 0,
        weight=weight,
        reduction=reduction,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )


def _class_axis(scores: Tensor, name: str) -> int:
    if not scores.ndim:
        raise ShapeError(f"{name}: scores need an axis of classes, and these are a scalar")
    return 0 if scores.ndim == 1 else 1


def _refuse_infinite(probabilities: np.ndarray) -> None:
    if not np.isfinite(probabilities).all():
        raise ValueError("cross_entropy: the target has probabilities that are NaN or infinite")


def _against_probabilities(logits: Tensor, target: Tensor, weight: Any, reduction: str, smoothing: float) -> Tensor:
    axis = _class_axis(logits, "cross_entropy")
    if not 0 <= smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing lies between 0 and 1, and it is {smoothing}")
    target.examine(_refuse_infinite)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / logits.shape[axis]
    terms = target * wg.log_softmax(logits, axis=axis)
    factors = _factors(weight, logits, axis, "cross_entropy")
    losses = -wg.sum(terms if factors is None else terms * factors, axis=axis)
    return reduced(losses, reduction, "cross_entropy")


def nll_loss(
    log_probabilities: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood of classes, given log-probabilities such as log_softmax returns.

    Args:
        log_probabilities: of shape (classes,), (batch, classes) or (batch, classes, ...).
        target: integer classes, of the shape without the axis of classes.
        weight: factor of each class, of shape (classes,); a mean is taken with these weights.
        ignore_index: examples of this class count for nothing; the mean over no examples is NaN.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError, DTypeError, IndexError: the target is no array of classes for these scores.

    >>> import wengert as wg
    >>> wg.nn.functional.nll_loss(wg.tensor([[-1.0, -2.0]]), wg.tensor([1])).item()
    2.0
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"nll_loss: reduction is one of {', '.join(map(repr, REDUCTIONS))}, not {reduction!r}")
    scores, target = wg.asarray(log_probabilities), wg.asarray(target)
    axis = _class_axis(scores, "nll_loss")
    _check_classes(target, scores.shape, axis, ignore_index)
    counted = target != ignore_index
    classes = wg.where(counted, target, 0)
    losses = -wg.squeeze(wg.take_along_axis(scores, wg.expand_dims(classes, axis), axis=axis), axis=axis)
    factors = _factors(weight, scores, axis, "nll_loss")
    if factors is not None:
        per_example = wg.reshape(factors, (-1,))[classes]
        losses = losses * per_example
        counts = wg.where(counted, per_example, 0.0)
    else:
        counts = counted
    losses = wg.where(counted, losses, 0.0)
    if reduction != "mean":
        return reduced(losses, reduction, "nll_loss")
    return wg.sum(losses) / wg.astype(wg.sum(counts), losses.dtype)


def _factors(weight: Any, scores: Tensor, axis: int, name: str) -> Tensor | None:
    if weight is None:
        return None
    factors = wg.asarray(weight)
    if factors.shape != (scores.shape[axis],):
        raise ShapeError(
            f"{name}: {scores.shape[axis]} classes need weights of shape ({scores.shape[axis]},), not {factors.shape}"
        )
    return wg.reshape(factors, (-1,) + (1,) * (scores.ndim - axis - 1))


def _check_classes(target: Tensor, shape: tuple[int, ...], axis: int, ignore_index: int) -> None:
    classes = shape[axis]
    wanted = shape[:axis] + shape[axis + 1 :]
    if target.dtype.kind not in "iu":
        raise DTypeError(
            f"nll_loss: classes are integers, and the target has dtype {target.dtype} (NaN is no class); convert it "
            "with .astype('int64')"
        )
    if target.shape != wanted:
        raise ShapeError(
            f"nll_loss: scores of shape {shape} need a target of shape {wanted}, and this is {target.shape}"
        )

    def check(raw: np.ndarray) -> None:
        wrong = ((raw < 0) | (raw >= classes)) & (raw != ignore_index)
        if wrong.any():
            position = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise IndexError(
                f"nll_loss: a class lies between 0 and {classes - 1} ({classes} scores), and the one at {position} is "
                f"{int(raw[position])}"
            )

    target.examine(check)
