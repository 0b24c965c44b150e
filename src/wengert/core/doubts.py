"""Tracers of which it is not known yet whether they are views or copies, and how that is found out.

What a reshape copies depends on how an array lies in memory. A capture does not compute large arrays, and takes for
granted that they are contiguous. Where a write, or a result, makes it matter, the array is computed after all: copies
are parted from what they were supposed to be views of, and views join it.
"""

# The slots of Tensor are this layer's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from typing import Any

from ..errors import GradientError
from . import boxing
from .aliasing import Steps, View, Viewed, alias_of, enter, place_of, shares_memory, starts_with


def settle(base: Any) -> None:
    """Find out what are views of a tracer and what are copies, where that was supposed, now that it matters."""
    if type(base) is not boxing.Tracer:
        return
    alias = alias_of(base)
    if type(alias) is Viewed and alias.perhaps is not None:
        settle(alias.perhaps.base)  # which settles this one, too
        alias = alias_of(base)
    if type(alias) is not Viewed:
        return
    _part_copies(base, alias)
    _join_views(base, alias)


def farthest(base: Any) -> Any:
    """Return the base that a base is perhaps a view of, if its own is one of yet another even that; or itself."""
    alias = alias_of(base)
    while type(alias) is Viewed and alias.perhaps is not None:
        base = alias.perhaps.base
        alias = alias_of(base)
    return base


def _part_copies(base: Any, alias: Viewed) -> None:
    """Make copies of a base, which were supposed to be views, Tensors of their own."""
    doubtful = [view for view in alias.live() if place_of(view).supposed]
    data = base._state.laid_out() if doubtful else None
    if data is None:
        return
    for view in doubtful:
        place = alias_of(view)
        if type(place) is not View or place.base is not base:
            continue  # it has been parted from the base with another one
        place.supposed = False
        lengths = range(1, len(place.steps) + 1)
        copied = next((n for n in lengths if not shares_memory(data, place.steps[:n])), None)
        if copied is not None:
            _part(base, alias, place.steps[:copied])


def _join_views(base: Any, alias: Viewed) -> None:
    """Make views of a base, which were supposed to be copies, views: with what was taken of them."""
    waiting = [copy for reference in alias.doubtful if (copy := reference()) is not None]
    alias.doubtful.clear()
    for copy in waiting:
        family_of_copy = alias_of(copy)
        if type(family_of_copy) is not Viewed or (place := family_of_copy.perhaps) is None or place.base is not base:
            continue
        family_of_copy.perhaps = None
        data = base._state.laid_out()
        if data is None or not shares_memory(data, place.steps):
            continue
        settle(copy)
        views = list(family_of_copy.live())
        enter(copy, place)
        for view in views:
            within = place_of(view)
            steps, root, origin = (*place.steps, *within.steps), within.root, len(place.steps) + within.origin
            if root is copy:
                root, origin = place.root, place.origin
            enter(view, View(base, steps, root, origin))


def _part(base: Any, alias: Viewed, steps: Steps) -> None:
    """Make what steps have copied a Tensor of its own, and a base of the views that were taken of it."""
    parted = [view for view in alias.live() if starts_with(place_of(view).steps, steps)]
    copies = [view for view in parted if len(place_of(view).steps) == len(steps)]
    if not copies and len(parted) > 1:
        raise GradientError(
            "a Tensor is written, or returned, of which there are views of a reshape that is a copy and is not kept "
            "itself. Keep the reshaped Tensor, or take clone() of it"
        )
    alias.views = [reference for reference in alias.views if all([reference() is not view for view in parted])]
    copy = copies[0] if copies else parted[0]
    copy._alias = None
    for view in parted:
        if view is not copy:
            place = place_of(view)
            root = copy if place.root is base else place.root
            enter(view, View(copy, place.steps[len(steps) :], root, max(0, place.origin - len(steps))))


__all__ = ["farthest", "settle"]
