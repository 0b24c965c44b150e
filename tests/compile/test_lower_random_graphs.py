"""Random graphs of mixed operations, compiled and interpreted: views, broadcasting, reductions, products, gathers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.graphs import assert_agrees
from wengert.compile import (
    expand_staged,
    fuse,
    fuse_roots,
    fuse_storage,
    lower,
    lower_nests,
    lower_products,
    lower_stack,
)
from wengert.compile.expand import expand
from wengert.compile.expand_builder import Builder
from wengert.compile.fuse_storage import HOST, SEPARATE
from wengert.compile.graph import Graph, Value
from wengert.compile.simplify import simplify
from wengert.compile.simplify_shapes import SHAPE_RULES
from wengert.compile.simplify_stacks import STACK_RULES

assert wg.Tensor
SHAPES: list[tuple[int, ...]] = [(4, 6), (6,), (4, 1), (), (3, 4, 6), (12, 2), (1, 6), (5, 40), (17,)]
DTYPES = [np.float32, np.float32, np.float64, np.int64, np.bool_]
Step = Callable[["Draw"], Value]


class Draw:
    """A random graph in the making."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = Builder()
        self.arrays: list[np.ndarray] = []
        self.inputs: list[Value] = []
        self.values: list[Value] = []
        for _ in range(self.rng.integers(2, 6)):
            shape = SHAPES[self.rng.integers(len(SHAPES))]
            self.input(self.array(shape, DTYPES[self.rng.integers(len(DTYPES))]))

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        kind = np.dtype(dtype).kind
        if kind == "f":
            return self.rng.standard_normal(shape).astype(dtype)
        return np.asarray(self.rng.integers(0, 2 if kind == "b" else 3, shape)).astype(dtype)

    def input(self, array: np.ndarray) -> Value:
        value = Value(array.shape, array.dtype)
        self.arrays.append(array)
        self.inputs.append(value)
        self.values.append(value)
        return value

    def any(self, kinds: str = "fib", least: int = 0) -> Value:
        fit = [v for v in self.values if v.dtype.kind in kinds and len(v.shape) >= least]
        if not fit:
            return self.input(
                self.array((4, 6, 2)[:least] if least else (4, 6), np.float32 if "f" in kinds else np.int64)
            )
        return fit[self.rng.integers(len(fit))]

    def like(self, x: Value, kinds: str) -> Value:
        """Return a value that broadcasts with another."""
        fit = [v for v in self.values if v.dtype.kind in kinds and _broadcasts(v.shape, x.shape)]
        if not fit:
            return self.input(self.array(x.shape, np.float32 if "f" in kinds else np.bool_))
        return fit[self.rng.integers(len(fit))]

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]


def _broadcasts(x: tuple[int, ...], y: tuple[int, ...]) -> bool:
    return all([1 in (m, n) or m == n for m, n in zip(x[::-1], y[::-1])])


def unary(d: Draw) -> Value:
    name = d.pick("tanh", "sigmoid", "negative", "absolute", "relu", "sin", "sign", "exp")
    x = d.any("f")
    bounded = d.builder.call("tanh", x) if name in ("exp", "sin") else x
    return d.builder.call(name, bounded)


def binary(d: Draw) -> Value:
    name = d.pick("add", "multiply", "subtract", "maximum", "guarded_product", "minimum")
    x = d.any("f")
    y = d.pick(d.like(x, "f"), 0.5, 2, -1.5)
    return d.builder.call("multiply", d.builder.call(name, x, y), 0.5)


def compare(d: Draw) -> Value:
    x = d.any("fi")
    return d.builder.call(d.pick("less", "greater_equal", "not_equal"), x, d.pick(0, 1))


def choose(d: Draw) -> Value:
    x = d.any("f")
    condition = d.like(x, "b")
    y = d.like(d.builder.call("where", condition, x, 0.0), "f")
    return d.builder.call("where", condition, x, d.pick(y, 0.0))


def convert(d: Draw) -> Value:
    x = d.any()
    kinds = [np.float32, np.float64] if x.dtype.kind == "f" else [np.float32, np.int64, np.int32]
    return d.builder.call("cast", x, dtype=np.dtype(d.pick(*kinds)))


def permute(d: Draw) -> Value:
    x = d.any()
    return d.builder.call("permute", x, axes=tuple([int(a) for a in d.rng.permutation(len(x.shape))]))


def reshape(d: Draw) -> Value:
    x = d.any()
    size, shape = x.size, []
    for factor in (2, 3, 2, 5):
        if size % factor == 0 and d.rng.random() < 0.5:
            shape.append(factor)
            size //= factor
    shape.insert(int(d.rng.integers(len(shape) + 1)), size)
    return d.builder.call("reshape_to", x, newshape=tuple(shape))


def stretch(d: Draw) -> Value:
    x = d.any()
    if len(x.shape) > 2:
        return x
    return d.builder.call("stretch", x, shape=(d.pick(1, 2, 3), *x.shape))


