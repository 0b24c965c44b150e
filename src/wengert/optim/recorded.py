"""A step of an optimiser as a part of a compiled function: the same update rules, recorded operation by operation.

What a rule computes with arrays becomes a part of the program. What Python computes before each step (learning rates,
bias corrections) is computed before each run; counts of steps go on after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from wengert import Tensor

from .bucket import Bucket, record_update

if TYPE_CHECKING:
    from .optimizer import Group, Optimizer


def record_step(optimizer: Optimizer, recorder: Any) -> None:
    """Make one step of an optimiser a part of the function that is being compiled."""
    for action in recorder.afterwards:
        if getattr(getattr(action, "__self__", None), "optimizer", None) is optimizer:
            recorder.refuse("a schedule goes on before its optimiser's step(). Call scheduler.step() after it")
    for position, group in enumerate(optimizer.param_groups):
        for bucket, gradients in optimizer.ready(position, group, raw=False):
            bucket.require(optimizer.initial(group))
            bucket.rescale(optimizer.units(group))
            _record_bucket(optimizer, group, bucket, gradients, recorder)
    recorder.conditions.append(partial(_is_arranged_so, optimizer, [list(b) for b in optimizer.buckets]))


def _is_arranged_so(optimizer: Optimizer, buckets: list[list[Bucket]]) -> bool:
    return optimizer.buckets == buckets


def _record_bucket(
    optimizer: Optimizer, group: Group, bucket: Bucket, gradients: Sequence[Tensor], recorder: Any
) -> None:
    # Steps that the same run takes before are counted when it ends.
    number = 1 + recorder.afterwards.count(bucket.advance)
    update = optimizer.update_of(group, bucket.count + number)

    def constants() -> tuple[float, ...]:
        current = optimizer.update_of(group, bucket.count + number)
        if (current.rule, not current.coupled, current.shrink == 1) != kind:
            return ()  # another step than the one that was recorded
        bucket.rescale(optimizer.units(group))
        return (current.coupled, current.shrink, *current.constants)

    kind = (update.rule, not update.coupled, update.shrink == 1)
    numbers = recorder.computed(constants, bucket.working_dtype)
    parts = [bucket.split_flat(bucket.state[name]) for name in optimizer.initial(group)]
    states = [[recorder.state(view) for view in views] for views in zip(*parts)] or [[] for _ in gradients]

    def write(cells: Sequence[Any]) -> None:
        for cell, gradient, state in zip(cells, gradients, states):
            record_update(update, cell, recorder.cell(gradient, bucket.working_dtype), state, numbers)

    Tensor.update_buffers(bucket.parameters, write)
    recorder.afterwards.append(bucket.advance)
