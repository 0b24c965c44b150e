"""Where an optimiser keeps its state, and how it touches memory: many small parameters at once, large ones in pieces.

A call into NumPy costs about as much as arithmetic on a thousand elements. So the state of all small parameters of a
group lies in one flat array, their gradients are gathered into another, and the update rule runs once for all of them.
A large parameter is updated in pieces that stay in the processor's cache from the rule's first operation to its last.
Every rule works element by element, so how the elements are grouped changes no bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np

from wengert import Tensor
from wengert.errors import DTypeError, ShapeError

SMALL = 16_384
"""A parameter of at most this many elements shares a bucket with others."""
PIECE = 32_768
"""Elements that a rule works on at a time; also the most that a shared bucket holds."""

Rule = Callable[[np.ndarray, Sequence[np.ndarray], np.ndarray, Sequence[np.ndarray]], None]
"""`rule(gradient, state, out, constants)` updates the state in place and writes into `out` what to subtract."""


class Update:
    """One step of one group: its rule, the constants of the rule, and how weights decay.

    Attributes:
        rule: the update rule.
        constants: its constants for this step, in the rule's order.
        coupled: added to the gradient, times the parameter (L2 regularisation); 0 for none.
        shrink: what the parameter is multiplied by first (decoupled weight decay); 1 for none.
    """

    __slots__ = ("constants", "coupled", "rule", "shrink")

    def __init__(self, rule: Rule, constants: tuple[float, ...], coupled: float = 0.0, shrink: float = 1.0) -> None:
        self.rule = rule
        self.constants = constants
        self.coupled = coupled
        self.shrink = shrink


class Bucket:
    """Parameters that are updated together, with their state in flat arrays.

    Attributes:
        parameters: the Tensors, of one dtype.
        count: how many steps they have taken.
        state: flat arrays by name, one after the other in the parameters' order.
        units: what the state is measured in, as the optimiser sees it.
    """

    __slots__ = (
        "_arrays",
        "_gradient",
        "_out",
        "_pieces",
        "_scalars",
        "_spare",
        "count",
        "dtype",
        "parameters",
        "shapes",
        "size",
        "state",
        "units",
    )
    records_itself = True

    def __init__(self, parameters: Sequence[Tensor], state: dict[str, np.ndarray], count: int = 0) -> None:
        self.parameters = list(parameters)
        self.shapes = [p.shape for p in self.parameters]
        self.dtype = self.parameters[0].dtype
        self.size = sum(p.size for p in self.parameters)
        self.count = count
        self.units: tuple[float, ...] = ()
        self.state = state
        self._scalars: tuple[np.ndarray, ...] = ()
        self._arrays: tuple[np.ndarray, ...] = ()
        self._allocate()

    @property
    def is_large(self) -> bool:
        """Whether it is a single parameter that is updated in pieces."""
        return len(self.parameters) == 1 and self.size > SMALL

    @property
    def working_dtype(self) -> np.dtype[Any]:
        """The precision of state and arithmetic: that of the parameters, but at least float32."""
        return working_dtype(self.dtype)

    def _allocate(self) -> None:
        """Make the scratch arrays; those of a shared bucket are also seen as one piece for each parameter."""
        length = min(self.size, PIECE) if self.is_large else self.size
        self._gradient, self._out, self._spare = (np.empty(length, self.working_dtype) for _ in range(3))
        self._pieces = [] if self.is_large else self.split_flat(self._out)
        self._scalars = ()
        self._arrays = tuple(self.state.values())

    def split_flat(self, flat: np.ndarray) -> list[np.ndarray]:
        """Return views of a flat array in the parameters' shapes."""
        views, start = [], 0
        for shape in self.shapes:
            stop = start + prod(shape)
            views.append(flat[start:stop].reshape(shape))
            start = stop
        return views

    def divided(self) -> list[Bucket]:
        """Return a bucket for each parameter, with its part of the state: they no longer go in step."""
        parts = {name: self.split_flat(flat) for name, flat in self.state.items()}
        buckets = []
        for i, parameter in enumerate(self.parameters):
            bucket = Bucket([parameter], {name: views[i].reshape(-1) for name, views in parts.items()}, self.count)
            bucket.units = self.units
            buckets.append(bucket)
        return buckets

    def require(self, initial: dict[str, float]) -> None:
        """Add the state that a rule needs and the bucket lacks: a hyperparameter may have asked for more."""
        for name, value in initial.items():
            if name not in self.state:
                self.state[name] = np.full(self.size, value, self.working_dtype)
        if len(self._arrays) != len(initial):
            self._arrays = tuple([self.state[name] for name in initial])

    def rescale(self, units: dict[str, float]) -> None:
        """Convert the state to other units: `state * unit` stays what it was."""
        wanted = tuple(units.values())
        if self.units and self.units != wanted:
            for name, old, new in zip(units, self.units, wanted):
                self.state[name] *= old / new
        self.units = wanted

    def gradients(self, raw: bool = True) -> list[Any]:
        """Return the gradients, as arrays or as Tensors, None where there is none.

        Raises:
            DTypeError, ShapeError: what is in `.grad` is no gradient of the parameter.
        """
        found: list[Any] = []
        for parameter, shape in zip(self.parameters, self.shapes):
            gradient = parameter.grad
            if gradient is None:
                found.append(None)
                continue
            try:
                values = gradient._raw() if raw else gradient
            except AttributeError:
                raise _bad_gradient(gradient, shape) from None
            if values.shape != shape or values.dtype != self.dtype:
                raise _bad_gradient(gradient, shape)
            found.append(values)
        return found

    def apply(self, arrays: list[np.ndarray], gradients: list[np.ndarray], update: Update) -> None:
        """Take one step: write the parameters' arrays and the state."""
        values = (update.coupled, update.shrink, *update.constants)
        if len(self._scalars) != len(values):
            self._scalars = tuple([np.zeros((), self.working_dtype) for _ in values])
        for scalar, value in zip(self._scalars, values):
            scalar[()] = value
        if self.is_large:
            self._apply_in_pieces(arrays[0], gradients[0], update)
        else:
            self._apply_at_once(arrays, gradients, update)
        self.advance()

    def advance(self) -> None:
        """Count one step."""
        self.count += 1

    def _apply_at_once(self, arrays: list[np.ndarray], gradients: list[np.ndarray], update: Update) -> None:
        coupled, shrink, *constants = self._scalars
        gradient = np.concatenate(gradients, axis=None, out=self._gradient)
        if update.coupled:
            decay = np.concatenate(arrays, axis=None, out=self._spare)
            np.multiply(decay, coupled, decay)
            np.add(gradient, decay, gradient)
        update.rule(gradient, self._arrays, self._out, constants)
        if update.shrink != 1:
            for array in arrays:
                np.multiply(array, shrink, array)
        for array, piece in zip(arrays, self._pieces):
            np.subtract(array, piece, array)

    def _apply_natively(self, array: np.ndarray, gradient: np.ndarray, update: Update) -> bool:
        """Take one step of a large parameter in one pass, by native code; return whether it was done."""
        if not (array.flags.c_contiguous and gradient.flags.c_contiguous) or array.dtype != self.working_dtype:
            return False
        count = len(self._arrays)

        def record(cells: Sequence[Any]) -> None:
            parameter, slope, *rest = cells
            record_update(update, parameter, slope, rest[:count], rest[count:])

        rule = (update.rule, not update.coupled, update.shrink == 1)
        flat = [array.reshape(-1), gradient.reshape(-1), *self._arrays, *self._scalars]
        return Tensor.update_natively(rule, record, flat)

    def _apply_in_pieces(self, array: np.ndarray, gradient: np.ndarray, update: Update) -> None:
        if self._apply_natively(array, gradient, update):
            return
        coupled, shrink, *constants = self._scalars
        flat = array.reshape(-1)
        flat_gradient = gradient.reshape(-1)
        converts = gradient.dtype != self._gradient.dtype
        for start in range(0, self.size, PIECE):
            here = slice(start, start + PIECE)
            part = flat[here]
            part_gradient = flat_gradient[here]
            out = self._out[: part.size]
            if converts:
                scratch = self._gradient[: part.size]
                np.copyto(scratch, part_gradient)
                part_gradient = scratch
            if update.coupled:
                decay = np.multiply(part, coupled, self._spare[: part.size])
                part_gradient = np.add(decay, part_gradient, decay)
            update.rule(part_gradient, [state[here] for state in self._arrays], out, constants)
            if update.shrink != 1:
                np.multiply(part, shrink, part)
            np.subtract(part, out, part)
        if not array.flags.c_contiguous:
            array[...] = flat.reshape(array.shape)