def reverse(d: Draw) -> Value:
    x = d.any(least=1)
    return d.builder.call("reverse", x, axis=(int(d.rng.integers(len(x.shape))),))


def read(d: Draw) -> Value:
    x = d.any(least=1)
    key = tuple(
        [d.pick(slice(None), slice(0, max(1, n - 1)), slice(None, None, -1), 0, slice(0, n, 2)) for n in x.shape]
    )
    return d.builder.call("index", x, key=d.pick(key, (None, *key), (Ellipsis, key[-1])))


def place(d: Draw) -> Value:
    x = d.any(least=1)
    shape = tuple([n + int(d.rng.integers(3)) for n in x.shape])
    key = tuple([slice(m - n, m) for n, m in zip(x.shape, shape)])
    return d.builder.call("embed", x, shape=shape, key=key)


def place_apart(d: Draw) -> Value:
    x = d.any(least=1)
    steps = [d.pick(1, 2, 3, -2) for _ in x.shape]
    shape = tuple([(n - 1) * abs(step) + 1 + int(d.rng.integers(3)) for n, step in zip(x.shape, steps)])
    key = tuple(
        [slice(None, (n - 1) * s + 1, s) if s > 0 else slice((n - 1) * -s, None, s) for n, s in zip(x.shape, steps)]
    )
    return d.builder.call("embed", x, shape=shape, key=key)


def write(d: Draw) -> Value:
    x = d.any("f", least=1)
    key = tuple([d.pick(slice(None), slice(0, n, 2), slice(None, None, -3)) for n in x.shape])
    value = d.builder.call("index", d.builder.call("tanh", x), key=key)
    return d.builder.call("write_region", x, value, steps=(), key=key)


def pad(d: Draw) -> Value:
    x = d.any("f", least=1)
    widths = tuple([(int(d.rng.integers(2)), int(d.rng.integers(3))) for _ in x.shape])
    return d.builder.call("pad_constant", x, d.pick(0.0, 1.5), widths=widths)


def join(d: Draw) -> Value:
    x = d.any(least=1)
    axis = int(d.rng.integers(len(x.shape)))
    if d.rng.random() < 0.3:
        return d.builder.call("stack_along", x, x, axis=axis)
    others = [v for v in d.values if v.shape == x.shape and v.dtype == x.dtype]
    return d.builder.call("concatenate_along", x, others[d.rng.integers(len(others))], x, axis=axis)


def roll(d: Draw) -> Value:
    x = d.any(least=1)
    return d.builder.call("roll_along", x, shift=(d.pick(1, -1, 3),), axis=(int(d.rng.integers(len(x.shape))),))


def triangle(d: Draw) -> Value:
    return d.builder.call(d.pick("lower_triangle", "upper_triangle"), d.any("f", least=2), k=d.pick(-1, 0, 1))


def reduce(d: Draw) -> Value:
    x = d.any(least=1)
    rank = len(x.shape)
    axis = tuple(sorted({int(d.rng.integers(rank)) for _ in range(d.pick(1, 1, rank))}))
    keep = bool(d.rng.random() < 0.5)
    if x.dtype.kind == "b":
        return d.builder.call(d.pick("any_over", "all_over", "sum_over"), x, axis=axis, keepdims=keep)
    return d.builder.call(d.pick("sum_over", "max_over", "mean_over", "min_over"), x, axis=axis, keepdims=keep)


def normalise(d: Draw) -> Value:
    x = d.any("f", least=1)
    axis = (d.pick(len(x.shape) - 1, len(x.shape) - 1, 0),)
    if d.rng.random() < 0.3:
        return d.builder.call("standardize_over", x, axis=axis, eps=0.1)
    return d.builder.call(d.pick("softmax_along", "log_softmax_along"), x, axis=axis)


def product(d: Draw) -> Value:
    x = d.any("f", least=2)
    other = d.input(d.array((x.shape[-1], d.pick(1, 3, 20)), x.dtype) / np.float32(4))
    return d.builder.call("matrix_product", x, other)


def gram(d: Draw) -> Value:
    x = d.any("f", least=2)
    return d.builder.call("multiply", d.builder.call("matrix_product", x, d.builder.swap(x)), 0.05)


def take(d: Draw) -> Value:
    x = d.any(least=1)
    axis = int(d.rng.integers(len(x.shape)))
    positions = d.input(d.rng.integers(-x.shape[axis], x.shape[axis], d.pick((3,), (2, 2), ())))
    return d.builder.call("take_slices", x, positions, axis=axis)


def take_along(d: Draw) -> Value:
    x = d.any(least=1)
    axis = int(d.rng.integers(len(x.shape)))
    shape = tuple([d.pick(1, 3) if i == axis else n for i, n in enumerate(x.shape)])
    positions = d.input(d.rng.integers(0, x.shape[axis], shape))
    return d.builder.call("take_along", x, positions, axis=axis)


def add_rows(d: Draw) -> Value:
    x = d.any("f", least=1)
    axis = int(d.rng.integers(len(x.shape)))
    count = d.pick(1, 3, 7)
    positions = d.input(d.rng.integers(-x.shape[axis], x.shape[axis], (count,)))
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return d.builder.call("add_at", x, positions, d.input(d.array(shape, x.dtype)), axis=axis)


