"""Wide random programs, compiled and eager: some in every run, 50,000 with `--hypothesis-profile=long`."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import settings

from tests.compile import wide_programs as wide

LONG = settings.get_current_profile_name() == "long"
BATCH = 25
"""Programs in one test."""
BATCHES = range(2000 if LONG else 1)
LEAST_COMPARED = 0.3
"""Share of the programs that must run compiled to the end, and be compared: refusals must not hide the rest."""


@pytest.mark.parametrize("batch", BATCHES)
def test_wide_programs_agree(batch: int) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(BATCH * batch, BATCH * (batch + 1)):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            steps = wide.grow(seed)
            try:
                outcomes[wide.outcome(steps, seed)] += 1
            except Exception as error:
                raise AssertionError(f"program {seed}: {steps}") from error
    assert outcomes["same"] >= LEAST_COMPARED * BATCH, outcomes
