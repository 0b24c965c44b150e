"""Where the inputs of a compiled function come from in every run: arguments, Tensors and arrays that it closes over,
gradients, random numbers, and numbers that Python computes.
"""

# The slots of Tensor are read here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import boxing
from ..errors import WengertError
from ..typing import DType, Shape


class CompileError(WengertError, RuntimeError):
    """A function cannot be compiled as it is; the message names the line and the cure."""


class Source:
    """Finds the array of one input.

    Attributes:
        shape, dtype: what the program was compiled for.
    """

    __slots__ = ("dtype", "shape")
    shape: Shape
    dtype: DType

    def fetch(self, arguments: Sequence[Any]) -> np.ndarray:
        """Return the array of this run, given the leaves of the arguments.

        Raises:
            Changed: it no longer is what the program was compiled for.
        """
        raise NotImplementedError

    def holder(self, arguments: Sequence[Any]) -> Any:
        """Return the Tensor that holds the array, where a program may write to it."""
        raise TypeError(f"{type(self).__name__} has no Tensor that could be written")


class Changed(Exception):
    """What a program was compiled for is no longer the case; it must be compiled anew."""


class Unsure(Exception):
    """A program has met values that it was not made for, and has changed nothing; the function itself must be run."""


class Unfit(Exception):
    """A function cannot be called as one operation inside of a transform; it must be run as it was written."""


def array_of(tensor: Any) -> np.ndarray:
    """Return the raw array of a Tensor that no transform follows, as an array even where it is a number of NumPy's."""
    kind: Any = type(tensor)
    if kind is boxing.Tensor:
        data = tensor._data
    elif kind is boxing.BorrowedTensor:
        data = tensor._alias.array
    else:
        raise Changed(f"a {kind.__name__} in place of a Tensor")
    return data if type(data) is np.ndarray else np.asarray(data)


class Fitting(Source):
    """A Source whose array must have the shape and dtype that it had when the program was compiled."""

    __slots__ = ()

    def fitted(self, array: np.ndarray) -> np.ndarray:
        """Return the array if it fits.

        Raises:
            Changed: it does not.
        """
        if array.shape != self.shape or array.dtype != self.dtype:
            raise Changed(f"{self} was {self.dtype}{list(self.shape)} and is {array.dtype}{list(array.shape)}")
        return array


class ArgumentSource(Fitting):
    """A Tensor or array among the leaves of the arguments."""

    __slots__ = ("place",)

    def __init__(self, place: int, array: np.ndarray) -> None:
        self.place = place
        self.shape, self.dtype = array.shape, array.dtype

    def fetch(self, arguments: Sequence[Any]) -> np.ndarray:
        """Return the argument's array."""
        leaf = arguments[self.place]
        return self.fitted(leaf if type(leaf) is np.ndarray else array_of(leaf))

    def holder(self, arguments: Sequence[Any]) -> Any:
        """Return the argument."""
        return arguments[self.place]

    def __str__(self) -> str:
        return f"argument {self.place}"


class TensorSource(Fitting):
    """A Tensor that the function closes over, which may have been written to since."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Any, array: np.ndarray) -> None:
        self.tensor = tensor
        self.shape, self.dtype = array.shape, array.dtype

    def fetch(self, arguments: Sequence[Any]) -> np.ndarray:
        """Return the Tensor's array as it is now."""
        return self.fitted(array_of(self.tensor))

    def holder(self, arguments: Sequence[Any]) -> Any:
        """Return the Tensor."""
        return self.tensor

    def __str__(self) -> str:
        return f"a Tensor that the function closes over, of shape {self.shape},"


class LoanSource(TensorSource):
    """A Tensor that the function closes over and that lies in memory of others, who may write to it."""

    __slots__ = ()


class GradientSource(Fitting):
    """The `.grad` that a Tensor has when the function is called."""

    __slots__ = ("owner",)

    def __init__(self, owner: Source, array: np.ndarray) -> None:
        self.owner = owner
        self.shape, self.dtype = array.shape, array.dtype

    def holder(self, arguments: Sequence[Any]) -> Any:
        """Return the gradient."""
        gradient = self.owner.holder(arguments).grad
        if gradient is None:
            raise Changed(f"{self} is None now")
        return gradient

    def fetch(self, arguments: Sequence[Any]) -> np.ndarray:
        """Return the gradient's array."""
        return self.fitted(array_of(self.holder(arguments)))

    def __str__(self) -> str:
        return f"the gradient of {self.owner}"


class ArraySource(Source):
    """An array of NumPy's that the function uses; writes to it are seen, as they are without compilation."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype

    def fetch(self, arguments: Sequence[Any]) -> np.ndarray:
        """Return the array."""
        return self.array


class DrawSource(Source):
    """Random numbers, drawn anew in every run."""

    __slots__ = ("draw",)

    def __init__(self, draw: Callable[[Shape], np.ndarray], array: np.ndarray) -> None:
        self.draw = draw
        self.shape, self.dtype = array.shape, array.dtype

    def fetch(self, arguments: Sequence[Any]) -> np.ndarray:
        """Draw."""
        return np.asarray(self.draw(self.shape))


class SeedSource(Source):
    """The cotangent of an output: no input of the function, but of its pullback."""

    __slots__ = ()

    def __init__(self, array: np.ndarray) -> None:
        self.shape, self.dtype = array.shape, array.dtype


class NumberSource(Source):
    """One of several numbers that Python computes before every run: a learning rate, a bias correction."""

    __slots__ = ("numbers", "place")

    def __init__(self, numbers: Numbers, place: int, dtype: DType) -> None:
        self.numbers = numbers
        self.place = place
        self.shape, self.dtype = (), dtype

    def fetch(self, arguments: Sequence[Any]) -> np.ndarray:
        """Return the number that `Numbers.refresh` has left."""
        return self.numbers.arrays[self.place]


class Numbers:
    """Numbers that one function computes before every run, each in an array of its own."""

    __slots__ = ("_written", "arrays", "compute", "dtype")

    def __init__(self, compute: Callable[[], Sequence[float]], dtype: DType) -> None:
        self.compute = compute
        self.dtype = dtype
        self._written = compute()
        self.arrays = [np.array(number, dtype) for number in self._written]

    def refresh(self) -> bool:
        """Compute them anew; return whether there are as many as before."""
        numbers = self.compute()
        if len(numbers) != len(self.arrays):
            return False
        for array, number, written in zip(self.arrays, numbers, self._written):
            if number is not written:  # most are the same objects in every run
                array[()] = number
        self._written = numbers
        return True
