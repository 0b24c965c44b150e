"""Operations that leave values as they are and act on what a sweep brings back: clip it, scale it, look at it.

They act in reverse mode alone, as a hook does: forward mode passes the tangent on unchanged. So the two modes disagree
on purpose wherever one of them does something, and the generated suite checks them where none does: inside the bounds,
at the factor 1. What they do is differentiated like anything else if a gradient is differentiated again.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..core import boxing, capturing
from ..core.dispatch import bind
from ..core.recording import is_recording
from ..core.tape import make_node
from ..declare import Sample, opaque
from ..errors import DTypeError
from ..typing import Array, ArrayLike, Namespace
from .creation import asarray

__all__ = ["clip_cotangent", "clip_cotangent_norm", "log_cotangent", "scale_cotangent"]

Report = Callable[[str, Any], None]


def _say_nothing(label: str, cotangent: Any) -> None:
    pass


@opaque(samples=[Sample((2, 3), low=-1e9, high=1e9), Sample((), low=-math.inf, high=1e9)], masks=True)
def with_clipped_cotangent(xp: Namespace, x: Array, *, low: float, high: float) -> Array:
    """The same values; on the way back, every entry of the cotangent is brought between two bounds."""
    return xp.positive(x)


@with_clipped_cotangent.vjp
def with_clipped_cotangent_vjp(xp: Namespace, out_bar: Array, low: float, high: float) -> Array:
    return xp.clip(out_bar, low, high)


@opaque(samples=[Sample((2, 3), max_norm=1e9, lead=0), Sample((2, 3), max_norm=1e9, lead=1)])
def with_clipped_cotangent_norm(xp: Namespace, x: Array, *, max_norm: float, lead: int) -> Array:
    """The same values; on the way back, a cotangent that is longer than a bound is shortened to it.

    The first `lead` axes count examples, each with a norm of its own.
    """
    return xp.positive(x)


@with_clipped_cotangent_norm.vjp
def with_clipped_cotangent_norm_vjp(xp: Namespace, out_bar: Array, max_norm: float, lead: int) -> Array:
    wide = xp.astype(out_bar, "float64")  # squares of a short type would overflow
    norm = xp.sqrt(xp.sum(wide * wide, axis=tuple(range(lead, out_bar.ndim)), keepdims=True))
    return out_bar * xp.astype(max_norm / xp.maximum(norm, max_norm), out_bar.dtype)


@opaque(samples=[Sample((2, 3), factor=1.0), Sample((), factor=1.0)], masks=True)
def with_scaled_cotangent(xp: Namespace, x: Array, *, factor: float) -> Array:
    """The same values; on the way back, the cotangent is multiplied by a number."""
    return xp.positive(x)


@with_scaled_cotangent.vjp
def with_scaled_cotangent_vjp(out_bar: Array, factor: float) -> Array:
    return out_bar * factor


@opaque(samples=[Sample((2, 3), label="here", report=_say_nothing)])
def with_logged_cotangent(xp: Namespace, x: Array, *, label: str, report: Report) -> Array:
    """The same values; on the way back, the cotangent is shown to a function."""
    return xp.positive(x)


@with_logged_cotangent.vjp
def with_logged_cotangent_vjp(out_bar: Any, label: str, report: Report) -> Array:
    shown = out_bar if isinstance(out_bar, boxing.Tensor) else boxing.box(out_bar)
    capture = capturing.current()
    if capture is not None and capture.follows(shown):
        capture.report(partial(report, label), (shown,))
    else:
        report(label, shown)
    return out_bar


@with_clipped_cotangent.jvp
@with_clipped_cotangent_norm.jvp
@with_scaled_cotangent.jvp
@with_logged_cotangent.jvp
def cotangents_jvp(x_dot: Array) -> Array:
    return x_dot


@with_clipped_cotangent.batched
def with_clipped_cotangent_batched(xp: Namespace, x: Array, *, low: float, high: float) -> Array:
    return bind(with_clipped_cotangent.primitive, (x,), {"low": low, "high": high})


@with_clipped_cotangent_norm.batched
def with_clipped_cotangent_norm_batched(xp: Namespace, x: Array, *, max_norm: float, lead: int) -> Array:
    return bind(with_clipped_cotangent_norm.primitive, (x,), {"max_norm": max_norm, "lead": lead + 1})


@with_scaled_cotangent.batched
def with_scaled_cotangent_batched(xp: Namespace, x: Array, *, factor: float) -> Array:
    return bind(with_scaled_cotangent.primitive, (x,), {"factor": factor})


@with_logged_cotangent.batched
def with_logged_cotangent_batched(xp: Namespace, x: Array, *, label: str, report: Report) -> Array:
    return bind(with_logged_cotangent.primitive, (x,), {"label": label, "report": report})


def _passed_on(operation: Any, x: ArrayLike, params: dict[str, Any]) -> Any:
    """Apply an operation; an exact Tensor's values need not be copied, as a write to either copies what is shared."""
    tensor = asarray(x)
    if type(tensor) is not boxing.Tensor or capturing.engaged:
        return bind(operation.primitive, (tensor,), params)
    data, node = tensor._data, tensor._node  # type: ignore[attr-defined]
    if node is None or not is_recording():
        return boxing.box(data)
    return boxing.box(data, make_node(operation.primitive, (node,), (), data, params))


