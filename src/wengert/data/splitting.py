"""Splits of arrays into a part to train on and a part to test on."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

import wengert as wg
from wengert import random
from wengert.errors import ShapeError

from .dataset import common_length


def train_test_split(
    *arrays: Any, test_size: float | int = 0.25, seed: int | None = None, stratify: Any = None
) -> list[Any]:
    """Split arrays at random, all of them in the same way.

    Args:
        arrays: Tensors or arrays of equal length; others are made Tensors.
        test_size: part of the examples to test on, in (0, 1), or their number.
        seed: of the split; by default it is drawn from `wg.random`.
        stratify: a class for each example; each class is divided in the same proportion, as nearly as can be.

    Returns:
        [train, test] of the first array, then of the second, ..., each of its array's type.

    Raises:
        ShapeError: lengths differ.
        ValueError: one of the sides would be empty, or a class has too few examples for both.

    >>> import wengert as wg
    >>> train, test = wg.data.train_test_split(wg.arange(8), test_size=0.25, seed=0)
    >>> train.shape, test.shape, sorted(train.tolist() + test.tolist())
    ((6,), (2,), [0, 1, 2, 3, 4, 5, 6, 7])
    """
    given = [array if isinstance(array, (wg.Tensor, np.ndarray)) else wg.asarray(array) for array in arrays]
    count = common_length(tuple(given), "train_test_split")
    wanted = _test_count(test_size, count)
    source = random.default_generator if seed is None else random.Generator(seed)
    order = source.permutation(count).numpy()
    if stratify is None:
        test, train = order[:wanted], order[wanted:]
    else:
        labels = np.asarray(wg.asarray(stratify).detach())
        if labels.shape != (count,):
            raise ShapeError(f"train_test_split: stratify has shape {labels.shape}, and there are {count} examples")
        test, train = _stratified(order, labels, wanted)
    return [part for array in given for part in (array[train], array[test])]


def _test_count(test_size: float | int, count: int) -> int:
    wanted = test_size if isinstance(test_size, int) else ceil(test_size * count - 1e-9)
    if not 0 < wanted < count:
        raise ValueError(
            f"train_test_split: test_size={test_size} of {count} examples puts {wanted} into the test side; both sides "
            "need at least one"
        )
    return wanted


def _stratified(order: np.ndarray, labels: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Take of each class its share of the test examples; what rounding leaves goes where it was cut most."""
    classes, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = sizes * (wanted / len(labels))
    take = np.floor(shares).astype(int)
    for position in np.argsort(take - shares, kind="stable")[: wanted - take.sum()]:
        take[position] += 1
    if (sizes < 2).any() or (take == 0).any() or (take == sizes).any():
        scarce = classes[(sizes < 2) | (take == 0) | (take == sizes)]
        raise ValueError(
            f"train_test_split: class {scarce[0]} has too few examples for both sides of a stratified split"
        )
    shuffled = codes[order]
    in_test = np.zeros(len(order), bool)
    for code, number in enumerate(take):
        in_test[np.flatnonzero(shuffled == code)[:number]] = True
    return order[in_test], order[~in_test]
