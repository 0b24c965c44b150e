"""HIPS autograd."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false
from __future__ import annotations

from typing import Any

import autograd
import autograd.numpy as anp
import numpy as np

from benchmarks.engines import hips_transforms
from benchmarks.engines.adam import Adam
from benchmarks.engines.hips_transforms import mean_cross_entropy
from benchmarks.works import Chain, Job, Training


def _chain(work: Chain) -> list[Job]:
    def total(inputs: tuple[Any, ...]) -> Any:
        return anp.sum(work.function(anp, *inputs))

    gradient = autograd.grad(total)

    def forward() -> Any:
        return total(work.inputs)

    def forward_backward() -> tuple[np.ndarray, ...]:
        return gradient(work.inputs)

    def result() -> list[np.ndarray]:
        return list(forward_backward()) if work.backward else [np.asarray(forward())]

    return [Job(forward_backward if work.backward else forward, result)]


def _training(work: Training) -> list[Job]:
    images, labels = work.inputs
    parameters = [array for layer in work.parameters for array in layer]
    optimizer = Adam(parameters, work.learning_rate)
    rows = np.arange(work.batch)

    def loss_of(arrays: list[Any]) -> Any:
        return mean_cross_entropy(list(zip(arrays[::2], arrays[1::2], strict=True)), images, rows, labels)

    value_and_grad = autograd.value_and_grad(loss_of)

    def step() -> Any:
        loss, gradients = value_and_grad(parameters)
        optimizer.step(gradients)
        return loss

    def result() -> list[np.ndarray]:
        return [np.asarray(step())]

    return [Job(step, result)]


BUILDERS = {Chain: _chain, Training: _training, **hips_transforms.BUILDERS}
