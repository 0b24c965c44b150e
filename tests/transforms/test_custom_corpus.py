"""The checks of `wg.primitive`, tried on the library's own operations: no rule that is right is ever suspected, and
every one that was spoilt is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import backend
from wengert.core.primitive import NONDIFFERENTIABLE, REGISTRY, Primitive
from wengert.errors import DTypeError, WrongRuleError
from wengert.testing.samples import Case, cases

NAMES = sorted(primitive.name for primitive in REGISTRY if primitive.kind != NONDIFFERENTIABLE)
CALLS = 3
"""How many of the calls on which an operation is tested."""

SPOILT: dict[str, Callable[[Any], Any]] = {
    "sign": lambda bar: -bar,
    "factor": lambda bar: 1.05 * bar,
    "forgotten": lambda bar: None,
}


def as_users_own(primitive: Primitive, case: Case, spoil: Callable[[Any], Any] | None) -> Any:
    """Make a user's operation of one of the library's, with the library's rule, spoilt or not."""

    def forward(*xs: Any) -> Any:
        return primitive.impl(backend.numpy, *xs, **case.params)

    def pulled(out_bar: Any, xs: Any) -> Any:
        _, pullback = wg.vjp(lambda *ts: primitive.call(*ts, **case.params), *xs)
        bars = pullback(out_bar)
        return bars if spoil is None else tuple([None if bar is None else spoil(bar) for bar in bars])

    made = wg.primitive(forward)
    made.defvjp(pulled)
    return made


def has_gradient(primitive: Primitive, case: Case) -> bool:
    """Return whether there is anything to be spoilt."""
    tensors = [wg.tensor(a, requires_grad=True) if moves else a for a, moves in zip(case.arrays, case.moves)]
    out = primitive.call(*tensors, **case.params)
    total = sum([(y * y).sum() + y.sum() for y in (out if isinstance(out, tuple) else (out,)) if y.requires_grad])
    leaves = [t for t in tensors if isinstance(t, wg.Tensor) and t.requires_grad]
    bars = wg.autograd.grad(total, leaves, allow_unused=True)
    return any(bar is not None and bool((bar != 0).any()) for bar in bars)


@pytest.mark.parametrize("name", NAMES)
def test_the_checks_are_right_about_the_library(name: str) -> None:
    primitive = REGISTRY[name]
    for case in cases(primitive)[:CALLS]:
        for dtype in (np.float64, np.float32):
            call = case.cast(dtype)
            if not call.moving or any(getattr(a, "dtype", np.dtype(float)).kind == "c" for a in call.arrays):
                continue
            tensors = [wg.tensor(a, requires_grad=True) if moves else a for a, moves in zip(call.arrays, call.moves)]
            with np.errstate(all="ignore"):
                try:
                    as_users_own(primitive, call, None)(*tensors)
                except DTypeError as error:
                    assert "the seed has dtype" in str(error)  # NumPy promotes scalars of the two kinds otherwise
                    continue
                if not has_gradient(primitive, call):
                    continue
                for spoil in SPOILT.values():
                    with pytest.raises(WrongRuleError):
                        as_users_own(primitive, call, spoil)(*tensors)
