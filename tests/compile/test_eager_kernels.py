"""Eager code on native kernels: the same values, gradients, training curves and errors as on NumPy."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.eager_programs import forget, without_kernels
from wengert import nn, optim
from wengert.compile import eager, eager_operations, eager_sweeps, eager_updates
from wengert.errors import GradientError, NativeCodeError, ShapeError

Function = Callable[..., Any]
EPS = float(np.finfo(float).eps)


def value_and_gradients(function: Function, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run twice, so that the second run is native, and return what that gives."""
    for _ in range(2):
        tensors = [wg.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        out = function(*tensors)
        weights = np.cos(np.arange(out.size, dtype=out.dtype.type)).reshape(out.shape)
        (out * wg.tensor(weights)).sum().backward()
    found = [out.detach().numpy(), *[t.grad.numpy() for t in tensors if t.grad is not None]]
    assert all(type(a) is np.ndarray for a in found)
    return found


def drawn(*shapes: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [0.25 + rng.random(shape) for shape in shapes]


LABELS = np.arange(6) % 4
CASES: dict[str, tuple[Function, list[np.ndarray], int]] = {
    # name: function, arrays, roundings on the longest path from an input to an element of a result
    "arithmetic": (lambda x, y: 2.0 * x / y - x * 0.5 + 1, drawn((5, 7), (5, 7)), 10),
    "broadcast": (lambda x, y, z: x * y + z, drawn((4, 5, 6), (5, 1), (6,)), 40),
    "functions": (lambda x: wg.tanh(wg.sin(x)) + wg.exp(-x) * wg.log(x) + wg.sqrt(x), drawn((300,)), 60),
    "powers": (lambda x: x**2 + x**1.5, drawn((50,)), 40),
    "gelu": (lambda x: wg.nn.functional.gelu(x), drawn((9, 8)), 60),
    "choices": (lambda x, y: wg.where(x > y, x, wg.maximum(y, x * x)), drawn((40,), (40,)), 10),
    "sums": (lambda x: x.sum(1) * x.mean((0, 2)).max(), drawn((4, 5, 6)), 200),
    "products": (lambda x, y: x @ y, drawn((3, 9, 8), (3, 8, 7)), 40),
    "transposed": (lambda x, y: wg.exp(x.T) @ y.mT[1], drawn((9, 8), (3, 7, 9)), 60),
    "cut": (lambda x: wg.sin(x[:, ::2]) * x[:, 1::2], drawn((6, 10)), 20),
    "linear": (lambda x, w, b: wg.linear(x, w, b), drawn((6, 5), (4, 5), (4,)), 30),
    "stacked linear": (lambda x, w, b: wg.linear(x, w, b), drawn((2, 6, 5), (4, 5), (4,)), 40),
    "softmax": (lambda x: wg.softmax(x, -1) + wg.log_softmax(x, 0), drawn((6, 9)), 60),
    "layer norm": (lambda x, w, b: wg.layer_norm(x, (8,), w, b), drawn((6, 8), (8,), (8,)), 200),
    "attention": (
        lambda q, k, v: wg.scaled_dot_product_attention(q, k, v, is_causal=True),
        drawn((2, 5, 4), (2, 5, 4), (2, 5, 3)),
        100,
    ),
    "convolution": (
        lambda x, w, b: wg.conv2d(x, w, b, padding=1),
        drawn((2, 3, 8, 8), (4, 3, 3, 3), (4,)),
        400,
    ),
    "recurrence": (
        lambda x, h, c, w: wg.concatenate(wg.lstm_states(x - 0.5, h, c, w - 0.5), 0),
        drawn((4, 3, 8), (3, 2), (3, 2), (8, 2)),
        200,
    ),
    "pooling": (lambda x: wg.max_pool2d(x, 2) + wg.avg_pool2d(x, 2), drawn((2, 3, 8, 8)), 20),
    "labels": (lambda x: wg.softmax_cross_entropy(x, wg.tensor(LABELS)), drawn((6, 4)), 40),
    "rows of a table": (lambda x: wg.take(x, wg.tensor(LABELS), axis=0) * 2.0, drawn((5, 3)), 10),
    "several outputs": (lambda x: wg.split(x * x, 2)[1] * wg.sort(x)[:5], drawn((10,)), 10),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients_are_those_of_numpy(at_once: None, name: str, dtype: Any) -> None:
    function, arrays, length = CASES[name]
    cast = [array.astype(dtype) for array in arrays]
    found = value_and_gradients(function, cast)
    assert eager_sweeps.accounts.programs()
    wanted = without_kernels(lambda: value_and_gradients(function, [a.astype(np.float64) for a in cast]))
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == dtype
        bound = length * np.finfo(dtype).eps * np.abs(want).max()
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def written(x: Any) -> Any:
    y = x * x
    y[1:4] = wg.sin(y[:3])
    y.reshape((2, 5))[1, ::2] *= x[:3]
    return y


def test_sweeps_go_through_writes(at_once: None) -> None:
    x = drawn((10,))[0]
    (_, got), (_, want) = value_and_gradients(written, [x]), without_kernels(lambda: value_and_gradients(written, [x]))
    np.testing.assert_allclose(got, want, rtol=16 * np.finfo(float).eps)
    (program,) = eager_sweeps.accounts.programs()
    assert program.failures == 0


def test_gradients_of_recorded_gradients(at_once: None) -> None:
    x, v = drawn((40,), (40,))
    for _ in range(3):
        point = wg.tensor(x, requires_grad=True)
        (first,) = wg.autograd.grad(((point[1:] - point[:-1]) ** 4).sum(), [point], create_graph=True)
        (product,) = wg.autograd.grad((first * wg.tensor(v)).sum(), [point])
    curvature = 12 * np.diff(x) ** 2 * np.diff(v)
    np.testing.assert_allclose(product.numpy(), -np.diff(curvature, prepend=0, append=0), rtol=0, atol=16 * 48 * EPS)
    assert len(eager_sweeps.accounts.programs()) == 1


def test_operations_are_compiled_and_results_own_their_memory(at_once: None) -> None:
    x = wg.tensor(np.linspace(0.5, 1, 12).reshape(3, 4))
    for _ in range(2):
        out = wg.exp(x)
    assert [program.executable.name for program in eager_operations.accounts.programs()] == ["exp"]
    assert out._data.base is None
    assert out._data.flags.c_contiguous
    kept = weakref.ref(x._data)
    del x
    assert kept() is None  # programs hold nothing that they ran on


def test_a_write_to_a_native_result_spoils_no_gradient(at_once: None) -> None:
    for _ in range(2):
        x = wg.tensor(np.array([0.5, 1.0]), requires_grad=True)
        y = wg.exp(x)
        z = y * 3.0
        y += 1.0
        y[0] = 7.0
        z.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * np.exp([0.5, 1.0]), rtol=8 * np.finfo(float).eps)


def test_masked_elements_contribute_zero(at_once: None) -> None:
    mask = wg.tensor(np.array([[True, False], [True, False]]))
    found = []
    for run in (lambda f: [f() for _ in range(3)][-1], without_kernels):

        def gradients() -> list[Any]:
            x = wg.tensor(np.ones((2, 2)), requires_grad=True)
            w = wg.tensor(np.array([[1.0, np.inf], [2.0, 3.0]]), requires_grad=True)
            wg.where(mask, x @ w, 0.0).sum().backward()
            return [x.grad.numpy(), w.grad.numpy()]

        found.append(run(gradients))
    assert np.isfinite(found[0][0]).all()
    for got, want in zip(*found, strict=True):
        np.testing.assert_array_equal(got, want)
    (program,) = eager_sweeps.accounts.programs()
    assert program.failures == 3


def test_a_program_that_always_fails_is_given_up(at_once: None) -> None:
    for _ in range(eager_sweeps.MOST_FAILURES + 1):
        x = wg.tensor(np.array([0.0, 1.0]), requires_grad=True)
        with np.errstate(divide="ignore"):
            wg.log(x).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), [np.inf, 1.0])
    assert not eager_sweeps.accounts.programs()


