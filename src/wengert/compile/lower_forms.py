"""Steps of groups that are spelled alike: one is written, and the others are the same kernel on other arrays."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from .fuse import Fusion
from .fuse_groups import Group
from .graph import Equation, Value
from .lower import Step

Pairs = tuple[tuple[int, int], ...]


class _Written(NamedTuple):
    """A step with numbers in place of arrays."""

    kernel: Any
    memory: tuple[int, ...]
    writes: tuple[int, ...]
    in_place: Pairs
    offsets: tuple[int, ...]


class Spelling(NamedTuple):
    """What steps have in common that are the same kernel, and what it is made for.

    Attributes:
        key: what they have in common.
        numbers: of the arrays.
        starts: where in some arrays, by their numbers, the kernel looks first, which need not be the same.
    """

    key: Hashable
    numbers: dict[Value, int]
    starts: Mapping[int, int] = MappingProxyType({})


class StepForms:
    """The steps that have been written for a program, by what equal ones have in common.

    Args:
        fusion: of the program.
        kept: the reductions that somebody outside of their nest reads.
    """

    def __init__(self, fusion: Fusion, kept: set[Value]) -> None:
        self._fusion, self._kept = fusion, kept
        self._written: dict[Hashable, _Written | Exception] = {}

    def step(self, spelling: Spelling | None, write: Callable[[], Step], refusal: type[Exception] = Exception) -> Step:
        """Return a step: as it is known by its spelling, or as it is written now.

        Raises:
            refusal: that is what writing it raises, or has raised for one that is spelled alike.
        """
        if spelling is None:
            return write()
        known = self._written.get(spelling.key)
        if isinstance(known, Exception):
            raise known
        if known is not None:
            return _for_arrays(known, list(spelling.numbers), spelling.starts)
        try:
            step = write()
        except refusal as fault:
            self._written[spelling.key] = fault
            raise
        written = _in_numbers(step, spelling.numbers)
        if written is not None:
            self._written[spelling.key] = written
        return step

    def of_nest(self, group: Group) -> Spelling | None:
        """Return how a group is spelled as a nest; None if it cannot be compared with others."""
        numbers: dict[Value, int] = {}
        key = self._spelled(group, numbers)
        return None if key is None else Spelling(key, numbers)

    def of_product(self, equation: Equation, group: Group | None, more: Hashable) -> Spelling | None:
        """Return how an equation with a kernel is spelled, and a group of plain arrays that is computed with it.

        Where in an array a factor lies does not matter if the array is nothing else to the step: products of the pieces
        of an array are alike.

        Args:
            equation: the product or convolution.
            group: what is computed with it, if anything.
            more: what else counts.
        """
        numbers: dict[Value, int] = {}
        head, rest = self._fusion.forms.head(equation), () if group is None else self._spelled(group, numbers)
        values = (*equation.values(), *equation.outputs)
        layouts = [layout for layout in map(self._fusion.layouts.of, values) if layout is not None]
        if head is None or rest is None or len(layouts) < len(values):
            return None
        bases, taken = [layout.base for layout in layouts], set(numbers)
        places: list[Hashable] = []
        starts: dict[int, int] = {}
        for value, layout in zip(values, layouts):
            number = numbers.setdefault(layout.base, len(numbers))
            offset: int | None = layout.offset
            if value not in equation.outputs and bases.count(layout.base) == 1 and layout.base not in taken:
                starts[number], offset = layout.offset, None
            places.append((number, numbers.setdefault(value, len(numbers)), offset, layout.strides))
        return Spelling((head[0], *places, rest, more), numbers, starts)

    def _spelled(self, group: Group, numbers: dict[Value, int]) -> Hashable | None:
        """Return what groups have in common that are spelled alike; arrays without numbers get them."""
        key: list[Hashable] = []
        for root in group.roots:
            if root.spelled is None:
                return None
            key.append((root.spelled.form, group.outer[root], root.value in self._kept))
            key.extend([numbers.setdefault(value, len(numbers)) for value in root.spelled.values])
        return tuple(key)


def _in_numbers(step: Step, numbers: dict[Value, int]) -> _Written | None:
    """Return a step in numbers of arrays, or None if some have none."""
    pairs = [value for pair in step.in_place for value in pair]
    if not all([value in numbers for value in (*step.memory, *step.writes, *pairs)]):
        return None
    if step.equation is not None or step.reads != frozenset(step.memory) - frozenset(step.writes):
        return None
    in_place = tuple([(numbers[out], numbers[value]) for out, value in step.in_place])
    memory, writes = [tuple([numbers[value] for value in values]) for values in (step.memory, step.writes)]
    return _Written(step.kernel, memory, writes, in_place, step.offsets)


def _for_arrays(written: _Written, values: Sequence[Value], starts: Mapping[int, int]) -> Step:
    """Return a step for the arrays that numbers stand for."""
    memory = tuple([values[number] for number in written.memory])
    writes = tuple([values[number] for number in written.writes])
    in_place = tuple([(values[out], values[number]) for out, number in written.in_place])
    offsets = written.offsets
    if starts:
        offsets = tuple([starts.get(number, offset) for number, offset in zip(written.memory, offsets)])
    return Step(written.kernel, memory, frozenset(memory) - frozenset(writes), writes, in_place, offsets=offsets)
