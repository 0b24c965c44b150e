"""Programs of many equal steps, stencils and recurrences: how many kernels they become, and that they are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compile.graphs import assert_agrees, graph_of

INNER = slice(1, -1)
REGIONS = ((slice(None, -2), INNER), (slice(2, None), INNER), (INNER, slice(None, -2)), (INNER, slice(2, None)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def field(rng: np.random.Generator) -> np.ndarray:
    """A field with signed zeros and values that are not finite, some at the border."""
    x = floats(rng, 12, 21)
    x[0, 0], x[5, 20], x[11, 3], x[4, 4], x[:, 9] = np.inf, np.nan, -np.inf, -0.0, -0.0
    return x


def added(b: Any, terms: list[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = b.call("add", total, term)
    return total


def step_of_heat(b: Any, u: Any) -> Any:
    wide = b.call("pad_constant", u, np.float32(0), widths=((1, 1), (1, 1)))
    around = added(b, [b.call("index", wide, key=key) for key in REGIONS])
    change = b.call("subtract", around, b.call("multiply", u, 4))
    return b.call("add", u, b.call("multiply", change, 0.2))


def step_back(b: Any, bar: Any, number: float) -> Any:
    """The pullback of a step, as a sweep records it."""
    part = b.call("multiply", bar, number)
    own = b.call("add", bar, b.call("multiply", b.call("negative", part), 4))
    shape = tuple([n + 2 for n in bar.shape])
    spread = added(b, [b.call("embed", part, shape=shape, key=key) for key in reversed(REGIONS)])
    return b.call("add", own, b.call("index", spread, key=(slice(1, 1 + bar.shape[0]), slice(1, 1 + bar.shape[1]))))


@pytest.mark.parametrize("steps", [1, 14])
def test_step_of_a_stencil_is_one_kernel_that_reads_the_field_as_it_is(rng: np.random.Generator, steps: int) -> None:
    def function(b: Any, u: Any) -> Any:
        for _ in range(steps):
            u = step_of_heat(b, u)
        return u

    arrays = [field(rng)]
    lines = assert_agrees(graph_of(function, arrays), arrays).explain().splitlines()
    assert len(lines) == steps
    assert not [line for line in lines if "pad" in line]
    assert len({line.split(":")[0] for line in lines}) == 1, "equal steps share a kernel"


@pytest.mark.parametrize("number", [0.2, -0.2])
def test_pullback_of_a_stencil_is_one_kernel_for_each_step(rng: np.random.Generator, number: float) -> None:
    def function(b: Any, bar: Any) -> Any:
        for _ in range(14):
            bar = step_back(b, bar, number)
        return bar

    arrays = [field(rng)]
    lines = assert_agrees(graph_of(function, arrays), arrays).explain().splitlines()
    assert len(lines) == 14
    assert len({line.split(":")[0] for line in lines}) == 1


def test_zeros_around_what_is_scaled_are_those_of_embed(rng: np.random.Generator) -> None:
    def function(b: Any, x: Any) -> list[Any]:
        outs: list[Any] = []
        for number in (3.0, -3.0, float("inf"), 0.0):
            scaled = b.call("multiply", x, number)
            outs.append(b.call("embed", scaled, shape=(14, 23), key=(INNER, INNER)))
        return outs

    arrays = [field(rng)]
    graph = graph_of(function, arrays)
    for out in assert_agrees(graph, arrays).run(arrays):
        border = np.concatenate([out[0], out[-1], out[:, 0], out[:, -1]])
        assert not border.any() and not np.signbit(border).any()
