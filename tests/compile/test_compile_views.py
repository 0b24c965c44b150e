"""Results of compiled functions that are views: of arguments, of each other, of what is closed over."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.view_programs import argument, program
from wengert.compile import capture
from wengert.compile.api import CompileWarning
from wengert.compile.sources import CompileError


def doubled_and_its_part(x: Any) -> Any:
    y = x * 2
    return y, y[0:2]


def part_before_the_whole(x: Any) -> Any:
    y = x * 2
    return y[0:2], y, y


def reshaped(x: Any) -> Any:
    return (x.reshape(2, 2),)


def sliced(x: Any) -> Any:
    return (x[1:],)


def detached(x: Any) -> Any:
    return (x.detach(),)


def two_views_of_what_is_not_returned(x: Any) -> Any:
    y = x * 2
    return {"row": y[None], "column": (y[:, None], y.sum())}["column"][0], y[None]


def views_of_views(x: Any) -> Any:
    y = x[:, None] * 2
    return y[None], y[None][..., 0], y.reshape(-1)[::-1]


FUNCTIONS = [
    *(doubled_and_its_part, part_before_the_whole, reshaped, sliced, detached),
    *(two_views_of_what_is_not_returned, views_of_views),
]


def after_writes(function: Callable[[Any], Any]) -> list[Any]:
    x = wg.tensor([1.0, 2.0, 3.0, 4.0])
    results = [function(x) for _ in range(3)][-1]
    x[0] = 100.0
    results[0].fill_(7.0)
    return [x.tolist(), *[result.tolist() for result in results]]


@pytest.mark.parametrize("function", FUNCTIONS, ids=[function.__name__ for function in FUNCTIONS])
def test_writes_are_seen_through_what_a_compiled_function_returns(function: Callable[[Any], Any]) -> None:
    assert after_writes(wg.compile(function)) == after_writes(function)


@pytest.mark.parametrize(
    "view",
    [wg.stop_gradient, lambda x: x.detach(), lambda x: x.reshape(1), lambda x: x[None], lambda x: x[...], lambda x: x],
)
@pytest.mark.parametrize("made", [lambda x: x.sum(), lambda x: x[0]])
def test_a_number_that_is_viewed_is_written_in_place(view: Callable[[Any], Any], made: Callable[[Any], Any]) -> None:
    def function(x: Any) -> Any:
        number = held = made(x)
        seen = view(number)
        number *= 0.5
        return seen, number, held

    def outcome(called: Callable[[Any], Any]) -> list[Any]:
        return [result.tolist() for result in called(wg.tensor([1.0, 3.0]))]

    assert outcome(wg.compile(function)) == outcome(function)


def view_written(x: Any) -> Any:
    y = x[1:]
    y.fill_(0.5)
    return x, y


def view_scaled(x: Any) -> Any:
    y, z = x[1:], x[:2]
    y *= 2
    return z * 1, x * 1


BORROWED: list[Callable[[], Any]] = [
    lambda: np.arange(6.0).reshape(3, 2),
    lambda: np.arange(6.0).reshape(2, 3).T,
    lambda: np.arange(12.0).reshape(3, 4)[:, ::2],
    lambda: np.flip(np.arange(6.0)),
]


@pytest.mark.parametrize("closed_over", [False, True])
@pytest.mark.parametrize("function", [view_written, view_scaled])
@pytest.mark.parametrize("make", BORROWED)
def test_views_of_a_tensor_in_memory_of_an_array(make: Any, function: Any, closed_over: bool) -> None:
    def outcome(c: Callable[[Any], Any]) -> list[Any]:
        seen: list[Any] = []
        array = make()
        held = wg.asarray(array)
        called = c((lambda: function(held)) if closed_over else function)
        for _ in range(3):
            x = held if closed_over else wg.asarray(array)
            results = called() if closed_over else called(x)
            seen.append([result.tolist() for result in (*results, x)] + [array.tolist()])
        return seen

    assert outcome(wg.compile) == outcome(lambda called: called)


def test_a_tensor_in_memory_of_an_array_is_not_written_beside_views_of_it() -> None:
    @wg.compile
    def function(x: Any) -> Any:
        y = x[1:]
        x[0] = 5.0
        return y

    with pytest.raises(wg.errors.WengertError, match="views of it are in use"):
        function(wg.asarray(np.ones(3)))


def test_a_leaf_that_is_returned_twice_is_the_same_object() -> None:
    compiled = wg.compile(part_before_the_whole)
    for _ in range(2):
        _, first, second = compiled(wg.ones(4))
        assert first is second


@pytest.mark.parametrize(
    "made", [lambda x: x.T * 1, lambda x: x.T.clone(), lambda x: x.T.astype("float64"), lambda x: x[..., :2] * 1]
)
def test_a_reshape_of_what_lies_transposed_is_a_copy(made: Callable[[Any], Any]) -> None:
    def function(x: Any) -> Any:
        y = made(x)
        z = y.reshape(-1)
        y *= 2
        return z * 1, y * 1

    x = wg.tensor(np.arange(12.0).reshape(3, 4))
    compiled = wg.compile(function)
    for _ in range(2):
        assert [result.tolist() for result in compiled(x)] == [result.tolist() for result in function(x)]


def test_views_in_a_nesting_share_memory_and_the_tape() -> None:
    def function(w: Any) -> Any:
        y = w * w
        return {"row": y[None], "columns": [y[:, None], None]}

    gradients: list[Any] = []
    for called in (function, *[wg.compile(function)] * 3):
        w = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)
        found = called(w)
        (found["row"] * found["columns"][0].T).sum().backward()
        assert w.grad is not None
        gradients.append(w.grad.tolist())
        with wg.no_grad():
            found["row"].fill_(7.0)
        assert found["columns"][0].tolist() == [[7.0], [7.0], [7.0]]
    # By hand: the sum of w^4 has the derivative 4 w^3.
    assert gradients == [[4.0, 32.0, 108.0]] * 4


def test_views_of_results_and_of_parameters_are_on_the_tape() -> None:
    w = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)

    def function(x: Any) -> Any:
        y = w * x
        return y, y[1:], w[:2]

    gradients = []
    for called in (function, *[wg.compile(function)] * 2):
        w.grad = None
        y, part, of_parameter = called(wg.tensor([1.0, 2.0, 3.0]))
        (y.sum() + (part * part).sum() + of_parameter.sum()).backward()
        assert w.grad is not None
        gradients.append(w.grad.tolist())
    # By hand: x + 2 w x^2 (but for the first element), and one for each of the first two.
    assert gradients == [[2.0, 2 + 2 * 2 * 4 + 1.0, 3 + 2 * 3 * 9.0]] * 3


@pytest.mark.parametrize(
    "of_row", [lambda row: row[:1], lambda row: row[:1].detach(), lambda row: row.T], ids=["part", "detached", "whole"]
)
def test_a_view_of_a_view_whose_base_is_not_touched(of_row: Any) -> None:
    """What is returned shares memory with the base, which the function has nothing to do with."""
    base = wg.tensor([[1.0, 2.0], [3.0, 4.0]])
    row = base[1]
    compiled = wg.compile(lambda x: (of_row(row), row * x))
    for k in range(3):
        part, _ = compiled(wg.tensor(1.0))
        with wg.no_grad():
            part[0] = 10.0 + k
        assert base.tolist() == [[1.0, 2.0], [10.0 + k, 4.0]]


def test_a_view_of_a_view_of_a_leaf_that_is_not_touched_is_on_the_tape() -> None:
    w = wg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    row = w[1]
    compiled = wg.compile(lambda x: (row[:1], row * x))
    for _ in range(3):
        w.grad = None
        part, product = compiled(wg.tensor(2.0))
        ((part * part).sum() + product.sum()).backward(retain_graph=True)
        # By hand: 2 * 3 of the square, and 2 of each product.
        assert w.grad is not None
        assert w.grad.tolist() == [[0.0, 0.0], [8.0, 2.0]]


BORROWING: list[Any] = [
    lambda x, a: (x[:1], x[:2]),
    lambda x, a: (x.astype("float64", copy=False), x[:1]),
    lambda x, a: (x.ravel(), wg.asarray(x)),
    lambda x, a: (wg.broadcast_to(x, (2, *x.shape)), x * 2),
    lambda x, a: (wg.asarray(a)[:1], wg.asarray(a)),
    lambda x, a: (wg.asarray(a[1:]), wg.broadcast_to(a[:1], (3, 3))),
    lambda x, a: (wg.asarray(np.ones((2, 2)))[:1], x),
]


@pytest.mark.parametrize("function", BORROWING)
def test_results_in_the_memory_of_an_array_share_it_and_are_copied_when_they_are_written(function: Any) -> None:
    """A Tensor over an array's memory sees what is written there, until it is written itself: so do its views."""

    def seen(compiler: Any) -> list[Any]:
        a = np.arange(9.0).reshape(3, 3)
        called = compiler(lambda x: function(x, a))
        pictures: list[Any] = []
        for k in range(3):
            given = np.arange(9.0).reshape(3, 3)
            x = wg.asarray(given)
            results = called(x)
            given[0] = 20.0 + k
            a[0] = 30.0 + k
            pictures.append([result.tolist() for result in results])
            try:
                results[0][...] = -1.0
            except ValueError as error:
                pictures.append(str(error))
            pictures.append([result.tolist() for result in (*results, x)] + [given.tolist(), a.tolist()])
        return pictures

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompileWarning)  # arrays that change take a program each
        assert seen(wg.compile) == seen(lambda function: function)


