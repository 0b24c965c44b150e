"""The rules of a user's own operation, and how one follows from another.

A rule runs on Tensors, so that what it computes is recorded where that is wanted, and followed by other transforms. A
pullback is linear in its cotangents, and a tangent map in its tangents, so each is the transpose of the other: where
one is not written, it is the reverse sweep over the one that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core import boxing
from ..core.dispatch import here
from ..errors import DeclarationError, GradientError, NotDifferentiableError
from ..typing import Rule
from .custom_calls import Parameters
from .reverse import vjp
from .rule_results import place, run_pullback, run_tangent_map, split
from .written_rules import BATCH, JVP, VJP, Point, WrittenRule


class Rules:
    """The rules that have been written for an operation so far.

    Attributes:
        vjp: the rule for the cotangents of all parameters.
        vjp_of: rules for the cotangent of one parameter.
        jvp: the rule for the tangents of all parameters that it names.
        jvp_of: rules for the tangent of one parameter, the others at rest.
        batch: the rule for many calls at once.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.vjp: WrittenRule | None = None
        self.vjp_of: dict[str, WrittenRule] = {}
        self.jvp: WrittenRule | None = None
        self.jvp_of: dict[str, WrittenRule] = {}
        self.batch: WrittenRule | None = None

    # ------------------------------------------------------------------ attaching

    def attach(self, kind: str, function: Rule, parameter: str | None) -> None:
        """Take a rule on (in the place of one that was there); parameters as in `defvjp`."""
        rule = WrittenRule(kind, function, self.parameters)
        name = self.parameters.name
        if parameter is not None and parameter not in [self.parameters.names[p] for p in self.parameters.chosen]:
            raise DeclarationError(
                f"{name}: no {kind} rule can be by {parameter!r}; it is differentiated by "
                f"{', '.join([self.parameters.names[p] for p in self.parameters.chosen]) or 'nothing'}"
            )
        if kind == VJP and "out_bar" not in rule.names:
            raise DeclarationError(f"{rule} must name out_bar, the cotangent that it pulls back")
        if kind == JVP:
            self._check_tangents(rule, parameter)
        if kind == BATCH:
            self.batch = rule
            return
        single = self.vjp_of if kind == VJP else self.jvp_of
        if parameter is None:
            if single:
                raise DeclarationError(
                    f"{rule} is for all parameters, but {name} has rules for {', '.join(single)} alone; write the one "
                    "or the others"
                )
            setattr(self, kind, rule)
            return
        if getattr(self, kind) is not None:
            raise DeclarationError(
                f"{rule} is for {parameter} alone, but {name} has {getattr(self, kind)} for all parameters; write the "
                "one or the others"
            )
        single[parameter] = rule

    def _check_tangents(self, rule: WrittenRule, parameter: str | None) -> None:
        dots = [n for n in rule.names if n.endswith("_dot") and n.removesuffix("_dot") in self.parameters.names]
        wanted = [f"{self.parameters.names[p]}_dot" for p in self.parameters.chosen] if parameter is None else []
        if parameter is not None and dots != [f"{parameter}_dot"]:
            raise DeclarationError(f"{rule}, by {parameter}, must name {parameter}_dot and no other tangent")
        if not dots:
            raise DeclarationError(f"{rule} must name a tangent: {' or '.join(wanted) or 'there is none to name'}")

    # ------------------------------------------------------------------ what there is

    def source(self, kind: str, p: int) -> WrittenRule | None:
        """Return the written rule of a kind that takes care of a parameter."""
        name = self.parameters.names[p]
        if kind == VJP:
            return self.vjp_of.get(name, self.vjp)
        if self.jvp is not None and f"{name}_dot" in self.jvp.names:
            return self.jvp
        return self.jvp_of.get(name)

    def demand(self, p: int) -> tuple[WrittenRule, ...]:
        """Return the rules that can differentiate by a parameter.

        Raises:
            NotDifferentiableError: there are none; the message shows how to add one.
        """
        name = self.parameters.names[p]
        if name in self.parameters.fixed:
            raise NotDifferentiableError(
                f"{self.parameters.name}: {name} is declared nondifferentiable, but was given something tracked "
                f"(called at {here()}). detach() it if its gradient is not wanted, or take {name!r} out of "
                "nondifferentiable= and write a rule for it"
            )
        rules = tuple([rule for rule in (self.source(VJP, p), self.source(JVP, p)) if rule is not None])
        if not rules:
            raise NotDifferentiableError(self._template(name))
        return rules

    def _template(self, name: str) -> str:
        operation, names = self.parameters.name, self.parameters.names
        some = bool(self.vjp_of or self.jvp_of or self.jvp)
        by = f"({name!r})" if some or len(self.parameters.chosen) > 1 else ""
        listed = ", ".join(names)
        return (
            f"{operation} was given a tracked {name} (called at {here()}), but has no rule to differentiate by it. "
            f"Add\n\n"
            f"    @{operation}.defvjp{by}\n"
            f"    def {operation}_vjp(out_bar, {listed}):\n"
            f"        return ...  # the cotangent of {name}: the transposed derivative, times out_bar\n\n"
            f"or\n\n"
            f"    @{operation}.defjvp{by}\n"
            f"    def {operation}_jvp({listed}, {name}_dot):\n"
            f"        return ...  # the derivative by {name}, times {name}_dot\n\n"
            f"Either will do for both modes. If its derivative is not wanted, detach() {name}, or declare "
            f"wg.primitive(nondifferentiable=({name!r},))"
        )

    # ------------------------------------------------------------------ reverse mode

    def pull(self, point: Point, out_bars: Sequence[Any], wanted: Sequence[bool], kind: str | None = None) -> list[Any]:
        """Return the cotangents of the arrays that are wanted (None: zero), from those of the outputs.

        With a kind, rules of that kind alone are used; otherwise a vjp rule, or else a transposed jvp rule.
        """
        call = point.call
        bars: list[Any] = [None] * len(wanted)
        owners = sorted({p for p, want in zip(call.owners, wanted) if want})
        joint: dict[int, Any] | None = None
        rest: set[int] = set()
        for p in owners:
            rule = self.source(VJP, p) if kind != JVP else None
            if rule is None:
                rest.add(p)
                continue
            if rule is self.vjp:
                if joint is None:
                    joint = split(rule, call, run_pullback(rule, point, out_bars))
                tree = joint.get(p)
            else:
                tree = run_pullback(rule, point, out_bars)
            place(rule, point, p, tree, wanted, bars)
        if rest:
            moving = [want and p in rest for want, p in zip(wanted, call.owners)]
            self._pull_by_transposing(point, out_bars, moving, bars)
        return bars

    def _pull_by_transposing(self, point: Point, out_bars: Sequence[Any], moving: list[bool], bars: list[Any]) -> None:
        places = [i for i, moves in enumerate(moving) if moves]
        live: list[int] = []

        def tangent_map(*dots: Any) -> Any:
            given: list[Any] = [None] * len(moving)
            for i, dot in zip(places, dots):
                given[i] = dot
            out_dots = self.push(point, given, JVP)
            live[:] = [j for j, out_dot in enumerate(out_dots) if out_dot is not None]
            return tuple([out_dots[j] for j in live])

        seeds = [_ones(point.likes[i]) for i in places]
        _, pullback = _transposed(tangent_map, seeds, self.source(JVP, point.call.owners[places[0]]), "vjp")
        for i, bar in zip(places, pullback(tuple([out_bars[j] for j in live]))):
            bars[i] = bar

    # ------------------------------------------------------------------ forward mode

    def push(self, point: Point, dots: Sequence[Any], kind: str | None = None) -> list[Any]:
        """Return the tangents of the outputs (None: zero), from those of the arrays.

        With a kind, rules of that kind alone are used; otherwise a jvp rule, or else a transposed vjp rule.
        """
        call = point.call
        total: list[Any] = [None] * len(point.out_likes)
        owners = sorted({p for p, dot in zip(call.owners, dots) if dot is not None})
        rest: set[int] = set()
        done: set[int] = set()
        for p in owners:
            rule = self.source(JVP, p) if kind != VJP else None
            if rule is None:
                rest.add(p)
                continue
            if id(rule) not in done:
                done.add(id(rule))
                _add(total, run_tangent_map(rule, point, dots))
        if rest:
            _add(total, self._push_by_transposing(point, [d if p in rest else None for d, p in zip(dots, call.owners)]))
        return total

    def _push_by_transposing(self, point: Point, dots: Sequence[Any]) -> list[Any]:
        moving = [dot is not None for dot in dots]
        places = [j for j, like in enumerate(point.out_likes) if like.dtype.kind in "fc"]
        live: list[int] = []

        def pulled(*out_bars: Any) -> Any:
            given: list[Any] = [None] * len(point.out_likes)
            for j, bar in zip(places, out_bars):
                given[j] = bar
            bars = self.pull(point, given, moving, VJP)
            live[:] = [i for i, bar in enumerate(bars) if bar is not None]
            return tuple([bars[i] for i in live])

        seeds = [_ones(point.out_likes[j]) for j in places]
        owner = point.call.owners[moving.index(True)]
        _, push = _transposed(pulled, seeds, self.source(VJP, owner), "jvp")
        out_dots: list[Any] = [None] * len(point.out_likes)
        for j, out_dot in zip(places, push(tuple([dots[i] for i in live]))):
            out_dots[j] = out_dot
        return out_dots


def _ones(like: Any) -> Any:
    return boxing.box(np.ones(like.shape, like.dtype))


def _transposed(function: Callable[..., Any], seeds: Sequence[Any], rule: WrittenRule | None, missing: str) -> Any:
    try:
        return vjp(function, *seeds)
    except GradientError as error:
        error.add_note(
            f"The {missing} was to be derived from {rule}, by differentiating that rule. A rule that leaves the tape "
            f"cannot be: write it in functions of wengert or NumPy on Tensors, or add @{_owner(rule)}.def{missing}"
        )
        raise


def _owner(rule: WrittenRule | None) -> str:
    return "" if rule is None else rule.parameters.name


def _add(total: list[Any], terms: Iterable[Any]) -> None:
    for j, term in enumerate(terms):
        if term is not None:
            total[j] = term if total[j] is None else total[j] + term


__all__ = ["Rules"]
