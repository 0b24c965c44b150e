"""Fuses a composition of elementwise operations into one kernel, and its derivative into another.

The function runs once on tracers. Each operation that it calls comes to `ElementwiseTrace.process` through the
dispatcher, like every call of every transform; there its declared `impl` runs on scalar IR. The derivative is reverse
accumulation over what was recorded, with the operations' declared partials run on scalar IR: nothing is written twice.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.primitive import ELEMENTWISE, NONDIFFERENTIABLE, Primitive
from ..core.vspace import settle
from ..declare.elementwise import product_in
from ..errors import DTypeError, ShapeError
from ..tensor import Tensor
from . import scalar_namespace
from .llvm.compiling import Code, compile_kernels
from .llvm.machine import host_machine
from .llvm.nests import nest_kernel
from .nests import Access, Counter, Nest, Operand, Phase, Store
from .scalar_ir import KernelError, Scalar, ScalarFunction, constant, input_scalar

Array = np.ndarray
CONVERSIONS = frozenset({"cast"})
"""Linear operations that work element by element; their partial is one, and `settle` converts the cotangent back."""


class ScalarTracer(Tensor):
    """Stands for a Tensor while a function is recorded; holds what one element of it is."""

    __slots__ = ("scalar", "trace")
    scalar: Scalar
    trace: ElementwiseTrace

    def _raw(self) -> Any:
        return self.scalar

    @property
    def shape(self) -> Any:
        """What the scalar says."""
        return self.scalar.shape

    @property
    def ndim(self) -> Any:
        """What the scalar says."""
        return self.scalar.ndim

    @property
    def dtype(self) -> Any:
        """Type of the element."""
        return self.scalar.dtype

    def __bool__(self) -> bool:
        return bool(self.scalar)  # refuses, and says what to do instead

    def __repr__(self) -> str:
        return f"ScalarTracer({self.scalar!r})"


class Equation(NamedTuple):
    """One recorded operation: its arguments (tracers, numbers) and its result."""

    primitive: Primitive
    args: tuple[Any, ...]
    out: ScalarTracer


class ElementwiseTrace:
    """Records elementwise operations, running their impls on scalar IR."""

    level = 0

    def __init__(self) -> None:
        self.equations: list[Equation] = []

    def box(self, scalar: Scalar) -> ScalarTracer:
        """Return a tracer for a Scalar."""
        tracer = ScalarTracer()
        tracer.scalar = scalar
        tracer.trace = self
        tracer._node = None
        return tracer

    def process(self, primitive: Primitive, args: tuple[Any, ...], params: dict[str, Any]) -> ScalarTracer:
        """Run an operation on scalar IR and record it: what the dispatcher calls for every operation on tracers."""
        if primitive.kind not in (ELEMENTWISE, NONDIFFERENTIABLE) and primitive.name not in CONVERSIONS:
            raise KernelError(
                f"{primitive.name} is a {primitive.kind} operation; only elementwise ones fuse into one loop"
            )
        values = [scalar_of(primitive.name, arg) for arg in args]
        try:
            out = primitive.impl(scalar_namespace, *values, **params)
        except KernelError as error:
            raise KernelError(f"{primitive.name}: {error}") from None
        tracer = self.box(out)
        self.equations.append(Equation(primitive, args, tracer))
        return tracer


def scalar_of(name: str, arg: Any) -> Any:
    """Return the Scalar of a tracer, or the number that any other argument of an operation must be."""
    if isinstance(arg, ScalarTracer):
        return arg.scalar
    if isinstance(arg, Tensor):
        arg = arg.numpy()
    if isinstance(arg, (bool, int, float)):
        return arg
    if isinstance(arg, (np.ndarray, np.generic)) and arg.shape == ():
        return constant(arg.item(), arg.dtype)
    raise KernelError(f"{name}: an array that is not an argument of the fused function; pass it as one")


def partials_of(equation: Equation) -> list[Any]:
    """Return the local derivative for each argument: a Scalar, a number, or None where there is none."""
    primitive = equation.primitive
    if primitive.name in CONVERSIONS:
        return [1 if equation.args[0].scalar.dtype.kind == "f" else None]
    values = {name: scalar_of(primitive.name, arg) for name, arg in zip(primitive.arguments, equation.args)}
    values["out"] = equation.out.scalar
    saved = tuple([_residual(name, values) for name in primitive.residuals])
    wanted = [isinstance(arg, ScalarTracer) and arg.scalar.dtype.kind == "f" for arg in equation.args]
    partials: list[Any] = []
    for partial, tracked in zip(primitive.partial_rules, wanted):
        if partial is None or not tracked:
            partials.append(None)
        elif partial.constant is not None:
            partials.append(partial.constant)
        else:
            partials.append(partial.of(scalar_namespace, saved))
    return partials


def _residual(name: str, values: dict[str, Any]) -> Any:
    if name.endswith("_dtype"):
        return values[name.removesuffix("_dtype")].dtype
    return () if name.endswith("_shape") else values[name]


def accumulate(
    equations: Sequence[Equation], outputs: Sequence[ScalarTracer], out_bars: Sequence[Scalar]
) -> dict[ScalarTracer, Scalar]:
    """Return the cotangents of all tracers, by reverse accumulation as the tape's sweep does it."""
    bars: dict[ScalarTracer, Scalar] = {}

    def add(tracer: ScalarTracer, bar: Scalar) -> None:
        bars[tracer] = bars[tracer] + bar if tracer in bars else bar

    for output, bar in zip(outputs, out_bars):
        add(output, bar)
    masked = False
    for equation in reversed(equations):
        primitive = equation.primitive
        if primitive.kind == NONDIFFERENTIABLE or equation.out not in bars:
            continue
        out_bar = bars.pop(equation.out)
        guarded = masked or primitive.masks or primitive.singular
        for arg, partial in zip(equation.args, partials_of(equation)):
            if partial is not None:
                bar = product_in(scalar_namespace, partial, out_bar, guarded)
                add(arg, settle(scalar_namespace, bar, arg.scalar))
        masked = masked or primitive.masks
    return bars


