"""`wg.linearize`: one run, a linear map that may be called again and again, and what it keeps."""

from __future__ import annotations

import functools
import gc
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here
from tests.transforms.doubles import doubles, number
from wengert.core.tracing import open_traces
from wengert.errors import DTypeError, LeakedTracerError, ShapeError, StructureError


def test_the_function_runs_once() -> None:
    runs: list[int] = []

    def f(x: Any) -> Any:
        runs.append(1)
        return wg.exp(x) * x

    y, push = wg.linearize(f, doubles(0.0, 1.0))
    assert [push(doubles(*v)).tolist() for v in ((1.0, 0.0), (0.0, 1.0))] == [[1.0, 0.0], [0.0, 2 * np.e]]
    assert runs == [1] and y.tolist() == [0.0, np.e]
    assert repr(push).startswith("<linear map of f(), ") and "operations" in repr(push)


def test_it_is_linear_to_the_last_digits_and_agrees_with_jvp() -> None:
    rng = np.random.default_rng(0)
    a, x, u, v = (wg.asarray(rng.normal(size=shape)) for shape in ((4, 3), 3, 3, 3))

    def f(t: Any) -> Any:
        return wg.softmax(a @ t) * wg.sort(wg.sin(a @ t)), wg.cumsum(t * t)

    _, push = wg.linearize(f, x)
    for of_sum, of_u, of_v, by_jvp in zip(push(u + 3.0 * v), push(u), push(v), wg.jvp(f, (x,), (u,))[1], strict=True):
        np.testing.assert_allclose(of_sum.numpy(), (of_u + 3.0 * of_v).numpy(), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(of_u.numpy(), by_jvp.numpy(), rtol=1e-14, atol=1e-16)
    assert [out.tolist() for out in push(wg.zeros_like(x))] == [[0.0] * 4, [0.0] * 3]


def test_any_nesting_none_for_zero_and_constants() -> None:
    constant = doubles(7.0)

    def f(p: Any, i: Any, mode: str) -> Any:
        assert mode == "m"
        return {"y": p["x"][i] * p["s"], "c": constant, "n": (i, p["none"])}

    out, push = wg.linearize(f, {"x": doubles(1.0, 2.0), "s": 3.0, "none": None}, wg.tensor([1, 1, 0]), "m")
    assert out["y"].tolist() == [6.0, 6.0, 3.0] and out["c"].tolist() == [7.0]
    dots = push({"x": doubles(1.0, 10.0), "s": None, "none": None}, None, None)
    assert dots["y"].tolist() == [30.0, 30.0, 3.0] and dots["c"].tolist() == [0.0] and dots["n"] == (None, None)
    dots = push({"x": None, "s": 1.0, "none": None}, None, None)
    assert dots["y"].tolist() == [2.0, 2.0, 1.0]
    assert push(None, None, None)["y"].tolist() == [0.0, 0.0, 0.0]


def test_aux_and_arguments_alone() -> None:
    y, push, aux = wg.linearize(lambda x: (x * x, {"x": x, "n": 1}), 3.0, has_aux=True)
    assert (y.item(), push(1.0).item(), aux["n"], aux["x"].item()) == (9.0, 6.0, 1, 3.0)
    y, push = wg.linearize(lambda x: x, doubles(1.0))
    assert push(doubles(5.0)).tolist() == [5.0]
    y, push = wg.linearize(lambda: wg.ones(2))
    assert push().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3)])
def test_shapes_and_dtypes(shape: tuple[int, ...], dtype: str) -> None:
    x = wg.tensor(np.full(shape, 0.25), dtype=dtype)
    y, push = wg.linearize(lambda t: wg.exp(t) * 2.0, x)
    for v in (wg.ones_like(x), np.ones(shape), np.ones(shape, np.float32), 1.0 if shape == () else np.ones(shape, int)):
        out = push(v)
        assert (out.shape, out.dtype, y.dtype) == (shape, x.dtype, x.dtype)


