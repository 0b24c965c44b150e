"""Batch normalisation with running statistics."""

from __future__ import annotations

from math import prod
from typing import Any

import wengert as wg
from wengert import Tensor
from wengert.errors import ShapeError


def batch_norm(
    x: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Bring each channel to mean 0 and variance 1, then scale and shift (S. Ioffe and C. Szegedy, 2015).

    In training, or without running statistics, mean and variance are those of x over all axes but the second, and the
    running ones, if there are any, are moved towards them, in place and off the tape.

    Args:
        x: array of shape (count, channels, ...).
        running_mean: the mean to subtract in evaluation.
        running_var: the variance to divide by in evaluation; in training it moves towards the unbiased variance.
        weight: a factor for each channel.
        bias: an addend for each channel.
        training: whether to use the statistics of x.
        momentum: weight of x in the running statistics.
        eps: added to the variances.

    Raises:
        ShapeError: shapes do not fit, or in training there are fewer than two elements in each channel.

    >>> import wengert as wg
    >>> mean, variance = wg.zeros(1), wg.ones(1)
    >>> x = wg.tensor([[1.0], [3.0]])
    >>> wg.nn.functional.batch_norm(x, mean, variance, training=True, momentum=0.5, eps=0.0).tolist()
    [[-1.0], [1.0]]
    >>> mean.tolist(), variance.tolist()
    ([1.0], [1.5])
    """
    x = wg.asarray(x)
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: x must have shape (count, channels, ...), not {x.shape}")
    channels = (x.shape[1],)
    given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, value in given.items():
        if value is not None and wg.asarray(value).shape != channels:
            raise ShapeError(f"batch_norm: {name} has shape {value.shape}; for x of shape {x.shape} it is {channels}")
    if not training and running_mean is not None and running_var is not None:
        return _evaluated(x, running_mean, running_var, weight, bias, eps)
    count = x.shape[0] * prod(x.shape[2:])
    if training and count < 2:
        raise ShapeError(
            f"batch_norm: x of shape {x.shape} has {count} elements in each channel, whose variance says nothing; use "
            "more examples, or model.eval()"
        )
    if training:
        axes = (0, *range(2, x.ndim))
        with wg.no_grad():
            if running_mean is not None:
                _move(running_mean, wg.mean(x.detach(), axis=axes), momentum)
            if running_var is not None:
                _move(running_var, wg.var(x.detach(), axis=axes, ddof=1), momentum)
    return wg.standardize_channels(x, weight, bias, eps)


def _evaluated(x: Tensor, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Tensor:
    shape = (-1,) + (1,) * (x.ndim - 2)
    scale = 1 / wg.sqrt(wg.asarray(variance) + eps)
    if weight is not None:
        scale = scale * weight
    out = (x - wg.reshape(mean, shape)) * wg.reshape(scale, shape)
    return out if bias is None else out + wg.reshape(bias, shape)


def _move(running: Tensor, value: Tensor, momentum: Any) -> None:
    running.copy_(running + (wg.astype(value, running.dtype) - running) * momentum)
