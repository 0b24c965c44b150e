"""Activations as modules, for use in Sequential."""

from __future__ import annotations

from typing import Any

from wengert import Tensor

from . import functional
from .module import Module


class ReLU(Module):
    """max(x, 0) (V. Nair and G. E. Hinton, 2010); the derivative at zero is zero."""

    def forward(self, x: Any) -> Tensor:
        """Apply it to each element."""
        return functional.relu(x)

    def _step(self) -> tuple[Any, ...]:
        return (functional.relu,)


class LeakyReLU(Module):
    """x where it is positive, else negative_slope * x; see `functional.leaky_relu`."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        """Apply it to each element."""
        return functional.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """Show the slope."""
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where it is positive, else alpha * (exp(x) - 1); see `functional.elu`."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        """Apply it to each element."""
        return functional.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """Show the scale."""
        return f"alpha={self.alpha}"


class GELU(Module):
    """Gaussian error linear unit; see `functional.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: approximate is "none" or "tanh", not {approximate!r}')
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        """Apply it to each element."""
        return functional.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """Show whether it is approximated."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x * sigmoid(x) (S. Elfwing, E. Uchibe and K. Doya, 2018), also known as swish."""

    def forward(self, x: Any) -> Tensor:
        """Apply it to each element."""
        return functional.silu(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        """Apply it to each element."""
        return functional.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        """Apply it to each element."""
        return functional.tanh(x)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta; see `functional.softplus`."""

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = beta

    def forward(self, x: Any) -> Tensor:
        """Apply it to each element."""
        return functional.softplus(x, self.beta)

    def extra_repr(self) -> str:
        """Show the sharpness."""
        return f"beta={self.beta}"


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis.

    >>> import wengert as wg
    >>> wg.nn.Softmax()(wg.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        """Apply it along the axis."""
        return functional.softmax(x, axis=self.axis)

    def extra_repr(self) -> str:
        """Show the axis."""
        return f"axis={self.axis}"


class LogSoftmax(Module):
    """Logarithm of the softmax along an axis, computed without overflow."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        """Apply it along the axis."""
        return functional.log_softmax(x, axis=self.axis)

    def extra_repr(self) -> str:
        """Show the axis."""
        return f"axis={self.axis}"
