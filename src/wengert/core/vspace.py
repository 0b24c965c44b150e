"""What the chain rule itself needs of the space that cotangents live in: sums, and the way back from broadcasting.

`Scatter` and `OutputBars` are cotangents that are mostly zero. Keeping them as they are, and adding them into one
buffer that belongs to the sweep, makes the gradient of reading one slice cost as much as the slice, not the array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend.numpy import all_finite as all_finite
from ..backend.numpy import guarded_product as guarded_product
from ..typing import Array, Namespace, Shape
from . import boxing


def broadcast_axes(shape: Shape, target: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (leading axes, stretched axes) of `shape` that broadcasting from `target` had introduced."""
    lead = len(shape) - len(target)
    stretched = tuple(i + lead for i, n in enumerate(target) if n == 1 and shape[i + lead] != 1)
    return tuple(range(lead)), stretched


def sum_to(xp: Namespace, bar: Any, shape: Shape) -> Any:
    """Undo broadcasting: sum the cotangent over the axes that `shape` was stretched along."""
    if bar.shape == shape:
        return bar
    lead, stretched = broadcast_axes(bar.shape, shape)
    if lead or stretched:
        bar = xp.sum(bar, axis=lead + stretched)
    return xp.reshape(bar, shape) if bar.shape != shape else bar


def settle(xp: Namespace, bar: Any, node: Any) -> Any:
    """Bring a cotangent to the shape and dtype of the value that `node` stands for."""
    if bar.shape != node.shape:
        bar = _stretch_or_sum(xp, bar, node.shape)
    if bar.dtype != node.dtype:
        if bar.dtype.kind == "c" and node.dtype.kind != "c":
            raise NotImplementedError(
                "a gradient would flow from a complex result into a real input, which this version does not support; "
                "compute on real and imaginary parts instead"
            )
        bar = xp.astype(bar, node.dtype)
    return bar


def _stretch_or_sum(xp: Namespace, bar: Any, shape: Shape) -> Any:
    lead = bar.ndim - len(shape)
    if lead < 0 or any([n != 1 and n != m for n, m in zip(shape, bar.shape[lead:])]):
        return xp.broadcast_to(bar, shape)
    return sum_to(xp, bar, shape)


class Scatter:
    """A cotangent that is zero but for one region, which `add_into(buffer)` adds to; a Tensor's if it is tracked."""

    __slots__ = ("add_into", "dtype", "shape", "tracked")
    __array_ufunc__ = None

    def __init__(self, shape: Shape, dtype: Any, add_into: Any, tracked: bool = False) -> None:
        self.shape = shape
        self.dtype = dtype
        self.add_into = add_into
        self.tracked = tracked

    def __add__(self, other: Any) -> Accumulator:
        if type(other) is Accumulator:
            return other + self
        return Accumulator(self.shape, self.dtype, self.tracked) + self + other

    __radd__ = __add__


class Accumulator:
    """A dense cotangent whose buffer belongs to the sweep alone, so that it can be added to in place.

    In a differentiable sweep the buffer is a Tensor, and what is added to it in place is recorded like any write.
    """

    __slots__ = ("dense",)
    __array_ufunc__ = None

    def __init__(self, shape: Shape, dtype: Any, tracked: bool = False) -> None:
        self.dense: Any = boxing.operations.zeros(shape, dtype=dtype) if tracked else np.zeros(shape, dtype)

    @classmethod
    def of_copy(cls, array: Array) -> Accumulator:
        """Return an Accumulator that starts from a copy of `array`."""
        made = cls.__new__(cls)
        made.dense = array.clone() if isinstance(array, boxing.Tensor) else np.array(array)
        return made

    def __add__(self, other: Any) -> Accumulator:
        if type(other) is Scatter:
            other.add_into(self.dense)
            return self
        if type(other) is Accumulator:
            other = other.dense
        if isinstance(other, boxing.Tensor) and type(other) is not boxing.Tensor:
            self.dense = self.dense + other  # a tracer's trace need not know of writes
        else:
            self.dense += other
        return self

    __radd__ = __add__


def added(known: Any, bar: Any) -> Any:
    """Add two cotangents in a differentiable sweep; a Tensor does not know how to add itself to an Accumulator."""
    if type(bar) is Accumulator or (type(bar) is Scatter and type(known) is not Accumulator):
        return bar + known
    return known + bar


def densify(bar: Any) -> Any:
    """Return the raw array that a mostly-zero cotangent stands for; other cotangents pass through."""
    if type(bar) is Scatter:
        bar = Accumulator(bar.shape, bar.dtype, bar.tracked) + bar
    return bar.dense if type(bar) is Accumulator else bar


class OutputBars:
    """The cotangents of an operation with several outputs, gathered while the sweep meets its outputs one by one."""

    __slots__ = ("bars", "dtype", "shape")
    __array_ufunc__ = None
    shape: Any
    dtype: Any

    def __init__(self, bars: dict[int, Any]) -> None:
        self.bars = bars
        self.shape = self.dtype = None

    def __add__(self, other: OutputBars) -> OutputBars:
        merged = dict(self.bars)
        for index, bar in other.bars.items():
            merged[index] = merged[index] + bar if index in merged else bar
        return OutputBars(merged)