def test_writes_inside_and_afterwards() -> None:
    """What the map keeps is the run's own: later writes to arguments, results or closed-over Tensors leave it alone."""
    w, x = doubles(2.0, 3.0), doubles(1.0, 4.0)

    def f(t: Any) -> Any:
        table = wg.zeros((2, 2), dtype="float64")
        table[0] = t * w
        table[1] = table[0] * t
        t[0] = 100.0
        table[:, 1] *= 2.0
        return table

    y, push = wg.linearize(f, x)
    assert x.tolist() == [1.0, 4.0] and y.tolist() == [[2.0, 24.0], [2.0, 96.0]]
    wanted = [[2.0, 6.0], [4.0, 48.0]]
    assert push(doubles(1.0, 1.0)).tolist() == wanted
    w[:] = 0.0
    x += 50.0
    y.zero_()
    assert push(doubles(1.0, 1.0)).tolist() == wanted
    dots = push(doubles(1.0, 1.0))
    dots *= 0.0
    assert push(doubles(1.0, 1.0)).tolist() == wanted
    v = doubles(1.0, 1.0)
    same = wg.linearize(lambda t: t, x)[1](v)
    same += 1.0
    assert v.tolist() == [1.0, 1.0]


def test_the_map_is_differentiable_in_its_tangent_and_its_primal() -> None:
    x, v = number(0.3).requires_grad_(), number(2.0).requires_grad_()
    _, push = wg.linearize(wg.sin, x)
    push(v).backward()
    assert grad_of(x).item() == pytest.approx(-2.0 * np.sin(0.3)) and grad_of(v).item() == pytest.approx(np.cos(0.3))
    _, push = wg.linearize(lambda t: t * t * t, 2.0)
    assert wg.grad(push)(1.0).item() == 12.0 and wg.grad(wg.grad(push))(1.0).item() == 0.0
    assert wg.jvp(push, (1.0,), (2.0,))[1].item() == 24.0


def test_the_map_under_vmap_gives_the_jacobian() -> None:
    a = np.random.default_rng(0).normal(size=(3, 2))
    x = wg.asarray(np.array([0.4, -0.2]))

    def f(t: Any) -> Any:
        return wg.sin(wg.asarray(a) @ t)

    _, push = wg.linearize(f, x)
    columns = wg.vmap(push)(wg.eye(2, dtype="float64"))
    np.testing.assert_allclose(columns.numpy().T, np.cos(a @ x.numpy())[:, None] * a, rtol=1e-14)


def test_control_flow_takes_the_branch_of_the_run() -> None:
    def f(x: Any) -> Any:
        return x * x if x > 0 else -x

    assert wg.linearize(f, 3.0)[1](1.0).item() == 6.0
    assert wg.linearize(f, -3.0)[1](1.0).item() == -1.0


def test_infinite_branches_are_quiet_and_masked() -> None:
    x = doubles(0.0, -1.0, 4.0)

    def f(t: Any) -> Any:
        with np.errstate(all="ignore"):
            return wg.where(t > 0, wg.sqrt(t) * wg.log(t), 2.0 * t)

    dots = wg.linearize(f, x)[1](doubles(1.0, 1.0, 1.0))
    np.testing.assert_allclose(dots.numpy(), [2.0, 2.0, np.log(4.0) / 4 + 0.5], rtol=1e-15)
    assert wg.jvp(f, (x,), (doubles(1.0, 1.0, 1.0),))[1].tolist() == dots.tolist()


def test_closed_over_leaves() -> None:
    w = doubles(2.0, 3.0).requires_grad_()
    y, push = wg.linearize(lambda x: w * x * x, doubles(1.0, 2.0))
    assert y.requires_grad
    push(doubles(1.0, 1.0)).sum().backward()
    assert grad_of(w).tolist() == [2.0, 4.0]
    with wg.no_grad():
        assert not push(doubles(1.0, 1.0)).requires_grad


