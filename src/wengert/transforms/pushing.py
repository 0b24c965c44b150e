"""Forward mode as functions of functions: `jvp` and `linearize`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..core import boxing, pytree
from ..core.forward import ForwardTrace
from ..core.recording import UNTAPED, is_recording, set_recording
from ..core.staging import LinearTrace, Program
from ..core.tracing import is_tracer, snapshot
from ..core.zeros import ZERO
from ..errors import DTypeError, ShapeError, StructureError
from ..tensor import tracer as tracer
from ..typing import PyTree
from .shared import INTEGERS, as_tensor, demand_tensors, described, parameter_name, without_aux


def jvp(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> tuple[Any, ...]:
    """Push tangents of a function's arguments forward through one run of it (a Jacobian-vector product).

    Values and tangents are computed side by side, at about two to three times the cost of the function, and nothing is
    kept. Python code may depend on values, as everywhere.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns any nesting of Tensors.
        primals: its arguments, as a tuple or a list.
        tangents: a tangent for each, nested as the argument is, of the same shapes and dtypes; None for zero, and for
            integers, which cannot move.
        has_aux: the function returns (outputs, anything else).

    Returns:
        (outputs, their tangents), with `has_aux` (outputs, their tangents, anything else). Integer outputs have None.

    Raises:
        StructureError, ShapeError, DTypeError: a tangent does not fit its primal, or an output is no Tensor.

    >>> import wengert as wg
    >>> wg.jvp(lambda x, y: x * y, (3.0, 4.0), (1.0, 0.0))
    (Tensor(12., dtype=float32), Tensor(4., dtype=float32))
    >>> wg.jvp(lambda p: wg.sin(p["x"]), ({"x": 0.0},), ({"x": 2.0},))[1]
    Tensor(2., dtype=float32)

    A. Griewank and A. Walther, Evaluating Derivatives, 2nd edition, section 3.1.
    """
    name = "jvp"
    values, dots, structure = _arguments(function, primals, tangents, name)
    pairs, form, aux = _run(function, ForwardTrace(name, described(function)), values, dots, structure, has_aux)
    out = form.unflatten([y for y, _ in pairs])
    out_dot = form.unflatten([_filled(y, y_dot) for y, y_dot in pairs])
    return (out, out_dot, aux) if has_aux else (out, out_dot)


def _run(
    function: Callable[..., Any],
    trace: ForwardTrace,
    values: list[Any],
    dots: list[Any],
    structure: pytree.Structure,
    has_aux: bool,
) -> tuple[list[tuple[Any, Any]], pytree.Structure, PyTree]:
    """Return (pairs of value and tangent (or ZERO) for each output, their structure, anything else)."""
    before = is_recording()
    # no_grad() around jvp means that nobody records the result; it is not meant to make constants of the arguments.
    set_recording(UNTAPED if before is False else before)
    try:
        with trace, np.errstate(all="ignore"):
            entered = [x if x_dot is ZERO else trace.dual(x, x_dot) for x, x_dot in zip(values, dots)]
            outputs, aux = without_aux(function(*structure.unflatten(entered)), trace.name, trace.described, has_aux)
            # Before the trace ends: what was made a tracer by a write, and is still there then, loses its tangent.
            leaves, form = demand_tensors(outputs, trace.name, trace.described)
            return [_apart(leaf, trace) for leaf in leaves], form, _values_of(aux, trace)
    finally:
        set_recording(before)


def _apart(value: Any, trace: ForwardTrace) -> tuple[Any, Any]:
    """Return (value, tangent or ZERO) of an output, as both are seen from outside."""
    if is_tracer(value) and value._state.trace is trace:
        state = value._state
        return snapshot(state.primal), state.tangent if state.tangent is ZERO else snapshot(state.tangent)
    return value, ZERO


def _filled(value: Any, tangent: Any) -> Any:
    if value.dtype.kind not in "fc":
        return None
    return boxing.operations.zeros_like(value) if tangent is ZERO else tangent


def _values_of(tree: PyTree, trace: ForwardTrace) -> PyTree:
    leaves, structure = pytree.flatten(tree)
    return structure.unflatten([_apart(leaf, trace)[0] for leaf in leaves])


# ---------------------------------------------------------------------- arguments


def _arguments(function: Any, primals: Any, tangents: Any, name: str) -> tuple[list[Any], list[Any], pytree.Structure]:
    """Return (values as Tensors, or whatever a leaf is that cannot move; tangents or ZERO; the structure of both)."""
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise StructureError(
                f"{name}: {what} must be a tuple with one entry for each argument of {described(function)}, not "
                f"{type(given).__name__}; for a single argument x write (x,)"
            )
    if len(primals) != len(tangents):
        raise StructureError(
            f"{name}: there are {len(primals)} primals and {len(tangents)} tangents; each argument needs one, "
            "which may be None for zero"
        )
    values: list[Any] = []
    dots: list[Any] = []
    structures: list[pytree.Structure] = []
    for i, (primal, tangent) in enumerate(zip(primals, tangents)):
        leaves, structure = pytree.flatten(primal)
        structures.append(structure)
        if tangent is None:
            given = [None] * len(leaves)
        else:
            given = structure.flatten_like(tangent, f"{name}: the tangent of {parameter_name(function, i)}")
        for j, (leaf, leaf_dot) in enumerate(zip(leaves, given)):
            where = partial(_leaf_path, structure, j, function, i)
            if leaf_dot is None and (type(leaf) in INTEGERS or not _is_array(leaf)):
                values.append(leaf)
                dots.append(ZERO)
                continue
            x = snapshot(as_tensor(leaf, name, where))
            values.append(x)
            dots.append(ZERO if leaf_dot is None else _tangent(x, leaf_dot, name, where))
    return values, dots, pytree.tuple_of(structures)


def tangents_of(function: Any, primals: Any, tangents: Any, name: str) -> list[Any]:
    """Return the tangent of each leaf as a Tensor, or ZERO; refuse those that do not fit, as `jvp` does."""
    return _arguments(function, primals, tangents, name)[1]


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (boxing.Tensor, np.ndarray, np.generic, float, int, complex))


def _leaf_path(structure: pytree.Structure, leaf: int, function: Any, argument: int) -> str:
    return structure.paths(parameter_name(function, argument))[leaf]


def _tangent(x: Any, given: Any, name: str, where: Callable[[], str]) -> Any:
    if x.dtype.kind not in "fc":
        raise DTypeError(
            f"{name}: {where()} has dtype {x.dtype}, and integers and booleans cannot be perturbed: its tangent "
            "must be None. Convert it to a float, for example 3.0 for 3, if it is meant to move"
        )
    x_dot = snapshot(as_tensor(given, name, partial(_of_tangent, where)))
    if not isinstance(given, boxing.Tensor) and x_dot.dtype != x.dtype and x_dot.dtype.kind in "biuf":
        x_dot = boxing.operations.astype(x_dot, x.dtype)
    if x_dot.shape != x.shape:
        raise ShapeError(
            f"{name}: the tangent of {where()} has shape {x_dot.shape}, but the primal has shape {x.shape}"
        )
    if x_dot.dtype != x.dtype:
        raise DTypeError(
            f"{name}: the tangent of {where()} has dtype {x_dot.dtype}, but the primal has dtype {x.dtype}; convert it "
            f"with .astype({str(x.dtype)!r})"
        )
    return x_dot


def _of_tangent(where: Callable[[], str]) -> str:
    return f"the tangent of {where()}"


# ---------------------------------------------------------------------- linearize


def linearize(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Run a function once and return what it returns, with the linear map that pushes tangents through that run.

    The map keeps what it needs of the run; it may be called any number of times, and costs less each time than `jvp`,
    as the values are not computed again.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns any nesting of Tensors.
        *primals: its arguments. Integers among them cannot move.
        has_aux: the function returns (outputs, anything else).

    Returns:
        (outputs, map), with `has_aux` (outputs, map, anything else). The map takes a tangent for each primal, nested as
        it is (None for zero), and returns the tangents of the outputs.

    Raises:
        DTypeError: an output is no Tensor.

    >>> import wengert as wg
    >>> y, push = wg.linearize(lambda x: wg.exp(x) * x, 0.0)
    >>> push(1.0), push(3.0)
    (Tensor(1., dtype=float32), Tensor(3., dtype=float32))
    """
    name = "linearize"
    shape_of = partial(_standing_for, function=function, name=name)
    standing = tuple([shape_of(i, primal) for i, primal in enumerate(primals)])
    values, dots, structure = _arguments(function, primals, standing, name)
    linear = LinearTrace(name, described(function))
    trace = ForwardTrace(name, linear.described)
    with linear:
        moving = [x_dot if x_dot is ZERO else linear.argument(x_dot) for x_dot in dots]
        pairs, form, aux = _run(function, trace, values, moving, structure, has_aux)
        program = linear.program([y_dot for _, y_dot in pairs])
    out = form.unflatten([y for y, _ in pairs])
    push = Pushforward(function, values, dots, structure, program, form, [y for y, _ in pairs])
    return (out, push, aux) if has_aux else (out, push)


