"""What the generators of kernels know of a machine: its vectors, its registers and its caches."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..scalar_ir import DType
from .target import Target, host_target


class Machine(NamedTuple):
    """The part of a machine's description that the shape of generated code depends on.

    Attributes:
        vector_bytes: size of a vector register that arithmetic is fast on.
        vector_registers: how many of them there are.
        fma: whether it multiplies and adds in one instruction, rounding once.
        masks: whether loads and stores of some lanes of a vector cost no more than of all.
        bfloat16: whether it multiplies pairs of bfloat16 numbers and adds both products to a float32 number, in less
            time than two float32 numbers.
        tiles: whether it multiplies tiles of bfloat16 numbers (AMX), and this process may use them.
        level1, level2: bytes of cache of one core.
    """

    vector_bytes: int
    vector_registers: int
    fma: bool = True
    masks: bool = False
    bfloat16: bool = False
    tiles: bool = False
    level1: int = 32 * 1024
    level2: int = 256 * 1024

    def lanes(self, dtype: DType) -> int:
        """Return how many elements of a type a vector has."""
        return max(1, self.vector_bytes // dtype.itemsize)


AVX512 = Machine(64, 32, masks=True, level1=32 * 1024, level2=1024 * 1024)
AVX2 = Machine(32, 16)
SSE2 = Machine(16, 16, fma=False)
NEON = Machine(16, 32)

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@cache
def host_machine() -> Machine:
    """Return the description of this machine.

    Raises:
        NativeCodeError: no native code can be made here.
    """
    return _with_caches(machine_of(host_target()), CACHES)


def machine_of(target: Target) -> Machine:
    """Return what a processor's features say of its vectors; its caches are taken to be of the usual sizes."""
    if target.architecture == "aarch64":
        return NEON
    if all([target.has(feature) for feature in ("avx512f", "avx512vl", "avx512bw", "avx512dq")]):
        # Processors with tiles have the instruction on pairs, too, and do half as much with it as in float32.
        return AVX512._replace(bfloat16=target.has("avx512bf16") and not target.has("amx-bf16"))
    return AVX2 if target.has("avx2") and target.has("fma") else SSE2


def _with_caches(machine: Machine, directory: Path) -> Machine:
    """Return a machine with cache sizes as Linux tells them, where it does."""
    sizes: dict[str, int] = {}
    for entry in sorted(directory.glob("index*")):
        try:
            level, kind, size = [(entry / name).read_text().strip() for name in ("level", "type", "size")]
        except OSError:
            continue
        if kind != "Instruction" and size[-1:] == "K" and size[:-1].isdigit():
            sizes[level] = int(size[:-1]) * 1024
    return machine._replace(level1=sizes.get("1", machine.level1), level2=sizes.get("2", machine.level2))
