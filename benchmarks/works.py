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

    `run` does it once. `result` runs it and returns what shows that it was done: the derivatives, or the loss. `way`
    says how it is written, where the engine has several ways.
    """

    run: Callable[[], object]
    result: Callable[[], list[np.ndarray]]
    way: str = ""


def derivatives(
    way: str, run: Callable[[], Any], to_array: Callable[[Any], np.ndarray], outputs_first: bool = False
) -> Job:
    """Return a Job that shows all that its run returns, leaf by leaf.

    Args:
        way: how the run is written.
        run: returns tuples and lists, nested, of the engine's own arrays.
        to_array: makes a NumPy array of one of them.
        outputs_first: they are the weights and the biases of layers in turn, and the rows of a weight are outputs.
    """

    def result() -> list[np.ndarray]:
        arrays = [to_array(leaf) for leaf in leaves(run())]
        if outputs_first:
            arrays[::2] = [weight.swapaxes(-2, -1) for weight in arrays[::2]]
        return arrays

    return Job(run, result, way)


def leaves(nested: Any) -> list[Any]:
    """Return the arrays of nested tuples and lists, in order."""
    if isinstance(nested, tuple | list):
        return [leaf for part in nested for leaf in leaves(part)]
    return [nested]


@dataclass(frozen=True)
class Function:
    """A function of arrays, given the array namespace of an engine first, and the arrays."""

    function: Callable[..., Any]
    make_inputs: Callable[[], tuple[np.ndarray, ...]]

    @cached_property
    def inputs(self) -> tuple[np.ndarray, ...]:
        """The arrays that the function is given."""
        return self.make_inputs()


@dataclass(frozen=True)
class Chain(Function):
    """Forward and backward of the sum of the function's result with respect to every input, or forward alone."""

    backward: bool = True


@dataclass(frozen=True)
class Hessian(Function):
    """The matrix of second derivatives of a scalar function with respect to its first input."""


@dataclass(frozen=True)
class Jacobian(Function):
    """The matrix of derivatives of a vector function with respect to its first input."""


@dataclass(frozen=True)
class Batched(Function):
    """The function on every row of its first input, the other inputs being the same for all."""


@dataclass(frozen=True)
class Pushforward(Function):
    """The function's value and its derivative along one direction in the space of all inputs."""

    @cached_property
    def directions(self) -> tuple[np.ndarray, ...]:
        """A tangent for each input."""
        return tuple(np.cos(np.arange(array.size, dtype=array.dtype)).reshape(array.shape) for array in self.inputs)


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron: ReLU between the layers, mean cross-entropy of integer labels."""

    sizes: tuple[int, ...]
    batch: int

    @property
    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """The batch: images and labels."""
        rng = np.random.default_rng(0)
        images = rng.normal(size=(self.batch, self.sizes[0])).astype(np.float32)
        return images, rng.integers(0, self.sizes[-1], self.batch)

    @property
    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Initial weights (rows are inputs) and biases, for engines that have no layers of their own."""
        return self._drawn(1, 0.0)

    def _drawn(self, seed: int, bias: float) -> list[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(seed)
        return [
            (
                (rng.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32),
                np.full(columns, bias, np.float32),
            )
            for rows, columns in zip(self.sizes, self.sizes[1:], strict=False)
        ]


@dataclass(frozen=True)
class Training(Network):
    """A step of Adam."""

    learning_rate: float = 1e-3


@dataclass(frozen=True)
class HessianVector(Network):
    """The Hessian of the loss with respect to all parameters, times a vector."""

    @property
    def directions(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The vector, nested as the parameters are."""
        return self._drawn(2, 0.1)


@dataclass(frozen=True)
class PerSample(Network):
    """The gradient of each example's own loss with respect to all parameters."""


Work = Function | Network

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


def rosenbrock(xp: Any, x: Any) -> Any:
    """The extended Rosenbrock function, whose Hessian is tridiagonal."""
    return xp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def pendulum_chain(xp: Any, x: Any) -> Any:
    """The energy of a chain of pendulums: anharmonic springs between neighbours, gravity at each.

    The springs are those of E. Fermi, J. Pasta, S. Ulam and M. Tsingou (1955); gravity is as in the sine-Gordon chain.
    """
    stretch = x[1:] - x[:-1]
    springs = stretch * stretch * (0.5 + stretch * (0.1 + 0.05 * stretch))
    return xp.sum(springs) + xp.sum(1.0 - xp.cos(x))


def vector_map(xp: Any, x: Any, weight: Any, bias: Any) -> Any:
    """20 operations from a vector to one of the same length: 4 matrix products, 16 element by element."""
    y = x
    for _ in range(4):
        y = xp.sin(xp.tanh(weight @ y + bias) * x)
    return y


def small_function(xp: Any, x: Any, weight: Any) -> Any:
    """50 operations on one small vector: products with a matrix, elementwise operations, means."""
    y = x
    for _ in range(10):
        y = xp.tanh(weight @ y + x)
        y = y - xp.mean(y)
    return y


def ten_elements() -> tuple[np.ndarray, ...]:
    """Weight and bias of the sine chain."""
    return np.linspace(0.1, 1, 10), np.linspace(0.1, 1, 10)


def million_elements() -> tuple[np.ndarray, ...]:
    """Three large arrays, of a size that no cache near a core holds."""
    rng = np.random.default_rng(0)
    return tuple(rng.uniform(0.1, 1, 1_000_000).astype(np.float32) for _ in range(3))


def hundred_variables() -> tuple[np.ndarray, ...]:
    """A point of the Rosenbrock function."""
    return (np.random.default_rng(0).uniform(-1, 1, 100),)


def map_of_200() -> tuple[np.ndarray, ...]:
    """A vector of 200, the matrix and the bias of its map."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.5, 1.5, 200), rng.normal(size=(200, 200)) / np.sqrt(200), rng.normal(size=200)


def thousand_vectors() -> tuple[np.ndarray, ...]:
    """A thousand vectors of 10, and a matrix for them all."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(1000, 10)), rng.normal(size=(10, 10)) / np.sqrt(10)


WORKS: dict[str, Work] = {
    "chain": Chain(sine_chain, ten_elements),
    "chain-forward": Chain(sine_chain, ten_elements, backward=False),
    "mlp-small": Training((64, 32, 10), 32),
    "mlp-medium": Training((784, 256, 10), 64),
    "elementwise": Chain(mixed_chain, million_elements),
    "mlp-large": Training((784, 1024, 1024, 10), 128),
    "hvp": HessianVector((784, 256, 10), 64),
    "hessian": Hessian(rosenbrock, hundred_variables),
    "jacobian": Jacobian(vector_map, map_of_200),
    "per-sample": PerSample((784, 256, 10), 256),
    "vmap": Batched(small_function, thousand_vectors),
    "jvp": Pushforward(sine_chain, ten_elements),
    # Small enough to cost no memory: run first where memory is measured, so that what is loaded on first use is loaded.
    "mlp-tiny": Training((4, 4, 2), 4),
}
