"""Operations one after the other, of which only the last one's result is seen: on large arrays one native program.

Each is recorded as if it had been called by itself, so that sweeps, hooks and further derivatives find what they always
find. Only what nobody can see is left out: results in between are not even written, unless the tape keeps them.
"""

# The slots of Tensor are read in line here, as on the fast path.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..typing import Array, Shape
from . import boxing, capturing, native
from .dispatch import NO_PARAMS, bind
from .primitive import REGISTRY, Primitive
from .recording import is_recording
from .tape import make_node


class Link(NamedTuple):
    """An operation of a chain, `primitive(result of the one before, *others, **params)`: one array, differentiable.

    Attributes:
        others: its further operands, in links that are to be bound.
        shapes: under which shapes these are seen, None for their own; empty if it is so for all.
    """

    primitive: Primitive
    others: tuple[Any, ...] = ()
    params: dict[str, Any] = NO_PARAMS
    shapes: tuple[Shape | None, ...] = ()


class Form:
    """What chains have in common that differ in nothing but the elements of their arrays.

    Attributes:
        links: the operations, without their operands: a form may be kept for long.
        keys: what native code makes of it, by which operands are tracked.
    """

    __slots__ = ("keys", "links")

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = tuple([link._replace(others=()) for link in links])
        self.keys: dict[Flags, Any] = {}


Flags = tuple[tuple[bool, ...], ...]
"""Of each operation, which of its operands are tracked."""
Operands = Sequence[tuple[Any, ...]]
"""Of each operation, its operands but the first."""


def is_large(x: Any) -> bool:
    """Return whether a chain that begins with `x` may be left to native code."""
    return type(x) is boxing.Tensor and x._data.size >= native.smallest and not capturing.engaged


def bind_chain(x: Any, links: Sequence[Link]) -> Any:
    """Apply operations one after the other: the first to `x`, each of the others to the result of the one before it."""
    if len(links) > 1 and is_large(x):
        return bind_form(x, Form(links), [link.others for link in links])
    for primitive, others, params, shapes in links:
        x = bind(primitive, (x, *_shaped(others, shapes)), params)
    return x


def bind_form(x: Any, form: Form, others: Operands) -> Any:
    """Apply the operations of a form, where `is_large(x)`, to `x` and to operands of the shapes that it is made for."""
    out = _at_once(x, form, others)
    if out is not None:
        return out
    for (primitive, _, params, shapes), operands in zip(form.links, others):
        x = bind(primitive, (x, *_shaped(operands, shapes)), params)
    return x


def _shaped(operands: tuple[Any, ...], shapes: tuple[Shape | None, ...]) -> tuple[Any, ...]:
    if not shapes:
        return operands
    reshape = REGISTRY["reshape_to"]
    return tuple(
        [y if shape is None else bind(reshape, (y,), {"newshape": shape}) for y, shape in zip(operands, shapes)]
    )


def _at_once(x: Any, form: Form, others: Operands) -> Any:
    """Return the result of a chain that native code computes; None where it is the turn of each operation."""
    exact, recording = boxing.Tensor, is_recording()
    arrays: list[tuple[Array, ...]] = []
    nodes: list[tuple[Any, ...]] = []
    flags: list[tuple[bool, ...]] = []
    tracked = recording and x._node is not None
    for operands, link in zip(others, form.links):
        for operand in operands:
            if type(operand) is not exact:
                return None
        data = tuple([operand._data for operand in operands])
        if link.shapes:
            data = tuple([a if shape is None else a.reshape(shape) for a, shape in zip(data, link.shapes)])
        arrays.append(data)
        behind = tuple([operand._node if recording else None for operand in operands])
        nodes.append(behind)
        flags.append((tracked, *[node is not None for node in behind]))
        tracked = True in flags[-1]
    outs = native.chained(x._data, form, arrays, tuple(flags))
    if outs is None:
        return None
    data, node = x._data, x._node if recording else None
    for link, operands, behind, out in zip(form.links, arrays, nodes, outs):
        primitive = link.primitive
        if node is not None or any(behind):
            if link.shapes:
                behind = _reshaped(operands, behind, link.shapes)
            inputs = (node, *behind)
            saved = primitive.rules["plan"].gather((data, *operands), inputs, out)
            node = make_node(primitive, inputs, saved, out, link.params)
        data = out
    return boxing.box(data, node)


def _reshaped(operands: Sequence[Array], nodes: Sequence[Any], shapes: Sequence[Shape | None]) -> tuple[Any, ...]:
    """Record that operands were reshaped."""
    reshape = REGISTRY["reshape_to"]
    gather = reshape.rules["plan"].gather_one
    recorded: list[Any] = []
    for operand, node, shape in zip(operands, nodes, shapes):
        if node is not None and shape is not None:
            # A Node has the shape of what it stands for, which is all that is looked at.
            node = make_node(reshape, (node,), gather(node, operand), operand, {"newshape": shape})
        recorded.append(node)
    return tuple(recorded)


def kept(x: Any, links: Sequence[Link], arrays: Operands, flags: Flags, outs: Sequence[Any]) -> set[int]:
    """Return which of the results the tape keeps, by their places."""
    places = {id(out): place for place, out in enumerate(outs)}
    found: set[int] = set()
    for link, operands, tracked, out in zip(links, arrays, flags, outs):
        if True in tracked:
            saved = link.primitive.rules["plan"].gather((x, *operands), [flag or None for flag in tracked], out)
            found.update([places[id(value)] for value in saved if id(value) in places])
        x = out
    return found
