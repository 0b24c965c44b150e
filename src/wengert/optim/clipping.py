"""Gradient clipping: bounds on gradients between `backward()` and `step()`."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite
from typing import Any

import numpy as np

import wengert as wg
from wengert import Tensor


def _gradients(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in listed if p.grad is not None]


def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by one factor, so that their joint norm is at most `max_norm`.

    R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks" (2013), section 3.2.

    Args:
        parameters: the parameters whose `.grad` is scaled, in place; those without are passed over.
        max_norm: the bound.
        norm_type: p of the p-norm; infinity for the largest magnitude.
        error_if_nonfinite: refuse a norm that is NaN or infinite, leaving the gradients alone.

    Returns:
        The norm before scaling.

    >>> import wengert as wg
    >>> x = wg.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x / 2).sum().backward()
    >>> wg.optim.clip_grad_norm_([x], 1.0).item(), [round(g, 4) for g in x.grad.tolist()]
    (5.0, [0.6, 0.8])
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must not be negative, and it is {max_norm}")
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be positive, and it is {norm_type}")
    gradients = _gradients(parameters)
    if Tensor.recorder() is not None:
        return _clip_recorded(gradients, max_norm, norm_type, error_if_nonfinite)
    total = _joint_norm([np.asarray(g._raw()) for g in gradients], norm_type)
    if error_if_nonfinite:
        _demand_finite(np.asarray(total))
    factor = max_norm / (total + 1e-6)
    # A factor that is NaN must reach the gradients: they hold a NaN, and clipping shall not hide it.
    if not factor >= 1:
        _rewrite(gradients, _Scaled(factor))
    dtype = np.result_type(*[g.dtype for g in gradients]) if gradients else None
    return wg.tensor(total, dtype)


def _clip_recorded(gradients: list[Tensor], max_norm: float, p: float, error_if_nonfinite: bool) -> Tensor:
    """Do the same with operations, where no value is known yet: in a function that is being compiled."""
    with wg.no_grad():
        total = _norm_of_tensors(gradients, p)
        if error_if_nonfinite:
            total.examine(_demand_finite)
        factor = max_norm / (total + 1e-6)
        factor = wg.where(factor >= 1, 1.0, factor)
        for gradient in {id(g): g for g in gradients}.values():
            gradient.copy_(gradient * wg.astype(factor, gradient.dtype))
        return wg.astype(total, np.result_type(*[g.dtype for g in gradients])) if gradients else total


def _norm_of_tensors(gradients: list[Tensor], p: float) -> Tensor:
    sizes = [wg.abs(wg.astype(g, np.float64)) for g in gradients if g.size]
    if not sizes:
        return wg.tensor(0.0, np.float64)
    largest = wg.max(wg.stack([wg.max(size) for size in sizes]))
    if p == inf:
        return largest
    # Powers of the sizes themselves might leave the range, of single precision's never at p = 2.
    in_range = p == 2 and all(g.dtype.itemsize < 8 for g in gradients)
    unit = 1.0 if in_range else wg.where(wg.isfinite(largest) & (largest > 0), largest, 1.0)
    total = sum([wg.sum((size / unit) ** p) for size in sizes])
    return unit * total ** (1 / p)  # type: ignore[operator]


def _demand_finite(total: np.ndarray) -> None:
    if not np.isfinite(total):
        raise ValueError(
            f"clip_grad_norm_: the norm of the gradients is {total}; nothing has been scaled. "
            "error_if_nonfinite=False scales anyway"
        )


class _Scaled:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, array: np.ndarray) -> None:
        np.multiply(array, self.factor, out=array)


class _Bounded:
    def __init__(self, bound: float) -> None:
        self.bound = bound

    def __call__(self, array: np.ndarray) -> None:
        np.clip(array, -self.bound, self.bound, out=array)


def _rewrite(gradients: list[Tensor], change: Any) -> None:
    distinct = {id(g): g for g in gradients}
    if not all(g.is_leaf for g in distinct.values()):
        raise ValueError(
            "clipping changes gradients in place, and these are on the tape (create_graph=True); scale the loss or the "
            "update instead"
        )

    def write(arrays: list[np.ndarray]) -> None:
        with np.errstate(all="ignore"):
            for array in arrays:
                change(array)

    Tensor.update_buffers(list(distinct.values()), write)


def _joint_norm(arrays: list[np.ndarray], p: float) -> float:
    with np.errstate(all="ignore"):
        if p == inf:
            return float(np.max([np.max(np.abs(a), initial=0.0) for a in arrays], initial=0.0))
        if p == 2:
            total = sum(float(np.vdot(a, a)) for a in arrays if a.dtype != np.float16)
            total += sum(float(np.sum(np.square(a, dtype=np.float64))) for a in arrays if a.dtype == np.float16)
            if isfinite(total) and (total > 1e-30 or not total):
                return total**0.5
        # In single precision the squares of large or small gradients leave the range; in double precision they don't.
        largest = float(np.max([np.max(np.abs(a), initial=0.0) for a in arrays], initial=0.0))
        if not largest or not isfinite(largest):
            return largest
        scaled = sum(float(np.sum((np.abs(a, dtype=np.float64) / largest) ** p)) for a in arrays)
        return largest * scaled ** (1 / p)


def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Bound each element of the gradients to [-clip_value, clip_value], in place; a NaN stays one.

    >>> import wengert as wg
    >>> x = wg.tensor([3.0, -0.5], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> wg.optim.clip_grad_value_([x], 2.0); x.grad.tolist()
    [2.0, -1.0]
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must not be negative, and it is {clip_value}")
    _rewrite(_gradients(parameters), _Bounded(clip_value))
