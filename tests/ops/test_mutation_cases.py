"""Writes, case by case: what the random programs of tests/stateful/test_mutation.py found, and what they do not see."""

# NumPy's stubs do not know what else answers its protocols.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import gc
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import wengert as wg


def leaf(*values: float) -> Any:
    return wg.tensor(np.array(values), requires_grad=True)


def address(tensor: Any) -> int:
    return tensor.detach().numpy().__array_interface__["data"][0]


def peak_of(run: Callable[[], Any]) -> int:
    """Return the most bytes that were allocated at once while `run` ran, beyond what was there before."""
    gc.collect()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Memory must be given back without waiting for the cycle collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ---------------------------------------------------------------------- what the tape has kept


def test_a_write_between_forward_and_backward_spoils_nothing() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    z = y * y
    y[0] = 100.0
    x.detach()[...] = -1.0
    z.sum().backward()
    assert x.grad.tolist() == [8.0, 16.0, 24.0]


@pytest.mark.parametrize("make", [lambda array: array, wg.asarray, lambda array: wg.asarray(array)[:]])
def test_writes_to_an_array_of_the_users_spoil_nothing(make: Callable[[Any], Any]) -> None:
    x = leaf(1.0, 2.0, 3.0)
    array = np.array([4.0, 5.0, 6.0])
    y = x * make(array) + wg.sin(x) * make(array)
    array[:] = np.nan
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.array([4.0, 5.0, 6.0]) * (1 + np.cos([1.0, 2.0, 3.0])))


@pytest.mark.parametrize("make", [lambda array: array, wg.asarray, lambda array: [array]])
def test_writes_to_an_index_array_spoil_nothing(make: Callable[[Any], Any]) -> None:
    x = leaf(1.0, 2.0, 3.0)
    positions = np.array([0, 2])
    y = x[make(positions)]
    z = x.clone()
    z[make(positions)] = 0.0
    positions[:] = 1
    (y.sum() + z.sum()).backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0]


def test_writes_to_an_index_tensor_spoil_nothing() -> None:
    x = leaf(1.0, 2.0, 3.0)
    positions = wg.tensor([0, 2])
    y = x[positions]
    positions[...] = 1
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 1.0]


def test_a_seed_that_is_written_after_the_sweep_leaves_the_gradient() -> None:
    x = leaf(1.0, 2.0)
    seed = np.array([3.0, 4.0])
    x.backward(seed)
    seed[:] = 0
    assert x.grad.tolist() == [3.0, 4.0]


def test_gradients_that_share_memory_are_written_one_at_a_time() -> None:
    x, y = leaf(1.0), leaf(2.0)
    (x + y).sum().backward()
    x.grad += 10
    assert (x.grad.item(), y.grad.item()) == (11.0, 1.0)


def test_what_numpy_handed_out_never_changes() -> None:
    x = wg.tensor([1.0, 2.0])
    array = x.numpy()
    x[0] = 9.0
    assert array.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5.0


# ---------------------------------------------------------------------- aliasing is NumPy's


def test_views_of_borrowed_memory_see_each_others_writes_and_the_array_none() -> None:
    array = np.arange(4.0)
    t = wg.asarray(array)
    v = t[1:]
    w = v[1:]
    t[1] = 7.0
    w[0] = 9.0
    assert t.tolist() == [0.0, 7.0, 9.0, 3.0]
    assert v.tolist() == [7.0, 9.0, 3.0]
    assert w.tolist() == [9.0, 3.0]
    assert array.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_borrowed_tensor_that_the_tape_keeps_still_belongs_to_its_family() -> None:
    x = leaf(2.0, 3.0)
    t = wg.asarray(np.array([1.0, 2.0, 3.0]))
    v = t[1:]
    y = x * v
    t[1] = 50.0
    assert v.tolist() == [50.0, 3.0]
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 3.0]


def test_a_diagonal_is_a_view() -> None:
    x = wg.tensor(np.zeros((2, 2)))
    wg.diagonal(x)[:] = wg.tensor([1.0, 2.0])
    assert x.tolist() == [[1.0, 0.0], [0.0, 2.0]]


@pytest.mark.parametrize("stretched", [lambda x: wg.broadcast_to(x, (2, 2)), lambda x: wg.broadcast_to(x, (2, 2))[0]])
def test_a_stretched_view_is_read_only_and_follows_its_base(stretched: Callable[[Any], Any]) -> None:
    x = wg.tensor([1.0, 2.0])
    view = stretched(x)
    with pytest.raises(ValueError, match=r"read-only view.*stretch.*clone"):
        view[...] = 5.0
    with pytest.raises(ValueError, match="read-only"):
        view[...] = view
    x[0] = 7.0
    assert view.numpy().ravel()[0] == 7.0


