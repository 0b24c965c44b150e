"""Layers that normalise over the batch, and keep running statistics for evaluation."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import wengert as wg
from wengert import Tensor
from wengert.errors import ShapeError

from . import functional, init
from .module import Module
from .parameters import empty, extent


class _BatchNorm(Module):
    """What the layers share; a subclass says what it takes."""

    ranks: ClassVar[tuple[int, ...]]
    expected: ClassVar[str]
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
    ) -> None:
        self.num_features = extent(type(self).__name__, "num_features", num_features)
        self.eps = eps
        self.momentum = momentum
        shape = (num_features,)
        self.register_parameter("weight", empty(shape, dtype) if affine else None)
        self.register_parameter("bias", empty(shape, dtype) if affine else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", wg.zeros(shape, dtype) if tracked else None)
        self.register_buffer("running_var", wg.ones(shape, dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", wg.zeros((), np.int64) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean zero, variance one."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Forget the running statistics, set the scale to one and the shift to zero."""
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, x: Any) -> Tensor:
        """Normalise: in training by the statistics of x, in evaluation by the running ones."""
        x = wg.asarray(x)
        if x.ndim not in self.ranks or x.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: x has shape {x.shape}; it must be {self.expected.format(self.num_features)}"
            )
        momentum, seen = self.momentum, None
        if self.training and self.num_batches_tracked is not None:
            with wg.no_grad():
                seen = self.num_batches_tracked + 1
        average: Any = 1.0 / wg.astype(seen, x.dtype) if momentum is None and seen is not None else momentum
        out = functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, average, self.eps
        )
        if seen is not None and self.num_batches_tracked is not None:
            with wg.no_grad():
                self.num_batches_tracked.copy_(seen)
        return out

    def extra_repr(self) -> str:
        """Show the features and settings."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}, "
            f"track_running_stats={self.running_mean is not None}"
        )


class BatchNorm1d(_BatchNorm):
    """Normalise each feature over the batch, and over the positions of sequences; see `BatchNorm2d`.

    >>> import wengert as wg
    >>> wg.nn.BatchNorm1d(1)(wg.tensor([[2.0], [2.0]])).tolist()
    [[0.0], [0.0]]
    """

    ranks = (2, 3)
    expected = "(count, {0}) or (count, {0}, length)"


class BatchNorm2d(_BatchNorm):
    """Normalise each channel over the batch and over all places of images (S. Ioffe and C. Szegedy, 2015).

    Args:
        num_features: channels of the input.
        eps: added to the variances.
        momentum: weight of a batch in the running statistics; None for the mean over all batches.
        affine: whether to scale and shift by parameters.
        track_running_stats: whether to keep running statistics for evaluation; without, evaluation uses the batch's.
        dtype: that of parameters and statistics; the default dtype unless given.

    >>> import wengert as wg
    >>> layer = wg.nn.BatchNorm2d(3)
    >>> layer(wg.ones((2, 3, 4, 4))).shape, list(layer.state_dict())
    ((2, 3, 4, 4), ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'])
    """

    ranks = (4,)
    expected = "(count, {0}, height, width)"


class BatchNorm3d(_BatchNorm):
    """Normalise each channel over the batch and over all places of volumes; see `BatchNorm2d`.

    >>> import wengert as wg
    >>> wg.nn.BatchNorm3d(1)(wg.ones((2, 1, 2, 2, 2))).shape
    (2, 1, 2, 2, 2)
    """

    ranks = (5,)
    expected = "(count, {0}, depth, height, width)"
