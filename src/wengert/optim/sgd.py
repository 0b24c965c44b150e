"""Stochastic gradient descent, plain and with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .bucket import Update
from .optimizer import Group, Optimizer, Parameters, number_in


class SGD(Optimizer):
    """Stochastic gradient descent (H. Robbins and S. Monro, "A Stochastic Approximation Method", 1951).

    With `momentum` mu and `dampening` tau, v <- mu v + (1 - tau) g (the first step takes v = g), and lr v is
    subtracted (B. T. Polyak, 1964). With `nesterov`, g + mu v takes the place of v: the form that I. Sutskever et al.,
    "On the importance of initialization and momentum in deep learning" (2013), derive in section 2.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        momentum: how much of the velocity is kept; 0 keeps none.
        dampening: how much of the gradient is left out of the velocity.
        weight_decay: added to the gradient, times the parameter.
        nesterov: look ahead along the velocity; needs momentum, and no dampening.

    >>> import wengert as wg
    >>> w = wg.tensor([1.0], requires_grad=True)
    >>> optimizer = wg.optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward(); optimizer.step(); w.tolist()
    [0.5]
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def initial(self, group: Group) -> dict[str, float]:
        """The velocity, if there is momentum."""
        return {"momentum_buffer": 0.0} if group["momentum"] else {}

    def update_of(self, group: Group, count: int) -> Update:
        """Choose the rule, and its constants for one step."""
        rate = number_in(group, "lr", owner="SGD")
        momentum = number_in(group, "momentum", owner="SGD")
        dampening = number_in(group, "dampening", owner="SGD")
        decay = number_in(group, "weight_decay", owner="SGD")
        if group["nesterov"] and (not momentum or dampening):
            raise ValueError("SGD: nesterov needs momentum > 0 and dampening = 0")
        if not momentum:
            return Update(descend, (rate,), decay)
        rule = descend_ahead if group["nesterov"] else descend_with_momentum
        return Update(rule, (rate, momentum, 1 - dampening if count > 1 else 1.0), decay)


Arrays = Sequence[np.ndarray]


def descend(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """Subtract lr g."""
    np.multiply(gradient, constants[0], out)


def descend_with_momentum(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """Take v <- mu v + (1 - tau) g, and subtract lr v."""
    rate, momentum, fresh = constants
    (velocity,) = state
    np.multiply(velocity, momentum, velocity)
    np.multiply(gradient, fresh, out)
    np.add(velocity, out, velocity)
    np.multiply(velocity, rate, out)


def descend_ahead(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """Take v <- mu v + g, and subtract lr (g + mu v)."""
    rate, momentum, _ = constants
    (velocity,) = state
    np.multiply(velocity, momentum, velocity)
    np.add(velocity, gradient, velocity)
    np.multiply(velocity, momentum, out)
    np.add(out, gradient, out)
    np.multiply(out, rate, out)
