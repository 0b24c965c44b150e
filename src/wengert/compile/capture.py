"""Capture: a function runs once on tracers, and leaves a graph of all that it did.

A Tensor of outside becomes a tracer when an operation first meets it, in place, for all who hold it; at the end it
becomes again what it was. So nothing has to be said about where parameters, gradients and optimisers' state are kept.
Tracers know what they are worth in this run, so that Python code may ask; of large arrays that is computed only then.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import gc
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import backend
from ..core import boxing, capturing
from ..core.aliasing import Steps
from ..core.dispatch import explain
from ..core.primitive import BILINEAR, Primitive
from ..core.recording import set_recording
from ..core.tape import location, user_frame
from ..core.tracing import calling_frame, innermost_trace
from ..core.vspace import densify
from ..declare import packing
from ..tensor import tracer as _tracer  # noqa: F401 - makes the class of tracers known
from ..typing import Params
from .abstract import kind_of
from .captured import Brought, Captured
from .cells import Cell
from .cuts import cuts_before
from .entrance import Entrance
from .graph import Equation, Value
from .interpret import computed, operand_in
from .rolling import OperationLoop, can_be_rolled, roll, tried
from .sources import (
    CompileError,
)

_DEAR = 2
"""How many times as much as a sweep's end may be looked at before the sweep, to have its end used at once."""
_MUCH = 4096
"""Elements from which on an operation is not computed during a capture, if its result's shape and dtype are known."""


