"""Attention over long sequences: one operation, whose scores are never in memory, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.compile import executable
from wengert.compile.llvm.target import available_cores
from wengert.compile.plan import plan_memory
from wengert.core.pytree import flatten
from wengert.ops import attention

Array = np.ndarray[Any, Any]
LENGTH = 132
"""Of sequences whose causal attention is an operation by itself."""


def of_heads(rng: np.random.Generator, length: int = LENGTH, features: int = 16, dtype: str = "f8") -> list[Array]:
    """Return queries, keys, values and weights of the result."""
    return [rng.standard_normal((2, 2, length, features)).astype(dtype) for _ in range(4)]


def loss(q: Any, k: Any, v: Any, weights: Any) -> Any:
    return wg.sum(wg.sin(wg.scaled_dot_product_attention(q, k, v, is_causal=True)) * weights)


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


def plainly(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function computes where scores are kept in memory: by products and softmax."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_LONG_CAUSAL", 1 << 60)
        patch.setattr(attention, "_LONG", 1 << 60)
        return function(*args)


def demand_close(found: Any, wanted: Any) -> None:
    """Compare float64 results of sums of a few hundred terms, which exponentials of rounded sums are factors of."""
    for one, other in zip(flatten(found)[0], flatten(wanted)[0], strict=True):
        want = np.asarray(other)
        np.testing.assert_allclose(np.asarray(one), want, rtol=0, atol=1e4 * np.finfo("f8").eps * np.abs(want).max())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_agree_with_products_and_softmax(name: str, compiled: bool) -> None:
    q, k, v, w = of_heads(np.random.default_rng(3))
    if "some" in name:
        k, v = k[0], v[0]
    transformed = TRANSFORMS[name](loss)
    wanted = plainly(transformed, q, k, v, w)
    function = wg.compile(transformed) if compiled else transformed
    for _ in range(2):
        demand_close(function(q, k, v, w), wanted)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("features", [16, 10])
def test_gradients_of_a_backward_pass(causal: bool, features: int) -> None:
    given = of_heads(np.random.default_rng(4), 520 if not causal else LENGTH, features)

    def gradients() -> list[Any]:
        leaves = [wg.tensor(x, requires_grad=True) for x in given[:3]]
        out = wg.scaled_dot_product_attention(*leaves, is_causal=causal)
        wg.sum(out * given[3]).backward()
        return [out.detach(), *[leaf.grad for leaf in leaves]]

    wanted = plainly(gradients)
    demand_close(gradients(), wanted)
    demand_close(wg.compile(gradients)(), wanted)


@pytest.mark.parametrize("extents", [(520,), (2, 1, 1, 520), (520, 1), (2, 2, 520, 520)])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("added", ["", "f4", "f8"])
def test_masks(extents: tuple[int, ...], compiled: bool, added: str) -> None:
    """Masks for keys, as those of padding; for queries; and for pairs of them; booleans, or numbers that are added."""
    rng = np.random.default_rng(len(extents))
    q, k, v, w = of_heads(rng, 520, 16)
    mask = rng.random(extents) < 0.7
    if len(extents) > 1:
        mask[..., :3, :] = False  # who may attend to nothing gets zeros
    if added:
        mask = np.where(mask, rng.standard_normal(extents), -np.inf).astype(added)

    def loss(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return wg.sum(wg.scaled_dot_product_attention(q, k, v, mask) * w)

    transformed = wg.value_and_grad(loss, argnums=(0, 1, 2))
    function = wg.compile(transformed) if compiled else transformed
    wanted = plainly(transformed, q, k, v, mask)
    for _ in range(2):
        demand_close(function(q, k, v, mask), wanted)
    if compiled:
        assert "attend_pull" in str(function.explain())


LEARNED: dict[str, Callable[[Any, Any], Any]] = {
    "grad": lambda loss, bias: wg.grad(loss)(bias),
    "grad of vmap": lambda loss, bias: wg.grad(lambda x: wg.vmap(loss)(wg.stack([x, 2 * x])).sum())(bias),
    "vmap of grad": lambda loss, bias: wg.vmap(wg.grad(loss))(wg.stack([bias, 2 * bias])),
    "jvp": lambda loss, bias: wg.jvp(loss, (bias,), (wg.sin(bias),)),
    "jvp of vmap": lambda loss, bias: wg.jvp(
        wg.vmap(loss), (wg.stack([bias, bias * 2]),), (wg.stack([bias, bias * 3]),)
    ),
    "tape": lambda loss, bias: _by_tape(loss, bias),
    "vmap": lambda loss, bias: wg.vmap(loss)(wg.stack([bias, 2 * bias])),
}


def _by_tape(loss: Callable[[Any], Any], bias: Any) -> Any:
    with wg.GradientTape() as tape:
        tape.watch(bias)
        value = loss(bias)
    return tape.gradient(value, bias)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", LEARNED)
def test_an_added_mask_that_is_differentiated_has_its_derivative(name: str, compiled: bool) -> None:
    rng = np.random.default_rng(8)
    q, k, v, w = [wg.tensor(x) for x in of_heads(rng, 520, 16)]
    bias = wg.tensor(rng.standard_normal(1039))
    distances = np.arange(520)[:, None] - np.arange(520) + 519

    def loss(bias: Any) -> Any:
        return wg.sum(wg.scaled_dot_product_attention(q, k, v, bias[distances]) * w)

    transformed = lambda bias: LEARNED[name](loss, bias)  # noqa: E731
    wanted = plainly(transformed, bias)
    function = wg.compile(transformed) if compiled else transformed
    for _ in range(2):
        demand_close(function(bias), wanted)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_mask_of_slopes_is_added_without_scores_in_memory(compiled: bool) -> None:
    """As in O. Press et al., "Train Short, Test Long" (2022): each head has a slope by which far keys count less."""
    q, k, v, w = of_heads(np.random.default_rng(9), 520, 16)

    def loss(q: Any, k: Any, v: Any) -> Any:
        distance = wg.minimum(wg.arange(520)[None, :] - wg.arange(520)[:, None], 0)
        bias = wg.tensor([0.5, 0.25], dtype="float64")[:, None, None] * distance
        return wg.sum(wg.scaled_dot_product_attention(q, k, v, bias) * w)

    transformed = wg.value_and_grad(loss, argnums=(0, 1, 2))
    function = wg.compile(transformed) if compiled else transformed
    wanted = plainly(transformed, q, k, v)
    for _ in range(2):
        demand_close(function(q, k, v), wanted)
    if compiled:
        assert "attend_pull" in str(function.explain())


def test_a_mask_that_does_not_fit_is_told() -> None:
    q, k, v, _ = of_heads(np.random.default_rng(0), 520, 16)
    with pytest.raises(wg.errors.ShapeError, match="520, 520"):
        wg.scaled_dot_product_attention(q, k, v, np.ones((3, 520), bool))


@pytest.mark.parametrize("heads", [1, available_cores(), 3 * available_cores() + 1])
def test_heads_are_read_as_they_lie(heads: int) -> None:
    """Queries, keys and values are parts of one product's result, as in a transformer."""
    rng = np.random.default_rng(heads)
    x, weight = rng.standard_normal((2, LENGTH, 32)), rng.standard_normal((32, 3 * heads * 16)) / 6

    def attended(x: Any, weight: Any) -> Any:
        parts = wg.reshape(x @ weight, (2, LENGTH, 3, heads, 16))
        q, k, v = [wg.swapaxes(parts[:, :, n], 1, 2) for n in range(3)]
        out = wg.scaled_dot_product_attention(q, k, v, is_causal=True)
        return wg.sum(wg.tanh(wg.reshape(wg.swapaxes(out, 1, 2), (2, LENGTH, heads * 16))) ** 2)

    transformed = wg.value_and_grad(attended, argnums=(0, 1))
    compiled = wg.compile(transformed)
    for _ in range(2):
        demand_close(compiled(x, weight), plainly(transformed, x, weight))
    assert "attend_pull" in str(compiled.explain())


