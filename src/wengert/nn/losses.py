"""Losses as modules; each computes what the function of its name in `functional` does."""

from __future__ import annotations

from typing import Any

from wengert import Tensor
from wengert.errors import DTypeError

from . import functional
from .functional.losses import REDUCTIONS
from .module import Module


class Loss(Module):
    """Base of all losses.

    Args:
        reduction: "mean", "sum" or "none".
    """

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: reduction is one of {', '.join(map(repr, REDUCTIONS))}, not {reduction!r}"
            )
        self.reduction = reduction

    def _keep(self, name: str, weight: Any) -> None:
        if weight is not None and not isinstance(weight, Tensor):
            raise DTypeError(f"{type(self).__name__}: {name} is a Tensor or None, not {type(weight).__name__}")
        self.register_buffer(name, weight)

    def extra_repr(self) -> str:
        """Show the reduction."""
        return f"reduction={self.reduction!r}"


class CrossEntropyLoss(Loss):
    """Cross-entropy of scores against classes; see `functional.cross_entropy`.

    >>> import wengert as wg
    >>> round(wg.nn.CrossEntropyLoss()(wg.zeros((2, 4)), wg.tensor([0, 3])).item(), 6)
    1.386294
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, logits: Any, target: Any) -> Tensor:
        """Compute the loss."""
        return functional.cross_entropy(
            logits, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(Loss):
    """Negative log-likelihood of classes; see `functional.nll_loss`."""

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, log_probabilities: Any, target: Any) -> Tensor:
        """Compute the loss."""
        return functional.nll_loss(log_probabilities, target, self.weight, self.ignore_index, self.reduction)


class BCEWithLogitsLoss(Loss):
    """Cross-entropy of two classes, from scores; see `functional.binary_cross_entropy_with_logits`."""

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None) -> None:
        super().__init__(reduction)
        self._keep("weight", weight)
        self._keep("pos_weight", pos_weight)

    def forward(self, logits: Any, target: Any) -> Tensor:
        """Compute the loss."""
        return functional.binary_cross_entropy_with_logits(logits, target, self.weight, self.reduction, self.pos_weight)


class MSELoss(Loss):
    """Squared error; see `functional.mse_loss`."""

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Compute the loss."""
        return functional.mse_loss(prediction, target, self.reduction)


class L1Loss(Loss):
    """Absolute error; see `functional.l1_loss`."""

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Compute the loss."""
        return functional.l1_loss(prediction, target, self.reduction)


class HuberLoss(Loss):
    """Squared error near zero and linear beyond; see `functional.huber_loss`."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Compute the loss."""
        return functional.huber_loss(prediction, target, self.reduction, self.delta)


class SmoothL1Loss(Loss):
    """Absolute error, rounded off near zero; see `functional.smooth_l1_loss`."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, prediction: Any, target: Any) -> Tensor:
        """Compute the loss."""
        return functional.smooth_l1_loss(prediction, target, self.reduction, self.beta)
