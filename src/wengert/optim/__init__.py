"""Optimisers, learning rate schedules and gradient clipping, as PyTorch has them.

>>> import wengert as wg
>>> x = wg.tensor(3.0, requires_grad=True)
>>> optimizer = wg.optim.Adam([x], lr=0.1)
>>> for _ in range(200):
...     optimizer.zero_grad()
...     ((x - 1) * (x - 1)).backward()
...     optimizer.step()
>>> round(x.item(), 2)
1.0
"""

from __future__ import annotations

from .adam import Adam as Adam
from .adam import AdamW as AdamW
from .adaptive import Adagrad as Adagrad
from .adaptive import RMSprop as RMSprop
from .clipping import clip_grad_norm_ as clip_grad_norm_
from .clipping import clip_grad_value_ as clip_grad_value_
from .optimizer import Optimizer as Optimizer
from .schedules import (
    CosineAnnealingLR as CosineAnnealingLR,
)
from .schedules import (
    ExponentialLR as ExponentialLR,
)
from .schedules import (
    LambdaLR as LambdaLR,
)
from .schedules import (
    LinearLR as LinearLR,
)
from .schedules import (
    LRScheduler as LRScheduler,
)
from .schedules import (
    MultiStepLR as MultiStepLR,
)
from .schedules import (
    SequentialLR as SequentialLR,
)
from .schedules import (
    StepLR as StepLR,
)
from .sgd import SGD as SGD

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "Optimizer",
    "RMSprop",
    "SGD",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
]
