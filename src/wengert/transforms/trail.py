"""What a step of a loop has left on the tape, boiled down to a number: who runs it again must come by the same one.

Values alone do not tell. A step that computes `c * w` at c = 0 comes to 0 for every w, and its derivative is w.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any
from zlib import crc32

import numpy as np

from ..core import boxing
from ..core.tape import Node
from ..core.tracing import plain_parts
from ..declare.packing import Packed, without_spares
from .fingerprint import fingerprint

_BYTES = 5
_age = attrgetter("sequence")


def trail_of(nodes: Iterable[Node]) -> int:
    """Return a number that depends on the operations of Nodes, in their order, and on every bit of their residuals.

    Where residuals are packed somewhere (by `wg.checkpoint`, say), it is 0: there is no telling.
    """
    code = 0
    for node in sorted(nodes, key=_age):
        if isinstance(getattr(node, "kept", None), Packed):
            return 0
        code = crc32(node.primitive.name.encode(), code)
        for number in _numbers(node.saved):
            if not number:
                return 0
            code = crc32(number.to_bytes(_BYTES, "little"), code)
    return code


def _numbers(saved: Any) -> Iterator[int]:
    if type(saved) is tuple:
        for value in without_spares(saved) if saved else ():
            yield from _numbers(value)
    elif isinstance(saved, boxing.Tensor):
        for part in plain_parts(saved):
            yield from _numbers(part)
    elif isinstance(saved, (np.ndarray, np.generic)):
        yield fingerprint(saved) + 1
    elif (trail := getattr(saved, "trail", None)) is not None:  # a loop inside of the step
        yield 0 if 0 in trail else crc32(trail.tobytes()) + 1


__all__ = ["trail_of"]
