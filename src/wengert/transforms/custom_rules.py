"""Rules of a user's own operation: what they ask for by name, what they return, and how one follows from another.

A rule runs on Tensors, so that what it computes is recorded where that is wanted, and followed by other transforms. A
pullback is linear in its cotangents, and a tangent map in its tangents, so each is the transpose of the other: where
one is not written, it is the reverse sweep over the one that is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core import boxing
from ..core.zeros import is_zero
from ..errors import DeclarationError, DTypeError, GradientError, NotDifferentiableError, ShapeError, StructureError
from ..typing import Rule
from .custom_calls import Call, Parameters
from .reverse import vjp

VJP, JVP, BATCH = "vjp", "jvp", "batch"
_EMPTY = inspect.Parameter.empty
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class WrittenRule:
    """A rule that a user has written, and the names by which it asks for what it needs.

    Attributes:
        kind: "vjp", "jvp" or "batch".
        names: what it asks for.
    """

    __slots__ = ("_by_keyword", "_by_position", "function", "kind", "names", "parameters")

    def __init__(self, kind: str, function: Rule, parameters: Parameters) -> None:
        self.kind = kind
        self.function = function
        self.parameters = parameters
        self._by_position: list[str] = []
        self._by_keyword: list[str] = []
        known = self.known_names()
        for name, parameter in _signature_of(function, kind, parameters).items():
            if parameter.kind in _VARIADIC:
                raise DeclarationError(
                    f"{self}: a rule says by the names of its parameters what it needs, so it cannot take "
                    f"{parameter}. It may name {', '.join(known)}"
                )
            if name not in known:
                if parameter.default is not _EMPTY:
                    continue
                raise DeclarationError(
                    f"{self} asks for {name!r}, which {parameters.name}{parameters.signature} does not have. A {kind} "
                    f"rule of it may name {', '.join(known)}"
                )
            by_keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
            (self._by_keyword if by_keyword else self._by_position).append(name)
        self.names = (*self._by_position, *self._by_keyword)

    def known_names(self) -> list[str]:
        """Return what a rule of this kind may ask for."""
        parameters = self.parameters
        chosen = [parameters.names[p] for p in parameters.chosen]
        if self.kind == VJP:
            return ["out_bar", "out", *parameters.names]
        if self.kind == JVP:
            return ["out", *parameters.names, *[f"{name}_dot" for name in chosen]]
        moving = [name for name in parameters.names if name not in parameters.static]
        return ["axis_size", *parameters.names, *[f"{name}_axis" for name in moving]]

    def run(self, lookup: Callable[[str], Any]) -> Any:
        """Run the rule on what `lookup(name)` says its parameters are."""
        return self.function(
            *[lookup(name) for name in self._by_position], **{name: lookup(name) for name in self._by_keyword}
        )

    def __str__(self) -> str:
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"the {self.kind} rule {name}{where} of {self.parameters.name}"


def _signature_of(function: Rule, kind: str, parameters: Parameters) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        raise DeclarationError(
            f"{parameters.name}: the {kind} rule must be a Python function whose parameters can be read, "
            f"not {function!r}"
        ) from None


class Point:
    """Where rules are evaluated.

    Attributes:
        call: the call that it is about.
        arrays: Tensors (Python floats among them), None for those that no rule needs.
        outs: the outputs as Tensors, None if no rule needs them.
        likes: what has the shapes and dtypes of the arrays.
        out_likes: and those of the outputs.
        tracked: whether the results of rules are to be differentiated again.
    """

    __slots__ = ("arrays", "call", "likes", "out_likes", "outs", "tracked")

    def __init__(
        self,
        call: Call,
        arrays: Sequence[Any],
        outs: Sequence[Any] | None,
        likes: Sequence[Any],
        out_likes: Sequence[Any],
        tracked: bool,
    ) -> None:
        self.call = call
        self.arrays = arrays
        self.outs = outs
        self.likes = likes
        self.out_likes = out_likes
        self.tracked = tracked

    def lookup(self, name: str) -> Any:
        """Return the outputs, or the value of a parameter."""
        if name == "out":
            return self.call.out_structure.unflatten(self.outs or ())
        return self.call.value(self.call.parameters.names.index(name), self.arrays)


class Like:
    """A shape and a dtype."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype


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

    def demand(self, p: int, where: str) -> tuple[WrittenRule, ...]:
        """Return the rules that can differentiate by a parameter.

        Raises:
            NotDifferentiableError: there are none; the message shows how to add one.
        """
        name = self.parameters.names[p]
        if name in self.parameters.fixed:
            raise NotDifferentiableError(
                f"{self.parameters.name}: {name} is declared nondifferentiable, but was given something tracked "
                f"({where}). detach() it if its gradient is not wanted, or take {name!r} out of nondifferentiable= and "
                "write a rule for it"
            )
        rules = tuple([rule for rule in (self.source(VJP, p), self.source(JVP, p)) if rule is not None])
        if not rules:
            raise NotDifferentiableError(self._template(name, where))
        return rules

    def _template(self, name: str, where: str) -> str:
        operation, names = self.parameters.name, self.parameters.names
        some = bool(self.vjp_of or self.jvp_of or self.jvp)
        by = f"({name!r})" if some or len(self.parameters.chosen) > 1 else ""
        listed = ", ".join(names)
        return (
            f"{operation} was called with a tracked {name} ({where}), but has no rule to differentiate by it. Add\n\n"
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
                    joint = _split(rule, call, _run_pullback(rule, point, out_bars))
                tree = joint.get(p)
            else:
                tree = _run_pullback(rule, point, out_bars)
            _place(rule, point, p, tree, wanted, bars)
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
                _add(total, _run_tangent_map(rule, point, dots))
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


# ---------------------------------------------------------------------- running them


def _run_pullback(rule: WrittenRule, point: Point, out_bars: Sequence[Any]) -> Any:
    def lookup(name: str) -> Any:
        if name == "out_bar":
            return point.call.out_structure.unflatten(out_bars)
        return point.lookup(name)

    try:
        return rule.run(lookup)
    except GradientError as error:
        if point.tracked:
            error.add_note(_leaves_the_tape(rule))
        raise


def _leaves_the_tape(rule: WrittenRule) -> str:
    return (
        f"This gradient is to be differentiated again, so {rule} is recorded. Where it calls code that needs bare "
        "arrays, make a wg.primitive of that code, with rules of its own"
    )


def _run_tangent_map(rule: WrittenRule, point: Point, dots: Sequence[Any]) -> list[Any]:
    parameters, call = point.call.parameters, point.call
    named = [p for p in parameters.chosen if f"{parameters.names[p]}_dot" in rule.names]
    filled = list(dots)
    for p in named:
        for i in call.arrays_of(p):
            if call.floating[i] and filled[i] is None:
                like = point.likes[i]
                filled[i] = boxing.box(np.zeros(like.shape, like.dtype))

    def lookup(name: str) -> Any:
        if name not in parameters.names and name.endswith("_dot"):
            return call.value(parameters.names.index(name.removesuffix("_dot")), filled, others=False)
        return point.lookup(name)

    returned = rule.run(lookup)
    if returned is None:
        return [None] * len(point.out_likes)
    structure = call.out_structure
    try:
        leaves = structure.flatten_like(returned, "out_dot")
    except StructureError as error:
        raise StructureError(f"{rule} must return a tangent nested as the output is: {error}") from None
    paths = structure.paths("out_dot")
    return [_settled(rule, point, leaf, like, paths[j]) for j, (leaf, like) in enumerate(zip(leaves, point.out_likes))]


# ---------------------------------------------------------------------- what they return


def _split(rule: WrittenRule, call: Call, returned: Any) -> dict[int, Any]:
    """Return the cotangents of the parameters that a rule for all of them returned, each nested as its parameter is."""
    parameters = call.parameters
    if returned is None:
        return {}
    chosen = parameters.chosen
    names = [parameters.names[p] for p in chosen]
    if len(chosen) == 1:
        return {chosen[0]: _unwrapped(returned, names[0], call.structures[chosen[0]].kind is None)}
    active = [p for p in chosen if any(call.floating[i] for i in call.arrays_of(p))]
    if isinstance(returned, dict):
        if unknown := [key for key in returned if key not in names]:
            raise StructureError(
                f"{rule} returned a cotangent of {unknown[0]!r}, but {parameters.name} is differentiated by "
                f"{', '.join(names)}"
            )
        if missing := [parameters.names[p] for p in active if parameters.names[p] not in returned]:
            raise StructureError(
                f"{rule} returned no cotangent of {missing[0]}; return {missing[0]!r}: None if it is zero"
            )
        return {p: returned.get(name) for p, name in zip(chosen, names)}
    if type(returned) in (tuple, list):
        for counted in (chosen, active):
            if len(returned) == len(counted):
                return dict(zip(counted, returned))
    elif len(active) == 1:
        return {active[0]: returned}
    what = f"{len(returned)} values" if type(returned) in (tuple, list) else f"a {type(returned).__name__}"
    raise StructureError(
        f"{rule} returned {what}, where the {len(chosen)} cotangents of {', '.join(names)} are expected, as a tuple in "
        "this order, or as a dict by name; None stands for zero"
    )


def _unwrapped(returned: Any, name: str, is_leaf: bool) -> Any:
    if is_leaf and type(returned) in (tuple, list) and len(returned) == 1:
        return returned[0]
    if is_leaf and isinstance(returned, dict) and list(returned) == [name]:
        return returned[name]
    return returned


def _place(rule: WrittenRule, point: Point, p: int, tree: Any, wanted: Sequence[bool], bars: list[Any]) -> None:
    """Put the cotangent of one parameter where its arrays are."""
    if tree is None:
        return
    call = point.call
    structure, name = call.structures[p], f"{call.parameters.names[p]}_bar"
    try:
        leaves = structure.flatten_like(tree, name)
    except StructureError as error:
        raise StructureError(
            f"{rule} must return a cotangent nested as {call.parameters.names[p]} is: {error}"
        ) from None
    paths = structure.paths(name)
    for (dynamic, i), leaf, path in zip(call.entries[p], leaves, paths):
        if dynamic and wanted[i]:
            bars[i] = _settled(rule, point, leaf, point.likes[i], path)


def _settled(rule: WrittenRule, point: Point, value: Any, like: Any, path: str) -> Any:
    """Return a cotangent or tangent as a Tensor of the shape and dtype that it must have; None for zero."""
    if is_zero(value):
        return None
    if like.dtype.kind not in "fc":
        raise DTypeError(
            f"{rule} returned a {type(value).__name__} as {path}, but that place holds {like.dtype} numbers, which "
            "have no derivative; return None there"
        )
    if not isinstance(value, boxing.Tensor):
        value = _boxed(rule, point, value, like, path)
    if value.shape != like.shape:
        raise ShapeError(
            f"{rule} returned {path} of shape {value.shape}; expected {like.shape}. Where the forward broadcasts, a "
            "rule has to sum over what was broadcast (and where it sums, to broadcast)"
        )
    if value.dtype.kind != like.dtype.kind:
        cure = "; take its real part" if value.dtype.kind == "c" else ""
        raise DTypeError(f"{rule} returned {path} of dtype {value.dtype}; expected {like.dtype}{cure}")
    return value if value.dtype == like.dtype else boxing.operations.astype(value, like.dtype)


def _boxed(rule: WrittenRule, point: Point, value: Any, like: Any, path: str) -> Any:
    if isinstance(value, (int, float, complex)) and not isinstance(value, np.generic):
        if like.shape != ():
            raise ShapeError(
                f"{rule} returned the number {value!r} as {path}; expected an array of shape {like.shape}. Write out "
                "what is meant, for example wg.full_like"
            )
        return boxing.box(np.asarray(value, like.dtype))
    if not hasattr(value, "dtype"):
        raise DTypeError(f"{rule} returned a {type(value).__name__} as {path}; expected an array or None")
    if point.tracked:
        raise NotDifferentiableError(
            f"{rule} returned a NumPy array as {path}, which has left the tape. {_leaves_the_tape(rule)}; a constant "
            "can be returned as a Tensor"
        )
    return boxing.box(np.array(value))  # a copy: the rule may keep the array and write it again


__all__ = ["BATCH", "JVP", "VJP", "Like", "Point", "Rules", "WrittenRule"]
