"""What the C library does with memory that arrays give back.

Differentiation makes and drops temporaries all the time. glibc returns freed memory at the end of its heap to the
system as soon as there are 128 KiB of it, and takes it back, page by page, for the next array: a third of the time of a
Hessian of 100 variables went there. It stops doing so by itself once it has seen a large block freed: from then on up
to 64 MiB stay at hand (see "dynamic mmap threshold" in `mallopt(3)`). So it is shown one, which is never touched and
costs microseconds. Other C libraries don't mind.
"""

from __future__ import annotations

import numpy as np

_LARGEST_THRESHOLD = (1 << 25) - (1 << 16)


def keep_freed_memory_at_hand() -> None:
    """Let the C library keep the memory of freed arrays for the next ones."""
    np.empty(_LARGEST_THRESHOLD, np.uint8)
