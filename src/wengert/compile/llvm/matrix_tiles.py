"""Whether this process may use the tile registers of AMX, and whether products in them are right.

Linux gives a process their memory only when it asks, and refuses where there is no such processor. They are asked for
when products in bfloat16 are, not before: each switch of threads that use them saves 8 KiB more.
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from ..nests import Access
from .compiling import compile_kernels
from .machine import Machine
from .products import plain_product, product_kernel
from .products_layout import normalised
from .target import Target

FEATURES = ("amx-tile", "amx-bf16", "avx512bf16")
_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
_EXTENTS = 33, 40, 98


def with_tiles(machine: Machine, target: Target) -> Machine:
    """Return what is known of this machine, with its tile registers if it has any that can be used."""
    has_them = target.architecture == "x86_64" and all([target.has(feature) for feature in FEATURES])
    if not has_them or not machine.masks or not _is_permitted():
        return machine
    found = machine._replace(tiles=True)
    return found if is_right(found) else machine


def _is_permitted() -> bool:
    """Ask Linux for the registers' memory; return whether it is given."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None, use_errno=True).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0


def is_right(machine: Machine) -> bool:
    """Return whether a product of small whole numbers, which have no rounding, is computed without a mistake."""
    m, n, k = _EXTENTS
    a = (np.arange(m * k, dtype=np.float32) % 13 - 6).reshape(m, k)
    b = (np.arange(k * n, dtype=np.float32) % 11 - 5).reshape(k, n)
    out = np.full((m, n), np.nan, np.float32)
    accesses = [Access(place, 0, (x.shape[1], 1)) for place, x in enumerate((a, b, out))]
    product = plain_product("tiles", (), m, n, k, a.dtype, *accesses)._replace(narrow=True)
    if machine.tiles and normalised(product, machine)[1].form != "tiles":
        return False
    kernel = product_kernel(product, machine)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    memory = np.empty(kernel.scratch + 64, np.uint8)
    start = memory.ctypes.data + -memory.ctypes.data % 64
    operands = (ctypes.c_void_p * 3)(*[x.ctypes.data for x in (a, b, out)])
    code = compile_kernels([kernel])[kernel.name]
    kind(code.address)(operands, 0, kernel.units, start)
    return bool((out == a @ b).all())
