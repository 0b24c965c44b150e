"""Layers and containers against what they are said to compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import DTypeError, ShapeError


def values_of(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach())


def test_linear_is_an_affine_map_of_the_last_axis() -> None:
    layer = nn.Linear(3, 2, dtype="float64")
    x = np.random.default_rng(0).normal(size=(4, 5, 3))
    out = layer(wg.tensor(x))
    np.testing.assert_allclose(values_of(out), x @ values_of(layer.weight).T + values_of(layer.bias), rtol=1e-13)
    bare = nn.Linear(3, 2, bias=False)
    assert bare.bias is None
    assert [name for name, _ in bare.named_parameters()] == ["weight"]
    assert bare(wg.ones(3)).shape == (2,)


def test_linear_starts_as_pytorch_does() -> None:
    wg.random.seed(0)
    layer = nn.Linear(100, 200)
    for parameter in layer.parameters():
        values = values_of(parameter)
        assert values.dtype == np.float32
        assert np.abs(values).max() <= 0.1
        assert np.abs(values).max() > 0.095
        assert abs(values.mean()) < 0.01
    wg.random.seed(0)
    np.testing.assert_array_equal(values_of(nn.Linear(100, 200).weight), values_of(layer.weight))


def test_linear_names_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"\(4, 5\).*\(2, 3\)"):
        nn.Linear(3, 2)(wg.ones((4, 5)))
    with pytest.raises(ValueError, match="in_features"):
        nn.Linear(-1, 2)


def test_embedding_looks_rows_up_and_adds_their_gradients() -> None:
    layer = nn.Embedding(5, 3, padding_idx=-1)
    assert layer.padding_idx == 4
    assert values_of(layer.weight)[4].tolist() == [0.0, 0.0, 0.0]
    out = layer(wg.tensor([[0, 4], [0, 2]]))
    assert out.shape == (2, 2, 3)
    np.testing.assert_array_equal(values_of(out)[1, 1], values_of(layer.weight)[2])
    out.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad[:, 0].tolist() == [2.0, 0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("index", [-1, 5])
def test_embedding_refuses_rows_that_are_not_there(index: int) -> None:
    with pytest.raises(IndexError, match=rf"between 0 and 4 .* at \(1,\) is {index}"):
        nn.Embedding(5, 3)(wg.tensor([0, index]))


def test_embedding_refuses_what_is_no_index() -> None:
    with pytest.raises(DTypeError, match="float32"):
        nn.Embedding(5, 3)(wg.tensor([0.0]))
    with pytest.raises(ValueError, match="padding_idx"):
        nn.Embedding(5, 3, padding_idx=5)


def test_layer_norm_normalises_the_last_axes() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, size=(4, 5, 6))
    layer = nn.LayerNorm((5, 6), eps=1e-3, dtype="float64")
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    np.testing.assert_allclose(values_of(layer(wg.tensor(x))), (x - mean) / np.sqrt(variance + 1e-3), rtol=1e-12)
    assert [p.shape for p in layer.parameters()] == [(5, 6), (5, 6)]
    assert [p.shape for p in nn.LayerNorm(6, bias=False).parameters()] == [(6,)]
    assert list(nn.LayerNorm(6, elementwise_affine=False).parameters()) == []
    with pytest.raises(ShapeError, match="layer_norm"):
        nn.LayerNorm(5)(wg.ones((2, 6)))


def test_dropout_drops_a_part_and_keeps_the_mean() -> None:
    wg.random.seed(0)
    layer = nn.Dropout(0.25)
    x = wg.ones(40_000).requires_grad_()
    out = layer(x)
    values = values_of(out)
    assert set(np.unique(values)) == {0.0, np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 0.01
    out.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(values_of(x.grad), values)
    np.testing.assert_array_equal(values_of(layer.eval()(x)), np.ones(40_000))


def test_what_is_dropped_contributes_nothing_even_if_infinite() -> None:
    x = wg.tensor(np.full(100, np.inf), requires_grad=True)
    out = nn.functional.dropout(x, 0.5, generator=wg.random.Generator(0))
    values = values_of(out)
    assert set(np.unique(values)) == {0.0, np.inf}
    out.sum().backward()
    assert x.grad is not None
    assert not np.isnan(values_of(x.grad)).any()


def test_dropout_at_its_limits() -> None:
    x = wg.ones(5)
    assert nn.Dropout(1.0)(x).tolist() == [0.0] * 5
    assert nn.Dropout(0.0)(x).tolist() == [1.0] * 5
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="probability"):
            nn.Dropout(p)


def test_dropout_follows_its_generator() -> None:
    first, second = (nn.Dropout(0.5, generator=wg.random.Generator(3))(wg.ones(50)).tolist() for _ in range(2))
    assert first == second


def test_flatten_and_identity() -> None:
    x = wg.ones((2, 3, 4, 5))
    assert nn.Flatten()(x).shape == (2, 60)
    assert nn.Flatten(0, 1)(x).shape == (6, 4, 5)
    assert nn.Flatten(1, -2)(x).shape == (2, 12, 5)
    assert nn.Identity()(x) is x


ACTIVATIONS: list[tuple[nn.Module, Any]] = [
    (nn.ReLU(), lambda x: np.maximum(x, 0)),
    (nn.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    (nn.ELU(1.5), lambda x: np.where(x > 0, x, 1.5 * (np.exp(np.minimum(x, 0)) - 1))),
    (nn.GELU("tanh"), lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    (nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
    (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
    (nn.Tanh(), np.tanh),
    (nn.Softplus(), lambda x: np.log1p(np.exp(x))),
    (nn.Softplus(2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
    (nn.Softmax(), lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    (nn.Softmax(0), lambda x: np.exp(x) / np.exp(x).sum(0, keepdims=True)),
    (nn.LogSoftmax(), lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))),
]


@pytest.mark.parametrize(("module", "reference"), ACTIVATIONS, ids=[repr(module) for module, _ in ACTIVATIONS])
def test_activations(module: nn.Module, reference: Any) -> None:
    x = np.linspace(-3, 3, 14).reshape(2, 7)
    np.testing.assert_allclose(values_of(module(wg.tensor(x))), reference(x), rtol=1e-12, atol=1e-12)


def test_gelu_is_the_normal_distribution_function_times_x() -> None:
    from scipy.stats import norm

    x = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(values_of(nn.GELU()(wg.tensor(x))), x * norm.cdf(x), rtol=1e-12)
    with pytest.raises(ValueError, match="approximate"):
        nn.GELU("sometimes")


@pytest.mark.parametrize(("function", "slope"), [("leaky_relu", 0.01), ("elu", 1.0)])
def test_derivatives_at_the_kink_are_as_written(function: str, slope: float) -> None:
    x = wg.tensor(np.array([0.0, 800.0, -800.0]), requires_grad=True)
    getattr(nn.functional, function)(x).sum().backward()
    assert x.grad is not None
    expected = [slope, 1.0, slope if function == "leaky_relu" else 0.0]
    np.testing.assert_allclose(values_of(x.grad), expected)


def test_sequential_is_indexed_and_changed_like_a_list() -> None:
    first, second, third = nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)
    model = nn.Sequential(first, second)
    assert model.append(third) is model
    assert list(model) == [first, second, third]
    assert len(model) == 3
    assert model[-1] is third
    assert list(model[1:]) == [second, third]
    assert isinstance(model[:2], nn.Sequential)
    model[1] = nn.Tanh()
    assert isinstance(model[1], nn.Tanh)
    del model[1]
    assert list(model) == [first, third]
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    model.insert(1, second)
    assert list(model) == [first, second, third]
    assert model(wg.ones((4, 2))).shape == (4, 1)
    with pytest.raises(IndexError, match="module 3 among 3"):
        _ = model[3]
    with pytest.raises(TypeError, match="not a Module"):
        nn.Sequential(np.tanh)  # type: ignore[arg-type]


def test_sequential_may_be_named() -> None:
    model = nn.Sequential({"inner": nn.Linear(2, 3), "act": nn.ReLU()})
    assert model.inner.out_features == 3
    assert [name for name, _ in model.named_parameters()] == ["inner.weight", "inner.bias"]
    assert model(wg.ones((4, 2))).shape == (4, 3)


def test_module_list_and_dict_are_known_to_their_owner() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
            self.heads = nn.ModuleDict({"a": nn.Linear(2, 1)})

    model = Both()
    assert len(list(model.parameters())) == 6
    model.layers.extend([nn.Linear(2, 2)])
    model.heads["b"] = nn.Linear(2, 5)
    assert [name for name, _ in model.named_parameters()][-1] == "heads.b.bias"
    assert list(model.heads) == ["a", "b"]
    assert list(model.heads.keys()) == ["a", "b"]
    assert [m.out_features for m in model.heads.values()] == [1, 5]  # type: ignore[attr-defined]
    del model.heads["a"]
    assert [name for name, _ in model.heads.items()] == ["b"]
    assert "a" not in model.heads
    with pytest.raises(KeyError, match="'a'"):
        _ = model.heads["a"]
    assert len(model.layers[:2]) == 2
    assert isinstance(model.layers[:2], nn.ModuleList)
