"""Wengert through `wg.compile`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import wengert as wg
from benchmarks.engines import NotOffered, modules, wengert_transforms
from benchmarks.engines.wengert_steps import descent, training
from benchmarks.models import Descent, Evolution, Gradient, Model
from benchmarks.works import HessianVector, Job, derivatives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _compiler() -> Callable[[Any], Any]:
    compiler = getattr(wg, "compile", None)
    if not callable(compiler):
        raise NotOffered("this version of Wengert has no wg.compile")
    return compiler


def _training(work: Model) -> Iterator[Job]:
    yield training(work, _compiler())


def _descent(work: Descent) -> Iterator[Job]:
    yield descent(work, _compiler())


def _gradient(work: Gradient) -> Iterator[Job]:
    inputs = [wg.tensor(array) for array in work.inputs]
    function = wg.value_and_grad(partial(work.total, wg), tuple(range(work.active)))
    run = partial(_compiler()(function), *inputs)

    def gradients() -> Any:
        return run()[1]

    yield derivatives("", gradients, wg.Tensor.numpy)


def _hessian_vector(work: HessianVector) -> Iterator[Job]:
    yield wengert_transforms.hessian_vector(work, _compiler())


BUILDERS = {
    **dict.fromkeys(modules.MODELS, _training),
    Gradient: _gradient,
    Evolution: _gradient,
    Descent: _descent,
    HessianVector: _hessian_vector,
}
