"""What layers make their parameters of."""

from __future__ import annotations

from math import prod, sqrt
from typing import Any

import wengert as wg
from wengert import Tensor

from . import init


def empty(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """Return a parameter that is still to be filled."""
    return wg.empty(shape, dtype).requires_grad_()


def extent(layer: str, name: str, value: Any, least: int = 0) -> int:
    """Return a number of features.

    Raises:
        ValueError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{layer}: {name} is a number of features, {least} or more, not {value!r}")
    return value


def per_axis(layer: str, name: str, value: Any, rank: int) -> tuple[int, ...]:
    """Return a number for each axis, given one number or as many.

    Raises:
        ValueError: it is neither.
    """
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,) * rank
    if len(numbers) != rank or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in numbers):
        raise ValueError(f"{layer}: {name} is a positive integer, or {rank} of them, not {value!r}")
    return numbers


def reset_affine(weight: Tensor, bias: Tensor | None) -> None:
    """Draw the parameters of an affine map as PyTorch does: uniform on +-1 / sqrt(inputs of each output)."""
    init.kaiming_uniform_(weight, a=sqrt(5))
    if bias is not None:
        fan_in = prod(weight.shape[1:])
        bound = 1 / sqrt(fan_in) if fan_in else 0.0
        init.uniform_(bias, -bound, bound)
