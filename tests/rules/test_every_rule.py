"""Every operation and every composite, through every check of `wengert.testing`: one test for each pair."""

from __future__ import annotations

from typing import Any

import pytest

from wengert.core.primitive import REGISTRY
from wengert.testing import CHECKS, checks_of, run_check
from wengert.testing.samples import cases

RECORDS: dict[str, Any] = {
    **{primitive.name: primitive for primitive in REGISTRY},
    **{f"composite-{name}": record for name, record in REGISTRY.composites.items()},
}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(name, check, id=f"{name}-{check}")
        for name, record in sorted(RECORDS.items())
        for check in checks_of(record)
    ],
)
def test_rule(name: str, check: str) -> None:
    run_check(RECORDS[name], check)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_every_operation_is_called_on_something(name: str) -> None:
    calls = cases(RECORDS[name])
    assert calls, "no sample and no domain: nothing would be checked"
    labels = [repr(call) for call in calls]
    assert len(set(labels)) == len(labels), "two samples look alike, so one of them is in vain"


def test_every_check_is_run_on_some_operation() -> None:
    used = {check for record in RECORDS.values() for check in checks_of(record)}
    assert used == set(CHECKS)
