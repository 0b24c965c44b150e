"""Loops that are captured as one: they do what the loop does step by step, forwards, backwards and under transforms."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.compile.lower_loops import LONG
from wengert.core.pytree import flatten

from .twins import Compiler, play, see

STEPS = 11
LONGER = LONG + 6
"""Loops as long as this have all their steps compute in the same memory."""


class World:
    """Arrays that loops are tried on."""

    def __init__(self, length: int = STEPS) -> None:
        rng = np.random.default_rng(length)
        self.length = length
        self.state = wg.tensor(rng.normal(size=(3, 5)) / 2)
        self.weight = wg.tensor(rng.normal(size=(5, 5)) / 3)
        self.shift = wg.tensor(rng.normal(size=5) / 3)
        zeros, specials = self.state.numpy().copy(), self.state.numpy().copy()
        zeros[0, 0] = zeros[1] = 0.0
        specials[0, 0], specials[1, 1] = np.nan, np.inf
        self.partly_zero, self.partly_infinite = wg.tensor(zeros), wg.tensor(specials)
        self.inputs = wg.tensor(rng.normal(size=(length, 3, 5)) / 2)

    def having(self, **others: Any) -> World:
        """Return a world with others in the place of some of its arrays."""
        made = copy.copy(self)
        made.__dict__.update(others)
        return made


Function = Callable[[World], Any]
LOOPS: dict[str, Function] = {}
"""What becomes one equation, by name: each takes a world, and returns Tensors."""
STEP_BY_STEP: dict[str, Function] = {}
"""What Python has to do step by step."""


def rolled(function: Function) -> Function:
    """Have a function tried as one that becomes one loop."""
    LOOPS[function.__name__] = function
    return function


def step_by_step(function: Function) -> Function:
    """Have a function tried as one that cannot."""
    STEP_BY_STEP[function.__name__] = function
    return function


def squares(*values: Any) -> Any:
    """Return a number that depends on all values."""
    return sum([(wg.sin(value) * value).sum() for value in values], wg.tensor(0.0, dtype="float64"))


@rolled
def exchanged(w: World) -> Any:
    return wg.scan(lambda c, _: ((c[1], c[0] + 0.5 * c[1]), c[0]), (w.state, 2 * w.state), None, w.length)


@rolled
def emitted_as_it_is(w: World) -> Any:
    def step(c: Any, x: Any) -> Any:
        return {"same": c["same"], "count": c["count"] + 1, "product": c["product"] * x}, (
            x,
            c["product"],
            c["product"],
            1.5,
            c["count"],
            w.shift,
        )

    return wg.scan(step, {"same": w.state, "count": wg.tensor(0), "product": w.state + 1}, w.inputs)


@rolled
def from_the_end(w: World) -> Any:
    return wg.scan(lambda c, x: (wg.tanh(c @ w.weight + x), c), w.state, w.inputs, reverse=True)


@rolled
def constant_carry(w: World) -> Any:
    zero = wg.zeros((3, 5), dtype="float64")
    return wg.scan(lambda c, x: ((zero, x), c), (w.state, w.state), w.inputs)


@rolled
def written_within(w: World) -> Any:
    def step(c: Any, x: Any) -> Any:
        c = c * 0.5
        c[0] = x[1]
        c[:, 1:3] += 1.0
        return c, c[0]

    return wg.value_and_grad(lambda state: squares(*wg.scan(step, state, w.inputs)))(w.state)


@rolled
def gradient_of_everything(w: World) -> Any:
    def loss(state: Any, weight: Any, shift: Any, inputs: Any) -> Any:
        step = lambda c, x: (wg.tanh(c @ weight + x * shift), (2 * c, (c * x).sum()))  # noqa: E731
        end, (doubled, sums) = wg.scan(step, state, inputs)
        return squares(end, doubled, sums)

    return wg.value_and_grad(loss, (0, 1, 2, 3))(w.state, w.weight, w.shift, w.inputs)


@rolled
def gradient_from_the_end(w: World) -> Any:
    def loss(state: Any, weight: Any, inputs: Any) -> Any:
        end, before = wg.scan(lambda c, x: (wg.tanh(c @ weight + x), c), state, inputs, reverse=True)
        return squares(end, before)

    return wg.value_and_grad(loss, (0, 1, 2))(w.state, w.weight, w.inputs)


@rolled
def gradient_of_entries(w: World) -> Any:
    def loss(state: Any, weight: Any, inputs: Any) -> Any:
        _, after = wg.scan(lambda c, x: (wg.tanh(c @ weight + x),) * 2, state, inputs)
        return squares(after[-1] * after[2])

    return wg.value_and_grad(loss, (0, 1, 2))(w.state, w.weight, w.inputs)


@rolled
def gradient_of_choices(w: World) -> Any:
    def loss(state: Any, weight: Any, inputs: Any) -> Any:
        step = lambda c, x: (wg.maximum(c @ weight + x, 0.0), wg.where(c > 0, c * x, x))  # noqa: E731
        return squares(*wg.scan(step, state, inputs))

    return wg.value_and_grad(loss, (0, 1, 2))(w.state, w.weight, w.inputs)


@rolled
def gradient_through_what_is_closed_over(w: World) -> Any:
    def loss(weight: Any) -> Any:
        grown = wg.exp(weight / 10)
        return squares(wg.scan(lambda c, _: (wg.tanh(c @ grown) + grown[0], None), w.state, None, w.length)[0])

    return wg.value_and_grad(loss)(w.weight)


@rolled
def gradient_of_loops_in_loops(w: World) -> Any:
    def loss(state: Any, weight: Any, inputs: Any) -> Any:
        def outer(c: Any, x: Any) -> Any:
            inner, _ = wg.scan(lambda d, _: (wg.tanh(d @ weight), None), c, None, 9)
            return inner + x, inner

        return squares(*wg.scan(outer, state, inputs))

    return wg.value_and_grad(loss, (0, 1, 2))(w.state, w.weight, w.inputs)


@rolled
def gradient_of_descent(w: World) -> Any:
    def loss(rate: Any, weight: Any) -> Any:
        def step(p: Any, x: Any) -> Any:
            slope = wg.grad(lambda p: ((wg.tanh(x @ p) - 1) ** 2).sum())(p)
            return p - rate * slope, (p * p).sum()

        return squares(*wg.scan(step, weight, w.inputs))

    return wg.value_and_grad(loss, (0, 1))(wg.tensor(0.01, dtype="float64"), w.weight)


@rolled
def gradient_of_contractions(w: World) -> Any:
    def loss(state: Any, weight: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            return wg.tanh(wg.einsum("bi,ij,bj->bi", c, weight, x)), wg.einsum("bi,bj->ij", c, x)

        return squares(*wg.scan(step, state, w.inputs))

    return wg.value_and_grad(loss, (0, 1))(w.state, w.weight)


@rolled
def gradient_of_convolutions(w: World) -> Any:
    def loss(signal: Any, kernel: Any) -> Any:
        step = lambda c, _: (wg.tanh(wg.conv1d(c, kernel, padding=1)), None)  # noqa: E731
        return squares(wg.scan(step, signal, None, w.length)[0])

    return wg.value_and_grad(loss, (0, 1))(w.inputs[:2], w.inputs[:3].swapaxes(1, 2)[:, :3, :3])


@rolled
def numbers_alone(w: World) -> Any:
    begin = wg.tensor(0.5, dtype="float64")
    return wg.value_and_grad(lambda a: wg.scan(lambda c, x: (a * c + x.sum(), c), begin, w.inputs)[0])(w.shift[0])


@rolled
def positions_that_are_carried(w: World) -> Any:
    step = lambda c, x: ((c[0] + x, (c[1] + 1) % 3), wg.take(c[0], c[1], axis=0))  # noqa: E731
    return wg.scan(step, (w.state, wg.tensor(1)), w.inputs)


@rolled
def without_kernels(w: World) -> Any:
    return wg.scan(lambda c, x: (wg.sort(c + x, axis=0), wg.cumprod(c, axis=0)), w.state, w.inputs)


@rolled
def number_not_asked_for(w: World) -> Any:
    return wg.fori_loop(3, 3 + w.length, lambda _, c: wg.tanh(c @ w.weight), w.state)


def _damped(c: Any) -> Any:
    return wg.cond(c.sum() > 0.2, lambda a: 0.5 * a, lambda a: wg.sqrt(a * a + 1), c)


@rolled
def branched_by_functions(w: World) -> Any:
    return wg.scan(lambda c, x: (_damped(wg.tanh(c @ w.weight + x)), _damped(x)), w.state, w.inputs)


@rolled
def gradient_of_branches(w: World) -> Any:
    def loss(weight: Any, state: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            root = wg.cond(c[0, 0] > 0, lambda a: wg.sqrt(wg.abs(a[0, 0])), lambda a: 0 * a[0, 0] + 1, c)
            return _damped(wg.tanh(c @ weight + x)) * root, None

        return squares(wg.scan(step, state, w.inputs)[0])

    return wg.value_and_grad(loss, (0, 1))(w.weight, w.state)


@rolled
def gradient_of_checkpoints(w: World) -> Any:
    def loss(weight: Any, state: Any) -> Any:
        @wg.checkpoint
        def step(c: Any, x: Any) -> Any:
            return wg.tanh(wg.sin(c @ weight) * wg.exp(-x * x)), wg.cos(c).sum()

        inner = lambda i, c: wg.checkpoint(wg.tanh)(c @ weight + 0.1 * i)  # noqa: E731
        around = wg.checkpoint(lambda c: wg.fori_loop(0, 9, inner, c))
        end, seen = wg.scan(step, state, w.inputs)
        return squares(end, seen, wg.scan(lambda c, x: (around(c) + x, None), state, w.inputs)[0])

    return wg.value_and_grad(loss, (0, 1))(w.weight, w.state)


def _many(w: World, more: int = 0) -> Any:
    """Return what is read in so many steps that stretches of them are loops, with so many left over."""
    whole = 64 if w.length < LONG else 6 * w.length // 80 * 80
    return wg.concatenate([w.inputs] * 6, axis=0)[: whole + more]


@rolled
def few_states(w: World) -> Any:
    step = lambda c, x: (wg.tanh(c @ w.weight + x), (c * x).sum(0))  # noqa: E731
    inputs = _many(w)
    there = wg.scan(step, w.state, inputs, checkpoints=3)
    back = wg.scan(step, w.state, inputs, checkpoints=20, reverse=True)
    counted = wg.fori_loop(0, len(inputs), lambda i, c: wg.tanh(c + inputs[i] / (i + 1)), w.state, checkpoints=10)
    return there, back, counted


@rolled
def gradient_with_few_states(w: World) -> Any:
    inputs = _many(w)

    def loss(weight: Any, state: Any, inputs: Any) -> Any:
        step = lambda c, x: (wg.tanh(wg.sin(c @ weight) * wg.exp(-x * x)), (c * x).sum(0))  # noqa: E731
        there = wg.scan(step, state, inputs, checkpoints=3)
        back = wg.scan(step, state, inputs, checkpoints=20, reverse=True)
        last = len(inputs) - 1
        counted = lambda i, c: wg.tanh(c @ weight + inputs[last - i] * (0.1 * i))  # noqa: E731
        return squares(*there, *back, wg.fori_loop(0, last + 1, counted, state, checkpoints=10))

    return wg.value_and_grad(loss, (0, 1, 2))(w.weight, w.state, inputs)


@rolled
def read_by_number(w: World) -> Any:
    last = w.length - 1

    def step(i: Any, c: Any) -> Any:
        around = w.inputs[last - i] - w.inputs[i // 2] + w.inputs[-1 - i, 1] + w.inputs[i, ..., 2:3]
        return wg.tanh(c @ w.weight + w.inputs[i] + around + w.inputs[i][1] + w.shift[i % 5])

    return wg.fori_loop(0, w.length, step, w.state)


@rolled
def windows_by_number(w: World) -> Any:
    rows, columns = w.inputs.reshape((-1, 5)), w.inputs.reshape((15, -1))

    def step(i: Any, c: Any) -> Any:
        c = c + w.inputs[i - 2 : i + 1].sum(0) - columns[1, i - 2 : i].sum()
        return wg.tanh(c * w.shift + rows[3 * i : 3 * (i + 1)])

    return wg.fori_loop(2, w.length, step, w.state)


@rolled
def numbers_that_meet_tensors(w: World) -> Any:
    def step(i: Any, c: Any) -> Any:
        c = wg.where(i % 3 == 0, c * w.shift, c / (i + 1)) + 0.1 * i
        whole = (c * 4).astype("int64") * (i % 4 - 1) + wg.maximum(c.astype("int8"), i % 5)
        single = c.astype("float32") * (i / 7) + whole % (i + 2)
        return (
            wg.tanh(single + wg.sin(0.1 * i) * c - (i < c) + (wg.abs(c) + 0.1) ** (i % 3) / (-i - 1)) if i >= 0 else c
        )

    return wg.fori_loop(0, w.length, step, w.state)


@rolled
def numbers_of_loops_in_loops(w: World) -> Any:
    grid = w.inputs.reshape((-1, 15))

    def outer(i: Any, c: Any) -> Any:
        def inner(j: Any, c: Any) -> Any:
            return wg.tanh(c * w.shift + grid[i, j] - grid[:, j].sum() * i + j * grid[i].sum())

        return wg.fori_loop(0, 15, inner, c)

    return wg.fori_loop(0, w.length, outer, w.state)


@rolled
def numbers_of_two_loops(w: World) -> Any:
    row = w.inputs.reshape(-1)
    inner = lambda i, c: wg.fori_loop(0, 9, lambda j, c: wg.tanh(c + row[i + j]), c)  # noqa: E731
    return wg.fori_loop(0, w.length, inner, w.state)


@rolled
def gradient_of_what_is_read_by_number(w: World) -> Any:
    def loss(weight: Any, inputs: Any) -> Any:
        step = lambda i, c: wg.tanh(c @ weight + 0.1 * i * inputs[i] - inputs[i // 2, 0])  # noqa: E731
        return squares(wg.fori_loop(0, w.length, step, w.state))

    return wg.value_and_grad(loss, (0, 1))(w.weight, w.inputs)


@rolled
def infinite_slopes(w: World) -> Any:
    def loss(state: Any, least: Any) -> Any:
        step = lambda c, _: (wg.where(c > least, wg.sqrt(wg.abs(c - least)), c / 2), None)  # noqa: E731
        return wg.scan(step, state, None, w.length)[0].sum()

    return wg.grad(loss, (0, 1))(w.partly_zero, wg.tensor(0.0, dtype="float64"))


@rolled
def not_a_number_elsewhere(w: World) -> Any:
    step = lambda c, _: (wg.tanh(c / 2), None)  # noqa: E731
    return wg.value_and_grad(lambda c: wg.scan(step, c, None, w.length)[0][2].sum())(w.partly_infinite)


class Model:
    """Holds what a step needs, and more that would be different in each step."""

    def __init__(self, w: World) -> None:
        self.weight = w.weight
        self.count = 0

    def step(self, c: Any) -> Any:
        return self.update(c) / 2

    def update(self, c: Any) -> Any:
        return c + self.moved(c)

    def moved(self, c: Any) -> Any:
        return wg.tanh(c @ self.weight)

    def counted(self, c: Any) -> Any:
        self.count += 1
        return self.moved(c) + self.count


@rolled
def method_that_changes_nothing(w: World) -> Any:
    model = Model(w)
    return wg.scan(lambda c, _: (model.moved(c), None), w.state, None, w.length)[0]


def update(c: Any, slope: Any) -> Any:
    return c + 0.1 * slope


def step(c: Any, weight: Any) -> Any:
    return update(c, wg.tanh(c @ weight))


@rolled
def functions_called_as_what_changes_things(w: World) -> Any:
    return wg.scan(lambda c, _: (step(c, w.weight), None), w.state, None, w.length)[0]


@rolled
def methods_called_as_what_changes_things(w: World) -> Any:
    model = Model(w)
    return wg.scan(lambda c, _: (model.step(c), None), w.state, None, w.length)[0]


class Counting(Model):
    """Its method of such a name does count."""

    def update(self, c: Any) -> Any:
        self.count += 1
        return super().update(c) + self.count


class Replaced(Model):
    """One of its objects has another function in the place of a method."""

    def __init__(self, w: World) -> None:
        super().__init__(w)
        counts = self.counts = [0]

        def update(c: Any) -> Any:
            counts.append(len(counts))
            return self.moved(c) + len(counts)

        self.update = update  # type: ignore[method-assign]


@step_by_step
def method_of_such_a_name_that_counts(w: World) -> Any:
    model = Counting(w)
    return wg.scan(lambda c, _: (model.step(c), None), w.state, None, w.length)[0], model.count


@step_by_step
def method_of_such_a_name_that_was_replaced(w: World) -> Any:
    model = Replaced(w)
    return wg.scan(lambda c, _: (model.step(c), None), w.state, None, w.length)[0], len(model.counts)


@step_by_step
def method_that_counts(w: World) -> Any:
    model = Model(w)
    return wg.scan(lambda c, _: (model.counted(c), None), w.state, None, w.length)[0], model.count


@step_by_step
def branched_on_numbers(w: World) -> Any:
    return wg.fori_loop(0, w.length, lambda i, c: c + 1 if i % 2 else c * 2, w.state)


def _inverse(number: Any) -> Any:
    try:
        return 1 / number
    except ZeroDivisionError:
        return 0.5


@step_by_step
def numbers_of_which_one_fails(w: World) -> Any:
    return wg.fori_loop(0, w.length, lambda i, c: wg.tanh(c * w.shift) + _inverse(i - 2), w.state)


@step_by_step
def slices_of_other_lengths(w: World) -> Any:
    return wg.fori_loop(0, w.length, lambda i, c: wg.tanh(c + w.inputs[: i + 1].sum(0) + w.inputs[i:].sum(0)), w.state)


@step_by_step
def numbers_as_positions_of_python_s(w: World) -> Any:
    rates, shifts = [0.5] * w.length, np.arange(w.length) / w.length
    return wg.fori_loop(0, w.length, lambda i, c: wg.tanh(c * rates[i] + shifts[i]) + len(range(i)), w.state)


@step_by_step
def read_from_what_a_step_has_made(w: World) -> Any:
    begin = wg.zeros((w.length, 5), dtype="float64") + w.shift
    return wg.fori_loop(0, w.length, lambda i, c: wg.tanh(c * c[i] + (w.inputs * 2)[i, 0]), begin)


@step_by_step
def counted_in_python(w: World) -> Any:
    count = 0

    def step(c: Any, _: Any) -> Any:
        nonlocal count
        count += 1
        return c / 2 + count, None

    return (*wg.scan(step, w.state, None, w.length), count)


@step_by_step
def counted_in_what_is_wrapped(w: World) -> Any:
    counts: list[int] = []

    def step(c: Any, _: Any) -> Any:
        counts.append(len(counts))
        return c / 2 + len(counts), None

    checkpointed = wg.scan(wg.checkpoint(step), w.state, None, w.length)[0]
    mapped = wg.scan(wg.vmap(step, (0, None)), w.state, None, w.length)[0]
    return checkpointed, mapped, len(counts)


@step_by_step
def counted_in_a_list(w: World) -> Any:
    counts = [1.0]

    def step(c: Any, _: Any) -> Any:
        counts[0] += 1.0
        return c / 2 + counts[0], None

    return wg.scan(step, w.state, None, w.length)[0], counts[0]


@step_by_step
def counted_by_an_object(w: World) -> Any:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def next_one(self) -> int:
            self.count += 1
            return self.count

    counter = Counter()
    return wg.scan(lambda c, _: (c / 2 + counter.next_one(), None), w.state, None, w.length)[0], counter.count


@step_by_step
def taken_from_an_iterator(w: World) -> Any:
    numbers = iter(range(100))

    def step(c: Any, _: Any) -> Any:
        for number in numbers:
            return c / 2 + number, None
        return c, None

    return wg.scan(step, w.state, None, w.length)[0], list(numbers)


@step_by_step
def written_outside(w: World) -> Any:
    total = wg.zeros((3, 5), dtype="float64")

    def step(c: Any, _: Any) -> Any:
        total[...] = total + c
        return c / 2 + total, None

    return wg.scan(step, w.state, None, w.length)[0], total


@step_by_step
def branched_on_values(w: World) -> Any:
    return wg.scan(lambda c, x: (c + x if bool(x.sum() > 0) else c - x, None), w.state, w.inputs)[0]


def _played(function: Function, length: int) -> Callable[[Compiler], Any]:
    def scenario(c: Compiler) -> Any:
        world = World(length)
        compiled = c(lambda: function(world))
        return [see(compiled()) for _ in range(3)]

    return scenario


@pytest.mark.parametrize("name", [*LOOPS, *STEP_BY_STEP])
def test_loops_do_what_they_do_without_compilation(name: str) -> None:
    play(_played({**LOOPS, **STEP_BY_STEP}[name], STEPS))


@pytest.mark.parametrize("name", LOOPS)
def test_so_do_long_loops(name: str) -> None:
    play(_played(LOOPS[name], LONGER))


def _operations(function: Function, length: int) -> int:
    world = World(length)
    compiled = wg.compile(lambda: function(world))
    compiled()
    return compiled.explain().programs[0].operations


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_is_as_long_as_its_body(name: str) -> None:
    assert _operations(LOOPS[name], STEPS) == _operations(LOOPS[name], LONGER)


@pytest.mark.parametrize("name", [name for name in STEP_BY_STEP if name != "branched_on_values"])
def test_what_python_has_to_do_is_done_in_each_step(name: str) -> None:
    assert _operations(STEP_BY_STEP[name], STEPS) < _operations(STEP_BY_STEP[name], LONGER)


def _moved_along(function: Function, w: World) -> Any:
    def moved(state: Any, weight: Any, inputs: Any) -> Any:
        return function(w.having(state=state, weight=weight, inputs=inputs))

    return wg.jvp(moved, (w.state, w.weight, w.inputs), (w.state * 0.5, w.weight.T, wg.sin(w.inputs)))


def _one_thing_moved(function: Function, w: World) -> Any:
    return wg.jvp(lambda weight: function(w.having(weight=weight)), (w.weight,), (w.weight.T,))


def _mapped(function: Function, w: World) -> Any:
    states, inputs = wg.stack([w.state, -w.state, w.state * 2]), wg.stack([w.inputs, w.inputs * 2, w.inputs / 2])
    return wg.vmap(lambda state, x: function(w.having(state=state, inputs=x)), (0, 0))(states, inputs)


def _mapped_otherwise(function: Function, w: World) -> Any:
    inputs = wg.stack([w.inputs, w.inputs * 2], axis=1)
    return wg.vmap(lambda x: function(w.having(inputs=x)), in_axes=1)(inputs)


def _mapped_and_moved(function: Function, w: World) -> Any:
    def of_state(state: Any) -> Any:
        return wg.jvp(lambda weight: function(w.having(weight=weight, state=state)), (w.weight,), (w.weight.T,))

    return wg.vmap(of_state)(wg.stack([w.state, -w.state]))


def _moved_and_mapped(function: Function, w: World) -> Any:
    def of_weight(weight: Any) -> Any:
        return wg.vmap(lambda x: function(w.having(weight=weight, inputs=x)))(wg.stack([w.inputs, w.inputs / 2]))

    return wg.jvp(of_weight, (w.weight,), (w.weight.T,))


def _moved_twice(function: Function, w: World) -> Any:
    along = lambda state: _moved_along(function, w.having(state=state))  # noqa: E731
    return wg.jvp(along, (w.state,), (w.state * w.state,))


INSIDE = [
    *(_moved_along, _one_thing_moved, _mapped, _mapped_otherwise, _mapped_and_moved, _moved_and_mapped),
    _moved_twice,
]


@pytest.mark.parametrize("way", INSIDE)
@pytest.mark.parametrize("name", LOOPS)
def test_so_do_loops_inside_of_jvp_and_vmap(name: str, way: Any) -> None:
    play(_played(lambda w: way(LOOPS[name], w), STEPS))


@pytest.mark.parametrize("way", INSIDE)
@pytest.mark.parametrize(
    "name", ["exchanged", "from_the_end", "emitted_as_it_is", "functions_called_as_what_changes_things"]
)
def test_inside_of_jvp_and_vmap_a_loop_is_as_long_as_its_body(name: str, way: Any) -> None:
    inside = lambda w: way(LOOPS[name], w)  # noqa: E731
    assert _operations(inside, STEPS) == _operations(inside, LONGER)


PLAIN = [
    *("exchanged", "emitted_as_it_is", "from_the_end", "constant_carry", "positions_that_are_carried"),
    *("number_not_asked_for", "methods_called_as_what_changes_things", "without_kernels", "read_by_number"),
    *("windows_by_number", "numbers_that_meet_tensors", "numbers_of_loops_in_loops"),
    *("branched_by_functions", "few_states"),
]
"""Loops that take no derivatives themselves."""


def _loss(name: str, w: World) -> Any:
    def loss(weight: Any, state: Any, inputs: Any) -> Any:
        leaves, _ = flatten(LOOPS[name](w.having(weight=weight + weight.sum(), state=state, inputs=inputs)))
        return squares(*[leaf / 4 for leaf in leaves if leaf.dtype.kind == "f"], weight, state, inputs)

    return loss


SECOND: dict[str, Callable[[Any, World], Any]] = {
    "hvp": lambda f, w: wg.hvp(f, (w.weight, w.state, w.inputs), (w.weight.T, w.state * 2, wg.sin(w.inputs))),
    "jvp of grad": lambda f, w: wg.jvp(lambda k: wg.grad(f, (0, 1))(k, w.state, w.inputs), (w.weight,), (w.weight.T,)),
    "vmap of grad": lambda f, w: wg.vmap(wg.value_and_grad(f, (0, 1, 2)), (0, None, None))(
        wg.stack([w.weight, w.weight.T]), w.state, w.inputs
    ),
    "vmap of hvp": lambda f, w: wg.vmap(lambda s: wg.hvp(lambda s: f(w.weight, s, w.inputs), (s,), (s * 2,)))(
        wg.stack([w.state, -w.state])
    ),
    "jvp of jvp of grad": lambda f, w: wg.jvp(
        lambda s: wg.jvp(lambda s: wg.grad(f, 1)(w.weight, s, w.inputs), (s,), (s * 2,)), (w.state,), (wg.sin(w.state),)
    ),
    "jvp of grad of grad": lambda f, w: wg.jvp(
        lambda s: wg.grad(lambda s: squares(wg.grad(f, 1)(w.weight, s, w.inputs)))(s), (w.state,), (w.state * 2,)
    ),
    "jacrev of grad": lambda f, w: wg.jacrev(lambda s: wg.grad(f, 1)(w.weight, s, w.inputs))(w.state),
    "vmap of vjp": lambda f, w: wg.jacrev(lambda s: wg.grad(f, 0)(w.weight, s[0], w.inputs))(wg.stack([w.state] * 12)),
    "tape in jvp": lambda f, w: wg.jvp(lambda s: _by_tape(f, w, s), (w.state,), (w.state * 2,)),
}


@pytest.mark.parametrize("more", [1, 2])
def test_steps_that_stretches_leave_over(more: int) -> None:
    def scenario(c: Compiler) -> Any:
        w = World()
        inputs = _many(w, more)

        def loss(weight: Any, inputs: Any) -> Any:
            step = lambda c, x: (wg.tanh(c @ weight + x), (c * x).sum(0))  # noqa: E731
            there, back = [wg.scan(step, w.state, inputs, checkpoints=3, reverse=r) for r in (False, True)]
            return squares(*there, *back)

        gradient = c(wg.value_and_grad(loss, (0, 1)))
        return [see(gradient(w.weight * k, inputs)) for k in (1.0, 0.5)]

    play(scenario)


def _by_tape(f: Any, w: World, state: Any) -> Any:
    with wg.GradientTape() as tape:
        tape.watch(state)
        value = f(w.weight, state, w.inputs)
    return tape.gradient(value, state)


@pytest.mark.parametrize("way", SECOND)
@pytest.mark.parametrize("name", PLAIN)
def test_so_do_loops_on_tapes_inside_of_transforms(name: str, way: str) -> None:
    play(_played(lambda w: SECOND[way](_loss(name, w), w), STEPS))


@pytest.mark.parametrize("way", ["hvp", "jvp of grad", "vmap of grad", "vmap of hvp", "jvp of jvp of grad"])
@pytest.mark.parametrize("name", ["exchanged", "from_the_end", "number_not_asked_for", "read_by_number"])
def test_on_tapes_inside_of_transforms_loops_are_as_long_as_their_bodies(name: str, way: str) -> None:
    inside = lambda w: SECOND[way](_loss(name, w), w)  # noqa: E731
    assert _operations(inside, STEPS) == _operations(inside, LONGER)


def test_gradients_of_loops_inside_of_jvp_and_vmap() -> None:
    def scenario(c: Compiler) -> Any:
        w = World()

        def loss(weight: Any) -> Any:
            run = lambda state: wg.scan(lambda s, x: (wg.tanh(s @ weight + x), s.sum()), state, w.inputs)  # noqa: E731
            ends, sums = wg.vmap(run)(wg.stack([w.state, w.state * 2]))
            (end, _), (dot, dots) = wg.jvp(run, (w.state,), (w.state * 0.3,))
            return squares(ends, sums, end, dot, dots)

        return [see(c(lambda: wg.value_and_grad(loss)(w.weight))()) for _ in range(2)]

    play(scenario)


@pytest.mark.parametrize("is_carried", [False, True])
def test_gradients_around_transforms_with_tapes_of_their_own(is_carried: bool) -> None:
    """What a step makes may be on the tape outside alone, and must not be taken for something of the tape inside."""

    def loss(shift: Any, state: Any, inputs: Any) -> Any:
        def step(c: Any, x: Any) -> Any:
            other = wg.sin(shift) + 0.1
            return (wg.tanh(c[0] * shift + x), other if is_carried else c[1]), (c[0] * c[1], shift * 2, other)

        (end, last), ys = wg.scan(step, (state, shift * 1.0), inputs)
        return squares(end, last, *ys)

    def scenario(c: Compiler) -> Any:
        w = World()
        both = wg.stack([w.state, -w.state])
        outer = [
            lambda k: wg.jvp(lambda s: wg.grad(lambda s: loss(k, s, w.inputs))(s), (w.state,), (w.state * 2,)),
            lambda k: wg.jvp(lambda s: wg.value_and_grad(lambda s: loss(k, s, w.inputs))(s), (w.state,), (w.state,))[0],
            lambda k: wg.vmap(lambda s: wg.value_and_grad(lambda s: loss(k, s, w.inputs))(s))(both),
        ]
        functions = [lambda k, f=f: squares(*[leaf / 100 for leaf in flatten(f(k))[0]]) for f in outer]
        return [see(c(wg.value_and_grad(function))(w.shift)) for function in functions]

    play(scenario)


def test_gradients_of_leaves_that_are_closed_over() -> None:
    def scenario(c: Compiler) -> Any:
        w = World()
        weight, shift = w.weight.requires_grad_(), w.shift.requires_grad_()

        def update() -> Any:
            weight.grad = shift.grad = None
            end, sums = wg.scan(lambda s, x: (wg.tanh(s @ weight + shift + x), (s * shift).sum()), w.state, w.inputs)
            loss = squares(end, sums)
            loss.backward()
            assert weight.grad is not None
            with wg.no_grad():
                weight[...] = weight - 0.01 * weight.grad
            return loss.detach()

        update = c(update)
        return [see(update(), weight, shift) for _ in range(4)]

    play(scenario)


@pytest.mark.parametrize("order", [1, 2])
def test_results_on_the_tape(order: int) -> None:
    def scenario(c: Compiler) -> Any:
        w = World()
        weight = w.weight.requires_grad_()

        def run(state: Any, inputs: Any) -> Any:
            with wg.no_grad():
                factor, _ = wg.scan(lambda k, x: (0.9 * k + x.sum() * weight[0, 0], None), w.shift[0], inputs)
            step = lambda k, x: (wg.tanh(k @ weight + x) * factor, (k.detach() * weight[:3]).sum() + k.sum())  # noqa: E731
            return wg.scan(step, state, inputs)

        run, seen = c(run), []
        for _ in range(4):  # from the third on, derivatives of the gradient are compiled, too
            state, inputs = w.state.clone().requires_grad_(), w.inputs.clone().requires_grad_()
            weight.grad = None
            loss = squares(*run(state, inputs))
            if order == 2:
                found = wg.autograd.grad(loss, [state, inputs, weight], create_graph=True)
                loss = squares(*found)
            loss.backward()
            seen.append(see(state.grad, inputs.grad, weight.grad))
        return seen

    play(scenario)


def test_what_is_carried_may_end_in_what_it_began_with() -> None:
    def scenario(c: Compiler) -> Any:
        w = World()

        def update() -> Any:
            end, _ = wg.scan(lambda s, x: (wg.tanh(s + x + w.state), None), w.state, w.inputs)
            w.state[...] = end
            return w.state * 2

        update = c(update)
        return [see(update(), w.state) for _ in range(3)]

    play(scenario)


def test_derivatives_of_gradients_and_other_transforms() -> None:
    def scenario(c: Compiler) -> Any:
        w = World()

        def loss(weight: Any, state: Any) -> Any:
            return squares(*wg.scan(lambda s, x: (wg.tanh(s @ weight + x), s.sum()), state, w.inputs))

        gradient = wg.grad(loss)
        functions = [
            lambda: wg.grad(lambda weight: squares(gradient(weight, w.state)))(w.weight),
            lambda: wg.jvp(lambda weight: gradient(weight, w.state), (w.weight,), (w.weight * 0.3,)),
            lambda: wg.vmap(gradient, (None, 0))(w.weight, wg.stack([w.state, w.state * 2])),
            lambda: wg.vmap(lambda state: wg.jvp(lambda s: loss(w.weight, s), (state,), (state * 2,)))(
                wg.stack([w.state, w.state * 2])
            ),
        ]
        return [see(c(function)()) for function in functions]

    play(scenario)


def test_a_gradient_of_what_a_stopped_tape_watched() -> None:
    """The loop is run again for it, and what it closes over is watched no more."""
    w = World()

    def inner(state: Any, shift: Any) -> Any:
        with wg.GradientTape() as tape:
            tape.watch(shift)
            ends = wg.scan(lambda c, _: (0.5 * c + 0.5 * wg.tanh(wg.mean(shift)), None), state, None, w.length)
            total = squares(ends[0])
        return squares(tape.gradient(total, shift))

    gradient = wg.value_and_grad(inner)
    wanted, found = gradient(w.state, w.shift), wg.compile(gradient)(w.state, w.shift)
    assert np.asarray(wanted[1].detach()).any()
    for one, other in zip(found, wanted):
        np.testing.assert_allclose(one.detach(), other.detach(), rtol=1e-12)


@pytest.mark.parametrize("transformed", ["tape", "backward", "tape in jvp"])
def test_what_a_loop_does_not_depend_on_has_no_gradient(transformed: str) -> None:
    """None, and not zeros: optimisers leave it alone. Of carries that are exchanged, one is left in the end."""
    w = World()

    def ends(first: Any, second: Any, idle: Any) -> Any:
        step = lambda c, x: ((c[1], wg.sin(c[0]), c[2] * 2), x)  # noqa: E731
        return squares(wg.scan(step, (first, second, idle), w.inputs)[0][0])

    def told(*given: Any) -> Any:
        with wg.GradientTape() as tape:
            tape.watch(given)
            total = ends(*given)
        return tape.gradient(total, given)

    def swept(*given: Any) -> Any:
        leaves = [x.detach().requires_grad_() for x in given]
        ends(*leaves).backward()
        return [leaf.grad for leaf in leaves]

    def pushed(first: Any, *others: Any) -> Any:
        gradients = lambda x: tuple([one for one in told(x, *others) if one is not None])  # noqa: E731
        return wg.jvp(gradients, (first,), (first,))

    function = {"tape": told, "backward": swept, "tape in jvp": pushed}[transformed]
    given = [w.state * 1, w.state * 2, w.state * 3]
    wanted = see(function(*given))
    assert "None" in str(wanted) or transformed == "tape in jvp"
    play(lambda c: see(c(function)(*given)))


@pytest.mark.parametrize("name", ["from_the_end", "exchanged", "emitted_as_it_is", "constant_carry"])
def test_checkpoints_around_loops(name: str) -> None:
    """Of what is recorded, checkpoints count; trials of a step are not of it."""

    w = World()

    def loss(state: Any, inputs: Any) -> Any:
        found = LOOPS[name](w.having(state=state, inputs=inputs))
        return squares(*[x for x in flatten(found)[0] if isinstance(x, wg.Tensor) and x.dtype.kind == "f"])

    gradient = wg.grad(wg.checkpoint(loss), argnums=(0, 1))
    play(lambda c: see(c(gradient)(w.state, w.inputs)))


def test_a_checkpoint_around_an_lstm() -> None:
    rng = np.random.default_rng(3)
    given = [wg.tensor(rng.normal(size=shape) / 2) for shape in ((STEPS, 2, 12), (2, 3), (2, 3), (12, 3))]
    gradient = wg.grad(wg.checkpoint(lambda *xs: squares(*wg.lstm_states(*xs))), argnums=(0, 1, 2, 3))
    play(lambda c: see(c(gradient)(*given)))


def test_checkpoints_of_steps_in_a_transform_that_a_tape_is_around() -> None:
    """What the tape watched has no tangent when a step is run again, as it had none."""
    w = World()

    def told(state: Any, shift: Any) -> Any:
        step = wg.checkpoint(lambda c, _: (0.5 * c + 0.5 * wg.tanh(wg.mean(shift)), None))
        with wg.GradientTape() as tape:
            tape.watch((state, shift))
            pushed = wg.jvp(lambda x: squares(wg.scan(step, x, None, w.length)[0]), (state,), (state * 2,))
            total = squares(*pushed)
        return tape.gradient(total, (state, shift))

    play(lambda c: see(c(told)(w.state * 1, w.shift * 1)))
