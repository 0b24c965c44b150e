"""Which kernels of a program are not worth LLVM's best code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ..kernels import Kernel

ALLOWANCE = 1 / 64
"""How much longer a program may take for kernels that are compiled fast, as a part of what it takes."""
FIXED, CALL = 1000, 500_000
"""What calling a kernel takes, and what a program takes besides its kernels, in operations and bytes."""
NEST_SLOWER, PRODUCT_SLOWER = 2, 7
"""How many times as long a loop nest takes that was compiled fast, as a rule: 1.1 to 3 where it was measured. Products,
which live by their registers, take 4 to 7 times as long."""


PATIENCE = 2**30
"""How much longer the first calls of a program may take, in operations and bytes, for it to be there sooner: code that
is compiled well takes four times as long to make. Some 8 ms, for programs of which that saved 8 to 26 and cost 9."""
SMALL = PATIENCE // 256
"""What is no more than that need not be compared with what else there is."""


def work_of(kernel: Kernel) -> int:
    """Return about how long a kernel takes: operations and bytes, which go by at much the same rate."""
    return kernel.flops + kernel.moved + FIXED


def negligible(runs: Iterable[Kernel], nests: Iterable[Kernel], products: Iterable[Kernel] = ()) -> set[str]:
    """Return the names of kernels that a program spends next to no time in, the least first.

    Args:
        runs: the kernels of all jobs, as often as they run.
        nests, products: those among them that may be chosen.
    """
    runs = list(runs)
    counts = Counter([kernel.name for kernel in runs])
    known = {kernel.name: kernel for kernel in runs}
    total = CALL + sum([work_of(kernel) * counts[name] for name, kernel in known.items()])
    longer = {kernel.name: longer_for(kernel, counts[kernel.name], False) for kernel in nests}
    longer.update({kernel.name: longer_for(kernel, counts[kernel.name], True) for kernel in products})
    return least(longer, total * ALLOWANCE)


def longer_for(kernel: Kernel, times: int, is_product: bool) -> int:
    """Return about how much longer a program takes if a kernel that it runs some times is compiled fast."""
    return work_of(kernel) * times * ((PRODUCT_SLOWER if is_product else NEST_SLOWER) - 1)


def least(costs: Mapping[str, int], most: float) -> set[str]:
    """Return as many names as cost no more than that in all, the least first."""
    chosen: set[str] = set()
    spent = 0
    for name, more in sorted(costs.items(), key=_least_first):
        spent += more
        if spent > most:
            break
        chosen.add(name)
    return chosen


def _least_first(item: tuple[str, int]) -> tuple[int, str]:
    return item[1], item[0]
