"""A page that is kept row by row while it is measured, and how long one engine may keep the others waiting."""

from __future__ import annotations

import contextlib
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.report import page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.report import Section

PATIENCE = 300.0
"""Seconds that an engine may take to set one piece of work up, in all of its ways."""


@dataclass(frozen=True)
class Keeper:
    """A page, and the file that it is for.

    Until all is measured, what there is stands beside that file, under a name that ends in `.partial.md`: a run that is
    broken off leaves its figures there, and the former page as it was.
    """

    title: str
    command: str
    facts: Mapping[str, str]
    output: Path | None

    def keep(self, sections: Sequence[Section]) -> None:
        """Keep what has been measured so far."""
        if self.output is not None:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self._partial.write_text(self._page(sections), encoding="utf-8")

    def finish(self, sections: Sequence[Section]) -> None:
        """Print the page, and keep it in place of the former one."""
        text = self._page(sections)
        print(text, end="")
        if self.output is not None:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self.output.write_text(text, encoding="utf-8")
            self._partial.unlink(missing_ok=True)

    @property
    def _partial(self) -> Path:
        assert self.output is not None
        return self.output.with_suffix(".partial.md")

    def _page(self, sections: Sequence[Section]) -> str:
        return page(self.title, self.command, self.facts, sections)


class OutOfPatience(BaseException):
    """An engine took too long; no exception of the usual kind, which engines catch to try something else."""


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Break off what takes longer than so many seconds, where there are alarms (not on Windows)."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def lose(*_: object) -> None:
        raise OutOfPatience

    before = signal.signal(signal.SIGALRM, lose)
    # Again each second: where an exception cannot be raised (in a finaliser), it is lost.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        with contextlib.suppress(OutOfPatience):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
