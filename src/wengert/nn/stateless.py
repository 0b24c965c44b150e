"""Calling a module with other parameters than its own: what turns it into a function that transforms can take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import wengert as wg
from wengert import Tensor

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


def stack_module_state(modules: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Stack the parameters and the buffers of several modules of one architecture, for `vmap` over all of them.

    Args:
        modules: modules of one class, with parameters and buffers of the same names, shapes and dtypes.

    Returns:
        (parameters, buffers): dicts of dotted names to Tensors whose first axis counts the modules. They are copies:
        leaves, of which those of parameters require grad where the modules' do.

    Raises:
        ValueError: there are no modules, or they differ in class, names, shapes or dtypes; the message says where.

    >>> import wengert as wg
    >>> models = [wg.nn.Linear(3, 2) for _ in range(5)]
    >>> params, buffers = wg.nn.stack_module_state(models)
    >>> params["weight"].shape
    (5, 2, 3)
    >>> call = lambda params, x: wg.nn.functional_call(models[0], params, x)
    >>> wg.vmap(call, in_axes=(0, None))(params, wg.ones(3)).shape
    (5, 2)
    """
    if not modules:
        raise ValueError("stack_module_state: there are no modules to stack")
    first = modules[0]
    for i, module in enumerate(modules):
        if type(module) is not type(first):
            raise ValueError(
                f"stack_module_state: modules[{i}] is a {type(module).__name__}, but modules[0] is a "
                f"{type(first).__name__}; all must be of one class"
            )
    stacked = [
        _stacked([dict(getattr(module, f"named_{kind}")()) for module in modules], kind)
        for kind in ("parameters", "buffers")
    ]
    return stacked[0], stacked[1]


def _stacked(states: Sequence[dict[str, Tensor]], kind: str) -> dict[str, Tensor]:
    names = list(states[0])
    for i, state in enumerate(states):
        if list(state) != names:
            differing = sorted(set(names) ^ set(state)) or names
            raise ValueError(
                f"stack_module_state: modules[{i}] has other {kind} than modules[0]: {', '.join(differing)}; all "
                "modules must be of one architecture"
            )
    return {name: _stack_of([state[name] for state in states], f"{kind} {name!r}") for name in names}


def _stack_of(tensors: Sequence[Tensor], what: str) -> Tensor:
    likes = {(tensor.shape, str(tensor.dtype)) for tensor in tensors}
    if len(likes) > 1:
        listed = ", ".join(f"{shape} {dtype}" for shape, dtype in sorted(likes))
        raise ValueError(f"stack_module_state: the {what} of the modules differ in shape or dtype: {listed}")
    stack = wg.stack([tensor.detach() for tensor in tensors])
    return stack.requires_grad_() if any(tensor.requires_grad for tensor in tensors) else stack
