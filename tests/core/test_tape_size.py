"""A tape of a million Nodes is an ordinary tape; memory goes as the sweep passes, and never waits for the collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import wengert as wg

MILLION = 1_000_000


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_million_deep_forward_backward_and_freed(without_collector: None) -> None:
    x = wg.tensor(1.0, dtype="float64", requires_grad=True)
    y = x
    for _ in range(MILLION):
        y = y + 1.0
    middle = weakref.ref(y._node)
    (gradient,) = wg.autograd.grad(y, x, retain_graph=True)
    assert gradient.item() == 1.0
    y.backward()
    assert (y.item(), x.grad.item()) == (MILLION + 1.0, 1.0)
    del y
    assert middle() is None


def test_a_million_deep_dropped_without_a_sweep(without_collector: None) -> None:
    x = wg.tensor(1.0, dtype="float64", requires_grad=True)
    y = x
    for _ in range(MILLION):
        y = -y
    node = weakref.ref(y._node)
    del y
    assert node() is None


def test_a_million_wide(without_collector: None) -> None:
    x = wg.tensor(1.0, dtype="float64", requires_grad=True)
    products = [x * float(i) for i in range(MILLION)]
    wg.autograd.backward(products)
    assert x.grad.item() == MILLION * (MILLION - 1) / 2
    node = weakref.ref(products[0]._node)
    del products
    assert node() is None


def test_residuals_are_freed_as_the_sweep_passes(without_collector: None) -> None:
    x = wg.tensor(np.linspace(0.1, 1.0, 5), requires_grad=True)
    residuals: list[weakref.ref[Any]] = []
    alive: list[int] = []
    y = x * 1.0
    y.register_hook(lambda gradient: alive.append(sum([reference() is not None for reference in residuals])))
    for _ in range(50):
        y = wg.sin(y)
        residuals.append(weakref.ref(y._data))
    loss = y.sum()
    residuals.pop()  # y itself holds the last one
    assert all(reference() is not None for reference in residuals)
    loss.backward()
    assert alive == [0]


def test_a_retained_tape_keeps_its_residuals(without_collector: None) -> None:
    x = wg.tensor(np.linspace(0.1, 1.0, 5), requires_grad=True)
    y = wg.sin(x)
    kept = weakref.ref(y._data)
    z = wg.sin(y).sum()
    del y
    z.backward(retain_graph=True)
    assert kept() is not None
    z.backward()
    assert kept() is None


def weighted(y: Any, t: Any) -> Any:
    return (t * y * y).sum()


@pytest.mark.parametrize("face", ["backward", "autograd", "grad", "tape"])
def test_create_graph_makes_no_cycles(face: str, without_collector: None) -> None:
    x = wg.tensor(np.linspace(0.1, 1.0, 5), requires_grad=True)
    y = wg.sin(x) * x
    residual = weakref.ref(y._data)
    if face == "backward":
        (y * y).sum().backward(create_graph=True)
        gradient = x.grad
        x.grad = None
    elif face == "autograd":
        (gradient,) = wg.autograd.grad((y * y).sum(), x, create_graph=True)
    elif face == "grad":
        gradient = wg.grad(partial(weighted, y))(x)
    else:
        with wg.GradientTape() as outer:
            with wg.GradientTape() as inner:
                z = (y * y).sum()
            gradient = inner.gradient(z, y)
            curvature = (gradient * gradient).sum()
        assert outer.gradient(curvature, y) is not None
        del z, curvature, inner, outer
    gradient = gradient * gradient
    node = weakref.ref(gradient._node)
    leaf_node = weakref.ref(x._node)
    del y, gradient
    assert (node(), residual()) == (None, None)
    del x
    assert leaf_node() is None


def test_a_leaf_dies_with_its_last_tensor_and_takes_its_tape_along(without_collector: None) -> None:
    x = wg.tensor(np.ones(3), requires_grad=True)
    y = x * x
    leaf, tensor = weakref.ref(x._node), weakref.ref(x)
    del x
    assert tensor() is None and leaf() is not None
    y.sum().backward()  # there is nobody to give the gradient to
    del y
    assert leaf() is None


def test_a_freed_value_does_not_pin_its_past(without_collector: None) -> None:
    x = wg.tensor(np.ones(3), requires_grad=True)
    h = x * x
    past = weakref.ref(h._node)
    loss = (h * 2.0).sum()
    del h
    loss.backward()
    assert past() is None  # though the loss is still there
