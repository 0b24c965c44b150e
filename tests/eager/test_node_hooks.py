"""Hooks on Nodes, before and after, and hooks on several gradients at once."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here
from wengert.core.primitive import REGISTRY
from wengert.declare import Sample, opaque
from wengert.errors import GradientError


def leaf(*values: float) -> Any:
    return wg.tensor(list(values) if len(values) != 1 else values[0], dtype="float64", requires_grad=True)


def node_of(tensor: Any) -> Any:
    return tensor.grad_fn


# The handle


def test_the_handle() -> None:
    x = leaf(1.0, 2.0)
    h, line = x * 3.0, here()
    y = wg.sin(h)
    assert x.grad_fn is None and wg.tensor(1.0).grad_fn is None
    node = node_of(y)
    assert node == y.grad_fn != h.grad_fn and len({node, y.grad_fn, h.grad_fn}) == 2
    assert node.inputs == (h.grad_fn,) and node_of(h).inputs == (None, None)
    assert node_of(h).made_at == line and line in repr(node_of(h)) and "multiply" in repr(node_of(h))
    assert node != 3
    y.sum().backward()
    assert node.name == "freed" and node.inputs == ()
    with pytest.raises(GradientError, match=f"freed here .*{re.escape(node.made_at)}"):
        node.register_hook(print)


# Before


def test_a_prehook_sees_and_replaces_the_gradient_of_the_output() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3.0
    seen: list[Any] = []

    def hook(grad_outputs: Any) -> Any:
        seen.append([g.tolist() for g in grad_outputs])
        return (grad_outputs[0] * 10,)

    handle = node_of(h).register_prehook(hook)
    y = wg.sum(h * wg.tensor([1.0, 5.0], dtype="float64"))
    y.backward(retain_graph=True)
    assert seen == [[[1.0, 5.0]]] and grad_of(x).tolist() == [30.0, 150.0]
    handle.remove()
    handle.remove()
    y.backward()
    assert len(seen) == 1 and grad_of(x).tolist() == [33.0, 165.0]


def test_hooks_of_the_value_come_first_then_prehooks_in_order() -> None:
    order: list[str] = []

    def note(word: str) -> Callable[..., None]:
        return lambda *_gradients: order.append(word)

    x = leaf(1.0)
    h = wg.sin(x)
    node_of(h).register_hook(note("after"))
    node_of(h).register_prehook(note("first"))
    h.register_hook(note("value"))
    node_of(h).register_prehook(note("second"))
    h.retain_grad()
    (h * 2.0).backward()
    assert order == ["value", "first", "second", "after"] and grad_of(h).item() == 2.0


def test_a_handle_is_a_context() -> None:
    x = leaf(1.0)
    h = x * 1.0
    with node_of(h).register_prehook(lambda grads: (grads[0] * 2,)):
        h.backward(retain_graph=True)
    h.backward()
    assert grad_of(x).item() == 3.0


# After


def test_a_hook_sees_and_replaces_the_gradients_of_the_inputs() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0)
    y = x * w
    seen: list[Any] = []

    def hook(grad_inputs: Any, grad_outputs: Any) -> Any:
        seen.append(([g.tolist() for g in grad_inputs], [g.tolist() for g in grad_outputs]))
        return (None, grad_inputs[1] + 100)

    node_of(y).register_hook(hook)
    y.backward(wg.ones(2, dtype="float64"))
    assert seen == [([[3.0, 3.0], 3.0], [[1.0, 1.0]])]
    assert grad_of(x).tolist() == [3.0, 3.0] and grad_of(w).item() == 103.0


def test_inputs_that_are_not_wanted_are_none() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0)
    y, z = x * w, x * 2.0
    seen: list[Any] = []
    node_of(y).register_hook(lambda ins, outs: seen.append([g is None for g in ins]))
    node_of(z).register_hook(lambda ins, outs: seen.append([g is None for g in ins]))
    wg.autograd.grad((y + z).sum(), w, retain_graph=True)
    wg.autograd.grad((y + z).sum(), [w, x])
    assert seen == [[True, False], [False, True], [False, False]]


def test_sparse_gradients_are_shown_whole() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x[1:]
    seen: list[Any] = []
    node_of(y).register_hook(lambda ins, outs: seen.append(ins[0].tolist()))
    (y * y).sum().backward()
    assert seen == [[0.0, 4.0, 6.0]] and grad_of(x).tolist() == [0.0, 4.0, 6.0]


def test_differentiable_sweeps() -> None:
    x = leaf(1.0, 2.0)
    h = x * x
    y = wg.sum(h * h)
    before = node_of(h).register_prehook(lambda grads: (grads[0] * grads[0],))
    with before, node_of(h).register_hook(lambda ins, outs: (ins[0] * 2.0, None)):
        (first,) = wg.autograd.grad(y, x, create_graph=True)
    # The cotangent 2 h becomes 4 h^2; the two inputs get 4 h^2 x each, the first twice that.
    np.testing.assert_allclose(first.detach().numpy(), 12 * np.array([1.0, 2.0]) ** 5)
    (second,) = wg.autograd.grad(first.sum(), x)
    np.testing.assert_allclose(second.numpy(), 60 * np.array([1.0, 2.0]) ** 4)


@pytest.fixture(scope="module")
def both() -> Iterator[Any]:
    """Declare an operation that returns (2 x, x * x), and take it off the registry again."""

    @opaque(samples=[Sample((2,))], multiple=True)
    def double_and_square(xp: Any, x: Any) -> Any:
        return x + x, x * x

    @double_and_square.vjp
    def double_and_square_vjp(out_bar: Any, x: Any) -> Any:
        return 2.0 * out_bar[0] + 2.0 * x * out_bar[1]

    @double_and_square.jvp
    def double_and_square_jvp(x: Any, x_dot: Any) -> Any:
        return 2.0 * x_dot, 2.0 * x * x_dot

    @double_and_square.batched
    def double_and_square_batched(xp: Any, x: Any) -> Any:
        return double_and_square(x)

    REGISTRY.seal()
    yield double_and_square
    del REGISTRY._primitives["double_and_square"]


@pytest.mark.parametrize("create_graph", [False, True])
def test_several_outputs(both: Any, create_graph: bool) -> None:
    x = leaf(1.0, 2.0)
    double, square = both(x)
    assert double.grad_fn == square.grad_fn and double.grad_fn.name == "double_and_square"
    seen: list[Any] = []

    def hook(grads: Any) -> Any:
        seen.append([None if g is None else g.tolist() for g in grads])
        return (None, None if grads[1] is None else grads[1] * 10)

    double.grad_fn.register_prehook(hook)
    square.sum().backward(retain_graph=True, create_graph=create_graph)
    (double + square).sum().backward()
    assert seen == [[None, [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]]
    assert grad_of(x).tolist() == [20.0 + 22.0, 40.0 + 42.0]


def test_together_with_packed_residuals() -> None:
    x = leaf(1.0, 2.0)
    with wg.saved_residuals_hooks(lambda t: t.tolist(), lambda p: wg.tensor(p, dtype="float64")):
        h = wg.sin(x)
    node_of(h).register_prehook(lambda grads: (grads[0] * 2,))
    h.register_hook(lambda g: g * 3)
    wg.checkpoint(lambda h: h * h * 0.5)(h).sum().backward()
    np.testing.assert_allclose(grad_of(x).numpy(), 6 * np.sin([1.0, 2.0]) * np.cos([1.0, 2.0]))


def test_zeros_from_a_prehook_win_over_an_infinite_derivative() -> None:
    x = leaf(0.0, 4.0)
    h = wg.sqrt(x)
    node_of(h).register_prehook(lambda grads: (grads[0] * wg.tensor([0.0, 1.0], dtype="float64"),))
    h.sum().backward()
    assert grad_of(x).tolist() == [0.0, 0.25]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((), "returned 0 gradients; it must return None or a tuple of 1"),
        ("text", "returned str"),
        ((wg.ones(3, dtype="float64"),), r"outputs\[0\], a gradient of shape \(3,\) and dtype float64"),
        ((wg.ones(2, dtype="float32"),), r"shape \(2,\) and dtype float32; it needs shape \(2,\) and dtype float64"),
    ],
)
def test_what_a_prehook_returns_is_checked(answer: Any, message: str) -> None:
    x = leaf(1.0, 2.0)
    h, line = wg.sin(x), here()
    node_of(h).register_prehook(lambda grads: answer)
    with pytest.raises(GradientError, match=message) as caught:
        h.sum().backward()
    assert "a prehook on sin" in str(caught.value) and line in str(caught.value) and x.grad is None


def test_what_a_hook_returns_is_checked() -> None:
    x = leaf(1.0, 2.0)
    h = x * 2.0
    answers: list[Any] = [(None, wg.tensor(1.0)), (wg.ones(3, dtype="float64"), None), (None,)]
    handle = node_of(h).register_hook(lambda ins, outs: answers.pop(0))
    for message in (r"inputs\[1\], where None is expected", r"inputs\[0\], a gradient of shape \(3,\)", "1 gradients"):
        with pytest.raises(GradientError, match=message):
            h.backward(wg.ones(2, dtype="float64"), retain_graph=True)
    handle.remove()


# Several gradients


def test_all_gradients_at_once_in_each_sweep() -> None:
    x, y = leaf(2.0), leaf(3.0)
    h = x * y
    seen: list[Any] = []
    handle = wg.autograd.register_multi_grad_hook([x, h, y], lambda grads: seen.append([g.item() for g in grads]))
    z = h * h
    z.backward(retain_graph=True)
    z.backward(retain_graph=True)
    assert seen == [[36.0, 12.0, 24.0]] * 2
    handle.remove()
    z.backward()
    assert len(seen) == 2


def test_all_is_called_as_soon_as_the_last_has_arrived() -> None:
    order: list[str] = []
    x = leaf(2.0)
    a = x * 2.0
    b = a * 3.0
    c = b * 4.0
    a.register_hook(lambda g: order.append("a"))
    wg.autograd.register_multi_grad_hook([b, c], lambda grads: order.append("both"))
    c.backward()
    assert order == ["both", "a"]


def test_what_is_not_met_is_none_at_the_end() -> None:
    x, y, z = leaf(2.0), leaf(3.0), leaf(4.0)
    seen: list[Any] = []
    wg.autograd.register_multi_grad_hook(
        (x, y), lambda grads: seen.append([None if g is None else g.item() for g in grads])
    )
    (x * z).backward()
    assert seen == [[4.0, None]]
    wg.autograd.grad(x * y, y)
    assert seen == [[4.0, None], [None, 2.0]]
    (z * z).backward()
    assert len(seen) == 2


def test_any_is_called_once_in_each_sweep() -> None:
    x, y = leaf(2.0), leaf(3.0)
    a, b = x * 2.0, y * 2.0
    seen: list[Any] = []
    with wg.autograd.register_multi_grad_hook([a, b], lambda g: seen.append(g.item()), mode="any"):
        for _ in range(2):
            (a * 5.0 + b * 7.0).backward(retain_graph=True)
        a.backward(retain_graph=True)
    (a * b).backward()
    assert len(seen) == 3 and seen[2] == 1.0 and set(seen[:2]) <= {5.0, 7.0}


def test_sweeps_of_several_threads_are_kept_apart() -> None:
    x, y = leaf(2.0), leaf(3.0)
    seen: list[Any] = []
    lock = threading.Lock()

    def note(grads: Any) -> None:
        with lock:
            seen.append([None if g is None else g.item() for g in grads])

    wg.autograd.register_multi_grad_hook([x, y], note)

    def work(scale: float) -> None:
        for _ in range(50):
            wg.autograd.grad(x * y * scale, [x, y])

    threads = [threading.Thread(target=work, args=(float(i),)) for i in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted([[3.0 * i, 2.0 * i] for i in range(1, 5) for _ in range(50)])


def test_a_sweep_inside_of_the_function_is_one_of_its_own() -> None:
    x, y = leaf(2.0), leaf(3.0)
    seen: list[Any] = []

    def nested(grads: Any) -> None:
        seen.append([g.item() for g in grads])
        if len(seen) < 3:
            with wg.enable_grad():
                wg.autograd.grad(x * y, [x, y])

    wg.autograd.register_multi_grad_hook([x, y], nested)
    (x * y * 10.0).backward()
    assert seen == [[30.0, 20.0], [3.0, 2.0], [3.0, 2.0]]


def test_an_error_in_the_function_leaves_no_gradient() -> None:
    x, y = leaf(2.0), leaf(3.0)

    def fail(grads: Any) -> None:
        raise ZeroDivisionError

    handle = wg.autograd.register_multi_grad_hook([x, y], fail)
    with pytest.raises(ZeroDivisionError):
        (x * 2.0).backward()
    assert x.grad is None
    handle.remove()
    (x * 2.0).backward()
    assert grad_of(x).item() == 2.0


def test_misuse_of_multi_hooks() -> None:
    with pytest.raises(ValueError, match="'all' or 'any', not 'some'"):
        wg.autograd.register_multi_grad_hook([leaf(1.0)], print, mode="some")  # type: ignore[arg-type]
    with pytest.raises(GradientError, match="no tensors"):
        wg.autograd.register_multi_grad_hook([], print)
    with pytest.raises(GradientError, match=r"tensors\[1\] .*not on the tape"):
        wg.autograd.register_multi_grad_hook([leaf(1.0), wg.tensor(1.0)], print)
