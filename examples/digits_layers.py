"""Read the handwritten digits of scikit-learn in three ways: as images, as sequences of rows, and as rows that attend.

The same training loop runs a convolutional network, an LSTM, and a small transformer. Each learns from three quarters
of the 1797 scans, and is judged on the other quarter.

    python examples/digits_layers.py                  # half a minute or so
    python examples/digits_layers.py --compile        # the same, each step one native program
    python examples/digits_layers.py --epochs 5 --networks lstm
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

# Matrices this small are not worth dividing among threads, which get in each other's way where cores are busy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

import wengert as wg
from wengert import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

F = nn.functional
SIDE = 8
CLASSES = 10


def convolutional() -> nn.Module:
    """See a scan as an image: what stands where next to what, the same all over."""
    return nn.Sequential(
        nn.Unflatten(1, (1, SIDE)),
        nn.Conv2d(1, 16, 3, padding="same"),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding="same"),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * (SIDE // 4) ** 2, CLASSES),
    )


class Recurrent(nn.Module):
    """Read a scan row by row, from above and from below, and say what it was at the end."""

    def __init__(self, cells: int = 48) -> None:
        self.reader = nn.LSTM(SIDE, cells, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * cells, CLASSES)

    def forward(self, x: Any) -> wg.Tensor:
        """Return scores of the digits."""
        _, (h, _) = self.reader(x)
        return self.head(wg.concatenate([h[0], h[1]], -1))


class Block(nn.Module):
    """A layer of a transformer, normalised first (A. Vaswani et al., 2017; R. Xiong et al., 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        self.before_attention = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.before_network = nn.LayerNorm(width)
        self.network = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Any) -> wg.Tensor:
        """Let positions exchange what they hold, then think about it each by itself."""
        y = self.before_attention(x)
        mixed, _ = self.attention(y, y, y, need_weights=False)
        x = x + mixed
        return x + self.network(self.before_network(x))


class Transformer(nn.Module):
    """Let the rows of a scan attend to each other, each with a mark of its place."""

    def __init__(self, width: int = 48, heads: int = 4, depth: int = 2) -> None:
        self.rows = nn.Linear(SIDE, width)
        self.places = nn.Embedding(SIDE, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Any) -> wg.Tensor:
        """Return scores of the digits."""
        x = self.rows(x) + self.places(np.arange(SIDE))
        return self.head(wg.mean(self.blocks(x), axis=1))


NETWORKS = {"convolutional": convolutional, "lstm": Recurrent, "transformer": Transformer}


class Outcome(NamedTuple):
    """What a training came to."""

    name: str
    parameters: int
    losses: list[float]
    accuracy: float
    seconds: float


def train(name: str, epochs: int, seed: int = 0, compiled: bool = False) -> Outcome:
    """Train a network on three quarters of the scans and judge it on the others."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = (digits.images / 16).astype(np.float32)
    train_images, test_images, train_labels, test_labels = wg.data.train_test_split(
        images, digits.target, test_size=0.25, seed=0, stratify=digits.target
    )
    wg.random.seed(seed)
    network: Any = NETWORKS[name]()
    optimizer = wg.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.02)
    loader = wg.data.DataLoader((train_images, train_labels), batch_size=64, shuffle=True, seed=seed)
    schedule = wg.optim.CosineAnnealingLR(optimizer, epochs * len(loader))

    def step(batch: Any, labels: Any) -> wg.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(batch), labels, label_smoothing=0.05)
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    run = wg.compile(step) if compiled else step
    start = time.perf_counter()
    losses = [sum([run(batch, labels).item() for batch, labels in loader]) / len(loader) for _ in range(epochs)]
    seconds = time.perf_counter() - start
    network.eval()
    with wg.no_grad():
        accuracy = float(np.mean(network(wg.tensor(test_images)).numpy().argmax(axis=1) == test_labels))
    return Outcome(name, network.num_parameters(), losses, accuracy, seconds)


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """Train the networks that are asked for and print what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="make each training step one native program")
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    options = parser.parse_args(arguments)
    outcomes = [train(name, options.epochs, options.seed, options.compile) for name in options.networks]
    table = Table("network", "parameters", "first loss", "last loss", "held-out accuracy", "seconds")
    for name, parameters, losses, accuracy, seconds in outcomes:
        table.add_row(
            name, str(parameters), f"{losses[0]:.3f}", f"{losses[-1]:.3f}", f"{accuracy:.2%}", f"{seconds:.1f}"
        )
    Console().print(table)
    return outcomes


if __name__ == "__main__":
    main()
