"""Lowering of matrix products: factors as they lie in memory, and what follows fused into the epilogue."""

from __future__ import annotations

from math import prod

from .fuse import Fusion, Group, Root, lengths_of, root_scalar
from .graph import Equation, Value
from .llvm.products import Product
from .lower import NestElements, Step, Writer
from .lower_elements import MustStore
from .lower_index import Affine, Map, NeedsSplit
from .lower_layout import Layout, Layouts
from .nests import Access, Counter, Store
from .scalar_ir import FLOAT32, FLOAT64, KernelError, Scalar, convert, input_scalar, topological

Axes = tuple[int, ...]


def is_product(equation: Equation) -> bool:
    """Whether there is a kernel for a matrix product."""
    if equation.primitive.name != "matrix_product":
        return False
    x, y = equation.inputs
    if not isinstance(x, Value) or not isinstance(y, Value):
        return False
    return x.dtype == y.dtype and x.dtype in (FLOAT32, FLOAT64) and 0 not in (*x.shape, *y.shape)


class Unfit(Exception):
    """A group does not fit into the epilogue of a product."""


class ProductWriter:
    """Writes the step of one product, with what it can take of a group into its epilogue.

    Args:
        fusion, layouts: of the program.
        equation: the product.
        is_kept: whether somebody besides the group reads the product itself.
    """

    def __init__(self, fusion: Fusion, layouts: Layouts, equation: Equation, is_kept: bool) -> None:
        self.fusion, self.layouts, self.equation, self.is_kept = fusion, layouts, equation, is_kept
        self.out = equation.outputs[0]
        self.batch: Axes = self.out.shape[:-2]
        x = equation.values()[0]
        self.m, self.n, self.k = self.out.shape[-2], self.out.shape[-1], x.shape[-1]
        self.extents = (*self.batch, self.m, self.n)
        self.writer = Writer(layouts)

    def step(self, group: Group | None) -> Step:
        """Return the step that multiplies, and computes the group's arrays from the product.

        Raises:
            Unfit: they cannot be computed there.
        """
        x, y = self.equation.values()
        a, b = self._factor(x), self._factor(y)
        product = input_scalar("product", self.out.dtype)
        elements = NestElements(self.writer, self.fusion.maker, self.extents)
        stores: list[Store] = []
        if group is not None:
            elements.given = {self.out: product}
            elements.inlined = {root.value for root in group.roots}
            stores = [self._stored(elements, root) for root in group.roots]
        if self.is_kept or group is None:
            index = tuple([Affine(0, ((i, 1),)) if n > 1 else Affine(0) for i, n in enumerate(self.extents)])
            stores.insert(0, Store(self._target(elements, self.out, index), product))
        return self._finished(a, b, stores, group)

    def _factor(self, value: Value) -> Access:
        layout = self.layouts.of(value)
        assert layout is not None
        lead = len(self.out.shape) - len(value.shape)
        strides = [0 if n == 1 else s for n, s in zip(value.shape, layout.strides)]
        return Access(self.writer.operand(layout.base), layout.offset, ((0,) * lead + tuple(strides)))

    def _stored(self, elements: NestElements, root: Root) -> Store:
        index = index_in(root, self.extents)
        try:
            scalar = convert(root_scalar(elements, root.equation, index), root.value.dtype)
        except (NeedsSplit, MustStore) as fault:
            raise Unfit from fault
        return Store(self._target(elements, root.value, index), scalar)

    def _target(self, elements: NestElements, value: Value, index: Map) -> Access:
        layout = self.layouts.of(value)
        assert layout is not None
        return elements.access(self.writer.operand(layout.base), layout, index)

    def _finished(self, a: Access, b: Access, stores: list[Store], group: Group | None) -> Step:
        inputs: dict[str, Access | Counter] = {}
        for scalar in topological([store.scalar for store in stores]):
            source = self.writer.sources.get(scalar.payload) if scalar.op == "input" else None
            if source is None:
                continue
            if isinstance(source, Access) and (source.picks or source.inside):
                raise Unfit
            inputs[scalar.payload] = source
        memory = tuple(self.writer.memory)
        names = ["product"] if group is None else ["product", *[r.equation.primitive.name for r in group.roots][:2]]
        product = Product(
            "_".join(dict.fromkeys(names)),
            *(self.batch, self.m, self.n, self.k, a, b),
            tuple([value.dtype for value in memory]),
            dict(sorted(inputs.items())),
            tuple(stores),
        )
        writes = tuple([memory[store.target.operand] for store in stores])
        factors = {memory[a.operand], memory[b.operand]}
        in_place = _in_place(inputs, stores, memory, factors)
        return Step(product, memory, frozenset(memory) - frozenset(writes), writes, in_place)


def _in_place(
    inputs: dict[str, Access | Counter], stores: list[Store], memory: tuple[Value, ...], factors: set[Value]
) -> tuple[tuple[Value, Value], ...]:
    """Return which stored arrays may take the memory of which others: those read just where they are stored."""
    pairs: list[tuple[Value, Value]] = []
    accesses = [source for source in inputs.values() if isinstance(source, Access)]
    for store in stores:
        out, where = memory[store.target.operand], store.target._replace(operand=0)
        for number, value in enumerate(memory):
            loads = [access._replace(operand=0) for access in accesses if access.operand == number]
            alike = (value.shape, value.dtype) == (out.shape, out.dtype)
            if alike and value is not out and value not in factors and loads and all([x == where for x in loads]):
                pairs.append((out, value))
    return tuple(pairs)


def index_in(root: Root, extents: Axes) -> Map:
    """Return the map of a root's space that has the same axes, longer than one, as the loops.

    Raises:
        Unfit: it has others.
    """
    loops = [i for i, n in enumerate(extents) if n > 1]
    if lengths_of(root) != tuple([extents[i] for i in loops]):
        raise Unfit
    places = [Affine(0)] * len(root.extents)
    for axis, loop in zip(root.significant, loops):
        places[axis] = Affine(0, ((loop, 1),))
    return tuple(places)


def work_of(equation: Equation) -> int:
    """Return how many multiplications a product takes."""
    return prod(equation.outputs[0].shape) * equation.values()[0].shape[-1]


__all__ = ["KernelError", "Layout", "ProductWriter", "Scalar", "Unfit", "index_in", "is_product", "work_of"]
