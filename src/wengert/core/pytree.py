"""Nested containers of values: taken apart into leaves and a structure, and put together again.

Containers are tuples, lists, dicts (also ordered and default ones), named tuples, None (which holds nothing), and what
`register_node` has made known. Everything else is a leaf.

The leaves of a dict come in the order of its keys, as the dict itself has it; nothing is sorted, so keys of any kind
will do. Where a second tree is held against a first one, dicts must have the same keys, but not in the same order: the
first decides.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..errors import StructureError
from ..typing import PyTree

Split = Callable[[Any], tuple[tuple[Any, ...], Any]]
Join = Callable[[Any, list[Any]], Any]


class _Kind(NamedTuple):
    """How one kind of container is taken apart and put together.

    Attributes:
        name: what it is called in messages, with its article.
        split: returns (children, what else is needed to put it together: keys, or anything that compares).
        join: puts it together from that and new children.
        keys: returns the place of every child, as it is written behind the name of the container in Python.
    """

    name: str
    split: Split
    join: Join
    keys: Callable[[Any, int], list[str]]


class Structure:
    """The form of a tree without its leaves. Equal structures lay out their leaves alike.

    >>> from wengert.core import pytree
    >>> leaves, structure = pytree.flatten({"w": 1.0, "layers": [2.0, None, (3.0,)]})
    >>> leaves, structure
    ([1.0, 2.0, 3.0], Structure({'w': *, 'layers': [*, None, (*,)]}))
    >>> structure.unflatten([10, 20, 30])
    {'w': 10, 'layers': [20, None, (30,)]}
    """

    __slots__ = ("children", "count", "data", "kind")

    def __init__(self, kind: _Kind | None, data: Any, children: tuple[Structure, ...]) -> None:
        self.kind = kind
        self.data = data
        self.children = children
        self.count = 1 if kind is None else sum([child.count for child in children])

    def unflatten(self, leaves: Sequence[Any]) -> PyTree:
        """Put a tree together from as many leaves as the structure has places.

        Raises:
            StructureError: there are more or fewer.
        """
        if len(leaves) != self.count:
            raise StructureError(f"{len(leaves)} leaves do not fit a structure with {self.count} places")
        return self._join(iter(leaves))

    def _join(self, leaves: Any) -> PyTree:
        if self.kind is None:
            return next(leaves)
        return self.kind.join(self.data, [child._join(leaves) for child in self.children])

    def paths(self, root: str = "") -> list[str]:
        """Return where each leaf is found, as it is written in Python.

        >>> from wengert.core import pytree
        >>> pytree.flatten({"w": [1.0, 2.0], "b": 3.0})[1].paths("params")
        ["params['w'][0]", "params['w'][1]", "params['b']"]
        """
        if self.kind is None:
            return [root]
        keys = self.kind.keys(self.data, len(self.children))
        return [path for key, child in zip(keys, self.children) for path in child.paths(root + key)]

    def flatten_like(self, tree: PyTree, root: str = "tree") -> list[Any]:
        """Return the leaves of a tree that must have this structure; a None where a leaf belongs counts as the leaf.

        Raises:
            StructureError: it has another one; the message names the first place where they differ.

        >>> from wengert.core import pytree
        >>> structure = pytree.flatten({"w": [1.0, 2.0], "b": 3.0})[1]
        >>> structure.flatten_like({"b": 30.0, "w": [10.0, 20.0]})
        [10.0, 20.0, 30.0]
        >>> structure.flatten_like({"w": [10.0], "b": 30.0}, root="params")
        Traceback (most recent call last):
            ...
        wengert.errors.StructureError: params['w'] is a list of 1, where a list of 2 is expected
        """
        leaves: list[Any] = []
        self._collect(tree, root, leaves)
        return leaves

    def _collect(self, tree: PyTree, path: str, leaves: list[Any]) -> None:
        kind = _kind_of(tree)
        if self.kind is None:
            if tree is not None and kind is not None:
                raise StructureError(f"{path} is {_described(kind, tree)}, where a leaf is expected")
            leaves.append(tree)
            return
        if kind is None or kind is not self.kind:
            raise StructureError(f"{path} is {_described(kind, tree)}, where {self.name()} is expected")
        children, data = kind.split(tree)
        if isinstance(self.data, _Keys):
            children = self._by_key(children, data, path)
        elif len(children) != len(self.children) or data != self.data:
            raise StructureError(f"{path} is {_described(kind, tree)}, where {self.name()} is expected")
        for key, structure, child in zip(kind.keys(self.data, len(children)), self.children, children):
            structure._collect(child, path + key, leaves)

    def _by_key(self, children: tuple[Any, ...], data: _Keys, path: str) -> tuple[Any, ...]:
        """Return the values of a dict in the order of this structure's keys."""
        if data.keys == self.data.keys:
            return children
        values = dict(zip(data.keys, children))
        missing = [key for key in self.data.keys if key not in values]
        unknown = [key for key in data.keys if key not in set(self.data.keys)]
        if missing or unknown:
            faults = [f"lacks the key {key!r}" for key in missing] + [f"has an unknown key {key!r}" for key in unknown]
            raise StructureError(f"{path} {' and '.join(faults)}")
        return tuple([values[key] for key in self.data.keys])

    def spread(self, prefix: PyTree, root: str = "tree") -> list[Any]:
        """Return one entry for each leaf, taken from a tree that follows this structure as far as it goes.

        A leaf of the prefix (None too) counts for everything below its place.

        Raises:
            StructureError: the prefix has another structure; the message names the first place where they differ.

        >>> from wengert.core import pytree
        >>> pytree.flatten(({"w": 1.0, "b": 2.0}, 3.0))[1].spread(({"w": "x", "b": "y"}, "z"))
        ['x', 'y', 'z']
        >>> pytree.flatten(({"w": 1.0, "b": 2.0}, 3.0))[1].spread(("x", None))
        ['x', 'x', None]
        """
        kind = _kind_of(prefix)
        if prefix is None or kind is None:
            return [prefix] * self.count
        if self.kind is not kind:
            raise StructureError(f"{root} is {_described(kind, prefix)}, where {self.name()} is described")
        children, data = kind.split(prefix)
        if isinstance(self.data, _Keys):
            children = self._by_key(children, data, root)
        elif len(children) != len(self.children) or data != self.data:
            raise StructureError(f"{root} is {_described(kind, prefix)}, where {self.name()} is described")
        entries: list[Any] = []
        for key, structure, child in zip(kind.keys(self.data, len(children)), self.children, children):
            entries.extend(structure.spread(child, root + key))
        return entries

    def name(self) -> str:
        """Return what the outermost container is called in messages."""
        if self.kind is None:
            return "a leaf"
        if self.kind is _NOTHING:
            return "None"
        name = f"a {self.data.__name__}" if self.kind is _NAMED_TUPLE else self.kind.name
        return f"{name} of {len(self.children)}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Structure):
            return NotImplemented
        return self.kind is other.kind and self.data == other.data and self.children == other.children

    def __hash__(self) -> int:
        return hash((id(self.kind), self.children))

    def __repr__(self) -> str:
        return f"Structure({self.unflatten([_Star()] * self.count)!r})"