def test_reshape_is_a_view_where_numpys_is_whatever_memory_small_views_have() -> None:
    array = np.arange(64.0).reshape(8, 8)
    x = wg.tensor(array)
    pairs: list[tuple[Any, Any]] = [
        (x[:1, :4].reshape(2, 2), array[:1, :4].reshape(2, 2)),
        (x[:2, :2].reshape(4), array[:2, :2].reshape(4)),
        (x.T[:2, :2].reshape(4), array.T[:2, :2].reshape(4)),
        ((x.T[:2, :2] * 1).reshape(4), (array.T[:2, :2] * 1).reshape(4)),
        (wg.broadcast_to(x[:1, :1], (2, 2)).reshape(4), np.broadcast_to(array[:1, :1], (2, 2)).reshape(4)),
    ]
    x[...] = -1.0
    array[...] = -1.0
    for mine, numpys in pairs:
        np.testing.assert_array_equal(mine.numpy(), numpys)


def test_the_layout_of_a_small_views_copy_decides_as_numpys_layout_does() -> None:
    array = np.arange(64.0).reshape(8, 8)
    mine, numpys = wg.tensor(array).T[:2, :2] * 1.0, array.T[:2, :2] * 1.0
    flat, flat_numpys = mine.reshape(4), numpys.reshape(4)
    flat[0] = flat_numpys[0] = 99.0
    np.testing.assert_array_equal(mine.numpy(), numpys)


def test_indexing_every_axis_by_integers_copies_and_an_ellipsis_makes_it_a_view() -> None:
    x = wg.tensor([1.0, 2.0])
    number, view = x[0], x[0, ...]
    x[0] = 5.0
    assert (number.item(), view.item()) == (1.0, 5.0)


def test_augmenting_a_number_rebinds_it_and_augmenting_an_array_does_not() -> None:
    total = wg.tensor([1.0, 2.0]).sum()
    same = total
    total += 1
    assert (total.item(), same.item()) == (4.0, 3.0)
    array = wg.tensor(1.0)
    same = array
    array += 1
    assert same is array and same.item() == 2.0


def test_overlapping_writes_read_before_they_write() -> None:
    x = wg.tensor([1.0, 2.0, 3.0, 4.0])
    x[1:] = x[:-1]
    assert x.tolist() == [1.0, 1.0, 2.0, 3.0]
    x += x[::-1]
    assert x.tolist() == [4.0, 3.0, 3.0, 4.0]


def test_python_numbers_are_written_in_the_precision_of_the_target() -> None:
    x = wg.zeros(2, dtype="float64")
    x[0] = 0.1
    x[1:] = [0.2]
    assert x.tolist() == [0.1, 0.2]
    x += 0.1
    assert x.tolist() == [0.2, 0.2 + 0.1]
    x += [0.1, 0.2]
    assert x.tolist() == [0.2 + 0.1, 0.2 + 0.1 + 0.2]


# ---------------------------------------------------------------------- gradients through writes and views


def test_a_write_through_a_reshaped_view_of_a_column_ordered_base() -> None:
    x = wg.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    base = x.T * 2
    view = base.T.reshape(6)
    view[:2] = 0.0
    base.sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0], [2.0, 2.0], [2.0, 2.0]]


def test_the_last_write_to_a_repeated_position_has_the_gradient() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = wg.zeros(2, dtype="float64")
    y[np.array([0, 1, 0])] = x
    assert y.tolist() == [3.0, 2.0]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0]


def test_reads_and_writes_of_one_base_add_their_gradients_once() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 1
    first, second = y[0] * 2, y[1:] * 3
    y[2] = 0.0
    z = y.clone()
    y[0] = 0.0
    (first + second.sum() + z.sum() + y.sum()).backward()
    assert x.grad.tolist() == [3.0, 5.0, 3.0]


def test_python_writes_the_region_to_itself_after_augmenting_it_and_that_is_nothing() -> None:
    x = wg.tensor(np.zeros((4, 2)), requires_grad=True)
    y = x * 1
    y[1:] += 5.0
    before = address(y)
    y[1:] = y[1:]
    assert address(y) == before
    (y * y).sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0], [10.0, 10.0], [10.0, 10.0], [10.0, 10.0]]


