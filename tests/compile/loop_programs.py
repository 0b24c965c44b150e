"""Random loops, in random transforms: drawn by a seed, called compiled and as they are, and compared."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import wengert as wg
from tests.compile.twins import check_same
from tests.compile.wide_rounding import PLAYS, Jitter, allowances
from wengert.compile.capture import CompileError
from wengert.core.pytree import flatten

SHAPES: list[tuple[int, ...]] = [(), (3,), (2, 3), (3, 3)]
LENGTHS = [0, 1, 2, 3, 7, *(8, 9, 10, 12, 20, 40) * 3]
Values = list[Any]
Function = Callable[..., Any]


class Draws:
    """What a seed decides, in order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def of(self, items: Any) -> Any:
        """Return one of some items."""
        return items[self.random.randrange(len(items))]

    def maybe(self, odds: float) -> bool:
        """Return whether something happens that does so often."""
        return self.random.random() < odds


# ---------------------------------------------------------------------- what a step does


def written(x: Any) -> Any:
    """Return something that was written to: through a view, if it is more than a number."""
    y = x * 1
    if y.ndim:
        y[0] = 0.5 * y[-1]
        part = y.reshape(-1)[:2]
        part += 0.25
    else:
        y += 0.25
    return y


def narrowed(x: Any) -> Any:
    """Return something that went through another dtype, which derivatives stop at or go through."""
    return x.astype("float32").astype(x.dtype) if x.ndim else x + wg.floor(x * 2).astype("int64")


def lstm(x: Any, y: Any) -> Any:
    """Return what an LSTM makes of rows: a loop of the library's own."""
    cells = wg.mean(y) * wg.ones((2, 1), dtype=x.dtype)
    driven = wg.mean(x) * wg.ones((9, 2, 4), dtype=x.dtype)
    return wg.lstm_states(driven, cells, cells * 0.5, 0.3 * wg.ones((4, 1), dtype=x.dtype))[0][-1]


UNARY: list[Function] = [
    written,
    narrowed,
    wg.sin,
    wg.tanh,
    lambda x: x * 0.5,
    lambda x: -x,
    lambda x: wg.exp(-x * x),
    lambda x: wg.sum(x, keepdims=True) * 0.1,
    wg.mean,
    lambda x: x.T,
    lambda x: x[..., None] if x.ndim < 2 else x[0],
    lambda x: x[-1] if x.ndim else x * 1,
    lambda x: x[::-1] if x.ndim else x,
    lambda x: wg.cumsum(x, axis=0) * 0.3 if x.ndim else x,
    lambda x: wg.stack([x, x * 2]).sum(axis=0),
    lambda x: wg.where(x > 0.1, x, 0.3 * x),
    lambda x: wg.softmax(x, axis=-1) if x.ndim else wg.sigmoid(x),
    lambda x: wg.sort(x, axis=-1) if x.ndim else x,
    lambda x: wg.grad(lambda y: wg.sum(wg.sin(y) * y))(x),
    lambda x: wg.jvp(wg.tanh, (x,), (x * 0.5,))[1],
    lambda x: wg.stop_gradient(x) * 0.5 if hasattr(wg, "stop_gradient") else x.detach() * 0.5,
    lambda x: wg.reshape(x, (-1,))[:1],
    lambda x: wg.abs(x) * 0.7,
    lambda x: wg.maximum(x, 0.05),
]
BINARY: list[Function] = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: wg.where(x > y, x, y * 0.5),
    lambda x, y: x / (1 + y * y),
    lstm,
    lambda x, y: wg.vmap(lambda row: row * y.sum())(x) if x.ndim else x + y.sum(),
    lambda x, y: wg.grad(lambda z: wg.sum(wg.sin(z) * y.sum()))(x),
    lambda x, y: wg.maximum(x, y),
    lambda x, y: (x @ y) * 0.3,
    lambda x, y: wg.cond(y.sum() > 0.1, lambda a: a * 0.5, wg.sin, x),
    lambda x, y: wg.cond(y.sum() > 0.1, wg.sqrt, lambda a: a * y.sum(), wg.abs(x)),
    lambda x, y: wg.checkpoint(wg.sin)(x) + y,
    lambda x, y: wg.checkpoint(lambda a, b: wg.tanh(a * b.sum()) * wg.sin(a) + wg.exp(-b * b).sum())(x, y),
    lambda x, y: wg.checkpoint(lambda a: wg.fori_loop(0, 9, lambda i, c: wg.sin(c) * 0.5 + y.sum() * 0.1 / (i + 1), a))(
        x
    ),
    lambda x, y: wg.fori_loop(0, 3, lambda i, c: wg.sin(c) * 0.5 + y.sum() * 0.1, x),
    lambda x, y: wg.scan(lambda c, r: (wg.tanh(c + r.sum()), c * r), y.sum(), x)[1] if x.ndim else x * y.sum(),
]
HINDERING: list[Function] = [
    lambda x, y: x[wg.argmax(y)] if x.ndim and not y.ndim else x * y,
]
"""What a step may do, but not as one of a loop that is captured as one."""
NUMBERED: list[Function] = [
    lambda i, x, n: x * 0.1 * i,
    lambda i, x, n: wg.sin(x) / (i + 1) - i,
    lambda i, x, n: wg.where(i % 2 == 0, x, 0.5 * x),
    lambda i, x, n: x[n - 1 - i] if x.shape[:1] == (n,) else x * (i % 3),
    lambda i, x, n: x[(2 * i) % len(x)] - x[-1] if x.ndim else x + 0.01 * i,
    lambda i, x, n: x[..., i % x.shape[-1]] if x.ndim else wg.sin(0.3 * i * x) * x,
    lambda i, x, n: x[i : i + 2].sum(0) if x.shape[:1] == (n,) else x,
    lambda i, x, n: (wg.abs(x) + 0.2) ** (i % 3),
    lambda i, x, n: x * 2 if i >= 0 else x,
    lambda i, x, n: x * 2 if i > 1 else x,
]
"""What a step may do with its number, something and the number of steps; the last is followed step by step."""
OPERATIONS = {"unary": UNARY, "binary": BINARY, "hindering": HINDERING}
Plan = list[tuple[str, int, float, float]]