@pytest.mark.parametrize("made", [lambda: wg.tensor(1), lambda: np.array(1), lambda: np.int64(1), lambda: 1])
def test_what_is_read_at_a_position_in_an_array_is_a_copy_as_in_numpy(made: Callable[[], Any]) -> None:
    array = np.arange(6.0).reshape(2, 3)
    position = made()
    is_view = np.shares_memory(array, array[np.asarray(position) if isinstance(position, wg.Tensor) else position])
    x = wg.tensor(array)
    for called in (lambda i: x[i], wg.compile(lambda i: x[i]), wg.compile(lambda i: x[i, 1:])):
        x[...] = array
        called(position)[...] = 9.0
        assert (x.numpy()[1, 1:] == 9.0).all() == is_view
        assert x.numpy()[1, 2] == (9.0 if is_view else 5.0)


def test_a_view_of_what_was_detached_is_detached() -> None:
    w = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)

    def function(x: Any) -> Any:
        y = w * x
        part = y.detach()[1:]
        return y, part, w.detach()[:1]

    compiled = wg.compile(function)
    for called in (function, compiled, compiled):
        y, part, of_leaf = called(wg.tensor(2.0))
        assert [y.requires_grad, part.requires_grad, of_leaf.requires_grad] == [True, False, False]
        with wg.no_grad():
            y[1] = 7.0
        assert part.tolist() == [7.0, 6.0]


