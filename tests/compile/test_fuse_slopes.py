"""Derivatives that are computed with what they are derivatives of, and kept in memory instead of its elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.graphs import assert_agrees, graph_of


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


ARRAYS = [floats(24, 16), floats(16, 40), floats(40), floats(40, 8), floats(24, 8)]


def slope(b: Any, x: Any) -> Any:
    """The derivative of gelu, as a sweep records it."""
    density = b.call("exp", b.call("multiply", b.call("multiply", x, -0.5), x))
    return b.call("add", b.call("ndtr", x), b.call("multiply", x, b.call("multiply", density, 0.3989422804014327)))


def layers(b: Any, x: Any, w: Any, bias: Any, u: Any, bar: Any) -> tuple[Any, Any, Any, Any]:
    """Elements, what comes of them, the result, and what the sweep brings back to gelu's result."""
    elements = b.call("add", b.call("matrix_product", x, w), bias)
    hidden = b.call("gelu", elements)
    out = b.call("matrix_product", hidden, u)
    back = b.call("matrix_product", b.call("subtract", out, bar), b.swap(u))
    return elements, hidden, out, back


def lines_of(function: Any, roundings: float = 64.0) -> list[str]:
    return assert_agrees(graph_of(function, ARRAYS), ARRAYS, roundings=roundings, scale=64.0).explain().splitlines()


def test_the_sweep_reads_a_derivative_and_computes_no_exponential() -> None:
    def function(b: Any, *values: Any) -> Any:
        elements, _, _, back = layers(b, *values)
        return b.call("multiply", slope(b, elements), back)

    names = [line.split(":")[0] for line in lines_of(function)]
    assert len(names) == 3
    assert names[0].startswith("product_gelu_add") and names[2].startswith("product_multiply")


@pytest.mark.parametrize("needed", ["by the sweep", "as a result", "twice", "as the forward result"])
def test_elements_that_are_needed_anyway_are_kept(needed: str) -> None:
    def function(b: Any, *values: Any) -> list[Any]:
        elements, hidden, out, back = layers(b, *values)
        factor = slope(b, elements)
        part = b.call("multiply", factor, back)
        if needed == "by the sweep":
            return [part, b.call("multiply", elements, back)]
        if needed == "as a result":
            return [part, elements]
        if needed == "twice":
            return [part, b.call("multiply", b.call("ndtr", elements), back)]
        return [part, hidden, out]

    names = [line.split(":")[0] for line in lines_of(function)]
    kept = needed != "as the forward result"
    assert [name.startswith("product_gelu_add") for name in names if "gelu" in name] == [not kept]


def test_rows_are_kept_where_a_factor_has_another_shape() -> None:
    def function(b: Any, *values: Any) -> Any:
        elements, _, _, back = layers(b, *values)
        return b.call("multiply", b.sum(slope(b, elements), (0,)), back)

    assert "product_gelu_add" not in "".join(lines_of(function))


def test_elements_of_what_is_in_memory_are_computed_again() -> None:
    def function(b: Any, *values: Any) -> Any:
        elements = b.call("multiply", values[0], 0.5)
        out = b.call("matrix_product", b.call("gelu", elements), values[1])
        return b.call("multiply", slope(b, elements), b.call("matrix_product", out, b.swap(values[1])))

    lines = lines_of(function)
    assert not [line for line in lines if line.startswith("gelu_add")]


def test_what_is_done_again_is_not_kept() -> None:
    weights = [wg.tensor(floats(16, 64), requires_grad=True), wg.tensor(floats(64, 16), requires_grad=True)]

    def layer(x: Any) -> Any:
        return wg.gelu(x @ weights[0]) @ weights[1]

    def step(x: Any) -> Any:
        for weight in weights:
            weight.grad = None
        loss = (wg.checkpoint(layer)(wg.checkpoint(layer)(x)) ** 2).sum()
        loss.backward()
        return loss

    x = wg.tensor(floats(32, 16))
    step(x)
    eager = [weight.grad.numpy() for weight in weights]
    run = wg.compile(step)
    run(x)
    for weight, want in zip(weights, eager):
        got = weight.grad.numpy()
        assert np.abs(got - want).max() <= 64 * np.finfo(np.float32).eps * np.abs(want).max()
