"""One call, recorded: its value, its Node, and cotangents pulled back through it, raw and differentiable.

Checks look at the engine's own records (Nodes, residuals, pulls), so this package alone among the topmost layer
imports `wengert.core`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import backend
from ..core import boxing
from ..core.primitive import Primitive
from ..core.tape import PROJECTION, Leaf, Node, finish_leaves, sweep
from ..core.vspace import OutputBars, densify
from ..core.zeros import NO_TANGENT, ZERO, is_zero
from .numeric import flatten
from .samples import Case

Call = Callable[..., Any]


def plain(value: Any) -> Any:
    """Return an untracked Tensor over an array; Python numbers stay as they are."""
    return boxing.box(value) if isinstance(value, np.ndarray) else value


def leaf(array: np.ndarray) -> Any:
    """Return a tracked Tensor over this very array, in whatever layout it has."""
    tensor = boxing.box(array)
    tensor._node = Leaf(tensor, array, sys._getframe())
    return tensor


def raw(value: Any) -> Any:
    """Return the raw array in a Tensor (a number stays a number)."""
    return boxing.data_of(value) if isinstance(value, boxing.Tensor) else value


def as_tuple(out: Any) -> tuple[Any, ...]:
    """Return the outputs of an operation as a tuple, be it one or several."""
    return tuple(out) if isinstance(out, (tuple, list)) else (out,)


def floating(outs: Sequence[Any]) -> list[int]:
    """Return the positions of outputs that can carry a cotangent."""
    return [i for i, out in enumerate(outs) if out.dtype.kind == "f"]


def callable_of(record: Any) -> Call:
    """Return the public function of a primitive, or the function that a composite is."""
    return record.call if isinstance(record, Primitive) else record.function


class Recorded:
    """One recorded call.

    Attributes:
        tensors: the arguments as they were passed; those at `tracked` are leaves.
        outs: the results, a tuple even if there is one.
    """

    def __init__(
        self, call: Call, case: Case, tracked: Sequence[int] | None = None, wrap: Callable[[Any], Any] = plain
    ) -> None:
        self.case = case
        self.tracked = case.moving if tracked is None else tuple(tracked)
        self.tensors = [leaf(a) if i in self.tracked else wrap(a) for i, a in enumerate(case.arrays)]
        self.outs = as_tuple(call(*self.tensors, **case.params))

    @property
    def data(self) -> list[Any]:
        """The raw results."""
        return [raw(out) for out in self.outs]

    @property
    def leaves(self) -> list[Any]:
        """The tracked arguments, None in the place of the others."""
        return [t if i in self.tracked else None for i, t in enumerate(self.tensors)]

    @property
    def node(self) -> Node | None:
        """The Node of the operation itself (behind the projections of several outputs)."""
        for out in self.outs:
            if out._node is not None:
                return out._node.inputs[0] if out._node.primitive is PROJECTION else out._node
        return None

    def seeds(self, rng: np.random.Generator) -> list[Any]:
        """Return a random cotangent for every output that can carry one, None for the others."""
        return [
            np.asarray(rng.uniform(-1, 1, out.shape), out.dtype) if out.dtype.kind == "f" else None for out in self.data
        ]

    def out_bar(self, seeds: Sequence[Any]) -> Any:
        """Return the cotangents in the form that the operation's pull is given."""
        if len(self.outs) == 1 and not _is_projection(self.outs[0]):
            return seeds[0]
        return OutputBars({i: seed for i, seed in enumerate(seeds) if seed is not None})

    def pull(self, seeds: Sequence[Any], masked: bool = False) -> list[Any]:
        """Sweep raw cotangents back; return one cotangent (or None) for every argument."""
        pairs = [(out._node, w) for out, w in zip(self.outs, seeds) if out._node is not None and w is not None]
        found = sweep(pairs, retain=True, masked=masked)
        finish_leaves(found)
        return [None if t is None else found.leaves.get(t._node) for t in self.leaves]

    def pull_tracked(self, seeds: Sequence[Any], masked: bool = False) -> list[Any]:
        """Sweep cotangents (Tensors) back on the tape; return one Tensor (or None) for every argument."""
        pairs = [(out._node, w) for out, w in zip(self.outs, seeds) if out._node is not None and w is not None]
        found = sweep(pairs, retain=True, tracked=True, masked=masked)
        finish_leaves(found)
        return [None if t is None else found.leaves.get(t._node) for t in self.leaves]


