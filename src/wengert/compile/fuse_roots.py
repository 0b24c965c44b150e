"""What roots demand: followed through everything that is computed on the way, up to arrays in memory."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from .expand_builder import is_elementwise
from .fuse_forms import Spelled
from .fuse_groups import Axes, Root, is_reduction
from .fuse_storage import CHEAP, Storage
from .graph import Equation, Operand, Value
from .lower_elements import Demand, Elements, Inside, MustStore, broadcast_map
from .lower_index import ZERO, Affine, Map, NeedsSplit, NotAffine, own_indices
from .scalar_ir import BOOL, Scalar, stand_in

ANYWHERE: Map = (Affine(1),)
"""Stands for the map of what is read in no particular order."""
FEW_TIMES, MOST_TIMES = 2, 8
"""At how many places a root may have an array's elements computed: one that costs much, and one that is not free."""


class _Waiting(NamedTuple):
    """A handler that has asked for an element."""

    key: Any
    asked: Demand
    handler: Generator[Demand, Any, Any]


class Demands(Elements):
    """Follows a root's elements up to roots, arrays in memory, and the loops they need."""

    def __init__(self, storage: Storage, extents: Axes) -> None:
        super().__init__(storage.maker, extents)
        self.storage = storage
        self.leaves: dict[tuple[Value, Any], tuple[Value, Map, Inside]] = {}
        self.visited: dict[Value, int] = {}

    def computed(self, value: Value, index: Map) -> Any:
        """Follow an array's elements, computed even if it could be loaded."""
        tasks: list[Any] = []
        self._begin(None, Demand(value, index), tasks)
        return self._followed(tasks)

    def element(self, operand: Operand, index: Map, inside: Inside = ()) -> Any:
        """Follow an operand's elements."""
        return self._followed([Demand(operand, index, inside)])

    def _followed(self, tasks: list[Any]) -> Any:
        """Work through tasks, the last one first: demands, handlers that wait for an answer, and answers."""
        result: Any = None
        while tasks:
            task = tasks.pop()
            if type(task) is Demand:
                key, result = self._known(task)
                if result is None:
                    self._begin(key, task, tasks)
            elif type(task) is _Waiting:
                try:
                    demand = task.handler.send(result)
                except StopIteration as stop:
                    result = stop.value
                except NotAffine as fault:
                    result = self._otherwise(task.asked, fault)
                else:
                    tasks += task, demand
                    continue
                if task.key is not None:
                    self._memo[task.key] = result
            else:
                result = task
        return result

    def _begin(self, key: Any, asked: Demand, tasks: list[Any]) -> None:
        """Add what an element takes; elementwise operations, which most are, demand no more than their operands."""
        value, index, inside = asked
        assert isinstance(value, Value)
        equation = self.maker[value]
        if not is_elementwise(equation.primitive):
            tasks.append(_Waiting(key, asked, self._handler(asked)))
            return
        answer = stand_in(value.dtype)
        if key is not None:
            self._memo[key] = answer
        tasks.append(answer)
        operands = [operand for operand in reversed(equation.inputs) if type(operand) is Value]
        tasks.extend([Demand(operand, broadcast_map(operand, index), inside) for operand in operands])

    def leaf(self, value: Value, index: Map, inside: Inside) -> Scalar | None:
        """Note what is demanded; its Scalar is a stand-in."""
        if not self.storage.is_leaf(value):
            times = self.visited.get(value, 0) + 1
            if times > FEW_TIMES:
                cost = self.storage.cost(value)
                if cost > CHEAP or (cost and times > MOST_TIMES):
                    raise MustStore(value)
            self.visited[value] = times
            return None
        place = len(self.leaves)
        self.leaves[value, place] = (value, index, inside)
        return stand_in(value.dtype)

    def condition(self, inside: Inside) -> Scalar:
        """Return a stand-in."""
        return stand_in(BOOL)

    def through_memory(self, demand: Demand) -> Scalar | None:
        """Note that a view is read as it is in memory: all of what it views has to be there."""
        assert isinstance(demand.operand, Value)
        layout = self.storage.layouts.as_view(demand.operand)
        if layout is None:
            return None
        place = len(self.leaves)
        self.leaves[layout.base, place] = (layout.base, ANYWHERE, ())
        return stand_in(demand.operand.dtype)


