"""Reductions that leave NaN out: those elements get an exactly zero gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import boxing
from ..declare import Sample, composite
from ..typing import ArrayLike, Axis
from . import reductions
from .creation import asarray
from .moments import masked_variance, root_of_variance
from .reductions import as_floating

__all__ = ["nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum", "nanvar"]


def _with_holes(rng: np.random.Generator) -> np.ndarray:
    array = rng.permutation(np.linspace(-2, 2, 12)).reshape(3, 4)
    array[0, 1] = array[2, 2] = array[2, 3] = np.nan
    return array


_SAMPLES: Any = [
    Sample((2, 3), distinct=True, axis=1),
    Sample((3,), distinct=True, keepdims=True),
    Sample(_with_holes, axis=1),
]


def _filled(x: Any, neutral: float) -> Any:
    return x if x.dtype.kind in "biu" else boxing.operations.where(boxing.operations.isnan(x), neutral, x)


def _known(x: Any) -> Any:
    return boxing.operations.logical_not(boxing.operations.isnan(x))


@composite(samples=_SAMPLES, reference="numpy.nansum")
def nansum(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum over axes, NaN counting as zero.

    >>> import wengert as wg
    >>> wg.nansum(wg.tensor([1.0, float("nan"), 2.0])).item()
    3.0
    """
    return reductions.sum(_filled(asarray(x), 0), axis, keepdims=keepdims)


@composite(samples=_SAMPLES, reference="numpy.nanprod")
def nanprod(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Product over axes, NaN counting as one.

    >>> import wengert as wg
    >>> wg.nanprod(wg.tensor([3.0, float("nan"), 2.0])).item()
    6.0
    """
    return reductions.prod(_filled(asarray(x), 1), axis, keepdims=keepdims)


@composite(samples=_SAMPLES, reference="numpy.nanmean")
def nanmean(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Mean over axes of the elements that are not NaN; NaN where there are none.

    >>> import wengert as wg
    >>> wg.nanmean(wg.tensor([1.0, float("nan"), 2.0])).item()
    1.5
    """
    tensor = as_floating(asarray(x))
    return reductions.mean(tensor, axis, keepdims=keepdims, where=_known(tensor))


@composite(samples=_SAMPLES, reference="numpy.nanvar")
def nanvar(x: ArrayLike, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Any:
    """Variance over axes of the elements that are not NaN; see `wg.var`.

    >>> import wengert as wg
    >>> wg.nanvar(wg.tensor([1.0, float("nan"), 3.0])).item()
    1.0
    """
    tensor = as_floating(asarray(x))
    return masked_variance(tensor, _known(tensor), axis, ddof, keepdims, "nanvar")


@composite(samples=_SAMPLES, reference="numpy.nanstd")
def nanstd(x: ArrayLike, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Any:
    """Standard deviation over axes of the elements that are not NaN; see `wg.std`.

    >>> import wengert as wg
    >>> wg.nanstd(wg.tensor([1.0, float("nan"), 3.0])).item()
    1.0
    """
    return root_of_variance(nanvar(x, axis, ddof, keepdims))


@composite(samples=_SAMPLES, reference="numpy.nanmax")
def nanmax(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest element over axes that is not NaN; NaN where there is none.

    >>> import wengert as wg
    >>> wg.nanmax(wg.tensor([1.0, float("nan"), 3.0])).item()
    3.0
    """
    return _extremum(reductions.max, asarray(x), -math.inf, axis, keepdims)


@composite(samples=_SAMPLES, reference="numpy.nanmin")
def nanmin(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Any:
    """Smallest element over axes that is not NaN; NaN where there is none.

    >>> import wengert as wg
    >>> wg.nanmin(wg.tensor([1.0, float("nan"), 3.0])).item()
    1.0
    """
    return _extremum(reductions.min, asarray(x), math.inf, axis, keepdims)


def _extremum(extremum: Any, x: Any, worst: float, axis: Axis, keepdims: bool) -> Any:
    if x.dtype.kind in "biu":
        return extremum(x, axis, keepdims)
    xp = boxing.operations
    unknown = xp.isnan(x)
    out = extremum(xp.where(unknown, worst, x), axis, keepdims)
    return xp.where(xp.all(unknown, axis, keepdims), math.nan, out)