def test_the_line_of_the_users_that_wrote_is_named() -> None:
    x = leaf(1.0)
    y = x * 1
    y += x
    y.sum().backward()
    with pytest.raises(wg.errors.GradientError, match=r"test_mutation_cases\.py:\d+"):
        y.sum().backward()


def test_second_order_through_writes() -> None:
    x: Any = leaf(2.0, 3.0)
    y = x * x
    y[0] = y[1] * x[0]
    y[1:] += y[:1] ** 2
    y.sum().backward(create_graph=True)
    # y = [x1² x0, x1² + x1⁴ x0²]
    gradient: Any = x.grad
    setattr(x, "grad", None)  # noqa: B010 - a type checker would take it for None from here on
    np.testing.assert_allclose(gradient.detach().numpy(), [9 + 2 * 81 * 2, 2 * 3 * 2 + 2 * 3 + 4 * 27 * 4])
    gradient[0].backward()
    np.testing.assert_allclose(x.grad.numpy(), [2 * 81, 2 * 3 + 2 * 4 * 27 * 2])


# ---------------------------------------------------------------------- detach() shares memory and no history


def test_a_buffer_goes_on_after_detach() -> None:
    """Truncated backpropagation through time: the state is cut off, and written on."""
    w = leaf(2.0)
    state = wg.zeros(3, dtype="float64")
    state[0] = w
    state = state.detach()
    state[1] = state[0] * w
    state[2] = state[1] * w
    state[2].backward()
    assert state.tolist() == [2.0, 4.0, 8.0]
    assert w.grad.tolist() == [8.0]


def test_a_value_written_through_detach_is_a_constant_on_the_other_side() -> None:
    x, w = leaf(1.0, 2.0), leaf(5.0)
    y = x * 3
    y.detach()[:1] = w
    assert y.tolist() == [5.0, 6.0]
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 3.0]
    assert w.grad is None


def test_a_leaf_written_off_the_tape_stays_a_leaf() -> None:
    x = leaf(1.0, 2.0)
    x.detach()[0] = 10.0
    with wg.no_grad():
        x[1] = 20.0
        x += 1.0
        x[...] = x * 2
    assert x.is_leaf
    (x * x).sum().backward()
    assert x.tolist() == [22.0, 42.0]
    assert x.grad.tolist() == [44.0, 84.0]


def test_a_leaf_made_of_a_detached_view_survives_writes_to_its_base() -> None:
    x = wg.tensor([1.0, 2.0])
    inner = x.detach().requires_grad_()
    x += 1.0
    assert inner.is_leaf and inner.requires_grad and not x.requires_grad
    (inner * inner).sum().backward()
    assert inner.grad.tolist() == [4.0, 6.0]


def test_a_view_that_becomes_a_leaf_takes_its_own_views_along() -> None:
    flat = wg.zeros(6)
    weight = flat[:4].reshape(2, 2)
    row, bias = weight[0], flat[4:]
    weight.requires_grad_()
    assert row.requires_grad and not bias.requires_grad and not flat.requires_grad
    flat[0] = 3.0
    assert weight.is_leaf and row.tolist() == [3.0, 0.0]
    (row * row).sum().backward()
    assert weight.grad.tolist() == [[6.0, 0.0], [0.0, 0.0]]


def test_a_base_that_becomes_a_leaf_takes_its_views_along() -> None:
    x = wg.tensor([1.0, 2.0])
    view = x[1:]
    x.requires_grad_()
    (view * view).sum().backward()
    assert x.grad.tolist() == [0.0, 4.0]
    x.requires_grad_(False)
    assert not view.requires_grad


def test_a_number_cut_off_and_written_on() -> None:
    x = leaf(1.0)
    value = wg.tensor(np.array(2.0))
    tracked = value.detach()
    tracked[...] = x[0]
    value[...] = 3.0
    assert tracked.item() == 3.0
    (tracked * 2).backward()
    assert x.grad.tolist() == [0.0]


def test_update_buffer_writes_through_views() -> None:
    x = wg.tensor([1.0, 2.0], requires_grad=True)
    view = x.detach()
    y = (x * x).sum()
    x.update_buffer(lambda array: np.add(array, 10.0, out=array))
    assert view.tolist() == [11.0, 12.0]
    y.backward()
    assert x.grad.tolist() == [2.0, 4.0]


# ---------------------------------------------------------------------- what it costs