def test_it_keeps_what_it_needs_and_gives_it_back() -> None:
    x = wg.tensor(np.linspace(0.1, 1.0, 50_000))

    def f(t: Any) -> Any:
        y = t
        for _ in range(10):
            y = wg.sin(y)
            (wg.exp(t) * wg.cos(t)).sum()  # no result depends on it
        return y

    for _ in range(4):  # until kernels for large arrays are made and kept
        wg.linearize(f, x)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        y, push = wg.linearize(f, x)
        del y
        assert 9 * x.nbytes < tracemalloc.get_traced_memory()[0] - before < 13 * x.nbytes
        del push
        assert tracemalloc.get_traced_memory()[0] - before < x.nbytes / 10  # without a collection: there is no cycle
    finally:
        tracemalloc.stop()


def test_dead_operations_are_not_kept() -> None:
    def f(x: Any) -> Any:
        for _ in range(50):
            wg.sin(x)
        return x * 2.0

    assert len(wg.linearize(f, 1.0)[1]._program) == len(wg.linearize(lambda x: x * 2.0, 1.0)[1]._program)  # type: ignore[attr-defined]


# What is refused.


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (
            lambda: wg.linearize(wg.sin, 2.0)[1](),
            StructureError,
            r"linearize\(sin\(\)\): the map takes 1 tangents.*not 0",
        ),
        (lambda: wg.linearize(wg.sin, 2.0)[1](1.0, 2.0), StructureError, "not 2"),
        (lambda: wg.linearize(lambda p: p["a"], {"a": 2.0})[1]({"b": 1.0}), StructureError, "the tangent of p"),
        (lambda: wg.linearize(lambda p: p, doubles(2.0))[1](np.ones(2)), ShapeError, r"tangent of p has shape \(2,\)"),
        (lambda: wg.linearize(lambda p: p, doubles(2.0))[1](wg.ones(1)), DTypeError, r"tangent of p has dtype float32"),
        (
            lambda: wg.linearize(lambda p, n: p * n, 2.0, 3)[1](1.0, 1),
            DTypeError,
            r"linearize\(<lambda>\(\)\): n has dtype int64|tangent.*n",
        ),
        (lambda: wg.linearize(lambda x: None, 2.0), DTypeError, "linearize: .*return"),
        (lambda: wg.linearize(lambda x: x.detach().item(), 2.0), DTypeError, "its output is of type float"),
        (lambda: wg.linearize(lambda x: x, 2.0, has_aux=True), DTypeError, "not Tensor"),
        (lambda: wg.linearize(lambda x: x.undefined, 2.0), AttributeError, "undefined"),
    ],
)
def test_errors_say_what_is_wrong(ask: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask()
    assert open_traces() == () and wg.is_grad_enabled()


def test_a_leaked_tracer_names_the_transform_and_the_line() -> None:
    kept: list[Any] = []
    lines: list[str] = []

    def careless(x: Any) -> Any:
        y, line = x * x, here()
        kept.append(y)
        lines.append(line)
        return y

    _, push = wg.linearize(careless, doubles(2.0))
    for use in (lambda: kept[0] * 2.0, lambda: kept[0].item(), lambda: push(kept[0])):
        with pytest.raises(LeakedTracerError, match=r"linearize\(careless\(\)\)") as caught:
            use()
        assert lines[0] in str(caught.value) and open_traces() == ()


def test_exceptions_leave_nothing_half_open() -> None:
    def fail(x: Any) -> Any:
        raise ZeroDivisionError

    for call in (
        functools.partial(wg.linearize, fail, 1.0),
        functools.partial(wg.linearize, wg.grad(fail), 1.0),
        functools.partial(wg.linearize, lambda x: wg.linearize(fail, x)[0], 1.0),
        functools.partial(wg.vmap(lambda x: wg.linearize(fail, x)[0]), doubles(1.0)),
    ):
        with pytest.raises(ZeroDivisionError):
            call()
        assert open_traces() == () and wg.is_grad_enabled()
        assert wg.linearize(wg.sin, 0.0)[1](1.0).item() == 1.0


def test_threads_share_a_map() -> None:
    _, push = wg.linearize(lambda x: wg.sin(x) * x, doubles(*np.linspace(0, 1, 100)))
    wanted = push(wg.ones(100, dtype="float64")).tolist()
    found: list[Any] = []

    def run() -> None:
        found.extend([push(wg.ones(100, dtype="float64")).tolist() == wanted for _ in range(20)])

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 60
