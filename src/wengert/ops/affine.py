"""The linear layer, `x @ weight.T + bias`, as one operation: the hot one of training.

One product forward, two back; cotangents of arguments that are not tracked are not computed. Where the sweep carries
zeros that must win (`pull_masked`), a row of x that is NaN behind an exactly zero cotangent contributes zero.
"""

# The slots of Tensor are read in line here, as on the fast path.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from math import prod
from typing import Any

from .. import backend
from ..backend.compound import sum_rows
from ..backend.numpy import all_finite
from ..core import boxing, capturing, native
from ..core.chains import Link, bind_chain
from ..core.dispatch import bind
from ..core.recording import is_recording
from ..core.tape import make_node
from ..core.vspace import settle
from ..declare import Sample, bilinear, composite, opaque
from ..declare.batching import to_front
from ..declare.structured import guard_bilinear, guard_forward, guard_tracked
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Namespace, Shape
from .creation import asarray

__all__ = ["linear"]

_raw: Any = backend.numpy
_FIRST = (0,)
_NO_PARAMS: dict[str, Any] = {}


def _rows(xp: Namespace, x: Any) -> Any:
    return x if x.ndim == 2 else xp.reshape(x, (prod(x.shape[:-1]), x.shape[-1]))


@bilinear(samples=[Sample((4, 3), (2, 3)), Sample((3,), (2, 3)), Sample((2, 4, 3), (5, 3))])
def row_map(xp: Namespace, x: Array, weight: Array) -> Array:
    """Every row of x times the transposed weight."""
    if x.ndim <= 2:
        return xp.matmul(x, xp.transpose(weight))
    return xp.reshape(xp.matmul(_rows(xp, x), xp.transpose(weight)), (*x.shape[:-1], weight.shape[0]))


@row_map.transpose_of("x")
def row_map_transpose_x(xp: Namespace, out_bar: Array, weight: Array) -> Array:
    if out_bar.ndim <= 2:
        return xp.matmul(out_bar, weight)
    return xp.reshape(xp.matmul(_rows(xp, out_bar), weight), (*out_bar.shape[:-1], weight.shape[1]))


@row_map.transpose_of("weight")
def row_map_transpose_weight(xp: Namespace, out_bar: Array, x: Array) -> Array:
    return xp.matmul(xp.transpose(_rows(xp, out_bar)), _rows(xp, x))


@row_map.batch
def row_map_batch(xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...]) -> tuple[Any, int]:
    x, weight = (to_front(xp, value, axis) for value, axis in zip(args, axes))
    if axes[1] is None:
        return bind(row_map.primitive, (x, weight)), 0
    if axes[0] is None:
        out = xp.matmul(_rows(xp, x), xp.swapaxes(weight, 1, 2))
        return xp.reshape(out, (weight.shape[0], *x.shape[:-1], weight.shape[1])), 0
    rows = xp.reshape(x, (x.shape[0], prod(x.shape[1:-1]), x.shape[-1]))
    out = xp.matmul(rows, xp.swapaxes(weight, 1, 2))
    return xp.reshape(out, (*x.shape[:-1], weight.shape[1])), 0


@opaque(samples=[Sample((4, 3), (2, 3), (2,)), Sample((3,), (2, 3), (2,)), Sample((2, 4, 3), (5, 3), (5,))])
def affine(xp: Namespace, x: Array, weight: Array, bias: Array) -> Array:
    """Every row of x times the transposed weight, plus the bias."""
    return row_map.primitive.impl(xp, x, weight) + bias


@affine.vjp_of("x")
def affine_vjp_x(xp: Namespace, out_bar: Array, weight: Array) -> Array:
    def contract(factor: Any, cotangent: Any) -> Any:
        return row_map_transpose_x(xp, cotangent, factor)

    return guard_tracked(xp, contract(weight, out_bar), weight, out_bar, contract)


@affine.vjp_of("weight")
def affine_vjp_weight(xp: Namespace, out_bar: Array, x: Array) -> Array:
    def contract(factor: Any, cotangent: Any) -> Any:
        return row_map_transpose_weight(xp, cotangent, factor)

    return guard_tracked(xp, contract(x, out_bar), x, out_bar, contract)


@affine.vjp_of("bias")
def affine_vjp_bias(xp: Namespace, out_bar: Array) -> Array:
    return xp.sum(_rows(xp, out_bar), axis=0)


@affine.jvp_of("x")
def affine_jvp_x(xp: Namespace, weight: Array, x_dot: Array) -> Array:
    def contract(factor: Any, tangent: Any) -> Any:
        return row_map.primitive.impl(xp, tangent, factor)

    return guard_forward(xp, contract(weight, x_dot), weight, x_dot, contract)


@affine.jvp_of("weight")
def affine_jvp_weight(xp: Namespace, x: Array, weight_dot: Array) -> Array:
    def contract(factor: Any, tangent: Any) -> Any:
        return row_map.primitive.impl(xp, factor, tangent)

    return guard_forward(xp, contract(x, weight_dot), x, weight_dot, contract)


@affine.jvp_of("bias")
def affine_jvp_bias(bias_dot: Array) -> Array:
    return bias_dot


@affine.batch
def affine_batch(xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...]) -> tuple[Any, int]:
    x, weight, bias = args
    if axes[1] is None and axes[2] is None:
        return bind(affine.primitive, (to_front(xp, x, axes[0]), weight, bias)), 0
    rank = x.ndim - (axes[0] is not None)
    if axes[0] is None and axes[1] is None:
        product = bind(row_map.primitive, (x, weight))
    else:
        product, _ = row_map_batch(xp, (x, weight), axes[:2])
    bias = to_front(xp, bias, axes[2])
    if axes[2] is not None:
        bias = xp.reshape(bias, (bias.shape[0], *(1,) * (rank - 1), bias.shape[1]))
    return product + bias, 0


