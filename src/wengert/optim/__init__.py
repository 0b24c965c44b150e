"""Optimisers, learning rate schedules and gradient clipping, as PyTorch has them."""

from __future__ import annotations

from .adam import Adam as Adam, AdamW as AdamW
from .adaptive import Adagrad as Adagrad, RMSprop as RMSprop
from .optimizer import Optimizer as Optimizer
from .sgd import SGD as SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop"]
