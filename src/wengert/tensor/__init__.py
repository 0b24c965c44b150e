"""The classes of boxed arrays. Tracers, which only transforms need, are in a module that is imported by those."""

from .tensor import BorrowedTensor as BorrowedTensor
from .tensor import RemovableHandle as RemovableHandle
from .tensor import Tensor as Tensor