def test_hooks_targets_and_retained_gradients(at_once: None) -> None:
    for _ in range(3):
        x = wg.tensor(np.array([1.0, 2.0]), requires_grad=True)
        middle = wg.sin(x) * 2.0
        middle.register_hook(lambda bar: bar * 10.0)
        middle.retain_grad()
        (wg.exp(middle) * 3.0).sum().backward()
        outer = 3 * np.exp(2 * np.sin([1.0, 2.0]))
        eps = np.finfo(float).eps
        np.testing.assert_allclose(middle.grad.numpy(), 10 * outer, rtol=8 * eps)
        np.testing.assert_allclose(x.grad.numpy(), 20 * outer * np.cos([1.0, 2.0]), rtol=8 * eps)


def test_a_swept_tape_is_freed(at_once: None) -> None:
    for _ in range(2):
        x = wg.tensor(np.array([1.0, 2.0]), requires_grad=True)
        y = wg.sin(x * x).sum()
        y.backward(retain_graph=True)
        y.backward()
        np.testing.assert_allclose(x.grad.numpy(), [4 * np.cos(1), 8 * np.cos(4)], rtol=4 * np.finfo(float).eps)
        with pytest.raises(GradientError, match="already freed"):
            y.backward()


def test_functional_gradients(at_once: None) -> None:
    def energy(x: Any, y: Any) -> Any:
        return (wg.sin(x) * y).sum()

    x, y = wg.tensor(np.array([1.0, 2.0])), wg.tensor(np.array([3.0, 4.0]))
    for _ in range(3):
        value, (x_bar, y_bar) = wg.value_and_grad(energy, (0, 1))(x, y)
        only = wg.grad(energy, 1)(x, y)
        second = wg.grad(lambda x: wg.grad(energy)(x, y).sum())(x)
    eps = np.finfo(float).eps
    np.testing.assert_allclose(value.item(), 3 * np.sin(1) + 4 * np.sin(2), rtol=4 * eps)
    np.testing.assert_allclose(x_bar.numpy(), [3 * np.cos(1), 4 * np.cos(2)], rtol=4 * eps)
    np.testing.assert_allclose(y_bar.numpy(), np.sin([1, 2]), rtol=4 * eps)
    np.testing.assert_allclose(only.numpy(), np.sin([1, 2]), rtol=4 * eps)
    np.testing.assert_allclose(second.numpy(), [-3 * np.sin(1), -4 * np.sin(2)], rtol=4 * eps)


