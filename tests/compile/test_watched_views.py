"""Tensors that become leaves, or stop being such, while others see the same memory: in captures and transforms."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, play, see
from wengert.core import recording, watching
from wengert.core.pytree import flatten

Function = Callable[[Any], Any]


def viewed_while_watched(x: Any) -> Any:
    with wg.GradientTape() as tape:
        tape.watch(x)
        row, turned = x[0], x.T
        y = (row * turned.sum()).sum()
    return tape.gradient(y, x), row, turned.requires_grad


def viewed_before(x: Any) -> Any:
    turned = x.T
    column = turned[0]
    with wg.GradientTape() as tape:
        tape.watch(x)
        y = (turned * turned.sum()).sum() + (column**3).sum()
    return tape.gradient(y, x), column * 2, column.requires_grad


def a_view_is_watched(x: Any) -> Any:
    row = x[0]
    with wg.GradientTape() as tape:
        tape.watch(row)
        y = (row * row).sum() + x.sum()
    x[0] = row * 3
    return tape.gradient(y, row), x, row


def written_while_watched(x: Any) -> Any:
    x = x * 1
    row, turned = x[0], x.T
    with wg.GradientTape(persistent=True) as tape:
        tape.watch(row)
        y = (row**3).sum() + turned.sum() * row.sum()
        turned[...] = turned * 2
        z = (row * row).sum() + (x * x).sum()
    return tape.gradient(y, row), tape.gradient(z, row), x, row, turned


def a_leaf_of_its_own(x: Any) -> Any:
    x = x * 1
    row = x[0]
    x.requires_grad_()
    (row**3).sum().backward()
    return x.grad, row.requires_grad


def a_leaf_that_shares_memory(x: Any) -> Any:
    y = x.detach()
    part = y[:1]
    y.requires_grad_()
    (y * part).sum().backward()
    return y.grad, part.requires_grad, x.requires_grad


FUNCTIONS = [
    *(viewed_while_watched, viewed_before, a_view_is_watched, written_while_watched),
    *(a_leaf_of_its_own, a_leaf_that_shares_memory),
]


def tensors_of(result: Any) -> list[Any]:
    return [part for part in flatten(result)[0] if isinstance(part, wg.Tensor)]


def in_jvp(function: Function) -> Function:
    return lambda x: wg.jvp(lambda v: tensors_of(function(v)), (x,), (wg.sin(x),))


def in_vmap(function: Function) -> Function:
    return lambda x: wg.vmap(lambda v: tensors_of(function(v)))(wg.stack([x, 3 * x]))


@pytest.mark.parametrize("transformed", [lambda f: f, in_jvp, in_vmap])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_views_follow_what_is_watched(function: Function, transformed: Callable[[Function], Function]) -> None:
    def scenario(c: Compiler) -> Any:
        run, seen = c(transformed(function)), []
        for scale in (1.0, 0.5, 2.0):
            x = wg.tensor(scale * np.random.default_rng(0).normal(size=(3, 3)))
            seen.append(see(run(x), x))
        return seen

    play(scenario)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_examples_are_what_they_are_alone(function: Function) -> None:
    xs = wg.tensor(np.random.default_rng(1).normal(size=(4, 3, 3)))
    mapped = wg.vmap(lambda v: tensors_of(function(v)))(xs.clone())
    alone = [tensors_of(function(xs[i].clone())) for i in range(4)]
    for found, wanted in zip(mapped, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(found.numpy(), np.stack([part.detach().numpy() for part in wanted]), rtol=1e-13)


@pytest.mark.parametrize("transformed", [lambda f: f, in_jvp, in_vmap])
def test_views_outside_of_what_is_watched_are_what_they_were(transformed: Callable[[Function], Function]) -> None:
    def scenario(c: Compiler) -> Any:
        weight = wg.tensor(np.random.default_rng(2).normal(size=(3, 3)))
        turned = weight.T

        def loss(x: Any) -> Any:
            with wg.GradientTape() as tape:
                tape.watch(weight)
                y = (wg.sin(weight) * x * turned).sum()
            return tape.gradient(y, weight) * turned[0]

        run, seen = c(transformed(loss)), []
        for scale in (1.0, 0.5, 2.0):
            seen.append(see(run(scale * wg.ones((3, 3), dtype="float64")), weight, turned))
            weight[0, 1] = scale
        return seen

    play(scenario)


def test_a_tape_that_cannot_let_go_of_one_tensor_lets_go_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = wg.ones(2), wg.ones(2)
    tape = wg.GradientTape()
    with pytest.raises(RuntimeError, match="not this one"), tape:
        tape.watch(x)
        tape.watch(y)
        stubborn = type(x).requires_grad_

        def refuse(self: Any, requires_grad: bool = True) -> Any:
            if self is x:
                raise RuntimeError("not this one")
            return stubborn(self, requires_grad)

        monkeypatch.setattr(type(x), "requires_grad_", refuse)
    assert not y.requires_grad
    assert tape not in recording.observers()
    del tape
    gc.collect()
    assert not [leaf for leaf in watching.lent_leaves() if leaf in (x._node, y._node)]


def test_an_array_that_is_lent_is_read_by_loops_and_checkpoints_though_views_are_in_use() -> None:
    def scenario(c: Compiler) -> Any:
        @c
        def run(x: Any) -> Any:
            x = wg.asarray(x)
            row = x[0]
            last = wg.scan(lambda carry, y: (wg.tanh(carry + y), None), row, x)[0]
            return last + wg.checkpoint(wg.sin)(x).sum(0) + row

        return [see(run(scale * np.arange(12.0).reshape(4, 3))) for scale in (1.0, 0.1)]

    play(scenario)


def test_a_number_that_is_written_off_the_tape_stays_a_number() -> None:
    """NumPy's reductions return numbers, which `-=` rebinds; what was kept of it does not change."""

    def scenario(c: Compiler) -> Any:
        kept = wg.zeros(3, dtype="float64")

        @c
        def run(x: Any) -> Any:
            largest = held = x.max()
            with wg.no_grad():
                kept[...] = largest
            largest -= 0.5
            return largest * 1, held * 1

        return [see(run(wg.tensor(np.arange(4.0) + k)), kept) for k in range(3)]

    play(scenario)