def test_a_detached_view_with_a_history_of_its_own_is_refused() -> None:
    w = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)

    def function(x: Any) -> Any:
        y = x.detach()
        y *= w
        return y[1:]

    with pytest.raises(CompileError, match=r"test_compile_views\.py:\d+ that shares memory with what it was detached"):
        wg.compile(function)(wg.ones(3))


def test_views_of_what_is_written_follow_though_they_could_not_be_written() -> None:
    def seen(compiler: Any) -> list[Any]:
        base = wg.tensor([1.0, 2.0, 3.0])
        part, stretched = base[1:], wg.broadcast_to(base, (2, 3))

        def function(x: Any) -> Any:
            before = part * 1, stretched.sum()
            base.copy_(base * x)
            return *before, wg.cumsum(base, 0)[1:] + before[0], part * 1, stretched * 1

        called = compiler(function)
        return [[value.tolist() for value in (*called(wg.tensor(2.0)), base, part, stretched)] for _ in range(3)]

    assert seen(wg.compile) == seen(lambda function: function)


def reshaped_before_a_write(x: Any) -> Any:
    y = x * 1
    z = y.reshape(-1)
    y *= 2
    return z * 1, y * 1


def argument_reshaped_before_a_write(x: Any) -> Any:
    z = x.reshape(-1)
    x *= 2
    return z * 1, x * 1


