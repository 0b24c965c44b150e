"""`check_grads`: gradients of anybody's function against numerical ones, in every mode and to any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import wengert as wg

from .checks import demand_derivative, precision
from .numeric import along, condition, derivative, flatten, noise, rounding
from .recording import as_tuple, filled, inner, leaf, raw
from .samples import Case, generator

MODES = ("reverse", "forward")
_STEP = 0.01
_SMALLEST = 0.01


def check_grads(
    f: Callable[..., Any], args: Sequence[Any], order: int = 2, modes: Sequence[str] = MODES, name: str | None = None
) -> None:
    """Check the gradients of a function against numerical derivatives, along random directions.

    Differences are taken in float64 whatever the arguments' dtype, Richardson-extrapolated; how far a gradient may be
    off follows from the dtype, the function's condition and the error that the differences estimate for themselves.

    Args:
        f: function of Tensors; returns a Tensor, or a tuple of them.
        args: its arguments. Floating Tensors, arrays and Python floats (and lists of them) are differentiated by;
            anything else is passed on as it is.
        order: the highest derivative to check.
        modes: "reverse" (the backward sweep) and "forward" (`wg.jvp`, where this version has it).
        name: what messages call the function.

    Raises:
        AssertionError: a derivative is wrong; the message names both numbers.
        ValueError: an unknown mode, or nothing to differentiate by.

    >>> import wengert as wg
    >>> wg.testing.check_grads(lambda x, y: wg.sin(x) * y, (0.7, [1.0, 2.0]))
    """
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ValueError(f"check_grads: unknown mode {unknown[0]!r}; the modes are {' and '.join(MODES)}")
    case = _case(args)
    if not case.moving:
        raise ValueError("check_grads: no argument is a floating Tensor, a floating array or a Python float")
    _check(f, case, order, modes, name or getattr(f, "__name__", "the function"))


def _case(args: Sequence[Any]) -> Case:
    arrays: list[Any] = []
    for arg in args:
        value = raw(arg)
        if isinstance(value, float) or (isinstance(value, (list, tuple)) and _is_floating(value)):
            value = np.asarray(value, np.float64)
        arrays.append(np.asarray(value) if isinstance(value, np.generic) else value)
    moves = tuple(isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in arrays)
    return Case("the given arguments", arrays, {}, moves, _STEP)


def _is_floating(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind == "f"
    except ValueError:
        return False


def _check(f: Callable[..., Any], case: Case, order: int, modes: Sequence[str], name: str) -> None:
    rng = generator(name)
    directions = [
        None if d is None else d * np.maximum(np.abs(a), _SMALLEST)
        for d, a in zip(case.directions(rng), case.cast(np.float64).arrays)
    ]
    weights = [
        np.asarray(rng.uniform(0.5, 1.5, y.shape), y.dtype) if y.dtype.kind == "f" else None
        for y in _values(f, case.arrays)
    ]
    if not any(w is not None for w in weights):
        return
    exact = case.cast(np.float64)

    def weighted(t: Any) -> np.ndarray:
        return np.atleast_1d(inner(_values(f, along(exact.arrays, directions, t)), weights)[0])

    with np.errstate(all="ignore"):
        numeric = derivative(weighted, case.step, noise=_noise(f, exact, weights))
        for mode in modes:
            if mode == "forward" and not hasattr(wg, "jvp"):
                continue
            slope = _reverse_slope if mode == "reverse" else _forward_slope
            got = np.atleast_1d(slope(f, case, directions, weights))
            limit = _limit(f, case, directions, weights)
            demand_derivative(f"{name} at {case.label}", f"the derivative in {mode} mode", got, numeric, limit)
    if order > 1:
        _check(_gradient_of(f, weights), case, order - 1, modes, f"the gradient of {name}")


def _noise(f: Callable[..., Any], exact: Case, weights: Sequence[Any]) -> Any:
    def vector(arrays: list[Any]) -> np.ndarray:
        return np.atleast_1d(inner(_values(f, arrays), weights)[0])

    return noise(np.float64, condition(vector, exact.arrays, exact.moves))


def _values(f: Callable[..., Any], arrays: Sequence[Any]) -> list[np.ndarray]:
    tensors = [leaf(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays]
    return [np.asarray(raw(y)) for y in as_tuple(f(*tensors))]


def _tracked_outputs(outs: Sequence[Any], weights: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the outputs that hang on the tape, and their seeds as Tensors."""
    pairs = [(y, w) for y, w in zip(outs, weights) if w is not None and getattr(y, "requires_grad", False)]
    return [y for y, _ in pairs], [wg.tensor(np.asarray(w, y.dtype)) for y, w in pairs]


def _bars(f: Callable[..., Any], tensors: Sequence[Any], weights: Sequence[Any], create_graph: bool) -> list[Any]:
    """Return the gradient of the weighted results with respect to the tracked Tensors; None where there is none."""
    inputs = [t for t in tensors if isinstance(t, wg.Tensor) and t.requires_grad]
    outs, seeds = _tracked_outputs(as_tuple(f(*tensors)), weights)
    if not outs:
        return [None] * len(inputs)
    return list(wg.autograd.grad(outs, inputs, seeds, create_graph=create_graph, allow_unused=True))


def _reverse_slope(f: Callable[..., Any], case: Case, directions: Sequence[Any], weights: Sequence[Any]) -> float:
    tensors = [leaf(a) if moves else a for a, moves in zip(case.arrays, case.moves)]
    found = iter(_bars(f, tensors, weights, create_graph=False))
    bars = [next(found) if moves else None for moves in case.moves]
    return inner(filled([None if bar is None else raw(bar) for bar in bars], case), directions)[0]


def _forward_slope(f: Callable[..., Any], case: Case, directions: Sequence[Any], weights: Sequence[Any]) -> float:
    def of_moving(*tensors: Any) -> Any:
        given = iter(tensors)
        return f(*[next(given) if moves else a for a, moves in zip(case.arrays, case.moves)])

    primals = tuple([wg.tensor(case.arrays[i]) for i in case.moving])
    tangents = tuple([wg.tensor(np.asarray(directions[i], case.arrays[i].dtype)) for i in case.moving])
    _, dots = wg.jvp(of_moving, primals, tangents)
    return inner([raw(y_dot) for y_dot in as_tuple(dots)], weights)[0]


def _limit(f: Callable[..., Any], case: Case, directions: Sequence[Any], weights: Sequence[Any]) -> Any:
    exact = case.cast(np.float64)

    def vector(arrays: list[Any]) -> np.ndarray:
        return np.atleast_1d(_reverse_slope(f, exact.replaced(arrays, ""), directions, weights))

    largest = max([float(np.abs(flatten([y])).max(initial=0.0)) for y in _values(f, exact.arrays)], default=0.0)
    return rounding(precision(case.arrays), condition(vector, exact.arrays, exact.moves) + largest)


def _tracked(t: Any) -> Any:
    return t if t.requires_grad else t.clone().requires_grad_()


def _gradient_of(f: Callable[..., Any], weights: Sequence[Any]) -> Callable[..., Any]:
    """Return the function that computes the gradient of the weighted results of `f`, differentiably."""

    def gradient(*tensors: Any) -> Any:
        # In forward mode they come off the tape.
        tensors = tuple([_tracked(t) if isinstance(t, wg.Tensor) else t for t in tensors])
        inputs = [t for t in tensors if isinstance(t, wg.Tensor)]
        bars = _bars(f, tensors, weights, create_graph=True)
        return tuple([wg.zeros_like(t.detach()) if bar is None else bar for bar, t in zip(bars, inputs)])

    return gradient


__all__ = ["check_grads"]
