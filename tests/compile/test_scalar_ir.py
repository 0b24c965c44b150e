"""Scalar IR: sharing, promotion, printing, verification, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wengert.compile import scalar_namespace as xp
from wengert.compile.scalar_ir import (
    FLOAT32,
    FLOAT64,
    INT64,
    SIGNATURES,
    KernelError,
    Scalar,
    ScalarFunction,
    apply,
    constant,
    input_scalar,
    topological,
    verify,
)
from wengert.compile.scalar_math import ANYWHERE, IMPLEMENTATIONS, ULP_BOUNDS, lower
from wengert.errors import DTypeError

X = input_scalar("x", "float32")
Y = input_scalar("y", "float64")
N = input_scalar("n", "int64")
B = input_scalar("b", "bool")


def function_of(*outputs: Scalar) -> ScalarFunction:
    return ScalarFunction("f", (X, Y, N, B), outputs)


def test_equal_expressions_are_one_object() -> None:
    assert xp.sin(X) * 2 is xp.sin(X) * 2.0
    assert xp.where(B, X, 0) is xp.where(B, X, 0.0)
    assert constant(0.0, FLOAT32) is not constant(-0.0, FLOAT32)
    assert constant(1, FLOAT32) is not constant(1, FLOAT64)
    assert xp.negative(xp.negative(X)) is X
    assert abs(-X) is abs(abs(X)) is abs(X)
    assert -abs(X) is not X
    assert constant(float("nan"), FLOAT32) is constant(float("nan"), FLOAT32)


def test_a_common_subexpression_is_computed_once() -> None:
    both = function_of(xp.exp(X) + 1, 1 / (xp.exp(X) + 1))
    assert [scalar.op for scalar in topological(both.outputs)].count("exp") == 1


@pytest.mark.parametrize(
    ("expression", "dtype"),
    [
        (X + 1, "float32"),
        (X * 2.5, "float32"),
        (True * X, "float32"),
        (X + Y, "float64"),
        (X * np.float64(2), "float64"),
        (np.float32(2) * X, "float32"),
        (B * X, "float32"),
        (N * 2, "int64"),
        (N * 2.5, "float64"),
        (N / 2, "float64"),
        (xp.sin(N), "float64"),
        (X > 1, "bool"),
        (xp.where(B, 0.5, 1), "float64"),
        (xp.where(B, X, 1), "float32"),
        (xp.where(B, 0.5, B), "float64"),
        (xp.logical_and(X, N), "bool"),
        (xp.sign(N), "int64"),
        (X**2, "float32"),
        (2.0**X, "float32"),
        (xp.zeros_like(X), "float32"),
        (xp.astype(X, np.int32), "int32"),
        (N & 3, "int64"),
        (~B, "bool"),
    ],
    ids=str,
)
def test_types_are_those_of_numpy(expression: Scalar, dtype: str) -> None:
    assert expression.dtype == np.dtype(dtype)


def test_printing_names_shared_values_once() -> None:
    out = xp.exp(X) / (1 + xp.exp(X))
    assert str(ScalarFunction("f", (X,), (out,))) == (
        "f(x: f32):\n    %0: f32 = exp x\n    %1: f32 = add 1.0, %0\n    %2: f32 = divide %0, %1\n    return %2"
    )
    assert repr(out) == "<f32 divide exp, add>"


def test_what_a_kernel_cannot_do_is_refused_with_the_reason() -> None:
    with pytest.raises(KernelError, match="'gammaln'"):
        xp.gammaln(X)
    with pytest.raises(KernelError, match="where"):
        bool(X > 0)
    with pytest.raises(KernelError, match="complex64"):
        input_scalar("z", "complex64")
    with pytest.raises(KernelError, match=r"add.*str"):
        apply("add", X, "one")
    with pytest.raises(DTypeError, match=r"bitwise_and.*float32"):
        _ = X & 1
    with pytest.raises(KernelError, match=r"floor_divide.*integers"):
        lower(function_of(N // 2))
    with pytest.raises(KernelError, match="index"):
        X[0]


def test_the_verifier_notices_malformed_graphs() -> None:
    good = function_of(xp.sin(X) + Y)
    verify(good)
    verify(lower(good)[0], machine=True)
    with pytest.raises(AssertionError, match="sin is not a machine operation"):
        verify(good, machine=True)
    with pytest.raises(AssertionError, match="not an input of f"):
        verify(ScalarFunction("f", (X,), (Y + 1,)))
    for op, operands, dtype in [
        ("add", (X, Y), FLOAT64),
        ("add", (X,), FLOAT32),
        ("add", (X, X), FLOAT64),
        ("where", (X, X, X), FLOAT32),
        ("shift_left", (X, X), FLOAT32),
        ("no_such_thing", (X,), FLOAT32),
    ]:
        bad = Scalar()
        bad.op, bad.operands, bad.dtype, bad.payload = op, operands, dtype, None
        with pytest.raises(AssertionError):
            verify(function_of(bad))


def test_every_function_of_mathematics_has_an_implementation_and_a_bound() -> None:
    functions = {name for name, signature in SIGNATURES.items() if not signature.machine}
    assert functions == set(IMPLEMENTATIONS) == set(ULP_BOUNDS)
    assert set(ANYWHERE) <= functions


def test_a_deep_expression_needs_no_recursion() -> None:
    deep: Any = X
    for _ in range(20_000):
        deep = deep + 1
    assert len(topological([deep])) == 20_002
    verify(function_of(deep))
    del deep


def test_bits_are_integers_of_the_same_size() -> None:
    assert (N >> 1).dtype == INT64
    assert xp.right_shift(N, 70).dtype == INT64


def test_a_missing_function_is_a_missing_attribute() -> None:
    # Others ask every module that is loaded for names of theirs.
    assert not hasattr(xp, "torch")
    with pytest.raises(KernelError, match="no function 'cumsum'"):
        xp.cumsum  # noqa: B018
