"""Convolution against SciPy's correlation, at every kind of stride, padding, dilation and division into groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.signal import correlate

import wengert as wg
from wengert.errors import DTypeError, ShapeError

CONVOLUTIONS: dict[int, Any] = {1: wg.conv1d, 2: wg.conv2d, 3: wg.conv3d}


def spread(kernel: np.ndarray, dilation: tuple[int, ...]) -> np.ndarray:
    """Put zeros between the elements of a kernel."""
    shape = tuple(d * (k - 1) + 1 for k, d in zip(kernel.shape, dilation))
    out = np.zeros(shape, kernel.dtype)
    out[tuple(slice(None, None, d) for d in dilation)] = kernel
    return out


def reference(x: np.ndarray, weight: np.ndarray, stride: Any, padding: Any, dilation: Any, groups: int) -> np.ndarray:
    """Correlate every channel with its kernel, add up, and keep every stride-th place."""
    padded = np.pad(x, ((0, 0), (0, 0), *padding))
    inputs, outputs = weight.shape[1], weight.shape[0] // groups
    images = []
    for image in padded:
        channels = []
        for o, kernel in enumerate(weight):
            first = o // outputs * inputs
            channels.append(
                sum(
                    correlate(image[first + i], spread(kernel[i], dilation), mode="valid", method="direct")
                    for i in range(inputs)
                )
            )
        images.append(channels)
    return np.array(images)[(..., *(slice(None, None, s) for s in stride))]


def rounding(x: np.ndarray, weight: np.ndarray, dtype: Any, **moves: Any) -> np.ndarray:
    """Bound what the order of a sum of n products may change: n * eps * the sum of their sizes."""
    terms = int(np.prod(weight.shape[1:]))
    return terms * np.finfo(dtype).eps * reference(np.abs(x), np.abs(weight), **moves)


MOVES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 9), (4, 3, 3), {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1}),
    ((2, 4, 9), (6, 2, 2), {"stride": (3,), "padding": ((2, 1),), "dilation": (2,), "groups": 2}),
    ((3, 2, 6, 5), (4, 2, 3, 3), {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}),
    ((2, 4, 7, 6), (4, 1, 3, 2), {"stride": (1, 1), "padding": ((0, 2), (1, 0)), "dilation": (2, 1), "groups": 4}),
    ((2, 6, 7, 6), (9, 2, 3, 1), {"stride": (2, 3), "padding": ((1, 0), (0, 0)), "dilation": (1, 1), "groups": 3}),
    ((2, 3, 4, 4), (5, 3, 1, 1), {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}),
    (
        (1, 2, 4, 5, 3),
        (2, 2, 2, 2, 3),
        {"stride": (1, 2, 1), "padding": ((1, 0), (0, 1), (0, 0)), "dilation": (2, 1, 1), "groups": 1},
    ),
    ((2, 8, 40, 41), (2, 8, 3, 3), {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}),
    ((2, 8, 75, 81), (2, 4, 3, 3), {"stride": (2, 2), "padding": ((1, 0),) * 2, "dilation": (1, 2), "groups": 2}),
    ((1, 16, 3000), (2, 16, 5), {"stride": (1,), "padding": ((1, 1),), "dilation": (1,), "groups": 1}),
    ((70, 3, 12, 11), (2, 3, 3, 3), {"stride": (1, 1), "padding": ((1, 1),) * 2, "dilation": (1, 1), "groups": 1}),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("shape", "kernels", "moves"), MOVES)
def test_values_are_those_of_correlation(shape: Any, kernels: Any, moves: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=shape).astype(dtype), rng.normal(size=kernels).astype(dtype)
    got = CONVOLUTIONS[len(shape) - 2](wg.tensor(x), wg.tensor(weight), **moves).numpy()
    exact = reference(x.astype(np.float64), weight.astype(np.float64), **moves)
    assert got.dtype == dtype
    assert got.shape == exact.shape
    assert (np.abs(got - exact) <= rounding(x, weight, dtype, **moves)).all()


@pytest.mark.parametrize(("shape", "kernels", "moves"), MOVES)
def test_gradients_are_adjoint(shape: Any, kernels: Any, moves: Any) -> None:
    """<w, A v> = <A'w, v>, in exact arithmetic: small integers, whose sums of products float64 holds."""
    rng = np.random.default_rng(1)
    x, weight = (wg.tensor(rng.integers(-9, 9, s).astype(np.float64)).requires_grad_() for s in (shape, kernels))
    out = CONVOLUTIONS[len(shape) - 2](x, weight, **moves)
    seed = rng.integers(-9, 9, out.shape).astype(np.float64)
    out.backward(wg.tensor(seed))
    inner = float((out.detach().numpy() * seed).sum())
    for tensor in (x, weight):
        assert tensor.grad is not None
        assert float((tensor.grad.numpy() * tensor.detach().numpy()).sum()) == inner


def test_integers_are_exact() -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.integers(-99, 99, (2, 3, 6, 5)), rng.integers(-99, 99, (4, 3, 3, 2))
    moves: dict[str, Any] = {"stride": (2, 1), "padding": ((1, 1), (0, 1)), "dilation": (1, 2), "groups": 1}
    np.testing.assert_array_equal(wg.conv2d(x, weight, **moves).numpy(), reference(x, weight, **moves))