class CaptureTrace(Entrance):
    """One captured run of a function."""

    __slots__ = ()

    def lift(self, tensor: Any, node: Any = None) -> Any:
        """Return a tracer of this trace for a Tensor of any level, with a Node on this level's tape."""
        made = super().lift(tensor, node)
        self._made.append(weakref.ref(made))
        return made

    def process(self, primitive: Primitive, args: Sequence[Any], params: Params) -> Any:
        """Compute the operation on raw arrays, and write it down."""
        if capturing.current() is not self:
            raise CompileError(
                f"wg.compile({self.described}): another thread uses a Tensor of this function while it runs for the "
                "first time. Call it once before there are other threads"
            )
        if self.fastmath and primitive is boxing.operations.guarded_product.primitive:
            primitive = boxing.operations.multiply.primitive
        states = [arg._state if type(arg) is boxing.Tracer else None for arg in args]
        operands = [arg if state is None else state.value for state, arg in zip(states, args)]
        kind = self._abstract(primitive, states, operands, params)
        if kind is not None:
            dtype, is_number = (
                _of_no_axes(primitive, states, operands, params, kind[1]) if not kind[0] else (kind[1], False)
            )
            made = [self.tracer(None, Value(kind[0], dtype), is_number)]
        else:
            raws = [operand if s is None else _operand_of(s, primitive) for s, operand in zip(states, operands)]
            try:
                out = primitive.impl(backend.numpy, *raws, **params)
            except Exception as error:
                raise explain(primitive.name, tuple(raws), error) from error
            outs = [(np.asarray(y), isinstance(y, np.generic)) for y in (out if primitive.multiple else (out,))]
            if not any(map(_is_unknown, operands)):
                # What comes of constants alone is one, and Python may ask for it.
                made = [self.tracer(y, Value(y.shape, y.dtype, y), is_number) for y, is_number in outs]
                return tuple(made) if primitive.multiple else made[0]
            made = [self.tracer(y, Value(y.shape, y.dtype), is_number) for y, is_number in outs]
        values = tuple([y._state.value for y in made])
        values[0].where = location(made[0]._state)
        equation = Equation(primitive, tuple(operands), params, values)
        self.append(equation)
        if primitive.kind == BILINEAR or primitive.name == "affine":
            factors = equation.values()[:2]
            for factor in factors:
                self._products.setdefault(factor, (values[0], sum([f.size for f in factors])))
        return tuple(made) if primitive.multiple else made[0]

    def _abstract(
        self, primitive: Primitive, states: Sequence[Captured | None], operands: Sequence[Any], params: Params
    ) -> Any:
        """Return shape and dtype of a result that is not to be computed now; None: it is."""
        if not any([state is not None and (state.is_unknown or state.value.size >= _MUCH) for state in states]):
            return None
        kinds = [(operand.shape, operand.dtype) if type(operand) is Value else operand for operand in operands]
        return kind_of(primitive, kinds, params)

    def compute(self, value: Value) -> np.ndarray:
        """Return what a value is in this run, which was put off until now."""
        self.only_step_by_step()
        needed: dict[Equation, None] = {}
        waiting = [value]
        while waiting:
            maker = self._makers.get(waiting.pop())
            if maker is not None and maker not in needed and any([v not in self._computed for v in maker.outputs]):
                needed[maker] = None
                waiting.extend(maker.values())
        known = ChainMap(self._computed, self.raws)
        for equation in [equation for equation in self.equations if equation in needed]:
            operands = [operand_in(known, operand) for operand in equation.inputs]
            self._computed.update(zip(equation.outputs, computed(equation, operands)))
        return self._computed[value]

    def state_of(self, tensor: Any) -> Captured:
        """Return the state of a Tensor from further out."""
        if type(tensor) is not boxing.Tracer:
            self.bring(tensor)
        return tensor._state

    def decide(self, state: Captured, what: str) -> Any:
        """Let Python code depend on one boolean or integer: a later run must find the same, or takes another path."""
        if state.value.constant is not None:
            return state.raw
        self.only_step_by_step()
        if state.raw.size != 1 or state.raw.dtype.kind not in "biu":
            frame = user_frame(calling_frame())
            asked = f"{_asked_for(what)} a {state.dtype} Tensor of shape {state.shape}, made at {location(state)}"
            raise CompileError(
                f"wg.compile({self.described}): {frame.f_code.co_filename}:{frame.f_lineno} asks for {asked}, which is "
                "known only when the compiled function runs. Return the Tensor and ask outside, print it as it is "
                "(print(x), without a format), or compute with it: wg.where, wg.cond and wg.while_loop choose without "
                "asking. Booleans and single integers may be asked for: each answer is compiled as a path of its own"
            )
        self.decisions.append((state.value, state.raw.copy(), location(state)))
        return state.raw

    def check(
        self, tensor: Any, check: Callable[[np.ndarray], None], passes: Callable[[Any], Any] | None = None
    ) -> None:
        """Have `check(values)` called for a tracer now, and before every run: it raises if they will not do.

        Where the program computes whether they pass, and gives up if they don't, the check need only tell why.
        """
        self.only_step_by_step()
        state = tensor._state
        check(state.raw)
        seen, steps = self._seen_from(state.value)
        if passes is None or seen not in self.inputs:
            self.checks.append((seen, steps, check, False))
            return
        self.checks.append((seen, steps, check, True))
        before = set_recording(False)
        try:
            self.expected.append(passes(tensor)._state.value)
        finally:
            set_recording(before)

    def _seen_from(self, value: Value) -> tuple[Value, Steps]:
        """Return the value that a value is a view of, and by which steps; the value itself, and none, of any other."""
        steps: list[tuple[Primitive, Params]] = []
        while (maker := self._makers.get(value)) is not None and maker.primitive.view:
            steps.insert(0, (maker.primitive, maker.params))
            (value,) = maker.values()
        return value, tuple(steps)

    def report(self, say: Callable[..., None], tensors: Sequence[Any]) -> None:
        """Have `say(*tensors)` called after this run and every other, with the values that tracers then have."""
        self.only_step_by_step()
        states = [tensor._state if self.follows(tensor) else tensor for tensor in tensors]
        self.reports.append((say, states))

    def unrepeatable(self, deed: str) -> None:
        """Take note that the function does something that only its Python code can do again."""
        self.only_step_by_step()
        self.deeds.append(deed)

    def refuse(self, reason: str) -> None:
        """Refuse to compile the function."""
        raise CompileError(f"wg.compile({self.described}): {reason}")

    def expect_finite(self, tensors: Sequence[Any]) -> None:
        """Let the program count only if these tracers are finite: where they aren't, the function itself is run."""
        if self.fastmath:
            return
        operations = boxing.operations
        before = set_recording(False)
        try:
            for tensor in tensors:
                if self.follows(tensor) and tensor.dtype.kind in "fc" and tensor._state.value.constant is None:
                    finite = operations.all(operations.isfinite(boxing.with_node(tensor, None)))
                    self.expected.append(finite._state.value)
        finally:
            set_recording(before)

    def guard_was_left_out(self, factor: Any) -> None:
        """Take note that a product with a factor was not guarded in a sweep: the factor must be finite, or its end."""
        values = [part._state.value for part in capturing.parts_followed(factor)]
        constants = [value.constant for value in values if value.constant is not None]
        known = bool(values) and all([np.isfinite(constant).all() for constant in constants])
        self._unguarded.append(values if known else None)

    def begin_of_sweep(self, outputs: Sequence[Any], targets: Sequence[Any]) -> None:
        """Take note of where a sweep will meet Tensors whose history goes on outside of the function."""
        self.only_step_by_step()
        cuts, missed = cuts_before(self.brought, outputs, targets)
        self.cuts.extend(cuts)
        if missed is not None:
            self.refuse(
                f"a gradient with respect to Tensors of outside is asked for in it, and {missed} was computed from one "
                "of them before, outside, where no program can follow. Compute it inside, or detach() it"
            )

    def end_of_sweep(self, cotangents: Sequence[Any]) -> None:
        """Take note of the cotangents that a sweep ends with.

        No product needed to be guarded if all factors are finite, or if the sweep's end is: it is linear, so that a
        NaN arrives there or meets an exact zero. What is known before the sweep lets more be fused.
        """
        unguarded, self._unguarded = self._unguarded, []
        if not unguarded:
            return
        ends = [part for bar in cotangents for part in capturing.parts_followed(densify(bar))]
        factors = self._seen_to_be_finite(unguarded)
        if factors is None or sum([f.size for f in factors]) > _DEAR * sum([end._state.value.size for end in ends]):
            self.expect_finite(ends)
        else:
            self.expect_finite([self.tracer(None, factor) for factor in factors])

    def _seen_to_be_finite(self, unguarded: Sequence[list[Value] | None]) -> list[Value] | None:
        """Return Values that are finite only if all factors are, as small as may be; None if that is not known.

        A product of matrices is finite only if its factors are: it may be looked at in their place.
        """
        seen: dict[Value, None] = {}
        for factors in unguarded:
            if factors is None:
                return None
            for factor in factors:
                product = self._products.get(factor)
                of_both = product is not None and product[0].size <= product[1]
                seen[product[0] if product is not None and of_both else factor] = None
        return [value for value in seen if value.dtype.kind == "f" and value.constant is None]

    def condition(self, begin: int = 0) -> Value | None:
        """Return whether all that was expected (from the `begin`-th on) is so, as one boolean; None if nothing was."""
        expected = self.expected[begin:]
        if not expected:
            return None
        logical_and = boxing.operations.logical_and.primitive
        total = expected[0]
        for value in expected[1:]:
            joint = Value((), np.dtype(np.bool_))
            self.equations.append(Equation(logical_and, (total, value), {}, (joint,)))
            total = joint
        return total

    def follows(self, tensor: Any) -> bool:
        """Return whether a Tensor is a tracer of this capture."""
        return type(tensor) is boxing.Tracer and tensor._state.trace is self

    def update(self, tensors: Sequence[Any], update: Callable[[list[Any]], None]) -> None:
        """Let `update` change the values of Tensors off the tape, on Cells in place of arrays."""
        self.only_step_by_step()
        for tensor in tensors:
            capturing.bring(tensor)
        cells = [Cell(boxing.with_node(tensor, None)) for tensor in tensors]
        before = set_recording(False)
        try:
            update(cells)
            for tensor, cell in zip(tensors, cells):
                boxing.operations.overwrite(tensor, cell.tensor, "update_buffer")
        finally:
            set_recording(before)

    def loop(self, loop: Any) -> tuple[list[Any], list[Any]] | None:
        """Capture a loop as one equation, if it can be one."""
        return roll(self, loop)

    def try_steps(self, loop: Any, run: Callable[[], Any]) -> Any:
        """Return what a run of steps of a loop returns, and forget it; None if they cannot stand for all."""
        return tried(self, run) if can_be_rolled(loop) else None

    def steps(
        self, step: Callable[..., Any], init: Sequence[Any], xs: Sequence[Any], name: str
    ) -> tuple[list[Any], list[Any]] | None:
        """Capture the steps of an operation as one equation, where no transform is at work further in."""
        if innermost_trace() is not self:
            return None
        return roll(self, OperationLoop(step, list(init), list(xs), name))

    # ------------------------------------------------------------------ how it ends

    def run(self, function: Callable[[], Any]) -> Any:
        """Run a function in the capture; where it fails, everything is put back to what it was.

        What packs residuals around the call packs those of the call: of its operations there are none afterwards.
        """
        capturing.begin(self)
        try:
            with packing.suspended(), self:
                return function()
        except BaseException:
            capture = capturing.suspend()
            for say, states in self.reports:  # what was printed until then helps to understand
                say(*[boxing.box(state.raw) if isinstance(state, Captured) else state for state in states])
            capturing.resume(capture)
            for brought in reversed(self.brought):
                brought.restore()
            raise
        finally:
            capturing.end()

    def release(self, tensor: Any, former: Any) -> None:
        """Leave Tensors as they are for now: `effects` settles what becomes of them."""

    def leaks(self, but: Iterable[Any]) -> list[str]:
        """Return where values were made that somebody outside still holds, but for the Tensors given.

        In this run they are what they would have been without a capture; later runs would leave them behind.
        """
        known = {id(tensor) for tensor in but}
        self._forget()
        for collecting in (False, True):
            if collecting:
                gc.collect()
            places = self._held_outside(known)
            if not places:
                break
        return places

    def _held_outside(self, known: set[int]) -> list[str]:
        places: list[str] = []
        for reference in self._made:
            tensor = reference()
            if tensor is not None and type(tensor) is boxing.Tracer and id(tensor) not in known:
                places.append(f"the Tensor made at {location(tensor._state)}")
                boxing.become(tensor, boxing.box(tensor._state.raw.copy()))
        for reference in self._fresh.values():
            tensor = reference()
            if tensor is not None and id(tensor) not in known:
                places.append(f"a Tensor of shape {tensor.shape}")
        return places

    def _forget(self) -> None:
        """Let go of all Tensors that only the capture holds."""
        for brought in self.brought:
            if brought.fresh:
                brought.tensor = None
        self._held.clear()
        self.stand_ins.clear()
        self.nodes.clear()
        self._gradients.clear()
        self.states.clear()


