"""Which outputs of a program are computed right where they belong: in the memory of an input that they replace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .graph import Value
from .lower import Step
from .lower_steps import Program


class Homed(NamedTuple):
    """Steps, the outputs that they make, and which of these are written right into inputs."""

    steps: list[Step]
    outputs: tuple[Value, ...]
    homes: dict[Value, int]


def with_homes(program: Program) -> Homed:
    """Decide which outputs are computed in their homes; the others are moved there by steps at the end."""
    graph = program.graph
    last_host = max([place for place, step in enumerate(program.steps) if step.kernel is None], default=-1)
    homes: dict[Value, int] = {}
    late: list[tuple[Value, int]] = []
    for value, home in zip(graph.outputs, graph.homes):
        if home is None:
            continue
        if _is_safe(program.steps, value, graph.inputs[home], last_host):
            homes[value] = home
        else:
            late.append((value, home))
    steps = [*program.steps, *[program.move(value, graph.inputs[home]) for value, home in late]]
    return Homed(steps, graph.outputs, homes)


def _is_safe(steps: Sequence[Step], value: Value, target: Value, last_host: int) -> bool:
    """Whether an output may be written over an input when it is computed."""
    for place, step in enumerate(steps):
        if value in step.writes:
            if place < last_host:
                return False
            if target in step.reads and (value, target) not in step.in_place:
                return False
            return all([target not in later.reads for later in steps[place + 1 :]])
    return False