def clip_cotangent(x: ArrayLike, low: float, high: float) -> Any:
    """The same values; in a sweep, every entry of their gradient is clipped to [low, high].

    Reverse mode alone: tangents of forward mode pass unchanged. A NaN stays one.

    Args:
        x: array of any shape.
        low: the lower bound, 0 or less: no gradient shall be made of none.
        high: the upper bound, 0 or more.

    Raises:
        ValueError: the bounds do not enclose 0.
        DTypeError: x is complex; `clip_cotangent_norm` is for those.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> wg.sum(wg.clip_cotangent(x, -1.0, 1.0) ** 2 - 5 * x).backward(); x.grad.tolist()
    [-4.0, -4.0, -4.0]
    """
    low, high = float(low), float(high)
    if not low <= 0 <= high:
        raise ValueError(f"clip_cotangent: the bounds must enclose 0, and [{low}, {high}] does not")
    tensor = asarray(x)
    if tensor.dtype.kind == "c":
        raise DTypeError("clip_cotangent: complex gradients have no order; bound their norm with clip_cotangent_norm")
    return _passed_on(with_clipped_cotangent, tensor, {"low": low, "high": high})


def clip_cotangent_norm(x: ArrayLike, max_norm: float) -> Any:
    """The same values; in a sweep, their gradient is shortened to a Euclidean norm of at most `max_norm`.

    Reverse mode alone: tangents of forward mode pass unchanged. Under `vmap`, each example has a norm of its own.

    Args:
        x: array of any shape.
        max_norm: a positive number.

    Raises:
        ValueError: max_norm is not positive.

    >>> import wengert as wg
    >>> x = wg.tensor([3.0, 4.0], requires_grad=True)
    >>> wg.sum(wg.clip_cotangent_norm(x, 1.0) ** 2).backward(); [round(g, 3) for g in x.grad.tolist()]
    [0.6, 0.8]
    """
    max_norm = float(max_norm)
    if not max_norm > 0:
        raise ValueError(f"clip_cotangent_norm: max_norm must be positive, and it is {max_norm}")
    return _passed_on(with_clipped_cotangent_norm, x, {"max_norm": max_norm, "lead": 0})


def scale_cotangent(x: ArrayLike, factor: float) -> Any:
    """The same values; in a sweep, their gradient is multiplied by a number.

    -1 reverses it, as in adversarial training of domains (Ganin and Lempitsky, 2015). Reverse mode alone: tangents of
    forward mode pass unchanged.

    Args:
        x: array of any shape.
        factor: any finite number; with 0 the gradient is zero, not absent.

    Raises:
        ValueError: the factor is not finite.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> wg.sum(wg.scale_cotangent(x, -1.0) * 3).backward(); x.grad.tolist()
    [-3.0, -3.0]
    """
    factor = float(factor)
    if not math.isfinite(factor):
        raise ValueError(f"scale_cotangent: the factor must be finite, and it is {factor}")
    return _passed_on(with_scaled_cotangent, x, {"factor": factor})


def log_cotangent(x: ArrayLike, label: str = "cotangent", callback: Report | None = None) -> Any:
    """The same values; in a sweep, their gradient is reported when it is there.

    Args:
        x: array of any shape.
        label: what the report begins with.
        callback: takes the label and the gradient, a Tensor. By default a line with its shape, dtype, norm, range and
            the number of entries that are not finite goes to standard error.

    >>> import wengert as wg
    >>> x = wg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = wg.log_cotangent(x * 2, "after doubling", lambda label, g: print(label, g.tolist()))
    >>> wg.sum(y * y).backward()
    after doubling [4.0, 8.0]
    """
    return _passed_on(with_logged_cotangent, x, {"label": label, "report": callback or _write_line})


def _write_line(label: str, cotangent: Any) -> None:
    line = f"{label}: shape {cotangent.shape}, dtype {cotangent.dtype}"
    if cotangent.size and type(cotangent) is boxing.Tensor:  # a tracer has no values to show
        size: Any = np.abs(np.asarray(boxing.data_of(cotangent)), dtype=np.float64)
        bad = int(np.count_nonzero(~np.isfinite(size)))
        line += f", norm {np.linalg.norm(size.reshape(-1)):.6g}, largest {size.max():.6g}"
        line += f", {bad} not finite" if bad else ""
    sys.stderr.write(line + "\n")
