"""The checks, checked: rules are broken on purpose, and the check that is meant to notice must notice.

Each case declares throw-away operations in a registry of their own, or breaks a record of the library for the length
of one test. A healthy twin shows that a check fails for the break and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

import wengert as wg
from tests.meta.damage import (
    Plan,
    batch_along_the_wrong_axis,
    batch_slightly_off,
    batch_that_takes_the_axis_to_be_first,
    excessive,
    generous,
    hoarding,
    impl_slightly_off,
    jvp_of_dense_zeros,
    jvp_slightly_off,
    jvp_that_forgets_an_argument,
    jvp_wrong_on_tensors,
    pull_masked_like_any,
    pull_masked_that_hides,
    pull_of_everything,
    pull_of_opposite_sign,
    pull_slightly_off,
    pull_that_upcasts,
    pull_tracked_detached,
    pull_tracked_of_a_constant_seed,
    pull_tracked_of_constant_residuals,
    pull_tracked_off_the_tape,
    pull_tracked_slightly_off,
    pull_without_sum,
    push_slightly_off,
    push_that_upcasts,
    stale,
)
from tests.meta.throwaway import (
    chained,
    contraction,
    contraction_for_x,
    contraction_for_y,
    contraction_of_wrong_transpose,
    doubled,
    doubled_jvp,
    doubled_jvp_of_wrong_sign,
    doubled_vjp,
    doubled_vjp_of_wrong_sign,
    energy,
    energy_of_wrong_factor,
    energy_partials,
    finish,
    impl_of_low_precision,
    impl_of_wrong_dtype,
    impl_of_wrong_value,
    impl_that_looks_at_memory,
    impl_that_writes,
    impl_with_a_jump,
    parted,
    parted_vjp_unguarded,
    partials_of_one,
    partials_of_two,
    product,
    steps,
    total,
    total_of_wrong_factor,
    total_transpose,
    total_transpose_by_size,
    total_transpose_that_writes,
    unary,
    wave,
    wave_of_nan,
    wave_of_wrong_factor,
    wave_of_wrong_residual,
    wave_of_wrong_sign,
    wave_slightly_off,
)
from tests.stateful.test_programs import Programs
from wengert.core.primitive import ELEMENTWISE, NONDIFFERENTIABLE, REGISTRY, Primitive, Registry
from wengert.core.zeros import ZERO
from wengert.declare import at
from wengert.testing import CHECKS, check_grads, check_rule, checks_of, run_check
from wengert.testing.recording import Recorded, dense
from wengert.testing.samples import cases

Build = Callable[[], Any]


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
    pytest.param(lambda: parted(parted_vjp_unguarded), "masked", id="opaque-mask-forgotten"),
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
    pytest.param(MULTIPLY, jvp_that_forgets_an_argument, "pushed", id="tangent-forgotten-by-transforms"),
    pytest.param(MULTIPLY, batch_along_the_wrong_axis, "mapped", id="out-axis-by-vmap"),
    pytest.param(SIN, pull_tracked_of_constant_residuals, "nested", id="constant-residuals-by-transforms"),
    pytest.param(SIN, pull_tracked_of_a_constant_seed, "nested", id="constant-seed-by-transforms"),
    pytest.param(SIN, batch_along_the_wrong_axis, "mapped-derivatives", id="out-axis-by-transforms"),
    pytest.param(SIN, push_that_upcasts, "precision", id="tangent-upcast"),
]


@pytest.mark.parametrize(("primitive", "damage", "check"), BROKEN_RECORDS)
def test_a_broken_record_is_noticed(
    primitive: Primitive,
    damage: Callable[[Primitive], dict[str, Any]],
    check: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_check(primitive, check)
    for part, broken in damage(primitive).items():
        monkeypatch.setattr(primitive, part, broken)
    demand_noticed(primitive, check)


# One part in a million, in every operation: no sample and no domain is so poor that it would not show.


def has_a_derivative(primitive: Primitive) -> bool:
    """Return whether the derivative of an operation is anything but zero (that of a staircase is not)."""
    if primitive.kind == NONDIFFERENTIABLE:
        return False
    for case in cases(primitive):
        recorded = Recorded(primitive.call, case)
        bars = recorded.pull(recorded.seeds(np.random.default_rng(0)))
        if any(bar is not None and np.any(bar) for bar in dense(bars)):
            return True
    return False


DIFFERENTIABLE = [primitive for primitive in REGISTRY if has_a_derivative(primitive)]


def test_most_operations_have_a_derivative() -> None:
    assert len(DIFFERENTIABLE) > len(REGISTRY) / 2


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        (pull_slightly_off, "adjoint"),
        (pull_tracked_slightly_off, "modes"),
        (pull_tracked_detached, "second"),
        (jvp_slightly_off, "jvp"),
        (batch_slightly_off, "batch"),
        (jvp_slightly_off, "pushed"),
        (batch_slightly_off, "mapped"),
        (jvp_slightly_off, "nested"),
        (pull_tracked_slightly_off, "nested"),
        (batch_slightly_off, "mapped-derivatives"),
        (pull_tracked_slightly_off, "mapped-derivatives"),
        (impl_slightly_off, "forward"),
    ],
)
def test_one_part_in_a_million_is_noticed_in_every_operation(
    damage: Callable[[Primitive], dict[str, Any]], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for primitive in DIFFERENTIABLE:
        if check == "forward" and primitive.reference is None:
            continue
        with monkeypatch.context() as patch:
            for part, broken in damage(primitive).items():
                patch.setattr(primitive, part, broken)
            demand_noticed(primitive, check)


def test_one_part_in_a_million_is_noticed_in_every_quick_push(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = [p for p in DIFFERENTIABLE if p.kind == ELEMENTWISE and len(p.arguments) <= 2]
    assert len(quick) > 40
    for primitive in quick:
        with monkeypatch.context() as patch:
            for part, broken in push_slightly_off(primitive).items():
                patch.setattr(primitive, part, broken)
            demand_noticed(primitive, "pushed")


# What the tape keeps.


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


# The list of checks itself.


def test_every_check_notices_something() -> None:
    noticed = {parameters.values[1] for parameters in WRONG_RULES} | {
        parameters.values[2] for parameters in BROKEN_RECORDS
    }
    noticed |= {"forward", "memory", "empty", "residuals"}  # the tests above that name them in the test itself
    assert noticed == set(CHECKS)


def test_an_operation_without_derivative_is_spared_the_checks_of_derivatives(registry: Registry) -> None:
    assert set(checks_of(steps(registry))) == {"forward", "zeros", "batch", "mapped", "memory", "empty"}


# The state machine over whole programs.


@pytest.mark.parametrize(
    ("primitive", "damage"),
    [
        pytest.param(MULTIPLY, pull_of_opposite_sign, id="sign"),
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
