"""Nests made tidy: axes that lie in memory as one are joined, lanes are chosen, what is costly is computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

from .nests import Access, Counter, Nest, Operand, Phase, Range, Reduction, Store
from .scalar_ir import Scalar, input_scalar, rebuild, topological, with_operands

COSTLY = frozenset(
    """power arctan2 hypot exp exp2 expm1 log log2 log10 log1p cbrt sin cos tan arcsin arccos arctan sinh cosh tanh
    arcsinh arccosh arctanh erf erfc ndtr remainder floor_divide divide sqrt fmod""".split()
)
MOST_SCRATCH = 1 << 16
"""Up to so many elements of a row are kept from phase to phase."""
OUTER_LANES = 16
"""Where lanes lie along an outer axis, so many rows are kept at once."""


def finished(nest: Nest) -> Nest:
    """Return a nest in its final form."""
    nest = _joined(nest)
    nest = nest._replace(lanes=_lanes(nest))
    return _remembering(nest)


# Axes.


def accesses_of(phase: Phase) -> Iterator[Access]:
    """Yield everything that a phase loads and stores."""
    for source in phase.inputs.values():
        if isinstance(source, Access):
            yield source
    for store in phase.stores:
        yield store.target


def common_offsets(accesses: Iterable[Access], count: int) -> tuple[int, ...]:
    """Return, for each of so many operands, an offset that all accesses to it have in common."""
    least: dict[int, int] = {}
    for access in accesses:
        least[access.operand] = min(access.offset, least.get(access.operand, access.offset))
    return tuple([max(least.get(operand, 0), 0) for operand in range(count)])


def shifted(access: Access, offsets: tuple[int, ...]) -> Access:
    """Return an access to an operand that begins at an offset."""
    if access.operand >= len(offsets) or not offsets[access.operand]:
        return access
    return access._replace(offset=access.offset - offsets[access.operand])


def rebased(nest: Nest, count: int) -> tuple[Nest, tuple[int, ...]]:
    """Return a nest whose first operands begin where it first looks, so that nests on parts of arrays are equal."""
    offsets = common_offsets([access for phase in nest.phases for access in accesses_of(phase)], count)
    if not any(offsets):
        return nest, offsets
    phases: list[Phase] = []
    for phase in nest.phases:
        inputs = {
            name: shifted(source, offsets) if isinstance(source, Access) else source
            for name, source in phase.inputs.items()
        }
        stores = tuple([store._replace(target=shifted(store.target, offsets)) for store in phase.stores])
        phases.append(phase._replace(inputs=inputs, stores=stores))
    return nest._replace(phases=tuple(phases)), offsets


def _joined(nest: Nest) -> Nest:
    """Join neighbouring axes wherever all accesses walk them as one."""
    axis = len(nest.outer) - 2
    while axis >= 0:
        if all([_walks_as_one(phase, axis, nest.outer[axis + 1]) for phase in nest.phases]):
            outer = (*nest.outer[:axis], nest.outer[axis] * nest.outer[axis + 1], *nest.outer[axis + 2 :])
            nest = nest._replace(outer=outer, phases=tuple([_without_axis(phase, axis) for phase in nest.phases]))
        axis -= 1
    first = len(nest.outer)
    phases: list[Phase] = []
    for phase in nest.phases:
        axis = len(phase.inner) - 2
        while axis >= 0:
            if _walks_as_one(phase, first + axis, phase.inner[axis + 1]):
                together = phase.inner[axis] * phase.inner[axis + 1]
                inner = (*phase.inner[:axis], together, *phase.inner[axis + 2 :])
                phase = _without_axis(phase, first + axis)._replace(inner=inner)
            axis -= 1
        phases.append(phase)
    return nest._replace(phases=tuple(phases))


def _walks_as_one(phase: Phase, axis: int, inner_extent: int) -> bool:
    for source in phase.inputs.values():
        if isinstance(source, Counter) and source.axis in (axis, axis + 1):
            return False
    for access in accesses_of(phase):
        if access.strides[axis] != access.strides[axis + 1] * inner_extent:
            return False
        if any([r.strides[axis] != r.strides[axis + 1] * inner_extent for r in access.inside]):
            return False
    return True


def _without_axis(phase: Phase, axis: int) -> Phase:
    def cut(strides: tuple[int, ...]) -> tuple[int, ...]:
        return strides[:axis] + strides[axis + 1 :]

    def access(given: Access) -> Access:
        inside = tuple([Range(r.offset, cut(r.strides), r.extent) for r in given.inside])
        return given._replace(strides=cut(given.strides), inside=inside)

    def source_of(source: Access | Counter) -> Access | Counter:
        if isinstance(source, Counter):
            return Counter(source.axis - (source.axis > axis))
        return access(source)

    inputs = {name: source_of(source) for name, source in phase.inputs.items()}
    stores = tuple([store._replace(target=access(store.target)) for store in phase.stores])
    return phase._replace(inputs=inputs, stores=stores)


def _lanes(nest: Nest) -> str:
    """Lay lanes along the axis that memory is contiguous on, counted over all accesses, each as often as it is made."""
    if not any([phase.inner for phase in nest.phases]):
        return "outer"
    if not nest.outer:
        return "inner"
    along_inner = along_outer = 0
    last = len(nest.outer) - 1
    for phase in nest.phases:
        if not phase.inner:
            continue
        count = prod(phase.inner)
        for access in accesses_of(phase):
            along_inner += count * (access.strides[-1] == 1)
            along_outer += count * (access.strides[last] == 1)
    return "outer" if along_outer > along_inner else "inner"


# What is costly and needed in several phases is computed in the first and kept.


def _remembering(nest: Nest) -> Nest:
    phases = list(nest.phases)
    operands = list(nest.operands)
    first = len(nest.outer)
    for later in range(1, len(phases)):
        for earlier in range(later):
            if phases[earlier].inner != phases[later].inner or not phases[later].inner:
                continue
            if prod(phases[later].inner) > MOST_SCRATCH // (OUTER_LANES if nest.lanes == "outer" else 1):
                continue
            shared = _costly_in_both(phases[earlier], phases[later])
            for scalar in shared:
                phases[earlier], phases[later] = _kept(nest, operands, phases[earlier], phases[later], scalar, first)
    return nest._replace(phases=tuple(phases), operands=tuple(operands))


def _scalars(phase: Phase) -> list[Scalar]:
    return [store.scalar for store in phase.stores] + [reduction.scalar for reduction in phase.reductions]


def _costly_in_both(earlier: Phase, later: Phase) -> list[Scalar]:
    """Return the largest costly expressions that both phases compute."""
    known = set(topological(_scalars(earlier)))
    costs: dict[Scalar, bool] = {}
    for scalar in topological(_scalars(later)):
        costs[scalar] = scalar.op in COSTLY or any([costs[operand] for operand in scalar.operands])
    shared = [s for s in costs if s in known and costs[s] and _varies(s, later)]
    inside = {operand for s in shared for operand in s.operands}
    for s in costs:
        if s not in known:
            inside.difference_update([operand for operand in s.operands])
    direct = set(_scalars(later))
    return [s for s in shared if s not in inside or s in direct]


def _varies(scalar: Scalar, phase: Phase) -> bool:
    """Whether a Scalar depends on inner indices; what doesn't is computed once for all of them anyway."""
    for s in topological((scalar,)):
        source = phase.inputs.get(s.payload) if s.op == "input" else None
        if isinstance(source, Counter):
            return True
        if source is not None and (any(source.strides[-len(phase.inner) :]) or source.picks):
            return True
    return False


