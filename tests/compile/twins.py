"""Eager and compiled side by side: a scenario is played twice, and all that it has seen must agree.

A scenario is a function of `c`, which is `wg.compile` in one play and does nothing in the other; it returns what it has
seen, as `see` shows it. It makes its Tensors itself, so that the two plays share nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import wengert as wg

Compiler = Callable[[Any], Any]
Scenario = Callable[[Compiler], Any]

ROUNDINGS = 256
"""Roundings in a row, at most, that lie between what goes into a scenario and what is seen of it."""


def as_it_is(function: Any) -> Any:
    """Stand in for `wg.compile` where nothing is to be compiled."""
    return function


def see(*values: Any) -> list[Any]:
    """Return a picture of values, which later writes leave alone: Tensors with all that a user sees of them."""
    return [_picture(value) for value in values]


def _picture(value: Any) -> Any:
    if isinstance(value, wg.Tensor):
        assert "Tracer" not in type(value).__name__, "a tracer got out"
        gradient = value.grad
        return {
            "values": np.array(value.detach().numpy()),
            # Of a result whose tape was freed inside of the function a compiled one leaves no trace of the tape.
            "requires_grad": value.requires_grad and value.is_leaf,
            "grad": None if gradient is None else np.array(gradient.detach().numpy()),
        }
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: _picture(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_picture(item) for item in value]) if type(value) in (list, tuple) else see(*value)
    return value


def check_same(
    compiled: Any,
    eager: Any,
    scale: float = 0.0,
    where: str = "result",
    least: np.dtype[Any] | None = None,
    moved: Any = None,
) -> None:
    """Make sure that two pictures agree: structure, dtypes, integers exactly; floats up to the order of rounding.

    `scale` is the size of what they were computed from, where that may be larger than what is left of it; `least` the
    lowest precision on the way; `moved` how far rounding moves each array of the picture, in its structure.
    """
    assert type(compiled) is type(eager), f"{where}: {type(compiled).__name__}, eager {type(eager).__name__}"
    if isinstance(eager, dict):
        assert list(compiled) == list(eager), f"{where}: keys {list(compiled)}, eager {list(eager)}"
        for key in eager:
            check_same(
                compiled[key], eager[key], scale, f"{where}[{key!r}]", least, None if moved is None else moved[key]
            )
    elif isinstance(eager, (list, tuple)):
        assert len(compiled) == len(eager), f"{where}: {len(compiled)} items, eager {len(eager)}"
        for place, (one, other) in enumerate(zip(compiled, eager)):
            check_same(one, other, scale, f"{where}[{place}]", least, None if moved is None else moved[place])
    elif isinstance(eager, (np.ndarray, np.generic, float)):
        _check_numbers(np.asarray(compiled), np.asarray(eager), scale, where, least, moved or 0.0)
    elif isinstance(eager, BaseException):
        assert str(compiled) == str(eager), where
    else:
        assert compiled == eager, f"{where}: {compiled!r}, eager {eager!r}"


def _check_numbers(
    compiled: np.ndarray, eager: np.ndarray, scale: float, where: str, least: np.dtype[Any] | None, moved: float
) -> None:
    if moved == np.inf:
        return
    assert compiled.dtype == eager.dtype, f"{where}: {compiled.dtype}, eager {eager.dtype}"
    assert compiled.shape == eager.shape, f"{where}: shape {compiled.shape}, eager {eager.shape}"
    if eager.dtype.kind not in "fc" and moved:
        np.testing.assert_allclose(compiled.astype(float), eager.astype(float), rtol=0, atol=moved, err_msg=where)
        return
    if eager.dtype.kind not in "fc":
        np.testing.assert_array_equal(compiled, eager, err_msg=where)
        return
    finite = eager[np.isfinite(eager)]
    scale = max(scale, float(np.abs(finite).max()) if finite.size else 0.0)
    eps = max(np.finfo(dtype).eps for dtype in (eager.dtype, least or eager.dtype))
    within = ROUNDINGS * float(eps) * scale + moved
    np.testing.assert_allclose(compiled, eager, rtol=0, atol=within, equal_nan=True, err_msg=where)


def leaf(*values: float) -> wg.Tensor:
    """Return a leaf that requires grad."""
    return wg.tensor(list(values), requires_grad=True)


def plain(*tensors: wg.Tensor) -> None:
    """Make sure that no Tensor is a tracer."""
    for tensor in tensors:
        assert type(tensor) is wg.Tensor, type(tensor).__name__


def play(scenario: Scenario) -> None:
    """Play a scenario eagerly and compiled, and compare."""
    wg.random.seed(7)
    eager = scenario(as_it_is)
    wg.random.seed(7)
    compiled = scenario(wg.compile)
    check_same(compiled, eager)
