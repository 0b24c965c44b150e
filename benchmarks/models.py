"""What `benchmarks.compiled` measures: models that are trained, and scalar functions whose gradients are taken.

Initial weights and data are arrays made here, so that every engine starts from the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.works import Function, HessianVector, million_elements, mixed_chain, sine_chain, ten_elements

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Model:
    """A model and its batch: mean cross-entropy of integer labels, whole steps of Adam.

    Parameters go by PyTorch's names and have its layouts: the rows of a weight are outputs.
    """

    batch: int

    @property
    def learning_rate(self) -> float:
        """That of Adam; its other constants are PyTorch's."""
        return 1e-3

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return 10

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, by name."""
        raise NotImplementedError

    def draw_inputs(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a batch."""
        raise NotImplementedError

    @property
    def label_shape(self) -> tuple[int, ...]:
        """What the labels are one each of."""
        return (self.batch,)

    @cached_property
    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """The batch and its labels."""
        rng = np.random.default_rng(0)
        return self.draw_inputs(rng), rng.integers(0, self.classes, self.label_shape)

    @cached_property
    def parameters(self) -> Arrays:
        """Initial values: variance 1 / fan-in; scales of norms are one, biases zero."""
        rng = np.random.default_rng(1)
        return {name: _initial(name, shape, rng) for name, shape in self.shapes.items()}


