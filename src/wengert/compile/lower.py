"""Lowering: from groups of equations to loop nests, and from a graph to the steps of a program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .fuse import Fusion
from .fuse_groups import Group, Root
from .fuse_roots import divide, divided_indices, root_scalar
from .graph import Equation, Value
from .lower_elements import Demand, Elements, Inside
from .lower_index import Affine, Map, NeedsSplit
from .lower_layout import Layout, Layouts
from .lower_nests import finished, rebased
from .nests import Access, Counter, Nest, Phase, Range, Reduction, Store
from .nests import Operand as Memory
from .scalar_ir import INT64, Scalar, convert, input_scalar, topological

Axes = tuple[int, ...]
SHORT_ROWS, WIDEST = 64, 16
"""Rows shorter than so many elements are not computed in place unless they are whole vectors, the widest there are."""
OPS = {
    "sum_over": "add",
    "max_over": "maximum",
    "min_over": "minimum",
    "prod_over": "multiply",
    "any_over": "or",
    "all_over": "and",
}


class Step(NamedTuple):
    """One step of a program.

    Attributes:
        kernel: what a kernel is made from (a Nest, a Product), or None for a step of the host.
        memory: the arrays whose addresses it takes, in order; for a step of the host, none.
        reads, writes: arrays in memory that it uses.
        in_place: pairs of an array that is written and one that it may share memory with.
        equation: what the host computes.
        offsets: where in those arrays the addresses point, in elements; none given means to their beginnings.
    """

    kernel: Any
    memory: tuple[Value, ...]
    reads: frozenset[Value]
    writes: tuple[Value, ...]
    in_place: tuple[tuple[Value, Value], ...] = ()
    equation: Equation | None = None
    offsets: tuple[int, ...] = ()


class Writer:
    """What elements of different walks of one kernel share: names of what is loaded, and the kernel's operands."""

    def __init__(self, layouts: Layouts) -> None:
        self.layouts = layouts
        self.memory: list[Value] = []
        self._numbers: dict[Value, int] = {}
        self.names: dict[Any, str] = {}
        self.sources: dict[str, Access | Counter] = {}

    def operand(self, base: Value) -> int:
        """Return the number of an array among the operands."""
        number = self._numbers.get(base)
        if number is None:
            number = self._numbers[base] = len(self.memory)
            self.memory.append(base)
        return number

    def loaded(self, access: Access, value: Value) -> Scalar:
        """Return the Scalar of what an access loads."""
        key = (access[:3], tuple([(id(pick), stride) for pick, stride in access.picks]), access.inside)
        name = self.names.get(key)
        if name is None:
            name = self.names[key] = f"x{len(self.names)}"
            self.sources[name] = access
        return input_scalar(name, value.dtype)

    def counted(self, axis: int) -> Scalar:
        """Return the Scalar of a loop's index."""
        self.sources[f"i{axis}"] = Counter(axis)
        return input_scalar(f"i{axis}", INT64)


class NestElements(Elements):
    """Elements within one walk of a nest."""

    def __init__(self, writer: Writer, maker: dict[Value, Equation], extents: Sequence[int]) -> None:
        super().__init__(maker, extents)
        self.writer = writer
        self.given: dict[Value, Scalar] = {}
        self.inlined: set[Value] = set()

    def leaf(self, value: Value, index: Map, inside: Inside) -> Scalar | None:
        """Load what is in memory; what the nest itself reduces is at hand."""
        if value in self.given:
            return self.given[value]
        if value in self.inlined or not self.writer.layouts.is_stored(value):
            return None
        layout = self.writer.layouts.of(value)
        assert layout is not None
        return self.load(value, layout, index, inside)

    def through_memory(self, demand: Demand) -> Scalar | None:
        """Load an element of a view."""
        assert isinstance(demand.operand, Value)
        layout = self.writer.layouts.as_view(demand.operand)
        if layout is None or layout.base in self.inlined or layout.base in self.given:
            return None
        return self.load(demand.operand, layout, demand.index, demand.inside)

    def load(self, value: Value, layout: Layout, index: Map, inside: Inside) -> Scalar:
        """Return the Scalar of an element in memory."""
        access = self.access(self.writer.operand(layout.base), layout, index, inside)
        return self.writer.loaded(access, value)

    def access(self, operand: int, layout: Layout, index: Map, inside: Inside = ()) -> Access:
        """Return where an element is."""
        total = Affine(layout.offset)
        for place, stride in zip(index, layout.strides):
            total = total.plus(place.times(stride))
        left = self.holding(inside)
        ranges = tuple([Range(b.index.offset, self.spread(b.index), b.extent) for b in left or ()])
        return Access(operand, total.offset, self.spread(total), total.picks, ranges)

    def spread(self, index: Affine) -> Axes:
        """Return an index's coefficients for all loops."""
        strides = [0] * len(self.extents)
        for axis, coefficient in index.terms:
            strides[axis] = coefficient
        return tuple(strides)

    def counter(self, axis: int) -> Scalar:
        """Return the index along a loop."""
        return self.writer.counted(axis)

    def is_zero_outside(self, scalar: Scalar, inside: Inside) -> bool:
        """Whether a Scalar is a load under just these conditions, or that times positive numbers."""
        while scalar.op == "multiply":
            factors = [o for o in scalar.operands if not (o.op == "constant" and 0 < o.payload < math.inf)]
            if len(factors) != 1:
                return False
            scalar = factors[0]
        source = self.writer.sources.get(scalar.payload) if scalar.op == "input" else None
        if not isinstance(source, Access):
            return False
        ranges = {Range(b.index.offset, self.spread(b.index), b.extent) for b in inside}
        return ranges <= set(source.inside)


