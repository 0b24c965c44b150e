"""The checks, checked: rules are broken on purpose, and the check that is meant to notice must notice.

Each case declares throw-away operations in a registry of their own, or breaks a record of the library for the length
of one test. A healthy twin shows that a check fails for the break and for nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import wengert as wg
from tests.stateful.test_programs import Programs
from wengert.core import boxing
from wengert.core.primitive import Primitive, Registry
from wengert.core.zeros import NO_TANGENT, ZERO
from wengert.declare import Sample, at, bilinear, elementwise, linear, nondifferentiable, opaque, reduction
from wengert.errors import DeclarationError
from wengert.testing import CHECKS, check_grads, check_rule, checks_of, run_check

Build = Callable[[], Any]
MATRIX = [Sample((2, 3))]
AXES = [Sample((2, 3), axis=(1,), keepdims=False), Sample((3,), axis=(0,), keepdims=True)]


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry for this test alone."""
    fresh = Registry()
    for module in ("elementwise", "structured", "opaque"):
        monkeypatch.setattr(sys.modules[f"wengert.declare.{module}"], "REGISTRY", fresh)
    return fresh


def finish(operation: Any, registry: Registry) -> Primitive:
    registry.seal()
    return operation.primitive


# Declarations that are sound, or broken in one place.


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


def parted(jvp: Callable[..., Any] | None = None) -> Any:
    """The squares of a vector's elements, and where they are: two results, one without derivative."""

    def parted(xp: Any, x: Any, *, start: int) -> Any:
        return xp.square(x[..., start:]), xp.argsort(x, axis=-1), x[..., :start] * 2

    def parted_jvp(xp: Any, x: Any, x_dot: Any, *, start: int) -> Any:
        return 2 * x[..., start:] * x_dot[..., start:], NO_TANGENT, x_dot[..., :start] * 2

    def parted_vjp(xp: Any, out_bar: Any, x: Any, *, start: int) -> Any:
        return xp.concatenate([2 * out_bar[2], out_bar[0] * (2 * x[..., start:])], axis=-1)

    operation = opaque(samples=[Sample((4,), distinct=True, start=1)], multiple=True)(parted)
    operation.jvp(jvp or parted_jvp)
    operation.vjp(parted_vjp)

    @operation.batched
    def parted_batched(xp: Any, x: Any, *, start: int) -> Any:
        return xp.square(x[..., start:]), xp.argsort(x, axis=-1), x[..., :start] * 2

    return operation


def steps(registry: Registry) -> Primitive:
    @nondifferentiable(domain=(-2.0, 2.0), reference="numpy.floor")
    def steps(xp: Any, x: Any) -> Any:
        return xp.floor(x)

    return finish(steps, registry)


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(wave, id="elementwise"),
        pytest.param(lambda: wave(special=[at(0.0, out=0.0, partials=(1.0,))]), id="special"),
        pytest.param(lambda: product(lambda x, y: (y, x)), id="binary"),
        pytest.param(lambda: total(total_transpose), id="linear"),
        pytest.param(lambda: energy(energy_partials), id="reduction"),
        pytest.param(lambda: contraction(contraction_for_x, contraction_for_y), id="bilinear"),
        pytest.param(lambda: doubled(doubled_jvp, doubled_vjp), id="opaque"),
        pytest.param(chained, id="variadic"),
        pytest.param(parted, id="several-results"),
    ],
)
def test_sound_declarations_pass(build: Build, registry: Registry) -> None:
    check_rule(finish(build(), registry))


def test_a_sound_nondifferentiable_operation_passes(registry: Registry) -> None:
    check_rule(steps(registry))


# Rules that are wrong. The JVP and the pull follow from one rule, so only the numbers can tell.


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


def doubled_jvp_of_wrong_sign(x_dot: Any) -> Any:
    return -2 * x_dot


def doubled_vjp_of_wrong_sign(out_bar: Any) -> Any:
    return -2 * out_bar


