"""Derivatives beyond the gradient: Jacobians in either mode, and Hessians."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import boxing, capturing, native, pytree
from ..core.backward import cotangents
from ..core.tape import Node
from ..core.tracing import innermost_trace
from ..errors import DTypeError
from ..typing import PyTree, Shape
from .mapping import vmap
from .pushing import jvp
from .reverse import Pullback, Run, vjp
from .shared import Argnums, as_tensor, checked_argnums, demand_tensors, described, named, parameter_name, positions
from .whole_tapes import hessian_of, native_rows, rows_of


def jacrev(
    function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """Return a function that computes the Jacobian by reverse mode: one sweep, batched over the elements of the output.

    Cheaper than `jacfwd` where outputs have fewer elements than arguments.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns any nesting of Tensors.
        argnums: which positional arguments to differentiate with respect to.
        has_aux: the function returns (outputs, anything else).
        chunk_size: pull back at most so many elements at once, to bound memory.

    Returns:
        A function of the same arguments. For an output y and an argument x it gives a Tensor of shape
        `y.shape + x.shape`, nested as the outputs are and, within, as the arguments are.

    Raises:
        DTypeError: an argument is an integer, or an output is no floating Tensor.

    >>> import wengert as wg
    >>> wg.jacrev(lambda x: wg.stack([x[0] * x[1], x[0] ** 2]))(wg.tensor([3.0, 4.0])).tolist()
    [[4.0, 3.0], [6.0, 0.0]]
    """
    wanted, several = checked_argnums(argnums, "jacrev"), isinstance(argnums, Sequence)

    def jacobian_by_rows(*args: Any, **kwargs: Any) -> Any:
        partial_function, chosen = _of_chosen(function, wanted, args, kwargs, "jacrev")
        outputs, pullback, *aux = vjp(partial_function, *chosen, has_aux=has_aux)
        rows = _by_rows(outputs, pullback, described(function), chunk_size, several)
        return (rows, aux[0]) if has_aux else rows

    return named(jacobian_by_rows, function, "jacrev")


def _of_chosen(
    function: Callable[..., Any], wanted: tuple[int, ...], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> tuple[Callable[..., Any], list[Any]]:
    """Return (the function of the chosen arguments alone, these arguments as floating Tensors)."""
    places = positions(wanted, len(args), function, name)

    def of_chosen(*chosen: Any) -> Any:
        complete = list(args)
        for place, value in zip(places, chosen):
            complete[place] = value
        return function(*complete, **kwargs)

    code = getattr(function, "__name__", type(function).__name__)
    of_chosen.__name__ = code
    chosen: list[Any] = []
    for place in places:
        leaves, structure = pytree.flatten(args[place])
        for i, leaf in enumerate(leaves):

            def where(structure: pytree.Structure = structure, i: int = i, place: int = place) -> str:
                return structure.paths(parameter_name(function, place))[i]

            leaves[i] = as_tensor(leaf, name, where)
            if leaves[i].dtype.kind != "f":
                raise DTypeError(
                    f"{name}: {where()} has dtype {leaves[i].dtype}, and only real floating numbers can be perturbed. "
                    "Convert it, for example with .astype('float32'), or leave it out of argnums"
                )
        chosen.append(structure.unflatten(leaves))
    return of_chosen, chosen


def _by_rows(outputs: PyTree, pullback: Pullback, function: str, chunk_size: int | None, several: bool) -> PyTree:
    """Return, in the place of each output, its cotangents for each of its elements: of all arguments, or of the one."""
    leaves, structure = pytree.flatten(outputs)
    for y in leaves:
        _demand_floating(y, "jacrev", function)
    rows = None
    if chunk_size is None and None not in pullback.nodes:
        nodes = [node for node in pullback.nodes if node is not None]
        rows = native_rows("jacobian", pullback.run, nodes, *pullback.survey(), rows_of)
    if rows is None:
        rows = _rows(leaves, structure, pullback, chunk_size)
    return structure.unflatten(rows if several else [row[0] for row in rows])


def _rows(
    leaves: list[Any], structure: pytree.Structure, pullback: Pullback, chunk_size: int | None
) -> list[tuple[Any, ...]]:
    rows: list[Any] = []
    for i, y in enumerate(leaves):
        if y.shape == ():
            seed: Any = boxing.box(np.ones((), y.dtype))
            rows.append(pullback(structure.unflatten(_alone(i, seed, len(leaves)))))
            continue

        def pull(seed: Any, i: int = i) -> Any:
            return pullback(structure.unflatten(_alone(i, seed, len(leaves))))

        stacked = vmap(pull, chunk_size=chunk_size)(_basis(y.shape, y.dtype))
        shape = y.shape

        def shaped(bars: Any, shape: Shape = shape) -> Any:
            return boxing.operations.reshape(bars, (*shape, *bars.shape[1:]))

        rows.append(pytree.map_leaves(shaped, stacked))
    return rows


def _alone(i: int, value: Any, count: int) -> list[Any]:
    return [value if j == i else None for j in range(count)]


def _basis(shape: Shape, dtype: Any) -> Any:
    """Return the elements of the standard basis of arrays of a shape, stacked."""
    size = math.prod(shape)
    return boxing.box(np.eye(size, dtype=dtype).reshape(size, *shape))


def _demand_floating(y: Any, name: str, function: str) -> None:
    if y.dtype.kind != "f":
        raise DTypeError(
            f"{name}: {function} returned a Tensor of dtype {y.dtype}, which has no derivative; return it as anything "
            "else with has_aux=True"
        )


def jacfwd(
    function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """Return a function that computes the Jacobian by forward mode: one run, batched over the elements of an argument.

    Cheaper than `jacrev` where arguments have fewer elements than outputs; keeps no tape.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns any nesting of Tensors.
        argnums: which positional arguments to differentiate with respect to.
        has_aux: the function returns (outputs, anything else).
        chunk_size: push forward at most so many elements at once, to bound memory.

    Returns:
        A function of the same arguments. For an output y and an argument x it gives a Tensor of shape
        `y.shape + x.shape`, nested as the outputs are and, within, as the arguments are.

    Raises:
        DTypeError: an argument is an integer, or an output is no floating Tensor.

    >>> import wengert as wg
    >>> wg.jacfwd(lambda x: wg.stack([x * x, 3 * x, x]))(2.0).tolist()
    [4.0, 3.0, 1.0]
    """
    wanted = checked_argnums(argnums, "jacfwd")

    def jacobian_by_columns(*args: Any, **kwargs: Any) -> Any:
        partial_function, chosen = _of_chosen(function, wanted, args, kwargs, "jacfwd")
        leaves, structure = pytree.flatten(tuple(chosen))
        columns: list[Any] = []
        form: pytree.Structure | None = None
        aux = None
        for i, x in enumerate(leaves):
            out_dot, aux = _pushed(partial_function, leaves, structure, i, has_aux, chunk_size, described(function))
            dots, form = pytree.flatten(out_dot)
            columns.append([_with_last(dot, x.shape) for dot in dots])
        if form is None:
            raise DTypeError(f"jacfwd: the chosen arguments of {described(function)} hold no numbers")
        nested = [structure.unflatten(row) for row in zip(*columns)]
        jacobian = form.unflatten(nested if isinstance(argnums, Sequence) else [row[0] for row in nested])
        return (jacobian, aux) if has_aux else jacobian

    return named(jacobian_by_columns, function, "jacfwd")


def _pushed(
    function: Callable[..., Any],
    leaves: list[Any],
    structure: pytree.Structure,
    i: int,
    has_aux: bool,
    chunk_size: int | None,
    name: str,
) -> tuple[PyTree, Any]:
    """Return (tangents of the outputs for each element of one leaf, stacked; anything else)."""
    x = leaves[i]
    primals = structure.unflatten(leaves)

    def push(x_dot: Any) -> Any:
        tangents = structure.unflatten(_alone(i, x_dot, len(leaves)))
        out, out_dot, *aux = jvp(function, primals, tangents, has_aux=has_aux)
        for y in demand_tensors(out, "jacfwd", name)[0]:
            _demand_floating(y, "jacfwd", name)
        return (out_dot, aux[0]) if has_aux else out_dot

    if x.shape == ():
        one = boxing.box(np.ones((), x.dtype))
        pushed = push(one)
        out_dot, aux = pushed if has_aux else (pushed, None)
        return pytree.map_leaves(_expanded, out_dot), aux
    if has_aux:
        return vmap(push, out_axes=(0, None), chunk_size=chunk_size)(_basis(x.shape, x.dtype))
    return vmap(push, chunk_size=chunk_size)(_basis(x.shape, x.dtype)), None


def _expanded(dot: Any) -> Any:
    return boxing.operations.expand_dims(dot, 0)


def _with_last(stacked: Any, shape: Shape) -> Any:
    """Move the axis of the elements behind those of the output, in the shape of the argument."""
    last = boxing.operations.moveaxis(stacked, 0, -1) if stacked.ndim > 1 else stacked
    return boxing.operations.reshape(last, (*stacked.shape[1:], *shape))


def jacobian(
    function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """Return a function that computes the Jacobian in the cheaper mode.

    Reverse mode costs one sweep for each element of the outputs, forward mode one push for each element of the
    arguments; the function is run once to count the former.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns any nesting of Tensors.
        argnums: which positional arguments to differentiate with respect to.
        has_aux: the function returns (outputs, anything else).
        chunk_size: push or pull at most so many elements at once, to bound memory.

    Returns:
        A function of the same arguments, as `jacrev` and `jacfwd` return it.

    Raises:
        DTypeError: an argument is an integer, or an output is no floating Tensor.

    >>> import wengert as wg
    >>> wg.jacobian(lambda x: wg.sin(x).sum())(wg.zeros(3)).tolist()
    [1.0, 1.0, 1.0]
    """
    wanted, several = checked_argnums(argnums, "jacobian"), isinstance(argnums, Sequence)
    forward = jacfwd(function, argnums, has_aux, chunk_size)

    def in_the_cheaper_mode(*args: Any, **kwargs: Any) -> Any:
        partial_function, chosen = _of_chosen(function, wanted, args, kwargs, "jacobian")
        outputs, pullback, *aux = vjp(partial_function, *chosen, has_aux=has_aux)
        into = sum(y.size for y in pytree.flatten(outputs)[0])
        of = sum(x.size for x in pytree.flatten(chosen)[0])
        if of < into:
            del outputs, pullback, aux
            return forward(*args, **kwargs)
        rows = _by_rows(outputs, pullback, described(function), chunk_size, several)
        return (rows, aux[0]) if has_aux else rows

    return named(in_the_cheaper_mode, function, "jacobian")


def hessian(
    function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, chunk_size: int | None = None
) -> Callable[..., Any]:
    """Return a function that computes second derivatives: forward mode over reverse mode.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns a scalar Tensor (or any
            nesting of Tensors, for the second derivatives of each of their elements).
        argnums: which positional arguments to differentiate with respect to.
        has_aux: the function returns (outputs, anything else).
        chunk_size: push forward at most so many elements at once, to bound memory.

    Returns:
        A function of the same arguments. For a scalar output and an argument x it gives a Tensor of shape
        `x.shape + x.shape`; for nested arguments, a nesting of nestings.

    Raises:
        DTypeError: an argument is an integer, or an output is no floating Tensor.

    >>> import wengert as wg
    >>> wg.hessian(lambda x: x[0] ** 2 * x[1])(wg.tensor([2.0, 3.0])).tolist()
    [[6.0, 4.0], [4.0, 0.0]]
    """
    first = jacrev(function, argnums, has_aux)
    forward_over_reverse = jacfwd(first, argnums, has_aux, chunk_size)
    wanted, several = checked_argnums(argnums, "hessian"), isinstance(argnums, Sequence)

    def second_derivatives(*args: Any, **kwargs: Any) -> Any:
        if innermost_trace() is None and not (capturing.engaged or has_aux or chunk_size):
            partial_function, chosen = _of_chosen(function, wanted, args, kwargs, "hessian")
            if sum([x.size for x in pytree.flatten(chosen)[0]]) ** 2 >= native.smallest_matrix:
                run = Run("hessian", partial_function, tuple(chosen), {}, range(len(chosen)), False)
                if isinstance(run.outputs, boxing.Tensor) and run.outputs.shape == () and run.outputs._node is not None:
                    return _from_one_tape(run, run.outputs._node, several)
        return forward_over_reverse(*args, **kwargs)

    return named(second_derivatives, function, "hessian")


def _from_one_tape(run: Run, node: Node, several: bool) -> PyTree:
    """Return second derivatives by reverse mode alone: the rows of the gradient, which native code may compute."""
    route, others = run.survey([node])
    rows = native_rows("hessian", run, [node], route, others, hessian_of)
    if rows is None:
        pair = (node, boxing.box(np.ones((), node.dtype)))
        bars = cotangents([pair], run.nodes, route, retain=True, tracked=True, masked=False)
        leaves, structure = pytree.flatten(run.gradients(bars))
        rows = _rows(leaves, structure, Pullback(run, leaves, structure), None)
    nested = run.structure.unflatten(rows if several else [row[0] for row in rows])
    return nested if several else nested[0]


__all__ = ["hessian", "jacfwd", "jacobian", "jacrev"]