class _Walk:
    """A walk over inner axes: the elements computed on it, and the phases that walk so."""

    def __init__(self, inner: Axes, elements: NestElements) -> None:
        self.inner = inner
        self.elements = elements


class _PhaseInMaking:
    def __init__(self, inner: Axes) -> None:
        self.inner = inner
        self.stores: list[Store] = []
        self.reductions: list[Reduction] = []


class NestWriter:
    """Writes the nest of one group."""

    def __init__(self, fusion: Fusion, group: Group, layouts: Layouts, kept: set[Value]) -> None:
        self.fusion, self.group, self.layouts, self.kept = fusion, group, layouts, kept
        first = group.roots[0]
        self.outer = [first.extents[axis] for axis in group.outer[first]]
        self.outer_loops = [[i] for i in range(len(self.outer))]
        self.inner = {root: [n for _, n in self._inner_axes(root)] for root in group.roots}
        self.inner_loops = {root: [[i] for i in range(len(self.inner[root]))] for root in group.roots}

    def _inner_axes(self, root: Root) -> list[tuple[int, int]]:
        outer = self.group.outer[root]
        return [(axis, root.extents[axis]) for axis in root.significant if axis not in outer]

    def step(self) -> Step:
        """Return the step that runs the nest."""
        while True:
            try:
                return self._written()
            except _Divided:
                continue

    def _written(self) -> Step:
        self.writer = Writer(self.layouts)
        self.walks: dict[Axes, _Walk] = {}
        self.phases: list[_PhaseInMaking] = []
        self.given: dict[Value, Scalar] = {}
        self.available: dict[str, int] = {}
        self.earliest: dict[Scalar, int] = {}
        late: list[Root] = []
        for root in self.group.roots:
            if root.is_reduction:
                self._reduce(root)
                if root.value in self.kept:
                    late.append(root)
            else:
                self._store(root)
        for root in late:
            self._store_reduced(root)
        return self._finished()

    def _elements(self, inner: Axes) -> NestElements:
        walk = self.walks.get(inner)
        if walk is None:
            elements = NestElements(self.writer, self.fusion.maker, (*self.outer, *inner))
            elements.inlined = {root.value for root in self.group.roots if not root.is_reduction}
            elements.given = self.given
            walk = self.walks[inner] = _Walk(inner, elements)
        return walk.elements

    def _index(self, root: Root) -> Map:
        """Return the map of a root's space."""
        extents = [*self.outer, *self.inner[root]]
        shift = len(self.outer)
        outer = divided_indices(extents, self.outer_loops)
        inner = divided_indices(extents, [[loop + shift for loop in loops] for loops in self.inner_loops[root]])
        places = [Affine(0)] * len(root.extents)
        for axis, place in zip(self.group.outer[root], outer):
            places[axis] = place
        for (axis, _), place in zip(self._inner_axes(root), inner):
            places[axis] = place
        return tuple(places)

    def _scalar(self, root: Root) -> Scalar:
        elements = self._elements(tuple(self.inner[root]))
        try:
            scalar = root_scalar(elements, root.equation, self._index(root))
        except NeedsSplit as need:
            shift = len(self.outer)
            if need.axis < shift:
                divide(self.outer, self.outer_loops, need.axis, need.inner)
            else:
                divide(self.inner[root], self.inner_loops[root], need.axis - shift, need.inner)
            raise _Divided from None
        return convert(scalar, root.value.dtype)

    def _phase(self, root: Root, scalar: Scalar, inner: Axes) -> tuple[int, _PhaseInMaking]:
        for place in range(self._earliest(scalar), len(self.phases)):
            if self.phases[place].inner == inner:
                return place, self.phases[place]
        self.phases.append(_PhaseInMaking(inner))
        return len(self.phases) - 1, self.phases[-1]

    def _earliest(self, scalar: Scalar) -> int:
        """Return the first phase before which all is known that a Scalar, and where it is loaded from, is made of."""
        known, pending = self.earliest, [scalar]
        while pending:
            item = pending[-1]
            needed = item.operands
            if item.op == "input":
                source = self.writer.sources.get(item.payload)
                needed = tuple([pick for pick, _ in source.picks]) if isinstance(source, Access) else ()
            missing = [other for other in needed if other not in known]
            if missing:
                pending.extend(missing)
                continue
            own = self.available.get(item.payload, 0) if item.op == "input" else 0
            known[pending.pop()] = max([own, *[known[other] for other in needed]])
        return known[scalar]

    def _reduce(self, root: Root) -> None:
        scalar = self._scalar(root)
        place, phase = self._phase(root, scalar, tuple(self.inner[root]))
        name = f"r{len(self.given)}"
        phase.reductions.append(Reduction(name, OPS[root.equation.primitive.name], scalar))
        self.given[root.value] = input_scalar(name, root.value.dtype)
        self.available[name] = place + 1

    def _store(self, root: Root) -> None:
        scalar = self._scalar(root)
        inner = tuple(self.inner[root])
        _, phase = self._phase(root, scalar, inner)
        phase.stores.append(Store(self._target(root, self._index(root), inner), scalar))

    def _store_reduced(self, root: Root) -> None:
        scalar = self.given[root.value]
        _, phase = self._phase(root, scalar, ())
        axis, keep = root.equation.params["axis"], root.equation.params["keepdims"]
        index = self._index(root)
        outer = tuple([Affine(0) if i in axis else a for i, a in enumerate(index) if keep or i not in axis])
        phase.stores.append(Store(self._target(root, outer, ()), scalar))

    def _target(self, root: Root, index: Map, inner: Axes) -> Access:
        layout = self.layouts.of(root.value)
        assert layout is not None
        return self._elements(inner).access(self.writer.operand(layout.base), layout, index)

    def _finished(self) -> Step:
        phases = [Phase(p.inner, self._inputs(p), tuple(p.stores), tuple(p.reductions)) for p in self.phases]
        memory = tuple([Memory(base.dtype) for base in self.writer.memory])
        name = _name([root.equation for root in self.group.roots])
        nest = finished(Nest(name, tuple(self.outer), tuple(phases), memory, "outer"))
        in_place = _in_place(nest, self.writer.memory)
        nest, offsets = rebased(nest, len(self.writer.memory))
        writes = tuple([self._base(root.value) for root in self.group.roots if self._is_written(root)])
        reads = frozenset(self.writer.memory) - frozenset(writes)
        return Step(nest, tuple(self.writer.memory), reads, writes, in_place, offsets=offsets)

    def _base(self, value: Value) -> Value:
        layout = self.layouts.of(value)
        assert layout is not None
        return layout.base

    def _is_written(self, root: Root) -> bool:
        return not root.is_reduction or root.value in self.kept

    def _inputs(self, phase: _PhaseInMaking) -> dict[str, Access | Counter]:
        wanted = [store.scalar for store in phase.stores] + [reduction.scalar for reduction in phase.reductions]
        inputs: dict[str, Access | Counter] = {}
        pending = [s for s in topological(wanted) if s.op == "input"]
        while pending:
            name = pending.pop().payload
            source = self.writer.sources.get(name)
            if source is None or name in inputs:
                continue
            inputs[name] = source
            for pick, _ in source.picks if isinstance(source, Access) else ():
                pending.extend([s for s in topological((pick,)) if s.op == "input"])
        return dict(sorted(inputs.items()))