def _standing_for(i: int, primal: PyTree, *, function: Any, name: str) -> PyTree:
    """Return zeros in place of the tangents of one argument, None where nothing can move."""
    leaves, structure = pytree.flatten(primal)
    zeros: list[Any] = []
    for j, leaf in enumerate(leaves):
        if not _is_array(leaf):
            zeros.append(None)
            continue
        x = as_tensor(leaf, name, partial(_leaf_path, structure, j, function, i))
        zeros.append(boxing.box(np.zeros(x.shape, x.dtype)) if x.dtype.kind in "fc" else None)
    return structure.unflatten(zeros)


class Pushforward:
    """Pushes tangents of a function's arguments forward through a run that was; what `linearize` returns."""

    __slots__ = ("_described", "_form", "_function", "_moving", "_outputs", "_program", "_structure", "_values")

    def __init__(
        self,
        function: Callable[..., Any],
        values: list[Any],
        dots: list[Any],
        structure: pytree.Structure,
        program: Program,
        form: pytree.Structure,
        outputs: list[Any],
    ) -> None:
        self._function = function
        self._described = described(function)
        self._values = [_Like(x) if isinstance(x, boxing.Tensor) else x for x in values]
        self._moving = [x_dot is not ZERO for x_dot in dots]
        self._structure = structure
        self._program = program
        self._form = form
        self._outputs = outputs

    def __call__(self, *tangents: Any) -> Any:
        """Return the tangents of the outputs."""
        name = f"linearize({self._described})"
        if len(tangents) != len(self._structure.children):
            raise StructureError(
                f"{name}: the map takes {len(self._structure.children)} tangents, one for each argument, not "
                f"{len(tangents)}"
            )
        given: list[Any] = []
        for i, (structure, tangent) in enumerate(zip(self._structure.children, tangents)):
            what = f"the tangent of {parameter_name(self._function, i)}"
            given.extend([None] * structure.count if tangent is None else structure.flatten_like(tangent, what))
        moving: list[Any] = []
        for leaf, (x, x_dot, moves) in enumerate(zip(self._values, given, self._moving)):
            if moves and x_dot is None:
                moving.append(boxing.box(np.zeros(x.shape, x.dtype)))
            elif moves:
                moving.append(_tangent(x, x_dot, name, partial(self._place, leaf)))
            elif x_dot is not None:
                what = f"has dtype {x.dtype}" if isinstance(x, _Like) else f"is of type {type(x).__name__}"
                raise DTypeError(
                    f"{name}: {self._place(leaf)} {what} and cannot be perturbed: its tangent must be None"
                )
        with np.errstate(all="ignore"):
            dots = self._program.run(moving)
        return self._form.unflatten([_filled(y, y_dot) for y, y_dot in zip(self._outputs, dots)])

    def _place(self, leaf: int) -> str:
        for i, structure in enumerate(self._structure.children):
            if leaf < structure.count:
                return _leaf_path(structure, leaf, self._function, i)
            leaf -= structure.count
        return "an argument"

    def __repr__(self) -> str:
        return f"<linear map of {self._described}, {len(self._program)} operations>"


class _Like:
    """The shape and dtype that a tangent must have."""

    __slots__ = ("dtype", "shape")

    def __init__(self, x: Any) -> None:
        self.shape = x.shape
        self.dtype = x.dtype


__all__ = ["Pushforward", "jvp", "linearize", "tangents_of"]
