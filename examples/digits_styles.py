"""One training in the three styles in which gradients can be asked for: same seed, same losses, to the last bit.

All three record on the same tape and sweep it with the same rules; they differ in who holds the gradients.

    python examples/digits_styles.py --steps 100
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

import wengert as wg
from wengert import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

Batch = tuple[wg.Tensor, wg.Tensor]


def batches(seed: int, steps: int) -> Iterator[Batch]:
    """Yield batches of scikit-learn's digits in an order that the seed decides, epoch after epoch."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = (digits.data / 16).astype(np.float32)
    loader = wg.data.DataLoader((images, digits.target), batch_size=64, shuffle=True, seed=seed)
    while True:
        for batch in loader:
            if not steps:
                return
            steps -= 1
            yield batch


def build(seed: int) -> tuple[nn.Sequential, wg.optim.Optimizer]:
    """Make the network and its optimiser; from here on, dropout draws from the same seed."""
    wg.random.seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    return model, wg.optim.AdamW(model.parameters(), lr=2e-3)


def train_with_backward(seed: int, steps: int) -> list[float]:
    """As in PyTorch: the loss sweeps the tape, and the gradients wait in the parameters' `.grad`."""
    model, optimizer = build(seed)
    losses = []
    for images, labels in batches(seed, steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_with_tape(seed: int, steps: int) -> list[float]:
    """As in TensorFlow: a tape is opened around the computation, and asked for gradients afterwards."""
    model, optimizer = build(seed)
    parameters = list(model.parameters())
    losses = []
    for images, labels in batches(seed, steps):
        with wg.GradientTape() as tape:
            loss = nn.functional.cross_entropy(model(images), labels)
        give(parameters, tape.gradient(loss, parameters))
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_with_grad(seed: int, steps: int) -> list[float]:
    """As in JAX: the loss is a function of the parameters, and its gradient is another function."""
    model, optimizer = build(seed)
    model.requires_grad_(False)  # plain arrays: it is the function that is differentiated
    parameters = dict(model.named_parameters())

    def loss_of(values: dict[str, Any], images: wg.Tensor, labels: wg.Tensor) -> wg.Tensor:
        return nn.functional.cross_entropy(nn.functional_call(model, values, images), labels)

    loss_and_gradient = wg.value_and_grad(loss_of)
    losses = []
    for images, labels in batches(seed, steps):
        loss, gradients = loss_and_gradient(parameters, images, labels)
        give(parameters.values(), gradients.values())
        optimizer.step()
        losses.append(loss.item())
    return losses


def give(parameters: Any, gradients: Any) -> None:
    """Put gradients where the optimiser looks for them."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


STYLES = {"backward()": train_with_backward, "GradientTape": train_with_tape, "grad(f)": train_with_grad}


def main() -> None:
    """Train in each style, and show the losses side by side."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    losses = {name: train(options.seed, options.steps) for name, train in STYLES.items()}
    table = Table("step", *STYLES)
    for step, values in enumerate(zip(*losses.values(), strict=True)):
        if step % 10 == 9:
            table.add_row(str(step + 1), *[f"{value:.9f}" for value in values])
    console = Console()
    console.print(table)
    first, *others = losses.values()
    same = all(other == first for other in others)
    console.print("The same to the last bit." if same else "[bold red]They differ.")


if __name__ == "__main__":
    main()
