"""Kernels of attention: against sums in extended precision, for any layout and any division of work."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.compile.product_samples import MARGIN, Native, Operand, operand
from wengert.compile.kernels import Kernel
from wengert.compile.llvm.attention import attention_kernel
from wengert.compile.llvm.attention_pull import pull_kernel, pull_keys_kernel, pull_queries_kernel
from wengert.compile.llvm.attention_shape import BLOCK, Attention
from wengert.compile.llvm.machine import AVX2, AVX512, NEON, SSE2, Machine

Array = np.ndarray[Any, Any]
MACHINES = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}
SHAPES = [
    # heads, queries, keys, features, causal, mask
    ((2,), BLOCK, BLOCK, 16, False, None),
    ((2, 1), 100, 70, 32, False, None),
    ((1, 2), 2 * BLOCK + 2, 2 * BLOCK + 2, 48, True, None),
    ((), 200, BLOCK + 1, 64, True, None),
    ((2, 2), 5, 9, 16, False, (2, 2, 5, 9)),
    ((3,), 70, 200, 16, True, (3, 1, 200)),
    ((1,), 3, 3, 80, True, None),
    ((1,), 1, 1, 16, False, (1, 1, 1)),
    ((2, 2), 2 * BLOCK, BLOCK, 16, False, (2, 1, 2 * BLOCK, BLOCK)),
    ((2, 2), 70, 2 * BLOCK, 16, True, (70, 1)),
    ((2, 1), 2 * BLOCK + 7, 2 * BLOCK, 32, False, (1, 1, 2 * BLOCK + 7, 2 * BLOCK)),
    ((3,), BLOCK, 2 * BLOCK, 16, False, (3, BLOCK, 2 * BLOCK)),
    ((), 9, 3 * BLOCK, 16, True, (9, 3 * BLOCK)),
]
MASKED = [sizes for sizes in SHAPES if sizes[-1] is not None]


class Case(NamedTuple):
    """Attention of random numbers, in arrays that lie anyhow, and what it comes to."""

    shape: Attention
    forward: list[Operand]
    backward: list[Operand]
    wanted: dict[str, Array]
    scale: dict[str, Array]


def exact(
    query: Array, key: Array, value: Array, bar: Array, allowed: Array, added: Array | None = None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return what attention and its gradient are, in extended precision, and the sums of absolute terms."""
    q, k, v, y = [x.astype(np.longdouble) for x in (query, key, value, bar)]
    scores = q @ np.swapaxes(k, -1, -2)
    size = np.abs(q) @ np.swapaxes(np.abs(k), -1, -2)
    if added is not None:
        allowed = allowed & (added > -np.inf)
        known = np.where(added > -np.inf, added, 0)
        scores, size = scores + known, size + np.abs(known)
    largest = np.where(allowed, scores, -np.inf).max(-1, keepdims=True)
    powers = np.where(allowed, np.exp(np.where(allowed, scores - largest, 0)), 0)
    total = powers.sum(-1, keepdims=True)
    nothing = total == 0  # who may attend to nothing gets zeros
    weights = powers / np.where(nothing, 1, total)
    result, logarithm = weights @ v, np.where(nothing, 0, np.log(np.where(nothing, 1, total)) + largest)
    delta = (result * y).sum(-1)
    met = y @ np.swapaxes(v, -1, -2)
    slopes = weights * (met - delta[..., None])
    # An error of a score is one of its weight, and grows with it.
    rough = (
        weights
        * (np.abs(y) @ np.swapaxes(np.abs(v), -1, -2) + np.abs(delta)[..., None])
        * (2 + size + np.abs(logarithm))
    )
    turned = np.swapaxes(slopes, -1, -2), np.swapaxes(rough, -1, -2)
    grown = weights * (2 + size + np.abs(logarithm))
    wanted = {
        "result": result,
        "logarithm": logarithm[..., 0],
        "delta": delta,
        "query": slopes @ k,
        "key": turned[0] @ q,
        "value": np.swapaxes(weights, -1, -2) @ y,
    }
    scale = {
        "result": grown @ np.abs(v),
        "logarithm": 1 + size.max(-1) + np.abs(logarithm[..., 0]),
        "query": rough @ np.abs(k),
        "key": turned[1] @ np.abs(q),
        "value": np.swapaxes(grown, -1, -2) @ np.abs(y),
    }
    return wanted, scale


