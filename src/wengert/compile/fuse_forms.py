"""Forms: what roots have in common that compute the same of other arrays, as the steps of an unrolled loop do.

A root is *spelled*: the equations on the way to it are listed in the order in which they are met, with numbers in place
of arrays. Roots that are spelled alike demand the same elements, and groups of them are the same nest, so that each is
worked out once, and then written down for the arrays of the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Set
from typing import Any, NamedTuple

from .graph import Equation, Value
from .lower_layout import Layouts
from .simplify import hashable, uniform

MOST_VALUES = 400
"""A root that is made of more arrays is not spelled; those of a loop's steps are made of few."""
Head = tuple[int, tuple[Value, ...]]
"""A number for all of an equation but its arrays, and these."""
COMPUTED, READ = -1, -2
"""In a spelling: an array that is met for the first time, and computed on the way, or read."""


class Form:
    """What roots have in common that are spelled alike.

    Attributes:
        demands: what following such a root brought (`fuse_roots`), with numbers of arrays; None if that is not known.
    """

    __slots__ = ("demands",)

    def __init__(self) -> None:
        self.demands: Any = None


class Spelled(NamedTuple):
    """How a root is spelled: its form, the arrays that the numbers in it stand for, and which of these it computes."""

    form: Form
    values: list[Value]
    computed: list[Value]


class Forms:
    """Spells roots.

    Args:
        mapped: equations whose results may be computed element by element...
        stored: ...but for those that are in memory.
        layouts: where arrays are in memory.
    """

    def __init__(self, mapped: Set[Equation], stored: Set[Value], layouts: Layouts) -> None:
        self._mapped, self._stored, self._layouts = mapped, stored, layouts
        self._mapped_heads: dict[Value, Head | None] | None = None
        self._kinds: dict[Hashable, int] = {}
        self._heads: dict[Equation, Head | None] = {}
        self._forms: dict[tuple[Hashable, ...], Form] = {}
        self._uniform: dict[Value, Any] = {}

    def spelled(self, root: Equation) -> Spelled | None:
        """Return how a root is spelled; None if it cannot be."""
        own, head = root.outputs[0], self.head(root)
        values, numbers, computed = [own], {own: 0}, [own]
        spelling: list[Hashable] = []
        self._spell_place(own, spelling, values, numbers)
        heads, stored, placed = self._heads_of_mapped(), self._stored, self._layouts.placed
        for value in computed:
            if value is not own:
                head = heads[value]
            if head is None or len(values) > MOST_VALUES:
                return None
            number, operands = head
            spelling.append(number)
            for operand in operands:
                number = numbers.get(operand)
                if number is not None:
                    spelling.append(number)
                    continue
                numbers[operand] = len(values)
                values.append(operand)
                if operand not in heads or operand in stored:
                    spelling.append(READ)
                    if operand in placed:
                        self._spell_place(operand, spelling, values, numbers)
                else:
                    spelling.append(COMPUTED)
                    computed.append(operand)
        key = tuple(spelling)
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = Form()
        return Spelled(form, values, computed)

    def _spell_place(
        self, value: Value, spelling: list[Hashable], values: list[Value], numbers: dict[Value, int]
    ) -> None:
        """Add where an array is in another's memory, if it is."""
        layout = self._layouts.placed.get(value)
        if layout is None:
            return
        if layout.base not in numbers:
            numbers[layout.base] = len(values)
            values.append(layout.base)
        spelling.append((layout.offset, layout.strides, layout.base.shape, numbers[layout.base]))

    def _heads_of_mapped(self) -> dict[Value, Head | None]:
        """Return heads by what they make, of all that may be computed element by element."""
        if self._mapped_heads is None:
            self._mapped_heads = {equation.outputs[0]: self.head(equation) for equation in self._mapped}
        return self._mapped_heads

    def head(self, equation: Equation) -> Head | None:
        """Return a number for all of an equation but its arrays, and these; None if it cannot be compared."""
        if equation not in self._heads:
            self._heads[equation] = self._head(equation)
        return self._heads[equation]

    def _head(self, equation: Equation) -> Head | None:
        params = equation.params
        out = equation.outputs[0]
        kind: list[Hashable] = [equation.primitive, out.shape, out.dtype]
        values: list[Value] = []
        for operand in equation.inputs:
            if type(operand) is not Value:
                kind.append((type(operand), repr(operand)))
                continue
            kind.append(operand.shape)
            kind.append(operand.dtype)
            number = None
            if operand.constant is not None:
                number = self._number_of(operand)
                kind.append(operand if number is None else (type(number), repr(number)))
            if number is None:
                values.append(operand)
        try:
            kind.extend([(name, hashable(params[name])) for name in sorted(params)])
            key = tuple(kind)
            number = self._kinds.setdefault(key, len(self._kinds))
        except TypeError:
            return None
        return number, tuple(values)

    def _number_of(self, constant: Value) -> Any:
        """Return the one number that all elements of a constant are, or None."""
        if constant not in self._uniform:
            self._uniform[constant] = uniform(constant)
        return self._uniform[constant]
