"""`checkpoint`: the gradient that there is without it, less memory, and an error whenever a second run differs."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here
from wengert.core import tape
from wengert.core.tape import Node
from wengert.declare import fastpath
from wengert.errors import GradientError, RecomputationError

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def nothing_is_left_packing() -> Any:
    yield
    gc.collect()
    assert fastpath.Node is Node and tape.Entry is Node


def leaf(array: Any) -> Any:
    return wg.tensor(np.array(array, dtype="float64"), requires_grad=True)


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.function(*args, **kwargs)


W = leaf(RNG.normal(size=(3, 3)))


def layer(x: Any) -> Any:
    """Close over a leaf; views, a write, a reduction, a constant, several uses of the argument."""
    h = wg.tanh(x @ W) * 1.5
    h[0] = wg.exp(h[1] * 0.1)
    mask = wg.asarray(np.array([1.0, 0.0, 1.0]))
    return wg.where(mask > 0, h, h.T[:3, :3].T * 0.5 if h.shape[0] == 3 else h) + x * wg.sum(h) * 0.1


def derivatives(function: Callable[[Any], Any]) -> list[np.ndarray]:
    """Return first and second derivatives of a scalar of function(x), by x and by what it closes over."""
    x = leaf(np.linspace(-1, 1, 9).reshape(3, 3))
    first = wg.autograd.grad(wg.sum(wg.sin(function(x))), [x, W], create_graph=True)
    second = wg.autograd.grad(wg.sum(first[0] * first[1]), [x, W], create_graph=True)
    third = wg.autograd.grad(wg.sum(second[0] * second[1]), [x, W])
    return [bar.detach().numpy() for bar in (*first, *second, *third)]


# The same gradients


NESTINGS: dict[str, Callable[[Callable[[Any], Any]], Callable[[Any], Any]]] = {
    "one": lambda f: wg.checkpoint(f),
    "around two": lambda f: wg.checkpoint(lambda x: f(f(x))),
    "chain": lambda f: lambda x: wg.checkpoint(f)(wg.checkpoint(f)(x)),
    "nested": lambda f: wg.checkpoint(lambda x: wg.checkpoint(f)(wg.sin(wg.checkpoint(f)(x)))),
    "deep": lambda f: wg.checkpoint(lambda x: wg.checkpoint(lambda y: wg.checkpoint(f)(f(y)))(f(x))),
    "itself": lambda f: wg.checkpoint(wg.checkpoint(f)),
}
PLAIN: dict[str, Callable[[Callable[[Any], Any]], Callable[[Any], Any]]] = {
    "one": lambda f: f,
    "around two": lambda f: lambda x: f(f(x)),
    "chain": lambda f: lambda x: f(f(x)),
    "nested": lambda f: lambda x: f(wg.sin(f(x))),
    "deep": lambda f: lambda x: f(f(f(x))),
    "itself": lambda f: f,
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_derivatives_of_three_orders(nesting: str) -> None:
    for one, other in zip(derivatives(NESTINGS[nesting](layer)), derivatives(PLAIN[nesting](layer)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_values_and_the_structure_are_the_functions() -> None:
    class Pair(NamedTuple):
        first: Any
        second: Any

    def build(p: Any, *, scale: Any, note: str) -> Any:
        assert note == "kept"
        return {"pair": Pair(p["w"][0] * scale, p["w"][1]), "text": note, "none": None, "n": wg.asarray(3)}

    w, v, scale = leaf([1.0, 2.0]), leaf([5.0]), leaf(3.0)
    out = wg.checkpoint(build)({"w": [w, v]}, scale=scale, note="kept")
    assert out["text"] == "kept" and out["none"] is None and out["n"].item() == 3
    assert out["pair"].second is v
    wg.sum(out["pair"].first * out["pair"].first).backward()
    assert grad_of(w).tolist() == [18.0, 36.0] and grad_of(scale).item() == 30.0


def test_it_runs_once_forward_and_once_for_each_sweep() -> None:
    f = Counted(lambda x: wg.exp(wg.sin(x)))
    x = leaf([1.0, 2.0])
    y = wg.checkpoint(f)(x).sum()
    assert f.calls == 1
    for count in (2, 3, 4):
        y.backward(retain_graph=True)
        assert f.calls == count
    y.backward()
    assert f.calls == 5
    with pytest.raises(GradientError, match="second time"):
        y.backward()
    expected = np.exp(np.sin([1.0, 2.0])) * np.cos([1.0, 2.0])
    np.testing.assert_allclose(grad_of(x).numpy(), 4 * expected)


def test_it_does_not_run_again_if_only_arguments_and_leaves_are_needed() -> None:
    w = leaf([3.0, 4.0])
    f = Counted(lambda x: x * w)
    x = leaf([1.0, 2.0])
    wg.checkpoint(f)(x).sum().backward()
    assert f.calls == 1
    assert (grad_of(x).tolist(), grad_of(w).tolist()) == ([3.0, 4.0], [1.0, 2.0])


def test_under_no_grad_and_with_nothing_tracked_it_is_a_call() -> None:
    f = Counted(wg.sin)
    with wg.no_grad():
        assert not wg.checkpoint(f)(leaf(1.0)).requires_grad
    assert not wg.checkpoint(f)(wg.tensor(1.0)).requires_grad
    assert wg.checkpoint(f)(0.0).item() == 0.0


def test_several_outputs_of_which_some_are_dropped() -> None:
    f = Counted(lambda x: (wg.sin(x * 2.0), wg.cos(x * 3.0), wg.exp(x * x)))
    x = leaf([0.5, 1.0])
    _, cosine, _ = wg.checkpoint(f)(x)
    (bar,) = wg.autograd.grad(cosine.sum(), x)
    np.testing.assert_allclose(bar.numpy(), -3 * np.sin([1.5, 3.0]))


def test_what_it_returns_may_be_used_in_any_order() -> None:
    f = Counted(lambda x: (wg.sin(x * 2.0), wg.exp(x * 3.0)))
    x = leaf([0.5, 1.0])
    sine, power = wg.checkpoint(f)(x)
    wg.autograd.grad(power.sum(), x)
    wg.autograd.grad(sine.sum(), x)
    np.testing.assert_allclose(wg.autograd.grad(wg.checkpoint(f)(x)[0].sum(), x)[0].numpy(), 2 * np.cos([1.0, 2.0]))


# Other faces and transforms


def test_grad_outside_and_inside() -> None:
    def inner(x: Any) -> Any:
        return wg.sum(wg.grad(lambda y: wg.sum(wg.sin(y) * y * y))(x) * x)

    x = np.array([0.3, 1.2])
    plain = wg.grad(inner)(x)
    f = Counted(inner)
    np.testing.assert_array_equal(wg.grad(wg.checkpoint(f))(x).numpy(), plain.numpy())
    assert f.calls == 2
    second = wg.grad(lambda x: wg.sum(wg.grad(inner)(x) ** 2))(x)
    again = wg.grad(lambda x: wg.sum(wg.grad(wg.checkpoint(inner))(x) ** 2))(x)
    np.testing.assert_array_equal(again.numpy(), second.numpy())
    both = wg.checkpoint(wg.grad(wg.checkpoint(inner)))
    np.testing.assert_array_equal(both(x).numpy(), plain.numpy())


def test_vjp_may_pull_back_many_times() -> None:
    f = Counted(lambda x: wg.sin(x * 2.0))
    _, pullback = wg.vjp(wg.checkpoint(f), np.array([0.5, 1.0]))
    for scale in (1.0, 10.0):
        (bar,) = pullback(wg.tensor([scale, scale], dtype="float64"))
        np.testing.assert_allclose(bar.numpy(), scale * 2 * np.cos([1.0, 2.0]))


def test_a_tape_that_has_ended_still_knows_what_was_closed_over() -> None:
    x = wg.tensor([0.5, 2.0], dtype="float64")
    with wg.GradientTape(persistent=True) as persistent:
        persistent.watch(x)
        y = wg.checkpoint(lambda: wg.sin(x * x))()
    assert not x.requires_grad
    for _ in range(2):
        np.testing.assert_allclose(persistent.gradient(y, x).numpy(), 2 * x.numpy() * np.cos(x.numpy() ** 2))
        assert not x.requires_grad


def test_nested_tapes_inside_and_outside() -> None:
    def slope(x: Any) -> Any:
        with wg.GradientTape() as inner:
            inner.watch(x)
            y = wg.sum(x * x * wg.sin(x))
        return inner.gradient(y, x)

    results = []
    for function in (slope, wg.checkpoint(slope)):
        x = wg.tensor([0.5, 2.0], dtype="float64")
        with wg.GradientTape() as outer:
            outer.watch(x)
            total = wg.sum(function(x) ** 2)
        results.append(outer.gradient(total, x).numpy())
    np.testing.assert_array_equal(*results)


def test_hooks_run_on_inner_values_and_only_once() -> None:
    seen: list[Any] = []

    def hooked(x: Any) -> Any:
        h = wg.sin(x)
        h.register_hook(lambda bar: seen.append(bar.tolist()))
        return wg.exp(h)

    x = leaf(0.0)
    wg.checkpoint(hooked)(x).backward()
    assert seen == [1.0]


def test_modules_and_methods() -> None:
    model = wg.nn.Sequential(wg.nn.Linear(3, 4), wg.nn.Tanh(), wg.nn.Linear(4, 1))
    x = wg.tensor(np.ones((2, 3), "float32"))
    model(x).sum().backward()
    plain = [p.grad.numpy().copy() for p in model.parameters()]
    model.zero_grad()
    wg.checkpoint(model)(x).sum().backward()
    for p, one in zip(model.parameters(), plain):
        np.testing.assert_array_equal(p.grad.numpy(), one)

    class Block:
        @wg.checkpoint
        def forward(self, x: Any) -> Any:
            """Documented."""
            return wg.sin(wg.cos(x))

    y = leaf(1.0)
    Block().forward(y).backward()
    np.testing.assert_allclose(grad_of(y).item(), -np.cos(np.cos(1.0)) * np.sin(1.0))
    assert Block.forward.__doc__ == "Documented."


def test_a_sweep_in_another_thread() -> None:
    x = leaf(np.linspace(0, 1, 5))
    y = wg.checkpoint(wg.checkpoint(lambda x: wg.exp(wg.sin(x * 1.0))))(x).sum()
    threads = [threading.Thread(target=lambda: y.backward(retain_graph=True, inputs=[x])) for _ in range(1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(grad_of(x).numpy(), np.exp(np.sin(np.linspace(0, 1, 5))) * np.cos(np.linspace(0, 1, 5)))


def test_two_sweeps_at_once() -> None:
    x = leaf(np.linspace(0, 1, 5))
    y = wg.checkpoint(lambda x: wg.exp(wg.sin(x * 1.0)))(x).sum()
    found: list[Any] = []

    def work() -> None:
        try:
            found.extend([wg.autograd.grad(y, x, retain_graph=True)[0].tolist() for _ in range(30)])
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 90 and all(one == found[0] for one in found), found[:1]


# Together with residual hooks


def test_hooks_outside_see_the_arguments_alone() -> None:
    packed: list[Any] = []

    def pack(tensor: Any) -> Any:
        packed.append(tensor.tolist())
        return tensor.numpy().copy()

    x, k = leaf([1.0, 2.0]), wg.tensor([3.0, 4.0], dtype="float64")
    with wg.saved_residuals_hooks(pack, wg.tensor):
        y = wg.checkpoint(lambda x, k: wg.sin(wg.exp(x * k)))(x, k)
    assert packed == [[1.0, 2.0], [3.0, 4.0]]
    y.sum().backward()
    e = np.exp([3.0, 8.0])
    np.testing.assert_allclose(grad_of(x).numpy(), np.cos(e) * e * np.array([3.0, 4.0]))


def test_hooks_inside_decide_inside() -> None:
    packed: list[Any] = []

    def pack(tensor: Any) -> Any:
        packed.append(tensor.tolist())
        return tensor

    def inner(x: Any) -> Any:
        with wg.saved_residuals_hooks(pack, lambda t: t):
            h = wg.exp(x)
        return wg.sin(h)

    x = leaf([1.0, 2.0])
    y = wg.checkpoint(inner)(x).sum()
    assert len(packed) == 1
    y.backward()
    np.testing.assert_allclose(grad_of(x).numpy(), np.cos(np.exp([1.0, 2.0])) * np.exp([1.0, 2.0]))


def test_inputs_of_nested_checkpoints_are_dropped_too() -> None:
    alive: list[Any] = []

    def inner(x: Any) -> Any:
        return wg.sin(wg.cos(x))

    def outer(x: Any) -> Any:
        h = wg.exp(x)
        alive.append(weakref.ref(h._data))
        return wg.checkpoint(inner)(h)

    x = leaf(np.linspace(0, 1, 7))
    y = wg.checkpoint(outer)(x)
    assert alive[0]() is None
    y.sum().backward()
    e = np.exp(np.linspace(0, 1, 7))
    np.testing.assert_allclose(grad_of(x).numpy(), -np.cos(np.cos(e)) * np.sin(e) * e)


def test_arguments_on_disk(tmp_path: Any) -> None:
    def function(x: Any) -> Any:
        return wg.exp(wg.sin(x))

    x = leaf(np.linspace(0, 1, 64).reshape(8, 8))
    with wg.residuals_on_disk(tmp_path, min_bytes=0):
        h = x * 1.0
        y = wg.checkpoint(function)(h.T)
        gone = weakref.ref(h._data)
        del h
    assert gone() is None
    assert [path for path in tmp_path.rglob("*.npy")]
    y.sum().backward()
    assert not list(tmp_path.iterdir())
    v = x.detach().numpy()
    np.testing.assert_allclose(grad_of(x).numpy(), np.exp(np.sin(v)) * np.cos(v))


# Random numbers


def dropout(x: Any, draw: Callable[..., Any] | None = None) -> Any:
    keep = wg.random.rand(*x.shape) if draw is None else wg.asarray(draw(x.shape))
    return wg.sin(x) * (keep > 0.5)


def test_random_numbers_are_the_same_and_the_stream_goes_on() -> None:
    wg.random.seed(5)
    x = leaf(np.ones(50))
    y = wg.checkpoint(dropout)(x)
    following = wg.random.rand(4).tolist()
    wg.random.seed(5)
    wg.checkpoint(dropout)(x)
    before = wg.random.get_state().tolist()
    y.sum().backward()
    assert wg.random.get_state().tolist() == before
    assert wg.random.rand(4).tolist() == following
    np.testing.assert_allclose(grad_of(x).numpy(), np.where(y.detach().numpy() != 0, np.cos(1.0), 0))


def test_other_generators() -> None:
    x = leaf(np.ones(50))
    rng, own = np.random.default_rng(1), wg.random.Generator(2)
    for draw, function in (
        (rng.random, wg.checkpoint(lambda x: dropout(x, rng.random), generators=[rng])),
        (own.random, wg.checkpoint(lambda x: dropout(x, own.random), generators=[own])),
        (rng.random, lambda x: wg.checkpoint(lambda x, rng: dropout(x, rng.random))(x, rng)),
        (own.random, lambda x: wg.checkpoint(lambda x, rng: dropout(x, rng.random))(x, own)),
    ):
        x.grad = None
        y = function(x)
        upcoming = draw(3)
        y.sum().backward()
        assert draw(3).tolist() != upcoming.tolist()
        np.testing.assert_allclose(grad_of(x).numpy(), np.where(y.detach().numpy() != 0, np.cos(1.0), 0))
    y = wg.checkpoint(lambda x: dropout(x, rng.random))(x)
    with pytest.raises(RecomputationError, match="random numbers other than"):
        y.sum().backward()
    with pytest.raises(TypeError, match=r"generators must be of wg\.random\.Generator"):
        wg.checkpoint(dropout, generators=[3])


def test_without_looking_after_random_numbers() -> None:
    x = leaf(np.ones(50))
    y = wg.checkpoint(dropout, preserve_random_state=False)(x)
    with pytest.raises(RecomputationError):
        y.sum().backward()
    assert x.grad is None


# Writes


def test_arguments_are_seen_as_they_were() -> None:
    x = leaf([1.0, 2.0])
    h, k, array = x * 1.0, wg.tensor([2.0, 3.0], dtype="float64"), np.array([5.0, 7.0])
    borrowed = wg.asarray(array[:])
    y = wg.checkpoint(lambda h, k, a, b: wg.sin(h * k) * a * b)(h, k, array, borrowed)
    h += 100.0
    k[:] = 100.0
    array[:] = 100.0
    y.sum().backward()
    np.testing.assert_allclose(grad_of(x).numpy(), np.cos([2.0, 6.0]) * np.array([2.0, 3.0]) * np.array([25.0, 49.0]))


@pytest.mark.parametrize("tracked", [False, True])
def test_the_function_may_write_to_its_arguments(tracked: bool) -> None:
    def writing(h: Any, x: Any) -> Any:
        h[0] = wg.exp(x[0])
        h *= x
        return wg.sin(h)

    results = []
    for function in (writing, wg.checkpoint(writing)):
        x = leaf([0.5, 2.0])
        h = x * 2.0 if tracked else wg.tensor([1.0, 4.0], dtype="float64")
        y = function(h, x)
        (wg.sum(y) + wg.sum(h * h)).backward()
        results.append((grad_of(x).tolist(), h.tolist(), y.tolist()))
    assert results[0] == results[1]


def test_arrays_among_the_arguments_may_be_written_by_the_function() -> None:
    def writing(x: Any, counts: np.ndarray) -> Any:
        counts += 1
        return wg.sin(x * counts)

    x, counts = leaf([0.5, 2.0]), np.zeros(2)
    y = wg.checkpoint(writing)(x, counts).sum()
    for _ in range(2):
        assert wg.autograd.grad(y, x, retain_graph=True)[0].tolist() == np.cos([0.5, 2.0]).tolist()
    assert counts.tolist() == [1.0, 1.0]


def test_writes_to_other_tensors_on_the_tape_are_refused() -> None:
    x = leaf([1.0, 2.0])
    state = x * 1.0
    lines: list[str] = []

    def writing(x: Any) -> Any:
        state[0] = (x[1], lines.append(here()))[0]
        return wg.sin(x)

    with pytest.raises(GradientError, match="was not given as an argument") as caught:
        wg.checkpoint(writing)(x)
    assert lines[0] in str(caught.value)
    view = (x * 1.0)[:1]
    with pytest.raises(GradientError, match="no view of another"):
        wg.checkpoint(lambda v, x: v.copy_(x[:1]))(view, x)


def test_a_tracked_write_to_an_untracked_tensor_outside_is_noticed() -> None:
    x, buffer = leaf([1.0, 2.0]), wg.zeros(2, dtype="float64")

    def writing(x: Any) -> Any:
        h = wg.sin(x * 2.0)
        buffer[:] = h
        return wg.exp(h)

    y = wg.checkpoint(writing)(x)
    with pytest.raises(RecomputationError, match="its first run has left"):
        y.sum().backward()


def test_what_a_second_run_leaves_outside_gives_no_gradient() -> None:
    left: list[Any] = []

    def leaving(x: Any) -> Any:
        left.append(wg.exp(x * 1.0))
        return wg.sin(left[-1])

    x = leaf([1.0, 2.0])
    y = wg.checkpoint(leaving)(x)
    (y.sum() + left[0].sum()).backward(retain_graph=True)
    e = np.exp([1.0, 2.0])
    np.testing.assert_allclose(grad_of(x).numpy(), np.cos(e) * e + e)
    with pytest.raises(GradientError, match="while a checkpoint ran its function again"):
        left[1].sum().backward()


# Second runs that differ


def test_a_variable_that_has_changed() -> None:
    scale = 2.0
    x = leaf(np.linspace(0, 1, 5))

    def scaled(x: Any) -> Any:
        return wg.sin(x * scale)

    y, called = wg.checkpoint(scaled)(x), here()
    scale = 3.0
    with pytest.raises(RecomputationError, match="other values") as caught:
        y.sum().backward()
    assert called in str(caught.value) and "sin" in str(caught.value)
    assert x.grad is None
    scale = 2.0
    y = wg.checkpoint(scaled, check_values=False)(x)
    scale = 3.0
    y.sum().backward()
    np.testing.assert_allclose(grad_of(x).numpy(), 2.0 * np.cos(3 * np.linspace(0, 1, 5)))


@pytest.mark.parametrize("size", [3, 7000, 70_001])
def test_one_bit_of_one_element(size: int) -> None:
    offset = np.zeros(size)
    x = leaf(np.linspace(0, 1, size))
    y = wg.checkpoint(lambda x: wg.sin(x * (1.0 + offset)))(x).sum()
    wg.autograd.grad(y, x, retain_graph=True)
    offset[size // 2] = 2e-16 * 2
    with pytest.raises(RecomputationError, match=r"multiply, whose value was made at .* other values"):
        y.backward(retain_graph=True)
    offset[size // 2] = 0
    y.backward()


def changed(*values: Any) -> Callable[[], Any]:
    """Return a function that returns the values one after the other."""
    return iter(values).__next__


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, turn: wg.sin(x * 1.0) if turn() else wg.cos(x * 1.0), r"recorded sin at .* now recorded cos at"),
        (lambda x, turn: wg.sin(wg.exp(x) if turn() else wg.exp(x) * 1.0), r"where it had recorded sin"),
        (lambda x, turn: wg.exp(x * 1.0) if turn() else x.sum() * 1.0, "now recorded"),
        (lambda x, turn: wg.exp(x[: 2 if turn() else 1]), r"now has saved shape \(1,\) .* had shape \(2,\)"),
        (lambda x, turn: wg.exp(x.astype("float64" if turn() else "float32")), "float32"),
        (lambda x, turn: wg.exp(x) if turn() else [wg.exp(x), wg.exp(x)][0], "one more, exp"),
        (lambda x, turn: [wg.exp(x), wg.exp(x)][1] if turn() else wg.exp(x), "exp.* is missing"),
    ],
)
def test_other_operations(function: Callable[..., Any], message: str) -> None:
    x, turn = leaf([1.0, 2.0]), changed(True, False)
    y, called = wg.checkpoint(function)(x, turn), here()
    with pytest.raises(RecomputationError, match=message) as caught:
        y.sum().backward()
    assert called in str(caught.value) and __file__ in str(caught.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, turn: wg.exp(wg.sin(x)) * (1.0 if turn() else 2.0),
        lambda x, turn: wg.sum(wg.exp(wg.sin(x))[: 2 if turn() else 1]),
    ],
)
def test_what_the_derivative_does_not_depend_on_may_change(function: Callable[..., Any]) -> None:
    x, turn = leaf([1.0, 2.0]), changed(True, False)
    wg.checkpoint(function)(x, turn).sum().backward()
    np.testing.assert_allclose(grad_of(x).numpy(), np.exp(np.sin([1.0, 2.0])) * np.cos([1.0, 2.0]))


def test_parameters_that_were_updated_in_between() -> None:
    w, x = leaf([2.0, 3.0]), leaf([1.0, 2.0])
    y = wg.checkpoint(lambda x: wg.sin(x * w))(x).sum()
    w.update_buffer(lambda array: array.__iadd__(1.0))
    with pytest.raises(RecomputationError, match="other values"):
        y.backward()


def test_a_tensor_that_stopped_requiring_grad() -> None:
    w, x = leaf([2.0, 3.0]), leaf([1.0, 2.0])
    h = w * 1.0
    holder = [h]
    y = wg.checkpoint(lambda x: wg.sin(x * 1.0) * wg.exp(holder[0]))(x).sum()
    holder[0] = h.detach()
    with pytest.raises(RecomputationError, match="where it had recorded exp"):
        y.backward()


def test_an_exception_in_the_second_run() -> None:
    turn = changed(True, False, True)
    state = wg.random.get_state().tolist()

    def failing(x: Any) -> Any:
        wg.random.rand()
        h = wg.exp(x * 1.0)
        if not turn():
            raise ZeroDivisionError("no luck")
        return wg.sin(h)

    x = leaf([1.0, 2.0])
    y, called = wg.checkpoint(failing)(x).sum(), here()
    state = wg.random.get_state().tolist()
    with pytest.raises(ZeroDivisionError, match="no luck") as caught:
        y.backward(retain_graph=True)
    assert any(called in note for note in caught.value.__notes__)
    assert wg.random.get_state().tolist() == state and wg.is_grad_enabled() and x.grad is None
    y.backward()
    np.testing.assert_allclose(grad_of(x).numpy(), np.cos(np.exp([1.0, 2.0])) * np.exp([1.0, 2.0]))


def test_an_exception_in_the_first_run() -> None:
    def failing(x: Any) -> Any:
        wg.exp(x)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wg.checkpoint(failing)(leaf(1.0))


def test_a_gradient_through_the_first_run_from_the_second() -> None:
    kept: list[Any] = []

    def greedy(x: Any) -> Any:
        h = wg.exp(x * 1.0)
        if kept:
            kept[0].backward(wg.ones(2, dtype="float64"), retain_graph=True)
        kept.append(wg.sin(h))
        return kept[-1]

    y = wg.checkpoint(greedy)(leaf([1.0, 2.0]))
    with pytest.raises(RecomputationError, match="its own first run"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wg.checkpoint(wg.sin, 1.0), r"write checkpoint\(f\)\(\.\.\.\)"),
        (lambda: wg.checkpoint(3), "takes a function, not int"),  # type: ignore[arg-type]
    ],
)
def test_misuse(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_generators_are_refused() -> None:
    def generate(x: Any) -> Any:
        yield wg.sin(x)

    with pytest.raises(TypeError, match="generate runs after the call has returned"):
        wg.checkpoint(generate)


def test_decorator_with_options() -> None:
    @wg.checkpoint(check_values=False)
    def sine(x: Any) -> Any:
        return wg.sin(wg.exp(x))

    x = leaf(1.0)
    sine(x).backward()
    assert sine.__name__ == "sine" and grad_of(x).item() == pytest.approx(np.cos(np.e) * np.e)


# Memory


def test_memory_of_a_chain() -> None:
    size, depth = 20_000, 20

    def segment(x: Any) -> Any:
        for _ in range(6):
            x = wg.sin(x)
        return x

    def peak(function: Callable[[Any], Any]) -> int:
        x = leaf(np.linspace(0, 1, size))
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            h = x
            for _ in range(depth):
                h = function(h)
            wg.sum(h).backward()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            gc.enable()

    plain, checkpointed = peak(segment), peak(wg.checkpoint(segment))
    assert plain > 6 * depth * size * 8
    assert checkpointed < (depth + 6 + 6) * size * 8, checkpointed / size / 8
    assert checkpointed < plain / 3


def test_nested_checkpoints_take_less_still() -> None:
    size, depth = 20_000, 64

    def tree(count: int) -> Callable[[Any], Any]:
        if count == 1:
            return wg.sin
        half = tree(count // 2)
        return wg.checkpoint(lambda x: half(half(x)))

    x = leaf(np.linspace(0, 1, size))
    gc.collect()
    tracemalloc.start()
    try:
        wg.sum(tree(depth)(x)).backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 24 * size * 8, peak / size / 8
    y = leaf(np.linspace(0, 1, size))
    h = y
    for _ in range(depth):
        h = wg.sin(h)
    wg.sum(h).backward()
    np.testing.assert_array_equal(grad_of(x).numpy(), grad_of(y).numpy())


def test_nothing_outlives_the_sweep() -> None:
    x = leaf(np.linspace(0, 1, 100))
    alive: list[Any] = []

    def noting(x: Any) -> Any:
        h = wg.exp(x)
        alive.append(weakref.ref(h._data))
        return wg.sin(h)

    gc.disable()
    try:
        h = x * 2.0
        alive.append(weakref.ref(h._data))
        y = wg.checkpoint(noting)(h).sum()
        del h
        assert [one() is None for one in alive] == [False, True]
        y.backward(retain_graph=True)
        y.backward()
        assert all(one() is None for one in alive)
    finally:
        gc.enable()


@pytest.mark.parametrize("compiler", [lambda function: function, wg.compile])
@pytest.mark.parametrize("name", ["T", "negative", "astype", "sum"])
def test_what_a_stopped_tape_watched_is_found_through_operations_that_keep_nothing(name: str, compiler: Any) -> None:
    taken = {
        "T": lambda w: w.T,
        "negative": lambda w: -w,
        "astype": lambda w: w.astype("float32").astype("float64"),
        "sum": lambda w: w.sum(),
    }[name]

    def gradients(w: Any, x: Any, around: Any) -> Any:
        with wg.GradientTape() as tape:
            tape.watch((w, x))
            total = around(lambda x: wg.sum(wg.sin(taken(w))) * x)(x)
        return tape.gradient(total, (w, x))

    w, x = wg.tensor(np.arange(6.0).reshape(2, 3) / 6), wg.tensor(0.5)
    wanted = gradients(w, x, lambda function: function)
    for found, want in zip(compiler(lambda w, x: gradients(w, x, wg.checkpoint))(w, x), wanted, strict=True):
        np.testing.assert_allclose(found.numpy(), want.numpy(), rtol=1e-12)
