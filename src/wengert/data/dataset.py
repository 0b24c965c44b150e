"""Datasets: arrays of equal length, seen as a sequence of examples."""

from __future__ import annotations

from typing import Any

import wengert as wg
from wengert import Tensor
from wengert.errors import ShapeError


class ArrayDataset:
    """Arrays whose first axes count the same examples.

    The arrays are not copied: what is written to them later is seen.

    Args:
        arrays: Tensors, arrays or nested sequences.

    Raises:
        ShapeError: there are none, one has no axes, or their lengths differ.

    >>> import wengert as wg
    >>> dataset = wg.data.ArrayDataset(wg.ones((3, 2)), wg.tensor([0, 1, 2]))
    >>> len(dataset), dataset[2][1].item()
    (3, 2)
    """

    def __init__(self, *arrays: Any) -> None:
        self.arrays: tuple[Tensor, ...] = tuple([wg.asarray(array) for array in arrays])
        common_length(self.arrays, "ArrayDataset")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        """Return an example of each array, or several for a slice or an array of indices."""
        return tuple([array[index] for array in self.arrays])

    def __repr__(self) -> str:
        return f"ArrayDataset({', '.join(f'{a.dtype}{list(a.shape)}' for a in self.arrays)})"


def common_length(arrays: tuple[Any, ...], name: str) -> int:
    """Return the length of the arrays' first axes.

    Raises:
        ShapeError: there are no arrays, one has no axes, or the lengths differ; the message names the shapes.
    """
    if not arrays:
        raise ShapeError(f"{name}: at least one array is needed")
    shapes = [array.shape for array in arrays]
    if any(not shape for shape in shapes):
        raise ShapeError(f"{name}: every array needs a first axis of examples, and the shapes are {_listed(shapes)}")
    if len({shape[0] for shape in shapes}) > 1:
        raise ShapeError(f"{name}: the arrays have different numbers of examples: their shapes are {_listed(shapes)}")
    return shapes[0][0]


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))
