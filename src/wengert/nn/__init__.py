"""Neural networks: modules with parameters, layers, losses, first values.

>>> import wengert as wg
>>> model = wg.nn.Sequential(wg.nn.Linear(2, 8), wg.nn.Tanh(), wg.nn.Linear(8, 1))
>>> model.num_parameters()
33
"""

from __future__ import annotations

from . import functional as functional
from . import init as init
from .activations import (
    ELU as ELU,
)
from .activations import (
    GELU as GELU,
)
from .activations import (
    LeakyReLU as LeakyReLU,
)
from .activations import (
    LogSoftmax as LogSoftmax,
)
from .activations import (
    ReLU as ReLU,
)
from .activations import (
    Sigmoid as Sigmoid,
)
from .activations import (
    SiLU as SiLU,
)
from .activations import (
    Softmax as Softmax,
)
from .activations import (
    Softplus as Softplus,
)
from .activations import (
    Tanh as Tanh,
)
from .attention import MultiheadAttention as MultiheadAttention
from .batch_normalization import BatchNorm1d as BatchNorm1d
from .batch_normalization import BatchNorm2d as BatchNorm2d
from .batch_normalization import BatchNorm3d as BatchNorm3d
from .containers import ModuleDict as ModuleDict
from .containers import ModuleList as ModuleList
from .containers import Sequential as Sequential
from .convolution import Conv1d as Conv1d
from .convolution import Conv2d as Conv2d
from .convolution import Conv3d as Conv3d
from .layers import (
    Dropout as Dropout,
)
from .layers import (
    Embedding as Embedding,
)
from .layers import (
    Flatten as Flatten,
)
from .layers import (
    Identity as Identity,
)
from .layers import (
    LayerNorm as LayerNorm,
)
from .layers import (
    Linear as Linear,
)
from .layers import (
    Unflatten as Unflatten,
)
from .losses import (
    BCEWithLogitsLoss as BCEWithLogitsLoss,
)
from .losses import (
    CrossEntropyLoss as CrossEntropyLoss,
)
from .losses import (
    HuberLoss as HuberLoss,
)
from .losses import (
    L1Loss as L1Loss,
)
from .losses import (
    MSELoss as MSELoss,
)
from .losses import (
    NLLLoss as NLLLoss,
)
from .losses import (
    SmoothL1Loss as SmoothL1Loss,
)
from .module import Module as Module
from .module import Parameter as Parameter
from .pooling import AdaptiveAvgPool1d as AdaptiveAvgPool1d
from .pooling import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from .pooling import AvgPool1d as AvgPool1d
from .pooling import AvgPool2d as AvgPool2d
from .pooling import MaxPool1d as MaxPool1d
from .pooling import MaxPool2d as MaxPool2d
from .recurrent import LSTM as LSTM
from .recurrent import LSTMCell as LSTMCell
from .stateless import functional_call as functional_call
from .stateless import stack_module_state as stack_module_state

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "CrossEntropyLoss",
    "Dropout",
    "ELU",
    "Embedding",
    "Flatten",
    "GELU",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "LSTM",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "Unflatten",
    "functional",
    "functional_call",
    "init",
    "stack_module_state",
]
