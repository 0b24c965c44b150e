"""What is measured, written once: the inputs, and the functions that every engine runs with its own array namespace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Job:
    """A piece of work as one engine does it.

    `run` does it once. `result` runs it and returns what shows that it was done: the gradients, or the loss.
    """

    run: Callable[[], object]
    result: Callable[[], list[np.ndarray]]


@dataclass(frozen=True)
class Chain:
    """A function of arrays; forward and backward of the sum of its result, or forward alone."""

    function: Callable[..., Any]
    make_inputs: Callable[[], tuple[np.ndarray, ...]]
    backward: bool = True

    @cached_property
    def inputs(self) -> tuple[np.ndarray, ...]:
        """The arrays that the function is given, all of them differentiated."""
        return self.make_inputs()


@dataclass(frozen=True)
class Training:
    """A step of Adam on a multilayer perceptron: ReLU between the layers, cross-entropy of integer labels."""

    sizes: tuple[int, ...]
    batch: int
    learning_rate: float = 1e-3

    @property
    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """The batch: images and labels."""
        rng = np.random.default_rng(0)
        images = rng.normal(size=(self.batch, self.sizes[0])).astype(np.float32)
        return images, rng.integers(0, self.sizes[-1], self.batch)

    @property
    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Initial weights (rows are inputs) and biases, for engines that have no layers of their own."""
        rng = np.random.default_rng(1)
        return [
            ((rng.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32), np.zeros(columns, np.float32))
            for rows, columns in zip(self.sizes, self.sizes[1:], strict=False)
        ]


Work = Chain | Training

CHAIN_LENGTH = 100


def sine_chain(xp: Any, weight: Any, bias: Any) -> Any:
    """300 operations on small arrays: what recording and sweeping cost."""
    y = weight
    for _ in range(CHAIN_LENGTH):
        y = xp.sin(y * weight + bias)
    return y


def mixed_chain(xp: Any, x: Any, scale: Any, shift: Any) -> Any:
    """12 operations on large arrays: what arithmetic and memory traffic cost."""
    y = xp.sin(x * scale + shift)
    y = xp.tanh(y * x + scale)
    y = xp.exp(y * shift)
    y = y * x + scale
    return xp.sin(y) * shift


def ten_elements() -> tuple[np.ndarray, ...]:
    """Weight and bias of the sine chain."""
    return np.linspace(0.1, 1, 10), np.linspace(0.1, 1, 10)


def million_elements() -> tuple[np.ndarray, ...]:
    """Three large arrays, of a size that no cache near a core holds."""
    rng = np.random.default_rng(0)
    return tuple(rng.uniform(0.1, 1, 1_000_000).astype(np.float32) for _ in range(3))


WORKS: dict[str, Work] = {
    "chain": Chain(sine_chain, ten_elements),
    "chain-forward": Chain(sine_chain, ten_elements, backward=False),
    "mlp-small": Training((64, 32, 10), 32),
    "mlp-medium": Training((784, 256, 10), 64),
    "elementwise": Chain(mixed_chain, million_elements),
    "mlp-large": Training((784, 1024, 1024, 10), 128),
    # Small enough to cost no memory: run first where memory is measured, so that what is loaded on first use is loaded.
    "mlp-tiny": Training((4, 4, 2), 4),
}
