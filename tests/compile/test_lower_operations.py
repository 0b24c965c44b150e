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
