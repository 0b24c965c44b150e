"""What optimisers refuse, and that a step that fails changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.errors import CheckpointError, DTypeError, GradientError, ShapeError

LARGE = 20_000


def make_model() -> list[wg.Tensor]:
    parameters = [wg.tensor(np.full(shape, 0.5), requires_grad=True) for shape in [(2, 2), (LARGE,), (3,)]]
    for parameter in parameters:
        parameter.grad = wg.tensor(np.full(parameter.shape, 0.25))
    return parameters


def snapshot(optimizer: wg.optim.Optimizer, parameters: list[wg.Tensor]) -> Any:
    state = optimizer.state_dict()["state"]
    kept = {(n, k): np.asarray(v).tobytes() for n, entry in state.items() for k, v in entry.items()}
    return [p.detach().numpy().tobytes() for p in parameters], kept


class Lie:
    """Not a Tensor."""


BAD_GRADIENTS: list[tuple[Any, type[Exception], str]] = [
    (Lie(), DTypeError, "type Lie"),
    (np.zeros(3), DTypeError, "type ndarray"),
    (wg.zeros(4, "float64"), ShapeError, r"shape \(3,\) has a gradient of shape \(4,\)"),
    (wg.zeros(3, "float32"), DTypeError, "float32"),
]


@pytest.mark.parametrize("settled", [False, True], ids=["first step", "later step"])
@pytest.mark.parametrize(("bad", "error", "message"), BAD_GRADIENTS, ids=["object", "array", "shape", "dtype"])
def test_a_bad_gradient_changes_nothing(bad: Any, error: type[Exception], message: str, settled: bool) -> None:
    parameters = make_model()
    optimizer = wg.optim.Adam(parameters, lr=0.1, weight_decay=0.1)
    if settled:
        optimizer.step()
    before = snapshot(optimizer, parameters)
    good = parameters[-1].grad
    parameters[-1]._grad = bad
    with pytest.raises(error, match=message):
        optimizer.step()
    assert snapshot(optimizer, parameters) == before
    parameters[-1].grad = good
    optimizer.step()
    assert snapshot(optimizer, parameters) != before


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "fast", None])
def test_a_bad_hyperparameter_changes_nothing(value: Any) -> None:
    parameters = make_model()
    optimizer = wg.optim.SGD([{"params": parameters[:2]}, {"params": parameters[2:]}], lr=0.1, momentum=0.9)
    optimizer.step()
    before = snapshot(optimizer, parameters)
    optimizer.param_groups[1]["lr"] = value
    with pytest.raises(ValueError, match="SGD: lr"):
        optimizer.step()
    assert snapshot(optimizer, parameters) == before


def test_a_parameter_that_is_no_leaf_any_more_changes_nothing() -> None:
    parameters = make_model()
    optimizer = wg.optim.SGD(parameters, lr=0.1)
    optimizer.step()
    other = wg.tensor(2.0, "float64", requires_grad=True)
    parameters[-1] *= other
    for parameter in parameters:
        parameter.grad = wg.tensor(np.ones(parameter.shape))
    before = snapshot(optimizer, parameters)
    with pytest.raises(GradientError, match="leaves"):
        optimizer.step()
    assert snapshot(optimizer, parameters) == before


def test_running_out_of_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = make_model()
    optimizer = wg.optim.SGD(parameters, lr=0.1)
    before = snapshot(optimizer, parameters)
    held = [p.detach().numpy() for p in parameters]  # so that every buffer must be copied before it is written

    def refuse(*_args: Any, **_options: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("wengert.core.updating.make_writable", refuse)
        with pytest.raises(MemoryError):
            optimizer.step()
    assert snapshot(optimizer, parameters) == before
    assert all((array == 0.5).all() for array in held)


@pytest.mark.parametrize("empty", [[], (), iter([])])
def test_an_optimiser_without_parameters_is_refused(empty: Any) -> None:
    with pytest.raises(ValueError, match="no parameters to train"):
        wg.optim.Adam(empty)


def test_parameters_that_cannot_be_trained_are_refused() -> None:
    weight = wg.tensor([1.0], requires_grad=True)
    refused: list[tuple[Any, type[Exception], str]] = [
        (weight, DTypeError, "one Tensor"),
        ({"a": weight}, DTypeError, "mapping"),
        (3, DTypeError, "int"),
        ([np.ones(2)], DTypeError, "ndarray at position 0"),
        ([("weight", weight)], DTypeError, "named_parameters"),
        ([weight, weight], ValueError, "given twice"),
        ([weight * 2], GradientError, "was computed from others"),
        ([wg.tensor([1, 2])], DTypeError, "int64"),
        ([{"params": [weight], "speed": 3}], ValueError, "speed"),
        ([{"lr": 3}], ValueError, '"params"'),
    ]
    for params, error, message in refused:
        with pytest.raises(error, match=message):
            wg.optim.SGD(params, lr=0.1)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("SGD", {"momentum": -1}, "momentum"),
        ("SGD", {"nesterov": True}, "nesterov"),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov"),
        ("Adam", {"betas": (1.0, 0.9)}, r"betas\[0\]"),
        ("Adam", {"betas": (0.9, -0.1)}, r"betas\[1\]"),
        ("Adam", {"betas": (0.9,)}, "two numbers"),
        ("Adam", {"eps": -1e-8}, "eps"),
        ("RMSprop", {"alpha": 1.0}, "alpha"),
        ("Adagrad", {"lr_decay": -1}, "lr_decay"),
        ("AdamW", {"weight_decay": -1}, "weight_decay"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(wg.optim, name)([wg.ones(1).requires_grad_()], **settings)


def run(optimizer: wg.optim.Optimizer, parameters: list[wg.Tensor], steps: range) -> None:
    for step in steps:
        rng = np.random.default_rng(step)
        for parameter in parameters:
            parameter.grad = wg.tensor(rng.normal(size=parameter.shape))
        optimizer.step()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("Adam", {"lr": 0.1, "amsgrad": True}),
        ("AdamW", {"lr": 0.1}),
        ("RMSprop", {"lr": 0.1, "momentum": 0.5, "centered": True}),
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    ],
)
def test_training_continues_from_a_checkpoint_to_the_last_bit(
    name: str, settings: dict[str, Any], tmp_path: Any
) -> None:
    straight = make_model()
    run(getattr(wg.optim, name)(straight, **settings), straight, range(6))
    first = make_model()
    optimizer = getattr(wg.optim, name)(first, **settings)
    run(optimizer, first, range(3))
    wg.io.save(tmp_path / "c.safetensors", {"optimizer": optimizer.state_dict(), "parameters": first})
    loaded = wg.io.load(tmp_path / "c.safetensors")
    second = [p.requires_grad_() for p in loaded["parameters"]]
    continued = getattr(wg.optim, name)(second, lr=0.7)
    continued.load_state_dict(loaded["optimizer"])
    run(continued, second, range(3, 6))
    for one, other in zip(straight, second):
        assert one.detach().numpy().tobytes() == other.detach().numpy().tobytes()


def test_a_snapshot_of_something_else_is_refused_and_nothing_is_loaded() -> None:
    parameters = make_model()
    optimizer = wg.optim.Adam(parameters, lr=0.1)
    optimizer.step()
    before = snapshot(optimizer, parameters)
    good = optimizer.state_dict()
    other = wg.optim.SGD(make_model(), lr=0.1, momentum=0.9)
    other.step()
    two = wg.optim.Adam(make_model()[:2], lr=0.1)
    wrong_shape = wg.optim.Adam([wg.ones(1, "float64").requires_grad_() for _ in range(3)])
    for parameter in wrong_shape.param_groups[0]["params"]:
        parameter.grad = wg.ones(1, "float64")
    wrong_shape.step()
    entry = good["state"]["0"]
    refused: list[Any] = [
        {},
        3,
        {"state": {}, "param_groups": 3},
        other.state_dict(),
        two.state_dict(),
        wrong_shape.state_dict(),
        {**good, "state": {"9": entry}},
        {**good, "state": {"0": {"step": 1}}},
        {**good, "state": {"0": {**entry, "step": -1}}},
        {**good, "param_groups": [{**good["param_groups"][0], "lr": "fast"}]},
    ]
    for state in refused:
        with pytest.raises(CheckpointError):
            optimizer.load_state_dict(state)
        assert snapshot(optimizer, parameters) == before
    optimizer.load_state_dict(good)
    assert snapshot(optimizer, parameters) == before
