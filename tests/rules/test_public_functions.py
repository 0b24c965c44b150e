"""What is no record of its own, through the checks of derivatives and of transforms: see `public_calls`."""

from __future__ import annotations

import pytest

from tests.rules.public_calls import CALLS
from wengert.testing import run_check
from wengert.testing.checks import precision, split
from wengert.testing.numeric import condition, demand_close, rounding
from wengert.testing.recording import as_tuple, compute, forward_vector
from wengert.testing.samples import cases

CHECKED = ("adjoint", "second", "pushed", "mapped", "nested", "mapped-derivatives", "precision")


@pytest.mark.parametrize("name", CALLS)
def test_public_function(name: str) -> None:
    for check in CHECKED:
        run_check(CALLS[name], check)


@pytest.mark.parametrize("name", [name for name, record in CALLS.items() if record.reference is not None])
def test_value(name: str) -> None:
    record = CALLS[name]
    for case in cases(record):
        got = compute(record, case.arrays, case.params)
        limits = split(condition(forward_vector(record, case), case.arrays, case.moves), got)
        expected = as_tuple(record.reference(*case.arrays))
        for y, z, limit in zip(got, expected, limits, strict=True):
            tolerance = 0 if limit is None else rounding(precision([y]), limit)
            demand_close(name, "the value (against the reference)", y, z, tolerance)
