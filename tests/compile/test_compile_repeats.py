"""Calls that repeat the last one: each is answered by its own arguments, however these are nested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import wengert as wg


class Pair(NamedTuple):
    first: Any
    second: Any


def tensors(*values: float) -> list[wg.Tensor]:
    return [wg.tensor([value, -value], dtype="float64") for value in values]


def numbers(tree: Any) -> list[Any]:
    """Return the values of the leaves, in order."""
    if isinstance(tree, wg.Tensor):
        return tree.tolist()
    if isinstance(tree, dict):
        return [numbers(part) for part in tree.values()]
    return [numbers(part) for part in tree] if isinstance(tree, (tuple, list)) else tree


def doubled(*args: Any) -> Any:
    """Twice every leaf, marked by the kind of what it is in."""
    if len(args) != 1:
        return [doubled(arg) for arg in args]
    (arg,) = args
    if isinstance(arg, dict):
        return {key: doubled(part) for key, part in arg.items()}
    if isinstance(arg, (tuple, list)):
        return [type(arg).__name__ == "list", *[doubled(part) for part in arg]]
    return None if arg is None else arg * 2


NESTINGS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "flat": lambda a, b, c: (a, b, c),
    "tuples": lambda a, b, c: ((a,), (b, c)),
    "lists": lambda a, b, c: ([a], [b, c]),
    "other lengths": lambda a, b, c: ([a, b], [c]),
    "deep": lambda a, b, c: ([(a, [b])], c),
    "empty": lambda a, b, c: ((), [a, b], c),
    "dicts": lambda a, b, c: ({"a": a}, [{"b": b}, c]),
    "named": lambda a, b, c: (Pair(a, b), c),
    "nothing": lambda a, b, c: (a, None, [b, None, c]),
    "numbers": lambda a, b, c: (a, [b, 3.0], c),
    "twice": lambda a, b, c: ([a, b], [b, c]),
}


@pytest.mark.parametrize("first", NESTINGS)
def test_arguments_of_any_nesting_follow_each_other(first: str) -> None:
    compiled = wg.compile(doubled)
    for second in NESTINGS:
        for name in (first, first, first, second, first):
            args = NESTINGS[name](*tensors(*np.random.default_rng(len(second)).normal(size=3)))
            assert numbers(compiled(*args)) == numbers(doubled(*args))


def test_the_same_tensor_twice_after_two() -> None:
    compiled = wg.compile(lambda pair: (pair[0] * pair[1]).sum())
    a, b = tensors(2.0, 3.0)
    for _ in range(3):
        assert compiled((a, b)).item() == 12.0
    assert compiled((a, a)).item() == 8.0
    assert compiled((b, a)).item() == 12.0


def test_pushforwards_take_new_points_and_directions() -> None:
    push = wg.compile(lambda points, directions: wg.jvp(lambda x: x * x, points, directions))
    for value in (1.0, 2.0, 3.0, 4.0):
        x, v = tensors(value, value + 1)
        assert push((x,), (v,))[1].tolist() == [2 * value * (value + 1)] * 2


def test_numbers_of_numpys_are_read_where_they_are() -> None:
    """A Tensor without axes may hold a number in place of an array; it has no memory that lasts."""
    compiled = wg.compile(lambda x, y: x * 2 + y)
    one = wg.tensor(1.5, dtype=wg.float64)
    for k in range(20):
        x, y = one * float(k), one + float(k)
        assert isinstance(x.numpy(), np.ndarray | np.generic)
        assert compiled(x, y).item() == 4 * k + 1.5


def test_numbers_and_names_are_those_of_each_call() -> None:
    """The same call again and again, so that it is bound, and then another one, which must be told from it."""
    combine = wg.compile(lambda x, y=None, *, factor=1, shift=0.0: (x if y is None else x - y) * factor + shift)
    a, b = tensors(1.0, 5.0)
    for _ in range(2):
        for _ in range(4):
            assert numbers(combine(a, factor=2)) == [2.0, -2.0]
        assert numbers(combine(a, factor=2.0)) == [2.0, -2.0]
        assert numbers(combine(a, factor=True)) == [1.0, -1.0]
        assert numbers(combine(a, factor=3)) == [3.0, -3.0]
        assert numbers(combine(a, shift=2)) == [3.0, 1.0]
        assert numbers(combine(a, factor=2, shift=-0.5)) == [1.5, -2.5]
        assert numbers(combine(a, shift=2, factor=2)) == [4.0, 0.0]
        assert numbers(combine(a, b, factor=2)) == [-8.0, 8.0]
        assert numbers(combine(b, y=a, factor=2)) == [8.0, -8.0]
        assert numbers(combine(a, a, factor=2)) == [0.0, 0.0]


def test_dicts_are_told_apart_by_their_keys() -> None:
    subtract = wg.compile(lambda pair: pair["a"] - pair["b"])
    a, b = tensors(1.0, 5.0)
    for _ in range(4):
        assert numbers(subtract({"a": a, "b": b})) == [-4.0, 4.0]
    assert numbers(subtract({"b": a, "a": b})) == [4.0, -4.0]
    assert numbers(subtract({"a": b, "b": a})) == [4.0, -4.0]
    assert numbers(subtract({"a": a, "b": b, "c": b})) == [-4.0, 4.0]
    with pytest.raises(KeyError):
        subtract({"a": a, "c": b})


def test_objects_that_are_arguments_are_looked_into() -> None:
    class Settings:
        factor = 2.0

    settings = Settings()
    scale = wg.compile(lambda x, settings: x * settings.factor)
    (a,) = tensors(1.0)
    for _ in range(4):
        assert numbers(scale(a, settings)) == [2.0, -2.0]
    settings.factor = 3.0
    assert numbers(scale(a, settings)) == [3.0, -3.0]
    Settings.factor = 4.0
    del settings.factor
    assert numbers(scale(a, settings)) == [4.0, -4.0]
