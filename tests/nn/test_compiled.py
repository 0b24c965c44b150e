"""Training steps of networks of every kind of layer, compiled: their state is that of eager steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn

F = nn.functional
STEPS = 3
# Sums of fewer than 100 terms of the order of one in each layer, a few layers deep, in each of the steps.
LIMIT = STEPS * 1000 * float(np.finfo(np.float64).eps)


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, dtype="float64"),
        nn.BatchNorm2d(4, dtype="float64"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3, stride=2, padding=(1, 0), groups=2, dtype="float64"),
        nn.Tanh(),
        nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3, dtype="float64"),
    )


class Reader(nn.Module):
    def __init__(self) -> None:
        self.lstm = nn.LSTM(4, 3, num_layers=2, batch_first=True, bidirectional=True, dtype="float64")

    def forward(self, x: Any) -> wg.Tensor:
        return self.lstm(x)[0][:, -1, :3]


class Attentive(nn.Module):
    def __init__(self) -> None:
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, dtype="float64")
        self.head = nn.Linear(4, 3, dtype="float64")

    def forward(self, x: Any) -> wg.Tensor:
        mixed, weights = self.attention(x, x, x, is_causal=True)
        assert weights is not None
        return self.head(mixed[:, -1]) + weights.mean()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "images": (images, (4, 2, 8, 7)),
    "sequences": (Reader, (4, 5, 4)),
    "attention": (Attentive, (4, 5, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_steps_are_eager_steps(name: str) -> None:
    make, shape = NETWORKS[name]
    rng = np.random.default_rng(0)
    batches = [(wg.tensor(rng.normal(size=shape)), wg.tensor(rng.integers(0, 3, shape[0]))) for _ in range(STEPS)]
    results: list[dict[str, np.ndarray]] = []
    losses: list[list[float]] = []
    for transform in (None, wg.compile):
        wg.random.seed(0)
        network = make()
        optimizer = wg.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

        def step(x: Any, y: Any, network: Any = network, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = step if transform is None else transform(step)
        losses.append([run(x, y).item() for x, y in batches])
        results.append({key: value.numpy() for key, value in network.state_dict().items()})
    np.testing.assert_allclose(losses[1], losses[0], rtol=LIMIT)
    for key, expected in results[0].items():
        np.testing.assert_allclose(results[1][key], expected, rtol=LIMIT, atol=LIMIT, err_msg=key)
