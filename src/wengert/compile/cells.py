"""Arrays that can be written, to code that updates them with NumPy's functions, while a function is captured."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import boxing
from ..typing import DType, Shape


class Cell(np.lib.mixins.NDArrayOperatorsMixin):
    """Looks like an array that NumPy's universal functions read and write; keeps a Tensor, which every write replaces.

    Update rules are written for arrays, in place: `np.multiply(x, y, out)`. Run on Cells they are recorded, operation
    by operation, as if they had been written for Tensors.
    """

    __slots__ = ("dtype", "tensor")
    tensor: Any
    dtype: DType

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.dtype = tensor.dtype

    @property
    def shape(self) -> Shape:
        """Extents of the axes."""
        return self.tensor.shape

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        """Apply the operation of the same name; write into `out`, a Cell, if it is given."""
        if method != "__call__" or options:
            return NotImplemented
        return self._answer(getattr(boxing.operations, ufunc.__name__), inputs, None if out is None else out[0])

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Do the same for functions of NumPy's that are not universal, such as `np.clip`."""
        out = kwargs.pop("out", None)
        return self._answer(getattr(boxing.operations, function.__name__), args, out, kwargs)

    def _answer(self, operation: Any, inputs: Any, out: Any, options: Any = None) -> Any:
        result = operation(*[x.tensor if type(x) is Cell else x for x in inputs], **(options or {}))
        if out is None:
            return Cell(result)
        out.write(result)
        return out

    def __setitem__(self, key: Any, value: Any) -> None:
        if key is Ellipsis or key == ():
            self.write(value.tensor if type(value) is Cell else value)
        else:
            written = self.tensor.clone()
            written[key] = value.tensor if type(value) is Cell else value
            self.tensor = written

    def like(self) -> Cell:
        """Return another Cell of the same shape and dtype, to be written."""
        return Cell(self.tensor)

    def write(self, value: Any) -> None:
        """Replace all elements, converted to the Cell's dtype."""
        operations = boxing.operations
        value = operations.asarray(value)
        if value.dtype != self.dtype:
            value = operations.astype(value, self.dtype)
        self.tensor = value if value.shape == self.shape else operations.broadcast_to(value, self.shape)
