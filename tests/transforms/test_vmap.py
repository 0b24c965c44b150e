"""`wg.vmap`: axes in and out, trees, chunks, random numbers, writes, control flow, and what is refused."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here
from wengert.core.tracing import open_traces
from wengert.errors import DTypeError, GradientError, LeakedTracerError, MappedValueError, ShapeError, StructureError


class Pair(NamedTuple):
    one: Any
    other: Any


def tensor(array: Any) -> Any:
    return wg.tensor(np.asarray(array, np.float64))


def entries(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).uniform(-1, 1, shape)


# Axes in and out.


@pytest.mark.parametrize("axis", range(-3, 3))
@pytest.mark.parametrize("out_axis", range(-3, 3))
def test_every_axis(axis: int, out_axis: int) -> None:
    x = entries(2, 3, 4)
    seen: list[tuple[int, ...]] = []

    def f(row: Any) -> Any:
        seen.append(row.shape)
        return row * row + row.shape[0]

    rows = np.moveaxis(x, axis, 0)
    wanted = np.moveaxis(rows * rows + rows.shape[1], 0, out_axis)
    got = wg.vmap(f, in_axes=axis, out_axes=out_axis)(tensor(x))
    np.testing.assert_array_equal(got.numpy(), wanted)
    assert seen == [rows.shape[1:]]


def test_none_and_several_arguments() -> None:
    x, y = entries(3, 2), entries(2, seed=1)
    got = wg.vmap(lambda a, b: a * b, in_axes=(0, None))(tensor(x), tensor(y))
    np.testing.assert_array_equal(got.numpy(), x * y)
    got = wg.vmap(lambda a, b: wg.outer(a, b), in_axes=(1, 0), out_axes=2)(tensor(x), tensor(y))
    got = wg.vmap(lambda a, b: a * b, in_axes=[1, 0], out_axes=-1)(tensor(x), tensor(y))
    np.testing.assert_array_equal(got.numpy(), x * y)


def test_in_axes_are_prefixes_of_trees() -> None:
    tree = {"a": tensor(entries(3, 2)), "b": (tensor(entries(2, 3)), 2.0), "c": [tensor(entries(3))]}

    def f(p: Any, x: Any) -> Any:
        assert (p["a"].shape, p["b"][0].shape, p["c"][0].shape, x.shape) == ((2,), (2,), (), ())
        return p["a"] * p["b"][0] * p["b"][1] + p["c"][0] * x

    x = tensor(entries(3, seed=2))
    got = wg.vmap(f, in_axes=({"a": 0, "b": (1, None), "c": 0}, 0))(tree, x).numpy()
    a, b, c = tree["a"].numpy(), tree["b"][0].numpy(), tree["c"][0].numpy()
    np.testing.assert_allclose(got, a * b.T * 2.0 + (c * x.numpy())[:, None], rtol=1e-15)


def test_out_axes_are_prefixes_of_trees() -> None:
    def f(x: Any) -> Any:
        return {"p": Pair(x, x.sum()), "q": [wg.ones(2), x * 2.0]}

    x = tensor(entries(3, 2))
    out = wg.vmap(f, out_axes={"p": Pair(1, 0), "q": [None, -1]})(x)
    assert type(out["p"]) is Pair
    np.testing.assert_array_equal(out["p"].one.numpy(), x.numpy().T)
    np.testing.assert_allclose(out["p"].other.numpy(), x.numpy().sum(1), rtol=1e-15)
    assert out["q"][0].shape == (2,)
    np.testing.assert_array_equal(out["q"][1].numpy(), 2 * x.numpy().T)


def test_results_that_are_the_same_for_all() -> None:
    constant = tensor([7.0, 8.0])
    same, fresh, number = wg.vmap(lambda x: (constant, wg.arange(2), 3.0))(tensor([1.0, 2.0, 3.0]))
    assert same.tolist() == [[7.0, 8.0]] * 3 and fresh.tolist() == [[0, 1]] * 3 and number.tolist() == [3.0] * 3
    same[0] = 0.0  # nobody else's memory
    assert same.tolist()[1] == [7.0, 8.0] and constant.tolist() == [7.0, 8.0]
    out = wg.vmap(lambda x: constant * 2.0, out_axes=None)(tensor([1.0, 2.0]))
    assert out.tolist() == [14.0, 16.0]


def test_keywords_are_mapped_along_their_first_axes() -> None:
    x, s = tensor(entries(3, 2)), tensor(entries(3, seed=1))
    got = wg.vmap(lambda x, *, scale: x * scale, in_axes=(1,))(tensor(entries(2, 3)), scale=s)
    np.testing.assert_array_equal(got.numpy(), entries(2, 3).T * s.numpy()[:, None])
    got = wg.vmap(lambda x, scale: x * scale)(x, scale=s)
    np.testing.assert_array_equal(got.numpy(), x.numpy() * s.numpy()[:, None])


def test_axis_size() -> None:
    assert wg.vmap(lambda: wg.ones(2), axis_size=3)().shape == (3, 2)
    assert wg.vmap(lambda x: x * 2.0, in_axes=None, axis_size=2)(tensor(1.0)).tolist() == [2.0, 2.0]
    assert wg.vmap(lambda x: x, axis_size=2)(tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert wg.vmap(lambda: wg.ones(2), axis_size=0)().shape == (0, 2)


def test_one_example_and_none() -> None:
    assert wg.vmap(lambda x: x.sum())(tensor(np.ones((1, 3)))).tolist() == [3.0]
    out = wg.vmap(lambda x: (x.sum(), x[0] * x, wg.sort(x), x @ x, wg.softmax(x)))(tensor(np.ones((0, 3))))
    assert [o.shape for o in out] == [(0,), (0, 3), (0, 3), (0,), (0, 3)]
    bars = wg.vmap(wg.grad(lambda x: (x * x).sum()))(tensor(np.ones((0, 3))))
    assert bars.shape == (0, 3)
    assert wg.vmap(lambda x: x * x)(tensor(np.ones((2, 0)))).shape == (2, 0)


def test_arrays_lists_and_numbers() -> None:
    assert wg.vmap(lambda x: x + 1)(np.arange(3)).tolist() == [1, 2, 3]
    assert wg.vmap(lambda p: p[0] * p[1])([np.ones(2), np.arange(2.0)]).tolist() == [0.0, 1.0]
    got = wg.vmap(lambda x, n: x * n, in_axes=(0, None))(np.ones(2, np.float32), 3)
    assert got.dtype == np.float32 and got.tolist() == [3.0, 3.0]
    seen: list[Any] = []
    wg.vmap(lambda x, mode: seen.append(mode) or x, in_axes=(0, None))(np.ones(2), "fast")
    assert seen == ["fast"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "int8", "bool"])
def test_dtypes(dtype: str) -> None:
    x = np.array([[1, 0], [1, 1]]).astype(dtype)
    for f in (
        lambda t: t,
        lambda t: wg.where(t == 1, t, t),
        lambda t: wg.concatenate([t, t]),
        lambda t: wg.max(t, axis=0),
    ):
        got = wg.vmap(f)(wg.asarray(x))
        wanted = np.stack([f(wg.asarray(row)).numpy() for row in x])
        assert got.dtype == wanted.dtype == dtype
        np.testing.assert_array_equal(got.numpy(), wanted)
    got = wg.vmap(lambda t: t * 2)(wg.asarray(x))
    assert got.dtype == wg.asarray(x)[0].__mul__(2).dtype


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_chunks(size: int) -> None:
    x, w = tensor(entries(5, 2)), tensor(entries(2, seed=1))
    calls: list[int] = []

    def f(row: Any, weight: Any) -> Any:
        calls.append(1)
        return {"y": row * weight, "n": row.sum(), "c": weight}

    out = wg.vmap(f, in_axes=(0, None), out_axes={"y": 1, "n": 0, "c": None}, chunk_size=size)(x, w)
    assert len(calls) == -(-5 // size)
    np.testing.assert_array_equal(out["y"].numpy(), (x.numpy() * w.numpy()).T)
    np.testing.assert_allclose(out["n"].numpy(), x.numpy().sum(1), rtol=1e-15)
    assert out["c"].tolist() == w.tolist()
    got = wg.grad(lambda t: wg.vmap(lambda r: (r * r).sum(), in_axes=-1, chunk_size=size)(t.T).sum())(x)
    np.testing.assert_allclose(got.numpy(), 2 * x.numpy(), rtol=1e-15)


def test_chunks_of_axes_other_than_the_first() -> None:
    x = tensor(entries(2, 5, 3))
    wanted = np.moveaxis(np.sin(x.numpy()), 1, 0)
    np.testing.assert_array_equal(wg.vmap(wg.sin, in_axes=1, chunk_size=2)(x).numpy(), wanted)
    np.testing.assert_array_equal(
        wg.vmap(wg.sin, in_axes=-2, out_axes=-1, chunk_size=3)(x).numpy(), np.moveaxis(wanted, 0, -1)
    )


def test_maps_of_maps() -> None:
    x, y = entries(3, 2), entries(4, 2, seed=1)
    every_pair = wg.vmap(wg.vmap(wg.dot, in_axes=(None, 0)), in_axes=(0, None))
    np.testing.assert_allclose(every_pair(tensor(x), tensor(y)).numpy(), x @ y.T, rtol=1e-15)
    swapped = wg.vmap(wg.vmap(wg.dot, in_axes=(0, None)), in_axes=(None, 0), out_axes=1)
    np.testing.assert_allclose(swapped(tensor(x), tensor(y)).numpy(), x @ y.T, rtol=1e-15)
    cube = entries(2, 3, 4)
    got = wg.vmap(wg.vmap(wg.vmap(lambda s: s * s, out_axes=0), in_axes=1, out_axes=1), in_axes=2, out_axes=-1)(
        tensor(cube)
    )
    np.testing.assert_array_equal(got.numpy(), cube * cube)


def test_shapes_inside_are_those_of_one_example() -> None:
    def f(x: Any) -> Any:
        assert (x.shape, x.ndim, x.size, len(x), x.nbytes, x.itemsize, x.dtype) == ((3, 4), 2, 12, 3, 96, 8, np.float64)
        assert [row.shape for row in x] == [(4,)] * 3
        assert x.T.shape == (4, 3) and x.reshape(-1).shape == (12,) and x[None].shape == (1, 3, 4)
        assert "vmap" in repr(x) and "2 values" in repr(x)
        return x.reshape(-1)[::5]

    x = entries(2, 3, 4)
    np.testing.assert_array_equal(wg.vmap(f)(tensor(x)).numpy(), x.reshape(2, -1)[:, ::5])


# Gradients.


def test_gradients_of_each_example() -> None:
    w, x = tensor(entries(2)), tensor(entries(5, 2, seed=1))
    got = wg.vmap(wg.grad(lambda w, x: wg.sin(w @ x)), in_axes=(None, 0))(w, x)
    np.testing.assert_allclose(got.numpy(), np.cos(x.numpy() @ w.numpy())[:, None] * x.numpy(), rtol=1e-14)
    values, bars = wg.vmap(wg.value_and_grad(lambda w, x: wg.sin(w @ x), argnums=(0, 1)), in_axes=(None, 0))(w, x)
    assert values.shape == (5,) and [b.shape for b in bars] == [(5, 2), (5, 2)]


def test_the_tape_sees_through() -> None:
    w = tensor(entries(2)).requires_grad_()
    x = tensor(entries(5, 2, seed=1)).requires_grad_()
    out = wg.vmap(lambda row: wg.sin(row @ w))(x)
    assert out.requires_grad and not out.is_leaf
    out.sum().backward()
    slopes = np.cos(x.detach().numpy() @ w.detach().numpy())[:, None]
    np.testing.assert_allclose(grad_of(w).numpy(), (slopes * x.detach().numpy()).sum(0), rtol=1e-13)
    np.testing.assert_allclose(grad_of(x).numpy(), slopes * w.detach().numpy(), rtol=1e-14)
    with wg.no_grad():
        assert not wg.vmap(lambda row: wg.sin(row @ w))(x).requires_grad


def test_no_grad_inside_makes_constants() -> None:
    def f(x: Any) -> Any:
        with wg.no_grad():
            c = x * x
        return c * x

    x = tensor([1.0, 2.0, 3.0]).requires_grad_()
    wg.vmap(f)(x).sum().backward()
    assert grad_of(x).tolist() == [1.0, 4.0, 9.0]
    assert wg.vmap(wg.grad(f))(x.detach()).tolist() == [1.0, 4.0, 9.0]


def test_backward_inside_works_on_each_example() -> None:
    def f(x: Any) -> Any:
        leaf = (x * 1.0).requires_grad_()
        (leaf * leaf * leaf).sum().backward()
        return leaf.grad

    x = entries(3, 2)
    np.testing.assert_allclose(wg.vmap(f)(tensor(x)).numpy(), 3 * x * x, rtol=1e-14)


def test_per_example_gradients_of_a_layer() -> None:
    layer = wg.nn.Linear(3, 2).to("float64")
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    x, labels = entries(4, 3), np.array([0, 1, 1, 0])

    def loss(p: Any, row: Any, label: Any) -> Any:
        return wg.nn.functional.cross_entropy(wg.nn.functional_call(layer, p, row), label)

    bars = wg.vmap(wg.grad(loss), in_axes=(None, 0, 0))(parameters, tensor(x), wg.asarray(labels))
    for k in range(4):
        alone = wg.grad(loss)(parameters, tensor(x[k]), wg.tensor(labels[k]))
        for name in parameters:
            np.testing.assert_allclose(bars[name].numpy()[k], alone[name].numpy(), rtol=1e-13, atol=1e-15)


# Writes.


def test_writes_of_each_kind() -> None:
    def f(x: Any, v: Any) -> Any:
        table = wg.zeros((2, 3), dtype="float64")  # made inside: becomes one for each example
        table[0] = x
        table[1, ::2] = v
        row = table[1]
        row += x[0]
        x *= 2.0
        table[:, 1] -= x[1]
        return table, row

    x, v = entries(4, 3), entries(4, 2, seed=1)
    table, row = wg.vmap(f)(tensor(x), tensor(v))
    for k in range(4):
        one_table, one_row = f(tensor(x[k]), tensor(v[k]))
        np.testing.assert_array_equal(table.numpy()[k], one_table.numpy())
        np.testing.assert_array_equal(row.numpy()[k], one_row.numpy())


def test_arguments_are_not_the_callers() -> None:
    x = tensor(entries(3, 2))
    before = x.tolist()

    def f(row: Any) -> Any:
        row[0] = 5.0
        row *= row
        return row

    out = wg.vmap(f)(x)
    assert x.tolist() == before and out.numpy()[:, 0].tolist() == [25.0] * 3
    out = wg.vmap(lambda row: row)(x)
    out[0] = 0.0
    assert x.tolist() == before


def test_an_unmapped_argument_written_inside_is_not_the_callers() -> None:
    w = tensor([1.0, 2.0])

    def f(row: Any, w: Any) -> Any:
        w += row
        return w

    out = wg.vmap(f, in_axes=(0, None))(tensor(entries(3, 2)), w)
    np.testing.assert_array_equal(out.numpy(), entries(3, 2) + w.numpy())
    assert w.tolist() == [1.0, 2.0]


def test_a_mapped_value_written_outside_is_refused_and_undone() -> None:
    table = wg.zeros(2, dtype="float64")

    def f(x: Any) -> Any:
        table[0] = x
        return x

    with pytest.raises(LeakedTracerError, match=r"vmap\(f\(\)\).*test_vmap\.py:\d+.*put back"):
        wg.vmap(f)(tensor([1.0, 2.0]))
    assert type(table) is wg.Tensor and table.tolist() == [0.0, 0.0]

    def g(x: Any) -> Any:
        table[0] = 3.0  # the same for all
        return x

    wg.vmap(g)(tensor([1.0, 2.0]))
    assert table.tolist() == [3.0, 0.0]


# Control flow.


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x if x > 0 else -x,
        lambda x: next(x for _ in range(3) if x),
        lambda x: (x > 0) and x,
        lambda x: float(x) * x,
        lambda x: int(x) * x,
        lambda x: x.item() * x,
        lambda x: wg.asarray(x.numpy()),
        lambda x: x.tolist(),
        lambda x: wg.nonzero(wg.stack([x, x]))[0],
        lambda x: wg.stack([x, x])[wg.stack([x, x]) > 0],
        lambda x: wg.zeros(3)[: wg.astype(x, "int64")],
        lambda x: np.asarray(x),
        lambda x: x in wg.ones(2),
        lambda x: f"{x:.3f}" and x,
    ],
    ids=[
        "if",
        "comprehension",
        "and",
        "float",
        "int",
        "item",
        "numpy",
        "tolist",
        "nonzero",
        "mask",
        "bound",
        "asarray",
        "in",
        "format",
    ],
)
def test_what_needs_one_value_is_refused_with_the_line(ask: Callable[[Any], Any]) -> None:
    lines: list[str] = []

    def f(x: Any) -> Any:
        y, line = x * 2.0, here()
        lines.append(line)
        return ask(y)

    def pushed(x: Any) -> Any:
        return wg.jvp(f, (x,), (x,))[0]

    for transformed in (wg.vmap(f), wg.vmap(wg.vmap(f)), wg.vmap(pushed)):
        x = tensor(entries(2, 3) if "vmap(vmap" in transformed.__name__ else entries(3))
        with pytest.raises((MappedValueError, IndexError, GradientError), match="vmap") as caught:
            transformed(x)
        assert open_traces() == ()
        if isinstance(caught.value, MappedValueError):
            assert lines[-1] in str(caught.value) or "test_vmap.py" in str(caught.value)


def test_values_that_are_the_same_for_all_may_be_looked_at() -> None:
    w = tensor(2.0)

    def f(x: Any, scale: Any) -> Any:
        n = wg.ones(3)
        if scale > 1.0 and w > 1 and n.sum() == 3.0:
            return x * float(scale) * scale.item()
        return x

    assert wg.vmap(f, in_axes=(0, None))(tensor([1.0, 2.0]), tensor(3.0)).tolist() == [9.0, 18.0]
    outer_known = wg.vmap(wg.vmap(lambda x, y: y * 2.0 if y.shape == () else y, in_axes=(0, None)), in_axes=(None, 0))
    assert outer_known(tensor([1.0, 2.0]), tensor([3.0])).tolist() == [[6.0, 6.0]]


def test_a_value_mapped_by_the_outer_map_only_is_refused_by_name() -> None:
    def inner(y: Any, x: Any) -> Any:
        return y if x > 0 else -y

    def outer(x: Any) -> Any:
        return wg.vmap(inner, in_axes=(0, None))(wg.ones(2), x)

    with pytest.raises(MappedValueError, match=r"in vmap\(outer\(\)\)"):
        wg.vmap(outer)(tensor([1.0, 2.0]))


# What is refused.


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (
            lambda: wg.vmap(wg.dot)(np.ones((2, 3)), np.ones((3, 3))),
            ShapeError,
            r"vmap: mapped axes must all have the same extent: .*2.*axis 0 of shape \(2, 3\).*3",
        ),
        (
            lambda: wg.vmap(lambda p: p["a"])({"a": np.ones(2), "b": [np.ones(3)]}),
            ShapeError,
            r"p\['a'\] has 2.*p\['b'\]\[0\] has 3",
        ),
        (
            lambda: wg.vmap(lambda x: x, in_axes=2)(np.ones((2, 3))),
            ShapeError,
            r"x has shape \(2, 3\), so it has no axis 2",
        ),
        (lambda: wg.vmap(lambda x: x, in_axes=-3)(np.ones((2, 3))), ShapeError, r"no axis -3"),
        (lambda: wg.vmap(lambda x: x)(2.0), ShapeError, r"x has shape \(\), so it has no axis 0.*in_axes=None"),
        (lambda: wg.vmap(lambda x, y: x)(np.ones(2), 2.0), ShapeError, r"y has shape \(\)"),
        (lambda: wg.vmap(lambda x, y: x)(np.ones(2), y=3.0), ShapeError, r"kwargs\['y'\] has shape \(\)"),
        (
            lambda: wg.vmap(lambda x: x, in_axes=None)(np.ones(2)),
            ShapeError,
            r"no argument of <lambda>\(\) is mapped.*axis_size",
        ),
        (lambda: wg.vmap(lambda: wg.ones(1))(), ShapeError, "number of examples is unknown"),
        (lambda: wg.vmap(lambda x: x, axis_size=3)(np.ones(2)), ShapeError, r"axis_size is 3"),
        (
            lambda: wg.vmap(lambda x, y: x, in_axes=(0,))(np.ones(2), np.ones(2)),
            StructureError,
            "in_axes has 1 entries.*2 positional",
        ),
        (lambda: wg.vmap(lambda x: x, in_axes=({"a": 0},))(np.ones(2)), StructureError, "in_axes"),
        (lambda: wg.vmap(lambda p: p, in_axes=({"a": 0},))({"b": np.ones(2)}), StructureError, "in_axes"),
        (
            lambda: wg.vmap(lambda x: x, in_axes="a")(np.ones(2)),
            TypeError,
            "in_axes must hold integers and None; for x it holds 'a'",
        ),
        (lambda: wg.vmap(lambda x: x, in_axes=True)(np.ones(2)), TypeError, "in_axes must hold"),
        (lambda: wg.vmap(lambda x: x, in_axes=0.0)(np.ones(2)), TypeError, "in_axes must hold"),
        (lambda: wg.vmap(lambda x: x, out_axes="a")(np.ones(2)), TypeError, "out_axes must hold integers and None"),
        (
            lambda: wg.vmap(lambda x: x, out_axes=1)(np.ones(2)),
            ShapeError,
            "its output of <lambda>.. has 1 axes.*out_axes cannot be 1",
        ),
        (lambda: wg.vmap(lambda x: x, out_axes=-2)(np.ones(2)), ShapeError, "out_axes cannot be -2"),
        (
            lambda: wg.vmap(lambda x: [x, x], out_axes=[0, None])(np.ones(2)),
            ShapeError,
            r"its output\[1\] of <lambda>.. differs from example to example",
        ),
        (lambda: wg.vmap(lambda x: (x, x), out_axes=(0, 0, 0))(np.ones(2)), StructureError, "out_axes"),
        (lambda: wg.vmap(lambda x: {"a": x}, out_axes={"b": 0})(np.ones(2)), StructureError, "out_axes"),
        (lambda: wg.vmap(lambda x: "no")(np.ones(2)), DTypeError, "its output is of type str"),
        (lambda: wg.vmap(lambda x: x)("no"), DTypeError, "x is of type str"),
        (lambda: wg.vmap(lambda x: x, chunk_size=0), ValueError, "chunk_size must be a positive.*0"),
        (lambda: wg.vmap(lambda x: x, chunk_size=-1), ValueError, "chunk_size"),
        (lambda: wg.vmap(lambda x: x, randomness="some"), ValueError, "randomness must be .*'some'"),  # type: ignore[arg-type]
        (lambda: wg.vmap(lambda x: wg.dot(x, wg.ones(3)))(np.ones((2, 2))), ShapeError, "dot|matmul|shapes"),
        (lambda: wg.vmap(wg.unique)(np.array([[1.0, 1.0], [1.0, 2.0]])), ShapeError, "unique: .*depends on the values"),
        (lambda: wg.vmap(lambda x: x[3])(np.ones((2, 2))), IndexError, "out of bounds"),
        (lambda: wg.vmap(lambda x, i: x[i])(np.ones((2, 2)), np.array([0, 2])), IndexError, "out of bounds"),
        (lambda: wg.vmap(lambda x, i: wg.take(x, i))(np.ones((2, 2)), np.array([0, 2])), IndexError, "bounds"),
        (lambda: wg.vmap(wg.nn.functional.nll_loss)(np.ones((2, 3)), np.array([0, 3])), IndexError, "class"),
        (lambda: wg.vmap(wg.nn.functional.cross_entropy)(np.ones((2, 3)), np.array([0, 3])), IndexError, "class"),
        (
            lambda: wg.vmap(wg.nn.functional.embedding, in_axes=(0, None))(np.array([0, 3]), np.ones((3, 2))),
            IndexError,
            "index",
        ),
        (lambda: wg.vmap(wg.nn.functional.one_hot, in_axes=(0, None))(np.array([0, 3]), 3), IndexError, "index"),
    ],
)
def test_errors_say_what_is_wrong(ask: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ask()
    assert open_traces() == () and wg.is_grad_enabled()


def test_a_function_that_returns_nothing() -> None:
    assert wg.vmap(lambda x: None)(np.ones(2)) is None  # None is a container without leaves


def test_a_leaked_tracer_names_the_transform_and_the_line() -> None:
    kept: list[Any] = []
    lines: list[str] = []

    def careless(x: Any) -> Any:
        y, line = x * x, here()
        kept.append(y)
        lines.append(line)
        return y

    wg.vmap(careless)(tensor([[1.0], [2.0]]))
    (y,) = kept
    uses: list[Callable[[], Any]] = [
        lambda: y + 1.0,
        lambda: y[0],
        lambda: y.sum(),
        lambda: y.numpy(),
        lambda: y.item(),
        lambda: bool(y),
        lambda: wg.vmap(lambda t: t * y)(tensor([[1.0], [2.0]])),
        lambda: wg.grad(lambda t: (t * y).sum())(tensor([1.0])),
        lambda: wg.zeros(1, dtype="float64").copy_(y),
        lambda: wg.nn.functional.one_hot(y.astype("int64"), 3),
    ]
    for use in uses:
        with pytest.raises(LeakedTracerError, match=r"vmap\(careless\(\)\)") as caught:
            use()
        assert lines[0] in str(caught.value)
        assert open_traces() == ()


def test_exceptions_leave_nothing_half_open() -> None:
    table = wg.zeros(2, dtype="float64")

    def fail(x: Any) -> Any:
        wg.set_grad_enabled(False)
        table[0] = x
        wg.set_grad_enabled(True)
        raise ZeroDivisionError

    for call in (
        wg.vmap(fail),
        wg.vmap(wg.grad(fail)),
        wg.vmap(fail, chunk_size=1),
        lambda x: wg.grad(lambda t: wg.vmap(fail)(t).sum())(x),
    ):
        with pytest.raises((ZeroDivisionError, LeakedTracerError)):
            call(tensor([1.0, 2.0]))
        assert open_traces() == () and wg.is_grad_enabled()
        assert type(table) is wg.Tensor and table.tolist() == [0.0, 0.0]
        assert wg.vmap(wg.sin)(tensor([0.0])).tolist() == [0.0]


def test_an_exception_of_the_function_is_not_replaced() -> None:
    """That a write was undone, too, is not worth hiding the cause."""
    table = wg.zeros(2, dtype="float64")

    def fail(x: Any) -> Any:
        table[0] = x
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wg.vmap(fail)(tensor([1.0, 2.0]))


def test_threads_do_not_disturb_each_other() -> None:
    barrier = threading.Barrier(2, timeout=30)
    found: dict[int, Any] = {}

    def f(x: Any) -> Any:
        barrier.wait()
        y = x * x
        barrier.wait()
        assert len(open_traces()) == 1
        return y

    def run(size: int) -> None:
        found[size] = wg.vmap(f)(tensor(np.arange(size))).tolist()

    threads = [threading.Thread(target=run, args=(size,)) for size in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {2: [0.0, 1.0], 3: [0.0, 1.0, 4.0]}


def test_the_names_of_what_is_made() -> None:
    def energy(x: Any) -> Any:
        """Say how much."""
        return x * x

    made = wg.vmap(energy)
    assert (made.__name__, made.__doc__) == ("vmap(energy)", "Say how much.")
    assert wg.vmap(functools.partial(energy))(np.ones(2)).tolist() == [1.0, 1.0]


# Random numbers.


DRAWS: dict[str, Callable[[], Any]] = {
    "normal": lambda: wg.random.normal(size=(3,)),
    "uniform": lambda: wg.random.uniform(size=(3,)),
    "standard_normal": lambda: wg.random.standard_normal(3),
    "rand": lambda: wg.random.rand(3),
    "randn": lambda: wg.random.randn(3),
    "exponential": lambda: wg.random.exponential(size=3),
    "gumbel": lambda: wg.random.gumbel(size=3),
    "integers": lambda: wg.random.integers(0, 1000, 3),
    "bernoulli": lambda: wg.random.bernoulli(0.5, size=(30,)),
    "permutation": lambda: wg.random.permutation(20),
    "choice": lambda: wg.random.choice(1000, 3),
    "categorical": lambda: wg.random.categorical(wg.zeros((30, 4))),
    "dropout": lambda: wg.nn.functional.dropout(wg.ones(30), 0.5),
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers(name: str) -> None:
    draw = DRAWS[name]
    x = tensor(np.zeros(4))
    with pytest.raises(MappedValueError, match=r"vmap\(<lambda>\(\)\).*randomness"):
        wg.vmap(lambda x: draw())(x)
    wg.random.seed(0)
    alone = draw()
    for randomness in ("different", "same"):
        wg.random.seed(0)
        drawn = wg.vmap(lambda x: draw(), randomness=randomness)(x)
        assert drawn.shape == (4, *alone.shape) and drawn.dtype == alone.dtype
        rows = {tuple(row) for row in drawn.numpy().tolist()}
        assert len(rows) == (4 if randomness == "different" else 1)
        wg.random.seed(0)
        again = wg.vmap(lambda x: draw(), randomness=randomness)(x)
        assert again.tolist() == drawn.tolist()
    wg.random.seed(0)
    # Two maps: the outer draws anew, the inner does not.
    both = wg.vmap(lambda x: wg.vmap(lambda y: draw(), randomness="same")(wg.zeros(2)), randomness="different")(x)
    assert both.shape == (4, 2, *alone.shape)
    assert (both.numpy()[:, 0] == both.numpy()[:, 1]).all()
    assert len({tuple(row.ravel().tolist()) for row in both.numpy()[:, 0]}) == 4
    with pytest.raises(MappedValueError):
        wg.vmap(lambda x: wg.vmap(lambda y: draw())(wg.zeros(2)), randomness="different")(x)


def test_random_numbers_with_mapped_parameters() -> None:
    wg.random.seed(0)
    loc = tensor([0.0, 100.0, 200.0])
    drawn = wg.vmap(lambda m: wg.random.normal(m, 0.1), randomness="different")(loc)
    assert drawn.shape == (3,) and (np.abs(drawn.numpy() - loc.numpy()) < 1).all()
    slopes = wg.vmap(wg.grad(lambda m: wg.random.normal(m, 0.1) * 2.0), randomness="same")(loc)
    assert slopes.tolist() == [2.0] * 3
    chances = wg.vmap(lambda p: wg.random.bernoulli(p), randomness="different")(tensor([0.0, 1.0]))
    assert chances.tolist() == [False, True]
    rows = wg.vmap(lambda row: wg.random.permutation(row), randomness="different")(tensor(np.arange(40).reshape(2, 20)))
    assert [sorted(row) for row in rows.tolist()] == np.arange(40).reshape(2, 20).tolist()


def test_random_numbers_are_drawn_once_under_other_transforms() -> None:
    wg.random.seed(3)
    noise = wg.random.normal(size=(2,)).tolist()
    for run in (
        lambda f, x: wg.jvp(f, (x,), (x,))[0],
        lambda f, x: wg.linearize(f, x)[0],
        lambda f, x: wg.vjp(f, x)[0],
    ):
        wg.random.seed(3)
        assert (
            run(lambda x: wg.random.normal(size=(2,)) + 0.0 * x.astype("float32"), tensor([1.0, 2.0])).tolist() == noise
        )


def test_chunks_draw_on() -> None:
    wg.random.seed(0)
    drawn = wg.vmap(lambda x: wg.random.normal(size=(3,)), randomness="different", chunk_size=2)(tensor(np.zeros(6)))
    assert len({tuple(row) for row in drawn.tolist()}) == 6
