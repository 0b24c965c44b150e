"""Programs of many equal steps, stencils and recurrences: how many kernels they become, and that they are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.compile.graphs import assert_agrees, graph_of
from wengert.compile.fuse_storage import FUSED, SEPARATE
from wengert.compile.simplify import simplify
from wengert.compile.simplify_stacks import STACK_RULES

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


@pytest.mark.parametrize("taps", [3, 5])
def test_stencil_of_many_points_reads_no_padded_copy(rng: np.random.Generator, taps: int) -> None:
    weights = rng.standard_normal((taps, taps))
    reach = taps // 2

    def function(b: Any, u: Any) -> Any:
        for _ in range(4):
            wide = b.call("pad_constant", u, np.float32(0), widths=((reach, reach), (reach, reach)))
            terms: list[Any] = []
            for (i, j), weight in np.ndenumerate(weights):
                key = (slice(i, i + u.shape[0]), slice(j, j + u.shape[1]))
                terms.append(b.call("multiply", b.call("index", wide, key=key), float(weight)))
            u = added(b, terms)
        return u

    arrays = [floats(rng, 12, 21)]
    executable = assert_agrees(graph_of(function, arrays), arrays, roundings=8.0 * taps**2)
    assert len(executable.explain().splitlines()) == 4


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


# Recurrences.


def recurrence(b: Any, inputs: Any, state: Any, weight: Any, count: int) -> list[Any]:
    """States of a recurrent network: each is made from the one before and a weight."""
    states: list[Any] = []
    for place in range(count):
        driven = b.call("matrix_product", state, b.swap(weight))
        state = b.call("tanh", b.call("add", b.call("index", inputs, key=(place,)), driven))
        states.append(state)
    return states


def names_of(executable: Any) -> list[str]:
    return [line.split(":")[0].rsplit("_", 1)[0] for line in executable.explain().splitlines()]


@pytest.mark.parametrize("count", [3, 6])
def test_weight_of_a_recurrence_is_packed_once(rng: np.random.Generator, count: int) -> None:
    arrays = [floats(rng, 6, 5, 64), floats(rng, 5, 64), floats(rng, 64, 64) / 8]
    graph = graph_of(lambda b, x, h, w: recurrence(b, x, h, w, count)[-1], arrays)
    names = names_of(assert_agrees(graph, arrays, roundings=64.0, scale=8.0))
    assert names.count("packed") == (count > 3)
    assert len(names) == count + (count > 3)


def test_packed_weight_may_be_read_and_written_elsewhere(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 6, 64, 64), floats(rng, 64, 64), floats(rng, 64, 64) / 8]

    def function(b: Any, inputs: Any, state: Any, weight: Any) -> list[Any]:
        for place in range(6):
            driven = b.call("matrix_product", state, weight)
            state = b.call("tanh", b.call("add", b.call("multiply", weight, 0.5), driven))
            state = b.call("add", state, b.call("index", inputs, key=(place,)))
        return [b.call("subtract", weight, state), state]

    executable = assert_agrees(graph_of(function, arrays, (2, None)), arrays, roundings=64.0, scale=64.0)
    assert names_of(executable).count("packed") == 1


def backwards(b: Any, inputs: Any, state: Any, weight: Any, bar: Any, count: int) -> list[Any]:
    """The gradients of a recurrence by its weight and its inputs, as a sweep records them."""
    states = recurrence(b, inputs, state, weight, count)
    total, bars = None, None
    shape = inputs.shape
    for place in reversed(range(count)):
        slope = b.call("subtract", 1.0, b.call("multiply", states[place], states[place]))
        part = b.call("multiply", bar, slope)
        before = states[place - 1] if place else state
        product = b.call("matrix_product", b.swap(part), before)
        total = product if total is None else b.call("add", total, product)
        put = b.call("embed", part, shape=shape, key=(place,))
        bars = put if bars is None else b.call("add", bars, put)
        bar = b.call("matrix_product", part, weight)
    return [total, bars]


def test_gradient_of_a_weight_over_all_steps_is_one_product_of_what_lies_stacked(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 8, 16, 32), floats(rng, 16, 32), floats(rng, 32, 32) / 8, floats(rng, 16, 32)]

    def function(b: Any, *values: Any) -> list[Any]:
        total, bars = backwards(b, *values, count=8)
        return [total, b.sum(bars, (0, 1))]

    names = names_of(assert_agrees(graph_of(function, arrays), arrays, roundings=64.0, scale=32.0))
    assert not [name for name in names if name == "stack_along" and names.count(name) > 1]
    assert len([name for name in names if name.startswith("product")]) <= 8 + 8 + 1
    assert names.count("stack_along") == 1, "the first state is an input, and copied"


def test_sums_of_products_of_large_factors_stay_as_they_are(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 50, 8) for _ in range(6)]

    def function(b: Any, *values: Any) -> Any:
        return added(b, [b.call("matrix_product", b.swap(value), values[0]) for value in values])

    names = names_of(assert_agrees(graph_of(function, arrays), arrays, roundings=300.0, scale=16.0))
    assert "stack_along" not in names


def test_sum_of_products_keeps_what_is_not_one_of_them(rng: np.random.Generator) -> None:
    arrays = [*[floats(rng, 4, 24) for _ in range(7)], floats(rng, 24, 24), floats(rng, 3, 24)]

    def function(b: Any, *values: Any) -> list[Any]:
        *factors, other, odd = values
        terms = [b.call("matrix_product", b.swap(one), factor) for one, factor in zip(factors, factors[1:] + factors)]
        kept = b.call("matrix_product", b.swap(odd), odd)
        total = added(b, [*terms[:3], other, kept, *terms[3:]])
        return [total, kept, b.call("multiply", total, 2.0)]

    assert_agrees(graph_of(function, arrays), arrays, roundings=64.0, scale=16.0)


@pytest.mark.parametrize("shape", [(16, 3), (4, 4), (5, 7)])
@pytest.mark.parametrize("effort", [FUSED, SEPARATE])
def test_pieces_of_stacks(rng: np.random.Generator, shape: tuple[int, int], effort: int) -> None:
    """Pieces that are read after the stack is, are outputs, inputs or twice in it; stacks of stacks."""
    arrays = [floats(rng, *shape) for _ in range(4)]

    def function(b: Any, *values: Any) -> list[Any]:
        pieces = [b.call("exp", b.call("multiply", value, 0.1)) for value in values]
        pieces += [b.call("reverse", piece, axis=(0,)) for piece in pieces]
        stack = b.call("stack_along", *pieces, axis=0)
        mixed = b.call("stack_along", values[0], *pieces[1:7], pieces[1], axis=0)
        nested = b.call("stack_along", *[b.call("reverse", s, axis=(1,)) for s in (stack,) * 6], axis=0)
        total = b.sum(b.call("multiply", stack, mixed), (0,))
        late = b.call("reverse", b.call("add", pieces[2], total), axis=(1,))
        return [total, pieces[3], late, b.sum(nested, (0, 1)), b.call("index", mixed, key=(3,))]

    assert_agrees(graph_of(function, arrays), arrays, scale=64.0, effort=effort)


@pytest.mark.parametrize("key", [(2,), (-1,), (slice(None), 2), (2, slice(None, None, -1)), (2, 0), (None, 3)])
def test_piece_of_a_stack_is_taken_by_itself(rng: np.random.Generator, key: tuple[Any, ...]) -> None:
    arrays = [floats(rng, 4, 7) for _ in range(6)]

    def function(b: Any, *values: Any) -> list[Any]:
        stack = b.call("stack_along", *values, axis=0)
        embedded = b.call("embed", values[0], shape=(6, 4, 7), key=(2,))
        return [b.call("negative", b.call("index", whole, key=key)) for whole in (stack, embedded)]

    assert_agrees(graph_of(function, arrays), arrays)
    simplified = simplify(graph_of(function, arrays), STACK_RULES)
    left = [equation.primitive.name for equation in simplified.equations]
    assert ("stack_along" in left) == (key not in [(2,), (-1,)])


@pytest.mark.parametrize(("first", "last"), [(0, 8), (2, 8), (0, 6)])
def test_stack_of_an_arrays_pieces_is_a_part_of_it(rng: np.random.Generator, first: int, last: int) -> None:
    arrays = [floats(rng, 8, 5, 7)]

    def function(b: Any, x: Any) -> list[Any]:
        pieces = [b.call("index", x, key=(place,)) for place in range(first, last)]
        turned = [b.call("index", x, key=(place, slice(None, None, -1))) for place in range(first, last)]
        parts = (pieces, pieces[::-1], [*pieces[:3], *pieces[4:]], turned)
        return [b.call("negative", b.call("stack_along", *part, axis=0)) for part in parts]

    assert_agrees(graph_of(function, arrays), arrays)
    left = [equation.primitive.name for equation in simplify(graph_of(function, arrays), STACK_RULES).equations]
    assert left.count("stack_along") == 3


@pytest.mark.parametrize("turned", [False, True])
def test_gradient_of_a_transposed_weight_is_one_product(rng: np.random.Generator, turned: bool) -> None:
    """Each step's product may be transposed before they are added up, and factors may be pieces of one array."""
    arrays = [floats(rng, 7, 4, 24), floats(rng, 7, 4, 16)]

    def function(b: Any, x: Any, bars: Any) -> Any:
        terms: list[Any] = []
        for place in reversed(range(7)):
            left, right = b.call("index", x, key=(place,)), b.call("index", bars, key=(place,))
            if turned:
                terms.append(b.swap(b.call("matrix_product", b.swap(left), right)))
            else:
                terms.append(b.call("matrix_product", b.swap(right), left))
        return added(b, terms)

    executable = assert_agrees(graph_of(function, arrays), arrays, roundings=64.0, scale=8.0)
    assert [name.split("_")[0] for name in names_of(executable)] == ["product"]


