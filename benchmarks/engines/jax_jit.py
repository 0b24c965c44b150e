"""JAX, compiled with `jit`; compilation is not measured."""

# pyright: reportMissingImports=false
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.engines.jax_transforms import CALLS, Call, mean_cross_entropy
from benchmarks.works import Chain, Job, Training

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8


def _chain(work: Chain) -> list[Job]:
    def total(inputs: tuple[jax.Array, ...]) -> jax.Array:
        return jnp.sum(work.function(jnp, *inputs))

    compiled = jax.jit(jax.grad(total) if work.backward else total)
    inputs = tuple(jnp.asarray(array) for array in work.inputs)

    def run() -> Any:
        return jax.block_until_ready(compiled(inputs))

    def result() -> list[np.ndarray]:
        return [np.asarray(array) for array in jax.tree.leaves(run())]

    return [Job(run, result)]


def _training(work: Training) -> list[Job]:
    images, labels = (jnp.asarray(array) for array in work.inputs)

    @jax.jit
    def update(state: Any, images: jax.Array, labels: jax.Array) -> Any:
        parameters, means, squares, steps = state
        steps = steps + 1
        loss, gradients = jax.value_and_grad(mean_cross_entropy)(parameters, images, labels)
        rate = work.learning_rate / (1 - FIRST_DECAY**steps)
        scale = 1 / jnp.sqrt(1 - SECOND_DECAY**steps)

        def new_mean(mean: jax.Array, gradient: jax.Array) -> jax.Array:
            return mean + (1 - FIRST_DECAY) * (gradient - mean)

        def new_square(square: jax.Array, gradient: jax.Array) -> jax.Array:
            return square + (1 - SECOND_DECAY) * (gradient * gradient - square)

        def moved(parameter: jax.Array, mean: jax.Array, square: jax.Array) -> jax.Array:
            return parameter - rate * mean / (jnp.sqrt(square) * scale + EPSILON)

        means = jax.tree.map(new_mean, means, gradients)
        squares = jax.tree.map(new_square, squares, gradients)
        return (jax.tree.map(moved, parameters, means, squares), means, squares, steps), loss

    parameters = jax.tree.map(jnp.asarray, work.parameters)
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state: Any = (parameters, zeros, zeros, jnp.float32(0))

    def step() -> jax.Array:
        nonlocal state
        state, loss = jax.block_until_ready(update(state, images, labels))
        return loss

    def result() -> list[np.ndarray]:
        return [np.asarray(step())]

    return [Job(step, result)]


def _compiled(calls: Callable[[Any], list[Call]], work: Any) -> list[Job]:
    return [call.job(jax.jit) for call in calls(work)]


BUILDERS = {
    Chain: _chain,
    Training: _training,
    **{kind: partial(_compiled, calls) for kind, calls in CALLS.items()},
}