def fill(rows: int, width: int, keep_views: bool = False) -> tuple[Any, float]:
    """Fill an array row by row, each from the row before; return (loss, seconds)."""
    w = wg.tensor(np.full(width, 0.9), requires_grad=True)
    h = wg.zeros((rows, width), dtype="float64")
    views = [h[i] for i in range(rows)] if keep_views else None
    start = time.perf_counter()
    h[0] = w
    for i in range(1, rows):
        previous = h[i - 1] if views is None else views[i - 1]
        h[i] = wg.sin(previous * w)
    return h.sum(), time.perf_counter() - start


def test_filling_an_array_row_by_row_keeps_each_row_once() -> None:
    rows, width = 300, 200

    def run() -> None:
        loss, _ = fill(rows, width)
        loss.backward()

    run()  # what is loaded when it is first needed is not looked at

    # For each row the tape keeps what was read and the result of the sine; the array itself, and its cotangent, are two
    # more. A copy of the array for each row would be 300 of them.
    assert peak_of(run) < 8 * rows * width * 8


def test_filling_an_array_row_by_row_takes_linear_time() -> None:
    def seconds(rows: int) -> float:
        best = np.inf
        for _ in range(3):
            loss, forward = fill(rows, 32)
            start = time.perf_counter()
            loss.backward()
            best = min(best, forward + time.perf_counter() - start)
        return best

    seconds(50)
    # Eight times the rows: a factor of 8 if linear, of 64 if quadratic.
    assert seconds(3200) < 24 * seconds(400)


def test_views_that_are_kept_hold_up_only_the_writes_that_meet_them() -> None:
    loss, _ = fill(200, 16, keep_views=True)
    loss.backward()


def test_a_buffer_that_nobody_else_holds_is_written_in_place() -> None:
    x = wg.tensor(np.zeros(1000), requires_grad=True)
    for _ in range(3):
        (x * x).sum().backward()
        before = address(x)
        with wg.no_grad():
            x -= 0.1 * x.grad
            x[:10] = 0.0
            x *= 2
        assert address(x) == before
        assert x.is_leaf


def test_a_buffer_that_the_tape_holds_is_copied_once() -> None:
    x = wg.tensor(np.zeros(1000), requires_grad=True)
    loss = (x * x).sum()
    addresses = [address(x)]
    with wg.no_grad():
        for i in range(3):
            x[i] = 1.0
            addresses.append(address(x))
    assert addresses[0] != addresses[1] == addresses[2] == addresses[3]
    loss.backward()
    assert not x.grad.numpy().any()


@pytest.mark.parametrize(
    "update",
    [
        lambda x, y: x.__iadd__(y),
        lambda x, y: x.__imul__(2.0),
        lambda x, y: x[1000:].__isub__(y[1000:]),
        lambda x, y: np.add(x, y, out=x),
        lambda x, y: x.copy_(y),
        lambda x, y: x.fill_(1.0),
    ],
)
def test_untracked_updates_take_no_temporary(update: Callable[[Any, Any], Any]) -> None:
    x, y = wg.tensor(np.zeros(1_000_000)), wg.tensor(np.ones(1_000_000))
    update(x, y)
    assert peak_of(lambda: update(x, y)) < 100_000


def test_a_small_part_that_the_tape_keeps_does_not_pin_the_whole() -> None:
    x = leaf(*[1.0] * 100)
    big = wg.tensor(np.ones((1000, 100)))
    gone = weakref.ref(big)
    y = x * big[0]
    del big
    assert gone() is None
    y.sum().backward()


def test_a_base_goes_with_its_last_view() -> None:
    base = wg.tensor(np.ones(100), requires_grad=True) * 2
    views = [base[i:] for i in range(50)]
    gone = weakref.ref(base)
    del base
    assert gone() is not None
    views[3][0] = 5.0
    del views
    assert gone() is None


def test_dead_views_are_forgotten() -> None:
    base = wg.tensor(np.ones((100, 2)))

    def run() -> None:
        for i in range(2000):
            base[i % 100 :].sum()

    run()
    assert peak_of(run) < 20_000


@pytest.mark.parametrize("shape", [(0, 5), (2, 5)])
def test_a_nan_is_written_to_integers_as_an_array_of_numpy_s_is(shape: tuple[int, int]) -> None:
    with np.errstate(invalid="ignore"):
        nan = wg.sqrt(wg.tensor(-1.0))  # NumPy's operations return numbers, of which it makes no integers
    x, expected = wg.zeros(shape, dtype="int64"), np.zeros(shape, np.int64)
    y = x[...]  # who writes to a view goes the long way
    with np.errstate(invalid="ignore"):
        y[..., 0] = nan
        expected[..., 0] = np.asarray(np.nan)
    np.testing.assert_array_equal(x.numpy(), expected)