class _Divided(Exception):
    """A loop was divided; what was written before counts for nothing."""


def _name(equations: list[Equation]) -> str:
    names = list(dict.fromkeys([equation.primitive.name for equation in equations]))
    return "_".join(names[:3])


def _has_short_rows(phase: Phase) -> bool:
    """Whether rows often end within a vector.

    In place, the vector that begins the next row overlaps the one just stored, and its load waits until that store is
    done, which takes longer than short rows do.
    """
    return bool(phase.inner) and phase.inner[-1] < SHORT_ROWS and phase.inner[-1] % WIDEST != 0


def _in_place(nest: Nest, memory: list[Value]) -> tuple[tuple[Value, Value], ...]:
    """Return which arrays may take the memory of which others: those read only where they are written, and no later."""
    pairs: list[tuple[Value, Value]] = []
    if nest.lanes == "inner" and any([_has_short_rows(phase) for phase in nest.phases]):
        return ()
    loads: dict[int, list[tuple[int, Access]]] = {}
    for place, phase in enumerate(nest.phases):
        for source in phase.inputs.values():
            if isinstance(source, Access):
                loads.setdefault(source.operand, []).append((place, source._replace(operand=0)))
    stored = [(place, store) for place, phase in enumerate(nest.phases) for store in phase.stores]
    for place, store in stored:
        if store.target.operand >= len(memory) or store.add:
            continue
        out = memory[store.target.operand]
        where = store.target._replace(operand=0)
        for number, value in enumerate(memory):
            if value is out or (value.shape, value.dtype) != (out.shape, out.dtype):
                continue
            if number in loads and all([at <= place and source == where for at, source in loads[number]]):
                pairs.append((out, value))
    return tuple(pairs)
