"""Loop nests: what fused operations compute, between the graph (whole arrays) and LLVM IR (vectors).

A Nest runs over the indices of its *outer* axes, in any order and on any number of threads. For each of them it runs
through its *phases*, in order; a phase walks *inner* axes of its own (or none), computes Scalars (`scalar_ir`) from
what it loads, stores some and reduces others over its inner axes. What is reduced is known to the phases after it.

    softmax over the rows of x[64, 10]:  outer (64,)
        phase 1, inner (10,):  largest = max of x
        phase 2, inner (10,):  t = exp(x - largest), stored in scratch; total = sum of t
        phase 3, inner (10,):  out = t / total, stored

    sum over the columns' rows of x[64, 10]:  outer (10,), lanes along the last outer axis
        phase 1, inner (64,):  total = sum of x, with strides (1, 10)
        phase 2, inner ():     out = total, stored
"""

from __future__ import annotations

from typing import NamedTuple

from .scalar_ir import DType, Scalar


class Range(NamedTuple):
    """A condition on indices: 0 <= offset + sum of stride * index < extent. Indices as for an Access."""

    offset: int
    strides: tuple[int, ...]
    extent: int


class Access(NamedTuple):
    """An element of an operand: the one at offset + sum of stride * index (+ sum of picked * stride), in elements.

    Attributes:
        operand: which of the Nest's operands.
        offset: of the element at all indices zero.
        strides: one for each axis: the outer axes, then the inner axes of the phase that it is used in.
        picks: integer Scalars of the same phase, each times a stride in elements: places that only the data know. They
            are in range by construction.
        inside: conditions under which there is an element; where one does not hold, nothing is loaded, but `fill`.
        fill: what stands for elements that are not there.
    """

    operand: int
    offset: int
    strides: tuple[int, ...]
    picks: tuple[tuple[Scalar, int], ...] = ()
    inside: tuple[Range, ...] = ()
    fill: float | int | bool = 0


class Counter(NamedTuple):
    """The index along an axis (outer axes first, then the phase's inner ones), as an int64."""

    axis: int


class Store(NamedTuple):
    """Writes a Scalar to an element; with `add`, adds it to what is there (one after the other, in index order)."""

    target: Access
    scalar: Scalar
    add: bool = False


class Reduction(NamedTuple):
    """Combines a Scalar over the inner axes of its phase; later phases have it as an input of this name and dtype.

    `op` is "add", "multiply", "maximum" or "minimum" (NaN wins, as in NumPy), "or" or "and" (of bools). The dtype is
    the Scalar's. Over no elements: 0, 1, the least or the largest value, False, True.
    """

    name: str
    op: str
    scalar: Scalar


class Phase(NamedTuple):
    """One walk over inner axes.

    Attributes:
        inner: their extents; the last one is walked fastest. () for a phase that is done once for each outer index.
        inputs: for the name of each input Scalar that this phase's Scalars use: where it comes from. Names of
            reductions of earlier phases are known without.
        stores, reductions: what is done with Scalars.
    """

    inner: tuple[int, ...]
    inputs: dict[str, Access | Counter]
    stores: tuple[Store, ...]
    reductions: tuple[Reduction, ...] = ()


class Operand(NamedTuple):
    """Memory that a Nest uses: an array given by address, or (`scratch` > 0) that many elements, each thread's own.

    Scratch holds what one outer index (in "outer" lanes: one vector of them) passes from phase to phase: accesses to it
    have strides along inner axes only.
    """

    dtype: DType
    scratch: int = 0


class Nest(NamedTuple):
    """A loop nest.

    Attributes:
        name: for people who read code and profiles; letters, digits and underscores.
        outer: extents of the outer axes, the last one fastest.
        phases: what is done for each outer index.
        operands: memory; those that are not scratch come as addresses, in this order.
        lanes: the axis along which vectors are laid: "inner", each phase's last inner axis, or "outer", the last
            outer one, where an outer index of the text above is a whole vector of them.
    """

    name: str
    outer: tuple[int, ...]
    phases: tuple[Phase, ...]
    operands: tuple[Operand, ...]
    lanes: str
