"""Ways to break a Primitive's record after its declaration was derived: what a fault in `declare` or `core` would do.

Each takes a primitive and returns what to put in place of which of its attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import wengert as wg
from wengert.core import boxing
from wengert.core.primitive import Primitive
from wengert.core.vspace import densify
from wengert.core.zeros import ZERO, is_zero


def pull_without_sum(primitive: Primitive) -> dict[str, Any]:
    def pull(node: Any, out_bar: Any) -> Any:
        x, y, _ = node.saved
        return (None if y is None else out_bar * y, None if x is None else out_bar * x)

    return {"pull": pull}


def pull_that_upcasts(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.pull
    return {"pull": lambda node, out_bar: tuple(b if b is None else b.astype(np.float64) for b in sound(node, out_bar))}


def pull_of_opposite_sign(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.pull
    return {"pull": lambda node, out_bar: tuple(b if b is None else -b for b in sound(node, out_bar))}


def pull_of_everything(primitive: Primitive) -> dict[str, Any]:
    return {"pull": lambda node, out_bar: (out_bar, out_bar)}


def pull_masked_like_any(primitive: Primitive) -> dict[str, Any]:
    return {"pull_masked": primitive.pull}


def pull_masked_that_hides(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.pull_masked
    return {
        "pull_masked": lambda node, out_bar: tuple(
            b if b is None else np.nan_to_num(b, nan=0.0) for b in sound(node, out_bar)
        )
    }


def pull_tracked_off_the_tape(primitive: Primitive) -> dict[str, Any]:
    def pull_tracked(node: Any, out_bar: Any, masked: bool) -> Any:
        bars = primitive.pull(node, boxing.data_of(out_bar))
        return tuple(b if b is None else boxing.box(b) for b in bars)

    return {"pull_tracked": pull_tracked}


def pull_tracked_of_a_constant_seed(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.pull_tracked
    return {"pull_tracked": lambda node, out_bar, masked: sound(node, out_bar.detach(), masked)}


def pull_tracked_of_constant_residuals(primitive: Primitive) -> dict[str, Any]:
    def pull_tracked(node: Any, out_bar: Any, masked: bool) -> Any:
        (x,) = node.saved
        return (out_bar * wg.cos(boxing.box(x)),)

    return {"pull_tracked": pull_tracked}


def jvp_of_dense_zeros(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.jvp

    def jvp(xp: Any, primals: Any, tangents: Any, params: Any) -> Any:
        out, out_dot = sound(xp, primals, tangents, params)
        return out, xp.zeros_like(out) if out_dot is ZERO else out_dot

    return {"jvp": jvp}


def jvp_that_forgets_an_argument(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.jvp
    return {"jvp": lambda xp, primals, tangents, params: sound(xp, primals, (*tangents[:-1], ZERO), params)}


def jvp_wrong_on_tensors(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.jvp

    def jvp(xp: Any, primals: Any, tangents: Any, params: Any) -> Any:
        out, out_dot = sound(xp, primals, tangents, params)
        return out, out_dot if xp is not boxing.operations or out_dot is ZERO else out_dot * 2

    return {"jvp": jvp}


def push_that_upcasts(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.push

    def push(*values_and_tangents: Any) -> Any:
        out, out_dot = sound(*values_and_tangents)
        return out, out_dot if out_dot is ZERO else out_dot.astype(np.float64)

    return {"push": push}


def batch_along_the_wrong_axis(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.batch
    return {"batch": lambda xp, args, axes, params: (sound(xp, args, axes, params)[0], 1)}


def batch_that_takes_the_axis_to_be_first(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.batch

    def batch(xp: Any, args: Any, axes: Any, params: Any) -> Any:
        return sound(xp, args, tuple(None if axis is None else 0 for axis in axes), params)

    return {"batch": batch}


# Slight errors, for every operation.

SLIGHTLY = 1 + 1e-6


def slightly_off(value: Any) -> Any:
    """Scale whatever a rule returns: arrays, Tensors, tuples of them, cotangents that are mostly zero."""
    if isinstance(value, (tuple, list)):
        return tuple([slightly_off(part) for part in value])
    if value is None or is_zero(value):
        return value
    value = densify(value)
    if value.dtype.kind != "f":
        return value
    return value * SLIGHTLY if isinstance(value, boxing.Tensor) else np.asarray(value * value.dtype.type(SLIGHTLY))


def pull_slightly_off(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.pull
    return {"pull": lambda node, out_bar: slightly_off(sound(node, out_bar))}


def pull_tracked_slightly_off(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.pull_tracked
    return {"pull_tracked": lambda node, out_bar, masked: slightly_off(sound(node, out_bar, masked))}


def pull_tracked_detached(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.pull_tracked
    return {
        "pull_tracked": lambda node, out_bar, masked: tuple(
            b if b is None else b.detach() for b in sound(node, out_bar, masked)
        )
    }


def jvp_slightly_off(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.jvp

    def jvp(xp: Any, primals: Any, tangents: Any, params: Any) -> Any:
        out, out_dot = sound(xp, primals, tangents, params)
        return out, slightly_off(out_dot)

    return {"jvp": jvp}


def push_slightly_off(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.push

    def push(*values_and_tangents: Any) -> Any:
        out, out_dot = sound(*values_and_tangents)
        return out, slightly_off(out_dot)

    return {"push": push}


def batch_slightly_off(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.batch

    def batch(xp: Any, args: Any, axes: Any, params: Any) -> Any:
        out, out_axis = sound(xp, args, axes, params)
        return slightly_off(out), out_axis

    return {"batch": batch}


def impl_slightly_off(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.impl
    return {"impl": lambda xp, *arrays, **params: slightly_off(sound(xp, *arrays, **params))}


# What the tape keeps.


class Plan:
    """Stands in for the plan that gathers residuals."""

    def __init__(self, gather: Callable[..., Any]) -> None:
        self.gather = gather


def stale(primitive: Primitive) -> Callable[..., Any]:
    sound = primitive.rules["plan"].gather
    first: dict[Any, Any] = {}

    def gather(data: Any, nodes: Any, out: Any) -> Any:
        saved = sound(data, nodes, out)
        return first.setdefault(tuple([value is not None and np.shape(value) for value in saved]), saved)

    return gather


def hoarding(primitive: Primitive) -> Callable[..., Any]:
    sound = primitive.rules["plan"].gather
    hoard: list[Any] = []

    def gather(data: Any, nodes: Any, out: Any) -> Any:
        hoard.extend([*data, out])
        return sound(data, nodes, out)

    return gather


def generous(primitive: Primitive) -> Callable[..., Any]:
    return lambda data, nodes, out: tuple(data)


def excessive(primitive: Primitive) -> Callable[..., Any]:
    sound = primitive.rules["plan"].gather
    return lambda data, nodes, out: (*sound(data, nodes, out), *data)