def scatter(d: Draw) -> Value:
    x = d.any("f", least=2)
    key = (d.rng.integers(0, x.shape[0], 4), d.rng.integers(0, x.shape[1], 4))
    gathered = d.builder.call("gather", x, key=key)
    return d.builder.call("scatter_add", x, gathered, key=key)


STEPS: list[Step] = [
    *(unary, unary, binary, binary, binary, compare, choose, convert, permute, reshape, stretch, reverse, read, place),
    *(
        place_apart,
        write,
        pad,
        join,
        roll,
        triangle,
        reduce,
        reduce,
        normalise,
        product,
        gram,
        take,
        take_along,
        add_rows,
        scatter,
    ),
]


def drawn(seed: int, most_outputs: int = 4) -> tuple[Graph, list[np.ndarray]]:
    """Return a random graph, and arrays for its inputs."""
    d = Draw(seed)
    for _ in range(d.rng.integers(4, 30)):
        value = STEPS[d.rng.integers(len(STEPS))](d)
        if value.size <= 5000 and len(value.shape) <= 5:
            d.values.append(value)
    count = d.rng.integers(1, most_outputs + 1)
    outputs = [d.values[-1 - int(i)] for i in d.rng.integers(0, len(d.values), count)]
    homes: list[int | None] = []
    for value in outputs:
        fit = [
            i
            for i, target in enumerate(d.inputs)
            if (target.shape, target.dtype) == (value.shape, value.dtype) and i not in homes
        ]
        homes.append(fit[d.rng.integers(len(fit))] if fit and d.rng.random() < 0.7 else None)
    graph = Graph(f"random_{seed}", d.inputs, d.builder.equations, outputs, homes)
    graph.verify()
    return graph, d.arrays


@pytest.mark.parametrize("seed", range(40))
def test_random_graph_agrees_with_the_interpreter(seed: int) -> None:
    graph, arrays = drawn(seed)
    assert_agrees(graph, arrays, roundings=4096.0, scale=1.0)


@pytest.mark.parametrize("seed", range(90, 110))
def test_random_graph_is_simplified_in_one_walk(seed: int) -> None:
    graph, _ = drawn(seed)
    rules = (*SHAPE_RULES, *STACK_RULES)
    once = simplify(expand(graph), rules)
    assert str(simplify(once, rules)) == str(once)


@pytest.mark.parametrize("seed", range(300, 330))
def test_random_graph_with_many_outputs_agrees_with_the_interpreter(seed: int) -> None:
    # As the residuals of a function that is differentiated later are.
    graph, arrays = drawn(seed, most_outputs=16)
    assert_agrees(graph, arrays, roundings=4096.0, scale=1.0)


@pytest.mark.parametrize("effort", [SEPARATE, HOST])
@pytest.mark.parametrize("seed", range(40, 52))
def test_random_graph_agrees_with_less_done(seed: int, effort: int) -> None:
    graph, arrays = drawn(seed)
    executable = assert_agrees(graph, arrays, roundings=4096.0, scale=1.0, effort=effort)
    assert effort == SEPARATE or "host" in executable.explain()


TASTES: list[tuple[Any, str, tuple[Any, ...]]] = [
    (fuse, "LARGE", (8, 1 << 15)),
    (fuse, "SMALL", (0, 8, 1 << 8, 1 << 14)),
    (fuse, "MOST_ROOTS", (2, 6, 48)),
    (fuse, "CHEAP", (0.0, 2.5, 30.0)),
    (fuse_roots, "CHEAP", (0.0, 2.5, 30.0)),
    (fuse_roots, "FEW_TIMES", (1, 2, 6)),
    (fuse_storage, "CHEAP", (0.0, 2.5, 30.0)),
    (fuse_storage, "MOST_SINKS", (1, 3, 12)),
    (fuse_storage, "MANY_TIMES", (1, 4, 1 << 20)),
    (fuse_storage, "MANY", (1, 1 << 12)),
    (fuse_storage, "SHORT", (0, 5, 32)),
    (lower, "SHORT_ROWS", (0, 64)),
    (expand_staged, "LARGE", (16, 1 << 16)),
    (expand_staged, "LEAST_PIECE", (2, 16)),
    (lower_stack, "FEW", (0, 1, 4)),
    (lower_nests, "MOST_SCRATCH", (0, 1 << 16)),
    (lower_products, "MOST_OPERATIONS", (10, 1000)),
]
"""Numbers that only decide what is fast."""


@pytest.mark.parametrize("seed", [1165, *range(60, 90)])
def test_random_graph_agrees_whatever_is_taken_to_be_fast(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    for module, name, choices in TASTES:
        monkeypatch.setattr(module, name, choices[rng.integers(len(choices))])
    graph, arrays = drawn(seed)
    assert_agrees(graph, arrays, roundings=4096.0, scale=1.0)
