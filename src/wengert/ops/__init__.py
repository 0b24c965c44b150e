"""Every operation, declared once; one file for each family. This namespace is the `xp` of differentiable rules."""

from __future__ import annotations

from ..core.primitive import REGISTRY
from .arithmetic import (
    absolute as absolute,
    add as add,
    divide as divide,
    guarded_product as guarded_product,
    multiply as multiply,
    negative as negative,
    positive as positive,
    reciprocal as reciprocal,
    square as square,
    subtract as subtract,
)
from .contraction import matmul as matmul, matrix_product as matrix_product
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
from .reductions import sum as sum
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
from .trigonometric import cos as cos, sin as sin
from .writing import overwrite as overwrite, setitem as setitem, update as update

REGISTRY.seal()

_INTERNAL = {
    "REGISTRY",
    "annotations",
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

__all__ = [  # noqa: PLE0604
    name
    for name, value in list(globals().items())
    if not name.startswith("_") and name not in _INTERNAL and callable(value)
]