class _Star:
    def __repr__(self) -> str:
        return "*"


class _Keys(NamedTuple):
    """The keys of a dict, and what else it takes to make one like it."""

    keys: tuple[Any, ...]
    extra: Any = None


LEAF = Structure(None, None, ())
"""The structure of a tree that is a leaf."""


def _described(kind: _Kind | None, tree: Any) -> str:
    if kind is None:
        return f"a leaf of type {type(tree).__name__}"
    children, data = kind.split(tree)
    return Structure(kind, data, (LEAF,) * len(children)).name()


# ---------------------------------------------------------------------- the kinds of container


def _split_sequence(tree: Any) -> tuple[tuple[Any, ...], Any]:
    return tuple(tree), None


def _split_dict(tree: Any) -> tuple[tuple[Any, ...], Any]:
    return tuple(tree.values()), _Keys(tuple(tree))


def _split_default_dict(tree: Any) -> tuple[tuple[Any, ...], Any]:
    return tuple(tree.values()), _Keys(tuple(tree), tree.default_factory)


def _split_named_tuple(tree: Any) -> tuple[tuple[Any, ...], Any]:
    return tuple(tree), tree.__class__


def _split_nothing(tree: Any) -> tuple[tuple[Any, ...], Any]:
    return (), None


def _join_tuple(data: Any, children: list[Any]) -> Any:
    return tuple(children)


def _join_list(data: Any, children: list[Any]) -> Any:
    return children


def _join_dict(data: Any, children: list[Any]) -> Any:
    return dict(zip(data.keys, children))


def _join_ordered_dict(data: Any, children: list[Any]) -> Any:
    return OrderedDict(zip(data.keys, children))


def _join_default_dict(data: Any, children: list[Any]) -> Any:
    return defaultdict(data.extra, zip(data.keys, children))


def _join_named_tuple(data: Any, children: list[Any]) -> Any:
    return data._make(children)


def _join_nothing(data: Any, children: list[Any]) -> Any:
    return None


def _positions(data: Any, count: int) -> list[str]:
    return [f"[{i}]" for i in range(count)]


def _dict_keys(data: Any, count: int) -> list[str]:
    return [f"[{key!r}]" for key in data.keys]


def _field_names(data: Any, count: int) -> list[str]:
    return [f".{name}" for name in data._fields]


_NAMED_TUPLE = _Kind("a named tuple", _split_named_tuple, _join_named_tuple, _field_names)
_NOTHING = _Kind("None", _split_nothing, _join_nothing, _positions)
_KINDS: dict[type, _Kind] = {
    tuple: _Kind("a tuple", _split_sequence, _join_tuple, _positions),
    list: _Kind("a list", _split_sequence, _join_list, _positions),
    dict: _Kind("a dict", _split_dict, _join_dict, _dict_keys),
    OrderedDict: _Kind("an OrderedDict", _split_dict, _join_ordered_dict, _dict_keys),
    defaultdict: _Kind("a defaultdict", _split_default_dict, _join_default_dict, _dict_keys),
    type(None): _NOTHING,
}


