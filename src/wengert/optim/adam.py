"""Adam and AdamW: steps of about the learning rate's size, whatever the gradient's."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from typing import Any

import numpy as np

from .bucket import Rule, Update
from .optimizer import Group, Optimizer, Parameters, checked_number

Arrays = Sequence[np.ndarray]


class Adam(Optimizer):
    """Adam (D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1).

    With m <- b1 m + (1 - b1) g and v <- b2 v + (1 - b2) g^2, subtracts lr m' / (sqrt(v') + eps), where
    m' = m / (1 - b1^t) and v' = v / (1 - b2^t). With `amsgrad`, the largest v so far takes the place of v
    (S. J. Reddi, S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", 2018).

    What is kept is not m and v but `gradient_sum` = m / (1 - b1) and `square_sum` = v / (1 - b2): the discounted sums
    themselves, which take two multiplications less. The factors are taken into the constants of the step.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: what of the sums of gradients and of their squares is kept in each step.
        eps: added to the denominator.
        weight_decay: added to the gradient, times the parameter; AdamW decays the parameter itself.
        amsgrad: never let the denominator shrink.

    >>> import wengert as wg
    >>> w = wg.tensor([1.0, -1.0], requires_grad=True)
    >>> optimizer = wg.optim.Adam([w], lr=0.5)
    >>> (w * w).sum().backward(); optimizer.step(); w.tolist()
    [0.5, -0.5]
    """

    decoupled = False

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        )

    def initial(self, group: Group) -> dict[str, float]:
        """The discounted sums of the gradient and of its square, and with `amsgrad` the largest of the latter."""
        names = {"gradient_sum": 0.0, "square_sum": 0.0}
        return {**names, "largest_square_sum": 0.0} if group["amsgrad"] else names

    def units(self, group: Group) -> dict[str, float]:
        """What makes averages of the sums."""
        first, second = group["betas"]
        factors = {"gradient_sum": 1 - first, "square_sum": 1 - second}
        return {**factors, "largest_square_sum": 1 - second} if group["amsgrad"] else factors

    def update_of(self, group: Group, count: int) -> Update:
        """Compute the constants of one step, bias corrections included."""
        try:
            first, second = group["betas"]
        except (TypeError, ValueError):
            raise ValueError(f"{type(self).__name__}: betas must be two numbers, not {group['betas']!r}") from None
        rate, epsilon, decay = group["lr"], group["eps"], group["weight_decay"]
        # In every step: a look at all of them at once takes a third of the time of looks at each.
        plain = type(rate) is type(epsilon) is type(decay) is type(first) is type(second) is float
        if not (plain and 0 <= rate < inf and 0 <= epsilon < inf and 0 <= decay < inf and 0 <= first < 1 > second >= 0):
            rate, epsilon, decay, first, second = _checked((rate, epsilon, decay, first, second), type(self).__name__)
        # sqrt(v') = sqrt(square_sum) * root, so root is divided out of numerator and denominator.
        root = sqrt((1 - second) / (1 - second**count))
        size = rate * (1 - first) / (1 - first**count) / root
        rule: Rule = adapt_to_largest if group["amsgrad"] else adapt
        constants = (first, second, epsilon / root, size)
        if self.decoupled:
            return Update(rule, constants, shrink=1 - rate * decay)
        return Update(rule, constants, decay)


class AdamW(Adam):
    """Adam with decoupled weight decay (I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", 2019).

    The parameter is multiplied by 1 - lr * weight_decay, and the gradient is left alone: algorithm 2 of the paper, with
    the schedule's multiplier taken into the learning rate, as PyTorch does.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: what of the sums of gradients and of their squares is kept in each step.
        eps: added to the denominator.
        weight_decay: how fast parameters decay, in units of the learning rate.
        amsgrad: never let the denominator shrink.

    >>> import wengert as wg
    >>> w = wg.tensor([1.0], requires_grad=True)
    >>> optimizer = wg.optim.AdamW([w], lr=0.5, weight_decay=0.5)
    >>> (w * w).sum().backward(); optimizer.step(); w.tolist()
    [0.25]
    """

    decoupled = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)


def adapt(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """Discount and add to the sums, and subtract size * gradient_sum / (sqrt(square_sum) + epsilon)."""
    first, second, epsilon, size = constants
    gradient_sum, square_sum = state
    np.multiply(gradient_sum, first, gradient_sum)
    np.add(gradient_sum, gradient, gradient_sum)
    np.multiply(square_sum, second, square_sum)
    np.multiply(gradient, gradient, out)
    np.add(square_sum, out, square_sum)
    np.sqrt(square_sum, out)
    np.add(out, epsilon, out)
    np.divide(gradient_sum, out, out)
    np.multiply(out, size, out)


def adapt_to_largest(gradient: np.ndarray, state: Arrays, out: np.ndarray, constants: Arrays) -> Any:
    """The same, with the largest square_sum so far in the denominator."""
    first, second, epsilon, size = constants
    gradient_sum, square_sum, largest = state
    np.multiply(gradient_sum, first, gradient_sum)
    np.add(gradient_sum, gradient, gradient_sum)
    np.multiply(square_sum, second, square_sum)
    np.multiply(gradient, gradient, out)
    np.add(square_sum, out, square_sum)
    np.maximum(largest, square_sum, out=largest)
    np.sqrt(largest, out)
    np.add(out, epsilon, out)
    np.divide(gradient_sum, out, out)
    np.multiply(out, size, out)


def _checked(numbers: tuple[Any, ...], owner: str) -> list[float]:
    """Return learning rate, epsilon, weight decay and the two betas as floats, whatever numbers they are."""
    names, bounds = ("lr", "eps", "weight_decay", "betas[0]", "betas[1]"), (inf, inf, inf, 1.0, 1.0)
    return [checked_number(x, name, below=bound, owner=owner) for x, name, bound in zip(numbers, names, bounds)]
