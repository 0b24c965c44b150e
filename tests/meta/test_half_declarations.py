"""A half-declared operation, or one whose rules name what it does not have, never reaches a user."""

from __future__ import annotations

from typing import Any

import pytest

from tests.meta.throwaway import AXES, finish, total, total_transpose, wave
from wengert.core.primitive import Registry
from wengert.declare import elementwise, linear, opaque, reduction
from wengert.errors import DeclarationError


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
    operation = linear(samples=[])(summed)
    operation.transpose(total_transpose)
    operation.batched(summed)
    with pytest.raises(DeclarationError, match="has no samples, so nothing would check it"):
        registry.seal()


def summed(xp: Any, x: Any) -> Any:
    return xp.sum(x, axis=-1)


def test_a_rule_that_names_an_unknown_residual_is_refused(registry: Registry) -> None:
    def wave_partials(xp: Any, y: Any) -> Any:
        return (xp.cos(y),)

    with pytest.raises(DeclarationError, match=r"'y' is .*that wave has"):
        finish(wave(wave_partials), registry)


def test_a_transpose_that_names_an_unknown_residual_is_refused(registry: Registry) -> None:
    def total_transpose(xp: Any, out_bar: Any, shape: Any) -> Any:
        return xp.broadcast_to(out_bar, shape)

    with pytest.raises(DeclarationError, match=r"'shape' is .*that total has"):
        finish(total(total_transpose), registry)


def test_a_name_declared_twice_is_refused(registry: Registry) -> None:
    wave()
    with pytest.raises(DeclarationError, match="'wave' is declared twice"):
        wave()
