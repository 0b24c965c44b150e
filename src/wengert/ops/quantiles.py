"""Medians and quantiles: sorted elements, and the straight lines between neighbours.

The gradient goes to the one or two elements that the quantile lies between; among equal elements, to those that a
stable sort puts there. A NaN makes its row NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import boxing
from ..declare import Sample, composite
from ..errors import NotDifferentiableError, ShapeError
from ..typing import ArrayLike, Axis
from .axes import canonical_axes
from .creation import asarray
from .reductions import as_floating
from .shaping import moveaxis, reshape, transpose
from .sorting import sort
from .taking import take

__all__ = ["median", "percentile", "quantile"]

_METHODS = ("linear", "lower", "higher", "nearest", "midpoint")
_SAMPLES: Any = [
    Sample((5,), distinct=True),
    Sample((3, 4), distinct=True, axis=1),
    Sample((2, 3), distinct=True, keepdims=True),
]


def _places(q: np.ndarray, extent: int, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (lower place, upper place, how far from one to the other) for each quantile."""
    place = q * (extent - 1)
    lower = np.floor(place)
    if method == "lower":
        place = lower
    elif method == "higher":
        place = lower = np.ceil(place)
    elif method == "nearest":
        place = lower = np.rint(place)
    elif method == "midpoint":
        place = np.where(place == lower, place, lower + 0.5)
    upper = np.minimum(lower + 1, extent - 1)
    return lower.astype(np.intp), upper.astype(np.intp), place - lower


@composite(
    samples=[
        Sample((5,), distinct=True, q=0.3),
        Sample((3, 4), distinct=True, q=(0.0, 0.25, 1.0), axis=1),
        Sample((2, 3, 2), distinct=True, q=0.6, axis=(0, 2), keepdims=True),
        Sample((6,), distinct=True, q=0.45, method="midpoint"),
        Sample((6,), distinct=True, q=(0.1, 0.45), method="nearest"),
    ],
    reference="numpy.quantile",
)
def quantile(x: ArrayLike, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Any:
    """Values below which given shares of the elements lie.

    Args:
        x: array of any shape.
        q: shares between 0 and 1, one or an array of them; they carry no gradient.
        axis: axis or axes to reduce (all by default).
        method: between two elements, "linear", "lower", "higher", "nearest" or "midpoint".
        keepdims: keep the reduced axes with extent one.

    Raises:
        ValueError: a share outside [0, 1], or another method.
        ShapeError: there are no elements.

    >>> import wengert as wg
    >>> wg.quantile(wg.tensor([1.0, 2.0, 3.0, 5.0]), 0.5).item()
    2.5
    """
    if isinstance(q, boxing.Tensor):
        if q.requires_grad:
            raise NotDifferentiableError("quantile: the shares q carry no gradient here; detach() them")
        q = boxing.data_of(q)
    shares = np.asarray(q, np.float64)
    if method not in _METHODS:
        raise ValueError(f"quantile: method must be one of {', '.join(_METHODS)}, not {method!r}")
    if not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"quantile: shares must lie between 0 and 1, got {q}")
    tensor = as_floating(asarray(x))
    axes = canonical_axes(axis, tensor.ndim, "quantile")
    others = [i for i in range(tensor.ndim) if i not in axes]
    extent = math.prod([tensor.shape[a] for a in axes])
    if not extent:
        raise ShapeError(f"quantile: an array of shape {tensor.shape} has no quantiles over {axes}")
    moved = transpose(tensor, (*others, *axes)) if others else tensor
    ordered = sort(reshape(moved, (*[tensor.shape[i] for i in others], extent)))
    out = _between(ordered, shares, method)
    if keepdims:
        kept = [1 if i in axes else n for i, n in enumerate(tensor.shape)]
        out = reshape(out, (*shares.shape, *kept))
    return out


def _between(ordered: Any, shares: np.ndarray, method: str) -> Any:
    xp = boxing.operations
    lower, upper, weight = _places(shares, ordered.shape[-1], method)
    out = take(ordered, lower, axis=-1)
    if weight.any():
        step = take(ordered, upper, axis=-1) - out
        out = out + xp.where(weight == 0, 0, step * weight.astype(ordered.dtype))
    # NaN sorts to the end, and makes the whole row NaN.
    last = reshape(ordered[..., -1], (*ordered.shape[:-1], *(1,) * shares.ndim))
    out = xp.where(xp.isnan(last), last, out)
    places = tuple(range(ordered.ndim - 1, ordered.ndim - 1 + shares.ndim))
    return moveaxis(out, places, tuple(range(shares.ndim))) if shares.ndim else out


def percentile(x: ArrayLike, q: Any, axis: Axis = None, method: str = "linear", keepdims: bool = False) -> Any:
    """Values below which given percentages of the elements lie; see `quantile`.

    >>> import wengert as wg
    >>> wg.percentile(wg.tensor([1.0, 2.0, 3.0, 5.0]), 50).item()
    2.5
    """
    return quantile(
        x, np.asarray(boxing.data_of(q) if isinstance(q, boxing.Tensor) else q) / 100, axis, method, keepdims
    )


@composite(samples=_SAMPLES, reference="numpy.median")
def median(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Middle element over axes, or the mean of the two middle ones.

    >>> import wengert as wg
    >>> wg.median(wg.tensor([3.0, 1.0, 2.0])).item()
    2.0
    """
    return quantile(x, 0.5, axis, "midpoint", keepdims)
