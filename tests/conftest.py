"""Settings that every test shares."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings

# Read when matplotlib is first imported: a test draws to a file, never to a screen.
os.environ["MPLBACKEND"] = "Agg"
# Native code that tests make is kept, and found again by the next run, here and not among the user's own.
os.environ.setdefault("WENGERT_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "native"))

# ci: what `make test` runs, the same examples every time, so that a change is judged by the change alone.
# dev: few examples, new ones every time. long: a search for what nobody thought of (--hypothesis-profile=long).
# No deadline in any: how long an example takes says more about the machine than about the code. Everything is spelled
# out, since Hypothesis's own defaults differ where the CI variable is set.
settings.register_profile("ci", max_examples=100, derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", max_examples=25, derandomize=False, deadline=None, print_blob=True)
settings.register_profile(
    "long",
    max_examples=20_000,
    derandomize=False,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# The command line's choice is loaded after this file, and wins.
settings.load_profile("ci")
