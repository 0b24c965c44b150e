"""Layers one after the other as one native program: what they compute, what the tape keeps, and when they are not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.eager_programs import without_kernels
from wengert import nn
from wengert.compile import eager_chains
from wengert.errors import ShapeError
from wengert.nn import containers

Steps = Callable[[], list[tuple[Any, ...]]]


def tensor(*shape: int, tracked: bool = True) -> wg.Tensor:
    rng = np.random.default_rng(shape)
    return wg.tensor(rng.uniform(-1, 1, shape), requires_grad=tracked)


CASES: dict[str, tuple[tuple[int, ...], Steps]] = {
    "convolutions": (
        (3, 2, 9, 8),
        lambda: [
            (wg.conv2d, tensor(4, 2, 3, 3), tensor(4), 1, 1),
            (wg.relu,),
            (wg.max_pool2d, 2),
            (wg.conv2d, tensor(6, 2, 2, 2), None, 2, "valid", 1, 2),
            (wg.relu,),
            (wg.flatten, 1),
            (wg.linear, tensor(6, 24), tensor(6)),
        ],
    ),
    "a line": (
        (2, 3, 12),
        lambda: [(wg.conv1d, tensor(4, 3, 3), tensor(4)), (wg.max_pool1d, 3, 2), (wg.sigmoid,), (wg.flatten, 0)],
    ),
    "results that are kept": ((7, 5), lambda: [(wg.exp,), (wg.sin,), (wg.tanh,), (wg.cos,), (wg.square,)]),
    "linear": (
        (4, 6, 5),
        lambda: [(wg.linear, tensor(3, 5), tensor(3)), (wg.relu,), (wg.linear, tensor(2, 3)), (wg.log_sigmoid,)],
    ),
    "flattened at last": ((3, 2, 6), lambda: [(wg.conv1d, tensor(2, 2, 3)), (wg.relu,), (wg.flatten, 1)]),
    "with what is no link": ((4, 6), lambda: [(wg.exp,), (wg.sqrt,), (wg.softmax, -1), (wg.exp,), (wg.sin,)]),
    "a constant part first": (
        (2, 3, 12),
        lambda: [(wg.conv1d, tensor(4, 3, 3, tracked=False)), (wg.sin,), (wg.conv1d, tensor(2, 4, 2)), (wg.square,)],
    ),
    "all dimensions but one": ((6, 4), lambda: [(wg.flatten,), (wg.exp,), (wg.reshape, (3, 8)), (wg.exp,), (wg.sin,)]),
}


def outcome(shape: tuple[int, ...], steps: Steps, tracked: bool, times: int = 2) -> list[np.ndarray]:
    """Return value, gradients, and the gradient of a gradient's norm, of the last run."""
    for _ in range(times):
        x, made = tensor(*shape, tracked=tracked), steps()
        leaves = [t for step in ((x,), *made) for t in step if isinstance(t, wg.Tensor) and t.requires_grad]
        out = wg.in_turn(x, *made)
        if not leaves:
            assert not out.requires_grad
            continue
        weights = wg.tensor(np.cos(np.arange(out.size)).reshape(out.shape))
        first = wg.autograd.grad((out * weights).sum(), leaves, create_graph=True)
        wg.stack([(bar * bar).sum() for bar in first]).sum().backward()
    found = [out.detach().numpy(), *[bar.detach().numpy() for bar in first]] if leaves else [out.numpy()]
    return found + [leaf.grad.numpy() for leaf in leaves if leaf.grad is not None]


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_chains_are_the_functions_in_turn(at_once: None, name: str, tracked: bool) -> None:
    shape, steps = CASES[name]
    found = outcome(shape, steps, tracked)
    assert eager_chains.accounts.programs()
    wanted = without_kernels(lambda: outcome(shape, steps, tracked))
    for got, want in zip(found, wanted, strict=True):
        bound = 400 * np.finfo(float).eps * np.abs(want).max()  # sums of at most so many products, in the longest
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def test_nothing_is_recorded_where_nothing_is_to_be(at_once: None) -> None:
    shape, steps = CASES["convolutions"]
    for _ in range(2):
        with wg.no_grad():
            out = wg.in_turn(tensor(*shape), *steps())
        assert not out.requires_grad
    assert eager_chains.accounts.programs()


def test_only_what_the_tape_keeps_is_written(at_once: None) -> None:
    steps = [(wg.conv1d, tensor(4, 3, 3), tensor(4)), (wg.relu,), (wg.sin,), (wg.square,)]
    for _ in range(2):
        wg.in_turn(tensor(2, 3, 12), *steps)
    (program,) = eager_chains.accounts.programs()
    # relu keeps its result (as does sin, its argument); square keeps its argument, and the last is the result.
    assert [blank is None for blank in program.blanks] == [False, False, True, True, True]


def test_a_write_to_the_result_spoils_no_gradient(at_once: None) -> None:
    for _ in range(2):
        x = tensor(5, 4)
        y = wg.in_turn(x, (wg.sin,), (wg.exp,))
        z = y * 3.0
        y += 1.0
        z.sum().backward()
    inner = x.detach().numpy()
    wanted = 3 * np.exp(np.sin(inner)) * np.cos(inner)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=16 * np.finfo(float).eps)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pooling_goes_before_relu_and_nothing_changes(rank: int) -> None:
    rng = np.random.default_rng(rank)
    values = rng.integers(-2, 3, (2, 3, *[6] * rank)).astype(float)  # ties in most windows
    values[rng.random(values.shape) < 0.1] = np.nan
    values[0, 0, 0] = -1.0
    pool = (wg.max_pool1d, wg.max_pool2d, wg.max_pool3d)[rank - 1]

    def results(function: Callable[[wg.Tensor], wg.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        x = wg.tensor(values, requires_grad=True)
        out = function(x)
        out.backward(wg.tensor(1.0 + np.arange(out.size).reshape(out.shape)))
        assert x.grad is not None
        return out.detach().numpy(), x.grad.numpy()

    found = results(lambda x: wg.in_turn(x, (wg.relu,), (pool, 2)))
    wanted = results(lambda x: pool(wg.relu(x), 2))
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])


