"""Calling a module with other parameters than its own: what turns it into a function that transforms can take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .module import Module


def functional_call(module: Module, tensors: Mapping[str, Any], *args: Any, **options: Any) -> Any:
    """Call a module as if it had other parameters and buffers; it is left as it was, whatever happens.

    A parameter that is shared under several names is replaced under all of them.

    Args:
        module: the module to call.
        tensors: Tensors by the dotted names of `named_parameters` and `named_buffers`; the others stay.
        args: passed to the module.
        options: passed to the module.

    Raises:
        KeyError: a name is not one of the module's parameters or buffers.

    >>> import wengert as wg
    >>> layer = wg.nn.Linear(2, 1, bias=False)
    >>> wg.nn.functional_call(layer, {"weight": wg.ones((1, 2))}, wg.tensor([[3.0, 4.0]])).tolist()
    [[7.0]]
    """
    places: dict[int, list[tuple[dict[str, Any], str]]] = {}
    names: dict[str, Any] = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        for name in (*owner._parameter_names, *owner._buffer_names):
            tensor = owner.__dict__[name]
            if tensor is not None:
                names[f"{path}.{name}" if path else name] = tensor
                places.setdefault(id(tensor), []).append((owner.__dict__, name))
    unknown = [name for name in tensors if name not in names]
    if unknown:
        raise KeyError(f"functional_call: {type(module).__name__} has no parameter or buffer {', '.join(unknown)}")
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, value in tensors.items():
            for holder, key in places[id(names[name])]:
                replaced.append((holder, key, names[name]))
                holder[key] = value
        return module(*args, **options)
    finally:
        for holder, key, original in replaced:
            holder[key] = original
