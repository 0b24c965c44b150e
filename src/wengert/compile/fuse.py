"""Fusion: which equations become one loop nest, and which arrays have to be in memory.

*Roots* are what loop nests are made for: reductions, and arrays that somebody needs in memory. Everything else that can
be computed element by element is computed where it is needed. Roots are gathered into *groups*, one nest each: a group
walks the same outer indices, and what it reduces over the rest is at hand for whatever else it computes there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from .expand_builder import REDUCTIONS
from .graph import Equation, Graph, Value
from .lower_elements import Demand, Elements, Inside, MustStore, can_be_computed
from .lower_index import ZERO, Affine, Map, NeedsSplit, own_indices, strides_of
from .lower_layout import Layout, Layouts, placed_in
from .scalar_ir import TYPES, Scalar, input_scalar

Axes = tuple[int, ...]
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
    "exp exp2 expm1 log log2 log10 log1p tanh sin cos tan erf erfc ndtr power sinh cosh".split(), 12.0
)
COSTS.update({"divide": 4.0, "sqrt": 4.0, "constant": 0.0, "convert": 0.5})
ANYWHERE: Map = (Affine(1),)
"""Stands for the map of what is read in no particular order."""
SHIFTING = frozenset("index reverse roll_along pad_constant concatenate_along embed diagonal_of".split())
"""Operations that read an array at other places than those of their results."""
MOST_SINKS = 12
"""How many roots may compute an array's elements, for all that is known before roots are grouped."""
FEW_TIMES, MOST_TIMES = 2, 8
"""At how many places a root may have an array's elements computed: one that costs something, and any."""
LARGE = 1 << 15
"""From so many elements on, arrays are walked row by row if they can be."""
MOST_ROOTS = 48
"""How many arrays one nest may compute: compiling takes time that grows faster than their number."""
SMALL = 1 << 12
"""Up to so many elements, all of an array may be one unit of work."""


def is_reduction(equation: Equation) -> bool:
    """Whether a nest can compute a reduction."""
    if equation.primitive.name not in REDUCTIONS or 0 in equation.values()[0].shape:
        return False
    return all([value.dtype in TYPES for value in (*equation.values(), *equation.outputs)])


class Demands(Elements):
    """Follows a root's elements up to roots, arrays in memory, and the loops they need."""

    def __init__(self, fusion: Fusion, extents: Axes) -> None:
        super().__init__(fusion.maker, extents)
        self.fusion = fusion
        self.leaves: dict[tuple[Value, Any], tuple[Value, Map, Inside]] = {}
        self.visited: dict[Value, int] = {}

    def leaf(self, value: Value, index: Map, inside: Inside) -> Scalar | None:
        """Note what is demanded; its Scalar is a stand-in."""
        if not self.fusion.is_leaf(value):
            times = self.visited.get(value, 0) + 1
            if times > MOST_TIMES or (times > FEW_TIMES and self.fusion.cost(value) > CHEAP):
                raise MustStore(value)
            self.visited[value] = times
            return None
        place = len(self.leaves)
        self.leaves[value, place] = (value, index, inside)
        return input_scalar(f"leaf{place}", value.dtype)

    def through_memory(self, demand: Demand) -> Scalar | None:
        """Note that a view is read as it is in memory: all of what it views has to be there."""
        assert isinstance(demand.operand, Value)
        layout = self.fusion.layouts.as_view(demand.operand)
        if layout is None:
            return None
        place = len(self.leaves)
        self.leaves[layout.base, place] = (layout.base, ANYWHERE, ())
        return input_scalar(f"leaf{place}", demand.operand.dtype)


