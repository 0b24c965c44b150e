"""First calls and peaks of memory, each engine and work in a process of its own with empty caches.

Run as a program, `python -m benchmarks.fresh ENGINE WORK`, it does the work a few times and prints what that took.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from benchmarks.engines import ENGINES, Engine, NotOffered
from benchmarks.keeping import PATIENCE, OutOfPatience
from benchmarks.models import COMPILED_WORKS
from benchmarks.processes import ROOT, ProcessFailed, resident_bytes

if TYPE_CHECKING:
    from pathlib import Path

# A compiler may put work off to a later call: the first ones count together, less what as many cost once all is made.
FIRST, LATER = 3, 7
NOT_OFFERED = 3
# Where the libraries keep what they have compiled. JAX keeps nothing on disk unless it is told to.
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "WENGERT_CACHE_DIR", "XDG_CACHE_HOME")


@dataclass(frozen=True)
class FirstRun:
    """Seconds of the first call, with what it leaves to the next ones; bytes of memory.

    `peak` is that of the process, `library` what the library took before any work.
    """

    seconds: float
    peak: int
    library: int

    @property
    def added(self) -> int:
        """What the work added to the library."""
        return self.peak - self.library


def first_run(engine: Engine, work: str, seconds: float = PATIENCE) -> FirstRun:
    """Start a process that does a piece of work in the engine's first way, and may take so many seconds."""
    engine.demand()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "benchmarks.fresh", engine.module, work]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=with_caches_in(folder),
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise OutOfPatience from None
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    if done.returncode == NOT_OFFERED:
        raise NotOffered(last)
    if done.returncode:
        raise ProcessFailed(f"{' '.join(command[1:])}: {last}")
    return FirstRun(**json.loads(done.stdout.splitlines()[-1]))


def with_caches_in(folder: str | Path) -> dict[str, str]:
    """Return the environment of a process that keeps what it compiles in a folder."""
    # Installed packages bring their bytecode; a checkout writes its own on first import, unless it is kept from that.
    dropped = ("PYTHONDONTWRITEBYTECODE", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**environment, **dict.fromkeys(CACHES, str(folder))}


def measure(engine: Engine, work: str) -> FirstRun:
    """Do a piece of work in this process, which must have done nothing before."""
    importlib.import_module(f"benchmarks.engines.{engine.module}")
    library = resident_bytes("VmRSS")
    job = engine.build(COMPILED_WORKS[work])
    times: list[float] = []
    for _ in range(FIRST + LATER):
        start = time.perf_counter()
        job.run()
        times.append(time.perf_counter() - start)
    # Where nothing is made at first, noise alone is left, of either sign.
    seconds = max(0.0, sum(times[:FIRST]) - (FIRST - 1) * statistics.median(times[FIRST:]))
    return FirstRun(seconds, resident_bytes("VmHWM"), library)


def main() -> int:
    """Print the figures as JSON; tell by the exit status where the engine doesn't offer the work."""
    try:
        figures = measure(ENGINES[sys.argv[1]], sys.argv[2])
    except NotOffered as reason:
        print(reason, file=sys.stderr)
        return NOT_OFFERED
    print(json.dumps(asdict(figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
