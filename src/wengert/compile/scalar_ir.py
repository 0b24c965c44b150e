"""Scalar IR: what one element of a fused kernel computes, as an immutable graph of primitive scalar operations.

A `Scalar` is an operation applied to other Scalars. Equal Scalars are the same object (hash-consing), so common
subexpressions are computed once. Operators and NumPy's promotion rules are built in: a Python number takes the type
of the other operand. Operations come in two levels: the machine level maps to one instruction each, and the
functions of mathematics are brought down to it by `scalar_math`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from ..errors import DTypeError, WengertError

DType = np.dtype[Any]
BOOL = np.dtype(np.bool_)
INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
TYPES: dict[DType, str] = {BOOL: "bool", INT32: "i32", INT64: "i64", FLOAT32: "f32", FLOAT64: "f64"}


class KernelError(WengertError, NotImplementedError):
    """A computation cannot become a kernel; the message names the operation and says why."""


class Signature(NamedTuple):
    """Operand kinds and result of an operation; operands of one letter have one type. See `KINDS` for the letters."""

    operands: str
    result: str
    machine: bool


KINDS = {"f": "f", "n": "fi", "i": "i", "l": "bi", "b": "b", "a": "bif"}
"""f: floating (integers become float64, as in NumPy); n: number; i: integer; l: bool or integer; b: bool; a: any."""

SIGNATURES: dict[str, Signature] = {}


def _declare(names: str, operands: str, result: str, *, machine: bool) -> None:
    for name in names.split():
        SIGNATURES[name] = Signature(operands, result, machine)


# Result "p": the type is the operation's payload. Leaves: `input` (payload: name), `constant` (payload: value).
_declare("input constant", "", "p", machine=True)
_declare("add subtract multiply", "nn", "n", machine=True)
_declare("negative absolute", "n", "n", machine=True)
_declare("divide copysign fmod", "ff", "f", machine=True)
_declare("fma", "fff", "f", machine=True)
_declare("sqrt floor ceil trunc rint", "f", "f", machine=True)
_declare("bitwise_and bitwise_or bitwise_xor", "ll", "l", machine=True)
_declare("shift_left shift_right shift_right_logical", "ii", "i", machine=True)
_declare("equal not_equal less less_equal", "aa", "b", machine=True)
_declare("where", "baa", "a", machine=True)
_declare("convert bitcast", "a", "p", machine=True)
_declare("lookup", "i", "p", machine=True)  # payload: (type, table); the index is in range by construction
_declare("maximum minimum remainder floor_divide", "nn", "n", machine=False)
_declare("power arctan2 hypot", "ff", "f", machine=False)
_declare("exp exp2 expm1 log log2 log10 log1p cbrt", "f", "f", machine=False)
_declare("sin cos tan arcsin arccos arctan", "f", "f", machine=False)
_declare("sinh cosh tanh arcsinh arccosh arctanh erf erfc ndtr", "f", "f", machine=False)


class Scalar:
    """One value of a kernel: an operation on other Scalars. Made by `apply`, `constant` and `input_scalar` alone."""

    __slots__ = ("__weakref__", "dtype", "op", "operands", "payload")
    __array_ufunc__ = None  # NumPy scalars and arrays leave binary operators to this class
    shape = ()
    ndim = 0
    size = 1

    op: str
    dtype: DType
    operands: tuple[Scalar, ...]
    payload: Any

    def __repr__(self) -> str:
        return f"<{TYPES[self.dtype]} {_describe(self, [operand.op for operand in self.operands])}>"

    def __bool__(self) -> bool:
        raise KernelError(
            "a kernel cannot branch on a value that is known only when it runs; select with where(condition, x, y)"
        )

    def astype(self, dtype: Any, copy: bool = True) -> Scalar:
        """Convert to another type; the Scalar itself if nothing changes."""
        return convert(self, np.dtype(dtype))

    def __getitem__(self, key: Any) -> Scalar:
        if key is Ellipsis or (type(key) is tuple and not key):
            return self
        raise KernelError("a kernel computes element by element; it cannot index")

    __hash__ = object.__hash__

    def __add__(self, other: Any) -> Scalar:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Scalar:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Scalar:
        return apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Scalar:
        return apply("subtract", other, self)

    def __mul__(self, other: Any) -> Scalar:
        return apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Scalar:
        return apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Scalar:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Scalar:
        return apply("divide", other, self)

    def __floordiv__(self, other: Any) -> Scalar:
        return apply("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Scalar:
        return apply("floor_divide", other, self)

    def __mod__(self, other: Any) -> Scalar:
        return apply("remainder", self, other)

    def __rmod__(self, other: Any) -> Scalar:
        return apply("remainder", other, self)

    def __pow__(self, other: Any) -> Scalar:
        return power(self, other)

    def __rpow__(self, other: Any) -> Scalar:
        return power(other, self)

    def __neg__(self) -> Scalar:
        return apply("negative", self)

    def __pos__(self) -> Scalar:
        return self

    def __abs__(self) -> Scalar:
        return apply("absolute", self)

    def __invert__(self) -> Scalar:
        return apply("bitwise_xor", self, True if self.dtype == BOOL else -1)

    def __and__(self, other: Any) -> Scalar:
        return apply("bitwise_and", self, other)

    def __or__(self, other: Any) -> Scalar:
        return apply("bitwise_or", self, other)

    def __xor__(self, other: Any) -> Scalar:
        return apply("bitwise_xor", self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __lshift__(self, other: Any) -> Scalar:
        return apply("shift_left", self, other)

    def __rshift__(self, other: Any) -> Scalar:
        return apply("shift_right", self, other)

    def __eq__(self, other: Any) -> Scalar:  # type: ignore[override]
        return apply("equal", self, other)

    def __ne__(self, other: Any) -> Scalar:  # type: ignore[override]
        return apply("not_equal", self, other)

    def __lt__(self, other: Any) -> Scalar:
        return apply("less", self, other)

    def __le__(self, other: Any) -> Scalar:
        return apply("less_equal", self, other)

    def __gt__(self, other: Any) -> Scalar:
        return apply("less", other, self)

    def __ge__(self, other: Any) -> Scalar:
        return apply("less_equal", other, self)


class _Reference(ref):  # type: ignore[type-arg]
    """A weak reference that knows under which key it is kept."""

    __slots__ = ("key",)
    key: tuple[Any, ...]


_interned: dict[tuple[Any, ...], _Reference] = {}
"""What `WeakValueDictionary` is, without a call of Python's for each look: half of all Scalars are asked for again."""


