"""`GradientTape`: TensorFlow's rules on this engine's Nodes."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import here
from wengert.core.tape import FREED
from wengert.errors import DTypeError, GradientError, ShapeError, StructureError


def constant(*values: float) -> Any:
    return wg.tensor(list(values) if len(values) != 1 else values[0], dtype="float64")


def variable(*values: float) -> Any:
    return constant(*values).requires_grad_()


# What is watched


def test_a_constant_has_to_be_watched() -> None:
    x, c = constant(3.0), constant(2.0)
    with wg.GradientTape() as tape:
        tape.watch(x)
        y = x * x * c
    assert [g if g is None else g.item() for g in tape.gradient(y, [x, c])] == [12.0, None]


def test_what_requires_grad_is_watched_by_itself() -> None:
    w = variable(3.0)
    with wg.GradientTape() as tape:
        y = w * w
    assert tape.gradient(y, w).item() == 6.0
    assert w.grad is None and w.requires_grad


def test_a_watched_constant_is_on_the_tape_only_for_the_block() -> None:
    x = constant(3.0)
    with wg.GradientTape() as tape:
        tape.watch(x)
        assert x.requires_grad
        y = x * x
    assert not x.requires_grad and not (x * x).requires_grad
    assert tape.gradient(y, x).item() == 6.0


def test_the_leaf_stays_until_the_last_tape_has_stopped() -> None:
    x = constant(3.0)
    first, second = wg.GradientTape(), wg.GradientTape()
    with first:
        first.watch(x)
        second.__enter__()
        second.watch(x)
        y = x * x
    assert x.requires_grad
    z = x * x * x
    second.__exit__(None, None, None)
    assert not x.requires_grad
    assert (first.gradient(y, x).item(), second.gradient(z, x).item()) == (6.0, 27.0)


def test_exceptions_take_the_leaf_off_too() -> None:
    x = constant(3.0)
    with pytest.raises(ZeroDivisionError), wg.GradientTape() as tape:
        tape.watch(x)
        raise ZeroDivisionError
    assert not x.requires_grad and wg.is_grad_enabled()


def test_watching_nested_and_inner_values() -> None:
    parameters = {"w": constant(2.0), "b": [constant(5.0)]}
    with wg.GradientTape() as tape:
        tape.watch(parameters)
        h = parameters["w"] * parameters["b"][0]
        tape.watch(h)
        y = h * h
    gradients = tape.gradient(y, {"h": h, "p": parameters})
    assert gradients["h"].item() == 20.0
    assert (gradients["p"]["w"].item(), gradients["p"]["b"][0].item()) == (100.0, 40.0)


def test_watching_an_array_in_disguise_takes_a_copy() -> None:
    array = np.array([1.0, 2.0])
    x = wg.asarray(array)
    with wg.GradientTape() as tape:
        tape.watch(x)
        y = (x * x).sum()
        array[:] = 99.0
    assert tape.gradient(y, x).tolist() == [2.0, 4.0]


def test_a_watched_tensor_that_is_written_to_keeps_the_value_it_was_watched_with() -> None:
    x = constant(1.0, 2.0)
    with wg.GradientTape() as tape:
        tape.watch(x)
        y = (x * x).sum()
        x[0] = 10.0
        z = y + (x * x).sum()
    assert tape.gradient(z, x).tolist() == [2.0, 8.0]


def test_nothing_is_watched_by_itself_if_told_so() -> None:
    w, v = variable(3.0), variable(5.0)
    with wg.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
        tape.watch(w)
        h = w * v
        y = h * h
    assert [g.item() for g in tape.gradient(y, [w, h])] == [150.0, 30.0]
    with pytest.raises(
        GradientError, match=r"the source\[1\].*is not watched.*watch_accessed_variables=False"
    ) as caught:
        tape.gradient(y, [w, v])
    assert f"{__file__}:" in str(caught.value)
    with pytest.raises(GradientError, match="is not watched"):
        tape.gradient(y, constant(1.0))


def test_watched_variables() -> None:
    w, v, unused, c, before = variable(1.0), variable(2.0), variable(3.0), constant(4.0), variable(5.0)
    kept = before * 2.0
    with wg.GradientTape() as tape:
        tape.watch(c)
        y = w * v * c
    after = unused * 2.0
    found = tape.watched_variables()
    assert len(found) == 3 and {id(t) for t in found} == {id(w), id(v), id(c)}
    assert [g.item() for g in tape.gradient(y, found)] == [2.0 * 1.0, 2.0 * 4.0, 1.0 * 4.0]
    with wg.GradientTape(watch_accessed_variables=False) as explicit:
        explicit.watch(v)
        y = w * v
    assert [t is v for t in explicit.watched_variables()] == [True]
    del kept, after, y


# What is recorded


def test_what_was_computed_outside_of_the_block_is_a_constant() -> None:
    w = variable(3.0)
    before = w * w
    with wg.GradientTape(persistent=True) as tape:
        y = before * w
    after = y * w
    assert tape.gradient(y, w).item() == 9.0  # before counts as a constant
    assert tape.gradient(y, before).item() == 3.0
    assert tape.gradient(after, w) is None
    after.backward()
    assert w.grad.item() == 4 * 27.0  # for everybody else it was recorded


def test_stop_recording_is_for_one_tape() -> None:
    w = variable(3.0)
    with wg.GradientTape() as outer, wg.GradientTape(persistent=True) as tape:
        y = w * w
        with tape.stop_recording():
            z = y * w
        total = y + z
    assert tape.gradient(total, w).item() == 6.0
    assert tape.gradient(z, w) is None
    assert outer.gradient(total, w).item() == 6.0 + 27.0


def test_stop_recording_saves_the_record_if_nobody_else_wants_it() -> None:
    w = variable(3.0)
    with wg.GradientTape() as tape:
        with tape.stop_recording():
            assert not (w * w).requires_grad
            assert not wg.is_grad_enabled()
        y = w * w
    assert tape.gradient(y, w).item() == 6.0
    with pytest.raises(GradientError, match="is not recording"), tape.stop_recording():
        pass


def test_a_gradient_inside_of_stop_recording_ends_a_tape_that_is_not_persistent() -> None:
    x = constant(3.0)
    with wg.GradientTape() as tape:
        tape.watch(x)
        y = x * x
        with tape.stop_recording():
            assert tape.gradient(y, x).item() == 6.0
        with pytest.raises(GradientError, match="not recording"):
            tape.watch(x)
    assert not x.requires_grad


def test_reset_forgets_and_goes_on() -> None:
    x = constant(3.0)
    with wg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        tape.reset()
        assert not x.requires_grad
        tape.watch(x)
        z = x * x * x
    assert (tape.gradient(z, x).item(), tape.gradient(y, x)) == (27.0, None)
    tape.reset()
    with pytest.raises(GradientError, match="recorded nothing"):
        tape.gradient(z, x)


def test_a_tape_may_record_again() -> None:
    x = constant(3.0)
    tape = wg.GradientTape(persistent=True)
    with tape:
        tape.watch(x)
        y = x * x
    with tape:
        assert x.requires_grad
        z = y * x
    assert not x.requires_grad
    assert tape.gradient(z, x).item() == 27.0
    once = wg.GradientTape()
    for value in (1.0, 2.0):
        v = variable(value)
        with once:
            y = v * v
        assert once.gradient(y, v).item() == 2 * value


def test_nothing_is_recorded_under_no_grad() -> None:
    w = variable(3.0)
    with wg.GradientTape() as tape, wg.no_grad():
        y = w * w
    assert tape.gradient(y, w) is None


# Gradients


def test_sources_in_any_nesting() -> None:
    w, b, u = variable(2.0), variable(3.0), variable(1.0, 2.0)
    with wg.GradientTape(persistent=True) as tape:
        y = w * w * b
    assert type(tape.gradient(y, (w, b))) is tuple and type(tape.gradient(y, [w, b])) is list
    made = tape.gradient(y, {"a": [w, None], "u": u})
    assert made["a"][0].item() == 12.0 and made["a"][1] is None and made["u"] is None
    zero = tape.gradient(y, {"u": u}, unconnected_gradients="zero")["u"]
    assert zero.tolist() == [0.0, 0.0] and zero.dtype == np.float64
    assert tape.gradient(constant(1.0), w) is None
    assert tape.gradient(constant(1.0), w, unconnected_gradients="zero").item() == 0.0


def test_targets_are_added_up_and_need_not_be_scalars() -> None:
    x = variable(1.0, 2.0)
    with wg.GradientTape(persistent=True) as tape:
        y, z = x * x, x * 3.0
    assert tape.gradient(y, x).tolist() == [2.0, 4.0]
    assert tape.gradient([y, z], x).tolist() == [5.0, 7.0]
    assert tape.gradient({"y": y, "c": constant(1.0)}, x).tolist() == [2.0, 4.0]
    assert tape.gradient(y, x, output_gradients=np.array([1.0, 10.0])).tolist() == [2.0, 40.0]
    seeds = [constant(1.0, 0.0), None]
    assert tape.gradient([y, z], x, output_gradients=seeds).tolist() == [5.0, 3.0]
    assert tape.gradient(x, x).tolist() == [1.0, 1.0]


def test_only_a_persistent_tape_answers_twice() -> None:
    w = variable(3.0)
    with wg.GradientTape() as tape:
        y = w * w
    tape.gradient(y, w)
    assert y._node.primitive is FREED
    with pytest.raises(GradientError, match=r"one set of gradients already, by gradient\(\).*persistent=True"):
        tape.gradient(y, w)
    with pytest.raises(GradientError, match=r"jacobian: .*already"):
        tape.jacobian(y, w)
    with wg.GradientTape(persistent=True) as tape:
        y = w * w
    assert tape.gradient(y, w).item() == tape.gradient(y, w).item() == 6.0


def test_a_failed_gradient_spends_nothing() -> None:
    w = variable(3.0)
    with wg.GradientTape() as tape:
        y = w * w
    with pytest.raises(DTypeError):
        tape.gradient(y, 3.0)
    assert tape.gradient(y, w).item() == 6.0


def test_two_tapes_of_the_same_block_do_not_free_what_the_other_needs() -> None:
    w = variable(3.0)
    with wg.GradientTape() as first, wg.GradientTape() as second:
        y = w * w
    assert (first.gradient(y, w).item(), second.gradient(y, w).item()) == (6.0, 6.0)
    assert y._node.primitive is FREED


def test_inside_of_its_block_a_gradient_stops_a_tape_that_is_not_persistent() -> None:
    w = variable(3.0)
    with wg.GradientTape() as tape:
        y = w * w
        slope = tape.gradient(y, w)
    assert (slope.item(), slope.requires_grad) == (6.0, False)
    with wg.GradientTape(persistent=True) as tape:
        y = w * w * w
        slope = tape.gradient(y, w)
    assert (slope.requires_grad, tape.gradient(slope, w).item()) == (True, 18.0)


def test_hooks_run_and_no_grad_is_touched() -> None:
    w = variable(3.0)
    w.register_hook(lambda g: g * 10.0)
    with wg.GradientTape() as tape:
        y = w * w
    assert (tape.gradient(y, w).item(), w.grad) == (60.0, None)


# Higher orders


def test_nested_tapes() -> None:
    x = constant(0.3)
    with wg.GradientTape() as third:
        third.watch(x)
        with wg.GradientTape() as second:
            second.watch(x)
            with wg.GradientTape() as first:
                first.watch(x)
                y = wg.sin(x)
            slope = first.gradient(y, x)
        curvature = second.gradient(slope, x)
    assert slope.item() == pytest.approx(np.cos(0.3))
    assert curvature.item() == pytest.approx(-np.sin(0.3))
    assert third.gradient(curvature, x).item() == pytest.approx(-np.cos(0.3))
    assert not x.requires_grad


def test_a_gradient_taken_in_the_open_is_a_constant() -> None:
    w = variable(3.0)
    with wg.GradientTape() as tape:
        y = w * w
    assert not tape.gradient(y, w).requires_grad


def test_a_tape_inside_of_a_transformed_function_is_seen_through() -> None:
    def slope(x: Any) -> Any:
        with wg.GradientTape() as tape:
            tape.watch(x)
            y = x * x * x
        return tape.gradient(y, x)

    assert wg.grad(slope)(2.0).item() == 12.0
    assert wg.grad(wg.grad(slope))(2.0).item() == 6.0


# Jacobians


def test_jacobian() -> None:
    x, a = constant(1.0, 2.0, 3.0), np.arange(6.0).reshape(2, 3)
    with wg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = wg.asarray(a) @ x
        z = x[0] * x[1]
    assert tape.jacobian(y, x).tolist() == a.tolist()
    assert tape.jacobian(z, {"x": x})["x"].tolist() == [2.0, 1.0, 0.0]
    u = variable(1.0)
    assert tape.jacobian(y, [x, u])[1] is None
    assert tape.jacobian(y, u, unconnected_gradients="zero").tolist() == [0.0, 0.0]
    assert tape.jacobian(constant(1.0, 1.0), x) is None


def test_jacobian_of_matrices_by_matrices() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 2))
    x = wg.tensor(a, requires_grad=True)
    with wg.GradientTape() as tape:
        y = x @ wg.tensor(b)
    made = tape.jacobian(y, x)
    assert made.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(made.numpy(), np.einsum("ik,lj->ijkl", np.eye(2), b))
    assert y._node.primitive is FREED  # the last sweep freed what the others kept


def test_jacobian_of_nothing() -> None:
    x = wg.tensor(np.zeros(3), requires_grad=True)
    with wg.GradientTape(persistent=True) as tape:
        y = x[:0] * 2.0
    assert tape.jacobian(y, x, unconnected_gradients="zero").shape == (0, 3)


def test_batch_jacobian() -> None:
    rng = np.random.default_rng(0)
    x = wg.tensor(rng.normal(size=(4, 3)))
    a = rng.normal(size=(3, 2))
    with wg.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = wg.sin(x) @ wg.tensor(a)
    made = tape.batch_jacobian(y, x)
    assert made.shape == (4, 2, 3)
    np.testing.assert_allclose(made.numpy(), np.cos(x.numpy())[:, None, :] * a.T)
    full = tape.jacobian(y, x).numpy()
    np.testing.assert_allclose(made.numpy(), np.stack([full[i, :, i] for i in range(4)]))
    u = variable(*[1.0] * 4)
    assert tape.batch_jacobian(y, u) is None
    assert tape.batch_jacobian(y, u, unconnected_gradients="zero").shape == (4, 2)


def test_hessian_by_a_jacobian_of_a_gradient() -> None:
    x = constant(1.0, 2.0)
    with wg.GradientTape() as outer:
        outer.watch(x)
        with wg.GradientTape() as inner:
            inner.watch(x)
            y = x[0] * x[0] * x[1]
        slope = inner.gradient(y, x)
    assert outer.jacobian(slope, x).tolist() == [[4.0, 2.0], [2.0, 0.0]]


def test_a_jacobian_is_recorded_for_an_outer_tape() -> None:
    x = constant(1.0, 2.0)
    with wg.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with wg.GradientTape(persistent=True) as inner:
            inner.watch(x)
            y = x * x * x
            batch = wg.reshape(y, (2, 1))
        jacobian = inner.jacobian(y, x)
        diagonal = inner.batch_jacobian(batch, x)
        total = jacobian.sum() + diagonal.sum()
    assert jacobian.tolist() == [[3.0, 0.0], [0.0, 12.0]]
    assert diagonal.tolist() == [[3.0], [12.0]]
    assert outer.gradient(total, x).tolist() == [12.0, 24.0]


# Errors


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda t, y, x: t.gradient(3.0, x), DTypeError, "gradient: the target is of type float, not a Tensor"),
        (lambda t, y, x: t.gradient([y, 3], x), DTypeError, r"the target\[1\] is of type int"),
        (lambda t, y, x: t.gradient(y, [x, {"a": "b"}]), DTypeError, r"the source\[1\]\['a'\] is of type str"),
        (lambda t, y, x: t.gradient(wg.tensor([1]), x), DTypeError, "dtype int64; integers and booleans"),
        (lambda t, y, x: t.gradient(y, x, output_gradients=np.ones(3)), ShapeError, r"seed has shape \(3,\)"),
        (
            lambda t, y, x: t.gradient([y, y], x, output_gradients=[y]),
            StructureError,
            "output_gradients is a list of 1",
        ),
        (lambda t, y, x: t.gradient(y, x, unconnected_gradients="nil"), ValueError, "'none' or 'zero', not 'nil'"),
        (lambda t, y, x: t.jacobian([y], x), DTypeError, "jacobian: the target is of type list"),
        (lambda t, y, x: t.batch_jacobian(y, [x]), DTypeError, "batch_jacobian: the source is of type list"),
        (lambda t, y, x: t.batch_jacobian(y.sum(), x), ShapeError, r"shapes \(\) and \(2,\)"),
        (lambda t, y, x: t.batch_jacobian(y[:1], x), ShapeError, "same number of examples"),
        (lambda t, y, x: t.watch(x), GradientError, "watch: this tape is not recording"),
    ],
)
def test_errors_say_what_is_wrong(ask: Callable[[Any, Any, Any], Any], error: type[Exception], message: str) -> None:
    x = variable(1.0, 2.0)
    with wg.GradientTape(persistent=True) as tape:
        y = x * x
    with pytest.raises(error, match=message):
        ask(tape, y, x)


def test_errors_of_a_recording_tape() -> None:
    x = variable(1.0, 2.0)
    with wg.GradientTape(persistent=True) as tape:
        y = x * x
        with pytest.raises(GradientError, match=re.escape("jacobian: this tape is still recording")):
            tape.jacobian(y, x)
        with pytest.raises(GradientError, match=re.escape("batch_jacobian: this tape is still recording")):
            tape.batch_jacobian(y, x)
        with tape.stop_recording():
            assert tape.jacobian(y, x).tolist() == [[2.0, 0.0], [0.0, 4.0]]
        with pytest.raises(GradientError, match="is recording already"), tape:
            pass
        with pytest.raises(DTypeError, match=r"the argument\[1\] is of type float; only Tensors"):
            tape.watch([x, 2.0])
        with pytest.raises(DTypeError, match="integers cannot be perturbed"):
            tape.watch(wg.tensor([1, 2]))
    assert tape.gradient(y, x).tolist() == [2.0, 4.0]
    with pytest.raises(GradientError, match="recorded nothing"):
        wg.GradientTape().gradient(y, x)


def test_a_freed_value_is_named_with_its_line() -> None:
    w = variable(3.0)
    with wg.GradientTape() as tape:
        y, line = w * w, here()
    y.backward()
    with pytest.raises(GradientError, match="already freed") as caught:
        tape.gradient(y, w)
    assert line in str(caught.value)


# Threads and memory


def test_tapes_of_two_threads_share_a_constant() -> None:
    x = constant(3.0)
    barrier = threading.Barrier(2, timeout=30)
    found: list[float] = []

    def run(rounds: int) -> None:
        with wg.GradientTape() as tape:
            tape.watch(x)
            barrier.wait()
            y = x * x
            for _ in range(rounds):
                y = y * x
            barrier.wait()
        found.append(tape.gradient(y, x).item())

    threads = [threading.Thread(target=run, args=(rounds,)) for rounds in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [6.0, 27.0] and not x.requires_grad


def test_a_tape_dies_with_its_last_reference() -> None:
    gc.collect()
    gc.disable()
    try:
        x = constant(1.0, 2.0)
        with wg.GradientTape() as outer, wg.GradientTape() as tape:
            tape.watch(x)
            y = wg.sin(x)
        reference, node = weakref.ref(tape), weakref.ref(y._node)
        del y, tape
        assert (reference(), node()) == (None, None)
        del outer
    finally:
        gc.enable()