class Root:
    """An array that a nest computes.

    Attributes:
        extents: of the space that is walked: its own axes or, for a reduction, its operand's. Axes of extent 1 count.
        outer: for a reduction, the axes that are not reduced; None where any may be.
    """

    __slots__ = ("equation", "extents", "is_followed", "leaves", "order", "outer", "scalar", "value", "visited")

    def __init__(self, equation: Equation, order: int) -> None:
        self.equation = equation
        self.order = order
        self.value = equation.outputs[0]
        self.leaves: list[tuple[Value, Map, Inside]] = []
        self.visited: list[Value] = []
        self.is_followed = False
        self.scalar: Any = None
        if is_reduction(equation):
            axis = equation.params["axis"]
            self.extents = equation.values()[0].shape
            self.outer: Axes | None = tuple([i for i, n in enumerate(self.extents) if i not in axis and n > 1])
        else:
            self.extents = self.value.shape
            self.outer = None

    @property
    def is_reduction(self) -> bool:
        """Whether it is one."""
        return self.outer is not None

    @property
    def significant(self) -> Axes:
        """The axes of its space that are longer than one."""
        return tuple([i for i, n in enumerate(self.extents) if n > 1])


class Group:
    """Roots that one nest computes.

    Attributes:
        outer: for each root, the axes of its space that are the nest's outer ones, in their order. A group without
            reductions has all axes outer until it is merged with one that has some.
        rows: whether there is a reduction, so that outer axes are settled.
    """

    __slots__ = ("outer", "roots", "rows")

    def __init__(self, root: Root) -> None:
        self.roots = [root]
        self.rows = root.is_reduction
        self.outer: dict[Root, Axes] = {root: root.significant if root.outer is None else root.outer}


