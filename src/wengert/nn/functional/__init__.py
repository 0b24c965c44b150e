"""What layers and losses compute, as functions of Tensors; activations are the library's own operations.

>>> import wengert as wg
>>> wg.nn.functional.relu(wg.tensor([-1.0, 2.0])).tolist()
[0.0, 2.0]
"""

from __future__ import annotations

from wengert import (
    layer_norm as layer_norm,
    linear as linear,
    log_sigmoid as log_sigmoid,
    log_softmax as log_softmax,
    relu as relu,
    sigmoid as sigmoid,
    silu as silu,
    softmax as softmax,
    tanh as tanh,
)

from .activations import elu as elu, gelu as gelu, leaky_relu as leaky_relu, softplus as softplus
from .layers import dropout as dropout, embedding as embedding, normalize as normalize, one_hot as one_hot
from .losses import (
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
    huber_loss as huber_loss,
    l1_loss as l1_loss,
    mse_loss as mse_loss,
    smooth_l1_loss as smooth_l1_loss,
)
from .classification import cross_entropy as cross_entropy, nll_loss as nll_loss

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "huber_loss",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "relu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
]
