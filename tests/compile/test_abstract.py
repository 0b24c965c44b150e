"""Shapes and dtypes that are found without computing: those of the operations themselves, for all samples of all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import backend
from wengert.compile.abstract import kind_of
from wengert.core.primitive import REGISTRY
from wengert.testing.samples import Case, cases

assert wg.Tensor
NAMES = sorted([primitive.name for primitive in REGISTRY])
MUST_BE_KNOWN = {"add", "matrix_product", "affine", "sum_over", "permute", "convolve", "max_pool", "softmax_along"}


def calls(name: str) -> Iterator[Case]:
    for case in cases(REGISTRY[name]):
        yield case
        yield case.cast(np.float32)


def operands_of(case: Case) -> list[Any]:
    return [a if type(a) in (int, float, bool) else np.asarray(a) for a in case.arrays]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_of_a_result_is_what_the_operation_computes(name: str) -> None:
    primitive = REGISTRY[name]
    known = 0
    for case in calls(name):
        operands = operands_of(case)
        kinds = [(o.shape, o.dtype) if isinstance(o, np.ndarray) else o for o in operands]
        found = kind_of(primitive, kinds, case.params)
        if found is None:
            continue
        known += 1
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            out = np.asarray(primitive.impl(backend.numpy, *operands, **case.params))
        assert found == (out.shape, out.dtype), (kinds, case.params)
    assert known or name not in MUST_BE_KNOWN


@pytest.mark.parametrize(
    ("name", "shapes", "params"),
    [
        ("add", [(2, 3), (4,)], {}),
        ("matrix_product", [(2, 3), (4, 5)], {}),
        ("affine", [(2, 3), (4, 5), (4,)], {}),
        ("reshape_to", [(2, 3)], {"newshape": (7,)}),
        ("concatenate_along", [(2, 3), (2, 4)], {"axis": 0}),
        ("concatenate_along", [(3,), ()], {"axis": 0}),
    ],
)
def test_nothing_is_known_where_shapes_do_not_fit(name: str, shapes: list[Any], params: dict[str, Any]) -> None:
    assert kind_of(REGISTRY[name], [(shape, np.dtype(np.float32)) for shape in shapes], params) is None


def reshaped(shape: tuple[int, ...], rng: Any) -> tuple[int, ...]:
    """Return another shape: with an axis more, or less, or of another extent."""
    place = int(rng.integers(len(shape) + 1))
    way = rng.integers(4)
    if way == 0:
        return (*shape[:place], int(rng.integers(3)), *shape[place:])
    if way == 1:
        return shape[:place] + shape[place + 1 :]
    if way == 2:
        return tuple([int(rng.integers(4)) if axis == place else extent for axis, extent in enumerate(shape)])
    return shape


@pytest.mark.parametrize("name", NAMES)
def test_shapes_that_may_not_fit_are_no_error_here(name: str) -> None:
    primitive = REGISTRY[name]
    rng = np.random.default_rng(list(name.encode()))
    for case in [] if primitive.multiple else cases(primitive):
        for _ in range(8):
            operands = operands_of(case)
            for place, operand in enumerate(operands):
                if isinstance(operand, np.ndarray):
                    operands[place] = np.zeros(reshaped(operand.shape, rng), operand.dtype)
            kinds = [(o.shape, o.dtype) if isinstance(o, np.ndarray) else o for o in operands]
            kind_of(primitive, kinds, case.params)  # says something, or nothing; NumPy tells what does not fit


KEPT = {"take_slices", "take_along", "add_along_axis", "put_along", "cross_entropy_of_rows"}
"""Operations whose integers are positions."""


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("name", NAMES)
def test_dtypes_that_meet(name: str) -> None:
    """Whatever dtypes operands have, what is said of the result is so, or nothing is said."""
    primitive = REGISTRY[name]
    for case in [] if primitive.multiple else cases(primitive):
        places = [place for place, array in enumerate(case.arrays) if type(array) not in (int, float, bool)]
        for dtypes in product((np.float64, np.float32, np.int64, np.bool_), repeat=min(2, len(places))):
            operands = operands_of(case)
            for place, dtype in zip(places, dtypes):
                if name not in KEPT or operands[place].dtype.kind == "f":
                    operands[place] = operands[place].astype(dtype)
            known = kind_of(
                primitive, [(x.shape, x.dtype) if hasattr(x, "dtype") else x for x in operands], case.params
            )
            if known is None:
                continue
            try:
                with np.errstate(all="ignore"):
                    out = np.asarray(primitive.impl(backend.numpy, *operands, **case.params))
            except (TypeError, ValueError, IndexError, OverflowError):  # refused, or kept from such dtypes above
                continue
            assert (tuple(known[0]), known[1]) == (out.shape, out.dtype), dtypes
