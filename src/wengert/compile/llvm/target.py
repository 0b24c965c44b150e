"""The processor that native code is made for, as LLVM describes it, and how many of its cores are ours to use."""

from __future__ import annotations

import math
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import NativeCodeError

THREADS_VARIABLE = "WENGERT_NUM_THREADS"
MOST_THREADS = 256
CONTROL_GROUP = Path("/sys/fs/cgroup")


class Target(NamedTuple):
    """What code is generated for.

    Attributes:
        triple: LLVM's name of architecture, vendor, system and ABI.
        cpu: LLVM's name of the processor.
        features: what it has and lacks, in LLVM's spelling.
        version: of llvmlite and of the LLVM in it; other versions generate other code.
    """

    triple: str
    cpu: str
    features: str
    version: str

    @property
    def architecture(self) -> str:
        """`x86_64` or `aarch64`, or what else the triple begins with."""
        name = self.triple.partition("-")[0]
        return {"arm64": "aarch64", "amd64": "x86_64"}.get(name, name)

    def has(self, feature: str) -> bool:
        """Return whether the processor has a feature, by LLVM's name of it."""
        return f"+{feature}" in self.features.split(",")


@cache
def host_target() -> Target:
    """Return the description of this machine's processor.

    Raises:
        NativeCodeError: llvmlite can't be imported, or generates no code for this processor.
    """
    try:
        import llvmlite
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        triple = llvm.Target.from_default_triple().triple
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        version = f"{llvmlite.__version__} {'.'.join(map(str, llvm.llvm_version_info))}"
    except Exception as error:  # a library that can't be loaded fails in many ways, and none of them is worth a crash
        raise NativeCodeError(
            f"no native code on this machine ({platform.machine()}, {platform.system()}): {error}"
        ) from error
    target = Target(triple, cpu, features, version)
    if target.architecture not in ("x86_64", "aarch64") or sys.maxsize < 2**32:
        raise NativeCodeError(f"no native code for {triple}: only x86-64 and 64-bit ARM are supported")
    if target.architecture == "x86_64":  # some processors are described as preferring half of their registers
        target = target._replace(features=f"{features},-prefer-256-bit")
    return target


def target_machine(effort: int) -> Any:
    """Return a new code generator of LLVM's for this machine; its effort is from 0 to 3."""
    import llvmlite.binding as llvm

    target = host_target()
    kind = llvm.Target.from_default_triple()
    return kind.create_target_machine(cpu=target.cpu, features=target.features, opt=effort, jit=True)


def available_cores() -> int:
    """Return how many cores this process may use: `WENGERT_NUM_THREADS` if set, else those that the system grants."""
    wanted = os.environ.get(THREADS_VARIABLE, "").strip()
    if wanted:
        if not wanted.isdigit() or int(wanted) == 0:
            raise ValueError(f"{THREADS_VARIABLE} is {wanted!r}; it must be a whole number from 1 on")
        return min(int(wanted), MOST_THREADS)
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(granted, _quota(CONTROL_GROUP), MOST_THREADS)


@cache
def _quota(directory: Path) -> int:
    """Return how many cores' time a container is given, where there is such a limit: a thread more would stall all."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # versions 2 and 1
        try:
            quota, period = " ".join([(directory / name).read_text() for name in names]).split()
            if float(quota) > 0:
                return max(1, math.ceil(float(quota) / float(period)))
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
            continue
    return MOST_THREADS
