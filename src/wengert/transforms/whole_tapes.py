"""Derivatives that native code may compute from a function's tape at once: several sweeps, or the rows of a matrix.

What is said here is said of any tape. On large arrays it is captured, done to twins of the tape's Nodes over tracers;
see `compile.eager_derivatives`. `None` stands for zeros, and for native code that has better things to do.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..core import boxing, capturing, native
from ..core.backward import boxed_gradient, cotangents
from ..core.reach import Route, route_to
from ..core.reach import survey as walk
from ..core.recording import is_recording
from ..core.tape import Node
from ..core.zeros import ZERO
from .mapping import vmap
from .reverse import Run

Twins = Sequence[Node | None]
Derive = Callable[[Sequence[Node], Twins, Sequence[Any], Route], list[Any]]


def native_product(run: Run, output: Node, route: Route | None, others: bool, directions: Sequence[Any]) -> Any:
    """Return the Hessian of a run's scalar output times a vector (Tensors or ZERO), nested as the arguments are."""
    taped = any([dot is not ZERO and dot._node is not None for dot in directions])
    if not native.met or not _is_on_the_ground(run, others or taped):
        return None
    extras = [None if dot is ZERO else dot._data for dot in directions]
    found = native.derived("product", [output], run.nodes, extras, route, 1, product_of, native.SMALLEST)
    return None if found is None else run.gradients(_completed(found, len(run.nodes)))


def native_rows(
    rule: str, run: Run, outputs: Sequence[Node], route: Route | None, others: bool, derive: Derive
) -> list[tuple[Any, ...]] | None:
    """Return a matrix of derivatives: its rows for each output (or for each argument), nested as the arguments are.

    Args:
        rule: a name for `derive`.
        run: of the function.
        outputs: the Nodes of what it returned.
        route, others: see `Run.survey`.
        derive: `rows_of` or `hessian_of`.
    """
    shapes = run.shapes if derive is hessian_of else [output.shape for output in outputs]
    rows = max(map(math.prod, shapes))
    elements = rows * sum(map(math.prod, run.shapes))
    if elements < native.smallest_matrix or not _is_on_the_ground(run, others):
        return None
    found = native.derived(rule, outputs, run.nodes, (), route, rows, derive, elements)
    if found is None:
        return None
    count = len(run.nodes)
    found = _completed(found, count * len(shapes))
    return [run.gradients(found[i * count : (i + 1) * count], shape) for i, shape in enumerate(shapes)]


def _is_on_the_ground(run: Run, watched: bool) -> bool:
    """Return whether nobody but the caller will see what is computed: no transform, no capture, no tape."""
    return run.trace is None and not capturing.engaged and not (watched and is_recording())


def _completed(found: list[Any], count: int) -> list[Any]:
    found = [bar if bar is None else boxed_gradient(bar) for bar in found]
    return found + [None] * (count - len(found))


def product_of(outputs: Sequence[Node], arguments: Twins, directions: Sequence[Any], route: Route) -> list[Any]:
    """Return the Hessian of a scalar output times a vector: its gradient, pulled back."""
    gradients = _gradients(outputs[0], arguments, route)
    pairs = [
        (gradient._node, direction)
        for gradient, direction in zip(gradients, directions)
        if direction is not None and gradient is not None and gradient._node is not None
    ]
    return _pulled(pairs, arguments)


def hessian_of(outputs: Sequence[Node], arguments: Twins, extras: Sequence[Any], route: Route) -> list[Any]:
    """Return the blocks of the Hessian of a scalar output, row by row."""
    blocks: list[Any] = []
    for gradient in _gradients(outputs[0], arguments, route):
        node = None if gradient is None else gradient._node
        blocks.extend([None] * len(arguments) if node is None else rows_of([node], arguments, extras, None))
    return blocks


def rows_of(outputs: Sequence[Node], arguments: Twins, extras: Sequence[Any], route: Route | None) -> list[Any]:
    """Return the cotangents of all arguments for each element of each output."""
    xp = boxing.operations
    blocks: list[Any] = []
    for output in outputs:
        size = math.prod(output.shape)
        seeds = xp.reshape(xp.eye(size, dtype=output.dtype), (size, *output.shape))
        reached: list[bool] = []

        def pull(seed: Any, output: Node = output, reached: list[bool] = reached) -> list[Any]:
            bars = _pulled([(output, seed)], arguments, route)
            reached[:] = [bar is not None for bar in bars]
            return [bar for bar in bars if bar is not None]

        stacked = iter(vmap(pull)(seeds))
        for is_reached in reached:
            block = next(stacked) if is_reached else None
            blocks.append(None if block is None else xp.reshape(block, (*output.shape, *block.shape[1:])))
    return blocks


def _gradients(output: Node, arguments: Twins, route: Route) -> list[Any]:
    one = boxing.operations.ones((), dtype=output.dtype)
    return cotangents([(output, one)], arguments, route, retain=True, tracked=True, masked=None)


def _pulled(pairs: Sequence[tuple[Node, Any]], arguments: Twins, route: Route | None = None) -> list[Any]:
    if not pairs:
        return [None] * len(arguments)
    if route is None:
        targets = frozenset([node for node in arguments if node is not None])
        route = route_to(targets, walk([node for node, _ in pairs], targets, 0)[0])
    return cotangents(pairs, arguments, route, retain=True, tracked=False, masked=None, traced=True)


__all__ = ["hessian_of", "native_product", "native_rows", "product_of", "rows_of"]
