"""Reductions of large arrays to few numbers go in two stages, so that there is work for all threads.

The first stage reduces pieces whose number depends on the shape alone: results are the same for any number of threads.
"""

from __future__ import annotations

from math import prod

from ..core.primitive import REGISTRY
from .expand_builder import REDUCTIONS, Builder
from .graph import Equation, Graph, Value

LARGE = 1 << 16
"""From so many elements on, a second stage is worth it."""
FEW = 64
"""Up to so many results, threads would have too little to divide."""
MOST_PIECES, LEAST_PIECE = 64, 16


def staged(graph: Graph) -> Graph:
    """Return the graph with large reductions in two stages."""
    equations: list[Equation] = []
    for equation in graph.equations:
        pieces = _pieces(equation)
        if pieces is None:
            equations.append(equation)
            continue
        builder = Builder(equation.outputs[0].where)
        first = _first_stage(builder, equation, *pieces)
        out = equation.outputs[0]
        total = builder.call(equation.primitive.name, first, axis=(len(first.shape) - 1,), keepdims=False)
        equations.extend(builder.equations)
        equations.append(Equation(REGISTRY["reshape_to"], (total,), {"newshape": out.shape}, (out,)))
    return Graph(graph.name, graph.inputs, equations, graph.outputs, graph.homes)


def _pieces(equation: Equation) -> tuple[int, int] | None:
    """Return which axis to divide and into how many pieces, or None to leave a reduction as it is."""
    if equation.primitive.name not in REDUCTIONS:
        return None
    x = equation.values()[0]
    axis = equation.params["axis"]
    results = prod([n for i, n in enumerate(x.shape) if i not in axis])
    if x.size < LARGE or results > FEW or not axis:
        return None
    longest = next((a for a in axis if x.shape[a] >= MOST_PIECES), axis[0])
    count = max([c for c in range(1, MOST_PIECES + 1) if x.shape[longest] % c == 0])
    if count < 2 or x.size // (count * results) < LEAST_PIECE:
        return None
    return longest, count


def _first_stage(b: Builder, equation: Equation, axis: int, count: int) -> Value:
    """Reduce each piece; the result has the axes that are left, and one for the pieces, last."""
    x, reduced = equation.values()[0], equation.params["axis"]
    divided = b.reshape(x, (*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1 :]))
    inner = tuple([a + (a >= axis) for a in reduced])  # the rest of the divided axis is after its pieces
    partial = b.call(equation.primitive.name, divided, axis=tuple(sorted(inner)), keepdims=False)
    place = axis - sum([a < axis for a in reduced])
    rank = len(partial.shape)
    return b.permute(partial, tuple([i for i in range(rank) if i != place] + [place]))
