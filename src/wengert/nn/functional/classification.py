"""Losses of scores against classes: cross-entropy and the negative log-likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np

import wengert as wg
from wengert import Tensor
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
        weight: factor of each class, of shape (classes,); a mean is taken with these weights.
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
    logits, target = wg.asarray(logits), wg.asarray(target)
    if weight is None and not label_smoothing and logits.ndim == 2 and target.dtype.kind in "iu":
        check_classes(target, logits.shape, 1, ignore_index, "cross_entropy")
        return _fused(logits, target, ignore_index, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: label_smoothing lies between 0 and 1, and it is {label_smoothing}")
    axis = _class_axis(logits, "cross_entropy")
    scores = wg.log_softmax(logits, axis=axis)
    if target.dtype.kind == "f" and target.shape == logits.shape:
        return _against_probabilities(scores, target, axis, weight, reduction, label_smoothing)
    return _against_classes(scores, target, axis, weight, ignore_index, reduction, label_smoothing, "cross_entropy")


def nll_loss(
    log_probabilities: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood of classes, given log-probabilities such as log_softmax returns.

    Args:
        log_probabilities: of shape (classes,), (batch, classes) or (batch, classes, ...).
        target: integer classes, of the shape without the axis of classes.
        weight: factor of each class, of shape (classes,); a mean is taken with these weights.
        ignore_index: examples of this class count for nothing.
        reduction: "mean", "sum" or "none".

    >>> import wengert as wg
    >>> wg.nn.functional.nll_loss(wg.tensor([[-1.0, -2.0]]), wg.tensor([1])).item()
    2.0
    """
    scores, target = wg.asarray(log_probabilities), wg.asarray(target)
    axis = _class_axis(scores, "nll_loss")
    return _against_classes(scores, target, axis, weight, ignore_index, reduction, 0.0, "nll_loss")


def _class_axis(scores: Tensor, name: str) -> int:
    if not scores.ndim:
        raise ShapeError(f"{name}: scores need an axis of classes, and these are a scalar")
    return 0 if scores.ndim == 1 else 1


def check_classes(target: Tensor, shape: tuple[int, ...], axis: int, ignore_index: int, name: str) -> None:
    """Refuse a target that is not integer classes of the right shape and range.

    Raises:
        DTypeError, ShapeError, IndexError: the message says what is wrong and where.
    """
    classes = shape[axis]
    wanted = shape[:axis] + shape[axis + 1 :]
    if target.dtype.kind not in "iu":
        raise DTypeError(
            f"{name}: classes are integers, and the target has dtype {target.dtype} (NaN, and probabilities of another "
            f"shape than the scores' {shape}, are no classes); convert it with .astype('int64')"
        )
    if target.shape != wanted:
        raise ShapeError(f"{name}: scores of shape {shape} need a target of shape {wanted}, and this is {target.shape}")
    raw = np.asarray(target._raw())
    if not raw.size:
        return
    if raw.min() < 0 or raw.max() >= classes:
        wrong = ((raw < 0) | (raw >= classes)) & (raw != ignore_index)
        if wrong.any():
            position = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise IndexError(
                f"{name}: a class lies between 0 and {classes - 1} ({classes} scores), and the one at {position} is "
                f"{int(raw[position])}"
            )


def _fused(logits: Tensor, target: Tensor, ignore_index: int, reduction: str) -> Tensor:
    raise NotImplementedError


def _against_classes(
    scores: Tensor,
    target: Tensor,
    axis: int,
    weight: Any,
    ignore_index: int,
    reduction: str,
    smoothing: float,
    name: str,
) -> Tensor:
    if reduction not in REDUCTIONS:
        return reduced(scores, reduction, name)
    check_classes(target, scores.shape, axis, ignore_index, name)
    counted = target != ignore_index
    classes = wg.where(counted, target, 0)
    factors = _factors(weight, scores, axis, name)
    picked = wg.squeeze(wg.take_along_axis(scores, wg.expand_dims(classes, axis), axis=axis), axis=axis)
    per_example = 1.0 if factors is None else wg.reshape(factors, (-1,))[classes]
    losses = -picked * per_example
    if smoothing:
        spread = -wg.sum(scores if factors is None else scores * factors, axis=axis)
        losses = (1 - smoothing) * losses + (smoothing / scores.shape[axis]) * spread
    losses = wg.where(counted, losses, 0.0)
    if reduction != "mean":
        return reduced(losses, reduction, name)
    total = wg.sum(wg.where(counted, wg.broadcast_to(per_example, target.shape), 0.0))
    return wg.sum(losses) / total.astype(scores.dtype)


def _against_probabilities(
    scores: Tensor, target: Tensor, axis: int, weight: Any, reduction: str, smoothing: float
) -> Tensor:
    if not np.isfinite(np.asarray(target.detach()._raw())).all():
        raise ValueError("cross_entropy: the target has probabilities that are NaN or infinite")
    if smoothing:
        target = target * (1 - smoothing) + smoothing / scores.shape[axis]
    factors = _factors(weight, scores, axis, "cross_entropy")
    terms = target * scores
    losses = -wg.sum(terms if factors is None else terms * factors, axis=axis)
    if reduction == "mean":
        return wg.sum(losses) / max(losses.size, 1)
    return reduced(losses, reduction, "cross_entropy")


def _factors(weight: Any, scores: Tensor, axis: int, name: str) -> Tensor | None:
    if weight is None:
        return None
    factors = wg.asarray(weight)
    if factors.shape != (scores.shape[axis],):
        raise ShapeError(
            f"{name}: {scores.shape[axis]} classes need weights of shape ({scores.shape[axis]},), not {factors.shape}"
        )
    return wg.reshape(factors, (-1,) + (1,) * (scores.ndim - axis - 1))