def test_ways_to_write_a_padding() -> None:
    rng = np.random.default_rng(3)
    x, weight = wg.tensor(rng.normal(size=(2, 3, 6, 5))), wg.tensor(rng.normal(size=(4, 3, 4, 3)))
    pairs = {
        "valid": ((0, 0), (0, 0)),
        "same": ((1, 2), (1, 1)),  # an odd one more behind
        0: ((0, 0), (0, 0)),
        2: ((2, 2), (2, 2)),
        (1, 2): ((1, 1), (2, 2)),
    }
    for written, meant in pairs.items():
        expected = wg.conv2d(x, weight, padding=meant)
        np.testing.assert_array_equal(wg.conv2d(x, weight, padding=written).numpy(), expected.numpy())
    assert wg.conv2d(x, weight, padding="same", dilation=2).shape == (2, 4, 6, 5)


def test_one_image_alone_and_a_bias() -> None:
    rng = np.random.default_rng(4)
    x, weight, bias = (wg.tensor(rng.normal(size=s)) for s in ((3, 6, 5), (4, 3, 2, 2), (4,)))
    alone = wg.conv2d(x, weight, bias)
    assert alone.shape == (4, 5, 4)
    plain = wg.conv2d(wg.expand_dims(x, 0), weight)[0]
    np.testing.assert_array_equal(alone.numpy(), plain.numpy() + bias.numpy()[:, None, None])


def test_what_is_not_finite_reaches_what_it_stands_under_alone() -> None:
    x = np.ones((1, 1, 4, 4))
    x[0, 0, 0, 3] = np.inf
    image, kernel = wg.tensor(x).requires_grad_(), wg.ones((1, 1, 2, 2), np.float64).requires_grad_()
    out = wg.conv2d(image, kernel)
    expected = np.full((3, 3), 4.0)
    expected[0, 2] = np.inf
    np.testing.assert_array_equal(out.detach().numpy()[0, 0], expected)
    out.sum().backward()
    assert kernel.grad is not None
    np.testing.assert_array_equal(kernel.grad.numpy()[0, 0], [[9.0, np.inf], [9.0, 9.0]])
    infinite = wg.tensor([[[[1.0, 1.0], [1.0, np.inf]]]], np.float64)
    (bar,) = wg.autograd.grad(wg.conv2d(image, infinite).sum(), [image])
    assert bar is not None
    reached = np.zeros((4, 4), bool)
    reached[1:, 1:] = True
    np.testing.assert_array_equal(np.isinf(bar.numpy()[0, 0]), reached)
    assert not np.isnan(bar.numpy()).any()


IMAGES, KERNELS = wg.ones((2, 4, 5, 5)), wg.ones((6, 4, 3, 3))


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: wg.conv2d(wg.ones((5, 5)), KERNELS), ("(5, 5)", "4 axes")),
        (lambda: wg.conv2d(IMAGES, wg.ones((6, 4, 3))), ("(6, 4, 3)", "4 axes")),
        (lambda: wg.conv2d(IMAGES, wg.ones((6, 3, 3, 3))), ("(2, 4, 5, 5)", "(6, 3, 3, 3)", "4 channels")),
        (lambda: wg.conv2d(IMAGES, KERNELS, groups=2), ("4 channels in 2 groups", "must have 2")),
        (lambda: wg.conv2d(IMAGES, wg.ones((6, 1, 3, 3)), groups=3), ("3 groups", "4")),
        (lambda: wg.conv2d(IMAGES, KERNELS, groups=0), ("positive",)),
        (lambda: wg.conv2d(IMAGES, wg.ones((6, 4, 7, 3))), ("(7, 3)", "(5, 5)", "padding")),
        (lambda: wg.conv2d(IMAGES, KERNELS, dilation=3), ("(7, 7)", "dilation (3, 3)")),
        (lambda: wg.conv2d(IMAGES, KERNELS, wg.ones(4)), ("(4,)", "(6,)")),
        (lambda: wg.conv2d(IMAGES, KERNELS, stride=0), ("stride", "0")),
        (lambda: wg.conv2d(IMAGES, KERNELS, stride=(1, 1, 1)), ("stride", "(1, 1, 1)", "tuple of 2")),
        (lambda: wg.conv2d(IMAGES, KERNELS, padding=-1), ("padding", "-1")),
        (lambda: wg.conv2d(IMAGES, KERNELS, padding=((1, 1),)), ("1 pairs", "2 axes")),
        (lambda: wg.conv2d(IMAGES, KERNELS, padding="full"), ("'full'",)),
        (lambda: wg.conv2d(IMAGES, KERNELS, stride=2, padding="same"), ("same", "stride")),
        (lambda: wg.conv1d(IMAGES, wg.ones((6, 4, 3))), ("conv1d", "3 axes", "length")),
    ],
)
def test_what_does_not_fit_is_named(call: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


def test_booleans_are_refused() -> None:
    with pytest.raises(DTypeError, match="bool"):
        wg.conv2d(wg.ones((1, 1, 3, 3), np.bool_), wg.ones((1, 1, 2, 2)))


def test_float_of_half_precision_is_added_up_in_single() -> None:
    """A thousand products of 1 and 2.5 are 2500 exactly; in half precision the sum would stop growing at 2048."""
    x, weight = wg.ones((1, 1000, 1, 1), np.float16).requires_grad_(), wg.full((1, 1000, 1, 1), 2.5, dtype=np.float16)
    out = wg.conv2d(x, weight)
    assert out.dtype == np.float16
    assert out.item() == 2500.0
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float16
    kernel = wg.ones((1, 1, 1, 1), np.float16).requires_grad_()
    wg.conv2d(wg.ones((1500, 1, 1, 1), np.float16), kernel).sum().backward()
    assert kernel.grad is not None
    assert kernel.grad.item() == 1500.0
