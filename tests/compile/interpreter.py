"""Runs scalar IR in NumPy, one operation at a time: what kernels are compared with, and how far they may differ.

With `noise`, every operation errs by a random share of the bound that is stated for it (Monte Carlo arithmetic, D. S.
Parker 1997). The spread of such runs says how far two correct implementations can be apart at each point: tolerances
follow from the arithmetic and the condition of the problem, and are typed in nowhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special

from wengert.compile.scalar_ir import SIGNATURES, Scalar, ScalarFunction, topological
from wengert.compile.scalar_math import ULP_BOUNDS

EXACT = frozenset("input constant negative absolute copysign where convert bitcast lookup fmod remainder".split())
NUMPY_BOUND = 4.0
"""NumPy's own vectorised functions err by at most 4 units in the last place."""
RUNS = 8

_NAMES = {"shift_left": "left_shift", "shift_right": "right_shift"}


def spread(function: ScalarFunction, *args: np.ndarray) -> list[np.ndarray]:
    """Return, for each output and point, how far correct implementations may differ."""
    plain = interpret(function, args)
    rng = np.random.default_rng(0)
    noisy = [interpret(function, args, rng) for _ in range(RUNS)]
    with np.errstate(all="ignore"):
        return [
            4 * np.nanmax([np.abs(run[i] - plain[i]) for run in noisy], axis=0) + 2 * np.spacing(np.abs(plain[i]))
            for i in range(len(plain))
        ]


def interpret(
    function: ScalarFunction, args: tuple[np.ndarray, ...], noise: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Return the outputs of a function for arrays of inputs, computed by NumPy in the function's own types."""
    values: dict[Scalar, Any] = dict(zip(function.inputs, args))
    with np.errstate(all="ignore"):
        for scalar in topological(function.outputs):
            if scalar not in values:
                value = _value(scalar, [values[operand] for operand in scalar.operands])
                if noise is not None and scalar.dtype.kind == "f" and scalar.op not in EXACT:
                    value = _perturbed(value, _bound(scalar), noise)
                values[scalar] = value
    shape = np.broadcast_shapes(*[np.shape(a) for a in args])
    return [np.broadcast_to(values[scalar], shape).astype(scalar.dtype) for scalar in function.outputs]


def _bound(scalar: Scalar) -> float:
    return 1.0 if SIGNATURES[scalar.op].machine else NUMPY_BOUND + ULP_BOUNDS.get(scalar.op, (0, 0))[0]


def _perturbed(value: Any, bound: float, noise: np.random.Generator) -> Any:
    value = np.asarray(value)
    moved = value + bound * noise.uniform(-1, 1, value.shape).astype(value.dtype) * np.spacing(np.abs(value))
    return np.where(np.isfinite(value) & (value != 0), moved, value).astype(value.dtype)


def _value(scalar: Scalar, operands: list[Any]) -> Any:
    op, dtype = scalar.op, scalar.dtype
    if op == "constant":
        return dtype.type(scalar.payload)
    if op == "where":
        return np.where(*operands)
    if op == "convert":
        return np.asarray(operands[0]).astype(dtype)
    if op == "fma":
        x, y, z = [np.asarray(operand, np.longdouble) for operand in operands]
        return (x * y + z).astype(dtype)
    name = _NAMES.get(op, op)
    function = getattr(np, name, None) or getattr(scipy.special, name)
    return np.asarray(function(*operands)).astype(dtype)
