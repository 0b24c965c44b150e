"""Products with second derivatives that never form them."""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import boxing, pytree
from ..core.backward import cotangents
from ..core.tracing import innermost_trace
from ..errors import ShapeError
from ..typing import PyTree
from .pushing import jvp, tangents_of
from .reverse import Pullback, Run, demand_scalar, grad, vjp
from .whole_tapes import native_product


def hvp(function: Callable[..., Any], primals: PyTree, tangents: PyTree) -> Any:
    """Multiply the Hessian of a scalar-valued function by a vector, without forming it.

    It costs at most about three times as much as the gradient. Where no other transform is at work, the gradient is
    pulled back once more, which is quickest there; elsewhere its tangent is pushed forward. The Hessian being
    symmetric, both give the same.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns a Tensor of shape ().
        primals: its argument; a tuple stands for several arguments.
        tangents: the vector, nested as the argument is, of the same shapes and dtypes (None for zero).

    Returns:
        The product, nested as the argument is.

    Raises:
        ShapeError: the function returns a Tensor that is not a scalar.
        StructureError, ShapeError, DTypeError: the vector does not fit the argument.

    >>> import wengert as wg
    >>> wg.hvp(lambda x: (x**3).sum(), wg.tensor([1.0, 2.0]), wg.tensor([1.0, 1.0])).tolist()
    [6.0, 12.0]

    B. A. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994).
    """
    several = isinstance(primals, tuple) and not hasattr(primals, "_fields")
    arguments, directions = (primals, tangents) if several else ((primals,), (tangents,))
    if innermost_trace() is not None:
        products = jvp(grad(function, argnums=tuple(range(len(arguments)))), arguments, directions)[1]
    else:
        dots = tangents_of(function, arguments, directions, "hvp")
        products = _pulled_twice(function, arguments, directions, dots)
    return products if several else products[0]


def _pulled_twice(
    function: Callable[..., Any], arguments: tuple[Any, ...], directions: tuple[Any, ...], dots: list[Any]
) -> Any:
    """Pull back the gradient; on large arrays, native code may do both sweeps at once."""
    run = Run("hvp", function, arguments, {}, range(len(arguments)), False)
    node = demand_scalar(run)
    if node is None:
        return run.gradients([None] * len(run.nodes))
    route, others = run.survey([node])
    products = native_product(run, node, route, others, dots)
    if products is not None:
        return products
    pair = (node, boxing.box(np.ones((), node.dtype)))
    bars = cotangents([pair], run.nodes, route, retain=True, tracked=True, masked=False)
    leaves, structure = pytree.flatten(run.gradients(bars))
    return Pullback(run, leaves, structure)(directions)


def gauss_newton_vp(function: Callable[..., Any], loss: Callable[..., Any], primals: PyTree, tangents: PyTree) -> Any:
    """Multiply the generalised Gauss-Newton matrix of `loss(function(x))` by a vector, without forming it.

    The matrix is `J^T H J`, with J the Jacobian of the function and H the Hessian of the loss; it is positive
    semidefinite where the loss is convex.

    Args:
        function: takes arrays, Python floats, Tensors, or any nesting of them, and returns any nesting of Tensors.
        loss: takes what the function returns, and returns a Tensor of shape ().
        primals: the function's argument; a tuple stands for several arguments.
        tangents: the vector, nested as the argument is, of the same shapes and dtypes (None for zero).

    Returns:
        The product, nested as the argument is.

    Raises:
        ShapeError: the loss returns a Tensor that is not a scalar.
        StructureError, ShapeError, DTypeError: the vector does not fit the argument.

    >>> import wengert as wg
    >>> residuals = lambda x: wg.stack([x[0] - 1.0, 10.0 * (x[1] - x[0] ** 2)])
    >>> half_squares = lambda r: 0.5 * (r * r).sum()
    >>> wg.gauss_newton_vp(residuals, half_squares, wg.tensor([1.0, 1.0]), wg.tensor([1.0, 0.0])).tolist()
    [401.0, -200.0]

    N. N. Schraudolph, Fast curvature matrix-vector products, Neural Computation 14 (2002).
    """
    several = isinstance(primals, tuple) and not hasattr(primals, "_fields")
    arguments, directions = (primals, tangents) if several else ((primals,), (tangents,))
    outputs, pullback = vjp(function, *arguments)
    _, outputs_dot = jvp(function, arguments, directions)

    def loss_of_outputs(outputs: Any) -> Any:
        out = loss(outputs)
        if isinstance(out, boxing.Tensor) and out.shape != ():
            raise ShapeError(f"gauss_newton_vp: the loss must return a scalar, but returned shape {out.shape}")
        return out

    curved = jvp(grad(loss_of_outputs), (outputs,), (outputs_dot,))[1]
    products = pullback(curved)
    return products if several else products[0]


__all__ = ["gauss_newton_vp", "hvp"]