def _initial(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if len(shape) == 1:
        return np.full(shape, 1.0 if name.endswith("weight") else 0.0, np.float32)
    deviation = 0.02 if name.endswith("table.weight") else 1 / math.sqrt(math.prod(shape[1:]))
    return (deviation * rng.normal(size=shape)).astype(np.float32)


@dataclass(frozen=True)
class Perceptron(Model):
    """Affine layers with ReLU between them."""

    sizes: tuple[int, ...]

    @property
    def classes(self) -> int:
        """The last layer's outputs."""
        return self.sizes[-1]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of a `Sequential` with an activation after every layer but the last."""
        shapes: dict[str, tuple[int, ...]] = {}
        for place, (rows, columns) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            shapes |= _affine(str(2 * place), rows, columns)
        return shapes

    def draw_inputs(self, rng: np.random.Generator) -> np.ndarray:
        """Draw vectors."""
        return rng.normal(size=(self.batch, self.sizes[0])).astype(np.float32)


@dataclass(frozen=True)
class Convolutional(Model):
    """Two convolutions, each 3 x 3 with padding 1, ReLU and max pooling by 2, then an affine layer."""

    extent: int = 28
    channels: tuple[int, int, int] = (1, 16, 32)

    @property
    def features(self) -> int:
        """What the affine layer is given."""
        return self.channels[-1] * (self.extent // 4) ** 2

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of a `Sequential`: convolution, ReLU, pooling, twice; flattening; the affine layer."""
        first, second, third = self.channels
        return {
            "0.weight": (second, first, 3, 3),
            "0.bias": (second,),
            "3.weight": (third, second, 3, 3),
            "3.bias": (third,),
            **_affine("7", self.features, self.classes),
        }

    def draw_inputs(self, rng: np.random.Generator) -> np.ndarray:
        """Draw images, channels first."""
        return rng.normal(size=(self.batch, self.channels[0], self.extent, self.extent)).astype(np.float32)


@dataclass(frozen=True)
class Transformer(Model):
    """A decoder as in GPT-2 (A. Radford et al., 2019): norms first, causal attention, GELU, no dropout."""

    layers: int
    width: int
    heads: int
    tokens: int
    vocabulary: int

    @property
    def classes(self) -> int:
        """The vocabulary."""
        return self.vocabulary

    @property
    def label_shape(self) -> tuple[int, ...]:
        """A label for each token."""
        return (self.batch, self.tokens)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tables of tokens and places, blocks, the last norm, the head."""
        width = self.width
        shapes = {"token_table.weight": (self.vocabulary, width), "place_table.weight": (self.tokens, width)}
        for layer in range(self.layers):
            block = f"blocks.{layer}"
            shapes |= {f"{block}.attention_norm.weight": (width,), f"{block}.attention_norm.bias": (width,)}
            shapes |= _affine(f"{block}.query_key_value", width, 3 * width) | _affine(f"{block}.mix", width, width)
            shapes |= {f"{block}.widening_norm.weight": (width,), f"{block}.widening_norm.bias": (width,)}
            shapes |= _affine(f"{block}.widen", width, 4 * width) | _affine(f"{block}.narrow", 4 * width, width)
        norm = {"norm.weight": (width,), "norm.bias": (width,)}
        return {**shapes, **norm, "head.weight": (self.vocabulary, width)}

    def draw_inputs(self, rng: np.random.Generator) -> np.ndarray:
        """Draw tokens."""
        return rng.integers(0, self.vocabulary, self.label_shape)


@dataclass(frozen=True)
class Recurrent(Model):
    """One LSTM layer over a sequence, and an affine layer of its last state."""

    steps: int
    width: int
    hidden: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of `LSTM` and `Linear`."""
        gates = 4 * self.hidden
        return {
            "recurrence.weight_ih_l0": (gates, self.width),
            "recurrence.weight_hh_l0": (gates, self.hidden),
            "recurrence.bias_ih_l0": (gates,),
            "recurrence.bias_hh_l0": (gates,),
            **_affine("head", self.hidden, self.classes),
        }

    def draw_inputs(self, rng: np.random.Generator) -> np.ndarray:
        """Draw sequences, time first."""
        return rng.normal(size=(self.steps, self.batch, self.width)).astype(np.float32)


def _affine(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (columns, rows), f"{name}.bias": (columns,)}


@dataclass(frozen=True)
class Gradient(Function):
    """Value and gradient of a scalar function with respect to its first inputs.

    `active` says how many of them. `length` bounds the roundings on a path from an input to an element of a gradient,
    terms of sums included: what an error may grow to, in units of the last place.
    """

    active: int = 1
    length: int = 1

    def total(self, xp: Any, *inputs: Any) -> Any:
        """Return the value."""
        return self.function(xp, *inputs)


def chain_total(xp: Any, weight: Any, bias: Any) -> Any:
    """The sum of the sine chain's last vector."""
    return xp.sum(sine_chain(xp, weight, bias))


def mixture_posterior(xp: Any, alphas: Any, means: Any, factors: Any, points: Any, places: Any) -> Any:
    """The log posterior of a Gaussian mixture model with a Wishart prior, the first objective of ADBench.

    F. Srajer, Z. Kukelova and A. Fitzgibbon, "A benchmark of selected algorithmic differentiation tools on some
    problems in computer vision and machine learning" (2018), section 4.1, vectorised over points and components. Each
    row of `factors` has the logarithms of the diagonal of a lower triangular matrix, then what is below it, column by
    column; `places` says where each element of the matrix is found in that row, with a zero put before it.
    """
    count, dimension = points.shape
    components = means.shape[0]
    logarithms = factors[:, :dimension]
    diagonals = xp.exp(logarithms)
    below = xp.concatenate((xp.zeros_like(factors[:, :1]), factors), 1)[:, places]
    log_determinants = xp.sum(logarithms, 1)
    centred = points[:, None, :] - means
    whitened = diagonals * centred + xp.einsum("kij,nkj->nki", below, centred)
    inner = alphas + log_determinants - 0.5 * xp.sum(whitened * whitened, 2)
    likelihood = xp.sum(xp.logsumexp(inner, 1)) - count * xp.logsumexp(alphas, 0)
    frobenius = xp.sum(diagonals * diagonals) + xp.sum(factors[:, dimension:] ** 2)
    prior = 0.5 * WISHART_GAMMA**2 * frobenius - WISHART_M * xp.sum(log_determinants)
    return likelihood + prior + _mixture_constant(count, dimension, components)


WISHART_GAMMA, WISHART_M = 1.0, 0


def _mixture_constant(count: int, dimension: int, components: int) -> float:
    freedom = dimension + WISHART_M + 1
    # The logarithm of the multivariate gamma function of half the degrees of freedom.
    gammas = sum(math.lgamma(0.5 * (freedom - j)) for j in range(dimension))
    gammas += 0.25 * dimension * (dimension - 1) * math.log(math.pi)
    prior = freedom * dimension * math.log(WISHART_GAMMA / math.sqrt(2)) - gammas
    return -0.5 * count * dimension * math.log(2 * math.pi) - components * prior


POINTS, DIMENSION, COMPONENTS = 1000, 10, 25


def mixture_inputs() -> tuple[np.ndarray, ...]:
    """Parameters and points as ADBench draws them, and the places of the elements below the diagonals."""
    rng = np.random.default_rng(0)
    below = DIMENSION * (DIMENSION - 1) // 2
    places = np.zeros((DIMENSION, DIMENSION), np.int64)
    columns, rows = np.triu_indices(DIMENSION, 1)
    places[rows, columns] = 1 + DIMENSION + np.arange(below)
    return (
        rng.normal(size=COMPONENTS),
        rng.uniform(size=(COMPONENTS, DIMENSION)),
        rng.normal(size=(COMPONENTS, DIMENSION + below)),
        rng.normal(size=(POINTS, DIMENSION)),
        places,
    )


HEAT_NUMBER = 0.2


def heat_step(xp: Any, u: Any) -> Any:
    """An explicit step of the heat equation in two dimensions, the field being zero beyond its border."""
    wide = xp.pad(u, 1)
    around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    return u + HEAT_NUMBER * (around - 4 * u)


def mean_square(xp: Any, u: Any, target: Any) -> Any:
    """The mean square distance from a target."""
    return xp.mean((u - target) ** 2)


@dataclass(frozen=True)
class Evolution(Gradient):
    """The gradient of a loss of the last state with respect to the first, after many equal steps.

    `function` is one step, for libraries that have loops of their own to repeat it.
    """

    steps: int = 50
    loss: Callable[..., Any] = mean_square

    def total(self, xp: Any, state: Any, target: Any) -> Any:
        """Return the loss, the steps taken in a loop of Python's."""
        for _ in range(self.steps):
            state = self.function(xp, state)
        return self.loss(xp, state, target)


def heat_inputs(extent: int = 512) -> tuple[np.ndarray, ...]:
    """A smooth field with noise on it, and the smooth field."""
    rng = np.random.default_rng(0)
    x = np.linspace(0, math.pi, extent)
    smooth = np.outer(np.sin(x), np.sin(2 * x))
    return (smooth + 0.1 * rng.normal(size=smooth.shape)).astype(np.float32), smooth.astype(np.float32)


def mixed_total(xp: Any, x: Any, scale: Any, shift: Any) -> Any:
    """The sum of the mixed chain's result."""
    return xp.sum(mixed_chain(xp, x, scale, shift))


def many_squares(count: int, size: int) -> Callable[..., Any]:
    """Return what makes so many small arrays."""

    def make() -> tuple[np.ndarray, ...]:
        return tuple(np.linspace(0.1, 1.0, count * size, dtype=np.float32).reshape(count, size))

    return make


@dataclass(frozen=True)
class Descent(Function):
    """A step of SGD on half the sum of squares of all parameters: calls cost more than arithmetic does."""

    learning_rate: float = 0.0009765625


def half_squares(xp: Any, *parameters: Any) -> Any:
    """Half the sum of squares of all elements of all arrays."""
    total = xp.sum(parameters[0] * parameters[0])
    for parameter in parameters[1:]:
        total = total + xp.sum(parameter * parameter)
    return 0.5 * total


MANY, SMALL = 200, 10
CompiledWork = Model | Gradient | HessianVector | Descent
# Roundings on a path: the chain forwards and backwards, 300 operations each; two sums over all pairs of points and
# components; 50 steps of 7 operations forwards and backwards; 12 operations twice.
COMPILED_WORKS: dict[str, CompiledWork] = {
    "mlp-small": Perceptron(32, (64, 32, 10)),
    "mlp-medium": Perceptron(64, (784, 256, 10)),
    "mlp-large": Perceptron(128, (784, 1024, 1024, 10)),
    "cnn": Convolutional(64),
    "gpt": Transformer(16, layers=4, width=128, heads=4, tokens=64, vocabulary=65),
    "chain": Gradient(chain_total, ten_elements, active=2, length=600),
    "lstm": Recurrent(32, steps=50, width=64, hidden=128),
    "gmm": Gradient(mixture_posterior, mixture_inputs, active=3, length=2 * POINTS * COMPONENTS),
    "heat": Evolution(heat_step, heat_inputs, length=2 * 7 * 50),
    "hvp": HessianVector((784, 256, 10), 64),
    "elementwise": Gradient(mixed_total, million_elements, active=3, length=24),
    "many-parameters": Descent(half_squares, many_squares(MANY, SMALL)),
    "one-parameter": Descent(half_squares, many_squares(1, MANY * SMALL)),
    "one-tiny": Descent(half_squares, many_squares(1, 1)),
    # Small enough to cost nothing: run first in a fresh process, so that what is loaded on first use is loaded.
    "tiny": Perceptron(4, (4, 4, 2)),
}
