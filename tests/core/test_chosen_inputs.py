"""Gradients with respect to chosen Tensors of random programs: what pruning leaves out must not be missed."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import wengert as wg

Step = tuple[str, int, int]
OPERATIONS = ("add", "multiply", "sin", "slice", "write", "view and write", "detach", "matmul")


def steps(count: int) -> st.SearchStrategy[list[Step]]:
    operands = st.integers(0, 30)
    return st.lists(st.tuples(st.sampled_from(OPERATIONS), operands, operands), min_size=1, max_size=count)


def run(program: list[Step]) -> tuple[list[Any], Any]:
    """Return (every value of a program on vectors of length 3 that is on the tape, a scalar of the last ones)."""
    rng = np.random.default_rng(len(program))
    values = [wg.tensor(rng.uniform(0.5, 1.5, 3), requires_grad=True) for _ in range(3)]
    for name, i, j in program:
        x, y = values[i % len(values)], values[j % len(values)]
        values.append(apply(name, x, y))
    total = values[-1].sum()
    for value in values[-3:-1]:
        total = total + (value * value).sum()
    return [value for value in values if value.requires_grad], total


def apply(name: str, x: Any, y: Any) -> Any:
    if name == "add":
        return x + y
    if name == "multiply":
        return x * y
    if name == "sin":
        return wg.sin(x)
    if name == "slice":
        return x[::-1] * y[1]
    if name == "matmul":
        return wg.reshape(x, (3, 1)) @ wg.reshape(y, (1, 3)) @ y
    if name == "detach":
        return x * y.detach()
    made = x * 1.0
    if name == "write":
        made[1:] = y[:2]
    else:
        view = made[:2]
        view *= y[1:]
    return made


def rebuilt(program: list[Step]) -> tuple[list[Any], Any]:
    tensors, total = run(program)
    return tensors, total * total


@given(steps(8), st.data())
def test_chosen_inputs_get_what_backward_gives(program: list[Step], data: Any) -> None:
    tensors, total = rebuilt(program)
    for tensor in tensors:
        tensor.retain_grad()
    total.backward()
    expected = [tensor.grad for tensor in tensors]

    tensors, total = rebuilt(program)
    chosen = data.draw(st.lists(st.integers(0, len(tensors) - 1), min_size=1, max_size=4))
    made = wg.autograd.grad(total, [tensors[i] for i in chosen], allow_unused=True)
    for i, gradient in zip(chosen, made):
        assert (gradient is None) == (expected[i] is None)
        if gradient is not None:
            np.testing.assert_allclose(gradient.numpy(), expected[i].numpy(), rtol=1e-10, atol=1e-12)
    assert all(tensor.grad is None for tensor in tensors)


@given(steps(6), st.data())
def test_second_derivatives_need_no_more_than_was_chosen(program: list[Step], data: Any) -> None:
    """Differentiate a gradient that was taken for one Tensor alone, and one that was taken for all: they agree."""

    def second(only: int | None) -> list[Any]:
        tensors, total = rebuilt(program)
        wanted = tensors if only is None else [tensors[only]]
        gradients = wg.autograd.grad(total, wanted, create_graph=True, allow_unused=True)
        picked = gradients[place] if only is None else gradients[0]
        if picked is None or not picked.requires_grad:
            return []
        return list(wg.autograd.grad((picked * picked).sum(), tensors, allow_unused=True))

    tensors, _ = rebuilt(program)
    place = data.draw(st.integers(0, len(tensors) - 1))
    alone, among_all = second(place), second(None)
    assert len(alone) == len(among_all)
    for one, other in zip(alone, among_all):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-9, atol=1e-9)
