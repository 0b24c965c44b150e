"""Fusion: which equations become one loop nest, and which arrays have to be in memory.

*Roots* are what loop nests are made for: reductions, and arrays that somebody needs in memory. Everything else that can
be computed element by element is computed where it is needed. Roots are gathered into *groups*, one nest each: a group
walks the same outer indices, and what it reduces over the rest is at hand for whatever else it computes there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container
from typing import Any

from .fuse_groups import Axes, Group, Root, axes_of, in_step, lengths_of, result_axes
from .fuse_roots import find_roots
from .fuse_storage import CHEAP, FUSED, SEPARATE, Storage
from .graph import Equation, Graph, Value
from .lower_index import Map

LARGE = 1 << 15
"""From so many elements on, arrays are walked row by row if they can be."""
MOST_ROOTS = 48
"""How many arrays one nest may compute: compiling takes time that grows faster than their number."""
SMALL = 1 << 8
"""Up to so many elements, all of an array may be one unit of work."""


class Fusion(Storage):
    """Groups the equations of a graph.

    Args:
        graph, is_kernel, effort: see `Storage`.

    Attributes:
        roots: by the arrays that they make.
        group_of: which group makes an array.
        users: for arrays in memory, the roots and other equations that read them.
    """

    def __init__(self, graph: Graph, is_kernel: Callable[[Equation], bool], effort: int = FUSED) -> None:
        super().__init__(graph, is_kernel, effort)
        self.roots: dict[Value, Root] = {}
        self.group_of: dict[Value, Group] = {}
        self.users: dict[Value, list[Any]] = {}
        self._bits: dict[Any, int] = {}
        self._followers: dict[Any, int] = {}

    def run(self) -> list[Group]:
        """Choose roots and group them."""
        for turn in range(4):
            self.roots = find_roots(self, self.roots)
            self.group_of = {}
            for root in self.roots.values():
                self.group_of[root.value] = Group(root)
            self._note_users()
            if self.effort == SEPARATE:
                break
            self._merge_all()
            if turn == 3 or not self._store_what_costs():
                break
        return self.groups

    @property
    def groups(self) -> list[Group]:
        """All groups, in order of their first roots."""
        return list(dict.fromkeys(self.group_of.values()))

    # Groups.

    def epilogues_of(self, equation: Equation, taken: set[Group]) -> list[Group]:
        """Return the groups that could be computed along with an equation that has a kernel, as they read its result.

        These are groups of plain arrays with as many elements, at the same places, that nothing has to come before
        that comes after the equation.
        """
        found: dict[Group, None] = {}
        if self.effort == SEPARATE:
            return []
        out = equation.outputs[0]
        for user in self.users.get(out, ()):
            if not isinstance(user, Root):
                continue
            group = self.group_of[user.value]
            if group.rows or group in taken or group in found or self._is_flat(group):
                continue
            if all([self._follows(root, out) for root in group.roots]):
                if not self._path_to(equation, group) and not self._path_from(group, equation):
                    found[group] = None
        return list(found)

    def _follows(self, root: Root, out: Value) -> bool:
        """Whether a root's elements are made from those of a value at the same places, if from any."""
        if lengths_of(root) != tuple([n for n in out.shape if n > 1]):
            return False
        for leaf, index, inside in root.leaves:
            if leaf is out:
                axes = axes_of(index, out.shape, root.extents)
                if inside or axes is None or tuple([a for a in axes if a >= 0]) != root.significant:
                    return False
        return True

    def _path_to(self, equation: Equation, group: Group) -> bool:
        """Whether something outside of a group needs an equation's result and is needed by the group."""
        return self._reaches(self.results_of(equation), group, group)

    def _path_from(self, group: Group, equation: Equation) -> bool:
        """Whether an equation needs something of a group."""
        return self._reaches(self._results_in(group), equation, None)

    def _results_in(self, group: Group) -> list[Value]:
        return [value for root in group.roots for value in self.results_of(root.equation)]

    def _reaches(self, values: list[Value], target: Any, direct: Any) -> bool:
        """Whether users of values lead to a target; not counting `direct` as a user of the values themselves."""
        if not self._followers:
            self._followers = self._all_followers()
        bit = self._bits[target]
        for value in values:
            for item in self._users_of(value):
                if (item is not direct) if item is target else (self._followers[item] & bit):
                    return True
        return False

    def _users_of(self, value: Value) -> list[Any]:
        """Return the groups and other equations that read an array."""
        return [self.group_of[u.value] if isinstance(u, Root) else u for u in self.users.get(value, ())]

    def _all_followers(self) -> dict[Any, int]:
        """Return, for each group and other equation, which ones lead from it, as bits of one integer."""
        items: list[Any] = [*self.groups, *self.others]
        self._bits = {item: 1 << place for place, item in enumerate(items)}
        following: dict[Any, int] = {}
        opened: set[Any] = set()
        pending = items
        while pending:
            item = pending[-1]
            values = self._results_in(item) if isinstance(item, Group) else self.results_of(item)
            users = [user for value in values for user in self._users_of(value)]
            if item not in opened:
                opened.add(item)
                pending.extend([user for user in users if user not in opened])
                continue
            pending.pop()
            if item not in following:
                bits = 0
                for user in users:
                    bits |= self._bits[user] | following.get(user, 0)
                following[item] = bits
        return following

    def _merge_all(self) -> None:
        for root in self.roots.values():
            for leaf, index, inside in root.leaves:
                if leaf in self.roots and leaf not in self.early and not inside:
                    self._try_merge(self.group_of[leaf], leaf, self.group_of[root.value], root, index)
        self._merge_siblings()

    def _note_users(self) -> None:
        """List, for each array in memory, the roots and equations that read it."""
        self.users = {}
        for root in self.roots.values():
            for leaf, _, _ in root.leaves:
                self.users.setdefault(leaf, []).append(root)
        for equation in self.others:
            for value in equation.values():
                self.users.setdefault(self.layouts.base_of(value), []).append(equation)

    def _try_merge(self, first: Group, leaf: Value, second: Group, root: Root, index: Map) -> None:
        """Merge the group of a root and that of an array that it reads, if one nest can compute both."""
        if first is second or (leaf.size == 1 and leaf.dtype.kind == "b"):
            return  # whether all is well is asked by everybody, and brings nothing together
        member = self.roots[leaf]
        axes = axes_of(index, leaf.shape, root.extents)
        if axes is None:
            return
        to_root = dict(zip(result_axes(member), [a for a, n in zip(axes, leaf.shape) if n > 1]))
        outer = {**first.outer, **second.outer}
        if first.rows and not second.rows:
            theirs = tuple([to_root[axis] for axis in first.outer[member]])
            if not self._reframe(second, root, theirs, outer):
                return
        elif second.rows and not first.rows:
            to_member = {theirs: mine for mine, theirs in to_root.items()}
            if any([axis not in to_member for axis in second.outer[root]]):
                return
            mine = tuple([to_member[axis] for axis in second.outer[root]])
            if not self._reframe(first, member, mine, outer):
                return
        self._merge(first, second, outer)

    def _is_flat(self, group: Group) -> bool:
        """Whether a group makes an array that had better not be walked row by row."""
        return any([root.value in self.flat for root in group.roots])

    def _reframe(self, group: Group, root: Root, axes: Axes, outer: dict[Root, Axes]) -> bool:
        """Let a group of plain arrays walk only some axes as outer ones, if that is as good."""
        if self._is_flat(group):
            return False
        extents = lengths_of(root)
        if not axes and root.value.size > SMALL:
            return False  # a single outer index leaves nothing to do in parallel
        if axes and axes[-1] == root.significant[-1] and len(axes) < len(root.significant):
            if root.value.size >= LARGE:
                return False  # memory is better walked row by row
        places = [root.significant.index(axis) for axis in axes]
        for other in group.roots:
            if lengths_of(other) != extents:
                return False
            outer[other] = tuple([other.significant[place] for place in places])
        return True

    def _merge(self, first: Group, second: Group, outer: dict[Root, Axes]) -> bool:
        """Merge two groups, unless their roots don't fit together or something in between needs one of them first."""
        if len(first.roots) + len(second.roots) > MOST_ROOTS or not self._consistent(first, second, outer):
            return False
        if self._path_between(first, second) or self._path_between(second, first):
            return False
        first.roots = sorted([*first.roots, *second.roots], key=_root_order)
        first.outer = outer
        first.rows = first.rows or second.rows
        for root in second.roots:
            self.group_of[root.value] = first
        return True

    def _consistent(self, first: Group, second: Group, outer: dict[Root, Axes]) -> bool:
        """Whether everything that one root reads of another is at the indices where a common nest has it.

        Within a group that is known to be so, if its outer axes stay.
        """
        one, other = first.roots[0], second.roots[0]
        if [one.extents[axis] for axis in outer[one]] != [other.extents[axis] for axis in outer[other]]:
            return False
        stays = first.outer[one] == outer[one] and second.outer[other] == outer[other]
        group_of, roots = self.group_of, self.roots
        for mine, theirs in ((first, second), (second, first)):
            for root in mine.roots:
                for leaf, index, inside in root.leaves:
                    group = group_of.get(leaf)
                    if group is theirs or (group is mine and not stays):
                        if inside or not in_step(roots[leaf], root, index, outer):
                            return False
        return True

    def _path_between(self, source: Group, target: Group) -> bool:
        """Whether something outside of both needs the first and is needed by the second."""
        last = target.roots[-1].order  # nothing that is all later can be needed by it
        pending: list[Any] = list(source.roots)
        seen: set[Any] = set()
        while pending:
            item = pending.pop()
            values = self.results_of(item if isinstance(item, Equation) else item.equation)
            for value in values:
                for user in self.users.get(value, ()):
                    group = self.group_of[user.value] if isinstance(user, Root) else user
                    if group is source or group in seen or self._first_order(group) > last:
                        continue
                    if group is target:
                        if item in source.roots:
                            continue
                        return True
                    seen.add(group)
                    if isinstance(group, Group):
                        pending.extend(group.roots)
                    else:
                        pending.append(group)
        return False

    def _first_order(self, item: Any) -> int:
        return item.roots[0].order if isinstance(item, Group) else self.order[item]

    def _merge_siblings(self) -> None:
        """Merge groups that walk the same indices and read the same arrays."""
        by_leaf: dict[Value, list[Root]] = {}
        for root in self.roots.values():
            for leaf, _, _ in root.leaves:
                if leaf.size > 1:
                    by_leaf.setdefault(leaf, []).append(root)
        for readers in by_leaf.values():
            for one, other in itertools.pairwise(readers):
                first, second = self.group_of[one.value], self.group_of[other.value]
                if first is second or first.rows != second.rows or one.extents != other.extents:
                    continue
                if first.outer[one] != second.outer[other] or (first.rows and not first.outer[one]):
                    continue
                self._merge(first, second, {**first.outer, **second.outer})

    def _store_what_costs(self) -> bool:
        """Keep in memory what several groups would compute, unless that is cheap. Returns whether something was new."""
        groups: dict[Value, set[Group]] = {}
        for root in self.roots.values():
            for value in root.visited:
                groups.setdefault(value, set()).add(self.group_of[root.value])
        new: dict[Value, None] = {}
        for value, users in groups.items():
            if len(users) > 1 and value not in self.stored and self.cost(value) > CHEAP:
                new[value] = None
        # The last of a chain suffices: what it is made of is then computed once.
        made_of = {operand for value in new for operand in self.maker[value].values() if operand in new}
        chosen = [value for value in new if value not in made_of or self._escapes(value, new, groups)]
        self.stored.update(chosen)
        return bool(chosen)

    def _escapes(self, value: Value, new: Container[Value], groups: dict[Value, set[Group]]) -> bool:
        """Whether somebody needs a value other than through one that is kept anyway."""
        for equation in self.consumers.get(value, ()):
            out = equation.outputs[0]
            if (out not in new and (out in groups or out in self.roots)) or equation in self.reductions:
                return True
        return False


def _root_order(root: Root) -> int:
    return root.order
