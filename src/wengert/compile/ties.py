"""Ties: conditions that a compiled program depends on, and how they are checked before every run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from .contents import contents_of

_PLAIN: tuple[type, ...] = (bool, int, float, complex, str, bytes, type(None), np.generic)


class Tie(NamedTuple):
    """Something that must stay as it is.

    Attributes:
        kind: "cell", "item" and "attribute": what a container holds under a key; "sequence", "set" and "dict": all that
            it holds; "size": how many; "array": its elements; "settings": an optimiser's hyperparameters.
        container: what holds it.
        key: where, for the first three.
        value: what it was.
    """

    kind: str
    container: Any
    key: Any
    value: Any

    def __str__(self) -> str:
        """Say what it is about."""
        if self.kind == "cell":
            return f"a variable of the enclosing function, which was {_shown(self.value)},"
        if self.kind in ("item", "attribute"):
            return f"{self.key!r}, which was {_shown(self.value)},"
        if self.kind == "array":
            return f"a NumPy array of shape {self.container.shape}"
        if self.kind == "settings":
            return f"the hyperparameters of {type(self.container).__name__}"
        owner = "the attributes of an object" if self.kind == "size" else f"a {type(self.container).__name__}"
        return f"{owner} that had {self.value if self.kind == 'size' else len(self._items())} items"

    def _items(self) -> Any:
        return self.value[0] if self.kind == "dict" else self.value

    def holds(self) -> bool:
        """Return whether it still is so: the same objects, or equal plain values."""
        container, value = self.container, self.value
        try:
            if self.kind == "cell":
                return _same(container.cell_contents, value)
            if self.kind == "item":
                return _same(container[self.key], value)
            if self.kind == "attribute":
                return _same(getattr(container, self.key), value)
        except (ValueError, LookupError, AttributeError):
            return False
        if self.kind == "array":
            return contents_of(container) == value
        if self.kind == "settings":
            return settings_of(container) == value
        if self.kind == "size":
            return len(container) == value
        if self.kind == "set":
            return container == value
        if self.kind == "dict":
            return _all_same(container, value[0]) and _all_same(container.values(), value[1])
        return _all_same(container, value)

    def put_back(self) -> None:
        """Make it so again, if that can be done: the contents of large arrays are not known."""
        container, value = self.container, self.value
        with suppress(Exception):  # what cannot be set stays as it is
            if self.kind == "cell":
                container.cell_contents = value
            elif self.kind == "item":
                container[self.key] = value
            elif self.kind == "attribute":
                setattr(container, self.key, value)
            elif self.kind == "sequence":
                container[:] = value
            elif self.kind == "set":
                container.clear()
                container.update(value)
            elif self.kind == "dict":
                container.clear()
                container.update(zip(*value))
            elif self.kind == "array" and isinstance(value[-1], bytes) and len(value) == 3:
                shape, dtype, content = value
                container[...] = np.frombuffer(content, dtype).reshape(shape)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, _PLAIN) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


def _same(found: Any, value: Any) -> bool:
    return found is value or same_plain(found, value)


def _all_same(found: Any, values: tuple[Any, ...]) -> bool:
    return len(found) == len(values) and all(map(_same, found, values))


def same_plain(one: Any, other: Any) -> bool:
    """Return whether two plain values are equal, and are of one type: 0.0 and -0.0 are not, nor are 1 and True."""
    if type(one) is not type(other) or not isinstance(one, _PLAIN):
        return False
    return bool(one == other) and (bool(one) or repr(one) == repr(other))


def settings_of(optimizer: Any) -> str:
    """Return what is equal for optimisers of equal hyperparameters."""
    return repr([{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups])


def broken(ties: list[Tie]) -> str:
    """Say which of the ties does not hold, or nothing if all do."""
    return next((str(tie) for tie in ties if not tie.holds()), "")


def checker(ties: list[Tie]) -> Callable[[], bool]:
    """Return a function that says whether all ties hold, as quick as Python can be where nothing has changed."""
    scope: dict[str, Any] = {"is_": is_, "contents_of": contents_of, "settings_of": settings_of}
    terms: list[str] = []
    for i, tie in enumerate(ties):
        scope[f"c{i}"], scope[f"v{i}"], scope[f"k{i}"] = tie.container, tie.value, tie.key
        if tie.kind == "dict":
            scope[f"k{i}"], scope[f"v{i}"] = tie.value
        elif tie.kind == "attribute":
            terms.append(f"c{i}.{tie.key} is v{i}")
            continue
        terms.append(_TERMS[tie.kind].format(i=i))
    names = ", ".join(scope)
    condition = " and ".join(terms) or "True"
    source = f"def bound({names}):\n    def unchanged():\n        return {condition}\n    return unchanged\n"
    made: dict[str, Any] = {}
    exec(compile(source, "<conditions of a compiled function>", "exec"), made)
    quick: Callable[[], bool] = made["bound"](**scope)

    def unchanged() -> bool:
        try:
            if quick():
                return True
        except (ValueError, LookupError, AttributeError):
            return False
        return all([tie.holds() for tie in ties])

    return unchanged


_TERMS = {
    "cell": "c{i}.cell_contents is v{i}",
    "item": "c{i}[k{i}] is v{i}",
    "sequence": "len(c{i}) == len(v{i}) and all(map(is_, c{i}, v{i}))",
    "dict": "len(c{i}) == len(v{i}) and all(map(is_, c{i}, k{i})) and all(map(is_, c{i}.values(), v{i}))",
    "set": "c{i} == v{i}",
    "size": "len(c{i}) == v{i}",
    "array": "contents_of(c{i}) == v{i}",
    "settings": "settings_of(c{i}) == v{i}",
}


__all__ = ["Tie", "broken", "checker", "same_plain", "settings_of"]
