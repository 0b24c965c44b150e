"""Schedules against their formulas, alone, one after the other, and restored."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import pytest

import wengert as wg
from wengert import optim
from wengert.errors import CheckpointError


def make_optimizer(*rates: float) -> optim.SGD:
    groups = [{"params": [wg.ones(1).requires_grad_()], "lr": rate} for rate in rates or (1.0,)]
    return optim.SGD(groups, lr=9.0)


def rates_of(schedule: optim.LRScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        schedule.step()
    return rates


def halve(step: int) -> float:
    return 0.5**step


def test_formulas() -> None:
    cases: list[tuple[Any, Any]] = [
        (lambda o: optim.StepLR(o, 2, 0.5), lambda t: 0.5 ** (t // 2)),
        (lambda o: optim.MultiStepLR(o, [3, 1], 0.1), lambda t: 0.1 ** ((t >= 1) + (t >= 3))),
        (lambda o: optim.ExponentialLR(o, 0.9), lambda t: 0.9**t),
        (lambda o: optim.LambdaLR(o, halve), lambda t: 0.5**t),
        (lambda o: optim.LinearLR(o, 0.2, 1.0, 4), lambda t: 0.2 + 0.8 * min(t, 4) / 4),
        (lambda o: optim.CosineAnnealingLR(o, 5, 0.1), lambda t: 0.1 + 0.9 * (1 + cos(pi * t / 5)) / 2),
    ]
    for make, formula in cases:
        assert rates_of(make(make_optimizer()), 8) == pytest.approx([formula(t) for t in range(8)], rel=1e-12)


def test_the_optimiser_uses_the_rate() -> None:
    optimizer = make_optimizer(1.0)
    schedule = optim.StepLR(optimizer, 1, 0.5)
    weight = optimizer.param_groups[0]["params"][0]
    for expected in (0.0, -0.5, -0.75):
        weight.grad = wg.ones(1)
        optimizer.step()
        schedule.step()
        assert weight.item() == expected


def test_groups_keep_their_proportions() -> None:
    optimizer = make_optimizer(1.0, 0.1)
    schedule = optim.StepLR(optimizer, 1, 0.5)
    schedule.step()
    assert schedule.get_last_lr() == [0.5, 0.05]
    each = optim.LambdaLR(make_optimizer(1.0, 0.1), [halve, float])
    each.step()
    each.step()
    assert each.get_last_lr() == [0.25, 0.2]


def test_schedules_one_after_the_other() -> None:
    optimizer = make_optimizer()
    parts = [optim.LinearLR(optimizer, 0.5, 1.0, 2), optim.StepLR(optimizer, 1, 0.1), optim.ExponentialLR(optimizer, 2)]
    schedule = optim.SequentialLR(optimizer, parts, [2, 4])
    assert rates_of(schedule, 6) == pytest.approx([0.5, 0.75, 1.0, 0.1, 1.0, 2.0], rel=1e-12)


def test_a_restored_schedule_continues_exactly() -> None:
    straight = rates_of(optim.CosineAnnealingLR(make_optimizer(0.3), 7), 7)
    first = optim.CosineAnnealingLR(make_optimizer(0.3), 7)
    rates_of(first, 3)
    second = optim.CosineAnnealingLR(make_optimizer(123.0), 7)
    second.load_state_dict(first.state_dict())
    assert rates_of(second, 4) == straight[3:]
    for state in ({}, {"base_lrs": [1.0, 2.0], "last_epoch": 1}, {"base_lrs": [1.0], "last_epoch": -1}, 3):
        with pytest.raises(CheckpointError):
            second.load_state_dict(state)  # type: ignore[arg-type]


def test_what_cannot_be_a_schedule_is_refused() -> None:
    optimizer = make_optimizer()
    with pytest.raises(TypeError, match="optimiser"):
        optim.StepLR(3, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step_size"):
        optim.StepLR(optimizer, 0)
    with pytest.raises(ValueError, match="T_max"):
        optim.CosineAnnealingLR(optimizer, 0)
    with pytest.raises(ValueError, match="total_iters"):
        optim.LinearLR(optimizer, total_iters=0)
    with pytest.raises(ValueError, match="functions"):
        optim.LambdaLR(optimizer, [halve, halve])
    step = optim.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="milestones"):
        optim.SequentialLR(optimizer, [step], [1])
    with pytest.raises(ValueError, match="another optimiser"):
        optim.SequentialLR(make_optimizer(), [step, step], [1])
    with pytest.raises(ValueError, match="decrease"):
        optim.SequentialLR(optimizer, [step, step, step], [3, 1])
