"""Batch normalisation with the statistics of the batch."""

from __future__ import annotations

from typing import Any

from ..core.dispatch import bind
from ..declare import Sample, composite
from ..errors import ShapeError
from ..typing import ArrayLike
from .creation import asarray
from .normalization import standardize_over
from .reductions import as_floating
from .shaping import reshape

__all__ = ["standardize_channels"]


@composite(samples=[Sample((3, 2, 2), (2,), (2,)), Sample((4, 3), eps=0.1), Sample((2, 2, 3, 2), (2,))])
def standardize_channels(x: ArrayLike, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Batch normalisation (S. Ioffe and C. Szegedy, 2015): zero mean and unit variance of each channel.

    Args:
        x: array of shape (count, channels, ...).
        weight: a factor for each channel, applied afterwards.
        bias: an addend for each channel, applied afterwards.
        eps: added to the variances.

    Raises:
        ShapeError: they do not fit, or there are no elements to take means of.

    >>> import wengert as wg
    >>> wg.standardize_channels(wg.tensor([[1.0], [3.0]]), eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    tensor = as_floating(asarray(x))
    if tensor.ndim < 2 or not tensor.shape[0] or 0 in tensor.shape[2:]:
        raise ShapeError(
            f"standardize_channels: x must have shape (count, channels, ...) with elements in each channel, not "
            f"{tensor.shape}"
        )
    out = bind(standardize_over.primitive, (tensor,), {"axis": (0, *range(2, tensor.ndim)), "eps": eps})
    if weight is not None:
        out = out * _along_channels(weight, tensor, "weight")
    return out if bias is None else out + _along_channels(bias, tensor, "bias")


def _along_channels(given: Any, x: Any, name: str) -> Any:
    value = asarray(given)
    if value.shape != x.shape[1:2]:
        raise ShapeError(
            f"standardize_channels: the {name} has shape {value.shape}; for x of shape {x.shape} it must be "
            f"{x.shape[1:2]}"
        )
    return reshape(value, (value.shape[0], *(1,) * (x.ndim - 2)))
