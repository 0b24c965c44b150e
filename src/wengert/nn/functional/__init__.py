"""What layers and losses compute, as functions of Tensors; activations are the library's own operations.

>>> import wengert as wg
>>> wg.nn.functional.relu(wg.tensor([-1.0, 2.0])).tolist()
[0.0, 2.0]
"""

from __future__ import annotations

from wengert import (
    layer_norm as layer_norm,
)
from wengert import (
    linear as linear,
)
from wengert import (
    log_sigmoid as log_sigmoid,
)
from wengert import (
    log_softmax as log_softmax,
)
from wengert import (
    relu as relu,
)
from wengert import (
    sigmoid as sigmoid,
)
from wengert import (
    silu as silu,
)
from wengert import (
    softmax as softmax,
)
from wengert import (
    tanh as tanh,
)

from .activations import elu as elu
from .activations import gelu as gelu
from .activations import leaky_relu as leaky_relu
from .activations import softplus as softplus
from .classification import cross_entropy as cross_entropy
from .classification import nll_loss as nll_loss
from .layers import dropout as dropout
from .layers import embedding as embedding
from .layers import normalize as normalize
from .layers import one_hot as one_hot
from .losses import (
    binary_cross_entropy_with_logits as binary_cross_entropy_with_logits,
)
from .losses import (
    huber_loss as huber_loss,
)
from .losses import (
    l1_loss as l1_loss,
)
from .losses import (
    mse_loss as mse_loss,
)
from .losses import (
    smooth_l1_loss as smooth_l1_loss,
)

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