def test_errors_are_those_of_numpy(at_once: None) -> None:
    x, y = wg.ones((2, 3)), wg.ones((4, 3))
    for _ in range(3):
        with pytest.raises(ShapeError, match=r"add: shapes \(2, 3\) and \(4, 3\) do not broadcast"):
            x + y
        with pytest.raises(ShapeError):
            x @ y
        with pytest.raises(IndexError):
            wg.take(x, wg.tensor([0, 5]), axis=0)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        for _ in range(3):
            wg.ones(3) / wg.zeros(3)


NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.LayerNorm(9), nn.Linear(9, 4)), (6, 6)),
    "convolutional": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
        ),
        (6, 2, 6, 6),
    ),
}


def curve(name: str, shift: float = 0.0) -> list[float]:
    make, shape = NETWORKS[name]
    wg.random.seed(3)
    model = make()
    rng = np.random.default_rng(5)
    model.load_state_dict({k: rng.normal(size=v.shape) * (1 + shift) for k, v in model.state_dict().items()})
    x = wg.tensor(rng.normal(size=shape), dtype="float32")
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = wg.softmax_cross_entropy(model(x), wg.tensor(LABELS))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", NETWORKS)
def test_training_curves(at_once: None, name: str) -> None:
    native_losses = curve(name)
    plain = without_kernels(lambda: curve(name))
    # Weights that are off by some rounding errors lead to losses that are off by so much.
    moved = without_kernels(lambda: curve(name, 64 * float(np.finfo(np.float32).eps)))
    bound = np.maximum.accumulate(np.abs(np.subtract(plain, moved))) + 64 * np.finfo(np.float32).eps * max(plain)
    assert (np.abs(np.subtract(native_losses, plain)) <= bound).all()
    assert native_losses[-1] < native_losses[0]


