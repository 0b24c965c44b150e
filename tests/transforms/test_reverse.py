"""`grad`, `value_and_grad`, `vjp`: arguments of any form, what is seen from outside, purity, errors."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here
from tests.transforms.doubles import doubles
from wengert.errors import DTypeError, GradientError, ShapeError, StructureError


class Parameters(NamedTuple):
    w: Any
    b: Any


# Arguments and results


def test_python_floats_arrays_and_tensors() -> None:
    def cube(x: Any) -> Any:
        return (x * x * x).sum()

    g = wg.grad(cube)
    assert isinstance(g(2.0), wg.Tensor) and (g(2.0).item(), g(2.0).dtype) == (12.0, np.float32)
    for dtype in ("float16", "float32", "float64"):
        made = g(np.array([1.0, 2.0], dtype))
        assert (made.tolist(), made.dtype) == ([3.0, 12.0], dtype)
    made = g(np.float64(2.0))
    assert (made.item(), made.dtype, made.shape) == (12.0, np.float64, ())
    assert g(doubles(1.0, 2.0)).tolist() == [3.0, 12.0]
    assert not g(doubles(1.0)).requires_grad


def test_any_nesting() -> None:
    def loss(p: Any, x: Any) -> Any:
        return (p["layers"][0].w * x + p["layers"][0].b * p["scale"][1]).sum() + 0.0 * x.sum()

    tree = OrderedDict(layers=[Parameters(doubles(1.0, 2.0), doubles(3.0, 4.0))], scale=(5.0, 6.0), none=None)
    made = wg.grad(loss)(tree, doubles(7.0, 8.0))
    assert type(made) is OrderedDict and list(made) == ["layers", "scale", "none"] and made["none"] is None
    assert made["layers"][0].w.tolist() == [7.0, 8.0] and made["layers"][0].b.tolist() == [6.0, 6.0]
    assert (made["scale"][0].item(), made["scale"][1].item()) == (0.0, 7.0)


def test_argnums() -> None:
    def f(x: Any, y: Any, z: Any = 1.0) -> Any:
        return x * x * y * z

    assert wg.grad(f, argnums=1)(2.0, 3.0).item() == 4.0
    assert [g.item() for g in wg.grad(f, argnums=(1, 0))(2.0, 3.0)] == [4.0, 12.0]
    assert [g.item() for g in wg.grad(f, argnums=[0])(2.0, 3.0)] == [12.0]
    assert wg.grad(f, argnums=-1)(2.0, 3.0).item() == 4.0
    assert wg.grad(f)(2.0, 3.0, z=5.0).item() == 60.0
    assert wg.grad(f, argnums=np.int64(1))(2.0, 3.0).item() == 4.0  # type: ignore[arg-type]


def test_other_arguments_pass_as_they_are() -> None:
    seen: list[Any] = []

    def f(x: Any, mode: str, n: int) -> Any:
        seen.append((mode, n))
        return x * float(n)

    assert wg.grad(f)(2.0, "fast", 3).item() == 3.0
    assert seen == [("fast", 3)]


def test_value_and_grad_and_aux() -> None:
    def f(x: Any) -> Any:
        return x * x, {"double": x * 2.0, "label": "a", "argument": x}

    value, slope = wg.value_and_grad(lambda x: x * x)(3.0)
    assert (value.item(), slope.item(), value.requires_grad) == (9.0, 6.0, False)
    (value, aux), slope = wg.value_and_grad(f, has_aux=True)(3.0)
    assert (value.item(), slope.item(), aux["double"].item(), aux["label"]) == (9.0, 6.0, 6.0, "a")
    assert not aux["double"].requires_grad and aux["argument"].numpy() == 3.0
    slope, aux = wg.grad(f, has_aux=True)(3.0)
    assert (slope.item(), aux["double"].numpy()) == (6.0, 6.0)


def test_unused_arguments_and_constants_give_zeros() -> None:
    made = wg.grad(lambda p: p["a"] * 1.0)({"a": 2.0, "u": doubles(1.0, 2.0)})
    assert made["u"].tolist() == [0.0, 0.0] and made["u"].dtype == np.float64
    assert wg.grad(lambda x: wg.tensor(1.0))(2.0).item() == 0.0
    assert wg.grad(lambda x: x.detach() * 2.0)(2.0).item() == 0.0
    assert wg.grad(lambda x: x)(2.0).item() == 1.0


def test_the_names_of_what_is_made() -> None:
    def energy(x: Any) -> Any:
        """Say how much."""
        return x * x

    assert (wg.grad(energy).__name__, wg.grad(energy).__doc__) == ("grad(energy)", "Say how much.")
    assert wg.grad(wg.grad(functools.partial(energy)))(2.0).item() == 2.0


# vjp


def test_vjp_of_nested_outputs() -> None:
    outputs, pullback = wg.vjp(lambda x, y: {"p": x * y, "s": [x + y, y]}, doubles(2.0, 3.0), 5.0)
    assert outputs["p"].tolist() == [10.0, 15.0] and not outputs["p"].requires_grad
    bars = pullback({"s": [None, 1.0], "p": [1.0, 10.0] and np.array([1.0, 10.0])})
    assert bars[0].tolist() == [5.0, 50.0] and bars[1].item() == 2.0 + 30.0 + 1.0
    assert bars[1].dtype == np.float32
    nothing = pullback({"p": None, "s": [None, None]})
    assert nothing[0].tolist() == [0.0, 0.0] and nothing[1].item() == 0.0


def test_a_pullback_may_be_called_many_times_and_is_linear() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 2))
    _, pullback = wg.vjp(lambda x: wg.sin(wg.asarray(a) @ x), rng.normal(size=2))
    u, v = rng.normal(size=3), rng.normal(size=3)
    (both,) = pullback(u + 2.0 * v)
    np.testing.assert_allclose(both.numpy(), pullback(u)[0].numpy() + 2.0 * pullback(v)[0].numpy())


def test_integers_pass_through_vjp() -> None:
    outputs, pullback = wg.vjp(lambda x, i: x[i], doubles(1.0, 2.0, 3.0), np.array([2, 0, 2]))
    assert outputs.tolist() == [3.0, 1.0, 3.0]
    bars = pullback(np.ones(3))
    assert bars[0].tolist() == [1.0, 0.0, 2.0] and bars[1] is None


def test_constant_and_integer_outputs() -> None:
    _, pullback = wg.vjp(lambda x: (x * 2.0, wg.tensor([1.0, 2.0]), wg.tensor(3)), 1.0)
    assert pullback((1.0, np.ones(2), None))[0].item() == 2.0
    with pytest.raises(ShapeError, match=r"shape \(3,\), but its output has shape \(2,\)"):
        pullback((1.0, np.ones(3), None))


def test_vjp_with_aux() -> None:
    outputs, pullback, aux = wg.vjp(lambda x: (x * x, {"x": x, "n": 1}), 3.0, has_aux=True)
    assert (outputs.item(), pullback(1.0)[0].item(), aux["n"], aux["x"].requires_grad) == (9.0, 6.0, 1, False)
    assert repr(pullback) == "<pullback of <lambda>()>"


def test_a_pullback_is_differentiable_in_its_cotangent_and_its_primals() -> None:
    x, v = doubles(0.3).requires_grad_(), doubles(2.0).requires_grad_()
    outputs, pullback = wg.vjp(wg.sin, x)
    assert outputs.requires_grad
    (bar,) = pullback(v)
    bar.sum().backward()
    assert x.grad.item() == pytest.approx(-2.0 * np.sin(0.3)) and v.grad.item() == pytest.approx(np.cos(0.3))
    _, pullback = wg.vjp(wg.sin, doubles(0.3))
    (bar,) = pullback(v)
    assert wg.autograd.grad(bar.sum(), v)[0].item() == pytest.approx(np.cos(0.3))


def test_outputs_of_vjp_can_be_written_in_place_without_harm() -> None:
    x = doubles(1.0, 2.0)
    outputs, pullback = wg.vjp(lambda x: wg.exp(x), x)
    expected = np.exp([1.0, 2.0])
    outputs[0] = 99.0
    np.testing.assert_allclose(pullback(np.ones(2))[0].numpy(), expected)


# What is closed over


def test_closed_over_tensors_that_require_grad_are_seen() -> None:
    w = doubles(2.0, 3.0).requires_grad_()
    made = wg.grad(lambda x: (x * w * w).sum())(doubles(1.0, 1.0))
    made.sum().backward()
    assert made.tolist() == [4.0, 9.0] and w.grad.tolist() == [4.0, 6.0]


def test_closed_over_tensors_get_no_grad_and_keep_their_tape() -> None:
    w = doubles(2.0).requires_grad_()
    calls: list[Any] = []
    h = w * w
    h.register_hook(lambda g: calls.append(g))
    with wg.no_grad():
        assert wg.grad(lambda x: (x * h).sum())(doubles(3.0)).item() == 4.0
    assert wg.grad(lambda x: (x * h).sum())(doubles(3.0)).item() == 4.0
    assert calls == [] and w.grad is None
    h.sum().backward()
    assert grad_of(w).item() == 4.0


def test_value_and_aux_stay_on_the_tape_where_it_leads_outside() -> None:
    w = doubles(2.0).requires_grad_()

    def f(x: Any) -> Any:
        loss = (x * x).sum()
        return loss, (x * 3.0, loss * w, w)

    (value, (plain, mixed, same)), slope = wg.value_and_grad(f, has_aux=True)(doubles(5.0))
    assert not value.requires_grad and not plain.requires_grad and not slope.requires_grad
    assert same is w and mixed.requires_grad
    mixed.sum().backward()
    assert (slope.item(), w.grad.item()) == (10.0, 25.0)


def test_leaves_made_inside_matter_only_while_they_live() -> None:
    kept: list[Any] = []

    def f(x: Any, keep: bool) -> Any:
        p = wg.tensor(3.0, requires_grad=True)
        if keep:
            kept.append(p)
        return wg.autograd.grad(p * p * x, p, create_graph=True)[0] * x  # 2 p x^2

    gone = wg.grad(f)(2.0, False)
    assert (gone.item(), gone.requires_grad) == (24.0, False)
    wg.grad(f)(2.0, True).backward()
    assert kept[0].grad.item() == 8.0


def test_a_tracked_argument_is_seen_through() -> None:
    x = doubles(2.0).requires_grad_()
    value, slope = wg.value_and_grad(lambda t: (t * t * t).sum())(x)
    assert x.grad is None
    (slope.sum() + value).backward()
    assert grad_of(x).item() == 12.0 + 12.0


def test_under_no_grad_the_function_is_recorded_and_nothing_else() -> None:
    x = doubles(2.0).requires_grad_()
    with wg.no_grad():
        value, slope = wg.value_and_grad(lambda t: (t * t).sum())(x)
        outputs, pullback = wg.vjp(lambda t: t * t, x)
        (bar,) = pullback(np.ones(1))
    assert (slope.item(), bar.item()) == (4.0, 4.0)
    assert not any(t.requires_grad for t in (value, slope, outputs, bar))


def test_no_grad_inside_of_the_function_makes_constants() -> None:
    def f(x: Any) -> Any:
        with wg.no_grad():
            c = x * x
        return c * x

    assert wg.grad(f)(3.0).item() == 9.0


# Purity


def test_writes_to_an_argument_stay_inside() -> None:
    def f(x: Any) -> Any:
        x[0] = 5.0
        x *= 2.0
        return (x * x).sum()

    x, array = doubles(1.0, 2.0), np.array([1.0, 2.0])
    assert wg.grad(f)(x).tolist() == [0.0, 16.0] and x.tolist() == [1.0, 2.0]
    assert wg.grad(f)(array).tolist() == [0.0, 16.0] and array.tolist() == [1.0, 2.0]
    leaf = doubles(1.0, 2.0).requires_grad_()
    assert wg.grad(f)(leaf).tolist() == [0.0, 16.0] and leaf.tolist() == [1.0, 2.0] and leaf.is_leaf


def test_writes_through_views_stay_inside_on_either_side() -> None:
    base = doubles(1.0, 2.0, 3.0, 4.0)
    view = base[1:3]

    def f(x: Any) -> Any:
        inner = x[:1]
        inner *= 10.0
        base[:] = 7.0  # the caller's, through the back door
        return (x * x).sum()

    assert wg.grad(f)(view).tolist() == [2 * 10.0 * 20.0, 6.0]
    assert base.tolist() == [7.0] * 4 and view.tolist() == [7.0, 7.0]


def test_containers_are_not_the_callers() -> None:
    tree = {"w": doubles(2.0)}

    def f(p: Any) -> Any:
        p["w"] = p["w"] * 3.0
        p["new"] = 1
        return p["w"].sum()

    assert wg.grad(f)(tree)["w"].item() == 3.0
    assert list(tree) == ["w"] and tree["w"].item() == 2.0


def test_results_may_be_written_without_harm() -> None:
    x, y = doubles(1.0, 2.0), doubles(3.0, 4.0)
    for_x, for_y = wg.grad(lambda a, b: (a + b).sum(), argnums=(0, 1))(x, y)
    for_x[0] = 9.0
    assert (for_x.tolist(), for_y.tolist()) == ([9.0, 1.0], [1.0, 1.0])
    value, _ = wg.value_and_grad(lambda a: a[0])(x)
    value += 1.0
    assert x.tolist() == [1.0, 2.0]


def test_no_trace_is_left_on_the_arguments() -> None:
    x = doubles(1.0).requires_grad_()
    seen: list[Any] = []
    x.register_hook(lambda g: seen.append(g))
    wg.grad(lambda t: (t * t).sum())(x)
    assert x.grad is None and seen == []  # the gradient is of the function's argument; nothing reached x itself


def test_exceptions_leave_nothing_half_open() -> None:
    def fail(x: Any) -> Any:
        with wg.GradientTape() as tape:
            tape.watch(x)
            wg.set_grad_enabled(False)
            raise ZeroDivisionError

    for transform in (wg.grad(fail), wg.value_and_grad(fail), functools.partial(wg.vjp, fail)):
        with pytest.raises(ZeroDivisionError):
            transform(1.0)
        assert wg.is_grad_enabled()
    w = doubles(3.0).requires_grad_()
    with wg.GradientTape() as tape:
        y = w * w
    assert not tape.gradient(y, w).requires_grad  # nobody is left that would watch


# Memory


def test_residuals_are_freed_as_the_sweep_passes() -> None:
    gc.collect()
    gc.disable()
    try:
        residuals: list[weakref.ref[Any]] = []
        alive: list[int] = []

        def f(x: Any) -> Any:
            y = x * 1.0
            y.register_hook(lambda g: alive.append(sum([r() is not None for r in residuals])))
            for _ in range(20):
                y = wg.sin(y)
                residuals.append(weakref.ref(y._data))
            residuals.pop()
            return y.sum()

        wg.grad(f)(np.ones(3))
        assert len(residuals) == 19 and alive == [0]
        outputs, pullback = wg.vjp(wg.sin, doubles(1.0))
        kept = weakref.ref(pullback.nodes[0])
        del outputs
        assert kept() is not None
        del pullback
        assert kept() is None
    finally:
        gc.enable()


def test_a_deep_function() -> None:
    def f(x: Any) -> Any:
        for _ in range(100_000):
            x = x + 1.0
        return x

    assert wg.grad(f)(1.0).item() == 1.0


def test_threads_do_not_disturb_each_other() -> None:
    barrier = threading.Barrier(2, timeout=30)
    found: list[float] = []

    def f(x: Any) -> Any:
        barrier.wait()
        y = x * x
        barrier.wait()
        return y * x

    def run(value: float, order: Callable[[Any], Any]) -> None:
        found.append(order(f)(value).item())

    threads = [threading.Thread(target=run, args=(2.0, wg.grad)), threading.Thread(target=run, args=(3.0, wg.grad))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [12.0, 27.0]


# Errors


NOT_AN_INTEGER: Any = "a"


def named(parameters: Any, n: Any = 1.0) -> Any:
    return parameters["w"][0] * n


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda: wg.grad(named)({"w": [3]}), DTypeError, r"grad: parameters\['w'\]\[0\] has dtype int64.*3\.0 for 3"),
        (lambda: wg.grad(named, 1)({"w": [3.0]}, True), DTypeError, r"grad: n has dtype bool"),
        (lambda: wg.grad(named)({"w": [1j]}), DTypeError, r"parameters\['w'\]\[0\] is complex128"),
        (lambda: wg.grad(named)({"w": ["a"]}), DTypeError, r"parameters\['w'\]\[0\] is of type str"),
        (lambda: wg.grad(lambda *a: a[0])(3), DTypeError, r"argument 0 has dtype int64"),
        (lambda: wg.grad(lambda x: 1.0)(2.0), DTypeError, r"must return a scalar Tensor, not float.*item\(\)"),
        (lambda: wg.grad(lambda x: None)(2.0), DTypeError, "not NoneType"),
        (lambda: wg.grad(lambda x: wg.tensor(1))(2.0), DTypeError, "its dtype is int64"),
        (lambda: wg.grad(lambda x: (x, 1, 2), has_aux=True)(2.0), DTypeError, r"\(output, aux\), not a tuple of 3"),
        (lambda: wg.grad(lambda x: x, has_aux=True)(2.0), DTypeError, r"\(output, aux\), not Tensor"),
        (
            lambda: wg.grad(named, 2)({}, 1.0),
            TypeError,
            "argnums has 2, but named was called with 2 positional arguments",
        ),
        (lambda: wg.grad(named)(parameters={}), TypeError, "called with 0 positional arguments"),
        (lambda: wg.grad(named, (0, -2))({}, 1.0), TypeError, "names an argument of named twice"),
        (
            lambda: wg.grad(named, NOT_AN_INTEGER),
            TypeError,
            "argnums must be an integer or a sequence of integers, not 'a'",
        ),
        (lambda: wg.grad(named, ()), TypeError, "argnums must be"),
        (lambda: wg.vjp(lambda x: [x, 1.0], 2.0), DTypeError, r"its output\[1\] is of type float"),
        (lambda: wg.vjp(lambda x: x, 2.0)[1]((1.0,)), StructureError, "the cotangent is a tuple of 1, where a leaf"),
        (lambda: wg.vjp(lambda x: [x], 2.0)[1]([]), StructureError, "the cotangent is a list of 0"),
        (lambda: wg.vjp(lambda x: x * 1.0, 2.0)[1](np.ones(2)), ShapeError, r"pullback: the seed has shape \(2,\)"),
        (lambda: wg.vjp(lambda x: x * 1.0, 2.0)[1](doubles(1.0)[0]), DTypeError, "seed has dtype float64.*float32"),
    ],
)
def test_errors_say_what_is_wrong(ask: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask()
    assert wg.is_grad_enabled()


def test_a_result_that_is_no_scalar_is_named_with_its_line() -> None:
    lines: list[str] = []

    def f(x: Any) -> Any:
        y, line = x * x, here()
        lines.append(line)
        return y

    with pytest.raises(
        ShapeError, match=r"f\(\) must return a scalar, but returned a Tensor of shape \(2,\).*vjp"
    ) as caught:
        wg.grad(f)(np.ones(2))
    assert lines[0] in str(caught.value)


def test_what_leaks_out_of_the_function_says_so() -> None:
    leaked: list[Any] = []

    def f(x: Any) -> Any:
        y = x * x
        leaked.append(y)
        return y

    wg.grad(f)(2.0)
    with pytest.raises(GradientError, match="already freed"):
        leaked[0].backward()
