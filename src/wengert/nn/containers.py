"""Modules that hold others: one after the other, in a list, in a dict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import wengert as wg
from wengert import Tensor

from .activations import ReLU
from .convolution import Conv1d, Conv2d
from .layers import Flatten, Linear
from .module import Module
from .pooling import MaxPool1d, MaxPool2d


class _Numbered(Module):
    """Submodules under the names "0", "1", ..., with the manners of a list."""

    def _add(self, modules: Iterable[Module]) -> None:
        for module in modules:
            if not isinstance(module, Module):
                raise TypeError(
                    f"{type(self).__name__}: {type(module).__name__} {_shown(module)} is not a Module; a function can "
                    "be wrapped in one whose forward() calls it"
                )
            self.register_module(str(len(self._module_names)), module)

    def _name_at(self, index: Any) -> str:
        position, count = operator.index(index), len(self._module_names)
        if not -count <= position < count:
            raise IndexError(f"{type(self).__name__}: there is no module {position} among {count}")
        return list(self._module_names)[position]

    def _rearranged(self, modules: list[Module]) -> None:
        for name in list(self._module_names):
            delattr(self, name)
        self._add(modules)

    def __len__(self) -> int:
        return len(self._module_names)

    def __iter__(self) -> Iterator[Module]:
        return iter([self.__dict__[name] for name in self._module_names])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(*list(self)[index]) if isinstance(self, Sequential) else type(self)(list(self)[index])  # type: ignore[call-arg]
        return self.__dict__[self._name_at(index)]

    def __setitem__(self, index: Any, module: Module) -> None:
        name = self._name_at(index)
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: {type(module).__name__} is not a Module")
        setattr(self, name, module)

    def __delitem__(self, index: Any) -> None:
        modules = list(self)
        del modules[index]
        self._rearranged(modules)

    def append(self, module: Module) -> Any:
        """Add a module at the end; return the container."""
        self._add([module])
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; return the container."""
        self._add(list(modules))
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Put a module before the one at `index`; return the container."""
        modules = list(self)
        modules.insert(index, module)
        self._rearranged(modules)
        return self


def _shown(value: Any) -> str:
    return repr(getattr(value, "__name__", value))


class Sequential(_Numbered):
    """Modules one after the other: each gets what the one before it returned.

    Args:
        modules: modules, or one dict of modules by name.

    >>> import wengert as wg
    >>> model = wg.nn.Sequential(wg.nn.Linear(3, 4), wg.nn.ReLU(), wg.nn.Linear(4, 2))
    >>> model
    Sequential(
      (0): Linear(in_features=3, out_features=4, bias=True)
      (1): ReLU()
      (2): Linear(in_features=4, out_features=2, bias=True)
    )
    >>> model(wg.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.register_module(name, module)
        else:
            self._add(modules)  # type: ignore[arg-type]

    def _rearranged(self, modules: list[Module]) -> None:
        names = {id(module): name for name, module in self.named_children() if not name.isdigit()}
        for name in list(self._module_names):
            delattr(self, name)
        for position, module in enumerate(modules):
            self.register_module(names.get(id(module), str(position)), module)

    def forward(self, x: Any) -> Any:
        """Apply the modules in order."""
        held = self.__dict__
        if isinstance(x, Tensor) and x.size >= _LARGE:
            return wg.in_turn(x, *[_step_of(held[name]) for name in self._module_names])
        for name in self._module_names:
            x = held[name](x)
        return x


_LARGE = 1 << 14
"""Elements of an input from which on layers are looked at together."""
_FORWARD: dict[type, Any] = {
    kind: (kind.forward, Module.__call__) for kind in (Conv1d, Conv2d, Flatten, Linear, MaxPool1d, MaxPool2d, ReLU)
}
"""The layers that do what `_step` says, and nothing else: subclasses may do more."""


def _step_of(module: Module) -> tuple[Any, ...]:
    """Return a module as a step of `wengert.in_turn`."""
    kind = type(module)
    hooked = module._pre_hooks is not None or module._post_hooks is not None
    if hooked or "forward" in module.__dict__ or _FORWARD.get(kind) != (kind.forward, kind.__call__):
        return (module,)
    return module._step()


class ModuleList(_Numbered):
    """A list of modules, known to the module that it is assigned to. It has no forward: index it, or iterate.

    >>> import wengert as wg
    >>> layers = wg.nn.ModuleList(wg.nn.Linear(2, 2) for _ in range(3))
    >>> len(layers), len(list(layers.parameters()))
    (3, 6)
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._add(list(modules))


class ModuleDict(Module):
    """A dict of modules, known to the module that it is assigned to. It has no forward.

    >>> import wengert as wg
    >>> heads = wg.nn.ModuleDict({"left": wg.nn.Linear(2, 2), "right": wg.nn.Linear(2, 3)})
    >>> heads["right"].out_features, "left" in heads
    (3, True)
    """

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.update(modules or {})

    def __getitem__(self, key: str) -> Any:
        if key not in self._module_names:
            raise KeyError(f"ModuleDict: there is no module {key!r}; there are {list(self._module_names)}")
        return self.__dict__[key]

    def __setitem__(self, key: str, module: Module) -> None:
        if key in self._module_names:
            setattr(self, key, module)
        else:
            self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        if key not in self._module_names:
            raise KeyError(f"ModuleDict: there is no module {key!r}; there are {list(self._module_names)}")
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._module_names)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._module_names))

    def __contains__(self, key: object) -> bool:
        return key in self._module_names

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return list(self._module_names)

    def values(self) -> Iterable[Module]:
        """Return the modules."""
        return [self.__dict__[name] for name in self._module_names]

    def items(self) -> Iterable[tuple[str, Module]]:
        """Return the names with the modules."""
        return [(name, self.__dict__[name]) for name in self._module_names]

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add modules, or replace those of the same name."""
        for key, module in modules.items():
            self[key] = module
