"""Bindings: a program tied to the very objects that it last ran on, so that the next run finds them without looking.

In a training loop nothing changes from step to step but values: the same Tensors hold the same arrays, gradients are
written where the last ones were. A Binding makes sure of that by one native look, and runs; if anything is otherwise,
it says so, and `Path.run` goes the long way.
"""

# The slots of Tensor are this module's business.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CellType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import boxing
from ..core.tape import Leaf
from ..typing import DType, Shape
from .addresses import address_of
from .executable import Executable
from .graph import Value
from .llvm.watch import Watch
from .results import assembled, joiner
from .sources import ArgumentSource, ArraySource, DrawSource, NumberSource, TensorSource, Unsure, array_of
from .ties import checker

if TYPE_CHECKING:
    from .paths import Path

_PERSISTENT = (TensorSource, ArraySource, NumberSource)
_WATCHED = (dict, list, CellType)
_SMALL = 256
"""Bytes up to which a result is computed in memory that stays, and copied: to ask for an address takes longer."""
UNBOUND = object()
"""What `Binding.run` returns if something has changed."""


class Binding:
    """A path, its program, and the objects of its last run.

    Args:
        path: what was run.
        program: its program.
        arrays: what it ran on.
    """

    def __init__(self, path: Path, program: Executable, arrays: Sequence[np.ndarray]) -> None:
        self._path = path
        self._program = program
        self._arguments = [
            (place, source.place, source.shape, source.dtype)
            for place, source in enumerate(path.sources)
            if isinstance(source, ArgumentSource)
        ]
        # Numbers are drawn last, when it is certain that this run counts.
        self._moving = [(place, source) for place, source in enumerate(path.sources) if isinstance(source, DrawSource)]
        closed_over = [(p, s.tensor) for p, s in enumerate(path.sources) if isinstance(s, TensorSource)]
        self._kept = [(tensor, arrays[place]) for place, tensor in closed_over]
        written = {place for _, place in path.written}
        self._owners = [source.holder(()) for source, value in path.effects.gradients if value is not None]
        self._gradients = [owner._grad for owner in self._owners]
        self._buffers = [gradient._data for gradient in self._gradients]
        watch = Watch()
        tensors = [tensor for _, tensor in closed_over]
        cleared = [source.holder(()) for source, value in path.effects.gradients if value is None]
        leaves = [tensor._node for tensor in tensors if type(tensor._node) is Leaf]
        hooks = [held for leaf in leaves for held in (leaf.hooks, leaf.after_accumulate) if held is not None]
        # Kept, so that nothing new comes to be at their addresses.
        self._linked = [(tensor._node, getattr(tensor, "_alias", None)) for tensor in (*tensors, *self._gradients)]
        self.is_possible = (
            watch.slots(tensors, boxing.Tensor, ("_data", "_node"))
            and watch.slots([t for p, t in closed_over if p in written], boxing.Tensor, ("_alias",))
            and watch.slots([*self._owners, *cleared], boxing.Tensor, ("_grad",))
            and watch.slots(leaves, Leaf, ("hooks", "after_accumulate"))
            and (not hooks or watch.containers(hooks))
            and watch.slots(self._gradients, boxing.Tensor, ("_data", "_node", "_alias"))
        )
        # An array is held by its Tensor, by `_kept`, and twice by the program; a gradient by its owner and here.
        self._watch = watch
        self._conditions = self._all_but_watched(path)
        watch.counts([arrays[place] for place in sorted(written)], 4)
        watch.counts(self._gradients, 2)
        watch.counts(self._buffers, 2)
        self._is_as_it_was: Callable[[], Any] = watch.begin() if self.is_possible else bool
        self._is_makeshift = program.is_makeshift
        self._brief = program.brief()
        checks = [(check.place, check) for check in path.checks if check.place is not None]
        self._checks = [(place, check) for place, check in checks if not check.is_expected]
        self._reasons = [(place, check) for place, check in checks if check.is_expected]
        results = path.counts[0]
        self._results = [_place_of(program.first_fresh + i, v) for i, v in enumerate(path.graph.outputs[:results])]
        self._is_all_outputs = all([plan.kind == "output" for plan in path.plans])
        self._join = joiner(path.structure)
        for place, buffer in enumerate(self._buffers):
            program.addresses[program.first_fresh + results + place] = address_of(buffer)

    def _all_but_watched(self, path: Path) -> list[Callable[[], bool]]:
        """Watch what ties are about: dicts, lists, cells; return the conditions that remain to be asked for.

        Those that something else has changed in, such as the globals of a script, are asked about what matters.
        """
        containers = {id(tie.container): tie.container for tie in path.ties if type(tie.container) in _WATCHED}
        watched = {place: held for place, held in containers.items() if place not in path.restless}
        if not watched or not self._watch.containers(list(watched.values())):
            return list(path.conditions)
        assert path.unchanged is not None
        self.is_possible = self.is_possible and path.unchanged()  # else they were noted after a change, or are now
        rest = [tie for tie in path.ties if id(tie.container) not in watched]
        others = [condition for condition in path.conditions if condition is not path.unchanged]
        return [*others, checker(rest)] if rest else others

    def containers_changed(self) -> set[int]:
        """Return the ids of dicts and lists that have changed since this was made, be it where it matters or not."""
        return {id(held) for held in self._watch.changed()}

    def run(self, arguments: Sequence[Any]) -> Any:
        """Run the program; return what the function returns, or UNBOUND: nothing has been done."""
        path = self._path
        for condition in self._conditions:
            if not condition():
                return UNBOUND
        if not self._is_as_it_was():
            return UNBOUND
        for place, tensor in path.same:
            if arguments[place] is not tensor:
                return UNBOUND
        if path.families is not None and not path.families.fit(arguments):
            return UNBOUND
        program, brief = self._program, self._brief
        with program.lock:
            for numbers in path.numbers:
                if not numbers.refresh():
                    return UNBOUND
            if not self._place(arguments):
                return UNBOUND
            for place, check in self._checks:
                check.demand(program.known[place])
            addresses = program.addresses.values
            outs: list[Any] = []
            for place, kept, address, shape, dtype in self._results:
                if kept is None:
                    kept = np.empty(shape, dtype)
                    address = address_of(kept)
                addresses[place] = address
                outs.append(kept)
            if brief is None or program.timed:
                self._execute()
                if self._is_makeshift and not program.is_makeshift:
                    self._is_makeshift, self._brief = False, program.brief()
            elif not brief():
                self._refuse()
            outs = [boxing.box(out.copy() if out.nbytes <= _SMALL else out) for out in outs]
        leaves = outs if self._is_all_outputs else assembled(path.plans, outs, arguments)
        for action in path.afterwards:
            action()
        return self._join(leaves)

    def _execute(self) -> None:
        """Run the program in the usual way."""
        try:
            self._program.execute()
        except (Unsure, IndexError):
            self._explain()
            raise

    def _refuse(self) -> None:
        """Raise an error, as the program has found that it is not for these values, and has written nothing."""
        self._explain()
        self._program.refuse()

    def _explain(self) -> None:
        """Raise what the function would raise if values failed a test that the program does by itself."""
        for place, check in self._reasons:
            check.demand(self._program.known[place])

    def _place(self, arguments: Sequence[Any]) -> bool:
        """Tell the program where the inputs are that move from run to run."""
        program = self._program
        known = program.known
        for place, argument, shape, dtype in self._arguments:
            leaf = arguments[argument]
            is_plain = type(leaf) is np.ndarray  # its owner may let it begin elsewhere
            array = leaf if is_plain else array_of(leaf)  # a number of NumPy's has no address that lasts
            if (is_plain or array is not known[place]) and (
                array.shape != shape or array.dtype != dtype or not program.place(place, array)
            ):
                return False
        for place, source in self._moving:
            if not program.place(place, source.fetch(arguments)):
                return False
        return True


def _place_of(number: int, value: Value) -> tuple[int, np.ndarray | None, int, Shape, DType]:
    """Return how a result is made: its number, an array that is kept for it and its address if it is small."""
    kept = np.empty(value.shape, value.dtype) if value.nbytes <= _SMALL else None
    return number, kept, 0 if kept is None else address_of(kept), value.shape, value.dtype


def bind(path: Path, arrays: Sequence[np.ndarray]) -> Binding | None:
    """Return a Binding for a path that was just run; None if it does what Bindings cannot."""
    program = path.program
    simple = (
        isinstance(program, Executable)
        and program.is_one_native_call
        and path.derivative is None
        and not path.questions
        and not any(path.checking)
        and not path.reports
        and not path.gradients_read
        and not path.cuts
        and not path.origins
        and not path.effects.kept
        and not any([hooks for _, _, hooks in path.tracking])
        and all([isinstance(s, (*_PERSISTENT, ArgumentSource, DrawSource)) for s in path.sources])
        and all([isinstance(s, TensorSource) for s, _ in (*path.effects.gradients, *path.effects.writes)])
    )
    if not simple:
        return None
    binding = Binding(path, program, arrays)
    return binding if binding.is_possible else None


__all__ = ["UNBOUND", "Binding", "bind"]
