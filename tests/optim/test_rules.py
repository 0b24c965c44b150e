"""Every optimiser against its formula, for small parameters, large ones, and both at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.optim import references
from wengert.optim.bucket import PIECE, SMALL

CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.2}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-2, "weight_decay": 0.3}),
    ("Adam", {"lr": 0.1, "betas": (0.0, 0.5)}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.6), "amsgrad": True}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.5}),
    ("AdamW", {"lr": 0.1, "amsgrad": True, "betas": (0.8, 0.6)}),
    ("RMSprop", {"lr": 0.1}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.7, "eps": 1e-2, "weight_decay": 0.2}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.7, "centered": True, "eps": 1e-2}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.7, "centered": True, "momentum": 0.5, "eps": 1e-2}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.2, "initial_accumulator_value": 0.3}),
]
IDS = [f"{name}-{'-'.join(settings)}" for name, settings in CASES]
SHAPES = [(3, 4), (5,), (), (0,), (2, PIECE // 2 + 7)]
TOLERANCE = {"float32": 3e-6, "float64": 1e-12, "float16": 3e-3}


def make_parameters(dtype: str, shapes: list[tuple[int, ...]]) -> list[wg.Tensor]:
    rng = np.random.default_rng(0)
    return [wg.tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in shapes]


def set_gradients(parameters: list[wg.Tensor], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    gradients = []
    for parameter in parameters:
        values = np.asarray(rng.normal(size=parameter.shape)).astype(parameter.dtype)
        parameter.grad = wg.tensor(values)
        gradients.append(values)
    return gradients


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=IDS)
def test_five_steps_follow_the_formula(name: str, settings: dict[str, Any], dtype: str) -> None:
    parameters = make_parameters(dtype, SHAPES)
    expected = [getattr(references, name)(p.detach().numpy(), **settings) for p in parameters]
    optimizer = getattr(wg.optim, name)(parameters, **settings)
    for step in range(5):
        for reference, gradient in zip(expected, set_gradients(parameters, step)):
            reference.step(gradient)
        optimizer.step()
    for parameter, reference in zip(parameters, expected):
        assert parameter.dtype == dtype
        tolerance = TOLERANCE[dtype] * 5
        np.testing.assert_allclose(parameter.detach().numpy(), reference.value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "settings"), CASES, ids=IDS)
def test_how_parameters_are_grouped_changes_no_bit(name: str, settings: dict[str, Any]) -> None:
    together = make_parameters("float32", SHAPES)
    alone = make_parameters("float32", SHAPES)
    joint = getattr(wg.optim, name)(together, **settings)
    single = [getattr(wg.optim, name)([p], **settings) for p in alone]
    for step in range(4):
        set_gradients(together, step)
        set_gradients(alone, step)
        joint.step()
        for optimizer in single:
            optimizer.step()
    for one, other in zip(together, alone):
        assert one.detach().numpy().tobytes() == other.detach().numpy().tobytes()


def test_a_large_parameter_in_columns_is_written_too() -> None:
    columns = np.asfortranarray(np.random.default_rng(0).normal(size=(300, 300)))
    rows = np.ascontiguousarray(columns)
    assert columns.size > SMALL
    one, other = wg.tensor(columns, requires_grad=True), wg.tensor(rows, requires_grad=True)
    for parameter in (one, other):
        parameter.grad = wg.tensor(np.asfortranarray(rows * 2))
        wg.optim.Adam([parameter], lr=0.1).step()
    np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())
    assert not np.array_equal(one.detach().numpy(), columns)


def test_parameters_without_gradient_are_passed_over_and_keep_a_count_of_their_own() -> None:
    parameters = make_parameters("float64", [(3,), (2,), (4,)])
    expected = [references.Adam(p.detach().numpy(), lr=0.1) for p in parameters]
    optimizer = wg.optim.Adam(parameters, lr=0.1)
    present = [(0, 1, 2), (0, 2), (1,), (), (0, 1, 2)]
    for step, indices in enumerate(present):
        gradients = set_gradients(parameters, step)
        for i, parameter in enumerate(parameters):
            if i in indices:
                expected[i].step(gradients[i])
            else:
                parameter.grad = None
        optimizer.step()
    for parameter, reference in zip(parameters, expected):
        np.testing.assert_allclose(parameter.detach().numpy(), reference.value, rtol=1e-12)


def test_groups_have_settings_of_their_own_which_may_change() -> None:
    first, second = make_parameters("float64", [(3,), (2,)])
    expected = [references.SGD(first.detach().numpy(), lr=0.1), references.SGD(second.detach().numpy(), lr=0.5)]
    optimizer = wg.optim.SGD([{"params": [first]}, {"params": second, "lr": 0.5}], lr=0.1)
    for step in range(3):
        for reference, gradient in zip(expected, set_gradients([first, second], step)):
            reference.step(gradient)
        optimizer.step()
        optimizer.param_groups[1]["lr"] *= 0.5
        expected[1].lr *= 0.5  # type: ignore[attr-defined]
    np.testing.assert_allclose(first.detach().numpy(), expected[0].value, rtol=1e-12)
    np.testing.assert_allclose(second.detach().numpy(), expected[1].value, rtol=1e-12)


def test_betas_may_change_between_steps() -> None:
    (parameter,) = make_parameters("float64", [(6,)])
    expected = references.Adam(parameter.detach().numpy(), lr=0.1)
    optimizer = wg.optim.Adam([parameter], lr=0.1)
    for step, betas in enumerate([(0.9, 0.999), (0.5, 0.9), (0.8, 0.99)]):
        expected.betas = optimizer.param_groups[0]["betas"] = betas
        expected.step(set_gradients([parameter], step)[0])
        optimizer.step()
    np.testing.assert_allclose(parameter.detach().numpy(), expected.value, rtol=1e-12)


def test_momentum_may_be_switched_on_later() -> None:
    (parameter,) = make_parameters("float64", [(6,)])
    expected = references.SGD(parameter.detach().numpy(), lr=0.1)
    optimizer = wg.optim.SGD([parameter], lr=0.1)
    for step in range(4):
        if step == 2:
            optimizer.param_groups[0]["momentum"] = expected.momentum = 0.9
        expected.step(set_gradients([parameter], step)[0])
        optimizer.step()
    np.testing.assert_allclose(parameter.detach().numpy(), expected.value, rtol=1e-12)


def test_a_step_leaves_what_the_tape_keeps() -> None:
    weight = wg.tensor([1.0, 2.0], requires_grad=True)
    view = weight.reshape(2, 1)
    out = (weight * weight).sum()
    weight.grad = wg.tensor([1.0, 1.0])
    wg.optim.SGD([weight], lr=1.0).step()
    assert weight.tolist() == [0.0, 1.0]
    assert view.tolist() == [[0.0], [1.0]]
    weight.grad = None
    out.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0, 4.0]


def test_nan_gradients_are_allowed_and_spoil_their_own_elements_alone() -> None:
    weight = wg.tensor([1.0, 2.0], requires_grad=True)
    weight.grad = wg.tensor([float("nan"), 1.0])
    with np.errstate(all="raise"):
        wg.optim.Adam([weight], lr=0.5).step()
    assert np.isnan(weight.detach().numpy()[0])
    assert weight.detach().numpy()[1] == pytest.approx(1.5)


def test_zero_grad() -> None:
    parameters = make_parameters("float32", [(2,), (3,)])
    optimizer = wg.optim.SGD(parameters, lr=0.1)
    set_gradients(parameters, 0)
    optimizer.zero_grad(set_to_none=False)
    assert [p.grad.tolist() for p in parameters if p.grad is not None] == [[0.0, 0.0], [0.0, 0.0, 0.0]]
    optimizer.zero_grad()
    assert [p.grad for p in parameters] == [None, None]
