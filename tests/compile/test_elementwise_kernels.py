"""Every elementwise operation of the registry as a native kernel: value and derivatives equal those of the tape.

Generated: an operation declared tomorrow is checked tomorrow. What scalar IR cannot express is in `UNSUPPORTED`.
"""

from __future__ import annotations

import platform
from typing import Any
from zlib import crc32

import numpy as np
import pytest

import wengert as wg
from tests.compile.interpreter import spread
from wengert.compile.fuse_elementwise import FusedKernel, FusedPullback, compile_elementwise
from wengert.compile.scalar_ir import SIGNATURES, KernelError, ScalarFunction, topological
from wengert.core import boxing
from wengert.core.primitive import ELEMENTWISE, NONDIFFERENTIABLE, REGISTRY, Primitive

UNSUPPORTED = {
    "erfinv": "scalar_math has no inverse error function yet",
    "gammaln": "scalar_math has no gamma function yet",
    "digamma": "scalar_math has no gamma function yet",
    "polygamma": "scalar_math has no gamma function yet, and the order would choose the formula",
}
"""Elementwise operations that cannot become kernels, and why."""

WIDENING = {
    name: "where(tie, 0.5, mask): a Python number beside a boolean is float64"
    for name in ("maximum", "minimum", "fmax", "fmin")
}
"""Operations whose rules compute in float64 on float32 inputs, and why."""

COUNT = 500
OPERATIONS = [p for p in REGISTRY if p.kind == ELEMENTWISE]
SUPPORTED = [p for p in OPERATIONS if p.name not in UNSUPPORTED]
PREDICATES = [p for p in REGISTRY if p.kind == NONDIFFERENTIABLE and not p.parameters]
INTEGERS_ONLY = {"bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift"}
Compiled = tuple[FusedKernel, FusedPullback]


def named(primitive: Primitive) -> str:
    return primitive.name


def input_dtypes(primitive: Primitive, dtype: Any) -> list[np.dtype[Any]]:
    return [np.dtype(bool if name == "condition" else dtype) for name in primitive.arguments]


def compiled(primitive: Primitive, dtype: Any) -> Compiled:
    def call(*args: Any) -> Any:
        return primitive.call(*args)

    call.__name__ = primitive.name
    return compile_elementwise(call, len(primitive.arguments), input_dtypes(primitive, dtype))


def draw(primitive: Primitive, dtype: Any) -> list[np.ndarray]:
    """Draw arguments from the operation's domain."""
    rng = np.random.default_rng(crc32(primitive.name.encode()))
    domain = primitive.domain or (-2.0, 2.0)
    intervals = domain if isinstance(domain[0], tuple) else [domain] * len(primitive.arguments)
    return [
        rng.random(COUNT) < 0.5 if kind.kind == "b" else rng.uniform(low, high, COUNT).astype(kind)
        for (low, high), kind in zip(intervals, input_dtypes(primitive, dtype))
    ]


def leaf(array: np.ndarray) -> Any:
    tensor = boxing.box(array)
    return tensor.requires_grad_() if array.dtype.kind == "f" else tensor


