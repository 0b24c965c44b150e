"""Which arrays of a graph have to be in memory, and in whose: what is known before loop nests are formed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import lower_picks, lower_views
from .expand_attention import ATTENTION
from .fuse_forms import Forms
from .fuse_groups import is_reduction
from .fuse_slopes import early_factors
from .graph import Equation, Graph, Value
from .loops import is_loop
from .lower_elements import can_be_computed
from .lower_index import strides_of
from .lower_layout import Layout, Layouts, placed_in
from .simplify import uniform

FAMILIES = (lower_picks, lower_views)
"""Modules that declare what fuses besides elementwise operations."""
FUSED, SEPARATE, HOST = 2, 1, 0
"""How much is done to make a program fast; less where more has failed."""
WINDOWS = frozenset(
    """convolve convolve_transpose_x convolve_transpose_weight max_pool max_pool_transpose max_pool_take sum_pool
    sum_pool_transpose""".split()
)
"""Operations with kernels of their own that read arrays as they are, not views of them."""
CHEAP = 2.5
"""What computing an element may cost, in simple operations, to be done again rather than kept in memory."""
COSTS: dict[str, float] = dict.fromkeys(
    """exp exp2 expm1 log log2 log10 log1p tanh sin cos tan erf erfc ndtr power sinh cosh
    sigmoid sigmoid_slope sech_squared softplus log_sigmoid gelu gelu_tanh silu""".split(),
    12.0,
)
COSTS.update({"divide": 4.0, "sqrt": 4.0, "constant": 0.0, "convert": 0.5})
MANY_TIMES = 4
"""From so many rows on, a row that they share is kept in memory if it costs much."""
SHORT = 32
"""Rows shorter than this are better computed as one, before they are reduced, if what is computed costs much..."""
MANY, FITTING = 1 << 12, 1 << 22
"""...and if there are so many elements, and no more bytes than caches hold: they are written and read once more."""
SHIFTING = frozenset("index reverse roll_along pad_constant concatenate_along embed diagonal_of".split())
"""Operations that read an array at other places than those of their results."""
MOST_SINKS = 12
"""How many roots may compute an array's elements, for all that is known before roots are grouped."""


