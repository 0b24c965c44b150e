"""JAX, compiled with `jit`: whole training steps from given weights, their state donated, and gradients."""

# pyright: reportMissingImports=false
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.engines import jax_jit, jax_models
from benchmarks.models import Descent, Evolution, Gradient, Model
from benchmarks.works import HessianVector, Job, derivatives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8


class Namespace:
    """JAX's functions of arrays, `logsumexp` among them."""

    logsumexp = staticmethod(jax.nn.logsumexp)

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)


NAMESPACE = Namespace()


def _adam(state: Any, gradients: Any, learning_rate: float) -> Any:
    parameters, means, squares, steps = state
    steps = steps + 1
    rate = learning_rate / (1 - FIRST_DECAY**steps)
    scale = 1 / jnp.sqrt(1 - SECOND_DECAY**steps)

    def new_mean(mean: jax.Array, gradient: jax.Array) -> jax.Array:
        return mean + (1 - FIRST_DECAY) * (gradient - mean)

    def new_square(square: jax.Array, gradient: jax.Array) -> jax.Array:
        return square + (1 - SECOND_DECAY) * (gradient * gradient - square)

    def moved(parameter: jax.Array, mean: jax.Array, square: jax.Array) -> jax.Array:
        return parameter - rate * mean / (jnp.sqrt(square) * scale + EPSILON)

    means = jax.tree.map(new_mean, means, gradients)
    squares = jax.tree.map(new_square, squares, gradients)
    return jax.tree.map(moved, parameters, means, squares), means, squares, steps


def _training(work: Model) -> Iterator[Job]:
    for way, loss in jax_models.losses(work).items():
        yield _training_job(work, loss, way)


def _training_job(work: Model, loss_of: Callable[..., jax.Array], way: str) -> Job:
    @partial(jax.jit, donate_argnums=0)
    def update(state: Any, inputs: jax.Array, labels: jax.Array) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(state[0], inputs, labels)
        return _adam(state, gradients, work.learning_rate), loss

    parameters = jax_models.parameters_of(work)
    means, squares = (jax.tree.map(jnp.zeros_like, parameters) for _ in range(2))
    state: Any = (parameters, means, squares, jnp.float32(0))
    return _step_job(update, state, tuple(jnp.asarray(array) for array in work.inputs), way)


def _step_job(update: Callable[..., Any], state: Any, data: tuple[jax.Array, ...], way: str = "") -> Job:
    def step() -> jax.Array:
        nonlocal state
        state, loss = jax.block_until_ready(update(state, *data))
        return loss

    def result() -> list[np.ndarray]:
        return [np.asarray(step())]

    return Job(step, result, way)


def _gradient(work: Gradient) -> Iterator[Job]:
    yield _gradient_job(work, partial(work.total, NAMESPACE))


def _evolution(work: Evolution) -> Iterator[Job]:
    def scanned(state: jax.Array, target: jax.Array) -> jax.Array:
        def body(state: jax.Array, _: None) -> Any:
            return work.function(NAMESPACE, state), None

        return work.loss(NAMESPACE, jax.lax.scan(body, state, None, work.steps)[0], target)

    # A loop of Python's, unrolled, takes minutes to compile and a hundred times as long to run.
    yield _gradient_job(work, scanned)


def _gradient_job(work: Gradient, function: Callable[..., jax.Array], way: str = "") -> Job:
    inputs = tuple(jnp.asarray(array) for array in work.inputs)
    compiled = jax.jit(jax.value_and_grad(function, tuple(range(work.active))))

    def run() -> Any:
        return jax.block_until_ready(compiled(*inputs))[1]

    return derivatives(way, run, np.asarray)


def _descent(work: Descent) -> Iterator[Job]:
    def loss_of(parameters: Any) -> jax.Array:
        return work.function(jnp, *parameters)

    def moved(parameter: jax.Array, gradient: jax.Array) -> jax.Array:
        return parameter - work.learning_rate * gradient

    @partial(jax.jit, donate_argnums=0)
    def update(parameters: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(parameters)
        return jax.tree.map(moved, parameters, gradients), loss

    yield _step_job(update, tuple(jnp.array(array) for array in work.inputs), ())


BUILDERS = {
    **dict.fromkeys(jax_models.MODELS, _training),
    Gradient: _gradient,
    Evolution: _evolution,
    Descent: _descent,
    HessianVector: jax_jit.BUILDERS[HessianVector],
}
