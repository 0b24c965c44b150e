"""A zoo of functions to differentiate, and the operators that stacks of transforms are made of.

Every animal is a scalar-valued function of one argument, which may be nested. An operator makes another such function
of it: the derivative along a fixed direction, by one of the modes, or a weighted sum over shifted arguments, by `vmap`
or by a loop. So operators compose in any order, and two ways of composing the same must give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import wengert as wg
from wengert.core import pytree

Function = Callable[[Any], Any]


class Animal(NamedTuple):
    """A function and where to look at it.

    Attributes:
        function: takes one argument, nested as `at` is, and returns a scalar Tensor.
        at: the argument, of float64 arrays.
        branches: Python's control flow depends on values, so that it cannot be mapped.
        cut: part of it is a constant on purpose, so that differences are no reference.
    """

    function: Function
    at: Any
    branches: bool = False
    cut: bool = False


ZOO: dict[str, Animal] = {}


def animal(at: Any, **options: bool) -> Callable[[Function], Function]:
    def add(function: Function) -> Function:
        ZOO[function.__name__] = Animal(function, at, **options)
        return function

    return add


def fixed(*shape: int, low: float = -1.0, high: float = 1.0, seed: int = 0) -> Any:
    return np.asarray(np.random.default_rng((seed, *shape)).uniform(low, high, shape))


A = fixed(3, 3, seed=1)
LABELS = np.array([2, 0])


# Scalars.


@animal(np.array(0.7))
def wave(x: Any) -> Any:
    return wg.sin(3.0 * x) * wg.exp(x) / (1.0 + x * x)


@animal(np.array(0.7), branches=True)
def branch_on_the_value(x: Any) -> Any:
    if x > 0.5:
        return x**3
    return -x


@animal(np.array(1.3), branches=True)
def loop_until(x: Any) -> Any:
    y, count = x, 0
    while y < 20.0:
        y = y * y + 0.1 * x
        count += 1
    return y * float(count)


@animal(np.array(1.6))
def newton(x: Any) -> Any:
    y = x
    for _ in range(4):
        y = y - (y * y - x) / (2.0 * y)
    return y * x


@animal(np.array(0.4))
def looped(x: Any) -> Any:
    def step(carry: Any) -> Any:
        i, y = carry
        return i + 1, wg.sin(y) * x + 0.3

    return wg.while_loop(lambda carry: carry[0] < 5, step, (wg.tensor(0), x), checkpoints=2)[1]


@animal(np.array(0.4))
def chosen_and_scanned(x: Any) -> Any:
    def step(carry: Any, y: Any) -> Any:
        carry = wg.cond(carry > y, lambda c: wg.sin(c), lambda c: c * c + x, carry)
        return carry, carry * y

    total, parts = wg.scan(step, x, wg.asarray(np.array([0.1, 0.9, 0.4])))
    return total + parts.sum()


# Vectors.


@animal(fixed(3))
def rosenbrock(x: Any) -> Any:
    return (5.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


@animal(fixed(3))
def quadratic_form(x: Any) -> Any:
    return x @ wg.asarray(A) @ x + wg.dot(wg.sin(x), x)


@animal(fixed(4))
def softmax_and_logsumexp(x: Any) -> Any:
    return (wg.softmax(x) * x).sum() * wg.logsumexp(2.0 * x)


@animal(np.array([0.5, -0.3, 0.0, 1.2]))
def infinite_branch_masked(x: Any) -> Any:
    # The logarithm's derivative is infinite at zero, and NaN below: nothing of it may pass.
    with np.errstate(all="ignore"):
        return (wg.where(x > 0.25, wg.log(x), 0.0) * x * x).sum()


@animal(np.array([0.5, -0.3, 0.1, 1.2]))
def roots_masked(x: Any) -> Any:
    with np.errstate(all="ignore"):
        root = wg.where(x > 0.0, wg.sqrt(x) * x, x * x)
    return (root * wg.cos(x)).sum()


@animal(fixed(5, seed=3))
def sort_and_cumsum(x: Any) -> Any:
    ordered = wg.sort(x)
    return (wg.cumsum(ordered) ** 2 * wg.cumprod(1.0 + 0.1 * x)).sum()


@animal(fixed(2, 4, seed=4))
def read_at_argmax(x: Any) -> Any:
    best = wg.argmax(x, axis=1)
    picked = wg.take_along_axis(x, best[:, None], axis=1)
    return (picked**3).sum() * x[wg.arange(2), best].sum() + wg.max(x * x)


@animal(fixed(4, seed=5))
def reads_by_index(x: Any) -> Any:
    return (x[[0, 2, 2, 1]] * x[::-1] * x[1]).sum() + x[-1] ** 3


# Writes and views.


@animal(fixed(3, seed=6))
def writes_in_place(x: Any) -> Any:
    table = wg.zeros((3, 3), dtype="float64")
    table[0] = x
    table[1] = table[0] * x
    table[2] = wg.sin(table[1])
    table[:, 1] *= x[0]
    table[0] += table[2]
    return (table * table).sum()


@animal(fixed(2, 3, seed=7))
def writes_through_views(x: Any) -> Any:
    y = x * 1.0
    column = y.T[1]
    flat = y.reshape(-1)
    flat[::2] *= x.sum()
    column += x[:, 0] * column
    row = y[0]
    row[:] = row[::-1] * 2.0
    return (y * y * column[:, None]).sum() + flat[3]


@animal(fixed(3, seed=8))
def writes_to_the_argument(x: Any) -> Any:
    before = x * x
    x[0] = x[1] * x[2]
    x *= before
    return (x * x).sum()


@animal(fixed(3, seed=9))
def writes_into_the_unknown(x: Any) -> Any:
    total = wg.tensor(0.0, dtype="float64")
    for k in range(3):
        total += x[k] * total + x[k] ** 2
    return total


# Matrices.


@animal(fixed(3, 3, seed=10))
def matrix_powers(x: Any) -> Any:
    y = x @ x.T + wg.eye(3, dtype="float64")
    return (y @ y @ x).sum() + wg.trace(x @ x @ x)


@animal(fixed(2, 4, seed=11))
def layer_norm(x: Any) -> Any:
    y = wg.nn.functional.layer_norm(x, (4,), wg.asarray(fixed(4, seed=12)), wg.asarray(fixed(4, seed=13)))
    return (y * y * x).sum()


@animal(fixed(2, 4, seed=14))
def moments(x: Any) -> Any:
    return (wg.std(x, axis=0) * wg.mean(x, axis=0)).sum() + wg.var(x) * wg.vector_norm(x) + wg.prod(x[0])


@animal(fixed(2, 3, seed=15))
def cross_entropy(x: Any) -> Any:
    return wg.nn.functional.cross_entropy(x, LABELS) + wg.nn.functional.cross_entropy(
        wg.tanh(x), LABELS, reduction="sum"
    )


@animal(fixed(2, 3, seed=16))
def einsum_and_pad(x: Any) -> Any:
    y = wg.pad(x, ((1, 0), (0, 1)), mode="reflect")
    return wg.einsum("ij,kj,ki->", y, wg.exp(y), wg.asarray(A)) + (wg.cross(x, x[::-1]) * x).sum()


# Nested arguments, several results, layers, closures.


@animal({"w": fixed(2, 3, seed=17), "b": (fixed(2, seed=18), np.array(0.3))})
def nested_arguments(p: Any) -> Any:
    h = wg.tanh(p["w"] @ wg.asarray(fixed(3, seed=19)) + p["b"][0])
    out = {"h": h, "norm": wg.vector_norm(h * p["b"][1])}
    return (out["h"] ** 2).sum() * out["norm"]


NETWORK = wg.nn.Sequential(wg.nn.Linear(3, 4), wg.nn.Tanh(), wg.nn.LayerNorm(4), wg.nn.Linear(4, 2)).to("float64")
PARAMETERS = {name: fixed(*p.shape, seed=20 + k) for k, (name, p) in enumerate(NETWORK.named_parameters())}


@animal(PARAMETERS)
def network(parameters: Any) -> Any:
    scores = wg.nn.functional_call(NETWORK, parameters, wg.asarray(fixed(2, 3, seed=30)))
    return wg.nn.functional.cross_entropy(scores, np.array([1, 0]))


def both(x: Any) -> Any:
    return wg.sin(x) * x.sum(), wg.exp(x[:2])


@animal(fixed(3, seed=31))
def several_results(x: Any) -> Any:
    y, z = both(x)
    return (y * y).sum() * z.sum()


W = wg.tensor(fixed(3, seed=32), requires_grad=True)


@animal(fixed(3, seed=33))
def closed_over(x: Any) -> Any:
    return (wg.exp(W * x) * x).sum() * (W * W).sum()


@animal(fixed(3, seed=34), cut=True)
def stopped(x: Any) -> Any:
    with wg.no_grad():
        constant = (x * x).sum()
    return (x**3 * wg.stop_gradient(wg.sin(x))).sum() * constant + (x.detach() * x * x).sum()


# Operators.


def tree_of(make: Callable[..., Any], *trees: Any) -> Any:
    return pytree.map_leaves(make, *trees)


def direction_of(at: Any, seed: int = 0) -> Any:
    """Return a direction of unit size, nested as the argument is."""
    rng = np.random.default_rng(seed)
    return tree_of(lambda leaf: wg.tensor(rng.uniform(-1, 1, leaf.shape)), at)


def inner(one: Any, other: Any) -> Any:
    pairs = zip(pytree.flatten(one)[0], pytree.flatten(other)[0])
    total = None
    for x, y in pairs:
        term = (x * y).sum()
        total = term if total is None else total + term
    return total


def by_grad(f: Function, v: Any) -> Function:
    return lambda x: inner(wg.grad(f)(x), v)


def by_vjp(f: Function, v: Any) -> Function:
    return lambda x: inner(wg.vjp(f, x)[1](1.0)[0], v)


def by_jvp(f: Function, v: Any) -> Function:
    return lambda x: wg.jvp(f, (x,), (v,))[1]


def by_linearize(f: Function, v: Any) -> Function:
    return lambda x: wg.linearize(f, x)[1](v)


def tracked(x: Any) -> Any:
    return x if x.requires_grad else x.clone().requires_grad_()


def by_backward(f: Function, v: Any) -> Function:
    def derivative(x: Any) -> Any:
        x = tree_of(tracked, x)
        leaves = pytree.flatten(x)[0]
        entered = tree_of(lambda leaf: leaf * 1.0, x)  # the function may write to what it is given
        with wg.GradientTape():  # somebody watches, so that tapes inside record their gradients
            y = f(entered)
        held = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        y.backward(create_graph=True, inputs=leaves)
        bars = [wg.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
        for leaf, before in zip(leaves, held):
            leaf.grad = before
        return inner(bars, pytree.flatten(v)[0])

    return derivative


def by_tape(f: Function, v: Any) -> Function:
    def derivative(x: Any) -> Any:
        x = tree_of(lambda leaf: leaf * 1.0, x)
        entered = pytree.flatten(x)[0]
        with wg.GradientTape() as tape:
            for leaf in entered:
                tape.watch(leaf)
            y = f(tree_of(lambda leaf: leaf * 1.0, x))
        bars = tape.gradient(y, entered)
        return inner([wg.zeros_like(x) if bar is None else bar for x, bar in zip(entered, bars)], pytree.flatten(v)[0])

    return derivative


SHIFTS = np.array([0.0, 0.015, -0.02])
SHARES = np.array([0.5, 0.8, -1.1])


def by_vmap(f: Function, v: Any) -> Function:
    def many(x: Any) -> Any:
        shift, shares = wg.asarray(SHIFTS), wg.asarray(SHARES)
        shifted = tree_of(lambda leaf, along: leaf + along * wg.reshape(shift, (-1,) + (1,) * leaf.ndim), x, v)
        return (wg.vmap(f)(shifted) * shares).sum()

    return many


def by_vmap_of_shifts(f: Function, v: Any) -> Function:
    """Map over the shift alone; the argument is closed over."""

    def many(x: Any) -> Any:
        def at_shift(shift: Any, share: Any) -> Any:
            return f(tree_of(lambda leaf, along: leaf + shift * along, x, v)) * share

        return wg.vmap(at_shift, in_axes=(0, 0))(wg.asarray(SHIFTS), wg.asarray(SHARES)).sum()

    return many


def by_loop(f: Function, v: Any) -> Function:
    def many(x: Any) -> Any:
        total = None
        for shift, share in zip(SHIFTS.tolist(), SHARES.tolist()):
            term = f(tree_of(lambda leaf, along, shift=shift: leaf + shift * along, x, v)) * share
            total = term if total is None else total + term
        return total

    return many


def by_checkpoint(f: Function, v: Any) -> Function:
    return lambda x: wg.checkpoint(f)(tree_of(lambda leaf: leaf * 1.0, x))  # the function may write to what it is given


def unchanged(f: Function, v: Any) -> Function:
    return f


class Operator(NamedTuple):
    """A way to make another function of one, and the way that is trusted to make the same."""

    name: str
    apply: Callable[[Function, Any], Function]
    trusted: Callable[[Function, Any], Function]
    maps: bool = False


OPERATORS = [
    Operator("grad", by_grad, by_grad),
    Operator("jvp", by_jvp, by_grad),
    Operator("vmap", by_vmap, by_loop, maps=True),
    Operator("linearize", by_linearize, by_grad),
    Operator("checkpoint", by_checkpoint, unchanged),
]
"""What every pair and triple is made of."""
FACES = [
    Operator("vjp", by_vjp, by_grad),
    Operator("backward", by_backward, by_grad),
    Operator("tape", by_tape, by_grad),
    Operator("vmap-of-shifts", by_vmap_of_shifts, by_loop, maps=True),
]
"""What takes part in pairs alone."""