def drawn_plan(d: Draws, least: int, most: int) -> Plan:
    """Return which operations are done, on which of the values that there are by then."""
    kinds = ["unary", "binary"] * 20 + ["hindering"]
    plan: Plan = []
    for _ in range(d.random.randrange(least, most)):
        kind = d.of(kinds)
        place = d.random.randrange(len(OPERATIONS[kind]))
        plan.append((kind, place, d.random.random(), d.random.random()))
    return plan


def follow(plan: Plan, values: Values) -> Values:
    """Return the values with what a plan makes of them; what does not fit is left out."""
    values = list(values)
    for kind, place, first, second in plan:
        x, y = [values[int(share * len(values))] for share in (first, second)]
        try:
            made = OPERATIONS[kind][place](x) if kind == "unary" else OPERATIONS[kind][place](x, y)
        except (ValueError, IndexError, TypeError):
            continue
        if isinstance(made, wg.Tensor) and made.size <= 27 and made.ndim <= 2:
            values = [*values, made]  # a function that appends is not taken for one that could be rolled
    return values


def fitted(value: Any, like: Any) -> Any:
    """Return something of a value that has a carry's shape, and stays small."""
    if value.shape == like.shape:
        return wg.tanh(value)
    return 0.5 * like + 0.5 * wg.tanh(wg.mean(value))


class Program(NamedTuple):
    """A function of arrays with a loop in it, and arrays to call it with."""

    function: Function
    arguments: list[list[np.ndarray]]
    described: str