def test_the_same_program_gives_the_same_bits(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager.tariff, "share", 1e-7)  # some operations are compiled on the way, some never
    first = curve("perceptron")
    assert eager_operations.accounts.programs()
    forget()
    assert curve("perceptron") == first


def test_threads_share_programs(at_once: None) -> None:
    x = wg.tensor(np.linspace(0, 1, 5000).reshape(50, 100))
    wanted = without_kernels(lambda: wg.exp(x).numpy() @ np.ones(100))
    found: list[Any] = []

    def work() -> None:
        for _ in range(20):
            t = wg.tensor(np.linspace(0, 1, 5000).reshape(50, 100), requires_grad=True)
            y = wg.exp(t)
            y.sum().backward()
            found.append((y.detach().numpy() @ np.ones(100), t.grad.numpy() @ np.ones(100)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    for pair in found:
        for got in pair:
            np.testing.assert_allclose(got, wanted, rtol=100 * np.finfo(float).eps)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "Nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1),
    "AMSGrad": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_large_parameters_are_updated_in_one_pass(at_once: None, name: str) -> None:
    def train() -> np.ndarray:
        weight = wg.tensor(np.linspace(-1, 1, 20_000).reshape(100, 200), requires_grad=True)
        optimizer = OPTIMIZERS[name]([weight])
        for k in range(5):
            weight.grad = wg.tensor(np.sin(np.arange(20_000.0) + k).reshape(100, 200))
            optimizer.step()
        return weight.detach().numpy()

    found = train()
    assert eager_updates.accounts.programs()
    wanted = without_kernels(train)
    # Five steps of some ten operations each; the quotients of Adam are at most a few units.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5 * 16 * np.finfo(float).eps * np.abs(wanted).max())


def test_an_account_matures_by_counts() -> None:
    account = eager.Account(saving=1.0)
    assert [account.matures(4.5 / eager.tariff.share) for _ in range(6)] == [False] * 4 + [True] * 2
    worthless = eager.Account(saving=0.0)
    assert not any([worthless.matures(1.0) for _ in range(100)])


def test_what_has_not_been_met_for_long_is_forgotten() -> None:
    accounts = eager.Accounts()
    for k in range(eager.MOST_KEPT + 10):
        accounts.of(k, lambda: 1.0)
        accounts.of(0, lambda: 1.0)
    assert len(accounts._accounts) == eager.MOST_KEPT
    assert 0 in accounts._accounts
    assert 1 not in accounts._accounts


def test_without_a_compiler_numpy_goes_on(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_machine() -> Any:
        raise NativeCodeError("there is no LLVM here")

    monkeypatch.setattr(eager, "host_machine", no_machine)
    x = wg.tensor(np.array([1.0, 2.0]))
    for _ in range(3):
        np.testing.assert_array_equal(wg.exp(x).numpy(), np.exp([1.0, 2.0]))
    assert not wg.set_eager_kernels(True)


PROGRAM = """
import sys
import numpy as np, wengert as wg
x = wg.tensor(np.ones({size}, np.float32), requires_grad=True)
for _ in range(40):
    wg.sin(x * x).sum().backward()
print("wengert.compile.eager_hooks" in sys.modules)
"""


@pytest.mark.parametrize(
    ("size", "setting", "loaded"), [(1000, "1", "False"), (1_000_000, "1", "True"), (1_000_000, "0", "False")]
)
def test_the_compiler_is_loaded_for_large_arrays_alone(
    size: int, setting: str, loaded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WENGERT_EAGER_KERNELS", setting)
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(size=size)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded
