"""Random loops in random transforms, compiled and as they are: some in every run, many with the long profile."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import settings

from tests.compile import loop_programs
from wengert.compile import lower_steps
from wengert.compile.loops import is_loop

LONG = settings.get_current_profile_name() == "long"
BATCH = 60
"""Programs in one test."""
BATCHES = range(1000 if LONG else 1)
LEAST_KEPT = 0.25
"""Share of the programs in which a loop must stay one: else nothing is compared but what Python did step by step."""


@pytest.mark.parametrize("batch", BATCHES)
def test_loops_agree(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = lower_steps.prepared_loops
    kept: list[bool] = []

    def seen(*args: object, **options: object) -> object:
        found = prepared(*args, **options)  # type: ignore[arg-type]
        kept.extend(map(is_loop, found[0].equations))
        return found

    monkeypatch.setattr(lower_steps, "prepared_loops", seen)
    outcomes: Counter[str] = Counter()
    rolled = 0
    for seed in range(BATCH * batch, BATCH * (batch + 1)):
        kept.clear()
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                outcomes[loop_programs.outcome(seed)] += 1
            except Exception as error:
                raise AssertionError(f"program {seed}") from error
        rolled += any(kept)
    assert outcomes["same"] >= 0.8 * BATCH, outcomes
    assert rolled >= LEAST_KEPT * BATCH
