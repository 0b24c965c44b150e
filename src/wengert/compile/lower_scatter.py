"""Lowering of sums into places that data decide: one nest that first copies, and then adds one value after the other.

Outer loops run along the axes that nothing is picked on, so that every sum is made by one thread, in order.
"""

from __future__ import annotations

from .fuse import Fusion
from .graph import Equation, Value
from .lower import NestElements, Step, Writer
from .lower_elements import broadcast_map
from .lower_index import Affine, Map
from .lower_layout import Layouts
from .nests import Access, Counter, Nest, Operand, Phase, Store
from .scalar_ir import INT64, TYPES, Scalar, apply, constant, convert, topological
from .simplify import uniform

Axes = tuple[int, ...]


def is_scatter(equation: Equation) -> bool:
    """Whether there is a nest for a sum into picked places."""
    name, values = equation.primitive.name, equation.values()
    if name not in ("add_at", "add_along_axis") or len(values) != 3:
        return False
    x, indices, added = values
    out = equation.outputs[0]
    if out.dtype not in TYPES or x.dtype != out.dtype or indices.dtype not in TYPES or indices.dtype.kind != "i":
        return False
    if added.dtype != out.dtype or 0 in (*x.shape, *indices.shape, *added.shape) or out.dtype.kind == "b":
        return False
    axis = equation.params["axis"]
    if name == "add_at":
        return added.shape == (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    one = [i for i in range(len(x.shape)) if i != axis]
    return indices.shape == added.shape and all([added.shape[i] == x.shape[i] for i in one])


class ScatterWriter:
    """Writes the nest of one sum into picked places."""

    def __init__(self, fusion: Fusion, layouts: Layouts, equation: Equation) -> None:
        self.fusion, self.layouts, self.equation = fusion, layouts, equation
        self.x, self.indices, self.values = equation.values()
        self.out = equation.outputs[0]
        self.axis = equation.params["axis"]
        self.outer: Axes = tuple([n for i, n in enumerate(self.out.shape) if i != self.axis])
        self.writer = Writer(layouts)

    def step(self) -> Step:
        """Return the step."""
        out = self.layouts.of(self.out)
        assert out is not None
        target = self.writer.operand(out.base)
        first, elements = self._elements((self.out.shape[self.axis],))
        along = Affine(0, ((len(self.outer), 1),))
        index = self._joined(first, (along,))
        known = uniform(self.x) if self.x.constant is not None else None
        start = constant(known, self.out.dtype) if known is not None else elements.element(self.x, index)
        copied = Phase(
            (self.out.shape[self.axis],),
            self._inputs(start),
            (Store(elements.access(target, out, index), start),),
        )
        phases = (copied, self._adding(target))
        memory = tuple(self.writer.memory)
        lanes = "outer" if self.outer and self.axis != len(self.out.shape) - 1 else "inner"
        nest = Nest("add_at", self.outer, phases, tuple([Operand(value.dtype) for value in memory]), lanes)
        return Step(nest, memory, frozenset(memory) - {out.base}, (out.base,))

    def _adding(self, target: int) -> Phase:
        out = self.layouts.of(self.out)
        assert out is not None
        if self.equation.primitive.name == "add_at":
            inner = self.indices.shape
            first, elements = self._elements(inner)
            own = tuple([Affine(0, ((len(self.outer) + i, 1),)) if n > 1 else Affine(0) for i, n in enumerate(inner)])
            place = elements.element(self.indices, own)
            value = elements.element(self.values, self._joined(first, own))
        else:
            inner = (self.indices.shape[self.axis],)
            first, elements = self._elements(inner)
            index = self._joined(first, (Affine(0, ((len(self.outer), 1),)) if inner[0] > 1 else Affine(0),))
            place = elements.element(self.indices, broadcast_map(self.indices, index))
            value = elements.element(self.values, index)
        position = convert(place, INT64)
        extent = self.out.shape[self.axis]
        forward = apply("where", apply("less", position, 0), position + extent, position)
        picked = Affine(0, (), ((forward, 1),))
        access = elements.access(target, out, self._joined(first, (picked,)))
        return Phase(inner, self._inputs(value, forward), (Store(access, value, add=True),))

    def _elements(self, inner: Axes) -> tuple[Map, NestElements]:
        elements = NestElements(self.writer, self.fusion.maker, (*self.outer, *inner))
        first = tuple([Affine(0, ((i, 1),)) if n > 1 else Affine(0) for i, n in enumerate(self.outer)])
        return first, elements

    def _joined(self, outer: Map, along: Map) -> Map:
        return (*outer[: self.axis], *along, *outer[self.axis :])

    def _inputs(self, *scalars: Scalar) -> dict[str, Access | Counter]:
        inputs: dict[str, Access | Counter] = {}
        pending = list(scalars)
        while pending:
            for scalar in topological([pending.pop()]):
                source = self.writer.sources.get(scalar.payload) if scalar.op == "input" else None
                if source is not None and scalar.payload not in inputs:
                    inputs[scalar.payload] = source
                    if isinstance(source, Access):
                        pending.extend([pick for pick, _ in source.picks])
        return inputs


__all__ = ["ScatterWriter", "Value", "is_scatter"]
