"""The compiler's graph: operations in single assignment form, as a capture records them and the passes rewrite them.

A `Value` is made once, by an `Equation`, as an input of the graph, or as a constant. An Equation applies one of the
library's primitives to Values and Python numbers. Equations stand in an order in which they can be computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..core.primitive import Primitive
from ..typing import DType, Params, Shape


class Value:
    """One array of a graph.

    Attributes:
        shape, dtype: of the array.
        constant: its elements, if they are known already; never written.
        where: "file:line" of the user's code that made it, or an empty string.
    """

    __slots__ = ("constant", "dtype", "shape", "where")

    def __init__(self, shape: Shape, dtype: DType, constant: np.ndarray | None = None, where: str = "") -> None:
        self.shape = shape
        self.dtype = dtype
        self.constant = constant
        self.where = where

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take."""
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"<{type_of(self)}>"


Operand = Value | bool | int | float | complex
"""What an Equation takes: a Value, or a Python number (which never promotes)."""


class Equation:
    """One operation: a primitive applied to operands, with static parameters."""

    __slots__ = ("inputs", "outputs", "params", "primitive")

    def __init__(
        self, primitive: Primitive, inputs: tuple[Operand, ...], params: Params, outputs: tuple[Value, ...]
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.outputs = outputs

    def values(self) -> list[Value]:
        """Return the inputs that are Values."""
        return [operand for operand in self.inputs if type(operand) is Value]

    def __repr__(self) -> str:
        return f"<Equation {self.primitive.name}>"


class Graph:
    """A program: inputs, equations in order, outputs.

    Attributes:
        outputs: what is computed; a Value may be among them several times, and inputs and constants may be.
        homes: for outputs that replace an input, which one: `homes[i]` is the place of an input whose memory shall hold
            `outputs[i]` in the end (all inputs are read as they were before), or None.
    """

    __slots__ = ("equations", "homes", "inputs", "name", "outputs")

    def __init__(
        self,
        name: str,
        inputs: Sequence[Value],
        equations: Iterable[Equation],
        outputs: Sequence[Value],
        homes: Sequence[int | None] = (),
    ) -> None:
        self.name = name
        self.inputs = tuple(inputs)
        self.equations = list(equations)
        self.outputs = tuple(outputs)
        self.homes = tuple(homes) if homes else (None,) * len(self.outputs)

    def without_dead_code(self) -> Graph:
        """Return the graph less the equations that no output needs."""
        needed: set[Operand] = set(self.outputs)
        kept: list[Equation] = []
        for equation in reversed(self.equations):
            if not needed.isdisjoint(equation.outputs):
                kept.append(equation)
                needed.update(equation.inputs)
        return Graph(self.name, self.inputs, reversed(kept), self.outputs, self.homes)

    def verify(self) -> None:
        """Check that every Value is made once, before it is used, and that nothing is missing.

        Raises:
            AssertionError: the graph is malformed: a fault of the compiler, never of the user's program.
        """
        known: set[Operand] = set(self.inputs)
        assert len(known) == len(self.inputs), f"{self.name}: an input stands twice"
        for equation in self.equations:
            name = equation.primitive.name
            for value in equation.inputs:
                if value not in known:
                    assert type(value) is not Value or value.constant is not None, (
                        f"{self.name}: {name} uses a Value not made yet"
                    )
            assert equation.outputs, f"{self.name}: {name} has no output"
            for value in equation.outputs:
                assert value not in known, f"{self.name}: an output of {name} is made twice"
                assert value.constant is None, f"{self.name}: an output of {name} is a constant"
                known.add(value)
        for value in self.outputs:
            assert value in known or value.constant is not None, f"{self.name}: an output is never made"
        assert len(self.homes) == len(self.outputs)
        for home, value in zip(self.homes, self.outputs):
            if home is not None:
                target = self.inputs[home]
                assert (target.shape, target.dtype) == (value.shape, value.dtype), f"{self.name}: a home does not fit"

    def __str__(self) -> str:
        names = {value: f"%in{i}" for i, value in enumerate(self.inputs)}
        lines: list[str] = []
        for equation in self.equations:
            operands = [_named(operand, names) for operand in equation.inputs]
            for value in equation.outputs:
                names[value] = f"%{len(names) - len(self.inputs)}"
            params = [f"{key}={value!r}" for key, value in equation.params.items()]
            made = ", ".join(f"{names[value]}: {type_of(value)}" for value in equation.outputs)
            where = f"    # {equation.outputs[0].where}" if equation.outputs[0].where else ""
            lines.append(f"    {made} = {equation.primitive.name}({', '.join([*operands, *params])}){where}")
        head = ", ".join(f"{names[value]}: {type_of(value)}" for value in self.inputs)
        ends = ", ".join(
            _named(value, names) + ("" if home is None else f" -> {names[self.inputs[home]]}")
            for value, home in zip(self.outputs, self.homes)
        )
        return "\n".join([f"{self.name}({head}):", *lines, f"    return {ends}"])


def replaced_in(operands: Iterable[Operand], others: Mapping[Value, Operand]) -> tuple[Operand, ...]:
    """Return operands with others in the place of some."""
    return tuple([others.get(o, o) if type(o) is Value else o for o in operands])


def type_of(value: Value) -> str:
    """Return dtype and shape as graphs show them: `float32[64,10]`."""
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def _named(operand: Operand, names: dict[Value, str]) -> str:
    if not isinstance(operand, Value):
        return repr(operand)
    if operand in names:
        return names[operand]
    if operand.constant is not None and operand.size == 1:
        return f"{operand.dtype}({operand.constant.item()!r})"
    return f"constant {type_of(operand)}"
