"""Attention against its formula, its masks, and the layer of several heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

import wengert as wg
from wengert import nn
from wengert.errors import DTypeError, ShapeError

F = nn.functional
LIMIT = 1000 * float(np.finfo(np.float64).eps)  # sums of fewer than 100 terms of the order of one, exponentials of them


def drawn(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


def formula(q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: Any = True, scale: float | None = None) -> np.ndarray:
    scores = q @ np.swapaxes(k, -1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return softmax(np.where(allowed, scores, -np.inf), axis=-1) @ v


def test_attention_is_its_formula() -> None:
    q, k, v = drawn((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 2))
    got = F.scaled_dot_product_attention(q, k, v)
    np.testing.assert_allclose(got.numpy(), formula(q, k, v), rtol=LIMIT, atol=LIMIT)
    got = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    np.testing.assert_allclose(got.numpy(), formula(q, k, v, np.tri(5, 6, dtype=bool), 0.3), rtol=LIMIT, atol=LIMIT)


def test_boolean_and_added_masks() -> None:
    q, k, v = drawn((2, 5, 4), (2, 6, 4), (2, 6, 2))
    allowed = np.random.default_rng(1).random((5, 6)) < 0.5
    allowed[:, 0] = True
    expected = formula(q, k, v, allowed)
    for mask in (allowed, np.where(allowed, 0.0, -np.inf)):
        got = F.scaled_dot_product_attention(q, k, v, mask)
        np.testing.assert_allclose(got.numpy(), expected, rtol=LIMIT, atol=LIMIT)
    moved = F.scaled_dot_product_attention(q, k, v, np.where(np.arange(6) == 2, 3.0, 0.0)).numpy()
    scores = q @ np.swapaxes(k, -1, -2) / 2 + np.where(np.arange(6) == 2, 3.0, 0.0)
    np.testing.assert_allclose(moved, softmax(scores, axis=-1) @ v, rtol=LIMIT, atol=LIMIT)


@pytest.mark.parametrize("blocked", [False, -np.inf])
def test_a_query_that_may_attend_to_nothing_gets_zeros_and_no_gradient(blocked: Any) -> None:
    q, k, v = (wg.tensor(a).requires_grad_() for a in drawn((3, 4), (5, 4), (5, 2)))
    mask = np.full((3, 5), not blocked if blocked is False else 0.0)
    mask[1] = blocked
    out = F.scaled_dot_product_attention(q, k, v, mask)
    assert out[1].tolist() == [0.0, 0.0]
    out.sum().backward()
    assert q.grad is not None
    assert q.grad[1].tolist() == [0.0] * 4
    assert all(t.grad is not None and np.isfinite(t.grad.numpy()).all() for t in (q, k, v))


def test_what_a_mask_hides_contributes_nothing_even_if_it_is_nan() -> None:
    q, k, v = (wg.tensor(a) for a in drawn((3, 4), (3, 4), (3, 2)))
    spoiled = k.numpy().copy()
    spoiled[2] = np.nan
    key = wg.tensor(spoiled).requires_grad_()
    out = F.scaled_dot_product_attention(q, key, v, is_causal=True)[:2]
    np.testing.assert_array_equal(
        out.detach().numpy(), F.scaled_dot_product_attention(q, k, v, is_causal=True).numpy()[:2]
    )
    out.sum().backward()
    assert key.grad is not None
    assert key.grad[2].tolist() == [0.0] * 4
    assert np.isfinite(key.grad.numpy()).all()


def test_dropout_of_weights_keeps_their_mean() -> None:
    q, k = drawn((1, 4), (400, 4))
    v = np.ones((400, 1))
    generator = wg.random.Generator(0)
    sums = [F.scaled_dot_product_attention(q, k, v, dropout_p=0.25, generator=generator).item() for _ in range(100)]
    weights = softmax(q @ k.T / 2, axis=-1)
    deviation = float(
        np.sqrt((weights**2).sum() / 3 / 100)
    )  # of the mean of 100 sums of weights with variance p / (1 - p)
    assert abs(np.mean(sums) - 1) < 5 * deviation
    assert len(set(sums)) > 90


def test_masks_and_shapes_that_do_not_fit() -> None:
    x = wg.ones((3, 4))
    with pytest.raises(ValueError, match="is_causal"):
        F.scaled_dot_product_attention(x, x, x, np.ones((3, 3), bool), is_causal=True)
    with pytest.raises(ShapeError, match=r"\(3, 4\).*\(3, 5\)"):
        F.scaled_dot_product_attention(x, wg.ones((3, 5)), x)
    with pytest.raises(DTypeError, match="int64"):
        F.scaled_dot_product_attention(x, x, x, np.ones((3, 3), np.int64))


def by_heads(layer: Any, q: np.ndarray, k: np.ndarray, v: np.ndarray, allowed: Any) -> tuple[np.ndarray, np.ndarray]:
    """Compute what the layer should, head by head."""
    state = {name: value.numpy() for name, value in layer.state_dict().items()}
    n, heads = layer.embed_dim, layer.num_heads
    weights = np.split(state["in_proj_weight"], 3)
    biases = np.split(state["in_proj_bias"], 3)
    q, k, v = (x @ w.T + b for x, w, b in zip((q, k, v), weights, biases, strict=True))
    parts, shares = [], []
    for head in range(heads):
        part = slice(head * n // heads, (head + 1) * n // heads)
        scores = q[..., part] @ np.swapaxes(k[..., part], -1, -2) / np.sqrt(n // heads)
        shares.append(softmax(np.where(allowed, scores, -np.inf), axis=-1))
        parts.append(shares[-1] @ v[..., part])
    out = np.concatenate(parts, -1) @ state["out_proj.weight"].T + state["out_proj.bias"]
    return out, np.stack(shares, 1)


def test_heads_attend_each_in_its_own_features() -> None:
    wg.random.seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True, dtype="float64")
    q, k, v = drawn((3, 5, 8), (3, 6, 8), (3, 6, 8))
    expected, shares = by_heads(layer, q, k, v, True)
    out, weights = layer(q, k, v, average_attn_weights=False)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=LIMIT, atol=LIMIT)
    np.testing.assert_allclose(weights.detach().numpy(), shares, rtol=LIMIT, atol=LIMIT)
    _, mean = layer(q, k, v)
    np.testing.assert_allclose(mean.detach().numpy(), shares.mean(1), rtol=LIMIT, atol=LIMIT)
    short, nothing = layer(q, k, v, need_weights=False)
    assert nothing is None
    np.testing.assert_allclose(short.detach().numpy(), expected, rtol=LIMIT, atol=LIMIT)
    # One array for all three is projected at once; the result is the same.
    joint, _ = layer(q, q, q)
    np.testing.assert_allclose(joint.detach().numpy(), by_heads(layer, q, q, q, True)[0], rtol=LIMIT, atol=LIMIT)
    layer.batch_first = False
    swapped, _ = layer(*(np.swapaxes(x, 0, 1) for x in (q, k, v)))
    np.testing.assert_allclose(np.swapaxes(swapped.detach().numpy(), 0, 1), expected, rtol=LIMIT, atol=LIMIT)
    alone, single = layer(q[0], k[0], v[0])
    assert single.shape == (5, 6)
    np.testing.assert_allclose(alone.detach().numpy(), expected[0], rtol=LIMIT, atol=LIMIT)


def test_true_in_a_mask_of_the_layer_leaves_out() -> None:
    wg.random.seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True, dtype="float64")
    (x,) = drawn((3, 5, 8))
    padding = np.zeros((3, 5), bool)
    padding[1, 3:] = True
    later = ~np.tri(5, dtype=bool)
    allowed = ~later & ~padding[:, None, :]
    expected, _ = by_heads(layer, x, x, x, allowed)
    added = np.where(later, -np.inf, 0.0)
    each = np.repeat(later[None], 6, axis=0)
    for options in (
        {"attn_mask": later, "key_padding_mask": padding},
        {"attn_mask": added, "key_padding_mask": padding},
        {"attn_mask": each, "key_padding_mask": np.where(padding, -np.inf, 0.0)},
        {"is_causal": True, "key_padding_mask": padding},
    ):
        out, _ = layer(x, x, x, **options)
        np.testing.assert_allclose(out.detach().numpy(), expected, rtol=LIMIT, atol=LIMIT)
    causal, _ = layer(x, x, x, is_causal=True)
    np.testing.assert_allclose(causal.detach().numpy(), by_heads(layer, x, x, x, ~later)[0], rtol=LIMIT, atol=LIMIT)


def test_keys_and_values_with_features_of_their_own() -> None:
    layer = nn.MultiheadAttention(8, 4, kdim=3, vdim=5, bias=False)
    assert list(layer.state_dict()) == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]
    out, weights = layer(wg.ones((2, 3, 8)), wg.ones((6, 3, 3)), wg.ones((6, 3, 5)))
    assert (out.shape, weights.shape) == ((2, 3, 8), (3, 2, 6))
    names = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    assert list(nn.MultiheadAttention(8, 4).state_dict()) == names


def test_dropout_of_the_layer_is_for_training_alone() -> None:
    layer = nn.MultiheadAttention(8, 2, dropout=0.5)
    x = wg.ones((5, 2, 8))
    wg.random.seed(0)
    assert (layer(x, x, x)[1].detach().numpy() == 0).any()
    assert not (layer.eval()(x, x, x)[1].detach().numpy() == 0).any()


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide 8"):
        nn.MultiheadAttention(8, 3)
    layer = nn.MultiheadAttention(8, 2)
    x = wg.ones((5, 2, 8))
    with pytest.raises(ShapeError, match=r"\(2, 5, 7\)"):
        layer(x, wg.ones((5, 2, 7)), x)
    with pytest.raises(ShapeError, match=r"attn_mask has shape \(4, 5\).*\(5, 5\) or \(4, 5, 5\)"):
        layer(x, x, x, attn_mask=np.zeros((4, 5), bool))
    with pytest.raises(ShapeError, match=r"key_padding_mask has shape \(5, 2\).*\(2, 5\)"):
        layer(x, x, x, key_padding_mask=np.zeros((5, 2), bool))