def rows(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Operand:
    """Return random numbers whose last axis is contiguous, and whose other axes are anyhow."""
    while True:
        found = operand(rng, shape, dtype)
        if found.array.strides[-1] == found.array.itemsize:
            return found


def case(rng: np.random.Generator, sizes: Any, dtype: str, *, is_added: bool = False) -> Case:
    heads, queries, keys, features, causal, extents = sizes
    of_queries, of_keys = (*heads, queries, features), (*heads, keys, features)
    q, k, v = [rows(rng, shape, dtype) for shape in (of_queries, of_keys, of_keys)]
    y = rows(rng, of_queries, dtype)
    allowed = np.tri(queries, keys, dtype=bool) if causal else np.ones((queries, keys), bool)
    mask = added = None
    if extents is not None and is_added:
        mask = (rows if extents[-1] > 1 and rng.random() < 0.7 else operand)(rng, extents, dtype)
        mask.array[...] = np.where(masking(rng, extents).array, mask.array, -np.inf)
        added = mask.array
    elif extents is not None:
        mask = masking(rng, extents)
        allowed = allowed & mask.array
    with np.errstate(invalid="ignore"):
        wanted, scale = exact(q.array, k.array, v.array, y.array, allowed, added)
    known = [rows(rng, (*heads, queries), dtype) for _ in range(2)]
    known[0].array[...], known[1].array[...] = wanted["logarithm"], wanted["delta"]
    shape = Attention(heads, queries, keys, features, np.dtype(dtype), causal, (), is_added=added is not None)
    masks = [] if mask is None else [mask]
    return Case(shape, [q, k, v, *masks], [y, *known, q, k, v, *masks], wanted, scale)


def masking(rng: np.random.Generator, extents: tuple[int, ...]) -> Operand:
    """Return booleans that lie anyhow, of which some rows are all false."""
    mask = operand(rng, extents, bool)
    mask.array[...] = rng.random(extents) < 0.6
    mask.array[..., :1, :] = extents[-1] == 1
    return mask


def laid_out(shape: Attention, operands: list[Operand]) -> Attention:
    """Return attention of operands, the last of which is a mask if it is of booleans, or added."""
    strides = [operand.access[1] for operand in operands]
    if operands[-1].array.dtype != bool and not shape.is_added:
        return shape._replace(strides=tuple(strides))
    extents, steps = operands[-1].array.shape, strides.pop()
    steps = tuple([0 if extent == 1 else step for extent, step in zip(extents, steps)])
    return shape._replace(strides=tuple(strides), mask=(0,) * (len(shape.batch) + 2 - len(steps)) + steps)


def ran(kernels: list[Kernel], operands: list[Operand], out: Array, step: int) -> Array:
    """Return what kernels make, some units at a time; nothing around their result may change."""
    buffer = np.full(out.size + 2 * MARGIN, np.nan, out.dtype)
    target = buffer[MARGIN : MARGIN + out.size]
    addresses = [x.address + x.array.itemsize * x.access[0] for x in operands]
    native = Native(kernels)
    for kernel in kernels:
        for begin in range(0, kernel.units, step):
            native.run(kernel, [*addresses, target.ctypes.data], begin, min(kernel.units, begin + step))
    assert np.isnan(buffer[:MARGIN]).all() and np.isnan(buffer[MARGIN + out.size :]).all(), "outside the result"
    return target.reshape(out.shape)


def check(found: Array, name: str, one: Case) -> None:
    """Compare with the exact numbers: errors are a few roundings of every term of their sums."""
    few = one.shape.keys + one.shape.queries + one.shape.features + 8
    allowed = np.finfo(found.dtype).eps * np.sqrt(few) * 4 * one.scale[name]
    assert (np.abs(found - one.wanted[name]) <= allowed).all(), name


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("is_added", [False, True])
def test_attention(machine: str, dtype: str, is_added: bool) -> None:
    rng = np.random.default_rng(5)
    for sizes in MASKED * 2 if is_added else SHAPES:
        one = case(rng, sizes, dtype, is_added=is_added)
        shape = laid_out(one.shape, one.forward)
        out = np.empty((*shape.batch, shape.queries + shape.extra, shape.features), dtype)
        kernel = attention_kernel(shape, MACHINES[machine])
        found = ran([kernel], one.forward, out, kernel.units)
        assert np.array_equal(found, ran([kernel], one.forward, out, 1)), "other bits for another division"
        behind = found[..., shape.queries :, :].reshape((*shape.batch, -1))
        check(found[..., : shape.queries, :], "result", one)
        check(behind[..., : shape.queries], "logarithm", one)
        assert not behind[..., shape.queries :].any()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("is_added", [False, True])
def test_gradient(machine: str, dtype: str, is_added: bool) -> None:
    rng = np.random.default_rng(6)
    for sizes in MASKED * 2 if is_added else SHAPES:
        one = case(rng, sizes, dtype, is_added=is_added)
        found = gradients(one, MACHINES[machine], dtype)
        queries, keys = one.shape.queries, one.shape.keys
        check(found[..., :queries, :], "query", one)
        check(found[..., queries : queries + keys, :], "key", one)
        check(found[..., queries + keys :, :], "value", one)


def gradients(one: Case, machine: Machine, dtype: str) -> Array:
    """Return the gradients of a case; heads as wholes and in blocks give the same bits."""
    shape = laid_out(one.shape, one.backward)
    out = np.empty((*shape.batch, shape.queries + 2 * shape.keys, shape.features), dtype)
    whole = pull_kernel(shape, machine)
    parts = [pull_keys_kernel(shape, machine), pull_queries_kernel(shape, machine)]
    found = ran([whole], one.backward, out, whole.units)
    assert np.array_equal(found, ran(parts, one.backward, out, 1)), "other bits of blocks than of heads"
    return found


def test_what_is_not_finite_stays_in_its_rows() -> None:
    rng = np.random.default_rng(7)
    q, k, v = [rng.standard_normal((1, 70, 16)).astype("f4") for _ in range(3)]
    q[0, 3, 2] = np.nan
    k[0, 60, 1] = np.inf
    operands = [Operand(x, np.pad(x.ravel(), MARGIN, constant_values=np.nan)) for x in (q, k, v)]
    operands = [Operand(b[MARGIN:-MARGIN].reshape(x.shape), b) for x, b in operands]
    shape = laid_out(Attention((1,), 70, 70, 16, np.dtype("f4"), True, ()), operands)
    kernel = attention_kernel(shape, AVX512)
    found = ran([kernel], operands, np.empty((1, 75, 16), "f4"), kernel.units)[:, :70]
    bad = np.isnan(found[0]).any(-1)
    wanted = np.zeros(70, bool)
    wanted[3] = True
    # An infinite key gives a score of plus infinity, which is NaN after softmax, or of minus infinity: no weight.
    wanted[60:] = q[0, 60:, 1] > 0
    assert np.array_equal(bad, wanted)


def test_scores_that_are_far_apart_neither_overflow_nor_vanish() -> None:
    q, k = np.full((1, 2, 16), 30, "f4"), np.zeros((1, 130, 16), "f4")
    k[0, 5], k[0, 128] = 10, 11
    v = np.arange(130 * 16, dtype="f4").reshape(1, 130, 16)
    operands = [Operand(b[MARGIN:-MARGIN].reshape(x.shape), b) for x in (q, k, v) for b in [np.pad(x.ravel(), MARGIN)]]
    shape = laid_out(Attention((1,), 2, 130, 16, np.dtype("f4"), False, ()), operands)
    kernel = attention_kernel(shape, AVX512)
    found = ran([kernel], operands, np.empty((1, 3, 16), "f4"), kernel.units)
    assert np.array_equal(found[0, 0], v[0, 128]) and found[0, 2, 0] == 16 * 30 * 11
