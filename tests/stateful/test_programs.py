"""Random whole programs, run side by side by Wengert and by the scalar oracle of `tests.oracles.micro`.

A program makes leaves and constants, computes with values over and over, cuts some off the tape (`detach`, `no_grad`),
and asks for gradients in between: by `backward` into `.grad`, by `wg.autograd.grad`, once or twice through the same
tape, and of gradients. After every step all values and all `.grad`s are compared.

The oracle computes on NumPy's object arrays of scalars, so NumPy broadcasts and sums for it. It keeps the program as a
list of instructions and can run it again on other leaves, with what was cut off the tape frozen: differences of its
gradients are second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import wengert as wg
from tests.oracles import micro
from wengert.errors import GradientError
from wengert.testing.numeric import Estimate, derivative

ROUNDINGS = 2.0**14 * np.finfo(np.float64).eps
"""What a program of some dozens of operations may lose of the magnitude of its terms."""
LARGEST = 20.0
"""Values beyond this are only ever squashed, so that no program overflows."""
SHAPES = ((), (3,), (2, 3), (1, 3), (2, 1))
SEEDS = st.integers(0, 2**16)
RECENT = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 5, 8))
"""How many values ago one was made: programs get deep if they mostly go on with what they have just computed."""
MOSTLY = st.sampled_from((True, True, True, True, False))
RECORDED, UNRECORDED, DETACHED = "recorded", "under no_grad", "detached"
WAYS = st.sampled_from((RECORDED,) * 8 + (UNRECORDED, DETACHED))


class Scalars:
    """An array of the oracle's scalars with the operators of an array. NumPy's object arrays turn into their one entry
    when they have no axes; these do not."""

    def __init__(self, entries: Any) -> None:
        self.entries = np.asarray(entries, object)

    @staticmethod
    def lift(numbers: Any) -> Scalars:
        return Scalars(np.frompyfunc(micro.Value, 1, 1)(np.asarray(numbers)))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entries.shape

    def __iter__(self) -> Iterator[micro.Value]:
        return iter(self.entries.ravel())

    def read(self) -> np.ndarray:
        return self.gather({value: value.value for value in self})

    def gather(self, numbers: Mapping[micro.Value, float]) -> np.ndarray:
        return np.array([numbers.get(value, 0.0) for value in self]).reshape(self.shape)

    def __getitem__(self, key: Any) -> Scalars:
        return Scalars(self.entries[key] * 1.0)  # scalars of its own: gradients by it are not those by the whole

    def sum(self, **options: Any) -> Scalars:
        return Scalars(self.entries.sum(**options) * 1.0)

    def __add__(self, other: Any) -> Scalars:
        return Scalars(self.entries + entries_of(other))

    def __mul__(self, other: Any) -> Scalars:
        return Scalars(self.entries * entries_of(other))

    def __sub__(self, other: Any) -> Scalars:
        return Scalars(self.entries - entries_of(other))

    def __truediv__(self, other: Any) -> Scalars:
        return Scalars(self.entries / entries_of(other))

    def __pow__(self, other: Any) -> Scalars:
        return Scalars(self.entries ** entries_of(other))

    def __rsub__(self, other: Any) -> Scalars:
        return Scalars(other - self.entries)

    def __rtruediv__(self, other: Any) -> Scalars:
        return Scalars(other / self.entries)

    def __neg__(self) -> Scalars:
        return Scalars(-self.entries)

    __radd__ = __add__
    __rmul__ = __mul__


def entries_of(other: Any) -> Any:
    return other.entries if isinstance(other, Scalars) else other


class Oracle:
    """The functions of `wg` that programs use, on the oracle's scalars."""

    @staticmethod
    def exp(x: Scalars) -> Scalars:
        return Scalars(np.frompyfunc(micro.exp, 1, 1)(x.entries))

    @staticmethod
    def log(x: Scalars) -> Scalars:
        return Scalars(np.frompyfunc(micro.log, 1, 1)(x.entries))

    @staticmethod
    def tanh(x: Scalars) -> Scalars:
        return Scalars(np.frompyfunc(micro.tanh, 1, 1)(x.entries))

    @staticmethod
    def sin(x: Scalars) -> Scalars:
        return Scalars(np.frompyfunc(micro.sin, 1, 1)(x.entries))

    @staticmethod
    def relu(x: Scalars) -> Scalars:
        return Scalars(np.frompyfunc(micro.relu, 1, 1)(x.entries))


UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "negative": lambda xp, x: -x,
    "square": lambda xp, x: x * x,
    "cube": lambda xp, x: x**3 * 0.1,
    "sin": lambda xp, x: xp.sin(x),
    "tanh": lambda xp, x: xp.tanh(x),
    "relu": lambda xp, x: xp.relu(x),
    "exp": lambda xp, x: xp.exp(xp.tanh(x)),
    "log": lambda xp, x: xp.log(x * x + 0.5),
    "root": lambda xp, x: (x * x + 0.5) ** 0.5,
    "reciprocal": lambda xp, x: 1.0 / (1.0 + x * x),
    "twice itself": lambda xp, x: x + x,
    "reversed": lambda xp, x: x[..., ::-1] if x.shape else x * 1.0,
    "first": lambda xp, x: x[..., :1] if x.shape else x + 0.0,
    "total": lambda xp, x: x.sum(),
    "row sums": lambda xp, x: x.sum(axis=-1, keepdims=True) if x.shape else 2.0 - x,
}
SQUASHING = ("sin", "tanh", "exp", "log", "reciprocal")
BINARY: dict[str, Callable[..., Any]] = {
    "add": lambda xp, x, y: x + y,
    "subtract": lambda xp, x, y: x - y,
    "multiply": lambda xp, x, y: x * y,
    "divide": lambda xp, x, y: x / (1.0 + y * y),
    "power": lambda xp, x, y: (x * x + 0.5) ** xp.tanh(y),
    "mean square": lambda xp, x, y: (x - y) ** 2 * 0.5,
    "squashed": lambda xp, x, y: xp.tanh(x) + xp.sin(y),
}
WITH_A_NUMBER: dict[str, Callable[..., Any]] = {
    "on the left": lambda xp, x, number: number - x * number,
    "on the right": lambda xp, x, number: (x + number) / number - number,
    "squashed": lambda xp, x, number: number * xp.tanh(x),
}


def no_function(xp: Any) -> Any:
    raise AssertionError("a leaf, and what is off the tape, is not computed anew")


class Step:
    """One value of the program: the Tensor, the oracle's array, and how the oracle computes it anew."""

    def __init__(
        self,
        tensor: Any,
        scalars: Scalars,
        function: Callable[..., Any],
        parents: Sequence[int],
        *,
        is_leaf: bool = False,
        tracked: bool = False,
    ) -> None:
        self.tensor = tensor
        self.scalars = scalars
        self.numbers = scalars.read()
        self.function = function
        self.parents = tuple(parents)
        self.is_leaf = is_leaf
        self.tracked = tracked
        self.freed = False
        self.grad: np.ndarray | None = None
        self.size = 0.0


