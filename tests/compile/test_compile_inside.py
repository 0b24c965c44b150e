"""Compiled functions inside of other transforms: the zoo in every pair and some triples, and that no Python is run."""

from __future__ import annotations

import itertools
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, play, see
from tests.transforms import test_zoo
from tests.transforms.zoo import FACES, OPERATORS, ZOO, Operator, W, direction_of
from wengert.compile.backends import CompileWarning
from wengert.core import boxing
from wengert.core.pytree import flatten
from wengert.core.tracing import open_traces
from wengert.errors import MappedValueError
from wengert.testing.numeric import demand_close, rounding

# A compiled function refuses to write a tracked value into its argument, and to differentiate twice on the ground
# through a loop that keeps checkpoints; both errors are told elsewhere.
REFUSED = ("writes_to_the_argument", "looped")
ANIMALS = [name for name in ZOO if name not in REFUSED]
COMPILED = {name: wg.compile(ZOO[name].function) for name in ANIMALS}
STACKED = test_zoo.stacked
TRIPLES = 6


def stacked(name: str, ways: Any) -> Any:
    f, v = COMPILED[name], direction_of(ZOO[name].at)
    for way in reversed(ways):
        f = way(f, v)
    return f


def check(name: str, operators: tuple[Operator, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ZOO[name].branches and any([operator.maps for operator in operators])):
        test_zoo.expected(name, tuple([operator.trusted for operator in operators]))
    with monkeypatch.context() as patch:
        patch.setattr(test_zoo, "stacked", stacked)
        test_zoo.check(name, operators)


@pytest.mark.parametrize("name", ANIMALS)
def test_pairs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(list(name.encode()))
    triples = list(itertools.product(OPERATORS, repeat=3))
    chosen = [triples[k] for k in rng.choice(len(triples), TRIPLES, replace=False)]
    for operators in [*[(operator,) for operator in (*OPERATORS, *FACES)], *test_zoo.PAIRS, *chosen]:
        check(name, operators, monkeypatch)


@pytest.mark.parametrize("pair", test_zoo.PAIRS, ids=lambda pair: " of ".join([o.name for o in pair]))
def test_what_is_closed_over_sees_through_every_pair(pair: tuple[Operator, ...]) -> None:
    def slope(stacked: Any, ways: Any) -> np.ndarray:
        with wg.GradientTape():
            out = stacked("closed_over", ways)(test_zoo.argument("closed_over"))
        out.backward()
        bar, W.grad = W.grad.numpy().copy(), None
        return bar

    wanted = slope(STACKED, [operator.trusted for operator in pair])
    size = (
        float(np.abs(wanted).max())
        + test_zoo.expected("closed_over", tuple([o.trusted for o in pair]))[1] / np.finfo(np.float64).eps
    )
    got = slope(stacked, [operator.apply for operator in pair])
    demand_close("closed_over", "the derivative by W", got, wanted, rounding(np.float64, size))


def test_a_first_call_inside_of_a_checkpoint_can_be_differentiated_twice() -> None:
    w = wg.tensor(2.0, requires_grad=True)
    compiled = wg.compile(lambda x: x**3 * w)
    x = wg.tensor(3.0)
    with wg.GradientTape() as outer:
        outer.watch(x)
        with wg.GradientTape() as tape:
            tape.watch(x)
            y = wg.checkpoint(compiled)(x)
        slope = tape.gradient(y, x)
    assert [bar.item() for bar in outer.gradient(slope, [x, w])] == [36.0, 27.0]


def test_what_packs_residuals_around_a_call_sees_nothing_of_its_capture() -> None:
    w = wg.tensor(2.0, requires_grad=True)
    compiled = wg.compile(lambda x: (wg.exp(x) * w).sum())
    seen: list[Any] = []

    def pack(residual: Any) -> Any:
        seen.append(type(residual))
        return residual

    for _ in range(3):
        x = wg.tensor([0.0, 1.0], dtype=wg.float64, requires_grad=True)
        with wg.saved_residuals_hooks(pack, lambda residual: residual):
            y = compiled(x)
        y.backward()
        np.testing.assert_allclose(x.grad.numpy(), 2 * np.exp([0.0, 1.0]), rtol=4 * np.finfo(np.float64).eps)
    assert boxing.Tracer not in seen


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_arrays_that_are_given_and_returned_have_no_derivatives(dtype: str) -> None:
    array = np.arange(4).reshape(2, 2).astype(dtype)
    function = lambda x, a: ([wg.asarray(a)], (x * 1, None), (x * x).sum())  # noqa: E731
    x = wg.tensor(np.arange(9.0).reshape(3, 3))
    compiled = wg.compile(function)
    for _ in range(3):
        (lent, (same, _none), total), (lent_dot, (same_dot, _), total_dot) = wg.jvp(
            lambda x: compiled(x, array), (x,), (wg.ones_like(x),)
        )
        assert (total.item(), total_dot.item()) == (204.0, 72.0)
        assert same.tolist() == x.tolist() and same_dot.tolist() == np.ones((3, 3)).tolist()
        assert lent[0].tolist() == array.tolist()
        assert lent_dot[0] is None or not lent_dot[0].numpy().any()
        assert wg.vmap(lambda x: compiled(x, array)[2])(x).tolist() == [5.0, 50.0, 149.0]


def test_what_python_does_is_done_once_where_a_function_has_to_run_as_it_was_written() -> None:
    box = types.SimpleNamespace(scale=1.0, log=[], table={"runs": 0}, marks=np.zeros(2))
    running = wg.tensor(0.0)

    def function(x: Any) -> Any:
        box.scale *= 0.5
        box.log.append(box.scale)
        box.table["runs"] += 1
        box.marks[1] += 1.0
        running.copy_(running + 1.0)  # which is no part of a derivative
        return x * box.scale

    compiled, x = wg.compile(function), wg.tensor(3.0)
    for run in range(1, 5):
        value, slope = wg.jvp(compiled, (x,), (x,))
        assert value.item() == slope.item() == 3.0 * 0.5**run
        assert (len(box.log), box.table["runs"], box.marks[1], running.item()) == (run, run, run, run)


X = wg.tensor([0.1, -0.4, 0.7], dtype=wg.float64)
V = wg.tensor([1.0, 2.0, -0.5], dtype=wg.float64)
SCALE = wg.tensor([1.0, 2.0, 3.0], dtype=wg.float64)


def energy(x: Any) -> Any:
    return wg.sum(wg.sin(x) * SCALE * x**2)


TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "jvp": lambda f: wg.jvp(f, (X,), (V,))[1],
    "vmap": lambda f: wg.vmap(f)(wg.stack([X, V])),
    "vmap of grad": lambda f: wg.vmap(wg.grad(f))(wg.stack([X, V])),
    "hvp": lambda f: wg.hvp(f, (X,), (V,))[0],
    "hessian": lambda f: wg.hessian(f)(X),
    "jvp of hessian": lambda f: wg.jvp(wg.hessian(f), (X,), (V,))[1],
    "vmap of hessian": lambda f: wg.vmap(wg.hessian(f))(wg.stack([X, V])),
    "vmap along another axis": lambda f: wg.vmap(f, in_axes=1)(wg.stack([X, V], axis=1)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_nothing_of_the_function_is_run_again(name: str) -> None:
    transform, compiled = TRANSFORMS[name], wg.compile(energy)
    wanted = transform(energy)
    runs: list[str] = []

    def listen(frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is energy.__code__:
            runs.append(name)

    for _ in range(2):
        transform(compiled)
    sys.setprofile(listen)
    try:
        got = transform(compiled)
    finally:
        sys.setprofile(None)
    assert not runs
    demand_close(name, "compiled", got.numpy(), wanted.numpy(), rounding(np.float64, 64 * np.abs(wanted.numpy()).max()))


def test_values_that_change_between_calls_are_seen() -> None:
    scale = wg.tensor(2.0, dtype=wg.float64)
    compiled = wg.compile(lambda x: scale * x * x)
    for k in range(4):
        scale.copy_(wg.tensor(float(k), dtype=wg.float64))
        _, slope = wg.jvp(compiled, (wg.tensor(3.0, dtype=wg.float64),), (wg.tensor(1.0, dtype=wg.float64),))
        assert slope.item() == 6.0 * k


def test_a_value_of_the_transform_that_is_closed_over() -> None:
    """It is no argument, so that only the function as it was written can follow it."""
    held: dict[str, Any] = {}
    compiled = wg.compile(lambda x: x * held["w"])

    def function(w: Any) -> Any:
        held["w"] = w
        result = compiled(w * 2.0)
        held.clear()
        return result

    for w in (3.0, 5.0):
        value, slope = wg.jvp(function, (wg.tensor(w),), (wg.tensor(1.0),))
        assert (value.item(), slope.item()) == (2 * w * w, 4 * w)


def test_a_value_of_the_transform_that_a_branch_asks() -> None:
    held: dict[str, Any] = {}

    def branch(x: Any) -> Any:
        return x if held["w"] > 0 else -x

    compiled = wg.compile(branch)

    def function(w: Any) -> Any:
        held["w"] = w
        result = compiled(w * 1.0)
        held.clear()
        return result

    assert [wg.jvp(function, (wg.tensor(w),), (wg.tensor(1.0),))[1].item() for w in (2.0, -2.0, 3.0)] == [1, -1, 1]


def test_what_does_more_than_to_compute_runs_as_it_was_written() -> None:
    running = wg.tensor(0.0)

    def function(x: Any) -> Any:
        with wg.no_grad():
            running.copy_(running + 1.0)
        return x * x

    compiled = wg.compile(function)
    for k in range(6):
        assert wg.jvp(compiled, (wg.tensor(3.0),), (wg.tensor(1.0),))[1].item() == 6.0
        assert running.item() == k + 1


def test_random_numbers_are_those_of_the_function_as_it_was_written() -> None:
    compiled = wg.compile(lambda x: x * wg.random.normal(size=(2,)))

    def drawn(f: Any) -> Any:
        wg.random.seed(7)
        mapped = wg.vmap(f, randomness="different")
        return [mapped(wg.ones((3, 2))).tolist() for _ in range(3)]

    assert drawn(compiled) == drawn(compiled.function)


def test_errors_are_those_of_the_function_as_it_was_written() -> None:
    compiled = wg.compile(lambda x: x if x.sum() > 0 else -x)
    for _ in range(5):
        with pytest.raises(MappedValueError, match=r"branch of Python's.*test_compile_inside"):
            wg.vmap(compiled)(wg.ones((3, 2)))
    assert open_traces() == ()
    # Other transforms are as they were.
    assert wg.jvp(compiled, (wg.ones(2),), (wg.ones(2),))[1].tolist() == [1.0, 1.0]


def test_nested_arguments_integers_and_static_values() -> None:
    def function(parts: Any, *, power: int, names: tuple[str, ...]) -> Any:
        total = sum([wg.sum(parts[name] ** power) for name in names])
        return {"total": total, "count": wg.argmax(parts["a"]), "power": power}

    compiled = wg.compile(function)
    parts = {"a": wg.stack([X, V]), "b": (wg.stack([V, X]))}
    for f in (function, compiled):
        got = wg.vmap(lambda p, f=f: f(p, power=3, names=("a", "b"))["total"])(parts)
        expected = (X.numpy() ** 3 + V.numpy() ** 3).sum()
        demand_close("nested", "total", got.numpy(), np.full(2, expected), rounding(np.float64, 100.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        result, dots = wg.jvp(lambda a: compiled({"a": a, "b": V}, power=2, names=("a",))["total"], (X,), (V,))
    demand_close("nested", "value", result.numpy(), (X.numpy() ** 2).sum(), rounding(np.float64, 10.0))
    demand_close("nested", "slope", dots.numpy(), (2 * X.numpy() * V.numpy()).sum(), rounding(np.float64, 10.0))


def test_a_module_inside_of_per_sample_gradients() -> None:
    wg.random.seed(0)
    model = wg.nn.Sequential(wg.nn.Linear(3, 4), wg.nn.Tanh(), wg.nn.Linear(4, 1)).to("float64")
    compiled = wg.compile(lambda x: wg.sum(model(x) ** 2))
    batch = wg.stack([X, V, X + V])
    wanted = wg.vmap(wg.grad(lambda x: wg.sum(model(x) ** 2)))(batch).detach().numpy()
    for _ in range(3):
        got = wg.vmap(wg.grad(compiled))(batch).detach().numpy()
        demand_close("model", "gradients", got, wanted, rounding(np.float64, 64 * np.abs(wanted).max()))


def of_two(x: Any, y: Any) -> Any:
    return wg.sum(wg.sin(x * y) * x + y**3)


HALF_MOVED: dict[str, Callable[[Any], Any]] = {
    "vmap of grad by what is the same for all": lambda f: wg.vmap(wg.grad(f, argnums=(0, 1)), in_axes=(None, 0))(
        X, wg.stack([V, X])
    ),
    "the same in the other place": lambda f: wg.vmap(wg.grad(f, argnums=(0, 1)), in_axes=(0, None))(
        wg.stack([V, X]), X
    ),
    "jvp of grad by what does not move": lambda f: wg.jvp(lambda y: wg.grad(f, argnums=(0, 1))(X, y), (V,), (X,))[1],
    "jvp of grad of grad": lambda f: wg.jvp(
        lambda y: wg.grad(lambda x: wg.sum(wg.grad(f, argnums=1)(x, y) ** 2))(X), (V,), (X,)
    )[1],
    "hessian by the first alone": lambda f: wg.hessian(f, argnums=0)(X, V),
    "vmap of a hessian by what is the same for all": lambda f: wg.vmap(wg.hessian(f), in_axes=(None, 0))(
        X, wg.stack([V, X])
    ),
    "vmap of jvp of grad": lambda f: wg.vmap(
        lambda y: wg.jvp(lambda x: wg.grad(f, argnums=(0, 1))(x, y), (X,), (V,))[1]
    )(wg.stack([V, X])),
}


@pytest.mark.parametrize("name", HALF_MOVED)
def test_arguments_that_a_transform_leaves_alone(name: str) -> None:
    transform, compiled = HALF_MOVED[name], wg.compile(of_two)
    wanted = flatten(transform(of_two))[0]
    for _ in range(4):
        for got, expected in zip(flatten(transform(compiled))[0], wanted, strict=True):
            limit = rounding(np.float64, 64 * np.abs(expected.numpy()).max())
            demand_close(name, "compiled", got.numpy(), expected.numpy(), limit)


def test_what_was_drawn_before_a_function_turned_out_not_to_be_one_operation_is_drawn_again() -> None:
    def scenario(c: Compiler) -> Any:
        @c
        def function(x: Any) -> Any:
            y = wg.nn.functional.dropout(x, 0.4)
            return y * 2 if float(y.sum()) > 100 else y  # a float cannot be asked for in a program

        x, seen = wg.tensor([1.0, 2.0]), []
        for _ in range(2):
            seen += see(*wg.jvp(function, (x,), (wg.ones(2),)), wg.random.rand(1))
        return seen

    play(scenario)
