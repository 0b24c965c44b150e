"""`print` in a compiled function: what is printed of values that only a run knows is printed in every run.

While a function is captured, `print` is another one; where nothing is captured, it is Python's own.
"""

from __future__ import annotations

import builtins
from functools import partial
from typing import Any

from ..core import capturing

_print = builtins.print


def _print_in_every_run(*values: Any, **options: Any) -> None:
    capture = capturing.current()
    if capture is None:
        _print(*values, **options)
    else:
        capture.report(partial(_print, **options), values)


def _replace(on: bool) -> None:
    global _print
    if on:
        _print = builtins.print
        builtins.print = _print_in_every_run
    else:
        builtins.print = _print


capturing.on_engaging(_replace)
