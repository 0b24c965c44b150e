"""Reverse mode as functions of functions: `grad`, `value_and_grad`, `vjp`.

A function is run once on fresh Nodes that hang on the Nodes of its arguments. Whoever watches from outside (a
`backward()` that comes later, a tape, another transform) sees through them to what the arguments were computed from;
what is closed over is seen as it is. So every transform nests in every other, and each knows its own arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..core import boxing, capturing, pytree
from ..core.backward import cotangents, seed_of, settled_seeds, zeros_for
from ..core.reach import Route, route_to, survey
from ..core.recording import is_recording, observers, set_observers, set_recording
from ..core.tape import Leaf, Node, argument_node, location, next_sequence
from ..core.tracing import Trace, innermost_trace, is_tracer, plain_parts, snapshot
from ..core.vspace import all_finite
from ..errors import DTypeError, ShapeError
from ..typing import PyTree, Shape
from .shared import (
    INTEGERS,
    Argnums,
    as_tensor,
    checked_argnums,
    demand_tensors,
    described,
    named,
    parameter_name,
    positions,
    without_aux,
)


def grad(function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function that computes the gradient of a scalar-valued function.

    The gradient is recorded where something outside may be differentiated with respect to: an argument that is on the
    tape, or a Tensor that the function closes over; not under `no_grad()`. Otherwise it is computed the fast way.
    Writes to the arguments, inside of the function, are not seen by the caller.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns a Tensor of shape ().
        argnums: which positional arguments to differentiate with respect to.
        has_aux: the function returns (the scalar, anything else).

    Returns:
        A function of the same arguments. It returns Tensors nested as the argument is; a tuple of such if `argnums` is
        a sequence; with `has_aux`, (the gradient, anything else).

    Raises:
        DTypeError: an argument is an integer, or the function returns something that is no floating Tensor.
        ShapeError: the function returns a Tensor that is not a scalar.

    >>> import wengert as wg
    >>> wg.grad(lambda x: x * x * x)(2.0)
    Tensor(12., dtype=float32)
    >>> wg.grad(wg.grad(lambda x: x * x * x))(2.0)
    Tensor(12., dtype=float32)
    >>> wg.grad(lambda p: p["w"] * p["b"])({"w": 3.0, "b": 5.0})
    {'w': Tensor(5., dtype=float32), 'b': Tensor(3., dtype=float32)}
    """
    with_value = _differentiated(function, argnums, has_aux, "grad")

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, gradients = with_value(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return named(gradient, function, "grad")


def value_and_grad(function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function that computes a scalar-valued function and its gradient in one go.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns a Tensor of shape ().
        argnums: which positional arguments to differentiate with respect to.
        has_aux: the function returns (the scalar, anything else).

    Returns:
        A function of the same arguments that returns (value, gradient), or ((value, anything else), gradient).

    Raises:
        DTypeError: an argument is an integer, or the function returns something that is no floating Tensor.
        ShapeError: the function returns a Tensor that is not a scalar.

    >>> import wengert as wg
    >>> wg.value_and_grad(lambda x: (x * x).sum())(wg.tensor([1.0, 2.0]))
    (Tensor(5., dtype=float32), Tensor([2., 4.], dtype=float32))
    """
    return named(_differentiated(function, argnums, has_aux, "value_and_grad"), function, "value_and_grad")


def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Run a function and return what it returns, with the function that pulls cotangents back through that run.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns any nesting of Tensors.
        *primals: its arguments. Integers among them pass through; their cotangent is None.
        has_aux: the function returns (outputs, anything else).

    Returns:
        (outputs, pullback), with `has_aux` (outputs, pullback, anything else). The pullback takes cotangents nested as
        the outputs are (None for zero) and returns a tuple of cotangents, one for each primal and nested as it is. It
        may be called any number of times.

    Raises:
        DTypeError: the function returns something that is no Tensor.

    >>> import wengert as wg
    >>> outputs, pullback = wg.vjp(lambda x, y: {"product": x * y}, 3.0, 4.0)
    >>> outputs
    {'product': Tensor(12., dtype=float32)}
    >>> pullback({"product": 1.0})
    (Tensor(4., dtype=float32), Tensor(3., dtype=float32))
    """
    run = Run("vjp", function, primals, {}, range(len(primals)), has_aux, integers_pass=True)
    leaves, structure = demand_tensors(run.outputs, "vjp", run.described)
    aux, aux_structure = pytree.flatten(run.aux)
    outside = run.leading_outside([*leaves, *aux]) if is_recording() else frozenset[Node]()
    pullback = Pullback(run, leaves, structure)
    outputs = structure.unflatten([_shown(leaf, run, outside) for leaf in leaves])
    if not has_aux:
        return outputs, pullback
    return outputs, pullback, aux_structure.unflatten([_shown(leaf, run, outside) for leaf in aux])


class Pullback:
    """Pulls cotangents of a function's outputs back to its arguments; what `vjp` returns.

    Attributes:
        run: of the function.
        nodes: the Nodes of the outputs, None for those that depend on nothing.
    """

    __slots__ = ("_likes", "_route", "_structure", "_surveyed", "nodes", "run")

    def __init__(self, run: Run, outputs: list[Any], structure: pytree.Structure) -> None:
        self.run = run
        self._structure = structure
        self.nodes: list[Node | None] = [output._node for output in outputs]
        self._likes = [(output.shape, output.dtype) for output in outputs]
        self._route: Route | None = None
        self._surveyed: bool | None = None
        run.outputs = run.aux = None  # a buffer that only the caller holds can be written in place

    def __call__(self, cotangents_of_outputs: PyTree) -> tuple[Any, ...]:
        """Return a tuple with the cotangent of each primal."""
        run = self.run
        given = self._structure.flatten_like(cotangents_of_outputs, "the cotangent")
        tracked = is_recording() and (
            self._meets_others() or any([isinstance(bar, boxing.Tensor) and bar._node is not None for bar in given])
        )
        seeds: list[tuple[Node, Any]] = []
        masked = False
        traced = run.trace is not None
        for node, like, bar in zip(self.nodes, self._likes, given):
            if bar is None:
                continue
            if node is None:
                _check_unused_seed(bar, like)
                continue
            seed, may_hold_zeros = seed_of(node, bar, None, name="pullback")
            masked = masked or may_hold_zeros
            traced = traced or is_tracer(seed)
            seeds.append((node, seed))
        self._meets_others()
        pairs = settled_seeds(seeds, tracked or traced)

        def swept(masked: bool | None) -> list[Any]:
            return cotangents(pairs, run.nodes, self._route, retain=True, tracked=tracked, masked=masked, traced=traced)

        # Zero times infinity would leave a NaN: where there is none, no product needed to be guarded.
        bars = swept(None if traced and not tracked else masked)
        if traced and not tracked and not all([_is_finite(bar) for bar in bars]):
            bars = swept(masked)
        return run.gradients(bars)

    def survey(self) -> tuple[Route | None, bool]:
        """Return (the route from the outputs to the arguments, whether it meets what others may ask about)."""
        others = self._meets_others()
        return self._route, others

    def _meets_others(self) -> bool:
        if self._surveyed is None:
            self._route, self._surveyed = self.run.survey([node for node in self.nodes if node is not None])
        return self._surveyed

    def __repr__(self) -> str:
        return f"<pullback of {self.run.described}>"


def _is_finite(bar: Any) -> bool:
    if capturing.engaged and (capture := capturing.current()) is not None:
        capture.expect_finite(capturing.parts_followed(bar))
        return True
    return bar is None or all([all_finite(part) for part in plain_parts(bar)])


def _check_unused_seed(bar: Any, like: tuple[Any, Any]) -> None:
    shape = bar.shape if hasattr(bar, "shape") else np.shape(bar)
    if shape != like[0]:
        raise ShapeError(f"pullback: a cotangent has shape {shape}, but its output has shape {like[0]}")


class Run:
    """One run of a function on fresh arguments.

    Attributes:
        name: the transform at work.
        described: the function's name, for messages.
        nodes: the Nodes of the arguments' leaves; None for those that cannot be perturbed.
        outputs: what the function returned, not yet fit to be shown outside.
        aux: what else it returned.
        start: the sequence number at which the run began; older Nodes belong to others.
        trace: the innermost transform at work where the run began, on whose level its tape is; None on the ground.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        chosen: Sequence[int],
        has_aux: bool,
        integers_pass: bool = False,
    ) -> None:
        self.name = name
        self.described = described(function)
        self.nodes: list[Node | None] = []
        self._likes: list[tuple[Any, Any]] = []
        self._structures: list[pytree.Structure] = []
        self._integers_pass = integers_pass
        outside = is_recording()
        self.start = next_sequence()
        self.trace: Trace | None = innermost_trace()
        entered = list(args)
        for i in chosen:
            entered[i] = self._enter(args[i], parameter_name(function, i), outside)
        watching = observers()
        set_observers((*watching, self))
        set_recording(True)
        try:
            returned = function(*entered, **kwargs)
        finally:
            set_recording(outside)
            set_observers(watching)
        self.outputs, self.aux = without_aux(returned, name, self.described, has_aux)

    def _enter(self, argument: PyTree, parameter: str, outside: bool) -> PyTree:
        """Return an argument as the function sees it: each leaf a Tensor of its own over the caller's memory."""
        leaves, structure = pytree.flatten(argument)
        self._structures.append(structure)
        entered: list[Any] = []
        for i, leaf in enumerate(leaves):
            if self._integers_pass and type(leaf) in INTEGERS:
                self._likes.append(((), np.dtype(type(leaf))))
                self.nodes.append(None)
                entered.append(leaf)
                continue
            tensor = as_tensor(leaf, self.name, partial(_path, structure, i, parameter))
            if type(tensor) is boxing.BorrowedTensor:
                tensor = tensor.clone()
            if capturing.engaged:
                capturing.bring(tensor)
            dtype = tensor.dtype
            self._likes.append((tensor.shape, dtype))
            if dtype.kind != "f":
                self._refuse(dtype, structure.paths(parameter)[i])
                self.nodes.append(None)
                entered.append(tensor)
                continue
            if self.trace is None:
                node = argument_node(tensor._node if outside else None, tensor._data)
                entered.append(boxing.box(tensor._data, node))
            else:
                at_this_level = is_tracer(tensor) and tensor._state.trace is self.trace
                node = argument_node(tensor._node if outside and at_this_level else None, tensor)
                entered.append(self.trace.lift(tensor if outside or at_this_level else snapshot(tensor, False), node))
            self.nodes.append(node)
        return structure.unflatten(entered)

    def _refuse(self, dtype: Any, where: str) -> None:
        if dtype.kind == "c":
            raise DTypeError(
                f"{self.name}: {where} is {dtype}; this version differentiates with respect to real Tensors. Use the "
                "real and the imaginary part as two arguments"
            )
        if not self._integers_pass:
            raise DTypeError(
                f"{self.name}: {where} has dtype {dtype}, and integers cannot be perturbed. Convert it to a float, for "
                "example 3.0 for 3 or .astype('float32'), or pass it as an argument that argnums leaves out"
            )

    def survey(self, outputs: Sequence[Node]) -> tuple[Route | None, bool]:
        """Return (the route from the outputs to the arguments, whether it meets what others may ask about)."""
        targets = frozenset([node for node in self.nodes if node is not None])
        met, strays = survey(outputs, targets, self.start)
        return (route_to(targets, met) if strays else None), any(map(_may_be_asked_about, strays))

    def leading_outside(self, values: Sequence[Any]) -> frozenset[Node]:
        """Return those Nodes of the values, and of what they come of, that lead to what others may ask about."""
        nodes = [value._node for value in values if isinstance(value, boxing.Tensor) and value._node is not None]
        met, strays = survey(nodes, frozenset(), self.start)
        others = frozenset(filter(_may_be_asked_about, strays))
        return others.union(route_to(others, met)) if others else others

    @property
    def structure(self) -> pytree.Structure:
        """How the arguments are nested."""
        return pytree.tuple_of(self._structures)

    @property
    def shapes(self) -> list[Shape]:
        """The shapes of the leaves of the arguments."""
        return [shape for shape, _ in self._likes]

    def gradients(self, bars: Sequence[Any], rows: Shape = ()) -> tuple[Any, ...]:
        """Return cotangents nested as the arguments are: zeros where none arrived, None for integers.

        Args:
            bars: one for each leaf, or None.
            rows: axes in front, of many cotangents.
        """
        filled = [
            None if node is None else zeros_for((*rows, *shape), dtype) if bar is None else bar
            for node, (shape, dtype), bar in zip(self.nodes, self._likes, bars)
        ]
        nested: list[Any] = []
        begin = 0
        for structure in self._structures:
            nested.append(structure.unflatten(filled[begin : begin + structure.count]))
            begin += structure.count
        return tuple(nested)


def _path(structure: pytree.Structure, i: int, root: str) -> str:
    return structure.paths(root)[i]


def _may_be_asked_about(stray: Node) -> bool:
    """Return whether a gradient may be asked for there: not at a leaf whose Tensor is gone."""
    return not isinstance(stray, Leaf) or stray.tensor_reference() is not None


def _shown(value: Any, run: Run, outside: frozenset[Node]) -> Any:
    """Return a value of the run as it is seen from outside: off the tape, unless it leads to what others ask about."""
    if not isinstance(value, boxing.Tensor) or value._node is None:
        return value
    if value._node in outside or value._node.sequence < run.start:
        return value
    return boxing.with_node(value, None)


def _differentiated(function: Callable[..., Any], argnums: Argnums, has_aux: bool, name: str) -> Callable[..., Any]:
    single = not isinstance(argnums, Sequence)
    wanted = checked_argnums(argnums, name)

    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        chosen = positions(wanted, len(args), function, name)
        run = Run(name, function, args, kwargs, chosen, has_aux)
        node = demand_scalar(run)
        recording = is_recording()
        aux, structure = pytree.flatten(run.aux)
        outside = run.leading_outside(aux) if recording and aux else frozenset[Node]()
        bars: Sequence[Any] = [None] * len(run.nodes)
        value = run.outputs
        if node is not None:
            route, others = run.survey([node])
            tracked = recording and others
            traced = run.trace is not None
            seed = np.ones((), node.dtype)
            pair = (node, boxing.box(seed) if tracked or traced else seed)
            value = value if tracked else boxing.with_node(value, None)
            retain = tracked or bool(outside)
            bars = cotangents([pair], run.nodes, route, retain=retain, tracked=tracked, masked=False, traced=traced)
        gradients = run.gradients(bars)
        if has_aux:
            value = value, structure.unflatten([_shown(leaf, run, outside) for leaf in aux])
        return value, gradients[0] if single else gradients

    return value_and_gradient


def demand_scalar(run: Run) -> Node | None:
    """Return the Node of the run's output (None if it is a constant), which must be a floating scalar."""
    out = run.outputs
    if not isinstance(out, boxing.Tensor):
        raise DTypeError(
            f"{run.name}: {run.described} must return a scalar Tensor, not {type(out).__name__}. A number that came "
            "from item() or float() has left the tape; return the Tensor itself, and anything else with has_aux=True"
        )
    if out.shape != ():
        made = "" if out._node is None else f" made at {location(out._node)}"
        raise ShapeError(
            f"{run.name}: {run.described} must return a scalar, but returned a Tensor of shape {out.shape}{made}. "
            "Reduce it, for example with .sum() or .mean(), or use vjp for the gradient under a seed of that shape"
        )
    if out.dtype.kind != "f":
        raise DTypeError(
            f"{run.name}: {run.described} must return a real floating scalar, but its dtype is {out.dtype}"
        )
    return out._node


__all__ = ["Pullback", "Run", "demand_scalar", "grad", "value_and_grad", "vjp"]