def _forget(reference: Any, interned: dict[tuple[Any, ...], _Reference] = _interned) -> None:
    if interned.get(reference.key) is reference:
        del interned[reference.key]


def _intern(op: str, dtype: DType, operands: tuple[Scalar, ...] = (), payload: Any = None) -> Scalar:
    # The identity of a NaN or a signed zero is its spelling; the ids of operands are safe, for the Scalar holds them.
    key = (op, dtype.char, None if payload is None else repr(payload), *map(id, operands))
    reference = _interned.get(key)
    known = None if reference is None else reference()
    if known is None:
        known = Scalar()
        known.op, known.dtype, known.operands, known.payload = op, dtype, operands, payload
        reference = _interned[key] = _Reference(known, _forget)
        reference.key = key
    return known


def stand_in(dtype: DType) -> Scalar:
    """Return a Scalar that equals no other, for an element of which only the type matters."""
    scalar = Scalar()
    scalar.op, scalar.dtype, scalar.operands, scalar.payload = "input", _supported(dtype, "a kernel"), (), "stand-in"
    return scalar


def input_scalar(name: str, dtype: Any) -> Scalar:
    """Return the Scalar that stands for the current element of the input `name`."""
    return _intern("input", _supported(np.dtype(dtype), name), (), name)


def constant(value: Any, dtype: DType) -> Scalar:
    """Return `value`, rounded to `dtype`, as a Scalar."""
    return _intern("constant", dtype, (), _supported(dtype, "a constant").type(value).item())


