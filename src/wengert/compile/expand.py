"""Expansion: operations that are made of simpler ones become those, which fuse.

Each function here writes one operation in terms of elementwise operations, reductions, views and matrix products; the
arithmetic is that of the operation's own `impl`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np

from . import expand_attention, expand_regions
from .expand_builder import Builder
from .graph import Equation, Graph, Operand, Value, replaced_in

Axes = tuple[int, ...]
Expansion = Callable[..., "Value | None"]
"""Takes the builder, the operands and the parameters; returns the result, or None where it stays as it is."""

EXPANSIONS: dict[str, Expansion] = {}
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_INTEGERS = (np.dtype(np.int32), np.dtype(np.int64))


def expand(graph: Graph, *, narrow: bool = False) -> Graph:
    """Return the graph with every operation expanded, until none has an expansion; `narrow` as for a Program."""
    equations: list[Equation] = []
    replaced: dict[Value, Value] = {}
    pending = list(reversed(graph.equations))
    while pending:
        equation = pending.pop()
        inputs = equation.inputs
        if replaced:
            inputs = replaced_in(inputs, replaced)
        expansion = EXPANSIONS.get(equation.primitive.name)
        if expansion is not None:
            made = expansion_of(expansion, equation, inputs, narrow)
            if made is not None:
                replaced[equation.outputs[0]], steps = made
                pending.extend(reversed(steps))
                continue
        equations.append(Equation(equation.primitive, inputs, equation.params, equation.outputs))
    resolved = _resolved(replaced)
    for equation in equations:
        if not resolved.keys().isdisjoint(equation.inputs):
            equation.inputs = replaced_in(equation.inputs, resolved)
    outputs = [resolved.get(value, value) for value in graph.outputs]
    return Graph(graph.name, graph.inputs, equations, outputs, graph.homes)


def _resolved(replaced: dict[Value, Value]) -> dict[Value, Value]:
    resolved: dict[Value, Value] = {}
    for value, other in replaced.items():
        while other in replaced:
            other = replaced[other]
        resolved[value] = other
    return resolved


def expansion_of(
    expansion: Expansion, equation: Equation, inputs: tuple[Operand, ...], narrow: bool = False
) -> tuple[Value, list[Equation]] | None:
    """Return what an equation expands to, or None if it doesn't."""
    builder = Builder(equation.outputs[0].where, narrow=narrow)
    result = expansion(builder, *inputs, **equation.params)
    if result is None:
        return None
    expected = equation.outputs[0]
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype), f"{equation!r} expanded to {result!r}"
    return result, builder.equations


_E = TypeVar("_E", bound=Expansion)


def _expands(name: str) -> Callable[[_E], _E]:
    def declare(expansion: _E) -> _E:
        EXPANSIONS[name] = expansion
        return expansion

    return declare


def _kept(x: Value, axis: Axes) -> tuple[int, ...]:
    return tuple([1 if i in axis else n for i, n in enumerate(x.shape)])


def _is_plain(x: Value, axis: Axes) -> bool:
    return x.dtype in _FLOATS and bool(prod([x.shape[a] for a in axis]))


# Recurrence.


@_expands("lstm_sequence_states")
def _lstm_sequence_states(b: Builder, driven: Value, h: Value, c: Value, weight: Value) -> Value | None:
    if len({value.dtype for value in (driven, h, c, weight)}) > 1 or driven.dtype not in _FLOATS:
        return None
    n = c.shape[-1]
    outputs: list[Value] = []
    cells: list[Value] = []
    for step in range(driven.shape[0]):
        gates = b.call("add", b.call("index", driven, key=(step,)), b.call("row_map", h, weight))
        write, keep, proposal, show = [
            b.call("index", gates, key=(Ellipsis, slice(k * n, (k + 1) * n))) for k in range(4)
        ]
        kept = b.call("multiply", b.call("sigmoid", keep), c)
        c = b.call("add", kept, b.call("multiply", b.call("sigmoid", write), b.call("tanh", proposal)))
        h = b.call("multiply", b.call("sigmoid", show), b.call("tanh", c))
        outputs.append(h)
        cells.append(c)
    stacks = [b.call("stack_along", *states, axis=0) for states in (outputs, cells)]
    return b.call("stack_along", *stacks, axis=0)