def record_update(update: Update, array: Any, gradient: Any, state: Sequence[Any], numbers: Sequence[Any]) -> None:
    """Do what `Bucket.apply` does, to one parameter, all as things that look like arrays, and are written to."""
    coupled, shrink, *constants = numbers
    if update.coupled:
        gradient = gradient + array * coupled
    out = gradient.like()
    update.rule(gradient, state, out, constants)
    array[...] = (array * shrink if update.shrink != 1 else array) - out


def _bad_gradient(gradient: Any, shape: tuple[int, ...]) -> Exception:
    if not isinstance(gradient, Tensor):
        return DTypeError(
            f"step: the .grad of a parameter of shape {shape} is of type {type(gradient).__name__}, not a Tensor; "
            "nothing has been updated"
        )
    if gradient.shape != shape:
        return ShapeError(
            f"step: a parameter of shape {shape} has a gradient of shape {gradient.shape}; nothing has been updated"
        )
    return DTypeError(
        f"step: a parameter of shape {shape} has a gradient of dtype {gradient.dtype}; nothing has been updated"
    )


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the precision that parameters of a dtype are updated in."""
    return np.result_type(dtype, np.float32)


def arrange(parameters: Iterable[Tensor], initial: dict[str, float]) -> list[Bucket]:
    """Sort parameters without state into new buckets: small ones of a dtype together, large ones alone."""
    shared: dict[Any, list[Tensor]] = {}
    groups: list[list[Tensor]] = []
    for parameter in parameters:
        if parameter.size > SMALL:
            groups.append([parameter])
            continue
        group = shared.get(parameter.dtype)
        if group is None or sum(p.size for p in group) + parameter.size > PIECE:
            group = shared[parameter.dtype] = []
            groups.append(group)
        group.append(parameter)
    return [Bucket(group, _fresh_state(group, initial)) for group in groups]


def _fresh_state(parameters: list[Tensor], initial: dict[str, float]) -> dict[str, np.ndarray]:
    size, dtype = sum(p.size for p in parameters), working_dtype(parameters[0].dtype)
    return {name: np.full(size, value, dtype) for name, value in initial.items()}
