"""Wengert through `wg.compile`."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import wengert as wg
from benchmarks.engines import NotOffered, modules, wengert_transforms
from benchmarks.engines.wengert_steps import descent, training
from benchmarks.models import Descent, Evolution, Gradient, Model
from benchmarks.works import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

# A function that is run as it is has no place in this engine's column.
warnings.filterwarnings("error", message=r"wg\.compile")


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
    yield _gradient_job(work, work.total)


def _gradient_job(work: Gradient, total: Callable[..., Any], way: str = "") -> Job:
    inputs = [wg.tensor(array) for array in work.inputs]
    function = wg.value_and_grad(partial(total, wg), tuple(range(work.active)))
    run = partial(_compiler()(function), *inputs)

    def result() -> list[np.ndarray]:
        return [gradient.numpy() for gradient in run()[1]]

    return Job(run, result, way)


def _evolution(work: Evolution) -> Iterator[Job]:
    def scanned(xp: Any, state: Any, target: Any) -> Any:
        def body(state: Any, _: None) -> Any:
            return work.function(xp, state), None

        return work.loss(xp, wg.scan(body, state, None, work.steps)[0], target)

    yield _gradient_job(work, scanned, "`wg.scan`")
    yield _gradient_job(work, work.total, "a loop of Python's")


def _transformed(builder: Callable[..., list[Job]], work: Any) -> list[Job]:
    return builder(work, _compiler())


BUILDERS = {
    **dict.fromkeys(modules.MODELS, _training),
    Gradient: _gradient,
    Evolution: _evolution,
    Descent: _descent,
    **{kind: partial(_transformed, builder) for kind, builder in wengert_transforms.BUILDERS.items()},
}
