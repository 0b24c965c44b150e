"""Layers that pool: the largest element or the mean of every window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from wengert import Tensor

from . import functional
from .module import Module


class _MaxPool(Module):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: Any) -> Tensor:
        """Pool."""
        return type(self).function(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def _step(self) -> tuple[Any, ...]:
        moves = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return (type(self).function, *moves)

    def extra_repr(self) -> str:
        """Show how windows move."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool1d(_MaxPool):
    """Take the largest element of every window of sequences; see `functional.max_pool1d`.

    >>> import wengert as wg
    >>> wg.nn.MaxPool1d(2)(wg.ones((1, 3, 8))).shape
    (1, 3, 4)
    """

    function = staticmethod(functional.max_pool1d)


class MaxPool2d(_MaxPool):
    """Take the largest element of every window of images; see `functional.max_pool2d`.

    Args:
        kernel_size: extent of the windows; a number, or one for each axis.
        stride: steps between windows; by default they touch.
        padding: border that never wins.
        dilation: steps between the elements of a window.
        ceil_mode: whether a last window that is not complete counts too.

    >>> import wengert as wg
    >>> wg.nn.MaxPool2d(2)(wg.ones((1, 3, 8, 6))).shape
    (1, 3, 4, 3)
    """

    function = staticmethod(functional.max_pool2d)


class _AvgPool(Module):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Tensor:
        """Pool."""
        moves = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
        return type(self).function(x, *moves)

    def extra_repr(self) -> str:
        """Show how windows move."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """Take the mean of every window of sequences; see `functional.avg_pool1d`.

    >>> import wengert as wg
    >>> wg.nn.AvgPool1d(2)(wg.ones((1, 3, 8))).shape
    (1, 3, 4)
    """

    function = staticmethod(functional.avg_pool1d)


class AvgPool2d(_AvgPool):
    """Take the mean of every window of images; see `functional.avg_pool2d`.

    Args:
        kernel_size: extent of the windows; a number, or one for each axis.
        stride: steps between windows; by default they touch.
        padding: border of zeros.
        ceil_mode: whether a last window that is not complete counts too.
        count_include_pad: whether the border counts in the mean.

    >>> import wengert as wg
    >>> wg.nn.AvgPool2d(2)(wg.ones((1, 3, 8, 6))).shape
    (1, 3, 4, 3)
    """

    function = staticmethod(functional.avg_pool2d)


class _AdaptiveAvgPool(Module):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def forward(self, x: Any) -> Tensor:
        """Pool."""
        return type(self).function(x, self.output_size)

    def extra_repr(self) -> str:
        """Show the extents of the result."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Take means so that a given number of elements is left; see `functional.adaptive_avg_pool1d`.

    >>> import wengert as wg
    >>> wg.nn.AdaptiveAvgPool1d(2)(wg.ones((1, 3, 7))).shape
    (1, 3, 2)
    """

    function = staticmethod(functional.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Take means so that images of given extents are left; see `functional.adaptive_avg_pool2d`.

    >>> import wengert as wg
    >>> wg.nn.AdaptiveAvgPool2d(1)(wg.ones((1, 3, 7, 5))).shape
    (1, 3, 1, 1)
    """

    function = staticmethod(functional.adaptive_avg_pool2d)