def test_scores_are_not_in_memory() -> None:
    length = 1024
    given = [wg.tensor(x) for x in of_heads(np.random.default_rng(0), length, 16, "f4")[:3]]
    sizes: list[int] = []

    def seen(*args: Any, **kwargs: Any) -> Any:
        found = plan_memory(*args, **kwargs)
        sizes.append(found.size)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executable, "plan_memory", seen)
        compiled = wg.compile(wg.grad(lambda q, k, v: wg.sum(wg.scaled_dot_product_attention(q, k, v) ** 2)))
        compiled(*given)
    assert 0 < max(sizes) < given[0].nbytes * 12 < 4 * length * length * 4


def test_rounded_products_are_still_of_attention() -> None:
    q, k, v, _ = of_heads(np.random.default_rng(1), 520, 32, "f4")
    narrow = wg.compile(wg.scaled_dot_product_attention, compute_dtype=wg.bfloat16)
    wanted = np.asarray(wg.scaled_dot_product_attention(q, k, v))
    found = np.asarray(narrow(q, k, v))
    assert np.abs(found - wanted).max() < 2.0**-5
    assert not np.array_equal(found, wanted)


@pytest.mark.parametrize(("length", "is_causal"), [(256, True), (520, True), (1056, False)])
def test_half_and_very_many_scores_stay_out_of_memory_where_products_round(length: int, is_causal: bool) -> None:
    q, k, v, _ = of_heads(np.random.default_rng(3), length, 32, "f4")

    def slopes(q: Any, k: Any, v: Any) -> Any:
        return wg.grad(lambda q: wg.sum(wg.scaled_dot_product_attention(q, k, v, is_causal=is_causal) ** 2))(q)

    wide, narrow = wg.compile(slopes), wg.compile(slopes, compute_dtype=wg.bfloat16)
    np.testing.assert_array_equal(np.asarray(narrow(q, k, v)), np.asarray(wide(q, k, v)))


