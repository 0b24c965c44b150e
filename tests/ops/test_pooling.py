"""Pooling against loops over windows: values, and which element gets the gradient of a maximum."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.errors import DTypeError, ShapeError


def windows(
    extents: tuple[int, ...], window: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> Iterator[tuple[tuple[int, ...], list[list[int]]]]:
    """Yield the place of every window and, along each axis, the positions that it covers: some may lie outside."""
    starts = []
    for n in extents:
        reach = dilation * (window - 1) + 1
        last = n + 2 * padding - reach + (stride - 1 if ceil_mode else 0)
        along = [s - padding for s in range(0, last + 1, stride)]
        # A window that begins behind the array and its border in front does not count.
        starts.append([s for s in along if not ceil_mode or s < n])
    for place in product(*(range(len(s)) for s in starts)):
        yield place, [[s[i] + k * dilation for k in range(window)] for s, i in zip(starts, place)]


def members(x: np.ndarray, positions: list[list[int]]) -> list[tuple[int, ...]]:
    """Return the positions inside the array, in row-major order."""
    return [p for p in product(*positions) if all(0 <= i < n for i, n in zip(p, x.shape))]


MOVES = [
    (window, stride, padding, dilation, ceil_mode)
    for window, stride, padding, dilation, ceil_mode in product((1, 2, 3), (1, 2, 3), (0, 1), (1, 2), (False, True))
    if 2 * padding <= window
]


@pytest.mark.parametrize(("window", "stride", "padding", "dilation", "ceil_mode"), MOVES)
def test_maxima_and_who_gets_their_gradient(
    window: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> None:
    """Small integers, so that there are many ties: the first of equals in a window gets it."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (6, 7)).astype(np.float64)
    image = wg.tensor(x[None]).requires_grad_()
    out = wg.max_pool2d(image, window, stride, padding, dilation, ceil_mode)
    seed = rng.integers(1, 9, out.shape).astype(np.float64)
    expected, bar = np.full(out.shape[1:], np.nan), np.zeros(x.shape)
    for place, positions in windows(x.shape, window, stride, padding, dilation, ceil_mode):
        inside = members(x, positions)
        best = max(inside, key=lambda p: x[p])
        expected[place] = x[best]
        bar[best] += seed[(0, *place)]
    np.testing.assert_array_equal(out.detach().numpy()[0], expected)
    out.backward(wg.tensor(seed))
    assert image.grad is not None
    np.testing.assert_array_equal(image.grad.numpy()[0], bar)
    line = wg.max_pool1d(wg.tensor(x), window, stride, padding, dilation, ceil_mode).numpy()
    for place, positions in windows(x.shape[1:], window, stride, padding, dilation, ceil_mode):
        inside = members(x[0], positions)
        np.testing.assert_array_equal(line[:, place[0]], x[:, [p[0] for p in inside]].max(axis=1))


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(
    ("window", "stride", "padding", "ceil_mode"), sorted({(w, s, p, c) for w, s, p, d, c in MOVES if d == 1})
)
def test_means(window: int, stride: int, padding: int, ceil_mode: bool, count_include_pad: bool) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (6, 7)).astype(np.float64)
    got = wg.avg_pool2d(wg.tensor(x[None]), window, stride, padding, ceil_mode, count_include_pad).numpy()[0]
    expected = np.full(got.shape, np.nan)
    for place, positions in windows(x.shape, window, stride, padding, 1, ceil_mode):
        inside = members(x, positions)
        total = sum(x[p] for p in inside)
        bordered = [p for p in product(*positions) if all(i < n + padding for i, n in zip(p, x.shape))]
        expected[place] = total / len(bordered if count_include_pad else inside)
    # The sums are exact; only their division rounds.
    np.testing.assert_allclose(got, expected, rtol=np.finfo(np.float64).eps, atol=0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 9])
