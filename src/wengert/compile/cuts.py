"""Where Tensors of outside come from, as far as it matters to a compiled function.

Cuts: where a sweep inside of a function ends at a Tensor that was computed outside, though its history goes on.

What lies before the function began is not part of its program. That is no loss unless the history leads to what the
sweep is for: `grad(loss, [w])` where an argument was computed from `w`, too. It is looked at in every run, and so is
what the function asks itself: whether a Tensor is a leaf, or what operation made it.
"""

# The slots of Tensor are read here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, NamedTuple

from ..core.reach import survey
from ..core.tape import Node
from .captured import Brought
from .sources import Source


class Cut(NamedTuple):
    """A sweep that has met a Tensor with a history outside of the function.

    Attributes:
        source: finds that Tensor.
        targets: find the Tensors of outside that the sweep was for, other than that one.
    """

    source: Source
    targets: list[Source]

    def hides_something(self, arguments: Sequence[Any]) -> bool:
        """Return whether the Tensor of this run was computed from one that gradients are wanted for."""
        node = self.source.holder(arguments)._node
        return node is not None and _leads(node, [target.holder(arguments)._node for target in self.targets])


class Origin(NamedTuple):
    """A question about the Node of a Tensor of outside that Python code may depend on, and the answer."""

    source: Source
    question: Callable[[Any], Any]
    answer: Any

    @classmethod
    def of(cls, source: Source, question: Callable[[Any], Any], node: Node | None) -> Origin:
        """Ask a question, and take down what later runs must find, too."""
        return cls(source, question, _spelled(question(node)))

    def holds(self, arguments: Sequence[Any]) -> bool:
        """Return whether it has the same answer in this run."""
        return _spelled(self.question(getattr(self.source.holder(arguments), "_node", None))) == self.answer


def _spelled(answer: Any) -> Any:
    """Return what can be compared: of operations, what they are."""
    return answer if isinstance(answer, bool) or answer is None else answer.name


def _leads(node: Node, targets: Iterable[Node | None]) -> bool:
    goals = frozenset([target for target in targets if target is not None])
    if node in goals:
        return True
    floor = min([goal.sequence for goal in goals], default=inf)
    parents = [parent for parent in getattr(node, "inputs", ()) if parent is not None]
    return not goals.isdisjoint(survey(parents, goals, floor)[0])


def cuts_before(
    brought: Sequence[Brought], outputs: Iterable[Node], targets: Iterable[Node]
) -> tuple[list[Cut], str | None]:
    """Return the cuts that a sweep meets, and the Tensor whose history it misses now, in words, if there is one."""
    ends: dict[Node, Brought] = {b.inner: b for b in brought if b.source and b.inner and b.inner is not b.node}
    met = survey(outputs, ends.keys(), -inf)[0] if ends else set[Node]()
    wanted = set(targets)
    goals = [b for b in brought if b.source is not None and b.inner in wanted]
    cuts: list[Cut] = []
    missed: str | None = None
    for end in met & ends.keys():
        origin = ends[end]
        assert origin.source is not None
        others = [goal for goal in goals if goal is not origin]
        cuts.append(Cut(origin.source, [goal.source for goal in others if goal.source is not None]))
        if _leads(origin.node, [goal.node for goal in others]):
            missed = str(origin.source)
    return cuts, missed


__all__ = ["Cut", "Origin", "cuts_before"]
