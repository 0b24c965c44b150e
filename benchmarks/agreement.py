"""Whether every engine of `benchmarks.compiled` computes the same: bounds on differences, derived and not chosen.

Losses of training. PyTorch trains in float64, and in float32; how far the two come apart by step t, at the most, is how
far rounding in float32 carries this model from the exact course. Another engine rounds in another order, so that it
may come as far to the other side, and rounding has chance in it: it is allowed 8 times that distance. To this are added
sqrt(n) units in the last place of the loss, n being the longest sum in the model, because two courses that round alike
would otherwise leave no room for a third; and what comes of Adam's correction 1 - 0.999^t, in which float32 leaves half
a unit of 1, a thousandth part of which is the correction of the first step. PyTorch takes it from Python's numbers, but
JAX and torch.compile do not: the square root of it, so that much of the rate, may be off, and a run in float64 at
such a rate says how far that goes. Where factors of products are rounded to bfloat16, PyTorch with autocast
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
    from collections.abc import Iterable, Sequence

    from benchmarks.works import Job

STEPS = 10
FACTOR = 8.0
EPS = float(np.finfo(np.float32).eps)
# Two roundings of half a unit, that of 0.999 and that of its power; the root takes half.
RATE = 1 + EPS / 2 / (1 - 0.999)
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


def bounds(
    exact: Sequence[float], rounded: Sequence[float], corrected: Sequence[float], longest_sum: int
) -> list[float]:
    """Return how far each step's loss may be from the exact one, given courses of another engine and another rate."""
    unit = math.sqrt(longest_sum) * EPS
    allowed = zip(_drift(rounded, exact), _drift(corrected, exact), exact, strict=True)
    return [FACTOR * by_rounding + by_rate + unit * abs(loss) for by_rounding, by_rate, loss in allowed]


def _drift(losses: Sequence[float], exact: Sequence[float]) -> Iterable[float]:
    return itertools.accumulate((abs(mine - theirs) for mine, theirs in zip(losses, exact, strict=True)), max)


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

    courses = (
        training(work, dtype=torch.float64),
        training(work, compiled=autocast if is_narrow else None),
        training(work, dtype=torch.float64, lr=work.learning_rate * RATE),
    )
    exact, rounded, corrected = ([step().item() for _ in range(STEPS)] for step in courses)
    longest = max(work.inputs[1].size, *(math.prod(shape[1:]) for shape in work.shapes.values()))
    return tuple(exact), tuple(bounds(exact, rounded, corrected, longest))
