"""Modules: what becomes a parameter, how it is listed, saved, loaded and shown."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import CheckpointError, DTypeError


class Scale(nn.Module):
    def __init__(self) -> None:
        self.weight = nn.Parameter([1.0, 2.0])
        self.register_buffer("count", wg.zeros(2))
        self.register_buffer("scratch", wg.zeros(1), persistent=False)
        self.register_parameter("bias", None)
        self.note = "no Tensor"

    def forward(self, x: Any) -> wg.Tensor:
        return x * self.weight


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = Scale()
        self.right = Scale()
        self.shift = nn.Parameter(0.5)

    def forward(self, x: Any) -> wg.Tensor:
        return self.right(self.left(x)) + self.shift


def test_leaves_that_require_grad_become_parameters_and_nothing_else_does() -> None:
    module = nn.Module()
    leaf = wg.tensor(1.0, requires_grad=True)
    module.leaf = leaf
    module.constant = wg.tensor(1.0)
    module.computed = leaf * 2
    module.number = 3
    assert [name for name, _ in module.named_parameters()] == ["leaf"]
    assert type(module.leaf) is wg.Tensor
    assert module.leaf is leaf
    assert [name for name, _ in module.named_buffers()] == []


def test_names_are_dotted_and_in_order_of_assignment() -> None:
    pair = Pair()
    assert [name for name, _ in pair.named_parameters()] == ["shift", "left.weight", "right.weight"]
    assert next(name for name, _ in pair.named_parameters("model")) == "model.shift"
    assert [name for name, _ in pair.named_parameters(recurse=False)] == ["shift"]
    assert [name for name, _ in pair.named_buffers()][:2] == ["left.count", "left.scratch"]
    assert [name for name, _ in pair.named_modules()] == ["", "left", "right"]
    assert list(pair.modules()) == [pair, pair.left, pair.right]
    assert list(pair.children()) == [pair.left, pair.right]
    assert pair.num_parameters() == 5
    pair.left.requires_grad_(False)
    assert pair.num_parameters(trainable_only=True) == 3
    assert pair.num_parameters() == 5


def test_a_shared_parameter_is_listed_once_and_saved_under_each_name() -> None:
    pair = Pair()
    pair.right.weight = pair.left.weight
    assert [name for name, _ in pair.named_parameters()] == ["shift", "left.weight"]
    assert {"left.weight", "right.weight"} <= set(pair.state_dict())
    pair.load_state_dict(pair.state_dict())
    assert pair.right.weight is pair.left.weight


def test_state_dict_is_a_snapshot() -> None:
    pair = Pair()
    state = pair.state_dict()
    assert list(state) == ["shift", "left.weight", "right.weight", "left.count", "right.count"]
    assert not any(tensor.requires_grad for tensor in state.values())
    for parameter in pair.parameters():
        parameter.grad = wg.ones(parameter.shape)
    wg.optim.SGD(pair.parameters(), lr=1.0).step()
    assert state["left.weight"].tolist() == [1.0, 2.0]
    assert pair.left.weight.tolist() == [0.0, 1.0]
    assert pair.load_state_dict(state) == ([], [])
    assert pair.left.weight.tolist() == [1.0, 2.0]


def test_loading_keeps_the_parameters_themselves() -> None:
    pair = Pair()
    weight = pair.left.weight
    view = weight.reshape(2, 1)
    pair.load_state_dict({**pair.state_dict(), "left.weight": np.array([5.0, 6.0])})
    assert pair.left.weight is weight
    assert weight.requires_grad
    assert weight.is_leaf
    assert weight.dtype == np.float32
    assert weight.tolist() == [5.0, 6.0]
    assert view.tolist() == [[5.0], [6.0]]


def test_what_does_not_fit_is_listed_whole_and_nothing_is_loaded() -> None:
    pair = Pair()
    before = {name: tensor.tolist() for name, tensor in pair.state_dict().items()}
    state: dict[str, Any] = {name: tensor + 1 for name, tensor in pair.state_dict().items()}
    del state["left.count"]
    state["left.weight"] = wg.zeros(3)
    state["right.weight"] = np.array([1, 2])
    state["middle.weight"] = wg.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        pair.load_state_dict(state)
    message = str(caught.value)
    assert "missing keys: left.count" in message
    assert "unexpected keys: middle.weight" in message
    assert "left.weight: the shape is (3,) in the state, and (2,) in the module" in message
    assert "right.weight: the dtype is int64 in the state, and float32 in the module" in message
    assert {name: tensor.tolist() for name, tensor in pair.state_dict().items()} == before


def test_loading_that_is_not_strict_passes_over_keys_but_not_shapes() -> None:
    pair = Pair()
    found = pair.load_state_dict({"shift": np.float64(2.0), "other": wg.zeros(1)}, strict=False)
    assert found.unexpected_keys == ["other"]
    assert found.missing_keys == ["left.weight", "right.weight", "left.count", "right.count"]
    assert pair.shift.item() == 2.0
    with pytest.raises(CheckpointError, match="shift"):
        pair.load_state_dict({"shift": wg.zeros(1)}, strict=False)


def test_a_state_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(CheckpointError, match="list"):
        Pair().load_state_dict([1, 2])  # type: ignore[arg-type]


def test_a_value_out_of_range_does_not_stop_a_load_halfway() -> None:
    pair = Pair()
    with np.errstate(all="raise"):
        pair.load_state_dict({**pair.state_dict(), "left.weight": np.array([1e300, 1.0])})
    assert pair.left.weight.tolist() == [float("inf"), 1.0]


def test_attributes_that_would_end_training_silently_are_refused() -> None:
    pair = Pair()
    refused: list[tuple[nn.Module, str, Any]] = [
        (pair, "shift", 3.0),
        (pair, "shift", wg.zeros(())),
        (pair, "shift", pair.shift * 2),
        (pair, "left", 3.0),
        (pair.left, "count", 3.0),
    ]
    for module, name, value in refused:
        with pytest.raises(TypeError, match=name):
            setattr(module, name, value)
    assert pair.num_parameters() == 5
    pair.shift = None
    pair.left.count = wg.ones(2)
    assert [name for name, _ in pair.named_parameters()] == ["left.weight", "right.weight"]
    del pair.left
    assert [name for name, _ in pair.named_parameters()] == ["right.weight"]


def test_an_attribute_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        AttributeError, match=r"Pair has no attribute 'rihgt'; its parameters are shift; submodules are"
    ):
        _ = Pair().rihgt
    assert not hasattr(Pair(), "anything")


def test_registering_checks_names_and_kinds() -> None:
    module = nn.Module()
    with pytest.raises(ValueError, match="dots"):
        module.register_buffer("a.b", None)
    with pytest.raises(ValueError, match="taken"):
        module.register_buffer("forward", None)
    with pytest.raises(TypeError, match="Parameter"):
        module.register_parameter("weight", wg.zeros(1))
    with pytest.raises(TypeError, match="buffer"):
        module.register_buffer("mean", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a Module"):
        module.add_module("layer", 3)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="forward"):
        module(1)


def test_train_and_eval_reach_every_module() -> None:
    model = nn.Sequential(nn.Dropout(0.5), Pair())
    assert model.eval() is model
    assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())


def test_zero_grad_and_requires_grad() -> None:
    pair = Pair()
    pair(wg.ones(2)).sum().backward()
    assert all(parameter.grad is not None for parameter in pair.parameters())
    pair.zero_grad(set_to_none=False)
    assert pair.shift.grad is not None
    assert pair.shift.grad.item() == 0.0
    pair.zero_grad()
    assert all(parameter.grad is None for parameter in pair.parameters())
    pair.requires_grad_(False)
    assert not pair(wg.ones(2)).requires_grad
    pair.requires_grad_()
    assert [name for name, _ in pair.named_parameters()] == ["shift", "left.weight", "right.weight"]


def test_apply_goes_from_the_leaves_to_the_root() -> None:
    seen: list[nn.Module] = []
    pair = Pair()
    assert pair.apply(seen.append) is pair
    assert seen == [pair.left, pair.right, pair]


def test_to_converts_parameters_and_floating_buffers() -> None:
    pair = Pair()
    pair.left.register_buffer("steps", wg.tensor(3))
    pair.right.weight = pair.left.weight
    assert pair.to("float64") is pair
    assert {str(parameter.dtype) for parameter in pair.parameters()} == {"float64"}
    assert pair.left.count.dtype == np.float64
    assert pair.left.steps.dtype == np.int64
    assert pair.right.weight is pair.left.weight
    assert pair.left.weight.requires_grad
    assert pair.to("cpu") is pair
    with pytest.raises(DTypeError, match="int64"):
        pair.to("int64")


def test_copies_are_independent_and_keep_what_is_shared() -> None:
    pair = Pair()
    pair.right.weight = pair.left.weight
    other = copy.deepcopy(pair)
    assert other.left.weight is other.right.weight
    assert other.left.weight is not pair.left.weight
    other.load_state_dict({name: tensor * 0 for name, tensor in other.state_dict().items()})
    assert pair.left.weight.tolist() == [1.0, 2.0]


def test_repr_is_nested() -> None:
    assert repr(nn.Sequential(nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU()), nn.Dropout(0.25))) == (
        "Sequential(\n"
        "  (0): Sequential(\n"
        "    (0): Linear(in_features=3, out_features=2, bias=False)\n"
        "    (1): ReLU()\n"
        "  )\n"
        "  (1): Dropout(p=0.25)\n"
        ")"
    )
    assert repr(Scale()) == "Scale()"


def test_hooks() -> None:
    module = Scale()
    seen: list[Any] = []

    def double(_: nn.Module, args: tuple[Any, ...]) -> Any:
        return args[0] * 2

    def keep(_: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        seen.append((args[0].tolist(), out.tolist()))

    def negate(_: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
        return -out

    before = module.register_forward_pre_hook(double)
    module.register_forward_hook(keep)
    after = module.register_forward_hook(negate)
    assert module(wg.ones(2)).tolist() == [-2.0, -4.0]
    assert seen == [([2.0, 2.0], [2.0, 4.0])]
    before.remove()
    after.remove()
    after.remove()
    assert module(wg.ones(2)).tolist() == [1.0, 2.0]


def test_functional_call_uses_other_parameters_and_puts_its_own_back() -> None:
    pair = Pair()
    pair.right.weight = pair.left.weight
    own = dict(pair.named_parameters())

    def loss(tensors: dict[str, Any]) -> wg.Tensor:
        return nn.functional_call(pair, tensors, wg.tensor([1.0, 1.0])).sum()

    values = {"left.weight": wg.tensor([3.0, 5.0]), "shift": wg.tensor(1.0)}
    assert loss(values).item() == 9 + 25 + 2
    gradient = wg.grad(loss)(values)
    assert gradient["left.weight"].tolist() == [6.0, 10.0]
    assert gradient["shift"].item() == 2.0
    assert {name: id(tensor) for name, tensor in pair.named_parameters()} == {n: id(t) for n, t in own.items()}
    with pytest.raises(KeyError, match="middle"):
        nn.functional_call(pair, {"middle": wg.zeros(1)}, wg.ones(2))
    with pytest.raises(wg.errors.ShapeError):
        nn.functional_call(pair, {"left.weight": wg.zeros(3)}, wg.ones(2))
    assert pair.left.weight is own["left.weight"]
