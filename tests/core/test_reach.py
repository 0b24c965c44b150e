"""Which Nodes a sweep for chosen targets goes through: compared with all paths, on random tapes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wengert.core.reach import route_between, route_to, survey
from wengert.core.tape import ARGUMENT, Leaf, Node, next_sequence

Plan = list[list[int | None]]


def node(*inputs: Node | None) -> Node:
    """Return a Node of the given inputs, or a leaf if there are none."""
    made = Node() if inputs else Leaf.__new__(Leaf)
    made.primitive = ARGUMENT if inputs else None
    made.inputs = inputs
    made.sequence = next_sequence()
    return made


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw, for each Node of a tape, the positions of its inputs (None: not tracked)."""
    plan: Plan = []
    for i in range(draw(st.integers(1, 12))):
        inputs = draw(st.lists(st.none() | st.integers(0, i - 1), max_size=3)) if i else []
        plan.append(inputs if any(p is not None for p in inputs) else [])
    return plan


def build(plan: Plan) -> list[Node]:
    made: list[Node] = []
    for inputs in plan:
        made.append(node(*[None if p is None else made[p] for p in inputs]))
    return made


def leads_to(start: Node, goals: frozenset[Node]) -> bool:
    return start in goals or any(parent is not None and leads_to(parent, goals) for parent in start.inputs)


@given(plans(), st.data())
def test_the_route_is_what_all_paths_say(plan: Plan, data: Any) -> None:
    tape = build(plan)
    places = st.lists(st.integers(0, len(plan) - 1), min_size=1, max_size=3)
    outputs = [tape[i] for i in data.draw(places)]
    targets = frozenset([tape[i] for i in data.draw(places)])
    route, lost = route_between(outputs, targets)
    assert lost == {target for target in targets if not any(leads_to(out, frozenset({target})) for out in outputs)}
    met, _ = survey(outputs, targets, 0)
    for entry in met:
        wanted = tuple([p if p is not None and leads_to(p, targets) else None for p in entry.inputs])
        if route is None:
            assert wanted == entry.inputs  # nothing to leave out
        elif any(wanted):
            assert route[entry] == wanted
            assert route[entry] is entry.inputs or wanted != entry.inputs
        else:
            assert entry not in route


def test_spans_cut_the_route() -> None:
    first = node()
    second = node(first)
    third = node(second, first)
    spans = [(third.sequence, third.sequence + 1)]
    assert route_between([third], frozenset({first}), spans)[0] == {third: (None, first)}
    assert route_between([third], frozenset({first}), [(0, third.sequence)])[0] == {second: (first,)}
    assert route_to(frozenset({first}), {third, second, first}, spans) == {third: (None, first)}


def test_strays_are_what_is_older_and_not_wanted() -> None:
    old = node()
    older_target = node()
    floor = next_sequence()
    inner = node(old, older_target)
    met, strays = survey([inner], frozenset({older_target}), floor)
    assert (met, strays) == ({inner, older_target}, {old})
