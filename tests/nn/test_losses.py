"""Losses against their formulas in double precision, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import DTypeError, ShapeError

F = nn.functional
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)) * 3
CLASSES = np.array([0, 3, 1, 1, 2, 0])
WEIGHT = np.array([0.5, 2.0, 1.0, 0.25])


def log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def textbook(
    logits: np.ndarray, classes: np.ndarray, weight: np.ndarray | None, ignore: int, reduction: str, smoothing: float
) -> Any:
    """Cross-entropy, one example at a time."""
    weights = np.ones(logits.shape[1]) if weight is None else weight
    logs = log_softmax(logits, 1)
    losses, total = [], 0.0
    for row, label in zip(logs, classes):
        if label == ignore:
            losses.append(0.0)
            continue
        target = np.full(len(row), smoothing / len(row))
        target[label] += 1 - smoothing
        losses.append(-(target * weights * row).sum())
        total += weights[label]
    if reduction == "none":
        return np.array(losses)
    return sum(losses) / total if reduction == "mean" else sum(losses)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("ignore", [-100, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_classes(weighted: bool, ignore: int, smoothing: float, reduction: str) -> None:
    weight = WEIGHT if weighted else None
    expected = textbook(LOGITS, CLASSES, weight, ignore, reduction, smoothing)
    module = nn.CrossEntropyLoss(
        None if weight is None else wg.tensor(weight), ignore, reduction=reduction, label_smoothing=smoothing
    )
    logits = wg.tensor(LOGITS, requires_grad=True)
    out = module(logits, wg.tensor(CLASSES))
    np.testing.assert_allclose(np.asarray(out.detach()), expected, rtol=1e-12)
    out.sum().backward()
    assert logits.grad is not None
    step = 1e-6
    numeric = np.empty_like(LOGITS)
    for place in np.ndindex(LOGITS.shape):
        ends = []
        for sign in (1, -1):
            moved = LOGITS.copy()
            moved[place] += sign * step
            ends.append(np.sum(textbook(moved, CLASSES, weight, ignore, reduction, smoothing)))
        numeric[place] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(np.asarray(logits.grad), numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_probabilities(smoothing: float, reduction: str) -> None:
    target = RNG.dirichlet(np.ones(4), 6)
    mixed = (1 - smoothing) * target + smoothing / 4
    losses = -(mixed * WEIGHT * log_softmax(LOGITS, 1)).sum(1)
    out = F.cross_entropy(
        wg.tensor(LOGITS), wg.tensor(target), wg.tensor(WEIGHT), reduction=reduction, label_smoothing=smoothing
    )
    np.testing.assert_allclose(out.item(), getattr(losses, reduction)(), rtol=1e-12)


def test_classes_lie_along_the_second_axis() -> None:
    logits = RNG.normal(size=(2, 3, 4, 5))
    classes = RNG.integers(0, 3, (2, 4, 5))
    picked = -np.take_along_axis(log_softmax(logits, 1), classes[:, None], 1)[:, 0]
    assert F.cross_entropy(wg.tensor(logits), wg.tensor(classes)).item() == pytest.approx(picked.mean(), rel=1e-12)
    scores = wg.log_softmax(wg.tensor(logits), axis=1)
    assert F.nll_loss(scores, wg.tensor(classes)).item() == pytest.approx(picked.mean(), rel=1e-12)
    out = F.nll_loss(scores, wg.tensor(classes), reduction="none")
    np.testing.assert_allclose(out.numpy(), picked, rtol=1e-12)
    single = F.cross_entropy(wg.tensor(logits[0, :, 0, 0]), wg.tensor(classes[0, 0, 0]))
    assert single.item() == pytest.approx(picked[0, 0, 0], rel=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignore", [-100, 1])
def test_nll_loss(ignore: int, reduction: str) -> None:
    scores = wg.log_softmax(wg.tensor(LOGITS), axis=1)
    module = nn.NLLLoss(wg.tensor(WEIGHT), ignore, reduction)
    expected = textbook(LOGITS, CLASSES, WEIGHT, ignore, reduction, 0.0)
    np.testing.assert_allclose(np.asarray(module(scores, wg.tensor(CLASSES))), expected, rtol=1e-12)


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_targets_that_are_no_classes_are_refused(loss: Any) -> None:
    scores = wg.tensor(LOGITS)
    refused: list[tuple[Any, type[Exception], str]] = [
        (np.array([0, 1, 2, 4, 0, 0]), IndexError, r"at \(3,\)"),
        (np.array([0, 1, -1, 3, 0, 0]), IndexError, r"at \(2,\)"),
        (np.array([0.0, 1.0, np.nan, 0.0, 0.0, 0.0]), DTypeError, "float64"),
        (np.array([0, 1]), ShapeError, r"\(2,\)"),
        (CLASSES[:, None], ShapeError, r"\(6, 1\)"),
    ]
    for target, error, message in refused:
        with pytest.raises(error, match=message):
            loss(scores, wg.tensor(target))
    with pytest.raises(ShapeError, match="weights"):
        loss(scores, wg.tensor(CLASSES), wg.ones(3))
    with pytest.raises(ValueError, match="reduction"):
        loss(scores, wg.tensor(CLASSES), reduction="average")


def test_probabilities_that_are_nan_are_refused() -> None:
    target = np.full((6, 4), 0.25)
    target[2, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        F.cross_entropy(wg.tensor(LOGITS), wg.tensor(target))


def test_large_logits_overflow_nowhere() -> None:
    logits = wg.tensor([[1e4, 0.0], [0.0, -1e4]], requires_grad=True)
    loss = F.cross_entropy(logits, wg.tensor([1, 0]))
    assert loss.item() == pytest.approx(5e3)
    loss.backward()
    assert logits.grad is not None
    np.testing.assert_allclose(np.asarray(logits.grad), [[0.5, -0.5], [0.0, 0.0]], atol=1e-7)


PREDICTION = np.array([0.0, 0.5, -2.0, 3.0])
TARGET = np.array([0.0, 0.0, 1.0, 2.5])
NUMERIC: list[tuple[nn.Module, Any]] = [
    (nn.MSELoss(), (PREDICTION - TARGET) ** 2),
    (nn.L1Loss(), np.abs(PREDICTION - TARGET)),
    (nn.HuberLoss(), np.array([0.0, 0.125, 2.5, 0.125])),
    (nn.HuberLoss(delta=0.25), np.array([0.0, 0.09375, 0.71875, 0.09375])),
    (nn.SmoothL1Loss(beta=0.25), np.array([0.0, 0.375, 2.875, 0.375])),
    (nn.SmoothL1Loss(beta=0.0), np.abs(PREDICTION - TARGET)),
]


@pytest.mark.parametrize(("module", "losses"), NUMERIC)
def test_losses_of_numbers(module: Any, losses: np.ndarray) -> None:
    for reduction, expected in (("mean", losses.mean()), ("sum", losses.sum()), ("none", losses)):
        module.reduction = reduction
        out = module(wg.tensor(PREDICTION), wg.tensor(TARGET))
        np.testing.assert_allclose(np.asarray(out), expected, rtol=1e-12)
    module.reduction = "mean"
    with pytest.raises(ShapeError, match=r"\(4,\) and the target \(4, 1\)"):
        module(wg.tensor(PREDICTION), wg.tensor(TARGET[:, None]))


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss])
def test_gradients_vanish_where_prediction_and_target_agree(loss: Any) -> None:
    prediction = wg.tensor(PREDICTION, requires_grad=True)
    loss(prediction, wg.tensor(PREDICTION)).backward()
    assert prediction.grad is not None
    assert prediction.grad.tolist() == [0.0] * 4


def test_binary_cross_entropy() -> None:
    logits = np.array([-2.0, 0.0, 0.5, 3.0])
    target = np.array([0.0, 1.0, 0.3, 1.0])
    chance = 1 / (1 + np.exp(-logits))
    weight, positive = np.array([1.0, 2.0, 0.5, 1.0]), np.array(3.0)
    expected = -weight * (positive * target * np.log(chance) + (1 - target) * np.log(1 - chance))
    module = nn.BCEWithLogitsLoss(wg.tensor(weight), pos_weight=wg.tensor(positive))
    assert module(wg.tensor(logits), wg.tensor(target)).item() == pytest.approx(expected.mean(), rel=1e-12)
    x = wg.tensor(logits, requires_grad=True)
    F.binary_cross_entropy_with_logits(x, wg.tensor(target), reduction="sum").backward()
    assert x.grad is not None
    np.testing.assert_allclose(np.asarray(x.grad), chance - target, rtol=1e-12)


def test_binary_cross_entropy_keeps_small_losses_and_large_logits() -> None:
    out = F.binary_cross_entropy_with_logits(wg.tensor([30.0, -1000.0]), wg.tensor([True, True]), reduction="none")
    np.testing.assert_allclose(out.numpy(), [np.exp(-30.0), 1000.0], rtol=1e-5)


def test_reductions_are_checked_when_a_module_is_made() -> None:
    for module in (nn.MSELoss, nn.CrossEntropyLoss, nn.NLLLoss, nn.BCEWithLogitsLoss, nn.HuberLoss):
        with pytest.raises(ValueError, match="reduction"):
            module(reduction="average")
    with pytest.raises(DTypeError, match="weight"):
        nn.CrossEntropyLoss(weight=[1.0, 2.0])  # type: ignore[arg-type]


def test_one_hot_and_normalize() -> None:
    assert F.one_hot(wg.tensor([[1], [0]])).tolist() == [[[0, 1]], [[1, 0]]]
    with pytest.raises(IndexError, match="one_hot"):
        F.one_hot(wg.tensor([3]), 3)
    x = wg.tensor(np.array([[3.0, 4.0], [0.0, 0.0]]), requires_grad=True)
    out = F.normalize(x)
    np.testing.assert_allclose(np.asarray(out.detach()), [[0.6, 0.8], [0.0, 0.0]])
    out[0, 0].backward()
    assert x.grad is not None
    np.testing.assert_allclose(np.asarray(x.grad), [[16 / 125, -12 / 125], [0.0, 0.0]], atol=1e-15)