def _is_projection(tensor: Any) -> bool:
    return tensor._node is not None and tensor._node.primitive is PROJECTION


def pull_from(tensors: Sequence[Any], seeds: Sequence[Any], targets: Sequence[Any]) -> list[Any]:
    """Sweep raw cotangents back from any Tensors to any leaves; None where nothing arrives."""
    pairs = [
        (t._node, w)
        for t, w in zip(tensors, seeds)
        if isinstance(t, boxing.Tensor) and t._node is not None and w is not None
    ]
    found = sweep(pairs, retain=True)
    finish_leaves(found)
    return [found.leaves.get(t._node) if t is not None else None for t in targets]


def dense(bars: Sequence[Any]) -> list[Any]:
    """Return what a pull returned as raw arrays."""
    return [None if bar is None else raw(densify(bar)) for bar in bars]


def filled(bars: Sequence[Any], case: Case) -> list[Any]:
    """Return cotangents with explicit zeros where none arrived, for the arguments that move; None for the others."""
    return [
        None if not moves else np.zeros(a.shape, a.dtype) if bar is None else bar
        for bar, a, moves in zip(bars, case.arrays, case.moves)
    ]


def inner(bars: Sequence[Any], directions: Sequence[Any]) -> tuple[float, float]:
    """Return an inner product over several arrays, and the sum of its terms' magnitudes, in float64.

    Raises:
        AssertionError: two shapes differ (they would broadcast, and hide a sum that was forgotten).
    """
    total = magnitude = 0.0
    for bar, direction in zip(bars, directions):
        if bar is not None and direction is not None:
            if np.shape(bar) != np.shape(direction):
                raise AssertionError(f"a gradient has shape {np.shape(bar)} and not {np.shape(direction)}")
            terms = np.asarray(bar, np.float64) * np.asarray(direction, np.float64)
            total += float(terms.sum())
            magnitude += float(np.abs(terms).sum())
    return total, magnitude


def compute(record: Any, arrays: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
    """Compute a primitive's `impl`, or a composite untracked, on raw arrays; return raw results as a tuple."""
    if isinstance(record, Primitive):
        return tuple([np.asarray(out) for out in as_tuple(record.impl(backend.numpy, *arrays, **params))])
    outs = as_tuple(record.function(*[plain(a) for a in arrays], **params))
    return tuple([np.asarray(raw(out)) for out in outs])


def forward_vector(record: Any, case: Case) -> Callable[[list[Any]], np.ndarray]:
    """Return the operation as a function from argument lists to one vector of its floating results."""

    def vector(arrays: list[Any]) -> np.ndarray:
        return flatten(compute(record, arrays, case.params))

    return vector


def tangents_of(case: Case, directions: Sequence[Any], only: int | None = None) -> tuple[Any, ...]:
    """Return what a jvp rule is given: directions, and the right kind of nothing for all other arguments."""
    return tuple(
        [
            NO_TANGENT if not moves else d if only is None or only == i else ZERO
            for i, (moves, d) in enumerate(zip(case.moves, directions))
        ]
    )


def push(primitive: Primitive, case: Case, directions: Sequence[Any], only: int | None = None) -> list[Any]:
    """Push directions forward by the raw jvp rule; return one tangent for every floating result, zeros filled in."""
    tangents = tangents_of(case, directions, only)
    out, out_dot = primitive.jvp(backend.numpy, tuple(case.arrays), tangents, case.params)
    outs = as_tuple(out)
    dots = (out_dot,) * len(outs) if is_zero(out_dot) else as_tuple(out_dot)
    return [
        np.zeros(y.shape, y.dtype) if is_zero(y_dot) else np.asarray(y_dot)
        for y, y_dot in zip(outs, dots)
        if y.dtype.kind in "fc"
    ]
