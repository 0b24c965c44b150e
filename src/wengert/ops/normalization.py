"""Softmax and its logarithm, and layer normalisation: composites that everybody uses, each as one operation.

Where the sweep carries zeros that must win, it takes the short way all the same and looks at what it found; only if
that is not finite, it goes the guarded way, where an exactly zero cotangent wins over infinite or NaN residuals.
"""

# The slots of Tensor are read in line here, as on the fast path.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backend
from ..backend.compound import standardize, sum_kept, sum_of_products, sum_rows
from ..backend.numpy import all_finite
from ..core import boxing, capturing, native
from ..core.dispatch import bind
from ..core.recording import is_recording
from ..core.tape import make_node
from ..core.vspace import settle
from ..declare import Sample, composite, opaque
from ..declare.batching import to_front
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Axis, Namespace
from .axes import canonical_axes
from .creation import asarray
from .reductions import as_floating, masked_out

__all__ = ["layer_norm", "log_softmax", "softmax"]

_raw: Any = backend.numpy
_SAMPLES: Any = [Sample((4,), axis=(0,)), Sample((2, 3), axis=(1,)), Sample((2, 3, 2), axis=(0, 2))]


@opaque(samples=_SAMPLES, reference="scipy.special.softmax")
def softmax_along(xp: Namespace, x: Array, *, axis: tuple[int, ...]) -> Array:
    """Exponentials divided by their sum over axes."""
    return xp.softmax(x, axis=axis)


@softmax_along.vjp
def softmax_along_vjp(xp: Namespace, out_bar: Array, out: Array, axis: tuple[int, ...]) -> Array:
    along = xp.sum(xp.guarded_product(out, out_bar), axis=axis, keepdims=True)
    return xp.guarded_product(out, out_bar - along)


@softmax_along.raw_pull
def softmax_along_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    (out,), axis, parent = node.saved, node.params["axis"], node.inputs[0]
    weighted = out * out_bar
    weighted -= out * sum_kept(weighted, axis)
    return (weighted if weighted.dtype is parent.dtype else settle(_raw, weighted, parent),)


@softmax_along.raw_pull_masked
def softmax_along_raw_pull_masked(node: Any, out_bar: Array) -> tuple[Any, ...]:
    bars = softmax_along_raw_pull(node, out_bar)
    if all_finite(bars[0]):
        return bars
    return (settle(_raw, softmax_along_vjp(_raw, out_bar, *node.saved, **node.params), node.inputs[0]),)


@softmax_along.jvp
def softmax_along_jvp(xp: Namespace, out: Array, x_dot: Array, axis: tuple[int, ...]) -> Array:
    along = xp.sum(xp.guarded_product(out, x_dot), axis=axis, keepdims=True)
    return xp.guarded_product(out, x_dot - along)


@softmax_along.batched
def softmax_along_batched(xp: Namespace, x: Array, *, axis: tuple[int, ...]) -> Array:
    return softmax_along(x, axis=tuple([a + 1 for a in axis]))


@opaque(samples=_SAMPLES, reference="scipy.special.log_softmax")
def log_softmax_along(xp: Namespace, x: Array, *, axis: tuple[int, ...]) -> Array:
    """Logarithm of softmax."""
    return xp.log_softmax(x, axis=axis)


@log_softmax_along.vjp
def log_softmax_along_vjp(xp: Namespace, out_bar: Array, out: Array, axis: tuple[int, ...]) -> Array:
    return out_bar - xp.guarded_product(xp.exp(out), xp.sum(out_bar, axis=axis, keepdims=True))


@log_softmax_along.raw_pull
def log_softmax_along_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    (out,), axis, parent = node.saved, node.params["axis"], node.inputs[0]
    x_bar = np.exp(out)
    x_bar *= sum_kept(out_bar, axis)
    np.subtract(out_bar, x_bar, x_bar)
    return (x_bar if x_bar.dtype is parent.dtype else settle(_raw, x_bar, parent),)


@log_softmax_along.raw_pull_masked
def log_softmax_along_raw_pull_masked(node: Any, out_bar: Array) -> tuple[Any, ...]:
    bars = log_softmax_along_raw_pull(node, out_bar)
    if all_finite(bars[0]):
        return bars
    return (settle(_raw, log_softmax_along_vjp(_raw, out_bar, *node.saved, **node.params), node.inputs[0]),)


