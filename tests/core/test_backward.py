"""`backward()`: values, accumulation, hooks, freeing, errors; nothing half done."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here
from wengert.errors import DTypeError, GradientError, ShapeError


def leaf(*values: float) -> Any:
    return wg.tensor(list(values) if len(values) != 1 else values[0], dtype="float64", requires_grad=True)


# Values


def test_product_rule_and_fan_out() -> None:
    x, y = leaf(2.0), leaf(5.0)
    (x * x * y + y * x).backward()
    assert (x.grad.item(), y.grad.item()) == (2 * 2 * 5 + 5, 2 * 2 + 2)


def test_gradients_accumulate_over_calls_and_over_uses() -> None:
    x = leaf(1.0, 2.0)
    for _ in range(3):
        (x * x).sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_a_leaf_is_its_own_output() -> None:
    x = leaf(3.0)
    x.backward()
    assert x.grad.item() == 1.0


def test_a_seed_scales_a_vector_jacobian_product() -> None:
    x = leaf(1.0, 2.0, 3.0)
    (x * x).backward(wg.tensor([1.0, 10.0, 100.0], dtype="float64"))
    assert x.grad.tolist() == [2.0, 40.0, 600.0]


def test_a_seed_may_be_an_array_whose_memory_stays_the_callers() -> None:
    x, seed = leaf(1.0, 2.0), np.array([1.0, 2.0])
    (x + 0.0).backward(seed)
    seed[:] = 99.0
    assert x.grad.tolist() == [1.0, 2.0]
    y, borrowed = leaf(1.0, 2.0), np.array([1.0, 2.0])
    (y + 0.0).backward(wg.asarray(borrowed))
    borrowed[:] = 99.0
    assert y.grad.tolist() == [1.0, 2.0]


def test_gradients_of_two_leaves_never_share_what_can_be_written() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    seed = wg.tensor([1.0, 1.0], dtype="float64")
    (x + y).backward(seed)
    x.grad[0] = 7.0
    seed[1] = 9.0
    assert (x.grad.tolist(), y.grad.tolist()) == ([7.0, 1.0], [1.0, 1.0])


def test_only_the_inputs_asked_for_are_filled() -> None:
    x, y = leaf(2.0), leaf(3.0)
    h = x * y
    z = h * x
    z.backward(inputs=[x, h])
    assert (x.grad.item(), h.grad.item(), y.grad) == (12.0, 2.0, None)
    (x * y).backward(inputs=y)
    assert (x.grad.item(), y.grad.item()) == (12.0, 2.0)


def test_a_detached_branch_is_a_constant() -> None:
    x = leaf(3.0)
    (x * x.detach()).backward()
    assert x.grad.item() == 3.0


def test_backward_twice_through_a_retained_tape() -> None:
    x = leaf(3.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12.0


def test_many_outputs_share_one_sweep() -> None:
    x = leaf(3.0)
    h = x * x
    calls: list[float] = []
    h.register_hook(lambda g: calls.append(g.item()))
    wg.autograd.backward([h * 2.0, h * 5.0])
    assert (calls, x.grad.item()) == ([7.0], 42.0)


def test_what_has_stopped_requiring_grad_gets_none() -> None:
    x, y = leaf(2.0), leaf(3.0)
    z = x * y
    x.requires_grad_(False)
    z.backward()
    assert (x.grad, y.grad.item()) == (None, 2.0)


# Double backward


def test_create_graph_accumulates_what_can_be_differentiated() -> None:
    x = leaf(2.0)
    (x * x * x).backward(create_graph=True)
    first, x.grad = grad_of(x), None
    first.backward(create_graph=True)
    second, x.grad = grad_of(x), None
    second.backward()
    assert (first.item(), second.item(), grad_of(x).item()) == (12.0, 12.0, 6.0)


def test_a_tracked_grad_is_added_to_without_being_tracked_further() -> None:
    x = leaf(2.0)
    (x * x).backward(create_graph=True)
    assert x.grad.requires_grad
    (x * x).backward()
    assert (x.grad.item(), x.grad.requires_grad) == (8.0, False)


# Hooks


def test_hooks_run_in_order_replace_and_can_be_removed() -> None:
    x = leaf(3.0)
    seen: list[float] = []
    first = x.register_hook(lambda g: g * 10.0)
    second = x.register_hook(lambda g: seen.append(g.item()))
    (2.0 * x).backward()
    assert (seen, x.grad.item()) == ([20.0], 20.0)
    first.remove()
    first.remove()
    x.grad = None
    (2.0 * x).backward()
    assert (seen, grad_of(x).item()) == ([20.0, 2.0], 2.0)
    with second:
        pass
    (2.0 * x).backward()
    assert len(seen) == 2


def test_a_hook_on_an_inner_value_changes_what_flows_on() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3.0
    h.register_hook(lambda g: wg.zeros_like(g))
    (h.sum() + x.sum()).backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_a_hook_may_return_an_array_and_sees_the_whole_cotangent_once() -> None:
    x = leaf(1.0, 2.0)
    h = x * 1.0
    seen: list[Any] = []

    def hook(gradient: Any) -> Any:
        seen.append(gradient.tolist())
        return np.array([5.0, 6.0])

    h.register_hook(hook)
    (h * 2.0 + h * 3.0).sum().backward()
    assert (seen, x.grad.tolist()) == ([[5.0, 5.0]], [5.0, 6.0])


def test_hooks_on_reads_of_slices_see_dense_cotangents() -> None:
    x = leaf(1.0, 2.0, 3.0)
    h = x * 1.0
    seen: list[Any] = []
    h.register_hook(lambda g: seen.append(g.tolist()))
    h[1].backward()
    assert (seen, x.grad.tolist()) == ([[0.0, 1.0, 0.0]], [0.0, 1.0, 0.0])


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros(2, np.float32)])
def test_a_hook_may_not_change_shape_or_dtype(wrong: Any) -> None:
    x, line = leaf(1.0, 2.0), here()
    x.register_hook(lambda g: wrong)
    with pytest.raises(GradientError, match="hook returned a gradient of shape") as caught:
        (x * x).sum().backward()
    assert f"{__file__}:" in str(caught.value) and line.rpartition(":")[0] in str(caught.value)
    assert x.grad is None


def test_a_hook_computes_off_the_tape_unless_the_graph_is_created() -> None:
    x = leaf(3.0)
    seen: list[bool] = []
    h = x * x
    h.register_hook(lambda g: seen.append((g * x).requires_grad))
    y = h * x
    y.backward(retain_graph=True)
    y.backward(create_graph=True)
    assert seen == [False, True]


def test_a_hook_that_replaces_is_differentiated_too() -> None:
    x = leaf(3.0)
    h = x * x
    h.register_hook(lambda g: g * x)
    (gradient,) = wg.autograd.grad(h * 1.0, x, create_graph=True)
    assert gradient.item() == 3.0 * 2.0 * 3.0  # x * 2 x
    assert wg.autograd.grad(gradient, x)[0].item() == 12.0  # 4 x


def test_retain_grad_fills_in_after_all_hooks() -> None:
    x = leaf(3.0)
    h = x * x
    h.retain_grad()
    h.register_hook(lambda g: g * 10.0)
    (h * 2.0).backward(retain_graph=True)
    assert (h.grad.item(), x.grad.item()) == (20.0, 120.0)
    (h * 2.0).backward()
    assert h.grad.item() == 40.0


def test_retain_grad_keeps_nothing_alive_and_is_not_for_grad() -> None:
    x = leaf(3.0)
    h = x * x
    h.retain_grad()
    y = h * 2.0
    assert wg.autograd.grad(y, x, retain_graph=True)[0].item() == 12.0
    assert h.grad is None and x.grad is None
    del h
    y.backward()
    assert grad_of(x).item() == 12.0


def test_post_accumulate_hooks_run_when_all_gradients_are_there() -> None:
    x, y = leaf(2.0), leaf(3.0)
    seen: list[Any] = []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append((t is x, x.grad.item(), y.grad.item())))
    (x * y).backward()
    handle.remove()
    (x * y).backward()
    assert seen == [(True, 3.0, 2.0)]
    with pytest.raises(GradientError, match="leaves"):
        (x * y).register_post_accumulate_grad_hook(lambda t: None)


def test_a_post_accumulate_hook_may_take_the_step() -> None:
    x = leaf(2.0)

    def step(t: Any) -> None:
        with wg.no_grad():
            t -= 0.5 * t.grad
        t.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * x).backward()
    (x * x).backward()
    assert (x.item(), x.grad, x.is_leaf) == (0.0, None, True)


@pytest.mark.parametrize("place", ["leaf", "inner"])
def test_a_hook_that_raises_leaves_every_grad_as_it_was(place: str) -> None:
    x, y, z = leaf(2.0), leaf(3.0), leaf(5.0)
    y.grad = wg.tensor(7.0, dtype="float64")
    h = x * y
    h.retain_grad()
    out = h * z

    def fail(gradient: Any) -> None:
        raise ZeroDivisionError

    (x if place == "leaf" else h).register_hook(fail)
    with pytest.raises(ZeroDivisionError):
        out.backward()
    assert (x.grad, y.grad.item(), z.grad, h.grad) == (None, 7.0, None, None)
    assert wg.is_grad_enabled()


def test_a_sweep_inside_of_a_hook_keeps_to_itself() -> None:
    x, w = leaf(2.0), leaf(3.0)
    h = x * x
    h.retain_grad()

    def hook(gradient: Any) -> None:
        with wg.enable_grad():
            inner = w * w
        inner.backward()

    h.register_hook(hook)
    (h * 2.0).backward()
    assert (x.grad.item(), w.grad.item(), h.grad.item()) == (8.0, 6.0, 2.0)


# Errors


def test_backward_a_second_time_through_a_freed_tape() -> None:
    x = leaf(3.0)
    y, line = x * x, here()
    y.backward()
    with pytest.raises(GradientError, match=r"second time.*already freed.*retain_graph=True") as caught:
        (y * 2.0).backward()
    assert line in str(caught.value)
    assert x.grad.item() == 6.0


def test_a_non_scalar_needs_a_seed() -> None:
    x = leaf(1.0, 2.0)
    y, line = x * x, here()
    with pytest.raises(GradientError, match=r"shape \(2,\).*not a scalar.*\.sum\(\)") as caught:
        y.backward()
    assert line in str(caught.value)
    assert x.grad is None


def test_one_element_counts_as_a_scalar() -> None:
    x = wg.tensor([[3.0]], requires_grad=True)
    (x * x).backward()
    assert x.grad.tolist() == [[6.0]]


def test_a_seed_of_the_wrong_shape_or_dtype() -> None:
    x = leaf(1.0, 2.0)
    y, line = x * x, here()
    with pytest.raises(ShapeError, match=r"seed has shape \(3,\).*has shape \(2,\)") as caught:
        y.backward(np.ones(3))
    assert line in str(caught.value)
    with pytest.raises(DTypeError, match=r"seed has dtype float32.*dtype float64.*astype\('float64'\)") as caught:
        y.backward(wg.tensor([1.0, 2.0]))
    assert line in str(caught.value)
    assert x.grad is None


def test_an_untracked_tensor_cannot_be_swept() -> None:
    with pytest.raises(GradientError, match=r"not on the tape.*requires_grad=True"):
        wg.tensor(1.0).backward()
    x = leaf(1.0)
    with wg.no_grad():
        y = x * x
    with pytest.raises(GradientError, match=re.escape("no_grad()")):
        y.backward()


def test_integers_cannot_require_grad() -> None:
    with pytest.raises(DTypeError, match="integers cannot be perturbed"):
        wg.tensor([1, 2], requires_grad=True)


def test_inputs_must_be_tracked_and_named() -> None:
    x = leaf(1.0)
    y = x * x
    with pytest.raises(GradientError, match=r"inputs\[1\].*not on the tape"):
        y.backward(inputs=[x, wg.tensor(1.0)])
    with pytest.raises(GradientError, match="inputs is empty"):
        y.backward(inputs=[])
    with pytest.raises(GradientError, match=r"inputs\[0\] is of type float"):
        y.backward(inputs=[1.0])  # type: ignore[list-item]


def test_the_line_named_is_the_users_also_in_deep_calls() -> None:
    def helper(t: Any) -> Any:
        return wg.sum(t * t, axis=0), here()

    y, line = helper(wg.tensor([[1.0, 2.0]], requires_grad=True))
    with pytest.raises(GradientError) as caught:
        y.backward()
    assert line in str(caught.value)
