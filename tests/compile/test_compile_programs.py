"""Random programs, compiled and eager: a hundred each way in every run, 50,000 with `--hypothesis-profile=long`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import wengert as wg
from tests.compile import program_samples as samples
from tests.compile.twins import as_it_is, check_same
from wengert.compile import backends, paths

LONG = settings.get_current_profile_name() == "long"
BATCH = 50
"""Programs in one test."""
INTERPRETED = range(1000 if LONG else 2)
"""Batches whose graphs NumPy computes: it is the capture that is tested."""
NATIVE = range(1000, 2000 if LONG else 1002)
"""Batches that run as native code."""
MOST_REFUSED = 0.4
"""Share of the programs that may do what only eager code can: refusals must not hide the rest."""


def outcome(steps: list[samples.Step], seed: int) -> str:
    """Run a program both ways and compare; return "same", or why there was nothing to compare."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            eager = samples.play(steps, seed, as_it_is)
        except (wg.errors.WengertError, ValueError, TypeError, IndexError, AttributeError):
            return "fails"  # with the values of a later call
        if isinstance(eager[-1], str):
            return "fails"
        compiled = samples.play(steps, seed, wg.compile)
    if isinstance(compiled[-1], str):
        return "refused"
    single = samples.World(seed).dtype == "float32" or any([step[1] == "single" for step in steps])
    check_same(compiled, eager, samples.LIMIT, least=np.dtype("float32" if single else "float64"))
    return "same"


def run_batch(batch: int) -> None:
    outcomes: list[str] = []
    for seed in range(BATCH * batch, BATCH * (batch + 1)):
        steps: Any = None
        try:
            with np.errstate(all="ignore"):
                steps = samples.grow(seed)
            outcomes.append(outcome(steps, seed))
        except Exception as error:
            raise AssertionError(f"program {seed}: {steps}") from error
    assert outcomes.count("refused") <= MOST_REFUSED * BATCH
    assert outcomes.count("same") >= (1 - MOST_REFUSED) / 2 * BATCH


@pytest.mark.parametrize("batch", INTERPRETED)
def test_captured_programs_agree(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:

    def interpreted(graph: Any, conditional: bool = False, narrow: bool = False) -> backends.Runnable:
        return backends.Interpreted(graph, conditional)

    monkeypatch.setattr(paths, "prepare", interpreted)
    run_batch(batch)


@pytest.mark.parametrize("batch", NATIVE)
def test_native_programs_agree(batch: int) -> None:
    run_batch(batch)
