"""Rules of a `wg.primitive` are checked on first use: wrong ones are found, right ones never suspected."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import wengert as wg
from wengert.core import boxing
from wengert.errors import GradientError, WrongRuleError

DTYPES = [np.float64, np.float32]
RNG = np.random.default_rng(0)


def operation(forward: Callable[..., Any], vjp: Any = None, jvp: Any = None, **options: Any) -> Any:
    made = wg.primitive(**options)(forward)
    if vjp is not None:
        made.defvjp(vjp)
    if jvp is not None:
        made.defjvp(jvp)
    return made


def differentiate(made: Any, *args: Any) -> None:
    """Use an operation in reverse mode by all its floating arguments."""
    tensors = [
        wg.tensor(a, requires_grad=True) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args
    ]
    out = made(*tensors)
    leaves = [y for y in (out if isinstance(out, tuple) else (out,)) if y.requires_grad]
    inputs = [t for t in tensors if isinstance(t, wg.Tensor)]
    wg.autograd.grad(leaves, inputs, [wg.ones_like(y) for y in leaves], allow_unused=True)


def affine(x: Any, w: Any, b: Any) -> Any:
    return x @ w + b


def affine_arguments(dtype: Any) -> tuple[Any, ...]:
    shapes = ((5, 3), (3, 3), (3,))
    return tuple([np.random.default_rng(i).normal(size=shape).astype(dtype) for i, shape in enumerate(shapes)])


def affine_vjp(out_bar: Any, x: Any, w: Any) -> Any:
    return out_bar @ w.T, x.T @ out_bar, out_bar.sum(axis=0)


def affine_jvp(x: Any, w: Any, x_dot: Any, w_dot: Any, b_dot: Any) -> Any:
    return x_dot @ w + x @ w_dot + b_dot


# Mistakes


WRONG_PULLBACKS = {
    "sign": lambda out_bar, x, w: (-(out_bar @ w.T), x.T @ out_bar, out_bar.sum(axis=0)),
    "transpose": lambda out_bar, x, w: (out_bar @ w, x.T @ out_bar, out_bar.sum(axis=0)),
    "factor": lambda out_bar, x, w: (out_bar @ w.T, 2 * (x.T @ out_bar), out_bar.sum(axis=0)),
    "small factor": lambda out_bar, x, w: (out_bar @ w.T, 1.02 * (x.T @ out_bar), out_bar.sum(axis=0)),
    "mean for sum": lambda out_bar, x, w: (out_bar @ w.T, x.T @ out_bar, out_bar.mean(axis=0)),
    "one term of a sum": lambda out_bar, x, w: (out_bar @ w.T, x.T @ out_bar, out_bar[0]),
    "another argument": lambda out_bar, x, w: (out_bar @ w.T, (x.T @ x).T, out_bar.sum(axis=0)),
    "forgotten": lambda out_bar, x, w: (out_bar @ w.T, None, out_bar.sum(axis=0)),
    "not a number": lambda out_bar, x, w: (out_bar @ w.T, x.T @ out_bar * np.nan, out_bar.sum(axis=0)),
    "one entry": lambda out_bar, x, w: (out_bar @ w.T, x.T @ out_bar * wg.tensor([0.0, 1.0, 1.0]), out_bar.sum(axis=0)),
}

WRONG_TANGENTS = {
    "sign": lambda x, w, x_dot, w_dot, b_dot: x_dot @ w - x @ w_dot + b_dot,
    "transpose": lambda x, w, x_dot, w_dot, b_dot: x_dot @ w.T + x @ w_dot + b_dot,
    "forgotten": lambda x, w, x_dot, w_dot, b_dot: x_dot @ w + b_dot + 0 * w_dot.sum(),
    "factor": lambda x, w, x_dot, w_dot, b_dot: x_dot @ w + x @ w_dot + 2 * b_dot,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", WRONG_PULLBACKS)
def test_wrong_vjp_rules_are_found(mistake: str, dtype: Any) -> None:
    made = operation(affine, WRONG_PULLBACKS[mistake])
    with pytest.raises(
        WrongRuleError, match=r"vjp rule .*test_custom_checks\.py:\d+\) of affine is wrong by [xwb]: .* by the"
    ):
        differentiate(made, *affine_arguments(dtype))
    with pytest.raises(WrongRuleError):  # it is not taken for checked
        differentiate(made, *affine_arguments(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", WRONG_TANGENTS)
def test_wrong_jvp_rules_are_found(mistake: str, dtype: Any) -> None:
    with pytest.raises(WrongRuleError, match=r"the jvp rule .* of affine is wrong by"):
        differentiate(operation(affine, jvp=WRONG_TANGENTS[mistake]), *affine_arguments(dtype))
    with pytest.raises(WrongRuleError, match="contradict each other"):
        differentiate(operation(affine, affine_vjp, WRONG_TANGENTS[mistake]), *affine_arguments(dtype))


@pytest.mark.parametrize("mistake", ["sign", "transpose", "factor"])
def test_two_rules_that_contradict_each_other_are_found_without_the_forward(mistake: str) -> None:
    calls = [0]

    def counted(x: Any, w: Any, b: Any) -> Any:
        calls[0] += 1
        return affine(x, w, b) + RNG.normal()  # nothing to difference

    with pytest.raises(WrongRuleError, match=r"<J'w, v> is .* by the vjp and <w, Jv> is .* by the jvp"):
        differentiate(operation(counted, WRONG_PULLBACKS[mistake], affine_jvp), *affine_arguments(np.float64))
    assert calls[0] <= 10


def test_a_wrong_rule_is_found_in_forward_mode_too() -> None:
    made = operation(affine, jvp=WRONG_TANGENTS["transpose"])
    x, w, b = (wg.tensor(a) for a in affine_arguments(np.float64))
    made(x, w, b)
    from wengert.transforms.custom_calls import Call

    call = Call(made.parameters)
    arrays = call.take((x, w, b), True)
    with pytest.raises(WrongRuleError, match="the jvp rule"):
        made._records[tuple(call.owners)].jvp(boxing.operations, tuple(arrays), tuple(arrays), {"call": call})


def test_a_forgotten_conjugate_is_found() -> None:
    phase = np.exp(1j * np.arange(3.0))

    def turned(x: Any) -> Any:
        return x * phase

    made = operation(turned, lambda out_bar: (out_bar * wg.asarray(phase)).real)
    with pytest.raises(WrongRuleError):
        made(wg.tensor([1.0, 2.0, 3.0], dtype="float64", requires_grad=True))
    made = operation(turned, lambda out_bar: (out_bar * wg.asarray(np.conj(phase))).real)
    made(wg.tensor([1.0, 2.0, 3.0], dtype="float64", requires_grad=True))


def test_a_wrong_batching_rule_is_found() -> None:
    from wengert.transforms.custom_calls import Call

    made = operation(lambda x: {"s": x.sum()}, batch=None)
    made.defbatch(lambda x: {"s": x.sum(axis=-1) / 2})
    call = Call(made.parameters)
    call.take((np.ones(3),), True)
    made(np.ones(3))
    record = made._records[(0,)]
    with pytest.raises(
        WrongRuleError, match=r"for the last of 2 examples, out\['s'\] is .*1.5.*, and .*3.0.* by the fo"
    ):
        record.batch(boxing.operations, (wg.ones((2, 3)),), (0,), {"call": call})
    made.defbatch(lambda x: x.sum(axis=-1))
    with pytest.raises(WrongRuleError, match="returns results nested as"):
        record.batch(boxing.operations, (wg.ones((2, 3)),), (0,), {"call": call})
    made.defbatch(lambda x: {"s": x.sum(axis=-1)})
    record.batch(boxing.operations, (wg.ones((2, 3)),), (0,), {"call": call})


DETACHED = {
    "a detached argument": lambda out_bar, x, out: out_bar * 2 * x.detach() * out,
    "a detached result": lambda out_bar, x, out: out_bar * 2 * x * out.detach(),
    "a detached cotangent": lambda out_bar, x, out: out_bar.detach() * 2 * x * out,
    "numbers": lambda out_bar, x, out: out_bar * 2 * wg.tensor([float(v) for v in x], dtype=x.dtype) * out,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mistake", DETACHED)
def test_a_rule_that_leaves_the_tape_in_part_is_found_when_it_is_recorded(mistake: str, dtype: Any) -> None:
    def bell(x: Any) -> Any:
        return np.exp(x * x)

    made = operation(bell, DETACHED[mistake])
    x = wg.tensor(np.array([0.3, -0.7, 1.1], dtype), requires_grad=True)
    wg.autograd.grad(made(x).sum(), x)
    for _ in range(2):
        with pytest.raises(WrongRuleError, match=r"vjp rule .* of bell is not all on the tape: .* by the tape and"):
            wg.autograd.grad(made(x).sum(), x, create_graph=True)
    with wg.set_rule_checking(False):
        wg.autograd.grad(made(x).sum(), x, create_graph=True)
    right = operation(bell, lambda out_bar, x, out: out_bar * 2 * x * out)
    (slope,) = wg.autograd.grad(right(x).sum(), x, create_graph=True)
    wg.autograd.grad(slope.sum(), x)


# Right rules, in places where differences fail


def symmetric(n: int) -> np.ndarray:
    a = np.random.default_rng(n).normal(size=(n, n))
    return a @ a.T + n * np.eye(n)


def cholesky_vjp(out_bar: Any, out: Any) -> Any:
    n = out.shape[0]
    half = wg.tril(wg.ones((n, n), dtype=out.dtype)) - 0.5 * wg.eye(n, dtype=out.dtype)
    inverse = wg.asarray(np.linalg.inv(np.asarray(out)))
    inner = inverse.T @ (half * (out.T @ out_bar)) @ inverse
    return (inner + inner.T) / 2


def relu_vjp(out_bar: Any, x: Any) -> Any:
    return wg.where(x > 0, out_bar, wg.zeros_like(out_bar))


def sorted_vjp(out_bar: Any, x: Any) -> Any:
    return wg.take_along_axis(out_bar, wg.argsort(wg.argsort(x, axis=-1), axis=-1), axis=-1)


KINKS = {
    "relu at zeros": (lambda x: np.maximum(x, 0), relu_vjp, np.array([0.0, 0.0, 0.0, 1.0, -1.0])),
    "relu at zeros alone": (lambda x: np.maximum(x, 0), relu_vjp, np.zeros(4)),
    "relu of many": (lambda x: np.maximum(x, 0), relu_vjp, np.random.default_rng(1).normal(size=20000)),
    "absolute value at zero": (lambda x: np.abs(x), lambda out_bar, x: out_bar * wg.sign(x), np.zeros(3)),
    "square root at zero": (lambda x: np.sqrt(x), lambda out_bar, out: out_bar / (2 * out), np.array([0.0, 1.0])),
    "norm at zero": (lambda x: np.sqrt((x * x).sum()), lambda out_bar, x, out: out_bar * x / out, np.zeros(3)),
    "sorting ties": (lambda x: np.sort(x), sorted_vjp, np.array([1.0, 1.0, 2.0, 2.0])),
    "floor": (lambda x: np.floor(x) + x, lambda out_bar: out_bar, np.array([1.0, 2.0, 3.5])),
    "logarithm near zero": (lambda x: np.log(x), lambda out_bar, x: out_bar / x, np.array([1e-9, 1.0, 1e9])),
    "tiny numbers": (lambda x: np.log(x), lambda out_bar, x: out_bar / x, np.array([1e-30, 3e-30])),
    "straight through": (lambda x: np.round(x * 10) / 10, lambda out_bar: out_bar, np.array([0.31, 0.77])),
    "infinities": (lambda x: 1 / x, lambda out_bar, x: -out_bar / x**2, np.array([np.inf, 2.0, 4.0])),
    "empty": (lambda x: x * 2, lambda out_bar: 2 * out_bar, np.zeros((0, 3))),
    "constant": (lambda x: np.ones(3) + 0 * x, lambda out_bar: None, np.array([1.0, 2.0, 3.0])),
    "symmetric matrix": (lambda x: np.linalg.cholesky(x), cholesky_vjp, symmetric(4)),
    "wide range": (lambda x: np.exp(x), lambda out_bar, out: out_bar * out, np.linspace(-50, 50, 11)),
    "oscillating": (
        lambda x: np.sin(500 * x),
        lambda out_bar, x: 500 * out_bar * wg.cos(500 * x),
        np.array([0.7, 1.9]),
    ),
    "cancelling": (lambda x: (x + 1e6) - 1e6, lambda out_bar: out_bar, np.array([0.25, 0.5])),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KINKS)
def test_right_rules_are_not_suspected(name: str, dtype: Any) -> None:
    forward, vjp, x = KINKS[name]
    x = x.astype(dtype)
    if dtype is np.float32 and name in ("logarithm near zero", "tiny numbers"):
        x = np.maximum(x, 1e-30)
    with np.errstate(all="ignore"):
        made = operation(forward, vjp)
        differentiate(made, x)
        tracked = wg.tensor(x, requires_grad=True)
        try:
            wg.autograd.grad(made(tracked).sum(), tracked, create_graph=True, allow_unused=True)
        except GradientError as error:
            assert name == "symmetric matrix" and "is on the tape" in str(error)


def test_iterative_and_noisy_forwards_are_not_suspected() -> None:
    def root(a: Any) -> Any:
        x = np.ones_like(a)
        for _ in range(30):
            x = x - 0.3 * (x * x - a) / (2 * x)  # slow, and stopped early
        return x

    differentiate(operation(root, lambda out_bar, out: out_bar / (2 * out)), np.array([1.0, 2.0, 3.0]))
    noise = np.random.default_rng(0)
    noisy = operation(lambda x: x * 2 + 1e-3 * noise.normal(size=x.shape), lambda out_bar: 7 * out_bar)
    differentiate(noisy, np.array([1.0, 2.0]))  # there is no telling


def test_shapes_that_depend_on_values_and_failing_forwards_are_not_suspected() -> None:
    def positive_part(x: Any) -> Any:
        return x[x > 1.0]

    def positive_part_vjp(out_bar: Any, x: Any) -> Any:
        spread = (wg.arange(x.shape[0])[:, None] == wg.asarray(np.flatnonzero(x.detach().numpy() > 1.0))).astype(
            x.dtype
        )
        return spread @ out_bar

    differentiate(operation(positive_part, positive_part_vjp), np.array([1.0, 2.0, 1.0 + 1e-9, 3.0]))
    calls = [0]

    def once(x: Any) -> Any:
        calls[0] += 1
        if calls[0] > 1:
            raise RuntimeError("the device is busy")
        return x * 2

    differentiate(operation(once, lambda out_bar: 2 * out_bar), np.array([1.0]))


def test_every_right_rule_of_an_affine_map_passes() -> None:
    for dtype in (*DTYPES, np.float16):
        for rules in ((affine_vjp, None), (None, affine_jvp), (affine_vjp, affine_jvp)):
            differentiate(operation(affine, *rules), *affine_arguments(dtype))


def test_integers_and_other_arguments_are_not_moved() -> None:
    seen: list[Any] = []

    def powers(x: Any, n: Any, y: Any) -> Any:
        seen.append((n.tolist(), y.tolist()))
        return x**n * y

    made = operation(powers, lambda out_bar, x, n, y: (out_bar * n * x ** (n - 1) * y, None, None))
    x = wg.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    made(x, np.array([2, 3]), np.array([0.5, 0.25]))
    assert len(seen) > 2 and all(s == ([2, 3], [0.5, 0.25]) for s in seen)


# What a check costs, and what it leaves as it was


def test_a_rule_is_checked_once_for_dtypes_and_tracked_arguments() -> None:
    calls = [0]

    def counted(x: Any, y: Any) -> Any:
        calls[0] += 1
        return np.sin(x) * y

    made = operation(counted, lambda out_bar, x, y: (out_bar * wg.cos(x) * y, (out_bar * wg.sin(x)).sum()))
    x = wg.tensor([0.1, 0.2], dtype="float64", requires_grad=True)
    made(x, 2.0)
    assert 2 < calls[0] <= 12  # an easy forward is differenced with few steps
    for _ in range(3):
        before = calls[0]
        made(x * 2, 2.0)
        assert calls[0] == before + 1
    for other in (lambda: made(x.astype("float32"), 2.0), lambda: made(x, x.sum())):
        before = calls[0]
        other()
        assert calls[0] > before + 1
        before = calls[0]
        other()
        assert calls[0] == before + 1
    made.defvjp(lambda out_bar, x, y: (0 * out_bar, 0 * y))
    with pytest.raises(WrongRuleError):
        made(x, 2.0)


def test_untracked_calls_are_not_checked() -> None:
    made = operation(lambda x: x * 2, lambda out_bar: out_bar)
    made(wg.tensor([1.0]))
    with wg.no_grad():
        made(wg.tensor([1.0], requires_grad=True))


def test_checks_can_be_switched_off() -> None:
    assert wg.is_rule_checking()
    x = wg.tensor([1.0], requires_grad=True)
    wrong = operation(lambda x: x * 2, lambda out_bar: out_bar)
    with wg.set_rule_checking(False):
        assert not wg.is_rule_checking()
        wrong(x)
        with wg.set_rule_checking(True), pytest.raises(WrongRuleError):
            wrong(x)
        assert not wg.is_rule_checking()
    assert wg.is_rule_checking()
    operation(lambda x: x * 2, lambda out_bar: out_bar, check=False)(x)
    previous = wg.set_rule_checking(False)
    wrong(x)
    assert repr(previous) == "<rule checking off>"
    wg.set_rule_checking(True)
    with pytest.raises(TypeError, match="True or False, not int"):
        wg.set_rule_checking(1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "expected"), [("0", "False"), ("off", "False"), ("1", "True")])
def test_the_environment_decides_at_first(value: str, expected: str) -> None:
    environment = {**os.environ, "WENGERT_CHECK_RULES": value}
    code = "import wengert as wg; print(wg.is_rule_checking())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_random_numbers_warnings_and_recording_are_left_as_they_were() -> None:
    made = operation(
        lambda x: x * 2 + 0 * (np.random.rand() + random.random() + wg.random.rand().item()),  # noqa: NPY002
        lambda out_bar: 2 * out_bar,
    )

    def numbers() -> list[float]:
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        wg.random.seed(0)
        made(wg.tensor([1.0], requires_grad=True))
        return [np.random.rand(), random.random(), wg.random.rand().item()]  # noqa: NPY002

    with wg.set_rule_checking(False):
        expected = numbers()
    assert numbers() == expected and wg.is_grad_enabled()
    warned = operation(lambda x: np.log(x), lambda out_bar, x: out_bar / x)
    warned(wg.tensor([1e-3], requires_grad=True))  # warnings are errors in these tests


def test_a_rule_may_call_its_own_operation() -> None:
    @wg.primitive
    def exponential(x: Any) -> Any:
        return np.exp(x)

    @exponential.defjvp
    def exponential_jvp(x: Any, x_dot: Any) -> Any:
        return exponential(x) * x_dot

    assert wg.grad(wg.grad(exponential))(np.float64(0.5)).item() == pytest.approx(np.exp(0.5))


def test_scipy_agrees_that_the_examples_are_sound() -> None:
    np.testing.assert_allclose(np.linalg.cholesky(symmetric(4)), scipy.linalg.cholesky(symmetric(4), lower=True))
