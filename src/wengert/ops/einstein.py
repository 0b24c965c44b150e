"""Einstein summation, reduced to diagonals and sums of one operand and contractions of two.

Every operand is first brought to labels that occur once in it and that the rest still needs; then operands are
contracted two at a time, in an order that keeps intermediate results small.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..core import boxing
from ..core.dispatch import bind
from ..declare import Sample, composite
from ..errors import ShapeError
from ..typing import Shape
from .axes import ascii_letters
from .contraction import contract_pair
from .creation import asarray
from .shaping import diagonal, reshape, transpose

__all__ = ["einsum"]

_LETTERS = frozenset(ascii_letters)


@composite(
    samples=[
        Sample("ij,jk->ik", (2, 3), (3, 4)),
        Sample("ij,jk", (2, 3), (3, 4)),
        Sample("ii->i", (3, 3)),
        Sample("ii", (3, 3)),
        Sample("iij,j->", (2, 2, 3), (3,)),
        Sample("ij->", (2, 3)),
        Sample("b...i,...ij->b...j", (2, 4, 3), (4, 3, 2)),
        Sample("...,...", (2, 1, 3), (4, 3)),
        Sample("ab,bc,cd,a->d", (2, 3), (3, 4), (4, 2), (2,)),
        Sample("i,j,k->kji", (2,), (3,), (2,)),
        Sample("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
        Sample("bij,bij->b", (2, 3, 2), (2, 3, 2)),
        Sample("ij,kj->i", (2, 3), (4, 3)),
    ],
    reference="numpy.einsum",
)
def einsum(subscripts: Any, *operands: Any, optimize: Any = True) -> Any:
    """Sum of products along labelled axes.

    Args:
        subscripts: labels of the axes of every operand and, after `->`, of the result, as `"ij,jk->ik"`; repeated
            labels are diagonals, `...` stands for axes that broadcast. Or the first operand, where every operand is
            followed by a list of numbers.
        *operands: the arrays.
        optimize: accepted for NumPy's sake; more than two operands are always contracted in a good order.

    Raises:
        ShapeError: labels that do not fit the operands, or extents that differ under one label.

    >>> import wengert as wg
    >>> wg.einsum("ij,jk->ki", wg.ones((2, 3)), wg.ones((3, 4))).shape
    (4, 2)
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _from_lists((subscripts, *operands))
    tensors = [asarray(operand) for operand in operands]
    terms, out, extents = _parsed(subscripts, tuple([tensor.shape for tensor in tensors]))
    parts = [_distinct(tensor, term, extents) for tensor, term in zip(tensors, terms)]
    if len(parts) > 2:
        steps = _path(tuple([labels for _, labels in parts]), out, tuple([tensor.shape for tensor, _ in parts]))
    else:
        steps = ((0, 1),) * (len(parts) - 1)
    for first, second in steps:
        x, y = parts[first], parts[second]
        rest = [part for i, part in enumerate(parts) if i not in (first, second)]
        parts = [*rest, _contracted(x, y, "".join([labels for _, labels in rest]) + out, out if not rest else None)]
    tensor, labels = _summed(*parts[0], out)
    order = tuple([labels.index(label) for label in out])
    return tensor if order == tuple(range(len(order))) else transpose(tensor, order)