WRONG_RULES = [
    pytest.param(lambda: wave(wave_of_wrong_sign), "jvp", id="sign"),
    pytest.param(lambda: wave(wave_of_wrong_factor), "jvp", id="factor"),
    pytest.param(lambda: wave(wave_slightly_off), "jvp", id="factor-of-almost-one"),
    pytest.param(lambda: wave(wave_of_wrong_residual), "jvp", id="out-for-x"),
    pytest.param(lambda: wave(wave_of_nan), "jvp", id="nan"),
    pytest.param(lambda: product(lambda x, y: (x, y)), "jvp", id="wrong-argument"),
    pytest.param(lambda: energy(energy_of_wrong_factor), "jvp", id="reduction-factor"),
    pytest.param(lambda: total(total_of_wrong_factor), "adjoint", id="transpose-factor"),
    pytest.param(
        lambda: contraction(contraction_for_x, contraction_of_wrong_transpose), "adjoint", id="bilinear-transpose"
    ),
    pytest.param(lambda: doubled(doubled_jvp_of_wrong_sign, doubled_vjp), "jvp", id="jvp-sign"),
    pytest.param(lambda: doubled(doubled_jvp_of_wrong_sign, doubled_vjp), "adjoint", id="jvp-against-vjp"),
    pytest.param(lambda: doubled(doubled_jvp, doubled_vjp_of_wrong_sign), "adjoint", id="vjp-sign"),
    pytest.param(lambda: wave(special=[at(0.0, out=1.0, partials=(1.0,))]), "special", id="special-value"),
    pytest.param(lambda: wave(special=[at(0.0, out=0.0, partials=(0.5,))]), "special", id="special-partial"),
    pytest.param(lambda: wave(special=[at(0.0, out=0.0, partials=(np.nan,))]), "special", id="declared-nan-missing"),
    pytest.param(
        lambda: wave(special=[at(np.inf, out=0.0, partials=(None,))]), "special", id="nan-where-a-number-is-declared"
    ),
]


@pytest.mark.parametrize(("build", "check"), WRONG_RULES)
def test_a_wrong_rule_is_noticed(build: Build, check: str, registry: Registry) -> None:
    demand_noticed(finish(build(), registry), check)


def demand_noticed(record: Any, check: str) -> None:
    with pytest.raises(AssertionError, match=rf"^\[{check}\] {record.name}"):
        run_check(record, check)


# Forward computations that are wrong, and declarations that mislead.


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


@pytest.mark.parametrize(
    ("build", "check"),
    [
        pytest.param(lambda: unary(impl_of_wrong_value, wave_of_nan, reference="numpy.sin"), "forward", id="value"),
        pytest.param(lambda: unary(impl_of_wrong_dtype, partials_of_two), "dtypes", id="dtype-upcast"),
        pytest.param(lambda: unary(impl_of_low_precision, partials_of_one), "jvp", id="precision"),
        pytest.param(lambda: unary(impl_with_a_jump, partials_of_one), "jvp", id="jumps-everywhere"),
        pytest.param(lambda: total(total_transpose, impl_that_looks_at_memory), "memory", id="layout"),
        pytest.param(lambda: total(total_transpose, impl_that_writes), "memory", id="argument-written-to"),
        pytest.param(lambda: total(total_transpose_by_size), "empty", id="empty"),
        pytest.param(lambda: total(total_transpose_that_writes), "modes", id="out-bar-written-to"),
    ],
)
def test_a_wrong_impl_is_noticed(build: Build, check: str, registry: Registry) -> None:
    demand_noticed(finish(build(), registry), check)


# Records that are broken after their declaration was derived: what a fault in `declare` or `core` would look like.


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


