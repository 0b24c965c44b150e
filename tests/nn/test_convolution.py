"""Layers that convolve and pool: settings, first values, names; what they compute is tested with the operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import ShapeError

F = nn.functional


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layers_convolve_as_their_functions_do(rank: int) -> None:
    wg.random.seed(0)
    kinds: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    functions: Any = (F.conv1d, F.conv2d, F.conv3d)
    layer = kinds[rank - 1](4, 6, 3, stride=2, padding=1, dilation=1, groups=2)
    x = wg.random.normal(size=(2, 4, *(5, 6, 7)[:rank]))
    expected = functions[rank - 1](x, layer.weight, layer.bias, 2, 1, 1, 2)
    np.testing.assert_array_equal(layer(x).detach().numpy(), expected.detach().numpy())
    assert layer.weight.shape == (6, 2, *(3,) * rank)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert list(kinds[rank - 1](4, 6, 3, bias=False).state_dict()) == ["weight"]


def test_kernels_start_as_in_pytorch() -> None:
    wg.random.seed(0)
    layer = nn.Conv2d(16, 32, 3, groups=4)
    bound = 1 / np.sqrt(4 * 9)
    for parameter in layer.parameters():
        values = parameter.detach().numpy()
        assert 0.8 * bound < np.abs(values).max() <= bound
        assert values.dtype == np.float32


def test_what_layers_show() -> None:
    assert repr(nn.Conv2d(1, 2, 3)) == "Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))"
    shown = repr(nn.Conv2d(2, 2, (3, 1), padding="same", groups=2, bias=False))
    assert shown == "Conv2d(2, 2, kernel_size=(3, 1), stride=(1, 1), padding='same', groups=2, bias=False)"
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(kernel_size=2, stride=2, padding=0)"
    assert repr(nn.AdaptiveAvgPool2d(1)) == "AdaptiveAvgPool2d(output_size=1)"
    assert "num_layers=2" in repr(nn.LSTM(2, 3, num_layers=2))
    assert "momentum=0.1" in repr(nn.BatchNorm2d(3))


def test_layers_pool_as_their_functions_do() -> None:
    x = wg.random.normal(size=(2, 3, 7, 6))
    row = x[:, :, 0]
    for got, expected in (
        (nn.MaxPool2d(3, 2, 1, 1, True)(x), F.max_pool2d(x, 3, 2, 1, 1, True)),
        (nn.MaxPool1d(2)(row), F.max_pool1d(row, 2)),
        (nn.AvgPool2d(3, 2, 1, True, False)(x), F.avg_pool2d(x, 3, 2, 1, True, False)),
        (nn.AvgPool1d(2)(row), F.avg_pool1d(row, 2)),
        (nn.AdaptiveAvgPool2d((2, None))(x), F.adaptive_avg_pool2d(x, (2, None))),
        (nn.AdaptiveAvgPool1d(4)(row), F.adaptive_avg_pool1d(row, 4)),
    ):
        np.testing.assert_array_equal(got.numpy(), expected.numpy())


def test_unflatten_undoes_flatten() -> None:
    x = wg.random.normal(size=(2, 3, 4, 5))
    flat = nn.Flatten()(x)
    for sizes in ((3, 4, 5), (3, -1, 5)):
        np.testing.assert_array_equal(nn.Unflatten(1, sizes)(flat).numpy(), x.numpy())
    with pytest.raises(ShapeError, match=r"\(2, 60\).*\(7, 9\)"):
        nn.Unflatten(1, (7, 9))(flat)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: nn.Conv2d(4, 6, 3, groups=4), "4 groups"),
        (lambda: nn.Conv2d(4, 6, 3, groups=0), "groups"),
        (lambda: nn.Conv2d(4, 6, (3, 3, 3)), "kernel_size"),
        (lambda: nn.Conv2d(4, 6, 3, stride=0), "stride"),
        (lambda: nn.Conv2d(-1, 6, 3), "in_channels"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Any, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make()


def test_a_small_network_learns_to_tell_stripes_apart() -> None:
    """Horizontal or vertical stripes at random places, under noise: every part of a network has to do its share."""
    wg.random.seed(0)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 64)
    stripes = (np.arange(8)[:, None] + rng.integers(0, 4, 64)) % 4 < 2
    images = np.where(labels[:, None, None], stripes.T[:, :, None], stripes.T[:, None, :]) + 0.3 * rng.normal(
        size=(64, 8, 8)
    )
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding="same"),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    optimizer = wg.optim.Adam(model.parameters(), lr=0.02)
    x, y = wg.tensor(images[:, None].astype(np.float32)), wg.tensor(labels)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert (model.eval()(x).detach().numpy().argmax(1) == labels).mean() > 0.95
