"""Wengert, eager, as its users write it."""

from __future__ import annotations

import numpy as np

import wengert as wg
from benchmarks.engines import wengert_transforms
from benchmarks.works import Chain, Job, Training


def _chain(work: Chain) -> list[Job]:
    inputs = [wg.tensor(array, requires_grad=True) for array in work.inputs]

    def forward() -> wg.Tensor:
        with wg.no_grad():
            return work.function(wg, *inputs).sum()

    def forward_backward() -> None:
        total = work.function(wg, *inputs).sum()
        for tensor in inputs:
            tensor.grad = None
        total.backward()

    def result() -> list[np.ndarray]:
        if not work.backward:
            return [forward().numpy()]
        forward_backward()
        return [np.asarray(tensor.grad) for tensor in inputs]

    return [Job(forward_backward if work.backward else forward, result)]


def _training(work: Training) -> list[Job]:
    layers: list[wg.nn.Module] = []
    for fan_in, fan_out in zip(work.sizes, work.sizes[1:], strict=False):
        layers += [wg.nn.Linear(fan_in, fan_out), wg.nn.ReLU()]
    model = wg.nn.Sequential(*layers[:-1])
    optimizer = wg.optim.Adam(model.parameters(), lr=work.learning_rate)
    images, labels = (wg.tensor(array) for array in work.inputs)

    def step() -> wg.Tensor:
        optimizer.zero_grad()
        loss = wg.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    def result() -> list[np.ndarray]:
        return [step().detach().numpy()]

    return [Job(step, result)]


BUILDERS = {Chain: _chain, Training: _training, **wengert_transforms.BUILDERS}
