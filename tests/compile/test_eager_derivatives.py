"""Derivatives of eager code that native programs compute from whole tapes: those of NumPy, and closed forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.eager_programs import without_kernels
from wengert.compile import eager_derivatives, eager_sweeps

EPS = float(np.finfo(float).eps)
LABELS = wg.tensor(np.arange(6) % 4)


def drawn(*shapes: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [0.25 + rng.random(shape) for shape in shapes]


CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray], int]] = {
    # name: function, arguments, roundings on the longest path from an input to an element of a result
    "arithmetic": (lambda x, y: (x * x / y - x * 0.5 + 1).sum(), drawn((5, 7), (5, 7)), 100),
    "broadcast": (lambda x, y, z: ((x * y + z) ** 2).mean(), drawn((4, 5, 6), (5, 1), (6,)), 400),
    "functions": (lambda x: (wg.tanh(wg.sin(x)) + wg.exp(-x) * wg.log(x) + wg.sqrt(x)).sum(), drawn((300,)), 100),
    "slices": (lambda x: ((x[1:] - x[:-1]) ** 3).sum() + wg.cos(x).sum(), drawn((50,)), 40),
    "overlapping": (lambda x: (x[:, ::2] * wg.sin(x[:, 1::2])).sum(), drawn((6, 10)), 40),
    "products": (lambda x, y: wg.sin(x @ y).sum(), drawn((3, 9, 8), (3, 8, 7)), 200),
    "perceptron": (
        lambda w, b, u: wg.softmax_cross_entropy(wg.tanh(wg.tensor(X) @ w + b) @ u, LABELS),
        drawn((5, 7), (7,), (7, 4)),
        400,
    ),
    "attention": (
        lambda q, k, v: (wg.scaled_dot_product_attention(q, k, v) ** 2).sum(),
        drawn((2, 5, 4), (2, 5, 4), (2, 5, 3)),
        600,
    ),
    "convolution": (lambda x, w: wg.exp(-wg.conv2d(x, w, padding=1)).sum(), drawn((2, 3, 6, 6), (4, 3, 3, 3)), 800),
    "choices": (lambda x, y: wg.where(x > y, x**3, wg.maximum(y, x * x)).sum(), drawn((40,), (40,)), 40),
    "several outputs": (lambda x: (wg.split(x * x, 2)[1] * wg.sort(x)[:5]).sum(), drawn((10,)), 40),
    "unused": (lambda x, y: (x**3).sum(), drawn((10,), (4,)), 20),
    "linear": (lambda x, y: (x * 3.0).sum() + (y**4).sum(), drawn((60,), (40,)), 20),
}
X = drawn((6, 5))[0]


def products(function: Callable[..., Any], arrays: Sequence[np.ndarray], times: int = 2) -> list[np.ndarray]:
    """Return the last of several products with one vector."""
    vector = [np.cos(np.arange(a.size, dtype=a.dtype)).reshape(a.shape) for a in arrays]
    for _ in range(times):
        found = wg.hvp(function, tuple(map(wg.tensor, arrays)), tuple(map(wg.tensor, vector)))
    return [y.numpy() for y in found]


@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_numpy(at_once: None, name: str) -> None:
    function, arrays, length = CASES[name]
    found = products(function, arrays)
    assert len(eager_derivatives.accounts.programs()) == 1
    for got, want in zip(found, without_kernels(lambda: products(function, arrays)), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=0, atol=length * EPS * max(1.0, np.abs(want).max()))


def test_closed_form_in_both_precisions(at_once: None) -> None:
    x, v = drawn((40,), (40,))
    for dtype in (np.float32, np.float64):
        for _ in range(2):
            found = wg.hvp(lambda x: (wg.sin(x) * x).sum(), wg.tensor(x.astype(dtype)), wg.tensor(v.astype(dtype)))
        np.testing.assert_allclose(
            found.numpy(), (2 * np.cos(x) - x * np.sin(x)) * v, rtol=0, atol=20 * float(np.finfo(dtype).eps)
        )
    assert len(eager_derivatives.accounts.programs()) == 2


def test_trees_and_vectors_with_gaps(at_once: None) -> None:
    point = {"x": wg.tensor(np.array([1.0, 2.0])), "y": [wg.tensor(np.array([3.0, 4.0]))]}
    for _ in range(3):
        found = wg.hvp(lambda p: (p["x"] ** 2 * p["y"][0]).sum(), point, {"x": np.ones(2), "y": [None]})
    np.testing.assert_allclose(found["x"].numpy(), [6.0, 8.0], rtol=4 * EPS)
    np.testing.assert_allclose(found["y"][0].numpy(), [2.0, 4.0], rtol=4 * EPS)
    (program,) = eager_derivatives.accounts.programs()
    assert program.failures == 0
    both = wg.hvp(lambda p: (p["x"] ** 2 * p["y"][0]).sum(), point, {"x": None, "y": [np.ones(2)]})
    np.testing.assert_allclose(both["x"].numpy(), [2.0, 4.0], rtol=4 * EPS)
    np.testing.assert_array_equal(both["y"][0].numpy(), [0.0, 0.0])


def test_the_vector_may_be_the_point(at_once: None) -> None:
    x = wg.tensor(np.array([1.0, 2.0]))
    for _ in range(3):
        found = wg.hvp(lambda x: (x**3).sum(), x, x)
    np.testing.assert_allclose(found.numpy(), [6.0, 24.0], rtol=4 * EPS)
    other = wg.hvp(lambda x: (x**3).sum(), x, wg.tensor(np.array([1.0, 1.0])))
    np.testing.assert_allclose(other.numpy(), [6.0, 12.0], rtol=4 * EPS)


def test_products_that_others_differentiate_are_recorded(at_once: None) -> None:
    x = wg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    scale = wg.tensor(np.array([5.0, 7.0]), requires_grad=True)
    for _ in range(3):
        total = wg.hvp(lambda x: (x**3 * scale).sum(), x, np.ones(2)).sum()
        x_bar, scale_bar = wg.autograd.grad(total, [x, scale])
        np.testing.assert_allclose(x_bar.numpy(), [30.0, 42.0], rtol=4 * EPS)
        np.testing.assert_allclose(scale_bar.numpy(), [6.0, 12.0], rtol=4 * EPS)
    vector = wg.tensor(np.array([1.0, 3.0]), requires_grad=True)
    (vector_bar,) = wg.autograd.grad(wg.hvp(lambda x: (x**3).sum(), x.detach(), vector).sum(), [vector])
    np.testing.assert_allclose(vector_bar.numpy(), [6.0, 12.0], rtol=4 * EPS)
    assert not eager_derivatives.accounts.programs()
    with wg.no_grad():
        quiet = [wg.hvp(lambda x: (x**3 * scale).sum(), x, np.ones(2)) for _ in range(3)]
    assert not quiet[-1].requires_grad
    np.testing.assert_allclose(quiet[-1].numpy(), [30.0, 84.0], rtol=4 * EPS)


def test_masked_elements_contribute_zero(at_once: None) -> None:
    mask = wg.tensor(np.array([[True, False], [True, False]]))
    weight = wg.tensor(np.array([[1.0, np.inf], [2.0, 3.0]]))

    def masked(x: Any) -> Any:
        return wg.where(mask, wg.exp(x @ weight), 0.0).sum()

    arrays = [np.full((2, 2), 0.5)]
    wanted = without_kernels(lambda: products(masked, arrays))
    assert np.isfinite(wanted[0]).all()
    found = products(masked, arrays, 5)
    np.testing.assert_allclose(found[0], wanted[0], rtol=20 * EPS)
    (program,) = eager_derivatives.accounts.programs()
    assert program.failures == 5
    products(masked, arrays, eager_sweeps.MOST_FAILURES)
    assert not eager_derivatives.accounts.programs()


def test_users_operations_and_hooks_are_left_to_the_tape(at_once: None) -> None:
    heard: list[np.ndarray] = []

    def with_a_hook(x: Any) -> Any:
        y = x * x
        y.register_hook(lambda bar: heard.append(bar.detach().numpy().copy()))
        return wg.exp(y).sum()

    x = wg.tensor(np.array([0.0, 1.0]))
    for _ in range(3):
        found = wg.hvp(with_a_hook, x, np.ones(2))
    np.testing.assert_allclose(found.numpy(), [2.0, 6.0 * np.e], rtol=8 * EPS)
    assert len(heard) >= 3
    assert not eager_derivatives.accounts.programs()


def blocks(
    transform: Callable[..., Any], function: Callable[..., Any], arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return the leaves of a matrix of derivatives with respect to all arguments, computed twice."""
    for _ in range(2):
        found = transform(function, argnums=tuple(range(len(arrays))))(*map(wg.tensor, arrays))
    return [leaf.numpy() for leaf in leaves(found)]


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple | list) else [tree]


