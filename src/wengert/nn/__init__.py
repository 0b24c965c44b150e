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
from .containers import ModuleDict as ModuleDict
from .containers import ModuleList as ModuleList
from .containers import Sequential as Sequential
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
from .stateless import functional_call as functional_call
from .stateless import stack_module_state as stack_module_state

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "Dropout",
    "ELU",
    "Embedding",
    "Flatten",
    "GELU",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SiLU",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "functional",
    "functional_call",
    "stack_module_state",
    "init",
]
