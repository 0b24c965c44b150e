"""Loops as functions: `scan`, `fori_loop`, `while_loop`."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import boxing
from ..core.recording import UNTAPED, set_recording
from ..typing import PyTree
from .bounded import run
from .counted import Counted
from .levels import differs
from .looping import Loop

CHECKPOINTS = 20
"""How many states `while_loop` keeps for reverse mode: enough for 1771 steps at three runs of each, 10626 at four."""


class _Scan(Loop):
    def call(self, step: int, carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        returned = self.function(carry, x)
        if not isinstance(returned, tuple) or len(returned) != 2:
            what = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else type(returned).__name__
            raise TypeError(f"scan: {self.described} must return (carry, y), not {what}; y may be None")
        return returned


def scan(
    f: Callable[[Any, Any], Any],
    init: PyTree,
    xs: PyTree = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoints: int | None = None,
) -> tuple[PyTree, PyTree]:
    """Carry a value through a sequence, and collect what is emitted on the way.

    The same as a loop of Python's, which is as good here; but the signature is JAX's, the results are stacked, and
    reverse mode can do with few states in memory.

    Args:
        f: takes what is carried and one entry of xs; returns (what is carried on, what is emitted). What is carried
            keeps its nesting, shapes and dtypes.
        init: what is carried at first: any nesting of Tensors, arrays and numbers.
        xs: any nesting of Tensors, which are read along their first axes; or None.
        length: the number of steps; it can be left out where xs tell.
        reverse: begin with the last entry. What is emitted is put where the entry was.
        unroll: accepted for JAX's sake; it changes nothing here.
        checkpoints: keep so many states for reverse mode, and run steps again from there. None keeps the tape of every
            step.

    Returns:
        (what is carried in the end, what was emitted, stacked along a new first axis).

    Raises:
        ShapeError, DTypeError, StructureError: xs differ in length, or f changes what must stay as it is; the message
            names the place.
        TypeError: f does not return a pair, or nothing says how many steps there are.

    >>> import wengert as wg
    >>> total, sums = wg.scan(lambda carry, x: (carry + x, carry + x), 0.0, wg.tensor([1.0, 2.0, 3.0]))
    >>> total.item(), sums.tolist()
    (6.0, [1.0, 3.0, 6.0])
    >>> decay = lambda a: wg.scan(lambda c, _: (a * c, None), 1.0, length=100, checkpoints=5)[0]
    >>> round(wg.grad(decay)(0.99).item(), 4)
    36.973

    A. Griewank and A. Walther, "Algorithm 799: Revolve", ACM TOMS 26 (2000), for `checkpoints`.
    """
    loop = _Scan("scan", f, init, xs=xs, length=length, reverse=reverse, checkpoints=checkpoints)
    leaves, ys = run(loop) if loop.length else (loop.init, _nothing_emitted(loop))
    assert loop.y_structure is not None
    return loop.structure.unflatten(leaves), loop.y_structure.unflatten(ys)


def _nothing_emitted(loop: Loop) -> list[Any]:
    """Return what no step has emitted: of a length of zero. A step on zeros, which are dropped, says of what."""
    zeros = [np.zeros(x.shape[1:], x.dtype) for x in loop.xs]
    before = set_recording(UNTAPED)
    try:
        with np.errstate(all="ignore"):
            _, y = loop.step(0, loop.init, None, [boxing.box(zero) for zero in zeros])
    finally:
        set_recording(before)
    return [boxing.box(np.zeros((0, *leaf.shape), leaf.dtype)) for leaf in y]


def fori_loop(
    lower: Any,
    upper: Any,
    body_fun: Callable[[Any, Any], Any],
    init_val: PyTree,
    *,
    unroll: int | bool | None = None,
    checkpoints: int | None = None,
) -> PyTree:
    """Apply a function for every integer from lower to upper - 1, carrying a value along.

    Args:
        lower: the first integer.
        upper: the end, which is not reached. Inside of `vmap` it may differ from example to example.
        body_fun: takes the integer and what is carried; returns what is carried on.
        init_val: what is carried at first: any nesting of Tensors, arrays and numbers.
        unroll: accepted for JAX's sake; it changes nothing here.
        checkpoints: keep so many states for reverse mode, and run steps again from there. None keeps the tape of every
            step.

    Returns:
        What is carried in the end.

    Raises:
        ShapeError, DTypeError, StructureError: the function changes what must stay as it is; the message names the
            place.

    >>> import wengert as wg
    >>> wg.fori_loop(1, 5, lambda i, product: product * i, 1.0)
    Tensor(24., dtype=float32)
    """
    if differs(lower) or differs(upper):
        return _counted_by_example(lower, upper, body_fun, init_val, checkpoints)
    first, end = _integer(lower, "lower"), _integer(upper, "upper")
    loop = Counted("fori_loop", body_fun, init_val, length=max(end - first, 0), checkpoints=checkpoints)
    loop.lower = first
    leaves, _ = run(loop)
    return loop.structure.unflatten(leaves)


def _integer(value: Any, name: str) -> int:
    try:
        return operator.index(value.item() if isinstance(value, boxing.Tensor) else value)
    except TypeError:
        raise TypeError(f"fori_loop: {name} must be an integer, not {value!r}") from None


def _counted_by_example(lower: Any, upper: Any, body_fun: Any, init_val: PyTree, checkpoints: int | None) -> PyTree:
    def is_before(state: Any) -> Any:
        return state[0] < upper

    def next_state(state: Any) -> Any:
        return state[0] + 1, body_fun(state[0], state[1])

    return while_loop(is_before, next_state, (boxing.operations.asarray(lower), init_val), checkpoints=checkpoints)[1]


def while_loop(
    cond_fun: Callable[[Any], Any],
    body_fun: Callable[[Any], Any],
    init_val: PyTree,
    *,
    checkpoints: int | None = CHECKPOINTS,
    max_steps: int | None = None,
) -> PyTree:
    """Apply a function as long as a predicate of its results is true.

    It has a gradient, in either mode and to any order, and inside of `vmap` every example takes as many steps as it
    needs: those that are done keep what they have, and contribute exactly zero from then on. In reverse mode memory
    does not grow with the number of steps: `checkpoints` states are kept, and steps are run again from there.

    Args:
        cond_fun: takes what is carried; returns one truth value.
        body_fun: takes what is carried; returns what is carried on, of the same nesting, shapes and dtypes. What it
            closes over is differentiated, too. It may be run several times for each step, so it should have no effects
            but its result; random numbers of `wg.random` are drawn alike each time.
        init_val: what is carried at first: any nesting of Tensors, arrays and numbers.
        checkpoints: how many states to keep for reverse mode. None keeps the tape of every step.
        max_steps: raise if the loop goes on for longer.

    Returns:
        What is carried in the end.

    Raises:
        ShapeError, DTypeError, StructureError: body_fun changes what must stay as it is (the message names the place),
            or the predicate is no single truth value.
        StepLimitError: the loop went on for more than max_steps steps.
        GradientError: a step came out otherwise when it was run again, or an intermediate value that was taken out of
            the loop by other ways than by being carried is differentiated.

    >>> import wengert as wg
    >>> def root(a):
    ...     is_coarse = lambda x: abs(x * x - a) > 1e-3
    ...     return wg.while_loop(is_coarse, lambda x: 0.5 * (x + a / x), a)
    >>> round(root(wg.tensor(2.0)).item(), 3), round(wg.grad(root)(2.0).item(), 3)
    (1.414, 0.354)
    >>> [round(x, 3) for x in wg.vmap(root)(wg.tensor([2.0, 100.0])).tolist()]
    [1.414, 10.0]

    Q. Wang, P. Moin and G. Iaccarino, "Minimal repetition dynamic checkpointing algorithm for unsteady adjoint
    calculation", SIAM J. Sci. Comput. 31 (2009).
    """
    loop = Loop("while_loop", body_fun, init_val, predicate=cond_fun, checkpoints=checkpoints, max_steps=max_steps)
    leaves, _ = run(loop)
    return loop.structure.unflatten(leaves)


__all__ = ["fori_loop", "scan", "while_loop"]
