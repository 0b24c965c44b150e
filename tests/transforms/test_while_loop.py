"""Loops whose end depends on data: right in every mode and nesting, at bounded memory in reverse mode."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.transforms.revolve import fewest_advances

Function = Callable[[Any], Any]
F64 = "float64"


def unrolled(cond_fun: Function, body_fun: Function, init: Any) -> Any:
    carry = init
    while cond_fun(carry):
        carry = body_fun(carry)
    return carry


def counted(steps: int) -> Function:
    return lambda carry: carry[0] < steps


def recurrence(loop: Any, steps: int, **options: Any) -> Function:
    """A loop that closes over its own argument, and whose counter is an integer."""

    def function(a: Any) -> Any:
        def body(carry: Any) -> Any:
            i, x = carry
            return i + 1, wg.sin(x) * a + 0.1 * a

        return loop(counted(steps), body, (wg.tensor(0), a), **options)[1]

    return function


BOUNDED = [{"checkpoints": 1}, {"checkpoints": 2}, {"checkpoints": 5}, {}, {"checkpoints": None}]
A = wg.tensor(0.9, dtype=F64)


def assert_close(actual: Any, expected: Any, rtol: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=rtol, atol=1e-14)


# ---------------------------------------------------------------------- plain reverse mode


@pytest.mark.parametrize("options", BOUNDED, ids=str)
@pytest.mark.parametrize("steps", [0, 1, 2, 7, 8, 9, 30])
def test_gradient_is_that_of_the_loop_in_python(steps: int, options: Any) -> None:
    value, gradient = wg.value_and_grad(recurrence(wg.while_loop, steps, **options))(A)
    expected_value, expected = wg.value_and_grad(recurrence(unrolled, steps))(A)
    assert value.item() == expected_value.item()
    assert_close(gradient, expected)


def newton(loop: Any, **options: Any) -> Function:
    def root(a: Any) -> Any:
        return loop(lambda x: wg.abs(x * x - a) > 1e-12, lambda x: 0.5 * (x + a / x), 50.0 + a, **options)

    return root


@pytest.mark.parametrize("options", BOUNDED, ids=str)
def test_trip_count_that_depends_on_data(options: Any) -> None:
    root = newton(wg.while_loop, **options)
    assert_close(root(wg.tensor(2.0, dtype=F64)), np.sqrt(2.0))
    assert_close(wg.grad(root)(wg.tensor(2.0, dtype=F64)), 0.5 / np.sqrt(2.0), rtol=1e-7)
    assert_close(
        wg.grad(root)(wg.tensor(2.0, dtype=F64)), wg.grad(newton(unrolled))(wg.tensor(2.0, dtype=F64)), rtol=1e-12
    )


@pytest.mark.parametrize("options", BOUNDED, ids=str)
def test_leaves_that_are_closed_over_get_gradients(options: Any) -> None:
    def run(loop: Any, **options: Any) -> list[np.ndarray]:
        w = wg.tensor(np.linspace(-0.4, 0.4, 9).reshape(3, 3), requires_grad=True)
        b = wg.tensor([0.1, 0.2, 0.3], dtype=F64, requires_grad=True)
        scale = b * 2.0  # an inner Node
        x = wg.zeros(3, dtype=F64)  # nothing tracked goes in
        out = loop(counted(12), lambda c: (c[0] + 1, wg.tanh(w @ c[1] + scale)), (wg.tensor(0), x), **options)[1]
        (out * wg.arange(3)).sum().backward()
        return [w.grad.numpy(), b.grad.numpy()]

    for actual, expected in zip(run(wg.while_loop, **options), run(unrolled)):
        assert_close(actual, expected)


@pytest.mark.parametrize("options", BOUNDED, ids=str)
def test_closures_that_differ_from_step_to_step(options: Any) -> None:
    def run(loop: Any, **options: Any) -> list[float]:
        ws = [wg.tensor(0.5 + 0.01 * i, dtype=F64, requires_grad=True) for i in range(15)]
        late = wg.tensor(1.5, dtype=F64, requires_grad=True)

        def body(carry: Any) -> Any:
            i, x = carry
            x = x * ws[int(i)] + 1.0
            return i + 1, x * late if i > 10 else x

        loop(counted(15), body, (wg.tensor(0), wg.tensor(1.0, dtype=F64)), **options)[1].backward()
        return [w.grad.item() for w in [*ws, late]]

    assert_close(run(wg.while_loop, **options), run(unrolled))


def test_what_is_not_tracked_stays_off_the_tape() -> None:
    x = wg.tensor([1.0], requires_grad=True)
    out = wg.while_loop(counted(20), lambda c: (c[0] + 1, c[1] + 1.0, c[2] * 2.0), (wg.tensor(0), wg.ones(1), x))
    assert [leaf.requires_grad for leaf in out] == [False, False, True]
    with wg.no_grad():
        out = wg.while_loop(counted(20), lambda c: (c[0] + 1, c[1] * x), (wg.tensor(0), x))
    assert not out[1].requires_grad
    assert not wg.while_loop(lambda c: c < 20, lambda c: c + 1.0, 0.0).requires_grad


def test_values_that_get_cut_off_or_become_tracked_on_the_way() -> None:
    def run(loop: Any) -> list[Any]:
        x = wg.tensor(0.5, dtype=F64, requires_grad=True)
        y = wg.tensor(0.25, dtype=F64, requires_grad=True)

        def body(carry: Any) -> Any:
            i, a, b = carry
            a = a.detach() if i == 9 else a * x
            return i + 1, a, b * y if i > 12 else b + 0.1

        _, a, b = loop(counted(16), body, (wg.tensor(0), x * 1.0, wg.tensor(1.0, dtype=F64)))
        (a + b * b).backward()
        return [x.grad.item(), y.grad.item()]

    assert_close(run(wg.while_loop), run(unrolled))


def test_hooks_on_what_is_closed_over_run_once_on_the_whole_gradient() -> None:
    w = wg.tensor(0.9, dtype=F64, requires_grad=True)
    inner = w * 1.0
    seen: list[float] = []
    leaf_seen: list[float] = []
    inner.register_hook(lambda bar: seen.append(bar.item()))
    w.register_hook(lambda bar: leaf_seen.append(bar.item()))
    wg.while_loop(counted(20), lambda c: (c[0] + 1, c[1] * inner), (wg.tensor(0), wg.tensor(1.0, dtype=F64)))[
        1
    ].backward()
    assert len(seen) == len(leaf_seen) == 1
    assert_close(seen[0], 20 * 0.9**19)
    assert_close(leaf_seen[0], 20 * 0.9**19)


def test_a_tape_that_is_retained_is_swept_again() -> None:
    x = wg.tensor(0.9, dtype=F64, requires_grad=True)
    out = recurrence(wg.while_loop, 40, checkpoints=4)(x)
    out.backward(retain_graph=True)
    first = x.grad.item()
    out.backward(retain_graph=True)
    assert x.grad.item() == 2 * first
    out.backward()
    assert x.grad.item() == pytest.approx(3 * first)
    with pytest.raises(wg.errors.GradientError, match="freed"):
        out.backward()


def test_gradient_tape_and_jacobians() -> None:
    x = wg.tensor([0.5, 0.7], dtype=F64)

    def function(x: Any, loop: Any = wg.while_loop) -> Any:
        return loop(counted(20), lambda c: (c[0] + 1, wg.sin(c[1]) * x[::-1] + x), (wg.tensor(0), x))[1]

    expected = wg.jacrev(lambda x: function(x, unrolled))(x)
    assert_close(wg.jacrev(function)(x), expected)
    assert_close(wg.jacfwd(function)(x), expected)
    with wg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = function(x)
    assert_close(tape.jacobian(y, x), expected)
    assert_close(tape.gradient(y, x), expected.sum(0))


# ---------------------------------------------------------------------- every mode in every other


def by_grad(f: Function) -> Function:
    return wg.grad(f)


def by_jvp(f: Function) -> Function:
    return lambda x: wg.jvp(f, (x,), (wg.ones_like(x),))[1]


def by_linearize(f: Function) -> Function:
    return lambda x: wg.linearize(f, x)[1](wg.ones_like(x))


def by_vjp(f: Function) -> Function:
    def derivative(x: Any) -> Any:
        out, pullback = wg.vjp(f, x)
        return pullback(wg.ones_like(out))[0]

    return derivative


MODES = [by_grad, by_jvp, by_linearize, by_vjp]


@pytest.mark.parametrize("options", [{"checkpoints": 3}, {}], ids=str)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_in_mixed_modes(order: int, options: Any) -> None:
    reference = recurrence(unrolled, 12)
    for _ in range(order):
        reference = wg.grad(reference)
    expected = reference(A)
    for modes in itertools.product(MODES, repeat=order):
        function = recurrence(wg.while_loop, 12, **options)
        for mode in modes:
            function = mode(function)
        assert_close(function(A), expected, rtol=1e-9)


@pytest.mark.parametrize("options", [{"checkpoints": 3}, {}, {"checkpoints": None}], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loop", [recurrence, None])
def test_vmap_inside_and_outside(mode: Any, loop: Any, options: Any) -> None:
    a = wg.tensor([0.5, 0.9, 2.0, 1.1], dtype=F64)
    if loop is None:
        function, reference = newton(wg.while_loop, **options), newton(unrolled)
    else:
        function, reference = recurrence(wg.while_loop, 12, **options), recurrence(unrolled, 12)
    values = wg.stack([reference(x) for x in a])
    firsts = wg.stack([wg.grad(reference)(x) for x in a])
    seconds = wg.stack([wg.grad(wg.grad(reference))(x) for x in a])
    mapped = wg.vmap(function)
    assert_close(mapped(a), values)
    assert_close(wg.vmap(mode(function))(a), firsts, rtol=1e-9)
    assert_close(wg.vmap(wg.grad(mode(function)))(a), seconds, rtol=1e-6)
    assert_close(wg.vmap(mode(wg.grad(function)))(a), seconds, rtol=1e-6)
    assert_close(wg.grad(lambda a: mapped(a).sum())(a), firsts, rtol=1e-9)
    assert_close(wg.grad(lambda a: wg.vmap(mode(function))(a).sum())(a), seconds, rtol=1e-6)
    assert_close(by_jvp(mapped)(a), firsts, rtol=1e-9)
    assert_close(by_jvp(wg.grad(lambda a: mapped(a).sum()))(a), seconds, rtol=1e-6)


def test_nested_vmap_with_predicates_of_either_level() -> None:
    a = wg.tensor([[0.5, 3.0], [20.0, 1.0], [7.0, 100.0]], dtype=F64)

    def collatz_like(limit: Any, x: Any) -> Any:
        return wg.while_loop(lambda c: c < limit, lambda c: c * 1.5 + x, x)

    def reference(limit: float, x: float) -> float:
        c = x
        while c < limit:
            c = c * 1.5 + x
        return c

    limits = wg.tensor([10.0, 50.0, 200.0], dtype=F64)
    both = wg.vmap(wg.vmap(collatz_like, in_axes=(None, 0)), in_axes=(0, 0))
    expected = [[reference(limit, x) for x in row] for limit, row in zip(limits.tolist(), a.tolist())]
    assert_close(both(limits, a), expected)
    outer = wg.vmap(wg.vmap(lambda x, limit: collatz_like(limit, 2.0), in_axes=(0, None)), in_axes=(0, 0))
    assert_close(outer(a, limits), [[reference(limit, 2.0)] * 2 for limit in limits.tolist()])
    gradient = wg.grad(lambda a: both(limits, a).sum())(a)
    per_example = [
        [wg.grad(lambda x, limit=limit: collatz_like(limit, x))(x) for x in row] for limit, row in zip(limits, a)
    ]
    assert_close(gradient, [[g.item() for g in row] for row in per_example])
    assert_close(wg.vmap(wg.vmap(wg.grad(collatz_like, argnums=1), in_axes=(None, 0)))(limits, a), gradient)


def test_examples_that_are_done_contribute_exactly_zero() -> None:
    # Going on, those that are done would run into 1 / 0 and the logarithm of negative numbers.
    def countdown(x: Any) -> Any:
        return wg.while_loop(lambda c: c > 0.75, lambda c: wg.log(c) + 0.1 / (c - 0.5), x)

    x = wg.tensor([0.5, 0.6, 1.5, 0.7], dtype=F64)
    expected = wg.stack([wg.grad(countdown)(v) for v in x])
    assert np.isfinite(expected.numpy()).all()
    assert_close(wg.vmap(wg.grad(countdown))(x), expected)
    assert_close(wg.grad(lambda x: wg.vmap(countdown)(x).sum())(x), expected)
    assert_close(by_jvp(wg.vmap(countdown))(x), expected)
    assert_close(wg.vmap(by_jvp(countdown))(x), expected)


def test_nested_loops() -> None:
    def function(a: Any, loop: Any = wg.while_loop, **options: Any) -> Any:
        def outer(carry: Any) -> Any:
            i, x = carry
            _, moved = loop(
                lambda c: c[0] < i, lambda c: (c[0] + 1, wg.sin(c[1]) * a + 0.1 * x), (wg.tensor(0), x), **options
            )
            return i + 1, moved

        return loop(counted(12), outer, (wg.tensor(0), a), **options)[1]

    value, gradient = wg.value_and_grad(lambda a: function(a, unrolled))(A)
    second = wg.grad(wg.grad(lambda a: function(a, unrolled)))(A)
    for options in BOUNDED:
        assert function(A, **options).item() == value.item()
        assert_close(wg.grad(lambda a: function(a, **options))(A), gradient)  # noqa: B023
    assert_close(by_jvp(function)(A), gradient)
    assert_close(by_jvp(wg.grad(function))(A), second, rtol=1e-10)
    assert_close(wg.grad(by_jvp(function))(A), second, rtol=1e-10)
    assert_close(wg.grad(wg.grad(function))(A), second, rtol=1e-10)
    assert_close(wg.vmap(wg.grad(function))(wg.stack([A, A]))[1], gradient)


def test_a_variable_that_was_bound_anew_is_noticed() -> None:
    """A body sees its variables as they are when it is run again, not as they were."""

    def function(a: Any) -> Any:
        x = a * 2.0
        _, x = wg.while_loop(counted(30), lambda c: (c[0] + 1, wg.sin(c[1]) * a + 0.1 * x), (wg.tensor(0), a))
        return x

    with pytest.raises(wg.errors.GradientError, match="a variable that was bound anew"):
        wg.grad(function)(A)


def test_gradients_inside_of_a_body() -> None:
    def descent(rate: Any, loop: Any = wg.while_loop) -> Any:
        loss = lambda x: (wg.cos(x) + 0.5 * x * x) * rate  # noqa: E731
        return loop(counted(15), lambda c: (c[0] + 1, c[1] - rate * wg.grad(loss)(c[1])), (wg.tensor(0), 1.0 + rate))[1]

    rate = wg.tensor(0.3, dtype=F64)
    expected = wg.grad(lambda rate: descent(rate, unrolled))(rate)
    assert_close(wg.grad(descent)(rate), expected)
    assert_close(by_jvp(descent)(rate), expected)
    assert_close(wg.vmap(wg.grad(descent))(wg.stack([rate, rate]))[0], expected)


# ---------------------------------------------------------------------- memory and work


@pytest.mark.parametrize("checkpoints", [1, 2, 4, 10, 20])
@pytest.mark.parametrize("steps", [9, 30, 100])
def test_how_often_steps_are_run(steps: int, checkpoints: int) -> None:
    ran = 0

    def body(carry: Any) -> Any:
        nonlocal ran
        ran += 1
        return carry[0] + 1, carry[1] * 1.01

    x = wg.tensor(1.0, requires_grad=True)
    out = wg.while_loop(counted(steps), body, (wg.tensor(0), x), checkpoints=checkpoints)[1]
    assert ran == steps
    out.backward()
    # Once forward, once to be reversed, and as often as it takes to get there; the first time was forward.
    again = ran - 2 * steps
    optimum = fewest_advances(steps, checkpoints) - (steps - 1)
    assert optimum - checkpoints <= again <= 0.5 * steps + fewest_advances(steps, checkpoints)


def peak_of(function: Callable[[], Any]) -> int:
    function()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_flat_in_the_number_of_steps() -> None:
    size = 40_000
    w = wg.tensor(np.full(size, 0.999), dtype="float32", requires_grad=True)

    def run(steps: int, checkpoints: int | None) -> Callable[[], None]:
        def forward_and_back() -> None:
            w.grad = None
            x = wg.ones(size)
            out = wg.while_loop(counted(steps), lambda c: (c[0] + 1, wg.sin(c[1] * w)), (0, x), checkpoints=checkpoints)
            out[1].sum().backward()

        return forward_and_back

    of_one = size * 4
    short, middle, long = [peak_of(run(steps, 10)) for steps in (50, 500, 5000)]
    assert short < 35 * of_one
    assert middle < 1.15 * short
    assert long < 1.15 * short
    assert peak_of(run(50, None)) > 3 * short


def test_memory_is_flat_inside_of_vmap_and_jvp() -> None:
    size = 20_000
    w = wg.tensor(np.full(size, 0.999), dtype="float32")

    def function(x: Any, steps: int) -> Any:
        return wg.while_loop(counted(steps), lambda c: (c[0] + 1, wg.sin(c[1] * w)), (0, x), checkpoints=6)[1].sum()

    x = wg.ones((2, size))
    for mode in (
        lambda f: wg.vmap(wg.grad(f)),
        lambda f: wg.grad(lambda x: wg.vmap(f)(x).sum()),
        lambda f: lambda x: wg.jvp(wg.grad(f), (x,), (x,)),
        lambda f: wg.grad(lambda x: wg.jvp(f, (x,), (x,))[1]),
    ):
        short, long = [peak_of(lambda: mode(lambda x: function(x, steps))(x)) for steps in (30, 200)]  # noqa: B023
        assert long < 1.2 * short


# ---------------------------------------------------------------------- what else a body may do


def test_random_numbers_are_drawn_alike_when_steps_are_run_again() -> None:
    own = wg.random.Generator(5)

    def run(loop: Any, **options: Any) -> tuple[float, float, float]:
        wg.random.seed(3)
        own.seed(4)
        x = wg.tensor(0.5, dtype=F64, requires_grad=True)

        def body(carry: Any) -> Any:
            noise = wg.random.normal(dtype=F64) * 0.1 + own.random(dtype=F64)
            return carry[0] + 1, wg.sin(carry[1] * x + noise)

        out = loop(counted(30), body, (wg.tensor(0), x), **options)[1]
        out.backward()
        return out.item(), x.grad.item(), wg.random.rand().item()

    expected = run(unrolled)
    for options in BOUNDED:
        actual = run(wg.while_loop, **options)
        assert actual[0] == expected[0]
        assert_close(actual[1], expected[1])
        assert actual[2] == expected[2], "the stream goes on from where the loop had left it"


def test_writes_to_what_is_carried() -> None:
    x0 = wg.tensor([1.0, 2.0, 3.0], dtype=F64, requires_grad=True)

    def in_place(carry: Any) -> Any:
        i, x = carry
        x[0] += x[1] * 0.1
        x *= 0.9
        return i + 1, x

    def with_copies(carry: Any) -> Any:
        i, x = carry
        x = wg.concatenate([(x[0] + x[1] * 0.1).reshape(1), x[1:]]) * 0.9
        return i + 1, x

    init = x0 * 1.0
    out = wg.while_loop(counted(20), in_place, (wg.tensor(0), init), checkpoints=3)[1]
    assert init.tolist() == x0.tolist()
    (out**2).sum().backward()
    actual, x0.grad = x0.grad, None
    (unrolled(counted(20), with_copies, (wg.tensor(0), x0 * 1.0))[1] ** 2).sum().backward()
    assert_close(actual, x0.grad)


def test_what_is_returned_can_be_written_before_the_gradient_is_taken() -> None:
    x = wg.tensor([0.5, 0.7], dtype=F64, requires_grad=True)
    out = wg.while_loop(counted(20), lambda c: (c[0] + 1, wg.sin(c[1]) + x), (wg.tensor(0), x), checkpoints=3)[1]
    expected = wg.grad(lambda x: unrolled(counted(20), lambda c: (c[0] + 1, wg.sin(c[1]) + x), (0, x))[1].sum() * 3.0)(
        x.detach()
    )
    out *= 3.0
    out.sum().backward()
    assert_close(x.grad, expected)


def test_a_step_that_comes_out_otherwise_is_noticed() -> None:
    w = wg.tensor(0.9, requires_grad=True)
    out = wg.while_loop(counted(30), lambda c: (c[0] + 1, c[1] * w), (0, 1.0))[1]
    with wg.no_grad():
        w *= 2.0
    with pytest.raises(
        wg.errors.GradientError, match=r"came out otherwise: carry\[1\] had another value after step 29"
    ):
        out.backward()
    assert w.grad is None
    calls = itertools.count()
    out = wg.while_loop(counted(30), lambda c: (c[0] + 1, c[1] * w + next(calls)), (0, 1.0))[1]
    with pytest.raises(wg.errors.GradientError, match="came out otherwise"):
        out.backward()


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_small_write_in_between_is_noticed(start: float, order: int) -> None:
    """Also where it leaves every value as it was: at zero, c * w is zero for every w, and its slope is w."""
    w = wg.tensor(0.9, dtype="float32")
    x = wg.tensor(start, dtype="float32", requires_grad=True)
    out = wg.while_loop(counted(30), lambda c: (c[0] + 1, c[1] * w), (0, x))[1]
    w *= 1.00001
    with pytest.raises(wg.errors.GradientError, match="came out otherwise"):
        out.backward(create_graph=order == 2)
    assert x.grad is None


def test_a_write_in_between_is_noticed_through_transforms() -> None:
    for inside in (lambda f: f, by_jvp, wg.grad):
        w = wg.tensor(0.9, dtype=F64)
        step = inside(lambda c: wg.sin(c * w))  # noqa: B023
        loop = wg.vmap(lambda x: wg.while_loop(counted(30), lambda c: (c[0] + 1, step(c[1])), (0, x))[1])  # noqa: B023
        x = wg.tensor([0.0, 0.5], dtype=F64)
        out, pull = wg.vjp(loop, x)
        w *= 1.00001
        with pytest.raises(wg.errors.GradientError, match="came out otherwise"):
            pull(wg.ones_like(out))


def test_values_taken_out_of_the_loop_are_never_silently_wrong() -> None:
    def run(loop: Any, **options: Any) -> float:
        w = wg.tensor(0.9, dtype=F64, requires_grad=True)
        seen: list[Any] = []

        def body(carry: Any) -> Any:
            seen.append(carry[1] * w)
            return carry[0] + 1, seen[-1]

        loop(counted(20), body, (wg.tensor(0), wg.tensor(1.0, dtype=F64)), **options)
        wg.stack(seen).sum().backward()
        return w.grad.item()

    assert_close(run(wg.while_loop, checkpoints=None), run(unrolled))
    with pytest.raises(wg.errors.GradientError, match="kept by other means than by returning it"):
        run(wg.while_loop)


def test_a_value_of_an_earlier_step_reached_by_python() -> None:
    def run(loop: Any) -> float:
        w = wg.tensor(0.9, dtype=F64, requires_grad=True)
        before = [w * 1.0]

        def body(carry: Any) -> Any:
            i, x = carry
            new = x * before[0] + 0.1
            before[0] = x
            return i + 1, new

        loop(counted(20), body, (wg.tensor(0), w))[1].backward()
        return w.grad.item()

    # The loop is recorded step by step where it cannot be one entry of the tape.
    expected = run(unrolled)
    w = wg.tensor(0.9, dtype=F64, requires_grad=True)
    assert expected
    previous = [w * 1.0]

    def body(carry: Any) -> Any:
        i, x = carry
        if i == 0:
            previous[0] = w * 1.0
        new = x * previous[0] + 0.1
        previous[0] = x
        return i + 1, new

    wg.while_loop(counted(20), body, (wg.tensor(0), w))[1].backward()
    assert_close(w.grad, expected)


# ---------------------------------------------------------------------- errors


def test_errors_name_the_place() -> None:
    with pytest.raises(
        wg.errors.ShapeError, match=r"carry\['x'\]\[0\] has shape \(\) at first, and grow\(\) made it shape"
    ):

        def grow(carry: Any) -> Any:
            return {"x": [wg.ones(2)], "i": carry["i"] + 1}

        wg.while_loop(lambda c: c["i"] < 3, grow, {"x": [1.0], "i": 0})
    with pytest.raises(wg.errors.DTypeError, match=r"has dtype int64 at first, and .* made it float64"):
        wg.while_loop(lambda c: c < 3, lambda c: c + wg.tensor(0.5), wg.tensor(0))
    with pytest.raises(wg.errors.StructureError, match="carry is a tuple of 1, where a tuple of 2 is expected"):
        wg.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1,), (0, 1.0))
    with pytest.raises(wg.errors.ShapeError, match=r"must return one truth value, of shape \(\), not of shape \(2,\)"):
        wg.while_loop(lambda c: c < 3, lambda c: c + 1, wg.zeros(2))
    with pytest.raises(wg.errors.StepLimitError, match="still true after 10 steps"):
        wg.while_loop(lambda c: True, lambda c: c + 1, 0, max_steps=10)
    assert wg.while_loop(lambda c: c < 10, lambda c: c + 1, 0, max_steps=10).item() == 10
    with pytest.raises(wg.errors.StepLimitError):
        wg.vmap(lambda x: wg.while_loop(lambda c: c < x, lambda c: c + 1, 0, max_steps=5))(wg.tensor([3, 9]))
    with pytest.raises(ValueError, match="checkpoints must be a positive number"):
        wg.while_loop(lambda c: c < 3, lambda c: c + 1, 0, checkpoints=0)


def test_an_error_in_a_body_leaves_nothing_half_open() -> None:
    x = wg.tensor(1.0, requires_grad=True)
    armed = False

    def body(carry: Any) -> Any:
        if carry[0] == 12 and armed:
            raise KeyError("boom")
        return carry[0] + 1, wg.vmap(lambda v: v * x)(carry[1])

    out = wg.while_loop(counted(20), body, (wg.tensor(0), wg.ones(2)))[1].sum()
    armed = True
    state = wg.random.get_state().tolist()
    with pytest.raises(KeyError, match="boom"):
        wg.while_loop(counted(20), body, (wg.tensor(0), wg.ones(2)))
    with pytest.raises(KeyError, match="boom"):
        out.backward(retain_graph=True)
    assert x.grad is None and wg.is_grad_enabled() is True
    assert wg.random.get_state().tolist() == state
    armed = False
    out.backward()
    assert x.grad is not None and x.grad.item() == 40.0
    assert wg.grad(lambda x: x * x)(3.0).item() == 6.0
