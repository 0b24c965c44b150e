"""Throw-away operations of every kind, sound or wrong in one place, for the tests of the checks.

They are declared in whatever registry is in force: see the fixture `registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wengert.core.primitive import Primitive, Registry
from wengert.core.zeros import NO_TANGENT
from wengert.declare import Sample, bilinear, elementwise, linear, nondifferentiable, opaque, reduction

MATRIX = [Sample((2, 3))]
AXES = [Sample((2, 3), axis=(1,), keepdims=False), Sample((3,), axis=(0,), keepdims=True)]


def finish(operation: Any, registry: Registry) -> Primitive:
    registry.seal()
    return operation.primitive


def wave(partials: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Sine, with whatever partials."""

    def wave(xp: Any, x: Any) -> Any:
        return xp.sin(x)

    def wave_partials(xp: Any, x: Any) -> Any:
        return (xp.cos(x),)

    operation = elementwise(reference="numpy.sin", **options)(wave)
    operation.partials(partials or wave_partials)
    return operation


def product(partials: Callable[..., Any]) -> Any:
    def product(xp: Any, x: Any, y: Any) -> Any:
        return xp.multiply(x, y)

    operation = elementwise(reference="numpy.multiply")(product)
    operation.partials(partials)
    return operation


def total(transpose: Callable[..., Any], impl: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Sum along the last axis of a matrix."""

    def total(xp: Any, x: Any) -> Any:
        return xp.sum(x, axis=-1)

    operation = linear(samples=MATRIX, **options)(impl or total)
    operation.transpose(transpose)

    @operation.batched
    def total_batched(xp: Any, x: Any) -> Any:
        return xp.sum(x, axis=-1)

    return operation


def total_transpose(xp: Any, out_bar: Any, x_shape: Any) -> Any:
    return xp.broadcast_to(xp.expand_dims(out_bar, -1), x_shape)


def energy(partials: Callable[..., Any]) -> Any:
    """Sum of squares along axes."""

    def energy(xp: Any, x: Any, *, axis: Any, keepdims: Any) -> Any:
        return xp.sum(xp.square(x), axis=axis, keepdims=keepdims)

    operation = reduction(samples=AXES)(energy)
    operation.partials(partials)
    return operation


def contraction(for_x: Callable[..., Any], for_y: Callable[..., Any]) -> Any:
    """Matrix product."""

    def contraction(xp: Any, x: Any, y: Any) -> Any:
        return xp.matmul(x, y)

    operation = bilinear(samples=[Sample((2, 3), (3, 4)), Sample((2, 2), (2, 2))], reference="numpy.matmul")(
        contraction
    )
    operation.transpose_of("x")(for_x)
    operation.transpose_of("y")(for_y)

    @operation.batched
    def contraction_batched(xp: Any, x: Any, y: Any) -> Any:
        return xp.matmul(x, y)

    return operation


def contraction_for_x(xp: Any, out_bar: Any, y: Any) -> Any:
    return xp.matmul(out_bar, xp.swapaxes(y, -1, -2))


def contraction_for_y(xp: Any, out_bar: Any, x: Any) -> Any:
    return xp.matmul(xp.swapaxes(x, -1, -2), out_bar)


def energy_partials(x: Any) -> Any:
    return 2 * x


def doubled(jvp: Callable[..., Any], vjp: Callable[..., Any]) -> Any:
    """Twice the argument, with every rule written by hand."""

    def doubled(xp: Any, x: Any) -> Any:
        return 2 * x

    operation = opaque(samples=MATRIX)(doubled)
    operation.jvp(jvp)
    operation.vjp(vjp)

    @operation.batched
    def doubled_batched(xp: Any, x: Any) -> Any:
        return 2 * x

    return operation


def doubled_jvp(x_dot: Any) -> Any:
    return 2 * x_dot


def doubled_vjp(out_bar: Any) -> Any:
    return 2 * out_bar


def chained(transpose: Callable[..., Any] | None = None) -> Any:
    """Any number of vectors, one after the other."""

    def chained(xp: Any, *arrays: Any) -> Any:
        return xp.concatenate(arrays)

    def chained_transpose(xp: Any, out_bar: Any, arrays_shape: Any) -> Any:
        ends = np.cumsum([shape[0] for shape in arrays_shape])
        return tuple([out_bar[end - shape[0] : end] for end, shape in zip(ends, arrays_shape)])

    operation = linear(samples=[Sample((2,), (3,), (1,)), Sample((2,))])(chained)
    operation.transpose(transpose or chained_transpose)

    @operation.batched
    def chained_batched(xp: Any, *arrays: Any) -> Any:
        return xp.concatenate(arrays, axis=1)

    return operation


def parted(vjp: Callable[..., Any] | None = None) -> Any:
    """The squares of a vector's elements, and where they are: two results, one without derivative."""

    def parted(xp: Any, x: Any, *, start: int) -> Any:
        return xp.square(x[..., start:]), xp.argsort(x, axis=-1), x[..., :start] * 2

    def parted_jvp(xp: Any, x: Any, x_dot: Any, *, start: int) -> Any:
        return 2 * x[..., start:] * x_dot[..., start:], NO_TANGENT, x_dot[..., :start] * 2

    def parted_vjp(xp: Any, out_bar: Any, x: Any, *, start: int) -> Any:
        return xp.concatenate([2 * out_bar[2], xp.guarded_product(2 * x[..., start:], out_bar[0])], axis=-1)

    operation = opaque(samples=[Sample((4,), distinct=True, start=1)], multiple=True)(parted)
    operation.jvp(parted_jvp)
    operation.vjp(vjp or parted_vjp)

    @operation.batched
    def parted_batched(xp: Any, x: Any, *, start: int) -> Any:
        return xp.square(x[..., start:]), xp.argsort(x, axis=-1), x[..., :start] * 2

    return operation


def steps(registry: Registry) -> Primitive:
    @nondifferentiable(domain=(-2.0, 2.0), reference="numpy.floor")
    def steps(xp: Any, x: Any) -> Any:
        return xp.floor(x)

    return finish(steps, registry)


# Rules that are wrong.


def wave_of_wrong_sign(xp: Any, x: Any) -> Any:
    return (-xp.cos(x),)


def wave_of_wrong_factor(xp: Any, x: Any) -> Any:
    return (2 * xp.cos(x),)


def wave_of_wrong_residual(xp: Any, out: Any) -> Any:
    return (xp.cos(out),)


def wave_of_nan(xp: Any, x: Any) -> Any:
    return (xp.cos(x) * float("nan"),)


def wave_slightly_off(xp: Any, x: Any) -> Any:
    return (xp.cos(x) * (1 + 1e-7),)


def energy_of_wrong_factor(x: Any) -> Any:
    return x


def total_of_wrong_factor(xp: Any, out_bar: Any, x_shape: Any) -> Any:
    return 2 * total_transpose(xp, out_bar, x_shape)


def contraction_of_wrong_transpose(xp: Any, out_bar: Any, x: Any) -> Any:
    return xp.swapaxes(xp.matmul(xp.swapaxes(out_bar, -1, -2), x), -1, -2) * 2


def parted_vjp_unguarded(xp: Any, out_bar: Any, x: Any, *, start: int) -> Any:
    return xp.concatenate([2 * out_bar[2], out_bar[0] * (2 * x[..., start:])], axis=-1)


def doubled_jvp_of_wrong_sign(x_dot: Any) -> Any:
    return -2 * x_dot


def doubled_vjp_of_wrong_sign(out_bar: Any) -> Any:
    return -2 * out_bar


# Forward computations that are wrong.


def impl_of_wrong_value(xp: Any, x: Any) -> Any:
    return xp.sin(x) + 1e-9


def impl_of_wrong_dtype(xp: Any, x: Any) -> Any:
    return xp.multiply(x, np.float64(2))


def impl_of_low_precision(xp: Any, x: Any) -> Any:
    return xp.astype(xp.astype(xp.asarray(x), np.float16), np.asarray(x).dtype)


def impl_that_looks_at_memory(xp: Any, x: Any) -> Any:
    return xp.sum(x, axis=-1) * (1 if x.flags.c_contiguous else 2)


def impl_that_writes(xp: Any, x: Any) -> Any:
    if type(x) is np.ndarray and x.flags.writeable and not x.flags.c_contiguous:
        x[...] = x[...] + 1e-3
    return xp.sum(x, axis=-1)


def impl_with_a_jump(xp: Any, x: Any) -> Any:
    return xp.floor(x * 1e5)


def partials_of_two() -> Any:
    return (2,)


def partials_of_one() -> Any:
    return (1,)


def unary(impl: Callable[..., Any], partials: Callable[..., Any], **options: Any) -> Any:
    operation = elementwise(**options)(impl)
    operation.partials(partials)
    return operation


def total_transpose_by_size(xp: Any, out_bar: Any, x_shape: Any) -> Any:
    return total_transpose(xp, xp.reshape(xp.reshape(out_bar, (-1, x_shape[0])), out_bar.shape), x_shape)


def total_transpose_that_writes(xp: Any, out_bar: Any, x_shape: Any) -> Any:
    if type(out_bar) is np.ndarray and out_bar.flags.writeable:
        out_bar *= 1.5
    return total_transpose(xp, out_bar, x_shape)
