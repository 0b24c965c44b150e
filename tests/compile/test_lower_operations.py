"""Every operation of the registry, compiled alone, against its own implementation on NumPy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import wengert as wg
from tests.compile.graphs import assert_agrees, graph_of_call
from wengert.core.primitive import REGISTRY
from wengert.testing.samples import Case, cases

assert wg.Tensor
NAMES = sorted([primitive.name for primitive in REGISTRY])


def operands_of(case: Case) -> list[object]:
    return [
        a if isinstance(a, np.ndarray) or (np.ndim(a) == 0 and type(a) in (int, float, bool)) else np.asarray(a)
        for a in case.arrays
    ]


@pytest.mark.parametrize("name", NAMES)
def test_compiled_operation_agrees_with_numpy(name: str) -> None:
    primitive = REGISTRY[name]
    for case in cases(primitive):
        for one in (case, case.cast(np.float32)):
            operands = operands_of(one)
            if not any([isinstance(o, np.ndarray) for o in operands]):
                continue
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                graph = graph_of_call(primitive, operands, one.params)
                assert_agrees(graph, [o for o in operands if isinstance(o, np.ndarray)])


@pytest.mark.parametrize("name", [n for n in NAMES if REGISTRY[n].special and REGISTRY[n].kind == "elementwise"])
def test_special_points_are_computed_exactly_as_declared(name: str) -> None:
    primitive = REGISTRY[name]
    for special in primitive.special:
        operands = [np.asarray([x]) for x in special.point]
        with np.errstate(all="ignore"):
            assert_agrees(graph_of_call(primitive, operands, {}), operands)


@pytest.mark.parametrize("target", ["int32", "int64"])
@pytest.mark.parametrize("source", ["float32", "float64"])
def test_floats_that_no_integer_equals_become_what_numpy_makes_of_them(source: str, target: str) -> None:
    edges = [*(sign * 2.0**power for sign in (1, -1) for power in (31, 63)), 1e30, np.inf, -np.inf, np.nan]
    near = [value + step for value in edges for step in (-1024.0, -1.0, -0.5, 0.5, 1.0, 1024.0)]
    numbers = np.array([*edges, *near, 3.7, -3.7, -0.0] * 3, source)
    compiled = wg.compile(lambda x: x.astype(target))
    for length in (1, len(numbers)):  # one at a time, and in vectors
        for start in range(0, len(numbers), length):
            part = numbers[start : start + length]
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(compiled(wg.tensor(part)).numpy(), part.astype(target))