TAKEN: dict[str, Callable[[Any], Any]] = {
    "view": lambda x: x.T,
    "view of a view": lambda x: x[:, ::-1].T[::-1],
    "clone": lambda x: x.T.clone(),
    "none": lambda x: x.T * 1,
}


@pytest.mark.parametrize("way", ["scan", "scan with checkpoints", "checkpoint", "checkpoint in scan"])
def test_a_view_that_a_loop_was_made_of_is_found_when_the_tape_has_stopped(way: str) -> None:
    """What is pulled back after the tape has stopped runs the loop again, with a view that is off the tape by then."""

    def slope(weight: Any, kind: str) -> Any:
        def inner(w: Any) -> Any:
            base = wg.tensor(np.arange(6.0).reshape(2, 3) / 6)
            turned = TAKEN[kind](base) if kind.startswith("view") else None
            with wg.GradientTape() as tape:
                tape.watch(base)
                other = TAKEN[kind](base) if turned is None else turned

                def step(c: Any, _: Any) -> Any:
                    return wg.tanh(c * w + (other @ base).sum()), None

                checked = wg.checkpoint(step) if way.startswith("checkpoint") else step
                if way == "checkpoint":
                    y = checked(w * 0.5, None)[0].sum()
                else:
                    checkpoints = 3 if way.endswith("checkpoints") else None
                    y = wg.scan(checked, w * 0.5, None, 70, checkpoints=checkpoints)[0].sum()
            return (tape.gradient(y, base) ** 2).sum()

        return wg.grad(inner)(weight)

    def numbers(run: Callable[..., Any], kind: str) -> Any:
        return run(wg.tensor(np.array([0.3, 0.7])), kind).detach().numpy()

    wanted = numbers(slope, "none")
    for kind in ("view", "clone"):
        np.testing.assert_allclose(numbers(slope, kind), wanted, rtol=1e-12)
        np.testing.assert_allclose(numbers(wg.compile(slope), kind), wanted, rtol=1e-12)
    turned = numbers(slope, "view of a view")
    np.testing.assert_allclose(numbers(wg.compile(slope), "view of a view"), turned, rtol=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_what_was_computed_of_a_leaf_makes_it_no_leaf_again(compiled: bool) -> None:
    """A checkpoint reads what came of a Tensor while a tape watched it, and the Tensor itself, off the tape since."""

    def slope(x: Any) -> Any:
        def inner(x: Any) -> Any:
            weight = wg.tensor(np.array([0.3, 0.7]))
            with wg.GradientTape() as tape:
                tape.watch(weight)
                hidden = wg.sin(weight)

            def step(x: Any) -> Any:
                return wg.tanh(x * hidden * weight) * weight.reshape(2, 1).T[0]

            return wg.checkpoint(step)(x).sum()

        return wg.grad(inner)(x)

    x = wg.tensor(np.array([0.4, -0.2]))
    weight = np.array([0.3, 0.7])
    product = np.sin(weight) * weight
    wanted = product * weight / np.cosh(x.numpy() * product) ** 2
    found = (wg.compile(slope) if compiled else slope)(x)
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-13)
