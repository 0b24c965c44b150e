"""Programs as a whole: homes and aliasing, layouts of inputs, special values, errors, fusion, memory, determinism."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.graphs import assert_agrees, compiled, graph_of
from wengert.compile import executable as executables
from wengert.compile.executable import build
from wengert.compile.expand_builder import Builder
from wengert.compile.graph import Graph, Value
from wengert.compile.interpret import interpret
from wengert.compile.llvm import program
from wengert.compile.llvm.machine import host_machine

assert wg.Tensor
FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


# Homes.


def test_inputs_are_swapped_through_homes(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 5, 4), floats(rng, 5, 4)]
    assert_agrees(graph_of(lambda b, x, y: [y, x], arrays, (0, 1)), arrays)


def test_inputs_go_round_with_sums(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 6), floats(rng, 6), floats(rng, 6)]
    graph = graph_of(lambda b, x, y, z: [b.call("add", y, z), x, b.call("multiply", x, y)], arrays, (0, 1, 2))
    assert_agrees(graph, arrays)


def test_update_is_written_where_the_parameter_is(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 7, 9), floats(rng, 7, 9)]
    executable = compiled(graph_of(lambda b, x, y: b.call("subtract", x, y), arrays, (0,)))
    mine = [array.copy() for array in arrays]
    (out,) = executable.run(mine)
    assert out is mine[0]
    np.testing.assert_array_equal(mine[0], arrays[0] - arrays[1])
    assert len(executable.explain().splitlines()) == 1, "no copy at the end"


def test_home_whose_old_values_are_read_elsewhere(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 6, 6), floats(rng, 6, 6)]

    def function(b: Any, x: Any, y: Any) -> list[Any]:
        new = b.call("subtract", x, y)
        return [new, b.call("multiply", b.swap(x), b.call("reverse", x, axis=(0,)))]

    assert_agrees(graph_of(function, arrays, (0, None)), arrays)


def test_home_and_result_that_are_the_same_value(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 6), floats(rng, 6)]

    def function(b: Any, x: Any, y: Any) -> list[Any]:
        new = b.call("add", x, y)
        return [new, new, new, x]

    assert_agrees(graph_of(function, arrays, (0, None, 1, None)), arrays)


def test_array_that_is_two_inputs_is_read_as_it_was(rng: np.random.Generator) -> None:
    x, y = floats(rng, 6), floats(rng, 6)

    def function(b: Any, v: Any, w: Any, again: Any) -> list[Any]:
        new = b.call("add", v, w)
        return [new, b.call("multiply", b.call("reverse", again, axis=(0,)), new)]

    executable = compiled(graph_of(function, [x, y, x], (0, None)))
    for array in (x, x, x.copy()):
        before = array.copy()
        _, other = executable.run([array, y, array])
        np.testing.assert_array_equal(array, before + y)
        np.testing.assert_array_equal(other, before[::-1] * (before + y))


def test_results_belong_to_the_caller(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 40)]
    executable = compiled(graph_of(lambda b, x: b.call("multiply", x, 2.0), arrays))
    (first,) = executable.run(arrays)
    kept = first.copy()
    (second,) = executable.run([floats(rng, 40)])
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)


def test_outputs_that_are_inputs_are_copies(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 5)]
    out, again = compiled(graph_of(lambda b, x: [x, x], arrays)).run(arrays)
    assert not np.shares_memory(out, arrays[0])
    assert not np.shares_memory(out, again)
    np.testing.assert_array_equal(out, arrays[0])


def test_error_of_the_host_leaves_inputs_alone(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 5, 3), np.array([0, 4, 5]), floats(rng, 5, 3)]

    def function(b: Any, x: Any, positions: Any, y: Any) -> list[Any]:
        return [b.call("add", x, y), b.call("take_slices", x, positions, axis=0)]

    executable = compiled(graph_of(function, arrays, (0, None)))
    before = arrays[0].copy()
    with pytest.raises(IndexError, match="out of bounds"):
        executable.run(arrays)
    np.testing.assert_array_equal(arrays[0], before)
    arrays[1] = np.array([0, -5, 4])
    executable.run(arrays)
    np.testing.assert_array_equal(arrays[0], before + arrays[2])


# Inputs as they come.


@pytest.mark.parametrize("layout", ["transposed", "strided", "reversed", "stretched"])
def test_inputs_need_not_be_contiguous(rng: np.random.Generator, layout: str) -> None:
    whole = floats(rng, 8, 8)
    x = {
        "transposed": whole.T,
        "strided": whole[::2, ::2],
        "reversed": whole[::-1],
        "stretched": np.broadcast_to(whole[:1], (8, 8)),
    }[layout]
    graph = graph_of(lambda b, v: b.sum(b.call("exp", v), (0,)), [x])
    (got,) = compiled(graph).run([x])
    np.testing.assert_allclose(got, np.exp(x).sum(0), rtol=1e-5)


def test_home_that_is_not_contiguous_is_written(rng: np.random.Generator) -> None:
    whole, y = floats(rng, 8, 8), floats(rng, 4, 8)
    graph = graph_of(lambda b, x, v: b.call("add", x, v), [whole[::2], y], (0,))
    executable = compiled(graph)
    for _ in range(2):
        want, others = whole[::2] + y, whole[1::2].copy()
        executable.run([whole[::2], y])
        np.testing.assert_array_equal(whole[::2], want)
        np.testing.assert_array_equal(whole[1::2], others)


def test_wrong_arrays_are_refused(rng: np.random.Generator) -> None:
    executable = compiled(graph_of(lambda b, x: b.call("exp", x), [floats(rng, 3)]))
    for wrong in (floats(rng, 4), floats(rng, 3).astype(np.float64)):
        with pytest.raises(TypeError, match=r"compiled for float32\[3\]"):
            executable.run([wrong])
    with pytest.raises(TypeError, match="takes 1 arrays"):
        executable.run([])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (0,), (3, 0, 2), (1, 5), (5, 1)])
def test_shapes_at_the_edge(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x = floats(rng, *shape) if shape else np.asarray(rng.standard_normal(), np.float32)

    def function(b: Any, v: Any) -> list[Any]:
        axis = tuple(range(len(shape)))
        moved = b.call("add", b.call("multiply", v, v), 1.0)
        return [moved, b.sum(moved, axis), b.sum(moved, axis, True), b.reshape(moved, (x.size,))]

    assert_agrees(graph_of(function, [x]), [x])


def test_special_values_pass_through(rng: np.random.Generator) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, 3.0], np.float32)
    y = np.array([np.inf, np.nan, 0.0, -0.0, 0.0, 2.0, np.nan], np.float32)

    def function(b: Any, v: Any, w: Any) -> list[Any]:
        names = ("add", "multiply", "guarded_product", "maximum", "minimum", "divide", "less", "not_equal")
        outs = [b.call(name, v, w) for name in names]
        return [*outs, b.call("add", v, 0.0), b.call("subtract", v, 0.0), b.call("multiply", v, 0.0)]

    graph = graph_of(function, [x, y])
    assert_agrees(graph, [x, y])
    signs = [np.signbit(out) for out in compiled(graph).run([x, y])[8:]]
    with np.errstate(invalid="ignore"):
        wanted = [np.signbit(x + np.float32(0)), np.signbit(x), np.signbit(x * np.float32(0))]
    for got, want in zip(signs, wanted):
        np.testing.assert_array_equal(got[~np.isnan(x)][[0, 1, 4, 5]], want[~np.isnan(x)][[0, 1, 4, 5]])


def test_zero_guard_is_kept_behind_infinite_factors() -> None:
    x = np.array([[np.inf, 1.0], [np.nan, 2.0]], np.float32)
    bar = np.array([[0.0, 2.0], [0.0, 3.0]], np.float32)
    graph = graph_of(lambda b, v, w: b.sum(b.call("guarded_product", v, w), (0,)), [x, bar])
    np.testing.assert_array_equal(compiled(graph).run([x, bar])[0], [0.0, 8.0])


# What is fused, and what it does to sums.


def test_normalisation_is_one_kernel(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 16, 33), floats(rng, 33), floats(rng, 33)]
    graph = graph_of(lambda b, x, w, c: b.call("layer_norm_affine", x, w, c, eps=1e-5), arrays)
    assert len(assert_agrees(graph, arrays, scale=8.0).explain().splitlines()) == 1
    graph = graph_of(lambda b, x, w, c: b.call("softmax_along", x, axis=(1,)), arrays)
    assert len(assert_agrees(graph, arrays).explain().splitlines()) == 1


def test_layer_with_activation_and_its_update_are_one_kernel(rng: np.random.Generator) -> None:
    x, weight, bias = floats(rng, 3, 5, 8), floats(rng, 7, 8), floats(rng, 7)
    graph = graph_of(lambda b, *v: b.call("tanh", b.call("affine", *v)), [x, weight, bias])
    assert len(assert_agrees(graph, [x, weight, bias]).explain().splitlines()) == 1
    bar, state = floats(rng, 15, 7), floats(rng, 7, 8)

    def update(b: Any, g: Any, v: Any, w: Any, s: Any) -> list[Any]:
        gradient = b.call("matrix_product", b.swap(g), b.reshape(v, (15, 8)))
        moved = b.call("add", b.call("multiply", s, 0.9), gradient)
        return [b.call("subtract", w, b.call("multiply", moved, 0.1)), moved]

    graph = graph_of(update, [bar, x, weight, state], (2, 3))
    executable = assert_agrees(graph, [bar, x, weight, state], scale=16.0)
    assert len(executable.explain().splitlines()) == 1


def test_attention_reads_and_writes_heads_in_place(rng: np.random.Generator) -> None:
    arrays = [floats(rng, 2, 5, 12)]

    def function(b: Any, x: Any) -> Any:
        heads = b.permute(b.reshape(x, (2, 5, 3, 4)), (0, 2, 1, 3))
        shares = b.call("softmax_along", b.call("matrix_product", heads, b.swap(heads)), axis=(3,))
        mixed = b.permute(b.call("matrix_product", shares, heads), (0, 2, 1, 3))
        return b.reshape(mixed, (2, 5, 12))

    executable = assert_agrees(graph_of(function, arrays), arrays)
    assert len(executable.explain().splitlines()) == 3


@pytest.mark.parametrize(
    ("shape", "axis"), [((70000,), (0,)), ((400, 300), (0, 1)), ((9000, 8), (0,)), ((70001,), (0,))]
)
def test_large_reductions(rng: np.random.Generator, shape: tuple[int, ...], axis: tuple[int, ...]) -> None:
    arrays = [rng.standard_normal(shape)]
    for name in ("sum_over", "max_over"):
        graph = graph_of(lambda b, x: b.call(name, b.call("multiply", x, x), axis=axis, keepdims=True), arrays)  # noqa: B023
        assert_agrees(graph, arrays, roundings=float(arrays[0].size))


def test_same_bits_for_any_number_of_threads(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [floats(rng, 300, 500), floats(rng, 500)]

    def function(b: Any, x: Any, y: Any) -> list[Any]:
        moved = b.call("tanh", b.call("add", x, y))
        return [b.sum(moved, (0,)), b.sum(moved, (1,)), b.sum(moved, (0, 1)), b.call("softmax_along", moved, axis=(1,))]

    graph = graph_of(function, arrays)
    both = []
    for count in (1, 2, 3):
        monkeypatch.setattr(program, "available_cores", lambda count=count: count)
        both.append(compiled(graph).run(arrays))
    for one, *others in zip(*both):
        for other in others:
            np.testing.assert_array_equal(one, other)


def test_sharing_is_not_lost_in_deep_graphs(rng: np.random.Generator) -> None:
    x = rng.standard_normal(10)

    def function(b: Any, v: Any) -> Any:
        for _ in range(400):
            v = b.call("multiply", b.call("sin", v), b.call("subtract", 1.5, b.call("multiply", v, v)))
        return v

    executable = assert_agrees(graph_of(function, [x]), [x], scale=64.0)
    assert len(executable.explain().splitlines()) == 1


def test_shifted_sums_do_not_grow_exponentially(rng: np.random.Generator) -> None:
    x = rng.standard_normal((12, 12))

    def function(b: Any, v: Any) -> Any:
        for _ in range(12):
            near = b.call(
                "add", b.call("roll_along", v, shift=(1,), axis=(0,)), b.call("roll_along", v, shift=(1,), axis=(1,))
            )
            v = b.call("subtract", b.call("multiply", near, 0.4), b.call("multiply", v, 0.2))
        return v

    executable = assert_agrees(graph_of(function, [x]), [x])
    assert len(executable.explain().splitlines()) <= 12


def test_fault_of_the_compiler_costs_speed_alone(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(executables, "kernel_of", broken)
    arrays = [floats(rng, 4)]
    graph = graph_of(lambda b, x: b.call("add", b.call("exp", x), x), arrays)
    executable = build(graph, host_machine())
    np.testing.assert_array_equal(executable.run(arrays)[0], interpret(graph, arrays)[0])
    assert executable.explain().count("host") == 2
    assert "AssertionError" in executable.explain()


@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_of_slices_are_stacked_by_one_kernel(rng: np.random.Generator, axis: int) -> None:
    arrays = [floats(rng, 4, 7) for _ in range(9)]
    shape = (4, 9, 7) if axis else (9, 4, 7)

    def function(b: Any, *pieces: Any) -> Any:
        total = None
        for place, piece in enumerate(pieces):
            key = (slice(None), place) if axis else (place, Ellipsis)
            put = b.call("embed", piece, shape=shape, key=key)
            total = put if total is None else b.call("add", total, put)
        return total

    graph = graph_of(function, arrays)
    assert compiled(graph).explain().startswith("stack_along")
    assert len(assert_agrees(graph, arrays).explain().splitlines()) == 1


def test_a_result_that_is_a_reshape_and_is_read_beside_what_it_is_made_of(rng: np.random.Generator) -> None:
    b = Builder()
    x = Value((1, 17), np.dtype(np.float64))
    known = b.call("logical_not", b.call("isnan", x))
    count = b.call("sum_over", known, axis=(0,), keepdims=False)
    total = b.call("sum_over", b.call("where", known, x, 0.0), axis=(0,), keepdims=False)
    mean = b.call("divide", total, b.call("cast", count, dtype=np.dtype(np.float64)))
    graph = Graph("means", [x], b.equations, [mean, known, count], [None] * 3)
    assert_agrees(graph, [rng.standard_normal((1, 17))])