ENDLESS = 1 << 40
"""The extent that kernels are made for: they run on as many blocks of it as an array has."""


class _Native(NamedTuple):
    """A compiled kernel, how many elements a unit of it takes, and what keeps it in the process."""

    call: Callable[..., None]
    block: int
    code: Code


class FusedKernel:
    """A function of scalars as a native function of arrays, compiled for each choice of uniform inputs when first met.

    Each argument is an array of the common shape, or a single number (0-d), which then serves all elements.
    """

    __slots__ = ("_native", "function")

    def __init__(self, function: ScalarFunction) -> None:
        self.function = function
        self._native: dict[tuple[bool, ...], _Native] = {}

    def __call__(self, *args: Any) -> tuple[Array, ...]:
        """Compute the outputs, in new arrays."""
        arrays, shape = self._prepared(args)
        uniform = tuple([array.ndim == 0 and shape != () for array in arrays])
        native = self._native.get(uniform)
        if native is None:
            native = self._native[uniform] = _compiled(self.function, uniform)
        outs = [np.empty(shape, scalar.dtype) for scalar in self.function.outputs]
        blocks, rest = divmod(outs[0].size, native.block)
        if blocks:
            _run(native, [*arrays, *outs], blocks)
        if rest:
            _run_rest(native, [*zip(arrays, uniform), *[(out, False) for out in outs]], len(arrays), rest)
        return tuple(outs)

    def _prepared(self, args: tuple[Any, ...]) -> tuple[list[Array], tuple[int, ...]]:
        name, inputs = self.function.name, self.function.inputs
        if len(args) != len(inputs):
            raise TypeError(f"{name} takes {len(inputs)} arrays, not {len(args)}")
        arrays = []
        for arg, scalar in zip(args, inputs):
            array = np.asarray(arg, scalar.dtype if type(arg) in (bool, int, float) else None)
            if array.dtype != scalar.dtype:
                raise DTypeError(
                    f"{name}: {scalar.payload} is {array.dtype}; the kernel was compiled for {scalar.dtype}"
                )
            arrays.append(np.ascontiguousarray(array) if array.ndim else array)
        shapes = {array.shape for array in arrays if array.ndim}
        if len(shapes) > 1:
            raise ShapeError(
                f"{name}: a fused kernel takes arrays of one shape and single numbers, not shapes {shapes}"
            )
        return arrays, shapes.pop() if shapes else ()


