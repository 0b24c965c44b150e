"""Wengert through `wg.compile`, with products in bfloat16."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import wengert as wg
from benchmarks.engines import modules
from benchmarks.engines.wengert_steps import training

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.models import Model
    from benchmarks.works import Job


def _training(work: Model) -> Iterator[Job]:
    yield training(work, partial(wg.compile, compute_dtype=wg.bfloat16))


BUILDERS = dict.fromkeys(modules.MODELS, _training)
