"""Batch normalisation: what it computes in training and in evaluation, and its running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import nn
from wengert.errors import LeakedTracerError, ShapeError

EPS = float(np.finfo(np.float64).eps)


def standardized(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes = (0, *range(2, x.ndim))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps), mean.reshape(-1), variance.reshape(-1)


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 5), (2, 3, 2, 2, 2)])
def test_training_uses_the_batch_and_moves_the_running_statistics(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, shape)
    kind: Any = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)]
    layer = kind(3, eps=1e-3, dtype="float64")
    layer.weight.update_buffer(fill(1.0, -2.0, 0.5))
    layer.bias.update_buffer(fill(0.0, 1.0, -1.0))
    normal, mean, variance = standardized(x, 1e-3)
    count = x.size // 3
    channels = (3, *(1,) * (len(shape) - 2))
    scale, shift = (np.reshape(v, channels) for v in ((1.0, -2.0, 0.5), (0.0, 1.0, -1.0)))
    limit = count * EPS * 10
    np.testing.assert_allclose(layer(wg.tensor(x)).detach().numpy(), normal * scale + shift, rtol=limit, atol=limit)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * mean, rtol=limit)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * variance * count / (count - 1), rtol=limit)
    assert layer.num_batches_tracked.item() == 1
    layer.eval()
    running = [np.reshape(v.numpy(), channels) for v in (layer.running_mean, layer.running_var)]
    expected = (x - running[0]) / np.sqrt(running[1] + 1e-3) * scale + shift
    np.testing.assert_allclose(layer(wg.tensor(x)).detach().numpy(), expected, rtol=limit, atol=limit)
    assert layer.num_batches_tracked.item() == 1


def fill(*values: float) -> Any:
    def write(array: np.ndarray) -> None:
        array[...] = values

    return write


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """Both the statistics and evaluation subtract the mean first, before anything is squared or scaled."""
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    far = (x + np.float32(4096.0)).astype(np.float32)
    expected, mean, variance = standardized(far.astype(np.float64), 1e-5)
    out, got_mean, got_variance = wg.standardize_channels(far), wg.mean(wg.tensor(far), 0), wg.var(wg.tensor(far), 0)
    # The mean is known to half a unit in the last place of 4096 or so; nothing beyond that may be lost.
    unit = float(np.spacing(np.float32(4096.0)))
    assert np.abs(out.numpy() - expected).max() <= 4 * unit
    assert np.abs(got_mean.numpy() - mean).max() <= 2 * unit
    assert np.abs(got_variance.numpy() - variance).max() <= 8 * unit
    moved = nn.functional.batch_norm(wg.tensor(far), got_mean, got_variance)
    assert np.abs(moved.numpy() - expected).max() <= 4 * unit


def test_momentum_of_none_is_the_mean_over_batches() -> None:
    rng = np.random.default_rng(0)
    layer = nn.BatchNorm1d(2, momentum=None, dtype="float64")
    batches = [rng.normal(size=(5, 2)) for _ in range(3)]
    for batch in batches:
        layer(wg.tensor(batch))
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean([b.mean(0) for b in batches], 0), rtol=100 * EPS)
    np.testing.assert_allclose(
        layer.running_var.numpy(), np.mean([b.var(0, ddof=1) for b in batches], 0), rtol=100 * EPS
    )
    layer.reset_running_stats()
    assert (layer.running_mean.tolist(), layer.running_var.tolist()) == ([0.0, 0.0], [1.0, 1.0])
    assert layer.num_batches_tracked.item() == 0


def test_state_and_parameters_have_the_usual_names() -> None:
    names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    layer = nn.BatchNorm2d(3)
    assert list(layer.state_dict()) == names
    assert [name for name, _ in layer.named_parameters()] == names[:2]
    layer(wg.ones((2, 3, 2, 2)) * 7)
    other = nn.BatchNorm2d(3)
    other.load_state_dict(layer.state_dict())
    assert other.running_mean.tolist() == layer.running_mean.tolist() != [0.0] * 3
    assert list(nn.BatchNorm1d(3, affine=False).state_dict()) == names[2:]
    bare = nn.BatchNorm1d(3, affine=False, track_running_stats=False).eval()
    assert list(bare.state_dict()) == []
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    limit = 8 * float(np.finfo(np.float32).eps)
    np.testing.assert_allclose(bare(wg.tensor(x)).numpy(), standardized(x, 1e-5)[0], rtol=10 * limit, atol=10 * limit)


def test_the_running_statistics_stay_off_the_tape_in_every_mode() -> None:
    layer = nn.BatchNorm1d(3, dtype="float64")
    x = wg.tensor(np.random.default_rng(0).normal(size=(5, 3)))
    for seen, derive in enumerate((wg.grad, wg.value_and_grad), 1):
        derive(lambda v: (layer(v) ** 3).sum())(x)
        assert layer.num_batches_tracked.item() == seen
    wg.jvp(layer, (x,), (x,))
    wg.hvp(lambda v: (layer(v) ** 3).sum(), (x,), (x,))
    assert layer.num_batches_tracked.item() == 4
    assert not layer.running_mean.requires_grad
    # One running mean cannot hold those of all examples; with statistics of their own there is nothing to hold.
    with pytest.raises(LeakedTracerError):
        wg.vmap(layer)(wg.stack([x, x]))
    bare = nn.BatchNorm1d(3, track_running_stats=False, dtype="float64")
    both = wg.vmap(bare)(wg.stack([x, x * 3]))
    np.testing.assert_allclose(both[0].detach().numpy(), bare(x).detach().numpy(), rtol=100 * EPS, atol=100 * EPS)


def test_what_does_not_fit_is_named() -> None:
    layer = nn.BatchNorm2d(3)
    for shape in ((2, 3, 4), (2, 4, 4, 4)):
        with pytest.raises(ShapeError, match=r"count, 3, height, width"):
            layer(wg.ones(shape))
    single = nn.BatchNorm1d(3)
    for count in (0, 1):
        with pytest.raises(ShapeError, match=f"{count} elements"):
            single(wg.ones((count, 3)))
    assert single.num_batches_tracked is not None
    assert single.num_batches_tracked.item() == 0
    assert nn.BatchNorm1d(3).eval()(wg.ones((1, 3))).shape == (1, 3)
    with pytest.raises(ShapeError, match=r"weight has shape \(2,\)"):
        nn.functional.batch_norm(wg.ones((4, 3)), None, None, weight=wg.ones(2), training=True)
    with pytest.raises(ShapeError, match=r"\(0, 3\)"):
        wg.standardize_channels(wg.ones((0, 3)))
