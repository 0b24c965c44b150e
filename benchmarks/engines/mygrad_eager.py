"""MyGrad."""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false, reportArgumentType=false
from __future__ import annotations

from typing import Any

import mygrad
import numpy as np
from mygrad.nnet.losses import softmax_crossentropy

from benchmarks.engines.adam import Adam
from benchmarks.works import Chain, Job, Training


def _chain(work: Chain) -> list[Job]:
    inputs = [mygrad.tensor(array) for array in work.inputs]

    def forward() -> Any:
        with mygrad.no_autodiff:
            return work.function(mygrad, *inputs).sum()

    def forward_backward() -> None:
        total = work.function(mygrad, *inputs).sum()
        for tensor in inputs:
            tensor.null_grad()
        total.backward()

    def result() -> list[np.ndarray]:
        if not work.backward:
            return [np.asarray(forward())]
        forward_backward()
        return [np.asarray(tensor.grad) for tensor in inputs]

    return [Job(forward_backward if work.backward else forward, result)]


def _training(work: Training) -> list[Job]:
    images, labels = work.inputs
    parameters = [mygrad.tensor(array) for layer in work.parameters for array in layer]
    optimizer = Adam([parameter.data for parameter in parameters], work.learning_rate)

    def step() -> Any:
        hidden: Any = images
        for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            hidden = mygrad.maximum(hidden @ weight + bias, 0)
        loss = softmax_crossentropy(hidden @ parameters[-2] + parameters[-1], labels)
        loss.backward()
        optimizer.step([parameter.grad for parameter in parameters])
        return loss

    def result() -> list[np.ndarray]:
        return [np.asarray(step())]

    return [Job(step, result)]


BUILDERS = {Chain: _chain, Training: _training}
