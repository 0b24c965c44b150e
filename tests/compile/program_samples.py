"""Random programs, to be run eagerly and compiled: whatever a function may do, in any order.

A program is a list of steps over numbered values, grown by trial: a step that fails, or whose result is too large, is
not taken. The world that it runs in (leaves, buffers, views of them, an array, a number, a dict that holds one of them)
is changed between calls. `play` returns all that can be seen of some calls of it.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import numpy as np

import wengert as wg
from tests.compile.twins import see

Step = tuple[Any, ...]
LIMIT = 50.0
"""Results beyond are not kept: they would drown what they are added to."""
SHAPES = [(3,), (2, 3), (1, 3), (3, 2), (2, 2, 3), (4,), (), (2, 1), (3, 3), (0, 3)]
ARGUMENTS = 3


def _momentum(leaves: list[Any]) -> Any:
    return wg.optim.SGD(leaves, lr=0.05, momentum=0.5)


class World:
    """What a program closes over, and what it is called with.

    Attributes:
        leaves: Tensors that require grad, at first.
        buffers: Tensors that do not; the last is a view of the first.
        array: an array of NumPy's, read by operations.
        table: named things, replaced between calls: a number, and one of the leaves.
    """

    def __init__(self, seed: int) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.choices = random.Random(seed)
        self.dtype = self.choices.choice(["float64", "float64", "float32"])
        self.leaves = [self.tensor(rng, shape).requires_grad_() for shape in self.choices.sample(SHAPES[:6], 2)]
        self.buffers = [self.tensor(rng, shape) for shape in self.choices.sample(SHAPES[:6], 2)]
        self.buffers.append(self.buffers[0][..., :2])
        self.array = rng.uniform(-2, 2, (3,)).astype(self.dtype)
        self.table = {"number": 0.5, "leaf": self.leaves[0]}
        self.optimizer = _momentum(self.leaves)
        self.shapes = [self.choices.choice(SHAPES) for _ in range(ARGUMENTS)]
        self.kinds = [self.choices.choice(["f", "f", "f", "tracked", "array", "int", "view"]) for _ in range(ARGUMENTS)]
        self.twice = self.choices.random() < 0.1

    def tensor(self, rng: np.random.Generator, shape: tuple[int, ...]) -> wg.Tensor:
        return wg.tensor(rng.uniform(-2, 2, shape).astype(self.dtype))

    def arguments(self, call: int) -> list[Any]:
        rng = np.random.default_rng(1000 + call)
        made: list[Any] = []
        for kind, shape in zip(self.kinds, self.shapes):
            if kind == "int":
                made.append(wg.tensor(rng.integers(0, 3, shape)))
            elif kind == "view":
                view = self.buffers[0][..., :1]
                made.append(view if call < 2 else self.tensor(rng, view.shape))
            elif kind == "array":
                made.append(rng.uniform(-2, 2, shape).astype(self.dtype))
            else:
                made.append(self.tensor(rng, shape).requires_grad_(kind == "tracked"))
        if self.twice and call % 2:
            made[1] = made[0]
        return made

    def change(self, call: int) -> None:
        """Do one of the things that happen between calls of a function."""
        choice = self.choices.randrange(10)
        leaf = self.choices.choice(self.leaves)
        if choice == 0:
            leaf.requires_grad_(not leaf.requires_grad)
        elif choice == 1:
            leaf.grad = None
        elif choice == 2:
            leaf.grad = wg.ones(leaf.shape, leaf.dtype)
        elif choice == 3:
            with wg.no_grad():
                leaf.copy_(leaf * 0.5)
        elif choice == 4:
            self.buffers[self.choices.randrange(3)][...] = call
        elif choice == 5:
            self.array[0] = call
        elif choice == 6:
            self.table["number"] = float(call)
        elif choice == 7:
            self.table["leaf"] = self.leaves[call % 2]
        elif choice == 8:
            self.buffers[2] = self.buffers[0][..., call % 2 : call % 2 + 1]


# ---------------------------------------------------------------------- steps

UNARY: dict[str, Callable[[Any], Any]] = {
    "sin": wg.sin,
    "tanh": wg.tanh,
    "exp": lambda x: wg.exp(-wg.abs(x)),
    "sqrt": lambda x: wg.sqrt(1 + x * x),
    "log": lambda x: wg.log(1 + x * x),
    "square": wg.square,
    "relu": lambda x: wg.maximum(x, 0),
    "negative": lambda x: -x,
    "softmax": lambda x: wg.nn.functional.softmax(x, -1),
    "clone": lambda x: x.clone(),
    "detach": lambda x: x.detach(),
    "transpose": lambda x: x.T if x.ndim == 2 else x,
    "flat": lambda x: x.reshape(-1),
    "head": lambda x: x[0],
    "tail": lambda x: x[1:],
    "backwards": lambda x: x[..., ::-1],
    "column": lambda x: x[..., :1],
    "axis": lambda x: x[None],
    "picked": lambda x: x[wg.tensor([0, 0, 1])],
    "sum": lambda x: x.sum(),
    "mean": lambda x: x.mean(-1, keepdims=True),
    "rows": lambda x: x.sum(0),
    "largest": lambda x: x.max(-1),
    "cumsum": lambda x: wg.cumsum(x, 0),
    "argmax": lambda x: x.argmax(0),
    "single": lambda x: x.astype("float32"),
    "double": lambda x: x.astype("float64"),
    "signs": lambda x: (x > 0.1).astype(x.dtype),
    "gradient": lambda x: wg.grad(lambda y: (wg.sin(y) * y).sum())(x),
    "tangent": lambda x: wg.jvp(lambda y: wg.sin(y) * y, (x,), (x + 1,))[1],
    "mapped": lambda x: wg.vmap(lambda row: wg.tanh(row) * row.sum())(x),
    "numpy": lambda x: np.cos(x),
    "stop": wg.stop_gradient,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / (2 + y * y),
    "matmul": lambda x, y: x @ y,
    "maximum": wg.maximum,
    "where": lambda x, y: wg.where(x > 0.3, x, y),
    "less": lambda x, y: x < y,
    "concatenate": lambda x, y: wg.concatenate([x, y]),
    "stack": lambda x, y: wg.stack([x, y]),
    "outer": lambda x, y: x[..., None] * y,
}
WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "copy_": lambda x, y: x.copy_(y),
    "first": lambda x, y: x.__setitem__(0, y),
    "part": lambda x, y: x.__setitem__((..., slice(0, 1)), y),
    "add_": lambda x, y: x.__iadd__(y),
    "scale_": lambda x, y: x.__imul__(0.5),
    "picked_": lambda x, y: x.__setitem__([0, -1], y),
}
MORE = (
    *("branch", "backward", "gradient of", "no gradient", "step", "draw", "read", "number", "swap"),
    *("optimise", "second", "hooked", "scan"),
)


def take(world: World, values: list[Any], step: Step) -> None:
    """Take a step: append its result to the values, or change something."""
    kind, name, *places = step
    places[:2] = [place % len(values) for place in places[:2]]  # so that a program without one of its steps is one, too
    if kind == "unary":
        values.append(UNARY[name](values[places[0]]))
    elif kind == "binary":
        values.append(BINARY[name](values[places[0]], values[places[1]]))
    elif kind == "write":
        with wg.no_grad() if places[2] else contextlib.nullcontext():
            written = WRITES[name](values[places[0]], values[places[1]])
            if written is not None:
                values[places[0]] = written
    elif name == "branch":
        values.append(values[places[0]] * 2 if bool(values[places[0]].sum() > 0.2) else wg.sin(values[places[1]]))
    elif name == "backward":
        (wg.tanh(values[places[0]]) * values[places[1]]).sum().backward(retain_graph=True)
    elif name == "swap":
        values.append(values[places[0]])
    else:
        take_with_the_world(world, values, name, world.leaves[places[0] % 2])


def take_with_the_world(world: World, values: list[Any], name: str, leaf: Any) -> None:
    """Take a step that has to do with what the program closes over."""
    if name == "gradient of":
        values.append(leaf.clone() if leaf.grad is None else leaf.grad * 2)
    elif name == "no gradient":
        leaf.grad = None
    elif name == "step":
        if leaf.grad is not None:
            with wg.no_grad():
                leaf.copy_(leaf - 0.1 * wg.tanh(leaf.grad))
    elif name == "optimise":
        for one in world.leaves:
            if one.grad is not None:
                one.grad = wg.tanh(one.grad)
        world.optimizer.step()
    elif name == "second":
        loss = (wg.tanh(values[-1]) * leaf).sum() + (leaf * leaf * leaf).sum()
        values.append(wg.autograd.grad(loss, (leaf,), create_graph=True)[0])
    elif name == "hooked":
        product = leaf * 2
        product.register_hook(_doubled)
        values.append(product)
    elif name == "scan":
        values.append(wg.scan(_scanned, leaf.sum(), values[-1].reshape(-1))[1])
    elif name == "draw":
        values.append(wg.random.normal(size=leaf.shape, dtype=leaf.dtype) * 0.1)
    elif name == "read":
        values.append(world.table["leaf"] * world.array[:1])
        values.append(wg.asarray(world.array) + 1)
    else:
        values.append(leaf * world.table["number"])


def _doubled(gradient: Any) -> Any:
    return gradient * 2


def _scanned(carry: Any, x: Any) -> tuple[Any, Any]:
    return wg.tanh(carry + x), carry * x


def grow(seed: int, length: int = 12) -> list[Step]:
    """Return a program whose steps all work in its world."""
    choices = random.Random(seed)
    wg.random.seed(seed)
    world = World(seed)
    values = begin(world, world.arguments(0))
    steps: list[Step] = []
    for _ in range(4 * length):
        step = draw_step(choices, len(values))
        before = len(values)
        try:
            with np.errstate(all="ignore"):
                take(world, values, step)
            fits = all([_is_tame(value) for value in [*values, *world.leaves, *world.buffers]])
        except (wg.errors.WengertError, ValueError, TypeError, IndexError, RuntimeError):
            fits = False
        if not fits:
            # The trial may have written: begin again, up to here.
            wg.random.seed(seed)
            world = World(seed)
            values = begin(world, world.arguments(0))
            for taken in steps:
                take(world, values, taken)
            continue
        steps.append(step)
        assert len(values) >= before
        if len(steps) == length:
            break
    return steps


def _is_tame(value: Any) -> bool:
    data = np.asarray(value.detach().numpy() if isinstance(value, wg.Tensor) else value)
    return data.size <= 200 and bool(np.isfinite(data).all()) and (not data.size or float(np.abs(data).max()) < LIMIT)


def draw_step(choices: random.Random, count: int) -> Step:
    """Return a step that may or may not work."""
    recent = [choices.randrange(count) if choices.random() < 0.5 else count - 1 - choices.randrange(min(count, 4))]
    recent.append(choices.randrange(count))
    kind = choices.choice(["unary", "unary", "binary", "binary", "binary", "write", "more"])
    if kind == "unary":
        return (kind, choices.choice(list(UNARY)), *recent)
    if kind == "binary":
        return (kind, choices.choice(list(BINARY)), *recent)
    if kind == "write":
        return (kind, choices.choice(list(WRITES)), *recent, choices.random() < 0.6)
    return (kind, choices.choice(MORE), *recent)


def begin(world: World, arguments: list[Any]) -> list[Any]:
    """Return the values that a program begins with."""
    return [
        *[wg.asarray(a) * 1 if kind == "array" else a for kind, a in zip(world.kinds, arguments)],
        world.table["leaf"],
        *world.leaves,
        *world.buffers,
    ]


# ---------------------------------------------------------------------- runs


def play(steps: list[Step], seed: int, compiler: Callable[[Any], Any], calls: int = 6) -> list[Any]:
    """Run a program several times in a world of its own; return what is seen of every call."""
    wg.random.seed(seed)
    world = World(seed)
    choices = random.Random(-seed)
    returned = [choices.randrange(100) for _ in range(2)]
    held: list[np.ndarray] = []

    @compiler
    def program(*arguments: Any) -> Any:
        values = begin(world, list(arguments))
        for step in steps:
            take(world, values, step)
        outs = [values[place % len(values)] for place in returned] + [values[-1]]
        return outs, values[-1].sum() * 1

    seen: list[Any] = []
    for call in range(calls):
        arguments = world.arguments(call // 2)
        held += [buffer.numpy() for buffer in world.buffers[:1]]
        with wg.no_grad() if call == calls - 1 else contextlib.nullcontext():
            try:
                outs, total = program(*arguments)
            except wg.errors.WengertError as error:
                return [*seen, type(error).__name__]
            else:
                sweep(world, [*outs, total], call)
                seen.append([shown(out) for out in (*outs, total)])
        seen.append(see(arguments, world.leaves, world.buffers, world.array, held[-3:], wg.random.rand(1)))
        world.change(call)
    return seen


def sweep(world: World, outs: list[Any], call: int) -> None:
    """Go backward through results: one of them, all of them, or twice."""
    tracked = [out for out in outs if out.requires_grad and not out.is_leaf]
    if not tracked or call == 0:
        return
    if call % 3 == 1:
        tracked[-1].sum().backward()
    elif call % 3 == 2:
        total: Any = sum([(out * out).sum() for out in tracked])
        wanted = [leaf for leaf in world.leaves if leaf.requires_grad]
        if wanted:
            found = wg.autograd.grad(total, wanted, create_graph=True, allow_unused=True)
            second = [wg.square(g).sum() for g in found if g is not None and g.requires_grad]
            if second:
                again: Any = sum(second)
                again.backward()
    else:
        all_of_them: Any = sum([out.sum() for out in tracked])
        all_of_them.backward()


def shown(out: Any) -> Any:
    """Return a picture of a result: whether it is on the tape is not compared where the tape was freed."""
    return see(out.detach())
