"""HIPS autograd's transforms. It has no vmap; per-sample gradients are a loop."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
from __future__ import annotations

from functools import partial
from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np

from benchmarks.works import Hessian, HessianVector, Jacobian, Job, PerSample, Pushforward, derivatives

_job = partial(derivatives, to_array=np.asarray)


def mean_cross_entropy(layers: list[Any], images: Any, rows: Any, labels: Any) -> Any:
    """Return the loss of a multilayer perceptron; `rows` counts the examples."""
    *hidden_layers, (last_weight, last_bias) = layers
    for weight, bias in hidden_layers:
        images = anp.maximum(images @ weight + bias, 0)
    logits = images @ last_weight + last_bias
    shifted = logits - anp.max(logits, axis=1, keepdims=True)
    log_partition = anp.log(anp.sum(anp.exp(shifted), axis=1))
    return anp.mean(log_partition - shifted[rows, labels])


def _hessian_vector(work: HessianVector) -> list[Job]:
    images, labels = work.inputs
    layers, directions = work.parameters, work.directions
    make_product = autograd.make_hvp(mean_cross_entropy)
    rows = np.arange(work.batch)

    def run() -> Any:
        product, _ = make_product(layers, images, rows, labels)
        return product(directions)

    return [_job("`make_hvp`", run)]


def _hessian(work: Hessian) -> list[Job]:
    function = autograd.hessian(partial(work.function, anp))
    return [_job("`hessian`", partial(function, *work.inputs))]


def _jacobian(work: Jacobian) -> list[Job]:
    function = autograd.jacobian(partial(work.function, anp))
    return [_job("`jacobian`", partial(function, *work.inputs))]


def _per_sample(work: PerSample) -> list[Job]:
    images, labels = work.inputs
    layers = work.parameters
    gradient = autograd.grad(mean_cross_entropy)
    first = np.arange(1)

    def run() -> Any:
        each = [gradient(layers, images[i : i + 1], first, labels[i : i + 1]) for i in range(work.batch)]
        return [tuple(np.stack(arrays) for arrays in zip(*layer, strict=True)) for layer in zip(*each, strict=True)]

    return [_job("a loop of `grad`", run)]


def _pushforward(work: Pushforward) -> list[Job]:
    every = tuple(range(len(work.inputs)))
    make_product = autograd.make_jvp(partial(work.function, anp), every)

    def run() -> Any:
        return make_product(*work.inputs)(work.directions)

    return [_job("`make_jvp`", run)]


BUILDERS = {
    HessianVector: _hessian_vector,
    Hessian: _hessian,
    Jacobian: _jacobian,
    PerSample: _per_sample,
    Pushforward: _pushforward,
}
