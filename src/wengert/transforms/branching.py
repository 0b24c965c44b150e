"""Branches as functions: `cond`, for predicates that may differ from example to example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..core import boxing, capturing, pytree
from ..core.step_numbers import Unrollable
from ..core.tracing import snapshot
from ..errors import DTypeError, ShapeError, StructureError
from ..typing import PyTree
from .levels import differs
from .shared import as_tensor, described


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> PyTree:
    """Apply one of two functions, whichever a predicate says.

    The same as `true_fun(*operands) if pred else false_fun(*operands)`, which is as good wherever the predicate is one
    value. Inside of `vmap` it may differ from example to example: then both functions are run on all examples, and the
    results are selected. The one that is not taken contributes exactly zero to every derivative, even where its own is
    infinite or NaN.

    Args:
        pred: one truth value, of shape ().
        true_fun: what is applied if it is true. It may write to its operands; nobody else sees it.
        false_fun: what is applied otherwise. Where both are run, they must return the same nesting, shapes and dtypes.
        *operands: their arguments, any nesting of anything.

    Returns:
        What the function returns.

    Raises:
        ShapeError: the predicate has axes, or the results differ in shape where both are run.
        StructureError, DTypeError: the results differ in nesting or in dtype where both are run.

    >>> import wengert as wg
    >>> wg.cond(True, wg.sin, wg.cos, wg.tensor(0.0))
    Tensor(0., dtype=float32)
    >>> safe_log = lambda x: wg.cond(x > 0, wg.log, lambda x: 0.0 * x, x)
    >>> wg.vmap(wg.grad(safe_log))(wg.tensor([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    shape = pred.shape if isinstance(pred, boxing.Tensor) else np.shape(pred)
    if shape != ():
        raise ShapeError(
            f"cond: the predicate must be one truth value, of shape (), not of shape {shape}; reduce it, for example "
            "with .any() or .all(), or choose element by element with wg.where"
        )
    if type(pred) is boxing.Tracer and capturing.is_in_step():
        try:
            return _of_both(pred, true_fun, false_fun, operands)
        except Exception as error:  # the step that takes the other one may have none
            raise Unrollable("functions of which only one may be run") from error
    if not differs(pred):
        return (true_fun if pred else false_fun)(*pytree.map_leaves(_of_its_own, operands))
    return _of_both(pred, true_fun, false_fun, operands)


def _of_both(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], operands: Sequence[Any]) -> PyTree:
    """Run both functions, and select among their results."""
    chosen = boxing.operations.not_equal(pred, 0)
    with np.errstate(
        all="ignore"
    ):  # each is run on the examples of the other, too, and what becomes of them is dropped
        taken, structure = pytree.flatten(true_fun(*pytree.map_leaves(_of_its_own, operands)))
        returned = false_fun(*pytree.map_leaves(_of_its_own, operands))
        try:
            others = structure.flatten_like(returned, "the result")
        except StructureError as error:
            raise StructureError(
                f"cond: inside of vmap the predicate differs from example to example, and both functions are run, so "
                f"they must return the same nesting: of {described(false_fun)}, as compared to {described(true_fun)}, "
                f"{error}"
            ) from None
        return structure.unflatten(
            [
                _selected(chosen, x, y, partial(_path, structure, i), (true_fun, false_fun))
                for i, (x, y) in enumerate(zip(taken, others))
            ]
        )


def _of_its_own(leaf: Any) -> Any:
    return snapshot(leaf) if isinstance(leaf, boxing.Tensor) else leaf


def _path(structure: pytree.Structure, i: int) -> str:
    return structure.paths("the result")[i]


def _selected(chosen: Any, x: Any, y: Any, path: Callable[[], str], functions: tuple[Any, Any]) -> Any:
    x, y = as_tensor(x, "cond", path), as_tensor(y, "cond", path)
    names = [described(function) for function in functions]
    if x.shape != y.shape:
        raise ShapeError(
            f"cond: both functions are run where the predicate differs from example to example, and {path()} has shape "
            f"{x.shape} from {names[0]} and {y.shape} from {names[1]}; make them equal"
        )
    if x.dtype != y.dtype:
        raise DTypeError(
            f"cond: both functions are run where the predicate differs from example to example, and {path()} has dtype "
            f"{x.dtype} from {names[0]} and {y.dtype} from {names[1]}; convert one of them with .astype"
        )
    return boxing.operations.where(chosen, x, y)


__all__ = ["cond"]
