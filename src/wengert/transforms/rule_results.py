"""Running rules that users have written, and making sure of what they return: number, nesting, shapes and dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import boxing
from ..core.zeros import is_zero
from ..errors import DTypeError, GradientError, NotDifferentiableError, ShapeError, StructureError
from .custom_calls import Call
from .written_rules import Point, WrittenRule


def run_pullback(rule: WrittenRule, point: Point, out_bars: Sequence[Any]) -> Any:
    """Return what a vjp rule returns for cotangents of the outputs."""

    def lookup(name: str) -> Any:
        if name == "out_bar":
            return point.call.out_structure.unflatten(out_bars)
        return point.lookup(name)

    try:
        return rule.run(lookup)
    except GradientError as error:
        if point.tracked:
            error.add_note(_leaves_the_tape(rule))
        raise


def _leaves_the_tape(rule: WrittenRule) -> str:
    return (
        f"This gradient is to be differentiated again, so {rule} is recorded. Where it calls code that needs bare "
        "arrays, make a wg.primitive of that code, with rules of its own"
    )


def run_tangent_map(rule: WrittenRule, point: Point, dots: Sequence[Any]) -> list[Any]:
    """Return the tangents of the outputs by a jvp rule, made sure of; tangents that are zero are written out for it."""
    parameters, call = point.call.parameters, point.call
    named = [p for p in parameters.chosen if f"{parameters.names[p]}_dot" in rule.names]
    filled = list(dots)
    for p in named:
        for i in call.arrays_of(p):
            if call.floating[i] and filled[i] is None:
                like = point.likes[i]
                filled[i] = 0.0 if like is None else boxing.box(np.zeros(like.shape, like.dtype))

    def lookup(name: str) -> Any:
        if name not in parameters.names and name.endswith("_dot"):
            return call.value(parameters.names.index(name.removesuffix("_dot")), filled, others=False)
        return point.lookup(name)

    returned = rule.run(lookup)
    if returned is None:
        return [None] * len(point.out_likes)
    structure = call.out_structure
    try:
        leaves = structure.flatten_like(returned, "out_dot")
    except StructureError as error:
        raise StructureError(f"{rule} must return a tangent nested as the output is: {error}") from None
    paths = structure.paths("out_dot")
    return [_settled(rule, point, leaf, like, paths[j]) for j, (leaf, like) in enumerate(zip(leaves, point.out_likes))]


# ---------------------------------------------------------------------- what they return


def split(rule: WrittenRule, call: Call, returned: Any) -> dict[int, Any]:
    """Return the cotangents of the parameters that a rule for all of them returned, each nested as its parameter is."""
    parameters = call.parameters
    if returned is None:
        return {}
    chosen = parameters.chosen
    names = [parameters.names[p] for p in chosen]
    if len(chosen) == 1:
        return {chosen[0]: _unwrapped(returned, names[0], call.structures[chosen[0]].kind is None)}
    active = [p for p in chosen if any(call.floating[i] for i in call.arrays_of(p))]
    if isinstance(returned, dict):
        if unknown := [key for key in returned if key not in names]:
            raise StructureError(
                f"{rule} returned a cotangent of {unknown[0]!r}, but {parameters.name} is differentiated by "
                f"{', '.join(names)}"
            )
        if missing := [parameters.names[p] for p in active if parameters.names[p] not in returned]:
            raise StructureError(
                f"{rule} returned no cotangent of {missing[0]}; return {missing[0]!r}: None if it is zero"
            )
        return {p: returned.get(name) for p, name in zip(chosen, names)}
    if type(returned) in (tuple, list):
        for counted in (chosen, active):
            if len(returned) == len(counted):
                return dict(zip(counted, returned))
    elif len(active) == 1:
        return {active[0]: returned}
    what = f"{len(returned)} values" if type(returned) in (tuple, list) else f"a {type(returned).__name__}"
    raise StructureError(
        f"{rule} returned {what}, where the {len(chosen)} cotangents of {', '.join(names)} are expected, as a tuple in "
        "this order, or as a dict by name; None stands for zero"
    )


def _unwrapped(returned: Any, name: str, is_leaf: bool) -> Any:
    if is_leaf and type(returned) in (tuple, list) and len(returned) == 1:
        return returned[0]
    if is_leaf and isinstance(returned, dict) and list(returned) == [name]:
        return returned[name]
    return returned


def place(rule: WrittenRule, point: Point, p: int, tree: Any, wanted: Sequence[bool], bars: list[Any]) -> None:
    """Put the cotangent of one parameter where its arrays are."""
    if tree is None:
        return
    call = point.call
    structure, name = call.structures[p], f"{call.parameters.names[p]}_bar"
    try:
        leaves = structure.flatten_like(tree, name)
    except StructureError as error:
        raise StructureError(
            f"{rule} must return a cotangent nested as {call.parameters.names[p]} is: {error}"
        ) from None
    paths = structure.paths(name)
    for (dynamic, i), leaf, path in zip(call.entries[p], leaves, paths):
        if dynamic and wanted[i]:
            bars[i] = _settled(rule, point, leaf, point.likes[i], path)


def _settled(rule: WrittenRule, point: Point, value: Any, like: Any, path: str) -> Any:
    """Return a cotangent or tangent as a Tensor of the shape and dtype that it must have; None for zero."""
    if is_zero(value):
        return None
    if like.dtype.kind not in "fc":
        raise DTypeError(
            f"{rule} returned a {type(value).__name__} as {path}, but that place holds {like.dtype} numbers, which "
            "have no derivative; return None there"
        )
    if not isinstance(value, boxing.Tensor):
        value = _boxed(rule, point, value, like, path)
    if value.shape != like.shape:
        raise ShapeError(
            f"{rule} returned {path} of shape {value.shape}; expected {like.shape}. Where the forward broadcasts, a "
            "rule has to sum over what was broadcast (and where it sums, to broadcast)"
        )
    if value.dtype.kind != like.dtype.kind:
        cure = "; take its real part" if value.dtype.kind == "c" else ""
        raise DTypeError(f"{rule} returned {path} of dtype {value.dtype}; expected {like.dtype}{cure}")
    return value if value.dtype == like.dtype else boxing.operations.astype(value, like.dtype)


def _boxed(rule: WrittenRule, point: Point, value: Any, like: Any, path: str) -> Any:
    if isinstance(value, (int, float, complex)) and not isinstance(value, np.generic):
        if like.shape != ():
            raise ShapeError(
                f"{rule} returned the number {value!r} as {path}; expected an array of shape {like.shape}. Write out "
                "what is meant, for example wg.full_like"
            )
        return boxing.box(np.asarray(value, like.dtype))
    if not hasattr(value, "dtype"):
        raise DTypeError(f"{rule} returned a {type(value).__name__} as {path}; expected an array or None")
    if point.tracked:
        raise NotDifferentiableError(
            f"{rule} returned a NumPy array as {path}, which has left the tape. {_leaves_the_tape(rule)}; a constant "
            "can be returned as a Tensor"
        )
    return boxing.box(np.array(value))  # a copy: the rule may keep the array and write it again


__all__ = ["place", "run_pullback", "run_tangent_map", "split"]