def drawn_loop(d: Draws, length: int, shapes: list[tuple[int, ...]], rows: int) -> Function:
    """Return a function of carries, stacks and what a step closes over, which runs a random loop."""
    plan = drawn_plan(d, 2, 7)
    picks = [d.random.random() for _ in shapes]
    ways = [d.of(["computed", "computed", "computed", "kept", "moved", "shared"]) for _ in shapes]
    shown = [d.random.random() for _ in range(d.random.randrange(3))]
    kind = d.of(["scan"] * 8 + ["fori", "fori", "while", "python"])
    counts, reverse, checkpointed, reads = d.maybe(0.1), d.maybe(0.25), d.maybe(0.05), d.maybe(0.7)
    numbered = [d.of(NUMBERED) for _ in range(d.random.randrange(3))]

    def step_of(closed: Values) -> Function:
        def step(carries: Any, x: Any) -> tuple[Any, Any]:
            count, *states = carries
            taken = [] if x is None else list(x)
            values = follow(plan, [*states, *taken, *closed])
            if counts:
                values = [*values, closed[1][count % 3] if closed[1].ndim else closed[1]]
            new: Values = []
            for place, (state, pick, way) in enumerate(zip(states, picks, ways)):
                other = states[(place + 1) % len(states)]
                made = fitted(values[int(pick * len(values))], state)
                if way == "kept":
                    made = state
                elif way == "moved" and other.shape == state.shape:
                    made = other
                elif way == "shared" and new and new[0].shape == state.shape:
                    made = new[0]
                new = [*new, made]
            return (count + 1, *new), tuple([values[int(share * len(values))] for share in shown])

        return wg.checkpoint(step) if checkpointed else step

    def run(states: Values, stacks: Values, closed: Values) -> Values:
        step = step_of(closed)
        begin = (wg.asarray(0), *states)
        if kind == "scan":
            last, seen = wg.scan(step, begin, tuple(stacks) if rows else None, length, reverse=reverse)
            return [*last[1:], *flatten(seen)[0]]
        if kind == "fori":
            taken = stacks if reads else []

            def counted(i: Any, c: Any) -> Any:
                told = [of_number(i, x, length) for of_number, x in zip(numbered, (*taken, *closed))]
                return step(c, [*[s[i] for s in taken], *told])[0]

            return list(wg.fori_loop(0, length, counted, begin))[1:]
        if kind == "while":
            return list(wg.while_loop(lambda c: c[0] < length, lambda c: step(c, None)[0], begin))[1:]
        last = begin
        for place in range(length):
            last = step(last, [s[place] for s in stacks])[0]
        return list(last)[1:]

    return run


def drawn_program(seed: int) -> Program:
    """Return the program of a seed."""
    d = Draws(seed)
    dtype = d.of(["f8", "f8", "f8", "f4"])
    length = d.of(LENGTHS)
    shapes = [d.of(SHAPES) for _ in range(d.random.randrange(1, 4))]
    rows = d.random.randrange(3) if length else 0
    of_rows = [(length, *d.of(SHAPES)) for _ in range(rows)]
    of_closed: list[tuple[int, ...]] = [(3, 3), (3,), ()]
    loop = drawn_loop(d, length, shapes, rows)
    before, after = drawn_plan(d, 0, 3), drawn_plan(d, 0, 3)
    count = len(shapes)

    def function(*arrays: Any) -> Any:
        closed = follow(before, list(arrays[count + rows :]))
        found = loop(list(arrays[:count]), list(arrays[count : count + rows]), [*closed[-1:], *closed[1:3]])
        values = follow(after, found)
        return sum([wg.mean(wg.sin(value) * value) if value.size else 0.0 for value in values], wg.mean(values[0]) * 0)

    extents = [*shapes, *of_rows, *of_closed]
    transformed, described = drawn_transform(d, function, extents)
    rng = np.random.default_rng(seed)
    batched = described.startswith("vmap")
    arguments = [
        [(rng.standard_normal(((2,) if batched else ()) + shape) * 0.6).astype(dtype) for shape in extents]
        for _ in range(3)
    ]
    return Program(transformed, arguments, f"{described} of {length} steps, {dtype}")


# ---------------------------------------------------------------------- what is done with it


def swept(function: Function) -> Function:
    """Return what a backward pass leaves in leaves."""

    def run(*arrays: Any) -> Any:
        leaves = [wg.asarray(x).detach().requires_grad_() for x in arrays]
        total = function(*leaves)
        total.backward()
        return total.detach(), [leaf.grad for leaf in leaves]

    return run


def taped(function: Function) -> Function:
    """Return what a GradientTape tells."""

    def run(*arrays: Any) -> Any:
        tensors = [wg.asarray(x) for x in arrays]
        with wg.GradientTape() as tape:
            for tensor in tensors:
                tape.watch(tensor)
            total = function(*tensors)
        return tape.gradient(total, tensors)

    return run


def squares(values: Any) -> Any:
    return sum([wg.sum(wg.sin(value) * value) for value in flatten(values)[0] if value is not None])