def batch_along_the_wrong_axis(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.batch
    return {"batch": lambda xp, args, axes, params: (sound(xp, args, axes, params)[0], 1)}


def batch_that_takes_the_axis_to_be_first(primitive: Primitive) -> dict[str, Any]:
    sound = primitive.batch

    def batch(xp: Any, args: Any, axes: Any, params: Any) -> Any:
        return sound(xp, args, tuple(None if axis is None else 0 for axis in axes), params)

    return {"batch": batch}


class Plan:
    """Stands in for the plan that gathers residuals."""

    def __init__(self, gather: Callable[..., Any]) -> None:
        self.gather = gather


SIN, MULTIPLY, MATMUL = wg.sin.primitive, wg.multiply.primitive, wg.ops.matrix_product.primitive
BROKEN_RECORDS = [
    pytest.param(MULTIPLY, pull_without_sum, "adjoint", id="missing-sum"),
    pytest.param(MULTIPLY, pull_without_sum, "dtypes", id="missing-sum-by-shape"),
    pytest.param(SIN, pull_that_upcasts, "dtypes", id="cotangent-upcast"),
    pytest.param(SIN, pull_of_opposite_sign, "adjoint", id="pull-against-jvp"),
    pytest.param(SIN, pull_of_opposite_sign, "modes", id="pull-against-tracked-pull"),
    pytest.param(MULTIPLY, pull_of_everything, "subsets", id="cotangent-of-the-untracked"),
    pytest.param(SIN, pull_masked_like_any, "masked", id="mask-forgotten"),
    pytest.param(MATMUL, pull_masked_like_any, "masked", id="bilinear-mask-forgotten"),
    pytest.param(SIN, pull_masked_that_hides, "masked", id="nan-hidden"),
    pytest.param(SIN, pull_tracked_off_the_tape, "second", id="off-the-tape"),
    pytest.param(SIN, pull_tracked_of_a_constant_seed, "second", id="constant-seed"),
    pytest.param(SIN, pull_tracked_of_constant_residuals, "second", id="constant-residuals"),
    pytest.param(SIN, jvp_of_dense_zeros, "zeros", id="dense-zeros"),
    pytest.param(MULTIPLY, jvp_that_forgets_an_argument, "jvp", id="tangent-forgotten"),
    pytest.param(SIN, jvp_wrong_on_tensors, "modes", id="jvp-on-tensors"),
    pytest.param(SIN, batch_along_the_wrong_axis, "batch", id="out-axis"),
    pytest.param(MULTIPLY, batch_that_takes_the_axis_to_be_first, "batch", id="in-axis"),
]


@pytest.mark.parametrize(("primitive", "damage", "check"), BROKEN_RECORDS)
def test_a_broken_record_is_noticed(
    primitive: Primitive,
    damage: Callable[[Primitive], dict[str, Any]],
    check: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "differentiable" not in check:
        run_check(primitive, check) if primitive is not MATMUL else None
    for part, broken in damage(primitive).items():
        monkeypatch.setattr(primitive, part, broken)
    demand_noticed(primitive, check)


# What the tape keeps.


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


@pytest.mark.parametrize("damage", [stale, hoarding, generous, excessive])
def test_what_the_tape_keeps_beyond_its_need_is_noticed(
    damage: Callable[..., Any], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = contraction(contraction_for_x, contraction_for_y)
    primitive = finish(operation, registry)
    run_check(primitive, "residuals")
    monkeypatch.setitem(primitive.rules, "plan", Plan(damage(primitive)))
    demand_noticed(primitive, "residuals")


def test_a_residual_that_no_rule_uses_is_noticed(registry: Registry) -> None:
    def total_transpose_with_x(xp: Any, out_bar: Any, x: Any) -> Any:
        return total_transpose(xp, out_bar, (2, 3))

    demand_noticed(finish(total(total_transpose_with_x), registry), "residuals")


# Operations without derivative.


def test_an_operation_that_confuses_zero_with_no_tangent_is_noticed(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    primitive = steps(registry)
    sound = primitive.jvp
    monkeypatch.setattr(primitive, "jvp", lambda *args: (sound(*args)[0], ZERO))
    demand_noticed(primitive, "zeros")


def test_a_nondifferentiable_operation_on_the_tape_is_noticed(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    primitive = steps(registry)
    monkeypatch.setattr(primitive, "call", wg.sin)
    demand_noticed(primitive, "zeros")


# The refusal of half a declaration.


def test_an_elementwise_operation_without_partials_is_refused(registry: Registry) -> None:
    @elementwise()
    def half(xp: Any, x: Any) -> Any:
        return xp.sin(x)

    with pytest.raises(DeclarationError, match=r"'half' has no partial with respect to x; add @half\.partials"):
        registry.seal()


def test_an_elementwise_operation_with_one_partial_of_two_is_refused(registry: Registry) -> None:
    @elementwise()
    def half(xp: Any, x: Any, y: Any) -> Any:
        return xp.multiply(x, y)

    @half.partial("x")
    def half_partial_x(y: Any) -> Any:
        return y

    with pytest.raises(DeclarationError, match="no partial with respect to y"):
        registry.seal()


@pytest.mark.parametrize("kind", [linear, opaque, reduction])
def test_an_operation_without_rules_is_refused(kind: Any, registry: Registry) -> None:
    def half(xp: Any, x: Any, *, axis: Any, keepdims: Any) -> Any:
        return xp.sum(x, axis=axis, keepdims=keepdims)

    kind(samples=AXES)(half)
    with pytest.raises(DeclarationError, match=r"'half' lacks .*; add @half\."):
        registry.seal()


def test_an_operation_without_samples_is_refused(registry: Registry) -> None:
    operation = linear(samples=[])(lambda_free_sum)
    operation.transpose(total_transpose)
    operation.batched(lambda_free_sum)
    with pytest.raises(DeclarationError, match="has no samples, so nothing would check its rules"):
        registry.seal()


def lambda_free_sum(xp: Any, x: Any) -> Any:
    return xp.sum(x, axis=-1)


def test_a_rule_that_names_an_unknown_residual_is_refused(registry: Registry) -> None:
    def wave_partials(xp: Any, y: Any) -> Any:
        return (xp.cos(y),)

    with pytest.raises(DeclarationError, match="'y' is not something that wave has"):
        finish(wave(wave_partials), registry)


def test_a_transpose_that_names_an_unknown_residual_is_refused(registry: Registry) -> None:
    def total_transpose(xp: Any, out_bar: Any, shape: Any) -> Any:
        return xp.broadcast_to(out_bar, shape)

    with pytest.raises(DeclarationError, match="'shape' is not something that total has"):
        finish(total(total_transpose), registry)


def test_a_name_declared_twice_is_refused() -> None:
    wave()
    with pytest.raises(DeclarationError, match="'wave' is declared twice"):
        wave()


# The list of checks itself.


def test_every_check_notices_something() -> None:
    noticed = {parameters.values[1] for parameters in WRONG_RULES} | {
        parameters.values[2] for parameters in BROKEN_RECORDS
    }
    noticed |= {"forward", "memory", "empty", "residuals"}  # the tests above that name them in the test itself
    assert noticed == set(CHECKS)


def test_an_operation_without_derivative_is_spared_the_checks_of_derivatives(registry: Registry) -> None:
    assert set(checks_of(steps(registry))) == {"forward", "zeros", "batch", "memory", "empty"}


# The state machine over whole programs.


@pytest.mark.parametrize(
    ("primitive", "damage"),
    [
        pytest.param(SIN, pull_of_opposite_sign, id="sign"),
        pytest.param(MULTIPLY, pull_of_everything, id="partials-forgotten"),
        pytest.param(MULTIPLY, pull_tracked_off_the_tape, id="off-the-tape"),
        pytest.param(SIN, pull_tracked_of_constant_residuals, id="constant-residuals"),
    ],
)
def test_random_programs_notice_a_broken_record(
    primitive: Primitive, damage: Callable[[Primitive], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, broken in damage(primitive).items():
        monkeypatch.setattr(primitive, part, broken)
    unshrunk = settings(max_examples=100, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(Programs, settings=unshrunk)


# check_grads, for functions of anybody's.


def test_check_grads_passes_sound_functions() -> None:
    check_grads(lambda x, y: (wg.sin(x) * y, x / (y * y + 1.0)), (np.linspace(-1, 1, 3), 0.7))
    check_grads(lambda x: wg.sin(x) * x, (np.linspace(-1, 1, 3, dtype=np.float32),))
    check_grads(lambda x: 2.0 * x, ([0.1, 0.2],), order=3)


def test_check_grads_notices_a_gradient_cut_off() -> None:
    with pytest.raises(AssertionError, match="the derivative in reverse mode"):
        check_grads(lambda x: x * x.detach(), (np.array([1.0, 2.0]),), order=1)


def test_check_grads_notices_a_second_derivative_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    check_grads(wg.sin, (0.3,), order=2)
    for part, broken in pull_tracked_of_constant_residuals(SIN).items():
        monkeypatch.setattr(SIN, part, broken)
    check_grads(wg.sin, (0.3,), order=1)
    with pytest.raises(AssertionError, match="the gradient of sin"):
        check_grads(wg.sin, (0.3,), order=2)


def test_check_grads_refuses_what_it_cannot_check() -> None:
    with pytest.raises(ValueError, match="unknown mode 'sideways'"):
        check_grads(wg.sin, (0.3,), modes=("sideways",))
    with pytest.raises(ValueError, match="no argument is a floating"):
        check_grads(wg.sin, (3,))
    with pytest.raises(AssertionError, match="cannot be judged"):
        check_grads(lambda x: x * float(np.random.default_rng().random()), (0.3,))
