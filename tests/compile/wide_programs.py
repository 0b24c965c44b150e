"""Wide random programs: grown by trial, called with arguments of several kinds, in one of several ways."""

from __future__ import annotations

import contextlib
import random
import unittest.mock
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import wengert as wg
from tests.compile.twins import as_it_is, check_same, see
from tests.compile.wide_rounding import PLAYS, Jitter, allowances
from tests.compile.wide_steps import NAMES, UNARY, Step, resolved, take
from tests.compile.wide_world import Scope, World
from wengert.compile import capture
from wengert.core.pytree import flatten

LIMIT = 50.0
"""Results beyond are not kept: they would drown what they are added to."""
LARGEST = 4000
"""Elements of a result."""
CALLS = 9
ERRORS = (
    *(wg.errors.WengertError, ValueError, TypeError, IndexError, RuntimeError, AttributeError, ArithmeticError),
    MemoryError,
)
SWEEPING = ("wrapped", "pushed", "differentiated", "taped", "recorded")
"""How programs are called so that results are derivatives."""
USES = ["plain"] * 12 + ["wrapped", "pushed", "mapped", "differentiated", "taped", "taped", "recorded"]


def begin(scope: Scope, given: Any) -> list[Any]:
    """Return the values that a program begins with: every Tensor and number that it is given or closes over."""
    found: list[Any] = []
    _look(scope, given, found)
    return [*found, *scope.leaves, *scope.buffers]


def _look(scope: Scope, item: Any, found: list[Any]) -> None:
    if isinstance(item, (wg.Tensor, np.ndarray, np.generic)):
        found.append(item if isinstance(item, wg.Tensor) else wg.asarray(item))
    elif isinstance(item, dict):
        for part in item.values():
            _look(scope, part, found)
    elif isinstance(item, (list, tuple)):
        for part in item:
            _look(scope, part, found)
    elif isinstance(item, str):
        found.append(wg.sin(scope.leaves[0]) if item == "sin" else wg.cos(scope.leaves[0]))
    elif item is not None:
        found.append(scope.leaves[1] * item if item else wg.cos(scope.leaves[1]))


def grow(seed: int, length: int = 12) -> list[Step]:
    """Return a program whose steps all work with the arguments of the first calls, of both kinds."""
    choices = random.Random(seed)
    steps: list[Step] = []

    def fresh(call: int) -> tuple[World, list[Any]]:
        world = World(seed, as_it_is)
        wg.random.seed(seed)
        values = begin(world.scope, world.arguments(call))
        for taken in steps:
            take(world.scope, values, resolved(taken))
        return world, values

    trials = [fresh(0), fresh(2)]
    for _ in range(3 * length):
        step = (choices.choice(NAMES), *[choices.randrange(1 << 20) for _ in range(8)])
        try:
            fits = True
            for world, values in trials:
                take(world.scope, values, resolved(step))
                everything = [*values, *world.scope.leaves, *world.scope.buffers]
                fits = fits and all([is_tame(value, world) for value in everything])
        except ERRORS:
            fits = False
        if not fits:
            trials = [fresh(0), fresh(2)]  # the trial may have written
            continue
        steps.append(step)
        if len(steps) == length:
            break
    return steps


def is_tame(value: Any, world: World) -> bool:
    data = np.asarray(value.detach().numpy())
    if data.size > LARGEST or data.ndim > 5:
        return False
    finite = np.isfinite(data)
    return bool(world.is_special or finite.all()) and (not finite.any() or float(np.abs(data[finite]).max()) < LIMIT)


# ---------------------------------------------------------------------- runs


def program_of(scope: Scope, steps: list[Step], returned: list[int]) -> Callable[..., Any]:
    resolutions = [resolved(step) for step in steps]

    def program(*arguments: Any, **keywords: Any) -> Any:
        values = begin(scope, (arguments, keywords))
        for step in resolutions:
            take(scope, values, step)
        chosen = [values[place % len(values)] for place in returned]
        return {"chosen": chosen, "last": (values[-1], None)}, values[-1].sum() * 1

    return program


def taped(world: World, run: Callable[[], Any]) -> Any:
    """Return what a function returns while a tape records it, and gradients that the tape has of it."""
    leaves = [leaf for leaf in world.scope.leaves if leaf.requires_grad]
    with wg.GradientTape(persistent=True) as tape:
        for leaf in leaves:
            tape.watch(leaf)
        result = run()
        total = result[1] if result[1].dtype.kind == "f" else wg.tensor(0.0)
    return result, tape.gradient(total, leaves) if leaves and total.requires_grad else None


