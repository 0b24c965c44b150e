"""Forward rules of elementwise operations, derived from their partials; and what all forward rules need.

Products of a partial and a tangent are plain ones at first. Where a result is not finite, zero times infinity may have
been among them, and they are computed again, guarded.
"""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

from numpy import vdot

from .. import backend
from ..backend.numpy import ONE_THREAD
from ..core import boxing
from ..core.primitive import Primitive
from ..core.vspace import all_finite, settle
from ..core.zeros import ZERO, is_zero
from ..typing import Shape

raw = backend.numpy


def evaluate(xp: Any, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """Compute the operation itself in any namespace."""
    return primitive.call(*args, **params) if xp is boxing.operations else primitive.impl(xp, *args, **params)


def product_in(xp: Any, partial: Any, tangent: Any, guarded: bool) -> Any:
    """Multiply a partial by a tangent or cotangent in either namespace."""
    if type(partial) in (int, float) and (isfinite(partial) or not guarded):
        if partial == 1:
            return tangent
        if partial == 0:
            return xp.zeros_like(tangent)
        return -tangent if partial == -1 else partial * tangent
    return xp.guarded_product(partial, tangent) if guarded else partial * tangent


def _local(partial: Any) -> Callable[[Any, Any], Any]:
    """Return `local(xp, saved)`: the partial in its cheapest form."""
    constant, residual = partial.constant, partial.residual
    if constant is not None:

        def number(xp: Any, saved: Any) -> Any:
            return constant

        return number
    if residual is not None:

        def kept(xp: Any, saved: Any) -> Any:
            return saved[residual]

        return kept
    return partial.of


def forward_rules(primitive: Primitive) -> tuple[Callable[..., tuple[Any, Any]], Callable[..., tuple[Any, Any]]]:
    """Derive (the jvp rule of an elementwise operation, the same at its quickest) from the partials."""
    kernel = primitive.kernel
    values = (*primitive.arguments, "out")
    places = tuple([values.index(name) for name in primitive.residuals])
    locals_of = [None if partial is None else _local(partial) for partial in primitive.partial_rules]

    def tangent(xp: Any, saved: Any, tangents: tuple[Any, ...], guarded: bool) -> Any:
        out_dot: Any = ZERO
        for local, x_dot in zip(locals_of, tangents):
            if local is not None and not is_zero(x_dot):
                partial = local(xp, saved)
                number = type(partial) is int or type(partial) is float
                term = product_in(xp, partial, x_dot, guarded) if number or guarded else partial * x_dot
                out_dot = term if out_dot is ZERO else out_dot + term
        return out_dot

    def push(primals: tuple[Any, ...], tangents: tuple[Any, ...], lead: Shape = ()) -> tuple[Any, Any]:
        out = kernel(*primals)
        known = (*primals, out)
        saved = [known[place] for place in places]
        out_dot = tangent(raw, saved, tangents, False)
        if out_dot is ZERO:
            return out, ZERO
        if not all_finite(out_dot):  # zero times infinity would have left a NaN
            out_dot = tangent(raw, saved, tangents, True)
        if out_dot.dtype is not out.dtype or out_dot.shape != lead + out.shape:
            out_dot = _fitted(out_dot, out, lead)
        return out, out_dot

    def jvp(xp: Any, primals: tuple[Any, ...], tangents: tuple[Any, ...], params: dict[str, Any]) -> tuple[Any, Any]:
        if xp is raw:
            return push(primals, tangents)
        out = primitive.call(*primals)
        known = (*primals, out)
        out_dot = tangent(xp, [known[place] for place in places], tangents, True)
        return out, out_dot if out_dot is ZERO else settle(xp, out_dot, out)

    return jvp, _quickest_push(primitive, push, places)


def _quickest_push(primitive: Primitive, push: Callable[..., Any], places: tuple[int, ...]) -> Callable[..., Any]:
    """Return `push(x, x_dot)` or `push(x, y, x_dot, y_dot)` on raw arrays, in straight lines for what is usual."""
    rules = primitive.partial_rules
    if len(rules) == 1:
        return _push_one(primitive, push, places)
    if len(rules) != 2:
        return push
    constants = tuple([None if rule is None else rule.constant for rule in rules])
    crosswise = [None if rule is None else rule.residual for rule in rules] == [1, 0]
    if constants in ((1, 1), (1, -1)):
        return _push_sum(primitive, constants[1] == -1)
    return _push_product(primitive, push) if crosswise else _push_two(push)


def _fitted(out_dot: Any, out: Any, lead: Shape) -> Any:
    """Bring a tangent to the shape and dtype of its value, behind the axes of several tangents at once."""
    if not lead:
        return settle(raw, out_dot, out)
    if out_dot.shape != lead + out.shape:
        raise ValueError("several tangents at once do not broadcast as one of them does")
    return raw.astype(out_dot, out.dtype)


def _push_two(push: Callable[..., Any]) -> Callable[..., Any]:
    def push_two(x: Any, y: Any, x_dot: Any, y_dot: Any, lead: Shape = ()) -> tuple[Any, Any]:
        return push((x, y), (x_dot, y_dot), lead)

    return push_two


def _push_one(primitive: Primitive, push: Callable[..., Any], places: tuple[int, ...]) -> Callable[..., Any]:
    kernel = primitive.kernel
    partial = primitive.partial_rules[0]
    rule = None if partial is None else partial.single_rule

    if rule is None:

        def push_one(x: Any, x_dot: Any, lead: Shape = ()) -> tuple[Any, Any]:
            return push((x,), (x_dot,), lead)

        return push_one
    of_out = places == (1,)

    def push_one_rule(x: Any, x_dot: Any, lead: Shape = ()) -> tuple[Any, Any]:
        out = kernel(x)
        out_dot = x_dot * rule(raw, out if of_out else x)[0]
        if out_dot.dtype is not out.dtype or not (
            isfinite(vdot(out_dot, out_dot)) if out_dot.size <= ONE_THREAD else all_finite(out_dot)
        ):
            return push((x,), (x_dot,), lead)
        return out, out_dot

    return push_one_rule


def _push_sum(primitive: Primitive, negative: bool) -> Callable[..., Any]:
    kernel = primitive.kernel

    def push_sum(x: Any, y: Any, x_dot: Any, y_dot: Any, lead: Shape = ()) -> tuple[Any, Any]:
        out = kernel(x, y)
        if y_dot is ZERO:
            out_dot = x_dot
        elif x_dot is ZERO:
            out_dot = -y_dot if negative else y_dot
        else:
            out_dot = x_dot - y_dot if negative else x_dot + y_dot
        if out_dot is not ZERO and (out_dot.dtype is not out.dtype or out_dot.shape != lead + out.shape):
            out_dot = _fitted(out_dot, out, lead)
        return out, out_dot

    return push_sum


def _push_product(primitive: Primitive, push: Callable[..., Any]) -> Callable[..., Any]:
    kernel = primitive.kernel

    def push_product(x: Any, y: Any, x_dot: Any, y_dot: Any, lead: Shape = ()) -> tuple[Any, Any]:
        out = kernel(x, y)
        if y_dot is ZERO:
            if x_dot is ZERO:
                return out, ZERO
            out_dot = x_dot * y
        elif x_dot is ZERO:
            out_dot = x * y_dot
        else:
            out_dot = x_dot * y + x * y_dot
        if (
            out_dot.dtype is out.dtype
            and out_dot.shape == lead + out.shape
            and (isfinite(vdot(out_dot, out_dot)) if out_dot.size <= ONE_THREAD else all_finite(out_dot))
        ):
            return out, out_dot
        return push((x, y), (x_dot, y_dot), lead)

    return push_product


__all__ = ["evaluate", "forward_rules", "product_in"]
