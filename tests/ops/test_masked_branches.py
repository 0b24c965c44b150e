"""What is masked out contributes exactly zero, however bad its local derivative; what is not masked out still shows.

Each function here meets rows where its value or its derivative is infinite or NaN, and each mask drops these rows after
the function was computed. Gradients must be those of the compacted problem, which never saw the rows: in the first
order and in the second, finite, exactly zero on the dropped rows, and without a warning from the sweep.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg

INF, NAN = np.inf, np.nan
ROWS = np.array([[0.3, 0.8, 0.5], [0.9, 0.2, 0.7], [0.4, 0.6, 0.1]])
SCALARS = ROWS[:, 0]


def rows_of(*bad: Any) -> tuple[np.ndarray, np.ndarray]:
    return ROWS, np.array([np.broadcast_to(b, 3) for b in bad], float)


def scalars_of(*bad: float) -> tuple[np.ndarray, np.ndarray]:
    return SCALARS, np.array(bad)


def first(x: Any) -> Any:
    return x[..., 0]


def second(x: Any) -> Any:
    return x[..., 1]


# name: (function of an array whose first axis is masked, good rows, bad rows)
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], tuple[np.ndarray, np.ndarray]]] = {
    "sqrt": (wg.sqrt, scalars_of(0, -1, NAN)),
    "log": (wg.log, scalars_of(0, -1, NAN)),
    "log2": (wg.log2, scalars_of(0, -1)),
    "log10": (wg.log10, scalars_of(0, -1)),
    "log1p": (wg.log1p, scalars_of(-1, -2)),
    "one over x": (lambda x: 1 / x, scalars_of(0, NAN)),
    "reciprocal": (wg.reciprocal, scalars_of(0)),
    "x over y": (lambda x: first(x) / second(x), rows_of(0, [1, 0, 0], NAN)),
    "x ** 0.5": (lambda x: x**0.5, scalars_of(0, -1)),
    "x ** -1.5": (lambda x: x**-1.5, scalars_of(0, -1)),
    "x ** y": (lambda x: first(x) ** second(x), rows_of(0, [-1, 0.5, 0], [0, -1, 0])),
    "2 ** x": (lambda x: 2.0**x, scalars_of(1e5, INF)),
    "exp": (wg.exp, scalars_of(1e4, INF)),
    "expm1": (wg.expm1, scalars_of(1e4, INF)),
    "arcsin": (wg.arcsin, scalars_of(1, -1, 2)),
    "arccos": (wg.arccos, scalars_of(1, -1, 2)),
    "arccosh": (lambda x: wg.arccosh(x + 1), scalars_of(0, -1)),
    "arctanh": (wg.arctanh, scalars_of(1, -1, 2)),
    "arctan2": (lambda x: wg.arctan2(first(x), second(x)), rows_of(0, NAN)),
    "hypot": (lambda x: wg.hypot(first(x), second(x)), rows_of(0, INF)),
    "tan": (wg.tan, scalars_of(INF, NAN)),
    "sinh": (wg.sinh, scalars_of(1e4)),
    "x log x": (lambda x: x * wg.log(x), scalars_of(0, -1)),
    "log of sqrt": (lambda x: wg.log(wg.sqrt(x)), scalars_of(0, -1)),
    "sqrt of exp": (lambda x: wg.sqrt(wg.exp(x)), scalars_of(1e4)),
    "logaddexp": (lambda x: wg.logaddexp(first(x), second(x)), rows_of(-INF, INF)),
    "norm": (lambda x: wg.norm(x, axis=-1), rows_of(0, INF, NAN)),
    "norm by hand": (lambda x: wg.sqrt(wg.sum(x * x, axis=-1)), rows_of(0, INF, NAN)),
    "x over its norm": (lambda x: first(x / wg.norm(x, axis=-1, keepdims=True)), rows_of(0, INF)),
    "x over its norm by hand": (lambda x: first(x / wg.sqrt(wg.sum(x * x, axis=-1, keepdims=True))), rows_of(0, INF)),
    "logsumexp": (lambda x: wg.logsumexp(x, axis=-1), rows_of(-INF, INF, NAN)),
    "logsumexp by hand": (lambda x: wg.log(wg.sum(wg.exp(x), axis=-1)), rows_of(-INF, INF, 1e4)),
    "log of a sum": (lambda x: wg.log(wg.sum(x, axis=-1)), rows_of(0, [1, -1, 0])),
    "mean of logs": (lambda x: wg.mean(wg.log(x), axis=-1), rows_of(0, [0.5, 0, 0.5])),
    "std": (lambda x: wg.std(x, axis=-1), rows_of(0.5, INF, NAN)),
    "x over its std": (lambda x: first(x) / wg.std(x, axis=-1), rows_of(0.5, INF)),
    "var": (lambda x: wg.var(x, axis=-1), rows_of(INF, NAN)),
    "prod": (lambda x: wg.prod(x, axis=-1), rows_of(INF, [0, INF, 1])),
    "max": (lambda x: wg.max(x, axis=-1), rows_of(NAN, INF)),
    "cumsum": (lambda x: second(wg.cumsum(x, axis=-1)), rows_of(NAN, INF)),
    "cumprod": (lambda x: second(wg.cumprod(x, axis=-1)), rows_of(NAN, [0, INF, 1])),
    "softmax": (lambda x: first(wg.softmax(x, axis=-1)), rows_of(-INF, INF, NAN)),
    "log_softmax": (lambda x: first(wg.log_softmax(x, axis=-1)), rows_of(-INF, INF, NAN)),
    "entropy": (lambda x: wg.sum(wg.softmax(x, axis=-1) * wg.log_softmax(x, axis=-1), axis=-1), rows_of(-INF, NAN)),
    "sigmoid": (wg.sigmoid, scalars_of(NAN)),
    "log of sigmoid": (lambda x: wg.log(wg.sigmoid(x)), scalars_of(-1e4, -INF)),
    "absolute": (lambda x: wg.sqrt(wg.absolute(x)), scalars_of(0, INF)),
    "where within": (lambda x: wg.where(x > 10, x, wg.log(x)), scalars_of(0, -1)),
    "matmul": (lambda x: first(x @ np.array([[1.0, 2], [0.5, -1], [3, 0.2]])), rows_of(NAN, INF)),
}


def keep_of(good: int, bad: int) -> np.ndarray:
    return np.arange(good + bad) < good


# name: (the values with those dropped that are not to be kept; what of the result is left after compaction)
MASKS: dict[str, Callable[[Any, np.ndarray], Any]] = {
    "where": lambda y, keep: wg.where(keep, y, 0.0),
    "where, of a scalar": lambda y, keep: wg.where(keep, y, wg.tensor(0.0, dtype=y.dtype)),
    "boolean index": lambda y, keep: y[keep],
    "integer index": lambda y, keep: y[keep.nonzero()[0]],
    "slice": lambda y, keep: y[: keep.sum()],
    "take": lambda y, keep: wg.take(y, keep.nonzero()[0]),
    "masked sum": lambda y, keep: wg.sum(y, where=keep),
    "masked mean": lambda y, keep: wg.mean(y, where=keep) * keep.sum(),
    "written over": lambda y, keep: _written_over(y, ~keep),
    "row by row": lambda y, keep: wg.stack([y[i] for i in keep.nonzero()[0]]),
    "split": lambda y, keep: wg.split(y, [int(keep.sum())])[0],
    "sorted away": lambda y, keep: wg.take_along_axis(y, keep.nonzero()[0], axis=0),
}


def _written_over(y: Any, dropped: np.ndarray) -> Any:
    y = y.clone()
    y[dropped] = 0.0
    return y


def problem(function: Callable[[Any], Any], mask: Callable[[Any, np.ndarray], Any]) -> Callable[..., Any]:
    """Return the loss as a function of the data and of which rows to keep."""

    def loss(x: Any, keep: np.ndarray) -> Any:
        weights = np.cos(np.arange(len(keep)))
        return wg.sum(mask(function(x) * weights, keep))

    return loss


def gradient_taken(x: Any) -> Any:
    gradient, x.grad = x.grad, None
    return gradient


def slopes(
    loss: Callable[..., Any], data: np.ndarray, keep: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient, and the gradient of a weighted sum of the gradient; the sweeps must not warn."""
    if weights is None:
        weights = np.sin(1 + np.arange(data.size)).reshape(data.shape)
    x: Any = wg.tensor(data, requires_grad=True)
    with np.errstate(all="ignore"):
        value = loss(x, keep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value.backward(retain_graph=True)
        plain = gradient_taken(x).numpy()
        value.backward(create_graph=True)
        recorded = gradient_taken(x)
        np.testing.assert_allclose(recorded.detach().numpy(), plain, rtol=1e-12, atol=1e-12)
        if recorded.requires_grad:
            wg.sum(recorded * weights).backward()
    return plain, np.zeros_like(plain) if x.grad is None else x.grad.numpy()


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_are_those_of_the_compacted_problem(name: str, mask: str) -> None:
    function, (good, bad) = FUNCTIONS[name]
    loss = problem(function, MASKS[mask])
    keep = keep_of(len(good), len(bad))
    expected = slopes(loss, good, keep[: len(good)])
    found = slopes(loss, np.concatenate([good, bad]), keep)
    for order, (want, got) in enumerate(zip(expected, found), start=1):
        np.testing.assert_allclose(got[keep], want, rtol=1e-9, atol=1e-12, err_msg=f"order {order}")
        np.testing.assert_array_equal(got[~keep], 0.0, err_msg=f"order {order}, masked out")


# Masks that choose by value: they drop infinities, which they meet as values.

BY_VALUE: dict[str, Callable[[Any], Any]] = {
    "minimum": lambda y: wg.minimum(y, 50.0),
    "maximum": lambda y: wg.maximum(y, -50.0),
    "clip": lambda y: wg.clip(y, -50.0, 50.0),
    "clip by arrays": lambda y: wg.clip(y, np.full(y.shape, -50.0), np.full(y.shape, 50.0)),
    "nan_to_num": wg.nan_to_num,
    "nan_to_num, of chosen values": lambda y: wg.nan_to_num(y, nan=0.0, posinf=1.0, neginf=-1.0),
    "relu of 50 - y": lambda y: wg.nn.functional.relu(50.0 - y),
    "relu of 50 + y": lambda y: wg.nn.functional.relu(50.0 + y),
    "where it is finite": lambda y: wg.where(wg.isfinite(y), y, 0.0),
    "fmin": lambda y: wg.fmin(y, 50.0),
}
TO_PLUS_INFINITY = ("minimum", "clip", "clip by arrays", "nan_to_num", "relu of 50 - y", "fmin")
TO_MINUS_INFINITY = ("maximum", "clip", "clip by arrays", "nan_to_num", "relu of 50 + y")
TO_NAN = ("nan_to_num", "nan_to_num, of chosen values", "where it is finite", "fmin")


@pytest.mark.parametrize(
    ("mask", "name", "bad"),
    [
        *((mask, "one over x", 0.0) for mask in TO_PLUS_INFINITY),
        *((mask, "exp", 1e4) for mask in TO_PLUS_INFINITY),
        *((mask, "log", 0.0) for mask in TO_MINUS_INFINITY),
        *((mask, "arctanh", -1.0) for mask in TO_MINUS_INFINITY),
        *((mask, "log of sqrt", 0.0) for mask in TO_MINUS_INFINITY),
        *((mask, "sqrt", -1.0) for mask in TO_NAN),
        *((mask, "arcsin", 2.0) for mask in TO_NAN),
        *((mask, "x ** 0.5", -1.0) for mask in TO_NAN),
        *(("nan_to_num, of chosen values", name, 0.0) for name in ("log", "one over x", "x ** -1.5")),
        *(("where it is finite", name, 0.0) for name in ("log", "one over x", "x ** -1.5")),
    ],
)
def test_masks_that_choose_by_value(mask: str, name: str, bad: float) -> None:
    function = FUNCTIONS[name][0]

    def loss(x: Any, keep: np.ndarray) -> Any:
        return wg.sum(BY_VALUE[mask](function(x)) * np.cos(np.arange(len(keep))))

    keep = keep_of(3, 1)
    expected = slopes(loss, SCALARS, keep[:3])
    found = slopes(loss, np.append(SCALARS, bad), keep)
    for want, got in zip(expected, found):
        np.testing.assert_allclose(got[:3], want, rtol=1e-9, atol=1e-12)
        assert got[3] == 0


REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": wg.sum,
    "mean": wg.mean,
    "prod": wg.prod,
    "var": wg.var,
    "std": wg.std,
    "logsumexp": wg.logsumexp,
    "max": lambda x, axis, **where: wg.max(x, axis=axis, **({"initial": -10.0, **where} if where else {})),
    "min": lambda x, axis, **where: wg.min(x, axis=axis, **({"initial": 10.0, **where} if where else {})),
}


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_masked_reductions_never_see_what_is_masked(name: str, bad: float) -> None:
    """Here the bad elements are among those that are reduced, and `where=` leaves them out."""
    reduce = REDUCTIONS[name]
    data = np.insert(ROWS, [0, 2], bad, axis=1)
    keep = np.array([False, True, True, False, True])

    def masked(x: Any, keep: np.ndarray) -> Any:
        return wg.sum(reduce(x, axis=1, where=keep) * np.array([1.0, -2.0, 0.5]))

    def compacted(x: Any, _keep: np.ndarray) -> Any:
        return wg.sum(reduce(x, axis=1) * np.array([1.0, -2.0, 0.5]))

    weights = np.sin(np.arange(15)).reshape(3, 5)
    for want, got in zip(slopes(compacted, ROWS, keep, weights[:, keep]), slopes(masked, data, keep, weights)):
        np.testing.assert_allclose(got[:, keep], want, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(got[:, ~keep], 0.0)


# Rows of NaN among the data, masked out after a product with weights that gradients are wanted for.

PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {
    "x @ w": lambda x, w: x @ w,
    "(w.T @ x.T).T": lambda x, w: (w.T @ x.T).T,
    "dot": wg.dot,
    "einsum": lambda x, w: wg.einsum("ij,jk->ik", x, w),
    "tensordot": lambda x, w: wg.tensordot(x, w, axes=1),
    "linear": lambda x, w: wg.nn.functional.linear(x, w.T),
    "by broadcasting": lambda x, w: wg.sum(x[:, :, None] * w, axis=1),
}
ROW_MASKS: dict[str, Callable[[Any, np.ndarray], Any]] = {
    "where": lambda y, keep: wg.where(keep[:, None], y, 0.0),
    "boolean index": lambda y, keep: y[keep],
    "masked sum": lambda y, keep: wg.sum(y, where=keep[:, None]),
    "written over": lambda y, keep: _written_over(y, ~keep),
    "nan_to_num": lambda y, keep: wg.nan_to_num(y, posinf=0.0, neginf=0.0),
}


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("mask", ROW_MASKS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_bad_rows_of_data_do_not_reach_the_weights(product: str, mask: str, bad: float) -> None:
    weights = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]])
    data = np.concatenate([ROWS, [[bad, 1.0, bad]]])

    def loss_on(rows: np.ndarray) -> Callable[..., Any]:
        def loss(w: Any, keep: np.ndarray) -> Any:
            y = PRODUCTS[product](wg.asarray(rows), w)
            return wg.sum(wg.sin(ROW_MASKS[mask](y, keep)))

        return loss

    keep = keep_of(3, len(data) - 3)
    expected = slopes(loss_on(ROWS), weights, keep[:3])
    found = slopes(loss_on(data), weights, keep)
    for order, (want, got) in enumerate(zip(expected, found), start=1):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12, err_msg=f"order {order}")


