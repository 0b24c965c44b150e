"""Operations on cotangents: identities forwards, and what they say backwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here
from wengert.core.primitive import REGISTRY
from wengert.errors import DTypeError

WEIGHTS = np.array([-3.0, 0.5, 0.0, 7.0])


def leaf(*values: float) -> Any:
    return wg.tensor(list(values) if len(values) != 1 else values[0], dtype="float64", requires_grad=True)


def pulled(operation: Any, weights: Any = WEIGHTS, dtype: str = "float64") -> Any:
    """Return the gradient of a weighted sum of the operation's result."""
    x = wg.tensor(np.ones(len(weights)), dtype=dtype, requires_grad=True)
    (gradient,) = wg.autograd.grad(wg.sum(operation(x) * wg.tensor(weights, dtype=dtype)), x)
    assert gradient.dtype == x.dtype
    return gradient.numpy()


OPERATIONS = {
    "clip": (lambda x: wg.clip_cotangent(x, -1.0, 2.0), np.clip(WEIGHTS, -1, 2)),
    "one side": (lambda x: wg.clip_cotangent(x, 0.0, float("inf")), np.maximum(WEIGHTS, 0)),
    "long": (lambda x: wg.clip_cotangent_norm(x, 2.0), WEIGHTS * 2 / np.linalg.norm(WEIGHTS)),
    "short": (lambda x: wg.clip_cotangent_norm(x, 100.0), WEIGHTS),
    "scale": (lambda x: wg.scale_cotangent(x, -2.0), -2 * WEIGHTS),
    "zero": (lambda x: wg.scale_cotangent(x, 0.0), 0 * WEIGHTS),
    "log": (lambda x: wg.log_cotangent(x, "x", lambda label, g: None), WEIGHTS),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_values_and_gradients(name: str, dtype: str) -> None:
    operation, expected = OPERATIONS[name]
    x = wg.tensor([1.0, 2.0, 3.0, 4.0], dtype=dtype, requires_grad=True)
    out = operation(x)
    assert out.tolist() == x.tolist() and out.dtype == x.dtype and out.requires_grad
    np.testing.assert_allclose(pulled(operation, dtype=dtype), expected, rtol=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
def test_forward_mode_passes_tangents_unchanged(name: str) -> None:
    primitives = {
        "with_clipped_cotangent": {"low": -1.0, "high": 1.0},
        "with_clipped_cotangent_norm": {"max_norm": 1.0, "lead": 0},
        "with_scaled_cotangent": {"factor": -3.0},
        "with_logged_cotangent": {"label": "", "report": lambda label, g: None},
    }
    from wengert import backend

    for primitive, params in primitives.items():
        x = np.array([1.0, 2.0])
        _, tangent = REGISTRY[primitive].jvp(backend.numpy, (x,), (x * 100,), params)
        assert tangent.tolist() == [100.0, 200.0]


def test_what_is_done_to_a_gradient_is_differentiated_with_it() -> None:
    x = leaf(0.5, 2.0)
    y = wg.sum(wg.clip_cotangent(x, -3.0, 3.0) ** 2 + wg.scale_cotangent(x, 10.0) ** 3)
    (first,) = wg.autograd.grad(y, x, create_graph=True)
    assert first.tolist() == [1.0 + 30 * 0.25, 3.0 + 30 * 4.0]
    (second,) = wg.autograd.grad(wg.sum(first), x)
    # d/dx of 2 x is 2 where it is not clipped; each of the sweeps through scale_cotangent multiplies by ten.
    assert second.tolist() == [2.0 + 600 * 0.5, 0.0 + 600 * 2.0]


def test_a_norm_that_would_overflow_and_a_nan() -> None:
    x = wg.tensor([1.0, 1.0], dtype="float16", requires_grad=True)
    (bar,) = wg.autograd.grad(wg.clip_cotangent_norm(x, 1.0), x, wg.tensor([3e4, 4e4], dtype="float16"))
    big = bar.numpy()
    np.testing.assert_allclose(big, [0.6, 0.8], rtol=3e-3)
    assert np.isnan(pulled(lambda x: wg.clip_cotangent_norm(x, 1.0), np.array([np.nan, 1.0]))).all()
    assert np.isnan(pulled(lambda x: wg.clip_cotangent(x, -1.0, 1.0), np.array([np.nan, 1.0]))).tolist() == [
        True,
        False,
    ]
    assert pulled(lambda x: wg.clip_cotangent_norm(x, 1.0), np.zeros(2)).tolist() == [0.0, 0.0]


def test_zeros_stay_zeros_before_an_infinite_derivative() -> None:
    x = leaf(0.0, 4.0)
    wg.sum(wg.scale_cotangent(wg.sqrt(x), 0.0)).backward()
    assert grad_of(x).tolist() == [0.0, 0.0]


def test_memory_is_shared_until_a_write() -> None:
    x = leaf(1.0, 2.0) * 1.0
    out = wg.scale_cotangent(x, 2.0)
    assert np.shares_memory(out._data, x._data)
    x[0] = 100.0
    assert out.tolist() == [1.0, 2.0]
    out += 5.0
    assert x.tolist() == [100.0, 2.0] and out.tolist() == [6.0, 7.0]
    array = np.ones(2)
    constant = wg.scale_cotangent(array, 2.0)
    array[:] = 9.0
    assert constant.tolist() == [1.0, 1.0] and not constant.requires_grad


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    x = leaf(3.0, 4.0)
    wg.sum(wg.log_cotangent(x, "squares") ** 2).backward()
    assert capsys.readouterr().err == "squares: shape (2,), dtype float64, norm 10, largest 8\n"
    wg.sum(wg.log_cotangent(x) * wg.tensor([np.nan, np.inf])).backward()
    assert "cotangent: shape (2,)" in (line := capsys.readouterr().err) and line.endswith("2 not finite\n")
    wg.sum(wg.log_cotangent(x[:0])).backward()
    assert capsys.readouterr().err == "cotangent: shape (0,), dtype float64\n"
    seen: list[Any] = []
    wg.log_cotangent(x[0], "one", lambda label, g: seen.append((label, g.item()))).backward()
    assert seen == [("one", 1.0)]


def test_the_line_is_the_users() -> None:
    from wengert.core.tape import location

    out, line = wg.scale_cotangent(leaf(1.0), 2.0), here()
    assert location(out._node) == line


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: wg.clip_cotangent(1.0, 0.1, 1.0), ValueError, "enclose 0"),
        (lambda: wg.clip_cotangent(1.0, 1.0, -1.0), ValueError, "enclose 0"),
        (lambda: wg.clip_cotangent(1.0, float("nan"), 1.0), ValueError, "enclose 0"),
        (lambda: wg.clip_cotangent(wg.tensor(1j), -1.0, 1.0), DTypeError, "clip_cotangent_norm"),
        (lambda: wg.clip_cotangent_norm(1.0, 0.0), ValueError, "positive"),
        (lambda: wg.scale_cotangent(1.0, float("inf")), ValueError, "finite"),
    ],
)
def test_misuse(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