def _supported(dtype: DType, name: str) -> DType:
    if dtype not in TYPES:
        raise KernelError(f"{name}: kernels compute on {', '.join(map(str, TYPES))}, not on {dtype}")
    return dtype


def convert(x: Scalar, dtype: DType) -> Scalar:
    """Convert a Scalar to `dtype`: rounding, truncating towards zero, or comparing with zero for bool."""
    if x.dtype == dtype:
        return x
    if _supported(dtype, "astype") == BOOL:
        return apply("not_equal", x, 0)
    if x.op == "constant":
        return constant(x.payload, dtype)
    return _intern("convert", dtype, (x,), dtype)


def bitcast(x: Scalar, dtype: DType) -> Scalar:
    """Return the bits of a Scalar as a type of the same size."""
    return _intern("bitcast", dtype, (x,), dtype)


def lookup(table: Iterable[float], index: Scalar, dtype: DType) -> Scalar:
    """Return the entry of a constant table at an index that must be in range."""
    return _intern("lookup", dtype, (index,), (dtype, tuple(table)))


def apply(op: str, *args: Any) -> Scalar:
    """Apply an operation to Scalars, NumPy scalars and Python numbers, promoting them as NumPy 2 does."""
    signature = SIGNATURES[op]
    if len(args) != len(signature.operands):
        raise TypeError(f"{op} takes {len(signature.operands)} operands, not {len(args)}")
    types: dict[str, DType] = {}
    operands: list[Scalar] = []
    for letter, arg in zip(signature.operands, args):
        if letter not in types:
            alike = [other for kind, other in zip(signature.operands, args) if kind == letter]
            types[letter] = _common(op, letter, alike)
        operands.append(lift(arg, types[letter]))
    if op in ("negative", "absolute") and operands[0].op in ("negative", "absolute"):
        return _of_signed(op, operands[0])
    return _intern(op, types.get(signature.result, BOOL), tuple(operands))


def _of_signed(op: str, x: Scalar) -> Scalar:
    """Shorten --x, |-x| and ||x||, so that what a rule computes of -x is shared with what the impl computed of x."""
    if op == "absolute":
        return _intern("absolute", x.dtype, x.operands)
    return x.operands[0] if x.op == "negative" else _intern("negative", x.dtype, (x,))


def lift(value: Any, dtype: DType) -> Scalar:
    """Return a Scalar of type `dtype` for a Scalar, a NumPy scalar or a Python number."""
    return convert(value, dtype) if isinstance(value, Scalar) else constant(value, dtype)


def _common(op: str, letter: str, args: list[Any]) -> DType:
    """Return the type that operands of one kind take together: Python numbers are weak, everything else promotes."""
    first = args[0]
    if type(first) is Scalar and all([type(arg) is Scalar and arg.dtype is first.dtype for arg in args]):
        dtype = first.dtype
    else:
        dtype = _promoted(op, args)
    if letter == "f" and dtype in (INT32, INT64):
        dtype = FLOAT64
    if dtype.kind not in KINDS[letter]:
        raise DTypeError(f"{op}: cannot be computed on dtype {dtype}")
    return _supported(dtype, op)


def _promoted(op: str, args: list[Any]) -> DType:
    kinds: list[Any] = []
    for arg in args:
        if isinstance(arg, Scalar) or (isinstance(arg, (np.generic, np.ndarray)) and arg.shape == ()):
            kinds.append(arg.dtype)
        elif type(arg) in (bool, int, float):
            kinds.append(arg)
        else:
            raise KernelError(f"{op}: an operand of type {type(arg).__name__} is not a scalar of a kernel")
    return np.result_type(*kinds)


def power(x: Any, y: Any) -> Scalar:
    """Return x to the power y; exponents for which NumPy has an exact short form are written as that form."""
    if isinstance(x, Scalar) and x.dtype.kind == "f" and type(y) in (int, float):
        if y == 1:
            return x
        if y == 2:
            return x * x
        if y == -1:
            return 1 / x
        if y == 0.5:
            return apply("sqrt", x)
    return apply("power", x, y)


