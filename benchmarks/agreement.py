"""Whether every engine of `benchmarks.compiled` computes the same: bounds on differences, derived and not chosen.

Losses of training. PyTorch trains in float64, and in float32; how far the two come apart by step t, at the most, is how
far rounding in float32 carries this model from the exact course. Another engine rounds in another order, so that it
may come as far to the other side, and rounding has chance in it: it is allowed 8 times that distance. To this are added
sqrt(n) units in the last place of the loss, n being the longest sum in the model, because two courses that round alike
would otherwise leave no room for a third. Where factors of products are rounded to bfloat16, PyTorch with autocast
takes the place of PyTorch in float32.

Gradients and products with Hessians. A result that n roundings lie behind may be off by n units in the last place of
the largest element.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.engines import PYTORCH_STEPS, NotInstalled
from benchmarks.models import Descent, Gradient, Model
from benchmarks.works import HessianVector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.works import Job

STEPS = 10
FACTOR = 8.0
Course = tuple[tuple[float, ...], tuple[float, ...]]


def demand_agreement(name: str, job: Job, work: Any, is_narrow: bool = False) -> None:
    """Run a Job that has not run yet; raise ArithmeticError where what it computes is not what PyTorch does."""
    try:
        if isinstance(work, Model):
            _demand_losses(name, [float(job.result()[0]) for _ in range(STEPS)], *_course(work, is_narrow))
        else:
            _demand_arrays(name, job.result(), _expected(work), _length(work))
    except NotInstalled:
        # Without PyTorch there is nothing to compare with; the page says which engines took part.
        return


def bounds(exact: Sequence[float], rounded: Sequence[float], longest_sum: int) -> list[float]:
    """Return how far the loss of each step may be from the exact one, given the course of another engine."""
    drift = itertools.accumulate((abs(mine - theirs) for mine, theirs in zip(rounded, exact, strict=True)), max)
    unit = math.sqrt(longest_sum) * float(np.finfo(np.float32).eps)
    return [FACTOR * most + unit * abs(loss) for most, loss in zip(drift, exact, strict=True)]


def _demand_losses(name: str, losses: Sequence[float], exact: Sequence[float], allowed: Sequence[float]) -> None:
    for step, (loss, expected, bound) in enumerate(zip(losses, exact, allowed, strict=True), 1):
        if not abs(loss - expected) <= bound:
            raise ArithmeticError(
                f"{name}: the loss of step {step} is {loss!r}, where a run in float64 has {expected!r}; "
                f"rounding explains {bound:.1e}"
            )


def _demand_arrays(name: str, results: Sequence[np.ndarray], expected: Sequence[np.ndarray], length: int) -> None:
    for place, (mine, theirs) in enumerate(zip(results, expected, strict=True)):
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            raise ArithmeticError(
                f"{name}: result {place} is {mine.dtype}{mine.shape}, not {theirs.dtype}{theirs.shape}"
            )
        bound = length * float(np.finfo(theirs.dtype).eps) * float(np.abs(theirs).max())
        distance = float(np.abs(mine - theirs).max())
        if not distance <= bound:
            raise ArithmeticError(f"{name}: result {place} is off by {distance:.1e}; rounding explains {bound:.1e}")


def _length(work: Gradient | HessianVector | Descent) -> int:
    if isinstance(work, Gradient):
        return work.length
    if isinstance(work, HessianVector):
        # Forwards and backwards, and the derivative of both, each a sum over the widest layer and over the batch.
        return 4 * (max(work.sizes) + work.batch)
    return sum(array.size for array in work.inputs)


@functools.cache
def _expected(work: Gradient | HessianVector | Descent) -> list[np.ndarray]:
    return PYTORCH_STEPS.build(work).result()


@functools.cache
def _course(work: Model, is_narrow: bool) -> Course:
    PYTORCH_STEPS.demand()
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks.engines.pytorch_autocast import autocast
    from benchmarks.engines.pytorch_steps import training

    exact, rounded = (
        [step().item() for _ in range(STEPS)]
        for step in (training(work, dtype=torch.float64), training(work, compiled=autocast if is_narrow else None))
    )
    longest = max(work.inputs[1].size, *(math.prod(shape[1:]) for shape in work.shapes.values()))
    return tuple(exact), tuple(bounds(exact, rounded, longest))
