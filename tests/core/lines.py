"""Where a test stands, for messages that name lines."""

from __future__ import annotations

import sys


def here() -> str:
    """Return "file:line" of the caller, as the engine names places."""
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