@pytest.mark.parametrize("name", CASES)
def test_hessians_are_those_of_numpy(at_once: None, name: str) -> None:
    function, arrays, length = CASES[name]
    arrays = [array.reshape(-1)[:60].reshape(array.shape) if array.size <= 60 else array for array in arrays]
    found = blocks(wg.hessian, function, arrays)
    assert len(eager_derivatives.accounts.programs()) == 1
    wanted = without_kernels(lambda: blocks(wg.hessian, function, arrays))
    assert len(found) == len(arrays) ** 2
    for got, want in zip(found, wanted, strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        np.testing.assert_allclose(got, want, rtol=0, atol=length * EPS * max(1.0, np.abs(want).max()))


MAPS: dict[str, tuple[Callable[..., Any], list[np.ndarray], int]] = {
    "elementwise": (lambda x, y: wg.sin(x) * y, drawn((4, 5), (5,)), 20),
    "products": (lambda x, w: wg.tanh(w @ x), drawn((7,), (5, 7)), 60),
    "several": (lambda x, y: {"a": x * y.sum(), "b": (wg.exp(x).sum(), y[::2] ** 2)}, drawn((6,), (8,)), 60),
    "scalar": (lambda x: (x**3).sum(), drawn((9,)), 20),
    "unused": (lambda x, y: x**2, drawn((6,), (3,)), 20),
    "linear": (lambda x: x[1:] - 2.0 * x[:-1], drawn((9,)), 20),
    "softmax": (lambda x: wg.softmax(x, -1), drawn((4, 6)), 60),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_jacobians_are_those_of_numpy(at_once: None, name: str, dtype: Any) -> None:
    function, arrays, length = MAPS[name]
    cast = [array.astype(dtype) for array in arrays]
    found = blocks(wg.jacrev, function, cast)
    assert len(eager_derivatives.accounts.programs()) == (name != "linear")  # which keeps nothing on its tape
    wanted = without_kernels(lambda: blocks(wg.jacrev, function, [array.astype(np.float64) for array in cast]))
    for got, want in zip(found, wanted, strict=True):
        assert (got.shape, got.dtype) == (want.shape, dtype)
        bound = length * float(np.finfo(dtype).eps) * max(1.0, np.abs(want).max())
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def test_closed_forms_of_matrices(at_once: None) -> None:
    x = drawn((20,))[0]
    for _ in range(2):
        quadratic = wg.hessian(lambda x: (x[1:] * x[:-1]).sum())(wg.tensor(x))
        quartic = wg.hessian(lambda x: (x**4).sum())(wg.tensor(x))
        linear = wg.hessian(lambda x: (3.0 * x).sum())(wg.tensor(x))
        jacobian = wg.jacobian(lambda x: wg.exp(x) * x)(wg.tensor(x))
    np.testing.assert_array_equal(quadratic.numpy(), np.eye(20, k=1) + np.eye(20, k=-1))
    np.testing.assert_allclose(quartic.numpy(), np.diag(12 * x**2), rtol=16 * EPS)
    np.testing.assert_array_equal(linear.numpy(), np.zeros((20, 20)))
    np.testing.assert_allclose(jacobian.numpy(), np.diag(np.exp(x) * (1 + x)), rtol=16 * EPS)


def test_matrices_of_trees(at_once: None) -> None:
    point = {"a": wg.tensor(np.array([1.0, 2.0])), "b": wg.tensor(np.array(3.0))}
    for _ in range(2):
        second = wg.hessian(lambda p: (p["a"] ** 2).sum() * p["b"])(point)
        first = wg.jacrev(lambda p, q: (p["a"] * q, p["b"]), argnums=(0,))(point, 5.0)
    np.testing.assert_array_equal(second["a"]["a"].numpy(), 6.0 * np.eye(2))
    np.testing.assert_array_equal(second["a"]["b"].numpy(), [2.0, 4.0])
    np.testing.assert_array_equal(second["b"]["a"].numpy(), [2.0, 4.0])
    assert second["b"]["b"].item() == 0.0
    np.testing.assert_array_equal(first[0][0]["a"].numpy(), 5.0 * np.eye(2))
    np.testing.assert_array_equal(first[0][0]["b"].numpy(), np.zeros(2))
    assert first[1][0]["b"].item() == 1.0
    assert len(eager_derivatives.accounts.programs()) == 1


def test_matrices_that_others_differentiate_are_recorded(at_once: None) -> None:
    x = wg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    scale = wg.tensor(np.array([5.0, 7.0]), requires_grad=True)
    for _ in range(2):
        second = wg.hessian(lambda x: (x**3 * scale).sum())(x)
        x_bar, scale_bar = wg.autograd.grad(second.sum(), [x, scale])
        np.testing.assert_allclose(x_bar.numpy(), [30.0, 42.0], rtol=8 * EPS)
        np.testing.assert_allclose(scale_bar.numpy(), [6.0, 12.0], rtol=8 * EPS)
        first = wg.jacrev(lambda x: x**3 * scale)(x)
        x_bar, scale_bar = wg.autograd.grad(first.sum(), [x, scale])
        np.testing.assert_allclose(x_bar.numpy(), [30.0, 84.0], rtol=8 * EPS)
        np.testing.assert_allclose(scale_bar.numpy(), [3.0, 12.0], rtol=8 * EPS)
    rows = wg.vmap(wg.hessian(lambda x: (x**4).sum()))(wg.tensor(np.ones((3, 2))))
    np.testing.assert_allclose(rows.numpy(), np.broadcast_to(12 * np.eye(2), (3, 2, 2)), rtol=8 * EPS)
    assert not eager_derivatives.accounts.programs()


def test_infinities_in_matrices_are_those_of_numpy(at_once: None) -> None:
    x = np.array([0.0, 1.0, 4.0])
    for transform, function in (
        (wg.jacrev, lambda x: wg.sqrt(x) * 2.0),
        (wg.hessian, lambda x: (wg.sqrt(x) * x).sum()),
    ):
        run = lambda transform=transform, function=function: blocks(transform, function, [x])  # noqa: E731
        for got, want in zip(run(), without_kernels(run), strict=True):
            np.testing.assert_allclose(got, want, rtol=8 * EPS)


def test_functions_that_are_not_scalar_keep_their_second_derivatives(at_once: None) -> None:
    for _ in range(2):
        second = wg.hessian(lambda x: x**3)(wg.tensor(np.array([1.0, 2.0])))
    wanted = np.zeros((2, 2, 2))
    wanted[0, 0, 0], wanted[1, 1, 1] = 6.0, 12.0
    np.testing.assert_allclose(second.numpy(), wanted, rtol=8 * EPS)