def _compiled(function: ScalarFunction, uniform: tuple[bool, ...]) -> _Native:
    inputs: dict[str, Access | Counter] = {
        scalar.payload: Access(place, 0, (0 if single else 1,))
        for place, (scalar, single) in enumerate(zip(function.inputs, uniform))
    }
    first = len(function.inputs)
    stores = [Store(Access(first + place, 0, (1,)), scalar) for place, scalar in enumerate(function.outputs)]
    operands = tuple([Operand(scalar.dtype) for scalar in (*function.inputs, *function.outputs)])
    name = re.sub(r"\W", "_", function.name, flags=re.ASCII)
    kernel = nest_kernel(Nest(name, (ENDLESS,), (Phase((), inputs, tuple(stores)),), operands, "outer"), host_machine())
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    code = compile_kernels([kernel])[kernel.name]
    return _Native(prototype(code.address), ENDLESS // kernel.units, code)


def _run(native: _Native, arrays: Sequence[Array], blocks: int) -> None:
    native.call((ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays]), 0, blocks, None)


def _run_rest(native: _Native, operands: Sequence[tuple[Array, bool]], inputs: int, rest: int) -> None:
    """Compute the elements after the last whole block, in a block of their own."""
    blocks: list[Array] = []
    for array, single in operands:
        block = np.zeros(native.block, array.dtype)
        block[:rest] = array if single else array.reshape(-1)[array.size - rest :]
        blocks.append(block)
    _run(native, blocks, 1)
    for (array, _), block in zip(operands[inputs:], blocks[inputs:]):
        array.reshape(-1)[array.size - rest :] = block[:rest]


class FusedPullback(FusedKernel):
    """The derivative of a fused function: cotangents of its floating inputs from its inputs and output cotangents."""

    __slots__ = ("places",)

    def __init__(self, function: ScalarFunction, places: tuple[int, ...]) -> None:
        super().__init__(function)
        self.places = places

    def __call__(self, *args: Any) -> tuple[Array, ...]:
        """Take the inputs, then one cotangent for each output; return one for each floating input, of its shape."""
        bars = super().__call__(*args)
        return tuple(
            [
                bar if np.ndim(args[place]) or not bar.ndim else bar.sum(dtype=bar.dtype)
                for place, bar in zip(self.places, bars)
            ]
        )


def compile_elementwise(
    function: Callable[..., Any], arity: int, dtype: Any | Sequence[Any]
) -> tuple[FusedKernel, FusedPullback]:
    """Compile a composition of elementwise operations, and its derivative.

    Args:
        function: a plain function of the library's operations; returns one Tensor or a tuple of them.
        arity: how many arrays it takes.
        dtype: their dtype, or a sequence with one for each.

    Returns:
        `forward(*inputs) -> outputs` and `backward(*inputs, *output_cotangents) -> input_cotangents`.

    Raises:
        KernelError: an operation is not elementwise, or calls a function that scalar IR has not.
    """
    kinds: Any = dtype if isinstance(dtype, (list, tuple)) else [dtype] * arity
    dtypes = [np.dtype(kind) for kind in kinds]
    name = getattr(function, "__name__", "fused")
    trace = ElementwiseTrace()
    inputs = [trace.box(input_scalar(f"x{place}", kind)) for place, kind in enumerate(dtypes)]
    answer = function(*inputs)
    outputs = list(answer) if isinstance(answer, (list, tuple)) else [answer]
    if not all([isinstance(output, ScalarTracer) for output in outputs]):
        raise KernelError(f"{name}: an output does not depend on the inputs")
    scalars = tuple([tracer.scalar for tracer in inputs])
    forward = ScalarFunction(name, scalars, tuple([output.scalar for output in outputs]))

    seeds = [input_scalar(f"bar{place}", output.scalar.dtype) for place, output in enumerate(outputs)]
    bars = accumulate(trace.equations, outputs, seeds)
    places = tuple([place for place, kind in enumerate(dtypes) if kind.kind == "f"])
    results = tuple([bars[inputs[i]] if inputs[i] in bars else constant(0, dtypes[i]) for i in places])
    backward = ScalarFunction(f"{name} pullback", (*scalars, *seeds), results)
    return FusedKernel(forward), FusedPullback(backward, places)
