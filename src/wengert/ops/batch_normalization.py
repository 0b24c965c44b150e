"""Batch normalisation with the statistics of the batch: one operation, whose means and variances are results too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backend
from ..backend.compound import sum_kept
from ..core.dispatch import bind
from ..core.vspace import OutputBars, settle
from ..declare import Sample, composite, opaque
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Namespace
from .creation import asarray, ones, zeros
from .reductions import as_floating

__all__ = ["standardize_channels"]

_raw: Any = backend.numpy


def _over(x: Any) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _count(x: Any) -> int:
    return math.prod(x.shape[:1] + x.shape[2:]) or 1


def _spread(xp: Namespace, channels: Any, like: Any) -> Any:
    """Give a number for each channel the rank that broadcasts along channels."""
    return xp.reshape(channels, (channels.shape[0], *(1,) * (like.ndim - 2)))


def _sums(xp: Namespace, x: Any) -> Any:
    """Sum over all axes but the second."""
    if xp is not _raw or x.ndim < 3:
        return xp.sum(x, axis=_over(x))
    rows = x.reshape((*x.shape[:2], math.prod(x.shape[2:])))
    return sum_kept(rows, (2,))[..., 0].sum(axis=0)


def _statistics(xp: Namespace, x: Any, eps: float) -> tuple[Any, Any, Any, Any]:
    """Return (x less its means, means, variances, one over the roots of the variances and eps)."""
    count = _count(x)
    mean = _sums(xp, x) / count
    centred = x - _spread(xp, mean, x)
    variance = _sums(xp, centred * centred) / count
    return centred, mean, variance, 1 / xp.sqrt(variance + eps)


@opaque(
    samples=[
        Sample((4, 3), (3,), (3,), eps=1e-5),
        Sample((2, 3, 2), (3,), (3,), eps=0.1),
        Sample((2, 2, 3, 2), (2,), (2,), eps=1e-5),
    ],
    multiple=True,
)
def batch_norm_training(xp: Namespace, x: Array, weight: Array, bias: Array, *, eps: float) -> tuple[Array, ...]:
    """Channels (axis 1) standardised, scaled and shifted; with their means and variances over all other axes."""
    centred, mean, variance, scale = _statistics(xp, x, eps)
    if xp is _raw and x.dtype == weight.dtype == bias.dtype:
        centred *= _spread(xp, scale * weight, x)
        centred += _spread(xp, bias, x)
        return centred, mean, variance
    return centred * _spread(xp, scale * weight, x) + _spread(xp, bias, x), mean, variance


@batch_norm_training.vjp
def batch_norm_training_vjp(
    xp: Namespace, out_bar: tuple[Array, ...], x: Array, weight: Array, eps: float
) -> tuple[Array, ...]:
    normal_bar, mean_bar, variance_bar = out_bar
    centred, _, _, scale = _statistics(xp, x, eps)
    normal = centred * _spread(xp, scale, x)
    bias_bar = _sums(xp, normal_bar)
    weight_bar = _sums(xp, xp.guarded_product(normal, normal_bar))
    x_bar = _pushed(xp, xp.guarded_product(_spread(xp, weight, x), normal_bar), normal, scale)
    count = _count(x)
    x_bar = x_bar + _spread(xp, mean_bar, x) / count
    x_bar = x_bar + xp.guarded_product(centred, _spread(xp, variance_bar, x)) * (2 / count)
    return x_bar, weight_bar, bias_bar


def _pushed(xp: Namespace, moved: Any, normal: Any, scale: Any) -> Any:
    """Apply the derivative of standardisation, which is its own transpose."""
    count = _count(normal)
    mean = _spread(xp, _sums(xp, moved) / count, normal)
    along = _spread(xp, _sums(xp, xp.guarded_product(normal, moved)) / count, normal)
    return xp.guarded_product(_spread(xp, scale, normal), moved - mean - xp.guarded_product(normal, along))


@batch_norm_training.raw_pull
def batch_norm_training_raw_pull(node: Any, out_bar: Any) -> tuple[Any, ...]:
    bars = _gathered(out_bar)
    x, weight = node.saved
    eps, parents = node.params["eps"], node.inputs
    if 1 in bars or 2 in bars or x is None or weight is None:
        return _general_pull(node, bars)
    centred, _, _, scale = _statistics(_raw, x, eps)
    normal_bar, count = bars[0], _count(x)
    total = _sums(_raw, normal_bar)
    centred *= _spread(_raw, scale, x)
    along = _sums(_raw, centred * normal_bar)
    x_bar = None
    if parents[0] is not None:
        centred *= _spread(_raw, along / count, x)
        x_bar = normal_bar - _spread(_raw, total / count, x)
        x_bar -= centred
        x_bar *= _spread(_raw, scale * weight, x)
    return _settled((x_bar, along, total), parents)


def _gathered(out_bar: Any) -> dict[int, Any]:
    """Return the cotangents of the results that have one, by place."""
    return out_bar.bars if type(out_bar) is OutputBars else {i: bar for i, bar in enumerate(out_bar)}


def _general_pull(node: Any, bars: dict[int, Any]) -> tuple[Any, ...]:
    shapes = zip(node.shape, node.dtype)
    dense = tuple([bars[i] if i in bars else np.zeros(shape, dtype) for i, (shape, dtype) in enumerate(shapes)])
    x, weight = node.saved
    weight = np.ones(x.shape[1], x.dtype) if weight is None else weight
    return _settled(batch_norm_training_vjp(_raw, dense, x, weight, node.params["eps"]), node.inputs)


def _settled(bars: tuple[Any, ...], parents: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([None if p is None or bar is None else settle(_raw, bar, p) for bar, p in zip(bars, parents)])


@batch_norm_training.raw_pull_masked
def batch_norm_training_raw_pull_masked(node: Any, out_bar: Any) -> tuple[Any, ...]:
    return _general_pull(node, _gathered(out_bar))


@batch_norm_training.jvp
def batch_norm_training_jvp(
    xp: Namespace, x: Array, weight: Array, x_dot: Array, weight_dot: Array, bias_dot: Array, eps: float
) -> tuple[Array, ...]:
    centred, _, _, scale = _statistics(xp, x, eps)
    normal = centred * _spread(xp, scale, x)
    out_dot = _pushed(xp, x_dot, normal, scale) * _spread(xp, weight, x)
    out_dot = out_dot + normal * _spread(xp, weight_dot, x) + _spread(xp, bias_dot, x)
    count = _count(x)
    variance_dot = _sums(xp, xp.guarded_product(centred, x_dot)) * (2 / count)
    return out_dot, _sums(xp, x_dot) / count, variance_dot


@batch_norm_training.batched
def batch_norm_training_batched(xp: Namespace, x: Array, weight: Array, bias: Array, *, eps: float) -> Any:
    size, count, channels = x.shape[:3]
    merged = xp.reshape(xp.moveaxis(x, 0, 1), (count, size * channels, *x.shape[3:]))
    joint = [xp.reshape(value, (size * channels,)) for value in (weight, bias)]
    out, mean, variance = batch_norm_training(merged, *joint, eps=eps)
    out = xp.moveaxis(xp.reshape(out, (count, size, *x.shape[2:])), 1, 0)
    return out, xp.reshape(mean, (size, channels)), xp.reshape(variance, (size, channels))


@composite(samples=[Sample((3, 2, 2), (2,), (2,)), Sample((4, 3), eps=0.1)])
def standardize_channels(x: ArrayLike, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> tuple[Any, Any, Any]:
    """Batch normalisation (S. Ioffe and C. Szegedy, 2015): zero mean and unit variance of each channel.

    Args:
        x: array of shape (count, channels, ...).
        weight: a factor for each channel, applied afterwards.
        bias: an addend for each channel, applied afterwards.
        eps: added to the variances.

    Returns:
        The result, and the mean and the variance (divided by the number of elements) of each channel of x.

    Raises:
        ShapeError: they do not fit, or there are no elements to take means of.

    >>> import wengert as wg
    >>> out, mean, variance = wg.standardize_channels(wg.tensor([[1.0], [3.0]]), eps=0.0)
    >>> out.tolist(), mean.tolist(), variance.tolist()
    ([[-1.0], [1.0]], [2.0], [1.0])
    """
    tensor = as_floating(asarray(x))
    if tensor.ndim < 2 or not tensor.shape[0] or 0 in tensor.shape[2:]:
        raise ShapeError(
            f"standardize_channels: x must have shape (count, channels, ...) with elements in each channel, not "
            f"{tensor.shape}"
        )
    channels = tensor.shape[1:2]
    scale = ones(channels, tensor.dtype) if weight is None else asarray(weight)
    shift = zeros(channels, tensor.dtype) if bias is None else asarray(bias)
    for name, value in (("weight", scale), ("bias", shift)):
        if value.shape != channels:
            raise ShapeError(
                f"standardize_channels: the {name} has shape {value.shape}; for x of shape {tensor.shape} it must be "
                f"{channels}"
            )
    return bind(batch_norm_training.primitive, (tensor, scale, shift), {"eps": eps})
