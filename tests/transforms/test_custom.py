"""`wg.primitive`: what forward and rules receive and return, how rules follow from each other, and every refusal."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import wengert as wg
from tests.transforms.doubles import doubles
from wengert.core import boxing
from wengert.core.zeros import NO_TANGENT, ZERO
from wengert.errors import (
    BatchLoopWarning,
    DeclarationError,
    DTypeError,
    GradientError,
    NotDifferentiableError,
    ShapeError,
    StructureError,
)


def cube_with(*rules: str) -> Any:
    """Make the same operation with some of its rules."""

    @wg.primitive
    def cube(x: Any) -> Any:
        return x**3

    if "vjp" in rules:

        @cube.defvjp
        def cube_vjp(out_bar: Any, x: Any) -> Any:
            return 3 * x**2 * out_bar

    if "jvp" in rules:

        @cube.defjvp
        def cube_jvp(x: Any, x_dot: Any) -> Any:
            return 3 * x**2 * x_dot

    return cube


WAYS = [pytest.param(("vjp",), id="vjp"), pytest.param(("jvp",), id="jvp"), pytest.param(("vjp", "jvp"), id="both")]


@wg.primitive
def module_level(x: Any, n: int = 2) -> Any:
    """Raise to a power."""
    return x**n


@module_level.defvjp
def module_level_vjp(out_bar: Any, x: Any, n: int) -> Any:
    return n * x ** (n - 1) * out_bar


# Every way to ask for the gradient


@pytest.mark.parametrize("rules", WAYS)
def test_every_face_and_every_order(rules: tuple[str, ...]) -> None:
    cube = cube_with(*rules)
    x = doubles(1.0, -2.0, 0.5).requires_grad_()
    cube(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * x.detach().numpy() ** 2)
    with wg.GradientTape() as tape:
        tape.watch(x)
        y = cube(x).sum()
    np.testing.assert_allclose(tape.gradient(y, x).numpy(), 3 * x.detach().numpy() ** 2)
    (first,) = wg.autograd.grad(cube(x).sum(), x, create_graph=True)
    (second,) = wg.autograd.grad(first.sum(), x, create_graph=True)
    (third,) = wg.autograd.grad(second.sum(), x)
    np.testing.assert_allclose(second.detach().numpy(), 6 * x.detach().numpy())
    np.testing.assert_allclose(third.numpy(), [6.0, 6.0, 6.0])
    f = cube
    for expected in (12.0, 12.0, 6.0):
        f = wg.grad(f)
        assert f(np.float64(2.0)).item() == pytest.approx(expected)
    wg.testing.check_grads(lambda x: wg.sin(cube(x)), (doubles(0.3, 0.7),))


@pytest.mark.parametrize("rules", WAYS)
def test_the_record_pushes_and_batches_by_itself(rules: tuple[str, ...]) -> None:
    cube = cube_with(*rules)
    x = doubles(1.0, 2.0).requires_grad_()
    cube(x)
    (record,) = cube._records.values()
    call = cube(x)._node.inputs[0].params["call"]
    (out,), (out_dot,) = record.jvp(boxing.operations, (x,), (doubles(1.0, 10.0),), {"call": call})
    assert out.tolist() == [1.0, 8.0] and out_dot.tolist() == [3.0, 120.0]
    (curved,) = wg.autograd.grad(out_dot.sum(), x)
    assert curved.tolist() == [6.0, 120.0]
    (out,), (out_dot,) = record.jvp(boxing.operations, (x,), (ZERO,), {"call": call})
    assert out_dot is ZERO
    raw = np.array([1.0, 2.0])
    (out,), (out_dot,) = record.jvp(wg, (raw,), (np.array([1.0, 10.0]),), {"call": call})
    assert isinstance(out, np.ndarray) and out_dot.tolist() == [3.0, 120.0]
    with pytest.warns(BatchLoopWarning, match=r"cube has no batching rule.*defbatch"):
        (outs,), axes = record.batch(boxing.operations, (wg.stack([x, 2 * x], axis=1),), (1,), {"call": call})
    assert axes == (0,) and outs.tolist() == [[1.0, 8.0], [8.0, 64.0]]
    record.batch(boxing.operations, (wg.stack([x, x]),), (0,), {"call": call})  # the notice comes once
    assert wg.autograd.grad(outs.sum(), x)[0].tolist() == [27.0, 108.0]


def test_nothing_is_recorded_where_nothing_is_tracked() -> None:
    cube = cube_with("vjp")
    x = doubles(2.0).requires_grad_()
    with wg.no_grad():
        assert not cube(x).requires_grad
    assert not cube(x.detach()).requires_grad
    assert isinstance(cube(np.ones(3)), wg.Tensor)


def test_without_rules_it_works_off_the_tape_and_says_what_is_missing_on_it() -> None:
    @wg.primitive
    def scaled(x: Any, factor: Any) -> Any:
        return x * factor

    assert scaled(doubles(1.0, 2.0), 3.0).tolist() == [3.0, 6.0]
    with pytest.raises(
        NotDifferentiableError, match=r"tracked factor(?s:.*)@scaled.defvjp\('factor'\)(?s:.*)x, factor"
    ):
        wg.grad(lambda k: scaled(doubles(1.0), k).sum())(2.0)

    @scaled.defvjp("x")
    def scaled_vjp(out_bar: Any, factor: Any) -> Any:
        return out_bar * factor

    assert wg.grad(lambda x: scaled(x, 2.0).sum())(doubles(1.0)).tolist() == [2.0]
    with pytest.raises(NotDifferentiableError, match="factor"):
        wg.grad(lambda x: scaled(x, x.sum()).sum())(doubles(1.0))
    call = scaled(doubles(1.0).requires_grad_(), 2.0)._node.inputs[0].params["call"]
    record = scaled._records[(0, 1)]
    with pytest.raises(NotDifferentiableError, match="factor"):
        record.jvp(boxing.operations, (doubles(1.0), doubles(2.0)), (ZERO, doubles(1.0)), {"call": call})


# What the forward receives and returns


def test_the_forward_gets_read_only_arrays() -> None:
    seen: list[Any] = []

    @wg.primitive
    def spoil(x: Any) -> Any:
        seen.append(x)
        x += 1.0
        return x

    x = doubles(1.0, 2.0)
    with pytest.raises(ValueError, match="read-only"):
        spoil(x)
    assert isinstance(seen[0], np.ndarray) and x.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        spoil(np.float64(1.0) * np.ones(()))


def test_a_result_that_is_the_argument_or_a_view_of_it_is_copied() -> None:
    @wg.primitive
    def same(x: Any) -> Any:
        return {"x": x, "part": x[1:], "turned": x.T}

    source = np.array([1.0, 2.0])
    for given in (source, wg.tensor(source), wg.asarray(source)):
        out = same(given)
        before = {name: y.tolist() for name, y in out.items()}
        if isinstance(given, wg.Tensor):
            given[1] = 7.0
        source[:] = [5.0, 6.0]
        assert {name: y.tolist() for name, y in out.items()} == before
        source[:] = [1.0, 2.0]


def test_a_workspace_that_is_used_again_does_not_spoil_earlier_results() -> None:
    workspace = np.zeros(2)

    @wg.primitive
    def doubled(x: Any) -> Any:
        np.multiply(x, 2.0, out=workspace)
        return workspace

    @doubled.defvjp
    def doubled_vjp(out_bar: Any) -> Any:
        return 2.0 * out_bar

    first, second = doubled(doubles(1.0, 2.0)), doubled(doubles(3.0, 4.0))
    assert first.tolist() == [2.0, 4.0] and second.tolist() == [6.0, 8.0]


def test_numbers_dtypes_and_python_floats() -> None:
    cube = cube_with("vjp")
    assert cube(2.0).dtype == np.float32 and cube(np.float64(2.0)).dtype == np.float64
    assert cube(np.float32(2.0)).dtype == np.float32
    seen: list[Any] = []

    @wg.primitive
    def scaled(x: Any, factor: Any) -> Any:
        seen.append(factor)
        return x * factor

    assert scaled(np.ones(2, np.float32), 0.1).dtype == np.float32 and type(seen[-1]) is float
    assert scaled(doubles(1.0), 0.1).tolist() == [0.1]


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        (None, "no array"),
        ("text", "a str as out"),
        ((1.0, [b"x"]), r"a bytes as out\[1\]\[0\]"),
        (np.array([{}]), "object"),
    ],
)
def test_what_is_no_array_is_refused(returned: Any, what: str) -> None:
    @wg.primitive
    def odd(x: Any) -> Any:
        return returned

    with pytest.raises(DTypeError, match=rf"odd: the forward returned .*{what}"):
        odd(1.0)


def test_errors_of_the_forward_come_through_as_they_are() -> None:
    class OwnError(ValueError):
        pass

    @wg.primitive
    def failing(x: Any, kind: type[Exception]) -> Any:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise kind("no") from cause

    for kind in (OwnError, TypeError, ValueError, np.linalg.LinAlgError):
        with pytest.raises(kind, match=r"^no$") as caught:
            failing(doubles(1.0), kind)
        assert caught.type is kind and isinstance(caught.value.__cause__, KeyError)


def test_tracked_tensors_from_outside_are_refused() -> None:
    w = doubles(2.0).requires_grad_()

    @wg.primitive
    def scaled(x: Any) -> Any:
        return x * w.detach().numpy()

    @scaled.defvjp
    def scaled_vjp(out_bar: Any) -> Any:
        return 2.0 * out_bar

    with pytest.raises(GradientError, match=r"uses the tracked Tensor 'w' from outside.*test_custom\.py:\d+"):
        scaled(doubles(1.0))
    with wg.no_grad():
        assert scaled(doubles(1.0)).tolist() == [2.0]
    w = w.detach()
    assert wg.grad(lambda x: scaled(x).sum())(doubles(1.0)).tolist() == [2.0]

    holder = {"w": doubles(2.0).requires_grad_()}

    @wg.primitive
    def hidden(x: Any) -> Any:
        return x * holder["w"]

    with pytest.raises(GradientError, match="returned a tracked Tensor as out"):
        hidden(doubles(1.0))

    @wg.primitive
    def applied(f: Any, x: Any) -> Any:
        return f(x)

    inner = doubles(3.0).requires_grad_()
    with pytest.raises(GradientError, match=r"f\.inner is a tracked Tensor inside of a static value"):
        applied(lambda x: x * inner.item(), doubles(1.0))


# Parameters of every kind


class Weights(NamedTuple):
    w: Any
    b: Any


def test_nested_arguments_and_outputs() -> None:
    @wg.primitive
    def model(p: Any, x: Any, *, scale: Any = 2.0, mode: str = "sum") -> Any:
        assert isinstance(p["layer"].w, np.ndarray) and mode == "sum" and p["label"] == "first"
        y = p["layer"].w * x + p["layer"].b
        return {"y": y * scale, "parts": [y.sum(), int(y.size)], "index": np.argsort(y)}

    @model.defvjp
    def model_vjp(out_bar: Any, p: Any, x: Any, out: Any, scale: Any) -> Any:
        assert out_bar["index"] is None and out_bar["parts"][1] is None
        y_bar = out_bar["y"] * scale + out_bar["parts"][0]
        layer = Weights(x * y_bar, y_bar.sum())
        scale_bar = (out_bar["y"] * out["y"] / scale).sum()
        return {"p": {"layer": layer, "label": None}, "x": p["layer"].w * y_bar, "scale": scale_bar}

    def loss(p: Any, x: Any, scale: Any) -> Any:
        out = model(p, x, scale=scale)
        assert out["index"].dtype.kind == "i" and not out["index"].requires_grad
        return (out["y"] ** 2).sum() + 3 * out["parts"][0]

    def plain(p: Any, x: Any, scale: Any) -> Any:
        y = p["layer"].w * x + p["layer"].b
        return ((y * scale) ** 2).sum() + 3 * y.sum()

    p = {"layer": Weights(doubles(1.0, 2.0), np.float64(0.5)), "label": "first"}
    tracked = {"layer": p["layer"]}
    x, scale = doubles(3.0, 4.0), np.float64(1.5)

    def with_label(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda q, x, s: function({**q, "label": "first"}, x, s)

    made = wg.grad(with_label(loss), (0, 1, 2))(tracked, x, scale)
    expected = wg.grad(with_label(plain), (0, 1, 2))(tracked, x, scale)
    for got, want in zip((*made[0]["layer"], *made[1:]), (*expected[0]["layer"], *expected[1:])):
        np.testing.assert_allclose(got.numpy(), want.numpy())
    curved = wg.grad(lambda x: (wg.grad(with_label(loss), 1)(tracked, x, scale) ** 2).sum())(x)
    expected_curved = wg.grad(lambda x: (wg.grad(with_label(plain), 1)(tracked, x, scale) ** 2).sum())(x)
    np.testing.assert_allclose(curved.numpy(), expected_curved.numpy())


@pytest.mark.parametrize("rules", WAYS)
def test_any_number_of_arguments(rules: tuple[str, ...]) -> None:
    @wg.primitive
    def weighted(*xs: Any, power: int = 1, **weights: Any) -> Any:
        return sum(weights[f"w{i}"] * x**power for i, x in enumerate(xs))

    if "vjp" in rules:

        @weighted.defvjp
        def weighted_vjp(out_bar: Any, xs: Any, power: int, weights: Any) -> Any:
            bars = tuple([weights[f"w{i}"] * power * x ** (power - 1) * out_bar for i, x in enumerate(xs)])
            return bars, None, {f"w{i}": (x**power * out_bar).sum() for i, x in enumerate(xs)}

    if "jvp" in rules:

        @weighted.defjvp
        def weighted_jvp(xs: Any, xs_dot: Any, power: int, weights: Any, weights_dot: Any) -> Any:
            total = 0.0
            for i, (x, x_dot) in enumerate(zip(xs, xs_dot)):
                total = total + weights[f"w{i}"] * power * x ** (power - 1) * x_dot + weights_dot[f"w{i}"] * x**power
            return total

    def f(x: Any, y: Any, w: Any) -> Any:
        return (weighted(x, y, power=3, w0=w, w1=2.0) ** 2).sum()

    def plain(x: Any, y: Any, w: Any) -> Any:
        return ((w * x**3 + 2.0 * y**3) ** 2).sum()

    at = (doubles(0.5, 1.5), doubles(1.0, -1.0), np.float64(0.7))
    for got, want in zip(wg.grad(f, (0, 1, 2))(*at), wg.grad(plain, (0, 1, 2))(*at)):
        np.testing.assert_allclose(got.numpy(), want.numpy())


def test_defaults_and_static_values_reach_the_rules() -> None:
    assert module_level(3.0).item() == 9.0 and module_level(3.0, n=3).item() == 27.0
    assert wg.grad(module_level)(3.0).item() == 6.0
    assert wg.grad(lambda x: module_level(x, 3))(3.0).item() == 27.0
    with pytest.raises(TypeError, match=r"module_level\(\): missing a required argument: 'x'"):
        module_level()
    with pytest.raises(TypeError, match=r"module_level\(\): got an unexpected keyword argument 'm'"):
        module_level(1.0, m=3)


def test_static_and_nondifferentiable_parameters() -> None:
    @wg.primitive(static=("options",), nondifferentiable=("knots",))
    def interpolated(x: Any, knots: Any, options: Any) -> Any:
        assert options == {"values": [0.0, 1.0, 4.0], "left": 1.5} and isinstance(knots, np.ndarray)
        return np.interp(x, knots, options["values"])

    @interpolated.defvjp
    def interpolated_vjp(out_bar: Any, x: Any, knots: Any, options: Any) -> Any:
        slopes = wg.diff(wg.asarray(np.array(options["values"]))) / wg.diff(knots)
        return out_bar * slopes[wg.searchsorted(knots, x.detach()) - 1]

    options = {"values": [0.0, 1.0, 4.0], "left": 1.5}
    knots = doubles(0.0, 1.0, 2.0)
    assert wg.grad(lambda x: interpolated(x, knots, options).sum())(doubles(0.5, 1.5)).tolist() == [1.0, 3.0]
    with pytest.raises(NotDifferentiableError, match="knots is declared nondifferentiable, but was given something tr"):
        wg.grad(lambda k: interpolated(doubles(0.5), k, options).sum())(knots)
    with pytest.raises(GradientError, match="options is a tracked Tensor inside of a static value"):
        interpolated(doubles(0.5), knots, [doubles(1.0).requires_grad_()])

    def f(x: Any) -> Any:
        return x

    for option in ("static", "nondifferentiable"):
        chosen: dict[str, Any] = {option: ("y",)}
        with pytest.raises(DeclarationError, match=f"{option} names 'y', but the parameters of f are x"):
            wg.primitive(**chosen)(f)


def test_integers_have_no_cotangents() -> None:
    @wg.primitive
    def picked(x: Any, index: Any) -> Any:
        return x[index], index + 1

    @picked.defvjp
    def picked_vjp(out_bar: Any, x: Any, index: Any) -> Any:
        value_bar, index_bar = out_bar
        assert index_bar is None
        chosen = (wg.arange(x.shape[0])[:, None] == index).astype(value_bar.dtype)
        return chosen @ value_bar, None

    x = doubles(1.0, 2.0, 3.0)
    index = wg.tensor([2, 0, 2])
    value, following = picked(x.requires_grad_(), index)
    assert not following.requires_grad and following.tolist() == [3, 1, 3]
    (value * doubles(1.0, 10.0, 100.0)).sum().backward()
    assert x.grad.tolist() == [10.0, 0.0, 101.0]

    @wg.primitive
    def order(x: Any) -> Any:
        return np.argsort(x)

    assert not order(x).requires_grad  # no rule is needed where no output is floating
    call = picked(x, index)[0]._node.inputs[0].params["call"]
    record = picked._records[(0, 1)]
    dots = record.jvp(boxing.operations, (x, index), (doubles(1.0, 1.0, 1.0), NO_TANGENT), {"call": call})[1]
    assert dots[0].tolist() == [1.0, 1.0, 1.0] and dots[1] is NO_TANGENT


# Rules: one for all, one for each, and what is kept


def test_rules_for_single_parameters_run_only_where_they_are_needed() -> None:
    ran: list[str] = []

    @wg.primitive(check=False)
    def product(x: Any, y: Any) -> Any:
        return x * y

    @product.defvjp("x")
    def product_vjp_x(out_bar: Any, y: Any) -> Any:
        ran.append("x")
        return out_bar * y

    @product.defjvp("y")
    def product_jvp_y(x: Any, y_dot: Any) -> Any:
        ran.append("y")
        return x * y_dot

    x, y = doubles(2.0), doubles(5.0)
    assert wg.grad(lambda x: product(x, y).sum())(x).tolist() == [5.0] and ran == ["x"]
    ran.clear()
    assert wg.grad(lambda y: product(x, y).sum())(y).tolist() == [2.0] and ran == ["y"]
    assert [g.tolist() for g in wg.grad(lambda x, y: product(x, y).sum(), (0, 1))(x, y)] == [[5.0], [2.0]]
    out = product(x.requires_grad_(), y)
    assert [kept is None for kept in out._node.inputs[0].saved[0]] == [True, False]
    call = out._node.inputs[0].params["call"]
    record = product._records[(0, 1)]
    _, (dot,) = record.jvp(boxing.operations, (x, y), (doubles(1.0), doubles(10.0)), {"call": call})
    assert dot.tolist() == [25.0]


def test_the_tape_keeps_what_rules_name_and_nothing_else() -> None:
    @wg.primitive
    def exponential(x: Any) -> Any:
        return np.exp(x)

    @exponential.defvjp
    def exponential_vjp(out_bar: Any, out: Any) -> Any:
        return out_bar * out

    x = doubles(1.0).requires_grad_()
    arrays, outs, _ = exponential(x)._node.inputs[0].saved
    assert arrays == (None,) and outs[0][0] == np.exp(1.0)
    assert wg.grad(wg.grad(lambda x: exponential(x)))(1.0).item() == pytest.approx(np.e)
    source = np.array([1.0, 2.0])
    y = module_level(wg.asarray(source) * 1.0, 2) * x
    source[:] = 0.0
    assert y.tolist() == [1.0, 4.0]


@pytest.mark.parametrize("how", ["tuple", "dict", "of active ones", "single"])
def test_how_cotangents_may_be_returned(how: str) -> None:
    @wg.primitive
    def shifted(x: Any, n: Any) -> Any:
        return x * n

    @shifted.defvjp
    def shifted_vjp(out_bar: Any, x: Any, n: Any) -> Any:
        bar = out_bar * n
        return {"tuple": (bar, None), "dict": {"x": bar}, "of active ones": (bar,), "single": bar}[how]

    assert wg.grad(lambda x: shifted(x, 3).sum())(doubles(1.0, 2.0)).tolist() == [3.0, 3.0]


def test_none_is_zero() -> None:
    @wg.primitive(check=False)
    def f(x: Any, y: Any) -> Any:
        return x + 0 * y, y

    @f.defvjp
    def f_vjp(out_bar: Any) -> Any:
        return out_bar[0], None

    x, y = doubles(1.0).requires_grad_(), doubles(1.0).requires_grad_()
    out = f(x, y)
    assert wg.autograd.grad(out[0].sum(), [x, y], allow_unused=True)[1] is None
    assert wg.grad(lambda x, y: f(x, y)[0].sum(), 1)(x, y).tolist() == [0.0]


def test_hooks_and_writes_and_a_second_sweep() -> None:
    cube = cube_with("vjp")
    x = doubles(1.0, 2.0).requires_grad_()
    z = x * 1.0
    y = cube(z)
    z[0] = 100.0  # the tape keeps what was
    seen: list[Any] = []
    y.register_hook(seen.append)
    y.retain_grad()
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 12.0] and y.grad.tolist() == [1.0, 1.0] == seen[0].tolist()
    with pytest.raises(GradientError, match="already freed"):
        y.sum().backward()
    y = cube(x)
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    assert x.grad.tolist() == [9.0, 36.0]


def test_masked_branches_of_an_elementwise_operation() -> None:
    @wg.primitive(batch="elementwise")
    def root(x: Any) -> Any:
        return np.sqrt(x)

    @root.defvjp
    def root_vjp(out_bar: Any, out: Any) -> Any:
        return out_bar / (2 * out)

    def safe(x: Any) -> Any:
        return wg.where(x > 0, root(x), 0.0).sum()

    x = doubles(0.0, 4.0)
    assert wg.grad(safe)(x).tolist() == [0.0, 0.25]
    (slope,) = wg.autograd.grad(safe(x.requires_grad_()), x, create_graph=True)
    assert slope.tolist() == [0.0, 0.25]
    assert not np.isfinite(wg.grad(lambda x: root(x).sum())(x.detach()).numpy()[0])


# Refusals when a rule is attached


@pytest.mark.parametrize(
    ("kind", "rule", "message"),
    [
        ("defvjp", lambda out_bar, z: 0, r"asks for 'z', which f\(x, y\) does not have.*out_bar, out, x, y"),
        ("defvjp", lambda x: 0, "must name out_bar"),
        ("defvjp", lambda out_bar, *rest: 0, r"cannot take \*rest"),
        ("defjvp", lambda x, z_dot: 0, "asks for 'z_dot'.*x_dot, y_dot"),
        ("defjvp", lambda x, y: 0, "must name a tangent: x_dot or y_dot"),
        ("defbatch", lambda x, z_axis: 0, "asks for 'z_axis'.*axis_size, x, y, x_axis, y_axis"),
        ("defvjp", 3, "takes a rule, or the name of a parameter, not int"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_when_it_is_attached(kind: str, rule: Any, message: str) -> None:
    @wg.primitive
    def f(x: Any, y: Any) -> Any:
        return x * y

    with pytest.raises(DeclarationError, match=message):
        getattr(f, kind)(rule)
    assert f.rules.vjp is f.rules.jvp is f.rules.batch is None


def test_more_refusals_of_declarations() -> None:
    @wg.primitive
    def f(x: Any, y: Any) -> Any:
        return x * y

    with pytest.raises(DeclarationError, match="no vjp rule can be by 'z'; it is differentiated by x, y"):
        f.defvjp("z")(lambda out_bar: out_bar)
    with pytest.raises(DeclarationError, match="must name x_dot and no other tangent"):
        f.defjvp("x")(lambda x_dot, y_dot: x_dot)
    f.defvjp("x")(lambda out_bar, y: out_bar * y)
    with pytest.raises(DeclarationError, match="is for all parameters, but f has rules for x alone"):
        f.defvjp(lambda out_bar, x, y: (out_bar * y, out_bar * x))
    for name in ("out", "out_bar"):
        with pytest.raises(DeclarationError, match=f"has a parameter '{name}', a name that means something else"):
            wg.primitive(eval(f"lambda {name}: 0"))
    with pytest.raises(DeclarationError, match="'x_dot'"):
        wg.primitive(lambda x, x_dot: 0)
    with pytest.raises(DeclarationError, match=r"batch='often' of .* is none of 'loop', 'elementwise', 'leading'"):
        wg.primitive(batch="often")(lambda x: x)
    with pytest.raises(DeclarationError, match="decorates a function, not a str"):
        wg.primitive("x")  # type: ignore[call-overload]


# Refusals when a rule has run


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (lambda out_bar, x, y: out_bar, StructureError, "returned a Tensor, where the 2 cotangents of x, y"),
        (lambda out_bar, x, y: (out_bar,) * 3, StructureError, "returned 3 values, where the 2 cotangents of x, y"),
        (lambda out_bar, x, y: {"x": out_bar}, StructureError, r"no cotangent of y; return 'y': None"),
        (lambda out_bar, x, y: {"x": 0, "z": 0}, StructureError, "returned a cotangent of 'z'"),
        (lambda out_bar, x, y: (out_bar.sum(), x), ShapeError, r"returned x_bar of shape \(\); expected \(2,\)"),
        (lambda out_bar, x, y: (0.0, x), ShapeError, r"returned the number 0.0 as x_bar; expected an array of shape"),
        (lambda out_bar, x, y: (out_bar.astype("int64"), x), DTypeError, "x_bar of dtype int64; expected float64"),
        (lambda out_bar, x, y: (out_bar * 1j, x), DTypeError, "x_bar of dtype complex128; expected float64; take its"),
        (lambda out_bar, x, y: (x, [x, x]), StructureError, "nested as y is: y_bar is a list of 2, where a leaf"),
        (lambda out_bar, x, y: (x, "y"), DTypeError, "returned a str as y_bar"),
    ],
)
def test_what_a_vjp_rule_may_not_return(rule: Any, error: type[Exception], message: str) -> None:
    @wg.primitive(check=False)
    def f(x: Any, y: Any) -> Any:
        return x * y

    f.defvjp(rule)
    x, y = doubles(1.0, 2.0).requires_grad_(), doubles(3.0, 4.0).requires_grad_()
    with pytest.raises(error, match=rf"the vjp rule .*test_custom\.py:\d+\) of f .*{message}") as caught:
        f(x, y).sum().backward()
    assert any(
        "in the derivative of f, called at" in note and "test_custom.py" in note for note in caught.value.__notes__
    )
    assert x.grad is None and y.grad is None


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (
            lambda x, x_dot: x_dot,
            StructureError,
            "nested as the output is: out_dot is a leaf of type Tensor, where a tup",
        ),
        (lambda x, x_dot: (x_dot, x_dot.sum(), x), DTypeError, r"out_dot\[2\], but that place holds int64"),
        (lambda x, x_dot: (x_dot, x_dot, None), ShapeError, r"out_dot\[1\] of shape \(2,\); expected \(\)"),
    ],
)
def test_what_a_jvp_rule_may_not_return(rule: Any, error: type[Exception], message: str) -> None:
    @wg.primitive(check=False)
    def f(x: Any) -> Any:
        return x, x.sum(), np.argsort(x)

    f.defjvp(rule)
    with pytest.raises(error, match=rf"the jvp rule .* of f .*{message}"):
        wg.grad(lambda x: f(x)[0].sum())(doubles(1.0, 2.0))


def test_precisions_are_converted_and_arrays_and_numbers_accepted() -> None:
    @wg.primitive(check=False)
    def f(x: Any, y: Any) -> Any:
        return x.sum() * y

    @f.defvjp
    def f_vjp(out_bar: Any, x: Any, y: Any) -> Any:
        return np.full(x.shape, 2.0), 3.0

    x, y = wg.tensor([1.0, 2.0], requires_grad=True), wg.tensor(2.0, requires_grad=True)
    f(x, y).backward()
    assert (x.grad.dtype, x.grad.tolist(), y.grad.item()) == (np.float32, [2.0, 2.0], 3.0)


def test_a_rule_that_leaves_the_tape_cannot_be_differentiated_silently() -> None:
    @wg.primitive
    def sine(x: Any) -> Any:
        return np.sin(x)

    @sine.defvjp
    def sine_vjp(out_bar: Any, x: Any) -> Any:
        return np.cos(x.detach().numpy()) * out_bar.detach().numpy()

    assert wg.grad(sine)(0.3).item() == pytest.approx(np.cos(0.3))
    with pytest.raises(NotDifferentiableError, match=r"has left the tape.*make a wg.primitive of that code"):
        wg.grad(wg.grad(sine))(0.3)

    @sine.defvjp
    def sine_vjp_foreign(out_bar: Any, x: Any) -> Any:
        return wg.asarray(np.cos(np.asarray(x))) * out_bar

    assert wg.grad(sine)(0.3).item() == pytest.approx(np.cos(0.3))
    with pytest.raises(GradientError, match="is on the tape") as caught:
        wg.grad(wg.grad(sine))(0.3)
    assert any("is recorded. Where it calls code that needs bare arrays" in note for note in caught.value.__notes__)


# As an object


def test_it_looks_like_its_function() -> None:
    assert module_level.__name__ == "module_level" and module_level.__doc__ == "Raise to a power."
    assert list(inspect.signature(module_level).parameters) == ["x", "n"]
    assert inspect.unwrap(module_level) is module_level.function
    described = repr(cube_with("jvp"))
    assert described.startswith("<primitive cube(x") and described.endswith(
        "vjp derived, jvp as written, batched in a loop>"
    )
    assert "vjp missing" in repr(cube_with())
    assert repr(module_level(doubles(1.0).requires_grad_())).endswith("made by output)")


def test_it_is_pickled_and_copied_by_name() -> None:
    import sys

    sys.modules.setdefault(__name__, sys.modules[__name__])
    assert copy.deepcopy(module_level) is module_level
    assert pickle.loads(pickle.dumps(module_level)) is module_level


def test_methods() -> None:
    class Spring:
        def __init__(self, stiffness: float) -> None:
            self.stiffness = stiffness

        @wg.primitive
        def energy(self, x: Any) -> Any:
            return self.stiffness * x**2 / 2

        @energy.defvjp
        def energy_vjp(out_bar: Any, self: Any, x: Any) -> Any:
            return self.stiffness * x * out_bar

    assert wg.grad(Spring(3.0).energy)(2.0).item() == 6.0
    with pytest.raises(GradientError, match=r"self\.stiffness is a tracked Tensor inside of a static value"):
        Spring(doubles(3.0).requires_grad_()).energy(2.0)  # type: ignore[arg-type]


def test_it_may_be_defined_again_and_rules_replaced() -> None:
    first, second = cube_with("vjp"), cube_with("vjp")
    assert first is not second and wg.grad(second)(2.0).item() == 12.0

    @first.defvjp
    def corrected(out_bar: Any, x: Any) -> Any:
        return out_bar * 3 * x * x

    assert first.rules.vjp.function is corrected and wg.grad(first)(2.0).item() == 12.0


def test_partials_and_callable_objects() -> None:
    class Power:
        def __call__(self, x: Any, n: int) -> Any:
            return x**n

    square = wg.primitive(functools.partial(Power(), n=2))
    square.defvjp(lambda out_bar, x: 2 * x * out_bar)
    assert wg.grad(square)(3.0).item() == 6.0
    with pytest.raises(DeclarationError, match="cannot be read"):
        wg.primitive(max)


# Batching, through the record


def batched(operation: Any, args: tuple[Any, ...], axes: tuple[Any, ...]) -> tuple[Any, Any]:
    call_args = [a if axis is None else np.take(np.asarray(a), 0, axis) for a, axis in zip(args, axes)]
    from wengert.transforms.custom_calls import Call

    call = Call(operation.parameters)
    call.take(operation.parameters.values(tuple(call_args), {}), True)
    operation.apply(call_args, call)
    record = operation._records[tuple(call.owners)]
    return record.batch(boxing.operations, tuple(wg.asarray(a) for a in args), axes, {"call": call})


def test_batching_by_rule() -> None:
    seen: list[Any] = []

    @wg.primitive
    def weighted(x: Any, w: Any) -> Any:
        return {"s": (x * w).sum(), "n": np.array(x.size)}

    @weighted.defbatch
    def weighted_batch(x: Any, w: Any, x_axis: Any, w_axis: Any, axis_size: int) -> Any:
        seen.append((x.shape, w.shape, x_axis, w_axis, axis_size))
        return {"s": (x * w).sum(axis=-1), "n": wg.full((axis_size,), x.shape[-1])}

    x, w = np.arange(6.0).reshape(3, 2), np.array([1.0, 10.0])
    (n_s, n_n), axes = batched(weighted, (x, w), (0, None))
    assert n_s.tolist() == [10.0, 32.0, 54.0] and n_n.tolist() == [2, 2, 2] and axes == (0, 0)
    assert seen == [((3, 2), (2,), 0, None, 3)]
    batched(weighted, (x.T, w), (1, None))

    @weighted.defbatch
    def weighted_batch_everywhere(x: Any, w: Any) -> Any:
        assert w.shape == (3, 2)
        return {"s": (x * w).sum(axis=-1), "n": wg.full((3,), 2)}

    assert batched(weighted, (x, w), (0, None))[0][0].tolist() == [10.0, 32.0, 54.0]

    @weighted.defbatch
    def weighted_batch_short(x: Any, w: Any) -> Any:
        return {"s": (x * w).sum(axis=0), "n": wg.full((3,), 2)}

    with pytest.raises(ShapeError, match=r"returned out\['s'\] of shape \(2,\); expected the 3 results stacked"):
        batched(weighted, (x, w), (0, None))


@pytest.mark.parametrize("way", ["elementwise", "leading", "loop"])
def test_batching_without_a_rule(way: str) -> None:
    @wg.primitive(batch=way)
    def f(x: Any, y: Any) -> Any:
        return x * y, x + y

    @f.defvjp
    def f_vjp(out_bar: Any, x: Any, y: Any) -> Any:
        return out_bar[0] * y + out_bar[1], out_bar[0] * x + out_bar[1]

    x, y = np.arange(6.0).reshape(2, 3), np.array([1.0, 10.0])
    (product, total), axes = batched(f, (x, y), (1, None))
    assert product.tolist() == (x.T * y).tolist() and total.tolist() == (x.T + y).tolist() and axes == (0, 0)


def test_an_empty_loop_is_refused() -> None:
    from wengert.transforms.custom_calls import Call

    f = wg.primitive(batch="loop")(lambda x: x)
    f(np.ones(2))
    call = Call(f.parameters)
    call.take((np.ones(2),), True)
    with pytest.raises(ShapeError, match="there are no examples to map over"):
        f._records[(0,)].batch(boxing.operations, (wg.zeros((0, 2)),), (0,), {"call": call})