def used(use: str, program: Callable[..., Any], compiler: Callable[[Any], Any], world: World) -> Callable[..., Any]:
    """Return what is called: the compiled program, one of it inside of a transform, or a compiled transform of it."""
    if use == "plain":
        return compiler(program)
    if use == "wrapped":
        return compiler(lambda x, *rest, **keywords: wg.grad(lambda y: program(y, *rest, **keywords)[1])(x))
    compiled = compiler(program)
    if use == "pushed":
        return lambda x, *rest, **k: wg.jvp(lambda y: compiled(y, *rest, **k)[1], (x,), (wg.ones_like(x),))
    if use == "taped":
        return lambda *args, **k: taped(world, lambda: compiled(*args, **k))
    if use == "recorded":
        return compiler(lambda *args, **k: taped(world, lambda: program(*args, **k)))
    if use == "mapped":
        return lambda x, *rest, **k: wg.vmap(lambda y: compiled(y, *rest, **k)[1])(x)
    return lambda x, *rest, **k: wg.grad(lambda y: compiled(y, *rest, **k)[1])(x)


def play(
    steps: list[Step],
    seed: int,
    compiler: Callable[[Any], Any],
    jitter: Jitter | None = None,
    stretched: set[tuple[int, int]] | None = None,
) -> list[Any]:
    """Run a program several times in a world of its own; return what is seen of every call, and at the end.

    Results that are `stretched` are not written to; those that turn out to be are added.
    """
    world = World(seed, compiler, jitter)
    if stretched is not None:
        world.stretched = stretched
    wg.random.seed(seed)
    returned, use = drawn_use(seed)
    program = used(use, program_of(world.scope, steps, returned), compiler, world)
    seen: list[Any] = []
    held: list[Any] = []
    for call in range(CALLS):
        arguments, keywords = world.arguments(call)
        # An array that is an argument is a Tensor inside of a compiled function.
        given = as_tensors((arguments, keywords)) if compiler is as_it_is else (arguments, keywords)
        world.lent += [leaf for leaf in flatten((arguments, keywords))[0] if isinstance(leaf, np.ndarray)]
        with wg.no_grad() if call == CALLS - 1 else contextlib.nullcontext():
            try:
                result = program(*given[0], **given[1])
                outs = tensors_in(result)
                held += outs
                seen.append(see(*[out.detach() for out in outs]))
                sweep(world, outs, call)
                scope = world.scope
                around = see(arguments, keywords, scope.leaves, scope.buffers, scope.array, wg.random.rand(1))
                seen += [around, see(*scope.module.parameters(), *scope.module.buffers())]
            except ERRORS as error:  # a gradient that was set in a transform is good for nothing afterwards
                return [*seen, ("raised", type(error).__name__, str(error))]
        world.change(call, held)
    seen.append(see(*[one.detach() for one in held]))
    return seen


def drawn_use(seed: int) -> tuple[list[int], str]:
    """Return which values a program returns, and how it is called."""
    choices = random.Random(-seed - 1)
    return [choices.randrange(100) for _ in range(2)], choices.choice(USES)


def as_tensors(given: Any) -> Any:
    """Return arguments with Tensors of their own in the place of arrays."""
    if isinstance(given, dict):
        return {key: as_tensors(value) for key, value in given.items()}
    if isinstance(given, (list, tuple)):
        return type(given)([as_tensors(value) for value in given])
    return wg.asarray(given) if isinstance(given, np.ndarray) else given


def tensors_in(result: Any) -> list[Any]:
    """Return the Tensors of a result, and one for each array: an array that is an argument is returned as it is."""
    lent: dict[int, Any] = {}
    found: list[Any] = []
    for out in flatten(result)[0]:
        if isinstance(out, np.ndarray):
            found.append(lent.setdefault(id(out), wg.asarray(out)))
        elif isinstance(out, wg.Tensor):
            found.append(out)
    return found


def sweep(world: World, outs: list[Any], call: int) -> None:
    """Go backward through results: one of them, all of them, or twice."""
    tracked = [out for out in outs if out.requires_grad and not out.is_leaf]
    if not tracked or call % 4 == 0:
        return
    if call % 4 == 1:
        tracked[-1].sum().backward()
    elif call % 4 == 2:
        total: Any = sum([wg.tanh(out).sum() for out in tracked])
        wanted = [leaf for leaf in world.scope.leaves if leaf.requires_grad]
        if wanted:
            found = wg.autograd.grad(total, wanted, create_graph=True, allow_unused=True)
            second = [wg.tanh(g).sum() for g in found if g is not None and g.requires_grad]
            if second:
                again: Any = sum(second)
                again.backward()
    else:
        all_of_them: Any = sum([out.sum() for out in tracked])
        all_of_them.backward()


