"""Every operation, declared once; one file for each family. This namespace is the `xp` of differentiable rules."""

from __future__ import annotations

from ..core.primitive import REGISTRY
from .arithmetic import (
    abs as abs,
    absolute as absolute,
    add as add,
    copysign as copysign,
    divide as divide,
    fabs as fabs,
    floor_divide as floor_divide,
    fmod as fmod,
    guarded_product as guarded_product,
    hypot as hypot,
    mod as mod,
    multiply as multiply,
    negative as negative,
    positive as positive,
    reciprocal as reciprocal,
    remainder as remainder,
    sign as sign,
    square as square,
    subtract as subtract,
    true_divide as true_divide,
)
from .exponential import (
    cbrt as cbrt,
    exp as exp,
    exp2 as exp2,
    expm1 as expm1,
    float_power as float_power,
    log as log,
    log1p as log1p,
    log2 as log2,
    log10 as log10,
    logaddexp as logaddexp,
    logaddexp2 as logaddexp2,
    pow as pow,
    power as power,
    sqrt as sqrt,
    xlogy as xlogy,
)
from .trigonometric import (
    acos as acos,
    arccos as arccos,
    arcsin as arcsin,
    arctan as arctan,
    arctan2 as arctan2,
    asin as asin,
    atan as atan,
    atan2 as atan2,
    cos as cos,
    deg2rad as deg2rad,
    degrees as degrees,
    rad2deg as rad2deg,
    radians as radians,
    sin as sin,
    sinc as sinc,
    tan as tan,
)
from .hyperbolic import (
    acosh as acosh,
    arccosh as arccosh,
    arcsinh as arcsinh,
    arctanh as arctanh,
    asinh as asinh,
    atanh as atanh,
    cosh as cosh,
    sinh as sinh,
    tanh as tanh,
)
from .special import (
    digamma as digamma,
    erf as erf,
    erfc as erfc,
    erfinv as erfinv,
    expit as expit,
    gammaln as gammaln,
    gelu as gelu,
    gelu_tanh as gelu_tanh,
    lgamma as lgamma,
    log_expit as log_expit,
    log_sigmoid as log_sigmoid,
    logit as logit,
    ndtr as ndtr,
    polygamma as polygamma,
    relu as relu,
    sigmoid as sigmoid,
    silu as silu,
    softplus as softplus,
    swish as swish,
)
from .rounding import (
    around as around,
    ceil as ceil,
    fix as fix,
    floor as floor,
    rint as rint,
    round as round,
    trunc as trunc,
)
from .comparison import (
    allclose as allclose,
    array_equal as array_equal,
    bitwise_and as bitwise_and,
    bitwise_invert as bitwise_invert,
    bitwise_left_shift as bitwise_left_shift,
    bitwise_not as bitwise_not,
    bitwise_or as bitwise_or,
    bitwise_right_shift as bitwise_right_shift,
    bitwise_xor as bitwise_xor,
    equal as equal,
    greater as greater,
    greater_equal as greater_equal,
    invert as invert,
    isclose as isclose,
    isfinite as isfinite,
    isinf as isinf,
    isnan as isnan,
    left_shift as left_shift,
    less as less,
    less_equal as less_equal,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    logical_xor as logical_xor,
    not_equal as not_equal,
    right_shift as right_shift,
    signbit as signbit,
)
from .selection import (
    argwhere as argwhere,
    clip as clip,
    conj as conj,
    conjugate as conjugate,
    fmax as fmax,
    fmin as fmin,
    heaviside as heaviside,
    imag as imag,
    maximum as maximum,
    minimum as minimum,
    nan_to_num as nan_to_num,
    nonzero as nonzero,
    real as real,
    where as where,
)
from .creation import (
    arange as arange,
    array as array,
    asarray as asarray,
    astype as astype,
    empty as empty,
    empty_like as empty_like,
    eye as eye,
    full as full,
    full_like as full_like,
    identity as identity,
    linspace as linspace,
    ones as ones,
    ones_like as ones_like,
    tensor as tensor,
    zeros as zeros,
    zeros_like as zeros_like,
)
from .identity import clone as clone, detach as detach, stop_gradient as stop_gradient
from .indexing import (
    gather as gather,
    getitem as getitem,
    index as index,
    read_region as read_region,
    scatter_add as scatter_add,
    write_region as write_region,
)
from .shaping import (
    atleast_1d as atleast_1d,
    atleast_2d as atleast_2d,
    atleast_3d as atleast_3d,
    broadcast_arrays as broadcast_arrays,
    broadcast_to as broadcast_to,
    diagonal as diagonal,
    expand_dims as expand_dims,
    flatten as flatten,
    flip as flip,
    fliplr as fliplr,
    flipud as flipud,
    matrix_transpose as matrix_transpose,
    moveaxis as moveaxis,
    permute_dims as permute_dims,
    ravel as ravel,
    reshape as reshape,
    rollaxis as rollaxis,
    rot90 as rot90,
    spread as spread,
    squeeze as squeeze,
    swapaxes as swapaxes,
    transpose as transpose,
)
from .affine import (
    linear as linear,
)
from .constants import (
    bool as bool,
    complex64 as complex64,
    complex128 as complex128,
    e as e,
    euler_gamma as euler_gamma,
    float16 as float16,
    float32 as float32,
    float64 as float64,
    inf as inf,
    int8 as int8,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    nan as nan,
    newaxis as newaxis,
    pi as pi,
    uint8 as uint8,
    uint16 as uint16,
    uint32 as uint32,
    uint64 as uint64,
)
from .contraction import (
    contract_pair as contract_pair,
    cross as cross,
    dot as dot,
    inner as inner,
    kron as kron,
    matmul as matmul,
    matrix_product as matrix_product,
    outer as outer,
    tensordot as tensordot,
    vdot as vdot,
    vecdot as vecdot,
)
from .counts import (
    all as all,
    any as any,
    argmax as argmax,
    argmin as argmin,
    count_nonzero as count_nonzero,
)
from .cross_entropy import (
    softmax_cross_entropy as softmax_cross_entropy,
)
from .einsum import (
    einsum as einsum,
)
from .joining import (
    append as append,
    array_split as array_split,
    block as block,
    column_stack as column_stack,
    concat as concat,
    concatenate as concatenate,
    dsplit as dsplit,
    dstack as dstack,
    hsplit as hsplit,
    hstack as hstack,
    meshgrid as meshgrid,
    repeat as repeat,
    row_stack as row_stack,
    split as split,
    stack as stack,
    tile as tile,
    unstack as unstack,
    vsplit as vsplit,
    vstack as vstack,
)
from .moments import (
    average as average,
    logsumexp as logsumexp,
    std as std,
    var as var,
)
from .nan_reductions import (
    nanmax as nanmax,
    nanmean as nanmean,
    nanmin as nanmin,
    nanprod as nanprod,
    nanstd as nanstd,
    nansum as nansum,
    nanvar as nanvar,
)
from .normalization import (
    layer_norm as layer_norm,
    log_softmax as log_softmax,
    softmax as softmax,
)
from .norms import (
    norm as norm,
    vector_norm as vector_norm,
)
from .padding import (
    delete as delete,
    diag as diag,
    diagflat as diagflat,
    insert as insert,
    pad as pad,
    roll as roll,
    trace as trace,
    tril as tril,
    triu as triu,
)
from .quantiles import (
    median as median,
    percentile as percentile,
    quantile as quantile,
)
from .reductions import (
    amax as amax,
    amin as amin,
    max as max,
    mean as mean,
    min as min,
    prod as prod,
    ptp as ptp,
    sum as sum,
)
from .scans import (
    cumprod as cumprod,
    cumsum as cumsum,
    cumulative_prod as cumulative_prod,
    cumulative_sum as cumulative_sum,
    diff as diff,
    linear_recurrence as linear_recurrence,
    trapezoid as trapezoid,
)
from .sorting import (
    argpartition as argpartition,
    argsort as argsort,
    bincount as bincount,
    flatnonzero as flatnonzero,
    partition as partition,
    searchsorted as searchsorted,
    sort as sort,
    topk as topk,
    unique as unique,
)
from .taking import (
    add_along_axis as add_along_axis,
    add_at as add_at,
    put_along_axis as put_along_axis,
    take as take,
    take_along_axis as take_along_axis,
)
from .writing import overwrite as overwrite, setitem as setitem, update as update

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

__all__ = [  # noqa: PLE0604
    name
    for name, value in list(globals().items())
    if not name.startswith("_") and name not in _INTERNAL and (callable(value) or name in _VALUES)
]
