"""Losses of numbers against numbers; `classification` has those of classes."""

from __future__ import annotations

from typing import Any

import wengert as wg
from wengert import Tensor
from wengert.errors import ShapeError

REDUCTIONS = ("mean", "sum", "none")


def reduced(loss: Tensor, reduction: str, name: str) -> Tensor:
    """Return the mean, the sum, or the losses as they are.

    Raises:
        ValueError: the reduction is none of these.
    """
    if reduction == "mean":
        return wg.mean(loss)
    if reduction == "sum":
        return wg.sum(loss)
    if reduction == "none":
        return loss
    raise ValueError(f"{name}: reduction is one of {', '.join(map(repr, REDUCTIONS))}, not {reduction!r}")


def _alike(prediction: Any, target: Any, name: str) -> tuple[Tensor, Tensor]:
    """Refuse shapes that would broadcast: (n, 1) against (n,) is a mistake that no gradient shows."""
    prediction, target = wg.asarray(prediction), wg.asarray(target)
    if prediction.shape != target.shape:
        raise ShapeError(
            f"{name}: the prediction has shape {prediction.shape} and the target {target.shape}; they must be equal "
            "(reshape, or broadcast one of them on purpose)"
        )
    return prediction, target


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Squared error.

    >>> import wengert as wg
    >>> wg.nn.functional.mse_loss(wg.tensor([1.0, 2.0]), wg.tensor([1.0, 4.0])).item()
    2.0
    """
    prediction, target = _alike(prediction, target, "mse_loss")
    return reduced(wg.square(prediction - target), reduction, "mse_loss")


def l1_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Absolute error; the derivative where prediction and target agree is zero.

    >>> import wengert as wg
    >>> wg.nn.functional.l1_loss(wg.tensor([1.0, 2.0]), wg.tensor([1.0, 4.0])).item()
    1.0
    """
    prediction, target = _alike(prediction, target, "l1_loss")
    return reduced(wg.abs(prediction - target), reduction, "l1_loss")


def huber_loss(prediction: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the squared error up to `delta`, and linear from there (P. J. Huber, 1964).

    >>> import wengert as wg
    >>> wg.nn.functional.huber_loss(wg.tensor([0.5, 3.0]), wg.tensor([0.0, 0.0]), reduction="none").tolist()
    [0.125, 2.5]
    """
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, and it is {delta}")
    prediction, target = _alike(prediction, target, "huber_loss")
    error = wg.abs(prediction - target)
    loss = wg.where(error <= delta, 0.5 * wg.square(error), delta * (error - 0.5 * delta))
    return reduced(loss, reduction, "huber_loss")


def smooth_l1_loss(prediction: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Absolute error that is rounded off below `beta` (R. Girshick, "Fast R-CNN", 2015): Huber's loss over beta.

    >>> import wengert as wg
    >>> wg.nn.functional.smooth_l1_loss(wg.tensor([0.5, 3.0]), wg.tensor([0.0, 0.0]), reduction="none").tolist()
    [0.125, 2.5]
    """
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta must not be negative, and it is {beta}")
    if beta == 0:
        return l1_loss(prediction, target, reduction)
    return huber_loss(prediction, target, reduction, beta) / beta


def binary_cross_entropy_with_logits(
    logits: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """Cross-entropy of sigmoid(logits) against probabilities: y softplus(-x) + (1 - y) softplus(x).

    In this form nothing overflows, no large terms cancel, and the derivative is right at zero too.

    Args:
        logits: scores of any shape.
        target: probabilities (or booleans) of the same shape.
        weight: factor of each loss, broadcast.
        reduction: "mean", "sum" or "none".
        pos_weight: factor of the positive part, broadcast.

    >>> import wengert as wg
    >>> loss = wg.nn.functional.binary_cross_entropy_with_logits(wg.tensor([1000.0, 0.0]), wg.tensor([1.0, 0.0]))
    >>> round(loss.item(), 6)
    0.346574
    """
    logits = wg.asarray(logits)
    target = wg.astype(target, logits.dtype, copy=False)
    logits, target = _alike(logits, target, "binary_cross_entropy_with_logits")
    positive = target if pos_weight is None else target * pos_weight
    loss = positive * wg.softplus(-logits) + (1 - target) * wg.softplus(logits)
    if weight is not None:
        loss = loss * weight
    return reduced(loss, reduction, "binary_cross_entropy_with_logits")
