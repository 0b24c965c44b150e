"""States of an LSTM: one operation or many, by whom they are followed; shapes that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.errors import ShapeError

SHAPES = (5, 3, 8), (3, 2), (3, 2), (8, 2)


def operands(dtype: Any = np.float64, steps: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(steps, *shape[1:]) if len(shape) > 2 else shape).astype(dtype) for shape in SHAPES]


def by_steps(driven: Any, h: Any, c: Any, weight: Any) -> Any:
    outputs, cells = [], []
    for step in range(len(driven)):
        h, c = wg.lstm_step(driven[step] + wg.linear(h, weight), c)
        outputs.append(h)
        cells.append(c)
    return wg.stack(outputs), wg.stack(cells)


def gradients(function: Any, arrays: list[np.ndarray], uses: str) -> list[np.ndarray]:
    tensors = [wg.tensor(array, requires_grad=True) for array in arrays]
    outputs, cells = function(*tensors)
    loss = (outputs.sin().sum() if "h" in uses else 0.0) + ((cells[-1] ** 2).sum() if "c" in uses else 0.0)
    first = wg.autograd.grad(loss, tensors, create_graph=True)
    wg.stack([(bar * bar).sum() for bar in first]).sum().backward()
    return [t.detach().numpy() for t in (outputs, cells, *first)] + [t.grad.numpy() for t in tensors]  # type: ignore[union-attr]


@pytest.mark.parametrize("uses", ["h", "c", "hc"])
def test_all_states_at_once_are_those_of_the_steps(uses: str) -> None:
    found = gradients(wg.lstm_states, operands(), uses)
    for got, want in zip(found, gradients(by_steps, operands(), uses), strict=True):
        # Sums of at most 15 rows and 8 gates; five steps multiply what is lost by less than 40.
        np.testing.assert_allclose(got, want, rtol=0, atol=40 * 15 * np.finfo(float).eps * max(1, np.abs(want).max()))


@pytest.mark.parametrize("steps", [1, 257])
def test_however_many_steps(steps: int) -> None:
    arrays = operands(steps=steps)
    for got, want in zip(wg.lstm_states(*arrays), by_steps(*map(wg.tensor, arrays)), strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=0, atol=64 * np.finfo(float).eps)


@pytest.mark.parametrize(
    "shapes",
    [
        ((5, 3, 7), *SHAPES[1:]),
        ((5, 2, 8), *SHAPES[1:]),
        (SHAPES[0], (3, 1), *SHAPES[2:]),
        (*SHAPES[:3], (2, 8)),
        (*SHAPES[:2], (), SHAPES[3]),
        ((0, 3, 8), *SHAPES[1:]),
    ],
)
def test_shapes_that_do_not_fit(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ShapeError, match="lstm_states: "):
        wg.lstm_states(*[np.zeros(shape) for shape in shapes])
