"""Layers that convolve: sequences, images and volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from wengert import Tensor

from . import functional
from .module import Module
from .parameters import empty, extent, per_axis, reset_affine


class _Convolution(Module):
    """What the layers share; a subclass says along how many axes its kernels move."""

    rank: ClassVar[int]
    function: ClassVar[Callable[..., Tensor]]
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        name = type(self).__name__
        self.in_channels = extent(name, "in_channels", in_channels)
        self.out_channels = extent(name, "out_channels", out_channels)
        self.groups = extent(name, "groups", groups, least=1)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: {groups} groups divide neither more nor less than all of {in_channels} input and "
                f"{out_channels} output channels"
            )
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, self.rank)
        self.stride = per_axis(name, "stride", stride, self.rank)
        self.dilation = per_axis(name, "dilation", dilation, self.rank)
        self.padding = padding
        self.weight = empty((out_channels, in_channels // groups, *self.kernel_size), dtype)
        self.register_parameter("bias", empty((out_channels,), dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw kernels and biases anew."""
        reset_affine(self.weight, self.bias)

    def _settings(self) -> tuple[Any, ...]:
        return self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups

    def forward(self, x: Any) -> Tensor:
        """Convolve."""
        return type(self).function(x, *self._settings())

    def _step(self) -> tuple[Any, ...]:
        return (type(self).function, *self._settings())

    def extra_repr(self) -> str:
        """Show the channels, and how kernels move where that is not the usual."""
        shown = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, usual in (("padding", 0), ("dilation", (1,) * self.rank), ("groups", 1)):
            if getattr(self, name) != usual:
                shown += f", {name}={getattr(self, name)!r}"
        return shown + ("" if self.bias is not None else ", bias=False")


class Conv1d(_Convolution):
    """Convolve sequences, of shape (count, channels, length).

    Kernels and biases start uniform on +-1 / sqrt(channels of a group * elements of a kernel), as in PyTorch.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: extent of the kernels.
        stride: steps between the places that kernels are put to.
        padding: zeros at both ends; see `functional.conv1d`.
        dilation: steps between the elements that a kernel meets.
        groups: into how many groups of their own the channels are divided.
        bias: whether there is an addend for each output channel.
        dtype: that of the parameters; the default dtype unless given.

    >>> import wengert as wg
    >>> wg.nn.Conv1d(2, 4, 3, padding="same")(wg.ones((5, 2, 9))).shape
    (5, 4, 9)
    """

    rank = 1
    function = staticmethod(functional.conv1d)


class Conv2d(_Convolution):
    """Convolve images, of shape (count, channels, height, width).

    Kernels and biases start uniform on +-1 / sqrt(channels of a group * elements of a kernel), as in PyTorch.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: extents of the kernels; a number, or one for each axis (as below).
        stride: steps between the places that kernels are put to.
        padding: zeros around the images; see `functional.conv2d`.
        dilation: steps between the elements that a kernel meets.
        groups: into how many groups of their own the channels are divided.
        bias: whether there is an addend for each output channel.
        dtype: that of the parameters; the default dtype unless given.

    >>> import wengert as wg
    >>> layer = wg.nn.Conv2d(3, 8, 3, stride=2, padding=1)
    >>> layer(wg.ones((5, 3, 8, 8))).shape, layer.weight.shape
    ((5, 8, 4, 4), (8, 3, 3, 3))
    """

    rank = 2
    function = staticmethod(functional.conv2d)


class Conv3d(_Convolution):
    """Convolve volumes, of shape (count, channels, depth, height, width); as `Conv2d`, with one more axis.

    >>> import wengert as wg
    >>> wg.nn.Conv3d(1, 2, 3)(wg.ones((1, 1, 4, 4, 4))).shape
    (1, 2, 2, 2, 2)
    """

    rank = 3
    function = staticmethod(functional.conv3d)
