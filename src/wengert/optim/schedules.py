"""Learning rate schedules, each a closed formula of the number of steps taken.

A schedule multiplies the learning rates that the optimiser's groups had when the schedule was made. Since the formula
knows no history, a restored schedule continues exactly, and schedules can follow each other without drift.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from math import cos, pi
from typing import Any

from wengert import Tensor
from wengert.errors import CheckpointError

from .optimizer import Optimizer, checked_number


class LRScheduler:
    """Base of all schedules; a subclass writes `rate`.

    Args:
        optimizer: whose groups' learning rates are set, at once and at each `step()`.

    Attributes:
        base_lrs: the groups' learning rates when the schedule was made.
        last_epoch: how often `step()` was called.
    """

    records_itself = True

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: an optimiser is needed, not {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.base_lrs = [
            checked_number(group["lr"], "lr", owner=type(self).__name__) for group in optimizer.param_groups
        ]
        self.last_epoch = 0
        self._set()

    def rate(self, base: float, epoch: int, group: int) -> float:
        """Return the learning rate of a group after `epoch` steps, given the one it started from."""
        raise NotImplementedError

    def _set(self) -> None:
        rates = [self.rate(base, self.last_epoch, i) for i, base in enumerate(self.base_lrs)]
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate

    def step(self) -> None:
        """Go one step on; call it after `optimizer.step()`. In a compiled function it does so in every run."""
        recorder = Tensor.recorder()
        if recorder is not None:
            recorder.afterwards.append(self._advance)
        else:
            self._advance()

    def _advance(self) -> None:
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group, as it is now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"base_lrs": list(self.base_lrs), "last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: this is not what `state_dict` of such a schedule returned; nothing is changed.
        """
        try:
            bases, epoch = [float(base) for base in state_dict["base_lrs"]], int(state_dict["last_epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{type(self).__name__}: this is not the state of a schedule: {error!r}") from error
        if len(bases) != len(self.base_lrs) or epoch < 0:
            raise CheckpointError(
                f"{type(self).__name__}: the state has {len(bases)} learning rates at step {epoch}, and the optimiser "
                f"{len(self.base_lrs)} groups"
            )
        self.base_lrs, self.last_epoch = bases, epoch
        self._set()


class LambdaLR(LRScheduler):
    """The learning rate times a function of the step.

    Args:
        optimizer: whose learning rates are set.
        lr_lambda: `f(step)`, or one such function for each group.

    >>> import wengert as wg
    >>> optimizer = wg.optim.SGD([wg.ones(1).requires_grad_()], lr=1.0)
    >>> schedule = wg.optim.LambdaLR(optimizer, lambda step: 0.5**step)
    >>> schedule.step(); schedule.step(); schedule.get_last_lr()
    [0.25]
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]]
    ) -> None:
        count = len(optimizer.param_groups)
        self.factors = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.factors) != count:
            raise ValueError(f"LambdaLR: {len(self.factors)} functions were given for {count} groups")
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int, group: int) -> float:
        """Multiply by the function's value."""
        return base * self.factors[group](epoch)


class StepLR(LRScheduler):
    """The learning rate times `gamma` for every `step_size` steps.

    >>> import wengert as wg
    >>> optimizer = wg.optim.SGD([wg.ones(1).requires_grad_()], lr=1.0)
    >>> schedule = wg.optim.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> schedule.step(); schedule.step(); schedule.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be positive, and it is {step_size}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int, group: int) -> float:
        """Multiply by gamma^floor(step / step_size)."""
        return base * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """The learning rate times `gamma` at each milestone."""

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int, group: int) -> float:
        """Multiply by gamma for each milestone reached."""
        return base * self.gamma ** bisect_right(self.milestones, epoch)


class ExponentialLR(LRScheduler):
    """The learning rate times `gamma` at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int, group: int) -> float:
        """Multiply by gamma^step."""
        return base * self.gamma**epoch


class LinearLR(LRScheduler):
    """The learning rate times a factor that goes linearly from `start_factor` to `end_factor`: a warm-up.

    P. Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour" (2017), section 2.2.

    Args:
        optimizer: whose learning rates are set.
        start_factor: the factor at the start.
        end_factor: the factor from `total_iters` on.
        total_iters: how many steps lie between.

    >>> import wengert as wg
    >>> optimizer = wg.optim.SGD([wg.ones(1).requires_grad_()], lr=1.0)
    >>> schedule = wg.optim.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> schedule.step(); schedule.get_last_lr()
    [0.75]
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        if total_iters < 1:
            raise ValueError(f"LinearLR: total_iters must be positive, and it is {total_iters}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int, group: int) -> float:
        """Multiply by the factor."""
        done = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(LRScheduler):
    """The learning rate follows half a cosine, from its first value down to `eta_min`.

    I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), equation 5, without the
    restarts: after `T_max` steps the formula rises again, as PyTorch's does.

    Args:
        optimizer: whose learning rates are set.
        T_max: how many steps to the minimum.
        eta_min: the minimum.

    >>> import wengert as wg
    >>> optimizer = wg.optim.SGD([wg.ones(1).requires_grad_()], lr=1.0)
    >>> schedule = wg.optim.CosineAnnealingLR(optimizer, T_max=2)
    >>> schedule.step(); [round(rate, 6) for rate in schedule.get_last_lr()]
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be positive, and it is {T_max}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int, group: int) -> float:
        """Evaluate the cosine."""
        return self.eta_min + (base - self.eta_min) * (1 + cos(pi * epoch / self.T_max)) / 2


class SequentialLR(LRScheduler):
    """Schedules one after the other, each starting from step zero at its milestone.

    Args:
        optimizer: whose learning rates are set; that of all the schedules.
        schedulers: the schedules.
        milestones: the steps at which the second, the third... takes over.

    >>> import wengert as wg
    >>> optimizer = wg.optim.SGD([wg.ones(1).requires_grad_()], lr=1.0)
    >>> warm_up = wg.optim.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> decay = wg.optim.CosineAnnealingLR(optimizer, T_max=4)
    >>> schedule = wg.optim.SequentialLR(optimizer, [warm_up, decay], milestones=[2])
    >>> rates = [(schedule.get_last_lr()[0], schedule.step())[0] for _ in range(7)]
    >>> [round(rate, 3) for rate in rates]
    [0.5, 0.75, 1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        if len(schedulers) != len(milestones) + 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedules need {len(schedulers) - 1} milestones between them, "
                f"and {len(milestones)} were given"
            )
        if any(schedule.optimizer is not optimizer for schedule in schedulers):
            raise ValueError("SequentialLR: the schedules are of another optimiser")
        if list(milestones) != sorted(milestones):
            raise ValueError(f"SequentialLR: milestones must not decrease, and they are {list(milestones)}")
        self.schedulers = list(schedulers)
        self.milestones = list(milestones)
        # Each schedule has set the rates as it was made, for the next one to take for the first: undo that.
        self._first = schedulers[0].base_lrs
        for schedule in schedulers:
            schedule.base_lrs = list(self._first)
        for group, rate in zip(optimizer.param_groups, self._first):
            group["lr"] = rate
        super().__init__(optimizer)

    def rate(self, base: float, epoch: int, group: int) -> float:
        """Ask the schedule whose turn it is."""
        turn = bisect_right(self.milestones, epoch)
        since = self.milestones[turn - 1] if turn else 0
        return self.schedulers[turn].rate(base, epoch - since, group)
