"""JAX without `jit`: every operation is dispatched as it comes."""

# pyright: reportMissingImports=false
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.engines.jax_transforms import CALLS, Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.works import Job


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _built(calls: Callable[[Any], list[Call]], work: Any) -> list[Job]:
    return [call.job(_as_it_is) for call in calls(work)]


BUILDERS = {kind: partial(_built, calls) for kind, calls in CALLS.items()}