REFUSALS = (
    "inside of a transform or a compiled function",
    "is compiled, and has something in it",
    "while a transform follows",
)
"""What else than a CompileError says that only the function itself can do it."""


def outcome(steps: list[Step], seed: int) -> str:
    """Run a program both ways and compare; return "same", or in a word what else there is to say."""
    with warnings.catch_warnings(record=True) as warned, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        stretched: set[tuple[int, int]] = set()
        eager = play(steps, seed, as_it_is, stretched=stretched)
        warned.clear()
        with captured_as_if_large() if seed % 3 == 2 else contextlib.nullcontext():
            known = len(stretched)
            compiled = play(steps, seed, wg.compile, stretched=stretched)
        if len(stretched) > known:  # what cannot be written to there is not to be written to here
            eager = play(steps, seed, as_it_is, stretched=stretched)
        given_up = any(["run as it is from now on" in str(warning.message) for warning in warned])
    ends = [ends_of(eager), ends_of(compiled)]
    count = min(len(eager) - bool(ends[0]), len(compiled) - bool(ends[1]))
    if word := compared(compiled[:count], eager[:count], steps, seed):
        return word
    if ends[1] and (ends[1][1] == "CompileError" or any([words in ends[1][2] for words in REFUSALS])):
        return "refused"
    if any([end and "already freed" in end[2] for end in ends]):
        return "raises"  # compiled, what one call leaves has one tape; what is behind a freed one is off it at once
    assert bool(ends[0]) == bool(ends[1]) and len(eager) == len(compiled), f"eager {ends[0]}, compiled {ends[1]}"
    if ends[0]:
        # Of a mistake in the shape and one in the dtype, either may be told first.
        names = {end[1] for end in ends}
        assert len(names) == 1 or names == {"ShapeError", "DTypeError"}, f"eager {ends[0]}, compiled {ends[1]}"
        return "raises"
    return "as it is" if given_up else "same"


@contextlib.contextmanager
def captured_as_if_large() -> Iterator[None]:
    """Let nothing be computed in captures that need not be, as it is with large arrays."""
    with unittest.mock.patch.object(capture, "_MUCH", 1):
        yield


def compared(compiled: list[Any], eager: list[Any], steps: list[Step], seed: int) -> str:
    """Make sure that two pictures agree; return nothing, or why they need not agree more closely."""
    world = World(seed, as_it_is)
    is_single = world.has_single or any([narrows(step) for step in steps])
    least = np.dtype("float32" if is_single else "float64")
    try:
        check_same(compiled, eager, LIMIT, least=least)
    except AssertionError as error:
        is_of_sweep = "['grad']" in str(error) or drawn_use(seed)[1] in SWEEPING
        is_of_sweep = is_of_sweep or any([step[0] in ("differentiate", "transform") for step in steps])
        if "nan location mismatch" in str(error) and is_of_sweep and (world.is_special or holds_infinity(eager)):
            return "guarded"  # compiled sweeps always let an exact zero win, eager ones from the first mask on
        with np.errstate(all="ignore"):
            moved = [play(steps, seed, as_it_is, Jitter(place)) for place in range(PLAYS)]
        check_same(compiled, eager, LIMIT, least=least, moved=allowances(eager, moved))
        return "rounded"
    return ""


def holds_infinity(picture: Any) -> bool:
    """Return whether there is an infinity, or NaN, in a picture."""
    if isinstance(picture, dict):
        return any(map(holds_infinity, picture.values()))
    if isinstance(picture, (list, tuple)):
        return any(map(holds_infinity, picture))
    return isinstance(picture, np.ndarray) and picture.dtype.kind == "f" and not np.isfinite(picture).all()


def narrows(step: Step) -> bool:
    """Return whether a step rounds to float32."""
    operation = resolved(step)[1]
    return "float32" in str(getattr(getattr(operation, "__code__", None), "co_consts", ""))


def ends_of(seen: list[Any]) -> Any:
    return seen[-1] if seen and isinstance(seen[-1], tuple) else None


NOTHING: Step = ("unary", UNARY.index(wg.asarray), 1, 0)
"""A step that adds one of the values again, so that later steps find theirs where they were."""


def shrunk(steps: list[Step], fails: Callable[[list[Step]], bool]) -> list[Step]:
    """Return as few of the steps as still fail."""
    place = len(steps) - 1
    while place >= 0:
        without = [*steps[:place], *steps[place + 1 :]]
        idle = [*steps[:place], NOTHING, *steps[place + 1 :]]
        for fewer in (without, idle):
            if fewer != steps and fails(fewer):
                steps = fewer
                place = len(steps)
                break
        place -= 1
    return steps


__all__ = ["grow", "outcome", "play", "shrunk"]
