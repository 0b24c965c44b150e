"""No operation keeps memory of the user's: arrays changed after the forward pass leave the gradient as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert.core.primitive import REGISTRY
from wengert.testing.samples import Case, cases

RECORDS = {record.name: record for record in (*REGISTRY, *REGISTRY.composites.values())}


def gradients(record: Any, case: Case, tracked: int, lend: Callable[[np.ndarray], Any], spoil: bool) -> Any:
    """Return the gradient by one argument while the others are (views of) arrays of the user's."""
    arrays = [a.copy() if isinstance(a, np.ndarray) else a for a in case.arrays]
    args = [lend(a) if isinstance(a, np.ndarray) else a for a in arrays]
    leaf = args[tracked] = wg.tensor(arrays[tracked], requires_grad=True)
    call = getattr(record, "call", None) or record.function
    with np.errstate(all="ignore"):
        outs = call(*args, **case.params)
    outs = outs if isinstance(outs, tuple) else (outs,)
    total: Any = wg.tensor(0.0)
    for out in outs:
        if isinstance(out, wg.Tensor) and out.requires_grad:
            total = total + wg.sum(wg.sin(out) * np.cos(np.arange(out.size)).reshape(out.shape))
    if spoil:
        for array in arrays:
            if isinstance(array, np.ndarray):
                array[...] = np.nan if array.dtype.kind == "f" else 1 - array.astype(int)
    if not total.requires_grad:
        return None
    total.backward()
    return None if leaf.grad is None else leaf.grad.numpy()


@pytest.mark.parametrize("lend", [lambda array: array, wg.asarray, lambda array: wg.asarray(array)[...]])
@pytest.mark.parametrize("name", sorted(RECORDS))
def test_arrays_changed_after_the_forward_pass(name: str, lend: Callable[[np.ndarray], Any]) -> None:
    record = RECORDS[name]
    for case in cases(record)[:8]:
        if len(case.arrays) < 2:
            continue
        for tracked in case.moving:
            if not isinstance(case.arrays[tracked], np.ndarray):
                continue
            clean = gradients(record, case, tracked, lend, spoil=False)
            spoiled = gradients(record, case, tracked, lend, spoil=True)
            np.testing.assert_array_equal(spoiled, clean, err_msg=f"{case}, by argument {tracked}")


X = np.arange(1.0, 13.0).reshape(3, 4)

# Functions with arrays among their parameters: (call with an array, the array).
PARAMETERS: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "index": (lambda x, a: x[a], [0, 2, 0]),
    "index, two": (lambda x, a: x[a, a], [0, 2]),
    "mask": (lambda x, a: x[a], [True, False, True]),
    "write": (lambda x, a: _written(x, a), [0, 2]),
    "write by mask": (lambda x, a: _written(x, a), [True, False, True]),
    "take": (lambda x, a: wg.take(x, a, axis=1), [3, 1]),
    "take_along_axis": (lambda x, a: wg.take_along_axis(x, a, axis=1), [[0], [2], [3]]),
    "where": (lambda x, a: wg.where(a, x, 0.0), [True, False, False, True]),
    "masked sum": (lambda x, a: wg.sum(x, where=a), [True, False, False, True]),
    "masked std": (lambda x, a: wg.std(x, axis=1, where=a), [True, False, True, True]),
    "repeat": (lambda x, a: wg.repeat(x, a, axis=0), [1, 0, 2]),
    "average": (lambda x, a: wg.average(x, weights=a, axis=1), [1.0, 2.0, 3.0, 4.0]),
    "einsum": (lambda x, a: wg.einsum("ij,j->i", x, a), [1.0, 2.0, 3.0, 4.0]),
    "matmul": (lambda x, a: x @ a, [1.0, 2.0, 3.0, 4.0]),
    "clip": (lambda x, a: wg.clip(x, a, 9.0), [2.0, 2.0, 8.0, 1.0]),
    "power": (lambda x, a: x**a, [1.0, 2.0, 0.5, 3.0]),
    "add.at": (lambda x, a: _added_at(x, a), [0, 0, 2]),
    "np.where": (lambda x, a: np.where(a, x, 0.0), [True, False, False, True]),
    "cross_entropy": (lambda x, a: wg.nn.functional.cross_entropy(x, a), [3, 0, 1]),
    "embedding": (lambda x, a: wg.nn.functional.embedding(a, x), [2, 0, 2]),
}


def _written(x: Any, key: Any) -> Any:
    y = x * 1
    y[key] = 0.0
    return y


def _added_at(x: Any, key: Any) -> Any:
    y = x * 1
    np.multiply.at(y, key, 2.0)
    return y


@pytest.mark.parametrize("lend", [lambda array: array, wg.asarray])
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_changed_after_the_forward_pass(name: str, lend: Callable[[np.ndarray], Any]) -> None:
    call, values = PARAMETERS[name]
    found = []
    for spoil in (False, True):
        x, array = wg.tensor(X, requires_grad=True), np.array(values)
        loss = wg.sum(wg.sin(call(x, lend(array))))
        if spoil:
            array[...] = ~array if array.dtype == bool else 1 if array.dtype.kind == "i" else np.nan
        loss.backward()
        found.append(x.grad.numpy())
    np.testing.assert_array_equal(found[1], found[0])
