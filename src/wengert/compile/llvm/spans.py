"""What units of work touch of their operands, worked out from the accesses of nests and products."""

from __future__ import annotations

from collections.abc import Iterable

from ..kernels import Span
from ..nests import Access


def span_of(
    access: Access, extents: tuple[int, ...], axis: int | None, rows: int, itemsize: int, per: int, writes: bool
) -> Span:
    """Return what an access touches.

    Args:
        access: with strides along axes of which a row of units walks `extents`.
        extents: see there.
        axis: along which rows of units follow each other; None if the access is the same in all of them.
        rows: indices along it that a row of units takes.
        itemsize: bytes of an element.
        per, writes: as in a Span.
    """
    reaches = [stride * (extent - 1) for stride, extent in zip(access.strides, extents)]
    low, high = sum([min(0, reach) for reach in reaches]), sum([max(0, reach) for reach in reaches])
    pitch = 0 if axis is None else access.strides[axis] * rows * itemsize
    return Span(access.operand, per, (access.offset + low) * itemsize, pitch, (high - low + 1) * itemsize, writes)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return spans that cover what others do; neighbours within a row are one."""
    found: dict[tuple[int, int, int, bool], Span] = {}
    rest: dict[Span, None] = {}
    for span in spans:
        key = (span.operand, span.per, span.pitch, span.writes)
        other = found.setdefault(key, span)
        low = min(span.low, other.low)
        extent = max(span.low + span.extent, other.low + other.extent) - low
        if span.pitch and extent > max(abs(span.pitch), span.extent, other.extent):
            rest[span] = None  # rows would seem to overlap
        else:
            found[key] = span._replace(low=low, extent=extent)
    return (*found.values(), *rest)