def _kind_of(tree: Any) -> _Kind | None:
    """Return how a value is taken apart; None if it is a leaf."""
    kind = _KINDS.get(tree.__class__)
    return _NAMED_TUPLE if kind is None and hasattr(tree, "_fields") and isinstance(tree, tuple) else kind


def register_node(
    type_: type,
    flatten: Callable[[Any], tuple[Sequence[Any], Any]] | None = None,
    unflatten: Callable[[Any, list[Any]], Any] | None = None,
) -> None:
    """Make instances of a class containers.

    Args:
        type_: the class; its subclasses are not meant.
        flatten: returns (children, other data that is needed to rebuild the instance; it is compared with `==`). It may
            be left out for a dataclass: the children are then the values of its fields.
        unflatten: rebuilds an instance from (the other data, the children).

    Raises:
        TypeError: the class is a container already, or no dataclass while functions are left out.

    >>> import dataclasses
    >>> from wengert.core import pytree
    >>> @dataclasses.dataclass
    ... class Point:
    ...     x: float
    ...     y: float
    >>> pytree.register_node(Point)
    >>> pytree.map_leaves(abs, Point(-1.0, 2.0))
    Point(x=1.0, y=2.0)
    """
    if type_ in _KINDS:
        raise TypeError(f"register_node: {type_.__name__} is known as a container already")
    if flatten is None or unflatten is None:
        _register_dataclass(type_)
        return
    split, join = flatten, unflatten

    def split_instance(tree: Any) -> tuple[tuple[Any, ...], Any]:
        children, data = split(tree)
        return tuple(children), data

    def keys(data: Any, count: int) -> list[str]:
        return [f".children[{i}]" for i in range(count)]

    _KINDS[type_] = _Kind(f"a {type_.__name__}", split_instance, join, keys)


def _register_dataclass(type_: Any) -> None:
    fields = getattr(type_, "__dataclass_fields__", None)
    if fields is None:
        raise TypeError(f"register_node: {type_.__name__} is no dataclass, so flatten and unflatten must be given")
    names = tuple([name for name, field in fields.items() if field.init])

    def split(tree: Any) -> tuple[tuple[Any, ...], Any]:
        return tuple([getattr(tree, name) for name in names]), None

    def join(data: Any, children: list[Any]) -> Any:
        return type_(**dict(zip(names, children)))

    def keys(data: Any, count: int) -> list[str]:
        return [f".{name}" for name in names]

    _KINDS[type_] = _Kind(f"a {type_.__name__}", split, join, keys)


# ---------------------------------------------------------------------- the functions


def flatten(tree: PyTree) -> tuple[list[Any], Structure]:
    """Return (the leaves of a tree, from left to right, its structure).

    >>> from wengert.core import pytree
    >>> pytree.flatten((1, [2, None]))
    ([1, 2], Structure((*, [*, None])))
    """
    leaves: list[Any] = []
    return leaves, _take_apart(tree, leaves)


def _take_apart(tree: Any, leaves: list[Any]) -> Structure:
    kind = _kind_of(tree)
    if kind is None:
        leaves.append(tree)
        return LEAF
    children, data = kind.split(tree)
    return Structure(kind, data, tuple([_take_apart(child, leaves) for child in children]))


def tuple_of(structures: Sequence[Structure]) -> Structure:
    """Return the structure of a tuple of trees of these structures."""
    return Structure(_KINDS[tuple], None, tuple(structures))


def unflatten(structure: Structure, leaves: Sequence[Any]) -> PyTree:
    """Put a tree together again; the inverse of `flatten`.

    Raises:
        StructureError: there are more or fewer leaves than places.

    >>> from wengert.core import pytree
    >>> leaves, structure = pytree.flatten({"a": (1, 2)})
    >>> pytree.unflatten(structure, [leaf * 10 for leaf in leaves])
    {'a': (10, 20)}
    """
    return structure.unflatten(leaves)


def map_leaves(function: Callable[..., Any], tree: PyTree, *others: PyTree) -> PyTree:
    """Apply a function to the leaves of a tree (and the corresponding leaves of others of the same structure).

    Raises:
        StructureError: another tree has another structure; the message names the first place where they differ.

    >>> from wengert.core import pytree
    >>> pytree.map_leaves(max, {"a": 1, "b": [5]}, {"b": [2], "a": 3})
    {'a': 3, 'b': [5]}
    """
    leaves, structure = flatten(tree)
    columns = [structure.flatten_like(other, f"tree {i}") for i, other in enumerate(others, 1)]
    return structure.unflatten([function(*row) for row in zip(leaves, *columns)])


__all__ = ["LEAF", "Structure", "flatten", "map_leaves", "register_node", "tuple_of", "unflatten"]
