"""Wengert's transforms, as its users write them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import wengert as wg
from benchmarks.works import Batched, Hessian, HessianVector, Jacobian, Job, PerSample, Pushforward, derivatives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]

_job = partial(derivatives, to_array=wg.Tensor.numpy)
# The rows of Wengert's weights are outputs.
_layers_job = partial(_job, outputs_first=True)

Layers = list[tuple[wg.Tensor, wg.Tensor]]


def _layers(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Layers:
    return [(wg.tensor(weight.T.copy()), wg.tensor(bias)) for weight, bias in pairs]


def _loss(layers: Layers, images: wg.Tensor, labels: wg.Tensor) -> wg.Tensor:
    *hidden_layers, last = layers
    for weight, bias in hidden_layers:
        images = wg.nn.functional.relu(wg.nn.functional.linear(images, weight, bias))
    return wg.nn.functional.cross_entropy(wg.nn.functional.linear(images, *last), labels)


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _hessian_vector(work: HessianVector, wrapped: Wrapper = _as_it_is) -> list[Job]:
    """Return the ways to a product; `wrapped` is applied to the function of parameters and directions."""
    images, labels = (wg.tensor(array) for array in work.inputs)

    def loss_of(layers: Layers) -> wg.Tensor:
        return _loss(layers, images, labels)

    product = wrapped(partial(wg.hvp, loss_of))
    return [_layers_job("`wg.hvp`", partial(product, _layers(work.parameters), _layers(work.directions)))]


def _hessian(work: Hessian, wrapped: Wrapper = _as_it_is) -> list[Job]:
    point, *others = (wg.tensor(array) for array in work.inputs)

    def function(x: wg.Tensor) -> wg.Tensor:
        return work.function(wg, x, *others)

    return [_job("`wg.hessian`", partial(wrapped(wg.hessian(function)), point))]


def _jacobian(work: Jacobian, wrapped: Wrapper = _as_it_is) -> list[Job]:
    point, *others = (wg.tensor(array) for array in work.inputs)

    def function(x: wg.Tensor) -> wg.Tensor:
        return work.function(wg, x, *others)

    return [
        _job("`wg.jacrev`", partial(wrapped(wg.jacrev(function)), point)),
        _job("`wg.jacfwd`", partial(wrapped(wg.jacfwd(function)), point)),
    ]


def _per_sample(work: PerSample, wrapped: Wrapper = _as_it_is) -> list[Job]:
    images, labels = (wg.tensor(array) for array in work.inputs)
    gradients = wrapped(wg.vmap(wg.grad(_loss), in_axes=(None, 0, 0)))
    return [_layers_job("`wg.vmap` of `wg.grad`", partial(gradients, _layers(work.parameters), images, labels))]


def _batched(work: Batched, wrapped: Wrapper = _as_it_is) -> list[Job]:
    inputs = [wg.tensor(array) for array in work.inputs]
    mapped = wrapped(wg.vmap(partial(work.function, wg), in_axes=(0, *[None] * (len(inputs) - 1))))
    return [_job("`wg.vmap`", partial(mapped, *inputs))]


def _pushforward(work: Pushforward, wrapped: Wrapper = _as_it_is) -> list[Job]:
    inputs = tuple(wg.tensor(array) for array in work.inputs)
    directions = tuple(wg.tensor(array) for array in work.directions)
    pushed = wrapped(partial(wg.jvp, partial(work.function, wg)))
    return [_job("`wg.jvp`", partial(pushed, inputs, directions))]


# Each takes, beside the work, what is applied to the transformed function: nothing, or `wg.compile`.
BUILDERS: dict[type, Callable[..., list[Job]]] = {
    HessianVector: _hessian_vector,
    Hessian: _hessian,
    Jacobian: _jacobian,
    PerSample: _per_sample,
    Batched: _batched,
    Pushforward: _pushforward,
}