@pytest.mark.parametrize("seed", range(12))
def test_random_recurrences(seed: int) -> None:
    """States that are stacked, read again later, and joined in sums of products."""
    rng = np.random.default_rng(seed)
    rows, width, count = int(rng.choice([4, 5, 16])), int(rng.choice([16, 32])), int(rng.integers(5, 9))
    arrays = [floats(rng, count, rows, width), floats(rng, rows, width), floats(rng, width, width) / 6]

    def function(b: Any, inputs: Any, state: Any, weight: Any) -> list[Any]:
        draw = np.random.default_rng(seed)
        states = recurrence(b, inputs, state, weight, count)
        outs: list[Any] = []
        for _ in range(3):
            chosen = [states[i] for i in draw.permutation(count)[:5]]
            stack = b.call("stack_along", *chosen, axis=0)
            other = [b.call("multiply", value, chosen[0]) for value in chosen]
            total = added(b, [b.call("matrix_product", b.swap(x), y) for x, y in zip(chosen, other)])
            outs.append(b.call("add", total, b.sum(stack, (0, 1))))
            states.append(b.call("tanh", b.sum(b.call("multiply", stack, 0.3), (0,))))
        return outs if draw.integers(2) else [*outs, states[1]]

    graph = graph_of(function, arrays)
    for effort in (FUSED, SEPARATE):
        assert_agrees(graph, arrays, roundings=8.0 * rows * width, scale=1.0, effort=effort)


def test_array_of_one_row_is_read_where_it_is_computed_whatever_data_say(rng: np.random.Generator) -> None:
    """Its one place is known, so a nest may compute it and read it as well."""

    def function(b: Any, x: Any, rows: Any, places: Any) -> Any:
        written = b.call("write_region", x, rows, steps=(), key=(slice(None, None, -3), slice(None)))
        return b.call("take_along", written, places, axis=0)

    places = np.array([[0, -1, 0, 0, -1, 0]])
    arrays = [floats(rng, 1, 6), floats(rng, 1, 6), places]
    executable = assert_agrees(graph_of(function, arrays), arrays)
    assert not executable.fault
