"""HIPS autograd."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false
from __future__ import annotations

from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np

from benchmarks.engines.adam import Adam
from benchmarks.works import Chain, Job, Training, Work


def build(work: Work) -> Job:
    """Set a piece of work up."""
    return _training(work) if isinstance(work, Training) else _chain(work)


def _chain(work: Chain) -> Job:
    def total(inputs: tuple[Any, ...]) -> Any:
        return anp.sum(work.function(anp, *inputs))

    gradient = autograd.grad(total)

    def forward() -> Any:
        return total(work.inputs)

    def forward_backward() -> tuple[np.ndarray, ...]:
        return gradient(work.inputs)

    def result() -> list[np.ndarray]:
        return list(forward_backward()) if work.backward else [np.asarray(forward())]

    return Job(forward_backward if work.backward else forward, result)


def _training(work: Training) -> Job:
    images, labels = work.inputs
    parameters = [array for layer in work.parameters for array in layer]
    optimizer = Adam(parameters, work.learning_rate)
    rows = np.arange(work.batch)

    def loss_of(arrays: list[Any]) -> Any:
        hidden = images
        for weight, bias in zip(arrays[:-2:2], arrays[1:-2:2], strict=True):
            hidden = anp.maximum(hidden @ weight + bias, 0)
        logits = hidden @ arrays[-2] + arrays[-1]
        shifted = logits - anp.max(logits, axis=1, keepdims=True)
        log_partition = anp.log(anp.sum(anp.exp(shifted), axis=1))
        return anp.mean(log_partition - shifted[rows, labels])

    value_and_grad = autograd.value_and_grad(loss_of)

    def step() -> Any:
        loss, gradients = value_and_grad(parameters)
        optimizer.step(gradients)
        return loss

    def result() -> list[np.ndarray]:
        return [np.asarray(step())]

    return Job(step, result)