class Storage:
    """Sorts the equations of a graph, and decides which arrays are in memory.

    Args:
        graph: simplified and expanded.
        is_kernel: whether an equation has a kernel of its own.
        effort: FUSED, or SEPARATE: nothing is merged, everything is stored.

    Attributes:
        mapped, reductions: equations that nests compute: element by element, and by reducing.
        others: equations that no nest computes.
        stored: the arrays that have to be in memory.
        flat: those of them that are not computed row by row, though their readers are.
        early: those of them that are not computed with their readers, but with what comes of the same elements.
        forms: of what computes the same of other arrays.
        placed: for equations whose result is a view of an array that is made from it: that array.
    """

    def __init__(self, graph: Graph, is_kernel: Callable[[Equation], bool], effort: int = FUSED) -> None:
        self.graph = graph
        self.effort = effort
        self.maker = {value: equation for equation in graph.equations for value in equation.outputs}
        self.consumers: dict[Value, list[Equation]] = {}
        for equation in graph.equations:
            for value in equation.values():
                self.consumers.setdefault(value, []).append(equation)
        self.order = {equation: place for place, equation in enumerate(graph.equations)}
        loops = [equation for equation in graph.equations if not is_kernel(equation)]
        self.mapped = {equation for equation in loops if can_be_computed(equation)}
        self.reductions = {equation for equation in loops if is_reduction(equation)}
        self.others = [e for e in graph.equations if e not in self.mapped and e not in self.reductions]
        self.stored: set[Value] = set()
        self.flat: set[Value] = set()
        self.early: set[Value] = set()
        self.placed: dict[Equation, Value] = {}
        self.layouts = Layouts(self.maker, self.is_leaf)
        self._store(graph.outputs)
        for equation in self.others:
            self.stored.update(equation.outputs)
        for equation in self.others:
            for value in equation.values():
                self._store_for(equation, value)
        self.forms = Forms(self.mapped, self.stored, self.layouts)
        if effort == SEPARATE:
            self._store([value for value in self.maker if self.maker[value] in self.mapped])
            return
        self._place_products()
        self._place_reshaped()
        self.early.update(early_factors(self, COSTS))
        self.stored |= self.early
        self._store_early()

    def _store_early(self) -> None:
        """Keep in memory what would clearly be computed over and over: this saves following it everywhere first."""
        sinks: dict[Value, frozenset[Value]] = {}
        for equation in reversed(self.graph.equations):
            value = equation.outputs[0]
            if equation not in self.mapped or value in self.stored:
                continue
            consumers = self.consumers.get(value, [])
            found: frozenset[Value] = frozenset()
            for consumer in consumers:
                out = consumer.outputs[0]
                theirs = frozenset((out,)) if self.is_leaf(out) else sinks.get(out, found)
                found = found | theirs if found else theirs
            shifted = len(consumers) > 1 and any([consumer.primitive.name in SHIFTING for consumer in consumers])
            if len(found) > MOST_SINKS or shifted:
                if self.cost(value) > CHEAP:
                    self._store_origin(value)
            elif any([_is_repeated(value, consumer) for consumer in consumers]) and self.is_costly(value):
                self.stored.add(value)
            elif any([self._wastes_lanes(value, consumer) for consumer in consumers]) and self.is_costly(value):
                self.stored.add(value)
                self.flat.add(value)
            sinks[value] = found if len(found) <= MOST_SINKS else frozenset(list(found)[: MOST_SINKS + 1])

    def _store_origin(self, value: Value) -> None:
        """Keep a value in memory; or, if it is quickly made of an array that others need as well, that array.

        So a stencil reads the field itself under conditions, and not a padded copy of it.
        """
        while True:
            equation = self.maker[value]
            source = _quick_source(equation)
            if source is None or (source in self.maker and self.maker[source] not in self.mapped):
                break
            shared = equation.primitive.name == "pad_constant" or len(self.consumers[source]) > 1
            if not shared or source.dtype != value.dtype:
                break
            if source in self.stored or source not in self.maker:
                return
            value = source
        self.stored.add(value)

    def _store_for(self, equation: Equation, value: Value) -> None:
        """Have an operand in memory in a form that an equation can read: as a view of something, where that goes."""
        chain = self.layouts.chain_of(value)
        for place in range(len(chain)):
            was_stored = chain[place] in self.stored
            self._store([chain[place]])
            if self._is_at_hand(equation, value) and self.layouts.of(chain[0] if place == 0 else value) is not None:
                return
            if not was_stored:
                self.stored.discard(chain[place])
        self._store([value])

    def _place_products(self) -> None:
        """Let products whose result is only wanted in another order of axes write it that way."""
        for equation in self.others:
            if equation.primitive.name != "matrix_product":
                continue
            chain = [equation.outputs[0]]
            while chain[-1] not in self.graph.outputs and (chain[-1] not in self.stored or len(chain) == 1):
                users = self.consumers.get(chain[-1], [])
                if len(users) != 1 or users[0].primitive.name not in ("permute", "reshape_to"):
                    break
                if users[0] not in self.mapped:
                    break
                chain.append(users[0].outputs[0])
            target = chain[-1]
            if len(chain) == 1 or target not in self.stored:
                continue
            layout = placed_in([self.maker[value] for value in chain[1:]])
            if layout is not None:
                self.layouts.placed[chain[0]] = layout
                self.placed[equation] = target
                self.mapped.discard(self.maker[target])

    def _place_reshaped(self) -> None:
        """Let what is only reshaped at the end be computed in the memory of its reshape."""
        for out in dict.fromkeys(self.graph.outputs):
            equation = self.maker.get(out)
            if equation is None or equation.primitive.name != "reshape_to" or equation not in self.mapped:
                continue
            source = equation.values()[0]
            made = self.maker.get(source)
            if out in self.consumers:
                continue  # who reads it would not be known to read what is being computed
            if made in self.mapped and source not in self.stored and self.consumers[source] == [equation]:
                self.layouts.placed[source] = Layout(out, 0, strides_of(source.shape))
                self.placed[made] = out
                self.stored.add(source)
                self.mapped.discard(equation)

    def results_of(self, equation: Equation) -> list[Value]:
        """Return the arrays in memory that an equation makes: its result, or what that is a view of."""
        placed = self.placed.get(equation)
        return [*equation.outputs] if placed is None else [*equation.outputs, placed]

    def _store(self, values: Iterable[Value]) -> None:
        self.stored.update([value for value in values if value in self.maker])

    def _is_at_hand(self, equation: Equation, value: Value) -> bool:
        """Whether an equation can read an operand as it is in memory: only products know what to do with views."""
        layout = self.layouts.of(value)
        if layout is None:
            return False
        plain = layout.base is value or (layout.strides == strides_of(value.shape) and not layout.offset)
        if equation.primitive.name in ATTENTION:
            return layout.strides[-1] == 1
        return plain or (equation.primitive.name not in WINDOWS and not is_loop(equation))

    def is_leaf(self, value: Value) -> bool:
        """Whether elements of an array are loaded rather than computed."""
        return value not in self.maker or value in self.stored or self.maker[value] in self.reductions

    def _wastes_lanes(self, value: Value, consumer: Equation) -> bool:
        """Whether a consumer reduces rows that are so short that vectors are filled badly, and many of them."""
        if consumer not in self.reductions or value.size < MANY or value.nbytes > FITTING:
            return False
        return consumer.params["axis"] == (len(value.shape) - 1,) and 1 < value.shape[-1] < SHORT

    def is_costly(self, value: Value) -> bool:
        """Whether a function like exp or tanh is computed on the way from arrays in memory to a value."""
        pending, seen = [value], set[Value]()
        while pending:
            item = pending.pop()
            if item in seen or item.constant is not None or (item is not value and self.is_leaf(item)):
                continue
            seen.add(item)
            equation = self.maker[item]
            if COSTS.get(equation.primitive.name, 0.0) > COSTS["divide"]:
                return True
            pending.extend(equation.values())
        return False

    def cost(self, value: Value) -> float:
        """Return what an element costs to compute from arrays in memory."""
        total = 0.0
        pending, seen = [value], set[Value]()
        while pending and total <= CHEAP:
            item = pending.pop()
            if item in seen or item.constant is not None:
                continue
            seen.add(item)
            if item is not value and self.is_leaf(item):
                continue
            equation = self.maker[item]
            total += COSTS.get(equation.primitive.name, _default_cost(equation))
            pending.extend(equation.values())
        return total


