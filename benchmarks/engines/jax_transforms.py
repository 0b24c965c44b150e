"""JAX's transforms: functions and their arguments, for `jax_eager` to call as they are and `jax_jit` to compile."""

# pyright: reportMissingImports=false
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.works import (
    Batched,
    Function,
    Hessian,
    HessianVector,
    Jacobian,
    Job,
    PerSample,
    Pushforward,
    derivatives,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# What is in float64 for every engine is so for JAX; arrays in float32 stay so.
jax.config.update("jax_enable_x64", True)


@dataclass(frozen=True)
class Call:
    """A function of arrays and its arguments; `way` says how it is written."""

    way: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def job(self, wrapped: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Job:
        """Return the Job of the function, compiled or as it is."""
        function = wrapped(self.function)

        def run() -> Any:
            return jax.block_until_ready(function(*self.arguments))

        return derivatives(self.way, run, np.asarray)


def mean_cross_entropy(layers: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the loss of a multilayer perceptron for a batch, or for one example."""
    *hidden_layers, (last_weight, last_bias) = layers
    for weight, bias in hidden_layers:
        images = jax.nn.relu(images @ weight + bias)
    log_probabilities = jax.nn.log_softmax(images @ last_weight + last_bias)
    return -jnp.mean(jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1))


def _hessian_vector(work: HessianVector) -> list[Call]:
    gradient = jax.grad(mean_cross_entropy)

    def forward_over_reverse(layers: Any, directions: Any, images: jax.Array, labels: jax.Array) -> Any:
        def gradient_of(layers: Any) -> Any:
            return gradient(layers, images, labels)

        return jax.jvp(gradient_of, (layers,), (directions,))[1]

    def reverse_over_reverse(layers: Any, directions: Any, images: jax.Array, labels: jax.Array) -> Any:
        def gradient_of(layers: Any) -> Any:
            return gradient(layers, images, labels)

        _, pullback = jax.vjp(gradient_of, layers)
        return pullback(directions)[0]

    arguments = jax.tree.map(jnp.asarray, (work.parameters, work.directions, *work.inputs))
    return [
        Call("`jax.jvp` of `jax.grad`", forward_over_reverse, arguments),
        Call("`jax.vjp` of `jax.grad`", reverse_over_reverse, arguments),
    ]


def _hessian(work: Hessian) -> list[Call]:
    function = partial(work.function, jnp)
    return [
        Call("`jax.hessian`", jax.hessian(function), _arrays(work)),
        Call("`jax.jacrev` twice", jax.jacrev(jax.jacrev(function)), _arrays(work)),
    ]


def _jacobian(work: Jacobian) -> list[Call]:
    function = partial(work.function, jnp)
    return [
        Call("`jax.jacrev`", jax.jacrev(function), _arrays(work)),
        Call("`jax.jacfwd`", jax.jacfwd(function), _arrays(work)),
    ]


def _per_sample(work: PerSample) -> list[Call]:
    arguments = jax.tree.map(jnp.asarray, (work.parameters, *work.inputs))
    return [Call("`jax.vmap` of `jax.grad`", jax.vmap(jax.grad(mean_cross_entropy), (None, 0, 0)), arguments)]


def _batched(work: Batched) -> list[Call]:
    arguments = _arrays(work)
    mapped = jax.vmap(partial(work.function, jnp), (0, *[None] * (len(arguments) - 1)))
    return [Call("`jax.vmap`", mapped, arguments)]


def _pushforward(work: Pushforward) -> list[Call]:
    directions = tuple(jnp.asarray(array) for array in work.directions)
    return [Call("`jax.jvp`", partial(jax.jvp, partial(work.function, jnp)), (_arrays(work), directions))]


def _arrays(work: Function) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(array) for array in work.inputs)


CALLS = {
    HessianVector: _hessian_vector,
    Hessian: _hessian,
    Jacobian: _jacobian,
    PerSample: _per_sample,
    Batched: _batched,
    Pushforward: _pushforward,
}
