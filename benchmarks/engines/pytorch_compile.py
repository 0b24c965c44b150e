"""PyTorch through `torch.compile`, whose backend, inductor, needs a C++ compiler."""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.engines import NotOffered, modules, pytorch_transforms
from benchmarks.engines.pytorch_steps import NAMESPACE, descent, gradient_job, job, training
from benchmarks.models import Descent, Evolution, Gradient, Model
from benchmarks.works import Job, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPILERS = ("g++", "clang++", "c++", "cl")
# Inductor unrolls nothing, but each work compiles more graphs than the default number of them that a function may have.
torch._dynamo.config.cache_size_limit = 64


def _demand_compiler() -> None:
    if not any(shutil.which(name) for name in COMPILERS):
        raise NotOffered(f"torch.compile needs a C++ compiler: one of {', '.join(COMPILERS)}")


def _training(work: Model) -> Iterator[Job]:
    _demand_compiler()
    yield job("loss compiled", training(work, compiled=torch.compile, fused=True))
    yield job("loss and `Adam.step` compiled", training(work, compiled=torch.compile, compiled_update=torch.compile))


def _gradient(work: Gradient) -> Iterator[Job]:
    _demand_compiler()
    yield gradient_job(work, "function compiled", torch.compile(partial(work.total, NAMESPACE)))


def _evolution(work: Evolution) -> Iterator[Job]:
    _demand_compiler()
    step = torch.compile(partial(work.function, NAMESPACE))

    def total(state: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        for _ in range(work.steps):
            state = step(state)
        return work.loss(NAMESPACE, state, target)

    yield gradient_job(work, "one step compiled", total)


def _descent(work: Descent) -> Iterator[Job]:
    _demand_compiler()
    yield job("loss compiled", descent(work, torch.compile))
    yield job("loss and `SGD.step` compiled", descent(work, torch.compile, torch.compile))


def _transformed(kind: type, work: Any) -> Iterator[Job]:
    _demand_compiler()
    job_of = pytorch_transforms.layers_job if issubclass(kind, Network) else pytorch_transforms.job
    for eager in pytorch_transforms.BUILDERS[kind](work):
        if "torch.func" in eager.way:
            yield job_of(eager.way, torch.compile(_calling(eager.run)))


def _calling(run: Callable[[], Any]) -> Callable[[], Any]:
    """Return a plain function, which Dynamo traces whatever it is that it calls."""

    def call() -> Any:
        return run()

    return call


BUILDERS = {
    **dict.fromkeys(modules.MODELS, _training),
    Gradient: _gradient,
    Evolution: _evolution,
    Descent: _descent,
    **{kind: partial(_transformed, kind) for kind in pytorch_transforms.BUILDERS},
}
