"""Shapes and dtypes of what operations would compute, without computing it: how large arrays are captured.

A capture needs values only where Python code asks for them. Operations that are not known here are computed; so what
this module lacks costs time, and nothing else. Where shapes do not fit, nothing is known either: NumPy then says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import backend
from ..core.primitive import ELEMENTWISE, NONDIFFERENTIABLE, Primitive
from ..ops.windows import places_of
from ..typing import DType, Params, Shape

Kind = tuple[Shape, DType]
Operands = Sequence[Any]
"""Kinds of arrays, and Python numbers."""
Rule = Callable[[list[Kind], Params], Kind | None]


def kind_of(primitive: Primitive, operands: Operands, params: Params) -> Kind | None:
    """Return shape and dtype of the one result of a primitive, or None: it has to be computed.

    Operands are pairs of shape and dtype, or Python numbers.
    """
    if primitive.multiple:
        return None
    rule = _RULES.get(primitive.name)
    if rule is not None:
        kinds = [operand for operand in operands if type(operand) is tuple]
        first_will_do = primitive.name in _BY_FIRST and type(operands[0]) is tuple
        try:
            return rule(kinds, params) if first_will_do or len(kinds) == len(operands) else None
        except (LookupError, ValueError):  # what does not fit is told when it is computed
            return None
    if primitive.parameters:
        return None
    if primitive.kind == ELEMENTWISE or (primitive.kind == NONDIFFERENTIABLE and primitive.name in _ELEMENT_BY_ELEMENT):
        return _elementwise(primitive, operands)
    return None


_ELEMENT_BY_ELEMENT = frozenset(
    "zeros_like_value equal not_equal less less_equal greater greater_equal isnan isinf isfinite signbit logical_and "
    "logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor invert left_shift right_shift".split()
)


def _elementwise(primitive: Primitive, operands: Operands) -> Kind | None:
    kinds = [operand for operand in operands if type(operand) is tuple]
    if kinds and kinds.count(kinds[0]) == len(kinds) and kinds[0][1].kind == "f" and primitive.kind == ELEMENTWISE:
        return kinds[0]
    shapes = [operand[0] for operand in operands if type(operand) is tuple]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        return None
    dtypes = {operand[1] for operand in operands if type(operand) is tuple}
    if primitive.kind == ELEMENTWISE and len(dtypes) == 1 and (dtype := dtypes.pop()).kind == "f":
        return shape, dtype
    tiny = [np.ones((), operand[1]) if type(operand) is tuple else operand for operand in operands]
    try:
        with np.errstate(all="ignore"):
            out = primitive.impl(backend.numpy, *tiny)
    except TypeError:  # there is none for such dtypes, as is said when it is computed
        return None
    return shape, np.asarray(out).dtype


def _reduced(shape: Shape, axis: Any, keepdims: bool) -> Shape:
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    if keepdims:
        return tuple([1 if i in axes else extent for i, extent in enumerate(shape)])
    return tuple([extent for i, extent in enumerate(shape) if i not in axes])


def _reduction(dtype_of: Callable[[DType], DType]) -> Rule:
    def rule(kinds: list[Kind], params: Params) -> Kind | None:
        shape, dtype = kinds[0]
        if 0 in shape:
            return None
        return _reduced(shape, params["axis"], params.get("keepdims", False)), dtype_of(dtype)

    return rule


def _same(dtype: DType) -> DType:
    return dtype


def _summed(dtype: DType) -> DType:
    return np.sum(np.ones(1, dtype)).dtype


def _averaged(dtype: DType) -> DType:
    return np.mean(np.ones(1, dtype)).dtype


def _truth(dtype: DType) -> DType:
    return np.dtype(np.bool_)


def _promoted(kinds: list[Kind]) -> DType:
    return np.result_type(*[dtype for _, dtype in kinds])


def _norm(kinds: list[Kind], params: Params) -> Kind | None:
    return _reduction(_same)(kinds, params) if kinds[0][1].kind == "f" else None


def _first(kinds: list[Kind], params: Params) -> Kind:
    return kinds[0]


def _first_of_floats(kinds: list[Kind], params: Params) -> Kind | None:
    return kinds[0] if kinds[0][1].kind == "f" else None


def _promoted_first(kinds: list[Kind], params: Params) -> Kind | None:
    dtypes = {dtype for _, dtype in kinds}
    return kinds[0] if len(dtypes) == 1 else None


def _along(kinds: list[Kind], params: Params) -> Kind | None:
    return kinds[0] if kinds[2][1] == kinds[0][1] else None


def _take_along(kinds: list[Kind], params: Params) -> Kind | None:
    (shape, dtype), (indices, _) = kinds
    axis = params["axis"]
    fits = len(shape) == len(indices) and axis >= 0
    if not fits or any([n != m for i, (n, m) in enumerate(zip(shape, indices)) if i != axis]):
        return None
    return indices, dtype


def _take_slices(kinds: list[Kind], params: Params) -> Kind:
    (shape, dtype), (indices, _) = kinds
    axis = params["axis"]
    return (*shape[:axis], *indices, *shape[axis + 1 :]), dtype


def _concatenate(kinds: list[Kind], params: Params) -> Kind | None:
    axis, first = params["axis"], kinds[0][0]
    around = {(*shape[:axis], *shape[axis + 1 :]) for shape, _ in kinds}
    if len(around) != 1 or not all([0 <= axis < len(shape) for shape, _ in kinds]):
        return None
    total = sum([shape[axis] for shape, _ in kinds])
    return (*first[:axis], total, *first[axis + 1 :]), _promoted(kinds)


def _stack(kinds: list[Kind], params: Params) -> Kind | None:
    axis, first = params["axis"], kinds[0][0]
    if len({shape for shape, _ in kinds}) != 1 or axis < 0:
        return None
    return (*first[:axis], len(kinds), *first[axis:]), _promoted(kinds)


def _pad_constant(kinds: list[Kind], params: Params) -> Kind | None:
    shape, dtype = kinds[0]
    if len(shape) != len(params["widths"]):
        return None
    return tuple([before + n + after for n, (before, after) in zip(shape, params["widths"])]), dtype


def _cast(kinds: list[Kind], params: Params) -> Kind:
    return kinds[0][0], np.dtype(params["dtype"])


def _stretch(kinds: list[Kind], params: Params) -> Kind | None:
    (shape, dtype), wanted = kinds[0], tuple(params["shape"])
    pairs = zip(reversed(shape), reversed(wanted))
    fits = len(shape) <= len(wanted) and all([extent in (1, new) for extent, new in pairs])
    return (wanted, dtype) if fits else None


def _embed(kinds: list[Kind], params: Params) -> Kind:
    return tuple(params["shape"]), kinds[0][1]


def _view(name: str) -> Rule:
    """Return the rule of an operation that moves no element: it is applied to one element that is seen everywhere."""

    def rule(kinds: list[Kind], params: Params) -> Kind | None:
        from_shape, dtype = kinds[0]
        seen = np.broadcast_to(np.zeros((), dtype), from_shape)
        if name == "permute":
            return tuple([from_shape[axis] for axis in params["axes"]]), dtype
        if name == "reshape_to":
            shape = tuple(params["newshape"])
            return (shape, dtype) if prod(shape) == prod(from_shape) and -1 not in shape else None
        return seen[params["key"]].shape, dtype

    return rule


def _matrix_product(kinds: list[Kind], params: Params) -> Kind | None:
    (left, left_dtype), (right, right_dtype) = kinds
    if len(left) < 2 or len(right) < 2 or left[-1] != right[-2]:
        return None
    try:
        stack = np.broadcast_shapes(left[:-2], right[:-2])
    except ValueError:
        return None
    return (*stack, left[-2], right[-1]), np.result_type(left_dtype, right_dtype)


def _contract_pair(kinds: list[Kind], params: Params) -> Kind | None:
    terms, _, for_out = params["subscripts"].partition("->")
    extents: dict[str, int] = {}
    for letters, (shape, _) in zip(terms.split(","), kinds):
        if len(letters) != len(shape):
            return None
        for letter, extent in zip(letters, shape):
            if extents.setdefault(letter, extent) != extent:
                return None
    return tuple([extents[letter] for letter in for_out]), _promoted(kinds)


def _row_map(kinds: list[Kind], params: Params) -> Kind | None:
    shape, weight = kinds[0][0], kinds[1][0]
    if not shape or len(weight) != 2 or shape[-1] != weight[1]:
        return None
    return (*shape[:-1], weight[0]), _promoted(kinds)


def _cross_entropy(kinds: list[Kind], params: Params) -> Kind:
    (rows, _), dtype = kinds[0]
    return ((rows,) if params["reduction"] == "none" else ()), dtype


def _convolve(kinds: list[Kind], params: Params) -> Kind:
    (x, _), (weight, _) = kinds
    return (x[0], weight[0], *places_of(x[2:], weight[2:], params)), _promoted(kinds)


def _convolve_transpose_x(kinds: list[Kind], params: Params) -> Kind:
    (y, _), (weight, _) = kinds
    return (y[0], weight[1] * params["groups"], *params["extents"]), _promoted(kinds)


def _convolve_transpose_weight(kinds: list[Kind], params: Params) -> Kind:
    (y, _), (x, _) = kinds
    return (y[1], x[1] // params["groups"], *params["kernel"]), _promoted(kinds)


def _pool(kinds: list[Kind], params: Params) -> Kind:
    x, dtype = kinds[0]
    return (*x[:2], *places_of(x[2:], params["window"], params)), dtype


def _sum_pool_transpose(kinds: list[Kind], params: Params) -> Kind:
    y, dtype = kinds[0]
    return (*y[:2], *params["extents"]), dtype


def _like_second(kinds: list[Kind], params: Params) -> Kind:
    return kinds[1][0], kinds[0][1]


def _attend(kinds: list[Kind], params: Params) -> Kind | None:
    (query, dtype), (key, _), value, (mask, _) = kinds
    if len(query) < 2 or kinds[1] != value or (key[:-2], key[-1:]) != (query[:-2], query[-1:]) or value[1] != dtype:
        return None
    length, features = query[len(query) - 2], query[len(query) - 1]
    if not features:
        return None
    if 0 not in mask and np.broadcast_shapes(mask, (*query[:-1], key[-2])) != (*query[:-1], key[-2]):
        return None
    return (*query[:-2], length - (-length // features), features), dtype


def _attend_pull(kinds: list[Kind], params: Params) -> Kind | None:
    (query, dtype), (key, _) = kinds[3:5]
    numbers = (query[:-1], dtype)
    if kinds[:3] != [(query, dtype), numbers, numbers] or _attend(kinds[3:], params) is None:
        return None
    return (*query[:-2], query[-2] + 2 * key[-2], query[-1]), dtype


def _max_pool_take(kinds: list[Kind], params: Params) -> Kind:
    return _pool([(kinds[1][0], kinds[0][1])], params)


_BY_FIRST = frozenset({"pad_constant", "write_region"})
"""Operations whose other operands may be Python numbers."""
_RULES: dict[str, Rule] = {
    **dict.fromkeys(("max_over", "min_over", "logsumexp_over"), _reduction(_same)),
    **{"vector_norm_over": _norm},
    **{"sum_over": _reduction(_summed), "mean_over": _reduction(_averaged)},
    **dict.fromkeys(("any_over", "all_over"), _reduction(_truth)),
    **dict.fromkeys(("softmax_along", "log_softmax_along", "lower_triangle", "upper_triangle", "stopped"), _first),
    **dict.fromkeys(("layer_norm_affine", "standardize_over"), _promoted_first),
    **dict.fromkeys(("scatter_add", "write_region", "add_at"), _first),
    **{"add_along_axis": _along, "put_along": _along, "take_along": _take_along, "take_slices": _take_slices},
    **{"concatenate_along": _concatenate, "stack_along": _stack, "reverse": _first},
    **{"pad_constant": _pad_constant, "roll_along": _first, "sort_along": _first},
    **dict.fromkeys(("std_over", "var_over"), _reduction(_averaged)),
    **dict.fromkeys(("cumsum_along", "cumprod_along"), _first_of_floats),
    **dict.fromkeys(("with_clipped_cotangent", "with_scaled_cotangent"), _first),
    **{"cast": _cast, "stretch": _stretch, "embed": _embed},
    **{name: _view(name) for name in ("permute", "reshape_to", "index")},
    **{"matrix_product": _matrix_product, "contract_pair": _contract_pair, "row_map": _row_map, "affine": _row_map},
    **{"cross_entropy_of_rows": _cross_entropy, "convolve": _convolve},
    **{"convolve_transpose_x": _convolve_transpose_x, "convolve_transpose_weight": _convolve_transpose_weight},
    **{"max_pool": _pool, "sum_pool": _pool, "sum_pool_transpose": _sum_pool_transpose},
    **{"attend": _attend, "attend_pull": _attend_pull},
    **{"max_pool_transpose": _like_second, "max_pool_take": _max_pool_take},
}
"""By name. Tested against the operations themselves, for all their samples, by tests/compile/test_abstract.py."""