def test_parameters_that_change_are_read_anew(at_once: None) -> None:
    weight, bias = tensor(3, 5), tensor(3)
    x = tensor(4, 5, tracked=False)
    for k in range(4):
        with wg.no_grad():
            weight += 1.0
        out = wg.in_turn(x, (wg.linear, weight, bias), (wg.relu,))
        wanted = np.maximum(x.numpy() @ weight.detach().numpy().T + bias.detach().numpy(), 0)
        np.testing.assert_allclose(out.detach().numpy(), wanted, rtol=0, atol=32 * (k + 2) * np.finfo(float).eps)


def test_what_was_one_tensor_may_be_two_the_next_time(at_once: None) -> None:
    one, other, x = tensor(4, 4), tensor(4, 4) * 2.0, tensor(3, 4)
    for first, second in [(one, one), (one, one), (one, other), (other, one)]:
        out = wg.in_turn(x, (wg.linear, first), (wg.linear, second)).detach().numpy()
        raw = [t.detach().numpy() for t in (x, first, second)]
        np.testing.assert_allclose(out, raw[0] @ raw[1].T @ raw[2].T, rtol=0, atol=64 * np.finfo(float).eps)


def test_nothing_is_held(small: None) -> None:
    network = model()
    x = wg.tensor(np.ones((4, 2, 8, 8), np.float32))
    gradients(network, x)
    held = weakref.ref(network[0].weight._data)
    del network
    gc.collect()
    assert held() is None


def test_shapes_that_do_not_fit_are_refused_as_ever(at_once: None) -> None:
    with pytest.raises(ShapeError, match="conv1d: x has shape"):
        wg.in_turn(tensor(2, 3, 9), (wg.conv1d, tensor(4, 3, 3)), (wg.relu,), (wg.conv1d, tensor(4, 3, 3)))
    with pytest.raises(ShapeError, match="max_pool1d: windows of"):
        wg.in_turn(tensor(2, 3, 9), (wg.conv1d, tensor(4, 3, 3)), (wg.max_pool1d, 8))
    with pytest.raises(ShapeError, match="linear: shapes do not fit"):
        wg.in_turn(tensor(2, 9), (wg.exp,), (wg.linear, tensor(4, 3)))


def model() -> nn.Sequential:
    wg.random.seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 5))


@pytest.fixture
def small(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "_LARGE", 1)


def gradients(network: Any, x: wg.Tensor, times: int = 2) -> list[np.ndarray]:
    for _ in range(times):
        network.zero_grad()
        (network(x) ** 2).sum().backward()
    return [parameter.grad.numpy() for parameter in network.parameters()]


def test_sequences_of_layers_are_chains(small: None) -> None:
    x = wg.tensor(np.random.default_rng(0).normal(size=(4, 2, 8, 8)).astype(np.float32))
    found = gradients(model(), x)
    (program,) = eager_chains.accounts.programs()
    assert len(program.blanks) == 6
    for got, want in zip(found, without_kernels(lambda: gradients(model(), x)), strict=True):
        bound = 256 * np.finfo(np.float32).eps * np.abs(want).max()  # as many places of 4 images as sums go over
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def test_layers_that_are_more_than_a_function_are_called(small: None) -> None:
    class Doubled(nn.ReLU):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * 2.0

    x = wg.tensor(np.linspace(-1, 1, 12).reshape(3, 4))
    seen: list[Any] = []
    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda module, args, out: seen.append(out.detach().numpy()))
    patched = nn.ReLU()
    patched.forward = lambda x: x + 7.0  # type: ignore[method-assign]
    network = nn.Sequential(nn.ReLU(), Doubled(), hooked, patched, nn.ReLU(), nn.ReLU())
    for _ in range(3):
        out = network(x)
    np.testing.assert_array_equal(out.numpy(), 2 * np.maximum(x.numpy(), 0) + 7)
    assert len(seen) == 3


def test_transforms_and_compiled_functions_go_through_sequences(small: None) -> None:
    network = model()
    x = wg.tensor(np.random.default_rng(0).normal(size=(4, 2, 8, 8)).astype(np.float32))
    for _ in range(2):
        wanted = network(x).detach().numpy()
    bound = 512 * np.finfo(np.float32).eps * np.abs(wanted).max()
    np.testing.assert_allclose(wg.compile(network)(x).detach().numpy(), wanted, rtol=0, atol=bound)
    mapped = wg.vmap(lambda image: network(wg.expand_dims(image, 0))[0])(x)
    np.testing.assert_allclose(mapped.detach().numpy(), wanted, rtol=0, atol=bound)
    value, slope = wg.jvp(network, (x,), (x,))
    np.testing.assert_allclose(value.detach().numpy(), wanted, rtol=0, atol=bound)
    biases = network(x * 0.0).detach().numpy()
    assert slope.shape == wanted.shape
    assert np.isfinite(biases).all()
