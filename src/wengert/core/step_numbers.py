"""The number of a step, in a function that is run once and stands for all steps of a loop.

It is what it is in every step at once: a number of Python's for each. Arithmetic with numbers of Python's makes another
of its kind. What needs one number (a branch, a list, a shape) cannot be had, and the loop is followed step by step.
What a step takes from a Tensor by such a number (`xs[i]`), and numbers that meet Tensors, are arrays of all steps, of
which each reads its own: a function is run twice to learn what it asks for (`Asking`), and is told from then on
(`Told`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from . import boxing


class Unrollable(BaseException):
    """A loop cannot be one equation. No error: who catches all errors in a step must not catch this."""


class Request(NamedTuple):
    """What a step asks for.

    Attributes:
        values: the number in each step.
        tensor: what it reads from; None where the number itself is wanted.
        axis: along which axis.
        width: how many entries it reads from there on; 0 for one, without the axis.
        dtype: of the number itself.
    """

    values: tuple[Any, ...]
    tensor: Any = None
    axis: int = 0
    width: int = 0
    dtype: Any = None

    @property
    def key(self) -> Any:
        """What equal requests have in common."""
        return self.values, id(self.tensor), self.axis, self.width, self.dtype

    def first(self) -> Any:
        """Return what the first step gets."""
        value = self.values[0]
        if self.tensor is None:
            return value
        part = slice(value, value + self.width) if self.width else value
        return self.tensor[(slice(None),) * self.axis + (part,)]

    def stack(self) -> Any:
        """Return what it is in all steps, along a new first axis: a view of the Tensor, if it can be one."""
        if self.tensor is None:
            return boxing.box(np.array(self.values, self.dtype))
        x = boxing.operations.moveaxis(self.tensor, self.axis, 0) if self.axis else self.tensor
        strides = set(map(operator.sub, self.values[1:], self.values))
        if strides != {self.width or 1}:
            places = np.array(self.values)
            return x[places[:, None] + np.arange(self.width)] if self.width else x[places]
        part = x[self.values[0] : self.values[-1] + (self.width or 1)]
        return part.reshape((len(self.values), self.width, *part.shape[1:])) if self.width else part

    def entered(self, entry: Any) -> Any:
        """Return what a step gets of its entry of the stack."""
        return boxing.operations.moveaxis(entry, 0, self.axis) if self.width and self.axis else entry


_next_age = count().__next__


class Asking:
    """Notes what a step asks for, and answers as for the first step.

    Attributes:
        requests: all that was asked for, by key.
        age: larger than that of the loops around.
    """

    def __init__(self) -> None:
        self.requests: dict[Any, Request] = {}
        self.age = _next_age()
        self._answers: dict[Any, Any] = {}

    def answer(self, request: Request) -> Any:
        """Return what the first step gets."""
        if request.key not in self.requests:
            self.requests[request.key] = request
            self._answers[request.key] = request.first()
        return self._answers[request.key]


class Told:
    """Answers with what the loop has read for this step; attributes as for `Asking`."""

    def __init__(self, requests: Sequence[Request], entries: Sequence[Any]) -> None:
        self.age = _next_age()
        self._answers = {request.key: request.entered(entry) for request, entry in zip(requests, entries, strict=True)}

    def answer(self, request: Request) -> Any:
        """Return what this step gets."""
        try:
            return self._answers[request.key]
        except KeyError:
            raise Unrollable("a step asks for what the one before did not") from None


class StepNumber:
    """Stands for the number of a step, or for what arithmetic makes of it.

    Args:
        values: what it is in each step.
        answers: what a step is told.
    """

    __slots__ = ("answers", "values")
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: Sequence[Any], answers: Asking | Told) -> None:
        self.values = tuple(values)
        self.answers = answers

    @property
    def __class__(self) -> Any:  # pyright: ignore
        raise Unrollable("the number of a step")  # who asks for its kind would be told that it is no int, which it is

    def __bool__(self) -> bool:
        if len(set(map(bool, self.values))) > 1:
            raise Unrollable("the number of a step")
        return bool(self.values[0])

    def as_number(self, dtype: Any) -> Any:
        """Return the number of this step: an array of a dtype (or the number of the first step, while it asks)."""
        try:
            np.array(self.values, dtype)
        except OverflowError:
            raise Unrollable("a number that is too large for a dtype") from None
        return self.answers.answer(Request(self.values, dtype=np.dtype(dtype)))

    def read_from(self, tensor: Any, axis: int) -> Any:
        """Return the entry at this number along an axis."""
        length = tensor.shape[axis]
        if set(map(type, self.values)) != {int} or not all([-length <= value < length for value in self.values]):
            raise Unrollable("no positions along an axis")
        return self.answers.answer(Request(tuple([value % length for value in self.values]), tensor, axis))


def _window(tensor: Any, axis: int, part: slice) -> Any:
    """Return the entries along an axis from one number of the step on, to another one."""
    start, stop = part.start, part.stop
    if type(start) is not StepNumber or type(stop) is not StepNumber or part.step not in (None, 1):
        raise Unrollable("a slice that differs from step to step")
    if set(map(type, (*start.values, *stop.values))) != {int} or start.answers is not stop.answers:
        raise Unrollable("bounds that are no numbers of one loop")
    widths = set(map(operator.sub, stop.values, start.values))
    if len(widths) > 1 or min(widths) < 1:
        raise Unrollable("a slice that is not as long in every step")
    if min(start.values) < 0 or max(stop.values) > tensor.shape[axis]:
        raise Unrollable("a slice that ends early")
    return start.answers.answer(Request(start.values, tensor, axis, min(widths)))


def _operation(operation: Callable[..., Any], is_reflected: bool = False) -> Callable[[StepNumber, Any], Any]:
    def method(self: StepNumber, other: Any) -> Any:
        if type(other) is StepNumber:
            if other.answers is not self.answers:
                raise Unrollable("numbers of two loops")
            others: Sequence[Any] = other.values
        elif type(other) in _NUMBERS:
            others = (other,) * len(self.values)
        elif isinstance(other, boxing.Tensor):
            return NotImplemented
        else:
            raise Unrollable("the number of a step")
        return _made(self, operation, *((others, self.values) if is_reflected else (self.values, others)))

    return method


def _of_one(operation: Callable[[Any], Any]) -> Callable[[StepNumber], Any]:
    def method(self: StepNumber) -> Any:
        return _made(self, operation, self.values)

    return method


def _made(number: StepNumber, operation: Callable[..., Any], *operands: Sequence[Any]) -> StepNumber:
    try:
        values = list(map(operation, *operands))
    except (ArithmeticError, ValueError, TypeError) as error:  # of one step, which may catch it
        raise Unrollable("arithmetic that fails") from error
    if len(set(map(type, values))) != 1 or type(values[0]) not in _NUMBERS:
        raise Unrollable("numbers of several kinds")
    return StepNumber(values, number.answers)


def _refuse(_self: Any, *_args: Any) -> Any:
    raise Unrollable("the number of a step")


_NUMBERS = (int, float, bool, complex)
_ARITHMETIC = "add sub mul truediv floordiv mod pow lshift rshift and or xor".split()
_OPERATORS = {
    **{name: _operation(getattr(operator, f"__{name}__")) for name in [*_ARITHMETIC, *"lt le eq ne gt ge".split()]},
    **{f"r{name}": _operation(getattr(operator, f"__{name}__"), is_reflected=True) for name in _ARITHMETIC},
    **{name: _of_one(getattr(operator, f"__{name}__")) for name in "neg pos abs invert".split()},
}
_REFUSED = """int float complex index round trunc floor ceil iter len getitem call str repr format array array_function
divmod rdivmod matmul rmatmul"""
for _name, _method in {**_OPERATORS, **dict.fromkeys(_REFUSED.split(), _refuse)}.items():
    setattr(StepNumber, f"__{_name}__", _method)


def is_in(key: Any) -> bool:
    """Return whether a key to a Tensor is, or holds, the number of a step."""
    return any(map(_numbers_of, _parts_of(key)))


def _parts_of(key: Any) -> list[Any]:
    parts: list[Any] = [key]
    if type(key) is tuple:
        parts[:] = key
    return parts


def _numbers_of(part: Any) -> list[StepNumber]:
    """Return the numbers of steps that a part of a key is, or has as bounds."""
    parts: tuple[Any, ...] = (part.start, part.stop, part.step) if type(part) is slice else (part,)
    return [each for each in parts if type(each) is StepNumber]


def read(tensor: Any, key: Any) -> Any:
    """Return `tensor[key]` in a step, for a key that holds numbers of steps.

    What is read by the number of a loop further out is the same for all steps of those further in, and comes first.
    """
    parts = _parts_of(key)
    while told := [place for place, part in enumerate(parts) if _numbers_of(part)]:
        place = min(told, key=lambda place: _numbers_of(parts[place])[0].answers.age)
        part, axis = parts[place], _axis_of(parts, place, tensor.ndim)
        if type(part) is slice:
            tensor = _window(tensor, axis, part)
            parts[place] = slice(None)
        else:
            tensor = part.read_from(tensor, axis)
            del parts[place]
    is_whole = all([part is Ellipsis or (type(part) is slice and part == slice(None)) for part in parts])
    return tensor if is_whole else tensor[tuple(parts)]


def _axis_of(parts: Sequence[Any], place: int, ndim: int) -> int:
    """Return which axis a part of a key is for."""
    if not all([part is Ellipsis or part is None or type(part) in (int, slice, StepNumber) for part in parts]):
        raise Unrollable("a key that is more than numbers and slices")
    taking = [part is not None and part is not Ellipsis for part in parts]
    if sum(taking) > ndim:
        raise IndexError(f"too many indices: a Tensor of {ndim} axes was indexed with {sum(taking)}")
    is_after = any([part is Ellipsis for part in parts[:place]])
    return ndim - sum(taking[place:]) if is_after else sum(taking[:place])


__all__ = ["Asking", "Request", "StepNumber", "Told", "Unrollable", "is_in", "read"]
