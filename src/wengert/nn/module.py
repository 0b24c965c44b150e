"""The base of layers and models: parameters, buffers and submodules by name, saved, loaded and listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

import wengert as wg
from wengert import Tensor
from wengert.errors import CheckpointError, DTypeError

from .registry import Holder


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def Parameter(data: Any, requires_grad: bool = True) -> Tensor:
    """Copy data into a Tensor that a Module takes for a parameter: an ordinary leaf that requires grad.

    >>> import wengert as wg
    >>> wg.nn.Parameter([1.0, 2.0])
    Tensor([1., 2.], dtype=float32, requires_grad=True)
    """
    return wg.tensor(data).requires_grad_(requires_grad)


class RemovableHook:
    """What registering a hook returns: `remove()` takes it away again."""

    def __init__(self, hooks: list[Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self._hooks = hooks
        self._hook = hook
        hooks.append(hook)

    def remove(self) -> None:
        """Take the hook away; doing so twice is harmless."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


class Module(Holder):
    """Base class of everything that has parameters; a subclass writes `forward`.

    Tensors that are assigned as attributes become parameters if they are leaves that require grad, and Modules become
    submodules.

    Attributes:
        training: whether layers that behave otherwise in training (dropout) shall do so.

    >>> import wengert as wg
    >>> class Affine(wg.nn.Module):
    ...     def __init__(self):
    ...         self.scale = wg.nn.Parameter(2.0)
    ...     def forward(self, x):
    ...         return x * self.scale
    >>> model = Affine()
    >>> model(wg.tensor([1.0, 3.0])).tolist(), [name for name, _ in model.named_parameters()]
    ([2.0, 6.0], ['scale'])
    """

    _pre_hooks: list[Callable[..., Any]] | None = None
    _post_hooks: list[Callable[..., Any]] | None = None

    def __init__(self) -> None:
        pass

    def forward(self, *args: Any, **options: Any) -> Any:
        """Compute the output; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} has no method forward(): write what it computes")

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compute the output, and call the hooks if there are any."""
        if self._pre_hooks is None and self._post_hooks is None:
            return self.forward(*args, **options)
        return self._call_with_hooks(args, options)

    def _step(self) -> tuple[Any, ...]:
        """Return what `forward` is to `wengert.in_turn`, for layers that are one function: it, and its arguments."""
        return (self,)

    def _call_with_hooks(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        for hook in list(self._pre_hooks or ()):
            answer = hook(self, args)
            if answer is not None:
                args = answer if isinstance(answer, tuple) else (answer,)
        out = self.forward(*args, **options)
        for hook in list(self._post_hooks or ()):
            answer = hook(self, args, out)
            if answer is not None:
                out = answer
        return out

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> RemovableHook:
        """Call `hook(module, args)` before each forward; what it returns, unless None, takes the place of the args."""
        if self._pre_hooks is None:
            self._pre_hooks = []
        return RemovableHook(self._pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> RemovableHook:
        """Call `hook(module, args, out)` after each forward; what it returns, unless None, takes the place of `out`."""
        if self._post_hooks is None:
            self._post_hooks = []
        return RemovableHook(self._post_hooks, hook)

    # ------------------------------------------------------------------ the state

    def _state(self) -> dict[str, Tensor]:
        parameters = {name: t for name, t, _ in self._named("_parameter_names", "", True, False)}
        buffers = self._named("_buffer_names", "", True, False)
        persistent = {name: t for name, t, m in buffers if m._buffer_names[name.rpartition(".")[2]]}
        return {**parameters, **persistent}

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all parameters and persistent buffers by dotted name: a snapshot, which training leaves.

        >>> import wengert as wg
        >>> list(wg.nn.Sequential(wg.nn.Linear(3, 2)).state_dict())
        ['0.weight', '0.bias']
        """
        return {name: wg.tensor(tensor._raw()) for name, tensor in self._state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy values into the parameters and buffers: all of them or, on error, none.

        Values are converted to the dtype of the parameter, as long as their kind (floating, integer, boolean) agrees.

        Args:
            state_dict: Tensors or arrays by dotted name.
            strict: demand exactly the module's own keys; if false, load those that are common.

        Returns:
            The keys that were missing, and those that were not expected.

        Raises:
            CheckpointError: keys, shapes or kinds of dtype differ; the message lists all of them.
        """
        if not isinstance(state_dict, Mapping):
            raise CheckpointError(
                f"load_state_dict: a mapping of names to Tensors is needed, not {type(state_dict).__name__}"
            )
        own = self._state()
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        faults: list[str] = []
        values: dict[str, np.ndarray] = {}
        for name, tensor in own.items():
            if name in state_dict:
                value = state_dict[name]
                values[name] = np.asarray(value._raw() if isinstance(value, Tensor) else value)
                faults += _misfit(name, tensor, values[name])
        if strict and unexpected:
            faults.insert(0, f"unexpected keys: {', '.join(map(str, unexpected))}")
        if strict and missing:
            faults.insert(0, f"missing keys: {', '.join(missing)}")
        if faults:
            listed = "\n  ".join(faults)
            raise CheckpointError(f"{type(self).__name__}.load_state_dict: nothing has been loaded\n  {listed}")
        _write(own, values)
        return IncompatibleKeys(missing, unexpected)

    # ------------------------------------------------------------------ changing all of it

    def apply(self, function: Callable[[Module], Any]) -> Any:
        """Call `function` on every module below, then on this one; return the module."""
        for module in self.children():
            module.apply(function)
        function(self)
        return self

    def train(self, mode: bool = True) -> Any:
        """Put all modules into training mode (or, with False, evaluation mode); return the module."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Any:
        """Put all modules into evaluation mode; return the module."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Let all parameters be trained, or freeze them; return the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or (`set_to_none=False`) make them zero."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = wg.zeros(parameter.shape, parameter.dtype)

    def to(self, dtype: Any) -> Any:
        """Convert all floating parameters and buffers to a floating dtype; return the module.

        The parameters become other Tensors, without gradients: make the optimiser afterwards.

        >>> import wengert as wg
        >>> wg.nn.Linear(2, 2).to("float64").weight.dtype
        dtype('float64')
        """
        if isinstance(dtype, str) and dtype == "cpu":
            return self
        if isinstance(dtype, str) and dtype.startswith("cuda"):
            raise NotImplementedError(f"{type(self).__name__}.to: {dtype} is not supported in this version")
        resolved = np.dtype(dtype)
        if resolved.kind != "f":
            raise DTypeError(f"{type(self).__name__}.to: parameters are real floating numbers, not {resolved}")
        converted: dict[int, Tensor] = {}
        for module in self.modules():
            for name in (*module._parameter_names, *module._buffer_names):
                tensor = module.__dict__[name]
                if tensor is None or tensor.dtype.kind != "f" or tensor.dtype == resolved:
                    continue
                if id(tensor) not in converted:
                    fresh = wg.tensor(tensor._raw(), resolved)
                    converted[id(tensor)] = fresh.requires_grad_(tensor.requires_grad)
                module.__dict__[name] = converted[id(tensor)]
        return self

    # ------------------------------------------------------------------ how it looks

    def extra_repr(self) -> str:
        """Return what is shown between the parentheses of a layer without submodules."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {_indented(repr(module))}" for name, module in self.named_children()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        body = "\n  ".join(([extra] if extra else []) + lines)
        return f"{type(self).__name__}(\n  {body}\n)"


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


def _misfit(name: str, tensor: Tensor, value: np.ndarray) -> list[str]:
    if value.shape != tensor.shape:
        return [f"{name}: the shape is {value.shape} in the state, and {tensor.shape} in the module"]
    if value.dtype.kind != tensor.dtype.kind:
        return [f"{name}: the dtype is {value.dtype} in the state, and {tensor.dtype} in the module"]
    return []


def _write(own: dict[str, Tensor], values: dict[str, np.ndarray]) -> None:
    targets = {id(own[name]): (own[name], value) for name, value in values.items()}

    def write(arrays: list[np.ndarray]) -> None:
        with np.errstate(all="ignore"):  # a warning made an error must not leave half of the values written
            for array, (_, value) in zip(arrays, targets.values()):
                np.copyto(array, value, casting="same_kind")

    Tensor.update_buffers([tensor for tensor, _ in targets.values()], write)


__all__ = ["IncompatibleKeys", "Module", "Parameter", "RemovableHook"]
