"""A loop as data, and how its steps are run.

`scan`, `fori_loop` and `while_loop` all make a `Loop` of their arguments and hand it to one runner. What a compiler has
to know to keep it one loop, instead of the steps that it unrolls to, is here in one place: the function of a step, what
is carried, what is read along the way, how long it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..core import boxing, capturing, pytree
from ..core.recording import set_recording
from ..core.tape import next_sequence
from ..core.tracing import snapshot
from ..errors import DTypeError, ShapeError, StepLimitError, StructureError
from ..typing import PyTree
from .levels import differs
from .shared import as_tensor, described

_NUMBERS = (bool, int, float, complex)


class Loop:
    """A loop: f is applied to what is carried, again and again.

    Attributes:
        name: what the user called.
        function: the function of a step; `call(function, step, carry, x)` says how it is called.
        init: the leaves of what is carried into the first step, Tensors.
        structure: how they are nested.
        xs: the leaves of what is read along their first axes, Tensors; none but in a scan.
        xs_structure: how those are nested.
        length: how many steps there are; None if `predicate` decides.
        predicate: takes what is carried; the loop goes on while it is true.
        reverse: whether the last of `xs` is read first.
        checkpoints: how many states to keep for reverse mode; None keeps the tape of every step.
        max_steps: more steps than that are an error.
        y_structure: how what the steps emit is nested, known after the first.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        init: PyTree,
        *,
        xs: PyTree = None,
        length: int | None = None,
        predicate: Callable[..., Any] | None = None,
        reverse: bool = False,
        checkpoints: int | None = None,
        max_steps: int | None = None,
    ) -> None:
        self.name = name
        self.function = function
        self.described = described(function)
        leaves, self.structure = pytree.flatten(init)
        self.init = [snapshot(as_tensor(leaf, name, partial(self.path, i))) for i, leaf in enumerate(leaves)]
        self.likes = [(leaf.shape, leaf.dtype) for leaf in self.init]
        leaves, self.xs_structure = pytree.flatten(xs)
        self.xs = [snapshot(as_tensor(leaf, name, partial(self.x_path, i))) for i, leaf in enumerate(leaves)]
        self.length = self._checked_length(length) if predicate is None else None
        self.predicate = predicate
        self.reverse = reverse
        self.max_steps = max_steps
        self.y_structure: pytree.Structure | None = None
        if checkpoints is not None and (not isinstance(checkpoints, int) or checkpoints < 1):
            raise ValueError(f"{name}: checkpoints must be a positive number of states to keep, not {checkpoints!r}")
        self.checkpoints = checkpoints

    def path(self, i: int) -> str:
        """Return where a leaf of what is carried is found."""
        return self.structure.paths("carry")[i]

    def x_path(self, i: int) -> str:
        """Return where a leaf of what is read is found."""
        return self.xs_structure.paths("xs")[i]

    def _checked_length(self, length: int | None) -> int:
        for i, x in enumerate(self.xs):
            if not x.ndim:
                raise ShapeError(f"{self.name}: {self.x_path(i)} has shape (), so there is nothing to read from it")
            if length is None:
                length = x.shape[0]
            if x.shape[0] != length:
                given = "length" if i == 0 else self.x_path(0)
                raise ShapeError(
                    f"{self.name}: {self.x_path(i)} has {x.shape[0]} entries along its first axis, but {given} says "
                    f"that there are {length} steps"
                )
        if length is None:
            raise TypeError(f"{self.name}: without xs, the number of steps must be given as length")
        return length

    # ------------------------------------------------------------------ one step

    def index(self, step: int) -> int:
        """Return which of `xs` a step reads, and where what it emits is put."""
        return self.length - 1 - step if self.reverse and self.length is not None else step

    def read(self, step: int, xs: Sequence[Any]) -> list[Any]:
        """Return the leaves of what a step reads."""
        i = self.index(step)
        return [x[i] for x in xs]

    def call(self, step: int, carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        """Call the function of a step; return (what it carries on, what it emits)."""
        return self.function(carry), None

    def step(self, step: int, leaves: Sequence[Any], mask: Any, x: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Run a step.

        Args:
            step: its number.
            leaves: what is carried into it.
            mask: which examples are still at it, a Tensor of shape (); None if all are. The others keep what they have.
            x: what it reads.

        Returns:
            (the leaves of what is carried on, the leaves of what is emitted).
        """
        # The function gets boxes of its own: it may write to what it is given, and nobody else sees it.
        carry = self.structure.unflatten([snapshot(leaf) for leaf in leaves])
        read = self.xs_structure.unflatten([snapshot(leaf) for leaf in x])
        if mask is None:
            carried, emitted = self.call(step, carry, read)
            return self._checked_carry(carried), self._checked_emission(emitted)
        with np.errstate(all="ignore"):  # those that are done are computed on, and what becomes of them is dropped
            carried, emitted = self.call(step, carry, read)
            new = self._checked_carry(carried)
            chosen = [boxing.operations.where(mask, y, x) for x, y in zip(leaves, new)]
        return chosen, self._checked_emission(emitted)

    def _checked_carry(self, carried: PyTree) -> list[Any]:
        try:
            leaves = self.structure.flatten_like(carried, "carry")
        except StructureError as error:
            raise StructureError(
                f"{self.name}: {self.described} must return what is carried nested as it was given: {error}"
            ) from None
        return [self._checked_leaf(i, leaf) for i, leaf in enumerate(leaves)]

    def _checked_leaf(self, i: int, leaf: Any) -> Any:
        shape, dtype = self.likes[i]
        if isinstance(leaf, _NUMBERS) and np.can_cast(np.asarray(leaf).dtype, dtype, "same_kind"):
            leaf = boxing.box(np.asarray(leaf, dtype))
        leaf = as_tensor(leaf, self.name, partial(self.path, i))
        if leaf.shape != shape:
            raise ShapeError(
                f"{self.name}: {self.path(i)} has shape {shape} at first, and {self.described} made it shape "
                f"{leaf.shape}; what is carried must keep its shape. Make it that large from the beginning"
            )
        if leaf.dtype != dtype:
            raise DTypeError(
                f"{self.name}: {self.path(i)} has dtype {dtype} at first, and {self.described} made it {leaf.dtype}; "
                f"what is carried must keep its dtype. Begin with {leaf.dtype}, or convert it with "
                f".astype({str(dtype)!r}) in the function"
            )
        return leaf

    def _checked_emission(self, emitted: PyTree) -> list[Any]:
        if self.y_structure is None:
            leaves, self.y_structure = pytree.flatten(emitted)
        else:
            try:
                leaves = self.y_structure.flatten_like(emitted, "y")
            except StructureError as error:
                raise StructureError(
                    f"{self.name}: {self.described} must emit the same nesting at every step: {error}"
                ) from None
        return [as_tensor(leaf, self.name, partial(self._y_path, i)) for i, leaf in enumerate(leaves)]

    def _y_path(self, i: int) -> str:
        assert self.y_structure is not None
        return self.y_structure.paths("y")[i]

    def as_read(self, _capture: Any) -> Loop | None:
        """Return a loop like this one whose steps need no numbers, for a capture; None if there is none."""
        return self

    # ------------------------------------------------------------------ whether to go on

    def goes_on(self, step: int, leaves: Sequence[Any], mask: Any) -> tuple[bool, Any]:
        """Return (whether there is a step to run, which examples are at it; None if all are)."""
        if self.predicate is None:
            assert self.length is not None
            return step < self.length, None
        before = set_recording(False)
        try:
            asked = self.predicate(self.structure.unflatten([snapshot(leaf, keep_node=False) for leaf in leaves]))
            going, mask = self._answer(asked, mask)
        finally:
            set_recording(before)
        if going and step == self.max_steps:
            raise StepLimitError(
                f"{self.name}: {described(self.predicate)} is still true after {step} steps, which is all that "
                "max_steps allows. Allow more, or see whether what is carried ever gets where the predicate is false"
            )
        return going, mask

    def _answer(self, asked: Any, mask: Any) -> tuple[bool, Any]:
        if not isinstance(asked, boxing.Tensor):
            if np.shape(asked) != ():
                raise self._no_predicate(np.shape(asked))
            return bool(asked), mask
        if asked.shape != ():
            raise self._no_predicate(asked.shape)
        if not differs(asked):
            return bool(asked), mask
        still = boxing.operations.not_equal(asked, 0)
        if mask is not None:
            still = boxing.operations.logical_and(mask, still)
        return capturing.any_holds(still), still

    def _no_predicate(self, shape: Any) -> ShapeError:
        return ShapeError(
            f"{self.name}: {described(self.predicate)} must return one truth value, of shape (), not of shape {shape}; "
            "reduce it, for example with .any() or .all()"
        )


class Emitted:
    """What the steps of a loop have emitted, leaf by leaf."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.columns: list[list[Any]] = []

    def take(self, leaves: Sequence[Any]) -> None:
        """Take what the next step has emitted."""
        if not self.columns:
            self.columns = [[] for _ in leaves]
        for i, (column, leaf) in enumerate(zip(self.columns, leaves)):
            if column and (leaf.shape != column[0].shape or leaf.dtype != column[0].dtype):
                loop = self._loop
                raise ShapeError(
                    f"{loop.name}: {loop._y_path(i)} had shape {column[0].shape} and dtype {column[0].dtype} at first, "
                    f"and then shape {leaf.shape} and dtype {leaf.dtype}; what {loop.described} emits is stacked, and "
                    "must be alike at every step"
                )
            column.append(leaf)

    def stacked(self) -> list[Any]:
        """Return what was emitted, stacked along a new first axis."""
        order = -1 if self._loop.reverse else 1
        return [boxing.operations.stack(column[::order]) for column in self.columns]


def unrolled(
    loop: Loop, leaves: Sequence[Any], xs: Sequence[Any], watched: Callable[..., None] | None = None
) -> tuple[list[Any], list[Any], int]:
    """Run a loop step by step, as a loop of Python's: on every tape, and under every transform, like any other code.

    Args:
        loop: the loop.
        leaves: what is carried at first.
        xs: what is read.
        watched: is told of each step: its number, the leaves that went in, those that came out, where its tape begins.

    Returns:
        (the leaves of what is carried in the end, the leaves of what was emitted, the number of steps).
    """
    carried, mask, step = list(leaves), None, 0
    emitted = Emitted(loop)
    while True:
        going, mask = loop.goes_on(step, carried, mask)
        if not going:
            return carried, emitted.stacked(), step
        before, x, floor = carried, loop.read(step, xs), next_sequence()
        carried, y = loop.step(step, before, mask, x)
        if watched is not None:
            watched(step, [*before, *x], [*carried, *y], floor)
        emitted.take(y)
        step += 1


__all__ = ["Emitted", "Loop", "unrolled"]
