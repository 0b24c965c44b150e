"""Compiled transforms: against what they are by hand, and that nothing costly is computed more often than needed."""

# Nodes are looked at.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.compile.sources import CompileError
from wengert.core import boxing

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


@pytest.mark.parametrize("order", [1, 2])
def test_an_argument_that_is_closed_over_too_is_one_variable_to_a_tape_around_a_tangent(order: int) -> None:
    """What `jvp` hands on of a leaf is another Tensor with the leaf's Node: each way to the leaf counts once."""
    w = wg.tensor([0.3, 0.7], requires_grad=True)

    def function(x: Any) -> Any:
        return (x * x * wg.sin(w)).sum()

    gradients: list[Any] = []
    compiled = wg.compile(function)
    for called in (function, compiled, compiled):
        _, tangent = wg.jvp(lambda x, f=called: f(x), (w,), (wg.ones_like(w),))
        (found,) = wg.autograd.grad(tangent, [w], create_graph=order == 2)
        if order == 2:
            (found,) = wg.autograd.grad((found * found).sum(), [w])
        gradients.append(found.numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-5)
    np.testing.assert_array_equal(gradients[2], gradients[1])


def test_a_gradient_inside_does_not_miss_what_an_argument_has_of_the_same_leaf() -> None:
    w = wg.tensor([0.3, 0.7], requires_grad=True)
    handed_on = boxing.with_node(w, w._node)
    compiled = wg.compile(lambda x: wg.autograd.grad((x * x * w).sum(), [w])[0])
    compiled(wg.ones(2).requires_grad_())
    for _ in range(2):
        with pytest.raises(CompileError, match="argument 0 was computed from one of them before"):
            compiled(handed_on)