def _from_lists(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """Turn `einsum(x, [0, 1], y, [1, 2], [0, 2])` into the usual form."""
    operands, lists = arguments[: 2 * (len(arguments) // 2) : 2], list(arguments[1::2])
    numbers = sorted({n for part in [*lists, *arguments[2 * len(lists) :]] for n in part if n is not Ellipsis})
    letters = dict(zip(numbers, ascii_letters))

    def labels(part: Any) -> str:
        return "".join(["..." if n is Ellipsis else letters[n] for n in part])

    subscripts = ",".join([labels(part) for part in lists])
    if len(arguments) % 2:
        subscripts += f"->{labels(arguments[-1])}"
    return subscripts, operands


@lru_cache(maxsize=1024)
def _parsed(subscripts: str, shapes: tuple[Shape, ...]) -> tuple[tuple[str, ...], str, dict[str, int]]:
    """Return (labels of every operand, labels of the result, extents by label), with ellipses spelled out."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(shapes):
        raise ShapeError(f"einsum: {subscripts!r} names {len(terms)} operands, but there are {len(shapes)}")
    for term in [*terms, output]:
        if not _LETTERS.issuperset(term.replace("...", "")) or term.count("...") > 1:
            raise ShapeError(f"einsum: {term!r} in {subscripts!r} is not letters with at most one '...'")
    spare = "".join([letter for letter in ascii_letters if letter not in subscripts])
    rank = 0
    expanded: list[str] = []
    for term, shape in zip(terms, shapes):
        named = len(term.replace("...", ""))
        hidden = len(shape) - named if "..." in term else 0
        if named + hidden != len(shape) or hidden < 0:
            raise ShapeError(f"einsum: {term!r} in {subscripts!r} does not fit an operand of shape {shape}")
        rank = max(rank, hidden)
        expanded.append(term.replace("...", spare[:hidden][::-1]))
    shared = spare[:rank][::-1]
    everything = "".join(terms).replace("...", "")
    if arrow:
        out = output.replace("...", shared)
    else:
        out = shared + "".join([label for label in sorted(set(everything)) if everything.count(label) == 1])
    if len(set(out)) != len(out) or not set(out) <= set("".join(expanded)) | set(shared):
        raise ShapeError(f"einsum: the result of {subscripts!r} repeats a label, or has one that no operand has")
    return tuple(expanded), out, _extents(subscripts, expanded, shapes)


def _extents(subscripts: str, terms: list[str], shapes: tuple[Shape, ...]) -> dict[str, int]:
    extents: dict[str, int] = {}
    for term, shape in zip(terms, shapes):
        for label, extent in zip(term, shape):
            known = extents.setdefault(label, extent)
            if known == 1:
                extents[label] = extent
            elif extent not in (1, known):
                raise ShapeError(
                    f"einsum: in {subscripts!r}, an axis has extent {known} in one operand and {extent} in another; "
                    f"the shapes are {' and '.join(str(s) for s in shapes)}"
                )
    return extents


def _distinct(tensor: Any, term: str, extents: dict[str, int]) -> tuple[Any, str]:
    """Take diagonals of repeated labels, and drop axes of extent one that broadcast."""
    labels = term
    for label in dict.fromkeys(term):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            if tensor.shape[first] != tensor.shape[second]:
                raise ShapeError(
                    f"einsum: the axes of {term!r} under one label have different extents in {tensor.shape}"
                )
            tensor = diagonal(tensor, 0, first, second)
            labels = labels[:first] + labels[first + 1 : second] + labels[second + 1 :] + label
    kept = [i for i, label in enumerate(labels) if tensor.shape[i] == extents[label]]
    if len(kept) != len(labels):
        tensor = reshape(tensor, tuple([tensor.shape[i] for i in kept]))
        labels = "".join([labels[i] for i in kept])
    return tensor, labels


def _summed(tensor: Any, labels: str, needed: str) -> tuple[Any, str]:
    """Sum over the axes that nothing else needs."""
    needless = tuple([i for i, label in enumerate(labels) if label not in needed])
    if not needless:
        return tensor, labels
    return boxing.operations.sum(tensor, needless), "".join([label for label in labels if label in needed])


def _contracted(x: tuple[Any, str], y: tuple[Any, str], needed: str, out: str | None) -> tuple[Any, str]:
    """Contract two operands, keeping the labels that are needed; in the order of `out` where it is the last step."""
    left, for_x = _summed(*x, needed + y[1])
    right, for_y = _summed(*y, needed + for_x)
    for_out = out if out is not None else "".join(dict.fromkeys([c for c in for_x + for_y if c in needed]))
    return bind(contract_pair.primitive, (left, right), {"subscripts": f"{for_x},{for_y}->{for_out}"}), for_out


@lru_cache(maxsize=256)
def _path(terms: tuple[str, ...], out: str, shapes: tuple[Shape, ...]) -> tuple[tuple[int, int], ...]:
    """Return which two operands to contract at each step; the result goes to the end of the list."""
    stand_ins = [np.broadcast_to(np.float64(0), shape) for shape in shapes]
    contractions = np.einsum_path(f"{','.join(terms)}->{out}", *stand_ins, optimize="greedy")[0][1:]
    steps: list[tuple[int, int]] = []
    count = len(terms)
    for group in contractions:
        places = sorted(int(i) for i in group)
        while len(places) > 1:
            steps.append((places[0], places[1]))
            count -= 1
            places = [*[i - 2 for i in places[2:]], count - 1]
    return tuple(steps)
