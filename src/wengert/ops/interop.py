"""NumPy's own functions on Tensors: `np.sin(t)`, `np.concatenate([t, u])`, `np.add(t, u, out=v)` stay on the tape."""

from __future__ import annotations

from typing import Any


def array_ufunc(self: Any, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """Answer NumPy's ufunc protocol with the operation of the same name."""
    raise NotImplementedError


def array_function(self: Any, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """Answer NumPy's function protocol with the operation of the same name."""
    raise NotImplementedError
