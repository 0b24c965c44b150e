"""Calls of public functions that are no records of their own: wrappers of operations, methods, layers, NumPy's names.

Each is a plain function of Tensors with a sample of how it is called, in the form of a composite, so that the checks of
the suite that go through the public transforms can be run on it. References are NumPy's and SciPy's, where they have
one of the same meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

import wengert as wg
from wengert.declare import Sample
from wengert.declare.opaque import Composite

F = wg.nn.functional
CALLS: dict[str, Composite] = {}


def call(name: str, function: Callable[..., Any], *arrays: Any, reference: Any = None, **options: Any) -> None:
    """Add a call: shapes to be filled with random numbers, or makers of arrays."""
    assert name not in CALLS, name

    def named(*given: Any) -> Any:
        return function(*given)

    named.__name__ = name
    record = {"samples": [Sample(*arrays, **options)], "domain": None, "reference": reference, "special": ()}
    CALLS[name] = Composite(named, record)


def indices(count: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    def index_array(rng: np.random.Generator) -> np.ndarray:
        return np.asarray(rng.integers(0, count, shape))

    return index_array


def order(count: int, rows: int) -> Callable[[np.random.Generator], np.ndarray]:
    def order_array(rng: np.random.Generator) -> np.ndarray:
        return np.stack([rng.permutation(count) for _ in range(rows)])

    return order_array


def mask(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    def mask_array(rng: np.random.Generator) -> np.ndarray:
        return np.asarray(rng.random(shape) < 0.5)

    return mask_array


def triangle(rng: np.random.Generator) -> np.ndarray:
    return np.tri(3, 4, 1, dtype=np.bool_)


def probabilities(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    def probability_array(rng: np.random.Generator) -> np.ndarray:
        raw = rng.uniform(0.1, 1, shape)
        return raw / raw.sum(axis=-1, keepdims=True)

    return probability_array


BOTH = ((3, 4), (3, 4))
POSITIVE: dict[str, Any] = {"interval": (0.5, 2.0)}

# Reductions and moments: every spelling of the axis.
for which, axis in (("all", None), ("first", 0), ("last", -1), ("both", (0, -1))):
    for name in ("sum", "mean", "max", "min", "prod", "std", "var"):
        options: Any = {"distinct": name in ("max", "min"), "interval": (-2.0, 2.0)}
        op: Any = getattr(wg, name)
        call(
            f"{name}-{which}",
            lambda x, op=op, axis=axis: op(x, axis=axis),
            (2, 3, 4),
            reference=lambda x, name=name, axis=axis: getattr(np, name)(x, axis=axis),
            **options,
        )
    call(
        f"logsumexp-{which}",
        lambda x, axis=axis: wg.logsumexp(x, axis=axis, keepdims=True),
        (2, 3, 4),
        reference=lambda x, axis=axis: scipy.special.logsumexp(x, axis=axis, keepdims=True),
    )
    call(
        f"vector_norm-{which}",
        lambda x, axis=axis: wg.vector_norm(x, axis=axis),
        (2, 3, 4),
        reference=lambda x, axis=axis: np.linalg.vector_norm(x, axis=axis),
    )
call(
    "var-ddof",
    lambda x: wg.var(x, axis=1, ddof=1, keepdims=True),
    (3, 4),
    reference=lambda x: np.var(x, axis=1, ddof=1, keepdims=True),
)
call("std-method", lambda x: x.std(0), (3, 4), reference=lambda x: np.std(x, 0))
call("norm-method", lambda x: x.norm(), (3, 4), reference=np.linalg.norm)
call("vector_norm-one", lambda x: wg.vector_norm(x, ord=1, axis=0), (3, 4), distinct=True)
call("vector_norm-three", lambda x: wg.vector_norm(x, ord=3, axis=0), (3, 4), distinct=True)
call("vector_norm-infinite", lambda x: wg.vector_norm(x, ord=np.inf, axis=0), (3, 4), distinct=True)
call("ptp", lambda x: wg.ptp(x, axis=1), (3, 4), distinct=True, reference=lambda x: np.ptp(x, axis=1))
call("amax", lambda x: wg.amax(x, 0), (3, 4), distinct=True, reference=lambda x: np.max(x, 0))
call("amin", lambda x: wg.amin(x, 0), (3, 4), distinct=True, reference=lambda x: np.min(x, 0))
call(
    "percentile",
    lambda x: wg.percentile(x, [10.0, 50.0], axis=1),
    (3, 5),
    distinct=True,
    reference=lambda x: np.percentile(x, [10, 50], axis=1),
)
call("quantile-all", lambda x: wg.quantile(x, 0.3), (3, 5), distinct=True, reference=lambda x: np.quantile(x, 0.3))
call(
    "quantile-lower",
    lambda x: wg.quantile(x, [0.3, 0.9], axis=0, method="lower", keepdims=True),
    (5, 2),
    distinct=True,
    reference=lambda x: np.quantile(x, [0.3, 0.9], axis=0, method="lower", keepdims=True),
)
call("median-all", wg.median, (3, 5), distinct=True, reference=np.median)
call(
    "average-weighted",
    lambda x, w: wg.average(x, axis=0, weights=w),
    (3, 4),
    (3,),
    **POSITIVE,
    reference=lambda x, w: np.average(x, axis=0, weights=w),
)
call("cumsum", lambda x: wg.cumsum(x, axis=1), (3, 4), reference=lambda x: np.cumsum(x, 1))
call("cumsum-flat", lambda x: wg.cumsum(x), (3, 4), reference=np.cumsum)
call("cumprod", lambda x: wg.cumprod(x, axis=0), (3, 4), reference=lambda x: np.cumprod(x, 0))
call(
    "cumulative_sum",
    lambda x: wg.cumulative_sum(x, axis=1, include_initial=True),
    (3, 4),
    reference=lambda x: np.cumulative_sum(x, axis=1, include_initial=True),
)
call(
    "cumulative_prod",
    lambda x: wg.cumulative_prod(x, axis=1),
    (3, 4),
    reference=lambda x: np.cumulative_prod(x, axis=1),
)

# Sorting, choosing, searching.
call("sort", lambda x: wg.sort(x, axis=0), (4, 3), distinct=True, reference=lambda x: np.sort(x, 0))
call("sort-descending", lambda x: wg.sort(x, descending=True), (3, 4), distinct=True, reference=lambda x: -np.sort(-x))
call("argsort", lambda x: wg.argsort(x, axis=0), (4, 3), distinct=True, reference=lambda x: np.argsort(x, 0))
call("argpartition", lambda x: wg.take_along_axis(x, wg.argpartition(x, 1, axis=1), 1)[:, 1], (3, 4), distinct=True)
call("argmax", lambda x: wg.argmax(x, axis=1), (3, 4), distinct=True, reference=lambda x: np.argmax(x, 1))
call("argmin-all", lambda x: wg.argmin(x), (3, 4), distinct=True, reference=np.argmin)
call(
    "max-at-argmax", lambda x: wg.take_along_axis(x, wg.expand_dims(wg.argmax(x, axis=1), 1), 1), (3, 4), distinct=True
)
call("read-at-argmax", lambda x: x[wg.arange(3), wg.argmax(x, axis=1)], (3, 4), distinct=True)
call("searchsorted", lambda x, v: wg.searchsorted(wg.sort(x), v) * v, (4,), (3,), distinct=True)
call("topk-values", lambda x: wg.topk(x, 2)[0], (3, 4), distinct=True, reference=lambda x: -np.sort(-x)[:, :2])
call("clip", lambda x: wg.clip(x, -0.7, 0.9), (3, 4), reference=lambda x: np.clip(x, -0.7, 0.9))
call("clip-between", wg.clip, (3, 4), (), (3, 1), distinct=True)
call("clip-method", lambda x: x.clip(-0.7), (3, 4), reference=lambda x: np.clip(x, -0.7, None))
call("where-mask", lambda c, x, y: wg.where(c, x, y), mask(3, 4), *BOTH, reference=np.where)
call("where-branch", lambda x: wg.where(x > 0, wg.log(x), x), (3, 4))
call("round", lambda x: wg.round(x, 1) + x, (3, 4))
call("isclose", lambda x, y: wg.isclose(x, y), *BOTH, reference=np.isclose)
call("allclose", lambda x, y: wg.where(wg.less(x, y).all(), x, y), *BOTH)
call("any-all", lambda x: wg.where(wg.any(x > 0, axis=0), x, -x), (3, 4))
call("count_nonzero", lambda x: wg.count_nonzero(x > 0, axis=0) * x, (3, 4))

# Shapes.
call("reshape", lambda x: wg.reshape(x, (4, -1)), (3, 4), reference=lambda x: x.reshape(4, -1))
call("reshape-method", lambda x: x.reshape(2, 6), (3, 4), reference=lambda x: x.reshape(2, 6))
call("ravel", lambda x: wg.ravel(x) * x.flatten(), (3, 4))
call("transpose", lambda x: wg.transpose(x, (2, 0, 1)), (2, 3, 4), reference=lambda x: x.transpose(2, 0, 1))
call("transpose-method", lambda x: x.T @ x, (3, 4), reference=lambda x: x.T @ x)
call("matrix_transpose", lambda x: wg.matrix_transpose(x) * x.mT, (2, 3, 4))
call("permute_dims", lambda x: wg.permute_dims(x, (1, 2, 0)), (2, 3, 4))
call("moveaxis", lambda x: wg.moveaxis(x, 0, -1), (2, 3, 4), reference=lambda x: np.moveaxis(x, 0, -1))
call("rollaxis", lambda x: wg.rollaxis(x, 2), (2, 3, 4), reference=lambda x: np.rollaxis(x, 2))
call("swapaxes", lambda x: wg.swapaxes(x, 0, -1), (2, 3, 4), reference=lambda x: np.swapaxes(x, 0, -1))
call("squeeze", lambda x: wg.squeeze(x, 1) + wg.squeeze(x), (3, 1, 4))
call("expand_dims", lambda x: wg.expand_dims(x, (0, -1)), (3, 4), reference=lambda x: np.expand_dims(x, (0, -1)))
call("broadcast_to", lambda x: wg.broadcast_to(x, (2, 3, 4)), (3, 1), reference=lambda x: np.broadcast_to(x, (2, 3, 4)))
call("broadcast_arrays", lambda x, y: tuple(wg.broadcast_arrays(x, y)), (3, 1), (4,))
call("flip", lambda x: wg.flip(x) + wg.flip(x, 0), (3, 4), reference=lambda x: np.flip(x) + np.flip(x, 0))
call("fliplr-flipud", lambda x: wg.fliplr(x) * wg.flipud(x), (3, 4), reference=lambda x: np.fliplr(x) * np.flipud(x))
call("rot90", lambda x: wg.rot90(x, 3), (3, 4), reference=lambda x: np.rot90(x, 3))
call(
    "roll",
    lambda x: wg.roll(x, 2) * wg.roll(x, (1, 2), (0, 1)),
    (3, 4),
    reference=lambda x: np.roll(x, 2) * np.roll(x, (1, 2), (0, 1)),
)
call("diagonal", lambda x: wg.diagonal(x, 1), (3, 4), reference=lambda x: np.diagonal(x, 1))
call("diag", lambda x: wg.diag(x, 1), (3,), reference=lambda x: np.diag(x, 1))
call("diag-of-matrix", lambda x: wg.diag(x, -1), (3, 4), reference=lambda x: np.diag(x, -1))
call("diagflat", lambda x: wg.diagflat(x, 1), (2, 2), reference=lambda x: np.diagflat(x, 1))
call("tril-triu", lambda x: wg.tril(x) @ wg.triu(x, 1), (3, 3), reference=lambda x: np.tril(x) @ np.triu(x, 1))
call("tile-method", lambda x: x.tile(2), (3, 4), reference=lambda x: np.tile(x, 2))
call("repeat-method", lambda x: x.repeat(2, 1), (3, 4), reference=lambda x: np.repeat(x, 2, 1))
call("meshgrid", lambda x, y: tuple(wg.meshgrid(x, y, indexing="ij")), (3,), (4,))

# Joining and splitting.
call(
    "concatenate", lambda x, y: wg.concatenate([x, y], axis=1), *BOTH, reference=lambda x, y: np.concatenate([x, y], 1)
)
call(
    "concat-flat",
    lambda x, y: wg.concat([x, y], axis=None),
    (3, 4),
    (2,),
    reference=lambda x, y: np.concatenate([x, y], None),
)
call("stack", lambda x, y: wg.stack([x, y], axis=-1), *BOTH, reference=lambda x, y: np.stack([x, y], -1))
call("stack-of-numbers", lambda x, y: wg.stack([x.sum(), y[0, 0] * y[1, 1]]), *BOTH)
call("hstack-vstack", lambda x, y: wg.hstack([x, y]) @ wg.vstack([x.T, y.T]), *BOTH)
call("dstack", lambda x, y: wg.dstack([x, y]), *BOTH, reference=lambda x, y: np.dstack([x, y]))
call("column_stack", lambda x, y: wg.column_stack([x, y]), (3,), (3, 2), reference=lambda x, y: np.column_stack([x, y]))
call("row_stack", lambda x, y: wg.row_stack([x, y]), (3,), (2, 3), reference=lambda x, y: np.vstack([x, y]))
call("block", lambda x, y: wg.block([[x, y], [y, x]]), *BOTH, reference=lambda x, y: np.block([[x, y], [y, x]]))
call("append", lambda x, y: wg.append(x, y, axis=0), *BOTH, reference=lambda x, y: np.append(x, y, 0))
call("split", lambda x: tuple(wg.split(x, 2, axis=1)), (3, 4))
call("split-at", lambda x: tuple(wg.split(x, [1, 3], axis=1)), (3, 4))
call("array_split", lambda x: tuple(wg.array_split(x, 3, axis=1)), (3, 4))
call("hsplit-vsplit", lambda x: (*wg.hsplit(x, 2), *wg.vsplit(x, 3)), (3, 4))
call("unstack", lambda x: wg.unstack(x, axis=1), (3, 4))
call("unstack-method", lambda x: x.unstack(), (3, 4))
call("iteration", lambda x: tuple(row * k for k, row in enumerate(x, 1)), (3, 4))
call("unpacking", lambda x: (lambda a, b, c: a * b + c)(*x), (3, 4))
call("tensor-of-tensors", lambda x: wg.asarray([[x[0], x[1] * 2], [x[2], x[0]]]), (3,))

# Reading.
call("row", lambda x: x[1] * x[-1], (3, 4), reference=lambda x: x[1] * x[-1])
call("slices", lambda x: x[::-1, 1::2] * x[:, :2], (3, 4), reference=lambda x: x[::-1, 1::2] * x[:, :2])
call(
    "new-axes",
    lambda x: x[:, None, ..., 0] * x[None, 0, :, 1],
    (3, 4, 2),
    reference=lambda x: x[:, None, ..., 0] * x[None, 0, :, 1],
)
call("one-entry", lambda x: x[1, 2] * x, (3, 4), reference=lambda x: x[1, 2] * x)
call("repeated-rows", lambda x: x[[0, 2, 0]], (3, 4), reference=lambda x: x[[0, 2, 0]])
call("rows-by-index", lambda x, i: x[i], (3, 4), indices(3, 5), reference=lambda x, i: x[i])
call("column-by-index", lambda x, i: x[:, i], (3, 4), indices(4, 2, 2), reference=lambda x, i: x[:, i])
call("pairs-by-index", lambda x, i, j: x[i, j], (3, 4), indices(3, 5), indices(4, 5), reference=lambda x, i, j: x[i, j])
call(
    "outer-by-index",
    lambda x, i, j: x[i[:, None], j],
    (3, 4),
    indices(3, 2),
    indices(4, 5),
    reference=lambda x, i, j: x[i[:, None], j],
)
call(
    "split-indices",
    lambda x, i, j: x[i, :, j],
    (3, 2, 4),
    indices(3, 5),
    indices(4, 5),
    reference=lambda x, i, j: x[i, :, j],
)
call("index-of-no-axes", lambda x, i: x[i], (3, 4), indices(3), reference=lambda x, i: x[i])
call(
    "index-of-no-axes-after-slice", lambda x, i: x[:, i, None], (3, 4), indices(4), reference=lambda x, i: x[:, i, None]
)
call(
    "masked-read",
    lambda x: wg.where(wg.asarray([True, False, True, True]), x, 0.0)[:, [True, False, True, True]],
    (3, 4),
)
call("take", lambda x, i: wg.take(x, i, axis=1), (3, 4), indices(4, 2), reference=lambda x, i: np.take(x, i, 1))
call("take-flat", lambda x, i: wg.take(x, i), (3, 4), indices(12, 2, 2), reference=np.take)
call(
    "take_along_axis",
    lambda x, i: wg.take_along_axis(x, i, 1),
    (3, 4),
    order(4, 3),
    reference=lambda x, i: np.take_along_axis(x, i, 1),
)
call("bincount-weights", lambda i, w: wg.bincount(i, weights=w, minlength=4), lambda rng: np.array([3, 0, 1, 1]), (4,))

# Writing in place: into a copy, through views, under masks, with operators and out=.


def written(write: Callable[..., Any]) -> Callable[..., Any]:
    def on_a_copy(x: Any, *others: Any) -> Any:
        y = x * 1.0
        write(y, *others)
        return y

    return on_a_copy


def set_row(y: Any, v: Any) -> None:
    y[1] = v * y[0]


def set_slices(y: Any, v: Any) -> None:
    y[::2, 1:] = v[1:]


def set_view(y: Any, v: Any) -> None:
    row = y.T[1]
    row *= v
    y[0, 1] += row[2]


def set_reshaped(y: Any, v: Any) -> None:
    flat = y.reshape(-1)
    flat[::3] = v
    y *= 2.0


def set_transposed_rows(y: Any, v: Any) -> None:
    columns = y.T
    columns[0] += v
    columns[:2] *= columns[2:]


def set_by_index(y: Any, i: Any, v: Any) -> None:
    y[i] = v


def set_one_of_pairs(y: Any, i: Any, v: Any) -> None:
    y[wg.arange(3), i] = v


def set_by_mask(y: Any, v: Any) -> None:
    y[np.array([True, False, True])] = v


def overlap(y: Any) -> None:
    y[1:] = y[:-1]
    y[:, ::-1] -= y


def add_out(y: Any, v: Any) -> None:
    np.add(y, v, out=y)
    np.multiply(y[0], v, out=y[1])


def fill_and_zero(y: Any, v: Any) -> None:
    y[0].fill_(3.0)
    y[1].zero_()
    y[2].copy_(v)


def all_operators(y: Any, v: Any) -> None:
    y += v
    y -= 2.0 * v
    y *= y
    y /= 1.0 + v * v
    y **= 2


call("write-row", written(set_row), (3, 4), (4,))
call("write-slices", written(set_slices), (3, 4), (4,))
call("write-view", written(set_view), (3, 4), (3,))
call("write-reshaped", written(set_reshaped), (3, 4), (4,))
call("write-transposed", written(set_transposed_rows), (3, 4), (3,))
call("write-by-index", written(set_by_index), (3, 4), order(3, 1), (1, 3, 4))
call("write-pairs", written(set_one_of_pairs), (3, 4), indices(4, 3), (3,))
call("write-mask", written(set_by_mask), (3, 4), (2, 4))
call("write-overlap", written(overlap), (3, 4))
call("write-out", written(add_out), (3, 4), (4,))
call("write-fill", written(fill_and_zero), (3, 4), (4,))
call("write-operators", written(all_operators), (3, 4), (4,))
call("write-sorted", written(lambda y: y.sort()), (3, 4), distinct=True, reference=np.sort)
call("write-along_axis", written(lambda y, i, v: wg.put_along_axis(y, i, v, 1)), (3, 4), order(4, 3), (3, 4))


def table_of_powers(x: Any) -> Any:
    table = wg.zeros((4, *x.shape), dtype=x.dtype)
    table[0] = x
    for k in range(1, 4):
        table[k] = table[k - 1] * x
    return table


def from_numpy(x: Any) -> Any:
    table = wg.asarray(np.ones((2, 3)))
    table[0] = x
    table[1] *= x
    return table


call("write-into-zeros", table_of_powers, (3,), reference=lambda x: x ** np.arange(1, 5)[:, None])
call("write-into-an-array", lambda x: from_numpy(x.astype("float64")), (3,), reference=lambda x: np.stack([x, x]))

# Making.
call("like", lambda x: wg.zeros_like(x) + wg.ones_like(x) * x + wg.full_like(x, 2.0), (3, 4), reference=lambda x: x + 2)
call("full-of-a-tensor", lambda x: wg.stack([x, x * x, x]) + wg.full((3,), 2.0), ())
call("integer-and-back", lambda x: x * x.astype("int64").astype(x.dtype), (3, 4), interval=(0.05, 0.95))
call("clone-copy", lambda x: x.clone() * x.copy(), (3, 4), reference=lambda x: x * x)
call(
    "detached-factor", lambda x: x * wg.stop_gradient(wg.ones_like(x)) + x.detach() * 0.0, (3, 4), reference=lambda x: x
)

# Products.
for name, shapes in {
    "vectors": ((3,), (3,)),
    "matrix-vector": ((2, 3), (3,)),
    "vector-matrix": ((3,), (3, 2)),
    "matrices": ((2, 3), (3, 4)),
    "batched": ((5, 2, 3), (5, 3, 4)),
    "broadcast": ((5, 1, 2, 3), (2, 3, 4)),
    "matrix-batch": ((2, 3), (5, 3, 4)),
    "vector-batch": ((3,), (5, 3, 4)),
    "batch-vector": ((5, 2, 3), (3,)),
}.items():
    call(f"matmul-{name}", wg.matmul, *shapes, reference=np.matmul)
    call(f"einsum-like-{name}", lambda x, y: (x @ y) * 2.0, *shapes, reference=lambda x, y: 2 * (x @ y))
call("dot-method", lambda x, y: x.dot(y), (3,), (3,), reference=np.dot)
call(
    "tensordot-two",
    lambda x, y: wg.tensordot(x, y, 2),
    (2, 3, 4),
    (3, 4, 5),
    reference=lambda x, y: np.tensordot(x, y, 2),
)
call("outer-power", lambda x, y: wg.outer(x, y) ** 2, (3,), (2,), reference=lambda x, y: np.outer(x, y) ** 2)
call(
    "power-of-numbers",
    lambda x: x**2 + x**3 + x**-1 + x**0.5 + 2.0**x,
    (3, 4),
    **POSITIVE,
    reference=lambda x: x**2 + x**3 + 1 / x + x**0.5 + 2.0**x,
)
call("reflected", lambda x: 1.0 - x + 2.0 / x - (3.0 // 2.0) * x, (3, 4), **POSITIVE)
call("modulo", lambda x: x % 0.7 + x // 3.0, (3, 4), interval=(0.05, 0.6))

# NumPy's names.
call("numpy-functions", lambda x, y: np.sin(x) * np.concatenate([y, x]).sum() + np.where(x > 0, x, y), *BOTH)
call("numpy-methods", lambda x: np.mean(x, axis=0) + np.max(x, axis=0) * np.linalg.norm(x), (3, 4), distinct=True)
call(
    "numpy-operands",
    lambda x: np.arange(4.0) * x + np.float64(2.0) * x,
    (3, 4),
    reference=lambda x: np.arange(4.0) * x + 2 * x,
)

# Neural networks.
call("softmax", lambda x: wg.softmax(x, axis=0), (3, 4), reference=lambda x: scipy.special.softmax(x, 0))
call("log_softmax", lambda x: wg.log_softmax(x), (3, 4), reference=lambda x: scipy.special.log_softmax(x, -1))
call("softmax-method", lambda x: x.softmax(-1) * x.log_softmax(-1), (3, 4))
for name in ("relu", "sigmoid", "tanh", "gelu", "silu", "elu", "leaky_relu", "softplus", "log_sigmoid"):
    call(f"nn-{name}", getattr(F, name), (3, 4))
call("nn-normalize", F.normalize, (3, 4))
call("nn-layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b), (3, 4), (4,), (4,))
call("nn-layer_norm-bare", lambda x: F.layer_norm(x, (3, 4)), (2, 3, 4))
call("nn-linear", F.linear, (3, 4), (2, 4), (2,), reference=lambda x, w, b: x @ w.T + b)
call("nn-linear-bare", F.linear, (4,), (2, 4), reference=lambda x, w: x @ w.T)
call("nn-mse_loss", F.mse_loss, *BOTH, reference=lambda x, y: np.mean((x - y) ** 2))
call("nn-mse_loss-none", lambda x, y: F.mse_loss(x, y, reduction="none"), *BOTH)
call("nn-l1_loss", F.l1_loss, *BOTH, reference=lambda x, y: np.mean(np.abs(x - y)))
call("nn-huber_loss", F.huber_loss, *BOTH)
call("nn-smooth_l1_loss", F.smooth_l1_loss, *BOTH)
call("nn-bce", F.binary_cross_entropy_with_logits, (3, 4), lambda rng: rng.uniform(0.1, 0.9, (3, 4)))
call("nn-cross_entropy", F.cross_entropy, (3, 4), indices(4, 3))
call("nn-cross_entropy-one", F.cross_entropy, (4,), indices(4))
call(
    "nn-cross_entropy-smoothed",
    lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1, reduction="sum"),
    (3, 4),
    indices(4, 3),
)
call("nn-cross_entropy-soft", F.cross_entropy, (3, 4), probabilities(3, 4))
call("nn-cross_entropy-none", lambda x, y: F.cross_entropy(x, y, reduction="none"), (3, 4), indices(4, 3))
call("nn-nll_loss", lambda x, y: F.nll_loss(wg.log_softmax(x), y), (3, 4), indices(4, 3))
call("nn-embedding", lambda i, w: F.embedding(i, w), indices(3, 2, 2), (3, 4), reference=lambda i, w: w[i])
call("nn-one_hot", lambda i, w: F.one_hot(i, 3).astype(w.dtype) @ w, indices(3, 2), (3, 4), reference=lambda i, w: w[i])
call("nn-batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), (3, 2, 2), (2,), (2,))
call(
    "nn-batch_norm-evaluation",
    lambda x, mean, variance, w, b: F.batch_norm(x, mean, variance, w, b),
    *((3, 2, 2), (2,), (2,), (2,), (2,)),
    reference=lambda x, m, v, w, b: (x - m[:, None]) / np.sqrt(v[:, None] + 1e-5) * w[:, None] + b[:, None],
    **POSITIVE,
)
call("nn-attention", F.scaled_dot_product_attention, (2, 3, 2), (2, 4, 2), (2, 4, 2), triangle)
call(
    "nn-lstm_cell", lambda x, h, c, w, v: wg.stack(F.lstm_cell(x, (h, c), w, v)), (2, 3), (2, 2), (2, 2), (8, 3), (8, 2)
)
call(
    "nn-lstm_sequence", lambda x, w, v, b: F.lstm_sequence(x, (x[0], x[1]), w, v, b)[0], (3, 2, 2), (8, 2), (8, 2), (8,)
)