class ScalarFunction(NamedTuple):
    """A function of scalars: its input Scalars, in order, and the Scalars that it returns."""

    name: str
    inputs: tuple[Scalar, ...]
    outputs: tuple[Scalar, ...]

    def __str__(self) -> str:
        names = {scalar: str(scalar.payload) for scalar in self.inputs}
        lines = []
        for scalar in topological(self.outputs):
            if scalar not in names:
                text = _describe(scalar, [names[operand] for operand in scalar.operands])
                if scalar.op == "constant":
                    names[scalar] = text
                else:
                    names[scalar] = f"%{len(lines)}"
                    lines.append(f"    {names[scalar]}: {TYPES[scalar.dtype]} = {text}")
        head = ", ".join(f"{scalar.payload}: {TYPES[scalar.dtype]}" for scalar in self.inputs)
        return "\n".join(
            [f"{self.name}({head}):", *lines, f"    return {', '.join(names[scalar] for scalar in self.outputs)}"]
        )


def _describe(scalar: Scalar, operands: list[str]) -> str:
    if scalar.op in ("constant", "input"):
        return str(scalar.payload)
    table = f" in a table of {len(scalar.payload[1])}" if scalar.op == "lookup" else ""
    return f"{scalar.op} {', '.join(operands)}{table}"


def topological(outputs: Iterable[Scalar]) -> list[Scalar]:
    """Return every Scalar that the outputs need, operands first; without recursion."""
    order: dict[Scalar, None] = {}
    stack = list(outputs)[::-1]
    while stack:
        scalar, count = stack[-1], len(stack)
        for operand in scalar.operands[::-1]:
            if operand not in order:
                stack.append(operand)
        if len(stack) == count:
            order[stack.pop()] = None
    return list(order)


def rebuild(outputs: Iterable[Scalar], change: Callable[[Scalar, tuple[Scalar, ...]], Scalar]) -> tuple[Scalar, ...]:
    """Rebuild a graph bottom up: `change(scalar, new_operands)` returns what each Scalar becomes."""
    outputs = tuple(outputs)
    new: dict[Scalar, Scalar] = {}
    for scalar in topological(outputs):
        new[scalar] = change(scalar, tuple([new[operand] for operand in scalar.operands]))
    return tuple([new[output] for output in outputs])


def with_operands(scalar: Scalar, operands: tuple[Scalar, ...]) -> Scalar:
    """Return the same operation on other operands of the same types."""
    if all([new is old for new, old in zip(operands, scalar.operands)]):
        return scalar
    return _intern(scalar.op, scalar.dtype, operands, scalar.payload)


def verify(function: ScalarFunction, *, machine: bool = False) -> None:
    """Check operations, arities and types; with `machine`, that no function of mathematics is left.

    Raises:
        AssertionError: the graph is malformed: a fault of the compiler, never of the user's program.
    """
    inputs = set(function.inputs)  # by identity: `==` builds IR
    for scalar in topological(function.outputs):
        signature = SIGNATURES.get(scalar.op)
        assert signature is not None, f"unknown operation {scalar.op!r}"
        assert signature.machine or not machine, f"{scalar.op} is not a machine operation"
        assert len(scalar.operands) == len(signature.operands), f"{scalar!r} has the wrong number of operands"
        types: dict[str, DType] = {"b": BOOL}
        for letter, operand in zip(signature.operands, scalar.operands):
            assert operand.dtype.kind in KINDS[letter], f"{scalar!r}: an operand is {operand.dtype}"
            assert types.setdefault(letter, operand.dtype) == operand.dtype, f"{scalar!r}: operands of unequal types"
        assert scalar.dtype in TYPES and scalar.dtype == types.get(signature.result, scalar.dtype), repr(scalar)
        assert scalar.op != "input" or scalar in inputs, f"{scalar!r} is not an input of {function.name}"
