"""The loader: batches of a dataset, in order or shuffled anew in each epoch."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import wengert as wg
from wengert import random
from wengert.errors import DTypeError

from .dataset import ArrayDataset


class DataLoader:
    """Batches of a dataset; each iteration over it is an epoch.

    The order of an epoch depends on the seed and on the number of the epoch alone, so that training can be resumed in
    any epoch: set `epoch`.

    Args:
        dataset: an array (batches are Tensors), a tuple of arrays or an ArrayDataset (batches are tuples of Tensors),
            or any object with `len()` and indexing, whose examples are stacked.
        batch_size: examples in a batch; the last one may have fewer.
        shuffle: whether to draw a new order for each epoch.
        drop_last: whether to leave out a last batch that is not full.
        seed: of the orders; by default it is drawn from `wg.random`, and so follows `wg.random.seed`.
        generator: draw the orders from here instead; then they depend on what else is drawn from it.

    Attributes:
        epoch: number of the next epoch, from zero.

    Raises:
        ShapeError: the arrays have different lengths.
        ValueError: the batch size is not positive, or both a seed and a generator are given.

    >>> import wengert as wg
    >>> loader = wg.data.DataLoader((wg.arange(6), wg.arange(6)), batch_size=4, shuffle=True, seed=0)
    >>> first, second = ([x.tolist() for x, _ in loader] for _ in range(2))
    >>> first != second, sorted(first[0] + first[1])
    (True, [0, 1, 2, 3, 4, 5])
    >>> loader.epoch = 0
    >>> [x.tolist() for x, _ in loader] == first
    True
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int | None = None,
        generator: random.Generator | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or operator.index(batch_size) < 1:
            raise ValueError(f"DataLoader: batch_size must be positive, and it is {batch_size}")
        if seed is not None and generator is not None:
            raise ValueError("DataLoader: give a seed or a generator, not both")
        if seed is not None and seed < 0:
            raise ValueError(f"DataLoader: a seed is a non-negative integer, and this is {seed}")
        self._single = isinstance(dataset, (wg.Tensor, np.ndarray))
        self.dataset = _as_dataset(dataset)
        self.batch_size = operator.index(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.generator = generator
        self.epoch = 0
        if shuffle and seed is None and generator is None:
            seed = int(random.integers(2**63 - 1))
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        order = self._order()
        self.epoch += 1
        return self._batches(order)

    def _order(self) -> np.ndarray | None:
        if not self.shuffle:
            return None
        source = self.generator
        if source is None:
            source = random.Generator([self.seed or 0, self.epoch])
        return source.permutation(len(self.dataset)).numpy()

    def _batches(self, order: np.ndarray | None) -> Iterator[Any]:
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            stop = min(start + self.batch_size, len(self.dataset))
            if isinstance(self.dataset, ArrayDataset):
                batch = self._slice(start, stop) if order is None else self.dataset[order[start:stop]]
                yield batch[0] if self._single else batch
            else:
                indices = range(start, stop) if order is None else order[start:stop].tolist()
                yield _collated([self.dataset[i] for i in indices])

    def _slice(self, start: int, stop: int) -> tuple[wg.Tensor, ...]:
        """Copy the examples: a batch may be written without changing the dataset, in order as well as shuffled."""
        return tuple([wg.tensor(array._raw()[start:stop]) for array in self.dataset.arrays])

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"drop_last={self.drop_last})"
        )


def _as_dataset(dataset: Any) -> Any:
    if isinstance(dataset, ArrayDataset):
        return dataset
    if isinstance(dataset, (wg.Tensor, np.ndarray)):
        return ArrayDataset(dataset)
    if isinstance(dataset, tuple):
        return ArrayDataset(*dataset)
    if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and not isinstance(dataset, (Mapping, str)):
        return dataset
    raise DTypeError(
        f"DataLoader: a dataset is an array, a tuple of arrays, or an object with len() and indexing by number, not "
        f"{type(dataset).__name__}"
    )


def _collated(examples: list[Any]) -> Any:
    """Stack examples, which may be tuples or dicts of arrays and numbers."""
    first = examples[0]
    if isinstance(first, Mapping):
        return {key: _collated([example[key] for example in examples]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple([_collated(list(column)) for column in zip(*examples)])
    if isinstance(first, (int, float, np.generic)):
        return wg.asarray(examples)
    return wg.stack([wg.asarray(example) for example in examples])
