"""Compiled transforms: against what they are by hand, and that nothing costly is computed more often than needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg

EPS = float(np.finfo(np.float64).eps)


def operations(function: Callable[..., Any], *args: Any) -> int:
    """Return how many arithmetic operations the program of a function does."""
    compiled = wg.compile(function)
    compiled(*args)
    (program,) = compiled.explain().programs
    return sum(kernel.flops for kernel in program.kernels)


def test_hessian_of_rosenbrock() -> None:
    def rosenbrock(x: wg.Tensor) -> wg.Tensor:
        return wg.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    x = np.random.default_rng(0).uniform(-1, 1, 100)
    expected = np.zeros((100, 100))
    inner = np.arange(99)
    expected[inner, inner] = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    expected[inner + 1, inner + 1] += 200
    expected[inner, inner + 1] = expected[inner + 1, inner] = -400 * x[:-1]
    for hessian in (wg.hessian(rosenbrock), wg.jacrev(wg.jacrev(rosenbrock)), wg.jacfwd(wg.jacfwd(rosenbrock))):
        found = wg.compile(hessian)(wg.tensor(x)).numpy()
        # Sums of at most eight terms, each no larger than 1,200.
        assert np.abs(found - expected).max() <= 8 * EPS * 1200


@pytest.mark.parametrize("transform", [wg.jacrev, wg.jacfwd])
def test_jacobian_of_a_layer(transform: Any) -> None:
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(50, 50)) / np.sqrt(50), rng.normal(size=50)
    jacobian = wg.compile(transform(lambda x: wg.sin(wg.tensor(weight) @ wg.tanh(x))))(wg.tensor(x)).numpy()
    scale = np.abs(weight) @ np.diag(1 - np.tanh(x) ** 2)
    expected = np.cos(weight @ np.tanh(x))[:, None] * weight @ np.diag(1 - np.tanh(x) ** 2)
    # The argument of the cosine is a sum of 50 terms; its rounding is passed on at most as it is.
    assert (np.abs(jacobian - expected) <= 2 * 50 * EPS * scale * np.abs(weight).sum(axis=1).max()).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [3, 8, 10, 31])
def test_short_rows_of_a_mapped_function(dtype: str, length: int) -> None:
    x = np.random.default_rng(length).normal(size=(2000, length)).astype(dtype)

    def centred(row: wg.Tensor) -> wg.Tensor:
        y = wg.tanh(row + row)
        return y - y.mean()

    y = np.tanh(2 * x.astype(np.float64))
    expected = y - y.mean(axis=1, keepdims=True)
    found = wg.compile(wg.vmap(centred))(wg.tensor(x)).numpy()
    # tanh is bounded by 1, and so is its derivative times its argument; then a sum of so many terms.
    assert np.abs(found - expected).max() <= 2 * (length + 4) * np.finfo(dtype).eps


def test_a_row_that_costs_much_is_computed_once() -> None:
    x, weight = wg.tensor(np.linspace(0.0, 1.0, 64)), wg.tensor(np.ones((64, 64)))
    alone = operations(wg.tanh, x)
    assert alone > 10 * x.size, "tanh takes many operations"
    # Loads and stores count as operations, too.
    rest = 5 * weight.size
    assert rest < alone * 64 / 10, "the bound would not notice"
    assert operations(lambda x, w: wg.tanh(x) * w, x, weight) <= alone + rest
    assert operations(lambda x, w: w @ wg.tanh(x), x, weight) <= alone + rest


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(3, 1, 1), (2, 2, 1), (2, 1, 1), ((3, 2), (2, 1), (1, 0)), ((2, 3), (1, 2), (0, 1))],
)
def test_where_all_is_minus_infinity_no_border_takes_a_gradient(
    kernel: Any, stride: Any, padding: Any, dtype: str
) -> None:
    image = np.random.default_rng(1).normal(size=(2, 2, 7, 19)).astype(dtype)
    image[image < 0.3] = -np.inf

    def total(x: Any) -> Any:
        return wg.nn.functional.max_pool2d(x, kernel, stride=stride, padding=padding).sum()

    # Every window gives one to the first of its largest elements, and the border is no element.
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    steps = (stride, stride) if isinstance(stride, int) else stride
    border = (padding, padding) if isinstance(padding, int) else padding
    expected = np.zeros_like(image)
    places = [(image.shape[2 + i] + 2 * border[i] - (rows, columns)[i]) // steps[i] + 1 for i in (0, 1)]
    for plane in np.ndindex(2, 2):
        for top, left in np.ndindex(*places):
            first_row, first_column = top * steps[0] - border[0], left * steps[1] - border[1]
            there = [
                (r, c)
                for r in range(max(first_row, 0), min(first_row + rows, 7))
                for c in range(max(first_column, 0), min(first_column + columns, 19))
            ]
            expected[(*plane, *max(there, key=lambda place: image[(*plane, *place)]))] += 1
    with np.errstate(invalid="ignore"):
        found = wg.compile(wg.grad(total))(wg.tensor(image))
    assert np.array_equal(found, expected)
