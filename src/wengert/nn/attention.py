"""Multi-head attention."""

from __future__ import annotations

from typing import Any

import numpy as np

import wengert as wg
from wengert import Tensor
from wengert.errors import ShapeError

from . import functional, init
from .layers import Linear
from .module import Module
from .parameters import empty, extent


class MultiheadAttention(Module):
    """Attention of several heads side by side, each in features of its own (A. Vaswani et al., 2017, section 3.2.2).

    Parameters and masks are those of PyTorch's layer of this name.

    Args:
        embed_dim: features of queries and of the result.
        num_heads: into how many heads the features are divided.
        dropout: probability of a weight to be dropped, in training.
        bias: whether the projections have biases.
        kdim: features of keys, if they are others.
        vdim: features of values, if they are others.
        batch_first: whether arrays have shape (count, length, features), not (length, count, features).
        dtype: that of the parameters; the default dtype unless given.

    >>> import wengert as wg
    >>> layer = wg.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = wg.ones((3, 5, 8))
    >>> out, weights = layer(x, x, x)
    >>> out.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Tensor | None
    q_proj_weight: Tensor | None
    k_proj_weight: Tensor | None
    v_proj_weight: Tensor | None
    in_proj_bias: Tensor | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: Any = None,
    ) -> None:
        self.embed_dim = extent("MultiheadAttention", "embed_dim", embed_dim, least=1)
        self.num_heads = extent("MultiheadAttention", "num_heads", num_heads, least=1)
        if embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: {num_heads} heads do not divide {embed_dim} features")
        if not 0 <= dropout <= 1:
            raise ValueError(f"MultiheadAttention: a probability lies between 0 and 1; dropout is {dropout}")
        self.dropout = dropout
        self.batch_first = batch_first
        self.kdim = embed_dim if kdim is None else extent("MultiheadAttention", "kdim", kdim)
        self.vdim = embed_dim if vdim is None else extent("MultiheadAttention", "vdim", vdim)
        joint = self.kdim == self.vdim == embed_dim
        self.register_parameter("in_proj_weight", empty((3 * embed_dim, embed_dim), dtype) if joint else None)
        for name, features in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim)):
            apart = None if joint else empty((embed_dim, features), dtype)
            self.register_parameter(f"{name}_proj_weight", apart)
        self.register_parameter("in_proj_bias", empty((3 * embed_dim,), dtype) if bias else None)
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections anew, and set their biases to zero."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Masks are booleans, TRUE WHERE A KEY IS LEFT OUT (the opposite of `functional.scaled_dot_product_attention`, as
        in PyTorch), or numbers that are added to the scaled products.

        Args:
            query: array of shape (length, count, features), or with `batch_first` (count, length, features), or
                (length, features).
            key: the same, with a length of its own.
            value: the same, with the length of the keys.
            key_padding_mask: of shape (count, length of keys): which keys are padding.
            need_weights: whether the weights are returned.
            attn_mask: of shape (length, length of keys), or (count * heads, length, length of keys).
            average_attn_weights: whether the weights returned are the mean over the heads.
            is_causal: whether query i attends to the keys up to the i-th alone; needs no mask.

        Returns:
            The result, and the weights, of shape (count, [heads,] length, length of keys), or None.
        """
        arrays = [wg.asarray(x) for x in (query, key, value)]
        single = arrays[0].ndim == 2
        shared = key is query and value is query
        if single:
            arrays = [wg.expand_dims(x, 0) for x in arrays]
            key_padding_mask = None if key_padding_mask is None else wg.expand_dims(key_padding_mask, 0)
        elif not self.batch_first:
            arrays = [wg.swapaxes(x, 0, 1) for x in arrays]
        _demand_sequences(arrays, self)
        queries, keys, values = heads = [self._heads(x) for x in self._projected(arrays, shared)]
        mask = self._mask(heads, attn_mask, key_padding_mask, is_causal)
        is_causal = is_causal and mask is None
        dropout_p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = functional.dropout(wg.attention_weights(queries, keys, mask, is_causal), dropout_p)
            mixed = wg.matmul(weights, values)
            weights = wg.mean(weights, axis=1) if average_attn_weights else weights
        else:
            mixed = functional.scaled_dot_product_attention(queries, keys, values, mask, dropout_p, is_causal)
        count, _, length, _ = mixed.shape
        out = self.out_proj(wg.reshape(wg.transpose(mixed, (0, 2, 1, 3)), (count, length, self.embed_dim)))
        if single:
            return out[0], None if weights is None else weights[0]
        return out if self.batch_first else wg.swapaxes(out, 0, 1), weights

    def _projected(self, arrays: list[Tensor], shared: bool) -> list[Tensor]:
        n = self.embed_dim
        if self.in_proj_weight is not None and shared:
            joint = functional.linear(arrays[0], self.in_proj_weight, self.in_proj_bias)
            return [joint[..., i * n : (i + 1) * n] for i in range(3)]
        projected: list[Tensor] = []
        apart: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        for i, (x, weight) in enumerate(zip(arrays, apart, strict=True)):
            rows = slice(i * n, (i + 1) * n)
            weight = weight if self.in_proj_weight is None else self.in_proj_weight[rows]
            projected.append(
                functional.linear(x, weight, None if self.in_proj_bias is None else self.in_proj_bias[rows])
            )
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        count, length, features = x.shape
        return wg.transpose(wg.reshape(x, (count, length, self.num_heads, features // self.num_heads)), (0, 2, 1, 3))

    def _mask(self, heads: list[Tensor], attn_mask: Any, key_padding_mask: Any, is_causal: bool) -> Tensor | None:
        """Make one mask of all, in the sense of `functional.scaled_dot_product_attention`."""
        count, length, keys = heads[0].shape[0], heads[0].shape[2], heads[1].shape[2]
        allowed: Any = None
        added: Any = None
        shapes = {
            "attn_mask": {
                (length, keys): (1, 1, length, keys),
                (count * self.num_heads, length, keys): (count, self.num_heads, length, keys),
            },
            "key_padding_mask": {(count, keys): (count, 1, 1, keys)},
        }
        for name, given in (("attn_mask", attn_mask), ("key_padding_mask", key_padding_mask)):
            if given is None:
                continue
            mask = wg.asarray(given)
            if mask.shape not in shapes[name]:
                known = " or ".join(str(shape) for shape in shapes[name])
                raise ShapeError(f"MultiheadAttention: {name} has shape {mask.shape}; it must be {known}")
            mask = wg.reshape(mask, shapes[name][mask.shape])
            if mask.dtype.kind == "b":
                allowed = ~mask if allowed is None else allowed & ~mask
            else:
                added = mask if added is None else added + mask
        if is_causal and (allowed is not None or added is not None):
            causal = np.tri(length, keys, dtype=np.bool_)
            allowed = causal if allowed is None else allowed & causal
        if allowed is None or added is None:
            return added if allowed is None else wg.asarray(allowed)
        return wg.where(allowed, added, -np.inf)


def _demand_sequences(arrays: list[Tensor], layer: MultiheadAttention) -> None:
    features = (layer.embed_dim, layer.kdim, layer.vdim)
    shapes = [x.shape for x in arrays]
    if any(len(shape) != 3 for shape in shapes) or tuple(shape[2] for shape in shapes) != features:
        raise ShapeError(
            f"MultiheadAttention: query, key and value must be sequences of {features[0]}, {features[1]} and "
            f"{features[2]} features; brought to (count, length, features) they have shapes {shapes[0]}, {shapes[1]} "
            f"and {shapes[2]}"
        )
