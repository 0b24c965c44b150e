"""What one captured run of a function leaves behind: results, and what was written, leaf by leaf."""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import boxing
from ..core.aliasing import family, starts_with
from ..core.doubts import farthest, settle
from ..core.pytree import Structure, flatten
from ..core.tape import Leaf, is_freed, location
from ..core.tracing import leaked
from .capture import Brought, CaptureTrace
from .graph import Value
from .results import Result, shared_bases, viewed_in
from .sources import CompileError, Source


class Effects(NamedTuple):
    """What a run does beside returning.

    Attributes:
        writes: Tensors of outside that get new values.
        gradients: Tensors that get a new `.grad`, or lose the one they had.
        kept: Tensors whose new `.grad` is one of the leaves of what is returned, with its place among them.
        states: arrays that are kept from run to run, with their new values.
    """

    writes: list[tuple[Source, Value]]
    gradients: list[tuple[Source, Value | None]]
    kept: list[tuple[Source, int]]
    states: list[tuple[np.ndarray, Value]]


class Returned(NamedTuple):
    """What a captured function has returned.

    Attributes:
        leaves: what the structure asks for; beyond it, gradients that are more than values, and what several leaves are
            views of.
        plans: for each leaf, where later runs have it from.
        structure: how leaves are put together.
    """

    leaves: list[Any]
    plans: list[Result]
    structure: Structure

    def outputs(self) -> list[Any]:
        """Return the leaves that the program itself computes: no views, nothing of outside."""
        return [leaf for leaf, plan in zip(self.leaves, self.plans) if plan.kind == "output"]


def planned(trace: CaptureTrace, result: Any) -> Returned:
    """Return where later runs have from what a captured function has returned."""
    leaves, structure = flatten(result)
    lent = trace.loans()
    leaves += _gradients_beside(trace, leaves)
    _settle_views(trace, leaves)
    leaves += shared_bases(leaves, lambda base: trace.holds(base) or id(base) in lent)  # beyond what is asked for
    held = {id(brought.tensor): brought for brought in trace.brought}
    plans: list[Result] = []
    places: dict[int, int] = {}
    for number, leaf in enumerate(leaves):
        if isinstance(leaf, boxing.Tensor):
            places.setdefault(id(leaf), number)
    for number, leaf in enumerate(leaves):
        first = places.get(id(leaf), number)
        plans.append(Result("same", first) if first < number else _plan(trace, leaf, held, lent, places))
    return Returned(leaves, plans, structure)


def _settle_views(trace: CaptureTrace, leaves: Sequence[Any]) -> None:
    """Make sure that views are views where several leaves would share memory by it."""
    bases = {id(leaf): farthest(family(leaf)[0]) for leaf in leaves if type(leaf) is boxing.Tracer}
    counts = Counter(map(id, bases.values()))
    for base in {id(base): base for base in bases.values() if counts[id(base)] > 1}.values():
        settle(base)
    for leaf in leaves:
        if type(leaf) is boxing.Tracer:
            trace.note_written(leaf)
            trace.note_written(family(leaf)[0])


def _gradients_beside(trace: CaptureTrace, leaves: Sequence[Any]) -> list[Any]:
    """Return new gradients that are more than values: on the tape, in memory of others, or of several Tensors."""
    visible = {id(leaf) for leaf in leaves}
    met: set[int] = set()
    beside: dict[int, Any] = {}
    for brought in trace.brought:
        gradient = _new_gradient(brought)
        if brought.source is None or gradient is None or id(gradient) in visible:
            continue
        is_traced = type(gradient) is boxing.Tracer
        is_outside = trace.holds(gradient) if is_traced else trace.source_of(gradient) is not None
        if is_outside or gradient._node is not None or viewed_in(gradient) is not None or id(gradient) in met:
            beside[id(gradient)] = gradient
        met.add(id(gradient))
    return list(beside.values())


def _new_gradient(brought: Brought) -> Any:
    """Return the `.grad` that a Tensor of outside was given; None if it has none, or the one that it had."""
    gradient = getattr(brought.tensor, "_grad", None)
    return None if gradient is brought.gradient and not brought.gradient_was_set else gradient


def survey(trace: CaptureTrace, returned: Returned) -> Effects:
    """Return what a captured function has done beside returning."""
    effects = Effects([], [], [], [])
    places = {id(leaf): number for number, leaf in reversed(list(enumerate(returned.leaves)))}
    held = {id(brought.tensor): brought for brought in trace.brought}
    for brought in list(trace.brought):
        if brought.source is not None:
            _note_gradient(trace, brought, effects, places)
            _note_value(trace, brought, effects, held)
    for _, stand_in, value in trace.stand_ins.values():
        if stand_in._state.value is not value:
            effects.writes.append((trace.inputs[value], stand_in._state.value))
    for array, cell in trace.states:
        final = cell.tensor._state
        if final.value is not trace.array(array)._state.value:
            effects.states.append((array, final.value))
    return effects


def _plan(
    trace: CaptureTrace, leaf: Any, held: dict[int, Brought], lent: dict[int, Source], places: dict[int, int]
) -> Result:
    if (place := trace.place_of(leaf)) is not None and type(leaf) is not boxing.Tracer:
        return Result("argument", place)
    if not isinstance(leaf, boxing.Tensor):
        return Result("object", leaf)
    brought = held.get(id(leaf))
    if brought is not None and brought.source is not None:
        return Result("held", brought.source)
    if type(leaf) is boxing.Tracer:
        return _plan_of_tracer(trace, leaf, held, lent, places)
    source = trace.source_of(leaf)
    return Result("held", source) if source is not None else Result("output", trace.constant(leaf))


