"""The functions of mathematics on scalar IR: each brought down to machine operations, with a stated bound on its error.

Every implementation is branch-free, so that a loop over it vectorises. Where one holds only for a range of arguments,
`FAST_RANGES` says which, and `ANYWHERE` has the slower one that holds everywhere; a kernel runs the first and repeats
a block of elements with the second when an argument was out of range.
"""

from __future__ import annotations

from collections.abc import Callable

from ..scalar_ir import SIGNATURES, KernelError, Scalar, ScalarFunction, rebuild, with_operands
from . import arcs, arithmetic, error_function, exponential, logarithmic, trigonometric

Implementation = Callable[..., Scalar]

IMPLEMENTATIONS: dict[str, Implementation] = {
    name: getattr(module, name)
    for module, names in (
        (arithmetic, "maximum minimum remainder floor_divide hypot cbrt"),
        (exponential, "exp exp2 expm1 sinh cosh tanh"),
        (logarithmic, "log log2 log10 log1p power arcsinh arccosh arctanh"),
        (trigonometric, "sin cos tan"),
        (arcs, "arcsin arccos arctan arctan2"),
        (error_function, "erf erfc ndtr"),
    )
    for name in names.split()
}
ANYWHERE: dict[str, Implementation] = {
    "sin": trigonometric.sin_anywhere,
    "cos": trigonometric.cos_anywhere,
    "tan": trigonometric.tan_anywhere,
}
FAST_RANGES: dict[str, Implementation] = dict.fromkeys(ANYWHERE, trigonometric.in_fast_range)

ULP_BOUNDS: dict[str, tuple[float, float]] = {
    **{"exp": (1.0, 1.0), "exp2": (1.0, 1.0), "expm1": (1.2, 1.2), "sinh": (1.2, 1.2), "cosh": (1.0, 1.0)},
    **{"tanh": (1.6, 2.6), "log": (1.0, 1.0), "log2": (1.0, 1.0), "log10": (1.0, 1.0), "log1p": (1.5, 1.5)},
    **{"power": (0.6, 1.0), "cbrt": (0.6, 0.6), "hypot": (1.2, 1.2)},
    **{"arcsinh": (2.0, 2.0), "arccosh": (2.5, 2.5), "arctanh": (2.2, 2.2)},
    **{"sin": (1.0, 1.0), "cos": (1.0, 1.0), "tan": (1.0, 1.0)},
    **{"arcsin": (1.8, 1.8), "arccos": (1.2, 1.2), "arctan": (2.0, 2.0), "arctan2": (2.1, 2.1)},
    **{"erf": (1.6, 2.3), "erfc": (4.0, 4.0), "ndtr": (5.5, 5.5)},
    **dict.fromkeys(("maximum", "minimum", "remainder", "floor_divide"), (0.0, 0.0)),
}
"""Largest errors, float32 and float64, in units in the last place, over all arguments and subnormal results included.

Measured and then tested by tests/compile/test_scalar_math.py; the functions of zero bound return what NumPy returns.
"""


def lower(function: ScalarFunction, *, anywhere: bool = False) -> tuple[ScalarFunction, Scalar | None]:
    """Bring a function down to machine operations.

    Args:
        function: what to bring down.
        anywhere: use implementations that hold for all arguments.

    Returns:
        The function, and whether all arguments are in range (None: they always are).
    """
    conditions: dict[Scalar, None] = {}

    def change(scalar: Scalar, operands: tuple[Scalar, ...]) -> Scalar:
        if SIGNATURES[scalar.op].machine:
            return with_operands(scalar, operands)
        if scalar.op in ANYWHERE:
            if anywhere:
                return ANYWHERE[scalar.op](*operands)
            conditions[FAST_RANGES[scalar.op](*operands)] = None
        if scalar.dtype.kind == "i" and scalar.op not in ("maximum", "minimum"):
            raise KernelError(f"{scalar.op}: not available on integers in a kernel")
        result = IMPLEMENTATIONS[scalar.op](*operands)
        assert result.dtype == scalar.dtype, f"{scalar.op} on {scalar.dtype} was brought down to {result.dtype}"
        return result

    outputs = rebuild(function.outputs, change)
    in_range: Scalar | None = None
    for condition in conditions:
        in_range = condition if in_range is None else in_range & condition
    return ScalarFunction(function.name, function.inputs, outputs), in_range