class Fusion:
    """Groups the equations of a graph.

    Args:
        graph: simplified and expanded.
        is_kernel: whether an equation has a kernel of its own.
        effort: FUSED, or SEPARATE: nothing is merged, everything is stored.

    Attributes:
        stored: the arrays that have to be in memory.
        groups: the loop nests.
        others: equations that no nest computes.
    """

    def __init__(self, graph: Graph, is_kernel: Any, guards: dict[Equation, list[Value]], effort: int = FUSED) -> None:
        self.graph = graph
        self.effort = effort
        self.maker = {value: equation for equation in graph.equations for value in equation.outputs}
        self.consumers: dict[Value, list[Equation]] = {}
        for equation in graph.equations:
            for value in equation.values():
                self.consumers.setdefault(value, []).append(equation)
        self.order = {equation: place for place, equation in enumerate(graph.equations)}
        self.mapped = {e for e in graph.equations if not is_kernel(e) and can_be_computed(e)}
        self.reductions = {e for e in graph.equations if not is_kernel(e) and is_reduction(e)}
        self.others = [e for e in graph.equations if e not in self.mapped and e not in self.reductions]
        self.stored: set[Value] = set()
        self.roots: dict[Value, Root] = {}
        self.group_of: dict[Value, Group] = {}
        self.users: dict[Value, list[Any]] = {}
        self.placed: dict[Equation, Value] = {}
        self.layouts = Layouts(self.maker, self.is_leaf)
        self._store(graph.outputs)
        for equation in self.others:
            self.stored.update(equation.outputs)
        for equation in self.others:
            for value in equation.values():
                self._store_for(equation, value)
        if effort == SEPARATE:
            self._store([value for value in self.maker if self.maker[value] in self.mapped])
            return
        self._place_products()
        self._place_reshaped()
        self._store_early()

    def _store_early(self) -> None:
        """Keep in memory what would clearly be computed over and over: this saves following it everywhere first."""
        sinks: dict[Value, frozenset[Value]] = {}
        for equation in reversed(self.graph.equations):
            value = equation.outputs[0]
            if equation not in self.mapped or value in self.stored:
                continue
            consumers = self.consumers.get(value, [])
            found: set[Value] = set()
            for consumer in consumers:
                out = consumer.outputs[0]
                found |= {out} if self.is_leaf(out) else sinks.get(out, frozenset())
            shifted = sum([consumer.primitive.name in SHIFTING for consumer in consumers])
            if len(found) > MOST_SINKS or (len(consumers) > 1 and shifted):
                if self.cost(value) > CHEAP:
                    self.stored.add(value)
            sinks[value] = frozenset(list(found)[: MOST_SINKS + 1])

    def _store_for(self, equation: Equation, value: Value) -> None:
        """Have an operand in memory in a form that an equation can read: as a view of something, where that goes."""
        chain = self.layouts.chain_of(value)
        for place in range(len(chain)):
            known = set(self.stored)
            self._store([chain[place]])
            if self._is_at_hand(equation, value) and self.layouts.of(chain[0] if place == 0 else value) is not None:
                return
            self.stored = known
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
        return plain or equation.primitive.name not in WINDOWS

    def is_leaf(self, value: Value) -> bool:
        """Whether elements of an array are loaded rather than computed."""
        return value not in self.maker or value in self.stored or self.maker[value] in self.reductions

    def run(self) -> list[Group]:
        """Choose roots and group them."""
        for turn in range(4):
            self._find_roots()
            self.group_of = {}
            for root in self.roots.values():
                self.group_of[root.value] = Group(root)
            self._note_users()
            if self.effort == SEPARATE:
                break
            self._merge_all()
            if turn == 3 or not self._store_what_costs():
                break
        return self.groups

    @property
    def groups(self) -> list[Group]:
        """All groups, in order of their first roots."""
        return list(dict.fromkeys(self.group_of.values()))

    # Roots and what they demand.

    def _find_roots(self) -> None:
        """Follow all roots; what turns out to have to be in memory becomes one, and what reads it is followed anew."""
        for equation in self.graph.equations:
            value = equation.outputs[0]
            if value not in self.roots and (equation in self.reductions or self._is_stored_map(equation)):
                self.roots[value] = Root(equation, self.order[equation])
        pending = [root for root in self.roots.values() if not root.is_followed or self._is_outdated(root)]
        while pending:
            for root in pending:
                try:
                    self._follow(root)
                    root.is_followed = True
                except MustStore as must:
                    root.is_followed = False
                    self.stored.add(must.value)
                    equation = self.maker[must.value]
                    if must.value not in self.roots and equation in self.mapped:
                        self.roots[must.value] = Root(equation, self.order[equation])
            pending = [root for root in self.roots.values() if not root.is_followed or self._is_outdated(root)]
        self.roots = dict(sorted(self.roots.items(), key=_order_of))

    def _is_outdated(self, root: Root) -> bool:
        """Whether something that a root computes on its way has come into memory."""
        return any([value in self.stored and value is not root.value for value in root.visited])

    def _is_stored_map(self, equation: Equation) -> bool:
        return equation in self.mapped and equation.outputs[0] in self.stored

    def _follow(self, root: Root) -> None:
        """Find out what a root demands."""
        extents = list(root.extents)
        demands = Demands(self, tuple(extents))
        index = own_indices(extents)
        try:
            root.scalar = root_scalar(demands, root.equation, index)
        except NeedsSplit:
            root.leaves, root.visited = _split_leaves(self, root)
            return
        root.leaves = list(demands.leaves.values())
        root.visited = list(demands.visited)

    # Groups.

    def epilogues_of(self, equation: Equation, taken: set[Group]) -> list[Group]:
        """Return the groups that could be computed along with an equation that has a kernel, as they read its result.

        These are groups of plain arrays with as many elements, at the same places, that nothing has to come before
        that comes after the equation.
        """
        found: dict[Group, None] = {}
        if self.effort == SEPARATE:
            return []
        out = equation.outputs[0]
        for user in self.users.get(out, ()):
            if not isinstance(user, Root):
                continue
            group = self.group_of[user.value]
            if group.rows or group in taken or group in found:
                continue
            if all([self._follows(root, out) for root in group.roots]):
                if not self._path_to(equation, group) and not self._path_from(group, equation):
                    found[group] = None
        return list(found)

    def _follows(self, root: Root, out: Value) -> bool:
        """Whether a root's elements are made from those of a value at the same places, if from any."""
        if lengths_of(root) != tuple([n for n in out.shape if n > 1]):
            return False
        for leaf, index, inside in root.leaves:
            if leaf is out:
                axes = _axes_of(index, out.shape, root.extents)
                if inside or axes is None or tuple([a for a in axes if a >= 0]) != root.significant:
                    return False
        return True

    def _path_to(self, equation: Equation, group: Group) -> bool:
        """Whether something outside of a group needs an equation's result and is needed by the group."""
        return self._reaches(self.results_of(equation), group, group)

    def _path_from(self, group: Group, equation: Equation) -> bool:
        """Whether an equation needs something of a group."""
        return self._reaches(self._results_in(group), equation, None)

    def _results_in(self, group: Group) -> list[Value]:
        return [value for root in group.roots for value in self.results_of(root.equation)]

    def _reaches(self, values: list[Value], target: Any, direct: Any) -> bool:
        """Whether users of values lead to a target; not counting `direct` as a user of the values themselves."""
        pending, seen = list(values), set[Any]()
        first = set(values)
        while pending:
            value = pending.pop()
            for user in self.users.get(value, ()):
                item: Any = self.group_of[user.value] if isinstance(user, Root) else user
                if item is target and not (value in first and item is direct):
                    return True
                if item in seen or item is target:
                    continue
                seen.add(item)
                if isinstance(item, Group):
                    pending.extend(self._results_in(item))
                else:
                    pending.extend(self.results_of(item))
        return False

    def _merge_all(self) -> None:
        for root in self.roots.values():
            for leaf, index, inside in root.leaves:
                if leaf in self.roots and not inside:
                    self._try_merge(self.group_of[leaf], leaf, self.group_of[root.value], root, index)
        self._merge_siblings()

    def _note_users(self) -> None:
        """List, for each array in memory, the roots and equations that read it."""
        self.users = {}
        for root in self.roots.values():
            for leaf, _, _ in root.leaves:
                self.users.setdefault(leaf, []).append(root)
        for equation in self.others:
            for value in equation.values():
                self.users.setdefault(self.layouts.base_of(value), []).append(equation)

    def _try_merge(self, first: Group, leaf: Value, second: Group, root: Root, index: Map) -> None:
        """Merge the group of a root and that of an array that it reads, if one nest can compute both."""
        if first is second:
            return
        member = self.roots[leaf]
        axes = _axes_of(index, leaf.shape, root.extents)
        if axes is None:
            return
        to_root = dict(zip(_result_axes(member), [a for a, n in zip(axes, leaf.shape) if n > 1]))
        outer = {**first.outer, **second.outer}
        if first.rows and not second.rows:
            theirs = tuple([to_root[axis] for axis in first.outer[member]])
            if not self._reframe(second, root, theirs, outer):
                return
        elif second.rows and not first.rows:
            to_member = {theirs: mine for mine, theirs in to_root.items()}
            if any([axis not in to_member for axis in second.outer[root]]):
                return
            mine = tuple([to_member[axis] for axis in second.outer[root]])
            if not self._reframe(first, member, mine, outer):
                return
        self._merge(first, second, outer)

    def _reframe(self, group: Group, root: Root, axes: Axes, outer: dict[Root, Axes]) -> bool:
        """Let a group of plain arrays walk only some axes as outer ones, if that is as good."""
        extents = lengths_of(root)
        if not axes and root.value.size > SMALL:
            return False  # a single outer index leaves nothing to do in parallel
        if axes and axes[-1] == root.significant[-1] and len(axes) < len(root.significant):
            if root.value.size >= LARGE:
                return False  # memory is better walked row by row
        places = [root.significant.index(axis) for axis in axes]
        for other in group.roots:
            if lengths_of(other) != extents:
                return False
            outer[other] = tuple([other.significant[place] for place in places])
        return True

    def _merge(self, first: Group, second: Group, outer: dict[Root, Axes]) -> bool:
        """Merge two groups, unless their roots don't fit together or something in between needs one of them first."""
        roots = [*first.roots, *second.roots]
        if len(roots) > MOST_ROOTS or not self._consistent(roots, outer):
            return False
        if self._path_between(first, second) or self._path_between(second, first):
            return False
        first.roots = sorted(roots, key=_root_order)
        first.outer = outer
        first.rows = first.rows or second.rows
        for root in second.roots:
            self.group_of[root.value] = first
        return True

    def _consistent(self, roots: list[Root], outer: dict[Root, Axes]) -> bool:
        """Whether everything that one root reads of another is at the indices where a common nest has it."""
        members = {root.value: root for root in roots}
        lengths = {tuple([root.extents[axis] for axis in outer[root]]) for root in roots}
        if len(lengths) > 1:
            return False
        for root in roots:
            for leaf, index, inside in root.leaves:
                member = members.get(leaf)
                if member is not None and (inside or not _in_step(member, root, index, outer)):
                    return False
        return True

    def _path_between(self, source: Group, target: Group) -> bool:
        """Whether something outside of both needs the first and is needed by the second."""
        last = target.roots[-1].order  # nothing that is all later can be needed by it
        pending: list[Any] = list(source.roots)
        seen: set[Any] = set()
        while pending:
            item = pending.pop()
            values = self.results_of(item if isinstance(item, Equation) else item.equation)
            for value in values:
                for user in self.users.get(value, ()):
                    group = self.group_of[user.value] if isinstance(user, Root) else user
                    if group is source or group in seen or self._first_order(group) > last:
                        continue
                    if group is target:
                        if item in source.roots:
                            continue
                        return True
                    seen.add(group)
                    if isinstance(group, Group):
                        pending.extend(group.roots)
                    else:
                        pending.append(group)
        return False

    def _first_order(self, item: Any) -> int:
        return item.roots[0].order if isinstance(item, Group) else self.order[item]

    def _merge_siblings(self) -> None:
        """Merge groups that walk the same indices and read the same arrays."""
        by_leaf: dict[Value, list[Root]] = {}
        for root in self.roots.values():
            for leaf, _, _ in root.leaves:
                if leaf.size > 1:
                    by_leaf.setdefault(leaf, []).append(root)
        for readers in by_leaf.values():
            for one, other in itertools.pairwise(readers):
                first, second = self.group_of[one.value], self.group_of[other.value]
                if first is second or first.rows != second.rows or one.extents != other.extents:
                    continue
                if first.outer[one] != second.outer[other] or (first.rows and not first.outer[one]):
                    continue
                self._merge(first, second, {**first.outer, **second.outer})

    def _store_what_costs(self) -> bool:
        """Keep in memory what several groups would compute, unless that is cheap. Returns whether something was new."""
        groups: dict[Value, set[Group]] = {}
        for root in self.roots.values():
            for value in root.visited:
                groups.setdefault(value, set()).add(self.group_of[root.value])
        new: list[Value] = []
        for value, users in groups.items():
            if len(users) > 1 and value not in self.stored and self.cost(value) > CHEAP:
                new.append(value)
        # The last of a chain suffices: what it is made of is then computed once.
        made_of = {operand for value in new for operand in self._inlined_operands(value, set(new))}
        chosen = [value for value in new if value not in made_of or self._escapes(value, new, groups)]
        self.stored.update(chosen)
        return bool(chosen)

    def _inlined_operands(self, value: Value, among: set[Value]) -> set[Value]:
        return {operand for operand in self.maker[value].values() if operand in among}

    def _escapes(self, value: Value, new: list[Value], groups: dict[Value, set[Group]]) -> bool:
        """Whether somebody needs a value other than through one that is kept anyway."""
        among = set(new)
        for equation in self.consumers.get(value, ()):
            if (equation.outputs[0] not in among and equation.outputs[0] in groups) or equation in self.reductions:
                return True
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