class Programs(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    # What the program is made of.

    @initialize(shapes=st.tuples(st.sampled_from(SHAPES), st.sampled_from(SHAPES)))
    def two_leaves(self, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        for seed, shape in enumerate(shapes):
            self.leaf(seed, shape, True)

    @rule(seed=SEEDS, shape=st.sampled_from(SHAPES), tracked=MOSTLY)
    def leaf(self, seed: int, shape: tuple[int, ...], tracked: bool) -> None:
        numbers = np.random.default_rng(seed).uniform(-2, 2, shape)
        tensor = wg.tensor(numbers, requires_grad=tracked)
        self.append(Step(tensor, Scalars.lift(numbers), no_function, (), is_leaf=tracked, tracked=tracked))

    @rule(names=st.lists(st.sampled_from(sorted(UNARY)), min_size=1, max_size=3), x=RECENT, way=WAYS)
    def unary(self, names: list[str], x: int, way: str) -> None:
        for name in names:
            chosen = "tanh" if name not in SQUASHING and self.is_large(x) else name
            self.compute(UNARY[chosen], (x,), way)
            x = 0

    @rule(name=st.sampled_from(sorted(BINARY)), x=RECENT, y=RECENT, way=WAYS)
    def binary(self, name: str, x: int, y: int, way: str) -> None:
        chosen = "squashed" if self.is_large(x) or self.is_large(y) else name
        self.compute(BINARY[chosen], (x, y), way)

    @rule(name=st.sampled_from(sorted(WITH_A_NUMBER)), x=RECENT, number=st.sampled_from((-1.5, 0.25, 2, 3)))
    def with_a_number(self, name: str, x: int, number: float) -> None:
        chosen = "squashed" if self.is_large(x) else name
        self.compute(partial(WITH_A_NUMBER[chosen], number=number), (x,), RECORDED)

    def append(self, step: Step) -> None:
        self.steps.append(step)

    def place(self, recent: int) -> int:
        """Return where in the program the value is that was made so many steps ago."""
        return len(self.steps) - 1 - recent % len(self.steps)

    def step(self, recent: int) -> Step:
        return self.steps[self.place(recent)]

    def is_large(self, x: int) -> bool:
        return bool((np.abs(self.step(x).numbers) > LARGEST).any())

    def compute(self, function: Callable[..., Any], parents: Sequence[int], way: str) -> None:
        arguments = [self.step(parent) for parent in parents]
        scalars = function(Oracle, *[step.scalars for step in arguments])
        before = wg.no_grad() if way == UNRECORDED else nullcontext()
        with before:
            tensor = function(wg, *[step.tensor for step in arguments])
        if way == RECORDED:
            tracked = any(step.tracked for step in arguments)
            assert tensor.requires_grad is tracked
            places = [self.place(parent) for parent in parents]
            self.append(Step(tensor, scalars, function, places, tracked=tracked))
            return
        tensor = tensor.detach() if way == DETACHED else tensor
        assert not tensor.requires_grad
        self.append(Step(tensor, Scalars.lift(scalars.read()), no_function, ()))

    # Gradients.

    def live(self, recent: int) -> int:
        """Return where in the program a value is that can be differentiated, counted from the last; there is one."""
        places = [x for x, step in enumerate(self.steps) if step.tracked and not self.is_freed(x)]
        return places[-1 - recent % len(places)]

    @rule(x=RECENT, seed=SEEDS, as_loss=st.booleans(), retain=MOSTLY, create=st.booleans())
    def backward(self, x: int, seed: int, as_loss: bool, retain: bool, create: bool) -> None:
        """Gradients are added into the `.grad` of every leaf that was reached."""
        x = self.live(x)
        weights = self.weights(x, seed)
        output, seeds = self.seeded(x, weights, as_loss)
        output.backward(*seeds, retain_graph=retain or create, create_graph=create)
        bars, sizes = self.gradients(self.steps[x].scalars, weights)
        for leaf in self.leaves(x):
            bar = leaf.scalars.gather(bars)
            leaf.grad = bar if leaf.grad is None else leaf.grad + bar
            leaf.size += leaf.scalars.gather(sizes).max()
        if not (retain or create):
            self.free(x)

    @rule(x=RECENT)
    def backward_in_vain(self, x: int) -> None:
        """From a constant, or through a tape that was freed, there is no way back; and nothing is changed by trying."""
        step = self.step(x)
        seed = wg.tensor(np.ones(step.scalars.shape))
        if not step.tracked:
            with pytest.raises(GradientError):
                step.tensor.backward(seed)
        elif self.is_freed(self.place(x)):
            with pytest.raises(GradientError, match="freed"):
                step.tensor.backward(seed, retain_graph=True)

    @rule(x=RECENT, seed=SEEDS, as_loss=st.booleans(), recent=st.lists(RECENT, min_size=1, max_size=3))
    def gradient(self, x: int, seed: int, as_loss: bool, recent: list[int]) -> None:
        """`wg.autograd.grad` with respect to any tracked values, leaves or not, touches no `.grad`."""
        x = self.live(x)
        inputs = sorted({self.live(k) for k in recent})
        weights, reached = self.weights(x, seed), self.ancestors(x)
        output, seeds = self.seeded(x, weights, as_loss)
        tensors = [self.steps[index].tensor for index in inputs]
        found = wg.autograd.grad([output], tensors, seeds or None, retain_graph=True, allow_unused=True)
        bars, sizes = self.gradients(self.steps[x].scalars, weights)
        for index, bar in zip(inputs, found):
            if index not in reached:
                assert bar is None
            else:
                assert not bar.requires_grad
                scalars = self.steps[index].scalars
                self.compare(bar.numpy(), scalars.gather(bars), scalars.gather(sizes).max())

    @rule(x=RECENT, seed=SEEDS, as_loss=st.booleans())
    def second_order(self, x: int, seed: int, as_loss: bool) -> None:
        """The gradient of a gradient along a direction is the difference quotient of the oracle's gradients."""
        x = self.live(x)
        leaves, rng, weights = self.leaves(x), np.random.default_rng(seed + 1), self.weights(x, seed)
        along = [rng.uniform(-1, 1, leaf.scalars.shape) for leaf in leaves]
        toward = [rng.uniform(-1, 1, leaf.scalars.shape) for leaf in leaves]
        output, seeds = self.seeded(x, weights, as_loss)
        inputs = [leaf.tensor for leaf in leaves]
        firsts = wg.autograd.grad([output], inputs, seeds or None, create_graph=True)
        hung = [(bar, wg.tensor(direction)) for bar, direction in zip(firsts, along) if bar.requires_grad]
        seconds: Sequence[Any] = [None] * len(leaves)
        if hung:
            bars, directions = zip(*hung)
            seconds = wg.autograd.grad(list(bars), inputs, list(directions), retain_graph=True, allow_unused=True)
        pairs = zip(seconds, toward)
        got = sum(float((second.numpy() * direction).sum()) for second, direction in pairs if second is not None)
        expected = self.curvature(x, weights, along, toward)
        if expected.conclusive[0]:
            limit = 4 * expected.error[0] + ROUNDINGS * (1 + abs(got) + self.magnitude(x, weights))
            assert abs(got - expected.value[0]) <= limit, (got, expected)

    @precondition(lambda self: any(step.grad is not None for step in self.steps))
    @rule(which=RECENT, in_place=st.booleans())
    def zero_gradient(self, which: int, in_place: bool) -> None:
        """Zeroing the gradient of one leaf leaves those of the others, and the tape, as they are."""
        filled = [step for step in self.steps if step.grad is not None]
        leaf = filled[-1 - which % len(filled)]
        if in_place:
            leaf.tensor.grad.detach().zero_()
            leaf.grad = np.zeros(leaf.scalars.shape)
        else:
            leaf.tensor.grad = leaf.grad = None
        leaf.size = 0.0

    def weights(self, x: int, seed: int) -> np.ndarray:
        """Return a cotangent for a value: ones for even seeds."""
        shape = self.steps[x].scalars.shape
        return np.ones(shape) if seed % 2 == 0 else np.random.default_rng(seed).uniform(-1, 1, shape)

    def seeded(self, x: int, weights: np.ndarray, as_loss: bool) -> tuple[Any, list[Any]]:
        """Return what to differentiate, and its seeds: a value with weights as seed, or a weighted sum without one."""
        tensor = self.steps[x].tensor
        return ((tensor * wg.tensor(weights)).sum(), []) if as_loss else (tensor, [wg.tensor(weights)])

    def leaves(self, x: int) -> list[Step]:
        """Return the leaves that a value was computed from."""
        return [self.steps[index] for index in sorted(self.ancestors(x)) if self.steps[index].is_leaf]

    def ancestors(self, x: int) -> set[int]:
        """Return a tracked value and all tracked values that it was computed from."""
        found, pending = set(), [x]
        while pending:
            index = pending.pop()
            if index not in found and self.steps[index].tracked:
                found.add(index)
                pending.extend(self.steps[index].parents)
        return found

    def is_freed(self, x: int) -> bool:
        return any(self.steps[index].freed for index in self.ancestors(x))

    def free(self, x: int) -> None:
        for index in self.ancestors(x):
            self.steps[index].freed = not self.steps[index].is_leaf

    # The oracle.

    def gradients(self, scalars: Scalars, weights: np.ndarray) -> tuple[dict[Any, float], dict[Any, float]]:
        """Return the gradient by every scalar of the program, and the magnitude of the terms it is a sum of."""
        return micro.gradients(zip(scalars, weights.ravel()))

    def magnitude(self, x: int, weights: np.ndarray) -> float:
        return max(self.gradients(self.steps[x].scalars, weights)[1].values())

    def curvature(
        self, x: int, weights: np.ndarray, along: Sequence[np.ndarray], toward: Sequence[np.ndarray]
    ) -> Estimate:
        """Return the difference quotient of the gradient along one direction, where the leaves move in another."""
        leaves, program = self.leaves(x), [(index, self.steps[index]) for index in sorted(self.ancestors(x))]
        moves = dict(zip(map(id, leaves), toward))

        def slope(t: float) -> np.ndarray:
            values: dict[int, Scalars] = {}
            for index, step in program:
                if step.is_leaf:
                    values[index] = Scalars.lift(step.numbers + t * moves[id(step)])
                else:  # what is off the tape stays as it was
                    given = [values.get(parent, self.steps[parent].scalars) for parent in step.parents]
                    values[index] = step.function(Oracle, *given)
            bars, _ = self.gradients(values[x], weights)
            moved = [values[index] for index, step in program if step.is_leaf]
            return np.array([sum(float((scalars.gather(bars) * d).sum()) for scalars, d in zip(moved, along))])

        return derivative(slope, 0.01)

    # What must hold after every step.

    def compare(self, got: np.ndarray, expected: np.ndarray, size: float) -> None:
        assert got.shape == expected.shape and got.dtype == np.float64
        assert (np.abs(got - expected) <= ROUNDINGS * (1.0 + size + np.abs(expected))).all(), (got, expected)

    @invariant()
    def values_agree(self) -> None:
        for step in self.steps:
            self.compare(step.tensor.detach().numpy(), step.numbers, LARGEST)

    @invariant()
    def gradients_agree(self) -> None:
        for step in self.steps:
            gradient = step.tensor.grad
            if step.grad is None:
                assert gradient is None
            else:
                self.compare(gradient.detach().numpy(), step.grad, step.size)


TestPrograms = Programs.TestCase
