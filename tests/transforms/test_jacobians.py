"""`jacrev`, `jacfwd`, `jacobian`, `hessian`, `hvp`, `gauss_newton_vp`: trees, argnums, chunks, dtypes, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of
from tests.transforms.doubles import doubles
from wengert.core.tracing import open_traces
from wengert.errors import DTypeError, LeakedTracerError, MappedValueError, ShapeError, StructureError
from wengert.testing.numeric import complex_step, demand_close, rounding


class Pair(NamedTuple):
    one: Any
    other: Any


A = np.random.default_rng(0).normal(size=(4, 3))
X = np.random.default_rng(1).uniform(0.2, 1.0, 3)
JACOBIANS = [wg.jacrev, wg.jacfwd, wg.jacobian]
EPS = np.finfo(float).eps


def close(got: Any, wanted: Any) -> None:
    wanted = np.asarray(wanted)
    limit = rounding(np.float64, np.abs(wanted).max(initial=1.0))
    demand_close("here", "the derivative", got.detach().numpy(), wanted, limit)


def waves(x: Any) -> Any:
    return wg.sin(wg.asarray(A) @ x) * x.sum()


def waves_jacobian(x: np.ndarray) -> np.ndarray:
    """Return the Jacobian of the same function by complex steps, column by column."""
    columns: list[Any] = []
    for k in range(x.size):
        unit = np.eye(x.size)[k]
        columns.append(complex_step(lambda t, unit=unit: np.sin(A @ (x + t * unit)) * (x + t * unit).sum()))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("transform", JACOBIANS, ids=lambda t: t.__name__)
class TestJacobians:
    def test_against_complex_steps(self, transform: Any) -> None:
        close(transform(waves)(wg.asarray(X)), waves_jacobian(X))
        close(transform(waves)(X), waves_jacobian(X))

    @pytest.mark.parametrize("chunk_size", [1, 2, 3, 100])
    def test_chunks(self, transform: Any, chunk_size: int) -> None:
        close(transform(waves, chunk_size=chunk_size)(X), waves_jacobian(X))

    def test_shapes(self, transform: Any) -> None:
        x = np.random.default_rng(2).normal(size=(2, 3))
        got = transform(lambda t: wg.einsum("ij,kj->ik", t, t))(x)
        wanted = np.zeros((2, 2, 2, 3))
        for i, k, a, b in np.ndindex(2, 2, 2, 3):
            wanted[i, k, a, b] = (i == a) * x[k, b] + (k == a) * x[i, b]
        close(got, wanted)
        assert transform(lambda t: t.sum())(x).shape == (2, 3)
        assert transform(lambda t: t * t)(2.0).shape == ()
        assert transform(lambda t: wg.stack([t, t * t]))(2.0).tolist() == [1.0, 4.0]
        assert transform(lambda t: t * 2.0)(np.ones((0,))).shape == (0, 0)
        assert transform(lambda t: t.sum())(np.ones((0, 2))).shape == (0, 2)
        assert transform(lambda t: wg.concatenate([t, t * 2.0])[:0])(np.ones(3)).shape == (0, 3)

    def test_trees(self, transform: Any) -> None:
        def f(p: Any) -> Any:
            return {"y": p["x"] * p["rest"].one, "z": (p["x"].sum() * p["rest"].other[0],)}

        tree = {"x": doubles(1.0, 2.0), "rest": Pair(3.0, [doubles(4.0)[0]])}
        got = transform(f)(tree)
        assert list(got) == ["y", "z"] and type(got["y"]["rest"]) is Pair and type(got["z"]) is tuple
        close(got["y"]["x"], 3.0 * np.eye(2))
        close(got["y"]["rest"].one.astype("float64"), [1.0, 2.0])
        close(got["y"]["rest"].other[0], [0.0, 0.0])
        close(got["z"][0]["x"], [4.0, 4.0])
        close(got["z"][0]["rest"].other[0], 3.0)

    def test_argnums(self, transform: Any) -> None:
        def f(x: Any, y: Any, mode: str, scale: float = 1.0) -> Any:
            return x * y * scale

        x, y = doubles(1.0, 2.0), doubles(3.0, 4.0)
        close(transform(f, argnums=1)(x, y, "m"), np.diag([1.0, 2.0]))
        close(transform(f, argnums=-2)(x, y, "m"), np.diag([1.0, 2.0]))
        both = transform(f, argnums=(1, 0))(x, y, "m", scale=2.0)
        assert type(both) is tuple
        close(both[0], np.diag([2.0, 4.0]))
        close(both[1], np.diag([6.0, 8.0]))
        (alone,) = transform(f, argnums=[0])(x, y, "m")
        close(alone, np.diag([3.0, 4.0]))
        nested = transform(lambda x, y: {"a": x * y, "b": y}, argnums=(0, 1))(x, y)
        assert type(nested["a"]) is tuple and nested["b"][0].tolist() == [[0.0, 0.0]] * 2

    def test_aux(self, transform: Any) -> None:
        got, aux = transform(lambda x: (x * x, {"sum": x.sum(), "n": 3, "x": x}), has_aux=True)(doubles(1.0, 2.0))
        close(got, np.diag([2.0, 4.0]))
        assert (aux["sum"].item(), aux["n"], aux["x"].tolist()) == (3.0, 3, [1.0, 2.0])
        assert (aux["x"] * 2.0).tolist() == [2.0, 4.0]
        got, aux = transform(lambda x: (x * x, x), has_aux=True)(3.0)
        assert (got.item(), aux.item()) == (6.0, 3.0)

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_dtypes(self, transform: Any, dtype: str) -> None:
        got = transform(lambda x: x * x)(wg.tensor([1.0, 2.0], dtype=dtype))
        assert got.dtype == dtype and got.tolist() == [[2.0, 0.0], [0.0, 4.0]]
        assert transform(lambda x: x * x)(2.0).dtype == np.float32

    def test_constant_results(self, transform: Any) -> None:
        got = transform(lambda x: (x, doubles(1.0, 2.0, 3.0)))(doubles(5.0))
        assert got[0].tolist() == [[1.0]] and got[1].tolist() == [[0.0]] * 3

    def test_writes_and_control_flow(self, transform: Any) -> None:
        def f(x: Any) -> Any:
            table = wg.zeros((2, 3), dtype="float64")
            table[0] = x
            table[1] = table[0] * x if x.sum() > 0 else x
            table[:, 0] *= x[2]
            x[1] = 0.0
            return table

        x = doubles(1.0, 2.0, 3.0)
        got = transform(f)(x)
        wanted = np.zeros((2, 3, 3))
        wanted[0] = np.diag([3.0, 1.0, 1.0])
        wanted[1] = np.diag([2 * 3.0, 4.0, 6.0])
        wanted[0, 0, 2] = wanted[1, 0, 2] = 1.0
        close(got, wanted)
        assert x.tolist() == [1.0, 2.0, 3.0]

    def test_the_tape_sees_through(self, transform: Any) -> None:
        w = doubles(2.0, 3.0).requires_grad_()
        got = transform(lambda x: w * x * x)(doubles(1.0, 2.0))
        got.sum().backward()
        assert grad_of(w).tolist() == [2.0, 4.0]
        with wg.no_grad():
            assert not transform(lambda x: w * x * x)(doubles(1.0, 2.0)).requires_grad

    def test_inside_of_other_transforms(self, transform: Any) -> None:
        rows = np.random.default_rng(3).uniform(0.2, 1.0, (4, 3))
        got = wg.vmap(transform(waves))(rows)
        close(got, np.stack([waves_jacobian(row) for row in rows]))
        # d/ds J(s x) at s = 1 along x, by a second complex step of the analytic Jacobian
        z = A @ X
        direct = np.cos(z)[:, None] * A * X.sum() + np.sin(z)[:, None]
        close(transform(waves)(X), direct)
        along = (-np.sin(z) * z)[:, None] * A * X.sum() + (np.cos(z) * X.sum())[:, None] * A + (np.cos(z) * z)[:, None]
        close(wg.jvp(transform(waves), (wg.asarray(X),), (wg.asarray(X),))[1], along)
        weights = np.random.default_rng(4).normal(size=(4, 3))
        total = wg.grad(lambda x: (transform(waves)(x) * weights).sum())(X)
        close((total * X).sum(), (along * weights).sum())
        assert transform(transform(waves))(X).shape == (4, 3, 3)

    @pytest.mark.parametrize(
        ("ask", "error", "message"),
        [
            (lambda t: t(wg.sin)(3), DTypeError, r"has dtype int64, and only real floating"),
            (lambda t: t(lambda p: p["a"])({"a": [True]}), DTypeError, r"p\['a'\]\[0\] has dtype bool"),
            (lambda t: t(lambda p: p)(1j), DTypeError, r"p has dtype complex"),
            (lambda t: t(lambda p: p)("a"), DTypeError, r"p is of type str"),
            (lambda t: t(lambda p: p, 1)(2.0), TypeError, r"argnums has 1.*1 positional"),
            (lambda t: t(lambda p, q: p, (0, -2))(2.0, 3.0), TypeError, "twice"),
            (lambda t: t(lambda p: p, ()), TypeError, "argnums must be"),
            (lambda t: t(lambda p: p, "a"), TypeError, "argnums must be"),
            (lambda t: t(lambda p: p, 0.5), TypeError, "argnums must be"),
            (lambda t: t(lambda p: None)(2.0), DTypeError, "return"),
            (lambda t: t(lambda p: 1.0)(2.0), DTypeError, "its output is of type float"),
            (lambda t: t(lambda p: p.detach().item())(2.0), DTypeError, "its output is of type float"),
            (lambda t: t(lambda p: [p, wg.arange(2)])(2.0), DTypeError, "dtype int64, which has no derivative"),
            (lambda t: t(lambda p: p, has_aux=True)(2.0), DTypeError, "must return"),
            (lambda t: t(lambda p: p * 1.0, chunk_size=0)(np.ones(2)), ValueError, "chunk_size"),
        ],
    )
    def test_errors_say_what_is_wrong(
        self, transform: Any, ask: Callable[[Any], Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            ask(transform)
        assert open_traces() == () and wg.is_grad_enabled()

    def test_names_and_exceptions(self, transform: Any) -> None:
        def energy(x: Any) -> Any:
            """Say how much."""
            raise ZeroDivisionError

        made = transform(energy)
        assert (made.__name__, made.__doc__) == (f"{transform.__name__}(energy)", "Say how much.")
        for f in (made, wg.vmap(made), wg.grad(lambda x: made(x).sum()), wg.hessian(energy)):
            with pytest.raises(ZeroDivisionError):
                f(np.ones(2))
            assert open_traces() == () and wg.is_grad_enabled()


def test_the_cheaper_mode_is_chosen_and_the_function_run_as_often_as_needed() -> None:
    runs: list[int] = []

    def f(x: Any) -> Any:
        runs.append(1)
        return wg.concatenate([x, x * x, x**3])

    close(wg.jacobian(f)(doubles(1.0, 2.0)), wg.jacrev(f)(doubles(1.0, 2.0)).numpy())
    assert 1 <= len(runs) <= 3


# Second derivatives.


def cubic(x: Any) -> Any:
    return x[0] ** 2 * x[1] + x[1] ** 3 * x[2]


def cubic_hessian(x: np.ndarray) -> np.ndarray:
    return np.array([[2 * x[1], 2 * x[0], 0], [2 * x[0], 6 * x[1] * x[2], 3 * x[1] ** 2], [0, 3 * x[1] ** 2, 0]])


@pytest.mark.parametrize("outer", JACOBIANS, ids=lambda t: t.__name__)
@pytest.mark.parametrize("inner", [*JACOBIANS, wg.grad], ids=lambda t: t.__name__)
def test_every_way_to_a_hessian(outer: Any, inner: Any) -> None:
    close(outer(inner(cubic))(X), cubic_hessian(X))


def test_hessian() -> None:
    close(wg.hessian(cubic)(X), cubic_hessian(X))
    close(wg.hessian(cubic, chunk_size=2)(X), cubic_hessian(X))
    got, aux = wg.hessian(lambda x: (cubic(x), {"x": x, "n": 1}), has_aux=True)(X)
    close(got, cubic_hessian(X))
    assert aux["n"] == 1 and aux["x"].tolist() == X.tolist()
    assert wg.hessian(lambda x: x**3)(2.0).item() == 12.0
    close(wg.hessian(lambda x: wg.stack([cubic(x), x[0] * x[1]]))(X)[0], cubic_hessian(X))
    close(wg.vmap(wg.hessian(cubic))(np.stack([X, 2 * X])), np.stack([cubic_hessian(X), cubic_hessian(2 * X)]))
    # the third derivative, contracted with x, is the Hessian's derivative along x: of degree one, for a cubic
    third = wg.jacfwd(wg.hessian(cubic))(X)
    quartic = np.array([[2 * X[1], 2 * X[0], 0], [2 * X[0], 12 * X[1] * X[2], 6 * X[1] ** 2], [0, 6 * X[1] ** 2, 0]])
    close((third * X).sum(-1), quartic)


def test_hessian_of_trees_and_arguments() -> None:
    def f(p: Any, q: Any) -> Any:
        return (p["a"] ** 2).sum() * q + p["b"] * q**3

    p, q = {"a": doubles(1.0, 2.0), "b": doubles(3.0)[0]}, doubles(2.0)[0]
    blocks = wg.hessian(f, argnums=(0, 1))(p, q)
    # Nested as the gradient is and, within, as the arguments are.
    close(blocks[0]["a"][0]["a"], 2 * 2.0 * np.eye(2))
    close(blocks[0]["a"][1], [2.0, 4.0])
    close(blocks[1][0]["b"], 12.0)
    close(blocks[1][1], 6 * 3.0 * 2.0)
    assert wg.hessian(f)(p, q)["b"]["a"].tolist() == [0.0, 0.0]


def test_hvp() -> None:
    v = np.array([1.0, -2.0, 0.5])
    close(wg.hvp(cubic, wg.asarray(X), wg.asarray(v)), cubic_hessian(X) @ v)
    close(wg.hvp(cubic, X, v), cubic_hessian(X) @ v)
    tree = wg.hvp(lambda p: p["x"] ** 2 * p["y"][0], {"x": 2.0, "y": [3.0]}, {"x": 1.0, "y": [None]})
    assert tree["x"].item() == 6.0 and tree["y"][0].item() == 4.0
    first, second = wg.hvp(lambda x, y: x**2 * y, (2.0, 3.0), (1.0, 10.0))
    assert (first.item(), second.item()) == (6.0 + 40.0, 4.0)
    pair = wg.hvp(lambda p: p.one**2 * p.other, Pair(2.0, 3.0), Pair(1.0, 10.0))
    assert (type(pair), pair.one.item(), pair.other.item()) == (Pair, 46.0, 4.0)
    rows = wg.vmap(lambda u: wg.hvp(cubic, wg.asarray(X), u))(np.eye(3))
    close(rows, cubic_hessian(X))
    with pytest.raises(ShapeError, match="must return a scalar"):
        wg.hvp(lambda x: x, doubles(1.0, 2.0), doubles(1.0, 2.0))
    with pytest.raises(ShapeError, match="tangent of x"):
        wg.hvp(cubic, wg.asarray(X), doubles(1.0))
    with pytest.raises(StructureError):
        wg.hvp(lambda p: p["x"], {"x": 1.0}, {"y": 1.0})
    with pytest.raises(DTypeError):
        wg.hvp(cubic, wg.asarray(X), wg.ones(3))
    with pytest.raises(DTypeError):
        wg.hvp(lambda x: x, 3, 1)


def test_gauss_newton_vp() -> None:
    def loss(r: Any) -> Any:
        return (r**4).sum() + r[0] * r[1]

    v = np.array([1.0, -2.0, 0.5])
    r, jacobian = np.sin(A @ X) * X.sum(), waves_jacobian(X)
    curvature = np.diag(12 * r * r)
    curvature[0, 1] = curvature[1, 0] = 1.0
    close(wg.gauss_newton_vp(waves, loss, wg.asarray(X), wg.asarray(v)), jacobian.T @ curvature @ jacobian @ v)
    products = wg.gauss_newton_vp(lambda x, s: {"r": waves(x) * s}, lambda o: loss(o["r"]), (X, 1.0), (v, None))
    assert type(products) is tuple
    rows = wg.vmap(lambda u: wg.gauss_newton_vp(waves, loss, wg.asarray(X), u))(np.eye(3))
    close(rows, jacobian.T @ curvature @ jacobian)
    with pytest.raises(ShapeError, match="loss must return a scalar"):
        wg.gauss_newton_vp(waves, lambda r: r, wg.asarray(X), wg.asarray(v))
    with pytest.raises(ShapeError):
        wg.gauss_newton_vp(waves, loss, wg.asarray(X), doubles(1.0))


def test_branches_on_values_are_allowed_in_both_modes() -> None:
    def f(x: Any) -> Any:
        y = x
        while y.sum() < 50.0:
            y = y * y + 1.0
        return y * float(y.detach().sum().item())

    for transform in (*JACOBIANS, wg.hessian):
        of = f if transform is not wg.hessian else lambda x: f(x).sum()
        assert transform(of)(doubles(1.0, 2.0)).dtype == np.float64


def test_leaks_and_mapped_values() -> None:
    kept: list[Any] = []
    wg.jacfwd(lambda x: kept.append(x) or x * x)(doubles(1.0, 2.0))
    with pytest.raises(LeakedTracerError, match=r"jvp\(.*\).*test_jacobians\.py:\d+|used after that transform"):
        _ = kept[0] * 2.0
    with pytest.raises(MappedValueError, match="test_jacobians"):
        wg.vmap(wg.jacrev(lambda x: x * x if x.sum() > 0 else x))(np.ones((2, 2)))
