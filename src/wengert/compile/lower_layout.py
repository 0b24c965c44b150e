"""Layouts: where the elements of an array are in memory. Views have the layout of what they view, and cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..typing import Shape
from .graph import Equation, Value
from .lower_index import strides_of
from .lower_regions import region_of


class Layout(NamedTuple):
    """An array in memory: whose memory it is, where its first element is in it, and its strides, all in elements."""

    base: Value
    offset: int
    strides: tuple[int, ...]


Viewer = Callable[[Layout, Equation], "tuple[int, tuple[int, ...]] | None"]
"""Takes the layout of a view's operand; returns offset and strides of the view, or None if there are none."""


class Layouts:
    """The layouts of a graph's arrays.

    Args:
        maker: which equation made a Value.
        is_stored: whether a Value is in memory by itself.
    """

    def __init__(self, maker: dict[Value, Equation], is_stored: Callable[[Value], bool]) -> None:
        self.maker = maker
        self.is_stored = is_stored
        self.placed: dict[Value, Layout] = {}

    def of(self, value: Value) -> Layout | None:
        """Return the layout of an array, or None if it is not in memory."""
        chain: list[Value] = []
        while True:
            if value in self.placed:
                layout: Layout | None = self.placed[value]
                break
            if self.is_stored(value):
                layout = Layout(value, 0, strides_of(value.shape))
                break
            equation = self.maker.get(value)
            if equation is None or equation.primitive.name not in VIEWERS:
                return None
            chain.append(value)
            value = equation.values()[0]
        for view in reversed(chain):
            equation = self.maker[view]
            seen = VIEWERS[equation.primitive.name](layout, equation)
            if seen is None:
                return None
            layout = Layout(layout.base, *seen)
        return layout

    def chain_of(self, value: Value) -> list[Value]:
        """Return the views that an array is made through, what they begin with first, and itself last."""
        chain = [value]
        while not self.is_stored(chain[0]) and chain[0] in self.maker:
            equation = self.maker[chain[0]]
            if equation.primitive.name not in VIEWERS:
                break
            chain.insert(0, equation.values()[0])
        return chain

    def as_view(self, value: Value) -> Layout | None:
        """Return the layout of an array as a view of what it is made from, even if it has memory of its own."""
        equation = self.maker.get(value)
        if equation is None or equation.primitive.name not in VIEWERS:
            return None
        layout = self.of(equation.values()[0])
        seen = None if layout is None else VIEWERS[equation.primitive.name](layout, equation)
        return None if layout is None or seen is None else Layout(layout.base, *seen)

    def base_of(self, value: Value) -> Value:
        """Return the array that a chain of views begins with, whether it is in memory or not."""
        while not self.is_stored(value) and value in self.maker and self.maker[value].primitive.name in VIEWERS:
            value = self.maker[value].values()[0]
        return value


def _permute(layout: Layout, equation: Equation) -> tuple[int, tuple[int, ...]]:
    return layout.offset, tuple([layout.strides[a] for a in equation.params["axes"]])


def _reshape(layout: Layout, equation: Equation) -> tuple[int, tuple[int, ...]] | None:
    strides = reshaped_strides(equation.values()[0].shape, layout.strides, equation.outputs[0].shape)
    return None if strides is None else (layout.offset, strides)


def _stretch(layout: Layout, equation: Equation) -> tuple[int, tuple[int, ...]]:
    source, out = equation.values()[0], equation.outputs[0]
    lead = len(out.shape) - len(source.shape)
    inner = [s if n == m else 0 for s, n, m in zip(layout.strides, source.shape, out.shape[lead:])]
    return layout.offset, ((0,) * lead + tuple(inner))


def _reverse(layout: Layout, equation: Equation) -> tuple[int, tuple[int, ...]]:
    offset, strides = layout.offset, list(layout.strides)
    for axis in equation.params["axis"]:
        offset += strides[axis] * (equation.outputs[0].shape[axis] - 1)
        strides[axis] = -strides[axis]
    return offset, tuple(strides)


def _index(layout: Layout, equation: Equation) -> tuple[int, tuple[int, ...]] | None:
    region = region_of(equation.params["key"], equation.values()[0].shape)
    if region is None:
        return None
    offset, strides = layout.offset, [0] * len(region.shape)
    for start, step, axis, stride in zip(region.starts, region.steps, region.axes, layout.strides):
        offset += start * stride
        if axis is not None:
            strides[axis] = step * stride
    return offset, tuple(strides)


VIEWERS: dict[str, Viewer] = {
    "permute": _permute,
    "reshape_to": _reshape,
    "stretch": _stretch,
    "reverse": _reverse,
    "index": _index,
}


def placed_in(views: list[Equation]) -> Layout | None:
    """Return the layout of an array within the memory of what permutations and reshapes make of it."""
    target = views[-1].outputs[0]
    strides: tuple[int, ...] | None = strides_of(target.shape)
    for equation in reversed(views):
        source, out = equation.values()[0], equation.outputs[0]
        if strides is None:
            return None
        if equation.primitive.name == "permute":
            axes = equation.params["axes"]
            strides = tuple([strides[axes.index(i)] for i in range(len(axes))])
        else:
            strides = reshaped_strides(out.shape, strides, source.shape)
    return None if strides is None else Layout(target, 0, strides)


def reshaped_strides(shape: Shape, strides: tuple[int, ...], target: Shape) -> tuple[int, ...] | None:
    """Return the strides of a reshape that needs no copy, or None if it needs one."""
    pieces = [(n, s) for n, s in zip(shape, strides) if n != 1]
    runs: list[list[int]] = []  # extents and strides of axes that lie in memory as one
    for extent, stride in pieces:
        if runs and runs[-1][1] == extent * stride:
            runs[-1] = [runs[-1][0] * extent, stride]
        else:
            runs.append([extent, stride])
    out: list[int] = []
    for extent in reversed(target):
        if extent == 1:
            out.append(0)
            continue
        while runs and runs[-1][0] == 1:
            runs.pop()
        if not runs or runs[-1][0] % extent:
            return None
        out.append(runs[-1][1])
        runs[-1] = [runs[-1][0] // extent, runs[-1][1] * extent]
    return tuple(reversed(out))