@log_softmax_along.jvp
def log_softmax_along_jvp(xp: Namespace, out: Array, x_dot: Array, axis: tuple[int, ...]) -> Array:
    return x_dot - xp.sum(xp.guarded_product(xp.exp(out), x_dot), axis=axis, keepdims=True)


@log_softmax_along.batched
def log_softmax_along_batched(xp: Namespace, x: Array, *, axis: tuple[int, ...]) -> Array:
    return log_softmax_along(x, axis=tuple([a + 1 for a in axis]))


def softmax(x: ArrayLike, axis: Axis = -1, *, where: Any = None) -> Any:
    """Exponentials divided by their sum over axes: positive numbers that sum to one.

    Args:
        x: array of any shape.
        axis: axis or axes to normalise over.
        where: elements to include; the others are zero, with an exactly zero gradient. A row of none is all zero.

    >>> import wengert as wg
    >>> wg.softmax(wg.tensor([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    tensor = as_floating(asarray(x))
    params = {"axis": canonical_axes(axis, tensor.ndim, "softmax")}
    if where is None or where is True:
        return bind(softmax_along.primitive, (tensor,), params)
    xp = boxing.operations
    hidden = masked_out(tensor, where, -math.inf, "softmax")
    with np.errstate(invalid="ignore"):  # a row of nothing is NaN here, and zero in a moment
        shares = bind(softmax_along.primitive, (hidden,), params)
    return xp.where(xp.equal(hidden, -math.inf), 0, shares)


def log_softmax(x: ArrayLike, axis: Axis = -1) -> Any:
    """Logarithm of softmax, accurate where softmax itself would underflow.

    >>> import wengert as wg
    >>> wg.log_softmax(wg.tensor([0.0, 1000.0])).tolist()
    [-1000.0, 0.0]
    """
    tensor = as_floating(asarray(x))
    return bind(log_softmax_along.primitive, (tensor,), {"axis": canonical_axes(axis, tensor.ndim, "log_softmax")})


# Layer normalisation.


def _mean_kept(xp: Namespace, x: Any, axis: tuple[int, ...]) -> Any:
    return xp.sum(x, axis=axis, keepdims=True) / math.prod([x.shape[a] for a in axis])


def _standardized(xp: Namespace, x: Any, axis: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    """Return (x less its mean over the root of its variance and eps, one over that root)."""
    centred = x - _mean_kept(xp, x, axis)
    scale = 1 / xp.sqrt(_mean_kept(xp, centred * centred, axis) + eps)
    return centred * scale, scale


def _pull_standardized(xp: Namespace, bar: Any, normal: Any, scale: Any, axis: tuple[int, ...]) -> Any:
    along = _mean_kept(xp, xp.guarded_product(normal, bar), axis)
    return xp.guarded_product(scale, bar - _mean_kept(xp, bar, axis) - xp.guarded_product(normal, along))


@opaque(samples=[Sample((2, 3), axis=(1,), eps=1e-5), Sample((2, 3, 2), axis=(1, 2), eps=0.1)])
def standardize_over(xp: Namespace, x: Array, *, axis: tuple[int, ...], eps: float) -> Array:
    """Elements less their mean over axes, over the root of variance plus eps."""
    return standardize(x, axis, eps)[0] if xp is _raw else _standardized(xp, x, axis, eps)[0]


@standardize_over.vjp
def standardize_over_vjp(xp: Namespace, out_bar: Array, x: Array, axis: tuple[int, ...], eps: float) -> Array:
    normal, scale = _standardized(xp, x, axis, eps)
    return _pull_standardized(xp, out_bar, normal, scale, axis)


@standardize_over.raw_pull
def standardize_over_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    (x,), axis, parent = node.saved, node.params["axis"], node.inputs[0]
    normal, _, root = standardize(x, axis, node.params["eps"])
    return (settle(_raw, _pull_through_standardized(np.array(out_bar), normal, root, axis), parent),)


@standardize_over.raw_pull_masked
def standardize_over_raw_pull_masked(node: Any, out_bar: Array) -> tuple[Any, ...]:
    bars = standardize_over_raw_pull(node, out_bar)
    if all_finite(bars[0]):
        return bars
    return (settle(_raw, standardize_over_vjp(_raw, out_bar, *node.saved, **node.params), node.inputs[0]),)


@standardize_over.jvp
def standardize_over_jvp(xp: Namespace, x: Array, x_dot: Array, axis: tuple[int, ...], eps: float) -> Array:
    normal, scale = _standardized(xp, x, axis, eps)
    return _pull_standardized(xp, x_dot, normal, scale, axis)


@standardize_over.batched
def standardize_over_batched(xp: Namespace, x: Array, *, axis: tuple[int, ...], eps: float) -> Array:
    return standardize_over(x, axis=tuple([a + 1 for a in axis]), eps=eps)


@opaque(
    samples=[
        Sample((4, 3), (3,), (3,), eps=1e-5),
        Sample((2, 4, 3), (4, 3), (4, 3), eps=0.1),
        Sample((3,), (3,), (3,), eps=1e-5),
    ]
)
def layer_norm_affine(xp: Namespace, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    """Elements standardised over the last axes, those of weight and bias, then scaled and shifted by these."""
    return (
        standardize_over.primitive.impl(xp, x, axis=tuple(range(x.ndim - weight.ndim, x.ndim)), eps=eps) * weight + bias
    )


@layer_norm_affine.vjp_of("x")
def layer_norm_affine_vjp_x(xp: Namespace, out_bar: Array, x: Array, weight: Array, eps: float) -> Array:
    axis = tuple(range(x.ndim - weight.ndim, x.ndim))
    normal, scale = _standardized(xp, x, axis, eps)
    return _pull_standardized(xp, xp.guarded_product(weight, out_bar), normal, scale, axis)


@layer_norm_affine.vjp_of("weight")
def layer_norm_affine_vjp_weight(xp: Namespace, out_bar: Array, x: Array, weight_shape: Any, eps: float) -> Array:
    lead = x.ndim - len(weight_shape)
    normal, _ = _standardized(xp, x, tuple(range(lead, x.ndim)), eps)
    return xp.sum(xp.guarded_product(normal, out_bar), axis=tuple(range(lead)))


@layer_norm_affine.vjp_of("bias")
def layer_norm_affine_vjp_bias(xp: Namespace, out_bar: Array, bias_shape: Any) -> Array:
    return xp.sum(out_bar, axis=tuple(range(out_bar.ndim - len(bias_shape))))


@layer_norm_affine.raw_pull
def layer_norm_affine_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    x_node, weight_node, bias_node = node.inputs
    x, weight, weight_shape, bias_shape = node.saved[:4]
    shape = weight.shape if weight is not None else weight_shape or bias_shape
    lead = tuple(range(out_bar.ndim - len(shape)))
    bars: list[Any] = [None, None, None]
    if bias_node is not None:
        bars[2] = sum_rows(out_bar, lead)
    if x is not None:
        axis = tuple(range(len(lead), x.ndim))
        if len(node.saved) > 4:  # by the straight path
            mean, root = node.saved[4]
            normal = np.subtract(x, mean)
            normal /= root
        else:
            normal, _, root = standardize(x, axis, node.params["eps"])
        if weight_node is not None:
            bars[1] = sum_rows(normal * out_bar, lead)
        if x_node is not None:
            bars[0] = _pull_through_standardized(out_bar * weight, normal, root, axis)
    return tuple(
        [
            bar if bar is None or bar.dtype is parent.dtype else settle(_raw, bar, parent)
            for bar, parent in zip(bars, node.inputs)
        ]
    )


@layer_norm_affine.raw_pull_masked
def layer_norm_affine_raw_pull_masked(node: Any, out_bar: Array) -> tuple[Any, ...]:
    bars = layer_norm_affine_raw_pull(node, out_bar)
    finite = all([bar is None or all_finite(bar) for bar in bars])
    return bars if finite else _layer_norm_affine_guarded(node, out_bar)


def _pull_through_standardized(bar: Array, normal: Array, root: Array, axis: tuple[int, ...]) -> Array:
    count = math.prod([bar.shape[a] for a in axis])
    along = sum_of_products(normal, bar, axis)
    along /= count
    mean = sum_kept(bar, axis)
    mean /= count
    bar -= mean
    normal *= along
    bar -= normal
    bar /= root
    return bar


def _layer_norm_affine_guarded(node: Any, out_bar: Array) -> tuple[Any, ...]:
    x_node, weight_node, bias_node = node.inputs
    x, weight, weight_shape, bias_shape = node.saved[:4]
    eps = node.params["eps"]
    x_bar = weight_bar = bias_bar = None
    if x_node is not None:
        x_bar = settle(_raw, layer_norm_affine_vjp_x(_raw, out_bar, x, weight, eps), x_node)
    if weight_node is not None:
        weight_bar = layer_norm_affine_vjp_weight(_raw, out_bar, x, weight_shape, eps)
        weight_bar = settle(_raw, weight_bar, weight_node)
    if bias_node is not None:
        bias_bar = settle(_raw, layer_norm_affine_vjp_bias(_raw, out_bar, bias_shape), bias_node)
    return x_bar, weight_bar, bias_bar


@layer_norm_affine.jvp
def layer_norm_affine_jvp(
    xp: Namespace, x: Array, weight: Array, x_dot: Array, weight_dot: Array, bias_dot: Array, eps: float
) -> Array:
    axis = tuple(range(x.ndim - weight.ndim, x.ndim))
    normal, scale = _standardized(xp, x, axis, eps)
    return _pull_standardized(xp, x_dot, normal, scale, axis) * weight + normal * weight_dot + bias_dot


@layer_norm_affine.batch
def layer_norm_affine_batch(xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...], eps: float) -> tuple[Any, int]:
    x, weight, bias = (to_front(xp, value, axis) for value, axis in zip(args, axes))
    if axes[1] is None and axes[2] is None:
        return bind(layer_norm_affine.primitive, (x, weight, bias), {"eps": eps}), 0
    rank = x.ndim - (axes[0] is not None)
    count = args[1].ndim - (axes[1] is not None)
    normal = bind(standardize_over.primitive, (x,), {"axis": tuple(range(x.ndim - count, x.ndim)), "eps": eps})
    fitted = [
        value if axis is None else xp.reshape(value, (value.shape[0], *(1,) * (rank - count), *value.shape[1:]))
        for value, axis in ((weight, axes[1]), (bias, axes[2]))
    ]
    return normal * fitted[0] + fitted[1], 0


@composite(
    samples=[
        Sample((4, 3), 3, (3,), (3,)),
        Sample((4, 3), 3, (3,)),
        Sample((4, 3), normalized_shape=3, eps=0.1),
    ]
)
def layer_norm(x: ArrayLike, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Layer normalisation (Ba, Kiros and Hinton, 2016): zero mean and unit variance over the last axes.

    Args:
        x: array of any shape.
        normalized_shape: the extents of the last axes, which are normalised together; a number for one axis.
        weight: factors of that shape, applied afterwards.
        bias: addends of that shape, applied afterwards.
        eps: added to the variance.

    Raises:
        ShapeError: the array's last extents, the weight's or the bias's are others.

    >>> import wengert as wg
    >>> wg.layer_norm(wg.tensor([1.0, 3.0]), 2, eps=0.0).tolist()
    [-1.0, 1.0]
    """
    tensor = as_floating(asarray(x))
    shape = tuple(normalized_shape) if hasattr(normalized_shape, "__iter__") else (normalized_shape,)
    if not shape or tensor.shape[-len(shape) :] != shape:
        raise ShapeError(f"layer_norm: the last extents of shape {tensor.shape} are not {shape}")
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and tuple(np.shape(value) if not hasattr(value, "shape") else value.shape) != shape:
            raise ShapeError(f"layer_norm: the {name} must have shape {shape}, not {value.shape}")
    if weight is not None and bias is not None:
        scale, shift = asarray(weight), asarray(bias)
        plain = type(tensor) is type(scale) is type(shift) is boxing.Tensor and not capturing.engaged
        if plain and tensor.dtype == scale.dtype == shift.dtype and tensor.size < native.smallest:
            return _straight_layer_norm(tensor, scale, shift, eps)
        return bind(layer_norm_affine.primitive, (tensor, scale, shift), {"eps": eps})
    axis = tuple(range(tensor.ndim - len(shape), tensor.ndim))
    out = bind(standardize_over.primitive, (tensor,), {"axis": axis, "eps": eps})
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _straight_layer_norm(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    """Compute and record with exact Tensors, keeping what the raw sweep would have to compute again."""
    data, scale = x._data, weight._data
    out, mean, root = standardize(data, tuple(range(data.ndim - scale.ndim, data.ndim)), eps)
    out *= scale
    out += bias._data
    nodes = (x._node, weight._node, bias._node)
    if nodes == (None, None, None) or not is_recording():
        return boxing.box(out)
    x_node, weight_node, _ = nodes
    saved = (
        data if x_node is not None or weight_node is not None else None,
        scale if x_node is not None else None,
        scale.shape,
        scale.shape,
        (mean, root),
    )
    return boxing.box(out, make_node(layer_norm_affine.primitive, nodes, saved, out, {"eps": eps}))