def _kept(
    nest: Nest, operands: list[Operand], earlier: Phase, later: Phase, scalar: Scalar, first: int
) -> tuple[Phase, Phase]:
    """Return both phases, where the later one reads what the earlier one has computed."""
    access = _where_stored(earlier, scalar)
    if access is None:
        strides: list[int] = []
        step = 1
        for extent in reversed(earlier.inner):
            strides.insert(0, step)
            step *= extent
        operands.append(Operand(scalar.dtype, scratch=step))
        access = Access(len(operands) - 1, 0, ((0,) * first + tuple(strides)))
        earlier = earlier._replace(stores=(*earlier.stores, Store(access, scalar)))
    name = f"s{access.operand}_{len(earlier.stores)}_{len(later.inputs)}"
    kept = input_scalar(name, scalar.dtype)

    def change(s: Scalar, parts: tuple[Scalar, ...]) -> Scalar:
        return kept if s is scalar else with_operands(s, parts)

    wanted = _scalars(later)
    new = dict(zip(wanted, rebuild(wanted, change)))
    stores = tuple([store._replace(scalar=new[store.scalar]) for store in later.stores])
    reductions = tuple([Reduction(r.name, r.op, new[r.scalar]) for r in later.reductions])
    used = {s.payload for s in topological([*new.values()]) if s.op == "input"}
    inputs = {**later.inputs, name: access}
    picks = [
        pick for n, source in inputs.items() if n in used and isinstance(source, Access) for pick, _ in source.picks
    ]
    used |= {s.payload for s in topological(picks) if s.op == "input"}
    inputs = {n: source for n, source in inputs.items() if n in used}
    return earlier, Phase(later.inner, inputs, stores, reductions)


def _where_stored(phase: Phase, scalar: Scalar) -> Access | None:
    """Return where a phase stores a Scalar anyway, if it can be read from there."""
    for store in phase.stores:
        if store.scalar is scalar and not store.add:
            return store.target
    return None
