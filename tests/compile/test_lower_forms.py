"""Equal steps of unrolled loops: they are worked out once, and nothing else is taken for equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.graphs import assert_agrees, graph_of
from wengert.compile import fuse_roots, lower
from wengert.compile.expand_builder import Builder
from wengert.compile.fuse_forms import Forms
from wengert.compile.graph import Graph, Value
from wengert.compile.lower_steps import Program

assert wg.Tensor
STEPS = 12
Step = Callable[[Builder, Value, Value, int], Value]


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def unrolled(step: Step, *arrays: np.ndarray) -> Graph:
    """Return the graph of so many steps from a state, with another array at hand."""

    def function(b: Builder, state: Value, other: Value) -> Value:
        for place in range(STEPS):
            state = step(b, state, other, place)
        return state

    return graph_of(function, arrays)


def recurrence(b: Builder, state: Value, weight: Value, place: int) -> Value:
    return b.call("tanh", b.call("matrix_product", state, weight))


def softmax(b: Builder, state: Value, weight: Value, place: int) -> Value:
    return b.call("softmax_along", b.call("matrix_product", state, weight), axis=(1,))


def stencil(b: Builder, state: Value, other: Value, place: int) -> Value:
    shifted = [b.call("roll_along", state, shift=(way,), axis=(1,)) for way in (1, -1)]
    return b.call("add", b.call("tanh", b.call("add", *shifted)), other)


@pytest.mark.parametrize(
    ("step", "shapes", "most"),
    [
        (recurrence, ((8, 16), (16, 16)), 4),
        (softmax, ((8, 16), (16, 16)), 6),
        (stencil, ((8, 16), (8, 16)), 4),
    ],
)
def test_what_equal_steps_demand_is_followed_once(
    step: Step, shapes: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[Any] = []
    real = fuse_roots._follow_elements

    def follow(storage: Any, root: Any) -> None:
        followed.append(root)
        real(storage, root)

    monkeypatch.setattr(fuse_roots, "_follow_elements", follow)
    arrays = [array(*shape) for shape in shapes]
    graph = unrolled(step, *arrays)
    program = Program(graph)
    assert len(program.fusion.roots) >= STEPS
    assert len(followed) <= most
    assert_agrees(graph, arrays, roundings=1024.0)


def test_nests_of_equal_steps_are_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    real = lower.NestWriter._written

    def write(self: Any) -> Any:
        written.append(self)
        return real(self)

    monkeypatch.setattr(lower.NestWriter, "_written", write)
    arrays = [array(8, 16), array(8, 16)]
    program = Program(unrolled(stencil, *arrays))
    nests = [step.kernel for step in program.steps]
    assert len(nests) == STEPS
    assert len(written) <= 3
    assert len({id(nest) for nest in nests}) == len(written)


def _steps_of(graph: Graph) -> list[tuple[Any, ...]]:
    """Return what steps there are, with arrays numbered as they are met."""
    numbers: dict[Value, int] = {}

    def numbered(values: Any) -> tuple[int, ...]:
        return tuple([numbers.setdefault(value, len(numbers)) for value in values])

    return [
        (str(step.kernel), numbered(step.memory), numbered(step.writes), step.offsets, len(step.in_place))
        for step in Program(graph).steps
    ]


def pieces(b: Builder, state: Value, weight: Value, place: int) -> Value:
    """A step that multiplies pieces of an array: from its end, across it, and some of them in two ways."""
    rows = b.call("index", weight, key=(slice(place % 6 + 1, place % 6 + 9), slice(None)))
    turned = b.call("reverse", b.call("index", weight, key=(slice(4, 12), slice(None))), axis=(0,))
    product = b.call("matrix_product", rows, turned if place % 3 else rows)
    return b.call("tanh", b.call("add", b.call("matrix_product", state, product), b.call("multiply", state, 0.5)))


DIFFERENCES: dict[str, Step] = {
    "a number": lambda b, x, y, i: b.call("tanh", b.call("multiply", x, 0.5 + (i == 7))),
    "the sign of zero": lambda b, x, y, i: b.call("add", b.call("tanh", x), -0.0 if i == 7 else 0.0),
    "a constant": lambda b, x, y, i: b.call("tanh", b.call("add", x, _constant(i == 7))),
    "an array of constants": lambda b, x, y, i: b.call("tanh", b.call("add", x, _constants(i == 7))),
    "a parameter": lambda b, x, y, i: b.call("tanh", b.call("roll_along", x, shift=(1 + (i == 7),), axis=(1,))),
    "an operation": lambda b, x, y, i: b.call("sin" if i == 7 else "tanh", x),
    "the order of operands": lambda b, x, y, i: b.call("tanh", b.call("subtract", *((x, y) if i == 7 else (y, x)))),
    "what is read twice": lambda b, x, y, i: b.call("tanh", b.call("multiply", x, x if i == 7 else y)),
    "a slice": lambda b, x, y, i: b.call("tanh", b.call("add", x, b.call("index", y, key=(i % 4,)))),
}


def _constant(large: bool) -> Value:
    return Value((8, 16), np.dtype(np.float32), np.full((8, 16), 1.5 if large else 0.5, np.float32))


def _constants(large: bool) -> Value:
    return Value((8, 16), np.dtype(np.float32), array(8, 16) * (2 if large else 1))


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_steps_that_differ_are_not_taken_for_equal(difference: str) -> None:
    arrays = [array(8, 16), array(8, 16) + np.float32(0.25)]
    graph = unrolled(DIFFERENCES[difference], *arrays)
    assert_agrees(graph, arrays, roundings=1024.0)


def swept(b: Builder, state: Value, other: Value) -> list[Value]:
    """Return the last state of a loop, and what comes back through it, which reads all states, the last one first."""
    states = [state]
    for place in range(STEPS):
        state = b.call(
            "tanh", b.call("add", b.call("multiply", state, other), b.call("index", other, key=(place % 4,)))
        )
        states.append(state)
    bar, total = b.call("multiply", state, 2.0), b.sum(state, (0,))
    for after, before in zip(states[::-1], states[-2::-1]):
        slope = b.call("multiply", bar, b.call("subtract", 1.0, b.call("multiply", after, after)))
        total = b.call("add", total, b.sum(b.call("multiply", slope, before), (0,)))
        bar = b.call("multiply", slope, other)
    return [state, bar, total]


SLICED: dict[str, Step] = {
    "of products": pieces,
    "of a product": lambda b, x, y, i: b.call(
        "tanh", b.call("matrix_product", x, b.call("index", y, key=(slice(i % 5, i % 5 + 8), slice(1, 9))))
    ),
    "from an array that is stored": lambda b, x, y, i: b.call(
        "add", x, b.call("matrix_product", x, b.call("index", y, key=(slice(8, 16), slice(i % 4, i % 4 + 8))))
    ),
}


@pytest.mark.parametrize("pieces", SLICED)
def test_products_of_pieces_of_an_array_are_one_kernel_that_looks_at_them(
    pieces: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = [array(8, 8), array(16, 16)[:, : 8 if pieces == "of products" else 16] / 4]
    graph = unrolled(SLICED[pieces], *arrays)
    program = Program(graph)
    kernels = [step.kernel for step in program.steps]
    assert len({id(kernel) for kernel in kernels}) <= len(kernels) // 2
    with_forms = _steps_of(graph)
    monkeypatch.setattr(Forms, "spelled", lambda *_: None)
    monkeypatch.setattr(Forms, "head", lambda *_: None)
    assert with_forms == _steps_of(graph)
    assert_agrees(graph, arrays, roundings=4096.0)


@pytest.mark.parametrize("function", [swept, *DIFFERENCES])
def test_steps_are_those_that_are_written_without_forms(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [array(8, 16), array(8, 16) + np.float32(0.25)]
    graph = graph_of(swept, arrays) if function is swept else unrolled(DIFFERENCES[function], *arrays)
    with_forms = _steps_of(graph)
    monkeypatch.setattr(Forms, "spelled", lambda *_: None)
    monkeypatch.setattr(Forms, "head", lambda *_: None)
    assert with_forms == _steps_of(graph)
    assert_agrees(graph, arrays, roundings=1024.0)
