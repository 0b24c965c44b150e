"""What a module holds, by name: parameters, buffers, submodules. How attributes become them; how they are listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wengert import Tensor


class Holder:
    """The part of a Module that knows what belongs to it.

    Tensors that are assigned as attributes become parameters if they are leaves that require grad, and Modules become
    submodules. They lie in the instance's own dictionary, so that reading one costs what any attribute costs; beside
    them there are only their names, in order.
    """

    training: bool
    _parameter_names: dict[str, None]
    _buffer_names: dict[str, bool]
    _module_names: dict[str, None]

    def __new__(cls, *_args: Any, **_settings: Any) -> Any:
        """Make the registries here, so that a subclass need not call `super().__init__()`."""
        module = super().__new__(cls)
        module.__dict__.update(training=True, _parameter_names={}, _buffer_names={}, _module_names={})
        return module

    # ------------------------------------------------------------------ attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Holder):
            self._register(name, "_module_names", None)
        elif isinstance(value, Tensor):
            if name in self._buffer_names:
                pass
            elif value.requires_grad and value.is_leaf:
                self._register(name, "_parameter_names", None)
            elif name in self._parameter_names or name in self._module_names:
                raise TypeError(self._refusal(name, "a Tensor that is no leaf with requires_grad"))
        elif value is not None and (name in self._parameter_names or name in self._buffer_names):
            raise TypeError(self._refusal(name, f"a {type(value).__name__}"))
        elif value is not None and name in self._module_names:
            raise TypeError(self._refusal(name, f"a {type(value).__name__}"))
        object.__setattr__(self, name, value)

    def _refusal(self, name: str, what: str) -> str:
        owner = f"{type(self).__name__}.{name}"
        if name in self._module_names:
            return f"{owner} is a submodule and cannot become {what}; assign a Module or None, or delete it first"
        if name in self._buffer_names:
            return f"{owner} is a buffer and cannot become {what}; assign a Tensor or None, or delete it first"
        return (
            f"{owner} is a parameter and cannot become {what}: it would no longer be trained. Assign "
            f"wg.nn.Parameter(x) or None; to change its values, call self.{name}.copy_(x) under wg.no_grad()"
        )

    def _register(self, name: str, registry: str, value: Any) -> None:
        for other in ("_parameter_names", "_buffer_names", "_module_names"):
            if other != registry:
                getattr(self, other).pop(name, None)
        getattr(self, registry).setdefault(name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        for registry in (self._parameter_names, self._buffer_names, self._module_names):
            registry.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        known = self.__dict__
        if "_parameter_names" not in known:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}: its __new__ did not run")
        listed = {
            "parameters": list(self._parameter_names),
            "buffers": list(self._buffer_names),
            "submodules": list(self._module_names),
        }
        text = "; ".join(f"{kind} are {', '.join(names)}" for kind, names in listed.items() if names)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}" + (f"; its {text}" if text else ""))

    def register_parameter(self, name: str, parameter: Tensor | None) -> None:
        """Add a parameter by name; None keeps the place of one that is left out."""
        self._check_name(name)
        if parameter is not None and not (
            isinstance(parameter, Tensor) and parameter.requires_grad and parameter.is_leaf
        ):
            raise TypeError(
                f"{type(self).__name__}.{name}: a parameter is a leaf that requires grad: wg.nn.Parameter(x)"
            )
        self._register(name, "_parameter_names", None)
        object.__setattr__(self, name, parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a Tensor that belongs to the state but is not trained, such as a running mean.

        Args:
            name: the attribute.
            tensor: its value, or None.
            persistent: whether it is part of the state_dict.
        """
        self._check_name(name)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"{type(self).__name__}.{name}: a buffer is a Tensor or None, not {type(tensor).__name__}")
        self._register(name, "_buffer_names", persistent)
        self._buffer_names[name] = persistent
        object.__setattr__(self, name, tensor)

    def register_module(self, name: str, module: Any) -> None:
        """Add a submodule by name."""
        self._check_name(name)
        if module is not None and not isinstance(module, Holder):
            raise TypeError(f"{type(self).__name__}.{name}: {type(module).__name__} is not a Module")
        self._register(name, "_module_names", None)
        object.__setattr__(self, name, module)

    add_module = register_module

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"{type(self).__name__}: {name!r} cannot be a name: names are not empty and have no dots")
        if hasattr(type(self), name):
            raise ValueError(f"{type(self).__name__}: the name {name!r} is taken by an attribute of the class")

    # ------------------------------------------------------------------ what it holds

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """Iterate over the direct submodules and their names."""
        for name in self._module_names:
            module = self.__dict__[name]
            if module is not None:
                yield name, module

    def children(self) -> Iterator[Any]:
        """Iterate over the direct submodules."""
        for _, module in self.named_children():
            yield module

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """Iterate over the module itself and everything below it, with dotted names."""
        seen: set[int] = set()
        pending: list[tuple[str, Any]] = [(prefix, self)]
        while pending:
            path, module = pending.pop()
            if remove_duplicate:
                if id(module) in seen:
                    continue
                seen.add(id(module))
            yield path, module
            below = [(f"{path}.{name}" if path else name, child) for name, child in module.named_children()]
            pending.extend(reversed(below))

    def modules(self) -> Iterator[Any]:
        """Iterate over the module itself and everything below it."""
        for _, module in self.named_modules():
            yield module

    def _named(
        self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Tensor, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name in getattr(module, registry):
                tensor = module.__dict__[name]
                if tensor is None or (remove_duplicate and id(tensor) in seen):
                    continue
                seen.add(id(tensor))
                yield (f"{path}.{name}" if path else name), tensor, module

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the parameters and their dotted names; a shared one comes once, under its first name."""
        for name, tensor, _ in self._named("_parameter_names", prefix, recurse, remove_duplicate):
            yield name, tensor

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """Iterate over the parameters, each once.

        >>> import wengert as wg
        >>> [p.shape for p in wg.nn.Linear(3, 2).parameters()]
        [(2, 3), (2,)]
        """
        for _, tensor in self.named_parameters(recurse=recurse):
            yield tensor

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the buffers and their dotted names."""
        for name, tensor, _ in self._named("_buffer_names", prefix, recurse, remove_duplicate):
            yield name, tensor

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Iterate over the buffers."""
        for _, tensor in self.named_buffers(recurse=recurse):
            yield tensor

    def num_parameters(self, trainable_only: bool = False) -> int:
        """Count the numbers in all parameters; a shared parameter counts once.

        >>> import wengert as wg
        >>> wg.nn.Linear(64, 32).num_parameters()
        2080
        """
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable_only)