def eager(primitive: Primitive, arrays: list[np.ndarray], seed: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return value and cotangents by the tape; the cotangent of what the tape does not reach is zero."""
    leaves = [leaf(array) for array in arrays]
    with np.errstate(all="ignore"):
        out = primitive.call(*leaves)
        if out.requires_grad:
            out.backward(boxing.box(seed))
    grads = [
        np.zeros_like(array) if tensor.grad is None else tensor.grad.numpy()
        for array, tensor in zip(arrays, leaves)
        if array.dtype.kind == "f"
    ]
    return out.detach().numpy(), grads


def is_exact(function: ScalarFunction) -> bool:
    """Whether nothing is left to an implementation: IEEE arithmetic alone."""
    return all(SIGNATURES[scalar.op].machine for scalar in topological(function.outputs))


def demand_equal(kernel: FusedKernel, args: list[np.ndarray], got: Any, want: Any, name: str) -> None:
    if is_exact(kernel.function):
        for one, other in zip(got, want):
            np.testing.assert_array_equal(one, other, err_msg=name)
        return
    for one, other, allowed in zip(got, want, spread(kernel.function, *args)):
        assert one.dtype == other.dtype and one.shape == other.shape, name
        finite = np.isfinite(other)
        np.testing.assert_array_equal(one[~finite], other[~finite], err_msg=name)
        excess = np.abs(one[finite] - other[finite]) / allowed[finite]
        worst = excess.argmax() if excess.size else 0
        assert not excess.size or excess[worst] <= 1, (
            f"{name}: at {[a[finite][worst] for a in args]} the kernel gives {one[finite][worst]!r}, "
            f"NumPy {other[finite][worst]!r}; {allowed[finite][worst]!r} would be allowed"
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("primitive", SUPPORTED, ids=named)
def test_kernel_equals_tape(primitive: Primitive, dtype: Any) -> None:
    forward, backward = compiled(primitive, dtype)
    arrays = draw(primitive, dtype)
    seed = np.random.default_rng(1).standard_normal(COUNT).astype(dtype)
    value, grads = eager(primitive, arrays, seed)
    demand_equal(forward, arrays, forward(*arrays), [value], primitive.name)
    bars = backward(*arrays, seed)
    assert len(bars) == len(grads)
    demand_equal(backward, [*arrays, seed], bars, grads, f"{primitive.name}, pulled back")


@pytest.mark.parametrize("primitive", [p for p in SUPPORTED if p.special], ids=named)
def test_kernel_returns_what_is_declared_at_special_points(primitive: Primitive) -> None:
    forward, backward = compiled(primitive, np.float64)
    kinds = input_dtypes(primitive, np.float64)
    for special in primitive.special:
        args = [np.asarray(x, kind) for x, kind in zip(special.point, kinds)]
        (out,) = forward(*args)
        bars = backward(*args, np.float64(1))
        declared = [d for d, kind in zip(special.partials, kinds) if kind.kind == "f"]
        for got, want, what in zip((out, *bars), (special.out, *declared), ("value", *["partial"] * 3)):
            if want is not None:
                np.testing.assert_allclose(got, want, rtol=1e-14, err_msg=f"{primitive.name}{special.point}: {what}")


@pytest.mark.parametrize("primitive", PREDICATES, ids=named)
def test_predicates_equal_numpy(primitive: Primitive) -> None:
    rng = np.random.default_rng(0)
    values = np.array([0.0, -0.0, 1.5, -2.0, np.inf, -np.inf, np.nan, 3.0])
    kind: Any = np.int64 if primitive.name in INTEGERS_ONLY else np.float64
    arrays = [rng.integers(0, 9, 64) if kind is np.int64 else rng.choice(values, 64) for _ in primitive.arguments]
    forward, _ = compiled(primitive, kind)
    want = primitive.call(*[boxing.box(array) for array in arrays]).numpy()
    np.testing.assert_array_equal(forward(*arrays)[0], want)


@pytest.mark.parametrize("primitive", SUPPORTED, ids=named)
def test_float32_stays_float32(primitive: Primitive) -> None:
    """A rule that widens costs twice the time, natively and in NumPy; an entry of the list that does not must go."""
    scalars = [s for kernel in compiled(primitive, np.float32) for s in topological(kernel.function.outputs)]
    assert any(s.dtype == np.float64 for s in scalars) == (primitive.name in WIDENING)


@pytest.mark.parametrize("name", ["exp", "sin", "gelu", "power", "logaddexp", "arctan2", "sinc"])
def test_a_small_error_is_noticed(name: str) -> None:
    """The tolerances are not so wide that a coefficient could be wrong in its last digits."""
    forward, _ = compiled(REGISTRY[name], np.float64)
    arrays = draw(REGISTRY[name], np.float64)
    (value,) = forward(*arrays)
    with pytest.raises(AssertionError, match="would be allowed"):
        demand_equal(forward, arrays, [value * (1 + 1e-13)], [value], name)


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_an_operation_listed_as_unsupported_is_so(name: str) -> None:
    """Fails when the list has an entry too many: remove it, and the operation is checked like all others."""
    with pytest.raises(KernelError, match=name):
        compiled(REGISTRY[name], np.float64)


def test_what_is_not_elementwise_is_refused_by_name() -> None:
    with pytest.raises(KernelError, match="sum_over is a linear operation"):
        compile_elementwise(wg.sum, 1, "float32")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other processors' NumPy orders zeros")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_of_two_zeros_the_second_is_taken_as_numpy_does(name: str, dtype: str) -> None:
    zeros = np.array([0.0, -0.0] * 9, dtype)
    compiled = wg.compile(getattr(wg, name))
    for x, y in ((zeros, -zeros), (zeros[:1], -zeros[:1]), (-zeros, zeros)):
        found = compiled(wg.tensor(x), wg.tensor(y)).numpy()
        np.testing.assert_array_equal(np.signbit(found), np.signbit(getattr(np, name)(x, y)))
