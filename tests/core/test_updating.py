"""Changing values off the tape: what the tape keeps stays, views follow, and nothing is written before all is ready."""

from __future__ import annotations

import numpy as np
import pytest

import wengert as wg
from wengert.errors import GradientError


def increment(arrays: list[np.ndarray]) -> None:
    for array in arrays:
        array += 1


def test_leaves_and_untracked_tensors_change_and_stay_what_they_are() -> None:
    leaf = wg.tensor([1.0, 2.0], requires_grad=True)
    scalar = wg.tensor(3.0, requires_grad=True)
    number = wg.sum(wg.ones(3))  # NumPy's sum is a scalar, not an array
    plain = wg.tensor([1, 2])
    wg.Tensor.update_buffers([leaf, scalar, number, plain], increment)
    assert [t.tolist() for t in (leaf, scalar, number, plain)] == [[2.0, 3.0], 4.0, 4.0, [2, 3]]
    assert leaf.is_leaf
    assert leaf.requires_grad
    assert not plain.requires_grad


def test_a_buffer_that_nobody_else_holds_is_written_where_it_is() -> None:
    leaf = wg.tensor([1.0, 2.0], requires_grad=True)
    addresses = []
    for _ in range(2):
        leaf.update_buffer(lambda array: addresses.append(array.ctypes.data))
    assert addresses[0] == addresses[1]


def test_what_the_tape_keeps_stays() -> None:
    leaf = wg.tensor([1.0, 2.0], requires_grad=True)
    out = leaf * leaf
    wg.Tensor.update_buffers([leaf], increment)
    out.sum().backward()
    assert leaf.tolist() == [2.0, 3.0]
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [2.0, 4.0]


def test_arrays_that_were_handed_out_stay() -> None:
    plain = wg.tensor([1.0, 2.0])
    array = plain.numpy()
    memory = np.zeros(2)
    borrowed = wg.asarray(memory)
    wg.Tensor.update_buffers([plain, borrowed], increment)
    assert array.tolist() == [1.0, 2.0]
    assert memory.tolist() == [0.0, 0.0]
    assert borrowed.tolist() == [1.0, 1.0]


def test_views_follow_and_lead() -> None:
    base = wg.tensor([1.0, 2.0, 3.0, 4.0])
    view = base.reshape(2, 2)
    wg.Tensor.update_buffers([base], increment)
    assert view.tolist() == [[2.0, 3.0], [4.0, 5.0]]
    wg.Tensor.update_buffers([view], increment)
    assert base.tolist() == [3.0, 4.0, 5.0, 6.0]


def test_parts_of_one_buffer_may_be_parameters() -> None:
    flat = wg.zeros(10)
    first, second = flat[:5], flat[5:]
    first.requires_grad_()
    second.requires_grad_()
    for _ in range(2):
        (first * 2 + second * 3).sum().backward()
        wg.optim.SGD([first, second], lr=1.0).step()
    assert first.tolist() == [-6.0] * 5
    assert second.tolist() == [-9.0] * 5
    assert flat.tolist() == [-6.0] * 5 + [-9.0] * 5


def test_a_detached_view_writes_its_leaf() -> None:
    leaf = wg.tensor([1.0, 2.0], requires_grad=True)
    wg.Tensor.update_buffers([leaf.detach()], increment)
    assert leaf.tolist() == [2.0, 3.0]
    assert leaf.is_leaf
    (leaf * leaf).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [4.0, 6.0]


def test_what_was_computed_is_refused_and_nothing_is_written() -> None:
    leaf = wg.tensor([1.0, 2.0], requires_grad=True)
    computed = leaf * 2
    with pytest.raises(GradientError, match=r"leaves.*test_updating\.py"):
        wg.Tensor.update_buffers([leaf, computed], increment)
    assert leaf.tolist() == [1.0, 2.0]


def test_an_update_that_fails_leaves_views_and_base_in_agreement() -> None:
    base = wg.tensor([1.0, 2.0])
    view = base.reshape(2, 1)
    held = base.numpy()  # so that the base moves to memory of its own

    def fail(arrays: list[np.ndarray]) -> None:
        arrays[0][0] = 9.0
        raise KeyError

    with pytest.raises(KeyError):
        wg.Tensor.update_buffers([base], fail)
    assert base.tolist() == [9.0, 2.0]
    assert view.tolist() == [[9.0], [2.0]]
    assert held.tolist() == [1.0, 2.0]