_FREE = frozenset("reshape_to permute stretch reverse index diagonal_of cast embed".split())


def _default_cost(equation: Equation) -> float:
    if equation.primitive.name in _FREE:
        return 0.0
    simple = frozenset("add subtract multiply negative equal not_equal less less_equal where maximum minimum".split())
    return 1.0 if equation.primitive.name in simple else 3.0


def _order_of(item: tuple[Value, Root]) -> int:
    return item[1].order


def _root_order(root: Root) -> int:
    return root.order


def _result_axes(root: Root) -> Axes:
    """Return the axes of a root's space, longer than one, that its array has, in order."""
    return root.significant if root.outer is None else root.outer


def lengths_of(root: Root) -> Axes:
    """Return the extents of a root's space that are longer than one."""
    return tuple([n for n in root.extents if n > 1])


def _axes_of(index: Map, shape: Axes, extents: Axes) -> Axes | None:
    """Return the loop that walks each axis of an array from end to end (-1 for axes of one), or None if not so."""
    axes: list[int] = []
    for entry, extent in zip(index, shape):
        if extent == 1:
            axes.append(-1)
            continue
        if entry.picks or entry.offset or len(entry.terms) != 1:
            return None
        axis, coefficient = entry.terms[0]
        if coefficient != 1 or axis in axes or extents[axis] != extent:
            return None
        axes.append(axis)
    return tuple(axes)


