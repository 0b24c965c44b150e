"""Builds equations: what the passes write their rewritings with. Shapes and dtypes are those that NumPy would give."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .. import backend
from ..core.primitive import ELEMENTWISE, REGISTRY, Primitive
from ..typing import DType, Params, Shape
from .graph import Equation, Operand, Value

PREDICATES = frozenset(
    """equal not_equal less less_equal greater greater_equal isnan isinf isfinite signbit logical_and logical_or
    logical_xor logical_not bitwise_and bitwise_or bitwise_xor invert left_shift right_shift""".split()
)
"""Operations without a derivative that work element by element."""
REDUCTIONS = frozenset("sum_over max_over min_over prod_over any_over all_over count_nonzero_over".split())


def is_elementwise(primitive: Primitive) -> bool:
    """Whether an operation computes every element from the elements at the same place, with broadcasting."""
    return primitive.kind == ELEMENTWISE or primitive.name in PREDICATES


class Builder:
    """Collects equations in order; `call` appends one and returns its Value."""

    __slots__ = ("equations", "narrow", "where")

    def __init__(self, where: str = "", *, narrow: bool = False) -> None:
        self.equations: list[Equation] = []
        self.where = where
        self.narrow = narrow

    def call(self, name: str, *operands: Operand, **params: Any) -> Value:
        """Append an equation with one output."""
        primitive = REGISTRY[name]
        shape, dtype = result_type(primitive, operands, params)
        value = Value(shape, dtype, where=self.where)
        self.equations.append(Equation(primitive, operands, params, (value,)))
        return value

    def again(self, equation: Equation, operands: Sequence[Operand], shape: Shape) -> Value:
        """Append an elementwise equation once more, on operands of the same types and other shapes."""
        value = Value(shape, equation.outputs[0].dtype, where=self.where)
        self.equations.append(Equation(equation.primitive, tuple(operands), equation.params, (value,)))
        return value

    def reshape(self, x: Value, shape: Shape) -> Value:
        """Append a reshape, unless it has the shape already."""
        return x if x.shape == shape else self.call("reshape_to", x, newshape=shape)

    def permute(self, x: Value, axes: tuple[int, ...]) -> Value:
        """Append a permutation of axes, unless it changes nothing."""
        return x if axes == tuple(range(len(axes))) else self.call("permute", x, axes=axes)

    def swap(self, x: Value) -> Value:
        """Exchange the last two axes."""
        rank = len(x.shape)
        return self.permute(x, (*range(rank - 2), rank - 1, rank - 2))

    def cast(self, x: Value, dtype: DType) -> Value:
        """Append a conversion, unless it has the dtype already."""
        return x if x.dtype == dtype else self.call("cast", x, dtype=dtype)

    def sum(self, x: Value, axis: tuple[int, ...], keepdims: bool = False) -> Value:
        """Append a sum over axes."""
        return self.call("sum_over", x, axis=axis, keepdims=keepdims)

    def mean(self, x: Value, axis: tuple[int, ...], keepdims: bool = False) -> Value:
        """Append a sum over axes, and its division by how many there are."""
        return self.call("divide", self.sum(x, axis, keepdims), prod([x.shape[a] for a in axis]))


def result_type(primitive: Primitive, operands: Sequence[Operand], params: Params) -> tuple[Shape, DType]:
    """Return the shape and dtype of the one result of an operation."""
    values = [operand for operand in operands if isinstance(operand, Value)]
    name = primitive.name
    if is_elementwise(primitive):
        keys = tuple([operand.dtype if isinstance(operand, Value) else operand for operand in operands])
        kinds = tuple([type(key) for key in keys])
        return np.broadcast_shapes(*[value.shape for value in values]), elementwise_dtype(primitive, keys, kinds)
    if name in ("reshape_to", "stretch"):
        return params["newshape" if name == "reshape_to" else "shape"], values[0].dtype
    if name == "permute":
        return tuple([values[0].shape[a] for a in params["axes"]]), values[0].dtype
    if name == "cast":
        return values[0].shape, np.dtype(params["dtype"])
    if name in REDUCTIONS:
        axis, shape = params["axis"], values[0].shape
        kept = [1 if i in axis else n for i, n in enumerate(shape) if params["keepdims"] or i not in axis]
        return tuple(kept), _reduced_dtype(name, values[0].dtype)
    if name == "matrix_product":
        x, y = values
        lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        return (*lead, x.shape[-2], y.shape[-1]), np.result_type(x.dtype, y.dtype)
    if name == "take_along":
        x, indices = values
        return _along_shape(x.shape, indices.shape, params["axis"]), x.dtype
    shape = _shape_of_region(name, values, params)
    if shape is not None:
        return shape, values[0].dtype
    out = np.asarray(primitive.impl(backend.numpy, *[_stand_in(operand) for operand in operands], **params))
    return out.shape, out.dtype


def _shape_of_region(name: str, values: Sequence[Value], params: Params) -> Shape | None:
    """Return the shape of what keeps the dtype of its first operand, for those that need no computing."""
    shape = values[0].shape
    if name == "embed":
        return params["shape"]
    if name in ("add_at", "reverse"):
        return shape
    if name == "pad_constant":
        return tuple([before + n + after for n, (before, after) in zip(shape, params["widths"])])
    if name == "take_slices":
        axis = params["axis"]
        return (*shape[:axis], *values[1].shape, *shape[axis + 1 :])
    if name == "index":
        return np.broadcast_to(np.empty((), np.bool_), shape)[params["key"]].shape
    return None


def _along_shape(shape: Shape, indices: Shape, axis: int) -> Shape:
    others = np.broadcast_shapes(
        tuple([1 if i == axis else n for i, n in enumerate(shape)]),
        tuple([1 if i == axis else n for i, n in enumerate(indices)]),
    )
    return tuple([indices[i] if i == axis else n for i, n in enumerate(others)])


@lru_cache(maxsize=4096)
def elementwise_dtype(primitive: Primitive, keys: tuple[Any, ...], kinds: tuple[type, ...]) -> DType:
    """Return the dtype that an operation makes of dtypes and numbers of Python's; `kinds` are their types."""
    del kinds  # 1, 1.0 and True are equal, and not the same
    samples = [np.ones((), key) if isinstance(key, np.dtype) else key for key in keys]
    with np.errstate(all="ignore"):
        return np.asarray(primitive.impl(backend.numpy, *samples)).dtype


@lru_cache(maxsize=256)
def _reduced_dtype(name: str, dtype: DType) -> DType:
    return np.asarray(REGISTRY[name].impl(backend.numpy, np.ones(1, dtype), axis=(0,), keepdims=False)).dtype


def _stand_in(operand: Operand) -> Any:
    return np.zeros(operand.shape, operand.dtype) if isinstance(operand, Value) else operand
