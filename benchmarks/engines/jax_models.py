"""The models of `benchmarks.models` as functions of their parameters, as users of JAX write them.

Matrices are kept with inputs in their rows, and multiplied from the right.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from benchmarks.models import Convolutional, Model, Perceptron, Recurrent, Transformer

if TYPE_CHECKING:
    from collections.abc import Callable

Parameters = dict[str, jax.Array]
CHANNELS_FIRST, CHANNELS_LAST = ("NCHW", "OIHW", "NCHW"), ("NHWC", "HWIO", "NHWC")


def parameters_of(work: Model) -> Parameters:
    """Return the initial parameters, matrices transposed."""

    def laid_out(name: str, array: np.ndarray) -> jax.Array:
        return jnp.asarray(array.T.copy() if array.ndim == 2 and "table" not in name else array)

    return {name: laid_out(name, array) for name, array in work.parameters.items()}


def losses(work: Model) -> dict[str, Callable[[Parameters, jax.Array, jax.Array], jax.Array]]:
    """Return the loss as a function of parameters, inputs and labels, by the way in which it is written."""
    scores = _SCORES[type(work)](work)
    return {way: partial(_mean_cross_entropy, function) for way, function in scores.items()}


def _mean_cross_entropy(scores: Callable[..., jax.Array], p: Parameters, inputs: jax.Array, labels: jax.Array) -> Any:
    log_probabilities = nn.log_softmax(scores(p, inputs))
    return -jnp.mean(jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1))


def _affine(p: Parameters, name: str, x: jax.Array) -> jax.Array:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def _perceptron(work: Perceptron) -> dict[str, Any]:
    last = len(work.sizes) - 2

    def scores(p: Parameters, x: jax.Array) -> jax.Array:
        for layer in range(last):
            x = nn.relu(_affine(p, str(2 * layer), x))
        return _affine(p, str(2 * last), x)

    return {"": scores}


def _convolutional(work: Convolutional) -> dict[str, Any]:
    def scores(layout: tuple[str, str, str], p: Parameters, x: jax.Array) -> jax.Array:
        first = layout is CHANNELS_FIRST
        x = x if first else x.transpose(0, 2, 3, 1)
        window = (1, 1, 2, 2) if first else (1, 2, 2, 1)
        for layer in ("0", "3"):
            weight, bias = p[f"{layer}.weight"], p[f"{layer}.bias"]
            weight = weight if first else weight.transpose(2, 3, 1, 0)
            x = lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=layout)
            x = nn.relu(x + (bias[:, None, None] if first else bias))
            x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
        x = x if first else x.transpose(0, 3, 1, 2)
        return _affine(p, "7", x.reshape(x.shape[0], -1))

    return {"channels first": partial(scores, CHANNELS_FIRST), "channels last": partial(scores, CHANNELS_LAST)}


def _norm(p: Parameters, name: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred * lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def _written_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    tokens = query.shape[1]
    scores = jnp.einsum("bthd,bshd->bhts", query, key) / math.sqrt(query.shape[-1])
    past = jnp.tril(jnp.ones((tokens, tokens), bool))
    return jnp.einsum("bhts,bshd->bthd", nn.softmax(jnp.where(past, scores, -jnp.inf)), value)


def _transformer(work: Transformer) -> dict[str, Any]:
    def block(attention: Callable[..., jax.Array], p: Parameters, name: str, x: jax.Array) -> jax.Array:
        batch, tokens, width = x.shape
        thirds = jnp.split(_affine(p, f"{name}.query_key_value", _norm(p, f"{name}.attention_norm", x)), 3, -1)
        query, key, value = (third.reshape(batch, tokens, work.heads, width // work.heads) for third in thirds)
        x = x + _affine(p, f"{name}.mix", attention(query, key, value).reshape(x.shape))
        wide = nn.gelu(_affine(p, f"{name}.widen", _norm(p, f"{name}.widening_norm", x)), approximate=False)
        return x + _affine(p, f"{name}.narrow", wide)

    def scores(attention: Callable[..., jax.Array], p: Parameters, tokens: jax.Array) -> jax.Array:
        x = p["token_table.weight"][tokens] + p["place_table.weight"]
        for layer in range(work.layers):
            x = block(attention, p, f"blocks.{layer}", x)
        return _norm(p, "norm", x) @ p["head.weight"]

    library_attention = partial(nn.dot_product_attention, is_causal=True)
    return {
        "attention by `einsum`": partial(scores, _written_attention),
        "`jax.nn.dot_product_attention`": partial(scores, library_attention),
    }


def _recurrent(work: Recurrent) -> dict[str, Any]:
    def scores(unroll: int, p: Parameters, sequence: jax.Array) -> jax.Array:
        driven = sequence @ p["recurrence.weight_ih_l0"] + p["recurrence.bias_ih_l0"] + p["recurrence.bias_hh_l0"]

        def cell(state: tuple[jax.Array, jax.Array], drive: jax.Array) -> Any:
            hidden, memory = state
            gates = jnp.split(drive + hidden @ p["recurrence.weight_hh_l0"], 4, -1)
            entering, kept, shown = (nn.sigmoid(gates[place]) for place in (0, 1, 3))
            memory = kept * memory + entering * jnp.tanh(gates[2])
            return (shown * jnp.tanh(memory), memory), None

        zeros = jnp.zeros((work.batch, work.hidden), jnp.float32)
        (hidden, _), _ = lax.scan(cell, (zeros, zeros), driven, unroll=unroll)
        return _affine(p, "head", hidden)

    return {"`lax.scan`": partial(scores, 1), "`lax.scan(unroll=10)`": partial(scores, 10)}


_SCORES: dict[type[Model], Callable[[Any], dict[str, Any]]] = {
    Perceptron: _perceptron,
    Convolutional: _convolutional,
    Transformer: _transformer,
    Recurrent: _recurrent,
}
MODELS = tuple(_SCORES)