def drawn_transform(d: Draws, function: Function, extents: list[tuple[int, ...]]) -> tuple[Function, str]:
    """Return a function's transform, and its name."""
    places = tuple(sorted(d.random.sample(range(len(extents)), d.random.randrange(1, 3))))
    gradient = wg.grad(function, argnums=places)
    twice = wg.grad(lambda *xs: squares(gradient(*xs)), argnums=places)

    def along(transformed: Function) -> Function:
        def pushed(*xs: Any) -> Any:
            moving = list(places)
            return wg.jvp(
                lambda *ys: transformed(*[ys[moving.index(i)] if i in moving else x for i, x in enumerate(xs)]),
                tuple([xs[i] for i in moving]),
                tuple([wg.sin(xs[i] + 1) for i in moving]),
            )

        return pushed

    def pulled(*xs: Any) -> Any:
        value, pull = wg.vjp(function, *xs)
        return value, pull(wg.ones_like(value))

    transforms: dict[str, Function] = {
        "value": function,
        "grad": gradient,
        "value_and_grad": wg.value_and_grad(function, argnums=places),
        "vjp": pulled,
        "jvp": along(function),
        "hvp": along(gradient),
        "jvp of jvp": along(along(function)),
        "grad of jvp": wg.grad(lambda *xs: squares(along(function)(*xs)), argnums=places),
        "grad of grad": twice,
        "jacfwd": wg.jacfwd(function, argnums=places[0]),
        "jacrev": wg.jacrev(gradient if d.maybe(0.5) else function, argnums=places[0]),
        "vmap": wg.vmap(function),
        "vmap of grad": wg.vmap(gradient),
        "vmap of hvp": wg.vmap(along(gradient)),
        "backward": swept(function),
        "tape": taped(function),
        "jvp of tape": along(taped(function)),
        "grad of tape": wg.grad(lambda *xs: squares(taped(function)(*xs)), argnums=places),
        "tape of jvp": taped(lambda *xs: squares(along(function)(*xs))),
        "grad of checkpoint": wg.grad(wg.checkpoint(function), argnums=places),
    }
    name = d.of(list(transforms))
    return transforms[name], name


def seen(found: Any) -> Any:
    """Return a picture of results."""
    return [None if one is None else np.array(wg.asarray(one).detach().numpy()) for one in flatten(found)[0]]


def outcome(seed: int) -> str:
    """Call a program compiled and as it is, and compare; return what came of it, in a word.

    Raises:
        AssertionError: they differ.
    """
    program = drawn_program(seed)
    compiled = wg.compile(program.function)
    for arguments in program.arguments:
        try:
            wanted, mistake = seen(program.function(*map(wg.asarray, arguments))), None
        except (ValueError, TypeError, RuntimeError) as error:
            wanted, mistake = None, error
        try:
            found = seen(compiled(*map(wg.asarray, arguments)))
        except (ValueError, TypeError, RuntimeError) as error:
            if isinstance(error, CompileError) or "inside of a transform or a compiled function" in str(error):
                return "refused"
            if type(error) is type(mistake):
                return "raises"
            raise
        assert mistake is None, f"{program.described}: compiled code does not raise {mistake!r}"
        compare(program, arguments, found, wanted)
    return "same"


def compare(program: Program, arguments: list[np.ndarray], found: Any, wanted: Any) -> None:
    """Make sure that results agree, but for what rounding of arguments, and of casts to float32, moves."""
    least = np.dtype(arguments[0].dtype)
    try:
        check_same(found, wanted, 1.0, least=least)
    except AssertionError:
        place = UNARY.index(narrowed)
        try:
            moved = [played(program, arguments, play, place) for play in range(PLAYS)]
        finally:
            UNARY[place] = narrowed
        check_same(found, wanted, 1.0, program.described, least, allowances(wanted, moved))


def played(program: Program, arguments: list[np.ndarray], play: int, place: int) -> Any:
    """Return what a program gives if its arguments are moved, and what casts to float32 give by half a unit there.

    What lies between two float32 numbers may be rounded to either; a small change of the arguments rarely tells.
    """
    rng, unit = np.random.default_rng(play), float(np.finfo("f4").eps) / 2

    def moved(x: Any) -> Any:
        return narrowed(x) * (1 + unit * rng.uniform(-1, 1)) if x.ndim else narrowed(x)

    UNARY[place] = moved
    return seen(program.function(*[wg.asarray(Jitter(play).of_array(x)) for x in arguments]))


__all__ = ["Program", "drawn_program", "outcome"]
