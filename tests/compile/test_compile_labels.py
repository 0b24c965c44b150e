"""Labels that are no class: refused in every run of a compiled step, before it has changed anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.nn import functional as F

CLASSES = 3


def _training() -> tuple[Any, Any, Callable[[Any, Any], Any]]:
    rng = np.random.default_rng(0)
    weight = wg.tensor(rng.normal(size=(4, CLASSES)), requires_grad=True)
    optimizer = wg.optim.Adam([weight], lr=0.1)

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight, labels)
        loss.backward()
        optimizer.step()
        return loss

    return weight, wg.tensor(rng.normal(size=(5, 4))), wg.compile(step)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
@pytest.mark.parametrize("wrong", [[0, 1, CLASSES, 0, 0], [0, -1, 2, 0, 0], [-100, 7, 0, 0, 0]])
def test_a_label_that_is_no_class_is_refused_and_nothing_has_changed(dtype: str, wrong: list[int]) -> None:
    weight, x, step = _training()
    for _ in range(4):
        step(x, wg.tensor([0, 1, 2, -100, 0], dtype=dtype))
    before, gradient = weight.detach().numpy().copy(), weight.grad.numpy().copy()
    with pytest.raises(IndexError, match="is no class"):
        step(x, wg.tensor(wrong, dtype=dtype))
    np.testing.assert_array_equal(weight.detach().numpy(), before)
    np.testing.assert_array_equal(weight.grad.numpy(), gradient)
    step(x, wg.tensor([0, 1, 2, 1, 0], dtype=dtype))
    assert (weight.detach().numpy() != before).any()


def test_labels_that_are_written_to_between_runs_are_looked_at_again() -> None:
    weight, x, step = _training()
    labels = wg.tensor([0, 1, 2, -100, 0])
    for _ in range(4):
        step(x, labels)
    before = weight.detach().numpy().copy()
    labels[1] = CLASSES
    with pytest.raises(IndexError, match=r"label 3 at \(1,\) is no class"):
        step(x, labels)
    np.testing.assert_array_equal(weight.detach().numpy(), before)


@pytest.mark.parametrize(
    ("dtype", "classes"), [("uint8", 200), ("int8", 200), ("uint16", 3), ("uint32", 3), ("uint64", 3)]
)
def test_labels_of_any_integer_dtype(dtype: str, classes: int) -> None:
    """Also of those that hold neither negative positions nor the number of classes."""
    rng = np.random.default_rng(1)
    logits = wg.tensor(rng.normal(size=(5, classes)), requires_grad=True)
    labels = wg.tensor([0, 1, 2, 1, 0], dtype=dtype)

    def gradient(logits: Any, labels: Any) -> Any:
        return wg.grad(lambda z: F.cross_entropy(z, labels))(logits)

    expected = gradient(logits, labels).detach().numpy()
    compiled = wg.compile(gradient)
    for _ in range(2):
        found = compiled(logits, labels).detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=4 * np.finfo(np.float64).eps)
