"""Bound programs: what Python holds and a function reads is noticed when it changes, wherever it is held."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.compile.llvm import watch
from wengert.compile.llvm.target import available_cores
from wengert.compile.llvm.watch import Watch, version_offset

FACTOR = 2.0
UNRELATED = 0


class Scale(wg.nn.Module):
    """Multiplies by a parameter and by numbers that it finds in different places."""

    def __init__(self) -> None:
        self.weight = wg.nn.Parameter([1.0, 2.0])
        self.factor = 3.0
        self.table = {"shift": 0.5}
        self.terms = [0.25, 0.5]
        self.calls = 0

    def forward(self, x: Any) -> Any:
        shift = self.table["shift"] if "shift" in self.table else 0.0
        return self.weight * x * self.factor * getattr(self, "gain", 1.0) * FACTOR + shift + sum(self.terms)


def _settled() -> tuple[Scale, Callable[[Any], Any], Any]:
    """Return a module, a compiled step that is bound to what it ran on, and its argument."""
    module, x = Scale(), wg.tensor([1.0, -1.0])

    def step(x: Any) -> Any:
        with wg.no_grad():
            return module(x) + 0.0

    compiled = wg.compile(step)
    for _ in range(4):
        compiled(x)
    (paths,) = compiled._paths.values()
    assert paths[0].binding is not None
    return module, compiled, x


def _set_global(module: Scale) -> None:
    globals()["FACTOR"] = 7.0


CHANGES: dict[str, Callable[[Scale], Any]] = {
    "an attribute": lambda module: setattr(module, "factor", 5.0),
    "an attribute, in its dict": lambda module: vars(module).update(factor=5.0),
    "an attribute that was not there": lambda module: setattr(module, "gain", 4.0),
    "an item": lambda module: module.table.update(shift=1.5),
    "no item any more": lambda module: module.table.clear(),
    "an element": lambda module: module.terms.__setitem__(1, 0.75),
    "another element": lambda module: module.terms.append(8.0),
    "other elements": lambda module: module.terms.clear(),
    "another dict": lambda module: setattr(module, "table", {"shift": 2.5}),
    "another parameter": lambda module: setattr(module, "weight", wg.nn.Parameter([3.0, 4.0])),
    "a global": _set_global,
}


@pytest.mark.parametrize("is_restless", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_changes_are_noticed(name: str, is_restless: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in dicts in which something else has changed before, which is no reason for another program."""
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    module, compiled, x = _settled()
    if is_restless:
        globals()["UNRELATED"] += 1
        for number in range(4):
            module.__dict__["weight"] = module.weight
            module.table["other"] = module.table.pop("other", number)
            module.terms.append(module.terms.pop())
            compiled(x)
    CHANGES[name](module)
    for _ in range(3):
        assert compiled(x).tolist() == (module(x) + 0.0).tolist()


def test_arrays_as_arguments_are_read_in_every_run_by_one_program() -> None:
    double = wg.compile(lambda x: x * 2.0)
    array = np.array([1.0, 2.0])
    for number in range(6):
        array[0] = number
        assert double(array).tolist() == [2.0 * number, 4.0]
        assert double(array + 1.0).tolist() == [2.0 * number + 2.0, 6.0]
    assert repr(double).endswith(": 1 program>")


def test_a_tensor_that_is_closed_over_and_given_too_is_told_from_others() -> None:
    w, other = wg.tensor([1.0, 2.0]), wg.tensor([3.0, 4.0])

    def step(x: Any, y: Any) -> Any:
        with wg.no_grad():
            w.copy_(w + y)
        return x * 2.0 + w

    compiled = wg.compile(step)
    for x, y in [(w, other)] * 4 + [(other, other)] * 3 + [(w, other), (other, w), (w, w), (w, other)]:
        before = w.tolist()
        found, after = compiled(x, y).tolist(), w.tolist()
        w.copy_(wg.tensor(before))
        assert found == step(x, y).tolist()
        assert w.tolist() == after


def test_a_script_that_assigns_globals_in_every_step_stays_bound() -> None:
    _, compiled, x = _settled()
    for _ in range(5):
        globals()["UNRELATED"] += 1
        compiled(x)
    (paths,) = compiled._paths.values()
    assert len(paths) == 1
    assert paths[0].binding is not None
    globals()["UNRELATED"] += 1
    binding = paths[0].binding
    compiled(x)
    assert paths[0].binding is binding


@pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info[:2] not in ((3, 11), (3, 12)),
    reason="dicts of this interpreter have no versions, so that there is nothing to watch",
)
def test_dicts_are_watched_where_they_have_versions() -> None:
    held = {"a": 1}
    namespace = SimpleNamespace(b=2)
    watched = Watch()
    assert watched.containers([held, vars(namespace)])
    holds = watched.begin()
    assert holds()
    held["a"] = 1
    assert holds()
    namespace.b = 3
    assert not holds()
    assert watched.changed() == [vars(namespace)]


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held.__setitem__(1, object()),
        lambda held: held.append(4),
        lambda held: held.extend(range(1000)),
        lambda held: held.pop(),
        lambda held: held.clear(),
        lambda held: held.reverse(),
        lambda held: held.__setitem__(slice(0, 2), [8, 9]),
        lambda held: held.sort(key=repr, reverse=True),
    ],
)
def test_lists_are_watched(change: Callable[[list[Any]], Any]) -> None:
    held, empty = [1, 2, 3], []
    watched = Watch()
    assert watched.containers([empty, held])
    holds = watched.begin()
    held[0] = 1
    assert holds()
    assert watched.changed() == []
    change(held)
    assert not holds()
    assert watched.changed() == [held]
    empty.append(1)
    assert watched.changed() == [empty, held]


@pytest.mark.parametrize("name", ["register_hook", "register_post_accumulate_grad_hook"])
def test_a_hook_is_called_where_one_was_taken_away_before(name: str) -> None:
    w = wg.tensor([1.0, 2.0], requires_grad=True)
    register = getattr(w, name)
    register(lambda _: None).remove()

    def step() -> Any:
        w.grad = None
        loss = wg.sum(w * w)
        loss.backward()
        return loss

    compiled = wg.compile(step)
    for _ in range(4):
        compiled()
    (paths,) = compiled._paths.values()
    assert (paths[0].binding is None) == (version_offset() is None)  # a dict without hooks is watched, where it can be
    is_early = name == "register_hook"
    register((lambda gradient: gradient * 10.0) if is_early else (lambda tensor: tensor.grad.copy_(tensor.grad * 10.0)))
    compiled()
    assert w.grad.tolist() == [20.0, 40.0]


def test_what_lists_and_cells_hold_stays_where_it_is() -> None:
    """Else something new could come to be in the place of what is gone, and nobody would see a change."""

    def cell_of(content: Any) -> Any:
        return (lambda: content).__closure__[0]  # type: ignore[index]

    for make, put in (
        (lambda content: [content], lambda held, content: held.__setitem__(0, content)),
        (cell_of, lambda held, content: setattr(held, "cell_contents", content)),
    ):
        held = make(float("0.5"))
        watched = Watch()
        assert watched.containers([held])
        holds = watched.begin()
        assert holds()
        put(held, None)
        others = [float("1.5") for _ in range(1000)]  # one of them where the first one was, were that free
        for other in others:
            put(held, other)
            assert not holds()


def test_without_versions_dicts_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_VERSIONED", ())
    version_offset.cache_clear()
    try:
        module, compiled, x = _settled()
        module.factor = 5.0
        assert compiled(x).tolist() == (module(x) + 0.0).tolist()
    finally:
        monkeypatch.undo()
        version_offset.cache_clear()


@pytest.mark.skipif(available_cores() < 2, reason="without a second core there is nobody to compile while others run")
def test_first_calls_run_makeshift_code_of_the_same_bits_until_better_code_is_there() -> None:
    weights = [wg.tensor(np.random.default_rng(seed).normal(size=(23, 23))) for seed in range(3)]

    def step(x: Any) -> Any:
        for weight in weights:
            x = wg.tanh(x @ weight) * 0.71828 + x  # a number of its own: the code is new to the process
        return x

    compiled, x = wg.compile(step), wg.tensor(np.random.default_rng(3).normal(size=(19, 23)))
    first = compiled(x).numpy().tobytes()
    (paths,) = compiled._paths.values()
    program: Any = paths[0].program
    assert program.is_makeshift
    deadline = time.monotonic() + 60
    while program.is_makeshift and time.monotonic() < deadline:
        assert compiled(x).numpy().tobytes() == first
    assert compiled(x).numpy().tobytes() == first
    binding: Any = paths[0].binding
    assert binding._brief is not None
    assert compiled(x).numpy().tobytes() == first
