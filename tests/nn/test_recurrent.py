"""LSTMs against a loop of their equations, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

import wengert as wg
from wengert import nn
from wengert.errors import ShapeError

LIMIT = 1000 * float(np.finfo(np.float64).eps)


def step(x: np.ndarray, h: np.ndarray, c: np.ndarray, state: dict[str, np.ndarray], suffix: str) -> Any:
    gates = x @ state[f"weight_ih{suffix}"].T + h @ state[f"weight_hh{suffix}"].T
    gates = gates + state.get(f"bias_ih{suffix}", 0.0) + state.get(f"bias_hh{suffix}", 0.0)
    i, f, g, o = np.split(gates, 4, axis=-1)
    c = expit(f) * c + expit(i) * np.tanh(g)
    return expit(o) * np.tanh(c), c


def sequence(x: np.ndarray, h: np.ndarray, c: np.ndarray, state: dict[str, np.ndarray], suffix: str) -> Any:
    outputs = []
    for row in x[::-1] if suffix.endswith("reverse") else x:
        h, c = step(row, h, c, state, suffix)
        outputs.append(h)
    return np.stack(outputs[::-1] if suffix.endswith("reverse") else outputs), h, c


def state_of(layer: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in layer.state_dict().items()}


@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_takes_one_step(bias: bool) -> None:
    wg.random.seed(0)
    layer = nn.LSTMCell(3, 4, bias=bias, dtype="float64")
    rng = np.random.default_rng(0)
    x, h, c = rng.normal(size=(2, 3)), rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    expected = step(x, h, c, state_of(layer), "")
    for got, wanted in zip(layer(x, (h, c)), expected, strict=True):
        np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=LIMIT, atol=LIMIT)
    from_zeros = step(x, 0 * h, 0 * c, state_of(layer), "")
    for got, wanted in zip(layer(wg.tensor(x)), from_zeros, strict=True):
        np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=LIMIT, atol=LIMIT)
    for got, wanted in zip(layer(x[0], (h[0], c[0])), expected, strict=True):
        np.testing.assert_allclose(got.detach().numpy(), wanted[0], rtol=LIMIT, atol=LIMIT)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, False), (2, True)])
def test_layers_read_what_the_one_below_gives_out(layers: int, bidirectional: bool, batch_first: bool) -> None:
    wg.random.seed(0)
    options: dict[str, Any] = {"bidirectional": bidirectional, "batch_first": batch_first, "dtype": "float64"}
    layer = nn.LSTM(3, 4, layers, **options)
    state = state_of(layer)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 2, 3))
    h, c = rng.normal(size=(2, layers * (1 + bidirectional), 2, 4))
    below, ends, place = x, [], 0
    for i in range(layers):
        outputs = []
        for suffix in (f"_l{i}", f"_l{i}_reverse")[: 1 + bidirectional]:
            out, *end = sequence(below, h[place], c[place], state, suffix)
            outputs.append(out)
            ends.append(end)
            place += 1
        below = np.concatenate(outputs, -1)
    got, (h_end, c_end) = layer(np.swapaxes(x, 0, 1) if batch_first else x, (h, c))
    got = np.swapaxes(got.detach().numpy(), 0, 1) if batch_first else got.detach().numpy()
    np.testing.assert_allclose(got, below, rtol=LIMIT, atol=LIMIT)
    np.testing.assert_allclose(h_end.detach().numpy(), [e[0] for e in ends], rtol=LIMIT, atol=LIMIT)
    np.testing.assert_allclose(c_end.detach().numpy(), [e[1] for e in ends], rtol=LIMIT, atol=LIMIT)


def test_one_sequence_alone() -> None:
    layer = nn.LSTM(3, 4, dtype="float64")
    x = np.random.default_rng(0).normal(size=(5, 3))
    out, (h, c) = layer(x)
    assert (out.shape, h.shape, c.shape) == ((5, 4), (1, 4), (1, 4))
    expected, *_ = sequence(x, np.zeros(4), np.zeros(4), state_of(layer), "_l0")
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=LIMIT, atol=LIMIT)


def test_it_starts_small_and_its_state_has_the_usual_names() -> None:
    wg.random.seed(0)
    layer = nn.LSTM(3, 16, bidirectional=True)
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert list(layer.state_dict()) == [f"{n}_l0" for n in names] + [f"{n}_l0_reverse" for n in names]
    assert list(nn.LSTMCell(3, 4).state_dict()) == names
    largest = max(float(np.abs(p.detach().numpy()).max()) for p in layer.parameters())
    assert 0.24 < largest <= 0.25


def test_dropout_between_layers_is_for_training_alone() -> None:
    wg.random.seed(0)
    layer = nn.LSTM(3, 4, num_layers=2, dropout=0.5)
    x = wg.ones((5, 2, 3))
    assert layer(x)[0].tolist() != layer(x)[0].tolist()
    layer.eval()
    assert layer(x)[0].tolist() == layer(x)[0].tolist()


def test_saturated_gates_keep_what_they_hold() -> None:
    """Gates of plus and minus a thousand are one and zero: the cell is kept exactly, and so is its gradient."""
    gates = wg.tensor([-1000.0, 1000.0, 5.0, -1000.0]).requires_grad_()
    cell = wg.tensor([0.7]).requires_grad_()
    h, c = wg.lstm_step(gates, cell)
    assert (h.tolist(), c.tolist()) == ([0.0], cell.tolist())
    c.sum().backward()
    assert cell.grad is not None and gates.grad is not None
    assert cell.grad.tolist() == [1.0]
    assert gates.grad.tolist() == [0.0] * 4


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ShapeError, match=r"\(5, 2, 4\).*length, count, 3"):
        nn.LSTM(3, 4)(wg.ones((5, 2, 4)))
    with pytest.raises(ShapeError, match=r"\(1, 2, 5\).*\(1, 2, 4\)"):
        nn.LSTM(3, 4)(wg.ones((5, 2, 3)), (wg.ones((1, 2, 5)), wg.ones((1, 2, 5))))
    with pytest.raises(ShapeError, match="no elements"):
        nn.LSTM(3, 4)(wg.ones((0, 2, 3)))
    with pytest.raises(ShapeError, match=r"\(2, 9\).*four.*\(2, 3\)"):
        wg.lstm_step(wg.ones((2, 9)), wg.ones((2, 3)))
    with pytest.raises(ValueError, match="num_layers"):
        nn.LSTM(3, 4, num_layers=0)
    with pytest.raises(ValueError, match="dropout"):
        nn.LSTM(3, 4, dropout=1.5)
