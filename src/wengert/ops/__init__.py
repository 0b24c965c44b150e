"""Every operation, declared once; one file for each family. This namespace is the `xp` of differentiable rules.

A family lists its public names in its `__all__`, and they appear here and at top level by themselves. What rules and
the Tensor class need beyond those is named here, and stays out of `wengert`.
"""

from __future__ import annotations

from ..core.primitive import REGISTRY
from . import (
    affine,
    arithmetic,
    attention,
    average_pooling,
    batch_normalization,
    chaining,
    comparison,
    constants,
    contraction,
    convolution,
    cotangents,
    counts,
    creation,
    cross_entropy,
    detaching,
    einstein,
    exponential,
    hyperbolic,
    joining,
    max_pooling,
    moments,
    nan_reductions,
    normalization,
    norms,
    padding,
    quantiles,
    recurrence,
    reductions,
    rounding,
    scans,
    selection,
    shaping,
    sorting,
    special,
    taking,
    trigonometric,
)
from .affine import *
from .arithmetic import *
from .arithmetic import guarded_product as guarded_product
from .attending import attend as attend
from .attending import attend_pull as attend_pull
from .attention import *
from .average_pooling import *
from .average_pooling import sum_pool as sum_pool
from .average_pooling import sum_pool_transpose as sum_pool_transpose
from .batch_normalization import *
from .chaining import *
from .comparison import *
from .constants import *
from .contraction import *
from .contraction import contract_pair as contract_pair
from .contraction import matrix_product as matrix_product
from .convolution import *
from .convolution import convolve as convolve
from .convolution import convolve_transpose_weight as convolve_transpose_weight
from .convolution import convolve_transpose_x as convolve_transpose_x
from .cotangents import *
from .counts import *
from .creation import *
from .cross_entropy import *
from .detaching import *
from .einstein import *
from .exponential import *
from .hyperbolic import *
from .hyperbolic import sech_squared as sech_squared
from .indexing import embed as embed
from .indexing import gather as gather
from .indexing import getitem as getitem
from .indexing import index as index
from .indexing import read_region as read_region
from .indexing import scatter_add as scatter_add
from .indexing import write_region as write_region
from .joining import *
from .max_pooling import *
from .max_pooling import max_pool as max_pool
from .max_pooling import max_pool_take as max_pool_take
from .max_pooling import max_pool_transpose as max_pool_transpose
from .moments import *
from .nan_reductions import *
from .normalization import *
from .norms import *
from .padding import *
from .quantiles import *
from .recurrence import *
from .reductions import *
from .rounding import *
from .scans import *
from .selection import *
from .shaping import *
from .shaping import spread as spread
from .sorting import *
from .special import *
from .special import sigmoid_slope as sigmoid_slope
from .taking import *
from .taking import add_along_axis as add_along_axis
from .taking import add_at as add_at
from .trigonometric import *
from .writing import overwrite as overwrite
from .writing import setitem as setitem
from .writing import update as update

REGISTRY.seal()

__all__: list[str] = []
__all__ += affine.__all__
__all__ += arithmetic.__all__
__all__ += attention.__all__
__all__ += average_pooling.__all__
__all__ += batch_normalization.__all__
__all__ += chaining.__all__
__all__ += comparison.__all__
__all__ += constants.__all__
__all__ += contraction.__all__
__all__ += convolution.__all__
__all__ += cotangents.__all__
__all__ += counts.__all__
__all__ += creation.__all__
__all__ += cross_entropy.__all__
__all__ += einstein.__all__
__all__ += exponential.__all__
__all__ += hyperbolic.__all__
__all__ += detaching.__all__
__all__ += joining.__all__
__all__ += max_pooling.__all__
__all__ += moments.__all__
__all__ += nan_reductions.__all__
__all__ += normalization.__all__
__all__ += norms.__all__
__all__ += padding.__all__
__all__ += quantiles.__all__
__all__ += recurrence.__all__
__all__ += reductions.__all__
__all__ += rounding.__all__
__all__ += scans.__all__
__all__ += selection.__all__
__all__ += shaping.__all__
__all__ += sorting.__all__
__all__ += special.__all__
__all__ += taking.__all__
__all__ += trigonometric.__all__