@affine.raw_pull
def affine_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    x_node, weight_node, bias_node = node.inputs
    weight, x = node.saved
    x_bar = weight_bar = bias_bar = None
    rows = out_bar if out_bar.ndim == 2 else _rows(_raw, out_bar)
    if bias_node is not None:
        bias_bar = _settled(sum_rows(rows, _FIRST), bias_node)
    if weight_node is not None:
        weight_bar = _settled(rows.T @ (x if x.ndim == 2 else _rows(_raw, x)), weight_node)
    if x_node is not None:
        x_bar = rows @ weight
        x_bar = _settled(x_bar if out_bar.ndim == 2 else x_bar.reshape(x_node.shape), x_node)
    return x_bar, weight_bar, bias_bar


def _settled(bar: Any, node: Any) -> Any:
    return bar if bar.dtype is node.dtype else settle(_raw, bar, node)


@affine.raw_pull_masked
def affine_raw_pull_masked(node: Any, out_bar: Array) -> tuple[Any, ...]:
    x_bar, weight_bar, bias_bar = affine_raw_pull(node, out_bar)
    weight, x = node.saved
    # A product that is finite had no infinite factor behind a zero; the smaller of the two tells as much.
    if x_bar is not None and not all_finite(weight if weight.size < x_bar.size else x_bar):
        x_bar = _settled(guard_bilinear(x_bar, weight, out_bar, _through_weight), node.inputs[0])
    if weight_bar is not None and not all_finite(x if x.size < weight_bar.size else weight_bar):
        weight_bar = _settled(guard_bilinear(weight_bar, x, out_bar, _through_rows), node.inputs[1])
    return x_bar, weight_bar, bias_bar


def _through_weight(weight: Array, out_bar: Array) -> Array:
    return row_map_transpose_x(_raw, out_bar, weight)


def _through_rows(x: Array, out_bar: Array) -> Array:
    return row_map_transpose_weight(_raw, out_bar, x)


@composite(
    samples=[
        Sample((4, 3), (2, 3), (2,)),
        Sample((4, 3), (2, 3)),
        Sample((2, 4, 3), (2, 3), (2,)),
        Sample((1, 3), (1, 3), (1,)),
    ]
)
def linear(x: ArrayLike, weight: ArrayLike, bias: Any = None) -> Any:
    """Linear layer: every row of x times the transposed weight, plus the bias.

    Args:
        x: array whose last axis has `n_in` elements.
        weight: matrix of shape (n_out, n_in).
        bias: vector of n_out elements.

    Raises:
        ShapeError: they do not fit.

    >>> import wengert as wg
    >>> wg.linear(wg.ones((2, 3)), wg.ones((4, 3)), wg.ones(4)).shape
    (2, 4)
    """
    try:
        x_data, weight_data, bias_data = x._data, weight._data, bias._data  # type: ignore[union-attr]
    except AttributeError:
        return _linear_of_anything(x, weight, bias)
    if (
        capturing.engaged
        or x_data.ndim != 2
        or x_data.dtype is not weight_data.dtype
        or x_data.dtype is not bias_data.dtype
    ):
        return _linear_of_anything(x, weight, bias)
    if native.is_for(x_data, weight_data):
        return _linear_of_anything(x, weight, bias)
    try:
        out = x_data @ weight_data.T
    except ValueError:
        raise _misfit(x_data.shape, weight_data.shape, bias_data.shape) from None
    if bias_data.shape != out.shape[1:]:
        raise _misfit(x_data.shape, weight_data.shape, bias_data.shape)
    out += bias_data
    nodes = (x._node, weight._node, bias._node)  # type: ignore[union-attr]
    if nodes == _UNTRACKED or not is_recording() or out.dtype.kind not in "fc":
        return boxing.box(out)
    x_node, weight_node, _ = nodes
    saved = (weight_data if x_node is not None else None, x_data if weight_node is not None else None)
    return boxing.box(out, make_node(affine.primitive, nodes, saved, out, _NO_PARAMS))


_UNTRACKED = (None, None, None)


def _linear_of_anything(x: ArrayLike, weight: ArrayLike, bias: Any) -> Any:
    left = asarray(x)
    return bind_chain(left, linear_links(left, weight, bias))


def linear_links(x: Any, weight: ArrayLike, bias: Any) -> list[Link]:
    """Return the operation of a linear layer on an array of which only the shape is looked at.

    Raises:
        ShapeError: they do not fit.
    """
    right = asarray(weight)
    added = None if bias is None else asarray(bias)
    fits = right.ndim == 2 and x.ndim >= 1 and x.shape[-1] == right.shape[1]
    if not fits or (added is not None and added.shape != (right.shape[0],)):
        raise _misfit(x.shape, right.shape, None if added is None else added.shape)
    return [Link(row_map.primitive, (right,)) if added is None else Link(affine.primitive, (right, added))]


def _misfit(x: Shape, weight: Shape, bias: Shape | None) -> ShapeError:
    given = f"x {x}, weight {weight}" + ("" if bias is None else f", bias {bias}")
    return ShapeError(
        f"linear: shapes do not fit: {given}. Weights have shape (n_out, n_in), where x has n_in elements in its last "
        "axis, and the bias has n_out"
    )
