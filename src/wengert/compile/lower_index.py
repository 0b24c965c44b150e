"""Index maps: where an element of one array comes from in another, as affine functions of the indices of loops.

A map is one `Affine` for each axis of an array. Views compose with maps: a permutation reorders them, a reshape joins
them to one position and splits that again.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from ..typing import Shape
from .scalar_ir import Scalar


class NotAffine(Exception):
    """A map cannot be written with affine functions; what it leads to has to be in memory first."""


class Undecided(NotAffine):
    """An array would be computed at an index that data decide; it has to be in memory itself."""


class NeedsSplit(NotAffine):
    """It could be if the loop along `axis` were two, the inner one of extent `inner`."""

    def __init__(self, axis: int, inner: int) -> None:
        super().__init__(axis, inner)
        self.axis = axis
        self.inner = inner


class Affine(NamedTuple):
    """offset + sum of coefficient * loop index + sum of pick * coefficient."""

    offset: int
    terms: tuple[tuple[int, int], ...] = ()
    picks: tuple[tuple[Scalar, int], ...] = ()

    def plus(self, other: Affine) -> Affine:
        """Return the sum."""
        coefficients = dict(self.terms)
        for axis, coefficient in other.terms:
            coefficients[axis] = coefficients.get(axis, 0) + coefficient
        terms = tuple([(axis, c) for axis, c in sorted(coefficients.items()) if c])
        return Affine(self.offset + other.offset, terms, (*self.picks, *other.picks))

    def times(self, factor: int) -> Affine:
        """Return the multiple."""
        if factor == 1:
            return self
        if not factor:
            return ZERO
        return Affine(
            self.offset * factor,
            tuple([(axis, c * factor) for axis, c in self.terms]),
            tuple([(pick, c * factor) for pick, c in self.picks]),
        )

    def shifted(self, offset: int) -> Affine:
        """Return the sum with a number."""
        return self if not offset else Affine(self.offset + offset, self.terms, self.picks)


ZERO = Affine(0)
Map = tuple[Affine, ...]


def own_indices(extents: Sequence[int], first: int = 0) -> Map:
    """Return the map of an array whose axes are loops, numbered from `first`."""
    return tuple([Affine(0, ((first + i, 1),)) if n > 1 else ZERO for i, n in enumerate(extents)])


def bounds(index: Affine, extents: Sequence[int]) -> tuple[int, int]:
    """Return the least and the largest value; indices that depend on data have none.

    Raises:
        NotAffine: the index depends on data.
    """
    if index.picks:
        raise NotAffine("an index that data decide")
    low = high = index.offset
    for axis, coefficient in index.terms:
        reach = coefficient * (extents[axis] - 1)
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high


def split(index: Affine, radix: int, extents: Sequence[int]) -> tuple[Affine, Affine]:
    """Return the quotient and the remainder of an index by `radix`.

    Raises:
        NotAffine: they are not affine.
    """
    if radix == 1:
        return index, ZERO
    if index.picks:
        raise NotAffine("an index that data decide")
    high = tuple([(axis, c // radix) for axis, c in index.terms if c % radix == 0])
    low = tuple([(axis, c) for axis, c in index.terms if c % radix])
    quotient, offset = divmod(index.offset, radix)
    remainder = Affine(offset, low)
    least, largest = bounds(remainder, extents)
    if least < 0 or largest >= radix:
        _suggest_split(low, radix, extents)
        raise NotAffine("a reshape across loops")
    return Affine(quotient, high), remainder


def _suggest_split(low: tuple[tuple[int, int], ...], radix: int, extents: Sequence[int]) -> None:
    """Raise for the loop whose division would let the remainder stay below the radix."""
    for axis, coefficient in low:
        c = abs(coefficient)
        if radix % c == 0:
            inner = radix // c
            if 1 < inner < extents[axis] and extents[axis] % inner == 0:
                raise NeedsSplit(axis, inner)


def reshaped(index: Map, shape: Shape, source: Shape, extents: Sequence[int]) -> Map:
    """Return the map into an array of shape `source`, given that into its reshape to `shape`.

    Raises:
        NotAffine: an axis would have to be divided among loops.
    """
    out: list[Affine] = []
    for ours, theirs in matching_groups(shape, source):
        if [n for n in (shape[i] for i in ours) if n > 1] == [n for n in (source[i] for i in theirs) if n > 1]:
            rest = iter([index[i] for i in ours if shape[i] > 1])
            out.extend([next(rest) if source[i] > 1 else ZERO for i in theirs])
            continue
        position = ZERO
        for i in ours:
            position = position.times(shape[i]).plus(index[i])
        made: list[Affine] = []
        for place, i in enumerate(reversed(theirs)):
            if place == len(theirs) - 1:
                made.append(position)
            else:
                position, remainder = split(position, source[i], extents)
                made.append(remainder)
        out.extend(reversed(made))
    return tuple(out)


def matching_groups(shape: Shape, source: Shape) -> list[tuple[list[int], list[int]]]:
    """Return runs of axes of both shapes that hold as many elements, as short as possible, in order."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(shape) or j < len(source):
        ours, theirs = [], []
        ours_size = theirs_size = 1
        while True:
            if ours_size == theirs_size and (ours or theirs):
                if ours_size > 1 or (i == len(shape) and j == len(source)):
                    break
            if (ours_size <= theirs_size and i < len(shape)) or j == len(source):
                ours.append(i)
                ours_size *= shape[i]
                i += 1
            else:
                theirs.append(j)
                theirs_size *= source[j]
                j += 1
        groups.append((ours, theirs))
    if len(groups) > 1 and prod([shape[i] for i in groups[-1][0]]) == 1:
        ours, theirs = groups.pop()
        groups[-1] = (groups[-1][0] + ours, groups[-1][1] + theirs)
    return groups


def strides_of(shape: Shape) -> tuple[int, ...]:
    """Return the strides of a contiguous array, in elements."""
    strides: list[int] = []
    step = 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
