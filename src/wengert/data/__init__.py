"""Batches of arrays, shuffled reproducibly, and splits of them.

>>> import wengert as wg
>>> loader = wg.data.DataLoader((wg.arange(5), wg.arange(5)), batch_size=2)
>>> [x.tolist() for x, y in loader]
[[0, 1], [2, 3], [4]]
"""

from __future__ import annotations

from .dataset import ArrayDataset as ArrayDataset
from .loader import DataLoader as DataLoader
from .splitting import train_test_split as train_test_split

__all__ = ["ArrayDataset", "DataLoader", "train_test_split"]
