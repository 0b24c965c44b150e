"""Attention over long sequences: one operation, whose scores are never in memory, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.ops import attention

Array = np.ndarray[Any, Any]
LENGTH = 132
"""Of sequences whose causal attention is an operation by itself."""


def of_heads(rng: np.random.Generator, length: int = LENGTH, features: int = 16, dtype: str = "f8") -> list[Array]:
    """Return queries, keys, values and weights of the result."""
    return [rng.standard_normal((2, 2, length, features)).astype(dtype) for _ in range(4)]


def loss(q: Any, k: Any, v: Any, weights: Any) -> Any:
    return wg.sum(wg.sin(wg.scaled_dot_product_attention(q, k, v, is_causal=True)) * weights)


@pytest.fixture(params=["whole", "by steps"])
def plainly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Compute something with scores in memory, by products and softmax."""

    def run(function: Callable[..., Any], *args: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(attention, "_LONG_CAUSAL", 1 << 60)
            return function(*args)

    yield run


def named(compiled: Any) -> str:
    return str(compiled)


def hvp(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda q, k, v, w: wg.jvp(wg.grad(function, argnums=(0, 1, 2)), (q, k, v, w), (k, v, q, w))


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "value": lambda f: f,
    "grad": lambda f: wg.grad(f, argnums=(0, 1, 2)),
    "jvp": lambda f: lambda q, k, v, w: wg.jvp(f, (q, k, v, w), (k, v, q, w)),
    "hvp": hvp,
    "grad of grad": lambda f: wg.grad(
        lambda q, k, v, w: sum([wg.sum(g * w) for g in wg.grad(f, argnums=(0, 1, 2))(q, k, v, w)]), argnums=(0, 1, 2)
    ),
    "vmap": lambda f: wg.vmap(f, in_axes=(0, 0, 0, 1)),
    "vmap, some not mapped": lambda f: wg.vmap(f, in_axes=(0, None, None, 1)),
    "vmap of grad": lambda f: wg.vmap(wg.grad(f, argnums=(0, 1, 2))),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_agree_with_products_and_softmax(name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v, w = of_heads(np.random.default_rng(3))
    if "some" in name:
        k, v = k[0], v[0]
    transformed = TRANSFORMS[name](loss)
    with monkeypatch.context() as patch:
        patch.setattr(attention, "_LONG_CAUSAL", 1 << 60)
        wanted = transformed(q, k, v, w)
    function = wg.compile(transformed) if compiled else transformed
    for _ in range(2):
        for found, want in zip(wg.tree.leaves(function(q, k, v, w)), wg.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-11 * np.abs(want).max())
