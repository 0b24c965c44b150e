"""Operations one after the other, of which only the last one's result is seen: on large arrays one native program.

Each is recorded as if it had been called by itself, so that sweeps, hooks and further derivatives find what they always
find. Only what nobody can see is left out: results in between are not even written, unless the tape keeps them.
"""

# The slots of Tensor are read in line here, as on the fast path.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from . import boxing, capturing, native
from .dispatch import NO_PARAMS, bind
from .primitive import Primitive
from .recording import is_recording
from .tape import make_node


class Link(NamedTuple):
    """An operation of a chain, `primitive(result of the one before, *others, **params)`: one array, differentiable."""

    primitive: Primitive
    others: tuple[Any, ...] = ()
    params: dict[str, Any] = NO_PARAMS


Flags = Sequence[tuple[bool, ...]]
"""Of each operation, which of its operands are tracked."""


def is_large(x: Any) -> bool:
    """Return whether a chain that begins with `x` may be left to native code."""
    return type(x) is boxing.Tensor and x._data.size >= native.smallest and not capturing.engaged


def bind_chain(x: Any, links: Sequence[Link]) -> Any:
    """Apply operations one after the other: the first to `x`, each of the others to the result of the one before it."""
    if len(links) > 1 and is_large(x):
        out = _at_once(x, links)
        if out is not None:
            return out
    for primitive, others, params in links:
        x = bind(primitive, (x, *others), params)
    return x


def _at_once(x: Any, links: Sequence[Link]) -> Any:
    """Return the result of a chain that native code computes; None where it is the turn of each operation."""
    exact, recording = boxing.Tensor, is_recording()
    others: list[tuple[Any, ...]] = []
    nodes: list[tuple[Any, ...]] = []
    flags: list[tuple[bool, ...]] = []
    tracked = recording and x._node is not None
    for link in links:
        if not all([type(other) is exact for other in link.others]):
            return None
        others.append(tuple([other._data for other in link.others]))
        nodes.append(tuple([other._node if recording else None for other in link.others]))
        flags.append((tracked, *[node is not None for node in nodes[-1]]))
        tracked = True in flags[-1]
    outs = native.chained(x._data, links, others, flags)
    if outs is None:
        return None
    data, node = x._data, x._node if recording else None
    for (primitive, _, params), arrays, behind, out in zip(links, others, nodes, outs):
        inputs = (node, *behind)
        if any([one is not None for one in inputs]):
            saved = primitive.rules["plan"].gather((data, *arrays), inputs, out)
            node = make_node(primitive, inputs, saved, out, params)
        data = out
    return boxing.box(data, node)


def kept(x: Any, links: Sequence[Link], others: Sequence[Any], flags: Flags, outs: Sequence[Any]) -> set[int]:
    """Return which of the results the tape keeps, by their places."""
    places = {id(out): place for place, out in enumerate(outs)}
    found: set[int] = set()
    for link, arrays, tracked, out in zip(links, others, flags, outs):
        if True in tracked:
            saved = link.primitive.rules["plan"].gather((x, *arrays), [flag or None for flag in tracked], out)
            found.update([places[id(value)] for value in saved if id(value) in places])
        x = out
    return found