def written_through_a_part_of_a_reshape(x: Any) -> Any:
    y = x.T * 1
    z = y.reshape(-1)
    part = z[1:]
    part *= 2
    return y * 1, z * 1, part * 1


def reshapes_of_a_detached_view(x: Any) -> Any:
    y = x.T * 1
    z = y.reshape(-1)
    other = z.detach()
    other *= 2
    return y * 1, z * 1, other * 1


def returned_beside_its_reshape(x: Any) -> Any:
    y = x.T * 1
    z = y.reshape(-1)
    return y, z, z[1:]


RESHAPES = [
    *(reshaped_before_a_write, argument_reshaped_before_a_write, written_through_a_part_of_a_reshape),
    *(reshapes_of_a_detached_view, returned_beside_its_reshape),
]


@pytest.mark.parametrize("orders", ["CFCF", "FCFC"])
@pytest.mark.parametrize("size", [3, 80])
@pytest.mark.parametrize("function", RESHAPES)
def test_a_reshape_is_a_view_or_a_copy_as_its_source_lies_in_every_run(function: Any, size: int, orders: Any) -> None:
    def seen(compiler: Any) -> list[Any]:
        called = compiler(function)
        pictures: list[Any] = []
        for order in orders:
            x = wg.asarray(np.array(np.arange(float(size**2)).reshape(size, size), order=order)) * 1
            results = called(x)
            with wg.no_grad():
                results[0][0] = -1.0
            pictures.append([result.tolist() for result in (*results, x)])
        return pictures

    assert seen(wg.compile) == seen(lambda function: function)


def test_views_of_a_copy_that_is_not_kept_are_refused_where_it_matters() -> None:
    def function(x: Any) -> Any:
        y = x.T * 1
        first, second = y.reshape(-1)[1:], y.reshape(-1)[2:]
        whole = y.reshape(-1)
        third, fourth = whole[1:], whole[2:]
        del whole
        y *= 2
        return first.sum(), second.sum(), third.sum(), fourth.sum()

    small, large = wg.ones((3, 3)), wg.ones((80, 80))
    compiled = wg.compile(function)
    assert [one.item() for one in compiled(small)] == [one.item() for one in function(small)]
    with pytest.raises(wg.errors.GradientError, match="Keep the reshaped Tensor"):
        compiled(large)


WAYS: dict[str, Callable[[Any], Any]] = {
    "eager": lambda f: f,
    "grad": lambda f: lambda x: wg.value_and_grad(f)(x)[0],
    "jvp": lambda f: lambda x: wg.jvp(f, (x,), (x,))[0],
    "vmap": lambda f: lambda x: wg.vmap(f)(wg.stack([x, x]))[1],
    "compiled": lambda f: wg.compile(f),
    "compiled grad": lambda f: wg.compile(lambda x: wg.value_and_grad(f)(x)[0]),
    "compiled jvp": lambda f: wg.compile(lambda x: wg.jvp(f, (x,), (x,))[0]),
}


@pytest.mark.parametrize("are_large", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_write_reaches_what_numpy_makes_a_view(way: str, are_large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_MUCH", 1 if are_large else 1 << 30)
    for seed in range(60):
        given, written = argument(seed), program(seed)

        def function(x: Any, written: Any = written) -> Any:
            return written(x * 1.0)

        want = function(np.stack([given, given])[1] if way == "vmap" else given)
        got = WAYS[way](function)(wg.tensor(given)).item()
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12, err_msg=str(seed))


def test_a_write_to_a_reshape_of_what_lies_turned() -> None:
    def function(x: Any) -> Any:
        turned = x.T * 2.0
        flat = turned.T.reshape(-1)  # a view, since NumPy keeps the order of axes in what it computes
        flat += 1.0
        return turned.sum()

    for size in (3, 100):  # of large arrays nothing is computed in a capture
        x = wg.tensor(np.ones((size, size)))
        for way in ("eager", "grad", "jvp", "vmap", "compiled"):
            assert WAYS[way](function)(x).item() == 3.0 * size * size, way
        assert wg.jvp(function, (x,), (x,))[1].item() == 2.0 * size * size
