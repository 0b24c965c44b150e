"""Factors of a sweep that are computed on the way forward, where what they have in common with it is computed.

gelu and its derivative both take an exponential and a division of the same elements. If the sweep needs nothing else of
these, it is the derivative that is best kept in memory for it, and not the elements: no more memory, and what costs
most is computed once.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from .graph import Equation, Value

if TYPE_CHECKING:
    from .fuse_storage import Storage

WITH_EPILOGUES = frozenset(("matrix_product", "convolve"))
"""Operations whose results are never in memory if all that reads them is computed with them."""
LEAST_COST = 12.0
"""What a function must cost, in simple operations, for this to be worth it."""
MOST_STEPS = 48
"""Elementwise operations that are followed from elements on, or back from what is computed of them."""


def early_factors(storage: Storage, costs: dict[str, float]) -> Iterator[Value]:
    """Yield arrays to keep in memory instead of those that they are computed from."""
    outputs, tried = set(storage.graph.outputs), set[Value]()
    for equation in storage.graph.equations:
        if equation not in storage.mapped or costs.get(equation.primitive.name, 0.0) < LEAST_COST:
            continue
        for elements in dict.fromkeys(equation.values()):
            if elements in tried or len(storage.consumers[elements]) < 2:
                continue
            tried.add(elements)
            if not _comes_of_product(storage, elements, outputs):
                continue
            factor = _factor_of(storage, elements)
            if factor is not None and storage.is_costly(factor):
                yield factor


def _comes_of_product(storage: Storage, elements: Value, outputs: Container[Value]) -> bool:
    """Return whether elements are made in a product's epilogue, and nothing else needs that product.

    Others are made of what is in memory anyway: to keep a factor, too, would take more of it.
    """
    found, pending = False, [elements]
    while pending:
        value = pending.pop()
        maker = storage.maker.get(value)
        if maker is None:
            continue
        if value in outputs or (value is not elements and len(storage.consumers[value]) > 1):
            return False
        if maker.primitive.name in WITH_EPILOGUES:
            found = found or value.size == elements.size
        elif not storage.is_leaf(value):
            pending.extend(maker.values())
    return found


def _factor_of(storage: Storage, elements: Value) -> Value | None:
    """Return the one array that the sweep needs of what is computed from elements; None if it is not so simple."""
    users = _followed(storage, elements)
    made = [storage.order[user] for user in users if user.outputs[0] in storage.stored]
    if not made:
        return None
    forward = min(made)  # what is wanted in memory first is what is computed on the way forward
    early = {elements} | {user.outputs[0] for user in users if _is_early(storage, user, forward)}
    wanted = []
    for value in early:
        if value is elements or value not in storage.stored:
            wanted += [value for user in storage.consumers.get(value, []) if user.outputs[0] not in early][:1]
    if len(wanted) != 1 or wanted[0] is elements:
        return None
    factor = wanted[0]
    return factor if factor.shape == elements.shape and factor.dtype == elements.dtype else None


def _followed(storage: Storage, elements: Value) -> list[Equation]:
    """Return the elementwise operations from an array on, up to arrays in memory; none if there are too many."""
    seen: dict[Equation, None] = {}
    pending = [elements]
    while pending:
        for user in storage.consumers.get(pending.pop(), []):
            if user in seen:
                continue
            if user not in storage.mapped or len(seen) == MOST_STEPS:
                return []
            seen[user] = None
            if user.outputs[0] not in storage.stored:
                pending.append(user.outputs[0])
    return list(seen)


def _is_early(storage: Storage, equation: Equation, forward: int) -> bool:
    """Return whether all that an equation's result is computed from is there before an equation of that order."""
    pending, seen = [equation], {equation}
    while pending:
        for value in pending.pop().values():
            maker = storage.maker.get(value)
            if maker is None or maker in seen:
                continue
            seen.add(maker)
            if storage.is_leaf(value):
                if storage.order[maker] > forward:
                    return False
            elif len(seen) > MOST_STEPS:
                return False
            else:
                pending.append(maker)
    return True
