"""Wengert, eager: whole training steps from given weights, and gradients of scalar functions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import wengert as wg
from benchmarks.engines import modules, wengert_transforms
from benchmarks.models import Descent, Evolution, Gradient, Model
from benchmarks.works import HessianVector, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wrapper = Callable[[Any], Any]


def as_it_is(function: Any) -> Any:
    """Return the function, uncompiled."""
    return function


def _thirds(x: wg.Tensor) -> Any:
    return wg.split(x, 3, -1)


LIBRARY = modules.Library(wg.nn, _thirds)


def training(work: Model, wrapped: Wrapper = as_it_is) -> Job:
    """Return the Job of a training step, whose result is the loss before it."""
    module = modules.build(LIBRARY, work)
    module.load_state_dict(work.parameters)
    optimizer = wg.optim.Adam(module.parameters(), lr=work.learning_rate)
    inputs, labels = (wg.tensor(array) for array in work.inputs)

    def update(inputs: wg.Tensor, labels: wg.Tensor) -> wg.Tensor:
        optimizer.zero_grad()
        loss = modules.loss_of(LIBRARY, work, module, inputs, labels)
        loss.backward()
        optimizer.step()
        return loss

    return _step_job(partial(wrapped(update), inputs, labels))


def _step_job(step: Callable[[], wg.Tensor]) -> Job:
    def result() -> list[np.ndarray]:
        return [step().detach().numpy()]

    return Job(step, result)


def gradient(work: Gradient) -> Job:
    """Return the Job of a gradient by `backward`."""
    inputs = [wg.tensor(array) for array in work.inputs]
    active = [tensor.requires_grad_() for tensor in inputs[: work.active]]

    def run() -> None:
        for tensor in active:
            tensor.grad = None
        work.total(wg, *inputs).backward()

    def result() -> list[np.ndarray]:
        run()
        return [np.asarray(tensor.grad) for tensor in active]

    return Job(run, result)


def descent(work: Descent, wrapped: Wrapper = as_it_is) -> Job:
    """Return the Job of a step of SGD."""
    parameters = [wg.tensor(array, requires_grad=True) for array in work.inputs]
    optimizer = wg.optim.SGD(parameters, lr=work.learning_rate)

    def update() -> wg.Tensor:
        optimizer.zero_grad()
        loss = work.function(wg, *parameters)
        loss.backward()
        optimizer.step()
        return loss

    return _step_job(wrapped(update))


def _alone(builder: Callable[[Any], Job]) -> Callable[[Any], Iterator[Job]]:
    def build(work: Any) -> Iterator[Job]:
        yield builder(work)

    return build


BUILDERS = {
    **dict.fromkeys(modules.MODELS, _alone(training)),
    Gradient: _alone(gradient),
    Evolution: _alone(gradient),
    Descent: _alone(descent),
    HessianVector: wengert_transforms.BUILDERS[HessianVector],
}
