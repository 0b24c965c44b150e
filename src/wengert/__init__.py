from .ops import *
from . import ops
from .tensor import Tensor
from .ops import tensor, sum
from .config import get_default_dtype, set_default_dtype
