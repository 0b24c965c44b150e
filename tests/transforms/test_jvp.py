"""`wg.jvp`: arguments and tangents of any form, dtypes, constants, writes, control flow, what is refused."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here
from tests.transforms.doubles import doubles, number
from wengert.core.tracing import open_traces
from wengert.errors import DTypeError, GradientError, LeakedTracerError, ShapeError, StructureError


class Parameters(NamedTuple):
    w: Any
    b: Any


# Arguments and tangents.


def test_python_numbers_arrays_and_tensors() -> None:
    for primal, tangent, dtype in (
        (2.0, 1.0, np.float32),
        (2.0, 1, np.float32),
        (np.float64(2.0), 1.0, np.float64),
        (np.float64(2.0), np.float32(1.0), np.float64),
        (np.array(2.0, np.float16), 1.0, np.float16),
        (number(2.0), 1.0, np.float64),
        (wg.tensor(2.0), np.float64(1.0), np.float32),
    ):
        y, y_dot = wg.jvp(lambda x: x * x * x, (primal,), (tangent,))
        assert (y.item(), y_dot.item(), y.dtype, y_dot.dtype, y.shape, y_dot.shape) == (8.0, 12.0, dtype, dtype, (), ())


def test_lists_are_containers() -> None:
    y, y_dot = wg.jvp(lambda x: x[0] * x[1], ([2.0, 3.0],), ([1.0, None],))
    assert (y.item(), y_dot.item()) == (6.0, 3.0)


def test_any_nesting_and_none_for_zero() -> None:
    tree = OrderedDict(layers=[Parameters(doubles(1.0, 2.0), doubles(3.0, 4.0))], scale=(5.0, 6.0), none=None)
    dots = OrderedDict(layers=[Parameters(doubles(1.0, 0.0), None)], scale=(None, 2.0), none=None)

    def f(p: Any, x: Any) -> Any:
        return {"y": p["layers"][0].w * p["layers"][0].b * p["scale"][1], "rest": (x * p["scale"][0], p["none"])}

    y, y_dot = wg.jvp(f, (tree, 7.0), (dots, 1.0))
    assert y["y"].tolist() == [18.0, 48.0] and y_dot["y"].tolist() == [18.0 + 6.0, 16.0]
    assert y["rest"][0].item() == 35.0 and y_dot["rest"][0].item() == 5.0
    assert type(y_dot["rest"]) is tuple and y_dot["rest"][1] is None
    _, y_dot = wg.jvp(f, (tree, 7.0), (None, 1.0))
    assert y_dot["y"].tolist() == [0.0, 0.0] and y_dot["rest"][0].item() == 5.0


def test_no_argument_moves() -> None:
    y, y_dot = wg.jvp(lambda x, n: wg.sin(x) * n, (doubles(1.0, 2.0), 3), (None, None))
    assert y_dot.tolist() == [0.0, 0.0] and y_dot.dtype == np.float64 and y.requires_grad is False


def test_each_subset_of_arguments_moves() -> None:
    def f(x: Any, y: Any, z: Any) -> Any:
        return x * y * y * z**3

    point, partials = (2.0, 3.0, 5.0), (9.0 * 125, 2 * 2 * 3 * 125.0, 2 * 9 * 3 * 25.0)
    for mask in np.ndindex(2, 2, 2):
        tangents = tuple([1.0 if moves else None for moves in mask])
        got = wg.jvp(f, point, tangents)[1].item()
        assert got == sum(p for p, moves in zip(partials, mask) if moves)


def test_integers_and_booleans_pass() -> None:
    def f(x: Any, i: Any, mask: Any, mode: str) -> Any:
        assert mode == "fast"
        return wg.where(mask, x[i], 0.0), i + 1, mask

    (y, i, mask), dots = wg.jvp(
        f,
        (doubles(1.0, 2.0, 3.0), wg.tensor([2, 0]), np.array([True, False]), "fast"),
        (doubles(1.0, 2.0, 5.0), None, None, None),
    )
    assert y.tolist() == [3.0, 0.0] and i.tolist() == [3, 1] and mask.tolist() == [True, False]
    assert dots[0].tolist() == [5.0, 0.0] and dots[1] is None and dots[2] is None


def test_results_that_do_not_depend_on_the_arguments() -> None:
    constant = doubles(7.0, 8.0)
    (x, c, fresh), dots = wg.jvp(lambda x: (x, constant, wg.zeros(2)), (doubles(1.0),), (doubles(2.0),))
    assert (x.tolist(), c.tolist()) == ([1.0], [7.0, 8.0])
    assert [d.tolist() for d in dots] == [[2.0], [0.0, 0.0], [0.0, 0.0]] and dots[2].dtype == np.float32
    assert fresh.dtype == np.float32


@pytest.mark.parametrize("shape", [(0,), (2, 0), (), (1,), (1, 1)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_shapes_and_dtypes(shape: tuple[int, ...], dtype: str) -> None:
    x = wg.tensor(np.full(shape, 0.5), dtype=dtype)
    y, y_dot = wg.jvp(lambda t: wg.exp(t) * 2.0, (x,), (wg.ones_like(x),))
    assert (y.shape, y_dot.shape, y.dtype, y_dot.dtype) == (shape, shape, np.dtype(dtype), np.dtype(dtype))
    _, total_dot = wg.jvp(lambda t: t.sum(), (x,), (wg.ones_like(x),))
    assert total_dot.shape == () and total_dot.dtype == x.dtype and total_dot.item() == x.size


def test_mixed_dtypes_promote_as_everywhere() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * y

    single, double = wg.tensor([2.0]), doubles(3.0)
    out, out_dot = wg.jvp(f, (single, double), (wg.tensor([1.0]), None))
    assert out_dot.dtype == out.dtype == np.float64 and out_dot.tolist() == [3.0]
    out, out_dot = wg.jvp(lambda x: x.astype("float64") * 2.0, (single,), (wg.tensor([1.0]),))
    assert out_dot.dtype == np.float64
    out, out_dot = wg.jvp(lambda x: x.astype("int64"), (single,), (wg.tensor([1.0]),))
    assert out.dtype == np.int64 and out_dot is None


def test_python_integers_promote_nothing() -> None:
    single, v = wg.tensor([2.0]), wg.ones(1)

    def f(x: Any, n: Any) -> Any:
        assert type(n) is int
        return x**n * n

    assert wg.jvp(f, (single, 3), (v, None))[1].dtype == np.float32
    y, push = wg.linearize(f, single, 3)
    assert y.dtype == push(v, None).dtype == np.float32
    with pytest.raises(DTypeError, match="n is of type int and cannot be perturbed"):
        push(v, 1)
    y, pull = wg.vjp(f, single, 3)
    assert y.dtype == np.float32 and pull(v)[1] is None and pull(v)[0].tolist() == [36.0]


def test_aux() -> None:
    y, y_dot, aux = wg.jvp(lambda x: (x * x, {"x": x, "n": 3, "s": "a"}), (3.0,), (1.0,), has_aux=True)
    assert (y.item(), y_dot.item(), aux["n"], aux["s"], aux["x"].item()) == (9.0, 6.0, 3, "a", 3.0)
    assert (aux["x"] * 2.0).item() == 6.0  # of no use to any transform, and no tracer


# What is seen from outside.


def test_closed_over_leaves_see_values_and_tangents() -> None:
    w = doubles(2.0, 3.0).requires_grad_()
    y, y_dot = wg.jvp(lambda x: wg.sin(w * x), (doubles(0.5, 0.7),), (doubles(1.0, 1.0),))
    assert y.requires_grad and y_dot.requires_grad
    y_dot.sum().backward()  # d/dw w cos(w x) = cos(w x) - w x sin(w x)
    z = w.detach().numpy() * np.array([0.5, 0.7])
    np.testing.assert_allclose(grad_of(w).numpy(), np.cos(z) - z * np.sin(z), rtol=1e-14)


def test_tracked_primals_and_tangents() -> None:
    x, v = doubles(0.3).requires_grad_(), doubles(2.0).requires_grad_()
    _, y_dot = wg.jvp(wg.sin, (x,), (v,))
    y_dot.sum().backward()
    assert grad_of(x).item() == pytest.approx(-2.0 * np.sin(0.3)) and grad_of(v).item() == pytest.approx(np.cos(0.3))


def test_no_grad_inside_makes_constants() -> None:
    def f(x: Any) -> Any:
        with wg.no_grad():
            c = x * x
        return c * x

    assert wg.jvp(f, (3.0,), (1.0,))[1].item() == 9.0
    assert wg.linearize(f, 3.0)[1](1.0).item() == 9.0
    assert wg.jvp(wg.grad(f), (3.0,), (1.0,))[1].item() == wg.grad(wg.grad(f))(3.0).item()


def test_no_grad_around_does_not() -> None:
    w = number(2.0).requires_grad_()
    with wg.no_grad():
        y, y_dot = wg.jvp(lambda x: x * x * w, (3.0,), (1.0,))
        assert not wg.is_grad_enabled()
        with wg.enable_grad():
            assert wg.jvp(lambda x: x * x * w, (3.0,), (1.0,))[1].requires_grad
    assert y_dot.item() == 12.0 and not y.requires_grad and not y_dot.requires_grad
    with wg.no_grad():
        push = wg.linearize(lambda x: x * x * w, 3.0)[1]
    assert push(1.0).item() == 12.0


def test_enable_grad_inside_of_no_grad_inside() -> None:
    def f(x: Any) -> Any:
        with wg.no_grad():
            c = x * x
            with wg.enable_grad():
                d = x * x * x
        return c + d

    assert wg.jvp(f, (2.0,), (1.0,))[1].item() == 12.0
    with wg.no_grad():
        assert wg.jvp(f, (2.0,), (1.0,))[1].item() == 12.0


def test_detach_and_stop_gradient() -> None:
    assert wg.jvp(lambda x: x.detach() * x, (3.0,), (1.0,))[1].item() == 3.0
    assert wg.jvp(lambda x: wg.stop_gradient(x) * x, (3.0,), (1.0,))[1].item() == 3.0


def test_control_flow_on_values() -> None:
    def f(x: Any) -> Any:
        y = x
        while y < 100.0:
            y = y * y
        assert y > 0 and bool(y) and float(y.detach().item()) > 1
        return -y if x[()] > 2.5 else y

    assert wg.jvp(f, (3.0,), (1.0,))[1].item() == -8 * 3.0**7
    assert wg.jvp(f, (2.0,), (1.0,))[1].item() == 8 * 2.0**7
    assert [k for k in range(wg.jvp(lambda x: x * len(x), (doubles(1.0, 2.0),), (None,))[0].shape[0])] == [0, 1]


def test_taking_the_value_off_the_tape_is_refused_and_detach_is_not() -> None:
    with pytest.raises(GradientError, match=r"carries a tangent in jvp\(<lambda>\(\)\).*detach"):
        wg.jvp(lambda x: x * float(x.numpy()), (3.0,), (1.0,))
    with pytest.raises(GradientError):
        wg.jvp(lambda x: wg.asarray(np.asarray(x)), (doubles(3.0),), (doubles(1.0),))
    assert wg.jvp(lambda x: x * float(x.detach().numpy()), (3.0,), (1.0,))[1].item() == 3.0


# Purity and writes.


def test_writes_to_arguments_are_not_seen_by_the_caller() -> None:
    def f(x: Any) -> Any:
        x[0] = 5.0
        x *= 2.0
        return (x * x).sum()

    for x in (doubles(1.0, 2.0), np.array([1.0, 2.0]), doubles(1.0, 2.0).requires_grad_()):
        y, y_dot = wg.jvp(f, (x,), (np.array([1.0, 1.0]),))
        assert (y.item(), y_dot.item()) == (116.0, 16.0)
        assert x.tolist() == [1.0, 2.0]


def test_results_and_tangents_may_be_written_without_harm() -> None:
    x, v = doubles(1.0, 2.0), doubles(3.0, 4.0)
    y, y_dot = wg.jvp(lambda t: t, (x,), (v,))
    y[0] = 9.0
    y_dot += 1.0
    assert (x.tolist(), v.tolist(), y.tolist(), y_dot.tolist()) == ([1.0, 2.0], [3.0, 4.0], [9.0, 2.0], [4.0, 5.0])


def test_a_write_to_a_tensor_outside_leaves_the_value_there() -> None:
    table, seen = wg.zeros(2, dtype="float64"), []
    view = table[1:]

    def f(x: Any) -> Any:
        table[1] = x * x
        seen.append(view * 1.0)
        return table.sum() * x + view[0]

    y, y_dot = wg.jvp(f, (number(3.0),), (number(1.0),))
    assert (y.item(), y_dot.item()) == (36.0, 27.0 + 6.0)
    assert table.tolist() == [0.0, 9.0] and view.tolist() == [9.0]
    table[0] = 1.0
    assert type(table) is wg.Tensor and (table * 2.0).tolist() == [2.0, 18.0]


def test_an_element_read_by_integers_is_no_view() -> None:
    def f(x: Any) -> Any:
        y = x * 1.0
        one, row, zero_dim = y[0, 0], y[0], y[1, 1, ...]
        other = row[1]
        one += 5.0
        other *= 7.0
        zero_dim += 11.0
        return y, one, other, zero_dim

    x = wg.ones((2, 2), dtype="float64")
    wanted = [out.tolist() for out in f(x)]
    assert wanted == [[[1.0, 1.0], [1.0, 12.0]], 6.0, 7.0, 12.0]
    assert [out.tolist() for out in wg.jvp(f, (x,), (x,))[0]] == wanted
    assert [out[0].tolist() for out in wg.vmap(f)(wg.stack([x, x]))] == wanted
    assert [out.tolist() for out in wg.jvp(f, (x,), (x,))[1]] == [[[1.0, 1.0], [1.0, 1.0]], 1.0, 7.0, 1.0]


@pytest.mark.parametrize("through_a_view", [True, False])
def test_a_write_under_no_grad_is_of_a_constant_and_views_keep_the_rest(through_a_view: bool) -> None:
    def f(x: Any) -> Any:
        y = x * 1.0
        row = y[0]
        with wg.no_grad():
            if through_a_view:
                row[0] = x[1, 0]
            else:
                y[0, 0] = x[1, 0]
        return y, row

    x = wg.ones((2, 2), dtype="float64")
    y, row = wg.jvp(f, (x,), (x,))[1]
    assert (y.tolist(), row.tolist()) == ([[0.0, 1.0], [1.0, 1.0]], [0.0, 1.0])
    y, row = wg.vmap(f)(wg.stack([x, x * 2.0]))
    assert row.tolist() == [[1.0, 1.0], [2.0, 2.0]]
    slope = wg.vmap(wg.grad(lambda t: f(t)[1].sum()))(wg.stack([x, x]))
    assert slope.tolist() == [[[0.0, 1.0], [0.0, 0.0]]] * 2


def test_backward_inside() -> None:
    w = number(2.0).requires_grad_()

    def f(x: Any) -> Any:
        (w * w * 3.0).backward()
        local = (x * x).requires_grad_()
        (local * local * x.detach()).backward()
        return local.grad * x  # 2 x^2 x_0 x = 2 x_0 x^3

    y, y_dot = wg.jvp(f, (number(3.0),), (number(1.0),))
    assert grad_of(w).item() == 12.0
    assert (y.item(), y_dot.item()) == (2 * 3.0**4, 6 * 3.0 * 9.0)


# What is refused.


NO_TUPLE: Any = 2.0


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (
            lambda: wg.jvp(wg.sin, NO_TUPLE, (1.0,)),
            StructureError,
            r"primals must be a tuple.*for a single argument x write \(x,\)",
        ),
        (lambda: wg.jvp(wg.sin, (2.0,), NO_TUPLE), StructureError, r"tangents must be a tuple"),
        (lambda: wg.jvp(wg.sin, (2.0,), (1.0, 2.0)), StructureError, "there are 1 primals and 2 tangents"),
        (lambda: wg.jvp(lambda p: p["x"], ({"x": 1.0},), ({"y": 1.0},)), StructureError, r"the tangent of p"),
        (lambda: wg.jvp(lambda p: p[0], ([1.0, 2.0],), ([1.0],)), StructureError, r"the tangent of p.*list"),
        (lambda: wg.jvp(lambda p: p[0], ([1.0, 2.0],), ((1.0, 2.0),)), StructureError, r"the tangent of p.*tuple"),
        (
            lambda: wg.jvp(lambda a, b: a, (doubles(1.0), 2.0), (np.ones(2), None)),
            ShapeError,
            r"tangent of a has shape \(2,\).*primal has shape \(1,\)",
        ),
        (
            lambda: wg.jvp(lambda a, b: a, (2.0, {"k": [doubles(1.0)]}), (None, {"k": [doubles(1.0, 2.0)]})),
            ShapeError,
            r"tangent of b\['k'\]\[0\]",
        ),
        (
            lambda: wg.jvp(lambda a: a, (doubles(1.0),), (wg.tensor([1.0]),)),
            DTypeError,
            r"tangent of a has dtype float32.*astype\('float64'\)",
        ),
        (lambda: wg.jvp(lambda a: a, (3,), (1,)), DTypeError, r"a has dtype int64.*tangent must be None"),
        (lambda: wg.jvp(lambda a: a, (True,), (1.0,)), DTypeError, r"a has dtype bool"),
        (lambda: wg.jvp(lambda a: a, (2.0,), (1j,)), DTypeError, r"tangent of a has dtype complex"),
        (lambda: wg.jvp(lambda a: a, (2.0,), ("x",)), DTypeError, r"tangent of a is of type str"),
        (lambda: wg.jvp(lambda a: a, ("x",), (1.0,)), DTypeError, r"a is of type str"),
        (lambda: wg.jvp(lambda x: None, (2.0,), (1.0,)), DTypeError, r"<lambda>\(\).*return"),
        (
            lambda: wg.jvp(lambda x: x.detach().item(), (2.0,), (1.0,)),
            DTypeError,
            r"its output is of type float.*item\(\)",
        ),
        (lambda: wg.jvp(lambda x: [x, 1.0], (2.0,), (1.0,)), DTypeError, r"its output\[1\] is of type float"),
        (
            lambda: wg.jvp(lambda x: {"a": x, "b": "no"}, (2.0,), (1.0,)),
            DTypeError,
            r"its output\['b'\] is of type str",
        ),
        (lambda: wg.jvp(lambda x: [], (2.0,), (1.0,)), DTypeError, r"no Tensor"),
        (
            lambda: wg.jvp(lambda x: x, (2.0,), (1.0,), has_aux=True),
            DTypeError,
            r"must return \(output, aux\), not Tensor",
        ),
        (lambda: wg.jvp(lambda x: (x, 1, 2), (2.0,), (1.0,), has_aux=True), DTypeError, r"not a tuple of 3"),
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

    wg.jvp(careless, (doubles(2.0),), (doubles(1.0),))
    (y,) = kept
    uses: list[Callable[[], Any]] = [
        lambda: y + 1.0,
        lambda: wg.sin(y),
        lambda: y[0],
        lambda: y.sum(),
        lambda: y.numpy(),
        lambda: y.tolist(),
        lambda: y.item(),
        lambda: bool(y),
        lambda: wg.jvp(lambda t: t * y, (doubles(1.0),), (doubles(1.0),)),
        lambda: wg.grad(lambda t: (t * y).sum())(doubles(1.0)),
        lambda: wg.vmap(lambda t: t * y)(doubles(1.0)),
        lambda: wg.zeros(1, dtype="float64").copy_(y),
        lambda: y.copy_(1.0),
    ]
    for use in uses:
        with pytest.raises(LeakedTracerError, match=r"jvp\(careless\(\)\)") as caught:
            use()
        assert lines[0] in str(caught.value)
        assert open_traces() == ()
    assert "ended" in repr(y) and y.shape == (1,) and y.dtype == np.float64


def test_exceptions_leave_nothing_half_open() -> None:
    def fail(x: Any) -> Any:
        with wg.GradientTape() as tape:
            tape.watch(x)
            wg.set_grad_enabled(False)
            raise ZeroDivisionError

    for call in (
        functools.partial(wg.jvp, fail, (1.0,), (1.0,)),
        functools.partial(wg.jvp, wg.grad(fail), (1.0,), (1.0,)),
        functools.partial(wg.grad(lambda x: wg.jvp(fail, (x,), (1.0,))[1]), 1.0),
        functools.partial(wg.jvp, wg.vmap(fail), (doubles(1.0),), (doubles(1.0),)),
    ):
        with pytest.raises(ZeroDivisionError):
            call()
        assert open_traces() == () and wg.is_grad_enabled()
        assert wg.jvp(wg.sin, (0.0,), (1.0,))[1].item() == 1.0


def test_a_generator_that_is_abandoned_within() -> None:
    states: list[Any] = []

    def stream() -> Generator[None]:
        try:
            while True:
                states.append(wg.jvp(lambda t: t * t, (3.0,), (1.0,))[1].item())
                yield
        finally:
            states.append(len(open_traces()))

    def f(x: Any) -> Any:
        run = stream()
        next(run)
        run.close()
        return x * x

    assert wg.jvp(f, (2.0,), (1.0,))[1].item() == 4.0
    assert states == [6.0, 1]


def test_a_generator_that_lives_on_does_not_carry_the_transform_out() -> None:
    def steps(x: Any) -> Iterator[Any]:
        yield x
        yield x * x

    kept: list[Any] = []

    def f(x: Any) -> Any:
        run = steps(x)
        kept.append(run)
        return next(run)

    wg.jvp(f, (2.0,), (1.0,))
    with pytest.raises(LeakedTracerError):
        next(kept[0])


def test_threads_do_not_disturb_each_other() -> None:
    barrier = threading.Barrier(2, timeout=30)
    found: dict[float, float] = {}
    depths: list[int] = []

    def f(x: Any) -> Any:
        barrier.wait()
        y = x * x
        depths.append(len(open_traces()))
        barrier.wait()
        return y * x

    def run(value: float) -> None:
        found[value] = wg.jvp(f, (value,), (1.0,))[1].item()

    threads = [threading.Thread(target=run, args=(value,)) for value in (2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {2.0: 12.0, 3.0: 27.0} and depths == [1, 1]


def test_a_tracer_in_another_thread() -> None:
    """A thread that the function starts computes with tracers as the function does."""
    found: list[Any] = []

    def f(x: Any) -> Any:
        thread = threading.Thread(target=lambda: found.append(wg.sin(x) * x))
        thread.start()
        thread.join()
        return found.pop()

    assert wg.jvp(f, (number(0.5),), (number(1.0),))[1].item() == pytest.approx(
        0.5 * np.cos(0.5) + np.sin(0.5), rel=1e-15
    )


def test_methods_callables_and_partials() -> None:
    class Cube:
        def __call__(self, x: Any) -> Any:
            return x * x * x

        def method(self, x: Any) -> Any:
            return self(x)

    cube = Cube()
    for f in (cube, cube.method, functools.partial(cube)):
        assert wg.jvp(f, (2.0,), (1.0,))[1].item() == 12.0
    with pytest.raises(ShapeError, match="tangent of x"):
        wg.jvp(cube.method, (2.0,), (np.ones(2),))


def test_a_layer_moves_along_its_parameters() -> None:
    layer = wg.nn.Linear(3, 2).to("float64")
    x = np.random.default_rng(0).normal(size=(4, 3))
    parameters = dict(layer.named_parameters())
    dots = {name: wg.ones_like(p).detach() for name, p in parameters.items()}
    _, out_dot = wg.jvp(lambda p: wg.nn.functional_call(layer, p, wg.asarray(x)), (parameters,), (dots,))
    np.testing.assert_allclose(out_dot.detach().numpy(), np.repeat(x.sum(1, keepdims=True) + 1.0, 2, 1), rtol=1e-14)


@pytest.mark.parametrize(
    "run", [lambda f: wg.jvp(f, (wg.ones(16),), (wg.ones(16),)), lambda f: wg.compile(f)(wg.ones(16))]
)
def test_a_traceback_does_not_speak_of_how_the_fast_path_looks_at_operands(run: Any) -> None:
    with pytest.raises(wg.errors.ShapeError, match="do not broadcast") as caught:
        run(lambda x: x - wg.ones(3))
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError)
    assert cause.__context__ is None
