"""Kernels of pooling: against windows looked at one by one, with ties and NaN, for any division of work."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.compile.product_samples import Native
from tests.compile.window_samples import Array, Moves, empty, outcome, random_moves
from wengert.compile.llvm.convolution_steps import steps_for
from wengert.compile.llvm.machine import AVX2, AVX512, NEON, SSE2, Machine

MACHINES = {"avx512": AVX512, "avx2": AVX2, "sse2": SSE2, "neon": NEON}


class Case(NamedTuple):
    """Windows with arrays: images with ties and NaN, ones without, and numbers for the windows."""

    moves: Moves
    x: Array
    plain: Array
    y: Array


def case(rng: np.random.Generator, moves: Moves, image: tuple[int, int], dtype: str) -> Case:
    shape = (int(rng.integers(1, 3)), int(rng.integers(1, 4)), *image)
    x = rng.integers(-2, 3, shape).astype(dtype)
    x[rng.random(shape) < 0.05] = np.nan
    plain = rng.standard_normal(shape).astype(dtype)
    y = rng.standard_normal((*shape[:2], *moves.places(image))).astype(dtype)
    return Case(moves, x, plain, y)


def windows(one: Case) -> list[tuple[tuple[Any, ...], list[tuple[int, int]]]]:
    """Return for each window its index and its elements that are within the image, in order."""
    image = one.x.shape[2:]
    parts = one.moves.elements(image)
    return [
        ((..., i, j), [(rows[i, 0], columns[j]) for _, (rows, columns), there in parts if there[i, j]])
        for i in range(one.y.shape[2])
        for j in range(one.y.shape[3])
    ]


def expected(one: Case) -> dict[str, tuple[list[Array], Array]]:
    """Return for each primitive its inputs and what it computes."""
    largest, taken, sums = empty(one.y.shape, one.x.dtype), np.zeros_like(one.y), np.zeros(one.y.shape, np.longdouble)
    given, spread = np.zeros(one.x.shape, np.longdouble), np.zeros(one.x.shape, np.longdouble)
    leading = np.indices(one.x.shape[:2])
    for at, elements in windows(one):
        rows, columns = np.array(elements, int).reshape(-1, 2).T
        if not elements:
            largest[at] = -np.inf
            continue
        seen = one.x[..., rows, columns]
        # NumPy's argmax: the first NaN if there is one, else the first of the largest
        first = np.argmax(seen, -1)
        where = (*leading, rows[first], columns[first])
        largest[at] = one.x[where]
        taken[at] = one.plain[where]
        given[where] += one.y[at]
        sums[at] = one.plain[..., rows, columns].astype(np.longdouble).sum(-1)
        spread[..., rows, columns] += one.y[at].astype(np.longdouble)[..., None]
    return {
        "max_pool": ([one.x], largest),
        "max_pool_take": ([one.plain, one.x], taken),
        "max_pool_transpose": ([one.y, one.x], given),
        "sum_pool": ([one.plain], sums),
        "sum_pool_transpose": ([one.y], spread),
    }


def check(cases: list[Case], machine: Machine, rng: np.random.Generator) -> None:
    wanted, kernels = [], []
    for one in cases:
        for name, (inputs, want) in expected(one).items():
            extra = {"extents": one.x.shape[2:]} if name == "sum_pool_transpose" else {}
            params = {**one.moves._asdict(), **extra}
            steps = steps_for(name, [array.shape for array in inputs], one.x.dtype, params)
            assert steps is not None and steps.operands == (tuple(range(len(inputs) + 1)),)
            wanted.append((name, one, inputs, want))
            kernels.append(steps.recipes[0].kernel(machine))
    native = Native(kernels)
    for kernel, (name, one, inputs, want) in zip(kernels, wanted):
        out = outcome(native, kernel, [*inputs, empty(want.shape, one.x.dtype)], len(inputs), rng)
        exact = name in ("max_pool", "max_pool_take")
        # as many numbers as a window has, each at most the largest there is
        count, most = one.moves.window[0] * one.moves.window[1], max(np.abs(one.plain).max(), np.abs(one.y).max())
        bound = 0.0 if exact else count * count * float(np.finfo(out.dtype).eps) * float(most)
        np.testing.assert_allclose(out, want.astype(out.dtype), rtol=0, atol=bound, err_msg=f"{name} {one.moves}")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_random_windows(machine: Machine, dtype: str) -> None:
    rng = np.random.default_rng(23)
    check([case(rng, *random_moves(rng, pooling=True), dtype) for _ in range(4)], machine, rng)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_pairs_of_columns_side_by_side(machine: Machine) -> None:
    rng = np.random.default_rng(29)
    cases = [
        case(rng, Moves((height, 2), (height, 2)), (height * rows, 2 * columns), dtype)
        for height, rows, columns, dtype in [
            *[(2, 2, columns, "f4") for columns in (1, 3, 7, 14, 16, 19, 32, 35)],
            *[(1, 3, 9, "f8"), (3, 2, 6, "f4"), (2, 1, 8, "f8")],
        ]
    ]
    check(cases, machine, rng)


def test_rows_and_columns_that_no_window_meets_get_zero() -> None:
    rng = np.random.default_rng(31)
    cases = [
        case(rng, Moves((2, 2), (2, 2)), (5, 7), "f4"),
        case(rng, Moves((1, 1), (3, 3)), (7, 20), "f4"),
        case(rng, Moves((2, 2), (4, 3)), (12, 23), "f4"),
    ]
    check(cases, AVX512, rng)
