"""The random streams that are alive, so that what drew from them can be run again and draw the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol
from weakref import WeakSet


class Stream(Protocol):
    """A source of random numbers whose state can be read and put back."""

    def get_state(self) -> Any:
        """Return the state."""
        ...

    def set_state(self, state: Any) -> None:
        """Go on from a state."""
        ...


_streams: WeakSet[Any] = WeakSet()

States = Sequence[tuple[Stream, Any]]


def follow(stream: Stream) -> None:
    """Make a stream one of those that are put back."""
    _streams.add(stream)


def states() -> States:
    """Return the states of all streams."""
    return [(stream, stream.get_state()) for stream in list(_streams)]


def put_back(before: States) -> None:
    """Let the streams go on from states that `states` returned; streams that began since then are left alone."""
    for stream, state in before:
        stream.set_state(state)


__all__ = ["States", "Stream", "follow", "put_back", "states"]