# Softmax, normalisation, cross-entropy.


def _shifted(b: Builder, x: Value, axis: Axes) -> Value:
    return b.call("subtract", x, b.call("max_over", x, axis=axis, keepdims=True))


@_expands("softmax_along")
def _softmax(b: Builder, x: Value, *, axis: Axes) -> Value | None:
    if not _is_plain(x, axis):
        return None
    exponentials = b.call("exp", _shifted(b, x, axis))
    return b.call("divide", exponentials, b.sum(exponentials, axis, True))


@_expands("log_softmax_along")
def _log_softmax(b: Builder, x: Value, *, axis: Axes) -> Value | None:
    if not _is_plain(x, axis):
        return None
    shifted = _shifted(b, x, axis)
    return b.call("subtract", shifted, b.call("log", b.sum(b.call("exp", shifted), axis, True)))


@_expands("logsumexp_over")
def _logsumexp(b: Builder, x: Value, *, axis: Axes, keepdims: bool) -> Value | None:
    if not _is_plain(x, axis):
        return None
    largest = b.call("max_over", x, axis=axis, keepdims=True)
    shift = b.call("where", b.call("isfinite", largest), largest, 0.0)
    total = b.call("log", b.sum(b.call("exp", b.call("subtract", x, shift)), axis, True))
    out = b.call("add", total, shift)
    return out if keepdims else b.reshape(out, _without(x, axis))


def _without(x: Value, axis: Axes) -> tuple[int, ...]:
    return tuple([n for i, n in enumerate(x.shape) if i not in axis])


@_expands("standardize_over")
def _standardize(b: Builder, x: Value, *, axis: Axes, eps: float) -> Value | None:
    if not _is_plain(x, axis):
        return None
    centred = b.call("subtract", x, b.mean(x, axis, True))
    variance = b.mean(b.call("multiply", centred, centred), axis, True)
    scale = b.call("divide", 1, b.call("sqrt", b.call("add", variance, eps)))
    return b.call("multiply", centred, scale)


@_expands("layer_norm_affine")
def _layer_norm(b: Builder, x: Value, weight: Value, bias: Value, *, eps: float) -> Value | None:
    axis = tuple(range(len(x.shape) - len(weight.shape), len(x.shape)))
    normal = _standardize(b, x, axis=axis, eps=eps)
    if normal is None or not x.dtype == weight.dtype == bias.dtype:
        return None
    return b.call("add", b.call("multiply", normal, weight), bias)


@_expands("cross_entropy_of_rows")
def _cross_entropy(
    b: Builder, logits: Value, labels: Value, *, reduction: str, ignore_index: int, smoothing: float
) -> Value | None:
    logs = _log_softmax(b, logits, axis=(1,)) if isinstance(labels, Value) else None
    if logs is None:
        return None
    rows = labels.shape[0]
    kept = b.call("not_equal", labels, ignore_index)
    safe = b.reshape(b.call("where", kept, labels, 0), (rows, 1))
    losses = b.call("negative", b.reshape(b.call("take_along", logs, safe, axis=1), (rows,)))
    if smoothing:
        mean = b.mean(logs, (1,))
        losses = b.call("multiply", 1 - smoothing, losses)
        losses = b.call("subtract", losses, b.call("multiply", smoothing, mean))
    losses = b.call("where", kept, losses, 0)
    if reduction == "none":
        return losses
    total = b.sum(losses, (0,))
    return b.call("divide", total, b.cast(b.sum(kept, (0,)), total.dtype)) if reduction == "mean" else total


# Moments and norms.


@_expands("mean_over")
def _mean(b: Builder, x: Value, *, axis: Axes, keepdims: bool) -> Value | None:
    if x.dtype.itemsize < 4 or not prod([x.shape[a] for a in axis]):
        return None
    return b.mean(x, axis, keepdims)


@_expands("var_over")
def _variance(b: Builder, x: Value, *, axis: Axes, keepdims: bool, ddof: float) -> Value | None:
    freedom = prod([x.shape[a] for a in axis]) - ddof
    if not _is_plain(x, axis) or freedom <= 0:
        return None
    distance = b.call("subtract", x, b.mean(x, axis, True))
    return b.call("divide", b.sum(b.call("multiply", distance, distance), axis, keepdims), freedom)


