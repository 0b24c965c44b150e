"""Which kernels of a program are not worth LLVM's best code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..kernels import Kernel

ALLOWANCE = 1 / 64
"""How much longer a program may take for kernels that are compiled fast, as a part of what it takes."""
FIXED, CALL = 1000, 500_000
"""What calling a kernel takes, and what a program takes besides its kernels, in operations and bytes."""
NEST_SLOWER, PRODUCT_SLOWER = 2, 7
"""How many times as long a loop nest takes that was compiled fast, as a rule: 1.1 to 3 where it was measured. Products,
which live by their registers, take 4 to 7 times as long."""


def work_of(kernel: Kernel) -> int:
    """Return about how long a kernel takes: operations and bytes, which go by at much the same rate."""
    return kernel.flops + kernel.moved + FIXED


def negligible(runs: Iterable[Kernel], nests: Iterable[Kernel], products: Iterable[Kernel] = ()) -> set[str]:
    """Return the names of kernels that a program spends next to no time in, the least first.

    Args:
        runs: the kernels of all jobs, as often as they run.
        nests, products: those among them that may be chosen.
    """
    counts = Counter([kernel.name for kernel in runs])
    known = {kernel.name: kernel for kernel in runs}
    total = CALL + sum([work_of(kernel) * counts[name] for name, kernel in known.items()])
    longer = {kernel.name: work_of(kernel) * counts[kernel.name] * (NEST_SLOWER - 1) for kernel in nests}
    longer.update({kernel.name: work_of(kernel) * counts[kernel.name] * (PRODUCT_SLOWER - 1) for kernel in products})
    chosen: set[str] = set()
    spent = 0
    for name, more in sorted(longer.items(), key=_least_first):
        spent += more
        if spent > total * ALLOWANCE:
            break
        chosen.add(name)
    return chosen


def _least_first(item: tuple[str, int]) -> tuple[int, str]:
    return item[1], item[0]