def _plan_of_tracer(
    trace: CaptureTrace, leaf: Any, held: dict[int, Brought], lent: dict[int, Source], places: dict[int, int]
) -> Result:
    if leaf._state.trace is not trace:
        raise leaked(leaf._state)
    if isinstance(leaf._node, Leaf):
        raise CompileError(
            f"wg.compile({trace.described}): it returns a Tensor that it has made a leaf, at "
            f"{location(leaf._node)}, whose gradients nobody would find in later runs. Call requires_grad_() on "
            "what it returns, outside, or return detach() of it"
        )
    if (lender := lent.get(id(leaf)) or trace.array_read_as(leaf)) is not None:
        return Result("lent", lender)
    view = _view_plan(trace, leaf, held, lent, places)
    if view is None:
        return Result("output", leaf._state.value)
    if view.what.detached and is_on_tape(leaf):
        raise CompileError(
            f"wg.compile({trace.described}): it returns a view made at {location(leaf._state)} that shares memory with "
            "what it was detached from, and has a history of its own, from being written to. Return clone() of it"
        )
    return view


def is_on_tape(leaf: Any) -> bool:
    """Return whether a result is a tracer that gradients can still be pulled back from."""
    return type(leaf) is boxing.Tracer and leaf._node is not None and not is_freed(leaf._node)


def _view_plan(
    trace: CaptureTrace, leaf: Any, held: dict[int, Brought], lent: dict[int, Source], places: dict[int, int]
) -> Result | None:
    """Return how a leaf is a view of a Tensor of outside or of another leaf; None if it is neither."""
    found = viewed_in(leaf)
    if found is None:
        return None
    base, viewed = found
    brought = held.get(id(base))
    if brought is not None and brought.source is not None:
        return Result("view", viewed._replace(base=brought.source))
    place = places.get(id(base))
    if place is not None:
        return Result("view", viewed._replace(base=place))
    if (lender := lent.get(id(base)) or trace.array_read_as(base)) is not None:
        return Result("view", viewed._replace(base=lender))
    # The base may be one of outside that the function has nothing to do with: then a view of it was brought in.
    nearest: tuple[int, Brought] | None = None
    for brought in held.values():
        origin, steps = family(brought.tensor)
        if brought.source is not None and origin is base and starts_with(viewed.steps, steps):
            nearest = max(nearest or (-1, brought), (len(steps), brought), key=_first)
    if nearest is None:
        return None
    depth, brought = nearest
    return Result("view", viewed._replace(base=brought.source, steps=viewed.steps[depth:]))


def _first(pair: tuple[int, Brought]) -> int:
    return pair[0]


def _note_gradient(trace: CaptureTrace, brought: Brought, effects: Effects, places: dict[int, int]) -> None:
    gradient = getattr(brought.tensor, "_grad", None)
    if gradient is brought.gradient and not brought.gradient_was_set:
        return
    assert brought.source is not None
    if brought.inner is not brought.node:
        raise CompileError(
            f"wg.compile({trace.described}): backward() in the function has reached a Tensor that was computed "
            "outside of it, from where it would go on. Pass a leaf (detach() it), or call backward() outside"
        )
    if gradient is None:
        effects.gradients.append((brought.source, None))
        return
    if (place := places.get(id(gradient))) is not None:
        effects.kept.append((brought.source, place))
        return
    if type(gradient) is not boxing.Tracer:
        trace.bring(gradient)
    state = gradient._state
    if state.trace is not trace:
        raise leaked(state)
    effects.gradients.append((brought.source, state.value))


def _note_value(trace: CaptureTrace, brought: Brought, effects: Effects, held: dict[int, Brought]) -> None:
    tensor = brought.tensor
    state = tensor._state
    if state.value is brought.value:
        if tensor._node is not brought.inner:
            raise CompileError(
                f"wg.compile({trace.described}): requires_grad of a Tensor that was made outside of the function is "
                "changed in it. Change it outside"
            )
        return
    if tensor._node is not brought.inner:
        raise CompileError(
            f"wg.compile({trace.described}): a tracked value was written into a Tensor that was made outside of the "
            "function, so that its history would go on through the compiled code. Return the value instead, or write "
            "it under wg.no_grad()"
        )
    if brought.inner is not brought.node:
        raise CompileError(
            f"wg.compile({trace.described}): it writes to a Tensor on the tape that was computed outside, or is a view "
            "made there, so that its history would change. Pass the leaf, or detach() it, or return new values"
        )
    assert brought.source is not None
    base, _ = family(tensor)
    owner = held.get(id(base))
    if base is tensor or owner is None or owner.source is None or base._state.value is owner.value:
        effects.writes.append((brought.source, state.value))
    # Else the base is written, and views of it follow: one in which elements come again could not be written.


def undo(trace: CaptureTrace) -> None:
    """Make all Tensors what they were before the captured run."""
    for brought in reversed(trace.brought):
        brought.restore()


__all__ = ["Effects", "Returned", "is_on_tape", "planned", "survey", "undo"]
