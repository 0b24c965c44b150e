"""PyTorch, eager, with its default settings: the baseline."""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
from __future__ import annotations

import numpy as np
import torch

from benchmarks.engines import pytorch_transforms
from benchmarks.works import Chain, Job, Training


def _chain(work: Chain) -> list[Job]:
    inputs = [torch.tensor(array, requires_grad=True) for array in work.inputs]

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return work.function(torch, *inputs).sum()

    def forward_backward() -> None:
        total = work.function(torch, *inputs).sum()
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
    layers: list[torch.nn.Module] = []
    for fan_in, fan_out in zip(work.sizes, work.sizes[1:], strict=False):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=work.learning_rate)
    images, labels = (torch.tensor(array) for array in work.inputs)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    def result() -> list[np.ndarray]:
        return [step().detach().numpy()]

    return [Job(step, result)]


BUILDERS = {Chain: _chain, Training: _training, **pytorch_transforms.BUILDERS}