@pytest.mark.parametrize("compiled", [False, True])
def test_masked_results_have_no_gradient_whatever_they_are(compiled: bool) -> None:
    """The last query is no number, and neither is its result, which does not count."""
    q, k, v, _ = of_heads(np.random.default_rng(2))
    q[..., -1, 3] = np.nan
    counts = np.arange(LENGTH) < LENGTH - 1

    def loss(q: Any, k: Any, v: Any) -> Any:
        out = wg.scaled_dot_product_attention(q, k, v, is_causal=True)
        return wg.sum(wg.where(counts[:, None], wg.sin(out), 0.0))

    transformed = wg.grad(loss, argnums=(0, 1, 2))
    function = wg.compile(transformed) if compiled else transformed
    with np.errstate(invalid="ignore"):
        found = function(q, k, v)
    q[..., -1, 3] = 0
    demand_close(found, plainly(transformed, q, k, v))


@pytest.mark.parametrize("compiled", [False, True])
def test_what_a_masked_key_holds_does_not_matter(compiled: bool) -> None:
    q, k, v, w = of_heads(np.random.default_rng(9), 520)
    there = np.arange(520) < 500

    def loss(q: Any, k: Any, v: Any) -> Any:
        return wg.sum(wg.scaled_dot_product_attention(q, k, v, there) * w)

    transformed = wg.value_and_grad(loss, argnums=(0, 1, 2))
    function = wg.compile(transformed) if compiled else transformed
    k[..., 500:, :] = 0
    wanted = function(q, k, v)
    k[..., 510:, :] = np.nan
    with np.errstate(invalid="ignore"):
        found = function(q, k, v)
    assert not np.asarray(found[1][1])[..., 500:, :].any()
    demand_close(found, wanted)
