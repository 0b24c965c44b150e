"""Adam on NumPy arrays, for the engines that come without optimisers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class Adam:
    """D. P. Kingma and J. Ba (2015), with PyTorch's default constants; updates the parameters in place."""

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        learning_rate: float,
        decay: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.parameters = parameters
        self.learning_rate = learning_rate
        self.decay = decay
        self.epsilon = epsilon
        self.steps = 0
        self.means = [np.zeros_like(parameter) for parameter in parameters]
        self.squares = [np.zeros_like(parameter) for parameter in parameters]

    def step(self, gradients: Sequence[np.ndarray]) -> None:
        """Move every parameter along its gradient."""
        self.steps += 1
        first, second = self.decay
        rate = self.learning_rate / (1 - first**self.steps)
        scale = 1 / np.sqrt(1 - second**self.steps)
        for parameter, gradient, mean, square in zip(self.parameters, gradients, self.means, self.squares, strict=True):
            mean += (1 - first) * (gradient - mean)
            square += (1 - second) * (gradient * gradient - square)
            parameter -= rate * mean / (np.sqrt(square) * float(scale) + self.epsilon)