@_expands("std_over")
def _deviation(b: Builder, x: Value, *, axis: Axes, keepdims: bool, ddof: float) -> Value | None:
    variance = _variance(b, x, axis=axis, keepdims=keepdims, ddof=ddof)
    return None if variance is None else b.call("sqrt", variance)


@_expands("count_nonzero_over")
def _count_nonzero(b: Builder, x: Value, *, axis: Axes, keepdims: bool) -> Value | None:
    return b.sum(b.call("not_equal", x, 0), axis, keepdims)


@_expands("vector_norm_over")
def _vector_norm(b: Builder, x: Value, *, axis: Axes, keepdims: bool, ord: float) -> Value | None:
    if not _is_plain(x, axis) or ord not in (1, 2, math.inf, -math.inf):
        return None
    size = b.call("absolute", x)
    if ord == 1:
        return b.sum(size, axis, keepdims)
    if ord == 2:
        return b.call("sqrt", b.sum(b.call("multiply", size, size), axis, keepdims))
    return b.call("max_over" if ord > 0 else "min_over", size, axis=axis, keepdims=keepdims)


def _first_place(b: Builder, name: str, x: Value, axis: int, keepdims: bool) -> Value | None:
    """Return the first place along an axis where the extremum is; a NaN is one."""
    if x.dtype not in (*_FLOATS, *_INTEGERS) or not x.size:
        return None
    found = b.call("equal", x, b.call(name, x, axis=(axis,), keepdims=True))
    if x.dtype.kind == "f":
        found = b.call("logical_or", found, b.call("isnan", x))
    count = x.shape[axis]
    places = _constant(np.arange(count).reshape((count, *(1,) * (len(x.shape) - axis - 1))))
    return b.call("min_over", b.call("where", found, places, count), axis=(axis,), keepdims=keepdims)


@_expands("argmax_along")
def _argmax(b: Builder, x: Value, *, axis: int, keepdims: bool) -> Value | None:
    return _first_place(b, "max_over", x, axis, keepdims)


@_expands("argmin_along")
def _argmin(b: Builder, x: Value, *, axis: int, keepdims: bool) -> Value | None:
    return _first_place(b, "min_over", x, axis, keepdims)


# Products.


@_expands("row_map")
def _row_map(b: Builder, x: Value, weight: Value) -> Value | None:
    if x.dtype != weight.dtype:
        return None
    rows = b.reshape(x, (prod(x.shape[:-1]), x.shape[-1]))
    product = b.call("matrix_product", rows, b.swap(weight))
    return b.reshape(product, (*x.shape[:-1], weight.shape[0]))


@_expands("affine")
def _affine(b: Builder, x: Value, weight: Value, bias: Value) -> Value | None:
    product = _row_map(b, x, weight)
    return None if product is None else b.call("add", product, bias)


@_expands("matrix_vector")
def _matrix_vector(b: Builder, x: Value, y: Value) -> Value | None:
    if x.dtype != y.dtype or x.dtype not in _FLOATS:
        return None
    return b.sum(b.call("multiply", x, y), (1,))


@_expands("contract_pair")
def _contract_pair(b: Builder, x: Value, y: Value, *, subscripts: str) -> Value | None:
    terms, _, for_out = subscripts.partition("->")
    for_x, _, for_y = terms.partition(",")
    extents = {**dict(zip(for_x, x.shape)), **dict(zip(for_y, y.shape))}
    shared = [letter for letter in for_out if letter in for_x and letter in for_y]
    inner = [letter for letter in for_x if letter in for_y and letter not in for_out]
    rows = [letter for letter in for_out if letter not in for_y]
    columns = [letter for letter in for_out if letter not in for_x]
    if not inner or not (rows or columns):
        letters = [*for_out, *inner]
        product = b.call("multiply", _spread(b, x, for_x, letters), _spread(b, y, for_y, letters))
        return b.sum(product, tuple(range(len(for_out), len(letters)))) if inner else product
    if x.dtype != y.dtype or x.dtype not in _FLOATS:
        return None

    def matrix(value: Value, letters: str, *groups: list[str]) -> Value:
        order = tuple([letters.index(letter) for group in groups for letter in group])
        shape = tuple([prod([extents[letter] for letter in group]) for group in groups])
        return b.reshape(b.permute(value, order), shape)

    product = b.call("matrix_product", matrix(x, for_x, shared, rows, inner), matrix(y, for_y, shared, inner, columns))
    made = [*shared, *rows, *columns]
    whole = b.reshape(product, tuple([extents[letter] for letter in made]))
    return b.permute(whole, tuple([made.index(letter) for letter in for_out]))


