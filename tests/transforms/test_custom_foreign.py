"""`wg.primitive` around code that knows nothing of derivatives: C, SciPy, solvers, counting and sorting."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from typing import Any

import numpy as np
import pytest
import scipy.interpolate
import scipy.linalg
import scipy.optimize
import scipy.special

import wengert as wg
from tests.transforms.doubles import doubles

# Where no library goes by that name, the interpreter is linked with one (on Windows, all share a runtime).
LIBM = ctypes.CDLL(ctypes.util.find_library("m") or ("ucrtbase" if os.name == "nt" else None))


# C, through ctypes


@pytest.fixture(scope="module")
def cube_root() -> Any:
    function = LIBM.cbrt
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_double]

    @wg.primitive(batch="elementwise")
    def cbrt(x: Any) -> Any:
        return np.array([function(v) for v in x.ravel()], x.dtype).reshape(x.shape)

    @cbrt.defvjp
    def cbrt_vjp(out_bar: Any, out: Any) -> Any:
        return out_bar / (3 * out**2)

    return cbrt


def test_a_c_function_to_any_order(cube_root: Any) -> None:
    x = doubles(8.0, 0.5, -2.0)
    np.testing.assert_allclose(cube_root(x).numpy(), np.cbrt(x.numpy()))
    gradient = wg.grad(lambda x: (cube_root(x) * x).sum())(x)
    np.testing.assert_allclose(gradient.numpy(), 4 / 3 * np.cbrt(x.numpy()), rtol=1e-12)
    curvature = wg.grad(lambda x: wg.grad(lambda x: cube_root(x).sum())(x).sum())(x)
    np.testing.assert_allclose(curvature.numpy(), -2 / 9 * np.cbrt(x.numpy()) / x.numpy() ** 2, rtol=1e-12)
    wg.testing.check_grads(lambda x: cube_root(x) ** 2, (x,))


def test_c_writes_into_an_output_buffer() -> None:
    frexp = LIBM.frexp
    frexp.restype = ctypes.c_double
    frexp.argtypes = [ctypes.c_double, ctypes.POINTER(ctypes.c_int)]

    @wg.primitive
    def split(x: Any) -> Any:
        mantissas, exponents = np.empty_like(x), np.empty(x.shape, np.int64)
        power = ctypes.c_int()
        for i, v in enumerate(x):
            mantissas[i] = frexp(v, ctypes.byref(power))
            exponents[i] = power.value
        return mantissas, exponents

    @split.defvjp
    def split_vjp(out_bar: Any, out: Any) -> Any:
        return out_bar[0] * wg.exp2(-out[1].astype("float64"))

    mantissas, exponents = split(doubles(3.0, 10.0).requires_grad_())
    assert mantissas.tolist() == [0.75, 0.625] and exponents.tolist() == [2, 4] and not exponents.requires_grad
    assert wg.grad(lambda x: split(x)[0].sum())(doubles(3.0, 10.0)).tolist() == [0.25, 0.0625]


# SciPy


@wg.primitive(nondifferentiable=("order",), batch="elementwise")
def bessel(order: Any, x: Any) -> Any:
    """Bessel function of the first kind."""
    return scipy.special.jv(order, x)


@bessel.defvjp
def bessel_vjp(out_bar: Any, order: Any, x: Any) -> Any:
    return out_bar * (bessel(order - 1, x) - bessel(order + 1, x)) / 2


@pytest.mark.parametrize("order", [0, 1, 2.5])
def test_bessel_functions_to_the_third_order(order: Any) -> None:
    f = wg.primitive  # the rule calls the operation itself, so that there is no highest order
    assert f is wg.primitive
    x = np.float64(1.7)
    derivative: Any = lambda x: bessel(order, x)  # noqa: E731
    for n in range(1, 4):
        derivative = wg.grad(derivative)
        assert derivative(x).item() == pytest.approx(scipy.special.jvp(order, x, n), rel=1e-10)


@wg.primitive
def sylvester(a: Any, b: Any, q: Any) -> Any:
    """Solve a x + x b = q."""
    return scipy.linalg.solve_sylvester(a, b, q)


@sylvester.defvjp
def sylvester_vjp(out_bar: Any, a: Any, b: Any, out: Any) -> Any:
    q_bar = sylvester(a.T, b.T, out_bar)
    return -q_bar @ out.T, -out.T @ q_bar, q_bar


def test_a_matrix_equation() -> None:
    rng = np.random.default_rng(3)
    a, b, q = rng.normal(size=(3, 3)) + 4 * np.eye(3), rng.normal(size=(2, 2)) + 4 * np.eye(2), rng.normal(size=(3, 2))
    wg.testing.check_grads(sylvester, (a, b, q))


def test_a_spline() -> None:
    knots = np.linspace(0.0, 3.0, 7)

    @wg.primitive(static=("derivative",), batch="leading")
    def spline(x: Any, values: Any, derivative: int = 0) -> Any:
        return scipy.interpolate.CubicSpline(knots, values)(x, derivative)

    @spline.defvjp("x")
    def spline_vjp_by_x(out_bar: Any, x: Any, values: Any, derivative: int) -> Any:
        return out_bar * spline(x, values, derivative + 1)

    @spline.defjvp("values")
    def spline_jvp_by_values(x: Any, values_dot: Any, derivative: int) -> Any:
        return spline(x, values_dot, derivative)  # it is linear in the values

    x, values = doubles(0.4, 1.3, 2.2), wg.tensor(np.sin(knots))
    gradient = wg.grad(lambda x: spline(x, values).sum())(x)
    np.testing.assert_allclose(gradient.numpy(), scipy.interpolate.CubicSpline(knots, np.sin(knots))(x.numpy(), 1))
    curvature = wg.grad(lambda x: wg.grad(lambda x: spline(x, values).sum())(x).sum())(x)
    np.testing.assert_allclose(curvature.numpy(), scipy.interpolate.CubicSpline(knots, np.sin(knots))(x.numpy(), 2))


# Black boxes with integers


def test_counting() -> None:
    @wg.primitive
    def tally(x: Any) -> Any:
        values, counts = np.unique(x, return_counts=True)
        return {"values": values, "counts": counts}

    @tally.defvjp
    def tally_vjp(out_bar: Any, x: Any, out: Any) -> Any:
        same = (x[:, None] == out["values"]).astype(x.dtype)
        return same @ (out_bar["values"] / out["counts"])

    x = doubles(3.0, 1.0, 3.0).requires_grad_()
    made = tally(x)
    assert made["counts"].tolist() == [1, 2] and not made["counts"].requires_grad
    (made["values"] * made["counts"]).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]


def test_a_tree_of_decisions_has_integers_alone() -> None:
    @wg.primitive
    def clusters(points: Any, k: int) -> Any:
        return np.argsort(points, kind="stable") * k // len(points)

    points = doubles(0.3, 0.1, 0.9, 0.5).requires_grad_()
    labels = clusters(points, 2)
    assert labels.dtype.kind == "i" and not labels.requires_grad
    assert wg.grad(lambda p: (p * clusters(p, 2)).sum())(points.detach()).tolist() == labels.tolist()


# Solvers, differentiated through what they solve


@wg.primitive
def kepler(mean: Any, eccentricity: Any) -> Any:
    """Solve E - e sin E = M for E."""
    shape = np.broadcast_shapes(np.shape(mean), np.shape(eccentricity))
    pairs = zip(np.broadcast_to(mean, shape).ravel(), np.broadcast_to(eccentricity, shape).ravel())
    roots = [
        scipy.optimize.brentq(lambda a, m=m, e=e: a - e * np.sin(a) - m, m - 1, m + 1, xtol=1e-14) for m, e in pairs
    ]
    return np.array(roots).reshape(shape)


@kepler.defjvp
def kepler_jvp(eccentricity: Any, out: Any, mean_dot: Any, eccentricity_dot: Any) -> Any:
    return (mean_dot + wg.sin(out) * eccentricity_dot) / (1 - eccentricity * wg.cos(out))


def test_an_implicit_derivative_of_a_root() -> None:
    mean, eccentricity = doubles(0.3, 1.1, 2.5), doubles(0.1, 0.5, 0.8)
    wg.testing.check_grads(kepler, (mean, eccentricity))
    assert kepler(mean.requires_grad_(), np.float64(0.3)).requires_grad


def test_an_implicit_derivative_of_a_minimum() -> None:
    @wg.primitive
    def fitted(target: Any, weight: Any) -> Any:
        def objective(x: Any) -> Any:
            return ((x - target) ** 2).sum() + weight * (x**4).sum()

        return scipy.optimize.minimize(objective, target, method="BFGS", options={"gtol": 1e-9}).x

    @fitted.defvjp
    def fitted_vjp(out_bar: Any, weight: Any, out: Any) -> Any:
        curvature = 2 + 12 * weight * out**2  # of the objective, at the minimum: a diagonal matrix
        adjoint = out_bar / curvature
        return 2 * adjoint, -(4 * out**3 * adjoint).sum()

    target, weight = doubles(0.5, -1.0), doubles(0.3)[0]
    target_bar, weight_bar = wg.grad(lambda t, w: fitted(t, w).sum(), (0, 1))(target, weight)
    x = fitted(target, weight).numpy()
    np.testing.assert_allclose(2 * (x - target.numpy()) + 4 * 0.3 * x**3, 0, atol=1e-6)
    np.testing.assert_allclose(target_bar.numpy(), 2 / (2 + 3.6 * x**2), rtol=1e-6)
    np.testing.assert_allclose(weight_bar.item(), -(4 * x**3 / (2 + 3.6 * x**2)).sum(), rtol=1e-6)