# What nobody masked out still shows.


@pytest.mark.parametrize(
    ("name", "bad"),
    [("sqrt", -1.0), ("log", NAN), ("arcsin", 2.0), ("x ** 0.5", -1.0), ("tan", INF), ("one over x", NAN)],
)
def test_a_nan_that_a_cotangent_reaches_surfaces(name: str, bad: float) -> None:
    x = wg.tensor([0.5, bad, bad], requires_grad=True)
    with np.errstate(all="ignore"):
        y = wg.where(np.array([True, True, False]), FUNCTIONS[name][0](x), 0.0)
    assert wg.isnan(y).tolist() == [False, True, False]
    y.sum().backward()
    assert wg.isnan(x.grad).tolist() == [False, True, False]
    assert x.grad[2].item() == 0


def test_an_infinite_slope_that_a_cotangent_reaches_surfaces() -> None:
    x = wg.tensor([0.0, 0.0], requires_grad=True)
    y = wg.where(np.array([True, False]), wg.sqrt(x), 0.0)
    y.sum().backward()
    assert x.grad.tolist() == [INF, 0.0]


def test_a_nan_row_that_nobody_masks_reaches_the_weights() -> None:
    w = wg.tensor(np.ones((3, 2)), requires_grad=True)
    rows = np.concatenate([ROWS, np.full((1, 3), NAN)])
    wg.sum(wg.where(np.array([[True], [True], [True], [True]]), wg.asarray(rows) @ w, 0.0)).backward()
    assert np.isnan(w.grad.numpy()).all()


def test_a_mask_between_two_uses_drops_one_of_them_alone() -> None:
    x = wg.tensor([0.0, 4.0], requires_grad=True)
    root = wg.sqrt(x)
    (wg.where(x > 0, root, 0.0) + x * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.25]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_floating_dtype_is_masked(dtype: str) -> None:
    x = wg.tensor([0.0, -1.0, 4.0], dtype=dtype, requires_grad=True)
    with np.errstate(all="ignore"):
        y = wg.where(x > 0, wg.sqrt(x) + 1 / x, 0)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, 0, 0.25 - 1 / 16], rtol=1e-3)
    assert x.grad.dtype == np.dtype(dtype)


def test_the_sweep_itself_never_warns_nor_changes_how_numpy_warns() -> None:
    x = wg.tensor([0.0, 1e-300, 1e300], requires_grad=True, dtype="float64")
    with np.errstate(all="raise"):
        with np.errstate(all="ignore"):
            y = wg.sum(1 / x + x * x)
        y.backward()
        assert np.geterr()["divide"] == "raise"
