"""Optimisers that scale each parameter's step by the size of its past gradients, without momentum by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .bucket import Rule, Update
from .optimizer import Group, Optimizer, Parameters, number_in

Arrays = Sequence[np.ndarray]


class RMSprop(Optimizer):
    """RMSprop (T. Tieleman and G. Hinton, "Neural Networks for Machine Learning", lecture 6.5, 2012).

    With s <- alpha s + (1 - alpha) g^2, subtracts lr g / (sqrt(s) + eps). With `centered`, the square of the average
    gradient is taken off s (A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013, equation 40).
    With `momentum`, what is divided goes into a velocity first, and lr times that is subtracted.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        alpha: what of the average is kept in each step.
        eps: added to the denominator.
        weight_decay: added to the gradient, times the parameter.
        momentum: how much of the velocity is kept; 0 keeps none.
        centered: divide by an estimate of the standard deviation.

    >>> import wengert as wg
    >>> w = wg.tensor([1.0], requires_grad=True)
    >>> optimizer = wg.optim.RMSprop([w], lr=0.25, alpha=0.75)
    >>> (w * w).sum().backward(); optimizer.step(); w.tolist()
    [0.5]
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
            },
        )

    def initial(self, group: Group) -> dict[str, float]:
        """The average of squares; of gradients, if centred; the velocity, if there is momentum."""
        names = {"square_avg": 0.0}
        if group["centered"]:
            names["grad_avg"] = 0.0
        if group["momentum"]:
            names["momentum_buffer"] = 0.0
        return names

    def update_of(self, group: Group, count: int) -> Update:
        """Choose the rule, and its constants for one step."""
        rate = number_in(group, "lr", owner="RMSprop")
        keep = number_in(group, "alpha", below=1.0, owner="RMSprop")
        epsilon = number_in(group, "eps", owner="RMSprop")
        decay = number_in(group, "weight_decay", owner="RMSprop")
        momentum = number_in(group, "momentum", owner="RMSprop")
        rule: Rule
        if group["centered"]:
            rule = divide_by_deviation_with_momentum if momentum else divide_by_deviation
        else:
            rule = divide_by_root_with_momentum if momentum else divide_by_root
        return Update(rule, (keep, 1 - keep, epsilon, rate, momentum), decay)


def _average(average: np.ndarray, value: np.ndarray, out: np.ndarray, constants: Arrays) -> None:
    """Take average <- alpha average + (1 - alpha) value; `value` may be `out`, which is overwritten."""
    np.multiply(average, constants[0], average)
    np.multiply(value, constants[1], out)
    np.add(average, out, average)


def _add_to_velocity(velocity: np.ndarray, out: np.ndarray, constants: Arrays) -> None:
    """Take v <- mu v + out, and leave lr v in `out`."""
    np.multiply(velocity, constants[4], velocity)
    np.add(velocity, out, velocity)
    np.multiply(velocity, constants[3], out)


def _over_root(gradient: np.ndarray, squares: np.ndarray, out: np.ndarray, constants: Arrays) -> None:
    np.multiply(gradient, gradient, out)
    _average(squares, out, out, constants)
    np.sqrt(squares, out)
    np.add(out, constants[2], out)
    np.divide(gradient, out, out)


def _over_deviation(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> None:
    squares, means = state[0], state[1]
    np.multiply(gradient, gradient, out)
    _average(squares, out, out, constants)
    _average(means, gradient, out, constants)
    np.multiply(means, means, out)
    np.subtract(squares, out, out)
    np.maximum(out, 0, out=out)  # a variance; rounding may have made it negative
    np.sqrt(out, out)
    np.add(out, constants[2], out)
    np.divide(gradient, out, out)


def divide_by_root(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """Subtract lr g / (sqrt(s) + eps)."""
    _over_root(gradient, state[0], out, constants)
    np.multiply(out, constants[3], out)


def divide_by_root_with_momentum(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """Add g / (sqrt(s) + eps) to the velocity, and subtract lr times that."""
    _over_root(gradient, state[0], out, constants)
    _add_to_velocity(state[1], out, constants)


def divide_by_deviation(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """Subtract lr g / (sqrt(s - m^2) + eps)."""
    _over_deviation(gradient, state, out, constants)
    np.multiply(out, constants[3], out)


def divide_by_deviation_with_momentum(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """Add g / (sqrt(s - m^2) + eps) to the velocity, and subtract lr times that."""
    _over_deviation(gradient, state, out, constants)
    _add_to_velocity(state[2], out, constants)


class Adagrad(Optimizer):
    """Adagrad (J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods...", 2011, diagonal form of figure 1).

    With s <- s + g^2, subtracts lr_t g / (sqrt(s) + eps), where lr_t = lr / (1 + (t - 1) lr_decay).

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        lr_decay: how fast the learning rate decays with the steps.
        weight_decay: added to the gradient, times the parameter.
        initial_accumulator_value: what the sum of squares starts from.
        eps: added to the denominator.

    >>> import wengert as wg
    >>> w = wg.tensor([1.0], requires_grad=True)
    >>> optimizer = wg.optim.Adagrad([w], lr=0.5)
    >>> (w * w).sum().backward(); optimizer.step(); w.tolist()
    [0.5]
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
            },
        )

    def initial(self, group: Group) -> dict[str, float]:
        """The sum of squares."""
        return {"sum": float(group["initial_accumulator_value"])}

    def update_of(self, group: Group, count: int) -> Update:
        """Compute the constants of one step."""
        rate = number_in(group, "lr", owner="Adagrad")
        fading = number_in(group, "lr_decay", owner="Adagrad")
        decay = number_in(group, "weight_decay", owner="Adagrad")
        epsilon = number_in(group, "eps", owner="Adagrad")
        number_in(group, "initial_accumulator_value", owner="Adagrad")
        return Update(divide_by_total, (epsilon, rate / (1 + (count - 1) * fading)), decay)


def divide_by_total(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """Take s <- s + g^2, and subtract lr_t g / (sqrt(s) + eps)."""
    (total,) = state
    np.multiply(gradient, gradient, out)
    np.add(total, out, total)
    np.sqrt(total, out)
    np.add(out, constants[0], out)
    np.divide(gradient, out, out)
    np.multiply(out, constants[1], out)