def _in_step(member: Root, root: Root, index: Map, outer: dict[Root, Axes]) -> bool:
    """Whether a root reads a member of its own nest only where that is being computed."""
    axes = _axes_of(index, member.value.shape, root.extents)
    if axes is None:
        return False
    to_root = dict(zip(_result_axes(member), [a for a, n in zip(axes, member.value.shape) if n > 1]))
    if any([axis not in to_root for axis in outer[member]]):
        return False
    if tuple([to_root[axis] for axis in outer[member]]) != outer[root]:
        return False
    inner = [axis for axis in _result_axes(member) if axis not in outer[member]]
    return not inner or [to_root[axis] for axis in inner] == [a for a in root.significant if a not in outer[root]]


def root_scalar(elements: Elements, equation: Equation, index: Map) -> Any:
    """Return the Scalar of a root: of an element, or of what is reduced (`index` is into the operand then)."""
    if is_reduction(equation):
        return elements.element(equation.values()[0], index)
    return elements.computed(equation.outputs[0], index)


def _split_leaves(fusion: Fusion, root: Root) -> tuple[list[tuple[Value, Map, Inside]], list[Value]]:
    """Return what a root demands whose loops will have to be divided: only which arrays, not where."""
    extents = list(root.extents)
    positions = [[i] for i in range(len(extents))]
    while True:
        demands = Demands(fusion, tuple(extents))
        index = divided_indices(extents, positions)
        try:
            root_scalar(demands, root.equation, index)
        except NeedsSplit as need:
            divide(extents, positions, need.axis, need.inner)
            continue
        return [(v, ANYWHERE, inside) for v, _, inside in demands.leaves.values()], list(demands.visited)


def divided_indices(extents: list[int], positions: list[list[int]]) -> Map:
    """Return the map of an array whose axes are each walked by one loop or several."""
    out = []
    for loops in positions:
        place, step = ZERO, 1
        for loop in reversed(loops):
            if extents[loop] > 1:
                place = place.plus(Affine(0, ((loop, step),)))
            step *= extents[loop]
        out.append(place)
    return tuple(out)


def divide(extents: list[int], positions: list[list[int]], loop: int, inner: int) -> None:
    """Replace a loop by two, the inner one of a given extent; loops after it are renumbered."""
    extents[loop : loop + 1] = [extents[loop] // inner, inner]
    for loops in positions:
        renumbered = [i + (i > loop) for i in loops]
        if loop in loops:
            renumbered.insert(renumbered.index(loop) + 1, loop + 1)
        loops[:] = renumbered
