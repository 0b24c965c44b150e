"""PyTorch by `torch.func` alone: the transforms of functions, without what has to be written otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.engines import pytorch_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.works import Job, Work


def _by_transforms(builder: Callable[..., list[Job]]) -> Callable[[Work], list[Job]]:
    def build(work: Work) -> list[Job]:
        return [job for job in builder(work) if "torch.func" in job.way]

    return build


BUILDERS = {kind: _by_transforms(builder) for kind, builder in pytorch_transforms.BUILDERS.items()}
