"""Users' operations keep their residuals in a form of their own; hooks, files and checkpoints take them as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wengert as wg


@wg.primitive
def growth(x: Any, rate: Any) -> Any:
    return {"value": np.exp(x * rate), "square": x * x}


@growth.defvjp
def growth_vjp(out_bar: Any, x: Any, rate: Any, out: Any) -> Any:
    value_bar = out_bar["value"] * out["value"]
    return value_bar * rate + out_bar["square"] * 2.0 * x, wg.sum(value_bar * x)


def function(x: Any) -> Any:
    out = growth(wg.sin(x), wg.sum(x))
    return wg.sum(out["value"] * 2.0 + out["square"])


def derivatives(f: Callable[[Any], Any]) -> list[np.ndarray]:
    x = wg.tensor([0.5, 1.0], dtype="float64", requires_grad=True)
    (first,) = wg.autograd.grad(f(x), x, create_graph=True)
    (second,) = wg.autograd.grad(wg.sum(first * first), x)
    (raw,) = wg.autograd.grad(f(x), x)
    return [first.detach().numpy(), second.numpy(), raw.numpy()]


def boxes(x: Any) -> Any:
    with wg.saved_residuals_hooks(lambda t: (t,), lambda packed: packed[0]):
        return function(x)


@pytest.mark.parametrize("kind", ["hooks", "disk", "checkpoint", "nested"])
def test_the_same_as_without(kind: str, tmp_path: Path) -> None:
    packed = {
        "hooks": boxes,
        "disk": wg.residuals_on_disk(tmp_path, min_bytes=0)(function),
        "checkpoint": wg.checkpoint(function),
        "nested": wg.checkpoint(wg.checkpoint(function)),
    }[kind]
    for one, other in zip(derivatives(packed), derivatives(function), strict=True):
        np.testing.assert_array_equal(one, other)