def _is_repeated(value: Value, consumer: Equation) -> bool:
    """Whether a consumer has a row of elements computed for each of many rows of its own.

    What is the same all along the last axis is not meant: loops compute that once.
    """
    shape, own = consumer.outputs[0].shape, value.shape
    if shape == own:
        return False
    if not own or own[-1] == 1 or shape[-1:] != own[-1:]:
        return False
    return consumer.outputs[0].size >= MANY_TIMES * value.size


def _quick_source(equation: Equation) -> Value | None:
    """Return the array that an equation makes its result of by padding it, or by one operation with a number."""
    operands = [operand for operand in equation.inputs if uniform(operand) is None]
    if equation.primitive.name not in ("pad_constant", "multiply", "add", "subtract", "negative") or len(operands) != 1:
        return None
    source = operands[0]
    if not isinstance(source, Value) or source.constant is not None:
        return None
    return source if equation.primitive.name == "pad_constant" or source.shape == equation.outputs[0].shape else None


_FREE = frozenset("reshape_to permute stretch reverse index diagonal_of cast embed pad_constant".split())


def _default_cost(equation: Equation) -> float:
    if equation.primitive.name in _FREE:
        return 0.0
    simple = frozenset("add subtract multiply negative equal not_equal less less_equal where maximum minimum".split())
    return 1.0 if equation.primitive.name in simple else 3.0