def _spread(b: Builder, x: Value, letters: str, all_letters: list[str]) -> Value:
    present = [letter for letter in all_letters if letter in letters]
    ordered = b.permute(x, tuple([letters.index(letter) for letter in present]))
    extents = dict(zip(present, ordered.shape))
    return b.reshape(ordered, tuple([extents.get(letter, 1) for letter in all_letters]))


# Positions that are known when compiling.


class _Positions(NamedTuple):
    """What a key of arrays and whole slices picks: axes that are picked on, brought together, and flat positions."""

    order: Axes
    axis: int
    shape: tuple[int, ...]
    indices: np.ndarray


def _positions(key: tuple[Any, ...], shape: tuple[int, ...]) -> _Positions | None:
    """Return what a key picks, or None if it does more than to pick on some axes."""
    parts = list(key)
    if Ellipsis in [part for part in parts if not isinstance(part, np.ndarray)]:
        place = [part is Ellipsis for part in parts].index(True)
        parts[place : place + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    picked = [i for i, part in enumerate(parts) if isinstance(part, (np.ndarray, int)) and not isinstance(part, bool)]
    if any([part != slice(None) for i, part in enumerate(parts) if i not in picked]) or len(parts) != len(shape):
        return None
    if not any([isinstance(parts[i], np.ndarray) for i in picked]) or not prod(shape):
        return None
    together = picked == list(range(picked[0], picked[-1] + 1))
    others = [i for i in range(len(shape)) if i not in picked]
    axis = picked[0] if together else 0
    order = tuple([*others[:axis], *picked, *others[axis:]])
    extents = tuple([shape[i] for i in picked])
    forward = [np.where(np.asarray(parts[i]) < 0, np.asarray(parts[i]) + shape[i], parts[i]) for i in picked]
    indices = np.ravel_multi_index(tuple(np.broadcast_arrays(*forward)), extents)
    merged = (*[shape[i] for i in others[:axis]], prod(extents), *[shape[i] for i in others[axis:]])
    return _Positions(order, axis, merged, np.asarray(indices, np.int64))


@_expands("gather")
def _gather(b: Builder, x: Value, *, key: tuple[Any, ...]) -> Value | None:
    positions = _positions(key, x.shape)
    if positions is None:
        return None
    rows = b.reshape(b.permute(x, positions.order), positions.shape)
    return b.call("take_slices", rows, _constant(positions.indices), axis=positions.axis)


@_expands("scatter_add")
def _scatter_add(b: Builder, x: Value, value: Value, *, key: tuple[Any, ...]) -> Value | None:
    positions = _positions(key, x.shape)
    if positions is None or not isinstance(value, Value) or value.dtype != x.dtype:
        return None
    axis, shape, indices = positions.axis, positions.shape, positions.indices
    region = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
    if len(value.shape) > len(region):
        return None
    values = value if value.shape == region else b.call("stretch", value, shape=region)
    rows = b.reshape(b.permute(x, positions.order), shape)
    summed = b.call("add_at", rows, _constant(indices), values, axis=axis)
    back = tuple([positions.order.index(i) for i in range(len(x.shape))])
    return b.permute(b.reshape(summed, tuple([x.shape[i] for i in positions.order])), back)


EXPANSIONS.update({"embed": expand_regions.embed, "write_region": expand_regions.write_region})
EXPANSIONS.update({"attend": expand_attention.attend, "attend_pull": expand_attention.attend_pull})


def _constant(array: np.ndarray) -> Value:
    return Value(array.shape, array.dtype, array)
