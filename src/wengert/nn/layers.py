"""Layers: affine maps, lookups, normalisation, dropout, and changes of shape."""

from __future__ import annotations

from math import prod
from typing import Any

import wengert as wg
from wengert import Tensor, random
from wengert.errors import ShapeError

from . import functional, init
from .module import Module
from .parameters import empty, extent, reset_affine


class Linear(Module):
    """Affine map x W^T + b.

    Weight and bias start uniform on +-1 / sqrt(in_features): `init.kaiming_uniform_` with a = sqrt(5), as in PyTorch.

    Args:
        in_features: extent of the last axis of the input.
        out_features: extent of the last axis of the output.
        bias: whether there is a b.
        dtype: that of the parameters; the default dtype unless given.

    >>> import wengert as wg
    >>> layer = wg.nn.Linear(3, 2)
    >>> layer(wg.ones((5, 3))).shape, layer.weight.shape
    ((5, 2), (2, 3))
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None) -> None:
        self.in_features = extent("Linear", "in_features", in_features)
        self.out_features = extent("Linear", "out_features", out_features)
        self.weight = empty((out_features, in_features), dtype)
        self.register_parameter("bias", empty((out_features,), dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        reset_affine(self.weight, self.bias)

    def forward(self, x: Any) -> Tensor:
        """Map the last axis."""
        return functional.linear(x, self.weight, self.bias)

    def _step(self) -> tuple[Any, ...]:
        return functional.linear, self.weight, self.bias

    def extra_repr(self) -> str:
        """Show the extents."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """Table of vectors, looked up by integers; it starts standard normal.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: features of each row.
        padding_idx: a row that starts as zeros and gets no gradient.
        dtype: that of the table; the default dtype unless given.

    >>> import wengert as wg
    >>> wg.nn.Embedding(10, 4)(wg.tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    weight: Tensor

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, dtype: Any = None
    ) -> None:
        self.num_embeddings = extent("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = extent("Embedding", "embedding_dim", embedding_dim)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(f"Embedding: padding_idx {padding_idx} is no row of a table of {num_embeddings}")
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = empty((num_embeddings, embedding_dim), dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            padding = self.padding_idx

            def clear(table: Any) -> None:
                table[padding] = 0

            self.weight.update_buffer(clear)

    def forward(self, indices: Any) -> Tensor:
        """Look rows up."""
        return functional.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Show the extents."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class LayerNorm(Module):
    """Bring the last axes to mean 0 and variance 1, then scale and shift (J. L. Ba, J. R. Kiros, G. E. Hinton, 2016).

    Args:
        normalized_shape: extents of the axes to normalise over: the last ones of the input.
        eps: added to the variance.
        elementwise_affine: whether to scale (and shift) by parameters.
        bias: whether to shift, if there is a scale.
        dtype: that of the parameters; the default dtype unless given.

    >>> import wengert as wg
    >>> wg.nn.LayerNorm(4)(wg.ones((2, 4))).tolist()[0]
    [0.0, 0.0, 0.0, 0.0]
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps = eps
        self.register_parameter("weight", empty(self.normalized_shape, dtype) if elementwise_affine else None)
        self.register_parameter("bias", empty(self.normalized_shape, dtype) if elementwise_affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the scale to one and the shift to zero."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Any) -> Tensor:
        """Normalise."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Show the extents."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}"


class Dropout(Module):
    """In training, make elements zero with probability p and scale the others by 1 / (1 - p); else do nothing.

    See `functional.dropout`.

    Args:
        p: probability of an element to be dropped.
        generator: where the random numbers come from; `wg.random`'s own by default.

    >>> import wengert as wg
    >>> wg.nn.Dropout(0.5).eval()(wg.ones(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self, p: float = 0.5, generator: random.Generator | None = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: a probability lies between 0 and 1; p is {p}")
        self.p = p
        self.generator = generator

    def forward(self, x: Any) -> Tensor:
        """Drop elements, in training."""
        return functional.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        """Show the probability."""
        return f"p={self.p}"


class Identity(Module):
    """Return the input as it is: a layer that stands where another may."""

    def forward(self, x: Any) -> Any:
        """Return the input."""
        return x


class Flatten(Module):
    """Merge axes from `start_axis` to `end_axis` into one; by default all but the first.

    >>> import wengert as wg
    >>> wg.nn.Flatten()(wg.ones((5, 2, 3))).shape
    (5, 6)
    """

    def __init__(self, start_axis: int = 1, end_axis: int = -1) -> None:
        self.start_axis = start_axis
        self.end_axis = end_axis

    def forward(self, x: Any) -> Tensor:
        """Merge the axes."""
        x = wg.asarray(x)
        first, last = self.start_axis % max(x.ndim, 1), self.end_axis % max(x.ndim, 1)
        extent = 1
        for n in x.shape[first : last + 1]:
            extent *= n
        return wg.reshape(x, (*x.shape[:first], extent, *x.shape[last + 1 :]))

    def _step(self) -> tuple[Any, ...]:
        return wg.flatten, self.start_axis, self.end_axis

    def extra_repr(self) -> str:
        """Show the axes."""
        return f"start_axis={self.start_axis}, end_axis={self.end_axis}"


class Unflatten(Module):
    """Divide one axis into several: what undoes `Flatten`.

    Args:
        axis: the axis to divide.
        unflattened_size: the extents to divide it into; -1 once, for what is left.

    >>> import wengert as wg
    >>> wg.nn.Unflatten(1, (2, 3))(wg.ones((5, 6))).shape
    (5, 2, 3)
    """

    def __init__(self, axis: int, unflattened_size: tuple[int, ...]) -> None:
        self.axis = axis
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, x: Any) -> Tensor:
        """Divide the axis."""
        x = wg.asarray(x)
        axis = self.axis % max(x.ndim, 1)
        sizes = list(self.unflattened_size)
        known = prod([n for n in sizes if n != -1])
        if sizes.count(-1) == 1 and known:
            sizes[sizes.index(-1)] = x.shape[axis] // known
        if prod(sizes) != x.shape[axis]:
            raise ShapeError(f"Unflatten: axis {self.axis} of shape {x.shape} cannot become {self.unflattened_size}")
        return wg.reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))

    def extra_repr(self) -> str:
        """Show the axis and the extents."""
        return f"axis={self.axis}, unflattened_size={self.unflattened_size}"
