"""What a measurement depends on besides the code: the machine, the versions, the day."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def describe(libraries: Iterable[str]) -> dict[str, str]:
    """Return the facts that belong beside the figures: the versions of NumPy and of the libraries among them."""
    facts = {
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {cores()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _version(name) for name in ["numpy", *libraries]},
        "BLAS of NumPy": _blas(),
    }
    with contextlib.suppress(OSError, AttributeError):
        facts["load before"] = f"{os.getloadavg()[0]:.2f}"
    return facts


def is_busy() -> bool:
    """Return whether processes have lately taken more than half a core on the average; False where nobody knows."""
    try:
        return os.getloadavg()[0] > 0.5
    except (OSError, AttributeError):
        return False


def _processor() -> str:
    with contextlib.suppress(OSError):
        if match := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return match[1]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or "unknown processor"


def cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _blas() -> str:
    try:
        import threadpoolctl
    except ModuleNotFoundError:
        return "unknown (threadpoolctl is not installed)"
    import numpy  # noqa: F401  (loads the library to be asked about)

    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture')}), {pool['num_threads']} threads"
        for pool in pools
    )
