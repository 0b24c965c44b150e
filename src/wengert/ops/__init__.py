"""Every operation, declared once; one file for each family. This namespace is the `xp` of differentiable rules."""

from __future__ import annotations

from ..core.primitive import REGISTRY
from .affine import (
    linear as linear,
)
from .arithmetic import (
    abs as abs,
)
from .arithmetic import (
    absolute as absolute,
)
from .arithmetic import (
    add as add,
)
from .arithmetic import (
    copysign as copysign,
)
from .arithmetic import (
    divide as divide,
)
from .arithmetic import (
    fabs as fabs,
)
from .arithmetic import (
    floor_divide as floor_divide,
)
from .arithmetic import (
    fmod as fmod,
)
from .arithmetic import (
    guarded_product as guarded_product,
)
from .arithmetic import (
    hypot as hypot,
)
from .arithmetic import (
    mod as mod,
)
from .arithmetic import (
    multiply as multiply,
)
from .arithmetic import (
    negative as negative,
)
from .arithmetic import (
    positive as positive,
)
from .arithmetic import (
    reciprocal as reciprocal,
)
from .arithmetic import (
    remainder as remainder,
)
from .arithmetic import (
    sign as sign,
)
from .arithmetic import (
    square as square,
)
from .arithmetic import (
    subtract as subtract,
)
from .arithmetic import (
    true_divide as true_divide,
)
from .comparison import (
    allclose as allclose,
)
from .comparison import (
    array_equal as array_equal,
)
from .comparison import (
    bitwise_and as bitwise_and,
)
from .comparison import (
    bitwise_invert as bitwise_invert,
)
from .comparison import (
    bitwise_left_shift as bitwise_left_shift,
)
from .comparison import (
    bitwise_not as bitwise_not,
)
from .comparison import (
    bitwise_or as bitwise_or,
)
from .comparison import (
    bitwise_right_shift as bitwise_right_shift,
)
from .comparison import (
    bitwise_xor as bitwise_xor,
)
from .comparison import (
    equal as equal,
)
from .comparison import (
    greater as greater,
)
from .comparison import (
    greater_equal as greater_equal,
)
from .comparison import (
    invert as invert,
)
from .comparison import (
    isclose as isclose,
)
from .comparison import (
    isfinite as isfinite,
)
from .comparison import (
    isinf as isinf,
)
from .comparison import (
    isnan as isnan,
)
from .comparison import (
    left_shift as left_shift,
)
from .comparison import (
    less as less,
)
from .comparison import (
    less_equal as less_equal,
)
from .comparison import (
    logical_and as logical_and,
)
from .comparison import (
    logical_not as logical_not,
)
from .comparison import (
    logical_or as logical_or,
)
from .comparison import (
    logical_xor as logical_xor,
)
from .comparison import (
    not_equal as not_equal,
)
from .comparison import (
    right_shift as right_shift,
)
from .comparison import (
    signbit as signbit,
)
from .constants import (
    bool as bool,
)
from .constants import (
    complex64 as complex64,
)
from .constants import (
    complex128 as complex128,
)
from .constants import (
    e as e,
)
from .constants import (
    euler_gamma as euler_gamma,
)
from .constants import (
    float16 as float16,
)
from .constants import (
    float32 as float32,
)
from .constants import (
    float64 as float64,
)
from .constants import (
    inf as inf,
)
from .constants import (
    int8 as int8,
)
from .constants import (
    int16 as int16,
)
from .constants import (
    int32 as int32,
)
from .constants import (
    int64 as int64,
)
from .constants import (
    nan as nan,
)
from .constants import (
    newaxis as newaxis,
)
from .constants import (
    pi as pi,
)
from .constants import (
    uint8 as uint8,
)
from .constants import (
    uint16 as uint16,
)
from .constants import (
    uint32 as uint32,
)
from .constants import (
    uint64 as uint64,
)
from .contraction import (
    contract_pair as contract_pair,
)
from .contraction import (
    cross as cross,
)
from .contraction import (
    dot as dot,
)
from .contraction import (
    inner as inner,
)
from .contraction import (
    kron as kron,
)
from .contraction import (
    matmul as matmul,
)
from .contraction import (
    matrix_product as matrix_product,
)
from .contraction import (
    outer as outer,
)
from .contraction import (
    tensordot as tensordot,
)
from .contraction import (
    vdot as vdot,
)
from .contraction import (
    vecdot as vecdot,
)
from .counts import (
    all as all,
)
from .counts import (
    any as any,
)
from .counts import (
    argmax as argmax,
)
from .counts import (
    argmin as argmin,
)
from .counts import (
    count_nonzero as count_nonzero,
)
from .creation import (
    arange as arange,
)
from .creation import (
    array as array,
)
from .creation import (
    asarray as asarray,
)
from .creation import (
    astype as astype,
)
from .creation import (
    empty as empty,
)
from .creation import (
    empty_like as empty_like,
)
from .creation import (
    eye as eye,
)
from .creation import (
    full as full,
)
from .creation import (
    full_like as full_like,
)
from .creation import (
    identity as identity,
)
from .creation import (
    linspace as linspace,
)
from .creation import (
    ones as ones,
)
from .creation import (
    ones_like as ones_like,
)
from .creation import (
    tensor as tensor,
)
from .creation import (
    zeros as zeros,
)
from .creation import (
    zeros_like as zeros_like,
)
from .cross_entropy import (
    softmax_cross_entropy as softmax_cross_entropy,
)
from .einsum import (
    einsum as einsum,
)
from .exponential import (
    cbrt as cbrt,
)
from .exponential import (
    exp as exp,
)
from .exponential import (
    exp2 as exp2,
)
from .exponential import (
    expm1 as expm1,
)
from .exponential import (
    float_power as float_power,
)
from .exponential import (
    log as log,
)
from .exponential import (
    log1p as log1p,
)
from .exponential import (
    log2 as log2,
)
from .exponential import (
    log10 as log10,
)
from .exponential import (
    logaddexp as logaddexp,
)
from .exponential import (
    logaddexp2 as logaddexp2,
)
from .exponential import (
    pow as pow,
)
from .exponential import (
    power as power,
)
from .exponential import (
    sqrt as sqrt,
)
from .exponential import (
    xlogy as xlogy,
)
from .hyperbolic import (
    acosh as acosh,
)
from .hyperbolic import (
    arccosh as arccosh,
)
from .hyperbolic import (
    arcsinh as arcsinh,
)
from .hyperbolic import (
    arctanh as arctanh,
)
from .hyperbolic import (
    asinh as asinh,
)
from .hyperbolic import (
    atanh as atanh,
)
from .hyperbolic import (
    cosh as cosh,
)
from .hyperbolic import (
    sinh as sinh,
)
from .hyperbolic import (
    tanh as tanh,
)
from .identity import clone as clone
from .identity import detach as detach
from .identity import stop_gradient as stop_gradient
from .indexing import (
    gather as gather,
)
from .indexing import (
    getitem as getitem,
)
from .indexing import (
    index as index,
)
from .indexing import (
    read_region as read_region,
)
from .indexing import (
    scatter_add as scatter_add,
)
from .indexing import (
    write_region as write_region,
)
from .joining import (
    append as append,
)
from .joining import (
    array_split as array_split,
)
from .joining import (
    block as block,
)
from .joining import (
    column_stack as column_stack,
)
from .joining import (
    concat as concat,
)
from .joining import (
    concatenate as concatenate,
)
from .joining import (
    dsplit as dsplit,
)
from .joining import (
    dstack as dstack,
)
from .joining import (
    hsplit as hsplit,
)
from .joining import (
    hstack as hstack,
)
from .joining import (
    meshgrid as meshgrid,
)
from .joining import (
    repeat as repeat,
)
from .joining import (
    row_stack as row_stack,
)
from .joining import (
    split as split,
)
from .joining import (
    stack as stack,
)
from .joining import (
    tile as tile,
)
from .joining import (
    unstack as unstack,
)
from .joining import (
    vsplit as vsplit,
)
from .joining import (
    vstack as vstack,
)
from .moments import (
    average as average,
)
from .moments import (
    logsumexp as logsumexp,
)
from .moments import (
    std as std,
)
from .moments import (
    var as var,
)
from .nan_reductions import (
    nanmax as nanmax,
)
from .nan_reductions import (
    nanmean as nanmean,
)
from .nan_reductions import (
    nanmin as nanmin,
)
from .nan_reductions import (
    nanprod as nanprod,
)
from .nan_reductions import (
    nanstd as nanstd,
)
from .nan_reductions import (
    nansum as nansum,
)
from .nan_reductions import (
    nanvar as nanvar,
)
from .normalization import (
    layer_norm as layer_norm,
)
from .normalization import (
    log_softmax as log_softmax,
)
from .normalization import (
    softmax as softmax,
)
from .norms import (
    norm as norm,
)
from .norms import (
    vector_norm as vector_norm,
)
from .padding import (
    delete as delete,
)
from .padding import (
    diag as diag,
)
from .padding import (
    diagflat as diagflat,
)
from .padding import (
    insert as insert,
)
from .padding import (
    pad as pad,
)
from .padding import (
    roll as roll,
)
from .padding import (
    trace as trace,
)
from .padding import (
    tril as tril,
)
from .padding import (
    triu as triu,
)
from .quantiles import (
    median as median,
)
from .quantiles import (
    percentile as percentile,
)
from .quantiles import (
    quantile as quantile,
)
from .reductions import (
    amax as amax,
)
from .reductions import (
    amin as amin,
)
from .reductions import (
    max as max,
)
from .reductions import (
    mean as mean,
)
from .reductions import (
    min as min,
)
from .reductions import (
    prod as prod,
)
from .reductions import (
    ptp as ptp,
)
from .reductions import (
    sum as sum,
)
from .rounding import (
    around as around,
)
from .rounding import (
    ceil as ceil,
)
from .rounding import (
    fix as fix,
)
from .rounding import (
    floor as floor,
)
from .rounding import (
    rint as rint,
)
from .rounding import (
    round as round,
)
from .rounding import (
    trunc as trunc,
)
from .scans import (
    cumprod as cumprod,
)
from .scans import (
    cumsum as cumsum,
)
from .scans import (
    cumulative_prod as cumulative_prod,
)
from .scans import (
    cumulative_sum as cumulative_sum,
)
from .scans import (
    diff as diff,
)
from .scans import (
    linear_recurrence as linear_recurrence,
)
from .scans import (
    trapezoid as trapezoid,
)
from .selection import (
    argwhere as argwhere,
)
from .selection import (
    clip as clip,
)
from .selection import (
    conj as conj,
)
from .selection import (
    conjugate as conjugate,
)
from .selection import (
    fmax as fmax,
)
from .selection import (
    fmin as fmin,
)
from .selection import (
    heaviside as heaviside,
)
from .selection import (
    imag as imag,
)
from .selection import (
    maximum as maximum,
)
from .selection import (
    minimum as minimum,
)
from .selection import (
    nan_to_num as nan_to_num,
)
from .selection import (
    nonzero as nonzero,
)
from .selection import (
    real as real,
)
from .selection import (
    where as where,
)
from .shaping import (
    atleast_1d as atleast_1d,
)
from .shaping import (
    atleast_2d as atleast_2d,
)
from .shaping import (
    atleast_3d as atleast_3d,
)
from .shaping import (
    broadcast_arrays as broadcast_arrays,
)
from .shaping import (
    broadcast_to as broadcast_to,
)
from .shaping import (
    diagonal as diagonal,
)
from .shaping import (
    expand_dims as expand_dims,
)
from .shaping import (
    flatten as flatten,
)
from .shaping import (
    flip as flip,
)
from .shaping import (
    fliplr as fliplr,
)
from .shaping import (
    flipud as flipud,
)
from .shaping import (
    matrix_transpose as matrix_transpose,
)
from .shaping import (
    moveaxis as moveaxis,
)
from .shaping import (
    permute_dims as permute_dims,
)
from .shaping import (
    ravel as ravel,
)
from .shaping import (
    reshape as reshape,
)
from .shaping import (
    rollaxis as rollaxis,
)
from .shaping import (
    rot90 as rot90,
)
from .shaping import (
    spread as spread,
)
from .shaping import (
    squeeze as squeeze,
)
from .shaping import (
    swapaxes as swapaxes,
)
from .shaping import (
    transpose as transpose,
)
from .sorting import (
    argpartition as argpartition,
)
from .sorting import (
    argsort as argsort,
)
from .sorting import (
    bincount as bincount,
)
from .sorting import (
    flatnonzero as flatnonzero,
)
from .sorting import (
    partition as partition,
)
from .sorting import (
    searchsorted as searchsorted,
)
from .sorting import (
    sort as sort,
)
from .sorting import (
    topk as topk,
)
from .sorting import (
    unique as unique,
)
from .special import (
    digamma as digamma,
)
from .special import (
    erf as erf,
)
from .special import (
    erfc as erfc,
)
from .special import (
    erfinv as erfinv,
)
from .special import (
    expit as expit,
)
from .special import (
    gammaln as gammaln,
)
from .special import (
    gelu as gelu,
)
from .special import (
    gelu_tanh as gelu_tanh,
)
from .special import (
    lgamma as lgamma,
)
from .special import (
    log_expit as log_expit,
)
from .special import (
    log_sigmoid as log_sigmoid,
)
from .special import (
    logit as logit,
)
from .special import (
    ndtr as ndtr,
)
from .special import (
    polygamma as polygamma,
)
from .special import (
    relu as relu,
)
from .special import (
    sigmoid as sigmoid,
)
from .special import (
    silu as silu,
)
from .special import (
    softplus as softplus,
)
from .special import (
    swish as swish,
)
from .taking import (
    add_along_axis as add_along_axis,
)
from .taking import (
    add_at as add_at,
)
from .taking import (
    put_along_axis as put_along_axis,
)
from .taking import (
    take as take,
)
from .taking import (
    take_along_axis as take_along_axis,
)
from .trigonometric import (
    acos as acos,
)
from .trigonometric import (
    arccos as arccos,
)
from .trigonometric import (
    arcsin as arcsin,
)
from .trigonometric import (
    arctan as arctan,
)
from .trigonometric import (
    arctan2 as arctan2,
)
from .trigonometric import (
    asin as asin,
)
from .trigonometric import (
    atan as atan,
)
from .trigonometric import (
    atan2 as atan2,
)
from .trigonometric import (
    cos as cos,
)
from .trigonometric import (
    deg2rad as deg2rad,
)
from .trigonometric import (
    degrees as degrees,
)
from .trigonometric import (
    rad2deg as rad2deg,
)
from .trigonometric import (
    radians as radians,
)
from .trigonometric import (
    sin as sin,
)
from .trigonometric import (
    sinc as sinc,
)
from .trigonometric import (
    tan as tan,
)
from .writing import overwrite as overwrite
from .writing import setitem as setitem
from .writing import update as update

REGISTRY.seal()

_INTERNAL = {
    "REGISTRY",
    "add_along_axis",
    "add_at",
    "annotations",
    "contract_pair",
    "family",
    "gather",
    "getitem",
    "guarded_product",
    "index",
    "matrix_product",
    "overwrite",
    "read_region",
    "scatter_add",
    "setitem",
    "spread",
    "write_region",
}
"""What rules and the Tensor class need of this namespace, and users don't."""

_VALUES = {"e", "euler_gamma", "inf", "nan", "newaxis", "pi"}

__all__ = [
    name
    for name, value in list(globals().items())
    if not name.startswith("_") and name not in _INTERNAL and (callable(value) or name in _VALUES)
]
