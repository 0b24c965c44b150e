"""What can only be measured in a fresh process: how long an import takes, and the peak of memory.

Run as a program, `python -m benchmarks.processes ENGINE`, it trains and prints the bytes that training needed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.engines import ENGINES, Engine
from benchmarks.works import WORKS

ROOT = Path(__file__).resolve().parents[1]
STEPS = 5
KIBIBYTE = 1024


class ProcessFailed(Exception):
    """A process under measurement ended with an error."""


def import_seconds(library: str, *, isolated: bool = False) -> float:
    """Return how long a fresh interpreter takes from its start, through one import, to its end."""
    options = ["-I"] if isolated else []
    with tempfile.TemporaryDirectory() as elsewhere:
        start = time.perf_counter()
        _finish([*options, "-c", f"import {library}"], Path(elsewhere))
        return time.perf_counter() - start


def training_bytes(engine: Engine) -> float:
    """Return the peak of memory that training in a fresh process adds to what the library itself takes."""
    return float(_finish(["-m", "benchmarks.processes", engine.module], ROOT))


def _finish(arguments: list[str], folder: Path) -> str:
    # Installed packages bring their bytecode; a checkout writes its own on first import, unless it is kept from that.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ProcessFailed(f"python {' '.join(arguments)}: {last[0]}")
    return done.stdout


def resident_bytes(field: str) -> int:
    """Return a memory figure of this process: `VmRSS`, resident now, or `VmHWM`, the most that ever was.

    Linux's own record is preferred: `getrusage` there starts from the size of the process that started this one.
    Elsewhere the peak stands in for both, as all that can be had.
    """
    status = Path("/proc/self/status")
    if status.exists() and (match := re.search(rf"^{field}:\s+(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(match[1]) * KIBIBYTE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * KIBIBYTE


def forget_peak() -> None:
    """Let the peak begin at what is resident now, where the system can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measure_training(engine: Engine) -> int:
    """Train for a few steps; return the peak over what was resident before the model was made.

    A tiny model is trained first: what a library loads on first use is a part of the library, not of the training.
    """
    tiny = engine.build(WORKS["mlp-tiny"])
    tiny.run()
    tiny.run()
    gc.collect()
    forget_peak()
    before = resident_bytes("VmRSS")
    job = engine.build(WORKS["mlp-large"])
    for _ in range(STEPS):
        job.run()
    return resident_bytes("VmHWM") - before


if __name__ == "__main__":
    print(measure_training(ENGINES[sys.argv[1]]))
