"""Update rules of optimisers as programs: parameters and state are read and written in one pass."""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ..core.recording import set_recording
from ..core.tracing import outside_of_traces
from .capture import CaptureTrace
from .cells import Cell
from .eager import OFF, Accounts, Program, attempt, tariff
from .graph import Graph
from .llvm.machine import Machine
from .sources import SeedSource

accounts = Accounts()
_ELEMENT = 2e-9
"""Seconds that are saved for each element."""

Record = Callable[[Sequence[Any]], None]


def updated(rule: Hashable, record: Record, arrays: Sequence[np.ndarray]) -> bool:
    """Do to arrays what `record` does to Cells, natively; return whether it is done, else nothing has changed.

    Args:
        rule: what the record depends on beside shapes and dtypes.
        record: takes a Cell for each array, and writes those that are to be written.
        arrays: C-contiguous, the largest first; numbers are arrays without axes.
    """
    key = (rule, *[(array.shape, array.dtype) for array in arrays])
    account = accounts.of(key, lambda: arrays[0].size * _ELEMENT)
    program = account.usable(tariff.operation, lambda: attempt(lambda machine: _captured(machine, record, arrays)))
    if program is None:
        return False
    program.run(arrays)
    return True


def _captured(machine: Machine, record: Record, arrays: Sequence[np.ndarray]) -> Any:
    trace = CaptureTrace("update", [])
    cells: list[Cell] = []

    def run() -> None:
        copies = [array.copy() for array in arrays]
        cells.extend([Cell(trace.tracer(copy, trace.input(copy, SeedSource(copy)))) for copy in copies])
        before.extend([cell.tensor._state.value for cell in cells])
        record(cells)

    before: list[Any] = []
    recording = set_recording(False)
    try:
        with outside_of_traces(), np.errstate(all="ignore"):
            trace.run(run)
    finally:
        set_recording(recording)
    after = [cell.tensor._state.value for cell in cells]
    homes = [place for place, (old, new) in enumerate(zip(before, after)) if old is not new]
    if trace.decisions or not homes:
        return OFF
    outputs = [after[place] for place in homes]
    graph = Graph("update", list(trace.inputs), trace.equations, outputs, homes).without_dead_code()
    program = Program(graph, machine)
    return program if program.executable.is_one_native_call else OFF


__all__ = ["accounts", "updated"]
