"""`wg.autograd.grad` and `wg.autograd.backward`: values, nesting, what is swept and what is left alone, errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import here
from wengert.core.tape import FREED
from wengert.errors import DTypeError, GradientError, ShapeError, StructureError


def leaf(*values: float) -> Any:
    return wg.tensor(list(values) if len(values) != 1 else values[0], dtype="float64", requires_grad=True)


def item(gradients: Any) -> Any:
    return [g if g is None else g.item() for g in gradients]


# Values


def test_with_respect_to_leaves_and_inner_values_at_once() -> None:
    x, y = leaf(2.0), leaf(3.0)
    h = x * y
    z = h * h * x
    assert item(wg.autograd.grad(z, [x, h, y])) == [3 * 36.0, 24.0, 48.0]
    assert (x.grad, y.grad, h.grad) == (None, None, None)


def test_the_output_itself_and_an_input_twice() -> None:
    x = leaf(2.0)
    y = x * x
    assert item(wg.autograd.grad(y, (y, x, x))) == [1.0, 4.0, 4.0]


def test_several_outputs_are_added_up() -> None:
    x = leaf(1.0, 2.0)
    (g,) = wg.autograd.grad([x * 2.0, (x * x).sum()], x, grad_outputs=[np.array([1.0, 10.0]), None])
    assert g.tolist() == [2.0 + 2.0, 20.0 + 4.0]


def test_the_result_is_nested_as_pytorch_or_as_the_inputs_are() -> None:
    w, b = leaf(2.0), leaf(3.0)

    def ask(inputs: Any) -> Any:
        return wg.autograd.grad(w * w * b, inputs)

    assert item(ask(w)) == [12.0]
    assert type(ask([w, b])) is tuple and type(ask((w, b))) is tuple
    made = ask({"b": b, "layers": [w, (w,)]})
    assert list(made) == ["b", "layers"] and made["b"].item() == 4.0
    assert (made["layers"][0].item(), made["layers"][1][0].item()) == (12.0, 12.0)


def test_seeds_are_nested_as_the_outputs_are() -> None:
    x = leaf(1.0, 2.0)
    outputs = {"a": x * 2.0, "b": x * 3.0}
    seeds = {"b": wg.tensor([0.0, 1.0], dtype="float64"), "a": np.array([1.0, 0.0])}
    assert wg.autograd.grad(outputs, x, seeds)[0].tolist() == [2.0, 3.0]
    (g,) = wg.autograd.grad([x * 1.0, x * 2.0], x, (np.ones(2), np.ones(2)))
    assert g.tolist() == [3.0, 3.0]
    assert wg.autograd.grad(x * 1.0, x, [np.ones(2)])[0].tolist() == [1.0, 1.0]


def test_higher_orders() -> None:
    x = leaf(0.7)
    y = wg.sin(x)
    for expected in (np.cos(0.7), -np.sin(0.7), -np.cos(0.7), np.sin(0.7)):
        (y,) = wg.autograd.grad(y, x, create_graph=True)
        assert y.item() == pytest.approx(expected, rel=1e-14)


def test_second_order_where_only_one_factor_was_asked_for() -> None:
    x, w = leaf(2.0), leaf(5.0)
    (g,) = wg.autograd.grad(w * w * x, x, create_graph=True)
    assert item(wg.autograd.grad(g, w)) == [10.0]
    h = w * x
    (g,) = wg.autograd.grad(h * h * w, h, create_graph=True)  # 2 h w
    assert item(wg.autograd.grad(g, [h, w, x])) == [10.0, 2 * 2.0 * 10.0, 2 * 25.0]


def test_the_gradient_of_a_gradient_with_respect_to_an_inner_value() -> None:
    x = leaf(0.3)
    h = x * 2.0
    y = wg.sin(h)
    (slope,) = wg.autograd.grad(y, h, create_graph=True)
    assert item(wg.autograd.grad(slope, [h, x])) == pytest.approx([-np.sin(0.6), -2 * np.sin(0.6)])


# What is swept


def test_branches_that_lead_to_no_input_are_not_pulled_nor_freed() -> None:
    x, w = leaf(2.0), leaf(3.0)
    pulled: list[str] = []
    branch = wg.sin(w)
    branch.register_hook(lambda g: pulled.append("branch"))
    w.register_hook(lambda g: pulled.append("w"))
    y = x * branch
    assert item(wg.autograd.grad(y, x)) == [np.sin(3.0)]
    assert pulled == [] and branch._node.primitive is not FREED
    branch.backward()
    assert pulled == ["branch", "w"] and w.grad.item() == pytest.approx(np.cos(3.0))


def test_the_sweep_ends_at_the_inputs() -> None:
    x = leaf(2.0)
    calls: list[float] = []
    h = x * x
    x.register_hook(lambda g: calls.append(g.item()))
    assert item(wg.autograd.grad(h * h, h)) == [8.0]
    assert calls == []
    h.backward()  # what lies below h was left alone
    assert calls == [4.0]


def test_hooks_of_inputs_run_before_the_gradient_is_handed_out_and_once() -> None:
    x = leaf(2.0)
    h = x * x
    calls: list[float] = []

    def double(gradient: Any) -> Any:
        calls.append(gradient.item())
        return gradient * 2.0

    h.register_hook(double)
    x.register_hook(double)
    y = h * 3.0
    assert item(wg.autograd.grad(y, [h, x], retain_graph=True)) == [6.0, 48.0]
    assert calls == [3.0, 24.0]
    assert item(wg.autograd.grad(y, h)) == [6.0]


def test_freed_by_default_kept_on_demand() -> None:
    x = leaf(2.0)
    h = x * x
    y = h * h
    assert item(wg.autograd.grad(y, x, retain_graph=True)) == [32.0]
    assert item(wg.autograd.grad(y, x)) == [32.0]
    with pytest.raises(GradientError, match=r"second time.*already freed"):
        wg.autograd.grad(y, x)


def test_a_freed_value_is_still_an_input_of_what_comes_after() -> None:
    x = leaf(2.0)
    h = x * x
    (h * 1.0).backward()
    assert item(wg.autograd.grad(h * h, h)) == [8.0]
    with pytest.raises(GradientError, match="already freed"):
        wg.autograd.grad(h * h, [h, x])
    with pytest.raises(GradientError, match="already freed"):
        wg.autograd.grad(h * h, x, allow_unused=True)


def test_what_an_earlier_grad_freed_does_not_matter_off_the_way() -> None:
    x, w, v = leaf(2.0), leaf(3.0), leaf(5.0)
    trunk = wg.sin(x)
    assert item(wg.autograd.grad(trunk * w, [w, x])) == pytest.approx([np.sin(2.0), 3 * np.cos(2.0)])
    assert item(wg.autograd.grad(trunk * v, v)) == pytest.approx([np.sin(2.0)])


def test_backward_for_chosen_inputs_sweeps_no_further() -> None:
    x, w = leaf(2.0), leaf(3.0)
    calls: list[float] = []
    w.register_hook(lambda g: calls.append(g.item()))
    wg.autograd.backward(x * w, inputs=[x])
    assert (x.grad.item(), w.grad, calls) == (3.0, None, [])


def test_reads_of_slices_and_several_outputs_are_narrowed_too() -> None:
    x, w = leaf(1.0, 2.0, 3.0), leaf(4.0, 5.0, 6.0)
    y = (x[1:] * w[:-1]).sum() + w[0] * x[0]
    assert [g.tolist() for g in wg.autograd.grad(y, [x], retain_graph=True)] == [[4.0, 4.0, 5.0]]
    assert [g.tolist() for g in wg.autograd.grad(y, [w])] == [[3.0, 3.0, 0.0]]
    a, b = wg.tensor(np.eye(2), requires_grad=True), wg.tensor(np.ones((2, 2)), requires_grad=True)
    assert wg.autograd.grad((a @ b).sum(), b)[0].tolist() == [[1.0, 1.0], [1.0, 1.0]]


# Unused inputs


def test_an_unused_input_is_named_with_its_line() -> None:
    x = leaf(2.0)
    unused, line = leaf(1.0, 2.0), here()
    y, made = x * x, here()
    with pytest.raises(
        GradientError, match=r"1 of 2 inputs are not used.*inputs\['u'\] \(a leaf, shape \(2,\)"
    ) as caught:
        wg.autograd.grad(y, {"x": x, "u": unused})
    assert line.rpartition(":")[0] in str(caught.value) and made in str(caught.value)
    assert item(wg.autograd.grad(y, [x, unused], allow_unused=True)) == [4.0, None]  # the error had freed nothing


def test_an_unused_inner_value_is_named_too() -> None:
    x = leaf(2.0)
    h, line = x * x, here()
    with pytest.raises(GradientError, match=r"inputs\[0\] \(computed, shape \(\)") as caught:
        wg.autograd.grad(x * 2.0, [h, x])
    assert line in str(caught.value)


def test_unused_inputs_become_zeros_on_demand() -> None:
    x, u = leaf(2.0), wg.tensor([1.0, 2.0], requires_grad=True)
    made = wg.autograd.grad(x * x, [x, u], materialize_grads=True)
    assert made[0].item() == 4.0 and made[1].tolist() == [0.0, 0.0] and made[1].dtype == np.float32
    with pytest.raises(GradientError, match="allow_unused=False forbids"):
        wg.autograd.grad(x * x, [x, u], allow_unused=False, materialize_grads=True)


# Errors


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda x: wg.autograd.grad(x * x, wg.tensor(1.0)), GradientError, r"inputs.*not on the tape.*requires_grad_"),
        (lambda x: wg.autograd.grad(x * x, [x, 1.0]), GradientError, r"inputs\[1\] is of type float"),
        (lambda x: wg.autograd.grad(x * x, []), GradientError, "no inputs"),
        (lambda x: wg.autograd.grad([], x), GradientError, "no outputs"),
        (lambda x: wg.autograd.grad({"loss": 1.0}, x), DTypeError, r"outputs\['loss'\] is of type float, not a Tensor"),
        (lambda x: wg.autograd.grad(wg.tensor(1.0), x), GradientError, "not on the tape"),
        (lambda x: wg.autograd.grad(x * wg.ones(2), x), GradientError, r"not a scalar.*needs a seed"),
        (lambda x: wg.autograd.grad(x * x, x, np.ones(3)), ShapeError, r"seed has shape \(3,\)"),
        (lambda x: wg.autograd.grad(x * x, x, wg.tensor(1.0)), DTypeError, "seed has dtype float32"),
        (
            lambda x: wg.autograd.grad([x * x, x], x, [np.ones(())]),
            StructureError,
            "grad_outputs is a list of 1, where a list of 2 is expected",
        ),
        (
            lambda x: wg.autograd.grad({"a": x * x}, x, {"b": np.ones(())}),
            StructureError,
            "grad_outputs lacks the key 'a' and has an unknown key 'b'",
        ),
        (lambda x: wg.autograd.backward([x * x], [None, None]), StructureError, "grad_tensors"),
    ],
)
def test_errors_say_what_is_wrong(ask: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    x = leaf(2.0)
    with pytest.raises(error, match=message) as caught:
        ask(x)
    assert re.match(r"autograd\.(grad|backward): ", str(caught.value))
    assert x.grad is None
