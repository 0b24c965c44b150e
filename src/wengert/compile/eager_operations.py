"""Programs of one operation: what eager code runs on large arrays in place of NumPy."""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend
from ..core import native
from ..core.primitive import BILINEAR, ELEMENTWISE, LINEAR, OPAQUE, REGISTRY
from ..typing import Params
from .eager import (
    OFF,
    Accounts,
    Program,
    Unkeyed,
    attempt,
    frozen,
    inverse,
    order_of,
    settled,
    tariff,
)
from .expand_attention import ATTENTION
from .graph import Equation, Graph, Value
from .llvm.machine import Machine

accounts = Accounts()
_MOST_OPERANDS = 32
"""Operands beyond which looking at all of them takes longer than it may."""
_NUMBERS = frozenset((bool, int, float, complex))
_KINDS = "fiub"
"""Kinds of dtypes that are computed natively; of complex numbers NumPy is in charge."""
_BYTE = 0.1e-9
"""Seconds that are saved for each byte that goes in."""
_FUNCTION = 0.8e-9
"""Seconds that are saved for each element of a function that is more than arithmetic."""
_PRODUCT, _WINDOW = 5e-12, 30e-12
"""Seconds that are saved for each operation of a matrix product, and of a convolution."""
_LARGE_PRODUCT = 1 << 18
"""Operations from which on a matrix product pays: BLAS, too, divides those among threads, for which there is no room
beside ours. Where other work keeps the cores busy, a product of 60 µs took 6 ms in it."""
_SUMS = ("sum_over", "mean_over")
_STEPS = 16
"""Steps of an LSTM that take as long to compile as another operation."""
_LARGE = 1 << 16
"""Elements from which on reductions and the like pay."""


class Operation(Program):
    """A program of one operation.

    Attributes:
        places: which operands are arrays.
        numbers: for each result, whether NumPy makes it a number.
    """

    __slots__ = ("multiple", "numbers", "places")

    def __init__(
        self, machine: Machine, primitive: Any, operands: Sequence[Any], params: Params, outs: Sequence[Any]
    ) -> None:
        inputs: list[Value] = []
        values: list[Any] = []
        equations: list[Equation] = []
        self.places: list[tuple[int, Any]] = []
        for place, operand in enumerate(operands):
            value: Any = operand
            if type(operand) is np.ndarray:
                axes = order_of(operand)
                self.places.append((place, axes))
                value = Value(operand.shape if axes is None else operand.transpose(axes).shape, operand.dtype)
                inputs.append(value)
                if axes is not None:
                    seen = Value(operand.shape, operand.dtype)
                    equations.append(Equation(REGISTRY["permute"], (value,), {"axes": inverse(axes)}, (seen,)))
                    value = seen
            values.append(value)
        results = tuple([Value(out.shape, out.dtype) for out in outs])
        equations.append(Equation(primitive, tuple(values), params, results))
        super().__init__(Graph(primitive.name, inputs, equations, results), machine)
        self.numbers = [isinstance(out, np.generic) for out in outs]
        self.multiple = primitive.multiple

    def __call__(self, operands: Sequence[Any]) -> Any:
        """Return what `primitive.impl` does."""
        outs = self.run([settled(operands[place], axes) for place, axes in self.places])
        if True in self.numbers:
            outs = [out[()] if is_number else out for out, is_number in zip(outs, self.numbers)]
        return tuple(outs) if self.multiple else outs[0]


def computed(primitive: Any, operands: Sequence[Any], params: Params) -> Any:
    """Return what native code makes of raw operands; None where it is NumPy's turn."""
    if primitive.view or len(operands) > _MOST_OPERANDS or _moves_about(primitive):
        return None  # sooner than a key is made, which may take as long as the operation itself
    try:
        copies = primitive.kind == BILINEAR or primitive.name in ATTENTION  # as NumPy does for its products
        key = (primitive, *[_key_of(x, copies) for x in operands], *[(k, frozen(v)) for k, v in params.items()])
    except Unkeyed:
        return None
    account = accounts.of(key, lambda: saving_of(primitive, operands))
    cost = tariff.operation * _parts_of(primitive, operands)
    program = account.usable(cost, lambda: _made(primitive, operands, params))
    return None if program is None else program(operands)


def _key_of(operand: Any, copies: bool) -> Any:
    kind = type(operand)
    if kind is np.ndarray:
        if operand.dtype.kind not in _KINDS or not operand.dtype.isnative:
            raise Unkeyed
        axes = order_of(operand)
        if axes is None and not copies and not operand.flags.c_contiguous:
            raise Unkeyed  # NumPy reads it as it lies
        return operand.shape, operand.dtype, axes
    if kind not in _NUMBERS:
        raise Unkeyed
    return frozen(operand)


def _made(primitive: Any, operands: Sequence[Any], params: Params) -> Any:
    if primitive.name not in REGISTRY or REGISTRY[primitive.name] is not primitive:
        return OFF  # the user's own: what it does is a matter of its Python code
    try:
        out = primitive.impl(backend.numpy, *operands, **params)
    except Exception:  # it will be raised again, where it can be explained
        return None
    outs = out if primitive.multiple else (out,)
    if not all([isinstance(y, (np.ndarray, np.generic)) and y.dtype.kind in _KINDS for y in outs]):
        return OFF
    if not all([y.flags.c_contiguous for y in outs]):
        return OFF  # how a result lies in memory decides what reshape gives: a view or a copy

    def make(machine: Machine) -> Any:
        program = Operation(machine, primitive, operands, params, outs)
        return program if program.executable.is_one_native_call else OFF

    return attempt(make)


def _moves_about(primitive: Any) -> bool:
    """Return whether an operation does nothing but move elements about, which is as quick in NumPy."""
    return primitive.kind == LINEAR and primitive.name not in _SUMS


def _parts_of(primitive: Any, operands: Sequence[Any]) -> float:
    """Return how many operations one comes to, as far as compiling is concerned."""
    return max(1.0, operands[0].shape[0] / _STEPS) if primitive.name == "lstm_sequence_states" else 1.0


def saving_of(primitive: Any, operands: Sequence[Any]) -> float:
    """Return about how many seconds native code saves each time: none if it does not pay."""
    arrays = [operand for operand in operands if type(operand) is np.ndarray]
    largest = max([array.size for array in arrays])
    seconds = sum([array.nbytes for array in arrays]) * _BYTE
    name, kind = primitive.name, primitive.kind
    if name in ("affine", "row_map", "matrix_product"):
        work = 2 * arrays[0].size * arrays[1].shape[-1 if name == "matrix_product" else 0]
        return seconds + work * _PRODUCT if work >= _LARGE_PRODUCT else 0.0
    if name in ATTENTION:
        return seconds + 4 * arrays[-3].size * arrays[-1].shape[-2] * _PRODUCT
    if name == "convolve":
        return seconds + 2 * arrays[0].size * arrays[1].size / arrays[1].shape[1] * _WINDOW
    if kind == ELEMENTWISE:
        least = native.least_of(name)
        return 0.0 if largest < least else seconds + largest * _FUNCTION * (least != native.FROM["add"])
    if kind == OPAQUE:
        return seconds + largest * _FUNCTION
    if _moves_about(primitive):
        return 0.0
    return seconds if largest >= _LARGE else 0.0


__all__ = ["Operation", "accounts", "computed", "saving_of"]