def _asked_for(what: str) -> str:
    return "the value of" if what.startswith("the value of") else f"{what} of"


def _operand_of(state: Captured, primitive: Primitive) -> Any:
    """Return what a value was in the captured run: a number if NumPy has one, which it promotes in its own way."""
    return state.raw[()] if state.is_number and not primitive.view else state.raw


def _of_no_axes(
    primitive: Primitive, states: Sequence[Captured | None], operands: Sequence[Any], params: Params, dtype: Any
) -> tuple[Any, bool]:
    """Return the dtype of a result without axes, and whether it is a number of NumPy's, which is rebound, not written.

    Of numbers NumPy may make another dtype than of arrays: `True**2` is an int64.
    """
    if any([state is not None and state.value.size != 1 for state in states]):
        return dtype, not primitive.view or Ellipsis not in params.get("key", (Ellipsis,))
    zeros = [
        operand if state is None else np.zeros(state.shape, state.dtype)[() if state.is_number else ...]
        for state, operand in zip(states, operands)
    ]
    with np.errstate(all="ignore"):
        out = primitive.impl(backend.numpy, *zeros, **params)
    return out.dtype, isinstance(out, np.generic)


def _is_unknown(operand: Any) -> bool:
    return isinstance(operand, Value) and operand.constant is None


__all__ = ["Brought", "CaptureTrace", "Captured", "CompileError"]
