"""Roots, which loop nests are made for, and groups of roots, which one nest computes."""

from __future__ import annotations

from .expand_builder import REDUCTIONS
from .fuse_forms import Spelled
from .graph import Equation, Value
from .lower_elements import Inside
from .lower_index import Map
from .scalar_ir import TYPES

Axes = tuple[int, ...]


def is_reduction(equation: Equation) -> bool:
    """Whether a nest can compute a reduction."""
    if equation.primitive.name not in REDUCTIONS or 0 in equation.values()[0].shape:
        return False
    return all([value.dtype in TYPES for value in (*equation.values(), *equation.outputs)])


class Root:
    """An array that a nest computes.

    Attributes:
        extents: of the space that is walked: its own axes or, for a reduction, its operand's. Axes of extent 1 count.
        outer: for a reduction, the axes that are not reduced; None where any may be.
        leaves: what it demands: arrays, where, and under which conditions.
        visited: what is computed on the way.
        spelled: in which form (`fuse_forms`); None if in none.
    """

    __slots__ = ("equation", "extents", "is_followed", "leaves", "order", "outer", "spelled", "value", "visited")

    def __init__(self, equation: Equation, order: int) -> None:
        self.equation = equation
        self.order = order
        self.value = equation.outputs[0]
        self.leaves: list[tuple[Value, Map, Inside]] = []
        self.visited: list[Value] = []
        self.is_followed = False
        self.spelled: Spelled | None = None
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


def result_axes(root: Root) -> Axes:
    """Return the axes of a root's space, longer than one, that its array has, in order."""
    return root.significant if root.outer is None else root.outer


def lengths_of(root: Root) -> Axes:
    """Return the extents of a root's space that are longer than one."""
    return tuple([n for n in root.extents if n > 1])


def axes_of(index: Map, shape: Axes, extents: Axes) -> Axes | None:
    """Return the loop that walks each axis of an array from end to end (-1 for axes of one), or None if not so."""
    if len(index) != len(shape):
        return None  # read in no particular order
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


def in_step(member: Root, root: Root, index: Map, outer: dict[Root, Axes]) -> bool:
    """Whether a root reads a member of its own nest only where that is being computed."""
    axes = axes_of(index, member.value.shape, root.extents)
    if axes is None:
        return False
    to_root = dict(zip(result_axes(member), [a for a, n in zip(axes, member.value.shape) if n > 1]))
    if any([axis not in to_root for axis in outer[member]]):
        return False
    if tuple([to_root[axis] for axis in outer[member]]) != outer[root]:
        return False
    inner = [axis for axis in result_axes(member) if axis not in outer[member]]
    return not inner or [to_root[axis] for axis in inner] == [a for a in root.significant if a not in outer[root]]
