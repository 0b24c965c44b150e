"""PyTorch, eager: whole training steps from given weights, and gradients of scalar functions."""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import pad

from benchmarks.engines import modules, pytorch_transforms
from benchmarks.models import Descent, Evolution, Gradient, Model
from benchmarks.works import HessianVector, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Namespace:
    """PyTorch's functions; padding as in NumPy."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def pad(x: torch.Tensor, width: int) -> torch.Tensor:
        """Put zeros around a matrix."""
        return pad(x, (width,) * 4)


NAMESPACE = Namespace()


def _thirds(x: torch.Tensor) -> Any:
    return x.chunk(3, -1)


LIBRARY = modules.Library(torch.nn, _thirds)


def training(
    work: Model,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    compiled: Callable[[Any], Any] | None = None,
    compiled_update: Callable[[Any], Any] | None = None,
    **options: Any,
) -> Callable[[], torch.Tensor]:
    """Return a training step; `compiled` is applied to the loss, `compiled_update` to Adam's step."""
    module = modules.build(LIBRARY, work)
    module.load_state_dict({name: torch.tensor(array) for name, array in work.parameters.items()})
    module.to(dtype)
    inputs, labels = (torch.tensor(array) for array in work.inputs)
    inputs = inputs.to(dtype) if inputs.is_floating_point() else inputs
    if channels_last:
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        inputs = inputs.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(module.parameters(), **{"lr": work.learning_rate, **options})
    loss_of = partial(modules.loss_of, LIBRARY, work, module)
    loss_of = compiled(loss_of) if compiled else loss_of
    update = compiled_update(optimizer.step) if compiled_update else optimizer.step

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(inputs, labels)
        loss.backward()
        update()
        return loss

    return step


def job(way: str, step: Callable[[], torch.Tensor]) -> Job:
    """Return the Job of a training step, whose result is the loss before it."""

    def result() -> list[np.ndarray]:
        return [step().detach().numpy()]

    return Job(step, result, way)


def _training(work: Model) -> Iterator[Job]:
    yield job("`Adam`", training(work))
    yield job("`Adam(fused=True)`", training(work, fused=True))
    if type(work) is modules.Convolutional:
        yield job("`Adam(fused=True)`, channels last", training(work, channels_last=True, fused=True))


def gradient_job(work: Gradient, way: str, function: Callable[..., torch.Tensor]) -> Job:
    """Return the Job of a gradient by `backward` of a function of the work's inputs."""
    inputs = [torch.tensor(array) for array in work.inputs]
    active = [tensor.requires_grad_() for tensor in inputs[: work.active]]

    def run() -> None:
        for tensor in active:
            tensor.grad = None
        function(*inputs).backward()

    def result() -> list[np.ndarray]:
        run()
        return [np.asarray(tensor.grad) for tensor in active]

    return Job(run, result, way)


def _gradient(work: Gradient) -> Iterator[Job]:
    yield gradient_job(work, "`backward`", partial(work.total, NAMESPACE))


def descent(
    work: Descent, compiled: Callable[[Any], Any] | None = None, compiled_update: Callable[[Any], Any] | None = None
) -> Callable[[], torch.Tensor]:
    """Return a step of SGD."""
    parameters = [torch.tensor(array, requires_grad=True) for array in work.inputs]
    optimizer = torch.optim.SGD(parameters, lr=work.learning_rate)
    function: Any = partial(work.function, torch)
    function = compiled(function) if compiled else function
    update = compiled_update(optimizer.step) if compiled_update else optimizer.step

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = function(*parameters)
        loss.backward()
        update()
        return loss

    return step


def _descent(work: Descent) -> Iterator[Job]:
    yield job("`SGD`", descent(work))


BUILDERS = {
    **dict.fromkeys(modules.MODELS, _training),
    Gradient: _gradient,
    Evolution: _gradient,
    Descent: _descent,
    HessianVector: pytorch_transforms.BUILDERS[HessianVector],
}
