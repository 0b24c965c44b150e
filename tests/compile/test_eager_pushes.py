"""Values and tangents of eager code in native programs: those that NumPy computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.eager_programs import without_kernels
from wengert.compile import eager_pushes, eager_sweeps
from wengert.core import native

EPS = float(np.finfo(float).eps)


@pytest.fixture(autouse=True)
def tanh_and_powers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is never quicker than NumPy be done natively, too: it has to be right all the same."""
    monkeypatch.setattr(native, "_PASSES", 1 << 62)


def drawn(*shapes: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(17)
    return [0.25 + rng.random(shape) for shape in shapes]


CASES: dict[str, tuple[Callable[..., Any], list[np.ndarray]]] = {
    "arithmetic": (lambda x, y: 2.0 * x / y - x * 0.5 + 1 - y * 3, drawn((5, 7), (5, 7))),
    "broadcast": (lambda x, y, z: x * y + z, drawn((4, 5, 6), (5, 1), (6,))),
    "functions": (lambda x: wg.tanh(wg.sin(x)) + wg.exp(-x) * wg.log(x) + wg.sqrt(x), drawn((300,))),
    "powers": (lambda x: x**2 + x**1.5 + 2.0**x, drawn((50,))),
    "maxima": (lambda x, y: wg.maximum(x, y) * wg.relu(x - y) + abs(x - 2.0), drawn((40,), (40,))),
    "constants": (lambda x: x * wg.tensor(np.arange(6.0)) + wg.tensor(np.arange(6.0)), drawn((6,))),
    "transposed": (lambda x, y: (x.T * y).T + x, drawn((3, 4), (4, 3))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_tangents_are_those_of_numpy(at_once: None, name: str, dtype: Any) -> None:
    function, arrays = CASES[name]
    primals = [wg.tensor(array.astype(dtype)) for array in arrays]
    tangents = [wg.tensor(np.cos(np.arange(a.size)).reshape(a.shape).astype(dtype)) for a in arrays]

    def pushed() -> tuple[Any, Any]:
        return [wg.jvp(function, primals, tangents) for _ in range(3)][-1]

    found = pushed()
    assert eager_pushes.accounts.programs() or name == "transposed"  # where NumPy's results lie as operands do
    for got, want in zip(found, without_kernels(pushed), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        assert got._data.flags.c_contiguous == want._data.flags.c_contiguous
        bound = 40 * float(np.finfo(dtype).eps) * max(1.0, float(np.abs(want.numpy()).max()))
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=0, atol=bound)


def test_results_own_their_memory(at_once: None) -> None:
    x, v = map(wg.tensor, drawn((12,), (12,)))
    for _ in range(3):
        out, out_dot = wg.jvp(wg.sin, (x,), (v,))
    kept, kept_dot = out.numpy().copy(), out_dot.numpy().copy()
    wg.jvp(wg.sin, (2.0 * x,), (3.0 * v,))
    np.testing.assert_array_equal(out.numpy(), kept)
    np.testing.assert_array_equal(out_dot.numpy(), kept_dot)


def test_zero_times_infinity_is_zero(at_once: None) -> None:
    x = wg.tensor(np.array([0.0, 4.0]))
    for _ in range(eager_sweeps.MOST_FAILURES + 2):
        dots = [wg.jvp(wg.sqrt, (x,), (v,))[1] for v in (np.array([0.0, 1.0]), np.array([1.0, 1.0]))]
        np.testing.assert_array_equal(dots[0].numpy(), [0.0, 0.25])
        np.testing.assert_array_equal(dots[1].numpy(), [np.inf, 0.25])


def test_second_order_and_no_grad(at_once: None) -> None:
    x = drawn((20,))[0]
    ones = np.ones(20)
    for _ in range(3):
        second = wg.jvp(lambda x: wg.jvp(lambda x: x**4, (x,), (ones,))[1], (wg.tensor(x),), (ones,))[1]
        with wg.no_grad():
            first = wg.jvp(wg.sin, (wg.tensor(x),), (ones,))[1]
    np.testing.assert_allclose(second.numpy(), 12 * x**2, rtol=16 * EPS)
    np.testing.assert_allclose(first.numpy(), np.cos(x), rtol=8 * EPS)
