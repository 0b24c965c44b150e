"""PyTorch, eager, with products in bfloat16 by `torch.autocast`: training steps from given weights."""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.engines import modules
from benchmarks.engines.pytorch_steps import job, training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.models import Model
    from benchmarks.works import Job


def autocast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs with autocast; backward passes follow the dtypes of what they differentiate."""

    @wraps(function)
    def cast(*args: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return function(*args)

    return cast


def _training(work: Model) -> Iterator[Job]:
    yield job("`Adam`", training(work, compiled=autocast))
    yield job("`Adam(fused=True)`", training(work, compiled=autocast, fused=True))


BUILDERS = dict.fromkeys(modules.MODELS, _training)
