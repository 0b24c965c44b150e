"""Trees: taken apart, put together, held against each other."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wengert.core import pytree
from wengert.errors import StructureError


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Point:
    x: Any
    y: Any


class Bag:
    def __init__(self, items: list[Any], label: str) -> None:
        self.items = items
        self.label = label


pytree.register_node(Point)
pytree.register_node(Bag, lambda bag: (bag.items, bag.label), lambda label, items: Bag(items, label))

leaves = st.integers() | st.text(max_size=2) | st.floats(allow_nan=False)
trees = st.recursive(
    leaves | st.none(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), children, max_size=3)
        | st.builds(Pair, children, children)
        | st.builds(Point, children, children)
    ),
    max_leaves=12,
)


@given(trees)
def test_what_is_taken_apart_can_be_put_together(tree: Any) -> None:
    found, structure = pytree.flatten(tree)
    assert structure.unflatten(found) == tree
    assert pytree.unflatten(structure, found) == tree
    assert structure.count == len(found) == len(structure.paths())
    assert structure.flatten_like(tree) == found
    assert pytree.flatten(tree)[1] == structure
    assert hash(pytree.flatten(tree)[1]) == hash(structure)


@given(trees)
def test_paths_are_python(tree: Any) -> None:
    found, structure = pytree.flatten(tree)
    assert [eval(path, {"tree": tree}) for path in structure.paths("tree")] == found


def test_none_holds_nothing_and_everything_else_is_a_leaf() -> None:
    assert pytree.flatten(None)[0] == []
    for leaf in (1, "ab", {1, 2}, object, range(3), b"x", frozenset({1})):
        assert pytree.flatten(leaf) == ([leaf], pytree.LEAF)


def test_dicts_keep_their_order_and_their_kind() -> None:
    tree = {"b": 1, "a": 2, 3: 4}
    found, structure = pytree.flatten(tree)
    assert found == [1, 2, 4]
    assert list(structure.unflatten("xyz")) == ["b", "a", 3]
    ordered = pytree.map_leaves(str, OrderedDict(b=1, a=2))
    assert type(ordered) is OrderedDict and list(ordered.items()) == [("b", "1"), ("a", "2")]
    made = pytree.map_leaves(str, defaultdict(list, a=1))
    assert type(made) is defaultdict and made["new"] == []


def test_two_dicts_are_matched_by_key() -> None:
    _, structure = pytree.flatten({"b": 1, "a": 2})
    assert structure.flatten_like({"a": 20, "b": 10}) == [10, 20]
    assert structure != pytree.flatten({"a": 2, "b": 1})[1]  # they lay out their leaves differently
    assert pytree.map_leaves(lambda x, y: (x, y), {"b": 1, "a": 2}, {"a": 20, "b": 10}) == {"b": (1, 10), "a": (2, 20)}


def test_named_tuples_and_registered_classes() -> None:
    assert pytree.map_leaves(lambda x: -x, Pair(1, [2])) == Pair(-1, [-2])
    assert pytree.map_leaves(lambda x: -x, Point(1, (2,))) == Point(-1, (-2,))
    bag = pytree.map_leaves(lambda x: -x, Bag([1, 2], "numbers"))
    assert (bag.items, bag.label) == ([-1, -2], "numbers")
    assert pytree.flatten({"p": Pair(1, Point(2, 3))})[1].paths("s") == [
        "s['p'].first",
        "s['p'].second.x",
        "s['p'].second.y",
    ]


@pytest.mark.parametrize(
    ("tree", "other", "message"),
    [
        ({"w": [1, 2]}, {"w": [1]}, r"params\['w'\] is a list of 1, where a list of 2 is expected"),
        ({"w": [1, 2]}, {"w": (1, 2)}, r"params\['w'\] is a tuple of 2, where a list of 2 is expected"),
        ({"w": [1, 2]}, {"w": [1, [2]]}, r"params\['w'\]\[1\] is a list of 1, where a leaf is expected"),
        ({"w": [1, 2]}, {"w": 3}, r"params\['w'\] is a leaf of type int, where a list of 2 is expected"),
        ({"w": 1}, {"v": 1}, r"params lacks the key 'w' and has an unknown key 'v'"),
        ({"w": 1}, {"w": 1, "v": 1}, r"params has an unknown key 'v'"),
        ([None], [1], r"params\[0\] is a leaf of type int, where None is expected"),
        ([(1, 2)], [None], r"params\[0\] is None, where a tuple of 2 is expected"),
        (Pair(1, 2), Point(1, 2), r"params is a Point of 2, where a Pair of 2 is expected"),
        (Pair(1, [2]), Pair(1, [2, 3]), r"params\.second is a list of 2, where a list of 1 is expected"),
        (Bag([1], "a"), Bag([1], "b"), r"params is a Bag of 1"),
    ],
)
def test_a_mismatch_is_named_by_its_path(tree: Any, other: Any, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        pytree.flatten(tree)[1].flatten_like(other, "params")


def test_none_may_stand_where_a_leaf_belongs() -> None:
    assert pytree.flatten([1, 2])[1].flatten_like([None, 2]) == [None, 2]


def test_a_wrong_number_of_leaves_is_refused() -> None:
    _, structure = pytree.flatten([1, 2])
    with pytest.raises(StructureError, match="3 leaves do not fit a structure with 2 places"):
        structure.unflatten([1, 2, 3])


def test_registering_refuses_what_makes_no_sense() -> None:
    with pytest.raises(TypeError, match="known as a container already"):
        pytree.register_node(dict)
    with pytest.raises(TypeError, match="is no dataclass"):
        pytree.register_node(set)


def test_a_structure_shows_its_form() -> None:
    assert repr(pytree.flatten({"a": (1, None), "b": [2]})[1]) == "Structure({'a': (*, None), 'b': [*]})"
