"""Arrays that are viewed and written, with derivatives of any order: NumPy does the aliasing, a scalar tape the rest.

An `Array` holds `Cell`s in an object array of NumPy's, so that views, copies, overlaps and layouts are what NumPy makes
of them. A Cell is never changed: a write puts another in its place. What a Cell was computed from is a `Scalar`, the
node of a tape in plain Python floats.

The rule for `detach()`: Arrays that share memory across a detach() belong to different realms. What is written through
one realm has its history there and is a constant in the others; but in the realm of a leaf it is the leaf's new value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Number = Any
"""A Scalar, or a float where nothing is to be differentiated."""


class Scalar:
    """A number, the rule that takes its cotangent back, and the numbers that it was computed from."""

    __slots__ = ("parents", "pull", "value")

    def __init__(self, value: float, pull: Callable[..., Any] | None = None, *parents: Scalar) -> None:
        self.value = value
        self.pull = pull
        self.parents = parents

    def __add__(self, other: Number) -> Scalar:
        other = lift(other)
        return Scalar(self.value + other.value, lambda bar, x, y: (bar, bar), self, other)

    def __sub__(self, other: Number) -> Scalar:
        other = lift(other)
        return Scalar(self.value - other.value, lambda bar, x, y: (bar, -bar), self, other)

    def __mul__(self, other: Number) -> Scalar:
        other = lift(other)
        return Scalar(self.value * other.value, lambda bar, x, y: (bar * y, bar * x), self, other)

    def __neg__(self) -> Scalar:
        return Scalar(-self.value, lambda bar, x: (-bar,), self)

    __radd__ = __add__
    __rmul__ = __mul__


def lift(number: Number) -> Scalar:
    return number if isinstance(number, Scalar) else Scalar(float(number))


def sin(x: Number) -> Number:
    if isinstance(x, Scalar):
        return Scalar(math.sin(x.value), lambda bar, x: (bar * cos(x),), x)
    return math.sin(x)


def cos(x: Number) -> Number:
    if isinstance(x, Scalar):
        return Scalar(math.cos(x.value), lambda bar, x: (-(bar * sin(x)),), x)
    return math.cos(x)


def same(x: Scalar, value: float) -> Scalar:
    """Return a number that moves as x does, at another value."""
    return Scalar(value, lambda bar, x: (bar,), x)


def gradient(of: Scalar, by: Iterable[Scalar], differentiable: bool = False) -> list[Number]:
    """Return the derivatives of a Scalar: floats, or Scalars that can be differentiated again."""
    bars: dict[Scalar, Number] = {of: Scalar(1.0) if differentiable else 1.0}
    for node in reversed(_topological(of)):
        if node.pull is None or node not in bars:
            continue
        inputs = node.parents if differentiable else [parent.value for parent in node.parents]
        for parent, bar in zip(node.parents, node.pull(bars[node], *inputs)):
            bars[parent] = bars[parent] + bar if parent in bars else bar
    return [bars.get(x, Scalar(0.0) if differentiable else 0.0) for x in by]


def _topological(root: Scalar) -> list[Scalar]:
    order: list[Scalar] = []
    seen: set[Scalar] = set()
    stack = [(root, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    return order


class Realm:
    """Whose history it is."""

    __slots__ = ("is_leaf",)

    def __init__(self, is_leaf: bool = False) -> None:
        self.is_leaf = is_leaf


class Cell:
    """One element of memory: its value, and what it was computed from as each realm sees it (a constant: nothing)."""

    __slots__ = ("histories", "value")

    def __init__(self, value: float, histories: dict[Realm, Scalar]) -> None:
        self.value = value
        self.histories = histories


def elementwise(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Map over object arrays with broadcasting, laid out as NumPy lays out the results of its own functions."""
    out = np.frompyfunc(function, len(arrays), 1)(*arrays)
    if isinstance(out, np.ndarray):
        return out
    boxed = np.empty((), object)
    boxed[()] = out
    return boxed