def find_roots(storage: Storage, roots: dict[Value, Root]) -> dict[Value, Root]:
    """Return all roots, followed; what turns out to have to be in memory becomes one, and its readers start anew."""
    for equation in storage.graph.equations:
        value = equation.outputs[0]
        is_map = equation in storage.mapped and value in storage.stored
        if value not in roots and (equation in storage.reductions or is_map):
            roots[value] = Root(equation, storage.order[equation])
    while pending := [root for root in roots.values() if not root.is_followed or _is_outdated(storage, root)]:
        for root in pending:
            try:
                _follow(storage, root)
                root.is_followed = True
            except MustStore as must:
                root.is_followed = False
                storage.stored.add(must.value)
                equation = storage.maker[must.value]
                if must.value not in roots and equation in storage.mapped:
                    roots[must.value] = Root(equation, storage.order[equation])
    return dict(sorted(roots.items(), key=_order_of))


def _is_outdated(storage: Storage, root: Root) -> bool:
    """Whether something that a root may compute on its way has come into memory."""
    on_the_way = root.visited if root.spelled is None else root.spelled.computed[1:]
    return not storage.stored.isdisjoint(on_the_way)


class _Followed(NamedTuple):
    """What following a root brought, with numbers of arrays: its leaves, what is on the way, or what must be stored."""

    leaves: tuple[tuple[int, Map, Inside], ...]
    visited: tuple[int, ...]
    must: int | None = None


def _follow(storage: Storage, root: Root) -> None:
    """Find out what a root demands; of several that are spelled alike, one is followed.

    Raises:
        MustStore: an array has to be in memory first.
    """
    root.spelled = storage.forms.spelled(root.equation)
    if root.spelled is None:
        _follow_elements(storage, root)
        return
    form, values, _ = root.spelled
    followed: _Followed | None = form.demands
    if followed is None:
        _follow_first(storage, root, root.spelled)
    elif followed.must is not None:
        raise MustStore(values[followed.must])
    else:
        root.leaves = [(values[number], index, inside) for number, index, inside in followed.leaves]
        root.visited = [values[number] for number in followed.visited]


def _follow_first(storage: Storage, root: Root, spelled: Spelled) -> None:
    """Follow a root, and note in its form what that brought."""
    numbers = {value: number for number, value in enumerate(spelled.values)}
    try:
        _follow_elements(storage, root)
    except MustStore as must:
        if must.value in numbers:
            spelled.form.demands = _Followed((), (), numbers[must.value])
        raise
    if all([leaf in numbers for leaf, _, _ in root.leaves]):
        leaves = tuple([(numbers[leaf], index, inside) for leaf, index, inside in root.leaves])
        spelled.form.demands = _Followed(leaves, tuple([numbers[value] for value in root.visited]))


def _follow_elements(storage: Storage, root: Root) -> None:
    demands = Demands(storage, root.extents)
    try:
        root_scalar(demands, root.equation, own_indices(root.extents))
    except NeedsSplit:
        root.leaves, root.visited = _split_leaves(storage, root)
        return
    root.leaves = list(demands.leaves.values())
    root.visited = list(demands.visited)


def _order_of(item: tuple[Value, Root]) -> int:
    return item[1].order


def root_scalar(elements: Elements, equation: Equation, index: Map) -> Any:
    """Return the Scalar of a root: of an element, or of what is reduced (`index` is into the operand then)."""
    if is_reduction(equation):
        return elements.element(equation.values()[0], index)
    return elements.computed(equation.outputs[0], index)


def _split_leaves(storage: Storage, root: Root) -> tuple[list[tuple[Value, Map, Inside]], list[Value]]:
    """Return what a root demands whose loops will have to be divided: only which arrays, not where."""
    extents = list(root.extents)
    positions = [[i] for i in range(len(extents))]
    while True:
        demands = Demands(storage, tuple(extents))
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