def test_adaptive_means_divide_as_evenly_as_they_can(size: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 7))
    got = wg.adaptive_avg_pool1d(wg.tensor(x), size).numpy()
    parts = [x[:, i * 7 // size : -(-(i + 1) * 7 // size)].mean(axis=1) for i in range(size)]
    np.testing.assert_allclose(got, np.stack(parts, 1), rtol=0, atol=7 * np.finfo(np.float64).eps * np.abs(x).max())
    image = wg.adaptive_avg_pool2d(wg.tensor(x[None]), (None, size)).numpy()
    np.testing.assert_allclose(image[0], got, rtol=0, atol=7 * np.finfo(np.float64).eps * np.abs(x).max())


def gradient_of_maximum(x: Any, **moves: Any) -> tuple[Any, Any]:
    image = wg.tensor([x], np.float64).requires_grad_()
    out = wg.max_pool2d(image, 2, **moves)
    out.sum().backward()
    assert image.grad is not None
    return out.tolist()[0], image.grad.tolist()[0]


def test_special_points_of_a_maximum() -> None:
    nan, inf = float("nan"), float("inf")
    # Ties go to the first in row-major order, not to the first column.
    assert gradient_of_maximum([[1.0, 2.0], [2.0, 1.0]]) == ([[2.0]], [[0.0, 1.0], [0.0, 0.0]])
    # NaN is the largest, the first of several.
    out, bar = gradient_of_maximum([[9.0, nan], [nan, 1.0]])
    assert np.isnan(out).all()
    assert bar == [[0.0, 1.0], [0.0, 0.0]]
    # The border never wins, not even against minus infinity.
    out, bar = gradient_of_maximum([[-inf, -inf], [-inf, -inf]], padding=1)
    assert out == [[-inf] * 2] * 2
    assert bar == [[1.0, 1.0], [1.0, 1.0]]
    # Integers keep their dtype.
    assert wg.max_pool2d(wg.tensor([[[1, 2], [4, 3]]]), 2, padding=1).tolist() == [[[1, 2], [4, 3]]]


def test_an_infinite_cotangent_stays_where_it_belongs() -> None:
    image = wg.tensor([[[1.0, 2.0, 5.0, 3.0]] * 2], np.float64).requires_grad_()
    out = wg.max_pool2d(image, 2)
    (bar,) = wg.autograd.grad([out], [image], [wg.tensor([[[np.inf, 1.0]]], np.float64)])
    assert bar is not None
    assert bar.tolist() == [[[0.0, np.inf, 1.0, 0.0], [0.0] * 4]]


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: wg.max_pool2d(wg.ones((4, 4)), 2), ("(4, 4)", "4 axes")),
        (lambda: wg.max_pool2d(wg.ones((1, 4, 4)), 5), ("(5, 5)", "(4, 4)")),
        (lambda: wg.max_pool2d(wg.ones((1, 4, 4)), 2, padding=2), ("half", "(2, 2)")),
        (lambda: wg.max_pool2d(wg.ones((1, 4, 4)), (2, 2, 2)), ("kernel_size", "tuple of 2")),
        (lambda: wg.avg_pool1d(wg.ones((1, 4)), 0), ("kernel_size", "0")),
        (lambda: wg.adaptive_avg_pool2d(wg.ones((1, 4, 4)), (2, 2, 2)), ("output_size", "(2, 2, 2)")),
        (lambda: wg.adaptive_avg_pool2d(wg.ones((1, 0, 4)), 1), ("(1, 1, 0, 4)", "no elements")),
    ],
)
def test_what_does_not_fit_is_named(call: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


def test_an_incomplete_window_may_be_the_only_one() -> None:
    x = wg.tensor([[[3.0], [5.0]]])
    assert wg.max_pool2d(x, 2, ceil_mode=True).tolist() == [[[5.0]]]
    assert wg.avg_pool2d(x, 2, ceil_mode=True).tolist() == [[[4.0]]]
    with pytest.raises(ShapeError, match=r"\(2, 2\).*\(2, 1\)"):
        wg.max_pool2d(x, 2)
    with pytest.raises(ShapeError, match=r"\(3, 3\)"):
        wg.max_pool2d(x, 3, stride=1, ceil_mode=True)


def test_complex_numbers_have_means_and_no_largest() -> None:
    x = wg.tensor([[1.0 + 2.0j, 3.0 - 1.0j]])
    assert wg.avg_pool1d(x, 2).tolist() == [[2.0 + 0.5j]]
    with pytest.raises(DTypeError, match="complex128"):
        wg.max_pool1d(x, 2)
