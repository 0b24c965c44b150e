"""What layers and losses compute, as functions of Tensors; activations are the library's own operations.

>>> import wengert as wg
>>> wg.nn.functional.relu(wg.tensor([-1.0, 2.0])).tolist()
[0.0, 2.0]
"""

from __future__ import annotations

from wengert import (
    adaptive_avg_pool1d as adaptive_avg_pool1d,
)
from wengert import (
    adaptive_avg_pool2d as adaptive_avg_pool2d,
)
from wengert import (
    avg_pool1d as avg_pool1d,
)
from wengert import (
    avg_pool2d as avg_pool2d,
)
from wengert import (
    avg_pool3d as avg_pool3d,
)
from wengert import (
    conv1d as conv1d,
)
from wengert import (
    conv2d as conv2d,
)
from wengert import (
    conv3d as conv3d,
)
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
    lstm_step as lstm_step,
)
from wengert import (
    max_pool1d as max_pool1d,
)
from wengert import (
    max_pool2d as max_pool2d,
)
from wengert import (
    max_pool3d as max_pool3d,
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
from .attention import scaled_dot_product_attention as scaled_dot_product_attention
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
from .normalization import batch_norm as batch_norm
from .recurrent import lstm_cell as lstm_cell
from .recurrent import lstm_sequence as lstm_sequence

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "conv3d",
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
    "lstm_cell",
    "lstm_sequence",
    "lstm_step",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "relu",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
]
