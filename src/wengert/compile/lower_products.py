"""Lowering of products and convolutions: what follows them is fused into their epilogues."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .fuse import Fusion
from .fuse_groups import Group, Root, lengths_of
from .fuse_roots import root_scalar
from .fuse_storage import WINDOWS
from .graph import Equation, Value
from .llvm.convolution_product import After
from .llvm.convolution_steps import Steps, fused_convolution, steps_for
from .llvm.products import Product
from .llvm.products_layout import gains_by_rounding
from .llvm.recipes import Recipe
from .lower import NestElements, Step, Writer
from .lower_elements import MustStore
from .lower_index import Affine, Map, NeedsSplit
from .lower_layout import Layouts
from .lower_nests import COSTLY, common_offsets, shifted
from .nests import Access, Counter, Store
from .scalar_ir import FLOAT32, FLOAT64, Scalar, ScalarFunction, convert, input_scalar, topological
from .scalar_math import lower

Axes = tuple[int, ...]


def is_product(equation: Equation) -> bool:
    """Whether there is a kernel for a matrix product."""
    if equation.primitive.name != "matrix_product":
        return False
    x, y = equation.inputs
    if not isinstance(x, Value) or not isinstance(y, Value):
        return False
    return x.dtype == y.dtype and x.dtype in (FLOAT32, FLOAT64) and 0 not in (*x.shape, *y.shape)


MOST_OPERATIONS = 160
"""How long an epilogue may be; a derivative of the exact gelu costs half as much again in there as in a nest."""


class Unfit(Exception):
    """A group does not fit into the epilogue of a product."""


class EpilogueWriter:
    """Writes the step of one equation that has a kernel, with what it can take of a group into its epilogue.

    Args:
        fusion, layouts: of the program.
        equation: the product or convolution.
        is_kept: whether somebody besides the group reads its result.
        narrow: whether its factors are rounded to bfloat16 where that is worth it.
    """

    def __init__(
        self, fusion: Fusion, layouts: Layouts, equation: Equation, is_kept: bool, narrow: bool = False
    ) -> None:
        self.fusion, self.layouts, self.equation, self.is_kept = fusion, layouts, equation, is_kept
        self.narrow = narrow
        self.out = equation.outputs[0]
        self.extents: Axes = self.out.shape
        self.writer = Writer(layouts)

    def step(self, group: Group | None) -> Step:
        """Return the step that computes the equation, and the group's arrays from its result.

        Raises:
            Unfit: they cannot be computed there.
        """
        factors = [self._factor(value) for value in self.equation.values()]
        product = input_scalar("product", self.out.dtype)
        elements = NestElements(self.writer, self.fusion.maker, self.extents)
        stores: list[Store] = []
        if group is not None:
            elements.given = {self.out: product}
            elements.inlined = {root.value for root in group.roots}
            stores = [self._stored(elements, root) for root in group.roots]
            _demand_short(stores)
        if self.is_kept or group is None:
            index = tuple([Affine(0, ((i, 1),)) if n > 1 else Affine(0) for i, n in enumerate(self.extents)])
            stores.insert(0, Store(self._target(elements, self.out, index), product))
        inputs = self._inputs(stores)
        memory = tuple(self.writer.memory)
        writes = tuple([memory[store.target.operand] for store in stores])
        in_place = _in_place(inputs, stores, memory, {memory[factor.operand] for factor in factors})
        accesses = [*factors, *[s for s in inputs.values() if isinstance(s, Access)], *[s.target for s in stores]]
        offsets = common_offsets(accesses, len(memory))
        factors = [shifted(factor, offsets) for factor in factors]
        inputs = {n: shifted(s, offsets) if isinstance(s, Access) else s for n, s in inputs.items()}
        stores = [store._replace(target=shifted(store.target, offsets)) for store in stores]
        record = self._record(factors, inputs, tuple(stores), group)
        return Step(record, memory, frozenset(memory) - frozenset(writes), writes, in_place, offsets=offsets)

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

    def _inputs(self, stores: list[Store]) -> dict[str, Access | Counter]:
        inputs: dict[str, Access | Counter] = {}
        for scalar in topological([store.scalar for store in stores]):
            source = self.writer.sources.get(scalar.payload) if scalar.op == "input" else None
            if source is None:
                continue
            if isinstance(source, Access) and (source.picks or source.inside):
                raise Unfit
            inputs[scalar.payload] = source
        return dict(sorted(inputs.items()))

    def _record(
        self, factors: list[Access], inputs: dict[str, Access | Counter], stores: tuple[Store, ...], group: Group | None
    ) -> Any:
        raise NotImplementedError

    def _name(self, first: str, group: Group | None) -> str:
        names = [] if group is None else [root.equation.primitive.name for root in group.roots][:2]
        return "_".join(dict.fromkeys([first, *names]))


def _demand_short(stores: list[Store]) -> None:
    """Refuse what is so long that its values leave no registers to the tiles of the product."""
    if _length(tuple([store.scalar for store in stores])) > MOST_OPERATIONS:
        raise Unfit


@lru_cache(256)
def _length(scalars: tuple[Scalar, ...]) -> int:
    """Return how many machine operations compute Scalars; 0 if no function of mathematics is among them."""
    order = topological(scalars)
    if not any([scalar.op in COSTLY for scalar in order]):
        return 0
    inputs = tuple([scalar for scalar in order if scalar.op == "input"])
    function, _ = lower(ScalarFunction("epilogue", inputs, scalars), anywhere=True)
    return len(topological(function.outputs))


class ProductWriter(EpilogueWriter):
    """Writes the step of a matrix product."""

    def _record(
        self, factors: list[Access], inputs: dict[str, Access | Counter], stores: tuple[Store, ...], group: Group | None
    ) -> Product:
        *batch, m, n = self.extents
        k = self.equation.values()[0].shape[-1]
        dtypes = tuple([value.dtype for value in self.writer.memory])
        a, b = factors
        product = Product(self._name("product", group), tuple(batch), m, n, k, a, b, dtypes, inputs, stores)
        if self.narrow and gains_by_rounding(product):
            return product._replace(name=self._name("product_bfloat16", group), narrow=True)
        return product


class ConvolutionWriter(EpilogueWriter):
    """Writes the step of a convolution."""

    def _record(
        self, factors: list[Access], inputs: dict[str, Access | Counter], stores: tuple[Store, ...], group: Group | None
    ) -> Recipe:
        if [factor.operand for factor in factors] != [0, 1]:
            raise Unfit
        if any([s.operand == 1 for s in [*inputs.values(), *[st.target for st in stores]] if isinstance(s, Access)]):
            raise Unfit  # there the kernel may have packed weights
        shapes = [value.shape for value in self.equation.values()]
        after = After(inputs, stores, tuple([value.dtype for value in self.writer.memory]))
        return fused_convolution(shapes, self.out.dtype, self.equation.params, after, self.narrow)


def kernels_for(equation: Equation, narrow: bool = False) -> Steps | None:
    """Return the kernels of a convolution or a pooling, or None if there are none; `narrow` as for a Program."""
    if equation.primitive.name not in WINDOWS:
        return None
    values = equation.values()
    if len(values) != len(equation.inputs) or len(equation.outputs) != 1 or len({value.dtype for value in values}) != 1:
        return None
    if len(values[0].shape) < 3:
        return None
    return steps_for(equation.primitive.name, [v.shape for v in values], values[0].dtype, equation.params, narrow)


def window_steps(layouts: Layouts, equation: Equation, steps: Steps) -> list[Step]:
    """Return the steps of a convolution or a pooling on arrays as they are."""
    out = equation.outputs[0]
    places = [layouts.of(value) for value in equation.values()]
    bases = [place.base for place in places if place is not None]
    operands = [*bases, out, Value((steps.temporary,), out.dtype)]
    made: list[Step] = []
    for recipe, places in zip(steps.recipes, steps.operands):
        memory = tuple([operands[place] for place in places])
        reads, writes = memory[:-1], (memory[-1],)
        made.append(Step(recipe, memory, frozenset(reads), writes))
    return made


def with_packed_weights(fused: Step, plain: list[Step]) -> Step:
    """Return a convolution's step with an epilogue, with the packed weights that the last of its plain steps has."""
    memory = (fused.memory[0], plain[-1].memory[1], *fused.memory[2:])
    offsets = (fused.offsets[0], 0, *fused.offsets[2:]) if len(plain) > 1 and fused.offsets else fused.offsets
    return fused._replace(memory=memory, reads=frozenset(memory) - frozenset(fused.writes), offsets=offsets)


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