class Array:
    """An array of Cells as one realm sees it."""

    def __init__(self, cells: np.ndarray, realm: Realm, source: Array | None = None) -> None:
        self.cells = cells
        self.realm = realm
        self.source = source

    @classmethod
    def of_values(cls, values: np.ndarray, is_leaf: bool) -> Array:
        realm = Realm(is_leaf)

        def cell(value: float) -> Cell:
            return Cell(float(value), {realm: Scalar(float(value))} if is_leaf else {})

        return cls(elementwise(cell, np.asarray(values, object)), realm)

    @classmethod
    def of_scalars(cls, scalars: np.ndarray) -> Array:
        realm = Realm()
        return cls(elementwise(lambda scalar: Cell(scalar.value, {realm: scalar}), scalars), realm)

    def scalars(self) -> np.ndarray:
        """Return what the elements were computed from, as this realm sees it."""
        return elementwise(self._seen, self.cells)

    def _seen(self, cell: Cell) -> Scalar:
        return cell.histories.get(self.realm) or Scalar(cell.value)

    def values(self) -> np.ndarray:
        return elementwise(lambda cell: cell.value, self.cells).astype(float)

    def view(self, take: Callable[[np.ndarray], Any]) -> Array:
        """Return what a view operation of NumPy's makes of it."""
        out = take(self.cells)
        if not isinstance(out, np.ndarray):
            boxed = np.empty((), object)
            boxed[()] = out
            out = boxed
        return Array(out, self.realm, self)

    def comes_of(self, other: Array) -> bool:
        """Return whether it is the other Array, or a view taken of it with no detach() between."""
        here: Array | None = self
        while here is not None and here is not other:
            here = here.source
        return here is other

    def become_leaf(self, views: Iterable[Array]) -> None:
        """Start a history here; those of the views that come of it see it."""
        realm = Realm(is_leaf=True)

        def started(cell: Cell) -> Cell:
            return Cell(cell.value, {**cell.histories, realm: Scalar(cell.value)})

        self.cells[...] = elementwise(started, self.cells)
        for view in views:
            if view.comes_of(self):
                view.realm = realm
        self.realm, self.source = realm, None

    def copied(self, take: Callable[[np.ndarray], Any]) -> Array:
        """Return what an operation that copies makes of it: other memory, and a realm of its own."""
        return Array.of_scalars(self.view(take).scalars())

    def detach(self) -> Array:
        return Array(self.cells.view(), Realm())

    def map(self, function: Callable[..., Scalar], *others: Array) -> Array:
        """Return the elementwise function of this and other Arrays, in memory of its own."""
        realm = Realm()

        def cell(*cells: Cell) -> Cell:
            out = function(*[a._seen(c) for a, c in zip((self, *others), cells)])
            return Cell(out.value, {realm: out})

        return Array(elementwise(cell, self.cells, *[other.cells for other in others]), realm)

    def total(self, axis: int | None = None) -> Array:
        return Array.of_scalars(elementwise(lift, np.asarray(np.add.reduce(self.scalars(), axis=axis))))

    def write(self, key: Any, value: Array | float, recording: bool = True) -> None:
        """Write a value, as NumPy writes it, into what a key selects."""
        scalars = value.scalars() if isinstance(value, Array) else np.array(Scalar(value), object)
        owner: Any = self.cells
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        before = owner.copy()
        written = elementwise(lambda scalar: Cell(scalar.value, {self.realm: scalar} if recording else {}), scalars)
        self.cells[key] = written if isinstance(self.cells[key], np.ndarray) else written[()]
        for position in np.ndindex(owner.shape):
            new, old = owner[position], before[position]
            if new is not old:
                histories = dict(new.histories)
                for realm, scalar in old.histories.items():
                    if realm.is_leaf and not (recording and realm is self.realm):
                        histories[realm] = same(scalar, new.value)
                owner[position] = Cell(new.value, histories)
        if recording:
            self.realm.is_leaf = False
